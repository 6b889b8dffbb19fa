//! Look-ups: in this process, then in Valkey, then at the service; and prices and stock, which are asked for each time.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::ids::ProductId;
use domain::limits::{CACHE_ENTRIES_MAX, CACHE_STALE_MS, SERVICE_CALL_MS};
use domain::metrics::{CacheOutcome, Measure, Metrics};
use domain::ports::{Clock, SharedHints};
use domain::store::{OFFERS_MAX, Offer, Product, ProductOffer};
use moka::sync::Cache;

use crate::entry::{Entry, Item, Question, strip};
use crate::flights::Flights;
use crate::http::Failure;
use crate::services::Services;
use crate::valkey::ValkeyCache;

/// When a request began, and when it must have ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// On the clock that never jumps, ms.
    began: u64,
    /// Unix milliseconds.
    pub(crate) deadline: u64,
}

/// What a look-up that others may share has come to.
#[derive(Debug, Clone)]
struct Found {
    /// As JSON, with offers if the service was asked.
    items: Bytes,
    /// When the service was asked, ms on the clock that never jumps; none if it was not.
    asked: Option<u64>,
    outcome: CacheOutcome,
}

type Offers = Arc<HashMap<String, Offer>>;

/// The services behind a cache.
#[derive(Debug)]
pub(crate) struct CachedServices<C, M, H> {
    pub(crate) services: Services<C, M, H>,
    in_process: Cache<String, Bytes>,
    valkey: Option<ValkeyCache<C>>,
    look_ups: Flights<Result<Found, Arc<Failure>>>,
    /// With when they were sent, ms on the clock that never jumps.
    offers: Flights<(u64, Result<Offers, Arc<Failure>>)>,
}

impl<C: Clock + Clone + 'static, M: Metrics, H: SharedHints> CachedServices<C, M, H> {
    pub(crate) fn new(services: Services<C, M, H>, valkey: Option<ValkeyCache<C>>) -> Self {
        let in_process = Cache::builder()
            .max_capacity(CACHE_ENTRIES_MAX)
            .time_to_live(Duration::from_millis(CACHE_STALE_MS))
            .build();
        Self { services, in_process, valkey, look_ups: Flights::default(), offers: Flights::default() }
    }

    fn clock(&self) -> &C {
        self.services.calls.guard.clock()
    }

    /// A request begins.
    pub(crate) fn begin(&self) -> Span {
        let clock = self.clock();
        Span { began: clock.monotonic_ms(), deadline: clock.now_ms().saturating_add(SERVICE_CALL_MS) }
    }

    /// An answer from the nearest that has a fresh one; `ask` asks the service. While that fails, one that is not fresh
    /// any more is used. Products have offers only if those were read for this request.
    pub(crate) async fn look_up<X: Item>(
        &self,
        question: &Question,
        span: Span,
        ask: impl Future<Output = Result<Vec<X>, Failure>>,
    ) -> Result<Vec<X>, Arc<Failure>> {
        let held = self.in_process.get(&question.key).and_then(|json| Entry::<X>::decode(&json));
        let (mut items, outcome) = match held {
            Some(held) if self.is_fresh(&held, question) => (held.items, CacheOutcome::HitInProcess),
            held => {
                let mut leads = false;
                // In a box, so that a request which finds its answer in memory is small.
                let call = Box::pin(async {
                    leads = true;
                    self.fly(question, span, held, ask).await
                });
                // Those who want more entries cannot share a call with those who want fewer.
                let found = self.look_ups.join(&format!("{} {}", question.limit, question.key), call).await;
                let outcome = match &found {
                    Ok(found) if leads || found.outcome == CacheOutcome::Stale => found.outcome,
                    Ok(_) => CacheOutcome::HitInProcess,
                    Err(_) => CacheOutcome::Miss,
                };
                (self.land(found, span).inspect_err(|_| self.tell(outcome, question))?, outcome)
            }
        };
        self.tell(outcome, question);
        items.truncate(question.limit);
        Ok(items)
    }

    fn tell(&self, outcome: CacheOutcome, question: &Question) {
        self.services.calls.guard.metrics().record(Measure::cache(outcome, question.upstream));
    }

    fn is_fresh<X: Item>(&self, entry: &Entry<X>, question: &Question) -> bool {
        entry.is_fresh(question, self.clock().now_ms(), self.services.calls.guard.hints())
    }

    /// Looks into Valkey, then asks the service, then makes do with what is old.
    async fn fly<X: Item>(
        &self,
        question: &Question,
        span: Span,
        held: Option<Entry<X>>,
        ask: impl Future<Output = Result<Vec<X>, Failure>>,
    ) -> Result<Found, Arc<Failure>> {
        let shared = match &self.valkey {
            Some(valkey) => valkey.get(&question.key).await,
            None => None,
        };
        let shared = shared.and_then(|json| Entry::<X>::decode(&json));
        if let Some(shared) = shared.as_ref().filter(|shared| self.is_fresh(shared, question)) {
            self.keep_in_process(question, shared);
            return Found::new(&shared.items, None, CacheOutcome::HitShared);
        }
        let (asked, read_at) = (self.clock().monotonic_ms(), self.clock().now_ms());
        let failure = match ask.await {
            Ok(items) => {
                let found = Found::new(&items, Some(asked), CacheOutcome::Miss);
                self.keep(question, &Entry::new(question, read_at, items), span).await;
                return found;
            }
            Err(failure) => failure,
        };
        let now = self.clock().now_ms();
        let usable = held.into_iter().chain(shared).filter(|entry| entry.is_usable(now));
        match usable.max_by_key(|entry| entry.read_at) {
            Some(stale) => {
                tracing::warn!(upstream = question.upstream.name(), %failure, "an old answer was used");
                self.keep_in_process(question, &stale);
                Found::new(&stale.items, None, CacheOutcome::Stale)
            }
            None => Err(Arc::new(failure)),
        }
    }

    fn keep_in_process<X: Item>(&self, question: &Question, entry: &Entry<X>) {
        if let Some(json) = entry.encode() {
            self.in_process.insert(question.key.clone(), json);
        }
    }

    async fn keep<X: Item>(&self, question: &Question, entry: &Entry<X>, span: Span) {
        let Some(json) = entry.encode() else {
            // What is kept is older.
            self.in_process.invalidate(&question.key);
            return;
        };
        self.in_process.insert(question.key.clone(), json.clone());
        let now = self.clock().now_ms();
        if let Some(valkey) = self.valkey.as_ref().filter(|_| now < span.deadline) {
            valkey.put(&question.key, &json, entry.kept_until().saturating_sub(now)).await;
        }
    }

    /// What a look-up that others may have made means to this request.
    fn land<X: Item>(&self, found: Result<Found, Arc<Failure>>, span: Span) -> Result<Vec<X>, Arc<Failure>> {
        let found = found?;
        let mut items: Vec<X> = serde_json::from_slice(&found.items).map_err(|error| Arc::new(error.into()))?;
        // I7: an offer that was read before it was asked for is a cached one.
        if found.asked.is_none_or(|asked| asked < span.began) {
            strip(&mut items);
        }
        Ok(items)
    }

    /// The same items with what they cost now: one call for all that do not say it. What is not sold any more is left out;
    /// when the catalog does not answer, they stay without.
    pub(crate) async fn price<X: Item>(&self, items: Vec<X>, span: Span) -> Vec<X> {
        let unpriced = items.iter().filter_map(X::product).filter(|product| product.offer.is_none());
        let is_id = |product: &&Product| ProductId::parse(&product.product_id).is_some();
        let ids: BTreeSet<String> =
            unpriced.filter(is_id).map(|product| product.product_id.clone()).take(OFFERS_MAX).collect();
        if ids.is_empty() {
            return items;
        }
        let offers = match self.offers(&ids, span).await {
            Ok(offers) => offers,
            Err(failure) => {
                tracing::warn!(%failure, "products are shown without prices");
                return items;
            }
        };
        let priced = |mut item: X| {
            if let Some(product) = item.product_mut()
                && ids.contains(&product.product_id)
            {
                product.offer = Some(offers.get(&product.product_id)?.clone());
            }
            Some(item)
        };
        items.into_iter().filter_map(priced).collect()
    }

    /// Offers that were read for this request: by a call that was sent after it began, whoever sent it.
    async fn offers(&self, ids: &BTreeSet<String>, span: Span) -> Result<Offers, Arc<Failure>> {
        let ids = ids.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        loop {
            let call = Box::pin(async {
                let sent = self.clock().monotonic_ms();
                let offers = self.services.offers(&ids, span.deadline).await;
                let by_id = |offers: Vec<ProductOffer>| {
                    Arc::new(offers.into_iter().map(|offer| (offer.product_id, offer.offer)).collect())
                };
                (sent, offers.map(by_id).map_err(Arc::new))
            });
            // A call that is under way may have read them before; the next one has not.
            let (sent, offers) = self.offers.join(&ids, call).await;
            if sent >= span.began {
                return offers;
            }
        }
    }
}

