//! What is kept of an answer, and until when it may be used.

use bytes::Bytes;
use domain::breaker::Upstream;
use domain::limits::{CACHE_ENTRY_BYTES_MAX, CACHE_JITTER_PERCENT, CACHE_NEGATIVE_MS, CACHE_SKEW_MS, CACHE_STALE_MS};
use domain::ports::SharedHints;
use domain::store::{Article, Product, Promotion, Recommendation, Review, tags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Something that answers consist of.
pub(crate) trait Item: Serialize + DeserializeOwned {
    /// The product in it, whose offer is never kept.
    fn product(&self) -> Option<&Product> {
        None
    }

    /// The same.
    fn product_mut(&mut self) -> Option<&mut Product> {
        None
    }
}

impl Item for Product {
    fn product(&self) -> Option<&Product> {
        Some(self)
    }

    fn product_mut(&mut self) -> Option<&mut Product> {
        Some(self)
    }
}

impl Item for Recommendation {
    fn product(&self) -> Option<&Product> {
        Some(&self.product)
    }

    fn product_mut(&mut self) -> Option<&mut Product> {
        Some(&mut self.product)
    }
}

impl Item for Promotion {}
impl Item for Review {}
impl Item for Article {}

/// I7: takes prices and stock out.
pub(crate) fn strip<X: Item>(items: &mut [X]) {
    for product in items.iter_mut().filter_map(X::product_mut) {
        product.offer = None;
    }
}

/// What is looked up.
#[derive(Debug)]
pub(crate) struct Question {
    /// Whose answer it is.
    pub(crate) upstream: Upstream,
    /// Under which name it is kept.
    pub(crate) key: String,
    /// What an answer is about, beside the products in it.
    pub(crate) tags: Vec<String>,
    /// How long an answer is fresh, ms.
    pub(crate) fresh_ms: u64,
    /// How many entries are wanted.
    pub(crate) limit: usize,
}

/// An answer as it is kept, as JSON in both levels.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Entry<X> {
    /// When it was asked for, Unix milliseconds.
    pub(crate) read_at: u64,
    /// Unix milliseconds.
    fresh_until: u64,
    /// How many entries were wanted.
    limit: usize,
    /// Without prices and stock.
    pub(crate) items: Vec<X>,
}

impl<X: Item> Entry<X> {
    /// What a service has said when it was asked at `read_at`.
    pub(crate) fn new(question: &Question, read_at: u64, mut items: Vec<X>) -> Self {
        strip(&mut items);
        let fresh_ms = if items.is_empty() { CACHE_NEGATIVE_MS.min(question.fresh_ms) } else { question.fresh_ms };
        let jitter_ms = fastrand::u64(0..=fresh_ms * CACHE_JITTER_PERCENT / 100);
        Self { read_at, fresh_until: read_at + fresh_ms - jitter_ms, limit: question.limit, items }
    }

    /// None if it is too long to be kept.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        let json = serde_json::to_vec(self).ok()?;
        (json.len() <= CACHE_ENTRY_BYTES_MAX).then(|| json.into())
    }

    /// None if it is not what this version writes. Whoever wrote it: it has no prices and no stock.
    pub(crate) fn decode(json: &[u8]) -> Option<Self> {
        let mut entry: Self = serde_json::from_slice(json).ok()?;
        strip(&mut entry.items);
        Some(entry)
    }

    /// Whether it answers the question as well as the service would.
    pub(crate) fn is_fresh(&self, question: &Question, now: u64, hints: &impl SharedHints) -> bool {
        let has_enough = self.limit >= question.limit || self.items.len() < self.limit;
        // Nobody who writes has the last word about how long it is kept.
        let fresh_until = self.fresh_until.min(self.read_at.saturating_add(question.fresh_ms));
        let products = self.items.iter().filter_map(X::product).map(|product| tags::product(&product.product_id));
        has_enough
            && self.read_at <= now.saturating_add(CACHE_SKEW_MS)
            && now < fresh_until
            && question.tags.iter().cloned().chain(products).all(|tag| self.is_newer_than(hints.invalidated_at(&tag)))
    }

    fn is_newer_than(&self, invalidated_at: u64) -> bool {
        self.read_at > invalidated_at.saturating_add(CACHE_SKEW_MS)
    }

    /// Whether it is better than no answer at all.
    pub(crate) fn is_usable(&self, now: u64) -> bool {
        !self.items.is_empty() && now < self.kept_until()
    }

    /// Until when it is kept, Unix milliseconds: that there was nothing is no use once it is not fresh.
    pub(crate) fn kept_until(&self) -> u64 {
        if self.items.is_empty() { self.fresh_until } else { self.read_at.saturating_add(CACHE_STALE_MS) }
    }
}
