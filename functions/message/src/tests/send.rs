//! `message.send`.

use domain::limits::{GONE_GRACE_MS, TICK_MS, WATCH_AFTER_MS};
use domain::ports::{Clock as _, QueueName, Task};
use domain::prompt::Role;
use domain::protocol::TurnState;
use futures_util::join;
use serde_json::json;
use testkit::{Fault, START_MS, samples};

use super::{Held, LAPSED_MS, World, check_held, in_conversation, message, resume, sequenced, types};

const QUESTION: &str = "What should I read?";

#[test]
fn a_message_is_accepted_and_answered() {
    let world = World::talking(&["Read ", "this ", "one."]);
    world.ports.store.stock(samples::store_data());
    let aiko = world.shopper("aiko", "one");
    let frames = aiko.ask(message(1, QUESTION));

    let id = samples::client_message_id(1);
    let turn = samples::session_key().turn_id(&aiko.principal, id);
    let conversation = samples::session_key().conversation_id(&aiko.principal, id);
    for frame in &frames {
        assert_eq!((&frame["v"], &frame["turn_id"]), (&json!(1), &json!(turn)));
        assert_eq!(frame["conversation_id"], json!(conversation));
    }
    assert_eq!((&frames[0]["type"], frames[0].get("seq")), (&json!("message.accepted"), None));
    assert_eq!(frames[0]["data"], json!({ "client_message_id": id, "duplicate": false }));
    let sequenced = sequenced(&frames);
    assert_eq!(sequenced.len(), frames.len() - 1);
    for (seq, frame) in sequenced.iter().enumerate() {
        assert_eq!((&frame["seq"], &frame["epoch"]), (&json!(seq), &json!(1)));
    }
    assert_eq!(sequenced[0]["type"], "turn.started");
    assert_eq!((Held::of(&frames).text().as_str(), Held::of(&frames).end()), ("Read this one.", "turn.completed"));

    let stored = world.the_turn();
    assert_eq!((stored.state(), stored.journal.answer().as_str()), (TurnState::Completed, "Read this one."));
    check_held(&frames, &stored, "live");
    assert_eq!(world.tasks(QueueName::Watchdog), [Task::Watch { turn_id: turn, epoch: 1 }]);
    let now = world.ports.clock.now_ms();
    assert_eq!(world.ports.queues.inner.next_due_at(), Some(START_MS + 20 + WATCH_AFTER_MS), "from its recording on");
    assert!(now < START_MS + WATCH_AFTER_MS, "most turns have ended when they are looked at");
    assert!(world.ports.events.inner.all().is_empty(), "the watchdog publishes their ends");
    assert!(world.tasks(QueueName::FollowUp).is_empty());
}

#[test]
fn a_conversation_is_remembered() {
    let world = World::talking(&["Read this one."]);
    let aiko = world.shopper("aiko", "one");
    let conversation = aiko.ask(message(1, QUESTION))[0]["conversation_id"].clone();
    let frames = aiko.ask(in_conversation(message(2, "And then?"), &conversation));
    assert_eq!((Held::of(&frames).end(), &frames[0]["conversation_id"]), ("turn.completed", &conversation));
    let (_, prompt) = world.ports.model.asked().pop().unwrap();
    let said: Vec<_> = prompt.messages.iter().map(|message| (message.role, message.text.as_str())).collect();
    assert_eq!(said[..2], [(Role::User, QUESTION), (Role::Assistant, "Read this one.")]);
    assert!(said[2].1.contains("And then?") && said.len() == 3);
}

#[test]
fn the_answer_is_in_the_language_asked_for_else_of_the_question() {
    for (text, locale, expected) in [
        (QUESTION, None, "en"),
        (QUESTION, Some("ja"), "ja"),
        ("なにを読もう", None, "ja"),
        ("なにを読もう", Some("en"), "en"),
    ] {
        let world = World::new();
        let mut frame = message(1, text);
        if let Some(locale) = locale {
            frame["locale"] = json!(locale);
        }
        world.shopper("aiko", "one").ask(frame);
        let (_, prompt) = world.ports.model.asked().pop().unwrap();
        let question = format!("<question locale=\"{expected}\">");
        assert!(prompt.messages[0].text.contains(&question), "{text} {locale:?}");
    }
}

