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

#[cfg(test)]
mod tests {
    use testkit::{START_MS, ScriptedHints, samples};

    use super::*;

    const FRESH_MS: u64 = 100_000;

    fn question() -> Question {
        Question {
            upstream: Upstream::Catalog,
            key: "a-key".to_owned(),
            tags: vec!["a-tag".to_owned()],
            fresh_ms: FRESH_MS,
            limit: 2,
        }
    }

    fn entry(products: usize) -> Entry<Product> {
        let entry = Entry::new(&question(), START_MS, vec![samples::product("one-1"); products]);
        Entry { fresh_until: START_MS + FRESH_MS, ..entry }
    }

    fn is_fresh(entry: &Entry<Product>, at: u64) -> bool {
        entry.is_fresh(&question(), at, &ScriptedHints::default())
    }

    #[test]
    fn an_entry_is_fresh_until_its_time_and_usable_for_a_day() {
        let entry = entry(2);
        assert!(is_fresh(&entry, START_MS + FRESH_MS - 1));
        assert!(!is_fresh(&entry, START_MS + FRESH_MS));
        assert!(entry.is_usable(START_MS + CACHE_STALE_MS - 1));
        assert!(!entry.is_usable(START_MS + CACHE_STALE_MS));
    }

    #[test]
    fn who_writes_an_entry_does_not_prolong_it() {
        let entry = Entry { fresh_until: u64::MAX, ..entry(2) };
        assert!(is_fresh(&entry, START_MS + FRESH_MS - 1));
        assert!(!is_fresh(&entry, START_MS + FRESH_MS));
    }

    #[test]
    fn what_will_be_read_is_not_known_yet() {
        let entry = entry(2);
        assert!(is_fresh(&entry, START_MS - CACHE_SKEW_MS));
        assert!(!is_fresh(&entry, START_MS - CACHE_SKEW_MS - 1));
    }

    #[test]
    fn jitter_shortens_by_its_share_and_no_more() {
        let lives: Vec<u64> = (0..10_000)
            .map(|_| Entry::new(&question(), START_MS, vec![samples::product("one-1")]).fresh_until - START_MS)
            .collect();
        let shortest = FRESH_MS - FRESH_MS * CACHE_JITTER_PERCENT / 100;
        assert!(lives.iter().all(|life| (shortest..=FRESH_MS).contains(life)));
        assert!(lives.iter().any(|life| *life < shortest + FRESH_MS / 100));
        assert!(lives.iter().any(|life| *life > FRESH_MS - FRESH_MS / 100));
    }

    #[test]
    fn nothing_is_remembered_briefly_and_is_no_help_later() {
        let nothing = Entry::<Product>::new(&question(), START_MS, Vec::new());
        assert!(!is_fresh(&nothing, START_MS + CACHE_NEGATIVE_MS));
        assert!(nothing.kept_until() <= START_MS + CACHE_NEGATIVE_MS);
        assert!(!nothing.is_usable(START_MS));
    }

    #[test]
    fn what_was_read_shortly_after_an_event_may_be_from_before() {
        for tag in ["a-tag", "product:one-1"] {
            for (event_at, fresh) in [(START_MS - CACHE_SKEW_MS - 1, true), (START_MS - CACHE_SKEW_MS, false)] {
                let hints = ScriptedHints::default();
                hints.invalidate(tag, event_at);
                assert_eq!(entry(1).is_fresh(&question(), START_MS, &hints), fresh, "{tag} at {event_at}");
            }
        }
    }

    #[test]
    fn fewer_than_wanted_is_enough_if_there_are_no_more() {
        for (asked_for, had, enough) in [(2, 2, true), (3, 3, true), (1, 1, false), (1, 0, true)] {
            assert_eq!(is_fresh(&Entry { limit: asked_for, ..entry(had) }, START_MS), enough, "{had} of {asked_for}");
        }
    }
}
