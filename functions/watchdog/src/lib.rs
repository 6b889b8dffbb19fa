//! `watchdog`: sees within milliseconds whether the owner of a turn is alive, and has somebody else finish what a dead one
//! left. It publishes the end of every turn.
//!
//! Its time-out is short, so that a task it did not finish comes again soon.

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use domain::ports::{Task, TurnEvents, TurnPorts};
use domain::watchdog::watch;
use futures_util::future::join_all;

/// Why a task stays in the queue.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error("the message is no task of the watchdog")]
    Malformed(#[source] Option<serde_json::Error>),
    #[error(transparent)]
    Unavailable(#[from] domain::ports::Unavailable),
}

/// Looks after every turn of a batch, all at once. A message that is no task stays in the queue, which gives it to the
/// dead letters.
pub async fn handle(ports: &impl TurnPorts, events: &impl TurnEvents, batch: SqsEvent) -> SqsBatchResponse {
    let failures = join_all(batch.records.iter().map(async |message| {
        let error = perform(ports, events, message).await.err()?;
        tracing::error!(
            message_id = message.message_id,
            error = &error as &dyn std::error::Error,
            "a turn was not looked after"
        );
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = message.message_id.clone().unwrap_or_default();
        Some(failure)
    }));
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failures.await.into_iter().flatten().collect();
    response
}

async fn perform(ports: &impl TurnPorts, events: &impl TurnEvents, message: &SqsMessage) -> Result<(), TaskError> {
    let task = serde_json::from_str(message.body.as_deref().unwrap_or_default());
    match task.map_err(|error| TaskError::Malformed(Some(error)))? {
        Task::Watch { turn_id, epoch } => {
            let watched = watch(ports, events, &turn_id, epoch).await?;
            tracing::info!(%turn_id, epoch, ?watched, "turn was looked after");
            Ok(())
        }
        Task::Finish { .. } | Task::TurnEnded(_) | Task::Remind { .. } => Err(TaskError::Malformed(None)),
    }
}

#[cfg(test)]
mod tests;
