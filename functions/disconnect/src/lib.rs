//! `disconnect`: a connection is forgotten.
//!
//! API Gateway tries once to tell of a closed connection. Expiry is what keeps the table clean; this is only faster.

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use domain::ids::ConnectionId;
use domain::ports::ConnectionStore;

/// Forgets a connection. Always 200: nobody reads the answer, and there is nothing to try again.
pub async fn handle(
    connections: &impl ConnectionStore,
    event: ApiGatewayWebsocketProxyRequest,
) -> ApiGatewayProxyResponse {
    let context = event.request_context;
    if let Some(id) = context.connection_id {
        tracing::info!(
            connection_id = id,
            status_code = context.disconnect_status_code,
            reason = context.disconnect_reason,
            "disconnected"
        );
        if let Err(error) = connections.forget(&ConnectionId(id)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "connection was left to expire");
        }
    }
    let mut response = ApiGatewayProxyResponse::default();
    response.status_code = 200;
    response
}

#[cfg(test)]
mod tests;
