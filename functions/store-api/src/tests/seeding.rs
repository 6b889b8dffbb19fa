//! The sample data is written when it is not there, and only then.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use domain::store::{Bilingual, Offer, Product};
use serde_json::{Value, json};
use testkit::{ManualClock, START_MS};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::engine::{Engine, Flaky, TABLE, TestStore, client, environment};
use crate::dynamodb::DynamoDbTable;
use crate::seed::{self, Seed};
use crate::table::{Facts, HelpArticle, StoreTable as _};

async fn health(router: &Router) -> StatusCode {
    let request = Request::get("/health").body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn the_first_request_writes_all_of_it() {
    let store = TestStore::start().await;
    assert_eq!(store.get("/health").await, (StatusCode::OK, json!({ "status": "ok" })));
    let seed = Seed::read(START_MS).unwrap();
    let table = store.engine.table();
    assert_eq!(table.seeded().await.unwrap(), Some(seed.digest));
    let mut facts = table.facts().await.unwrap();
    let mut expected = seed.facts;
    facts.series.sort_by(|a, b| a.series_id.cmp(&b.series_id));
    expected.series.sort_by(|a, b| a.series_id.cmp(&b.series_id));
    assert_eq!(facts.series, expected.series);
    assert_eq!(facts.reviews.len(), expected.reviews.len());
    for product in &seed.offers {
        let id = product.product_id.as_str();
        assert_eq!(table.offers(&[id]).await.unwrap().get(id), Some(product));
    }
}

#[tokio::test]
async fn later_environments_leave_it_alone() {
    let store = TestStore::start().await;
    let product: Product = store.ask("/catalog/products/frieren-1").await;
    store.engine.set_offer("frieren-1", "stock", 77).await;
    for _ in 0..2 {
        let router = environment(store.table.clone(), store.clock.clone());
        assert_eq!(health(&router).await, StatusCode::OK);
    }
    assert_eq!(store.table.seedings.load(Ordering::SeqCst), 1);
    let changed: Product = store.ask("/catalog/products/frieren-1").await;
    assert_eq!(changed.offer, Some(Offer { stock: 77, ..product.offer.unwrap() }));
}

#[tokio::test]
async fn data_of_another_digest_is_replaced() {
    let store = TestStore::start().await;
    let mut other = Seed::read(START_MS).unwrap();
    other.digest = "another".to_owned();
    for offer in &mut other.offers {
        offer.price_jpy = 1;
    }
    store.engine.table().seed(&other).await.unwrap();
    let product: Product = store.ask("/catalog/products/frieren-1").await;
    assert_ne!(product.offer.unwrap().price.amount, 1);
    assert_eq!(store.engine.table().seeded().await.unwrap(), Some(seed::digest()));
}

#[tokio::test]
async fn many_environments_may_start_at_once() {
    let engine = Engine::start().await;
    let table = Flaky::new(engine.table());
    let clock = ManualClock::new();
    let environments: Vec<Router> = (0..3).map(|_| environment(table.clone(), clock.clone())).collect();
    let requests = environments.iter().flat_map(|router| [health(router), health(router)]);
    let answers = futures_util::future::join_all(requests).await;
    assert_eq!(answers, [StatusCode::OK; 6]);
    let seed = Seed::read(START_MS).unwrap();
    let Facts { series, reviews, campaigns, articles } = &seed.facts;
    let expected = series.len()
        + reviews.len()
        + campaigns.len()
        + articles.len()
        + seed.offers.len()
        + seed.shoppers.len()
        + seed.orders.len();
    assert_eq!(engine.items().await, expected + 1);
    assert!(table.seedings.load(Ordering::SeqCst) <= 3, "each environment writes it once at the most");
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let store = TestStore::start().await;
    store.table.failing.store(true, Ordering::SeqCst);
    assert_eq!(store.get("/health").await.0, StatusCode::SERVICE_UNAVAILABLE);
    store.table.failing.store(false, Ordering::SeqCst);
    assert_eq!(store.get("/health").await.0, StatusCode::OK);
}

/// A DynamoDB that leaves the last item of a batch unprocessed, the first few times.
#[derive(Clone)]
struct Reluctant {
    refusals: Arc<AtomicU32>,
    /// Articles or `marker`, in the order they were taken.
    written: Arc<Mutex<Vec<String>>>,
    requests: Arc<AtomicU32>,
}

async fn take(State(table): State<Reluctant>, body: String) -> Json<Value> {
    table.requests.fetch_add(1, Ordering::SeqCst);
    let request: Value = serde_json::from_str(&body).unwrap();
    let refused = table.refusals.load(Ordering::SeqCst) > 0;
    if refused {
        table.refusals.fetch_sub(1, Ordering::SeqCst);
    }
    if let Some(keys) = request.pointer(&format!("/RequestItems/{TABLE}/Keys")) {
        let (first, rest) = keys.as_array().unwrap().split_first().unwrap();
        let id = first["pk"]["S"].as_str().unwrap().trim_start_matches("product#");
        let offer = json!({ "product_id": { "S": id }, "price_jpy": { "N": "500" }, "stock": { "N": "1" } });
        let left = if refused { rest } else { &[] };
        let left = if left.is_empty() { json!({}) } else { json!({ TABLE: { "Keys": left } }) };
        return Json(json!({ "Responses": { TABLE: [offer] }, "UnprocessedKeys": left }));
    }
    let items = request["RequestItems"][TABLE].as_array().unwrap();
    let (taken, left) = items.split_at(items.len() - usize::from(refused));
    let names = taken.iter().map(|item| item["PutRequest"]["Item"]["sk"]["S"].as_str().unwrap().to_owned());
    table.written.lock().unwrap().extend(names);
    let left = if left.is_empty() { json!({}) } else { json!({ TABLE: left }) };
    Json(json!({ "UnprocessedItems": left }))
}

async fn reluctant(refusals: u32) -> (Reluctant, DynamoDbTable, JoinSet<()>) {
    let reluctant =
        Reluctant { refusals: Arc::new(refusals.into()), written: Arc::default(), requests: Arc::default() };
    let router = Router::new().route("/", post(take)).with_state(reluctant.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let client = client(listener.local_addr().unwrap().port());
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (reluctant, DynamoDbTable::new(client, TABLE), server)
}

fn two_articles() -> Seed {
    let text = Bilingual { ja: "題".to_owned(), en: "title".to_owned() };
    let article = |id: &str| HelpArticle {
        article_id: id.to_owned(),
        title: text.clone(),
        keywords: Vec::new(),
        body: text.clone(),
    };
    Seed {
        digest: "digest".to_owned(),
        facts: Facts { articles: vec![article("a"), article("b")], ..Facts::default() },
        offers: Vec::new(),
        shoppers: Vec::new(),
        orders: Vec::new(),
    }
}

#[tokio::test]
async fn what_is_left_unprocessed_is_written_again_and_the_marker_last() {
    let (log, table, _server) = reluctant(3).await;
    table.seed(&two_articles()).await.unwrap();
    assert_eq!(*log.written.lock().unwrap(), ["a", "b", "marker"]);
    assert_eq!(log.requests.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn writing_ends_after_six_attempts_and_leaves_no_marker() {
    let (log, table, _server) = reluctant(u32::MAX).await;
    let error = table.seed(&two_articles()).await.unwrap_err();
    assert_eq!(error.to_string(), "write sample data failed: still unprocessed after 6 attempts");
    assert_eq!(*log.written.lock().unwrap(), ["a"]);
    assert_eq!(log.requests.load(Ordering::SeqCst), 6);
}

#[tokio::test]
async fn what_is_left_unread_is_read_again() {
    let (log, table, _server) = reluctant(2).await;
    let offers = table.offers(&["one", "two", "three"]).await.unwrap();
    assert_eq!(offers.len(), 3);
    assert_eq!(log.requests.load(Ordering::SeqCst), 3);
}
