//! What the services are asked, and what becomes of their answers.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use domain::limits::{RETRIES_MAX, SERVICE_ANSWER_BYTES_MAX};
use domain::ports::StoreServices as _;
use domain::store::{ArticlePage, OrderPage, ProductPage, PromotionPage, RecommendationPage, ReviewPage};
use futures_util::stream;
use serde_json::Value;
use store_client::{ServiceConfiguration, StoreConfiguration, ValkeyConfiguration};
use testkit::samples;

use crate::clock::SkippingClock;
use crate::fake::{Fake, NOBODY, hanging_up};
use crate::{Client, KEY, World, at, failure, service, within};

/// Part of what a service says.
const SECRET: &str = "a-personal-answer";
const SHOPPER: &str = "愛子&";
const QUESTION: &str = "進撃の巨人 1巻 & 50%+?";

/// What the store's services answer, each in its own way.
fn answer(target: &str) -> Response {
    let (path, _query) = target.split_once('?').unwrap_or((target, ""));
    let page = match path.trim_start_matches("/shop/v2") {
        "/catalog/search" => to_json(&ProductPage { products: vec![samples::product("one-1")] }),
        "/catalog/products/one-1" => to_json(&samples::product("one-1")),
        "/recommendations" => {
            to_json(&RecommendationPage { recommendations: vec![samples::recommendation("three-1")] })
        }
        "/orders" => to_json(&OrderPage { orders: vec![samples::order("MC-1", SHOPPER)] }),
        "/orders/MC-1" => to_json(&samples::order("MC-1", SHOPPER)),
        "/trending" => to_json(&ProductPage { products: vec![samples::product("two-1")] }),
        "/promotions" => to_json(&PromotionPage { promotions: vec![samples::promotion("autumn")] }),
        "/products/one-1/reviews" => {
            let reviews = vec![samples::review("one-1-r1", "one-1")];
            to_json(&ReviewPage { average_rating: 4.5, count: 1, reviews })
        }
        "/knowledge/search" => to_json(&ArticlePage { articles: vec![samples::article("returns")] }),
        _unknown => return StatusCode::NOT_FOUND.into_response(),
    };
    Json(page).into_response()
}

fn to_json(page: &impl serde::Serialize) -> Value {
    serde_json::to_value(page).unwrap()
}

async fn services() -> Fake {
    Fake::start(|target| std::future::ready(answer(&target))).await
}

/// Asks everything once, and compares with what [`answer`] says.
async fn check_answers(store: &Client) {
    let product = samples::product_id("one-1");
    assert_eq!(store.search(QUESTION, 5).await.unwrap(), [samples::product("one-1")]);
    assert_eq!(store.product(&product).await.unwrap(), Some(samples::product("one-1")));
    assert_eq!(store.recommendations(None, "c-1", 3).await.unwrap(), [samples::recommendation("three-1")]);
    assert_eq!(store.recommendations(Some(SHOPPER), "c-1", 3).await.unwrap(), [samples::recommendation("three-1")]);
    assert_eq!(store.orders(SHOPPER).await.unwrap(), [samples::order("MC-1", SHOPPER)]);
    assert_eq!(store.order(SHOPPER, "MC-1").await.unwrap(), Some(samples::order("MC-1", SHOPPER)));
    assert_eq!(store.trending(4).await.unwrap(), [samples::product("two-1")]);
    assert_eq!(store.promotions().await.unwrap(), [samples::promotion("autumn")]);
    assert_eq!(store.reviews(&product, 3).await.unwrap(), [samples::review("one-1-r1", "one-1")]);
    assert_eq!(store.articles(QUESTION, 2).await.unwrap(), [samples::article("returns")]);
}

const SEARCHED: &str = "q=%E9%80%B2%E6%92%83%E3%81%AE%E5%B7%A8%E4%BA%BA+1%E5%B7%BB+%26+50%25%2B%3F";

fn expected_targets(prefix: &str) -> Vec<String> {
    [
        format!("/catalog/search?{SEARCHED}&limit=5"),
        "/catalog/products/one-1".to_owned(),
        "/recommendations?limit=3".to_owned(),
        "/recommendations?limit=3&shopper_id=%E6%84%9B%E5%AD%90%26".to_owned(),
        "/orders?shopper_id=%E6%84%9B%E5%AD%90%26".to_owned(),
        "/orders/MC-1?shopper_id=%E6%84%9B%E5%AD%90%26".to_owned(),
        "/trending?limit=4".to_owned(),
        "/promotions".to_owned(),
        "/products/one-1/reviews?limit=3".to_owned(),
        format!("/knowledge/search?{SEARCHED}&limit=2"),
    ]
    .map(|target| format!("{prefix}{target}"))
    .into()
}

