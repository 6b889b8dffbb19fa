//! The world in memory, for tests: every port of the domain, on a clock that only tests move, with faults on demand, for
//! one process or for many at once; and the contracts that every implementation of a store must pass, these and the real
//! ones alike.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this is test code: a panic is the report of a failed test"
)]

mod buckets;
mod budgets;
mod clock;
mod connections;
pub mod contract;
mod escalations;
mod events;
mod faults;
mod follow_ups;
mod hints;
mod identities;
mod in_memory;
mod metrics;
mod model;
mod processes;
mod quarantine;
mod queues;
pub mod samples;
mod sender;
mod store;
mod turns;

pub use buckets::MemoryBuckets;
pub use budgets::MemoryBudgets;
pub use clock::{ManualClock, START_MS};
pub use connections::MemoryConnections;
pub use escalations::RecordedEscalations;
pub use events::RecordedEvents;
pub use faults::{Effect, Fault, Faults, Faulty};
pub use follow_ups::MemoryFollowUps;
pub use hints::ScriptedHints;
pub use identities::KnownTokens;
pub use in_memory::{InMemory, SequentialNonces};
pub use metrics::RecordedMetrics;
pub use model::{ModelFailure, ScriptedModel, Step};
pub use processes::{ProcessId, Processes, Spawned, Spawner};
pub use quarantine::MemoryQuarantine;
pub use queues::{MemoryQueues, MessageAttributes, MessageCounts, ReceivedMessage, RedrivePolicy};
pub use sender::{RecordingSender, SentFrame};
pub use store::{ScriptedStore, Service, StoreData};
pub use turns::{MemoryTurns, StoredRating};

#[cfg(test)]
mod tests;
