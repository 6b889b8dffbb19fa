//! What is kept, for how long, and what never is.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::limits::{
    ARTICLES_CACHE_MS, CACHE_ENTRY_BYTES_MAX, CACHE_JITTER_PERCENT, CACHE_NEGATIVE_MS, CACHE_SKEW_MS, CACHE_STALE_MS,
    PRODUCT_CACHE_MS, PROMOTIONS_CACHE_MS, RECOMMENDATIONS_CACHE_MS, REVIEWS_CACHE_MS,
};
use domain::ports::{Clock as _, StoreServices as _};
use domain::store::{OFFERS_MAX, Offer, Product, Review, tags};
use futures_util::future::join_all;
use serde_json::json;
use testkit::{START_MS, samples};

use crate::clock::SkippingClock;
use crate::shop::Shop;
use crate::{Client, World, at, failure, within};

/// A client of a shop.
struct Town {
    shop: Shop,
    world: World,
}

impl Town {
    async fn new() -> Self {
        let clock = SkippingClock::slower(50);
        let shop = Shop::open(clock.clone()).await;
        let world = World::with(at(&shop.fake.url), None, clock);
        Self { shop, world }
    }

    fn client(&self) -> &Client {
        &self.world.client
    }

    fn outcomes(&self, upstream: &str) -> [u64; 4] {
        ["CacheHitsInProcess", "CacheHitsShared", "CacheMisses", "CacheStale"]
            .map(|name| self.world.metrics.total_of(name, upstream))
    }
}

fn without_offers(products: &[Product]) -> Vec<Product> {
    products.iter().map(|product| Product { offer: None, ..product.clone() }).collect()
}

fn offers(products: &[Product]) -> Vec<&Offer> {
    products.iter().map(|product| product.offer.as_ref().unwrap()).collect()
}

/// Each thing that is kept: where it comes from, how long it is fresh, and how it is asked for.
pub const KINDS: [(&str, u64); 7] = [
    ("/catalog/search", PRODUCT_CACHE_MS),
    ("/catalog/products/one-1", PRODUCT_CACHE_MS),
    ("/recommendations", RECOMMENDATIONS_CACHE_MS),
    ("/trending", RECOMMENDATIONS_CACHE_MS),
    ("/promotions", PROMOTIONS_CACHE_MS),
    ("/products/one-1/reviews", REVIEWS_CACHE_MS),
    ("/knowledge/search", ARTICLES_CACHE_MS),
];

/// Asks for one of [`KINDS`]; how many entries it has, and those products' offers.
pub async fn ask(client: &Client, path: &str) -> Result<(usize, Vec<Option<Offer>>), domain::ports::Unavailable> {
    let id = samples::product_id("one-1");
    let of = |products: Vec<Product>| (products.len(), products.into_iter().map(|product| product.offer).collect());
    Ok(match path {
        "/catalog/search" => of(client.search("pirates", 3).await?),
        "/catalog/products/one-1" => of(client.product(&id).await?.into_iter().collect()),
        "/recommendations" => {
            let items = client.recommendations(Some("aiko"), "c-1", 3).await?;
            of(items.into_iter().map(|item| item.product).collect())
        }
        "/trending" => of(client.trending(3).await?),
        "/promotions" => (client.promotions().await?.len(), vec![]),
        "/products/one-1/reviews" => (client.reviews(&id, 3).await?.len(), vec![]),
        "/knowledge/search" => (client.articles("returns", 2).await?.len(), vec![]),
        other => panic!("{other} is not kept"),
    })
}

#[tokio::test]
async fn details_are_kept_and_prices_are_asked_for_each_time() {
    let town = Town::new().await;
    let first = town.client().search("pirates", 3).await.unwrap();
    assert_eq!(town.shop.fake.targets().len(), 1, "a search says the prices itself");
    let second = town.client().search("pirates", 3).await.unwrap();
    assert_eq!(without_offers(&first), without_offers(&second));
    assert_eq!(town.shop.fake.targets()[1..], ["/catalog/offers?product_ids=one-1%2Cone-2%2Cone-3"]);
    assert!(offers(&first).iter().all(|offer| !offers(&second).contains(offer)), "{first:?} {second:?}");
    assert_eq!(town.outcomes("catalog"), [1, 0, 1, 0]);
}

