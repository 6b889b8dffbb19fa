//! A small store whose prices never stand still, and which can be down or slow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse as _, Response};
use domain::limits::CACHE_STALE_MS;
use domain::ports::Clock as _;
use domain::store::{
    ArticlePage, Offer, OfferPage, OrderPage, Price, Product, ProductOffer, ProductPage, Promotion, PromotionPage,
    Recommendation, RecommendationPage, Review, ReviewPage,
};
use reqwest::Url;
use serde::Serialize;
use testkit::{START_MS, samples};

use crate::clock::SkippingClock;
use crate::fake::Fake;

/// The part of it that a test moves.
#[derive(Debug, Default)]
pub struct Mood {
    pub down: AtomicBool,
    pub offers_down: AtomicBool,
    pub latency_ms: AtomicU64,
    /// Counts up with every offer.
    price: AtomicU64,
    /// Is not sold any more.
    pub withdrawn: Mutex<Option<String>>,
    /// What the first review says.
    pub review: Mutex<String>,
}

pub struct Shop {
    pub fake: Fake,
    pub mood: Arc<Mood>,
}

impl Shop {
    pub async fn open(clock: SkippingClock) -> Self {
        let mood = Arc::new(Mood::default());
        let its = Arc::clone(&mood);
        let fake = Fake::start(move |target| {
            let (mood, clock) = (Arc::clone(&its), clock.clone());
            async move {
                tokio::time::sleep(Duration::from_millis(mood.latency_ms.load(Ordering::SeqCst))).await;
                mood.answer(&target, &clock)
            }
        })
        .await;
        Self { fake, mood }
    }

    pub fn break_down(&self, down: bool) {
        self.mood.down.store(down, Ordering::SeqCst);
    }
}

impl Mood {
    fn offer(&self, clock: &SkippingClock) -> Offer {
        let amount = self.price.fetch_add(1, Ordering::SeqCst);
        Offer { price: Price { amount, currency: "JPY".to_owned() }, stock: 3, as_of: clock.now_ms() }
    }

    fn product(&self, id: &str, clock: &SkippingClock) -> Product {
        Product { offer: Some(self.offer(clock)), ..samples::product(id) }
    }

    fn products(&self, limit: usize, clock: &SkippingClock) -> Vec<Product> {
        (1..=limit).map(|number| self.product(&format!("one-{number}"), clock)).collect()
    }

    fn answer(&self, target: &str, clock: &SkippingClock) -> Response {
        let url = Url::parse(&format!("http://shop{target}")).unwrap();
        let parameter = |name: &str| {
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
        };
        if self.down.load(Ordering::SeqCst) {
            return down();
        }
        let limit = parameter("limit").parse().unwrap_or(10);
        let nothing = parameter("q").contains("nothing");
        let path = url.path();
        if let Some(id) = path.strip_prefix("/catalog/products/") {
            if id == "nothing" {
                return StatusCode::NOT_FOUND.into_response();
            }
            return page(&self.product(id, clock));
        }
        match path {
            "/catalog/search" if nothing => page(&ProductPage::default()),
            "/catalog/search" => page(&ProductPage { products: self.products(limit, clock) }),
            "/trending" => page(&ProductPage { products: self.products(limit, clock) }),
            "/catalog/offers" if self.offers_down.load(Ordering::SeqCst) => down(),
            "/catalog/offers" => {
                let withdrawn = self.withdrawn.lock().unwrap().clone();
                let ids = parameter("product_ids");
                let sold = ids.split(',').filter(|id| Some(*id) != withdrawn.as_deref());
                let offers =
                    sold.map(|id| ProductOffer { product_id: id.to_owned(), offer: self.offer(clock) }).collect();
                page(&OfferPage { offers })
            }
            "/recommendations" => {
                let reason = samples::bilingual("why");
                let products = self.products(limit, clock).into_iter();
                let recommendations =
                    products.map(|product| Recommendation { product, reason: reason.clone() }).collect();
                page(&RecommendationPage { recommendations })
            }
            "/orders" => {
                let shopper = parameter("shopper_id");
                page(&OrderPage { orders: vec![samples::order("MC-1", &shopper)] })
            }
            "/orders/MC-1" => page(&samples::order("MC-1", &parameter("shopper_id"))),
            "/promotions" => {
                let promotion = Promotion { ends_at: START_MS + CACHE_STALE_MS / 2, ..samples::promotion("autumn") };
                page(&PromotionPage { promotions: vec![promotion] })
            }
            "/products/one-1/reviews" => {
                let text = self.review.lock().unwrap().clone();
                let reviews = vec![Review { text, ..samples::review("one-1-r1", "one-1") }; limit];
                page(&ReviewPage { average_rating: 4.5, count: 1, reviews })
            }
            "/knowledge/search" if nothing => page(&ArticlePage::default()),
            "/knowledge/search" => page(&ArticlePage { articles: vec![samples::article("returns"); limit] }),
            _unknown => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// Until further notice: who asks does not try again.
fn down() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "60")]).into_response()
}

fn page(page: &impl Serialize) -> Response {
    Json(serde_json::to_value(page).unwrap()).into_response()
}
