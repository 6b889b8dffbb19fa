//! The rules, from the outside.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this is test code: a panic is the report of a failed test"
)]

mod admission;
mod answer;
mod attacks;
mod breaker;
mod brown_out;
mod bucket;
mod cancel;
mod client;
mod coalesce;
mod crash;
mod documents;
mod escalation;
mod facts;
mod follow_up;
mod gather;
mod guarded_model;
mod ids;
mod injection;
mod intent;
mod lease;
mod prompt;
mod protocol;
mod reminder;
mod route;
mod takeover;
mod template;
mod turn;
mod watchdog;
mod world;
