//! The handshake: throttle, authorizer, `$connect`, upgrade.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use http::header::{
    CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::authorizer::{AuthorizerConfig, AuthorizerContext, Denial, decide};
use crate::connection::{Connection, run};
use crate::events::{ConnectionContext, Identity, Request, RequestParameters, new_id, now_ms};
use crate::integration::{InvokeError, integrate, invoke};
use crate::route::CONNECT;
use crate::server::Shared;

/// An HTTP answer other than the upgrade.
struct Refusal {
    status: StatusCode,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// A refusal that the gateway decides on, before there is a connection to name.
    fn bare(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or_default();
        Self::new(status, serde_json::json!({ "message": reason }).to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, [(CONTENT_TYPE, "application/json")], self.message).into_response()
    }
}

/// `GET /{stage}`.
pub(crate) async fn connect(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(stage): Path<String>,
    request: HttpRequest,
) -> Response {
    // A task of its own: a client that hangs up meanwhile must not leave `$connect` half done.
    let (parts, _) = request.into_parts();
    let opening = shared.tasks.spawn(open(Arc::clone(&shared), peer, stage, parts));
    match opening.await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => Refusal::bare(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
    }
}

async fn open(shared: Arc<Shared>, peer: SocketAddr, stage: String, mut request: Parts) -> Result<Response, Refusal> {
    let config = &shared.config;
    let host = header_text(&request.headers, &HOST).unwrap_or_default();
    if stage != config.stage {
        return Err(Refusal::bare(StatusCode::FORBIDDEN));
    }
    let url_chars = "ws://".len() + host.chars().count() + request.uri.to_string().chars().count();
    if url_chars > config.limits.url_chars_max {
        return Err(Refusal::bare(StatusCode::URI_TOO_LONG));
    }
    let (upgrade, accept) = upgrade(&mut request)?;
    if !shared.opening.take(Instant::now()) {
        return Err(Refusal::bare(StatusCode::TOO_MANY_REQUESTS));
    }
    let Ok(slot) = Arc::clone(&shared.slots).try_acquire_owned() else {
        return Err(Refusal::bare(StatusCode::TOO_MANY_REQUESTS));
    };

    let parameters = RequestParameters::of_handshake(&request.headers, &request.uri, peer.ip(), shared.address.port());
    let mut context = ConnectionContext {
        connection_id: new_id(),
        connected_at: now_ms(),
        domain_name: config.domain_name.clone().unwrap_or(host),
        stage,
        api_id: config.api_id.clone(),
        identity: Identity { source_ip: peer.ip(), user_agent: header_text(&request.headers, &USER_AGENT) },
        authorizer: None,
    };
    if let Some(authorizer) = &config.authorizer {
        context.authorizer = Some(authorize(&shared, authorizer, &context, &parameters).await?);
    }
    let protocol = notify_connect(&shared, &context, &parameters).await?;

    let (connection, inbox) = Connection::new(context, &config.limits);
    // Before the client can know that it is connected: its first message may cause a callback at once.
    shared.remember(&connection);
    shared.tasks.spawn(run(Arc::clone(&shared), connection, inbox, upgrade, slot));
    Ok(switching_protocols(&accept, protocol))
}

/// Checks the client's half of the opening handshake (RFC 6455, section 4.2.1).
fn upgrade(request: &mut Parts) -> Result<(OnUpgrade, String), Refusal> {
    let lists = |name: &HeaderName, token: &str| {
        let values = request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    if request.method != Method::GET
        || !lists(&CONNECTION, "upgrade")
        || !lists(&UPGRADE, "websocket")
        || !lists(&SEC_WEBSOCKET_VERSION, "13")
    {
        return Err(Refusal::bare(StatusCode::UPGRADE_REQUIRED));
    }
    let key = request.headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| Refusal::bare(StatusCode::BAD_REQUEST))?;
    let accept = derive_accept_key(key.as_bytes());
    let upgrade =
        request.extensions.remove::<OnUpgrade>().ok_or_else(|| Refusal::bare(StatusCode::UPGRADE_REQUIRED))?;
    Ok((upgrade, accept))
}

/// Asks the authorizer, once the identity sources are there.
async fn authorize(
    shared: &Shared,
    authorizer: &AuthorizerConfig,
    context: &ConnectionContext,
    parameters: &RequestParameters,
) -> Result<AuthorizerContext, Refusal> {
    let config = &shared.config;
    let request = Request::new(CONNECT, context);
    let refuse = |status: StatusCode, message: &str| Refusal::new(status, request.gateway_message(message));
    if !authorizer.identity_sources.iter().all(|source| source.is_present(parameters)) {
        return Err(refuse(StatusCode::UNAUTHORIZED, "Unauthorized"));
    }
    let method_arn = format!(
        "arn:aws:execute-api:{}:{}:{}/{}/{CONNECT}",
        config.region, config.account_id, config.api_id, config.stage
    );
    let event = request.authorizer_event(parameters, &method_arn);
    match invoke(&config.client, &authorizer.function, event, config.limits.integration_timeout).await {
        Ok(answer) => {
            decide(&answer, config.limits.authorizer_result_bytes_max, &method_arn).map_err(|denial| match denial {
                Denial::Denied => refuse(StatusCode::FORBIDDEN, "Forbidden"),
                Denial::Malformed => {
                    InvokeError::Malformed.log(&authorizer.function, &request);
                    refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
                }
            })
        }
        Err(InvokeError::Function { error_message, .. }) if error_message == "Unauthorized" => {
            Err(refuse(StatusCode::UNAUTHORIZED, "Unauthorized"))
        }
        Err(error) => {
            error.log(&authorizer.function, &request);
            Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error"))
        }
    }
}

/// Invokes the function of the `$connect` route, if there is one, and answers the subprotocol it chose.
async fn notify_connect(
    shared: &Shared,
    context: &ConnectionContext,
    parameters: &RequestParameters,
) -> Result<Option<HeaderValue>, Refusal> {
    let config = &shared.config;
    let Some(function) = config.routes.get(CONNECT) else { return Ok(None) };
    let request = Request::new(CONNECT, context);
    let event = request.connect_event(parameters);
    let response =
        integrate(&config.client, function, event, config.limits.integration_timeout).await.map_err(|error| {
            error.log(function, &request);
            Refusal::new(error.status(), request.gateway_message(error.message()))
        })?;
    let status = StatusCode::from_u16(response.status_code).unwrap_or(StatusCode::BAD_GATEWAY);
    if !status.is_success() {
        let reason = status.canonical_reason().unwrap_or_default();
        return Err(Refusal::new(status, request.gateway_message(reason)));
    }
    Ok(response.header(SEC_WEBSOCKET_PROTOCOL.as_str()).and_then(|protocol| HeaderValue::from_str(protocol).ok()))
}

fn switching_protocols(accept: &str, protocol: Option<HeaderValue>) -> Response {
    let headers = [(CONNECTION, "upgrade"), (UPGRADE, "websocket"), (SEC_WEBSOCKET_ACCEPT, accept)];
    let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response();
    if let Some(protocol) = protocol {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response
}

fn header_text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
