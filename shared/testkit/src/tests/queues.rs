//! The queues behave as SQS does.

use domain::ids::TurnId;
use domain::ports::{Clock as _, DeadLetters as _, Deliveries as _, QueueName, Task, TaskQueues as _};
use futures_util::join;

use crate::{ManualClock, MemoryQueues, MessageAttributes, MessageCounts, RedrivePolicy, START_MS};

const FOLLOW_UP: QueueName = QueueName::FollowUp;
const WATCHDOG: QueueName = QueueName::Watchdog;

fn queues() -> (ManualClock, MemoryQueues) {
    let clock = ManualClock::new();
    (clock.clone(), MemoryQueues::new(clock))
}

fn turn_id() -> TurnId {
    TurnId::parse("t-1").unwrap()
}

/// The bodies of what is received now.
fn received(queues: &MemoryQueues, queue: QueueName) -> Vec<String> {
    queues.receive_messages(queue, 10).into_iter().map(|message| message.body).collect()
}

fn send(clock: &ManualClock, queues: &MemoryQueues, task: &Task, delay_ms: u64) {
    clock.block_on(queues.send(task, delay_ms)).unwrap();
}

#[test]
fn each_task_has_its_queue() {
    let (clock, queues) = queues();
    let watch = Task::Watch { turn_id: turn_id(), epoch: 1 };
    let finish = Task::Finish { turn_id: turn_id(), epoch: 1 };
    send(&clock, &queues, &watch, 0);
    send(&clock, &queues, &finish, 0);
    for (queue, task) in [(WATCHDOG, watch), (FOLLOW_UP, finish)] {
        let bodies = received(&queues, queue);
        assert_eq!(bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect::<Vec<Task>>(), [task]);
    }
}

#[test]
fn delays_are_whole_seconds_and_at_most_fifteen_minutes() {
    let watch = Task::Watch { turn_id: turn_id(), epoch: 1 };
    for (delay_ms, visible_ms) in [(0, 0), (1, 1_000), (1_000, 1_000), (1_001, 2_000), (900_000, 900_000)] {
        let (clock, queues) = queues();
        send(&clock, &queues, &watch, delay_ms);
        assert_eq!(queues.next_due_at(), Some(START_MS + visible_ms), "{delay_ms}");
        if visible_ms > 0 {
            clock.advance(visible_ms - 1);
            assert_eq!(queues.counts(WATCHDOG), MessageCounts { delayed: 1, ..MessageCounts::default() });
            assert_eq!(received(&queues, WATCHDOG).len(), 0, "{delay_ms}");
            clock.advance(1);
        }
        assert_eq!(queues.counts(WATCHDOG), MessageCounts { visible: 1, ..MessageCounts::default() });
        assert_eq!(received(&queues, WATCHDOG).len(), 1, "{delay_ms}");
    }
    let (clock, queues) = queues();
    assert!(clock.block_on(queues.send(&watch, 900_001)).is_err());
    assert_eq!(queues.bodies(WATCHDOG), Vec::<String>::new());
    assert_eq!(queues.next_due_at(), None);
}

#[test]
fn a_message_is_received_again_until_it_is_deleted() {
    let (clock, queues) = queues();
    queues.set_policy(FOLLOW_UP, RedrivePolicy { visibility_ms: 30_000, receives_max: 9 });
    let id = queues.put(FOLLOW_UP, "one");
    let first = queues.receive_messages(FOLLOW_UP, 10).remove(0);
    assert_eq!((first.receive_count, &first.message_id, first.sent_at), (1, &id, START_MS));
    assert_eq!(queues.counts(FOLLOW_UP), MessageCounts { in_flight: 1, ..MessageCounts::default() });
    clock.advance(29_999);
    assert_eq!(received(&queues, FOLLOW_UP).len(), 0, "in flight");
    clock.advance(1);
    let second = queues.receive_messages(FOLLOW_UP, 10).remove(0);
    assert_eq!((second.receive_count, &second.message_id, second.sent_at), (2, &id, START_MS));
    assert_ne!(second.receipt, first.receipt);

    queues.delete_message(FOLLOW_UP, &first.receipt);
    assert!(queues.change_visibility(FOLLOW_UP, &first.receipt, 0).is_err());
    assert_eq!(queues.bodies(FOLLOW_UP), ["one"], "a stale receipt does nothing");
    queues.delete_message(WATCHDOG, &second.receipt);
    assert_eq!(queues.bodies(FOLLOW_UP), ["one"], "nor does one of another queue");
    queues.delete_message(FOLLOW_UP, &second.receipt);
    assert_eq!(queues.counts(FOLLOW_UP), MessageCounts::default());
}

