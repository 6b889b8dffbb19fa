//! The HTTP server and the state its handlers share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::routing::{any, post};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::connection::Connection;
use crate::throttle::TokenBucket;
use crate::{callbacks, handshake};

/// What handlers and connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) address: SocketAddr,
    /// Throttle of new connections.
    pub(crate) opening: TokenBucket,
    /// Throttle of `@connections` requests.
    pub(crate) callbacks: TokenBucket,
    /// One permit per connection, open or opening.
    pub(crate) slots: Arc<Semaphore>,
    /// Everything that must end before the gateway has stopped.
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
    connections: Mutex<HashMap<String, Arc<Connection>>>,
}

impl Shared {
    pub(crate) fn new(config: Config, address: SocketAddr) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            opening: TokenBucket::new(config.limits.new_connections, now),
            callbacks: TokenBucket::new(config.limits.callbacks, now),
            slots: Arc::new(Semaphore::new(config.limits.connections_max)),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            connections: Mutex::default(),
            address,
            config,
        })
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/{stage}", any(handshake::connect))
            .route("/{stage}/", any(handshake::connect))
            .route("/{stage}/{collection}/{id}", post(callbacks::post).get(callbacks::get).delete(callbacks::delete))
            .fallback(async || callbacks::CallbackError::Forbidden)
            .with_state(Arc::clone(self))
    }

    /// The open connections. Nobody holds the lock across an await or a panic.
    pub(crate) fn connections(&self) -> MutexGuard<'_, HashMap<String, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn connection(&self, id: &str) -> Option<Arc<Connection>> {
        self.connections().get(id).cloned()
    }

    pub(crate) fn remember(&self, connection: &Arc<Connection>) {
        self.connections().insert(connection.context.connection_id.clone(), Arc::clone(connection));
    }

    pub(crate) fn forget(&self, connection: &Connection) {
        self.connections().remove(&connection.context.connection_id);
    }
}
