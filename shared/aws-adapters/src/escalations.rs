//! Conversations for the people of the store, by SNS.

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;
use domain::ports::{Escalation, Escalations, Unavailable};

use crate::table::unavailable;

/// The topic of conversations that a person should take on.
///
/// A message's body is an [`Escalation`] as JSON; the attribute `locale` (`ja`, `en`) lets a desk subscribe to its language. A
/// turn may be told twice: its id says so.
#[derive(Debug, Clone)]
pub struct SnsEscalations {
    client: Client,
    topic_arn: String,
}

impl SnsEscalations {
    /// Conversations to a topic that exists.
    pub fn new(client: Client, topic_arn: impl Into<String>) -> Self {
        Self { client, topic_arn: topic_arn.into() }
    }
}

impl Escalations for SnsEscalations {
    async fn escalate(&self, escalation: &Escalation) -> Result<(), Unavailable> {
        let operation = "publish escalation";
        let message = serde_json::to_string(escalation).map_err(unavailable(operation))?;
        let locale =
            MessageAttributeValue::builder().data_type("String").string_value(escalation.locale.as_str()).build();
        self.client
            .publish()
            .topic_arn(&self.topic_arn)
            .message(message)
            .message_attributes("locale", locale.map_err(unavailable(operation))?)
            .send()
            .await
            .map(drop)
            .map_err(unavailable(operation))
    }
}
