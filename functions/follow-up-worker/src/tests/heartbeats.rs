//! A message stays out of sight while it is worked on, and not much longer.

use domain::limits::{HEARTBEAT_MS, HEARTBEAT_VISIBILITY_MS};
use domain::ports::{Clock as _, QueueName};
use futures_util::future::{Either, select};
use testkit::{Fault, InMemory, RedrivePolicy, START_MS, Step};

use super::{ANSWER, Hide, Worker, check_answered, finish, left, put, queued, stored, world};

/// A turn whose answer takes so long, and its message.
fn slow(answer_ms: u64) -> InMemory {
    let world = world();
    world.model.follow(answer(answer_ms));
    queued(&world, "t-1");
    put(&world, &finish("t-1", 1));
    world
}

/// An answer that takes so long, with a sign of life every so often.
fn answer(answer_ms: u64) -> Vec<Step> {
    let pauses = (0..answer_ms / 5_000).map(|_| 5_000).chain(Some(answer_ms % 5_000));
    let mut script: Vec<Step> = pauses.flat_map(|ms| [Step::Wait(ms), Step::Say(String::new())]).collect();
    script.extend(Step::answer([ANSWER], 0));
    script
}

/// When messages were hidden, ms after the start.
fn times(hides: &[Hide]) -> Vec<u64> {
    hides.iter().map(|hide| hide.at_ms - START_MS).collect()
}

#[test]
fn a_message_is_hidden_again_and_again_while_it_is_worked_on() {
    for (answer_ms, beats) in [(0, 0), (1, 1), (14_999, 1), (15_001, 2), (29_999, 2), (30_001, 3), (62_000, 5)] {
        let world = slow(answer_ms);
        let worker = Worker::new(&world);
        assert!(worker.try_poll().unwrap().is_empty(), "{answer_ms} ms");
        let hides = worker.hides();
        let expected: Vec<u64> = (0..beats).map(|beat| beat * HEARTBEAT_MS).collect();
        assert_eq!(times(&hides), expected, "{answer_ms} ms");
        assert!(hides.iter().all(|hide| hide.for_ms == HEARTBEAT_VISIBILITY_MS && hide.receipt == hides[0].receipt));
        check_answered(&world, "t-1", &format!("{answer_ms} ms"));
        assert_eq!(left(&world), 0, "{answer_ms} ms");
    }
}

/// With a queue that would deliver it again much sooner.
#[test]
fn nobody_else_gets_a_message_that_is_worked_on() {
    let world = slow(62_000);
    let policy = RedrivePolicy { visibility_ms: HEARTBEAT_MS + 1_000, receives_max: 10 };
    world.queues.inner.set_policy(QueueName::FollowUp, policy);
    let others = async {
        loop {
            world.clock.sleep_until(world.clock.now_ms() + 500).await;
            assert!(world.queues.inner.receive_messages(QueueName::FollowUp, 10).is_empty());
        }
    };
    let worker = Worker::new(&world);
    let polled = world.clock.block_on(async {
        match select(std::pin::pin!(worker.poll()), std::pin::pin!(others)).await {
            Either::Left((failed, _)) => failed,
            Either::Right((never, _)) => never,
        }
    });
    assert!(polled.is_empty());
    assert_eq!(world.clock.now_ms(), START_MS + 62_000);
    check_answered(&world, "t-1", "alone");
}

#[test]
fn every_message_has_a_heartbeat_of_its_own() {
    let world = slow(31_000);
    queued(&world, "t-2");
    put(&world, &finish("t-2", 1));
    let worker = Worker::new(&world);
    worker.try_poll().unwrap();
    let hides = worker.hides();
    assert_eq!(times(&hides), [0, 0, 15_000, 15_000, 30_000, 30_000]);
    let mut receipts: Vec<_> = hides.iter().map(|hide| &hide.receipt).collect();
    receipts.sort();
    receipts.dedup();
    assert_eq!(receipts.len(), 2);
}

/// Two may fail before another worker gets the message.
#[test]
fn a_heartbeat_that_fails_is_not_the_last() {
    let hides = |world: &InMemory| {
        let effects = world.faults.effects().into_iter().enumerate();
        effects.filter(|(_, effect)| effect.name == "deliveries.hide").map(|(number, _)| number).collect::<Vec<_>>()
    };
    let beats = {
        let worker = Worker::new(&slow(62_000));
        worker.try_poll().unwrap();
        hides(&worker.ports)
    };
    assert_eq!(beats.len(), 5);
    let world = slow(62_000);
    let worker = Worker::new(&world);
    worker.ports.faults.plan(beats[0], Fault::FailBefore);
    worker.ports.faults.plan(beats[1], Fault::FailAfter);
    assert!(worker.try_poll().unwrap().is_empty());
    assert_eq!(times(&worker.hides()), [0, 15_000, 30_000, 45_000, 60_000]);
    check_answered(&world, "t-1", "all the same");
}

/// Nor does a heartbeat that takes long.
#[test]
fn work_does_not_wait_for_a_heartbeat() {
    let world = slow(40_000);
    let worker = Worker { hide_takes_ms: 20_000, ..Worker::new(&world) };
    assert!(worker.try_poll().unwrap().is_empty());
    assert_eq!(world.clock.now_ms(), START_MS + 40_000);
    assert_eq!(times(&worker.hides()), [0, 20_000], "the next comes after it");
    check_answered(&world, "t-1", "in time");
}

/// Its last heartbeat counts, not the queue's own twelve minutes.
#[test]
fn what_a_dead_worker_had_comes_again_soon() {
    let world = slow(62_000);
    let worker = Worker::new(&world);
    let dead = || world.clock.now_ms() >= START_MS + 40_000;
    assert!(world.clock.block_on_until(dead, worker.poll()).is_none());
    assert_eq!(stored(&world, "t-1").epoch(), 2);
    assert_eq!(times(&worker.hides()), [0, 15_000, 30_000]);
    world.clock.block_on(world.queues.inner.wait_visible(QueueName::FollowUp));
    assert_eq!(world.clock.now_ms(), START_MS + 30_000 + HEARTBEAT_VISIBILITY_MS);
    assert!(Worker::new(&world).try_poll().unwrap().is_empty());
    check_answered(&world, "t-1", "by another");
}
