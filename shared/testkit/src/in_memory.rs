//! All ports together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::ports::{Nonces, Ports};

use crate::{
    Faults, Faulty, ManualClock, MemoryConnections, MemoryTurns, RecordedEvents, RecordingSender, ScriptedModel,
    ScriptedStore,
};

/// Every port, in memory and on one clock. Stores, sender and events are [`Faulty`], with one count of effects. Clones
/// share everything: one to be handed over, one to look at what became of it.
#[derive(Debug, Clone)]
pub struct InMemory {
    /// Time.
    pub clock: ManualClock,
    /// What goes wrong.
    pub faults: Faults,
    /// Conversations and turns.
    pub turns: Faulty<MemoryTurns>,
    /// Who is connected.
    pub connections: Faulty<MemoryConnections>,
    /// Frames to clients.
    pub sender: Faulty<RecordingSender>,
    /// The model.
    pub model: ScriptedModel,
    /// The store's services.
    pub store: ScriptedStore,
    /// Events about turns.
    pub events: Faulty<RecordedEvents>,
    /// Names.
    pub nonces: SequentialNonces,
}

impl InMemory {
    /// An empty world in which everything works at once.
    pub fn new() -> Self {
        let clock = ManualClock::new();
        let faults = Faults::new(clock.clone());
        Self {
            turns: Faulty::new(MemoryTurns::default(), faults.clone()),
            connections: Faulty::new(MemoryConnections::default(), faults.clone()),
            sender: Faulty::new(RecordingSender::new(clock.clone()), faults.clone()),
            model: ScriptedModel::new(clock.clone()),
            store: ScriptedStore::new(clock.clone()),
            events: Faulty::new(RecordedEvents::default(), faults.clone()),
            nonces: SequentialNonces::default(),
            clock,
            faults,
        }
    }

    /// Runs a process on [`ManualClock::block_on`]; none if a planned fault killed it on the way.
    ///
    /// # Panics
    /// When it waits for something that will never happen.
    pub fn run<T>(&self, process: impl Future<Output = T>) -> Option<T> {
        self.clock.block_on_until(|| self.faults.crashed(), process)
    }
}

impl Default for InMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Ports for InMemory {
    type Turns = Faulty<MemoryTurns>;
    type Connections = Faulty<MemoryConnections>;
    type Sender = Faulty<RecordingSender>;
    type Model = ScriptedModel;
    type Store = ScriptedStore;
    type Events = Faulty<RecordedEvents>;
    type Clock = ManualClock;
    type Nonces = SequentialNonces;

    fn turns(&self) -> &Self::Turns {
        &self.turns
    }

    fn connections(&self) -> &Self::Connections {
        &self.connections
    }

    fn sender(&self) -> &Self::Sender {
        &self.sender
    }

    fn model(&self) -> &Self::Model {
        &self.model
    }

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn events(&self) -> &Self::Events {
        &self.events
    }

    fn clock(&self) -> &Self::Clock {
        &self.clock
    }

    fn nonces(&self) -> &Self::Nonces {
        &self.nonces
    }
}

/// [`Nonces`] that count: `nonce-1`, `nonce-2`, … Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct SequentialNonces(Arc<AtomicU64>);

impl Nonces for SequentialNonces {
    fn nonce(&self) -> String {
        format!("nonce-{}", self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
