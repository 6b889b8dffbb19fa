//! `stream.resume`, and what becomes of a turn whose owner dies.

use domain::limits::LEASE_MS;
use domain::protocol::TurnState;
use futures_util::join;
use serde_json::{Value, json};
use testkit::{Fault, START_MS, samples};

use super::{Held, World, asked, completed, in_conversation, message, resume, sequenced, text, types};

/// An answer of some three seconds: three journal writes and the last.
const PIECES: [&str; 30] = [
    "a1 ", "a2 ", "a3 ", "a4 ", "a5 ", "a6 ", "a7 ", "a8 ", "a9 ", "a10 ", "b1 ", "b2 ", "b3 ", "b4 ", "b5 ", "b6 ",
    "b7 ", "b8 ", "b9 ", "b10 ", "c1 ", "c2 ", "c3 ", "c4 ", "c5 ", "c6 ", "c7 ", "c8 ", "c9 ", "c10",
];

/// The frames of a turn up to a `seq`, as a client holds them that was cut off there.
fn up_to(frames: &[Value], seq: i64) -> Vec<Value> {
    sequenced(frames).into_iter().filter(|frame| frame["seq"].as_i64().unwrap() <= seq).cloned().collect()
}

#[test]
fn an_ended_turn_resumes_from_anywhere() {
    let world = World::talking(&PIECES);
    let aiko = world.shopper("aiko", "one");
    let live = aiko.ask(message(1, "question"));
    let turn = world.the_turn();
    let last = turn.journal.last_seq();
    assert!(last > 20, "there is something to resume");
    for after_seq in -1..=last {
        let epoch = u64::from(after_seq >= 0);
        let missing = aiko.ask(resume(&turn.request.turn_id, epoch, after_seq));
        assert!(sequenced(&missing).len() == missing.len(), "frames of the turn and nothing else");
        assert!(missing.iter().all(|frame| frame["seq"].as_i64().unwrap() > after_seq));
        let frames = [up_to(&live, after_seq), missing].concat();
        let held = Held::of(&frames);
        assert_eq!((held.text(), held.end()), (PIECES.concat(), "turn.completed"), "after {after_seq}");
    }
    assert!(aiko.ask(resume(&turn.request.turn_id, 1, last)).is_empty());
    assert!(aiko.ask(resume(&turn.request.turn_id, 1, i64::MAX)).is_empty());
}

#[test]
fn a_turn_that_goes_on_resumes_at_any_time() {
    for after_ms in (40..3_400).step_by(130) {
        let world = World::talking(&PIECES);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let turn = samples::session_key().turn_id(&aiko.principal, samples::client_message_id(1));
        let cut_off = async {
            // What this connection was sent until now is what its client held when it moved to the other.
            let held: Vec<Value> = sequenced(&aiko.frames()).into_iter().cloned().collect();
            let (epoch, seq) =
                held.last().map_or((0, -1), |frame| (frame["epoch"].as_u64().unwrap(), frame["seq"].as_i64().unwrap()));
            tab.invoke(resume(&turn, epoch, seq)).await;
            held
        };
        let (_, held) = world.run(async { join!(aiko.invoke(message(1, "question")), world.after(after_ms, cut_off)) });
        let frames = [held, tab.frames()].concat();
        let held = Held::of(&frames);
        assert_eq!((held.text(), held.end()), (PIECES.concat(), "turn.completed"), "after {after_ms} ms");
        assert_eq!(Held::of(&aiko.frames()).text(), PIECES.concat(), "the first connection is served on");
    }
}

#[test]
fn only_ones_own_turn_resumes() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("answer"), completed()], true);
    let ben = world.shopper("ben", "one");
    assert_eq!(ben.refused(resume(&asked(1, "").turn_id, 0, -1)), "not_found");
    assert_eq!(ben.refused(resume(&asked(2, "").turn_id, 0, -1)), "not_found");
    let [others, unknown] = <[_; 2]>::try_from(ben.frames()).unwrap();
    assert_eq!(others, unknown, "nothing tells the two apart");
    world.ports.clock.advance(LEASE_MS);
    ben.ask(resume(&asked(1, "").turn_id, 0, -1));
    assert!(world.the_turn().journal.subscribers.is_empty());
}

#[test]
fn another_shopper_does_not_end_an_abandoned_turn() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.ports.clock.advance(LEASE_MS);
    assert_eq!(world.shopper("ben", "one").refused(resume(&asked(1, "").turn_id, 0, -1)), "not_found");
    assert_eq!(world.the_turn().state(), TurnState::Running);
}

