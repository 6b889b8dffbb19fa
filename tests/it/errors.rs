//! Every error a client can provoke, and what each says.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use crate::client::{Client, message, message_in};
use crate::conversation::has_kana;
use crate::stack::shared;
use crate::turn::kind;

/// API Gateway's quota for a frame.
const FRAME_BYTES_MAX: usize = 32 * 1024;

const TEXT_CHARS_MAX: usize = 4_000;

/// A frame with one member replaced.
fn with(mut frame: Value, member: &str, value: Value) -> Value {
    frame[member] = value;
    frame
}

fn without(mut frame: Value, member: &str) -> Value {
    frame.as_object_mut().unwrap().remove(member);
    frame
}

/// A `message.send` of exactly this many bytes.
fn message_of_bytes(bytes: usize) -> String {
    let overhead = message("").to_string().len();
    message(&"a".repeat(bytes - overhead)).to_string()
}

#[tokio::test]
async fn malformed_frames_are_invalid() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    client.start_session(json!({"locale": "en"})).await;
    let history = json!({"action": "history.list", "conversation_id": "c"});
    let feedback = json!({"action": "feedback.submit", "turn_id": "t", "rating": "up"});
    for frame in [
        json!([]),
        json!("ping"),
        json!(1),
        json!({}),
        json!({"text": "Hello!"}),
        json!({"action": 1}),
        without(message("Hello!"), "client_message_id"),
        with(message("Hello!"), "client_message_id", json!("not a UUID")),
        with(message("Hello!"), "client_message_id", json!(1)),
        without(message("Hello!"), "text"),
        with(message("Hello!"), "text", json!(1)),
        message(""),
        with(message("Hello!"), "conversation_id", json!(1)),
        with(message("Hello!"), "locale", json!("fr")),
        with(message("Hello!"), "context", json!("one-piece-1")),
        with(message("Hello!"), "context", json!({"product_id": 1})),
        json!({"action": "session.start", "locale": "fr"}),
        json!({"action": "session.start", "conversation_id": 1}),
        without(history.clone(), "conversation_id"),
        with(history.clone(), "limit", json!("all")),
        with(history.clone(), "limit", json!(-1)),
        with(history, "limit", json!(51)),
        without(feedback.clone(), "turn_id"),
        without(feedback.clone(), "rating"),
        with(feedback.clone(), "rating", json!("sideways")),
        with(feedback, "comment", json!(1)),
    ] {
        assert_refused(&mut client, &frame, "invalid_frame").await;
    }
    for text in ["ping", "{", r#"{"action":"ping"}{"action":"ping"}"#, "\u{0}"] {
        client.send_text(text.to_owned()).await;
        let answer = client.take("error", |_| true).await;
        assert_eq!(answer["data"]["code"], "invalid_frame", "{text:?} is answered by {answer}");
    }
    client.assert_silent().await;
}

async fn assert_refused(client: &mut Client, frame: &Value, code: &str) {
    let refusal = client.refused(frame).await;
    assert_eq!(refusal["code"], code, "{frame} is answered by {refusal}");
    assert_eq!(refusal["retryable"], false, "{refusal}");
    assert!(!refusal["message"].as_str().unwrap().is_empty(), "{refusal}");
}

#[tokio::test]
async fn actions_outside_the_protocol_are_unknown() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    for action in ["dance", "PING", "$default"] {
        assert_refused(&mut client, &json!({"action": action}), "unknown_action").await;
    }
}

#[tokio::test]
async fn what_was_never_there_is_not_found() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    for id in ["c", &Uuid::new_v4().to_string()] {
        for frame in [
            message_in(id, "Hello!"),
            json!({"action": "session.start", "conversation_id": id}),
            json!({"action": "history.list", "conversation_id": id}),
            json!({"action": "feedback.submit", "turn_id": id, "rating": "up"}),
        ] {
            assert_refused(&mut client, &frame, "not_found").await;
        }
    }
}

#[tokio::test]
async fn a_text_has_at_most_4000_characters() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    // Three bytes, and four bytes of which UTF-16 makes two code units: characters are counted, not their encoding.
    for character in ["あ", "𠮷"] {
        let answered = client.ask(&message(&character.repeat(TEXT_CHARS_MAX))).await;
        assert_eq!(kind(answered.end()), "turn.completed");
        let too_long = message(&character.repeat(TEXT_CHARS_MAX + 1));
        assert_refused(&mut client, &too_long, "payload_too_large").await;
    }
}

#[tokio::test]
async fn a_frame_has_at_most_32_kilobytes() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    client.send_text(message_of_bytes(FRAME_BYTES_MAX)).await;
    let answer = client.take("error", |_| true).await;
    assert_eq!(answer["data"]["code"], "payload_too_large", "{answer}");

    client.send_text(message_of_bytes(FRAME_BYTES_MAX + 1)).await;
    assert_eq!(client.close_code().await, u16::from(CloseCode::Size));
}

#[tokio::test]
async fn errors_speak_the_shoppers_language() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    for (locale, in_japanese) in [("ja", true), ("en", false)] {
        client.start_session(json!({"locale": locale})).await;
        for frame in [
            json!({}),
            json!({"action": "dance"}),
            message(""),
            message(&"a".repeat(TEXT_CHARS_MAX + 1)),
            message_in("c", "Hello!"),
            json!({"action": "history.list", "conversation_id": "c"}),
        ] {
            let refusal = client.refused(&frame).await;
            assert_eq!(has_kana(refusal["message"].as_str().unwrap()), in_japanese, "{refusal}");
        }
    }
}
