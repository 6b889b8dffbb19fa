//! Queues of the embedded AWS, looked at from outside.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, QueueAttributeName};
use uuid::Uuid;

use crate::eventually::eventually;

/// How long consumers may take.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// A queue.
pub struct Queue {
    client: Client,
    url: String,
}

impl Queue {
    /// The queue at a URL.
    pub fn at(sdk: &SdkConfig, url: &str) -> Self {
        Self { client: Client::new(sdk), url: url.to_owned() }
    }

    /// A queue that only this test knows.
    pub async fn create(sdk: &SdkConfig) -> Self {
        let client = Client::new(sdk);
        let created = client.create_queue().queue_name(format!("test-{}", Uuid::new_v4())).send().await.unwrap();
        Self { client, url: created.queue_url.expect("a queue has a URL") }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn send(&self, body: &str) {
        self.client.send_message().queue_url(&self.url).message_body(body).send().await.unwrap();
    }

    /// Takes up to ten messages out of sight for that long.
    pub async fn receive(&self, hidden: Duration) -> Vec<Message> {
        let receive = self.client.receive_message().queue_url(&self.url).max_number_of_messages(10);
        let receive = receive.visibility_timeout(hidden.as_secs().try_into().unwrap());
        receive.message_attribute_names("All").send().await.unwrap().messages.unwrap_or_default()
    }

    /// Has a topic's events sent here as they are.
    pub async fn subscribe(&self, sdk: &SdkConfig, topic_arn: &str) {
        let sns = aws_sdk_sns::Client::new(sdk);
        let attributes = self.attributes(&[QueueAttributeName::QueueArn]).await;
        let subscribe = sns.subscribe().topic_arn(topic_arn).protocol("sqs");
        let subscribe = subscribe.endpoint(&attributes[&QueueAttributeName::QueueArn]);
        subscribe.attributes("RawMessageDelivery", "true").send().await.unwrap();
    }

    /// Sets how long a message is out of sight that somebody has received.
    pub async fn set_visibility(&self, seconds: u32) {
        let set = self.client.set_queue_attributes().queue_url(&self.url);
        set.attributes(QueueAttributeName::VisibilityTimeout, seconds.to_string()).send().await.unwrap();
    }

    /// Messages that wait, are delayed, or are with a consumer.
    pub async fn depth(&self) -> u64 {
        use QueueAttributeName::{
            ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed, ApproximateNumberOfMessagesNotVisible,
        };
        let counts =
            [ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed, ApproximateNumberOfMessagesNotVisible];
        let attributes = self.attributes(&counts).await;
        counts.iter().map(|count| attributes[count].parse::<u64>().unwrap()).sum()
    }

    /// Waits until there is no message left.
    pub async fn drained(&self) {
        eventually("empty queue", DRAIN_MAX, async || (self.depth().await == 0).then_some(())).await;
    }

    async fn attributes(&self, names: &[QueueAttributeName]) -> HashMap<QueueAttributeName, String> {
        let get = self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.to_vec()));
        get.send().await.unwrap().attributes.expect("a queue has attributes")
    }
}

/// The text of a message.
pub fn body(message: &Message) -> &str {
    message.body.as_deref().expect("a message has a body")
}

/// The value of one of a message's attributes.
pub fn attribute<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.message_attributes.as_ref()?.get(name)?.string_value.as_deref()
}
