//! Work for later, by SQS.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::MessageAttributeValue;
use domain::ports::{Deliveries, Task, TaskQueues, Unavailable};

use crate::table::unavailable;

/// The longest SQS delays a message, seconds.
const DELAY_S_MAX: u64 = 900;

/// The longest SQS hides a message, seconds.
const VISIBILITY_S_MAX: u64 = 43_200;

/// How often a message was redriven.
pub(crate) const REDRIVES: &str = "redrives";
/// When a message was sent for the first time, Unix milliseconds.
pub(crate) const FIRST_SENT_AT: &str = "first_sent_at";
/// Why a message was refused.
pub(crate) const REASON: &str = "reason";

/// Whole seconds, rounded up.
fn seconds(ms: u64, max: u64) -> i32 {
    i32::try_from(ms.div_ceil(1_000).min(max)).unwrap_or(i32::MAX)
}

pub(crate) fn number_attribute(value: u64) -> Result<MessageAttributeValue, BuildError> {
    MessageAttributeValue::builder().data_type("Number").string_value(value.to_string()).build()
}

/// The queues of tasks.
#[derive(Debug, Clone)]
pub struct SqsQueues {
    client: Client,
    watchdog_url: String,
    follow_up_url: String,
}

impl SqsQueues {
    /// The watchdog's queue, and the follow-up queue for everything else.
    pub fn new(client: Client, watchdog_url: impl Into<String>, follow_up_url: impl Into<String>) -> Self {
        Self { client, watchdog_url: watchdog_url.into(), follow_up_url: follow_up_url.into() }
    }
}

impl TaskQueues for SqsQueues {
    async fn send(&self, task: &Task, delay_ms: u64) -> Result<(), Unavailable> {
        let operation = "send task";
        let url = match task {
            Task::Watch { .. } => &self.watchdog_url,
            Task::Finish { .. } | Task::TurnEnded(_) | Task::Remind { .. } => &self.follow_up_url,
        };
        let body = serde_json::to_string(task).map_err(unavailable(operation))?;
        self.client
            .send_message()
            .queue_url(url)
            .message_body(body)
            .delay_seconds(seconds(delay_ms, DELAY_S_MAX))
            .send()
            .await
            .map(drop)
            .map_err(unavailable(operation))
    }
}

/// The messages of one queue, to whoever handles them.
#[derive(Debug, Clone)]
pub struct SqsMessages {
    client: Client,
    queue_url: String,
    dlq_url: String,
}

impl SqsMessages {
    /// The messages of a queue with that dead-letter queue.
    pub fn new(client: Client, queue_url: impl Into<String>, dlq_url: impl Into<String>) -> Self {
        Self { client, queue_url: queue_url.into(), dlq_url: dlq_url.into() }
    }
}

impl Deliveries for SqsMessages {
    async fn hide(&self, receipt: &str, for_ms: u64) -> Result<(), Unavailable> {
        self.client
            .change_message_visibility()
            .queue_url(&self.queue_url)
            .receipt_handle(receipt)
            .visibility_timeout(seconds(for_ms, VISIBILITY_S_MAX))
            .send()
            .await
            .map(drop)
            .map_err(unavailable("hide message"))
    }

    async fn refuse(&self, body: &str, redrives: u32, first_sent_at: u64, reason: &str) -> Result<(), Unavailable> {
        let operation = "refuse message";
        let reason = MessageAttributeValue::builder().data_type("String").string_value(reason).build();
        self.client
            .send_message()
            .queue_url(&self.dlq_url)
            .message_body(body)
            .message_attributes(REDRIVES, number_attribute(redrives.into()).map_err(unavailable(operation))?)
            .message_attributes(FIRST_SENT_AT, number_attribute(first_sent_at).map_err(unavailable(operation))?)
            .message_attributes(REASON, reason.map_err(unavailable(operation))?)
            .send()
            .await
            .map(drop)
            .map_err(unavailable(operation))
    }
}
