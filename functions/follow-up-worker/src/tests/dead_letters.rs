//! What nobody can use goes to the dead letters, with the reason, and never gets lost on the way.

use domain::ports::{DeadLetters as _, QueueName};
use serde_json::json;
use testkit::{Fault, InMemory, MessageAttributes, START_MS};

use super::{Worker, dead, drain, event, left, world};

const NO_TASK: &str = "the message is no task";
const ANOTHERS: &str = "a watchdog's task is not for this queue";

/// Bodies that nobody can use, and why.
fn unusable() -> Vec<(String, &'static str)> {
    let task = |task: serde_json::Value| task.to_string();
    vec![
        (String::new(), NO_TASK),
        ("?".to_owned(), NO_TASK),
        ("null".to_owned(), NO_TASK),
        (r#"{"kind":"finish","turn_id":"t-1","#.to_owned(), NO_TASK),
        (task(json!({ "kind": "sweep", "turn_id": "t-1" })), NO_TASK),
        (task(json!({ "kind": "finish", "turn_id": "t-1" })), NO_TASK),
        (task(json!({ "kind": "finish", "turn_id": "../t-1", "epoch": 1 })), NO_TASK),
        (task(json!({ "kind": "finish", "turn_id": "t-1", "epoch": -1 })), NO_TASK),
        (task(json!({ "kind": "remind", "principal": "nobody", "follow_up_id": "f-1" })), NO_TASK),
        (task(json!({ "turn_id": "t-1", "epoch": 1 })), NO_TASK),
        (task(json!({ "kind": "watch", "turn_id": "t-1", "epoch": 1 })), ANOTHERS),
    ]
}

fn put(world: &InMemory, body: &str) -> String {
    world.queues.inner.put(QueueName::FollowUp, body)
}

#[test]
fn what_is_no_task_is_refused_with_the_reason() {
    for (body, reason) in unusable() {
        let world = world();
        put(&world, &body);
        let worker = Worker::new(&world);
        assert!(worker.try_poll().unwrap().is_empty(), "{body}: it is acknowledged");
        assert_eq!(dead(&world), [(reason.to_owned(), body.clone())]);
        assert_eq!((left(&world), worker.hides().len()), (0, 0), "{body}");
    }
}

/// Where it came from and how often it was redriven survives.
#[test]
fn a_dead_letter_keeps_its_past() {
    let world = world();
    world.clock.advance(1_234);
    put(&world, "?");
    Worker::new(&world).try_poll().unwrap();
    let attributes = |world: &InMemory| world.queues.inner.dead_letters(QueueName::FollowUp)[0].1.clone();
    let reason = Some(NO_TASK.to_owned());
    let sent_at = Some(START_MS + 1_234);
    assert_eq!(
        attributes(&world),
        MessageAttributes { redrives: Some(0), first_sent_at: sent_at, reason: reason.clone() }
    );

    // Redriven, delivered and refused again.
    for redrives in 1..=2 {
        world.clock.advance(600_000);
        let dead_letters = &world.queues.inner;
        let [letter] =
            <[_; 1]>::try_from(world.run(dead_letters.receive(QueueName::FollowUp)).unwrap().unwrap()).unwrap();
        world.run(dead_letters.redrive(QueueName::FollowUp, &letter)).unwrap().unwrap();
        world.run(dead_letters.delete(QueueName::FollowUp, &letter.receipt)).unwrap().unwrap();
        Worker::new(&world).try_poll().unwrap();
        let expected = MessageAttributes { redrives: Some(redrives), first_sent_at: sent_at, reason: reason.clone() };
        assert_eq!(attributes(&world), expected);
    }
}

/// A message whose record lacks everything that may be missing.
#[test]
fn a_bare_record_is_refused_too() {
    let world = world();
    let bare = serde_json::from_value(json!({ "Records": [{}] })).unwrap();
    let worker = Worker::new(&world);
    assert!(worker.ports.run(worker.invoke(bare)).unwrap().is_empty());
    assert_eq!(dead(&world), [(NO_TASK.to_owned(), String::new())]);
}

/// It is acknowledged only when it is among the dead letters; a failure in between may double it.
#[test]
fn a_message_is_refused_or_stays() {
    let letters = [
        (Fault::FailBefore, false, 1),
        (Fault::FailAfter, false, 2),
        (Fault::CrashBefore, true, 1),
        (Fault::CrashAfter, true, 2),
    ];
    for (fault, crashes, letters) in letters {
        let world = world();
        let id = put(&world, "?");
        let worker = Worker::new(&world);
        worker.ports.faults.plan(0, fault);
        assert_eq!(worker.try_poll(), (!crashes).then(|| vec![id]), "{fault:?}");
        assert_eq!(left(&world), 1, "{fault:?}");
        drain(&world);
        assert_eq!(dead(&world), vec![(NO_TASK.to_owned(), "?".to_owned()); letters], "{fault:?}");
    }
}

/// One that cannot be refused does not keep the others from it.
#[test]
fn every_message_is_refused_by_itself() {
    for failing in 0..3 {
        let world = world();
        let ids: Vec<String> = (0..3).map(|number| put(&world, &format!("?{number}"))).collect();
        let batch = world.queues.inner.receive_messages(QueueName::FollowUp, 10);
        let worker = Worker::new(&world);
        worker.ports.faults.plan(failing, Fault::FailBefore);
        let failed = worker.ports.run(worker.invoke(event(&batch))).unwrap();
        assert_eq!(failed, [ids[failing].clone()]);
        assert_eq!(dead(&world).len(), 2);
    }
}
