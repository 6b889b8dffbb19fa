//! The rules of the chat: what is said on the wire, what a turn is, what is admitted and what the model is asked.
//!
//! No AWS, no async runtime, no environment and no clock: decisions are functions from data to data, effects are traits
//! in [`ports`].

pub mod store;
