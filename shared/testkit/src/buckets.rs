//! Token buckets in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::ports::{BucketKey, TakeOutcome, TakeToken, TokenBuckets, Unavailable};

/// [`TokenBuckets`] in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryBuckets(Arc<Mutex<HashMap<BucketKey, Bucket>>>);

#[derive(Debug)]
struct Bucket {
    full_at: u64,
    /// Of the last token.
    attempt: String,
}

impl TokenBuckets for MemoryBuckets {
    async fn full_at(&self, key: &BucketKey) -> Result<Option<u64>, Unavailable> {
        Ok(self.0.lock().unwrap().get(key).map(|bucket| bucket.full_at))
    }

    async fn take(&self, token: &TakeToken) -> Result<TakeOutcome, Unavailable> {
        let mut buckets = self.0.lock().unwrap();
        let held = buckets.get(&token.key);
        if held.is_some_and(|bucket| bucket.attempt == token.attempt) {
            return Ok(TakeOutcome::Taken);
        }
        let full_at = held.map(|bucket| bucket.full_at);
        if full_at != token.full_at_before {
            return Ok(TakeOutcome::Changed(full_at));
        }
        buckets.insert(token.key.clone(), Bucket { full_at: token.full_at, attempt: token.attempt.clone() });
        Ok(TakeOutcome::Taken)
    }
}
