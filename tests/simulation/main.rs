//! Whole functions as processes of one simulated world, which die and meet in every way there is.
//!
//! A world has the functions, their queues, clients and a model, all on virtual time. What happens in it is checked against
//! the promises of the protocol, not against what the functions remember.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod aftermath;
mod client;
mod crash_at_every_effect;
mod engine;
mod invariants;
mod lambda;
mod model;
mod observations;
mod observed;
mod paths;
mod process;
mod sequences;
mod stores;
mod trace;
mod world;
