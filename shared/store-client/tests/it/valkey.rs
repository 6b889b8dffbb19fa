//! The level that environments share: a real Valkey, alive, dead, stalled and wrong.

use std::sync::atomic::Ordering;

use domain::limits::{
    CACHE_ENTRY_BYTES_MAX, CACHE_NEGATIVE_MS, CACHE_SKEW_MS, CACHE_STALE_MS, PRODUCT_CACHE_MS, VALKEY_OPERATION_MS,
    VALKEY_REST_MS,
};
use domain::ports::{Clock as _, StoreServices as _};
use domain::store::tags;
use futures_util::future::join_all;
use serde_json::{Value, json};
use store_client::{ValkeyCache, ValkeyConfiguration};
use testkit::samples;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::cache::{KINDS, ask};
use crate::clock::SkippingClock;
use crate::server::{Server, Way, at_port};
use crate::shop::Shop;
use crate::{World, at, failure, within};

/// Shops and environments at the same time of the same clock.
struct Town {
    clock: SkippingClock,
    shop: Shop,
}

impl Town {
    async fn new() -> Self {
        let clock = SkippingClock::slower(50);
        Self { shop: Shop::open(clock.clone()).await, clock }
    }

    /// Another environment, with nothing in memory.
    fn environment(&self, valkey: &ValkeyConfiguration) -> World {
        World::with(at(&self.shop.fake.url), Some(valkey.clone()), self.clock.clone())
    }
}

/// Works with Valkey as a whole: what one environment keeps another finds.
async fn check_works(town: &Town, valkey: &ValkeyConfiguration, query: &str) {
    town.environment(valkey).client.articles(query, 2).await.unwrap();
    let other = town.environment(valkey);
    other.client.articles(query, 2).await.unwrap();
    assert_eq!(other.metrics.total("CacheHitsShared"), 1);
}

#[tokio::test]
async fn what_one_environment_asks_another_knows() {
    let server = Server::start().await;
    for (path, _) in KINDS {
        let town = Town::new().await;
        let _: () = server.look(&["FLUSHALL"]).await;
        let (one, other) = (town.environment(&server.configuration()), town.environment(&server.configuration()));
        let (count, offers) = ask(&one.client, path).await.unwrap();
        let began = town.clock.now_ms();
        let (known, live) = ask(&other.client, path).await.unwrap();
        assert_eq!((known, live.len()), (count, offers.len()), "{path}");
        assert!(live.iter().all(|offer| offer.as_ref().unwrap().as_of >= began), "{path}: {live:?}");
        assert_eq!(town.shop.fake.times(path), 1, "{path}");
        assert_eq!(other.metrics.total("CacheHitsShared"), 1, "{path}");
        ask(&other.client, path).await.unwrap();
        assert_eq!(other.metrics.total("CacheHitsInProcess"), 1, "{path} is in memory too now");
    }
}

/// I7 and I8, for what lies outside of our processes.
#[tokio::test]
async fn nothing_that_is_kept_holds_a_price_an_order_or_a_word_of_a_shopper() {
    let (server, town) = (Server::start().await, Town::new().await);
    let world = town.environment(&server.configuration());
    for (path, _) in KINDS {
        ask(&world.client, path).await.unwrap();
    }
    world.client.orders("aiko").await.unwrap();
    world.client.order("aiko", "MC-1").await.unwrap();
    let keys: Vec<String> = server.look(&["KEYS", "*"]).await;
    assert_eq!(keys.len(), KINDS.len(), "{keys:?}");
    for key in keys {
        let kept: String = server.look(&["GET", &key]).await;
        assert!(key.starts_with("mc1:"), "{key}");
        for secret in ["price", "stock", "as_of", "amount", "MC-1", "aiko", "c-1", "pirates", "528"] {
            assert!(!key.contains(secret) && !kept.contains(secret), "{secret} in {key}: {kept}");
        }
        let life_ms: u64 = server.look(&["PTTL", &key]).await;
        assert!((1..=CACHE_STALE_MS).contains(&life_ms), "{key} for {life_ms} ms");
    }
}

