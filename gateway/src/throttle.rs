//! The token bucket behind both throttles.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::limits::Rate;

/// A token bucket that starts full.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    rate: Rate,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, level: Mutex::new(Level { tokens: f64::from(rate.burst), at: now }) }
    }

    /// Takes one token, or answers false when there is none.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let refill = now.saturating_duration_since(level.at).as_secs_f64() * self.rate.per_second;
        level.tokens = (level.tokens + refill).min(f64::from(self.rate.burst));
        level.at = level.at.max(now);
        let granted = level.tokens >= 1.0;
        if granted {
            level.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn grants_the_burst_then_refills_at_the_rate_and_never_beyond_the_burst() {
        let start = Instant::now();
        let bucket = TokenBucket::new(Rate { per_second: 2.0, burst: 3 }, start);
        let granted = |after_ms| bucket.take(start + Duration::from_millis(after_ms));

        assert_eq!([granted(0), granted(0), granted(0), granted(0)], [true, true, true, false]);
        assert_eq!([granted(499), granted(500), granted(500)], [false, true, false]);
        let later: Vec<bool> = (0..4).map(|_| granted(60_000)).collect();
        assert_eq!(later, [true, true, true, false]);
    }
}
