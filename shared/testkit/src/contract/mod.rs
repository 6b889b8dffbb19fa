//! What every implementation of a store must do, the one in memory and the real one alike: a test gives its store to these
//! and fails where the store breaks a promise of its trait.
//!
//! Names are made of a prefix, so that one table serves many runs.

mod buckets;
mod budgets;
mod connections;
mod follow_ups;
mod turns;

pub use buckets::token_buckets;
pub use budgets::token_budgets;
pub use connections::connection_store;
pub use follow_ups::follow_ups;
pub use turns::turn_store;
