//! Events about turns, recorded.

use std::sync::{Arc, Mutex};

use domain::ports::{TurnEnded, TurnEvents, Unavailable};

/// [`TurnEvents`] kept in memory. Clones share their record.
#[derive(Debug, Clone, Default)]
pub struct RecordedEvents(Arc<Mutex<Vec<TurnEnded>>>);

impl RecordedEvents {
    /// Everything published, in order.
    pub fn all(&self) -> Vec<TurnEnded> {
        self.0.lock().unwrap().clone()
    }
}

impl TurnEvents for RecordedEvents {
    async fn turn_ended(&self, event: &TurnEnded) -> Result<(), Unavailable> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }
}