#[test]
fn the_newest_receipt_deletes_also_when_the_message_is_visible_again() {
    let (clock, queues) = queues();
    queues.put(WATCHDOG, "one");
    let received = queues.receive_messages(WATCHDOG, 1).remove(0);
    clock.advance(18_000);
    assert_eq!(queues.counts(WATCHDOG).visible, 1);
    assert!(queues.change_visibility(WATCHDOG, &received.receipt, 1_000).is_err(), "it is not in flight any more");
    queues.delete_message(WATCHDOG, &received.receipt);
    assert_eq!(queues.bodies(WATCHDOG), Vec::<String>::new());
}

#[test]
fn a_consumer_changes_when_a_message_comes_again() {
    let (clock, queues) = queues();
    queues.put(FOLLOW_UP, "one");
    let message = queues.receive_messages(FOLLOW_UP, 1).remove(0);
    clock.block_on(queues.hide(&message.receipt, 4_001)).unwrap();
    assert_eq!(queues.next_due_at(), Some(START_MS + 5_000));
    clock.advance(4_000);
    clock.block_on(queues.hide(&message.receipt, 60_000)).unwrap();
    assert_eq!(queues.next_due_at(), Some(START_MS + 64_000), "from now on");
    assert!(clock.block_on(queues.hide(&message.receipt, 12 * 60 * 60 * 1_000 + 1)).is_err());
    clock.block_on(queues.hide(&message.receipt, 12 * 60 * 60 * 1_000)).unwrap();
    clock.block_on(queues.hide(&message.receipt, 0)).unwrap();
    assert_eq!(received(&queues, FOLLOW_UP), ["one"], "at once");
}

#[test]
fn at_most_ten_are_received_at_once_the_oldest_first() {
    let (_, queues) = queues();
    for number in 0..21 {
        queues.put(FOLLOW_UP, &number.to_string());
    }
    let batch = |max| queues.receive_messages(FOLLOW_UP, max).into_iter().map(|message| message.body);
    assert_eq!(batch(2).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(batch(11).collect::<Vec<_>>(), (2..12).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(batch(10).len() + batch(10).len(), 9);
    assert_eq!(queues.bodies(FOLLOW_UP).len(), 21);
}

#[test]
fn what_is_received_too_often_is_a_dead_letter() {
    let (clock, queues) = queues();
    queues.set_policy(FOLLOW_UP, RedrivePolicy { visibility_ms: 1_000, receives_max: 2 });
    let id = queues.put(FOLLOW_UP, "poison");
    for _ in 0..2 {
        assert_eq!(received(&queues, FOLLOW_UP), ["poison"]);
        clock.advance(1_000);
    }
    assert_eq!(
        queues.counts(FOLLOW_UP),
        MessageCounts { visible: 1, ..MessageCounts::default() },
        "until it is asked for"
    );
    assert_eq!(received(&queues, FOLLOW_UP), Vec::<String>::new());
    assert_eq!(queues.counts(FOLLOW_UP), MessageCounts { dead: 1, ..MessageCounts::default() });
    assert_eq!(queues.dead_letters(FOLLOW_UP), [("poison".to_owned(), MessageAttributes::default())]);
    assert_eq!(queues.dead_letters(WATCHDOG), []);

    let letters = clock.block_on(queues.receive(FOLLOW_UP)).unwrap();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.message_id.as_str(), letter.body.as_str()), (id.as_str(), "poison"));
    assert_eq!((letter.first_sent_at, letter.redrives, &letter.reason), (START_MS, 0, &None));
}

