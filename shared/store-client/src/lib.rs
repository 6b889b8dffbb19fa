//! Everything the chat knows of the store's services, by HTTP. The contract is [`domain::store`].
//!
//! Three layers, the outer asking the inner: a cache of what may be cached, calls with retries behind a breaker for each
//! service, and requests over one pool of connections. Prices, stock and orders are asked for each time.

mod calls;
mod configuration;
mod http;
mod services;

use std::sync::Arc;

pub use configuration::{ServiceConfiguration, StoreConfiguration, ValkeyConfiguration};
use domain::ids::ProductId;
use domain::limits::SERVICE_CALL_MS;
use domain::metrics::Metrics;
use domain::ports::{Clock, SharedHints, StoreServices, Unavailable};
use domain::store::{Article, Order, Product, Promotion, Recommendation, Review};

use crate::calls::Calls;
use crate::http::Failure;
use crate::services::Services;

/// The store's services. Clones share connections, breakers and the cache.
#[derive(Debug)]
pub struct StoreClient<C, M, H>(Arc<Services<C, M, H>>);

impl<C, M, H> Clone for StoreClient<C, M, H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: Clock + Clone + 'static, M: Metrics, H: SharedHints> StoreClient<C, M, H> {
    /// The services where the configuration says they are. Nothing is connected to before it is needed.
    pub fn new(
        configuration: StoreConfiguration,
        _valkey: Option<ValkeyConfiguration>,
        clock: C,
        metrics: M,
        hints: H,
    ) -> Self {
        Self(Arc::new(Services::new(configuration, Calls::new(clock, metrics, hints))))
    }

    fn deadline(&self) -> u64 {
        self.0.calls.clock.now_ms().saturating_add(SERVICE_CALL_MS)
    }
}

fn unavailable(operation: &'static str) -> impl FnOnce(Failure) -> Unavailable {
    move |failure| Unavailable { operation, source: Box::new(failure) }
}

impl<C: Clock + Clone + 'static, M: Metrics + 'static, H: SharedHints + 'static> StoreServices
    for StoreClient<C, M, H>
{
    async fn search(&self, query: &str, limit: usize) -> Result<Vec<Product>, Unavailable> {
        self.0.search(query, limit, self.deadline()).await.map_err(unavailable("search the catalog"))
    }

    async fn product(&self, id: &ProductId) -> Result<Option<Product>, Unavailable> {
        self.0.product(id.as_str(), self.deadline()).await.map_err(unavailable("look up a product"))
    }

    async fn recommendations(
        &self,
        shopper: Option<&str>,
        _session: &str,
        limit: usize,
    ) -> Result<Vec<Recommendation>, Unavailable> {
        let recommendations = self.0.recommendations(shopper, limit, self.deadline());
        recommendations.await.map_err(unavailable("ask for recommendations"))
    }

    async fn trending(&self, limit: usize) -> Result<Vec<Product>, Unavailable> {
        self.0.trending(limit, self.deadline()).await.map_err(unavailable("ask what is trending"))
    }

    async fn order(&self, shopper: &str, order_id: &str) -> Result<Option<Order>, Unavailable> {
        self.0.order(shopper, order_id, self.deadline()).await.map_err(unavailable("look up an order"))
    }

    async fn orders(&self, shopper: &str) -> Result<Vec<Order>, Unavailable> {
        self.0.orders(shopper, self.deadline()).await.map_err(unavailable("look up orders"))
    }

    async fn promotions(&self) -> Result<Vec<Promotion>, Unavailable> {
        self.0.promotions(self.deadline()).await.map_err(unavailable("ask for promotions"))
    }

    async fn reviews(&self, id: &ProductId, limit: usize) -> Result<Vec<Review>, Unavailable> {
        self.0.reviews(id.as_str(), limit, self.deadline()).await.map_err(unavailable("read reviews"))
    }

    async fn articles(&self, query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        self.0.articles(query, limit, self.deadline()).await.map_err(unavailable("search help articles"))
    }
}
