//! Retries and breakers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse as _, Response};
use domain::breaker::{Hint, Upstream};
use domain::limits::{
    BREAKER_OPEN_MS, BREAKER_PROBE_MS, BREAKER_REPORTS_MIN, RETRIES_MAX, RETRY_AFTER_MS_MAX, SERVICE_CALL_MS,
};
use domain::ports::{Clock as _, StoreServices as _};
use domain::store::OrderPage;
use store_client::{ServiceConfiguration, StoreConfiguration};

use crate::clock::SkippingClock;
use crate::fake::{Fake, NOBODY};
use crate::{World, at, failure, service, within};

fn no_orders() -> Response {
    Json(OrderPage::default()).into_response()
}

/// Fails so often, then answers.
async fn failing(times: usize, failure: fn() -> Response) -> Fake {
    let left = Arc::new(AtomicUsize::new(times));
    Fake::start(move |_| {
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        std::future::ready(if fails { failure() } else { no_orders() })
    })
    .await
}

fn unavailable() -> Response {
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}

#[tokio::test]
async fn a_failure_that_passes_is_not_noticed() {
    let failures: [fn() -> Response; 3] = [
        unavailable,
        || StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        || StatusCode::TOO_MANY_REQUESTS.into_response(),
    ];
    for failure in failures {
        let service = failing(RETRIES_MAX, failure).await;
        let world = World::new(at(&service.url));
        assert_eq!(within(world.client.orders("aiko")).await.unwrap(), []);
        assert_eq!(service.asked().len(), 1 + RETRIES_MAX);
        assert_eq!(world.metrics.all(), []);
    }
}

#[tokio::test]
async fn after_so_many_retries_the_call_has_failed_and_the_breaker_opens() {
    let service = failing(RETRIES_MAX + 1, unavailable).await;
    let world = World::new(at(&service.url));
    failure(within(world.client.orders("aiko")).await);
    assert_eq!(service.asked().len(), 1 + RETRIES_MAX);
    assert_eq!(world.metrics.total_of("BreakerOpened", "orders"), 1);
    assert!(matches!(world.hints.told().as_slice(), [(Upstream::Orders, _)]), "{:?}", world.hints.told());
}

#[tokio::test]
async fn a_service_that_is_down_is_not_called() {
    let service = Fake::always(StatusCode::BAD_GATEWAY, "").await;
    let world = World::new(at(&service.url));
    failure(within(world.client.orders("aiko")).await);
    let before = service.asked().len();
    for _ in 0..20 {
        failure(world.client.orders("aiko").await);
        failure(world.client.order("aiko", "MC-1").await);
    }
    assert_eq!(service.asked().len(), before);
    assert_eq!(world.metrics.total_of("CallsSpared", "orders"), 40);
    failure(world.client.promotions().await);
    assert!(service.asked().len() > before, "another service has a breaker of its own");
}

#[tokio::test]
async fn one_probe_brings_the_traffic_back() {
    let service = failing(RETRIES_MAX + 1, unavailable).await;
    let world = World::new(at(&service.url));
    failure(within(world.client.orders("aiko")).await);
    world.clock.skip(BREAKER_OPEN_MS);
    let before = service.asked().len();
    for _ in 0..3 {
        assert_eq!(world.client.orders("aiko").await.unwrap(), []);
    }
    assert_eq!(service.asked().len(), before + 3);
    for transition in ["BreakerOpened", "BreakerHalfOpened", "BreakerClosed"] {
        assert_eq!(world.metrics.total_of(transition, "orders"), 1, "{transition}");
    }
}

#[tokio::test]
async fn a_probe_that_fails_is_not_repeated() {
    let service = Fake::always(StatusCode::BAD_GATEWAY, "").await;
    let world = World::new(at(&service.url));
    failure(within(world.client.orders("aiko")).await);
    world.clock.skip(BREAKER_OPEN_MS);
    let before = service.asked().len();
    failure(world.client.orders("aiko").await);
    failure(world.client.orders("aiko").await);
    assert_eq!(service.asked().len(), before + 1);
    assert_eq!(world.metrics.total_of("BreakerOpened", "orders"), 2);
}

#[tokio::test]
async fn a_probe_that_nobody_waited_for_blocks_nothing() {
    let calls = Arc::new(AtomicUsize::new(0));
    let service = Fake::start(move |_| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0..=RETRIES_MAX => unavailable(),
                // The probe.
                3 => std::future::pending().await,
                _ => no_orders(),
            }
        }
    })
    .await;
    let world = World::new(at(&service.url));
    failure(within(world.client.orders("aiko")).await);
    world.clock.skip(BREAKER_OPEN_MS);
    let probe = 1 + RETRIES_MAX + 1;
    tokio::select! {
        _ = world.client.orders("aiko") => panic!("the probe was answered"),
        () = within(service.is_asked(probe)) => {}
    }
    failure(world.client.orders("aiko").await);
    world.clock.skip(BREAKER_PROBE_MS);
    assert_eq!(world.client.orders("aiko").await.unwrap(), []);
}

