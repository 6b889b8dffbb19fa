//! A turn that `message` cannot finish is left to the follow-up queue, and everybody is told.

use domain::follow_up::Done;
use domain::limits::{GONE_GRACE_MS, HAND_OVER_DELAY_MS, MESSAGE_TURN_MS, MODEL_SILENCE_MS};
use domain::ports::{Clock as _, QueueName, Task};
use domain::protocol::{Locale, TurnState, queued_text};
use domain::turn::Phase;
use serde_json::json;
use testkit::{Fault, ModelFailure, START_MS, Step, samples};

use super::{Held, World, check_held, in_conversation, message, resume, sequenced, types};

const QUESTION: &str = "What should I read?";

/// `message` is done by then, ms: API Gateway waits for it for 29 s.
const MESSAGE_ENDS_MS: u64 = 25_000;

fn say(text: &str) -> Step {
    Step::Say(text.to_owned())
}

/// The ways of a model not to answer, or not in time.
fn failing_models() -> Vec<(&'static str, Vec<Step>)> {
    let endless = (0..100).flat_map(|_| [Step::Wait(500), say("on and ")]);
    vec![
        ("throttled", vec![Step::Fail(ModelFailure::Unavailable)]),
        ("down", vec![Step::Wait(700), Step::Fail(ModelFailure::Unavailable)]),
        ("throttled midway", vec![say("Read "), Step::Wait(1_500), say("this"), Step::Fail(ModelFailure::Unavailable)]),
        ("broken off", vec![say("Read "), say("this")]),
        ("silent", vec![Step::Silence]),
        ("silent midway", vec![Step::Wait(400), say("Read "), Step::Silence]),
        ("slow", endless.collect()),
    ]
}

/// A world with goods whose model fails like this once, and then answers.
fn failing(script: &[Step]) -> World {
    let world = World::talking(&["Read ", "this ", "one."]);
    world.ports.store.stock(samples::store_data());
    world.ports.queues.set_round_trip_ms(10);
    world.ports.model.follow_once(script.to_vec());
    world
}

#[test]
fn a_turn_that_the_model_does_not_answer_is_queued() {
    for (case, script) in failing_models() {
        let world = failing(&script);
        let aiko = world.shopper("aiko", "one");
        let frames = aiko.ask(message(1, QUESTION));
        let turn = world.the_turn();
        let now = world.ports.clock.now_ms();

        assert_eq!(types(&frames)[..2], ["message.accepted", "turn.started"], "{case}");
        let queued = frames.last().unwrap();
        assert_eq!(
            (&queued["type"], queued["data"]["message"].as_str()),
            (&json!("turn.queued"), Some(queued_text(Locale::En))),
            "{case}"
        );
        assert_eq!(types(&frames).iter().filter(|kind| **kind == "turn.queued").count(), 1, "{case}");
        check_held(&frames, &turn, case);
        assert!(matches!(turn.phase(now), Phase::Queued { since } if since <= now), "{case}");
        assert_eq!(turn.state(), TurnState::Running, "{case}");
        let finish = Task::Finish { turn_id: turn.request.turn_id.clone(), epoch: 1 };
        assert_eq!(world.tasks(QueueName::FollowUp), [finish], "{case}");

        let next = in_conversation(message(2, QUESTION), &json!(turn.request.conversation_id));
        assert_eq!(aiko.refused(next), "conversation_busy", "{case}");
    }
}

#[test]
fn a_queued_turn_is_answered_where_it_was_asked() {
    for (case, script) in failing_models() {
        for continues in [false, true] {
            let case = format!("{case}, the model continues: {continues}");
            let world = failing(&script);
            world.ports.model.set_accepts_prefill(continues);
            let aiko = world.shopper("aiko", "one");
            let before = aiko.ask(message(1, QUESTION)).len();
            let had_text = !world.the_turn().journal.answer().is_empty();
            world.ports.clock.advance(HAND_OVER_DELAY_MS);
            assert_eq!(world.work(), [Done::Done], "{case}");

            let turn = world.the_turn();
            assert_eq!((turn.state(), turn.epoch()), (TurnState::Completed, 2), "{case}");
            let frames = aiko.frames();
            check_held(&frames, &turn, &case);
            let begun = &frames[before];
            let beginning = json!({ "continues": continues && had_text, "restarted": !(continues && had_text) });
            assert_eq!((&begun["type"], &begun["epoch"]), (&json!("turn.started"), &json!(2)), "{case}");
            assert_eq!(
                json!({ "continues": begun["data"]["continues"], "restarted": begun["data"]["restarted"] }),
                beginning,
                "{case}"
            );
            let next = in_conversation(message(2, QUESTION), &json!(turn.request.conversation_id));
            assert_eq!(aiko.ask(next)[0]["type"], "message.accepted", "{case}");
        }
    }
}

/// By a resend or a resume while it waits; it is not taken out of the queue's hands.
#[test]
fn who_comes_to_a_queued_turn_gets_its_answer_too() {
    for resends in [true, false] {
        let world = failing(&[say("Read "), Step::Fail(ModelFailure::Unavailable)]);
        let (aiko, back) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        aiko.ask(message(1, QUESTION));
        world.ports.sender.inner.cut(&aiko.connection);
        let turn = world.the_turn();
        let frame = if resends { message(1, QUESTION) } else { resume(&turn.request.turn_id, 0, -1) };
        let waiting = back.ask(frame);
        check_held(&waiting, &turn, "what there is so far");
        assert_eq!((world.the_turn().epoch(), world.ports.model.asked().len()), (1, 1), "nobody took it over");
        assert_eq!(world.tasks(QueueName::FollowUp).len(), 1);

        world.ports.clock.advance(HAND_OVER_DELAY_MS);
        world.work();
        check_held(&back.frames(), &world.the_turn(), "what came later");
        assert_eq!(Held::of(&back.frames()).text(), "Read this one.");
    }
}

