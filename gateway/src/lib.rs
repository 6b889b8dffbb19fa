//! API Gateway's WebSocket behaviour in front of any Lambda Invoke endpoint.
//!
//! A [`Gateway`] accepts WebSocket connections at `ws://ADDRESS/STAGE` and invokes the functions of its routes with the
//! events API Gateway sends; functions answer through `POST`, `GET` and `DELETE` at
//! `http://ADDRESS/STAGE/@connections/ID`.
//! The README lists the rules it keeps and their sources; [`Limits`] holds their figures.

mod authorizer;
mod callbacks;
mod connection;
mod events;
mod handshake;
mod integration;
mod limits;
mod route;
mod server;
mod throttle;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_sdk_lambda::Client;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::DropGuard;

pub use crate::authorizer::{AuthorizerConfig, IdentitySource, InvalidIdentitySource};
pub use crate::integration::{invoke_settings, local_invoke_client};
pub use crate::limits::{Limits, MESSAGE_OVERHEAD_BYTES, Rate};
pub use crate::route::{InvalidExpression, RouteSelectionExpression};
use crate::server::Shared;

/// One WebSocket API: one stage, its routes and its limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// Client of the Invoke endpoint, best made with [`local_invoke_client`] or [`invoke_settings`]: it must neither
    /// retry nor time out before [`Limits::integration_timeout`].
    pub client: Client,
    /// Region in the authorizer's `methodArn`.
    pub region: String,
    /// Account in the authorizer's `methodArn`.
    pub account_id: String,
    /// `requestContext.apiId`.
    pub api_id: String,
    /// The one stage: the first segment of every path.
    pub stage: String,
    /// `requestContext.domainName`; by default the `Host` of the handshake.
    pub domain_name: Option<String>,
    /// Authorizer of the `$connect` route.
    pub authorizer: Option<AuthorizerConfig>,
    /// Function name or ARN by route key. `$connect`, `$disconnect` and `$default` may be missing.
    pub routes: BTreeMap<String, String>,
    /// Which element of a message selects its route.
    pub route_selection_expression: RouteSelectionExpression,
    /// The limits kept.
    pub limits: Limits,
}

impl Config {
    /// A stage without authorizer or routes, with AWS's limits, selecting routes by `$request.body.action`.
    #[must_use]
    pub fn new(client: Client, stage: &str) -> Self {
        Self {
            client,
            region: "us-east-1".to_owned(),
            account_id: "000000000000".to_owned(),
            api_id: "local".to_owned(),
            stage: stage.to_owned(),
            domain_name: None,
            authorizer: None,
            routes: BTreeMap::new(),
            route_selection_expression: RouteSelectionExpression::default(),
            limits: Limits::default(),
        }
    }
}

/// A running gateway. Dropping it closes its connections without waiting for them; [`Gateway::stop`] waits.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
    _stop_when_dropped: DropGuard,
}

impl Gateway {
    /// Serves on a listener until stopped or dropped.
    ///
    /// # Panics
    /// When called outside a Tokio runtime, or when the listener has no local address.
    #[must_use]
    pub fn start(listener: TcpListener, config: Config) -> Self {
        #[expect(clippy::expect_used, reason = "a listener that is bound has an address")]
        let address = listener.local_addr().expect("a bound listener has a local address");
        let shared = Shared::new(config, address);
        let service = shared.router().into_make_service_with_connect_info::<SocketAddr>();
        let stopping = shared.stopping.clone();
        // Frames are small and each is written at once: waiting to fill a segment would only delay them.
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        });
        let server = tokio::spawn(async move {
            let served = axum::serve(listener, service).with_graceful_shutdown(stopping.cancelled_owned()).await;
            if let Err(error) = served {
                tracing::error!(%error, "the gateway's server failed");
            }
        });
        let stop_when_dropped = shared.stopping.clone().drop_guard();
        Self { shared, server, _stop_when_dropped: stop_when_dropped }
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections().len()
    }

    /// The ids of the open connections, in no particular order.
    #[must_use]
    pub fn connection_ids(&self) -> Vec<String> {
        self.shared.connections().keys().cloned().collect()
    }

    /// Drops a connection as a lost network does: without a close frame, so that the client sees code 1006. Answers
    /// whether it was open. `$disconnect` follows.
    pub fn cut(&self, connection_id: &str) -> bool {
        let connection = self.shared.connection(connection_id);
        connection.inspect(|connection| connection.cut()).is_some()
    }

    /// [`cut`](Self::cut)s every connection.
    pub fn cut_all(&self) {
        self.shared.connections().values().for_each(|connection| connection.cut());
    }

    /// Stops accepting, closes every connection with code 1001, and waits for `$disconnect` and every other integration
    /// under way to end; after [`Limits::stop_timeout`] it drops the connections left and waits no longer.
    pub async fn stop(mut self) {
        let deadline = Instant::now() + self.shared.config.limits.stop_timeout;
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        let ended = timeout_at(deadline, async {
            // The server first: until it has ended, it may still start tasks.
            let _ = (&mut self.server).await;
            self.shared.tasks.wait().await;
        });
        if ended.await.is_err() {
            tracing::warn!("connections or integrations did not end in time");
            self.server.abort();
            self.cut_all();
        }
    }
}