#[tokio::test]
async fn that_there_is_nothing_does_not_stay() {
    let (server, town) = (Server::start().await, Town::new().await);
    town.environment(&server.configuration()).client.search("nothing", 3).await.unwrap();
    let keys: Vec<String> = server.look(&["KEYS", "*"]).await;
    let life_ms: u64 = server.look(&["PTTL", &keys[0]]).await;
    assert!((1..=CACHE_NEGATIVE_MS).contains(&life_ms), "{life_ms} ms");
}

#[tokio::test]
async fn what_is_forgotten_is_asked_for_again() {
    let (server, town) = (Server::start().await, Town::new().await);
    let cache = ValkeyCache::new(&server.configuration(), SkippingClock::slower(50)).unwrap();
    for (path, tag) in [
        ("/catalog/products/one-1", tags::product("one-1")),
        ("/promotions", tags::PROMOTIONS.to_owned()),
        ("/products/one-1/reviews", tags::reviews("one-1")),
        ("/trending", tags::SELECTION.to_owned()),
    ] {
        for (path, _) in KINDS {
            ask(&town.environment(&server.configuration()).client, path).await.unwrap();
        }
        let before: u64 = server.look(&["DBSIZE"]).await;
        cache.forget(&tag).await.unwrap();
        let after: u64 = server.look(&["DBSIZE"]).await;
        assert_eq!(after, before - 1, "{tag}");
        let calls = town.shop.fake.times(path);
        ask(&town.environment(&server.configuration()).client, path).await.unwrap();
        assert_eq!(town.shop.fake.times(path), calls + 1, "{path}");
    }
    cache.forget("product:unknown").await.unwrap();
}

#[tokio::test]
async fn whoever_cannot_forget_says_so() {
    let nowhere = ValkeyCache::new(&at_port(1), SkippingClock::slower(50)).unwrap();
    assert_eq!(failure(within(nowhere.forget("promotions")).await).operation, "delete from Valkey");
    let mut server = Server::start().await;
    let cache = ValkeyCache::new(&server.configuration(), SkippingClock::slower(50)).unwrap();
    cache.forget("promotions").await.unwrap();
    server.kill().await;
    failure(within(cache.forget("promotions")).await);
    server.restart().await;
    cache.forget("promotions").await.unwrap();
}

#[tokio::test]
async fn an_event_outdates_what_others_keep() {
    let (server, town) = (Server::start().await, Town::new().await);
    town.environment(&server.configuration()).client.search("pirates", 3).await.unwrap();
    let other = town.environment(&server.configuration());
    other.hints.invalidate(&tags::product("one-2"), town.clock.now_ms());
    town.clock.skip(CACHE_SKEW_MS + 1);
    for _ in 0..2 {
        other.client.search("pirates", 3).await.unwrap();
        assert_eq!(town.shop.fake.times("/catalog/search"), 2);
    }
}

#[tokio::test]
async fn a_new_environment_uses_what_is_old_while_a_service_is_down() {
    let (server, town) = (Server::start().await, Town::new().await);
    town.environment(&server.configuration()).client.trending(3).await.unwrap();
    town.shop.break_down(true);
    town.clock.skip(CACHE_STALE_MS / 2);
    let other = town.environment(&server.configuration());
    assert_eq!(other.client.trending(3).await.unwrap().len(), 3);
    assert_eq!(other.metrics.total("CacheStale"), 1);
}

/// What a search takes with this Valkey, ms.
async fn search_ms(town: &Town, world: &World, query: &str) -> u64 {
    let began = town.clock.monotonic_ms();
    world.client.search(query, 3).await.unwrap();
    town.clock.monotonic_ms() - began
}

/// As long as a machine may take for what should take no time: five real seconds.
const SLACK_MS: u64 = 100;

#[tokio::test]
async fn a_dead_valkey_costs_nothing_and_is_left_alone() {
    let town = Town::new().await;
    let world = town.environment(&at_port(1));
    for number in 0..10 {
        let took = search_ms(&town, &world, &format!("pirates {number}")).await;
        assert!(took < VALKEY_OPERATION_MS + SLACK_MS, "{took} ms");
    }
    assert_eq!(world.metrics.total("CacheMisses"), 10);
}

