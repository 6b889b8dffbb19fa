//! Nothing is deleted from the queue before its effect is durable: wherever a call fails, its acknowledgement is lost or the
//! process dies.

use domain::ports::{FollowUpStore as _, QueueName, Task};
use domain::store::{Order, OrderStatus};
use domain::watchdog::watch;
use testkit::{Fault, InMemory, ModelFailure, START_MS, Step, StoreData, samples};

use super::{
    ANSWER, Worker, answered, asked, check_answered, check_stored, conversation, dead, finish, follow_ups, put, queued,
    record, stored, summary, turn_ended, visit, world,
};

/// A kind of message, and what it is for.
struct Kind {
    name: &'static str,
    /// A world in which the message waits for a worker.
    begin: fn() -> InMemory,
    /// Its effect is durable.
    done: fn(&InMemory) -> bool,
    /// All is as it should be in the end.
    check: fn(&InMemory, frame_lost: bool, case: &str),
}

/// A turn was answered. A client that missed a frame notices the gap, and resumes.
fn check_turn(world: &InMemory, frame_lost: bool, case: &str) {
    match frame_lost {
        true => check_stored(world, "t-1", case),
        false => check_answered(world, "t-1", case),
    }
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "a queued turn",
        begin: || {
            let world = world();
            world.model.follow(Step::answer(ANSWER.split_inclusive(' '), 600));
            queued(&world, "t-1");
            put(&world, &finish("t-1", 1));
            world
        },
        done: ended_or_watched,
        check: check_turn,
    },
    Kind {
        name: "a turn whose owner is dead",
        begin: || {
            let world = world();
            record(&world, &asked("t-1", "c-t-1", 1, "What should I read?"));
            put(&world, &finish("t-1", 1));
            world.clock.advance(20_000);
            world
        },
        done: ended_or_watched,
        check: check_turn,
    },
    Kind {
        name: "a turn that must wait again",
        begin: || {
            let world = world();
            let throttled =
                vec![Step::Say("Read ".to_owned()), Step::Wait(1_300), Step::Fail(ModelFailure::Unavailable)];
            world.model.follow_once(throttled);
            queued(&world, "t-1");
            put(&world, &finish("t-1", 1));
            world
        },
        done: ended_or_watched,
        check: check_turn,
    },
    Kind {
        name: "the end of a turn",
        begin: || {
            let world = world();
            let order = |id| Order {
                status: OrderStatus::Preordered,
                eta: Some("2026-11-24".to_owned()),
                ..samples::order(id, "aiko")
            };
            world.store.stock(StoreData { orders: vec![order("MC-1"), order("MC-2")], ..StoreData::default() });
            conversation(&world, "c-1", 5);
            answered(&world, &asked("c-1-6", "c-1", 6, "Remind me of my pre-orders"));
            put(&world, &turn_ended("c-1", 6));
            world
        },
        done: |world| summary(world, "c-1").is_some() && world.follow_ups.inner.all().len() == 2,
        check: |world, _, case| {
            assert_eq!(summary(world, "c-1").unwrap().through, 6, "{case}");
            assert_eq!(world.follow_ups.inner.all().len(), 2, "{case}");
            assert_eq!(follow_ups(world).len(), 2, "{case}: on the day");
        },
    },
    Kind {
        name: "a follow-up that is due",
        begin: || {
            let world = world();
            let follow_up = samples::follow_up("f-1", &samples::shopper("aiko"), START_MS);
            world.run(world.follow_ups.inner.schedule(&follow_up)).unwrap().unwrap();
            world
        },
        done: |world| {
            let delivered = world.follow_ups.inner.all().iter().all(|(_, delivered)| *delivered);
            !delivered || !follow_ups(world).is_empty()
        },
        check: |world, _, case| {
            // What was not delivered comes with the next visit.
            visit(world, "one");
            assert!(world.follow_ups.inner.all().iter().all(|(_, delivered)| *delivered), "{case}");
            let sent = follow_ups(world);
            assert!((1..=2).contains(&sent.len()) && sent.iter().all(|id| id == "f-1"), "{case}: {sent:?}");
        },
    },
    Kind {
        name: "what is no task",
        begin: || {
            let world = world();
            world.queues.inner.put(QueueName::FollowUp, "?");
            world
        },
        done: |world| !dead(world).is_empty(),
        check: |world, _, case| assert!((1..=2).contains(&dead(world).len()), "{case}"),
    },
];

/// The turn has ended, or the watchdog has a task about its newest owner and will ask anew.
fn ended_or_watched(world: &InMemory) -> bool {
    let turn = stored(world, "t-1");
    let watch = Task::Watch { turn_id: turn.request.turn_id.clone(), epoch: turn.epoch() };
    let watched = world.queues.inner.bodies(QueueName::Watchdog).contains(&serde_json::to_string(&watch).unwrap());
    turn.exchange().is_some() || (turn.epoch() > 1 && watched)
}

/// Workers and watchdogs do whatever the queues deliver until both are empty.
fn drain_all(world: &InMemory) {
    for _ in 0..100 {
        let Some(due_at) = world.queues.inner.next_due_at() else { return };
        world.clock.advance_to(due_at);
        for message in world.queues.inner.receive_messages(QueueName::Watchdog, 10) {
            let Ok(Task::Watch { turn_id, epoch }) = serde_json::from_str(&message.body) else { panic!("{message:?}") };
            world.run(watch(world, &world.events, &turn_id, epoch)).unwrap().unwrap();
            world.queues.inner.delete_message(QueueName::Watchdog, &message.receipt);
        }
        Worker::new(world).try_poll().unwrap();
    }
    panic!("never empty");
}

#[test]
fn a_message_stays_until_its_effect_is_durable() {
    for Kind { name, begin, done, check } in &KINDS {
        let effects = {
            let world = begin();
            let worker = Worker::new(&world);
            worker.try_poll().unwrap();
            worker.ports.faults.effects()
        };
        for (number, effect) in effects.iter().enumerate() {
            for fault in [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter] {
                let case = format!("{name}: {fault:?} of {number}, {}", effect.name);
                let world = begin();
                let message = world.queues.inner.bodies(QueueName::FollowUp).remove(0);
                let worker = Worker::new(&world);
                worker.ports.faults.plan(number, fault);
                let died = worker.try_poll().is_none();
                assert_eq!(died, matches!(fault, Fault::CrashBefore | Fault::CrashAfter), "{case}");
                let stays = world.queues.inner.bodies(QueueName::FollowUp).contains(&message);
                assert!(stays || done(&world), "{case}: it is gone and not done");
                assert!(stays || !died, "{case}");
                drain_all(&world);
                let frame_lost = effect.name == "sender.send" && fault == Fault::FailBefore;
                check(&world, frame_lost, &case);
            }
        }
    }
}