/// Nobody is there when it is answered: the next visit finds it.
#[test]
fn an_answer_that_nobody_waited_for_is_found_later() {
    let world = failing(&[Step::Fail(ModelFailure::Unavailable)]);
    let aiko = world.shopper("aiko", "one");
    aiko.ask(message(1, QUESTION));
    world.ports.sender.inner.cut(&aiko.connection);
    let pieces = ["word "; 40];
    world.ports.model.follow(Step::answer(pieces, GONE_GRACE_MS / 20));
    world.ports.clock.advance(HAND_OVER_DELAY_MS);
    assert_eq!(world.work(), [Done::Done]);
    let turn = world.the_turn();
    assert_eq!((turn.state(), turn.journal.answer()), (TurnState::Completed, pieces.concat()), "for twice the grace");
    let frames = world.shopper("aiko", "two").ask(resume(&turn.request.turn_id, 0, -1));
    check_held(&frames, &turn, "the next visit");
}

/// First the queue, then the journal, then the shopper: who is told to wait is waited for.
#[test]
fn the_shopper_is_told_when_the_turn_is_in_the_queue() {
    let world = failing(&[Step::Fail(ModelFailure::Unavailable)]);
    world.shopper("aiko", "one").ask(message(1, QUESTION));
    let effects = world.ports.faults.effects();
    let last = |name: &str| effects.iter().rposition(|effect| effect.name == name).unwrap();
    assert!(last("queues.send") < last("turns.journal") && last("turns.journal") < last("sender.send"));
}

#[test]
fn a_queue_that_does_not_take_the_turn_fails_it() {
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let case = format!("{fault:?}");
        let world = failing(&[say("Read "), Step::Fail(ModelFailure::Unavailable)]);
        let aiko = world.shopper("aiko", "one");
        let sends = {
            let alike = failing(&[say("Read "), Step::Fail(ModelFailure::Unavailable)]);
            alike.shopper("aiko", "one").ask(message(1, QUESTION));
            alike.ports.faults.effects()
        };
        // The first one arms the watchdog.
        let hand_over = sends.iter().rposition(|effect| effect.name == "queues.send").unwrap();
        world.ports.faults.plan(hand_over, fault);
        let frames = aiko.ask(message(1, QUESTION));
        let turn = world.the_turn();
        let failed = &frames.last().unwrap()["data"];
        assert_eq!((&failed["code"], &failed["retryable"]), (&json!("unavailable"), &json!(true)), "{case}");
        check_held(&frames, &turn, &case);
        assert_eq!(turn.state(), TurnState::Failed, "{case}");

        world.ports.clock.advance(HAND_OVER_DELAY_MS);
        assert!(world.work().iter().all(|done| *done == Done::Done), "{case}");
        assert_eq!(world.the_turn(), turn, "{case}: a task that was sent all the same changes nothing");
        let next = in_conversation(message(2, QUESTION), &json!(turn.request.conversation_id));
        assert_eq!(aiko.ask(next)[0]["type"], "message.accepted", "{case}");
    }
}

#[test]
fn a_model_that_refuses_fails_the_turn() {
    let world = failing(&[say("Read"), Step::Fail(ModelFailure::Refused)]);
    let aiko = world.shopper("aiko", "one");
    let frames = aiko.ask(message(1, QUESTION));
    let failed = &frames.last().unwrap()["data"];
    assert_eq!((&failed["code"], world.the_turn().state()), (&json!("internal"), TurnState::Failed));
    check_held(&frames, &world.the_turn(), "refused");
    assert!(world.tasks(QueueName::FollowUp).is_empty());
    let next = in_conversation(message(2, QUESTION), &frames[0]["conversation_id"]);
    assert_eq!(aiko.ask(next)[0]["type"], "message.accepted", "the conversation is free");
}

#[test]
fn a_model_that_is_silent_for_less_than_its_limit_is_waited_for() {
    for (pause_ms, end) in [(MODEL_SILENCE_MS - 1, "turn.completed"), (MODEL_SILENCE_MS + 1, "turn.queued")] {
        let mut script = vec![say("Read "), Step::Wait(pause_ms)];
        script.extend(Step::answer(["this one."], 0));
        let world = failing(&script);
        let frames = world.shopper("aiko", "one").ask(message(1, QUESTION));
        assert_eq!(Held::of(&frames).end(), end, "{pause_ms} ms");
    }
}

/// An answer that takes to the last moment is completed, a longer one handed over; both in time for API Gateway.
#[test]
fn a_message_is_done_within_its_time() {
    for round_trip_ms in [0, 10, 300, 1_000] {
        for (case, script) in failing_models() {
            let world = failing(&script);
            world.ports.set_round_trip_ms(round_trip_ms);
            world.shopper("aiko", "one").ask(message(1, QUESTION));
            let took_ms = world.ports.clock.now_ms() - START_MS;
            assert!(took_ms <= MESSAGE_ENDS_MS, "{case}: {took_ms} ms at {round_trip_ms} ms a call");
        }
    }
    for (total_ms, end) in [(MESSAGE_TURN_MS - 1_000, "turn.completed"), (MESSAGE_TURN_MS + 1_000, "turn.queued")] {
        let world = failing(&Step::answer(["word "; 50], total_ms / 50));
        let frames = world.shopper("aiko", "one").ask(message(1, QUESTION));
        assert_eq!(Held::of(&frames).end(), end, "an answer of {total_ms} ms");
        assert!(sequenced(&frames).len() > 40);
    }
}