#[tokio::test]
async fn services_are_asked_as_the_contract_says() {
    let services = services().await;
    check_answers(&World::new(at(&services.url)).client).await;
    assert_eq!(services.targets(), expected_targets(""));
}

#[tokio::test]
async fn a_base_url_may_have_a_path() {
    for slash in ["", "/"] {
        let services = services().await;
        check_answers(&World::new(at(&format!("{}/shop/v2{slash}", services.url))).client).await;
        assert_eq!(services.targets(), expected_targets("/shop/v2"));
    }
}

#[tokio::test]
async fn each_service_has_its_own_url_and_only_orders_see_the_key() {
    let [catalog, recommendations, orders, promotions, reviews, knowledge] =
        [services().await, services().await, services().await, services().await, services().await, services().await];
    let configuration = StoreConfiguration {
        catalog: service(&catalog.url),
        recommendations: service(&recommendations.url),
        orders: service(&orders.url),
        promotions: service(&promotions.url),
        reviews: service(&reviews.url),
        knowledge: service(&knowledge.url),
        store_key: KEY.to_owned(),
    };
    check_answers(&World::new(configuration).client).await;
    let of = |places: &[usize]| -> Vec<String> { places.iter().map(|at| expected_targets("")[*at].clone()).collect() };
    assert_eq!(catalog.targets(), of(&[0, 1, 6]));
    assert_eq!(recommendations.targets(), of(&[2, 3]));
    assert_eq!(orders.targets(), of(&[4, 5]));
    assert_eq!(promotions.targets(), of(&[7]));
    assert_eq!(reviews.targets(), of(&[8]));
    assert_eq!(knowledge.targets(), of(&[9]));
    for request in orders.asked() {
        assert_eq!(request.headers["authorization"], "Bearer a-service-key");
    }
    // Recommendations for anybody, then for a shopper.
    let shown: Vec<_> =
        recommendations.asked().iter().map(|request| request.headers.contains_key("authorization")).collect();
    assert_eq!(shown, [false, true]);
    for service in [&catalog, &promotions, &reviews, &knowledge] {
        for request in service.asked() {
            assert!(request.headers.values().all(|value| !value.to_str().unwrap().contains(KEY)), "{request:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_found_is_none_not_a_failure() {
    let empty = Fake::always(StatusCode::NOT_FOUND, r#"{"message":"no such thing"}"#).await;
    let store = World::new(at(&empty.url)).client;
    let product = samples::product_id("one-1");
    assert_eq!(store.product(&product).await.unwrap(), None);
    assert_eq!(store.search(QUESTION, 5).await.unwrap(), []);
    assert_eq!(store.recommendations(None, "c-1", 3).await.unwrap(), []);
    assert_eq!(store.orders("aiko").await.unwrap(), []);
    assert_eq!(store.order("aiko", "MC-1").await.unwrap(), None);
    assert_eq!(store.trending(3).await.unwrap(), []);
    assert_eq!(store.promotions().await.unwrap(), []);
    assert_eq!(store.reviews(&product, 3).await.unwrap(), []);
    assert_eq!(store.articles(QUESTION, 2).await.unwrap(), []);
}

/// Every call fails, and says which it was but not what was asked.
async fn check_unavailable(url: &str) {
    let clients: [Client; 9] = std::array::from_fn(|_| World::new(at(url)).client);
    let [search, look_up, recommend, trend, order, orders, promotions, reviews, articles] = &clients;
    let product = samples::product_id("one-1");
    let results = within(async {
        tokio::join!(
            search.search(QUESTION, 5),
            look_up.product(&product),
            recommend.recommendations(Some(SHOPPER), "c-1", 3),
            trend.trending(3),
            order.order(SHOPPER, "MC-1"),
            orders.orders(SHOPPER),
            promotions.promotions(),
            reviews.reviews(&product, 3),
            articles.articles(QUESTION, 2),
        )
    })
    .await;
    let failures = [
        failure(results.0),
        failure(results.1),
        failure(results.2),
        failure(results.3),
        failure(results.4),
        failure(results.5),
        failure(results.6),
        failure(results.7),
        failure(results.8),
    ];
    for failure in &failures {
        let said = format!("{failure} {failure:?}");
        for secret in [QUESTION, "%E9%80%B2", SHOPPER, "%E6%84%9B", KEY, SECRET, "one-1", "MC-1", "http://"] {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
    let mut operations = failures.map(|failure| failure.operation);
    operations.sort_unstable();
    assert!(operations.windows(2).all(|pair| pair[0] != pair[1]), "{operations:?}");
}

#[tokio::test]
async fn a_service_that_errs_or_talks_nonsense_is_unavailable() {
    let cases = [
        (StatusCode::INTERNAL_SERVER_ERROR, r#"{"products":[]}"#),
        (StatusCode::SERVICE_UNAVAILABLE, ""),
        (StatusCode::UNAUTHORIZED, r#"{"message":"needs the service key"}"#),
        (StatusCode::BAD_REQUEST, "{}"),
        (StatusCode::OK, "<html>maintenance</html>"),
        (StatusCode::OK, ""),
        (StatusCode::OK, r#"{"answer":42}"#),
        (StatusCode::OK, r#""a-personal-answer""#),
        (StatusCode::TEMPORARY_REDIRECT, ""),
    ];
    for (status, body) in cases {
        check_unavailable(&Fake::always(status, body).await.url).await;
    }
}

#[tokio::test]
async fn a_service_out_of_reach_hanging_up_or_silent_is_unavailable() {
    check_unavailable(NOBODY).await;
    let (url, _server) = hanging_up().await;
    check_unavailable(&url).await;
    let silent = Fake::silent().await;
    let configuration = StoreConfiguration {
        promotions: ServiceConfiguration { timeout_ms: 100, ..service(&silent.url) },
        ..at("http://x")
    };
    failure(within(World::with(configuration, None, SkippingClock::slower(5)).client.promotions()).await);
    assert_eq!(silent.asked().len(), 1 + RETRIES_MAX);
}

#[tokio::test]
async fn one_service_down_leaves_the_others() {
    let services = services().await;
    let store = World::new(StoreConfiguration { orders: service(NOBODY), ..at(&services.url) }).client;
    failure(within(store.orders("aiko")).await);
    assert_eq!(store.promotions().await.unwrap(), [samples::promotion("autumn")]);
}

/// A page of articles that is `bytes` long.
fn page_of(bytes: usize) -> Bytes {
    let page = r#"{"articles":[]}"#;
    Bytes::from(format!("{page}{}", " ".repeat(bytes - page.len())))
}

#[tokio::test]
async fn an_answer_may_be_so_long_and_no_longer() {
    let long = Fake::always(StatusCode::OK, page_of(SERVICE_ANSWER_BYTES_MAX)).await;
    assert_eq!(World::new(at(&long.url)).client.articles(QUESTION, 2).await.unwrap(), []);
    let longer = Fake::always(StatusCode::OK, page_of(SERVICE_ANSWER_BYTES_MAX + 1)).await;
    failure(World::new(at(&longer.url)).client.articles(QUESTION, 2).await);
    assert_eq!(longer.asked().len(), 1, "it would be as long again");
}

#[tokio::test]
async fn a_service_that_never_ends_is_cut_off() {
    let endless = Fake::start(|_| {
        let chunks = stream::repeat(Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b' '; 8 * 1024])));
        std::future::ready(Body::from_stream(chunks).into_response())
    })
    .await;
    let error = failure(within(World::new(at(&endless.url)).client.promotions()).await);
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn orders_of_somebody_else_are_never_shown() {
    let services = services().await;
    let store = World::new(at(&services.url)).client;
    assert_eq!(store.orders("ben").await.unwrap(), []);
    assert_eq!(store.order("ben", "MC-1").await.unwrap(), None);
}

#[tokio::test]
async fn what_is_no_order_id_asks_nobody() {
    let services = services().await;
    let store = World::new(at(&services.url)).client;
    for order_id in ["", ".", "..", "../promotions", "MC 1", "ＭＣ－１", &"M".repeat(65)] {
        assert_eq!(store.order(SHOPPER, order_id).await.unwrap(), None, "{order_id}");
    }
    assert_eq!(services.targets(), [""; 0]);
    assert_eq!(store.order(SHOPPER, &"M".repeat(64)).await.unwrap(), None);
    assert_eq!(services.targets().len(), 1);
}

#[test]
fn the_key_and_the_password_are_not_for_logs() {
    let valkey = ValkeyConfiguration {
        url: format!("redis://:{SECRET}@localhost"),
        username: None,
        password: Some(SECRET.to_owned()),
    };
    let shown = format!("{:?} {valkey:?}", at("http://store.example"));
    assert!(shown.contains("store.example") && !shown.contains(KEY) && !shown.contains(SECRET), "{shown}");
}
