//! Which connections open.

use std::collections::BTreeMap;
use std::fs;

use aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayWebsocketProxyRequest};
use domain::ids::{ConnectionId, Principal};
use domain::limits::{ADDRESS_CONNECTIONS_PER_MINUTE, CONNECTION_LIFE_MS, CONNECTIONS_PER_PRINCIPAL_MAX};
use domain::ports::Connection;
use domain::session::Caller;
use serde_json::{Value, json};
use testkit::{
    Fault, Faulty, InMemory, ManualClock, MemoryBuckets, MemoryConnections, START_MS, SequentialNonces, samples,
};

use crate::Connect;

/// The samples by name.
fn sample_events() -> BTreeMap<String, ApiGatewayWebsocketProxyRequest> {
    fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/connect"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let event = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), event)
        })
        .collect()
}

/// The `$connect` of a connection that speaks for `principal`.
fn connecting(id: &str, principal: &Principal) -> ApiGatewayWebsocketProxyRequest {
    let mut event = sample_events().remove("guest").unwrap();
    event.request_context.connection_id = Some(id.to_owned());
    event.request_context.authorizer.fields.insert("principal".to_owned(), principal.to_string().into());
    event
}

type InMemoryConnect = Connect<Faulty<MemoryConnections>, Faulty<MemoryBuckets>, ManualClock, SequentialNonces>;

fn connect(world: &InMemory) -> InMemoryConnect {
    Connect {
        connections: world.connections.clone(),
        buckets: world.buckets.clone(),
        clock: world.clock.clone(),
        nonces: world.nonces.clone(),
        session_key: samples::session_key(),
    }
}

fn answer(world: &InMemory, event: ApiGatewayWebsocketProxyRequest) -> ApiGatewayProxyResponse {
    world.run(connect(world).handle(event)).expect("nothing crashed")
}

#[test]
fn every_sample_is_registered() {
    let world = InMemory::new();
    let mut registered = BTreeMap::new();
    for (name, event) in sample_events() {
        assert_eq!(answer(&world, event).status_code, 200, "{name}");
        let connection = world.connections.inner.get(&samples::connection("Zt4mKdx9tjMCJ7w=")).unwrap();
        registered.insert(name, (connection.principal, connection.session_id.to_string()));
    }
    let expected = [
        ("guest", (samples::guest("s_Ov1Qm8pYc2Tz0kLr5uHnXw"), "s_Ov1Qm8pYc2Tz0kLr5uHnXw")),
        ("shopper", (samples::shopper("aiko"), "s_b7Jq4WnT9eXv2RzKd0MyLg")),
    ];
    let named =
        |(name, (principal, session)): (&str, (Principal, &str))| (name.to_owned(), (principal, session.to_owned()));
    assert_eq!(registered, expected.map(named).into());
}

#[test]
fn an_open_connection_is_known_and_speaks_the_protocol() {
    let world = InMemory::new();
    let event = connecting("one", &samples::shopper("aiko"));
    let caller =
        Caller::from_context(|name| event.request_context.authorizer.fields.get(name)?.as_str().map(str::to_owned));
    let response = serde_json::to_value(answer(&world, event)).unwrap();
    assert_eq!(response["statusCode"], 200);
    assert_eq!(response["headers"], json!({ "sec-websocket-protocol": "manga-chat.v1" }), "the token is not echoed");
    assert_eq!(
        world.connections.inner.get(&samples::connection("one")),
        Some(Connection {
            id: ConnectionId("one".to_owned()),
            principal: samples::shopper("aiko"),
            session_id: caller.unwrap().session_id,
            connected_at: START_MS,
            expires_at: START_MS + CONNECTION_LIFE_MS,
        })
    );
}

/// A refused handshake echoes no subprotocol and leaves nothing.
fn check_refused(world: &InMemory, event: ApiGatewayWebsocketProxyRequest, status: u16) {
    let id = event.request_context.connection_id.clone().unwrap_or_default();
    let response = serde_json::to_value(answer(world, event)).unwrap();
    assert_eq!((&response["statusCode"], &response["headers"]), (&json!(status), &json!({})));
    assert_eq!(world.connections.inner.get(&ConnectionId(id)), None);
}

