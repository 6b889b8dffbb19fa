//! What is answered with an `error` frame, and what with nothing.

use domain::limits::{CLIENT_FRAME_BYTES_MAX, CONNECTION_LIFE_MS, CONVERSATION_TURNS_MAX, TEXT_CHARS_MAX};
use domain::ports::ConnectionStore as _;
use domain::protocol::{ErrorCode, Locale, error_text};
use serde_json::{Value, json};
use testkit::{Fault, START_MS, samples};

use super::rates::long_conversation;
use super::{World, asked, completed, in_conversation, message, text, types};

/// A frame of every action that aiko may send in [`world`].
fn frames_of_all_actions() -> [Value; 7] {
    [
        json!({ "action": "session.start", "locale": "ja", "conversation_id": "c-1" }),
        json!({ "action": "message.send", "client_message_id": samples::client_message_id(9), "text": "はい", "conversation_id": "c-1" }),
        json!({ "action": "message.cancel", "turn_id": "t-1" }),
        json!({ "action": "stream.resume", "turn_id": "t-1", "epoch": 0, "after_seq": -1 }),
        json!({ "action": "history.list", "conversation_id": "c-1" }),
        json!({ "action": "feedback.submit", "turn_id": "t-1", "rating": "up" }),
        json!({ "action": "ping" }),
    ]
}

/// A world with an answered turn of aiko's.
fn world() -> World {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("answer"), completed()], true);
    world.conclude(&asked(1, "question"));
    world
}

