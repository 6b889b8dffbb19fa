//! What the services are asked: the requests of [`domain::store`], one call each.

use domain::breaker::Upstream;
use domain::limits::ID_BYTES_MAX;
use domain::metrics::Metrics;
use domain::ports::{Clock, SharedHints};
use domain::store::{
    Article, ArticlePage, OfferPage, Order, OrderPage, Product, ProductOffer, ProductPage, Promotion, PromotionPage,
    Recommendation, RecommendationPage, Review, ReviewPage,
};
use reqwest::{RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::calls::Calls;
use crate::configuration::{ServiceConfiguration, StoreConfiguration};
use crate::http::{Failure, Http, ask};

/// The services as they answer now. Each call ends before its deadline, Unix milliseconds.
#[derive(Debug)]
pub(crate) struct Services<C, M, H> {
    configuration: StoreConfiguration,
    http: Http,
    pub(crate) calls: Calls<C, M, H>,
}

impl<C: Clock + Clone + 'static, M: Metrics, H: SharedHints> Services<C, M, H> {
    pub(crate) fn new(configuration: StoreConfiguration, calls: Calls<C, M, H>) -> Self {
        Self { configuration, http: Http::default(), calls }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        (upstream, service): (Upstream, &ServiceConfiguration),
        deadline: u64,
        path: &[&str],
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Option<T>, Failure> {
        let request = &complete(self.http.get(&service.url, path)?);
        let attempt = || async move {
            // Nothing we send is a stream, which alone could not be sent twice.
            let request = request.try_clone().ok_or_else(|| Failure::Unmade("not repeatable".into()))?;
            ask(request).await
        };
        self.calls.call(upstream, service.timeout_ms, deadline, attempt).await
    }

    fn catalog(&self) -> (Upstream, &ServiceConfiguration) {
        (Upstream::Catalog, &self.configuration.catalog)
    }

    pub(crate) async fn search(&self, query: &str, limit: usize, deadline: u64) -> Result<Vec<Product>, Failure> {
        let complete = |request: RequestBuilder| request.query(&[("q", query)]).query(&[("limit", limit)]);
        let page: Option<ProductPage> = self.ask(self.catalog(), deadline, &["catalog", "search"], complete).await?;
        Ok(page.unwrap_or_default().products)
    }

    pub(crate) async fn product(&self, id: &str, deadline: u64) -> Result<Option<Product>, Failure> {
        self.ask(self.catalog(), deadline, &["catalog", "products", id], |request| request).await
    }

    /// Of at most [`OFFERS_MAX`](domain::store::OFFERS_MAX) products, their ids with commas between; of those that are sold.
    pub(crate) async fn offers(&self, product_ids: &str, deadline: u64) -> Result<Vec<ProductOffer>, Failure> {
        let complete = |request: RequestBuilder| request.query(&[("product_ids", product_ids)]);
        let page: Option<OfferPage> = self.ask(self.catalog(), deadline, &["catalog", "offers"], complete).await?;
        // That there is no such page is not to say that nothing is sold.
        page.map(|page| page.offers).ok_or(Failure::Refused(StatusCode::NOT_FOUND))
    }

    pub(crate) async fn trending(&self, limit: usize, deadline: u64) -> Result<Vec<Product>, Failure> {
        let complete = |request: RequestBuilder| request.query(&[("limit", limit)]);
        let page: Option<ProductPage> = self.ask(self.catalog(), deadline, &["trending"], complete).await?;
        Ok(page.unwrap_or_default().products)
    }

    pub(crate) async fn recommendations(
        &self,
        shopper: Option<&str>,
        limit: usize,
        deadline: u64,
    ) -> Result<Vec<Recommendation>, Failure> {
        let service = (Upstream::Recommendations, &self.configuration.recommendations);
        let complete = |request: RequestBuilder| {
            let request = request.query(&[("limit", limit)]);
            match shopper {
                None => request,
                Some(shopper) => self.for_shopper(request, shopper),
            }
        };
        let page: Option<RecommendationPage> = self.ask(service, deadline, &["recommendations"], complete).await?;
        Ok(page.unwrap_or_default().recommendations)
    }

    /// Signed with the service key.
    fn for_shopper(&self, request: RequestBuilder, shopper: &str) -> RequestBuilder {
        request.bearer_auth(&self.configuration.store_key).query(&[("shopper_id", shopper)])
    }

    /// I5: the service is told whose order it must be, and what it says is compared.
    pub(crate) async fn order(&self, shopper: &str, order_id: &str, deadline: u64) -> Result<Option<Order>, Failure> {
        // What is no id may be another path.
        if !is_id(order_id) {
            return Ok(None);
        }
        let service = (Upstream::Orders, &self.configuration.orders);
        let complete = |request| self.for_shopper(request, shopper);
        let order: Option<Order> = self.ask(service, deadline, &["orders", order_id], complete).await?;
        Ok(order.filter(|order| order.shopper_id == shopper))
    }

    pub(crate) async fn orders(&self, shopper: &str, deadline: u64) -> Result<Vec<Order>, Failure> {
        let service = (Upstream::Orders, &self.configuration.orders);
        let complete = |request| self.for_shopper(request, shopper);
        let page: Option<OrderPage> = self.ask(service, deadline, &["orders"], complete).await?;
        let mut orders = page.unwrap_or_default().orders;
        orders.retain(|order| order.shopper_id == shopper);
        Ok(orders)
    }

    pub(crate) async fn promotions(&self, deadline: u64) -> Result<Vec<Promotion>, Failure> {
        let service = (Upstream::Promotions, &self.configuration.promotions);
        let page: Option<PromotionPage> = self.ask(service, deadline, &["promotions"], |request| request).await?;
        Ok(page.unwrap_or_default().promotions)
    }

    pub(crate) async fn reviews(&self, id: &str, limit: usize, deadline: u64) -> Result<Vec<Review>, Failure> {
        let service = (Upstream::Reviews, &self.configuration.reviews);
        let complete = |request: RequestBuilder| request.query(&[("limit", limit)]);
        let page: Option<ReviewPage> = self.ask(service, deadline, &["products", id, "reviews"], complete).await?;
        Ok(page.unwrap_or_default().reviews)
    }

    pub(crate) async fn articles(&self, query: &str, limit: usize, deadline: u64) -> Result<Vec<Article>, Failure> {
        let service = (Upstream::Knowledge, &self.configuration.knowledge);
        let complete = |request: RequestBuilder| request.query(&[("q", query)]).query(&[("limit", limit)]);
        let page: Option<ArticlePage> = self.ask(service, deadline, &["knowledge", "search"], complete).await?;
        Ok(page.unwrap_or_default().articles)
    }
}

fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}
