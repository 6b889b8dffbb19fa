//! `session.start`.

use domain::ids::{Principal, SessionId};
use domain::limits::{FOLLOW_UP_CLAIM_MS, FOLLOW_UPS_PER_VISIT_MAX, HAND_OVER_DELAY_MS, RECONNECT_AFTER_MS};
use domain::ports::{ConnectionStore as _, FollowUpStore as _};
use domain::protocol::{Locale, TurnState};
use futures_util::join;
use serde_json::{Value, json};
use testkit::{Fault, ModelFailure, START_MS, Step, samples};

use super::{Client, LAPSED_MS, World, asked, check_held, completed, message, resume, text, types};

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
        json!({ "turn_id": turn.request.turn_id, "epoch": 1, "last_seq": -1 }),
        "nothing is durable yet"
    );
    assert_eq!(types(&aiko.frames()).last(), Some(&"turn.completed"));
}

/// The turn that `session.ready` names.
fn active(ready: &[Value]) -> Option<&Value> {
    ready[0]["data"].get("active_turn")
}

/// A client that finds one resumes it, and that is what brings it a new owner.
#[test]
fn a_turn_without_an_owner_is_named_too() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("half an ans")], false);
    let aiko = world.shopper("aiko", "one");
    let running = json!({ "turn_id": "t-1", "epoch": 1, "last_seq": 0 });
    for at_ms in [LAPSED_MS - 1, LAPSED_MS] {
        world.ports.clock.advance_to(at_ms);
        assert_eq!(active(&aiko.ask(start_in("c-1"))), Some(&running));
    }
    check_held(&aiko.ask(resume(&asked(1, "").turn_id, 0, -1)), &world.the_turn(), "resumed");
    assert_eq!(world.the_turn().state(), TurnState::Completed);
    assert_eq!(active(&aiko.ask(start_in("c-1"))), None);
}

#[test]
fn a_queued_turn_is_named_until_it_is_answered() {
    let world = World::new();
    world.ports.model.follow_once(vec![Step::Say("Read ".to_owned()), Step::Fail(ModelFailure::Unavailable)]);
    let (aiko, back) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    let conversation = aiko.ask(message(1, "question"))[0]["conversation_id"].as_str().unwrap().to_owned();
    let turn = world.the_turn();
    let named = json!({ "turn_id": turn.request.turn_id, "epoch": 1, "last_seq": turn.journal.last_seq() });
    assert_eq!(active(&back.ask(start_in(&conversation))), Some(&named));
    let waiting = back.ask(resume(&turn.request.turn_id, 0, -1));
    assert_eq!(types(&waiting).last(), Some(&"turn.queued"));

    world.ports.clock.advance(HAND_OVER_DELAY_MS);
    world.work();
    let frames = back.frames();
    check_held(&frames[1..], &world.the_turn(), "live");
    assert_eq!(active(&back.ask(start_in(&conversation))), None);
}

#[test]
fn a_turn_that_was_not_concluded_is_not_named() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("answer"), completed()], true);
    assert_eq!(active(&world.shopper("aiko", "one").ask(start_in("c-1"))), None, "it has ended");
}

#[test]
fn a_lock_without_a_turn_names_none() {
    let world = World::talking(&["answer"]);
    let aiko = world.shopper("aiko", "one");
    // Effects 0 to 2 read, 3 locks, 4 takes a token, 5 arms the watchdog, 6 records.
    world.ports.faults.plan(6, Fault::CrashBefore);
    assert!(world.ports.run(aiko.invoke(message(1, "question"))).is_none());
    world.ports.faults.restart();
    let conversation = samples::session_key().conversation_id(&aiko.principal, samples::client_message_id(1));
    let ready = aiko.ask(start_in(conversation.as_str()));
    assert_eq!((types(&ready), ready[0]["data"].get("active_turn")), (vec!["session.ready"], None));
}

