//! What a shopper sees of a model that fails, and what stays of it. Each test has the stack alone: the others need a
//! model that is well.

use bedrock_stand_in::{Exception, ExceptionKind, Faults, Reply, StopReason};
use serde_json::{Value, json};

use crate::client::{Client, message, message_in};
use crate::conversation::has_kana;
use crate::stack::{Exclusive, exclusive};
use crate::turn::{Turn, kind};

const QUESTION: &str = "What is Fullmetal Alchemist about?";

fn assert_failed(turn: &Turn) {
    assert_eq!(kind(turn.end()), "turn.failed", "{turn:#?}");
    let end = &turn.end()["data"];
    assert_eq!((&end["code"], &end["retryable"]), (&json!("unavailable"), &json!(true)), "{end}");
    assert!(!end["message"].as_str().unwrap().is_empty(), "{end}");
}

/// The failed turn is stored as it was seen and stays what it is; the conversation goes on.
async fn assert_settled(client: &mut Client, asked: &Value, failed: &Turn) {
    let again = client.submit(asked).await;
    assert_eq!(again["data"]["duplicate"], true);
    let replay = client.whole_turn(&again).await;
    assert_eq!(replay.shown(), failed.shown());
    assert_eq!(replay.end()["data"], failed.end()["data"]);

    let next = client.ask(&message_in(failed.conversation_id(), QUESTION)).await;
    assert_eq!(kind(next.end()), "turn.completed", "{next:#?}");
    let history = client.history(failed.conversation_id()).await;
    assert_eq!(history.len(), 2, "{history:#?}");
    assert_eq!((&history[0]["state"], &history[0]["answer"]), (&json!("failed"), &json!(failed.text())));
    assert_eq!((&history[1]["state"], &history[1]["answer"]), (&json!("completed"), &json!(next.text())));
}

async fn assert_fails_and_recovers(stack: &Exclusive, faults: Faults) {
    let mut client = Client::guest(stack).await;
    let asked = message(QUESTION);
    stack.bedrock().set_faults(faults);
    let failed = client.ask(&asked).await;
    stack.bedrock().set_faults(Faults::default());
    assert_failed(&failed);
    assert_eq!(failed.text(), "");
    assert_settled(&mut client, &asked, &failed).await;
}

#[tokio::test]
async fn a_throttled_model_fails_the_turn_and_nothing_more() {
    let stack = exclusive().await;
    assert_fails_and_recovers(&stack, Faults { throttle_rate: 1.0, ..Faults::default() }).await;
}

#[tokio::test]
async fn an_unavailable_model_fails_the_turn_and_nothing_more() {
    let stack = exclusive().await;
    let error = ExceptionKind::ServiceUnavailable;
    assert_fails_and_recovers(&stack, Faults { error_rate: 1.0, error, ..Faults::default() }).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_keeps_what_was_said() {
    let stack = exclusive().await;
    let mut client = Client::guest(&stack).await;
    let broken = Exception::new(ExceptionKind::ModelStreamError, "The answer breaks off.");
    stack.bedrock().script([Reply::new().say("Two brothers look for ").fail(broken)]);
    let asked = message(QUESTION);
    let failed = client.ask(&asked).await;
    assert_failed(&failed);
    assert_eq!(failed.text(), "Two brothers look for ");
    assert_settled(&mut client, &asked, &failed).await;
}

#[tokio::test]
async fn a_failure_is_told_in_the_shoppers_language() {
    let stack = exclusive().await;
    let mut client = Client::guest(&stack).await;
    for (locale, in_japanese) in [("ja", true), ("en", false)] {
        let broken = Exception::new(ExceptionKind::ModelStreamError, "The answer breaks off.");
        stack.bedrock().script([Reply::new().say("…").fail(broken)]);
        let mut asked = message(QUESTION);
        asked["locale"] = locale.into();
        let failed = client.ask(&asked).await;
        assert_failed(&failed);
        let told = failed.end()["data"]["message"].as_str().unwrap();
        assert_eq!(has_kana(told), in_japanese, "{told}");
    }
}

#[tokio::test]
async fn the_reason_why_an_answer_ends_is_told() {
    let stack = exclusive().await;
    let mut client = Client::guest(&stack).await;
    for (reason, told) in [
        (StopReason::EndTurn, "end_turn"),
        (StopReason::MaxTokens, "max_tokens"),
        (StopReason::GuardrailIntervened, "guardrail"),
    ] {
        stack.bedrock().script([Reply::new().say("Two brothers.").end(reason)]);
        let turn = client.ask(&message(QUESTION)).await;
        assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
        assert_eq!(turn.end()["data"]["stop_reason"], told);
    }
}

#[tokio::test]
async fn text_that_fills_more_than_a_frame_is_cut_between_characters() {
    let stack = exclusive().await;
    let mut client = Client::guest(&stack).await;
    // 30,000 bytes at once, where a frame holds 28,672.
    let text = "鋼".repeat(10_000);
    stack.bedrock().script([Reply::new().say(&text)]);
    let asked = message(QUESTION);
    let turn = client.ask(&asked).await;
    assert_eq!(turn.text(), text);
    assert!(turn.deltas() >= 2);
    let again = client.submit(&asked).await;
    assert_eq!(client.whole_turn(&again).await.text(), text);
}
