//! Which messages of a batch are done, how many at once, and in which order.

use std::collections::BTreeMap;

use aws_lambda_events::sqs::SqsEvent;
use domain::limits::{WORKER_START_MS, WORKER_TASKS_AT_ONCE_MAX};
use domain::ports::{Clock as _, FollowUpStore as _, QueueName, Task};
use domain::protocol::TurnState;
use domain::turn::{Hold, Phase};
use serde_json::json;
use testkit::{InMemory, ModelFailure, START_MS, Step, samples};

use super::{
    ANSWER, Worker, answered, asked, check_answered, conversation, dead, event, finish, follow_ups, journal, left, put,
    queued, record, remind, stored, summary, turn_ended, turn_id, world,
};
use crate::handle;

/// The shopper's reminder, the turn and its conversation that the samples speak of.
const FOLLOW_UP: &str = "4Jn-2EYonndHdD2rd3x4GiIP4xnF6_lc-DiVsNwWAyo";
const TURN: &str = "t_Kf5uD8nXb1QoW4cGyT6vHs";
const CONVERSATION: &str = "c_9sVtq3LmZ0xYh7RkEwPj2A";

#[test]
fn every_sample_is_done() {
    let mut seen = BTreeMap::new();
    for (name, event) in samples::events::<SqsEvent>("follow-up-worker") {
        let world = world();
        conversation(&world, CONVERSATION, 5);
        let turn = asked(TURN, CONVERSATION, 6, "Where is my order?");
        if name == "turn-ended" {
            answered(&world, &turn);
        } else {
            record(&world, &turn);
            journal(&world, &turn, 1, Hold::Queued { since: START_MS }, false);
        }
        let reminder = samples::follow_up(FOLLOW_UP, &samples::shopper("aiko"), START_MS);
        world.run(world.follow_ups.inner.schedule(&reminder)).unwrap().unwrap();
        world.clock.advance(1);

        let worker = Worker::new(&world);
        assert!(worker.ports.run(worker.invoke(event)).unwrap().is_empty(), "{name}");
        let mut done = Vec::new();
        done.extend((stored(&world, TURN).epoch() == 2).then(|| "the turn is finished".to_owned()));
        done.extend(summary(&world, CONVERSATION).map(|summary| format!("summed up through {}", summary.through)));
        done.extend(follow_ups(&world).iter().map(|id| format!("reminded of {id}")));
        done.extend(dead(&world).into_iter().map(|(reason, _)| reason));
        seen.insert(name, done.join(", "));
    }
    let expected = [
        ("finish", "the turn is finished".to_owned()),
        ("malformed", "the message is no task".to_owned()),
        ("redriven", "the turn is finished".to_owned()),
        ("remind", format!("reminded of {FOLLOW_UP}")),
        ("turn-ended", "summed up through 6".to_owned()),
    ];
    assert_eq!(seen, expected.map(|(name, done)| (name.to_owned(), done)).into());
}

#[test]
fn what_is_not_done_stays_and_the_rest_goes() {
    let world = world();
    // The first that the model is asked for.
    let throttled = queued(&world, "a-throttled");
    world.model.follow_once(vec![Step::Fail(ModelFailure::Unavailable)]);
    let stays = [put(&world, &finish(throttled.turn_id.as_str(), 1))];
    for id in ["t-1", "t-2"] {
        queued(&world, id);
        put(&world, &finish(id, 1));
    }
    put(&world, &finish("t-unknown", 1));
    conversation(&world, "c-1", 6);
    put(&world, &turn_ended("c-1", 6));
    world.queues.inner.put(QueueName::FollowUp, "?");
    put(&world, &Task::Watch { turn_id: turn_id("t-1"), epoch: 1 });

    assert_eq!(Worker::new(&world).try_poll().unwrap(), stays);
    assert_eq!(left(&world), 1);
    check_answered(&world, "t-1", "done");
    check_answered(&world, "t-2", "done");
    assert_eq!(summary(&world, "c-1").unwrap().through, 6);
    assert_eq!(dead(&world).len(), 2);
    assert!(matches!(stored(&world, "a-throttled").phase(world.clock.now_ms()), Phase::Queued { .. }));
}

#[test]
fn failures_are_told_as_lambda_reads_them() {
    let world = world();
    queued(&world, "t-1");
    world.model.follow(vec![Step::Fail(ModelFailure::Unavailable)]);
    let (gone, stays) = (put(&world, &finish("t-unknown", 1)), put(&world, &finish("t-1", 1)));
    let batch = world.queues.inner.receive_messages(QueueName::FollowUp, 10);
    assert_eq!([&batch[0].message_id, &batch[1].message_id], [&gone, &stays]);
    let worker = Worker::new(&world);
    let response = world.run(handle(&worker.ports, &worker, event(&batch))).unwrap();
    assert_eq!(serde_json::to_value(response).unwrap(), json!({ "batchItemFailures": [{ "itemIdentifier": stays }] }));
}

/// A world with so many turns to finish, whose model takes that long for each, and their messages.
fn busy(turns: usize, answer_ms: u64) -> InMemory {
    let world = world();
    world.model.follow(slowly(answer_ms));
    for number in 0..turns {
        let id = format!("t-{number:02}");
        queued(&world, &id);
        put(&world, &finish(&id, 1));
    }
    world
}

