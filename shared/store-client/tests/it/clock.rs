//! The machine's time, which a test can move on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::ports::Clock;
use testkit::START_MS;
use tokio::time::Instant;

/// Real time, so that sockets and pauses take theirs, plus what a test skips. Clones show the same time.
#[derive(Debug, Clone)]
pub struct SkippingClock {
    began: Instant,
    /// How often it is slower than real time.
    slower: u32,
    skipped_ms: Arc<AtomicU64>,
}

impl SkippingClock {
    pub fn start() -> Self {
        Self { began: Instant::now(), slower: 1, skipped_ms: Arc::default() }
    }

    /// Shows one millisecond in so many, so that a busy machine is not late.
    pub fn slower(times: u32) -> Self {
        Self { slower: times, ..Self::start() }
    }

    /// It is later at once. Who sleeps already sleeps on.
    pub fn skip(&self, ms: u64) {
        self.skipped_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for SkippingClock {
    fn now_ms(&self) -> u64 {
        START_MS + self.monotonic_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from((self.began.elapsed() / self.slower).as_millis()).unwrap()
            + self.skipped_ms.load(Ordering::SeqCst)
    }

    async fn sleep_until(&self, at_ms: u64) {
        tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(self.now_ms())) * self.slower).await;
    }
}