#[tokio::test]
async fn a_valkey_that_stalls_costs_its_budget_once_and_comes_back() {
    let (server, town) = (Server::start().await, Town::new().await);
    let way = Way::to(&server).await;
    check_works(&town, &way.configuration(), "returns").await;
    let world = town.environment(&way.configuration());
    world.client.search("before", 3).await.unwrap();
    let connections = way.connections();
    way.stall(true);
    for number in 0..10 {
        let took = search_ms(&town, &world, &format!("pirates {number}")).await;
        assert!(took < VALKEY_OPERATION_MS + SLACK_MS, "{took} ms");
    }
    assert_eq!(way.connections(), connections, "it is left alone");
    way.stall(false);
    town.clock.skip(VALKEY_REST_MS);
    world.client.search("after", 3).await.unwrap();
    let other = town.environment(&way.configuration());
    other.client.search("after", 3).await.unwrap();
    assert_eq!(other.metrics.total("CacheHitsShared"), 1);
}

#[tokio::test]
async fn a_connection_that_takes_long_is_there_for_the_next() {
    let (server, town) = (Server::start().await, Town::new().await);
    let way = Way::to(&server).await;
    let world = town.environment(&way.configuration());
    way.stall(true);
    let took = search_ms(&town, &world, "first").await;
    assert!(took < 2 * VALKEY_OPERATION_MS + SLACK_MS, "{took} ms");
    way.stall(false);
    world.client.search("second", 3).await.unwrap();
    assert_eq!(way.connections(), 1);
    let kept: u64 = server.look(&["DBSIZE"]).await;
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn a_valkey_that_is_killed_amid_a_request_and_restarted_is_used_again() {
    let (mut server, town) = (Server::start().await, Town::new().await);
    let way = Way::to(&server).await;
    let world = town.environment(&way.configuration());
    world.client.search("before", 3).await.unwrap();
    way.stall(true);
    let (took, ()) = tokio::join!(search_ms(&town, &world, "amid"), server.kill());
    assert!(took < VALKEY_OPERATION_MS + SLACK_MS, "{took} ms");
    world.client.search("while it is dead", 3).await.unwrap();
    way.stall(false);
    server.restart().await;
    town.clock.skip(VALKEY_REST_MS);
    world.client.search("after", 3).await.unwrap();
    let kept: u64 = server.look(&["DBSIZE"]).await;
    assert_eq!(kept, 1);
}

/// As it does while Lambda freezes the environment.
#[tokio::test]
async fn a_connection_that_has_died_meanwhile_is_made_anew_at_once() {
    let (mut server, town) = (Server::start().await, Town::new().await);
    let world = town.environment(&server.configuration());
    world.client.search("before", 3).await.unwrap();
    server.restart().await;
    world.client.search("after", 3).await.unwrap();
    let kept: u64 = server.look(&["DBSIZE"]).await;
    assert_eq!(kept, 1);
}

#[tokio::test]
async fn what_is_no_valkey_is_left_alone() {
    let replies = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
        b"\0\xff\xfe garbage",
        b"-ERR no\r\n",
        b"+OK\r\n",
        b"$99999999999\r\nx",
        b"*1000000000\r\n",
        b":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
        b"$-1\r\n",
    ];
    join_all(replies.map(|reply| async move {
        let town = Town::new().await;
        let way = Way::to_one_who_says(reply).await;
        let world = town.environment(&way.configuration());
        for number in 0..5 {
            let took = search_ms(&town, &world, &format!("pirates {number}")).await;
            assert!(took < 2 * VALKEY_OPERATION_MS + SLACK_MS, "{took} ms with {reply:?}");
        }
        assert_eq!(town.shop.fake.times("/catalog/search"), 5);
    }))
    .await;
}

