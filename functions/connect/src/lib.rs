//! `connect`: a connection becomes known.

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use domain::ids::ConnectionId;
use domain::limits::{CONNECTION_LIFE_MS, CONNECTIONS_PER_PRINCIPAL_MAX};
use domain::ports::{Clock, Connection, ConnectionStore, Registration};
use domain::protocol::SUBPROTOCOL;
use domain::session::Caller;
use http::{HeaderValue, StatusCode};

/// Registers a connection: 200 and the subprotocol, 429 when its principal holds as many as it may, 401 when the
/// authorizer said nothing of it, 500 when it cannot be stored. Only with 200 does the connection open.
pub async fn handle(
    connections: &impl ConnectionStore,
    clock: &impl Clock,
    event: ApiGatewayWebsocketProxyRequest,
) -> ApiGatewayProxyResponse {
    let context = event.request_context;
    let field = |name: &str| context.authorizer.fields.get(name)?.as_str().map(str::to_owned);
    let (Some(caller), Some(id)) = (Caller::from_context(field), context.connection_id) else {
        return response(StatusCode::UNAUTHORIZED);
    };
    let now = clock.now_ms();
    let connection = Connection {
        id: ConnectionId(id),
        principal: caller.principal,
        session_id: caller.session_id,
        connected_at: now,
        expires_at: now + CONNECTION_LIFE_MS,
    };
    match connections.register(&connection, CONNECTIONS_PER_PRINCIPAL_MAX).await {
        Ok(Registration::Registered) => response(StatusCode::OK),
        Ok(Registration::TooMany) => {
            tracing::info!("refused: too many connections");
            response(StatusCode::TOO_MANY_REQUESTS)
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "connection was not registered");
            response(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn response(status: StatusCode) -> ApiGatewayProxyResponse {
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = status.as_u16().into();
    if status.is_success() {
        response.headers.insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

#[cfg(test)]
mod tests;