/// The owner dies with some of its frames durable and more of them sent. Whoever finds the turn begins a new epoch at the
/// first that was not durable, and what the client holds from there on is void.
#[test]
fn a_later_epoch_is_replayed_from_its_beginning() {
    let world = World::talking(&PIECES);
    let aiko = world.shopper("aiko", "one");
    let writes =
        |world: &World| world.ports.faults.effects().iter().filter(|effect| effect.name == "turns.journal").count();
    world.ports.clock.block_on_until(|| writes(&world) == 3, aiko.invoke(message(1, "question")));
    let live = aiko.frames();
    let durable = world.the_turn().journal.last_seq();
    let sent = sequenced(&live).last().unwrap()["seq"].as_i64().unwrap();
    assert!((5..sent).contains(&durable), "{durable} of {sent} are durable");

    let turn = world.the_turn().request;
    world.ports.turns.set_round_trip_ms(0);
    world.ports.clock.advance_to(turn.lease_until - 1);
    aiko.ask(resume(&turn.turn_id, 1, sent));
    assert_eq!(world.the_turn().state(), TurnState::Running, "its owner may still be there");
    world.ports.clock.advance_to(turn.lease_until);
    for after_seq in -1..=sent {
        let missing = aiko.ask(resume(&turn.turn_id, u64::from(after_seq >= 0), after_seq));
        let stored = world.the_turn();
        assert_eq!((stored.state(), stored.journal.epoch), (TurnState::Failed, 2));
        let beginning = missing.iter().find(|frame| frame["epoch"] == 2).unwrap();
        assert_eq!((&beginning["type"], &beginning["seq"]), (&json!("turn.started"), &json!(durable + 1)));
        assert_eq!((&beginning["data"]["continues"], &beginning["data"]["restarted"]), (&json!(true), &json!(false)));
        if after_seq >= durable {
            assert_eq!(missing[0], *beginning, "after {after_seq}");
        }
        let frames = [up_to(&live, after_seq), missing].concat();
        let held = Held::of(&frames);
        assert_eq!((held.text(), held.end()), (stored.journal.answer(), "turn.failed"), "after {after_seq}");
    }
    let end = world.the_turn().journal.last_seq();
    assert!(aiko.ask(resume(&turn.turn_id, 2, end)).is_empty(), "epochs are begun once");
    let next = in_conversation(message(2, "question"), &json!(turn.conversation_id));
    assert_eq!(aiko.ask(next)[0]["type"], "message.accepted", "the conversation is free");
}

/// An owner that was held up beyond its lease writes nothing over what became of its turn, and shows it to its client.
#[test]
fn an_owner_that_comes_late_shows_what_became_of_its_turn() {
    let world = World::talking(&PIECES);
    let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    let turn = samples::session_key().turn_id(&aiko.principal, samples::client_message_id(1));
    let meanwhile = async {
        // The owner's second write takes longer than its lease.
        world.after(1_500, async { world.ports.turns.set_round_trip_ms(4 * LEASE_MS) }).await;
        world.after(LEASE_MS, async { world.ports.turns.set_round_trip_ms(10) }).await;
        tab.invoke(resume(&turn, 0, -1)).await;
    };
    world.run(async { join!(aiko.invoke(message(1, "question")), meanwhile) });

    let stored = world.the_turn();
    assert_eq!((stored.state(), stored.journal.epoch), (TurnState::Failed, 2));
    assert!(stored.journal.answer().len() < PIECES.concat().len());
    for client in [&aiko, &tab] {
        let frames = client.frames();
        let held = Held::of(&frames);
        assert_eq!((held.text(), held.end()), (stored.journal.answer(), "turn.failed"));
        assert_eq!(types(&frames).iter().filter(|kind| **kind == "turn.completed").count(), 0);
    }
    let published = world.ports.events.inner.all();
    assert!(published.iter().all(|ended| ended.state == TurnState::Failed), "the late owner publishes nothing");
}

/// Wherever the owner dies, the shopper who sends the message again gets one answer to it, and the conversation goes on.
#[test]
fn a_message_is_answered_once_wherever_its_owner_dies() {
    let effects = {
        let world = World::talking(&PIECES[..12]);
        world.shopper("aiko", "one").ask(message(1, "question"));
        world.ports.faults.effects()
    };
    for (number, effect) in effects.iter().enumerate() {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let case = format!("{fault:?} of {number}, {}", effect.name);
            let world = World::talking(&PIECES[..12]);
            let (aiko, back) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
            world.ports.faults.plan(number, fault);
            assert!(world.ports.run(aiko.invoke(message(1, "question"))).is_none(), "{case}");
            world.ports.faults.restart();

            back.ask(message(1, "question"));
            world.ports.clock.advance_to(START_MS + LEASE_MS);
            let again = back.ask(message(1, "question"));
            assert_eq!(again[0]["type"], "message.accepted", "{case}");
            let turn = world.the_turn();
            assert_ne!(turn.state(), TurnState::Running, "{case}");

            // What was seen before and what is seen now are one answer.
            let frames = [aiko.frames(), again.clone()].concat();
            for frames in [&again, &frames] {
                let held = Held::of(frames);
                assert_eq!(held.text(), turn.journal.answer(), "{case}");
                assert!(["turn.completed", "turn.failed"].contains(&held.end()), "{case}");
            }
            let next = back.ask(in_conversation(message(2, "question"), &json!(turn.request.conversation_id)));
            assert_eq!(
                (next[0]["type"].as_str(), types(&next).last()),
                (Some("message.accepted"), Some(&"turn.completed")),
                "{case}"
            );
        }
    }
}
