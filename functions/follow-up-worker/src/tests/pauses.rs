//! When a task that is not done comes again.

use domain::follow_up::retry_after_ms;
use domain::limits::{LEASE_MS, TAKEOVER_MARGIN_MS, TASK_PAUSE_MAX_MS, TASK_PAUSE_MS};
use domain::ports::{Clock as _, QueueName};
use domain::protocol::TurnState;
use domain::turn::{Hold, Phase};
use testkit::{Fault, InMemory, ModelFailure, START_MS, Service, Step, samples};

use super::{
    Worker, answered, asked, check_answered, conversation, dead, drain, event, finish, journal, left, put, queued,
    record, stored, summary, turn_ended, world,
};

/// The longest pause before an attempt after so many.
fn longest_ms(receives: u32) -> u64 {
    [5_000, 10_000, 20_000, 40_000, 80_000, 160_000].get(receives as usize - 1).copied().unwrap_or(300_000)
}

#[test]
fn pauses_double_up_to_a_limit() {
    assert_eq!((TASK_PAUSE_MS, TASK_PAUSE_MAX_MS), (5_000, 300_000));
    for receives in (1..=12).chain([63, 64, 65, u32::MAX]) {
        let longest_ms = longest_ms(receives);
        let pause = |random| retry_after_ms(receives, random);
        assert_eq!((pause(0.0), pause(1.0)), (longest_ms / 2, longest_ms), "{receives} receives");
        assert_eq!(pause(0.5), longest_ms / 2 + longest_ms / 4, "{receives} receives");
    }
    assert_eq!(retry_after_ms(0, 1.0), 5_000, "a message that was never received does not exist");
    assert_eq!([-1.0, 2.0, f64::NAN].map(|random| retry_after_ms(1, random)), [2_500, 5_000, 2_500]);
}

/// A turn that cannot be finished now, received so often: for how long it is hidden.
fn hidden_ms(world: &InMemory, receives: u32) -> u64 {
    let mut batch = world.queues.inner.receive_messages(QueueName::FollowUp, 10);
    batch[0].receive_count = receives;
    let worker = Worker::new(world);
    let failed = worker.ports.run(worker.invoke(event(&batch))).unwrap();
    assert_eq!(failed, [batch[0].message_id.clone()]);
    let hides = worker.hides();
    assert!(hides.iter().all(|hide| hide.receipt == batch[0].receipt));
    // After the heartbeats.
    hides.last().unwrap().for_ms
}

#[test]
fn a_turn_that_the_model_does_not_answer_waits_longer_each_time() {
    for failure in [ModelFailure::Unavailable, ModelFailure::Unavailable] {
        for receives in 1..=10 {
            let world = world();
            world.model.follow(vec![Step::Fail(failure)]);
            queued(&world, "t-1");
            put(&world, &finish("t-1", 1));
            let hidden_ms = hidden_ms(&world, receives);
            let longest_ms = longest_ms(receives);
            assert!((longest_ms / 2..=longest_ms).contains(&hidden_ms), "{receives} receives: {hidden_ms} ms");
            let turn = stored(&world, "t-1");
            assert!(matches!(turn.phase(world.clock.now_ms()), Phase::Queued { .. }));
            assert_eq!(turn.epoch(), 2);
        }
    }
}

/// Those that failed together do not come back together.
#[test]
fn pauses_differ() {
    let pauses: std::collections::BTreeSet<u64> = (0..50)
        .map(|_| {
            let world = world();
            world.model.follow(vec![Step::Fail(ModelFailure::Unavailable)]);
            queued(&world, "t-1");
            put(&world, &finish("t-1", 1));
            hidden_ms(&world, 7)
        })
        .collect();
    assert!(pauses.len() > 10, "{pauses:?}");
}

#[test]
fn what_something_else_keeps_from_being_done_waits_too() {
    type Breaks = fn(&InMemory);
    let faults: [(&str, Breaks); 4] = [
        ("orders", |world| world.store.fail(Service::Orders)),
        ("silent", |world| world.model.follow(vec![Step::Silence])),
        ("broken off", |world| world.model.follow(vec![Step::Say("Notes".to_owned())])),
        ("refused", |world| world.model.follow(vec![Step::Fail(ModelFailure::Refused)])),
    ];
    for (case, fault) in faults {
        let world = world();
        conversation(&world, "c-1", 5);
        answered(&world, &asked("c-1-6", "c-1", 6, "Remind me of my pre-order"));
        put(&world, &turn_ended("c-1", 6));
        fault(&world);
        let hidden_ms = hidden_ms(&world, 2);
        assert!((5_000..=10_000).contains(&hidden_ms), "{case}: {hidden_ms} ms");
        assert_eq!(summary(&world, "c-1").is_some(), case == "orders", "{case}: nothing is made up");
    }
}

