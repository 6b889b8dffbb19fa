//! `message.cancel`, whatever the turn is about to do.

use domain::ids::TurnId;
use domain::limits::{LEASE_MS, TICK_MS};
use domain::ports::{Clock as _, QueueName, Task, TurnStore as _};
use domain::protocol::TurnState;
use domain::turn::StoredTurn;
use futures_util::join;
use serde_json::{Value, json};
use testkit::{ModelFailure, START_MS, Step, samples};

use super::resume::{PIECES, abandoned, lapses_at};
use super::{Client, LAPSED_MS, World, asked, check_held, completed, in_conversation, message, resume, text, types};

/// How soon after a cancel the model is stopped, and the turn ended, ms.
const STOPPED_WITHIN_MS: u64 = 1_500;

fn cancel(turn: &TurnId) -> Value {
    json!({ "action": "message.cancel", "turn_id": turn })
}

fn cancel_message(number: u128) -> Value {
    json!({ "action": "message.cancel", "client_message_id": samples::client_message_id(number) })
}

/// The turn of the principal's message 1.
fn first_turn(client: &Client<'_>) -> TurnId {
    samples::session_key().turn_id(&client.principal, samples::client_message_id(1))
}

/// The turn was cancelled by its shopper, is part of its conversation as far as it was answered, and the next goes on.
fn check_cancelled(world: &World, by: &Client<'_>, case: &str) -> StoredTurn {
    let turn = world.the_turn();
    assert_eq!(turn.state(), TurnState::Cancelled, "{case}");
    let end = turn.journal.frames.last().unwrap();
    assert_eq!(json!(end.event)["data"], json!({ "by": "client" }), "{case}");
    let conversation = &turn.request.conversation_id;
    let (stored, exchanges) = world.run(world.ports.turns.inner.conversation(conversation, 9)).unwrap().unwrap();
    assert_eq!((stored.lock, &exchanges[..]), (None, &[turn.exchange().unwrap()][..]), "{case}");
    let next = by.ask(in_conversation(message(2, "And then?"), &json!(conversation)));
    assert_eq!(next[0]["type"], "message.accepted", "{case}");
    turn
}

/// The last frame of a turn that a connection got is the end that is stored.
fn check_told(client: &Client<'_>, turn: &StoredTurn, case: &str) {
    let frames = client.frames();
    let told = frames.iter().rfind(|frame| frame["turn_id"] == json!(turn.request.turn_id)).unwrap();
    let end = turn.journal.frames.last().unwrap();
    assert_eq!(*told, json!(end.addressed(&turn.request.conversation_id, &turn.request.turn_id)), "{case}");
}

#[test]
fn a_running_answer_stops_and_is_kept() {
    for after_ms in (40..1_990).step_by(150) {
        for (connection, by_message) in [("one", false), ("one", true), ("two", false), ("two", true)] {
            let case = format!("after {after_ms} ms on connection {connection}, by message: {by_message}");
            let world = World::talking(&PIECES);
            let (aiko, canceller) = (world.shopper("aiko", "one"), world.shopper("aiko", connection));
            let frame = if by_message { cancel_message(1) } else { cancel(&first_turn(&aiko)) };
            let asking = world.after(after_ms, canceller.invoke(frame));
            world.run(async { join!(aiko.invoke(message(1, "question")), asking) });

            assert!(world.ports.clock.now_ms() <= START_MS + after_ms + STOPPED_WITHIN_MS, "{case}");
            assert_eq!(world.ports.model.cancelled(), 1, "{case}: the model was stopped");
            let stored = world.the_turn();
            let answer = stored.journal.answer();
            assert!(PIECES.concat().starts_with(&answer) && answer.len() < PIECES.concat().len(), "{case}: {answer}");
            check_held(&aiko.frames(), &stored, &case);
            check_told(&canceller, &stored, &case);
            for client in [&aiko, &canceller] {
                let frames = client.frames();
                assert!(!types(&frames).contains(&"error"), "{case}");
                assert_eq!(types(&frames).iter().filter(|kind| **kind == "turn.cancelled").count(), 1, "{case}");
            }
            check_cancelled(&world, &canceller, &case);
        }
    }
}

