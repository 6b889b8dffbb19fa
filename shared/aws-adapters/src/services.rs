//! The store's services, and OpenSearch in place of the one for the help articles where there is one.

use aws_config::SdkConfig;
use domain::ids::ProductId;
use domain::ports::{StoreServices, Unavailable};
use domain::store::{Article, Order, Product, Promotion, Recommendation, Review};
use store_client::StoreClient;

use crate::configuration::AnswerConfiguration;
use crate::{DynamoDbHints, EmbeddedMetrics, SystemClock};

/// What the chat asks about the store.
#[derive(Debug, Clone)]
pub struct Services {
    store: StoreClient<SystemClock, EmbeddedMetrics, DynamoDbHints<SystemClock>>,
}

impl Services {
    /// The services of a configuration.
    pub fn new(
        _sdk: &SdkConfig,
        configuration: &AnswerConfiguration,
        metrics: EmbeddedMetrics,
        hints: DynamoDbHints<SystemClock>,
    ) -> Self {
        let AnswerConfiguration { store, valkey, .. } = configuration;
        Self { store: StoreClient::new(store.clone(), valkey.clone(), SystemClock, metrics, hints) }
    }
}

impl StoreServices for Services {
    async fn search(&self, query: &str, limit: usize) -> Result<Vec<Product>, Unavailable> {
        self.store.search(query, limit).await
    }

    async fn product(&self, id: &ProductId) -> Result<Option<Product>, Unavailable> {
        self.store.product(id).await
    }

    async fn recommendations(
        &self,
        shopper: Option<&str>,
        session: &str,
        limit: usize,
    ) -> Result<Vec<Recommendation>, Unavailable> {
        self.store.recommendations(shopper, session, limit).await
    }

    async fn trending(&self, limit: usize) -> Result<Vec<Product>, Unavailable> {
        self.store.trending(limit).await
    }

    async fn order(&self, shopper: &str, order_id: &str) -> Result<Option<Order>, Unavailable> {
        self.store.order(shopper, order_id).await
    }

    async fn orders(&self, shopper: &str) -> Result<Vec<Order>, Unavailable> {
        self.store.orders(shopper).await
    }

    async fn promotions(&self) -> Result<Vec<Promotion>, Unavailable> {
        self.store.promotions().await
    }

    async fn reviews(&self, id: &ProductId, limit: usize) -> Result<Vec<Review>, Unavailable> {
        self.store.reviews(id, limit).await
    }

    async fn articles(&self, query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        self.store.articles(query, limit).await
    }
}
