//! An answer ends early when the shopper says so, or when nobody is left to read it.

use std::time::Duration;

use bedrock_stand_in::Reply;
use serde_json::{Value, json};

use crate::client::{Client, message, message_in, now_ms, question};
use crate::conversation::LONG_QUESTION;
use crate::eventually::eventually;
use crate::stack::{exclusive, shared};
use crate::turn::{Collector, kind};

/// "Stops within 1.5 s."
const STOP_MS_MAX: u64 = 1_500;

/// "When no connection follows it any more it goes on for 10 s."
const GRACE_MS: u64 = 10_000;

#[tokio::test]
async fn a_cancelled_answer_stops_and_stays_as_far_as_it_was_shown() {
    // Alone, because time is measured.
    let stack = exclusive().await;
    let mut client = Client::guest(&stack).await;
    client.start_session(json!({"locale": "en"})).await;
    let answers_cancelled = stack.model_stats().cancelled;
    let accepted = client.submit(&message(LONG_QUESTION)).await;
    client.await_frame(&accepted, "text.delta").await;

    let asked_at = now_ms();
    client.send(&json!({"action": "message.cancel", "turn_id": accepted["turn_id"]})).await;
    let turn = client.whole_turn(&accepted).await;
    assert_eq!((kind(turn.end()), &turn.end()["data"]["by"]), ("turn.cancelled", &json!("client")));
    let stopped_after_ms = turn.end()["ts"].as_u64().unwrap().saturating_sub(asked_at);
    assert!(stopped_after_ms <= STOP_MS_MAX, "{stopped_after_ms} ms");
    assert_eq!(stack.model_stats().cancelled, answers_cancelled + 1);
    assert!(!turn.text().is_empty(), "{turn:#?}");

    // The conversation is free at once.
    let next = client.ask(&message_in(turn.conversation_id(), "Hello!")).await;
    assert_eq!(kind(next.end()), "turn.completed");
    let history = client.history(turn.conversation_id()).await;
    assert_eq!((&history[0]["state"], &history[0]["answer"]), (&json!("cancelled"), &json!(turn.text())));
    assert_eq!(history[1]["state"], "completed");

    // What has ended stays so, and says so again.
    client.send(&json!({"action": "message.cancel", "turn_id": accepted["turn_id"]})).await;
    assert_eq!(client.take("the end", |frame| frame["turn_id"] == accepted["turn_id"]).await, *turn.end());
    client.assert_silent().await;
}

#[tokio::test]
async fn an_answer_is_cancelled_by_the_messages_id_from_another_connection() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let token = client.start_session(json!({"locale": "en"})).await["resume_token"].as_str().unwrap().to_owned();
    let mut elsewhere = Client::returning_guest(&stack, &token).await;
    let asked = message(LONG_QUESTION);
    let cancel = json!({"action": "message.cancel", "client_message_id": asked["client_message_id"]});
    assert_eq!(elsewhere.refused(&cancel).await["code"], "not_found");

    let accepted = client.submit(&asked).await;
    client.await_frame(&accepted, "text.delta").await;
    let mut stranger = Client::guest(&stack).await;
    let by_turn = json!({"action": "message.cancel", "turn_id": accepted["turn_id"]});
    for of_another in [&cancel, &by_turn] {
        assert_eq!(stranger.refused(of_another).await["code"], "not_found");
    }

    elsewhere.send(&cancel).await;
    let turn = client.whole_turn(&accepted).await;
    assert_eq!((kind(turn.end()), &turn.end()["data"]["by"]), ("turn.cancelled", &json!("client")));
    let told = elsewhere.take("the end", |frame| kind(frame) == "turn.cancelled").await;
    assert_eq!(told, *turn.end());
}

#[tokio::test]
async fn an_answer_that_nobody_follows_is_given_up() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let token = client.start_session(json!({"locale": "en"})).await["resume_token"].as_str().unwrap().to_owned();
    // A model that would talk for much longer than anybody waits.
    let words = (0..240).fold(Reply::new(), |reply, _| reply.say("on and ").pause(Duration::from_millis(250)));
    let question = question();
    stack.script(&question, [words.say("on.")]);
    let asked = message(&question);
    let accepted = client.submit(&asked).await;
    let mut seen = Collector::default();
    client.collect(&accepted, &mut seen, |seen| seen.deltas() > 0).await;
    let left_at = now_ms();
    drop(client);

    // Who asks for the history does not follow the turn.
    let mut returned = Client::returning_guest(&stack, &token).await;
    let conversation = accepted["conversation_id"].as_str().unwrap();
    let ended = eventually("end of the turn", Duration::from_millis(4 * GRACE_MS), async || {
        let [turn] = <[Value; 1]>::try_from(returned.history(conversation).await).expect("one turn");
        (turn["state"] != "running").then_some(turn)
    });
    let ended = ended.await;
    assert_eq!(ended["state"], "cancelled");

    let again = returned.submit(&asked).await;
    let turn = returned.whole_turn(&again).await;
    assert_eq!(turn.end()["data"]["by"], "gone");
    assert_eq!(ended["answer"], turn.text());
    let given_up_after_ms = turn.end()["ts"].as_u64().unwrap().saturating_sub(left_at);
    assert!(given_up_after_ms >= GRACE_MS, "{given_up_after_ms} ms");
}