/// I7.
#[tokio::test]
async fn no_price_is_older_than_the_request_that_shows_it() {
    let town = Town::new().await;
    let mut random = fastrand::Rng::with_seed(7);
    let mut seen = HashSet::new();
    for _ in 0..400 {
        let (path, fresh_ms) = KINDS[random.usize(..4)];
        town.world.clock.skip(random.u64(0..=fresh_ms / 4));
        let began = town.world.clock.now_ms();
        let (_, offers) = ask(town.client(), path).await.unwrap();
        assert!(!offers.is_empty());
        for offer in offers.into_iter().flatten() {
            assert!(offer.as_of >= began, "{path}: {offer:?} was read before {began}");
            assert!(seen.insert(offer.price.amount), "{path}: {offer:?} was shown before");
        }
    }
    let [hits, _, misses, _] = town.outcomes("catalog");
    assert!(hits > 50 && misses > 50, "{hits} {misses}");
}

#[tokio::test]
async fn everything_is_fresh_for_its_time_and_no_longer() {
    for (path, fresh_ms) in KINDS {
        let town = Town::new().await;
        let asked = town.world.clock.now_ms();
        ask(town.client(), path).await.unwrap();
        let shortest = fresh_ms - fresh_ms * CACHE_JITTER_PERCENT / 100;
        town.world.clock.skip(shortest - 1 - (town.world.clock.now_ms() - asked).max(1_000));
        ask(town.client(), path).await.unwrap();
        assert_eq!(town.shop.fake.times(path), 1, "{path} is fresh");
        town.world.clock.skip(asked + fresh_ms - town.world.clock.now_ms() + 1_000);
        ask(town.client(), path).await.unwrap();
        assert_eq!(town.shop.fake.times(path), 2, "{path} is old");
    }
}

#[tokio::test]
async fn what_was_read_together_does_not_grow_old_together() {
    let town = Town::new().await;
    let ids: Vec<_> = (0..40).map(|number| samples::product_id(&format!("p-{number}"))).collect();
    join_all(ids.iter().map(|id| town.client().product(id))).await;
    town.world.clock.skip(PRODUCT_CACHE_MS - PRODUCT_CACHE_MS * CACHE_JITTER_PERCENT / 200);
    let before = town.outcomes("catalog")[2];
    join_all(ids.iter().map(|id| town.client().product(id))).await;
    let again = town.outcomes("catalog")[2] - before;
    assert!((1..40).contains(&again), "{again} of 40");
}

#[tokio::test]
async fn a_session_is_recommended_afresh_and_to_one_shopper() {
    let town = Town::new().await;
    for (shopper, session, calls) in [
        (Some("aiko"), "c-1", 1),
        (Some("aiko"), "c-1", 1),
        (Some("aiko"), "c-2", 2),
        (Some("ben"), "c-1", 3),
        (None, "c-1", 4),
        (None, "c-2", 4),
    ] {
        town.client().recommendations(shopper, session, 3).await.unwrap();
        assert_eq!(town.shop.fake.times("/recommendations"), calls, "{shopper:?} {session}");
    }
}

#[tokio::test]
async fn questions_that_differ_in_case_and_blanks_are_one() {
    let town = Town::new().await;
    for (query, calls) in [("One Piece", 1), (" one  PIECE\n", 1), ("onepiece", 2)] {
        town.client().search(query, 3).await.unwrap();
        town.client().articles(query, 3).await.unwrap();
        assert_eq!(town.shop.fake.times("/catalog/search"), calls, "{query}");
        assert_eq!(town.shop.fake.times("/knowledge/search"), calls, "{query}");
    }
}

