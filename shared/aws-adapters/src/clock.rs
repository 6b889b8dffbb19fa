//! The clock and the source of names.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domain::ports::{Clock, Nonces};
use uuid::Uuid;

/// What [`Clock::monotonic_ms`] counts from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The environment's clock. Read anew each time: Lambda freezes an environment between invocations, and a clock that
/// only counts from its start would stand still meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the Clock port reads the clock here")]
    fn now_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }

    /// Lambda freezes an environment only between invocations: within one, no pause goes uncounted.
    fn monotonic_ms(&self) -> u64 {
        u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn sleep_until(&self, at_ms: u64) {
        if at_ms == u64::MAX {
            return std::future::pending().await;
        }
        let wait = at_ms.saturating_sub(self.now_ms());
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }
}

/// Random UUIDs.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomNonces;

impl Nonces for RandomNonces {
    fn nonce(&self) -> String {
        Uuid::new_v4().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_monotonic_clock_counts_milliseconds() {
        let (before, pause) = (SystemClock.monotonic_ms(), Duration::from_millis(20));
        tokio::time::sleep(pause).await;
        // Either end may be cut to a whole millisecond.
        assert!(SystemClock.monotonic_ms() >= before + 19);
    }
}
