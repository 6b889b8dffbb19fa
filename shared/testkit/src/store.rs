//! The store's services, with canned answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::ids::ProductId;
use domain::ports::{Clock as _, StoreServices, Unavailable};
use domain::store::{Article, Order, Product, Promotion, Recommendation, Review};

use crate::ManualClock;

/// A call of [`StoreServices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// [`StoreServices::search`].
    Search,
    /// [`StoreServices::product`].
    Product,
    /// [`StoreServices::recommendations`].
    Recommendations,
    /// [`StoreServices::trending`].
    Trending,
    /// [`StoreServices::order`].
    Order,
    /// [`StoreServices::orders`].
    Orders,
    /// [`StoreServices::promotions`].
    Promotions,
    /// [`StoreServices::reviews`].
    Reviews,
    /// [`StoreServices::articles`].
    Articles,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Search,
        Self::Product,
        Self::Recommendations,
        Self::Trending,
        Self::Order,
        Self::Orders,
        Self::Promotions,
        Self::Reviews,
        Self::Articles,
    ];
}

/// What the services know.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreData {
    /// What every search finds.
    pub found: Vec<Product>,
    /// What is looked up by id, with [`Self::found`].
    pub catalog: Vec<Product>,
    /// For everybody.
    pub recommendations: Vec<Recommendation>,
    /// Best sellers.
    pub trending: Vec<Product>,
    /// Of all shoppers.
    pub orders: Vec<Order>,
    /// Running now.
    pub promotions: Vec<Promotion>,
    /// Of all products.
    pub reviews: Vec<Review>,
    /// What every search finds.
    pub articles: Vec<Article>,
}

#[derive(Debug, Default)]
struct Services {
    data: StoreData,
    failing: Vec<Service>,
    latency_ms: HashMap<Service, u64>,
    tells_orders_of_others: bool,
    calls: Vec<Service>,
}

/// [`StoreServices`] that answer what a test tells them to, when it tells them to. Clones share everything.
#[derive(Debug, Clone)]
pub struct ScriptedStore {
    clock: ManualClock,
    services: Arc<Mutex<Services>>,
}

impl ScriptedStore {
    /// Services that know nothing and answer at once.
    pub fn new(clock: ManualClock) -> Self {
        Self { clock, services: Arc::default() }
    }

    /// Answers from this from now on.
    pub fn stock(&self, data: StoreData) {
        self.services.lock().unwrap().data = data;
    }

    /// Lets a service fail from now on, after its latency.
    pub fn fail(&self, service: Service) {
        self.services.lock().unwrap().failing.push(service);
    }

    /// Lets a service take this long from now on, ms.
    pub fn delay(&self, service: Service, latency_ms: u64) {
        self.services.lock().unwrap().latency_ms.insert(service, latency_ms);
    }

    /// Tells everybody everybody's orders from now on, as a service with a bug might.
    pub fn tell_orders_of_others(&self) {
        self.services.lock().unwrap().tells_orders_of_others = true;
    }

    /// The services that were asked, in order.
    pub fn calls(&self) -> Vec<Service> {
        self.services.lock().unwrap().calls.clone()
    }

    async fn call<T>(
        &self,
        service: Service,
        operation: &'static str,
        answer: impl FnOnce(&Services) -> T,
    ) -> Result<T, Unavailable> {
        let latency_ms = {
            let mut services = self.services.lock().unwrap();
            services.calls.push(service);
            services.latency_ms.get(&service).copied().unwrap_or_default()
        };
        self.clock.sleep_until(self.clock.now_ms() + latency_ms).await;
        let services = self.services.lock().unwrap();
        match services.failing.contains(&service) {
            true => Err(Unavailable { operation, source: "the script says so".into() }),
            false => Ok(answer(&services)),
        }
    }
}

impl Services {
    /// The orders that a shopper is told of.
    fn orders_of<'s>(&'s self, shopper: &'s str) -> impl Iterator<Item = &'s Order> {
        self.data.orders.iter().filter(move |order| self.tells_orders_of_others || order.shopper_id == shopper)
    }
}

fn first<T: Clone>(items: &[T], limit: usize) -> Vec<T> {
    items.iter().take(limit).cloned().collect()
}

impl StoreServices for ScriptedStore {
    async fn search(&self, _query: &str, limit: usize) -> Result<Vec<Product>, Unavailable> {
        self.call(Service::Search, "search", |services| first(&services.data.found, limit)).await
    }

    async fn product(&self, id: &ProductId) -> Result<Option<Product>, Unavailable> {
        let id = id.as_str();
        self.call(Service::Product, "product", |services| {
            services.data.catalog.iter().chain(&services.data.found).find(|product| product.product_id == id).cloned()
        })
        .await
    }

    async fn recommendations(
        &self,
        _shopper: Option<&str>,
        _session: &str,
        limit: usize,
    ) -> Result<Vec<Recommendation>, Unavailable> {
        self.call(Service::Recommendations, "recommendations", |services| first(&services.data.recommendations, limit))
            .await
    }

    async fn trending(&self, limit: usize) -> Result<Vec<Product>, Unavailable> {
        self.call(Service::Trending, "trending", |services| first(&services.data.trending, limit)).await
    }

    async fn order(&self, shopper: &str, order_id: &str) -> Result<Option<Order>, Unavailable> {
        self.call(Service::Order, "order", |services| {
            services.orders_of(shopper).find(|order| order.order_id == order_id).cloned()
        })
        .await
    }

    async fn orders(&self, shopper: &str) -> Result<Vec<Order>, Unavailable> {
        self.call(Service::Orders, "orders", |services| services.orders_of(shopper).cloned().collect()).await
    }

    async fn promotions(&self) -> Result<Vec<Promotion>, Unavailable> {
        self.call(Service::Promotions, "promotions", |services| services.data.promotions.clone()).await
    }

    async fn reviews(&self, id: &ProductId, limit: usize) -> Result<Vec<Review>, Unavailable> {
        let id = id.as_str();
        self.call(Service::Reviews, "reviews", |services| {
            services.data.reviews.iter().filter(|review| review.product_id == id).take(limit).cloned().collect()
        })
        .await
    }

    async fn articles(&self, _query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        self.call(Service::Articles, "articles", |services| first(&services.data.articles, limit)).await
    }
}
