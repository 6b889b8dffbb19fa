//! `DynamoDbHints` on an engine.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_adapters::DynamoDbHints;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use axum::http::StatusCode;
use domain::breaker::{Hint, Upstream};
use domain::limits::{
    BREAKER_OPEN_MS, HINT_COPIES, HINT_REPORTS_MAX, HINT_TAG_BYTES_MAX, HINT_TAG_MS, HINT_TAGS_MAX, HINTS_REFRESH_MS,
};
use domain::ports::{Clock as _, SharedHints as _};
use domain::store::tags;
use futures_util::future::join_all;
use testkit::{ManualClock, START_MS};

use crate::engine::{Engine, TABLE, Wire, client, patient};
use crate::fake::{Fake, nobody};
use crate::{failure, within};

type Hints = DynamoDbHints<ManualClock>;

/// An environment of its own.
fn hints(client: &Client, clock: &ManualClock) -> Hints {
    DynamoDbHints::new(client.clone(), TABLE, clock.clone())
}

/// Waits until something is so; whoever waits for ever has failed.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    within(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The members of a set, as each copy has them.
async fn copies(engine: &Engine, attribute: &str) -> Vec<BTreeSet<String>> {
    let client = patient(&engine.client);
    join_all((0..HINT_COPIES).map(async |copy| {
        let key = |text: String| AttributeValue::S(text);
        let read = client.get_item().table_name(TABLE).consistent_read(true);
        let read = read.key("pk", key(format!("hints#{copy}"))).key("sk", key("hints".to_owned())).send().await;
        let item = read.unwrap().item.unwrap_or_default();
        item.get(attribute).map(|set| set.as_ss().unwrap().iter().cloned().collect()).unwrap_or_default()
    }))
    .await
}

/// The members of a set that all copies hold.
async fn stored(engine: &Engine, attribute: &str) -> BTreeSet<String> {
    copies(engine, attribute).await.into_iter().reduce(|some, others| &some & &others).unwrap()
}

/// Reports a breaker as open and waits until every copy says so.
async fn opened(engine: &Engine, hints: &Hints, upstream: Upstream, until_ms: u64) {
    let attribute = format!("open_{}", upstream.name());
    let before = stored(engine, &attribute).await.len();
    hints.opened(upstream, until_ms);
    until(async || stored(engine, &attribute).await.len() > before).await;
}

/// Has an environment read what the others have told.
async fn refreshed(hints: &Hints, clock: &ManualClock, is_so: impl Fn(&Hints) -> bool) {
    clock.advance(HINTS_REFRESH_MS);
    until(async || is_so(hints)).await;
}

fn tag_names(count: usize) -> Vec<String> {
    (0..count).map(|number| tags::product(&format!("p-{number}"))).collect()
}

#[tokio::test]
async fn environments_learn_of_the_open_breakers_of_others() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let [one, two, three] = [(); 3].map(|()| hints(&engine.client, &clock));
    let open_until = START_MS + BREAKER_OPEN_MS;
    opened(&engine, &one, Upstream::Catalog, open_until).await;
    opened(&engine, &two, Upstream::Catalog, open_until + 7).await;
    refreshed(&three, &clock, |hints| hints.breaker(Upstream::Catalog).reports == 2).await;
    assert_eq!(three.breaker(Upstream::Catalog).open_until, open_until + 7);
    assert_eq!(three.breaker(Upstream::Orders), Hint::default(), "of each upstream on its own");

    let of_two = Hint { reports: 1, open_until: open_until + 7 };
    refreshed(&one, &clock, |hints| hints.breaker(Upstream::Catalog) == of_two).await;
    clock.advance_to(open_until + 6);
    assert_eq!(three.breaker(Upstream::Catalog), of_two, "one of them has passed");
    clock.advance_to(open_until + 7);
    assert_eq!(three.breaker(Upstream::Catalog), Hint::default(), "and now the other");
}

#[tokio::test]
async fn environments_learn_of_what_is_out_of_date() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let (catalog, shop) = (hints(&engine.client, &clock), hints(&engine.client, &clock));
    let product = tags::product("one-piece-1");
    catalog.invalidate(&[product.clone(), tags::PROMOTIONS.to_owned()], START_MS).await.unwrap();
    refreshed(&shop, &clock, |hints| hints.invalidated_at(&product) == START_MS).await;
    assert_eq!(shop.invalidated_at(tags::PROMOTIONS), START_MS);
    assert_eq!(shop.invalidated_at(tags::SELECTION), 0);

    catalog.invalidate(&[product.clone(), product.clone()], START_MS + 9).await.unwrap();
    refreshed(&shop, &clock, |hints| hints.invalidated_at(&product) == START_MS + 9).await;
    catalog.invalidate(&[], START_MS + 20).await.unwrap();
    assert_eq!(stored(&engine, "invalidated").await.len(), 3);
}