/// Once its owner is looked after and the turn recorded, in this order; store and model are asked meanwhile.
#[test]
fn a_message_is_accepted_when_nothing_can_be_lost() {
    for (turns_ms, queues_ms) in [(10, 10), (10, 300), (300, 10)] {
        let case = format!("{turns_ms} ms to the table, {queues_ms} ms to the queue");
        let world = World::talking(&["Read ", "this ", "one."]);
        world.ports.turns.set_round_trip_ms(turns_ms);
        world.ports.queues.set_round_trip_ms(queues_ms);
        let aiko = world.shopper("aiko", "one");
        let frames = aiko.ask(message(1, QUESTION));
        let admitted_at = START_MS + 2 * turns_ms;
        let accepted_at = world.ports.sender.inner.sent()[0].at_ms;
        assert_eq!(world.ports.model.asked()[0].0, admitted_at, "{case}");
        assert!(accepted_at >= admitted_at + turns_ms + queues_ms, "{case}");
        let effects = world.ports.faults.effects();
        let first = |name: &str| effects.iter().position(|effect| effect.name == name).unwrap();
        assert!(first("queues.send") < first("turns.record") && first("turns.record") < first("sender.send"), "{case}");
        assert_eq!(frames[0]["type"], "message.accepted", "{case}");
        assert_eq!(Held::of(&frames).text(), "Read this one.", "{case}");
    }
}

/// It was not accepted, and the same message is answered once when it is sent again.
#[test]
fn a_turn_that_nobody_looks_after_is_not_accepted() {
    let sends = {
        let world = World::talking(&["Read this one."]);
        world.shopper("aiko", "one").ask(message(1, QUESTION));
        world.ports.faults.effects()
    };
    let arming = sends.iter().position(|effect| effect.name == "queues.send").unwrap();
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let world = World::talking(&["Read this one."]);
        let aiko = world.shopper("aiko", "one");
        world.ports.faults.plan(arming, fault);
        assert_eq!(aiko.refused(message(1, QUESTION)), "unavailable", "{fault:?}");
        world.ports.clock.advance_to(LAPSED_MS);
        let again = aiko.ask(message(1, QUESTION));
        assert_eq!(again[0]["type"], "message.accepted", "{fault:?}");
        check_held(&again, &world.the_turn(), &format!("{fault:?}"));
    }
}

#[test]
fn a_resend_is_answered_from_the_store() {
    let world = World::talking(&["Read ", "this ", "one."]);
    let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    let frames = aiko.ask(message(1, QUESTION));
    for client in [&aiko, &tab] {
        let again = client.ask(message(1, QUESTION));
        assert_eq!(again[0]["data"], json!({ "client_message_id": samples::client_message_id(1), "duplicate": true }));
        for field in ["turn_id", "conversation_id"] {
            assert_eq!(again[0][field], frames[0][field]);
        }
        assert_eq!(types(&again), ["message.accepted", "turn.started", "text.delta", "turn.completed"]);
        assert_eq!(Held::of(&again).text(), Held::of(&frames).text());
    }
    assert_eq!(world.ports.model.asked().len(), 1);
}

#[test]
fn a_resend_may_name_the_conversation_it_opened() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    let conversation = aiko.ask(message(1, QUESTION))[0]["conversation_id"].clone();
    let again = aiko.ask(in_conversation(message(1, QUESTION), &conversation));
    assert_eq!(again[0]["data"]["duplicate"], true);
}

#[test]
fn a_resend_joins_the_turn_that_goes_on() {
    let pieces = ["It ", "is ", "a ", "long ", "and ", "winding ", "tale ", "of ", "the ", "sea, ", "told ", "twice."];
    for after_ms in (0..1_500).step_by(70) {
        let world = World::talking(&pieces);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        world.run(async {
            join!(aiko.invoke(message(1, QUESTION)), world.after(after_ms, tab.invoke(message(1, QUESTION))))
        });
        let frames = tab.frames();
        if frames[0]["type"] == "error" {
            assert_eq!(
                (&frames[0]["data"]["code"], after_ms),
                (&json!("conversation_busy"), 0),
                "until it is recorded"
            );
            continue;
        }
        let live = frames.iter().filter(|frame| frame["type"] == "message.accepted").collect::<Vec<_>>();
        assert!(live.len() == 1 && live[0]["data"]["duplicate"] == true, "after {after_ms} ms");
        for client in [&aiko, &tab] {
            let frames = client.frames();
            let held = Held::of(&frames);
            assert_eq!((held.text(), held.end()), (pieces.concat(), "turn.completed"), "after {after_ms} ms");
        }
        assert_eq!(world.ports.model.asked().len(), 1);
    }
}

