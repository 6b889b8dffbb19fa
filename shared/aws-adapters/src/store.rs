//! The store's services, by HTTP. The contract is [`domain::store`].

use std::sync::OnceLock;
use std::time::Duration;

use domain::ids::ProductId;
use domain::ports::{StoreServices, Unavailable};
use domain::prompt::cut;
use domain::store::{
    Article, ArticlePage, Order, OrderPage, Product, ProductPage, Promotion, PromotionPage, Recommendation,
    RecommendationPage, Review, ReviewPage, SEARCH_TEXT_CHARS_MAX,
};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use crate::configuration::StoreConfiguration;
use crate::table::unavailable;

/// Making a connection.
const CONNECT_MS: u64 = 500;

/// A whole answer; the turn's own deadline for the store is a little later.
const ANSWER_MS: u64 = 1_400;

/// The part of a question the services search with: the rest of a long one would not fit their URLs.
fn searched(question: &str) -> &str {
    cut(question, SEARCH_TEXT_CHARS_MAX)
}

/// The store's services behind their URLs, with one pool of connections.
#[derive(Debug, Clone)]
pub struct HttpStore {
    configuration: StoreConfiguration,
    client: OnceLock<Client>,
}

impl HttpStore {
    /// The services where the configuration says they are.
    pub fn new(configuration: StoreConfiguration) -> Self {
        Self { configuration, client: OnceLock::new() }
    }

    /// A request to a service. The client is made with the first: reading the root certificates would be half of a cold
    /// start, and meanwhile admission is under way.
    fn get(&self, base_url: &str, path: &[&str]) -> Result<RequestBuilder, Unavailable> {
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let client = Client::builder()
                    .connect_timeout(Duration::from_millis(CONNECT_MS))
                    .timeout(Duration::from_millis(ANSWER_MS))
                    .build()
                    .map_err(unavailable("make HTTP client"))?;
                self.client.get_or_init(|| client)
            }
        };
        let mut url = reqwest::Url::parse(base_url).map_err(unavailable("read service URL"))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Ok(client.get(url))
    }
}

async fn ask<T: DeserializeOwned>(operation: &'static str, request: RequestBuilder) -> Result<Option<T>, Unavailable> {
    // A URL holds what the shopper asked, which is not for logs.
    let failed = |error: reqwest::Error| unavailable(operation)(error.without_url());
    let answer = request.send().await.map_err(failed)?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let answer = answer.error_for_status().map_err(failed)?;
    answer.json().await.map(Some).map_err(failed)
}

impl StoreServices for HttpStore {
    async fn search(&self, query: &str, limit: usize) -> Result<Vec<Product>, Unavailable> {
        let request = self.get(&self.configuration.catalog_url, &["catalog", "search"])?;
        let request = request.query(&[("q", searched(query)), ("limit", &limit.to_string())]);
        let page: Option<ProductPage> = ask("search the catalog", request).await?;
        Ok(page.unwrap_or_default().products)
    }

    async fn product(&self, id: &ProductId) -> Result<Option<Product>, Unavailable> {
        ask("look up a product", self.get(&self.configuration.catalog_url, &["catalog", "products", id.as_str()])?)
            .await
    }

    async fn recommendations(&self, shopper: Option<&str>, limit: usize) -> Result<Vec<Recommendation>, Unavailable> {
        let mut request = self.get(&self.configuration.recommendations_url, &["recommendations"])?;
        request = request.query(&[("limit", limit.to_string())]);
        if let Some(shopper) = shopper {
            request = request.bearer_auth(&self.configuration.store_key).query(&[("shopper_id", shopper)]);
        }
        let page: Option<RecommendationPage> = ask("ask for recommendations", request).await?;
        Ok(page.unwrap_or_default().recommendations)
    }

    async fn orders(&self, shopper: &str) -> Result<Vec<Order>, Unavailable> {
        let request = self.get(&self.configuration.orders_url, &["orders"])?;
        let request = request.bearer_auth(&self.configuration.store_key).query(&[("shopper_id", shopper)]);
        let page: Option<OrderPage> = ask("look up orders", request).await?;
        Ok(page.unwrap_or_default().orders)
    }

    async fn promotions(&self) -> Result<Vec<Promotion>, Unavailable> {
        let request = self.get(&self.configuration.promotions_url, &["promotions"])?;
        let page: Option<PromotionPage> = ask("ask for promotions", request).await?;
        Ok(page.unwrap_or_default().promotions)
    }

    async fn reviews(&self, id: &ProductId, limit: usize) -> Result<Vec<Review>, Unavailable> {
        let request = self.get(&self.configuration.reviews_url, &["products", id.as_str(), "reviews"])?;
        let page: Option<ReviewPage> = ask("read reviews", request.query(&[("limit", limit.to_string())])).await?;
        Ok(page.unwrap_or_default().reviews)
    }

    async fn articles(&self, query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        let request = self.get(&self.configuration.knowledge_url, &["knowledge", "search"])?;
        let request = request.query(&[("q", searched(query)), ("limit", &limit.to_string())]);
        let page: Option<ArticlePage> = ask("search help articles", request).await?;
        Ok(page.unwrap_or_default().articles)
    }
}