#[tokio::test]
async fn nobody_waits_and_one_reads_at_a_time() {
    let (silent, clock) = (Fake::silent().await, ManualClock::new());
    let hints = hints(&client(&silent.url), &clock);
    for _ in 0..1_000 {
        assert_eq!(hints.breaker(Upstream::Catalog), Hint::default());
        assert_eq!(hints.invalidated_at(tags::PROMOTIONS), 0);
    }
    let calls = || silent.requests().len();
    until(async || calls() > 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(calls(), 1, "while it waits nobody else asks");
    clock.advance(HINTS_REFRESH_MS);
    hints.breaker(Upstream::Catalog);
    until(async || calls() == 2).await;
    hints.opened(Upstream::Catalog, START_MS + BREAKER_OPEN_MS);
    until(async || calls() == 3).await;
}

#[tokio::test]
async fn a_table_that_fails_changes_nothing() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let (one, two) = (hints(&engine.client, &clock), hints(&engine.client, &clock));
    let open_until = START_MS + BREAKER_OPEN_MS;
    one.invalidate(&[tags::PROMOTIONS.to_owned()], START_MS).await.unwrap();
    opened(&engine, &one, Upstream::Catalog, open_until).await;
    refreshed(&two, &clock, |hints| hints.invalidated_at(tags::PROMOTIONS) == START_MS).await;
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    clock.advance(HINTS_REFRESH_MS);
    for _ in 0..3 {
        assert_eq!(two.breaker(Upstream::Catalog), Hint { reports: 1, open_until });
        assert_eq!(two.invalidated_at(tags::PROMOTIONS), START_MS);
        two.opened(Upstream::Orders, open_until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_failed_read_is_not_repeated_before_its_time() {
    let broken = Fake::always(StatusCode::INTERNAL_SERVER_ERROR, "{}").await;
    let clock = ManualClock::new();
    let hints = hints(&client(&broken.url), &clock);
    for expected in 1..=3 {
        for _ in 0..20 {
            hints.breaker(Upstream::Catalog);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        until(async || broken.requests().len() == expected).await;
        clock.advance(HINTS_REFRESH_MS);
    }
}

#[tokio::test]
async fn an_opening_is_told_once() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let wire = engine.behind_a_lossy_wire(0).await;
    let hints = hints(&wire.client, &clock);
    let open_until = START_MS + BREAKER_OPEN_MS;
    for _ in 0..5 {
        hints.opened(Upstream::Model, open_until);
    }
    let requests = 1 + HINT_COPIES as usize;
    until(async || wire.requests().len() == requests).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(wire.requests().len(), requests, "read once, and every copy written once");
    hints.opened(Upstream::Model, open_until + BREAKER_OPEN_MS);
    until(async || wire.requests().len() == 2 * requests).await;
}

#[tokio::test]
async fn so_many_reports_are_kept_until_they_have_passed() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let wire = engine.behind_a_lossy_wire(0).await;
    let open_until = START_MS + BREAKER_OPEN_MS;
    let environments: Vec<Hints> = (0..HINT_REPORTS_MAX).map(|_| hints(&engine.client, &clock)).collect();
    for environment in &environments {
        opened(&engine, environment, Upstream::Orders, open_until).await;
    }
    let one_more = hints(&wire.client, &clock);
    one_more.opened(Upstream::Orders, open_until);
    until(async || one_more.breaker(Upstream::Orders).reports == HINT_REPORTS_MAX).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(wire.requests().iter().all(|(operation, _)| operation == "GetItem"), "enough others say so");
    assert_eq!(stored(&engine, "open_orders").await.len(), HINT_REPORTS_MAX);

    clock.advance_to(open_until);
    one_more.opened(Upstream::Orders, open_until + BREAKER_OPEN_MS);
    until(async || stored(&engine, "open_orders").await.len() == 1).await;
    let read = hints(&engine.client, &clock);
    until(async || read.breaker(Upstream::Orders) == Hint { reports: 1, open_until: open_until + BREAKER_OPEN_MS })
        .await;
}

#[tokio::test]
async fn a_full_set_of_reports_is_not_exceeded_by_those_who_did_not_know() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let client = patient(&engine.client);
    let environments: Vec<Hints> = (0..4 * HINT_REPORTS_MAX).map(|_| hints(&client, &clock)).collect();
    for environment in &environments {
        environment.opened(Upstream::Orders, START_MS + BREAKER_OPEN_MS);
    }
    until(async || {
        let copies = copies(&engine, "open_orders").await;
        assert!(copies.iter().all(|reports| reports.len() <= HINT_REPORTS_MAX), "{copies:?}");
        copies.iter().all(|reports| reports.len() == HINT_REPORTS_MAX)
    })
    .await;
}

#[tokio::test]
async fn so_many_tags_are_listed_and_one_more_is_everything() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let (catalog, shop) = (hints(&engine.client, &clock), hints(&engine.client, &clock));
    let tags = tag_names(HINT_TAGS_MAX + 1);
    let (one_more, listed) = tags.split_last().unwrap();
    for tag in listed {
        catalog.invalidate(std::slice::from_ref(tag), START_MS).await.unwrap();
    }
    assert_eq!(stored(&engine, "invalidated").await.len(), HINT_TAGS_MAX);
    refreshed(&shop, &clock, |hints| listed.iter().all(|tag| hints.invalidated_at(tag) == START_MS)).await;
    assert_eq!(shop.invalidated_at(one_more), 0);

    catalog.invalidate(std::slice::from_ref(one_more), START_MS + 1).await.unwrap();
    refreshed(&shop, &clock, |hints| hints.invalidated_at("whatever") == START_MS + 1).await;
    assert!(tags.iter().all(|tag| shop.invalidated_at(tag) == START_MS + 1));

    catalog.invalidate(std::slice::from_ref(one_more), START_MS + 2).await.unwrap();
    assert_eq!(stored(&engine, "invalidated").await.len(), 1, "what everything includes makes room");
    refreshed(&shop, &clock, |hints| hints.invalidated_at(one_more) == START_MS + 2).await;
    assert_eq!(shop.invalidated_at("whatever"), START_MS + 1);
}

