//! `DynamoDbConnections` on an engine.

use std::collections::BTreeMap;

use aws_adapters::DynamoDbConnections;
use aws_sdk_dynamodb::Client;
use domain::ids::SessionId;
use domain::limits::CONNECTION_LIFE_MS;
use domain::ports::{Clock as _, Connection, ConnectionStore, Registration};
use domain::protocol::Locale;
use testkit::{ManualClock, START_MS, contract, samples};

use crate::engine::{Engine, TABLE, client};
use crate::fake::nobody;
use crate::{failure, within};

fn connections(client: &Client) -> DynamoDbConnections<ManualClock> {
    DynamoDbConnections::new(client.clone(), TABLE, ManualClock::new())
}

fn connection(name: &str, connected_at: u64) -> Connection {
    Connection {
        id: samples::connection(name),
        principal: samples::shopper("aiko"),
        session_id: SessionId::parse("s-1").unwrap(),
        connected_at,
        expires_at: connected_at + CONNECTION_LIFE_MS,
    }
}

#[tokio::test]
async fn keeps_its_contract() {
    let engine = Engine::start().await;
    within(contract::connection_store(&connections(&engine.client), "c", START_MS)).await;
}

#[tokio::test]
async fn keeps_its_contract_when_the_first_answer_to_every_write_is_lost() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(1).await;
    within(contract::connection_store(&connections(&wire.client), "c", START_MS)).await;
    assert!(wire.lost() > 0);
}

#[tokio::test]
async fn a_connection_half_forgotten_is_forgotten_by_the_next_attempt() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(3).await;
    let (store, cut_off) = (connections(&engine.client), connections(&wire.client));
    let first = connection("first=", START_MS);
    assert_eq!(store.register(&first, 1).await.unwrap(), Registration::Registered);
    failure(within(cut_off.forget(&first.id)).await);
    assert_eq!(wire.lost(), 3, "the principal's set is without it, and its own item is there");
    store.forget(&first.id).await.unwrap();
    assert_eq!(store.register(&connection("second=", START_MS), 1).await.unwrap(), Registration::Registered);
}

#[tokio::test]
async fn items_are_laid_out_as_documented_and_expire_with_their_connection() {
    let engine = Engine::start().await;
    let store = connections(&engine.client);
    store.register(&connection("a=", START_MS), 20).await.unwrap();
    store.register(&connection("b=", START_MS + 1), 20).await.unwrap();
    store.set_locale(&samples::connection("b="), Locale::En).await.unwrap();
    let two_hours_on = START_MS / 1_000 + 2 * 3_600;
    let expected = [
        ("connection#a= connection", "closes_at connected_at expires_at principal session", two_hours_on),
        ("connection#b= connection", "closes_at connected_at expires_at principal session spoken", two_hours_on + 1),
        ("principal#shopper:aiko connections", "expires_at members", two_hours_on + 1),
    ];
    let expected = expected.map(|(key, names, expires_at)| (key.to_owned(), format!("{names} = {expires_at}")));
    assert_eq!(engine.lines().await, BTreeMap::from(expected));
}

#[tokio::test]
async fn connections_make_room_when_they_expire_not_when_they_are_deleted() {
    let engine = Engine::start().await;
    let clock = ManualClock::new();
    let store = DynamoDbConnections::new(engine.client.clone(), TABLE, clock.clone());
    let register = async |name: &str, at| store.register(&connection(name, at), 2).await.unwrap();
    assert_eq!(register("a=", START_MS).await, Registration::Registered);
    assert_eq!(register("b=", START_MS + 1).await, Registration::Registered);
    clock.advance(CONNECTION_LIFE_MS - 1);
    assert_eq!(register("c=", clock.now_ms()).await, Registration::TooMany);
    clock.advance(1);
    assert_eq!(register("c=", clock.now_ms()).await, Registration::Registered, "the first has expired");
    assert_eq!(register("d=", clock.now_ms()).await, Registration::TooMany, "the second has not");
    clock.advance(1);
    assert_eq!(register("d=", clock.now_ms()).await, Registration::Registered);
}

#[tokio::test]
async fn a_principals_connections_are_those_that_have_not_expired() {
    let engine = Engine::start().await;
    let clock = ManualClock::new();
    let store = DynamoDbConnections::new(engine.client.clone(), TABLE, clock.clone());
    let aiko = samples::shopper("aiko");
    assert_eq!(store.connections_of(&aiko).await.unwrap(), []);
    for (name, at) in [("a=", START_MS), ("b=", START_MS + 1)] {
        assert_eq!(store.register(&connection(name, at), 20).await.unwrap(), Registration::Registered);
    }
    let other = Connection { principal: samples::guest("g-1"), ..connection("c=", START_MS) };
    assert_eq!(store.register(&other, 20).await.unwrap(), Registration::Registered);
    let connected = async || {
        let mut connections = store.connections_of(&aiko).await.unwrap();
        connections.sort_unstable_by_key(ToString::to_string);
        connections
    };
    assert_eq!(connected().await, [samples::connection("a="), samples::connection("b=")]);
    clock.advance(CONNECTION_LIFE_MS);
    assert_eq!(connected().await, [samples::connection("b=")]);
    store.forget(&samples::connection("b=")).await.unwrap();
    assert_eq!(connected().await, []);
}

/// What each method does on a store that does not work.
async fn check_unavailable(client: &Client) {
    let store = connections(client);
    let id = samples::connection("a=");
    within(async {
        failure(store.register(&connection("a=", START_MS), 20).await);
        failure(store.forget(&id).await);
        failure(store.set_locale(&id, Locale::Ja).await);
        failure(store.locale(&id).await);
        failure(store.connections_of(&samples::shopper("aiko")).await);
    })
    .await;
}

#[tokio::test]
async fn without_its_table_the_store_is_unavailable() {
    let engine = Engine::start().await;
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    check_unavailable(&engine.client).await;
}

#[tokio::test]
async fn out_of_reach_the_store_is_unavailable() {
    check_unavailable(&client(&nobody().await)).await;
}
