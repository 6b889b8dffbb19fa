//! How long an owner may act.
//!
//! A lease is stored as a time of day, for others to read, and counted by its owner on a clock that never jumps, from
//! before the write that renewed it was sent. The owner stops a margin before its end; others wait a margin after it. So
//! nothing an owner starts to post can meet what its successor posts.

use crate::limits::{LEASE_MARGIN_MS, LEASE_MS};
use crate::ports::Clock;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Unix milliseconds.
    pub unix_ms: u64,
    /// See [`Clock::monotonic_ms`].
    pub monotonic_ms: u64,
}

impl Moment {
    /// This moment.
    pub fn now(clock: &impl Clock) -> Self {
        // In this order: a pause between the two shortens the owner's time, never the others' patience.
        let monotonic_ms = clock.monotonic_ms();
        Self { unix_ms: clock.now_ms(), monotonic_ms }
    }

    /// When a lease that is asked for at this moment ends, Unix milliseconds.
    pub fn lease_until(self) -> u64 {
        self.unix_ms + LEASE_MS
    }

    /// Until when its owner may start a post, on the monotonic clock.
    pub fn posts_until(self) -> u64 {
        self.monotonic_ms + LEASE_MS - LEASE_MARGIN_MS
    }
}