#[tokio::test]
async fn who_wants_more_than_is_kept_asks() {
    let town = Town::new().await;
    for (limit, calls) in [(3, 1), (2, 1), (3, 1), (4, 2), (3, 2), (4, 2)] {
        assert_eq!(town.client().articles("returns", limit).await.unwrap().len(), limit);
        assert_eq!(town.shop.fake.times("/knowledge/search"), calls, "{limit}");
    }
}

#[tokio::test]
async fn orders_are_never_kept() {
    let town = Town::new().await;
    for calls in 1..=3 {
        town.client().orders("aiko").await.unwrap();
        town.client().order("aiko", "MC-1").await.unwrap().unwrap();
        assert_eq!(town.shop.fake.times("/orders"), calls);
        assert_eq!(town.shop.fake.times("/orders/MC-1"), calls);
    }
    assert_eq!(town.outcomes("orders"), [0; 4]);
}

#[tokio::test]
async fn a_thousand_who_ask_at_once_are_one_call() {
    for (path, _) in KINDS {
        let town = Town::new().await;
        town.shop.mood.latency_ms.store(100, Ordering::SeqCst);
        let answers = within(join_all((0..1_000).map(|_| ask(town.client(), path)))).await;
        assert!(answers.iter().all(Result::is_ok), "{path}");
        assert_eq!(town.shop.fake.times(path), 1, "{path}");
        let total = town.shop.fake.targets().len();
        assert!(total <= 2, "{path}: {total} calls with those for prices");
        assert_eq!(town.world.metrics.total("CacheMisses"), 1);
        assert_eq!(town.world.metrics.total("CacheHitsInProcess"), 999);
    }
}

#[tokio::test]
async fn those_who_come_later_ask_for_prices_once_together() {
    let town = Town::new().await;
    town.shop.mood.latency_ms.store(2_000, Ordering::SeqCst);
    let late = |wait_ms| async move { tokio::time::sleep(Duration::from_millis(wait_ms)).await };
    let answers = within(join_all((0..1_000).map(|number| {
        let town = &town;
        async move {
            late(number % 90).await;
            let began = town.world.clock.now_ms();
            let products = town.client().search("pirates", 3).await.unwrap();
            assert!(offers(&products).iter().all(|offer| offer.as_of >= began), "{began} {products:?}");
        }
    })))
    .await;
    assert_eq!(answers.len(), 1_000);
    assert_eq!(town.shop.fake.times("/catalog/search"), 1);
    let calls = town.shop.fake.times("/catalog/offers");
    assert!(calls <= 2, "{calls}");
}

#[tokio::test]
async fn whoever_asks_for_all_may_go_away() {
    let town = Town::new().await;
    town.shop.mood.latency_ms.store(200, Ordering::SeqCst);
    let leader = async {
        tokio::select! {
            _ = town.client().promotions() => panic!("answered before it was asked"),
            () = town.shop.fake.is_asked(1) => {}
        }
    };
    let others = join_all((0..50).map(|_| town.client().promotions()));
    let ((), others) = within(async { tokio::join!(leader, others) }).await;
    assert!(others.iter().all(Result::is_ok));
    assert_eq!(town.shop.fake.times("/promotions"), 2, "the one that nobody waited for, and one more");
}

