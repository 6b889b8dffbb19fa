//! Turn events, by SNS.

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use domain::ports::{Task, TurnEnded, TurnEvents, Unavailable};

use crate::table::unavailable;

/// Subscribers filter on the attribute `kind`.
const TURN_ENDED: &str = "turn_ended";

/// The topic of turn events.
///
/// A message's body is the [`Task`] of an event, so that a queue can subscribe to the topic; the attribute `follow_up`
/// (`yes`, `no`) says whether the follow-up queue needs it.
#[derive(Debug, Clone)]
pub struct SnsTurnEvents {
    client: Client,
    topic_arn: String,
}

impl SnsTurnEvents {
    /// Events to a topic that exists.
    pub fn new(client: Client, topic_arn: impl Into<String>) -> Self {
        Self { client, topic_arn: topic_arn.into() }
    }
}

impl TurnEvents for SnsTurnEvents {
    async fn turn_ended(&self, event: &TurnEnded) -> Result<(), Unavailable> {
        let operation = "publish turn event";
        let message = serde_json::to_string(&Task::TurnEnded(event.clone())).map_err(unavailable(operation))?;
        let attribute = |value: &str| {
            let attribute = MessageAttributeValue::builder().data_type("String").string_value(value);
            attribute.build().map_err(unavailable(operation))
        };
        self.client
            .publish()
            .topic_arn(&self.topic_arn)
            .message(message)
            .message_attributes("kind", attribute(TURN_ENDED)?)
            .message_attributes("follow_up", attribute(if event.follow_up { "yes" } else { "no" })?)
            .send()
            .await
            .map(drop)
            .map_err(unavailable(operation))
    }
}
