//! What the redriver keeps, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use domain::ports::{QueueName, Unavailable};
use domain::redrive::{Quarantine, Quarantined, RedriveState, RedriveStates};

use crate::Faulty;

#[derive(Debug, Default)]
struct Kept {
    entries: BTreeMap<(QueueName, String), Quarantined>,
    states: BTreeMap<QueueName, RedriveState>,
}

/// [`Quarantine`] and [`RedriveStates`] in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryQuarantine(Arc<Mutex<Kept>>);

impl MemoryQuarantine {
    /// Everything quarantined, by queue and message id.
    pub fn entries(&self) -> Vec<Quarantined> {
        self.0.lock().unwrap().entries.values().cloned().collect()
    }
}

impl Quarantine for MemoryQuarantine {
    async fn put(&self, entry: &Quarantined) -> Result<(), Unavailable> {
        self.0.lock().unwrap().entries.insert((entry.queue, entry.message_id.clone()), entry.clone());
        Ok(())
    }
}

impl RedriveStates for MemoryQuarantine {
    async fn state(&self, queue: QueueName) -> Result<RedriveState, Unavailable> {
        Ok(self.0.lock().unwrap().states.get(&queue).copied().unwrap_or_default())
    }

    async fn set_state(&self, queue: QueueName, state: &RedriveState) -> Result<(), Unavailable> {
        self.0.lock().unwrap().states.insert(queue, *state);
        Ok(())
    }
}

impl<P: Quarantine> Quarantine for Faulty<P> {
    async fn put(&self, entry: &Quarantined) -> Result<(), Unavailable> {
        self.effect("quarantine.put", self.inner.put(entry)).await
    }
}

impl<P: RedriveStates> RedriveStates for Faulty<P> {
    async fn state(&self, queue: QueueName) -> Result<RedriveState, Unavailable> {
        self.effect("redrive_states.state", self.inner.state(queue)).await
    }

    async fn set_state(&self, queue: QueueName, state: &RedriveState) -> Result<(), Unavailable> {
        self.effect("redrive_states.set_state", self.inner.set_state(queue, state)).await
    }
}