#[test]
fn errors_are_in_the_language_asked_for_else_of_the_connection_else_of_the_text_else_japanese() {
    let send = |text: &str, locale: Option<&str>| {
        let mut frame = message(9, text);
        frame["conversation_id"] = json!("c-unknown");
        if let Some(locale) = locale {
            frame["locale"] = json!(locale);
        }
        frame.to_string()
    };
    let (ja, en) = (Some(Locale::Ja), Some(Locale::En));
    let start = |more: &str| format!(r#"{{"action":"session.start","conversation_id":"c-unknown"{more}}}"#);
    let list = r#"{"action":"history.list","conversation_id":"c-unknown"}"#.to_owned();
    for (body, kept, expected) in [
        // The frame names one.
        (start(r#","locale":"en""#), None, Locale::En),
        (start(r#","locale":"ja""#), en, Locale::Ja),
        (send("質問です", Some("en")), ja, Locale::En),
        (send("A question", Some("ja")), en, Locale::Ja),
        (r#"{"action":"order.place","locale":"en"}"#.to_owned(), ja, Locale::En),
        (r#"{"action":"message.send","locale":"en"}"#.to_owned(), ja, Locale::En),
        // The connection has one.
        (send("A question", None), ja, Locale::Ja),
        (send("質問です", None), en, Locale::En),
        (start(""), en, Locale::En),
        (list.clone(), en, Locale::En),
        (list.clone(), ja, Locale::Ja),
        (r#"{"action":"order.place"}"#.to_owned(), en, Locale::En),
        (r#"{"action":"history.list","conversation_id":"c-unknown","locale":"fr"}"#.to_owned(), en, Locale::En),
        ("not JSON".to_owned(), en, Locale::En),
        // The text is written in one.
        (send("A question", None), None, Locale::En),
        (send("質問です", None), None, Locale::Ja),
        (send(&"A ".repeat(TEXT_CHARS_MAX), None), None, Locale::En),
        // Nobody said.
        (start(""), None, Locale::Ja),
        (list, None, Locale::Ja),
        (r#"{"action":"order.place"}"#.to_owned(), None, Locale::Ja),
        ("not JSON".to_owned(), None, Locale::Ja),
    ] {
        let world = World::new();
        let aiko = world.shopper("aiko", "one");
        if let Some(kept) = kept {
            world.run(world.ports.connections.inner.set_locale(&aiko.connection, kept)).unwrap();
        }
        world.run(world.message.handle(aiko.event(&body)));
        let error = &aiko.frames()[0]["data"];
        let code: ErrorCode = serde_json::from_value(error["code"].clone()).unwrap();
        assert_eq!(error["message"], error_text(code, expected), "{body} on a connection of {kept:?}");
    }
}

#[test]
fn without_the_connections_language_errors_are_japanese() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    world.run(world.ports.connections.inner.set_locale(&aiko.connection, Locale::En)).unwrap();
    world.ports.faults.plan(0, Fault::FailBefore);
    world.run(world.message.handle(aiko.event("not JSON")));
    assert_eq!(aiko.frames()[0]["data"]["message"], error_text(ErrorCode::InvalidFrame, Locale::Ja));
}

#[test]
fn what_is_not_a_frame_is_refused() {
    let id = samples::client_message_id(9).to_string();
    let send = |fields: &str| format!(r#"{{"action":"message.send","client_message_id":"{id}"{fields}}}"#);
    let cancel_by_both = format!(r#"{{"action":"message.cancel","turn_id":"t-1","client_message_id":"{id}"}}"#);
    let (longest, too_long) = ("あ".repeat(TEXT_CHARS_MAX), "あ".repeat(TEXT_CHARS_MAX + 1));
    assert!(World::new().shopper("aiko", "one").ask(message(9, &longest))[0]["type"] == "message.accepted");
    for (body, code, action, names_message) in [
        ("", "invalid_frame", None, false),
        ("{", "invalid_frame", None, false),
        ("null", "invalid_frame", None, false),
        (r#""ping""#, "invalid_frame", None, false),
        (r#"[{"action":"ping"}]"#, "invalid_frame", None, false),
        (r#"{"action":1}"#, "invalid_frame", None, false),
        (r#"{"type":"ping"}"#, "invalid_frame", None, false),
        (r#"{"action":"order.place"}"#, "unknown_action", Some("order.place"), false),
        (r#"{"action":"Ping"}"#, "unknown_action", Some("Ping"), false),
        (r#"{"action":"message.send","text":"はい"}"#, "invalid_frame", Some("message.send"), false),
        (r#"{"action":"history.list","conversation_id":"../c"}"#, "invalid_frame", Some("history.list"), false),
        (
            r#"{"action":"history.list","conversation_id":"c-1","limit":0}"#,
            "invalid_frame",
            Some("history.list"),
            false,
        ),
        (
            r#"{"action":"history.list","conversation_id":"c-1","limit":51}"#,
            "invalid_frame",
            Some("history.list"),
            false,
        ),
        (r#"{"action":"message.cancel"}"#, "invalid_frame", Some("message.cancel"), false),
        (&cancel_by_both, "invalid_frame", Some("message.cancel"), true),
        (&send(""), "invalid_frame", Some("message.send"), true),
        (&send(r#","text":" \n　""#), "invalid_frame", Some("message.send"), true),
        (&send(&format!(r#","text":"{too_long}""#)), "payload_too_large", Some("message.send"), true),
        (&" ".repeat(CLIENT_FRAME_BYTES_MAX + 1), "payload_too_large", None, false),
    ] {
        let world = World::new();
        let aiko = world.shopper("aiko", "one");
        world.run(world.message.handle(aiko.event(body)));
        let [error] = <[_; 1]>::try_from(aiko.frames()).unwrap();
        let data = error["data"].as_object().unwrap();
        let seen = (data["code"].as_str().unwrap(), data.get("action").and_then(Value::as_str));
        assert_eq!(seen, (code, action), "{body:.99}");
        assert_eq!(data.get("client_message_id"), names_message.then(|| json!(id)).as_ref(), "{body:.99}");
        assert_eq!((&data["retryable"], data.contains_key("retry_after_ms")), (&json!(false), false), "{body:.99}");
        assert!(world.ports.turns.inner.all_turns().is_empty());
    }
}

/// The `error` that a shopper who reads English gets in a world of its own for the last of some frames.
fn error_of(world: &World, frames: &[Value]) -> Value {
    let aiko = world.shopper("aiko", "one");
    world.run(world.ports.connections.inner.set_locale(&aiko.connection, Locale::En)).unwrap();
    let mut error = Vec::new();
    for frame in frames {
        error = aiko.ask(frame.clone());
    }
    assert_eq!(types(&error), ["error"]);
    error.remove(0)["data"].take()
}

#[test]
fn every_error_says_whether_and_when_to_try_again() {
    let list = |conversation: &str| json!({ "action": "history.list", "conversation_id": conversation });
    let asking = |number| in_conversation(message(number, "question"), &json!("c-1"));
    let busy = || {
        let world = World::new();
        world.begin_turn(&asked(1, "question"));
        world
    };
    let down = || {
        let world = World::new();
        world.ports.faults.plan(0, Fault::FailBefore);
        world
    };
    let expired = || {
        let world = World::new();
        world.ports.clock.advance(CONNECTION_LIFE_MS);
        world
    };
    let many: Vec<Value> = (0..=30).map(|number| message(number, "question")).collect();
    for (code, error, retry_after_ms) in [
        (ErrorCode::InvalidFrame, error_of(&World::new(), &[json!({ "action": "message.cancel" })]), None),
        (ErrorCode::PayloadTooLarge, error_of(&World::new(), &[message(1, &"a".repeat(TEXT_CHARS_MAX + 1))]), None),
        (ErrorCode::UnknownAction, error_of(&World::new(), &[json!({ "action": "order.place" })]), None),
        (ErrorCode::RateLimited, error_of(&World::new(), &many), Some(2_000)),
        (ErrorCode::ConversationBusy, error_of(&busy(), &[asking(2)]), Some(1_000)),
        (
            ErrorCode::IdempotencyMismatch,
            error_of(&World::new(), &[message(1, "question"), message(1, "another")]),
            None,
        ),
        (ErrorCode::NotFound, error_of(&World::new(), &[list("c-unknown")]), None),
        (ErrorCode::Forbidden, error_of(&long_conversation(CONVERSATION_TURNS_MAX), &[asking(2)]), None),
        (ErrorCode::SessionExpired, error_of(&expired(), &[json!({ "action": "ping" })]), Some(1_000)),
        (ErrorCode::Unavailable, error_of(&down(), &[list("c-1")]), Some(1_000)),
    ] {
        assert_eq!(error["code"], json!(code));
        assert_eq!(error["message"], error_text(code, Locale::En), "{code:?}");
        assert_eq!(error["retryable"], json!(code.is_retryable()), "{code:?}");
        assert_eq!(error.get("retry_after_ms"), retry_after_ms.map(|ms: u64| json!(ms)).as_ref(), "{code:?}");
        assert_eq!(code.is_retryable(), retry_after_ms.is_some(), "{code:?}");
    }
}

#[test]
fn an_event_without_a_body_is_no_frame() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    let mut event = aiko.event("");
    event.body = None;
    world.run(world.message.handle(event));
    assert_eq!(aiko.frames()[0]["data"]["code"], "invalid_frame");
}

#[test]
fn a_session_ends_to_the_millisecond() {
    for frame in frames_of_all_actions() {
        let action = frame["action"].as_str().unwrap();
        let world = world();
        let aiko = world.shopper("aiko", "one");
        world.ports.clock.advance_to(START_MS + CONNECTION_LIFE_MS - 1);
        assert_ne!(aiko.ask(frame.clone())[0]["type"], "error", "{action} at the last moment");

        world.ports.clock.advance_to(START_MS + CONNECTION_LIFE_MS);
        world.ports.faults.restart();
        let [error] = <[_; 1]>::try_from(aiko.ask(frame.clone())).unwrap();
        let data = &error["data"];
        assert_eq!((&data["code"], &data["action"]), (&json!("session_expired"), &json!(action)));
        assert_eq!(data.get("client_message_id"), frame.get("client_message_id"));
        assert_eq!(data["retryable"], true, "on a new connection");
        assert!(world.ports.faults.effects().iter().all(|effect| !effect.name.starts_with("turns.")), "{action}");
    }
}

#[test]
fn a_frame_of_nobody_is_not_answered() {
    let world = world();
    let aiko = world.shopper("aiko", "one");
    for frame in frames_of_all_actions() {
        for missing in ["principal", "session_id", "expires_at"] {
            let mut event = aiko.event(&frame.to_string());
            event.request_context.authorizer.fields.remove(missing);
            assert_eq!(world.run(world.message.handle(event)).status_code, 200);
        }
        let mut unauthorized = serde_json::to_value(aiko.event(&frame.to_string())).unwrap();
        unauthorized["requestContext"].as_object_mut().unwrap().remove("authorizer");
        world.run(world.message.handle(serde_json::from_value(unauthorized).unwrap()));
        let mut nameless = aiko.event(&frame.to_string());
        nameless.request_context.connection_id = None;
        world.run(world.message.handle(nameless));
    }
    assert!(world.ports.faults.effects().is_empty(), "nothing was looked up, nothing sent");
}

/// Which effects a frame has in [`world`].
fn effects_of(frame: &Value) -> Vec<&'static str> {
    let world = world();
    world.shopper("aiko", "one").ask(frame.clone());
    world.ports.faults.effects().iter().map(|effect| effect.name).collect()
}

#[test]
fn what_cannot_be_had_now_is_unavailable() {
    for frame in frames_of_all_actions() {
        let action = frame["action"].as_str().unwrap();
        let effects = effects_of(&frame);
        let owned_from =
            effects.iter().position(|name| *name == "turns.record").map_or(usize::MAX, |record| record + 1);
        for (number, effect) in effects.iter().enumerate() {
            for fault in [Fault::FailBefore, Fault::FailAfter] {
                let world = world();
                let aiko = world.shopper("aiko", "one");
                world.ports.faults.plan(number, fault);
                let frames = aiko.ask(frame.clone());
                let case = format!("{action}: {fault:?} of {number}, {effect}");
                // Nobody waits for what the budgets say.
                if number >= owned_from || effect.starts_with("budgets.") {
                    // The turn goes on without what failed; a frame that was lost is found again in the journal.
                    let turn = world.ports.turns.inner.all_turns().into_iter().find(|turn| turn.request.text == "はい");
                    assert!(turn.unwrap().journal.outcome.is_some(), "{case}");
                    assert!(!types(&frames).contains(&"error"), "{case}");
                    continue;
                }
                if effect.starts_with("follow_ups.") {
                    assert_eq!(types(&frames), ["session.ready"], "{case}: the session is open");
                    continue;
                }
                let error = &frames.last().unwrap()["data"];
                assert_eq!((&error["code"], &error["action"]), (&json!("unavailable"), &json!(action)), "{case}");
                assert_eq!(error.get("client_message_id"), frame.get("client_message_id"), "{case}");
                assert_eq!(error["retryable"], true, "{case}");
                assert!(error["retry_after_ms"].as_u64().unwrap() > 0, "{case}");
            }
        }
    }
}

#[test]
fn a_client_that_left_is_not_an_error() {
    for frame in frames_of_all_actions() {
        let world = world();
        let aiko = world.shopper("aiko", "one");
        world.ports.sender.inner.hang_up_after(&aiko.connection, 0);
        assert!(aiko.ask(frame).is_empty());
    }
    assert_eq!(World::new().shopper("aiko", "one").ask(json!({ "action": "ping" }))[0]["data"], json!({}));
}