impl Found {
    fn new<X: Item>(items: &[X], asked: Option<u64>, outcome: CacheOutcome) -> Result<Self, Arc<Failure>> {
        let items = serde_json::to_vec(items).map_err(|error| Arc::new(error.into()))?;
        Ok(Self { items: items.into(), asked, outcome })
    }
}

#[cfg(test)]
mod tests {
    use domain::breaker::Upstream;
    use domain::guard::Guard;
    use testkit::{ManualClock, RecordedMetrics, ScriptedHints, samples};

    use super::*;
    use crate::calls::Calls;
    use crate::configuration::{ServiceConfiguration, StoreConfiguration};

    #[test]
    fn so_many_answers_are_kept_in_memory_and_no_more() {
        let nowhere = || ServiceConfiguration { url: String::new(), timeout_ms: 0 };
        let configuration = StoreConfiguration {
            catalog: nowhere(),
            recommendations: nowhere(),
            orders: nowhere(),
            promotions: nowhere(),
            reviews: nowhere(),
            knowledge: nowhere(),
            store_key: String::new(),
        };
        let guard = Guard::new(ManualClock::new(), RecordedMetrics::default(), ScriptedHints::default());
        let calls = Calls { guard: Arc::new(guard) };
        let services = CachedServices::new(Services::new(configuration, calls), None);
        for (answers, kept) in
            [(0..CACHE_ENTRIES_MAX, CACHE_ENTRIES_MAX), (0..CACHE_ENTRIES_MAX + 1, CACHE_ENTRIES_MAX)]
        {
            for number in answers {
                let question = Question {
                    upstream: Upstream::Catalog,
                    key: number.to_string(),
                    tags: Vec::new(),
                    fresh_ms: 1,
                    limit: 1,
                };
                services.keep_in_process(&question, &Entry::new(&question, 1, vec![samples::product("one-1")]));
            }
            services.in_process.run_pending_tasks();
            assert_eq!(services.in_process.entry_count(), kept);
        }
    }
}