#[test]
fn an_id_stands_for_one_text() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    aiko.ask(message(1, QUESTION));
    assert_eq!(aiko.refused(message(1, "Something else?")), "idempotency_mismatch");
    let mut about_a_product = message(1, QUESTION);
    about_a_product["context"] = json!({ "product_id": "one-1" });
    assert_eq!(aiko.refused(about_a_product), "idempotency_mismatch");
    let mut in_english = message(1, QUESTION);
    in_english["locale"] = json!("en");
    assert_eq!(aiko.ask(in_english)[0]["data"]["duplicate"], true, "it is the same message");
}

#[test]
fn an_id_is_its_principals_own() {
    let world = World::new();
    let one = world.shopper("aiko", "one").ask(message(1, QUESTION));
    let other = world.shopper("ben", "two").ask(message(1, "Something else?"));
    let guest = world.client(samples::guest("aiko"), "three").ask(message(1, QUESTION));
    assert!([&one, &other, &guest].iter().all(|frames| frames[0]["data"]["duplicate"] == false));
    assert!(one[0]["turn_id"] != other[0]["turn_id"] && one[0]["turn_id"] != guest[0]["turn_id"]);
    assert_eq!(world.ports.turns.inner.all_turns().len(), 3);
}

#[test]
fn only_ones_own_conversation_is_gone_on_with() {
    let world = World::new();
    let conversation = world.shopper("aiko", "one").ask(message(1, QUESTION))[0]["conversation_id"].clone();
    let ben = world.shopper("ben", "two");
    assert_eq!(ben.refused(in_conversation(message(1, QUESTION), &conversation)), "not_found");
    assert_eq!(ben.refused(in_conversation(message(1, QUESTION), &json!("c-unknown"))), "not_found");
    let [others, unknown] = <[_; 2]>::try_from(ben.frames()).unwrap();
    assert_eq!(others, unknown, "nothing tells the two apart");
    assert_eq!(world.ports.turns.inner.all_turns().len(), 1);
}

#[test]
fn a_client_that_leaves_gets_its_answer_later() {
    let world = World::talking(&["Read ", "this ", "one."]);
    let (aiko, back) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    world.ports.sender.inner.hang_up_after(&aiko.connection, 2);
    assert_eq!(aiko.ask(message(1, QUESTION)).len(), 2);
    let again = back.ask(message(1, QUESTION));
    assert_eq!((Held::of(&again).text().as_str(), Held::of(&again).end()), ("Read this one.", "turn.completed"));
    assert!(world.ports.clock.now_ms() < START_MS + 2_000);
}

/// A long answer, whose only client leaves. It is followed again in time, or stops and keeps what it has.
#[test]
fn an_answer_that_nobody_follows_stops_after_a_while() {
    let pieces: Vec<String> = (0..150).map(|number| format!("word {number} ")).collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    for (back_after_ms, end) in
        [(GONE_GRACE_MS - TICK_MS - 200, TurnState::Completed), (GONE_GRACE_MS + TICK_MS, TurnState::Cancelled)]
    {
        let case = format!("back after {back_after_ms} ms");
        let world = World::talking(&pieces);
        let (aiko, back) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let turn = samples::session_key().turn_id(&aiko.principal, samples::client_message_id(1));
        world.ports.sender.inner.hang_up_after(&aiko.connection, 2);
        let coming_back = world.after(back_after_ms, back.invoke(resume(&turn, 0, -1)));
        world.run(async { join!(aiko.invoke(message(1, QUESTION)), coming_back) });
        let stored = world.the_turn();
        assert_eq!(stored.state(), end, "{case}");
        check_held(&back.frames(), &stored, &case);
        if end == TurnState::Cancelled {
            let ended = stored.journal.frames.last().unwrap();
            assert_eq!(json!(ended.event)["data"], json!({ "by": "gone" }), "{case}");
            assert_eq!(world.ports.model.cancelled(), 1, "{case}");
            assert!(ended.ts <= START_MS + GONE_GRACE_MS + TICK_MS, "{case}");
        }
    }
}
