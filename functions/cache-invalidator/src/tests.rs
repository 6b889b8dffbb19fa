//! Every event of the store, as it is delivered.

use std::sync::Mutex;

use domain::limits::{PRODUCTS_PER_EVENT_MAX, REVIEW_REFRESHES_MAX};
use domain::ports::{CacheInvalidations, Unavailable};
use domain::store::tags;
use serde_json::{Value, json};
use testkit::{InMemory, START_MS, Service, StoreData, samples};

use crate::{Failure, handle};

#[derive(Default)]
struct Caches {
    invalidated: Mutex<Vec<(Vec<String>, u64)>>,
    failing: bool,
}

impl CacheInvalidations for Caches {
    async fn invalidate(&self, tags: &[String], now: u64) -> Result<(), Unavailable> {
        if self.failing {
            return Err(Unavailable { operation: "invalidate", source: "the script says so".into() });
        }
        self.invalidated.lock().unwrap().push((tags.to_vec(), now));
        Ok(())
    }
}

fn heed(world: &InMemory, caches: &Caches, event: &Value) -> Result<(), Failure> {
    world.clock.block_on(handle(caches, &world.store, &world.clock, event))
}

fn stocked() -> InMemory {
    let world = InMemory::new();
    world.store.stock(samples::store_data());
    world
}

fn invalidated(event: &Value) -> Vec<String> {
    let caches = Caches::default();
    heed(&stocked(), &caches, event).unwrap();
    let mut invalidated = caches.invalidated.into_inner().unwrap();
    assert_eq!(invalidated.len(), 1);
    let (tags, at) = invalidated.remove(0);
    assert_eq!(at, START_MS);
    tags
}

#[test]
fn each_sample_event_declares_out_of_date_what_it_speaks_of() {
    let samples = samples::events::<Value>("cache-invalidator");
    for (name, expected) in [
        ("products-changed", vec![tags::product("one-piece-1"), tags::product("one-piece-2")]),
        ("selection-changed", vec![tags::SELECTION.to_owned()]),
        ("promotions-changed", vec![tags::PROMOTIONS.to_owned()]),
        ("reviews-changed", vec![tags::reviews("one-piece-1")]),
        ("scheduled", vec![tags::reviews("haikyu-1")]),
    ] {
        assert_eq!(invalidated(&samples[name]), expected, "{name}");
    }
    assert_eq!(samples.len(), 5);
}

#[test]
fn on_schedule_the_reviews_of_what_is_in_demand_are_read_again() {
    let world = stocked();
    let scheduled = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    heed(&world, &Caches::default(), &scheduled).unwrap();
    assert_eq!(world.store.calls(), [Service::Trending, Service::Reviews]);
}

#[test]
fn so_many_products_reviews_are_read_again_and_no_more() {
    for (in_demand, read) in
        [(REVIEW_REFRESHES_MAX, REVIEW_REFRESHES_MAX), (REVIEW_REFRESHES_MAX + 1, REVIEW_REFRESHES_MAX)]
    {
        let world = InMemory::new();
        let trending = (0..in_demand).map(|number| samples::product(&format!("one-piece-{number}"))).collect();
        world.store.stock(StoreData { trending, ..StoreData::default() });
        heed(&world, &Caches::default(), &json!({"source": "aws.events", "detail-type": "Scheduled Event"})).unwrap();
        let reads = world.store.calls().into_iter().filter(|service| *service == Service::Reviews).count();
        assert_eq!(reads, read, "{in_demand} in demand");
    }
}

#[test]
fn a_service_that_fails_to_say_what_is_in_demand_makes_the_schedule_come_again() {
    let world = stocked();
    world.store.fail(Service::Trending);
    let scheduled = json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}});
    assert!(matches!(heed(&world, &Caches::default(), &scheduled), Err(Failure::Unavailable(_))));
}

#[test]
fn what_cannot_be_told_comes_again() {
    let caches = Caches { failing: true, ..Caches::default() };
    let event = json!({"source": "manga-store", "detail-type": "promotions.changed"});
    assert!(matches!(heed(&stocked(), &caches, &event), Err(Failure::Unavailable(_))));
}

fn products_changed(count: usize) -> Value {
    let ids: Vec<String> = (0..count).map(|number| format!("one-piece-{number}")).collect();
    json!({"source": "manga-store", "detail-type": "products.changed", "detail": {"product_ids": ids}})
}

#[test]
fn an_event_names_so_many_products_and_no_more() {
    assert_eq!(invalidated(&products_changed(PRODUCTS_PER_EVENT_MAX)).len(), PRODUCTS_PER_EVENT_MAX);
    let caches = Caches::default();
    let refused = heed(&stocked(), &caches, &products_changed(PRODUCTS_PER_EVENT_MAX + 1));
    assert!(matches!(refused, Err(Failure::Event(_))));
    assert!(caches.invalidated.into_inner().unwrap().is_empty());
}

#[test]
fn what_is_no_event_of_the_store_is_refused() {
    for event in [
        json!(null),
        json!([]),
        json!({}),
        json!({"source": "manga-store"}),
        json!({"source": "manga-store", "detail-type": "Scheduled Event"}),
        json!({"source": "manga-store", "detail-type": "products.renamed", "detail": {"product_ids": []}}),
        json!({"source": "manga-store", "detail-type": "products.changed", "detail": {"product_ids": "one"}}),
        json!({"source": "manga-store", "detail-type": "products.changed", "detail": {"product_ids": [""]}}),
        json!({"source": "manga-store", "detail-type": "reviews.changed", "detail": {}}),
    ] {
        let caches = Caches::default();
        assert!(matches!(heed(&stocked(), &caches, &event), Err(Failure::Event(_))), "{event}");
        assert!(caches.invalidated.into_inner().unwrap().is_empty());
    }
}
