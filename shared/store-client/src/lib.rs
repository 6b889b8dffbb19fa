//! Everything the chat knows of the store's services, by HTTP. The contract is [`domain::store`].
//!
//! Three layers, the outer asking the inner: a cache of what may be cached, calls with retries behind a breaker for each
//! service, and requests over one pool of connections. Prices, stock and orders are asked for each time.

mod cache;
mod calls;
mod configuration;
mod entry;
mod flights;
mod http;
mod keys;
mod services;
mod valkey;

use std::error::Error;
use std::sync::Arc;

use domain::breaker::Upstream;
use domain::guard::Guard;
use domain::ids::ProductId;
use domain::limits::{
    ARTICLES_CACHE_MS, PRODUCT_CACHE_MS, PROMOTIONS_CACHE_MS, RECOMMENDATIONS_CACHE_MS, REVIEWS_CACHE_MS,
};
use domain::metrics::Metrics;
use domain::ports::{Clock, SharedHints, StoreServices, Unavailable};
use domain::prompt::cut;
use domain::store::{
    Article, Order, PAGE_ENTRIES_MAX, Product, Promotion, Recommendation, Review, SEARCH_TEXT_CHARS_MAX, tags,
};

use crate::cache::CachedServices;
use crate::calls::Calls;
pub use crate::configuration::{ServiceConfiguration, StoreConfiguration, ValkeyConfiguration};
use crate::entry::Question;
use crate::services::Services;
pub use crate::valkey::ValkeyCache;

/// The store's services. Clones share connections, breakers and the cache.
#[derive(Debug)]
pub struct StoreClient<C, M, H>(Arc<CachedServices<C, M, H>>);

impl<C, M, H> Clone for StoreClient<C, M, H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Clock + Clone + 'static, M: Metrics, H: SharedHints> StoreClient<C, M, H> {
    /// The services where the configuration says they are, and Valkey if there is one. Nothing is connected to before it
    /// is needed.
    pub fn new(
        configuration: StoreConfiguration,
        valkey: Option<ValkeyConfiguration>,
        guard: Arc<Guard<C, M, H>>,
    ) -> Self {
        let valkey = valkey.and_then(|valkey| {
            let opened = ValkeyCache::new(&valkey, guard.clock().clone());
            opened.inspect_err(|error| tracing::error!(%error, "there is no second level of the cache")).ok()
        });
        let services = Services::new(configuration, Calls { guard });
        Self(Arc::new(CachedServices::new(services, valkey)))
    }
}

fn unavailable<E: Error + Send + Sync + 'static>(operation: &'static str) -> impl FnOnce(E) -> Unavailable {
    move |failure| Unavailable { operation, source: Box::new(failure) }
}

