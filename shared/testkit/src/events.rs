//! Events about turns, recorded.

use std::sync::{Arc, Mutex};

use domain::ports::{QueueName, Task, TurnEnded, TurnEvents, Unavailable};

use crate::MemoryQueues;

/// [`TurnEvents`] kept in memory. Clones share their record.
#[derive(Debug, Clone, Default)]
pub struct RecordedEvents {
    events: Arc<Mutex<Vec<TurnEnded>>>,
    subscriber: Option<MemoryQueues>,
}

impl RecordedEvents {
    /// A topic to which the follow-up queue is subscribed: it gets those after which there is something to do.
    pub fn with_follow_ups(queues: MemoryQueues) -> Self {
        Self { events: Arc::default(), subscriber: Some(queues) }
    }

    /// Everything published, in order.
    pub fn all(&self) -> Vec<TurnEnded> {
        self.events.lock().unwrap().clone()
    }
}

impl TurnEvents for RecordedEvents {
    async fn turn_ended(&self, event: &TurnEnded) -> Result<(), Unavailable> {
        self.events.lock().unwrap().push(event.clone());
        if let Some(queues) = self.subscriber.as_ref().filter(|_| event.follow_up) {
            let body = serde_json::to_string(&Task::TurnEnded(event.clone())).expect("a task is JSON");
            queues.put(QueueName::FollowUp, &body);
        }
        Ok(())
    }
}
