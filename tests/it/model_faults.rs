//! What a shopper sees of a model that fails, and that the answer comes all the same when it is back.

use bedrock_stand_in::{Exception, ExceptionKind, Faults, Reply, StopReason};
use serde_json::{Value, json};

use crate::client::{Client, message, message_in, question};
use crate::conversation::has_kana;
use crate::stack::{Exclusive, exclusive, shared};
use crate::turn::{Collector, Turn, kind};

const QUESTION: &str = "What is Fullmetal Alchemist about?";

/// No call is answered.
fn down() -> Faults {
    Faults { error_rate: 1.0, error: ExceptionKind::ServiceUnavailable, ..Faults::default() }
}

/// Asks until the turn waits in the queue.
async fn queued(client: &mut Client, asked: &Value) -> (Value, Collector) {
    let accepted = client.submit(asked).await;
    let mut held = Collector::default();
    client.collect(&accepted, &mut held, Collector::is_queued).await;
    (accepted, held)
}

/// The rest of the turn, on the connection it was asked on.
async fn rest(client: &mut Client, accepted: &Value, mut held: Collector) -> Turn {
    client.collect(accepted, &mut held, Collector::is_complete).await;
    held.finish()
}

/// The turn is stored as it was seen and stays what it is; the conversation goes on.
async fn assert_settled(client: &mut Client, asked: &Value, turn: &Turn, state: &str) {
    let again = client.submit(asked).await;
    assert_eq!(again["data"]["duplicate"], true);
    let replay = client.whole_turn(&again).await;
    assert_eq!(replay.shown(), turn.shown());
    assert_eq!(replay.end()["data"], turn.end()["data"]);

    let next = client.ask(&message_in(turn.conversation_id(), QUESTION)).await;
    assert_eq!(kind(next.end()), "turn.completed", "{next:#?}");
    let history = client.history(turn.conversation_id()).await;
    assert_eq!(history.len(), 2, "{history:#?}");
    assert_eq!((&history[0]["state"], &history[0]["answer"]), (&json!(state), &json!(turn.text())));
    assert_eq!(history[0]["cards"].as_array().map(Vec::len), Some(turn.shown().cards.len()));
    assert_eq!((&history[1]["state"], &history[1]["answer"]), (&json!("completed"), &json!(next.text())));
}

async fn assert_answered_when_it_is_back(stack: &Exclusive, faults: Faults) {
    let mut client = Client::guest(stack).await;
    let asked = message(QUESTION);
    stack.bedrock().set_faults(faults);
    let (accepted, held) = queued(&mut client, &asked).await;
    stack.bedrock().set_faults(Faults::default());
    let turn = rest(&mut client, &accepted, held).await;
    assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
    assert!(!turn.text().is_empty() && !turn.shown().cards.is_empty(), "{turn:#?}");
    assert!(turn.epoch() > 1 && turn.started()["restarted"] == true, "{turn:#?}");
    assert_settled(&mut client, &asked, &turn, "completed").await;
}

#[tokio::test]
async fn an_unavailable_model_delays_the_answer() {
    let stack = exclusive().await;
    assert_answered_when_it_is_back(&stack, down()).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_goes_on() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let broken = Exception::new(ExceptionKind::ModelStreamError, "The answer breaks off.");
    let reply = Reply::new().say("Two brothers look for ").fail(broken);
    let question = question();
    stack.script(&question, [reply, Reply::new().say("what they have lost.")]);
    let asked = message(&question);
    let (accepted, held) = queued(&mut client, &asked).await;
    let turn = rest(&mut client, &accepted, held).await;
    assert_eq!(kind(turn.end()), "turn.completed");
    assert_eq!(turn.text(), "Two brothers look for what they have lost.");
    assert_eq!(turn.started()["continues"], true);
    assert_settled(&mut client, &asked, &turn, "completed").await;
}

#[tokio::test]
async fn an_answer_on_which_the_model_falls_silent_goes_on() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let question = question();
    stack.script(
        &question,
        [Reply::new().say("Two brothers travel").hang(), Reply::new().say(" to find what they have lost.")],
    );
    let asked = message(&question);
    let (accepted, held) = queued(&mut client, &asked).await;
    let turn = rest(&mut client, &accepted, held).await;
    assert_eq!(turn.text(), "Two brothers travel to find what they have lost.");
    assert_settled(&mut client, &asked, &turn, "completed").await;
}

