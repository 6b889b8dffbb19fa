//! `follow-up-worker`: finishes turns that outlived their owner or its time, sums conversations up, and sends what shoppers
//! asked to be reminded of.
//!
//! A message stays in the queue until its effect is durable. While a task is worked on its message is kept out of sight for
//! a little longer each time, so that the task of a worker that died comes again soon; one that is not done comes again
//! after a pause that grows. Whatever is no task goes to the dead letters with the reason.

use std::collections::BTreeMap;
use std::pin::pin;

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use domain::follow_up::{Done, TaskError, perform, retry_after_ms};
use domain::limits::{HEARTBEAT_MS, HEARTBEAT_VISIBILITY_MS, WORKER_START_MS, WORKER_TASKS_AT_ONCE_MAX};
use domain::ports::{Clock as _, Deliveries, Ports, Task, Unavailable};
use futures_util::future::{Either, select};
use futures_util::{StreamExt as _, stream};

/// Does every task of a batch: [`WORKER_TASKS_AT_ONCE_MAX`] at once, those of one turn or conversation in their order.
pub async fn handle(ports: &impl Ports, deliveries: &impl Deliveries, batch: SqsEvent) -> SqsBatchResponse {
    let begun = ports.clock().now_ms();
    let mut groups: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
    for delivery in batch.records.into_iter().map(Delivery::new) {
        groups.entry(delivery.group()).or_default().push(delivery);
    }
    let failed = stream::iter(groups.into_values())
        .map(async |group| {
            let mut failed = Vec::new();
            for delivery in group {
                let is_over = if ports.clock().now_ms() < begun + WORKER_START_MS {
                    is_over(ports, deliveries, &delivery).await
                } else {
                    put_back(deliveries, &delivery, 0).await;
                    false
                };
                if !is_over {
                    failed.push(delivery.message_id);
                }
            }
            failed
        })
        .buffer_unordered(WORKER_TASKS_AT_ONCE_MAX)
        .concat()
        .await;
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failed
        .into_iter()
        .map(|message_id| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = message_id;
            failure
        })
        .collect();
    response
}

/// A message of the queue.
struct Delivery {
    message_id: String,
    receipt: String,
    body: String,
    /// How often it was received, this time included.
    receives: u32,
    redrives: u32,
    first_sent_at: u64,
    task: Result<Task, serde_json::Error>,
}

impl Delivery {
    fn new(message: SqsMessage) -> Self {
        fn number<T: std::str::FromStr + Default>(text: Option<&String>) -> Option<T> {
            text?.parse().ok()
        }
        let attribute = |name: &str| message.message_attributes.get(name)?.string_value.as_ref();
        let body = message.body.unwrap_or_default();
        Self {
            task: serde_json::from_str(&body),
            receives: number(message.attributes.get("ApproximateReceiveCount")).unwrap_or(1),
            redrives: number(attribute("redrives")).unwrap_or_default(),
            first_sent_at: number(attribute("first_sent_at"))
                .or_else(|| number(message.attributes.get("SentTimestamp")))
                .unwrap_or_default(),
            message_id: message.message_id.unwrap_or_default(),
            receipt: message.receipt_handle.unwrap_or_default(),
            body,
        }
    }

    /// What its order matters within: a turn, or a conversation.
    fn group(&self) -> String {
        match &self.task {
            Ok(Task::Watch { turn_id, .. } | Task::Finish { turn_id, .. }) => turn_id.to_string(),
            Ok(Task::TurnEnded(ended)) => ended.conversation_id.to_string(),
            Ok(Task::Remind { follow_up_id, .. }) => follow_up_id.clone(),
            Err(_) => self.message_id.clone(),
        }
    }
}

/// Does a task; whether its message may be deleted.
async fn is_over(ports: &impl Ports, deliveries: &impl Deliveries, delivery: &Delivery) -> bool {
    let performed = match &delivery.task {
        Ok(task) => kept_out_of_sight(ports, deliveries, delivery, perform(ports, task)).await,
        Err(_) => Err(TaskError::Refused("the message is no task")),
    };
    let pause = match performed {
        Ok(Done::Done) => return true,
        Ok(Done::Later(pause)) => pause,
        Err(TaskError::Refused(reason)) => return refuse(deliveries, delivery, reason).await.is_ok(),
        Err(error @ (TaskError::Unavailable(_) | TaskError::Model(_))) => {
            tracing::warn!(
                message_id = delivery.message_id,
                error = &error as &dyn std::error::Error,
                "task is not done"
            );
            None
        }
    };
    let pause = pause.unwrap_or_else(|| retry_after_ms(delivery.receives, fastrand::f64()));
    put_back(deliveries, delivery, pause).await;
    false
}

/// Has a message come again after a pause, ms. If this fails it comes again when the queue's own time is over.
async fn put_back(deliveries: &impl Deliveries, delivery: &Delivery, pause_ms: u64) {
    if let Err(error) = deliveries.hide(&delivery.receipt, pause_ms).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the task's next time was not set");
    }
}

/// Works, and keeps the message out of sight meanwhile.
async fn kept_out_of_sight<T>(
    ports: &impl Ports,
    deliveries: &impl Deliveries,
    delivery: &Delivery,
    work: impl Future<Output = T>,
) -> T {
    let clock = ports.clock();
    let mut work = pin!(work);
    let mut heartbeat_at = clock.now_ms();
    loop {
        let heartbeat = pin!(clock.sleep_until(heartbeat_at));
        heartbeat_at += HEARTBEAT_MS;
        match select(work.as_mut(), heartbeat).await {
            Either::Left((done, _)) => return done,
            Either::Right(((), _)) => {
                let hide = pin!(deliveries.hide(&delivery.receipt, HEARTBEAT_VISIBILITY_MS));
                match select(work.as_mut(), hide).await {
                    Either::Left((done, _)) => return done,
                    Either::Right((Ok(()), _)) => {}
                    Either::Right((Err(error), _)) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the task was not kept out of sight");
                    }
                }
            }
        }
    }
}

/// Gives a message to the dead letters, for good.
async fn refuse(deliveries: &impl Deliveries, delivery: &Delivery, reason: &str) -> Result<(), Unavailable> {
    tracing::error!(message_id = delivery.message_id, reason, "message was refused");
    let Delivery { body, redrives, first_sent_at, .. } = delivery;
    let refused = deliveries.refuse(body, *redrives, *first_sent_at, reason).await;
    if let Err(error) = &refused {
        tracing::error!(error = error as &dyn std::error::Error, "message was not refused");
    }
    refused
}

#[cfg(test)]
mod tests;
