//! All ports together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::pages::StorePages;
use domain::ports::{Nonces, Ports, TurnPorts};

use crate::{
    Faults, Faulty, ManualClock, MemoryBuckets, MemoryBudgets, MemoryConnections, MemoryFollowUps, MemoryQueues,
    MemoryTurns, RecordedEscalations, RecordedEvents, RecordedMetrics, RecordingSender, ScriptedModel, ScriptedStore,
    samples,
};

/// Every port of a process, in memory and on one clock. Stores, queues, sender and events are [`Faulty`], with one count
/// of effects. Clones share everything: one to be handed over, one to look at what became of it.
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
    /// Token buckets.
    pub buckets: Faulty<MemoryBuckets>,
    /// The queues and their dead letters.
    pub queues: Faulty<MemoryQueues>,
    /// Follow-up messages.
    pub follow_ups: Faulty<MemoryFollowUps>,
    /// Frames to clients.
    pub sender: Faulty<RecordingSender>,
    /// Events about turns; the follow-up queue is subscribed.
    pub events: Faulty<RecordedEvents>,
    /// The model.
    pub model: ScriptedModel,
    /// The store's services.
    pub store: ScriptedStore,
    /// What may be asked of the models.
    pub budgets: Faulty<MemoryBudgets>,
    /// The people who take conversations on.
    pub escalations: Faulty<RecordedEscalations>,
    /// The store's pages.
    pub pages: StorePages,
    /// What is counted.
    pub metrics: RecordedMetrics,
    /// Names.
    pub nonces: SequentialNonces,
}

impl InMemory {
    /// An empty world in which everything works at once.
    pub fn new() -> Self {
        let clock = ManualClock::new();
        let faults = Faults::new(clock.clone());
        let queues = MemoryQueues::new(clock.clone());
        Self {
            turns: Faulty::new(MemoryTurns::default(), faults.clone()),
            connections: Faulty::new(MemoryConnections::new(clock.clone()), faults.clone()),
            buckets: Faulty::new(MemoryBuckets::default(), faults.clone()),
            follow_ups: Faulty::new(MemoryFollowUps::new(queues.clone()), faults.clone()),
            sender: Faulty::new(RecordingSender::new(clock.clone()), faults.clone()),
            events: Faulty::new(RecordedEvents::with_follow_ups(queues.clone()), faults.clone()),
            queues: Faulty::new(queues, faults.clone()),
            model: ScriptedModel::new(clock.clone()),
            store: ScriptedStore::new(clock.clone()),
            budgets: Faulty::new(MemoryBudgets::default(), faults.clone()),
            escalations: Faulty::new(RecordedEscalations::default(), faults.clone()),
            pages: samples::pages(),
            metrics: RecordedMetrics::default(),
            nonces: SequentialNonces::default(),
            clock,
            faults,
        }
    }

    /// Another process of the same world: it has its own faults, none so far, and its own round trips, which take no time.
    /// Everything else is shared.
    #[must_use]
    pub fn process(&self) -> Self {
        let faults = self.faults.for_process();
        Self {
            turns: self.turns.for_process(&faults),
            connections: self.connections.for_process(&faults),
            buckets: self.buckets.for_process(&faults),
            queues: self.queues.for_process(&faults),
            follow_ups: self.follow_ups.for_process(&faults),
            sender: self.sender.for_process(&faults),
            events: self.events.for_process(&faults),
            budgets: self.budgets.for_process(&faults),
            escalations: self.escalations.for_process(&faults),
            faults,
            ..self.clone()
        }
    }

    /// The process on a machine whose clock is [skewed](ManualClock::skewed).
    #[must_use]
    pub fn skewed(self, offset_ms: i64) -> Self {
        Self { clock: self.clock.skewed(offset_ms), ..self }
    }

    /// How long every call of the process takes from now on, ms; the effect happens half-way.
    pub fn set_round_trip_ms(&self, round_trip_ms: u64) {
        self.turns.set_round_trip_ms(round_trip_ms);
        self.connections.set_round_trip_ms(round_trip_ms);
        self.buckets.set_round_trip_ms(round_trip_ms);
        self.queues.set_round_trip_ms(round_trip_ms);
        self.follow_ups.set_round_trip_ms(round_trip_ms);
        self.sender.set_round_trip_ms(round_trip_ms);
        self.events.set_round_trip_ms(round_trip_ms);
        self.budgets.set_round_trip_ms(round_trip_ms);
        self.escalations.set_round_trip_ms(round_trip_ms);
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

impl TurnPorts for InMemory {
    type Turns = Faulty<MemoryTurns>;
    type Queues = Faulty<MemoryQueues>;
    type Sender = Faulty<RecordingSender>;
    type Clock = ManualClock;
    type Nonces = SequentialNonces;

    fn turns(&self) -> &Self::Turns {
        &self.turns
    }

    fn queues(&self) -> &Self::Queues {
        &self.queues
    }

    fn sender(&self) -> &Self::Sender {
        &self.sender
    }

    fn clock(&self) -> &Self::Clock {
        &self.clock
    }

    fn nonces(&self) -> &Self::Nonces {
        &self.nonces
    }
}

impl Ports for InMemory {
    type Connections = Faulty<MemoryConnections>;
    type Buckets = Faulty<MemoryBuckets>;
    type FollowUps = Faulty<MemoryFollowUps>;
    type Model = ScriptedModel;
    type Store = ScriptedStore;
    type Budgets = Faulty<MemoryBudgets>;
    type Escalations = Faulty<RecordedEscalations>;
    type Metrics = RecordedMetrics;

    fn connections(&self) -> &Self::Connections {
        &self.connections
    }

    fn buckets(&self) -> &Self::Buckets {
        &self.buckets
    }

    fn follow_ups(&self) -> &Self::FollowUps {
        &self.follow_ups
    }

    fn model(&self) -> &Self::Model {
        &self.model
    }

    fn store(&self) -> &Self::Store {
        &self.store
    }

    fn budgets(&self) -> &Self::Budgets {
        &self.budgets
    }

    fn escalations(&self) -> &Self::Escalations {
        &self.escalations
    }

    fn pages(&self) -> &StorePages {
        &self.pages
    }

    fn metrics(&self) -> &Self::Metrics {
        &self.metrics
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