/// An answer that takes so long and is never silent for long.
fn slowly(answer_ms: u64) -> Vec<Step> {
    let mut script = Vec::new();
    let mut left_ms = answer_ms;
    while left_ms > 0 {
        let pause_ms = left_ms.min(5_000);
        script.push(Step::Wait(pause_ms));
        script.push(Step::Say(String::new()));
        left_ms -= pause_ms;
    }
    script.extend(Step::answer([ANSWER], 0));
    script
}

/// When the model was asked, ms after the start.
fn asked_at(world: &InMemory) -> Vec<u64> {
    world.model.asked().into_iter().map(|(at_ms, _)| at_ms - START_MS).collect()
}

#[test]
fn so_many_tasks_are_done_at_once_and_no_more() {
    const N: usize = WORKER_TASKS_AT_ONCE_MAX;
    for turns in [1, N, N + 1, 2 * N] {
        let world = busy(turns, 6_000);
        assert_eq!(Worker::new(&world).try_poll().unwrap(), Vec::<String>::new());
        let expected: Vec<u64> = (0..turns).map(|number| if number < N { 0 } else { 6_000 }).collect();
        assert_eq!(asked_at(&world), expected, "{turns} turns");
        for number in 0..turns {
            check_answered(&world, &format!("t-{number:02}"), &format!("{turns} turns"));
        }
    }
}

/// One that ends early makes room at once.
#[test]
fn the_next_task_begins_when_one_has_ended() {
    let world = busy(WORKER_TASKS_AT_ONCE_MAX + 1, 6_000);
    world.model.follow_once(slowly(6_000));
    world.model.follow_once(slowly(2_000));
    Worker::new(&world).try_poll().unwrap();
    assert_eq!(asked_at(&world).last(), Some(&2_000));
}

/// The time of an invocation is limited: what could not be begun by then is left to another, untouched and at once.
#[test]
fn what_cannot_be_begun_in_time_is_left_to_the_next() {
    for (answer_ms, begun) in [(WORKER_START_MS - 1, true), (WORKER_START_MS, false)] {
        let world = busy(WORKER_TASKS_AT_ONCE_MAX + 1, answer_ms);
        let last = format!("t-{WORKER_TASKS_AT_ONCE_MAX:02}");
        let before = stored(&world, &last);
        let failed = Worker::new(&world).try_poll().unwrap();
        assert_eq!(failed.len(), usize::from(!begun), "{answer_ms} ms");
        if !begun {
            assert_eq!(stored(&world, &last), before);
            assert_eq!(world.queues.inner.counts(QueueName::FollowUp).visible, 1);
            assert_eq!(Worker::new(&world).try_poll().unwrap(), Vec::<String>::new());
        }
        check_answered(&world, &last, &format!("{answer_ms} ms"));
    }
}

/// The second finds what the first has done.
#[test]
fn tasks_of_one_turn_are_done_one_after_the_other() {
    let world = busy(1, 6_000);
    put(&world, &finish("t-00", 1));
    put(&world, &finish("t-00", 2));
    assert_eq!(Worker::new(&world).try_poll().unwrap(), Vec::<String>::new());
    assert_eq!((asked_at(&world), stored(&world, "t-00").epoch()), (vec![0], 2));
    check_answered(&world, "t-00", "once");
}

#[test]
fn tasks_of_one_conversation_are_done_one_after_the_other() {
    let world = world();
    conversation(&world, "c-1", 9);
    conversation(&world, "c-2", 6);
    world.model.follow(Step::answer(["Notes."], 4_000));
    world.model.follow_once(Step::answer(["First notes."], 4_000));
    for task in [turn_ended("c-1", 6), turn_ended("c-1", 9), turn_ended("c-2", 6)] {
        put(&world, &task);
    }
    assert_eq!(Worker::new(&world).try_poll().unwrap(), Vec::<String>::new());
    assert_eq!(asked_at(&world), [0, 0, 4_000], "another conversation does not wait");
    let last = &world.model.asked()[2].1.messages[0].text;
    assert!(last.contains("First notes.") && last.contains("Question 7?") && !last.contains("Question 6?"), "{last}");
    assert_eq!([summary(&world, "c-1"), summary(&world, "c-2")].map(|summary| summary.unwrap().through), [9, 6]);
}

/// The queue keeps no order: the later one covers both.
#[test]
fn an_earlier_end_that_comes_late_adds_nothing() {
    let world = world();
    conversation(&world, "c-1", 9);
    for task in [turn_ended("c-1", 9), turn_ended("c-1", 6)] {
        put(&world, &task);
    }
    assert_eq!(Worker::new(&world).try_poll().unwrap(), Vec::<String>::new());
    assert_eq!((asked_at(&world).len(), summary(&world, "c-1").unwrap().through), (1, 9));
}

/// Work that has nothing to do with each other does not wait for each other.
#[test]
fn a_slow_task_holds_nobody_up() {
    let world = world();
    queued(&world, "t-slow");
    world.model.follow_once(slowly(80_000));
    put(&world, &finish("t-slow", 1));
    let reminder = samples::follow_up("f-1", &samples::shopper("aiko"), START_MS);
    world.run(world.follow_ups.inner.schedule(&reminder)).unwrap().unwrap();
    put(&world, &remind("f-1"));
    Worker::new(&world).try_poll().unwrap();
    let sent = world.sender.inner.sent();
    let reminded = sent.iter().find(|sent| sent.frame["type"] == "follow_up").unwrap();
    assert_eq!(reminded.at_ms, START_MS);
    assert_eq!(stored(&world, "t-slow").state(), TurnState::Completed);
}
