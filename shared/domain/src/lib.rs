//! The rules of the chat: what is said on the wire, what a turn is, what is admitted and what the model is asked.
//!
//! No AWS, no async runtime, no environment and no clock: decisions are functions from data to data, and everything
//! outside is behind a trait in [`ports`].

pub mod admission;
pub mod answer;
pub mod coalesce;
pub mod gather;
pub mod ids;
pub mod intent;
pub mod limits;
mod outbox;
pub mod ports;
pub mod prompt;
pub mod protocol;
pub mod session;
pub mod settle;
pub mod store;
pub mod turn;
