//! Whoever subscribes learns how turns end.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, message, message_in};
use crate::conversation::LONG_QUESTION;
use crate::eventually::eventually;
use crate::queues::{Queue, attribute, body};
use crate::stack::shared;

/// The watchdog looks at a turn 15 s after it was asked.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_turns_end_is_published() {
    let stack = shared().await;
    let queue = Queue::create(&stack.sdk()).await;
    queue.subscribe(&stack.sdk(), stack.output("TurnEventsTopicArn")).await;

    let mut client = Client::guest(&stack).await;
    client.start_session(json!({"locale": "en"})).await;
    let completed = client.ask(&message("What is Fullmetal Alchemist about?")).await;
    let accepted = client.submit(&message_in(completed.conversation_id(), LONG_QUESTION)).await;
    client.await_frame(&accepted, "text.delta").await;
    client.send(&json!({"action": "message.cancel", "turn_id": accepted["turn_id"]})).await;
    let cancelled = client.whole_turn(&accepted).await;

    let mut events: BTreeMap<String, Value> = BTreeMap::new();
    eventually("event of every turn", PATIENCE, async || {
        for published in queue.receive(PATIENCE).await {
            let event: Value = serde_json::from_str(body(&published)).expect("JSON");
            if event["conversation_id"] == completed.conversation_id() {
                assert_eq!(attribute(&published, "kind"), Some("turn_ended"));
                assert_eq!(attribute(&published, "follow_up"), Some("no"));
                events.insert(event["turn_id"].as_str().unwrap().to_owned(), event);
            }
        }
        (events.len() == 2).then_some(())
    })
    .await;
    for (turn, number, state) in [(&completed, 1, "completed"), (&cancelled, 2, "cancelled")] {
        let event = &events[turn.id()];
        assert_eq!((&event["number"], &event["state"]), (&json!(number), &json!(state)), "{event}");
        assert_eq!(event["intent"], turn.started()["intent"]);
        assert_eq!(event["ended_at"], turn.end()["ts"]);
    }
    assert_eq!(events[completed.id()]["usage"], completed.end()["data"]["usage"]);
}
