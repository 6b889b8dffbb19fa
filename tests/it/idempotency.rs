//! A message is answered once, however often it is sent.

use std::sync::Arc;

use bedrock_stand_in::Reply;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::client::{Client, message, message_in, question};
use crate::stack::{Running, shared};
use crate::turn::{Turn, kind};

const QUESTION: &str = "What is Fullmetal Alchemist about?";

/// Sends the message again and returns what it is answered with.
async fn resend(client: &mut Client, message: &Value, original: &Turn) -> Turn {
    let accepted = client.submit(message).await;
    assert_eq!(accepted["data"]["duplicate"], true, "{accepted}");
    assert_eq!(accepted["turn_id"], original.id());
    assert_eq!(accepted["conversation_id"], original.conversation_id());
    client.whole_turn(&accepted).await
}

fn assert_replays(replay: &Turn, original: &Turn) {
    assert!(replay.arrived_in_order(), "{replay:#?}");
    assert_eq!(replay.epoch(), original.epoch());
    assert_eq!(replay.shown(), original.shown());
    for member in ["type", "seq", "data"] {
        assert_eq!(replay.end()[member], original.end()[member]);
    }
    for member in ["client_message_id", "intent", "path"] {
        assert_eq!(replay.started()[member], original.started()[member]);
    }
}

#[tokio::test]
async fn a_message_sent_again_gets_the_stored_answer() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let token = client.start_session(json!({"locale": "en"})).await["resume_token"].as_str().unwrap().to_owned();
    let message = message(QUESTION);
    let original = client.ask(&message).await;
    assert!(!original.product_cards().is_empty(), "{original:#?}");
    assert_replays(&resend(&mut client, &message, &original).await, &original);

    // Neither the connection nor the conversation is part of the key.
    let mut named = message.clone();
    named["conversation_id"] = original.conversation_id().into();
    assert_replays(&resend(&mut client, &named, &original).await, &original);
    drop(client);

    let mut reconnected = Client::returning_guest(&stack, &token).await;
    assert_replays(&resend(&mut reconnected, &message, &original).await, &original);
    assert_replays(&resend(&mut reconnected, &named, &original).await, &original);
    assert_eq!(reconnected.history(original.conversation_id()).await.len(), 1);
    reconnected.assert_silent().await;
}

#[tokio::test]
async fn the_same_id_with_another_text_is_refused() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let original = message("Hello!");
    let turn = client.ask(&original).await;
    let mut other = original.clone();
    other["text"] = "Hello?".into();
    let refusal = client.refused(&other).await;
    assert_eq!((&refusal["code"], &refusal["retryable"]), (&json!("idempotency_mismatch"), &json!(false)));
    assert_replays(&resend(&mut client, &original, &turn).await, &turn);
}

#[tokio::test]
async fn the_key_belongs_to_the_shopper() {
    let stack = shared().await;
    let message = message("Hello!");
    let [mut one, mut other] = [Client::guest(&stack).await, Client::guest(&stack).await];
    let of_one = one.ask(&message).await;
    let of_other = other.ask(&message).await;
    assert_ne!(of_one.id(), of_other.id());
    assert_ne!(of_one.conversation_id(), of_other.conversation_id());
}

const FIRST_HALF: &str = "Two brothers look for ";
const SECOND_HALF: &str = "what they have lost.";

/// A message, and what releases the second half of its answer.
fn held_question(stack: &Running) -> (Value, Arc<Notify>) {
    let (question, release) = (question(), Arc::new(Notify::new()));
    stack.script(&question, [Reply::new().say(FIRST_HALF).until(Arc::clone(&release)).say(SECOND_HALF)]);
    (message(&question), release)
}

#[tokio::test]
async fn a_message_sent_again_while_it_is_answered_joins_the_answer() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let token = client.start_session(json!({"locale": "en"})).await["resume_token"].as_str().unwrap().to_owned();
    let (message, release) = held_question(&stack);
    let accepted = client.submit(&message).await;
    assert_eq!(accepted["data"]["duplicate"], false);
    client.await_frame(&accepted, "text.delta").await;

    let mut elsewhere = Client::returning_guest(&stack, &token).await;
    let ready = elsewhere.start_session(json!({"conversation_id": accepted["conversation_id"]})).await;
    assert_eq!(ready["active_turn"]["turn_id"], accepted["turn_id"], "{ready}");
    for connection in [&mut client, &mut elsewhere] {
        let again = connection.submit(&message).await;
        assert_eq!(again["data"]["duplicate"], true, "{again}");
        assert_eq!(again["turn_id"], accepted["turn_id"]);
    }
    release.notify_one();

    let turn = client.whole_turn(&accepted).await;
    assert_eq!(turn.text(), [FIRST_HALF, SECOND_HALF].concat());
    assert_eq!(kind(turn.end()), "turn.completed");
    let joined = elsewhere.whole_turn(&accepted).await;
    assert_eq!(joined.shown(), turn.shown());
    assert_eq!(joined.end()["data"], turn.end()["data"]);

    let history = Client::returning_guest(&stack, &token).await.history(turn.conversation_id()).await;
    assert_eq!(history.len(), 1, "{history:#?}");
    assert_eq!(history[0]["answer"], turn.text());
}

#[tokio::test]
async fn a_conversation_answers_one_message_at_a_time() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let (message, release) = held_question(&stack);
    let accepted = client.submit(&message).await;
    client.await_frame(&accepted, "text.delta").await;

    let early = message_in(accepted["conversation_id"].as_str().unwrap(), "Hello!");
    let refusal = client.refused(&early).await;
    assert_eq!((&refusal["code"], &refusal["retryable"]), (&json!("conversation_busy"), &json!(true)), "{refusal}");
    release.notify_one();
    let turn = client.whole_turn(&accepted).await;
    assert_eq!(turn.text(), [FIRST_HALF, SECOND_HALF].concat());

    // The refusal left no record, and the conversation was released before the end of its turn was told.
    let later = client.ask(&early).await;
    assert_eq!(later.conversation_id(), turn.conversation_id());
    assert_eq!(client.history(turn.conversation_id()).await.len(), 2);
}

#[tokio::test]
async fn conversations_of_one_shopper_are_answered_side_by_side() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let (message, release_first) = held_question(&stack);
    let first = client.submit(&message).await;
    client.await_frame(&first, "text.delta").await;
    let (message, release_second) = held_question(&stack);
    let second = client.submit(&message).await;
    client.await_frame(&second, "text.delta").await;
    assert_ne!(first["conversation_id"], second["conversation_id"]);

    release_second.notify_one();
    assert_eq!(client.whole_turn(&second).await.text(), [FIRST_HALF, SECOND_HALF].concat());
    release_first.notify_one();
    assert_eq!(client.whole_turn(&first).await.text(), [FIRST_HALF, SECOND_HALF].concat());
}