#[tokio::test]
async fn a_delayed_answer_keeps_its_conversation_busy_and_is_found_at_the_next_visit() {
    let stack = exclusive().await;
    let mut client = Client::guest(&stack).await;
    let token = client.start_session(json!({"locale": "en"})).await["resume_token"].as_str().unwrap().to_owned();
    stack.bedrock().set_faults(down());
    let asked = message(QUESTION);
    let (accepted, _) = queued(&mut client, &asked).await;
    let conversation = accepted["conversation_id"].as_str().unwrap();
    let busy = client.refused(&message_in(conversation, "Hello!")).await;
    assert_eq!(busy["code"], "conversation_busy");
    assert_eq!(client.history(conversation).await[0]["state"], "running");
    drop(client);

    let mut returned = Client::returning_guest(&stack, &token).await;
    let ready = returned.start_session(json!({"conversation_id": conversation})).await;
    assert_eq!(ready["active_turn"]["turn_id"], accepted["turn_id"], "{ready}");
    returned.resume(&accepted, &Collector::default()).await;
    stack.bedrock().set_faults(Faults::default());
    let turn = returned.whole_turn(&accepted).await;
    assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
    assert_settled(&mut returned, &asked, &turn, "completed").await;
}

#[tokio::test]
async fn a_delayed_answer_is_cancelled_at_once() {
    let stack = exclusive().await;
    let mut client = Client::guest(&stack).await;
    stack.bedrock().set_faults(down());
    let asked = message(QUESTION);
    let (accepted, held) = queued(&mut client, &asked).await;
    client.send(&json!({"action": "message.cancel", "turn_id": accepted["turn_id"]})).await;
    let turn = rest(&mut client, &accepted, held).await;
    assert_eq!((kind(turn.end()), &turn.end()["data"]["by"]), ("turn.cancelled", &json!("client")));
    stack.bedrock().set_faults(Faults::default());
    assert_settled(&mut client, &asked, &turn, "cancelled").await;
}

/// The model does not take the request: another attempt would not help.
fn refusal() -> Reply {
    Reply::refuse(Exception::new(ExceptionKind::Validation, "The request is malformed."))
}

#[tokio::test]
async fn a_request_that_the_model_refuses_fails_the_turn_and_nothing_more() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let question = question();
    stack.script(&question, [refusal()]);
    let asked = message(&question);
    let failed = client.ask(&asked).await;
    assert_eq!(kind(failed.end()), "turn.failed", "{failed:#?}");
    let end = &failed.end()["data"];
    assert_eq!((&end["code"], &end["retryable"]), (&json!("internal"), &json!(true)), "{end}");
    assert_eq!(failed.text(), "");
    assert_settled(&mut client, &asked, &failed, "failed").await;
}

#[tokio::test]
async fn failures_and_delays_are_told_in_the_shoppers_language() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    for (locale, in_japanese) in [("ja", true), ("en", false)] {
        let refused = question();
        stack.script(&refused, [refusal()]);
        let mut asked = message(&refused);
        asked["locale"] = locale.into();
        let failed = client.ask(&asked).await;
        let told = failed.end()["data"]["message"].as_str().unwrap();
        assert_eq!(has_kana(told), in_japanese, "{told}");

        let delayed = question();
        let mut asked = message(&delayed);
        asked["locale"] = locale.into();
        let broken = Exception::new(ExceptionKind::ModelStreamError, "The answer breaks off.");
        stack.script(&delayed, [Reply::new().say("…").fail(broken), Reply::new().say("…")]);
        let accepted = client.submit(&asked).await;
        let queued = client.take("turn.queued", |frame| kind(frame) == "turn.queued").await;
        let told = queued["data"]["message"].as_str().unwrap();
        assert_eq!(has_kana(told), in_japanese, "{told}");
        client.await_frame(&accepted, "turn.completed").await;
    }
}

#[tokio::test]
async fn the_reason_why_an_answer_ends_is_told() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    for (reason, told) in [
        (StopReason::EndTurn, "end_turn"),
        (StopReason::MaxTokens, "max_tokens"),
        (StopReason::GuardrailIntervened, "guardrail"),
    ] {
        let question = question();
        stack.script(&question, [Reply::new().say("Two brothers.").end(reason)]);
        let turn = client.ask(&message(&question)).await;
        assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
        assert_eq!(turn.end()["data"]["stop_reason"], told);
    }
}

#[tokio::test]
async fn text_that_fills_more_than_a_frame_is_cut_between_characters() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    // 30,000 bytes at once, where a frame holds 28,672.
    let text = "鋼".repeat(10_000);
    let question = question();
    stack.script(&question, [Reply::new().say(&text)]);
    let asked = message(&question);
    let turn = client.ask(&asked).await;
    assert_eq!(turn.text(), text);
    assert!(turn.deltas() >= 2);
    let again = client.submit(&asked).await;
    assert_eq!(client.whole_turn(&again).await.text(), text);
}
