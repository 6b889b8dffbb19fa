//! The rules of the chat: what is said on the wire, what a turn is, what is admitted and what the model is asked.
//!
//! No AWS, no async runtime, no environment and no clock: decisions are functions from data to data, and everything
//! outside is behind a trait in [`ports`].

pub mod admission;
pub mod answer;
pub mod breaker;
pub mod brown_out;
pub mod bucket;
pub mod cancel;
pub mod coalesce;
pub mod escalation;
pub mod facts;
pub mod follow_up;
pub mod gather;
pub mod guard;
pub mod guarded_model;
pub mod ids;
pub mod injection;
pub mod intent;
pub mod invalidation;
pub mod lease;
pub mod limits;
pub mod metrics;
mod outbox;
pub mod pages;
pub mod ports;
pub mod prompt;
pub mod protocol;
pub mod redrive;
pub mod reminder;
pub mod route;
pub mod session;
pub mod settle;
pub mod store;
pub mod takeover;
pub mod template;
pub mod turn;
pub mod watchdog;