#[test]
fn dead_letters_reappear_and_are_given_back_redriven_and_deleted() {
    let (clock, queues) = queues();
    let attributes = MessageAttributes {
        redrives: Some(1),
        first_sent_at: Some(START_MS - 5),
        reason: Some("malformed".to_owned()),
    };
    queues.put_dead(WATCHDOG, "one", attributes);
    let receive = || clock.block_on(queues.receive(WATCHDOG)).unwrap();
    let stale = receive().remove(0);
    assert_eq!((stale.first_sent_at, stale.redrives, stale.reason.as_deref()), (START_MS - 5, 1, Some("malformed")));
    clock.advance(119_999);
    assert_eq!(receive(), [], "out of sight");
    clock.advance(1);
    let letter = receive().remove(0);
    assert!(clock.block_on(queues.give_back(WATCHDOG, &stale.receipt)).is_err());
    clock.block_on(queues.delete(WATCHDOG, &stale.receipt)).unwrap();
    clock.block_on(queues.give_back(WATCHDOG, &letter.receipt)).unwrap();
    let letter = receive().remove(0);

    clock.block_on(queues.redrive(WATCHDOG, &letter)).unwrap();
    assert_eq!(queues.counts(WATCHDOG), MessageCounts { visible: 1, dead: 1, ..MessageCounts::default() });
    clock.block_on(queues.delete(WATCHDOG, &letter.receipt)).unwrap();
    assert_eq!(queues.counts(WATCHDOG), MessageCounts { visible: 1, ..MessageCounts::default() });

    let redriven = queues.receive_messages(WATCHDOG, 1).remove(0);
    let attributes = MessageAttributes { redrives: Some(2), first_sent_at: Some(START_MS - 5), reason: None };
    assert_eq!((redriven.body.as_str(), redriven.receive_count, redriven.attributes), ("one", 1, attributes));
}

#[test]
fn what_survives_redriving_comes_back_with_the_dead_letter() {
    let (clock, queues) = queues();
    queues.set_policy(FOLLOW_UP, RedrivePolicy { visibility_ms: 1_000, receives_max: 1 });
    queues.put(FOLLOW_UP, "one");
    for redrives in 0..3 {
        assert_eq!(received(&queues, FOLLOW_UP), ["one"]);
        clock.advance(1_000);
        assert_eq!(received(&queues, FOLLOW_UP), Vec::<String>::new());
        let letter = clock.block_on(queues.receive(FOLLOW_UP)).unwrap().remove(0);
        assert_eq!((letter.redrives, letter.first_sent_at), (redrives, START_MS));
        clock.block_on(queues.redrive(FOLLOW_UP, &letter)).unwrap();
        clock.block_on(queues.delete(FOLLOW_UP, &letter.receipt)).unwrap();
    }
}

#[test]
fn a_refused_message_is_a_dead_letter_with_its_reason() {
    let (clock, queues) = queues();
    queues.put(FOLLOW_UP, "{");
    let message = queues.receive_messages(FOLLOW_UP, 1).remove(0);
    clock.block_on(queues.refuse(&message.body, 2, START_MS - 9, "malformed")).unwrap();
    assert_eq!(queues.counts(FOLLOW_UP), MessageCounts { in_flight: 1, dead: 1, ..MessageCounts::default() });
    let letter = clock.block_on(queues.receive(FOLLOW_UP)).unwrap().remove(0);
    assert_eq!((letter.body.as_str(), letter.redrives, letter.first_sent_at), ("{", 2, START_MS - 9));
    assert_eq!(letter.reason.as_deref(), Some("malformed"));
}

#[test]
fn waiting_ends_with_time_and_with_a_message() {
    let (clock, queues) = queues();
    queues.put_at(FOLLOW_UP, "later", START_MS + 50);
    clock.block_on(queues.wait_visible(FOLLOW_UP));
    assert_eq!(clock.now_ms(), START_MS + 50);
    assert_eq!(received(&queues, FOLLOW_UP), ["later"]);

    let waits = async {
        queues.wait_visible(WATCHDOG).await;
        clock.now_ms()
    };
    let sends = async {
        clock.sleep_until(START_MS + 70).await;
        queues.put(WATCHDOG, "now");
    };
    assert_eq!(clock.block_on(async { join!(waits, sends) }).0, START_MS + 70);
}
