//! The queue delivers at least once: what comes twice is done once, one after the other or at the same moment.

use std::pin::pin;

use domain::follow_up::deliver_due;
use domain::limits::FOLLOW_UP_CLAIM_MS;
use domain::ports::{Clock as _, FollowUpStore as _, QueueName};
use domain::protocol::TurnState;
use domain::store::{Order, OrderStatus};
use futures_util::future::{Either, select};
use futures_util::join;
use testkit::{InMemory, START_MS, Step, StoreData, samples};

use super::{
    ANSWER, Worker, answered, asked, check_answered, conversation, drain, event, finish, follow_ups, left, put, queued,
    remind, stored, summary, turn_ended, visit, world,
};

/// Two workers get one message each, `apart_ms` apart; afterwards the queue is drained.
fn at_once(world: &InMemory, apart_ms: u64) {
    let workers = [Worker::new(world), Worker::new(world)];
    let batches = [(); 2].map(|()| world.queues.inner.receive_messages(QueueName::FollowUp, 1));
    for worker in &workers {
        worker.ports.set_round_trip_ms(10);
    }
    let [one, other] = [0, 1].map(|number| async move {
        world.clock.sleep_until(world.clock.now_ms() + number * apart_ms).await;
    });
    let failed = world.clock.block_on(async {
        join!(
            async {
                one.await;
                workers[0].invoke(event(&batches[0])).await
            },
            async {
                other.await;
                workers[1].invoke(event(&batches[1])).await
            },
        )
    });
    for (batch, failed) in batches.iter().zip([failed.0, failed.1]) {
        if failed.is_empty() {
            world.queues.inner.delete_message(QueueName::FollowUp, &batch[0].receipt);
        }
    }
    drain(world);
}

#[test]
fn a_turn_that_two_workers_get_at_once_is_answered_once() {
    for apart_ms in 0..120 {
        let case = format!("{apart_ms} ms apart");
        let world = world();
        world.model.follow(Step::answer(["Read ", "this ", "one."], 15));
        queued(&world, "t-1");
        put(&world, &finish("t-1", 1));
        put(&world, &finish("t-1", 1));
        at_once(&world, apart_ms);
        check_answered(&world, "t-1", &case);
        assert_eq!((world.model.asked().len(), stored(&world, "t-1").epoch()), (1, 2), "{case}");
    }
}

#[test]
fn a_turn_that_has_ended_is_left_as_it_is() {
    let world = world();
    queued(&world, "t-1");
    put(&world, &finish("t-1", 1));
    drain(&world);
    let (turn, sent) = (stored(&world, "t-1"), world.sender.inner.sent());
    for epoch in [1, 2, 3] {
        put(&world, &finish("t-1", epoch));
        assert_eq!(drain(&world), 1);
    }
    assert_eq!((stored(&world, "t-1"), world.sender.inner.sent()), (turn, sent));
    assert_eq!(world.model.asked().len(), 1);
}

#[test]
fn a_turn_that_was_never_recorded_is_forgotten() {
    let world = world();
    put(&world, &finish("t-1", 1));
    assert_eq!(drain(&world), 1);
    assert!(world.model.asked().is_empty() && world.turns.inner.all_turns().is_empty());
}

/// The worker that had it died somewhere in the answer; the shopper sees one.
#[test]
fn a_turn_whose_worker_died_is_answered_by_the_next() {
    for died_after_ms in (0..3_000).step_by(130) {
        let case = format!("died after {died_after_ms} ms");
        let world = world();
        world.model.follow(Step::answer(ANSWER.split_inclusive(' '), 900));
        queued(&world, "t-1");
        put(&world, &finish("t-1", 1));
        let worker = Worker::new(&world);
        let (polling, dying) = (pin!(worker.poll()), pin!(world.clock.sleep_until(START_MS + died_after_ms)));
        let died = matches!(world.clock.block_on(select(polling, dying)), Either::Right(_));
        assert_eq!(died, left(&world) == 1, "{case}");
        drain(&world);
        check_answered(&world, "t-1", &case);
    }
}

#[test]
fn a_conversation_is_summed_up_once() {
    for apart_ms in 0..120 {
        let case = format!("{apart_ms} ms apart");
        let world = world();
        conversation(&world, "c-1", 6);
        world.model.follow(Step::answer(["Other notes."], 40));
        world.model.follow_once(Step::answer(["Notes."], 40));
        put(&world, &turn_ended("c-1", 6));
        put(&world, &turn_ended("c-1", 6));
        at_once(&world, apart_ms);
        let kept = summary(&world, "c-1").unwrap();
        assert_eq!((kept.through, kept.text.as_str()), (6, "Notes."), "{case}: the first that was written");

        let asked_before = world.model.asked().len();
        put(&world, &turn_ended("c-1", 6));
        drain(&world);
        assert_eq!((world.model.asked().len(), summary(&world, "c-1")), (asked_before, Some(kept)), "{case}");
    }
}

