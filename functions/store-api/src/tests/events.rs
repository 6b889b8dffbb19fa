//! The sample events, taken in and answered as the function does it.

use domain::store::{ArticlePage, OfferPage, OrderPage, Product, ProductPage, RecommendationPage};
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Context, LambdaEvent, service_fn};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;

use super::engine::{SERVICE_KEY, TestStore};
use crate::http;

async fn answer<T: DeserializeOwned>(store: &TestStore, event: &str) -> T {
    let request: LambdaRequest = serde_json::from_str(event).unwrap();
    let function = Adapter::from(service_fn(|request| http::answer(store.router.clone(), request)));
    let answer = function.oneshot(LambdaEvent::new(request, Context::default())).await.unwrap();
    let answer = serde_json::to_value(answer).unwrap();
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(answer["isBase64Encoded"], false);
    assert_eq!(answer["headers"]["content-type"], "application/json");
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

macro_rules! event {
    ($name:literal) => {
        include_str!(concat!("../../../../events/store-api/", $name, ".json"))
    };
}

#[tokio::test]
async fn sample_events_are_answered() {
    let store = TestStore::start().await;
    let found: ProductPage = answer(&store, event!("search-ja")).await;
    assert_eq!(found.products.first().unwrap().product_id, "one-piece-1");
    let found: ProductPage = answer(&store, event!("search-en")).await;
    assert_eq!(found.products.first().unwrap().product_id, "slam-dunk-2");
    let product: Product = answer(&store, event!("product")).await;
    assert_eq!(product.product_id, "frieren-1");
    let offers: OfferPage = answer(&store, event!("offers")).await;
    assert_eq!(offers.offers.len(), 2);
    let orders: OrderPage = answer(&store, event!("orders")).await;
    assert!(!orders.orders.is_empty());
    let trending: ProductPage = answer(&store, event!("trending")).await;
    assert_eq!(trending.products.len(), 5);
    let recommendations: RecommendationPage = answer(&store, event!("recommendations")).await;
    assert_eq!(recommendations.recommendations.len(), 5);
    let articles: ArticlePage = answer(&store, event!("knowledge")).await;
    assert_eq!(articles.articles.first().unwrap().article_id, "returns");
}

#[test]
fn the_samples_know_the_key_of_their_environment() {
    let environment: Value = serde_json::from_str(include_str!("../../../../events/env.json")).unwrap();
    assert_eq!(environment["Parameters"]["STORE_KEY"], SERVICE_KEY);
}
