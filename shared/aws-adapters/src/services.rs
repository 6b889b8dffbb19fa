//! The store's services, and OpenSearch in place of the one for the help articles where there is one.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use domain::breaker::Upstream;
use domain::guard;
use domain::ids::ProductId;
use domain::limits::SERVICE_CALL_MS;
use domain::ports::{StoreServices, Unavailable};
use domain::store::{Article, Order, Product, Promotion, Recommendation, Review};
use store_client::StoreClient;

use crate::configuration::AnswerConfiguration;
use crate::{DynamoDbHints, EmbeddedMetrics, OpenSearchKnowledge, SystemClock};

pub(crate) type Hints = DynamoDbHints<SystemClock>;

/// The breakers of an execution environment, in front of the services and the models.
pub type Guard = guard::Guard<SystemClock, EmbeddedMetrics, Hints>;

/// What the chat asks about the store.
#[derive(Debug)]
pub struct Services {
    store: StoreClient<SystemClock, EmbeddedMetrics, Hints>,
    open_search: Option<OpenSearch>,
}

/// OpenSearch, guarded as the services are.
#[derive(Debug)]
struct OpenSearch {
    knowledge: OpenSearchKnowledge<SystemClock>,
    guard: Arc<Guard>,
}

impl Services {
    /// The services of a configuration.
    pub fn new(sdk: &SdkConfig, configuration: &AnswerConfiguration, guard: Arc<Guard>) -> Self {
        let AnswerConfiguration { store, valkey, open_search, .. } = configuration;
        let open_search = open_search.as_ref().map(|open_search| OpenSearch {
            knowledge: OpenSearchKnowledge::new(open_search.clone(), sdk, SystemClock),
            guard: Arc::clone(&guard),
        });
        Self { store: StoreClient::new(store.clone(), valkey.clone(), guard), open_search }
    }
}

impl OpenSearch {
    async fn articles(&self, query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        let Some(passage) = self.guard.enter(Upstream::Knowledge) else {
            return Err(Unavailable { operation: "search help articles", source: "the breaker is open".into() });
        };
        let within = Duration::from_millis(SERVICE_CALL_MS);
        let found = match tokio::time::timeout(within, self.knowledge.articles(query, limit)).await {
            Ok(found) => found,
            Err(late) => Err(Unavailable { operation: "search help articles", source: late.into() }),
        };
        match &found {
            Ok(_) => self.guard.succeeded(Upstream::Knowledge, passage),
            Err(_) => self.guard.failed(Upstream::Knowledge, passage),
        }
        found
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
