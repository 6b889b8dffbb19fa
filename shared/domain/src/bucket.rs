//! Token buckets: so many a minute, and as many at once.
//!
//! A bucket is one number, the time at which it is full again. Taking a token moves that time on by the time one token
//! takes to come back, so a bucket that nobody uses needs no upkeep and no memory.

use crate::ports::{BucketKey, Nonces, TakeOutcome, TakeToken, TokenBuckets, Unavailable};

/// How often a token is tried for while others take from the same bucket.
const ATTEMPTS_MAX: u32 = 8;

/// A minute, ms.
const MINUTE_MS: u64 = 60_000;

/// What a bucket holds when it is full, and what comes back in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerMinute(pub u32);

/// There is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// When there is one, ms from now; at least 1.
    pub retry_after_ms: u64,
}

impl PerMinute {
    /// When the bucket is full again after a token is taken now.
    ///
    /// # Errors
    /// When there is no token.
    pub fn take(self, full_at: Option<u64>, now: u64) -> Result<u64, Exhausted> {
        let token_ms = MINUTE_MS / u64::from(self.0.max(1));
        let full_at = full_at.unwrap_or(now).max(now) + token_ms;
        match full_at.saturating_sub(now + MINUTE_MS) {
            0 => Ok(full_at),
            retry_after_ms => Err(Exhausted { retry_after_ms }),
        }
    }
}

/// Takes a token from a bucket that was read: one write, and none if there is no token.
///
/// # Errors
/// When the store does not answer.
pub async fn take(
    buckets: &impl TokenBuckets,
    nonces: &impl Nonces,
    key: &BucketKey,
    limit: PerMinute,
    mut full_at_before: Option<u64>,
    now: u64,
) -> Result<Result<(), Exhausted>, Unavailable> {
    let attempt = nonces.nonce();
    for _ in 0..ATTEMPTS_MAX {
        let full_at = match limit.take(full_at_before, now) {
            Ok(full_at) => full_at,
            Err(exhausted) => return Ok(Err(exhausted)),
        };
        let token = TakeToken { key: key.clone(), full_at_before, full_at, attempt: attempt.clone() };
        match buckets.take(&token).await? {
            TakeOutcome::Taken => return Ok(Ok(())),
            TakeOutcome::Changed(full_at) => full_at_before = full_at,
        }
    }
    // So many at the same moment are too many.
    Ok(Err(Exhausted { retry_after_ms: MINUTE_MS / u64::from(limit.0.max(1)) }))
}