#[tokio::test]
async fn as_many_tags_at_once_are_listed_and_one_more_is_everything() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let catalog = hints(&engine.client, &clock);
    catalog.invalidate(&tag_names(HINT_TAGS_MAX), START_MS).await.unwrap();
    assert_eq!(stored(&engine, "invalidated").await.len(), HINT_TAGS_MAX);
    catalog.invalidate(&tag_names(HINT_TAGS_MAX + 1), START_MS + 1).await.unwrap();
    catalog.invalidate(&tag_names(HINT_TAGS_MAX + 1), START_MS).await.unwrap();
    let shop = hints(&engine.client, &clock);
    until(async || shop.invalidated_at("whatever") == START_MS + 1).await;
}

#[tokio::test]
async fn a_full_list_makes_room_by_what_has_passed_or_is_said_again() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let catalog = hints(&engine.client, &clock);
    let tags = tag_names(HINT_TAGS_MAX);
    let half = HINT_TAGS_MAX / 2;
    catalog.invalidate(&tags[..half], START_MS).await.unwrap();
    catalog.invalidate(&tags[..half], START_MS + 1).await.unwrap();
    catalog.invalidate(&tags[half..], START_MS + 2).await.unwrap();
    let expected = |half_at: u64| {
        let at =
            |(number, tag): (usize, &String)| format!("{}|{tag}", if number < half { half_at } else { START_MS + 2 });
        tags.iter().enumerate().map(at).collect::<BTreeSet<_>>()
    };
    assert_eq!(stored(&engine, "invalidated").await, expected(START_MS + 1));

    let later = START_MS + 1 + HINT_TAG_MS;
    catalog.invalidate(&tags[..half], later).await.unwrap();
    assert_eq!(stored(&engine, "invalidated").await, expected(later));
    let shop = hints(&engine.client, &clock);
    until(async || shop.invalidated_at(&tags[0]) == later).await;
    assert_eq!(shop.invalidated_at("whatever"), 0, "nothing was forgotten, and nothing else is out of date");
}

