//! `DynamoDbQuarantine` on an engine.

use std::collections::BTreeMap;

use aws_adapters::DynamoDbQuarantine;
use domain::ids::TurnId;
use domain::ports::QueueName;
use domain::redrive::{Quarantine as _, Quarantined, Reason, RedriveState, RedriveStates as _};
use testkit::START_MS;

use crate::engine::{Engine, TABLE, client};
use crate::fake::nobody;
use crate::{failure, within};

fn entry(message_id: &str, payload: String) -> Quarantined {
    Quarantined {
        queue: QueueName::FollowUp,
        message_id: message_id.to_owned(),
        reason: Reason::UnknownKind,
        refusal: None,
        payload,
        turn_id: None,
        first_sent_at: START_MS,
        redrives: 2,
        quarantined_at: START_MS + 1,
    }
}

/// The payload as an operator puts it together.
async fn payload(engine: &Engine, message_id: &str) -> (u64, String) {
    let item = engine.item("quarantine#follow-up", message_id).await;
    let parts = item["payload_parts"].as_n().unwrap().parse().unwrap();
    let mut payload = item["payload"].as_s().unwrap().clone();
    for part in 2..=parts {
        let item = engine.item(&format!("quarantine#follow-up#{message_id}"), &format!("part#{part}")).await;
        payload.push_str(item["payload"].as_s().unwrap());
    }
    (parts, payload)
}

#[tokio::test]
async fn items_are_laid_out_as_documented_and_poison_is_kept_for_thirty_days() {
    let engine = Engine::start().await;
    let store = DynamoDbQuarantine::new(engine.client.clone(), TABLE);
    store.put(&entry("m-1", "{}".to_owned())).await.unwrap();
    store.put(&entry("m-1", "{}".to_owned())).await.unwrap();
    let refused = Quarantined {
        queue: QueueName::Watchdog,
        refusal: Some("a watchdog's task".to_owned()),
        turn_id: TurnId::parse("t-1"),
        ..entry("m-2", "x".repeat(300_001))
    };
    store.put(&refused).await.unwrap();
    store.set_state(QueueName::FollowUp, &RedriveState { halted_until: Some(START_MS), refailures: 3 }).await.unwrap();
    let thirty_days_on = START_MS / 1_000 + 30 * 86_400 + 1;
    let expected = [
        (
            "quarantine#follow-up m-1",
            format!("expires_at first_sent_at payload payload_parts quarantined_at reason redrives = {thirty_days_on}"),
        ),
        (
            "quarantine#watchdog m-2",
            format!(
                "expires_at first_sent_at payload payload_parts quarantined_at reason redrives refusal turn = \
                 {thirty_days_on}"
            ),
        ),
        ("quarantine#watchdog#m-2 part#2", format!("expires_at payload = {thirty_days_on}")),
        ("redrive#follow-up state", "halted_until refailures = for good".to_owned()),
    ];
    assert_eq!(engine.lines().await, BTreeMap::from(expected.map(|(key, names)| (key.to_owned(), names))));
    let item = engine.item("quarantine#follow-up", "m-1").await;
    assert_eq!(item["reason"].as_s().unwrap(), "\"unknown_kind\"");
}

#[tokio::test]
async fn the_largest_message_is_kept_whole() {
    let engine = Engine::start().await;
    let store = DynamoDbQuarantine::new(engine.client.clone(), TABLE);
    let cases = [
        ("empty", 1, String::new()),
        ("one", 1, "x".repeat(300_000)),
        ("two", 2, "x".repeat(300_001)),
        // A character of three bytes does not end where a part would.
        ("largest", 4, "漫".repeat(1_048_576 / 3)),
        ("uneven", 2, format!("x{}", "漫".repeat(100_000))),
    ];
    for (message_id, parts, text) in cases {
        store.put(&entry(message_id, text.clone())).await.unwrap();
        assert!(payload(&engine, message_id).await == (parts, text), "{message_id}");
    }
}

#[tokio::test]
async fn an_entry_that_is_there_is_whole() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(0).await;
    let store = DynamoDbQuarantine::new(wire.client.clone(), TABLE);
    store.put(&entry("m-1", "x".repeat(700_000))).await.unwrap();
    let keys: Vec<_> = wire
        .requests()
        .into_iter()
        .map(|(_, request)| request["Item"]["sk"]["S"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["part#2", "part#3", "m-1"]);
}

#[tokio::test]
async fn each_queue_has_a_state() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(1).await;
    let store = DynamoDbQuarantine::new(wire.client.clone(), TABLE);
    let states = async || {
        let (follow_up, watchdog) = (store.state(QueueName::FollowUp), store.state(QueueName::Watchdog));
        (follow_up.await.unwrap(), watchdog.await.unwrap())
    };
    let unknown = RedriveState::default();
    assert_eq!(states().await, (unknown, unknown));
    let halted = RedriveState { halted_until: Some(START_MS), refailures: 21 };
    store.set_state(QueueName::FollowUp, &halted).await.unwrap();
    assert_eq!(states().await, (halted, unknown));
    let counting = RedriveState { halted_until: None, refailures: 1 };
    store.set_state(QueueName::Watchdog, &counting).await.unwrap();
    assert_eq!(states().await, (halted, counting));
    store.set_state(QueueName::FollowUp, &unknown).await.unwrap();
    assert_eq!(states().await, (unknown, counting));
    assert_eq!(wire.lost(), 3);
}

#[tokio::test]
async fn without_its_table_or_out_of_reach_the_store_is_unavailable() {
    let engine = Engine::start().await;
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    for client in [engine.client.clone(), client(&nobody().await)] {
        let store = DynamoDbQuarantine::new(client, TABLE);
        failure(within(store.put(&entry("m-1", String::new()))).await);
        failure(within(store.state(QueueName::FollowUp)).await);
        failure(within(store.set_state(QueueName::FollowUp, &RedriveState::default())).await);
    }
}
