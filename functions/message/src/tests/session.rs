//! `session.start`.

use domain::ids::{Principal, SessionId};
use domain::limits::{LEASE_MS, RECONNECT_AFTER_MS};
use domain::ports::{ConnectionStore as _, TurnStore as _};
use domain::protocol::{Locale, TurnState};
use futures_util::join;
use serde_json::{Value, json};
use testkit::{Fault, START_MS, samples};

use super::{World, asked, completed, message, text, types};

fn start() -> Value {
    json!({ "action": "session.start" })
}

fn start_in(conversation: &str) -> Value {
    json!({ "action": "session.start", "conversation_id": conversation })
}

#[test]
fn a_guest_gets_a_token_to_come_back_with() {
    let world = World::new();
    let session = SessionId::parse("session").unwrap();
    let guest = world.client(Principal::Guest(session.clone()), "one");
    let ready = &guest.ask(start())[0];
    assert_eq!(ready["type"], "session.ready");
    let data = &ready["data"];
    assert_eq!((&data["principal"], &data["session_id"]), (&json!("guest"), &json!("session")));
    let token = data["resume_token"].as_str().unwrap();
    assert_eq!(samples::session_key().open_resume_token(token, START_MS), Ok(session));
    assert_eq!(data["limits"], json!({ "text_max": 4_000, "frame_bytes_max": 32_768, "messages_per_minute": 10 }));
    assert_eq!(data["reconnect_after_ms"], RECONNECT_AFTER_MS);
}

#[test]
fn a_shopper_gets_no_token() {
    let world = World::new();
    let ready = &world.shopper("aiko", "one").ask(start())[0];
    let data = ready["data"].as_object().unwrap();
    assert_eq!((&data["principal"], &data["limits"]["messages_per_minute"]), (&json!("aiko"), &json!(30)));
    assert!(!data.contains_key("resume_token") && !data.contains_key("conversation_id"));
}

#[test]
fn who_must_leave_sooner_is_told_so() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    let mut event = aiko.event(&start().to_string());
    let expires_at = START_MS + RECONNECT_AFTER_MS - 1;
    event.request_context.authorizer.fields.insert("expires_at".to_owned(), expires_at.to_string().into());
    world.run(world.message.handle(event));
    assert_eq!(aiko.frames()[0]["data"]["reconnect_after_ms"], RECONNECT_AFTER_MS - 1);
}

#[test]
fn the_language_is_kept() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    let kept = || world.run(world.ports.connections.inner.locale(&aiko.connection)).unwrap();
    aiko.ask(start());
    assert_eq!(kept(), None);
    aiko.ask(json!({ "action": "session.start", "locale": "en" }));
    aiko.ask(start());
    assert_eq!(kept(), Some(Locale::En));
}

#[test]
fn a_conversation_is_come_back_to() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("answer"), completed()], true);
    world.conclude(&asked(1, "question"));
    let data = &world.shopper("aiko", "one").ask(start_in("c-1"))[0]["data"];
    assert_eq!(data["conversation_id"], "c-1");
    assert!(!data.as_object().unwrap().contains_key("active_turn"));
}

#[test]
fn only_ones_own_conversation_exists() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    let ben = world.shopper("ben", "one");
    assert_eq!(ben.refused(start_in("c-1")), "not_found");
    assert_eq!(ben.refused(start_in("c-2")), "not_found");
    let [others, unknown] = <[_; 2]>::try_from(ben.frames()).unwrap();
    assert_eq!(others, unknown, "nothing tells the two apart");
}

#[test]
fn a_turn_that_goes_on_is_named() {
    let world = World::talking(&["one ", "two ", "three"]);
    let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    let conversation = samples::session_key().conversation_id(&aiko.principal, samples::client_message_id(1));
    world.run(async {
        join!(aiko.invoke(message(1, "question")), world.after(150, tab.invoke(start_in(conversation.as_str()))))
    });
    let active = &tab.frames()[0]["data"]["active_turn"];
    let turn = world.the_turn();
    assert_eq!(
        *active,
        json!({ "turn_id": turn.request.turn_id, "epoch": 0, "last_seq": -1 }),
        "nothing is durable yet"
    );
    assert_eq!(types(&aiko.frames()).last(), Some(&"turn.completed"));
}

#[test]
fn a_turn_without_an_owner_is_ended_first() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("half an ans")], false);
    let aiko = world.shopper("aiko", "one");
    let active = |ready: &[Value]| ready[0]["data"].get("active_turn").cloned();

    world.ports.clock.advance(LEASE_MS - 1);
    let running = json!({ "turn_id": "t-1", "epoch": 1, "last_seq": 0 });
    assert_eq!(active(&aiko.ask(start_in("c-1"))), Some(running), "its owner may still be there");
    world.ports.clock.advance(1);
    assert_eq!(active(&aiko.ask(start_in("c-1"))), None);
    assert_eq!(world.the_turn().state(), TurnState::Failed);
    let (conversation, exchanges) =
        world.run(world.ports.turns.inner.conversation(&asked(1, "").conversation_id, 9)).unwrap().unwrap();
    assert_eq!((conversation.lock, exchanges.len()), (None, 1), "it is part of the conversation, which is free");
}

#[test]
fn a_lock_without_a_turn_names_none() {
    let world = World::talking(&["answer"]);
    let aiko = world.shopper("aiko", "one");
    // Effects 0 and 1 read, 2 locks, 3 records.
    world.ports.faults.plan(3, Fault::CrashBefore);
    assert!(world.ports.run(aiko.invoke(message(1, "question"))).is_none());
    world.ports.faults.restart();
    let conversation = samples::session_key().conversation_id(&aiko.principal, samples::client_message_id(1));
    let ready = aiko.ask(start_in(conversation.as_str()));
    assert_eq!((types(&ready), ready[0]["data"].get("active_turn")), (vec!["session.ready"], None));
}