/// Aiko's follow-up is due now.
fn scheduled(world: &InMemory, id: &str) {
    let follow_up = samples::follow_up(id, &samples::shopper("aiko"), world.clock.now_ms());
    world.run(world.follow_ups.inner.schedule(&follow_up)).unwrap().unwrap();
}

#[test]
fn a_follow_up_is_sent_once() {
    for apart_ms in 0..60 {
        let case = format!("{apart_ms} ms apart");
        let world = world();
        // Brings its own task; the other is a redelivery.
        scheduled(&world, "f-1");
        put(&world, &remind("f-1"));
        at_once(&world, apart_ms);
        assert_eq!(follow_ups(&world), ["f-1"], "{case}");
        assert!(world.clock.now_ms() <= START_MS + FOLLOW_UP_CLAIM_MS + 1_000, "{case}");
        put(&world, &remind("f-1"));
        assert_eq!(drain(&world), 1, "{case}");
        assert_eq!(follow_ups(&world), ["f-1"], "{case}");
    }
}

/// By the task or with the visit, whichever is first.
#[test]
fn a_follow_up_that_meets_a_visit_is_sent_once() {
    for apart_ms in 0..60 {
        let world = world();
        scheduled(&world, "f-1");
        let (worker, visited) = (Worker::new(&world), world.process());
        worker.ports.set_round_trip_ms(10);
        visited.set_round_trip_ms(10);
        let visit = async {
            world.clock.sleep_until(START_MS + apart_ms).await;
            deliver_due(&visited, &samples::shopper("aiko"), &samples::connection("one")).await.unwrap();
        };
        world.clock.block_on(async { join!(worker.poll(), visit) });
        drain(&world);
        assert_eq!(follow_ups(&world), ["f-1"], "{apart_ms} ms apart");
    }
}

#[test]
fn who_is_not_there_gets_a_follow_up_at_the_next_visit() {
    for connected in [true, false] {
        let world = if connected { world() } else { InMemory::new() };
        world.sender.inner.cut(&samples::connection("one"));
        scheduled(&world, "f-1");
        assert_eq!(drain(&world), 1, "there is nothing to wait for");
        assert!(world.sender.inner.sent().is_empty());
        for connection in ["two", "three"] {
            visit(&world, connection);
        }
        let got: Vec<_> = world.sender.inner.sent().into_iter().map(|sent| sent.connection.0).collect();
        assert_eq!(got, ["two"], "once");
    }
}

/// A pre-order of aiko's that arrives on the third day.
fn preorder(id: &str) -> Order {
    let eta = Some("2026-11-24".to_owned());
    Order { status: OrderStatus::Preordered, eta, ..samples::order(id, "aiko") }
}

/// Asked for in a message, scheduled when the turn has ended, sent on the day: each once, however often each is delivered.
#[test]
fn a_reminder_that_was_asked_for_comes_once() {
    let world = world();
    let orders = vec![preorder("MC-1"), samples::order("MC-2", "aiko"), preorder("MC-3")];
    world.store.stock(StoreData { orders, ..StoreData::default() });
    answered(&world, &asked("c-1-1", "c-1", 1, "Please remind me of my pre-orders"));
    put(&world, &turn_ended("c-1", 1));
    put(&world, &turn_ended("c-1", 1));
    assert_eq!(Worker::new(&world).try_poll().unwrap(), Vec::<String>::new());
    put(&world, &turn_ended("c-1", 1));
    assert_eq!(Worker::new(&world).try_poll().unwrap(), Vec::<String>::new());
    let scheduled = world.follow_ups.inner.all();
    assert_eq!((scheduled.len(), left(&world)), (2, 2), "one for each pre-order");
    assert!(follow_ups(&world).is_empty(), "not before the day");

    world.clock.advance_to(START_MS + 3 * 24 * 60 * 60 * 1_000 - 1);
    assert!(world.queues.inner.receive_messages(QueueName::FollowUp, 10).is_empty());
    drain(&world);
    let mut got = follow_ups(&world);
    got.sort();
    let mut expected: Vec<_> = scheduled.into_iter().map(|(follow_up, _)| follow_up.follow_up_id).collect();
    expected.sort();
    assert_eq!(got, expected);
    assert_eq!(stored(&world, "c-1-1").state(), TurnState::Completed);
}
