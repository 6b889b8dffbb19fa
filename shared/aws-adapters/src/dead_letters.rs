//! Dead-letter queues, by SQS.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use domain::ports::{DeadLetter, DeadLetters, QueueName, Unavailable};

use crate::configuration::RedriverConfiguration;
use crate::queues::{FIRST_SENT_AT, REASON, REDRIVES, number_attribute};
use crate::table::unavailable;

/// Messages SQS gives at a time at the most.
const BATCH_MESSAGES_MAX: i32 = 10;

/// How long a receive waits for messages, seconds: SQS asks all of its servers then, and an empty answer means an empty
/// queue.
const WAIT_S: i32 = 1;

/// A received message reappears after this, seconds, if nothing becomes of it: no sooner than the run that received it has
/// ended, which would receive it again.
const HIDDEN_S: i32 = 120;

/// SQS answered a message without this.
#[derive(Debug, thiserror::Error)]
#[error("a message has no {0}")]
struct Incomplete(&'static str);

/// A queue and where its dead letters are.
#[derive(Debug, Clone)]
struct Urls {
    queue: String,
    dead_letters: String,
}

/// The dead-letter queues of the follow-up queue and the watchdog's queue.
#[derive(Debug, Clone)]
pub struct SqsDeadLetters {
    client: Client,
    follow_up: Urls,
    watchdog: Urls,
}

impl SqsDeadLetters {
    /// The queues of a configuration, through a client that waits long enough:
    /// [`clients::sqs_receiving`](crate::clients::sqs_receiving).
    pub fn new(client: Client, configuration: &RedriverConfiguration) -> Self {
        let turns = &configuration.turns;
        let urls =
            |queue: &String, dead_letters: &String| Urls { queue: queue.clone(), dead_letters: dead_letters.clone() };
        Self {
            client,
            follow_up: urls(&turns.follow_up_queue_url, &configuration.follow_up_dlq_url),
            watchdog: urls(&turns.watchdog_queue_url, &configuration.watchdog_dlq_url),
        }
    }

    fn urls(&self, queue: QueueName) -> &Urls {
        match queue {
            QueueName::FollowUp => &self.follow_up,
            QueueName::Watchdog => &self.watchdog,
        }
    }
}

fn letter(message: Message) -> Result<DeadLetter, Incomplete> {
    let attribute = |name: &str| message.message_attributes.as_ref()?.get(name)?.string_value.clone();
    // SQS keeps the time a message was sent at when it moves it to a dead-letter queue.
    let sent_at = || message.attributes.as_ref()?.get(&MessageSystemAttributeName::SentTimestamp)?.parse().ok();
    let first_sent_at = attribute(FIRST_SENT_AT).and_then(|at| at.parse().ok()).or_else(sent_at);
    Ok(DeadLetter {
        first_sent_at: first_sent_at.ok_or(Incomplete("time of sending"))?,
        redrives: attribute(REDRIVES).and_then(|number| number.parse().ok()).unwrap_or_default(),
        reason: attribute(REASON),
        message_id: message.message_id.ok_or(Incomplete("id"))?,
        receipt: message.receipt_handle.ok_or(Incomplete("receipt"))?,
        body: message.body.ok_or(Incomplete("body"))?,
    })
}

impl DeadLetters for SqsDeadLetters {
    async fn receive(&self, queue: QueueName) -> Result<Vec<DeadLetter>, Unavailable> {
        let operation = "receive dead letters";
        let received = self
            .client
            .receive_message()
            .queue_url(&self.urls(queue).dead_letters)
            .max_number_of_messages(BATCH_MESSAGES_MAX)
            .wait_time_seconds(WAIT_S)
            .visibility_timeout(HIDDEN_S)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_attribute_names("All")
            .send()
            .await
            .map_err(unavailable(operation))?;
        let letters = received.messages.unwrap_or_default().into_iter().map(letter).collect::<Result<_, _>>();
        letters.map_err(unavailable(operation))
    }

    async fn redrive(&self, queue: QueueName, letter: &DeadLetter) -> Result<(), Unavailable> {
        let operation = "redrive message";
        let redrives = number_attribute(u64::from(letter.redrives) + 1).map_err(unavailable(operation))?;
        let first_sent_at = number_attribute(letter.first_sent_at).map_err(unavailable(operation))?;
        self.client
            .send_message()
            .queue_url(&self.urls(queue).queue)
            .message_body(&letter.body)
            .message_attributes(REDRIVES, redrives)
            .message_attributes(FIRST_SENT_AT, first_sent_at)
            .send()
            .await
            .map(drop)
            .map_err(unavailable(operation))
    }

    async fn delete(&self, queue: QueueName, receipt: &str) -> Result<(), Unavailable> {
        self.client
            .delete_message()
            .queue_url(&self.urls(queue).dead_letters)
            .receipt_handle(receipt)
            .send()
            .await
            .map(drop)
            .map_err(unavailable("delete dead letter"))
    }

    async fn give_back(&self, queue: QueueName, receipt: &str) -> Result<(), Unavailable> {
        let shown = self
            .client
            .change_message_visibility()
            .queue_url(&self.urls(queue).dead_letters)
            .receipt_handle(receipt)
            .visibility_timeout(0)
            .send()
            .await;
        match shown {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_message_not_inflight()) => Ok(()),
            Err(error) => Err(unavailable("give back dead letter")(error)),
        }
    }
}
