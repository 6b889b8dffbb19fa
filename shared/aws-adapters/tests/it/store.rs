//! `HttpStore` against services of a test's making.

use aws_adapters::HttpStore;
use aws_adapters::configuration::StoreConfiguration;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use domain::ports::StoreServices;
use domain::store::{ArticlePage, OrderPage, ProductPage, PromotionPage, RecommendationPage, ReviewPage};
use serde_json::Value;
use testkit::samples;

use crate::fake::{Fake, Request, nobody};
use crate::{failure, within};

const KEY: &str = "a-service-key";
const QUESTION: &str = "進撃の巨人 1巻 & 50%+?";

/// What the store's services answer, each in its own way.
fn answer(request: &Request) -> Response {
    let (path, _query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let page = match path.trim_start_matches("/shop/v2") {
        "/catalog/search" => to_json(&ProductPage { products: vec![samples::product("one-1")] }),
        "/catalog/products/one-1" => to_json(&samples::product("one-1")),
        "/recommendations" => {
            to_json(&RecommendationPage { recommendations: vec![samples::recommendation("three-1")] })
        }
        "/orders" => to_json(&OrderPage { orders: vec![samples::order("MC-1", "aiko")] }),
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
    Fake::start(|request| std::future::ready(Some(answer(&request)))).await
}

/// All services at one URL.
fn at(url: &str) -> StoreConfiguration {
    StoreConfiguration {
        catalog_url: url.to_owned(),
        recommendations_url: url.to_owned(),
        orders_url: url.to_owned(),
        promotions_url: url.to_owned(),
        reviews_url: url.to_owned(),
        knowledge_url: url.to_owned(),
        store_key: KEY.to_owned(),
    }
}

/// Asks everything once, and compares with what [`answer`] says.
async fn check_answers(store: &HttpStore) {
    let product = samples::product_id("one-1");
    assert_eq!(store.search(QUESTION, 5).await.unwrap(), [samples::product("one-1")]);
    assert_eq!(store.product(&product).await.unwrap(), Some(samples::product("one-1")));
    assert_eq!(store.recommendations(None, 3).await.unwrap(), [samples::recommendation("three-1")]);
    assert_eq!(store.recommendations(Some("愛子&"), 3).await.unwrap(), [samples::recommendation("three-1")]);
    assert_eq!(store.orders("愛子&").await.unwrap(), [samples::order("MC-1", "aiko")]);
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
        "/promotions".to_owned(),
        "/products/one-1/reviews?limit=3".to_owned(),
        format!("/knowledge/search?{SEARCHED}&limit=2"),
    ]
    .map(|target| format!("{prefix}{target}"))
    .into()
}

fn targets(service: &Fake) -> Vec<String> {
    service.requests().into_iter().map(|request| request.target).collect()
}

#[tokio::test]
async fn services_are_asked_as_the_contract_says() {
    let services = services().await;
    check_answers(&HttpStore::new(at(&services.url))).await;
    assert_eq!(targets(&services), expected_targets(""));
}

#[tokio::test]
async fn a_base_url_may_have_a_path() {
    for slash in ["", "/"] {
        let services = services().await;
        check_answers(&HttpStore::new(at(&format!("{}/shop/v2{slash}", services.url)))).await;
        assert_eq!(targets(&services), expected_targets("/shop/v2"));
    }
}

#[tokio::test]
async fn each_service_has_its_own_url_and_only_orders_see_the_key() {
    let [catalog, recommendations, orders, promotions, reviews, knowledge] =
        [services().await, services().await, services().await, services().await, services().await, services().await];
    let configuration = StoreConfiguration {
        catalog_url: catalog.url.clone(),
        recommendations_url: recommendations.url.clone(),
        orders_url: orders.url.clone(),
        promotions_url: promotions.url.clone(),
        reviews_url: reviews.url.clone(),
        knowledge_url: knowledge.url.clone(),
        store_key: KEY.to_owned(),
    };
    check_answers(&HttpStore::new(configuration)).await;
    let expected = expected_targets("");
    let places = [
        (&catalog, &expected[0..2]),
        (&recommendations, &expected[2..4]),
        (&orders, &expected[4..5]),
        (&promotions, &expected[5..6]),
        (&reviews, &expected[6..7]),
        (&knowledge, &expected[7..8]),
    ];
    for (service, expected) in places {
        assert_eq!(targets(service), expected);
    }
    assert_eq!(orders.requests()[0].header("authorization"), Some("Bearer a-service-key"));
    // Recommendations for anybody, then for a shopper.
    let shown: Vec<_> =
        recommendations.requests().iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(shown, [false, true]);
    for service in [&catalog, &promotions, &reviews, &knowledge] {
        for request in service.requests() {
            assert!(request.headers.values().all(|value| !value.to_str().unwrap().contains(KEY)), "{request:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_found_is_none_not_a_failure() {
    let empty = Fake::always(StatusCode::NOT_FOUND, r#"{"message":"no such thing"}"#).await;
    let store = HttpStore::new(at(&empty.url));
    let product = samples::product_id("one-1");
    assert_eq!(store.product(&product).await.unwrap(), None);
    assert_eq!(store.search(QUESTION, 5).await.unwrap(), []);
    assert_eq!(store.recommendations(None, 3).await.unwrap(), []);
    assert_eq!(store.orders("aiko").await.unwrap(), []);
    assert_eq!(store.promotions().await.unwrap(), []);
    assert_eq!(store.reviews(&product, 3).await.unwrap(), []);
    assert_eq!(store.articles(QUESTION, 2).await.unwrap(), []);
}

/// Every call fails, and says which it was.
async fn check_unavailable(url: &str) {
    let store = HttpStore::new(at(url));
    let product = samples::product_id("one-1");
    let failures = within(async {
        [
            failure(store.search(QUESTION, 5).await),
            failure(store.product(&product).await),
            failure(store.recommendations(None, 3).await),
            failure(store.orders("aiko").await),
            failure(store.promotions().await),
            failure(store.reviews(&product, 3).await),
            failure(store.articles(QUESTION, 2).await),
        ]
    })
    .await;
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
    ];
    for (status, body) in cases {
        check_unavailable(&Fake::always(status, body).await.url).await;
    }
}

#[tokio::test]
async fn a_service_out_of_reach_hanging_up_or_silent_is_unavailable() {
    check_unavailable(&nobody().await).await;
    check_unavailable(&Fake::start(|_| std::future::ready(None)).await.url).await;
    let silent = Fake::silent().await;
    failure(within(HttpStore::new(at(&silent.url)).promotions()).await);
    assert_eq!(silent.requests().len(), 1, "the turn has no time for a second attempt");
}

#[tokio::test]
async fn one_service_down_leaves_the_others() {
    let services = services().await;
    let store = HttpStore::new(StoreConfiguration { orders_url: nobody().await, ..at(&services.url) });
    failure(within(store.orders("aiko")).await);
    assert_eq!(store.promotions().await.unwrap(), [samples::promotion("autumn")]);
}
