//! Frames to clients, by API Gateway's `@connections`.

use aws_sdk_apigatewaymanagement::Client;
use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use domain::ids::ConnectionId;
use domain::ports::{ConnectionSender, Delivery, Unavailable};

use crate::table::unavailable;

/// The callback URL of one API stage.
#[derive(Debug, Clone)]
pub struct ApiGatewaySender {
    client: Client,
}

impl ApiGatewaySender {
    /// A sender through a client with the stage's callback URL.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl ConnectionSender for ApiGatewaySender {
    async fn send(&self, connection: &ConnectionId, frame: String) -> Result<Delivery, Unavailable> {
        let posted = self.client.post_to_connection().connection_id(&connection.0).data(Blob::new(frame)).send().await;
        match posted {
            Ok(_) => Ok(Delivery::Delivered),
            Err(error) => match error.as_service_error() {
                Some(PostToConnectionError::GoneException(_)) => Ok(Delivery::Gone),
                _other => Err(unavailable("post to connection")(error)),
            },
        }
    }
}
