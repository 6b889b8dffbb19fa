//! Every request of the contract, well formed and not.

use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use domain::ports::Clock as _;
use domain::store::{
    Article, ArticlePage, Format, OFFERS_MAX, OfferPage, Order, OrderPage, OrderStatus, PAGE_ENTRIES_MAX, Product,
    ProductPage, PromotionPage, RecommendationPage, ReviewPage, SEARCH_TEXT_CHARS_MAX,
};
use serde_json::json;

use super::engine::{PAGE_URL, SERVICE_KEY, TestStore};
use crate::http::{ID_BYTES_MAX, PAGE_ENTRIES_DEFAULT};
use crate::seed::Seed;
use crate::store::FACTS_TTL_MS;
use crate::table::{PlacedOrder, StoreTable as _};

#[tokio::test]
async fn a_search_finds_the_volume_that_is_asked_for() {
    let store = TestStore::start().await;
    // ワンピース3巻
    let page: ProductPage =
        store.ask("/catalog/search?q=%E3%83%AF%E3%83%B3%E3%83%94%E3%83%BC%E3%82%B93%E5%B7%BB&limit=2").await;
    let ids: Vec<&str> = page.products.iter().map(|product| product.product_id.as_str()).collect();
    assert_eq!(ids, ["one-piece-3", "one-piece-3-digital"]);
    let page: ProductPage = store.ask("/catalog/search?q=slam%20dunk&limit=3").await;
    assert_eq!(page.products.len(), 3);
    assert!(page.products.iter().all(|product| product.series_id == "slam-dunk"));
    let page: ProductPage = store.ask("/catalog/search?q=qwertyuiop").await;
    assert_eq!(page.products, []);
}

#[tokio::test]
async fn a_product_is_answered_in_full() {
    let store = TestStore::start().await;
    let product: Product = store.ask("/catalog/products/demon-slayer-1").await;
    assert_eq!(product.title.ja, "鬼滅の刃 1");
    assert_eq!(product.title.en, "Demon Slayer: Kimetsu no Yaiba, Vol. 1");
    assert_eq!((product.volume, product.format, product.volumes_published), (Some(1), Format::Paperback, 23));
    let offer = product.offer.as_ref().unwrap();
    assert_eq!((offer.price.amount, offer.price.currency.as_str()), (484, "JPY"));
    assert_eq!((product.age_rating.as_str(), product.series_id.as_str()), ("teen", "demon-slayer"));
    assert_eq!(product.url, format!("{PAGE_URL}/products/demon-slayer-1"));
    assert_eq!(offer.as_of, store.clock.now_ms());
    let boxed: Product = store.ask("/catalog/products/demon-slayer-box").await;
    assert_eq!((boxed.volume, boxed.format), (None, Format::BoxSet));
    assert_eq!(store.get("/catalog/products/demon-slayer-999").await.0, StatusCode::NOT_FOUND);
}

