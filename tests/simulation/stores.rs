//! Where a world keeps turns, connections and buckets.

use domain::ports::{ConnectionStore, TokenBuckets, TurnStore};
use testkit::{ManualClock, MemoryBuckets, MemoryConnections, MemoryTurns};

/// The stores of a world. Clones share their content.
pub trait Stores: Clone + Send + Sync + 'static {
    type Turns: TurnStore + Clone + 'static;
    type Connections: ConnectionStore + Clone + 'static;
    type Buckets: TokenBuckets + Clone + 'static;

    fn turns(&self) -> Self::Turns;
    fn connections(&self) -> Self::Connections;
    fn buckets(&self) -> Self::Buckets;

    /// Makes a call of one of them. It takes no time, and has ended when it is first polled.
    fn call<T>(&self, call: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send;
}

/// Stores in memory, which forget nothing.
#[derive(Clone)]
pub struct Memory {
    turns: MemoryTurns,
    connections: MemoryConnections,
    buckets: MemoryBuckets,
}

impl Memory {
    pub fn new(clock: &ManualClock) -> Self {
        Self {
            turns: MemoryTurns::default(),
            connections: MemoryConnections::new(clock.clone()),
            buckets: MemoryBuckets::default(),
        }
    }
}

impl Stores for Memory {
    type Turns = MemoryTurns;
    type Connections = MemoryConnections;
    type Buckets = MemoryBuckets;

    fn turns(&self) -> MemoryTurns {
        self.turns.clone()
    }

    fn connections(&self) -> MemoryConnections {
        self.connections.clone()
    }

    fn buckets(&self) -> MemoryBuckets {
        self.buckets.clone()
    }

    fn call<T>(&self, call: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        call
    }
}