/// Whatever the turn does when the request arrives, the canceller is told the one end that is stored.
#[test]
fn a_cancel_that_meets_the_end_answers_with_the_end() {
    let ends_at = {
        let world = World::talking(&PIECES[..9]);
        world.shopper("aiko", "one").ask(message(1, "question"));
        world.ports.clock.now_ms() - START_MS
    };
    assert!(ends_at < TICK_MS, "no tick learns of the request");
    for connection in ["one", "two"] {
        for after_ms in ends_at - 100..=ends_at + 10 {
            let case = format!("after {after_ms} ms on connection {connection}");
            let world = World::talking(&PIECES[..9]);
            let (aiko, canceller) = (world.shopper("aiko", "one"), world.shopper("aiko", connection));
            let asking = world.after(after_ms, canceller.invoke(cancel(&first_turn(&aiko))));
            world.run(async { join!(aiko.invoke(message(1, "question")), asking) });
            let stored = world.the_turn();
            assert_eq!(stored.state(), TurnState::Completed, "{case}");
            check_held(&aiko.frames(), &stored, &case);
            check_told(&canceller, &stored, &case);
        }
    }
}

#[test]
fn a_message_can_be_cancelled_as_soon_as_it_is_recorded() {
    let mut verdicts = Vec::new();
    for after_ms in 0..60 {
        let world = World::talking(&PIECES);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let asking = world.after(after_ms, tab.invoke(cancel_message(1)));
        world.run(async { join!(aiko.invoke(message(1, "question")), asking) });
        let told = tab.frames().pop().unwrap();
        let accepted_at = world.ports.sender.inner.sent()[0].at_ms;
        verdicts.push(match told["type"].as_str().unwrap() {
            "error" => {
                assert!(START_MS + after_ms <= accepted_at, "after {after_ms} ms");
                assert_eq!(told["data"]["client_message_id"], json!(samples::client_message_id(1)));
                told["data"]["code"].clone()
            }
            end => json!(end),
        });
    }
    verdicts.dedup();
    assert_eq!(verdicts, ["not_found", "turn.cancelled"]);
}

#[test]
fn a_turn_whose_owner_is_dead_is_cancelled_at_once() {
    for connection in ["one", "two"] {
        let (world, _) = abandoned();
        let durable = world.the_turn().journal;
        world.ports.clock.advance_to(lapses_at(&world));
        let (aiko, canceller) = (world.shopper("aiko", "one"), world.shopper("aiko", connection));
        let told = canceller.ask(cancel(&first_turn(&aiko)));
        assert_eq!(types(&told), ["turn.started", "turn.cancelled"], "{connection}");
        assert_eq!((&told[0]["epoch"], &told[0]["data"]["continues"]), (&json!(2), &json!(true)), "{connection}");
        assert_eq!(told[0]["seq"], json!(durable.last_seq() + 1), "{connection}: what was not durable is void");
        let turn = check_cancelled(&world, &canceller, connection);
        assert_eq!(turn.journal.answer(), durable.answer(), "{connection}: what was said is kept");
        let frames = aiko.frames();
        let of_turn = |frame: &&Value| frame["turn_id"] == json!(turn.request.turn_id);
        check_held(&frames.iter().filter(of_turn).cloned().collect::<Vec<_>>(), &turn, connection);
    }
}

/// To the millisecond: before it, the owner may be alive and is only asked.
#[test]
fn an_owner_that_may_be_alive_is_only_asked() {
    let (world, _) = abandoned();
    let aiko = world.shopper("aiko", "one");
    world.ports.clock.advance_to(lapses_at(&world) - 1);
    assert!(aiko.ask(cancel(&first_turn(&aiko))).is_empty());
    let turn = world.the_turn();
    assert_eq!((turn.state(), turn.epoch(), turn.journal.cancel_asked), (TurnState::Running, 1, true));
}

