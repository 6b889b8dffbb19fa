//! What a shopper, a platform engineer and a developer are promised, tested on the whole suite: real WebSocket
//! connections to one local stack that all tests share, and the rules of the repository itself.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod attacks;
mod cancel;
mod chaos;
mod client;
mod conversation;
mod dead_letters;
mod degradation;
mod dependencies;
mod errors;
mod events;
mod eventually;
mod guarantees;
mod handshake;
mod idempotency;
mod limits;
mod model_faults;
mod page;
mod permissions;
mod processes;
mod queues;
mod reminders;
mod resume;
mod stack;
mod store;
mod summaries;
mod takeover;
mod template;
mod turn;