#[tokio::test]
async fn a_long_tag_counts_as_its_beginning() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let catalog = hints(&engine.client, &clock);
    let longest = "t".repeat(HINT_TAG_BYTES_MAX);
    let (longer, japanese) = (format!("{longest}-and-more"), "本".repeat(HINT_TAG_BYTES_MAX));
    catalog.invalidate(&[longer.clone(), japanese.clone()], START_MS).await.unwrap();
    let shop = hints(&engine.client, &clock);
    until(async || shop.invalidated_at(&longer) == START_MS).await;
    assert_eq!(shop.invalidated_at(&longest), START_MS);
    assert_eq!(shop.invalidated_at(&japanese), START_MS);
    assert_eq!(shop.invalidated_at(&longest[1..]), 0);
}

#[tokio::test]
async fn writers_at_the_same_time_lose_nothing() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let client = patient(&engine.client);
    let environments: Vec<Hints> = (0..4).map(|_| hints(&client, &clock)).collect();
    let tags = tag_names(24);
    let writers = environments.iter().zip(tags.chunks(6)).map(async |(environment, tags)| {
        environment.opened(Upstream::Catalog, START_MS + BREAKER_OPEN_MS);
        for tag in tags {
            environment.invalidate(std::slice::from_ref(tag), START_MS).await.unwrap();
        }
    });
    within(join_all(writers)).await;
    let invalidated: BTreeSet<String> = tags.iter().map(|tag| format!("{START_MS}|{tag}")).collect();
    assert_eq!(stored(&engine, "invalidated").await, invalidated);
    until(async || stored(&engine, "open_catalog").await.len() == environments.len()).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_tells_nothing_twice() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let wire: Wire = engine.behind_a_lossy_wire(1).await;
    let cut_off = hints(&wire.client, &clock);
    within(cut_off.invalidate(&tag_names(2), START_MS)).await.unwrap();
    assert_eq!(wire.lost(), HINT_COPIES);
    assert_eq!(stored(&engine, "invalidated").await.len(), 2);
}

#[tokio::test]
async fn an_invalidation_that_does_not_reach_everybody_has_failed() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    for client in [engine.client.clone(), client(&nobody().await)] {
        failure(within(hints(&client, &clock).invalidate(&tag_names(1), START_MS)).await);
    }
}

#[tokio::test]
async fn the_fullest_item_costs_half_a_unit_to_read_and_expires_with_what_it_says() {
    let (engine, clock) = (Engine::start().await, ManualClock::new());
    let tags: Vec<String> = (0..HINT_TAGS_MAX).map(|number| format!("{number:0>HINT_TAG_BYTES_MAX$}")).collect();
    let catalog = hints(&engine.client, &clock);
    catalog.invalidate(&tag_names(HINT_TAGS_MAX + 1), START_MS - 1).await.unwrap();
    catalog.invalidate(&tags, START_MS).await.unwrap();
    let client = patient(&engine.client);
    for _ in 0..HINT_REPORTS_MAX {
        let environment = hints(&client, &clock);
        for upstream in Upstream::ALL {
            environment.opened(upstream, START_MS + BREAKER_OPEN_MS);
        }
    }
    for upstream in Upstream::ALL {
        let attribute = format!("open_{}", upstream.name());
        until(async || stored(&engine, &attribute).await.len() == HINT_REPORTS_MAX).await;
    }
    let expires_at = (START_MS + HINT_TAG_MS) / 1_000;
    let opened = "open_catalog open_knowledge open_model open_orders open_promotions open_recommendations open_reviews";
    for line in engine.lines().await.into_values() {
        assert_eq!(line, format!("everything_at expires_at invalidated {opened} = {expires_at}"));
    }
    let key = |text: &str| AttributeValue::S(text.to_owned());
    let read = engine.client.get_item().table_name(TABLE).key("pk", key("hints#3")).key("sk", key("hints"));
    let read = read.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await.unwrap();
    assert_eq!(read.consumed_capacity.unwrap().capacity_units, Some(0.5));

    let wire = engine.behind_a_lossy_wire(0).await;
    let reader = hints(&wire.client, &clock);
    until(async || reader.invalidated_at(&tags[0]) == START_MS).await;
    let (operation, request) = wire.requests().remove(0);
    assert_eq!(operation, "GetItem");
    assert_ne!(request["ConsistentRead"], true);

    clock.advance(HINT_TAG_MS);
    let late = hints(&engine.client, &clock);
    assert_eq!(late.invalidated_at(&tags[0]), 0);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(late.invalidated_at(&tags[0]), 0, "what has expired is not there, whenever it is deleted");
    assert!(clock.now_ms() >= expires_at * 1_000);
}
