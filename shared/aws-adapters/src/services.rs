//! The store's services, and OpenSearch in place of the one for the help articles where there is one.

use std::time::Duration;

use aws_config::SdkConfig;
use domain::breaker::{Breaker, Transition, Upstream};
use domain::ids::ProductId;
use domain::limits::SERVICE_CALL_MS;
use domain::metrics::{Measure, Metrics as _};
use domain::ports::{Clock as _, SharedHints as _, StoreServices, Unavailable};
use domain::store::{Article, Order, Product, Promotion, Recommendation, Review};
use store_client::StoreClient;

use crate::configuration::AnswerConfiguration;
use crate::{DynamoDbHints, EmbeddedMetrics, OpenSearchKnowledge, SystemClock};

type Hints = DynamoDbHints<SystemClock>;

/// What the chat asks about the store.
#[derive(Debug)]
pub struct Services {
    store: StoreClient<SystemClock, EmbeddedMetrics, Hints>,
    open_search: Option<OpenSearch>,
}

/// OpenSearch, behind a breaker as the services are.
#[derive(Debug)]
struct OpenSearch {
    knowledge: OpenSearchKnowledge<SystemClock>,
    breaker: Breaker,
    metrics: EmbeddedMetrics,
    hints: Hints,
}

impl Services {
    /// The services of a configuration.
    pub fn new(sdk: &SdkConfig, configuration: &AnswerConfiguration, metrics: EmbeddedMetrics, hints: Hints) -> Self {
        let AnswerConfiguration { store, valkey, open_search, .. } = configuration;
        let open_search = open_search.as_ref().map(|open_search| OpenSearch {
            knowledge: OpenSearchKnowledge::new(open_search.clone(), sdk, SystemClock),
            breaker: Breaker::default(),
            metrics: metrics.clone(),
            hints: hints.clone(),
        });
        Self { store: StoreClient::new(store.clone(), valkey.clone(), SystemClock, metrics, hints), open_search }
    }
}

impl OpenSearch {
    async fn articles(&self, query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        let (passage, transition) = self.breaker.enter(SystemClock.now_ms(), self.hints.breaker(Upstream::Knowledge));
        self.note(transition);
        let Some(passage) = passage else {
            self.metrics.record(Measure::spared_call(Upstream::Knowledge));
            return Err(Unavailable { operation: "search help articles", source: "the breaker is open".into() });
        };
        let within = Duration::from_millis(SERVICE_CALL_MS);
        let found = match tokio::time::timeout(within, self.knowledge.articles(query, limit)).await {
            Ok(found) => found,
            Err(late) => Err(Unavailable { operation: "search help articles", source: late.into() }),
        };
        let now = SystemClock.now_ms();
        self.note(match &found {
            Ok(_) => self.breaker.succeeded(passage, now),
            Err(_) => self.breaker.failed(passage, now),
        });
        found
    }

    fn note(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        self.metrics.record(Measure::breaker(Upstream::Knowledge, transition));
        if let Transition::Opened { until } = transition {
            self.hints.opened(Upstream::Knowledge, until);
        }
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
        match &self.open_search {
            Some(open_search) => open_search.articles(query, limit).await,
            None => self.store.articles(query, limit).await,
        }
    }
}
