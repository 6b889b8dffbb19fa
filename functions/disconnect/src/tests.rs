//! Connections are forgotten, whatever the event looks like.

use std::collections::BTreeMap;
use std::fs;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use domain::ids::SessionId;
use domain::limits::CONNECTION_LIFE_MS;
use domain::ports::{Connection, ConnectionStore as _};
use serde_json::{Value, json};
use testkit::{Fault, InMemory, START_MS, samples};

use crate::handle;

const ID: &str = "Zt4mKdx9tjMCJ7w=";

/// The samples by name.
fn sample_events() -> BTreeMap<String, Value> {
    fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/disconnect"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let event = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), event)
        })
        .collect()
}

fn closed() -> Value {
    sample_events().remove("closed").unwrap()
}

/// A world in which the samples' connection and another one are known.
fn world() -> InMemory {
    let world = InMemory::new();
    for id in [ID, "another"] {
        let connection = Connection {
            id: samples::connection(id),
            principal: samples::shopper("aiko"),
            session_id: SessionId::parse("session").unwrap(),
            connected_at: START_MS,
            expires_at: START_MS + CONNECTION_LIFE_MS,
        };
        world.run(world.connections.inner.register(&connection, 2)).unwrap().unwrap();
    }
    world
}

fn knows(world: &InMemory, id: &str) -> bool {
    world.connections.inner.get(&samples::connection(id)).is_some()
}

fn status(world: &InMemory, event: Value) -> i64 {
    let event: ApiGatewayWebsocketProxyRequest = serde_json::from_value(event).unwrap();
    world.run(handle(&world.connections, event)).expect("nothing crashed").status_code
}

#[test]
fn every_sample_is_forgotten() {
    let mut forgotten = Vec::new();
    for (name, event) in sample_events() {
        let world = world();
        let told = event["requestContext"]["disconnectStatusCode"].as_i64().unwrap();
        assert_eq!(status(&world, event), 200);
        assert_eq!((knows(&world, ID), knows(&world, "another")), (false, true), "{name}");
        forgotten.push((name, told));
    }
    let expected = [("closed", 1000), ("idle", 1001), ("lost", 1005)];
    assert_eq!(forgotten, expected.map(|(name, code)| (name.to_owned(), code)));
}

#[test]
fn an_unknown_connection_is_forgotten_already() {
    let world = world();
    assert_eq!((status(&world, closed()), status(&world, closed())), (200, 200));
    assert!(!knows(&world, ID));
}

#[test]
fn a_connection_that_cannot_be_forgotten_is_left_to_expire() {
    let world = world();
    world.faults.plan(0, Fault::FailBefore);
    assert_eq!(status(&world, closed()), 200, "API Gateway would not try again");
    assert!(knows(&world, ID));
}

#[test]
fn only_the_connection_must_be_named() {
    for missing in ["authorizer", "disconnectStatusCode", "disconnectReason", "domainName", "routeKey"] {
        let (world, mut event) = (world(), closed());
        event["requestContext"].as_object_mut().unwrap().remove(missing).expect(missing);
        assert_eq!((status(&world, event), knows(&world, ID)), (200, false), "without {missing}");
    }
    let (world, mut event) = (world(), closed());
    event["requestContext"]["connectionId"] = json!(null);
    assert_eq!((status(&world, event), world.faults.effects().len()), (200, 0));
}

#[test]
fn an_environment_serves_many_disconnects_at_once() {
    fn send(_: impl Send) {}
    let world = InMemory::new();
    send(handle(&world.connections, serde_json::from_value(closed()).unwrap()));
}