/// Follow-ups of aiko's, by number; number n is due n ms after the start.
fn schedule(world: &World, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let follow_up = samples::follow_up(&format!("f-{number}"), &samples::shopper("aiko"), START_MS + number);
        world.run(world.ports.follow_ups.inner.schedule(&follow_up)).unwrap();
    }
}

/// The ids of the follow-ups that come with a session.
fn visit(client: &Client<'_>) -> Vec<String> {
    let frames = client.ask(start());
    assert_eq!(frames[0]["type"], "session.ready");
    let follow_up = |frame: &Value| {
        assert_eq!((&frame["type"], frame["data"]["kind"].as_str()), (&json!("follow_up"), Some("preorder_reminder")));
        frame["data"]["follow_up_id"].as_str().unwrap().to_owned()
    };
    frames[1..].iter().map(follow_up).collect()
}

#[test]
fn what_has_become_due_comes_with_the_session_once() {
    let world = World::new();
    schedule(&world, [2, 0, 1, 3]);
    world.ports.clock.advance(2);
    let aiko = world.shopper("aiko", "one");
    assert!(visit(&world.shopper("ben", "other")).is_empty(), "it is nobody else's");
    assert_eq!(visit(&aiko), ["f-0", "f-1", "f-2"], "oldest first");
    assert!(visit(&aiko).is_empty());
    world.ports.clock.advance(1);
    assert_eq!(visit(&world.shopper("aiko", "two")), ["f-3"]);
    assert!(world.ports.follow_ups.inner.all().iter().all(|(_, delivered)| *delivered));
}

#[test]
fn a_visit_brings_so_many_follow_ups() {
    let world = World::new();
    schedule(&world, 0..=u64::from(FOLLOW_UPS_PER_VISIT_MAX));
    world.ports.clock.advance(60_000);
    let aiko = world.shopper("aiko", "one");
    assert_eq!(visit(&aiko).len(), FOLLOW_UPS_PER_VISIT_MAX as usize);
    assert_eq!(visit(&aiko), [format!("f-{FOLLOW_UPS_PER_VISIT_MAX}")]);
}

#[test]
fn two_tabs_that_come_at_once_get_it_once() {
    for after_ms in 0..40 {
        let world = World::new();
        schedule(&world, [0]);
        world.ports.set_round_trip_ms(10);
        let (one, two) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        world.run(async { join!(one.invoke(start()), world.after(after_ms, two.invoke(start()))) });
        let got = |client: &Client<'_>| types(&client.frames()).iter().filter(|kind| **kind == "follow_up").count();
        assert_eq!(got(&one) + got(&two), 1, "{after_ms} ms apart");
    }
}

/// The connection was gone, or the process died: the next visit brings it, under the same id if it had arrived.
#[test]
fn what_did_not_arrive_comes_with_the_next_visit() {
    let world = World::new();
    schedule(&world, [0]);
    let aiko = world.shopper("aiko", "one");
    world.ports.sender.inner.hang_up_after(&aiko.connection, 1);
    assert!(visit(&aiko).is_empty());
    assert_eq!(visit(&world.shopper("aiko", "two")), ["f-0"], "at once");

    let effects = {
        let world = World::new();
        schedule(&world, [0]);
        world.shopper("aiko", "one").ask(start());
        world.ports.faults.effects()
    };
    for (number, effect) in effects.iter().enumerate() {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let case = format!("{fault:?} of {number}, {}", effect.name);
            let world = World::new();
            schedule(&world, [0]);
            let dying = world.process();
            dying.ports.faults.plan(number, fault);
            assert!(dying.ports.run(dying.shopper("aiko", "one").invoke(start())).is_none(), "{case}");
            world.ports.clock.advance(FOLLOW_UP_CLAIM_MS);
            let brought = visit(&world.shopper("aiko", "two"));
            let delivered = (effect.name, fault) == ("follow_ups.finish", Fault::CrashAfter);
            assert_eq!(brought, if delivered { vec![] } else { vec!["f-0".to_owned()] }, "{case}");
            assert!(visit(&world.shopper("aiko", "three")).is_empty(), "{case}");
        }
    }
}
