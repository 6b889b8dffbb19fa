//! The ports of one process.

use domain::pages::StorePages;
use domain::ports::{Ports, TurnPorts};
use testkit::{
    Faults, Faulty, InMemory, ManualClock, MemoryBudgets, MemoryFollowUps, MemoryQueues, RecordedEscalations,
    RecordedEvents, RecordedMetrics, ScriptedStore, SequentialNonces,
};

use crate::model::SimulatedModel;
use crate::observed::{Observed, ObservedSender, Observer, Past};
use crate::stores::Stores;
use crate::trace::{ProcessNumber, Started, Trace};

/// What makes a process differ from others.
#[derive(Clone, Copy)]
pub struct Circumstances {
    /// How far its clock is ahead, ms.
    pub skew_ms: i64,
    /// How long its calls take, ms.
    pub round_trip_ms: u64,
    /// How old what it glances at is, ms.
    pub lag_ms: u64,
}

/// An execution environment for one invocation. All its effects are counted together.
#[derive(Clone)]
pub struct Process<S: Stores> {
    pub number: ProcessNumber,
    turns: Faulty<Observed<S::Turns, S>>,
    connections: Faulty<Observed<S::Connections, S>>,
    buckets: Faulty<Observed<S::Buckets, S>>,
    sender: Faulty<ObservedSender>,
    model: SimulatedModel,
    /// Everything else, the clock among it.
    others: InMemory,
}

impl<S: Stores> Process<S> {
    pub fn start(
        world: &InMemory,
        stores: &S,
        model: &SimulatedModel,
        trace: &Trace,
        past: &Past,
        Circumstances { skew_ms, round_trip_ms, lag_ms }: Circumstances,
    ) -> Self {
        let others = world.process().skewed(skew_ms);
        others.set_round_trip_ms(round_trip_ms);
        let faults = others.faults.clone();
        let number = {
            let started = &mut trace.events().started;
            started.push(Started { skew_ms, disturbed: false, ended: false, faults: faults.clone() });
            started.len() - 1
        };
        let way_ms = round_trip_ms / 2;
        let (clock, trace, past) = (world.clock.clone(), trace.clone(), past.clone());
        let observer = Observer { process: number, clock, way_ms, lag_ms, trace, past };
        let sender = ObservedSender { sender: world.sender.inner.clone(), observer: observer.clone() };
        let sender = Faulty::new(sender, faults.clone());
        let turns = Observed { port: stores.turns(), stores: stores.clone(), observer: observer.clone() };
        let turns = Faulty::new(turns, faults.clone());
        let connections = Observed { port: stores.connections(), stores: stores.clone(), observer: observer.clone() };
        let connections = Faulty::new(connections, faults.clone());
        let buckets = Observed { port: stores.buckets(), stores: stores.clone(), observer };
        let buckets = Faulty::new(buckets, faults);
        turns.set_round_trip_ms(round_trip_ms);
        connections.set_round_trip_ms(round_trip_ms);
        buckets.set_round_trip_ms(round_trip_ms);
        sender.set_round_trip_ms(round_trip_ms);
        Self { number, turns, connections, buckets, sender, model: model.clone(), others }
    }

    pub fn faults(&self) -> &Faults {
        &self.others.faults
    }

    /// The messages it was delivered.
    pub fn deliveries(&self) -> &Faulty<MemoryQueues> {
        &self.others.queues
    }

    pub fn events(&self) -> &Faulty<RecordedEvents> {
        &self.others.events
    }
}

impl<S: Stores> TurnPorts for Process<S> {
    type Turns = Faulty<Observed<S::Turns, S>>;
    type Queues = Faulty<MemoryQueues>;
    type Sender = Faulty<ObservedSender>;
    type Clock = ManualClock;
    type Nonces = SequentialNonces;

    fn turns(&self) -> &Self::Turns {
        &self.turns
    }

    fn queues(&self) -> &Self::Queues {
        &self.others.queues
    }

    fn sender(&self) -> &Self::Sender {
        &self.sender
    }

    fn clock(&self) -> &Self::Clock {
        &self.others.clock
    }

    fn nonces(&self) -> &Self::Nonces {
        &self.others.nonces
    }
}

impl<S: Stores> Ports for Process<S> {
    type Connections = Faulty<Observed<S::Connections, S>>;
    type Buckets = Faulty<Observed<S::Buckets, S>>;
    type FollowUps = Faulty<MemoryFollowUps>;
    type Model = SimulatedModel;
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
        &self.others.follow_ups
    }

    fn model(&self) -> &Self::Model {
        &self.model
    }

    fn store(&self) -> &Self::Store {
        &self.others.store
    }
    fn budgets(&self) -> &Self::Budgets {
        &self.others.budgets
    }

    fn escalations(&self) -> &Self::Escalations {
        &self.others.escalations
    }

    fn pages(&self) -> &StorePages {
        &self.others.pages
    }

    fn metrics(&self) -> &Self::Metrics {
        &self.others.metrics
    }
}