impl<C: Clock + Clone + 'static, M: Metrics + 'static, H: SharedHints + 'static> StoreServices
    for StoreClient<C, M, H>
{
    async fn search(&self, query: &str, limit: usize) -> Result<Vec<Product>, Unavailable> {
        let span = self.0.begin();
        let query = cut(query, SEARCH_TEXT_CHARS_MAX);
        let question = Question {
            upstream: Upstream::Catalog,
            key: keys::search(query),
            tags: vec![tags::SELECTION.to_owned()],
            fresh_ms: PRODUCT_CACHE_MS,
            limit,
        };
        let ask = self.0.services.search(query, limit, span.deadline);
        let found = self.0.look_up(&question, span, ask).await.map_err(unavailable("search the catalog"))?;
        Ok(self.0.price(found, span).await)
    }

    async fn product(&self, id: &ProductId) -> Result<Option<Product>, Unavailable> {
        let span = self.0.begin();
        let question = Question {
            upstream: Upstream::Catalog,
            key: keys::product(id.as_str()),
            tags: vec![tags::product(id.as_str())],
            fresh_ms: PRODUCT_CACHE_MS,
            limit: 1,
        };
        let ask = async { Ok(self.0.services.product(id.as_str(), span.deadline).await?.into_iter().collect()) };
        let found = self.0.look_up(&question, span, ask).await.map_err(unavailable("look up a product"))?;
        Ok(self.0.price(found, span).await.pop())
    }

    async fn recommendations(
        &self,
        shopper: Option<&str>,
        session: &str,
        limit: usize,
    ) -> Result<Vec<Recommendation>, Unavailable> {
        let span = self.0.begin();
        let question = Question {
            upstream: Upstream::Recommendations,
            key: keys::recommendations(shopper, session),
            tags: vec![tags::SELECTION.to_owned()],
            fresh_ms: RECOMMENDATIONS_CACHE_MS,
            limit,
        };
        let ask = self.0.services.recommendations(shopper, limit, span.deadline);
        let found = self.0.look_up(&question, span, ask).await.map_err(unavailable("ask for recommendations"))?;
        Ok(self.0.price(found, span).await)
    }

    async fn trending(&self, limit: usize) -> Result<Vec<Product>, Unavailable> {
        let span = self.0.begin();
        let question = Question {
            upstream: Upstream::Catalog,
            key: keys::trending(),
            tags: vec![tags::SELECTION.to_owned()],
            fresh_ms: RECOMMENDATIONS_CACHE_MS,
            limit,
        };
        let ask = self.0.services.trending(limit, span.deadline);
        let found = self.0.look_up(&question, span, ask).await.map_err(unavailable("ask what is trending"))?;
        Ok(self.0.price(found, span).await)
    }

    async fn order(&self, shopper: &str, order_id: &str) -> Result<Option<Order>, Unavailable> {
        let deadline = self.0.begin().deadline;
        self.0.services.order(shopper, order_id, deadline).await.map_err(unavailable("look up an order"))
    }

    async fn orders(&self, shopper: &str) -> Result<Vec<Order>, Unavailable> {
        let deadline = self.0.begin().deadline;
        self.0.services.orders(shopper, deadline).await.map_err(unavailable("look up orders"))
    }

    async fn promotions(&self) -> Result<Vec<Promotion>, Unavailable> {
        let span = self.0.begin();
        let question = Question {
            upstream: Upstream::Promotions,
            key: keys::promotions(),
            tags: vec![tags::PROMOTIONS.to_owned()],
            fresh_ms: PROMOTIONS_CACHE_MS,
            limit: PAGE_ENTRIES_MAX,
        };
        let ask = self.0.services.promotions(span.deadline);
        let mut running = self.0.look_up(&question, span, ask).await.map_err(unavailable("ask for promotions"))?;
        // They may have ended since they were read.
        let now = self.0.services.calls.guard.clock().now_ms();
        running.retain(|promotion| now < promotion.ends_at);
        Ok(running)
    }

    async fn reviews(&self, id: &ProductId, limit: usize) -> Result<Vec<Review>, Unavailable> {
        let span = self.0.begin();
        let question = Question {
            upstream: Upstream::Reviews,
            key: keys::reviews(id.as_str()),
            tags: vec![tags::reviews(id.as_str())],
            fresh_ms: REVIEWS_CACHE_MS,
            limit,
        };
        let ask = self.0.services.reviews(id.as_str(), limit, span.deadline);
        self.0.look_up(&question, span, ask).await.map_err(unavailable("read reviews"))
    }

    async fn articles(&self, query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        let span = self.0.begin();
        let query = cut(query, SEARCH_TEXT_CHARS_MAX);
        let question = Question {
            upstream: Upstream::Knowledge,
            key: keys::articles(query),
            tags: Vec::new(),
            fresh_ms: ARTICLES_CACHE_MS,
            limit,
        };
        let ask = self.0.services.articles(query, limit, span.deadline);
        self.0.look_up(&question, span, ask).await.map_err(unavailable("search help articles"))
    }
}