/// The attempts come when the pauses are over, and the turn is finished as soon as the model is back.
#[test]
fn a_turn_is_tried_until_it_is_answered() {
    let world = world();
    for _ in 0..5 {
        world.model.follow_once(vec![Step::Fail(ModelFailure::Unavailable)]);
    }
    queued(&world, "t-1");
    put(&world, &finish("t-1", 1));
    assert_eq!(drain(&world), 6);
    let asked: Vec<u64> = world.model.asked().into_iter().map(|(at_ms, _)| at_ms).collect();
    for (pair, receives) in asked.windows(2).zip(1..) {
        // The queue rounds up to whole seconds.
        let (pause_ms, longest_ms) = (pair[1] - pair[0], longest_ms(receives));
        assert!((longest_ms / 2..=longest_ms + 999).contains(&pause_ms), "attempt {receives}: {pause_ms} ms");
    }
    check_answered(&world, "t-1", "at last");
    assert_eq!(stored(&world, "t-1").epoch(), 7);
}

/// The queue gives up a task that always fails; the turn's watchdog does not.
#[test]
fn a_task_that_always_fails_reaches_the_dead_letters() {
    let world = world();
    world.model.follow(vec![Step::Fail(ModelFailure::Unavailable)]);
    conversation(&world, "c-1", 6);
    put(&world, &turn_ended("c-1", 6));
    assert_eq!(drain(&world), 11, "ten times, and once more to see that it is gone");
    let letters = world.queues.inner.dead_letters(QueueName::FollowUp);
    assert_eq!(letters.len(), 1);
    assert_eq!((world.model.asked().len(), summary(&world, "c-1")), (10, None));
}

/// An owner that is alive is not disturbed: the task comes again when its lease has lapsed, and not before.
#[test]
fn a_task_for_a_living_owner_waits_for_its_lease() {
    let world = world();
    let turn = asked("t-1", "c-t-1", 1, "What should I read?");
    record(&world, &turn);
    let until = START_MS + LEASE_MS + 500;
    journal(&world, &turn, 1, Hold::Leased { until }, false);
    world.clock.advance(2_250);
    put(&world, &finish("t-1", 1));
    let worker = Worker::new(&world);
    assert_eq!(worker.try_poll().unwrap().len(), 1);
    let waits_ms = until + TAKEOVER_MARGIN_MS - world.clock.now_ms();
    assert_eq!(worker.hides()[0].for_ms, waits_ms);
    assert!(world.model.asked().is_empty());

    world.clock.block_on(world.queues.inner.wait_visible(QueueName::FollowUp));
    let came_at = world.clock.now_ms();
    assert!((until + TAKEOVER_MARGIN_MS..until + TAKEOVER_MARGIN_MS + 1_000).contains(&came_at));
    assert!(Worker::new(&world).try_poll().unwrap().is_empty());
    check_answered(&world, "t-1", "after the lease");
}

/// To the millisecond.
#[test]
fn a_turn_is_taken_over_when_its_lease_has_lapsed() {
    for (early_ms, taken_over) in [(1, false), (0, true)] {
        let world = world();
        record(&world, &asked("t-1", "c-t-1", 1, "What should I read?"));
        put(&world, &finish("t-1", 1));
        world.clock.advance_to(START_MS + LEASE_MS + TAKEOVER_MARGIN_MS - early_ms);
        let worker = Worker::new(&world);
        assert_eq!(worker.try_poll().unwrap().is_empty(), taken_over);
        assert_eq!(stored(&world, "t-1").state() == TurnState::Completed, taken_over);
        let hidden: Vec<u64> = worker.hides().iter().map(|hide| hide.for_ms).collect();
        assert_eq!(hidden, if taken_over { vec![] } else { vec![1] });
    }
}

/// A later owner has a watchdog of its own, which asks anew if it dies.
#[test]
fn a_task_about_an_owner_that_was_replaced_is_done() {
    let world = world();
    let turn = asked("t-1", "c-t-1", 1, "What should I read?");
    record(&world, &turn);
    journal(&world, &turn, 2, Hold::Leased { until: START_MS + LEASE_MS }, false);
    put(&world, &finish("t-1", 1));
    let before = stored(&world, "t-1");
    assert!(Worker::new(&world).try_poll().unwrap().is_empty());
    assert_eq!((stored(&world, "t-1"), left(&world)), (before, 0));
    assert!(world.model.asked().is_empty() && world.sender.inner.sent().is_empty());
}

/// Without its pause it comes again when the queue's own time is over.
#[test]
fn a_pause_that_cannot_be_set_loses_nothing() {
    let world = world();
    world.model.follow_once(vec![Step::Fail(ModelFailure::Unavailable)]);
    queued(&world, "t-1");
    let id = put(&world, &finish("t-1", 1));
    let effects = {
        let alike = super::world();
        alike.model.follow_once(vec![Step::Fail(ModelFailure::Unavailable)]);
        queued(&alike, "t-1");
        put(&alike, &finish("t-1", 1));
        let worker = Worker::new(&alike);
        worker.try_poll().unwrap();
        worker.ports.faults.effects()
    };
    let hide = effects.iter().position(|effect| effect.name == "deliveries.hide").unwrap();
    let worker = Worker::new(&world);
    worker.ports.faults.plan(hide, Fault::FailBefore);
    assert_eq!(worker.try_poll().unwrap(), [id]);
    assert_eq!(drain(&world), 1);
    assert!(world.clock.now_ms() >= START_MS + 12 * 60_000);
    check_answered(&world, "t-1", "later");
    assert!(dead(&world).is_empty());
    assert!(!world.sender.inner.frames(&samples::connection("one")).is_empty());
}