#[tokio::test]
async fn our_own_mistakes_are_neither_repeated_nor_held_against_the_service() {
    for status in [StatusCode::BAD_REQUEST, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::CONFLICT] {
        let service = Fake::always(status, "").await;
        let world = World::new(at(&service.url));
        failure(world.client.orders("aiko").await);
        failure(world.client.orders("aiko").await);
        assert_eq!(service.asked().len(), 2);
        assert_eq!(world.metrics.all(), []);
    }
}

#[tokio::test]
async fn a_service_that_talks_nonsense_is_left_alone_at_once() {
    let service = Fake::always(StatusCode::OK, "<html>maintenance</html>").await;
    let world = World::new(at(&service.url));
    failure(world.client.orders("aiko").await);
    failure(world.client.orders("aiko").await);
    assert_eq!(service.asked().len(), 1);
    assert_eq!(world.metrics.total_of("BreakerOpened", "orders"), 1);
}

#[tokio::test]
async fn what_others_say_is_heeded_once() {
    let service = failing(0, unavailable).await;
    let world = World::new(at(&service.url));
    let open_until = world.clock.now_ms() + BREAKER_OPEN_MS;
    world.hints.set_breaker(Upstream::Orders, Hint { reports: BREAKER_REPORTS_MIN, open_until });
    failure(world.client.orders("aiko").await);
    assert_eq!(service.asked().len(), 0);
    assert_eq!(world.client.promotions().await.map(|_| ()).unwrap_err().operation, "ask for promotions");
    world.clock.skip(BREAKER_OPEN_MS);
    world.hints.set_breaker(Upstream::Orders, Hint { reports: BREAKER_REPORTS_MIN, open_until: u64::MAX });
    assert_eq!(world.client.orders("aiko").await.unwrap(), [], "it probes by itself");
    assert_eq!(world.client.orders("aiko").await.unwrap(), []);
}

#[tokio::test]
async fn a_call_ends_in_its_time_whatever_the_service_does() {
    let silent = Fake::silent().await;
    for timeout_ms in [300, 1_000, 60_000] {
        let orders = ServiceConfiguration { url: silent.url.clone(), timeout_ms };
        let configuration = StoreConfiguration { orders, ..at(&silent.url) };
        let world = World::with(configuration, None, SkippingClock::start());
        let began = world.clock.monotonic_ms();
        failure(within(world.client.orders("aiko")).await);
        let took = world.clock.monotonic_ms() - began;
        assert!(took < SERVICE_CALL_MS + 2_000, "{took} ms with attempts of {timeout_ms} ms");
    }
}

#[tokio::test]
async fn an_attempt_that_is_late_is_made_again_in_the_time_that_is_left() {
    let calls = Arc::new(AtomicUsize::new(0));
    let slow_once = Fake::start(move |_| {
        let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        async move { if first { std::future::pending().await } else { no_orders() } }
    })
    .await;
    let orders = ServiceConfiguration { url: slow_once.url.clone(), timeout_ms: 100 };
    let world = World::new(StoreConfiguration { orders, ..at(&slow_once.url) });
    assert_eq!(within(world.client.orders("aiko")).await.unwrap(), []);
    assert_eq!(slow_once.asked().len(), 2);
}

fn busy(seconds: &'static str) -> Response {
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds)]).into_response()
}

#[tokio::test]
async fn a_service_that_asks_for_a_short_pause_gets_it() {
    assert_eq!(RETRY_AFTER_MS_MAX, 1_000);
    let service = failing(1, || busy("1")).await;
    let world = World::with(at(&service.url), None, SkippingClock::slower(5));
    let began = world.clock.monotonic_ms();
    assert_eq!(within(world.client.orders("aiko")).await.unwrap(), []);
    let took = world.clock.monotonic_ms() - began;
    assert!(took >= RETRY_AFTER_MS_MAX, "asked again after {took} ms");
}

#[tokio::test]
async fn a_service_that_asks_for_a_long_pause_is_left_alone() {
    let service = failing(1, || busy("2")).await;
    let world = World::new(at(&service.url));
    failure(world.client.orders("aiko").await);
    assert_eq!(service.asked().len(), 1);
    assert_eq!(world.metrics.total_of("BreakerOpened", "orders"), 1);
}

#[tokio::test]
async fn a_pause_that_cannot_be_read_is_as_good_as_none() {
    for nonsense in ["Fri, 31 Dec 1999 23:59:59 GMT", "-1", "", "99999999999999999999999"] {
        let service = failing(
            1,
            match nonsense {
                "-1" => || busy("-1"),
                "" => || busy(""),
                "99999999999999999999999" => || busy("99999999999999999999999"),
                _ => || busy("Fri, 31 Dec 1999 23:59:59 GMT"),
            },
        )
        .await;
        assert_eq!(World::new(at(&service.url)).client.orders("aiko").await.unwrap(), [], "{nonsense}");
    }
}

#[tokio::test]
async fn a_service_out_of_reach_is_tried_again_and_then_left_alone() {
    let world = World::new(StoreConfiguration { orders: service(NOBODY), ..at("http://store.example") });
    failure(within(world.client.orders("aiko")).await);
    assert_eq!(world.metrics.total_of("BreakerOpened", "orders"), 1);
}
