//! The `@connections` API.
//!
//! Requests are not authenticated: API Gateway checks their SigV4 signature, this gateway answers whoever reaches it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, StatusCode};
use serde::Serialize;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::connection::{Connection, Gone};
use crate::events::{Identity, rfc3339};
use crate::server::Shared;

/// Names the exception of an error answer, for the SDKs.
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// The errors of the ApiGatewayManagementApi.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum CallbackError {
    #[error("The text is not UTF-8")]
    BadRequest,
    #[error("Forbidden")]
    Forbidden,
    #[error("The connection with the provided id no longer exists")]
    Gone,
    #[error("The data has exceeded the maximum size allowed")]
    PayloadTooLarge,
    #[error("Too many requests")]
    LimitExceeded,
}

impl From<Gone> for CallbackError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl IntoResponse for CallbackError {
    fn into_response(self) -> Response {
        let (status, name) = match self {
            Self::BadRequest => (StatusCode::BAD_REQUEST, "BadRequestException"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "ForbiddenException"),
            Self::Gone => (StatusCode::GONE, "GoneException"),
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException"),
            Self::LimitExceeded => (StatusCode::TOO_MANY_REQUESTS, "LimitExceededException"),
        };
        let body = serde_json::json!({ "message": self.to_string() }).to_string();
        (status, [(ERROR_TYPE, name), (CONTENT_TYPE, "application/json")], body).into_response()
    }
}

/// The connection a callback is for, after the throttle.
pub(crate) struct Target {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
}

impl FromRequestParts<Arc<Shared>> for Target {
    type Rejection = CallbackError;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, CallbackError> {
        // The router matches encoded paths, and SDKs encode the `@`: the literal is compared here, decoded.
        let path = Path::<(String, String, String)>::from_request_parts(parts, shared).await;
        let Path((stage, collection, id)) = path.map_err(|_| CallbackError::Forbidden)?;
        if stage != shared.config.stage || collection != "@connections" {
            return Err(CallbackError::Forbidden);
        }
        if !shared.callbacks.take(Instant::now()) {
            return Err(CallbackError::LimitExceeded);
        }
        let connection = shared.connection(&id).ok_or(CallbackError::Gone)?;
        Ok(Self { shared: Arc::clone(shared), connection })
    }
}

/// `POST @connections`: sends the body to the client.
pub(crate) async fn post(target: Target, body: Body) -> Result<StatusCode, CallbackError> {
    let limits = &target.shared.config.limits;
    let data = read(body, limits.message_bytes_max, limits.callback_drain_bytes_max).await?;
    let text = Utf8Bytes::try_from(data).map_err(|_| CallbackError::BadRequest)?;
    target.connection.send(text)?;
    Ok(StatusCode::OK)
}

/// The answer of `GET @connections`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    connected_at: String,
    identity: Identity,
    last_active_at: String,
}

/// `GET @connections`: who is connected, since when, and when a message last passed.
pub(crate) async fn get(Target { connection, .. }: Target) -> Json<Status> {
    Json(Status {
        connected_at: rfc3339(connection.context.connected_at),
        identity: connection.context.identity.clone(),
        last_active_at: rfc3339(connection.last_active_ms()),
    })
}

/// `DELETE @connections`: closes the connection, after what was posted before.
pub(crate) async fn delete(Target { connection, .. }: Target) -> Result<StatusCode, CallbackError> {
    connection.close(CloseCode::Normal, "Connection Closed Normally")?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads a body of at most `bytes_max`. A longer one is read on up to `drained_bytes_max`, so that its sender has
/// finished writing and sees the answer.
async fn read(body: Body, bytes_max: usize, drained_bytes_max: usize) -> Result<Bytes, CallbackError> {
    let mut chunks = body.into_data_stream();
    let mut data = BytesMut::new();
    let mut length = 0_usize;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| CallbackError::BadRequest)?;
        length = length.saturating_add(chunk.len());
        if length <= bytes_max {
            data.extend_from_slice(&chunk);
        } else if length > drained_bytes_max {
            break;
        }
    }
    if length <= bytes_max { Ok(data.freeze()) } else { Err(CallbackError::PayloadTooLarge) }
}