#[test]
fn one_connection_too_many_is_refused() {
    let world = InMemory::new();
    let aiko = samples::shopper("aiko");
    for number in 0..CONNECTIONS_PER_PRINCIPAL_MAX {
        assert_eq!(answer(&world, connecting(&number.to_string(), &aiko)).status_code, 200, "{number}");
    }
    check_refused(&world, connecting("one more", &aiko), 429);
    assert_eq!(answer(&world, connecting("ben's", &samples::shopper("ben"))).status_code, 200, "others may");
    world.clock.advance(CONNECTION_LIFE_MS);
    assert_eq!(answer(&world, connecting("one more", &aiko)).status_code, 200, "the others have expired");
}

#[test]
fn without_the_authorizers_word_nobody_connects() {
    let world = InMemory::new();
    for missing in ["principal", "session_id", "expires_at"] {
        let mut event = connecting("one", &samples::shopper("aiko"));
        event.request_context.authorizer.fields.remove(missing);
        check_refused(&world, event, 401);
    }
    for (field, malformed) in [
        ("principal", json!("aiko")),
        ("principal", json!("admin:aiko")),
        ("principal", json!("shopper:")),
        ("session_id", json!("../etc")),
        ("expires_at", json!("tomorrow")),
        ("expires_at", Value::Null),
    ] {
        let mut event = connecting("one", &samples::shopper("aiko"));
        event.request_context.authorizer.fields.insert(field.to_owned(), malformed);
        check_refused(&world, event, 401);
    }
    let mut nameless = connecting("one", &samples::shopper("aiko"));
    nameless.request_context.connection_id = None;
    check_refused(&world, nameless, 401);
}

#[test]
fn an_event_of_an_api_without_authorizer_is_refused() {
    let mut event = serde_json::to_value(connecting("one", &samples::shopper("aiko"))).unwrap();
    event["requestContext"].as_object_mut().unwrap().remove("authorizer");
    check_refused(&InMemory::new(), serde_json::from_value(event).unwrap(), 401);
}

#[test]
fn a_connection_that_cannot_be_stored_does_not_open() {
    for effect in ["buckets.full_at", "buckets.take", "connections.register"].into_iter().enumerate() {
        let world = InMemory::new();
        world.faults.plan(effect.0, Fault::FailBefore);
        check_refused(&world, connecting("one", &samples::shopper("aiko")), 500);
        assert_eq!(world.faults.effects().last().map(|last| last.name), Some(effect.1));
    }
}

#[test]
fn one_connection_too_many_from_an_address_is_refused() {
    let world = InMemory::new();
    let guest = |number: u32| {
        let mut event = connecting(&number.to_string(), &samples::guest(&format!("s_{number}")));
        event.request_context.identity.source_ip = Some("203.0.113.7".to_owned());
        event
    };
    for number in 0..ADDRESS_CONNECTIONS_PER_MINUTE {
        assert_eq!(answer(&world, guest(number)).status_code, 200, "{number}");
    }
    check_refused(&world, guest(ADDRESS_CONNECTIONS_PER_MINUTE), 429);
    let mut elsewhere = guest(ADDRESS_CONNECTIONS_PER_MINUTE);
    elsewhere.request_context.identity.source_ip = Some("203.0.113.8".to_owned());
    assert_eq!(answer(&world, elsewhere).status_code, 200, "other addresses may");
    world.clock.advance(60_000 / u64::from(ADDRESS_CONNECTIONS_PER_MINUTE));
    assert_eq!(answer(&world, guest(ADDRESS_CONNECTIONS_PER_MINUTE + 1)).status_code, 200, "one a while may again");
}

#[test]
fn an_environment_serves_many_connections_at_once() {
    fn send(_: impl Send) {}
    let world = InMemory::new();
    send(connect(&world).handle(connecting("one", &samples::shopper("aiko"))));
}