#[tokio::test]
async fn a_failure_is_shared_but_not_kept() {
    let town = Town::new().await;
    town.shop.mood.latency_ms.store(50, Ordering::SeqCst);
    town.shop.break_down(true);
    let answers = within(join_all((0..100).map(|_| town.client().promotions()))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(town.shop.fake.times("/promotions"), 1, "one call");
    assert_eq!(town.outcomes("promotions"), [0, 0, 100, 0]);
    town.shop.break_down(false);
    town.world.clock.skip(domain::limits::BREAKER_OPEN_MS);
    assert_eq!(town.client().promotions().await.unwrap().len(), 1);
}

#[tokio::test]
async fn while_a_service_is_down_what_is_old_is_used_for_a_day() {
    for (path, fresh_ms) in KINDS {
        let town = Town::new().await;
        let asked = town.world.clock.now_ms();
        let (count, _) = ask(town.client(), path).await.unwrap();
        town.shop.break_down(true);
        town.world.clock.skip(fresh_ms);
        let (old, offers) = ask(town.client(), path).await.unwrap();
        assert_eq!(old, count, "{path}");
        assert!(offers.iter().all(Option::is_none), "{path}: {offers:?}");
        town.world.clock.skip(asked + CACHE_STALE_MS - 5_000 - town.world.clock.now_ms());
        // The shop's promotion does not run that long.
        if path != "/promotions" {
            assert_eq!(ask(town.client(), path).await.unwrap().0, count, "{path}");
        }
        assert!(town.world.metrics.total("CacheStale") >= 1);
        town.world.clock.skip(asked + CACHE_STALE_MS - town.world.clock.now_ms());
        failure(ask(town.client(), path).await);
    }
}

#[tokio::test]
async fn a_dead_service_costs_what_is_old_no_call() {
    let town = Town::new().await;
    town.client().promotions().await.unwrap();
    town.shop.break_down(true);
    town.world.clock.skip(PROMOTIONS_CACHE_MS);
    town.client().promotions().await.unwrap();
    let before = town.shop.fake.targets().len();
    for _ in 0..20 {
        assert_eq!(town.client().promotions().await.unwrap().len(), 1);
    }
    assert_eq!(town.shop.fake.targets().len(), before);
    assert_eq!(town.outcomes("promotions"), [0, 0, 1, 21]);
}

#[tokio::test]
async fn what_an_event_declares_out_of_date_is_asked_for_again() {
    let cases: [(&str, String); 10] = [
        ("/catalog/search", tags::SELECTION.to_owned()),
        ("/catalog/search", tags::product("one-2")),
        ("/catalog/products/one-1", tags::product("one-1")),
        ("/recommendations", tags::SELECTION.to_owned()),
        ("/recommendations", tags::product("one-3")),
        ("/trending", tags::SELECTION.to_owned()),
        ("/trending", tags::product("one-1")),
        ("/promotions", tags::PROMOTIONS.to_owned()),
        ("/products/one-1/reviews", tags::reviews("one-1")),
        ("/products/one-1/reviews", tags::reviews("one-1")),
    ];
    for (path, tag) in cases {
        let town = Town::new().await;
        ask(town.client(), path).await.unwrap();
        town.world.hints.invalidate("product:another", town.world.clock.now_ms());
        town.world.hints.invalidate("reviews:another", town.world.clock.now_ms());
        town.world.hints.invalidate(&tag, START_MS - 10_000);
        ask(town.client(), path).await.unwrap();
        assert_eq!(town.shop.fake.times(path), 1, "{path} is not about that");
        town.world.clock.skip(10_000);
        town.world.hints.invalidate(&tag, town.world.clock.now_ms());
        town.world.clock.skip(CACHE_SKEW_MS + 1);
        for _ in 0..3 {
            ask(town.client(), path).await.unwrap();
            assert_eq!(town.shop.fake.times(path), 2, "{path} is about {tag}");
        }
    }
}

#[tokio::test]
async fn what_is_out_of_date_is_better_than_nothing() {
    let town = Town::new().await;
    town.client().trending(3).await.unwrap();
    town.shop.break_down(true);
    town.world.hints.invalidate(tags::SELECTION, town.world.clock.now_ms());
    assert_eq!(town.client().trending(3).await.unwrap().len(), 3);
    assert_eq!(town.outcomes("catalog"), [0, 0, 1, 1]);
}

#[tokio::test]
async fn that_there_is_nothing_is_soon_asked_again() {
    let town = Town::new().await;
    let nothing = samples::product_id("nothing");
    for calls in 1..=2 {
        for _ in 0..2 {
            assert_eq!(town.client().product(&nothing).await.unwrap(), None);
            assert_eq!(town.client().search("nothing", 3).await.unwrap(), []);
            assert_eq!(town.client().articles("nothing", 3).await.unwrap(), []);
            assert_eq!(town.shop.fake.times("/catalog/products/nothing"), calls);
            assert_eq!(town.shop.fake.times("/catalog/search"), calls);
            assert_eq!(town.shop.fake.times("/knowledge/search"), calls);
        }
        town.world.clock.skip(CACHE_NEGATIVE_MS);
    }
    town.shop.break_down(true);
    failure(town.client().product(&nothing).await);
    assert_eq!(town.shop.fake.times("/catalog/offers"), 0, "nothing has no price");
}

#[tokio::test]
async fn what_is_not_sold_any_more_is_left_out() {
    let town = Town::new().await;
    town.client().search("pirates", 3).await.unwrap();
    let id = samples::product_id("one-2");
    town.client().product(&id).await.unwrap().unwrap();
    *town.shop.mood.withdrawn.lock().unwrap() = Some("one-2".to_owned());
    let found = town.client().search("pirates", 3).await.unwrap();
    assert_eq!(found.iter().map(|product| product.product_id.as_str()).collect::<Vec<_>>(), ["one-1", "one-3"]);
    assert_eq!(town.client().product(&id).await.unwrap(), None);
}

#[tokio::test]
async fn without_its_price_a_product_is_still_known() {
    let town = Town::new().await;
    let known = town.client().search("pirates", 3).await.unwrap();
    town.shop.mood.offers_down.store(true, Ordering::SeqCst);
    assert_eq!(town.client().search("pirates", 3).await.unwrap(), without_offers(&known));
    let calls = town.shop.fake.times("/catalog/offers");
    assert_eq!(town.client().search("pirates", 3).await.unwrap(), without_offers(&known));
    assert_eq!(town.shop.fake.times("/catalog/offers"), calls, "the catalog's breaker is open");
}

#[tokio::test]
async fn a_promotion_that_has_ended_is_not_shown() {
    let town = Town::new().await;
    let running = town.client().promotions().await.unwrap();
    town.shop.break_down(true);
    let left_ms = running[0].ends_at - town.world.clock.now_ms();
    town.world.clock.skip(left_ms - 5_000);
    assert_eq!(town.client().promotions().await.unwrap(), running);
    town.world.clock.skip(5_000);
    assert_eq!(town.client().promotions().await.unwrap(), []);
}

#[tokio::test]
async fn an_entry_may_be_so_long_and_no_longer() {
    let entry = |text: &str| {
        let items = [Review { text: text.to_owned(), ..samples::review("one-1-r1", "one-1") }];
        json!({"read_at": START_MS, "fresh_until": START_MS, "limit": 1, "items": items}).to_string().len()
    };
    let id = samples::product_id("one-1");
    for (bytes, calls) in [(CACHE_ENTRY_BYTES_MAX, 1), (CACHE_ENTRY_BYTES_MAX + 1, 2)] {
        let town = Town::new().await;
        *town.shop.mood.review.lock().unwrap() = "x".repeat(bytes - entry(""));
        for _ in 0..2 {
            assert_eq!(town.client().reviews(&id, 1).await.unwrap().len(), 1);
        }
        assert_eq!(town.shop.fake.times("/products/one-1/reviews"), calls, "{bytes}");
    }
}

#[tokio::test]
async fn so_many_prices_are_asked_for_at_once_and_no_more() {
    let town = Town::new().await;
    for products in [OFFERS_MAX, OFFERS_MAX + 1] {
        town.client().search("pirates", products).await.unwrap();
        let found = town.client().search("pirates", products).await.unwrap();
        assert_eq!(found.len(), products);
        assert_eq!(found.iter().filter(|product| product.offer.is_some()).count(), OFFERS_MAX);
    }
    assert_eq!(town.shop.fake.times("/catalog/offers"), 2);
}

/// Seven of them are part of every turn's future.
#[test]
fn a_request_takes_little_memory() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let town = runtime.block_on(Town::new());
    let bytes = size_of_val(&town.client().search("pirates", 3));
    assert!(bytes <= 4 * 1024, "{bytes} bytes");
}