#[tokio::test]
async fn what_others_have_put_there_is_not_believed() {
    let (server, town) = (Server::start().await, Town::new().await);
    town.environment(&server.configuration()).client.search("pirates", 3).await.unwrap();
    let keys: Vec<String> = server.look(&["KEYS", "*"]).await;
    let good: String = server.look(&["GET", &keys[0]]).await;
    let with = |change: fn(&mut Value)| {
        let mut entry: Value = serde_json::from_str(&good).unwrap();
        change(&mut entry);
        entry.to_string()
    };
    let cases = [
        "garbage".to_owned(),
        "{}".to_owned(),
        format!("{good}{}", " ".repeat(CACHE_ENTRY_BYTES_MAX + 1 - good.len())),
        with(|entry| entry["items"][0]["title"] = json!(7)),
        with(|entry| entry["read_at"] = json!(u64::MAX)),
        with(|entry| entry["read_at"] = json!(entry["read_at"].as_u64().unwrap() - PRODUCT_CACHE_MS)),
    ];
    for (number, case) in cases.iter().enumerate() {
        let _: () = server.look(&["SET", &keys[0], case]).await;
        let world = town.environment(&server.configuration());
        assert_eq!(world.client.search("pirates", 3).await.unwrap().len(), 3);
        assert_eq!(town.shop.fake.times("/catalog/search"), 2 + number, "{case}");
    }
    let longest = format!("{good}{}", " ".repeat(CACHE_ENTRY_BYTES_MAX - good.len()));
    let _: () = server.look(&["SET", &keys[0], &longest]).await;
    let world = town.environment(&server.configuration());
    world.client.search("pirates", 3).await.unwrap();
    assert_eq!(world.metrics.total("CacheHitsShared"), 1);
}

/// I7.
#[tokio::test]
async fn a_price_that_somebody_keeps_is_not_shown() {
    let (server, town) = (Server::start().await, Town::new().await);
    town.environment(&server.configuration()).client.search("pirates", 3).await.unwrap();
    let keys: Vec<String> = server.look(&["KEYS", "*"]).await;
    let mut entry: Value = serde_json::from_str(&server.look::<String>(&["GET", &keys[0]]).await).unwrap();
    entry["items"][0]["price"] = json!({"amount": 1, "currency": "JPY"});
    entry["items"][0]["stock"] = json!(99);
    entry["items"][0]["as_of"] = json!(town.clock.now_ms());
    let _: () = server.look(&["SET", &keys[0], &entry.to_string()]).await;
    town.shop.mood.offers_down.store(true, Ordering::SeqCst);
    let world = town.environment(&server.configuration());
    let found = world.client.search("pirates", 3).await.unwrap();
    assert_eq!(world.metrics.total("CacheHitsShared"), 1);
    assert!(found.iter().all(|product| product.offer.is_none()), "{found:?}");
}

#[tokio::test]
async fn who_must_log_in_does() {
    let town = Town::new().await;
    let server =
        Server::start_with(&["--requirepass", "secret", "--user", "chat", "on", ">word", "~mc1:*", "+@all"]).await;
    let login = |username: Option<&str>, password: Option<&str>| ValkeyConfiguration {
        username: username.map(str::to_owned),
        password: password.map(str::to_owned),
        ..server.configuration()
    };
    check_works(&town, &login(None, Some("secret")), "by password").await;
    check_works(&town, &login(Some("chat"), Some("word")), "by name").await;
    for wrong in [login(None, None), login(None, Some("word")), login(Some("chat"), Some("secret"))] {
        let other = town.environment(&wrong);
        assert_eq!(other.client.articles("by password", 2).await.unwrap().len(), 2);
        assert_eq!(other.metrics.total("CacheMisses"), 1);
    }
}

#[tokio::test]
async fn rediss_speaks_tls() {
    let town = Town::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rediss://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let world = town.environment(&ValkeyConfiguration { url, username: None, password: Some("secret".to_owned()) });
    let first_byte = async { listener.accept().await.unwrap().0.read_u8().await.unwrap() };
    let (found, first_byte) = within(async { tokio::join!(world.client.promotions(), first_byte) }).await;
    assert_eq!(found.unwrap().len(), 1);
    assert_eq!(first_byte, 0x16, "a TLS handshake");
}

#[tokio::test]
async fn a_url_that_is_none_leaves_the_first_level() {
    let town = Town::new().await;
    for url in ["", "http://127.0.0.1", "redis://"] {
        let configuration = ValkeyConfiguration { url: url.to_owned(), username: None, password: None };
        assert!(ValkeyCache::new(&configuration, SkippingClock::slower(50)).is_err() || url == "redis://", "{url}");
        let world = town.environment(&configuration);
        world.client.product(&samples::product_id("one-1")).await.unwrap().unwrap();
        world.client.product(&samples::product_id("one-1")).await.unwrap().unwrap();
        assert_eq!(world.metrics.total("CacheHitsInProcess"), 1);
    }
}