/// Who takes over a turn that was to be cancelled cancels it, by whichever way.
#[test]
fn a_cancel_survives_the_owner_it_was_for() {
    type TakeOver = fn(&World, &Client<'_>);
    let ways: [(&str, TakeOver); 4] = [
        ("resend", |_, aiko| assert_eq!(aiko.ask(message(1, "question"))[0]["type"], "message.accepted")),
        ("resume", |_, aiko| assert!(!aiko.ask(resume(&first_turn(aiko), 0, -1)).is_empty())),
        ("cancel", |_, aiko| assert!(!aiko.ask(cancel(&first_turn(aiko))).is_empty())),
        ("worker", |world, aiko| {
            let finish = Task::Finish { turn_id: first_turn(aiko), epoch: 1 };
            world.ports.queues.inner.put(QueueName::FollowUp, &serde_json::to_string(&finish).unwrap());
            world.work();
        }),
    ];
    for (way, take_over) in ways {
        let (world, _) = abandoned();
        let (aiko, back) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let asked_before = world.ports.model.asked().len();
        world.ports.clock.advance_to(lapses_at(&world) - 1);
        aiko.ask(cancel_message(1));
        world.ports.clock.advance(1);
        take_over(&world, &back);
        assert_eq!(world.ports.model.asked().len(), asked_before, "{way}: the model is not asked again");
        let turn = check_cancelled(&world, &back, way);
        check_told(&aiko, &turn, way);
    }
}

#[test]
fn a_queued_turn_is_cancelled_at_once() {
    let world = World::new();
    world.ports.model.follow_once(vec![Step::Say("Read ".to_owned()), Step::Fail(ModelFailure::Unavailable)]);
    let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    assert_eq!(types(&aiko.ask(message(1, "question"))).last(), Some(&"turn.queued"));
    assert_eq!(types(&tab.ask(cancel_message(1))), ["turn.started", "turn.cancelled"]);
    let turn = world.the_turn();
    assert_eq!(turn.journal.answer(), "Read ");
    check_held(&aiko.frames(), &turn, "the connection it was asked on");

    world.ports.clock.advance(LEASE_MS);
    world.work();
    assert_eq!(world.the_turn(), turn, "the task in the queue changes nothing");
    check_cancelled(&world, &tab, "queued");
}

/// The owner is just letting go of the turn: it ends by the task that it left behind.
#[test]
fn a_cancel_that_meets_the_hand_over_is_not_lost() {
    for after_ms in 250..400 {
        let case = format!("after {after_ms} ms");
        let world = World::talking(&[]);
        world.ports.model.follow_once(vec![Step::Wait(300), Step::Fail(ModelFailure::Unavailable)]);
        world.ports.queues.set_round_trip_ms(10);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let asking = world.after(after_ms, tab.invoke(cancel_message(1)));
        world.run(async { join!(aiko.invoke(message(1, "question")), asking) });
        world.work();
        let turn = check_cancelled(&world, &tab, &case);
        check_held(
            &aiko
                .frames()
                .into_iter()
                .filter(|frame| frame["turn_id"] == json!(turn.request.turn_id))
                .collect::<Vec<_>>(),
            &turn,
            &case,
        );
        check_told(&tab, &turn, &case);
        assert_eq!(world.ports.model.asked().len(), 2, "{case}: once for this question, once for the next");
    }
}

#[test]
fn an_ended_turn_answers_with_its_stored_end() {
    let ends: [(Vec<Step>, TurnState); 2] = [
        (Step::answer(["Read this one."], 0), TurnState::Completed),
        (vec![Step::Say("Read".to_owned()), Step::Fail(ModelFailure::Refused)], TurnState::Failed),
    ];
    for (script, state) in ends {
        let world = World::new();
        world.ports.model.follow(script);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let end = aiko.ask(message(1, "question")).pop().unwrap();
        let stored = world.the_turn();
        assert_eq!(stored.state(), state);
        for frame in [cancel_message(1), cancel(&first_turn(&aiko))] {
            assert_eq!(tab.ask(frame), std::slice::from_ref(&end));
        }
        assert_eq!(world.the_turn(), stored);
    }
}

#[test]
fn a_cancelled_turn_answers_with_its_stored_end() {
    let (world, _) = abandoned();
    world.ports.clock.advance_to(lapses_at(&world));
    let aiko = world.shopper("aiko", "one");
    let end = aiko.ask(cancel_message(1)).pop().unwrap();
    assert_eq!(aiko.ask(cancel_message(1)), [end]);
    assert_eq!(world.the_turn().epoch(), 2, "it was cancelled once");
}

#[test]
fn only_ones_own_turn_is_cancelled() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("half an ans")], false);
    let ben = world.shopper("ben", "one");
    for at_ms in [START_MS, LAPSED_MS] {
        world.ports.clock.advance_to(at_ms);
        let stored = world.the_turn();
        for frame in [cancel(&asked(1, "").turn_id), cancel(&asked(2, "").turn_id), cancel_message(1)] {
            assert_eq!(ben.refused(frame), "not_found");
        }
        assert_eq!(world.the_turn(), stored, "nothing happened to it");
    }
    let [others, unknown, ..] = <[_; 6]>::try_from(ben.frames()).unwrap();
    assert_eq!(others, unknown, "nothing tells the two apart");
}

#[test]
fn a_turn_that_ended_for_another_shopper_is_not_found_either() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("answer"), completed()], true);
    assert_eq!(world.shopper("ben", "one").refused(cancel(&asked(1, "").turn_id)), "not_found");
}
