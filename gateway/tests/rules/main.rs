//! The rules of the gateway, one test each, with the source of the rule.
//!
//! Sources in quotation marks without another name are pages of the API Gateway developer guide.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test panics, and so may what tests are written with"
)]

mod binary;
mod callbacks;
mod events;
mod functions;
mod handshake;
mod lifecycle;
mod messages;

use std::time::Duration;

use aws_sdk_apigatewaymanagement::Client as Callbacks;
use aws_sdk_apigatewaymanagement::config::retry::RetryConfig;
use aws_sdk_apigatewaymanagement::config::{BehaviorVersion, Credentials, Region};
use futures_util::{SinkExt, StreamExt};
use gateway::{Config, Gateway, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::{ClientRequestBuilder, IntoClientRequest};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::functions::Functions;

/// The stage of every test's gateway.
const STAGE: &str = "v1";
/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for something that must happen.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen"),
    }
}

/// A gateway in front of scripted functions.
struct Api {
    gateway: Gateway,
    functions: Functions,
}

impl Api {
    /// A gateway whose routes are functions named like their route keys, without the `$`.
    async fn start(route_keys: &[&str], adapt: impl FnOnce(&mut Config)) -> Self {
        let functions = Functions::start().await;
        let mut config = Config::new(gateway::local_invoke_client(functions.url(), "eu-west-1"), STAGE);
        config.routes =
            route_keys.iter().map(|key| ((*key).to_owned(), key.strip_prefix('$').unwrap_or(key).to_owned())).collect();
        adapt(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { gateway: Gateway::start(listener, config), functions }
    }

    async fn with_limits(route_keys: &[&str], limits: Limits) -> Self {
        Self::start(route_keys, |config| config.limits = limits).await
    }

    fn url(&self) -> String {
        format!("ws://{}/{STAGE}", self.gateway.address())
    }

    /// A handshake request, to add headers to.
    fn request(&self) -> ClientRequestBuilder {
        ClientRequestBuilder::new(self.url().parse().unwrap())
    }

    /// Connects; no route of `$connect` may hold the handshake up.
    async fn connect(&self) -> Client {
        connect(self.request()).await.unwrap()
    }

    /// The id of the only connection.
    fn connection_id(&self) -> String {
        let ids = self.gateway.connection_ids();
        assert_eq!(ids.len(), 1);
        ids[0].clone()
    }

    /// An SDK client of the `@connections` API.
    fn callbacks(&self) -> Callbacks {
        let config = aws_sdk_apigatewaymanagement::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(format!("http://{}/{STAGE}", self.gateway.address()))
            .region(Region::new("eu-west-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .build();
        Callbacks::from_conf(config)
    }

    /// Sends a raw HTTP request and answers the whole response.
    async fn http(&self, request_line: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.gateway.address()).await.unwrap();
        let length = body.len();
        let request = format!(
            "{request_line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        soon("the response", stream.read_to_string(&mut response)).await.unwrap();
        response
    }
}

/// A WebSocket client that keeps API Gateway's frame limit itself: it errs on a larger frame.
struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

async fn connect(request: impl IntoClientRequest + Unpin) -> Result<Client, Error> {
    Ok(handshake(request).await?.0)
}

/// Connects and answers the subprotocol as well.
async fn handshake(request: impl IntoClientRequest + Unpin) -> Result<(Client, Option<String>), Error> {
    let limits = WebSocketConfig::default().max_frame_size(Some(32 * 1024));
    let (socket, response) = soon("the handshake", connect_async_with_config(request, Some(limits), true)).await?;
    let protocol = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap().to_owned());
    Ok((Client(socket), protocol))
}

/// Status and body of a refused handshake.
async fn refusal(request: impl IntoClientRequest + Unpin) -> (u16, Value) {
    match connect(request).await {
        Err(Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            (response.status().as_u16(), serde_json::from_slice(&body).unwrap())
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the handshake succeeded"),
    }
}

impl Client {
    async fn send(&mut self, text: impl Into<String>) {
        self.0.send(Message::Text(text.into().into())).await.unwrap();
    }

    async fn next(&mut self) -> Option<Result<Message, Error>> {
        soon("a frame", self.0.next()).await
    }

    /// The next frame, a text.
    async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("{other:?} instead of a text"),
        }
    }

    /// The next frame, a JSON text.
    async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Code and reason of the next frame, a close frame.
    async fn closed(&mut self) -> (u16, String) {
        match self.next().await {
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => (code.into(), reason.to_string()),
            other => panic!("{other:?} instead of a close frame"),
        }
    }

    /// Whether the TCP connection ends without a close frame.
    async fn lost(&mut self) -> bool {
        matches!(self.next().await, Some(Err(Error::Protocol(_) | Error::Io(_))))
    }
}

/// What a function of a proxy integration answers to accept.
fn ok() -> Value {
    json!({ "statusCode": 200 })
}