/// I7: prices and stock are those of the table when the answer is made.
#[tokio::test]
async fn prices_and_stock_are_read_for_every_answer() {
    let store = TestStore::start().await;
    let before: Product = store.ask("/catalog/products/frieren-1").await;
    let before = before.offer.unwrap();
    store.engine.set_offer("frieren-1", "stock", u64::from(before.stock) + 5).await;
    store.engine.set_offer("frieren-1", "price_jpy", before.price.amount + 100).await;
    store.clock.advance(1);
    let after: Product = store.ask("/catalog/products/frieren-1").await;
    let offer = after.offer.clone().unwrap();
    assert_eq!((offer.stock, offer.price.amount), (before.stock + 5, before.price.amount + 100));
    assert_eq!(offer.as_of, before.as_of + 1);
    let found: ProductPage = store.ask("/catalog/search?q=frieren%201").await;
    assert_eq!(found.products.first(), Some(&after));
    assert_eq!(store.table.readings.load(Ordering::SeqCst), 1, "the facts came from memory");
    store.engine.delete("product#frieren-1", "offer").await;
    assert_eq!(store.get("/catalog/products/frieren-1").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn facts_are_kept_for_their_time_and_served_stale_when_the_table_fails() {
    let store = TestStore::start().await;
    let article = "/knowledge/articles/returns";
    let _: Article = store.ask(article).await;
    store.engine.delete("article", "returns").await;
    store.clock.advance(FACTS_TTL_MS - 1);
    let _: Article = store.ask(article).await;
    assert_eq!(store.table.readings.load(Ordering::SeqCst), 1);
    store.clock.advance(1);
    store.table.failing.store(true, Ordering::SeqCst);
    let _: Article = store.ask(article).await;
    store.table.failing.store(false, Ordering::SeqCst);
    assert_eq!(store.get(article).await.0, StatusCode::NOT_FOUND);
    assert_eq!(store.table.readings.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn offers_are_those_of_the_products_that_are_sold_as_they_are_now() {
    let store = TestStore::start().await;
    let _: OfferPage = store.ask("/catalog/offers?product_ids=nana-1").await;
    store.engine.set_offer("nana-1", "stock", 7).await;
    let page: OfferPage = store.ask("/catalog/offers?product_ids=nana-1,unknown,one-piece-1,nana-1").await;
    let ids: Vec<&str> = page.offers.iter().map(|offer| offer.product_id.as_str()).collect();
    assert_eq!(ids, ["nana-1", "one-piece-1"]);
    assert_eq!(page.offers.first().unwrap().offer.stock, 7);
    let product: Product = store.ask("/catalog/products/nana-1").await;
    assert_eq!(page.offers.into_iter().next().map(|offer| offer.offer), product.offer);
}

#[tokio::test]
async fn offers_are_asked_for_by_ids_of_their_size_and_number() {
    let store = TestStore::start().await;
    let (ids, id) = (vec!["a"; OFFERS_MAX].join(","), "a".repeat(ID_BYTES_MAX));
    for (query, status) in [
        (String::new(), StatusCode::BAD_REQUEST),
        ("?product_ids=".to_owned(), StatusCode::BAD_REQUEST),
        ("?product_ids=a,,b".to_owned(), StatusCode::BAD_REQUEST),
        (format!("?product_ids={ids}"), StatusCode::OK),
        (format!("?product_ids={ids},a"), StatusCode::BAD_REQUEST),
        (format!("?product_ids={id}"), StatusCode::OK),
        (format!("?product_ids={id}a"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(store.get(&format!("/catalog/offers{query}")).await.0, status, "{query}");
    }
}

#[tokio::test]
async fn trending_is_for_everybody_and_in_stock() {
    let store = TestStore::start().await;
    let page: ProductPage = store.ask("/trending?limit=40").await;
    assert_eq!(page.products.len(), 40);
    assert!(
        page.products.iter().all(|product| product.offer.as_ref().unwrap().stock > 0 && product.age_rating != "mature")
    );
    let first = page.products.first().unwrap();
    for id in [format!("{}-1", first.series_id), format!("{}-1-digital", first.series_id)] {
        store.engine.set_offer(&id, "stock", 0).await;
    }
    let next: ProductPage = store.ask("/trending?limit=39").await;
    assert_eq!(next.products.first(), page.products.get(1), "what is sold out is passed over");
    assert_eq!(next.products.len(), 39);
}

#[tokio::test]
async fn guests_are_recommended_what_readers_rate_best() {
    let store = TestStore::start().await;
    for path in ["/recommendations?limit=40", "/recommendations?shopper_id=nobody&limit=40"] {
        let page: RecommendationPage = store.ask(path).await;
        assert_eq!(page.recommendations.len(), 40);
        for recommendation in &page.recommendations {
            assert_ne!(recommendation.product.age_rating, "mature");
            assert!(recommendation.reason.ja.contains("点") && recommendation.reason.en.contains("of 5"));
        }
        assert!(page.recommendations.first().unwrap().reason.en.contains("5.0"));
    }
}

#[tokio::test]
async fn shoppers_are_recommended_new_series_of_their_genres() {
    let store = TestStore::start().await;
    let aiko: RecommendationPage = store.ask("/recommendations?shopper_id=aiko&limit=40").await;
    let first = aiko.recommendations.first().unwrap();
    assert!(first.product.genres.contains(&"romance".to_owned()), "{first:?}");
    assert!(first.reason.ja.contains("恋愛") && first.reason.en.contains("romance"), "{:?}", first.reason);
    let owned = ["frieren", "witch-hat-atelier", "kimi-ni-todoke", "horimiya", "fruits-basket", "skip-and-loafer"];
    assert!(aiko.recommendations.iter().all(|one| !owned.contains(&one.product.series_id.as_str())));
    let ben: RecommendationPage = store.ask("/recommendations?shopper_id=ben&limit=40").await;
    assert!(ben.recommendations.first().unwrap().product.genres.contains(&"sports".to_owned()));
    let mature = |page: &RecommendationPage| {
        page.recommendations.iter().filter(|one| one.product.age_rating == "mature").count()
    };
    assert_eq!(mature(&ben), 0, "ben is not known to be an adult");
    assert!(mature(&aiko) > 0);
}

#[tokio::test]
async fn orders_are_answered_newest_first() {
    let store = TestStore::start().await;
    let page: OrderPage = store.ask("/orders?shopper_id=aiko").await;
    assert!(page.orders.len() >= 5);
    assert!(page.orders.is_sorted_by(|a, b| a.placed_at >= b.placed_at));
    for order in &page.orders {
        assert_eq!((order.shopper_id.as_str(), order.as_of), ("aiko", store.clock.now_ms()));
        let one: Order = store.ask(&format!("/orders/{}?shopper_id=aiko", order.order_id)).await;
        assert_eq!(&one, order);
    }
    let shipped = page.orders.iter().find(|order| order.status == OrderStatus::Shipped).unwrap();
    assert_eq!(shipped.eta.as_deref(), Some("2026-11-22"));
    assert_eq!(shipped.carrier.as_deref(), Some("Yamato Transport"));
    // Two volumes of 484 yen, and shipping.
    assert_eq!((shipped.total.amount, shipped.items.len()), (2 * 484 + 440, 2));
    let nobody: OrderPage = store.ask("/orders?shopper_id=nobody").await;
    assert_eq!(nobody.orders, []);
}

#[tokio::test]
async fn a_page_of_orders_is_bounded() {
    let store = TestStore::start().await;
    let page: OrderPage = store.ask("/orders?shopper_id=aiko").await;
    let newest = page.orders.first().unwrap();
    let mut seed = Seed::read(store.clock.now_ms()).unwrap();
    let order = seed.orders.iter().find(|order| order.order_id == newest.order_id).unwrap().clone();
    seed.orders = (0..PAGE_ENTRIES_MAX)
        .map(|n| PlacedOrder { order_id: format!("MC-2027-{n:06}"), placed_at: order.placed_at + 1, ..order.clone() })
        .collect();
    store.engine.table().seed(&seed).await.unwrap();
    let page: OrderPage = store.ask("/orders?shopper_id=aiko").await;
    assert_eq!(page.orders.len(), PAGE_ENTRIES_MAX);
    assert!(!page.orders.contains(newest), "the newest come first");
}

/// I5: a shopper's orders are for the shopper, asked for by a service that is let in.
#[tokio::test]
async fn orders_are_shown_to_their_owner_only() {
    let store = TestStore::start().await;
    let aiko: OrderPage = store.ask("/orders?shopper_id=aiko").await;
    let order_id = &aiko.orders.first().unwrap().order_id;
    for path in [
        format!("/orders/{order_id}?shopper_id=ben"),
        format!("/orders/{order_id}?shopper_id=aiko%23"),
        "/orders/MC-0000-000000?shopper_id=aiko".to_owned(),
    ] {
        assert_eq!(store.get_with_key(&path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let almost = SERVICE_KEY.get(1..).unwrap();
    let keys = [format!("Bearer {SERVICE_KEY}x"), format!("Bearer {almost}"), format!("Basic {SERVICE_KEY}")];
    let keys = keys.into_iter().chain([SERVICE_KEY, "Bearer ", ""].map(str::to_owned));
    for path in [
        "/orders?shopper_id=aiko".to_owned(),
        format!("/orders/{order_id}?shopper_id=aiko"),
        "/recommendations?shopper_id=aiko".to_owned(),
    ] {
        assert_eq!(store.get(&path).await.0, StatusCode::UNAUTHORIZED);
        for key in keys.clone() {
            let request = Request::get(&path).header(header::AUTHORIZATION, &key).body(Body::empty()).unwrap();
            let (status, body) = store.send(request).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{key}");
            assert_eq!(body, json!({ "message": "The service key is missing or wrong." }));
        }
    }
}

#[tokio::test]
async fn only_campaigns_that_run_now_are_answered() {
    let store = TestStore::start().await;
    let page: PromotionPage = store.ask("/promotions").await;
    let now = store.clock.now_ms();
    assert!(page.promotions.len() >= 3);
    assert!(page.promotions.iter().all(|one| one.starts_at <= now && now < one.ends_at));
    assert!(page.promotions.is_sorted_by_key(|one| one.ends_at));
    let soonest = page.promotions.first().unwrap();
    store.clock.advance_to(soonest.ends_at - 1);
    let page: PromotionPage = store.ask("/promotions").await;
    assert_eq!(page.promotions.first(), Some(soonest));
    store.clock.advance(1);
    let page: PromotionPage = store.ask("/promotions").await;
    assert!(!page.promotions.contains(soonest));
}

#[tokio::test]
async fn reviews_are_counted_and_averaged() {
    let store = TestStore::start().await;
    let page: ReviewPage = store.ask("/products/one-piece-1/reviews?limit=3").await;
    // 5, 5, 4 and 3 stars: 4.25, rounded to one decimal.
    assert_eq!((page.count, page.average_rating), (4, 4.3));
    assert_eq!(page.reviews.len(), 3);
    assert!(page.reviews.is_sorted_by(|a, b| a.written_at >= b.written_at));
    let none: ReviewPage = store.ask("/products/one-piece-5/reviews").await;
    assert_eq!((none.count, none.average_rating, none.reviews.len()), (0, 0.0, 0));
    assert_eq!(store.get("/products/one-piece-999/reviews").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn articles_are_found_and_read() {
    let store = TestStore::start().await;
    let page: ArticlePage = store.ask("/knowledge/search?q=How%20do%20I%20return%20a%20book%3F&limit=1").await;
    let [article] = page.articles.as_slice() else { panic!("{page:?}") };
    assert_eq!(article.article_id, "returns");
    assert_eq!(article.url, format!("{PAGE_URL}/help/returns"));
    let one: Article = store.ask("/knowledge/articles/returns").await;
    assert_eq!(&one, article);
    assert_eq!(store.get("/knowledge/articles/nonsense").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn malformed_requests_are_refused_with_a_reason() {
    let store = TestStore::start().await;
    let searches = ["/catalog/search?q=nana", "/knowledge/search?q=returns"];
    let pages = ["/trending?", "/recommendations?", "/products/one-piece-1/reviews?"];
    for path in searches.iter().chain(&pages) {
        for limit in ["0", "-1", "x", "", "1.5", "99999999999999999999", &(PAGE_ENTRIES_MAX + 1).to_string()] {
            let (status, body) = store.get(&format!("{path}&limit={limit}")).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {limit}");
            assert_eq!(body["message"], "limit is not a whole number from 1 to 40.");
        }
        assert_eq!(store.get(&format!("{path}&limit={PAGE_ENTRIES_MAX}")).await.0, StatusCode::OK, "{path}");
        assert_eq!(store.get(&format!("{path}&limit=1&limit=2")).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    for path in ["/catalog/search", "/knowledge/search"] {
        let long = "あ".repeat(SEARCH_TEXT_CHARS_MAX).bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        assert_eq!(store.get(&format!("{path}?q={long}")).await.0, StatusCode::OK);
        let (status, body) = store.get(&format!("{path}?q={long}a")).await;
        assert_eq!((status, &body["message"]), (StatusCode::BAD_REQUEST, &json!("q has more than 500 characters.")));
        for query in ["", "?q=", "?q=%20"] {
            let (status, body) = store.get(&format!("{path}{query}")).await;
            assert_eq!((status, &body["message"]), (StatusCode::BAD_REQUEST, &json!("q is missing.")), "{query}");
        }
    }
    let id = "a".repeat(ID_BYTES_MAX);
    for (query, status) in [
        (String::new(), StatusCode::BAD_REQUEST),
        ("?shopper_id=".to_owned(), StatusCode::BAD_REQUEST),
        (format!("?shopper_id={id}"), StatusCode::OK),
        (format!("?shopper_id={id}a"), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(store.get_with_key(&format!("/orders{query}")).await.0, status, "{query}");
    }
    let default: ProductPage = store.ask("/trending").await;
    assert_eq!(default.products.len(), PAGE_ENTRIES_DEFAULT);
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let store = TestStore::start().await;
    for path in ["/", "/nothing", "/orders/a/b", "/catalog/products/%FF", "/catalog/products/"] {
        let (status, body) = store.get_with_key(path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert!(body["message"].is_string());
    }
    for path in ["/health", "/trending", "/orders?shopper_id=aiko", "/catalog/products/one-piece-1"] {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let (status, body) = store.send(request).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert!(body["message"].is_string());
        }
    }
}

#[tokio::test]
async fn a_failing_table_is_said_without_its_details() {
    let store = TestStore::start().await;
    assert_eq!(store.get("/health").await.0, StatusCode::OK);
    store.table.failing.store(true, Ordering::SeqCst);
    for path in [
        "/catalog/search?q=nana",
        "/catalog/products/nana-1",
        "/recommendations?shopper_id=aiko",
        "/catalog/offers?product_ids=nana-1",
        "/trending",
        "/orders?shopper_id=aiko",
        "/orders/MC-2026-000123?shopper_id=ben",
        "/promotions",
        "/products/nana-1/reviews",
        "/knowledge/search?q=returns",
        "/knowledge/articles/returns",
    ] {
        let (status, body) = store.get_with_key(path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(body, json!({ "message": "The store does not answer at the moment." }), "{path}");
    }
}
