//! Escalations, recorded.

use std::sync::{Arc, Mutex};

use domain::ports::{Escalation, Escalations, Unavailable};

/// [`Escalations`] kept in memory. Clones share their record.
#[derive(Debug, Clone, Default)]
pub struct RecordedEscalations(Arc<Mutex<Vec<Escalation>>>);

impl RecordedEscalations {
    /// Everything told, in order.
    pub fn all(&self) -> Vec<Escalation> {
        self.0.lock().unwrap().clone()
    }
}

impl Escalations for RecordedEscalations {
    async fn escalate(&self, escalation: &Escalation) -> Result<(), Unavailable> {
        self.0.lock().unwrap().push(escalation.clone());
        Ok(())
    }
}
