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
mod client;
mod coalesce;
mod crash;
mod documents;
mod gather;
mod ids;
mod prompt;
mod protocol;
mod turn;
mod world;
