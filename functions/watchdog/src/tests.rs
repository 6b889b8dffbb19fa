//! What becomes of a batch, and of the turns it is about.

use std::collections::BTreeMap;

use aws_lambda_events::sqs::SqsEvent;
use domain::ids::{ConversationId, Principal, TurnId};
use domain::limits::{
    EPOCHS_MAX, LEASE_MS, QUEUED_PATIENCE_MS, TAKEOVER_MARGIN_MS, TICK_MS, TURN_AGE_MAX_MS, WATCH_AFTER_MS,
    WATCH_QUEUED_MS,
};
use domain::ports::{
    Clock as _, Conversation, JournalOutcome, JournalWrite, LockOutcome, LockRequest, QueueName, RecordOutcome, Task,
    TaskQueues as _, TurnStore as _,
};
use domain::protocol::{Locale, ServerEvent, StopReason, TextDelta, TurnCompleted, TurnState, Usage};
use domain::turn::{Exchange, Hold, Outcome, StoredTurn, TurnJournal, TurnLog, TurnRequest};
use serde_json::{Value, json};
use testkit::{Fault, InMemory, START_MS, samples};

use crate::handle;

/// When a turn whose owner died before its first journal write is seen to be dead.
const LAPSED_MS: u64 = START_MS + LEASE_MS + TAKEOVER_MARGIN_MS;

fn turn_id(id: &str) -> TurnId {
    TurnId::parse(id).unwrap()
}

/// A turn of aiko's, the first of its conversation, that its owner has recorded.
fn recorded(world: &InMemory, id: &str) -> TurnRequest {
    let turn = TurnRequest {
        turn_id: turn_id(id),
        conversation_id: ConversationId::parse(&format!("c-{id}")).unwrap(),
        number: 1,
        principal: Principal::Shopper("aiko".to_owned()),
        client_message_id: samples::client_message_id(1),
        payload_hash: String::new(),
        text: "What should I read?".to_owned(),
        locale: Locale::En,
        product_id: None,
        connection: samples::connection("one"),
        asked_at: START_MS,
        lease_until: START_MS + LEASE_MS,
    };
    let lock = LockRequest {
        conversation_id: turn.conversation_id.clone(),
        owner: turn.principal.clone(),
        turn_id: turn.turn_id.clone(),
        number: 1,
        replaces: None,
        lease_until: turn.lease_until,
        attempt: id.to_owned(),
        now: START_MS,
    };
    let turns = &world.turns.inner;
    assert_eq!(world.run(turns.lock(&lock)).unwrap().unwrap(), LockOutcome::Locked);
    assert_eq!(world.run(turns.record(&turn)).unwrap().unwrap(), RecordOutcome::Recorded);
    turn
}

/// The first journal write of the owner with this epoch: some text, and who has the turn then, or how it ended.
fn journal(world: &InMemory, turn: &TurnRequest, epoch: u64, hold: Hold, ended: Option<TurnState>) {
    let mut log = TurnLog::after(&TurnJournal::default(), epoch);
    log.push(START_MS, ServerEvent::TextDelta(TextDelta { text: "Read ".to_owned(), from_seq: None }));
    if ended.is_some() {
        let (usage, latency) = Default::default();
        let completed = TurnCompleted { stop_reason: StopReason::EndTurn, usage, latency };
        log.push(START_MS + 1, ServerEvent::TurnCompleted(completed));
    }
    let write = JournalWrite {
        turn_id: turn.turn_id.clone(),
        epoch,
        writer: format!("owner {epoch}"),
        number: 1,
        frames: log.unjournaled(),
        hold,
        outcome: ended.map(|state| Outcome { state, usage: Usage::default() }),
        now: START_MS,
    };
    let written = world.run(world.turns.inner.journal(&write)).unwrap().unwrap();
    assert!(matches!(written, JournalOutcome::Written(_)));
}

fn stored(world: &InMemory, id: &str) -> Option<StoredTurn> {
    world.run(world.turns.inner.turn(&turn_id(id))).unwrap().unwrap()
}

fn conversation(world: &InMemory, turn: &StoredTurn) -> (Conversation, Vec<Exchange>) {
    world.run(world.turns.inner.conversation(&turn.request.conversation_id, 9)).unwrap().unwrap().unwrap()
}

fn watch(id: &str, epoch: u64) -> Task {
    Task::Watch { turn_id: turn_id(id), epoch }
}

fn finish(id: &str, epoch: u64) -> Task {
    Task::Finish { turn_id: turn_id(id), epoch }
}

fn body(task: &Task) -> String {
    serde_json::to_string(task).unwrap()
}

/// The tasks of a queue, wherever they are.
fn tasks(world: &InMemory, queue: QueueName) -> Vec<Task> {
    let bodies = world.queues.inner.bodies(queue);
    bodies.iter().filter_map(|body| serde_json::from_str(body).ok()).collect()
}

/// The event of some messages, by id and body.
fn event<'m>(messages: impl IntoIterator<Item = (&'m str, &'m str)>) -> SqsEvent {
    let record = |(id, body)| json!({ "messageId": id, "receiptHandle": format!("receipt of {id}"), "body": body });
    let records: Vec<Value> = messages.into_iter().map(record).collect();
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

/// The messages that stay in the queue; none if the process died.
fn try_watch(world: &InMemory, event: SqsEvent) -> Option<Vec<String>> {
    let response = world.run(handle(world, &world.events, event))?;
    Some(response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect())
}

fn watch_all(world: &InMemory, event: SqsEvent) -> Vec<String> {
    try_watch(world, event).expect("nothing crashed")
}

/// What the event source mapping does: receives a batch, and deletes what is not reported as failed.
fn poll(world: &InMemory) -> Option<Vec<String>> {
    let queues = &world.queues.inner;
    let received = queues.receive_messages(QueueName::Watchdog, 10);
    let batch = event(received.iter().map(|message| (message.message_id.as_str(), message.body.as_str())));
    let failed = try_watch(world, batch)?;
    for message in received.iter().filter(|message| !failed.contains(&message.message_id)) {
        queues.delete_message(QueueName::Watchdog, &message.receipt);
    }
    Some(failed)
}

#[test]
fn every_sample_is_looked_after() {
    let turn = "t_Kf5uD8nXb1QoW4cGyT6vHs";
    let mut seen = BTreeMap::new();
    for (name, event) in samples::events::<SqsEvent>("watchdog") {
        let world = InMemory::new();
        recorded(&world, turn);
        world.clock.advance_to(LAPSED_MS);
        let ids: Vec<_> = event.records.iter().filter_map(|record| record.message_id.clone()).collect();
        let failed = watch_all(&world, event);
        assert!(failed.is_empty() || failed == ids);
        seen.insert(name, (failed.len(), tasks(&world, QueueName::FollowUp)));
    }
    let taken_over = || (0, vec![finish(turn, 1)]);
    let expected = [("malformed", (1, vec![])), ("redriven", taken_over()), ("watch", taken_over())];
    assert_eq!(seen, expected.map(|(name, seen)| (name.to_owned(), seen)).into());
}

/// Ten turns, one in every state, and what is no task of the watchdog's: what is done with each in one batch.
#[test]
fn a_batch_is_looked_after_message_by_message() {
    let world = InMemory::new();
    let leased = |ms| Hold::Leased { until: START_MS + ms };
    let ended = |id, state| journal(&world, &recorded(&world, id), 1, leased(LEASE_MS), Some(state));
    recorded(&world, "lapsed");
    journal(&world, &recorded(&world, "live"), 1, leased(60_000), None);
    journal(&world, &recorded(&world, "taken-over"), 2, leased(60_000), None);
    journal(&world, &recorded(&world, "queued"), 1, Hold::Queued { since: START_MS }, None);
    ended("completed", TurnState::Completed);
    ended("failed", TurnState::Failed);
    world.clock.advance_to(START_MS + WATCH_AFTER_MS);
    let now = world.clock.now_ms();

    let ids = ["lapsed", "live", "taken-over", "queued", "completed", "failed", "unknown"];
    let watched = ids.map(|id| (id, body(&watch(id, 1))));
    let others = [
        ("no JSON", watched[0].1[1..].to_owned()),
        ("empty", String::new()),
        ("unknown kind", r#"{"kind":"sweep","turn_id":"lapsed","epoch":1}"#.to_owned()),
        ("without epoch", r#"{"kind":"watch","turn_id":"lapsed"}"#.to_owned()),
        ("another's", body(&finish("lapsed", 1))),
    ];
    let mut batch: Vec<_> = watched.iter().chain(&others).map(|(id, body)| (*id, body.as_str())).collect();
    // Neighbours do not matter.
    batch.rotate_left(5);
    let mut failed = watch_all(&world, event(batch));
    failed.sort();
    let mut expected = others.map(|(id, _)| id);
    expected.sort_unstable();
    assert_eq!(failed, expected);

    assert_eq!(tasks(&world, QueueName::FollowUp), [finish("lapsed", 1)]);
    let again = tasks(&world, QueueName::Watchdog);
    for id in ["lapsed", "live", "queued"] {
        assert_eq!(again.iter().filter(|task| **task == watch(id, 1)).count(), 1, "{id} is looked at again");
    }
    assert_eq!(again.len(), 3);
    let lease_end = START_MS + 60_000 + TAKEOVER_MARGIN_MS;
    assert_eq!(world.queues.inner.next_due_at(), Some(now), "the worker's task is due at once");
    let worker_batch = world.queues.inner.receive_messages(QueueName::FollowUp, 10);
    world.queues.inner.delete_message(QueueName::FollowUp, &worker_batch[0].receipt);
    assert_eq!(world.queues.inner.next_due_at(), Some(lease_end.min(now + WATCH_QUEUED_MS)));

    let mut published: Vec<_> = world.events.inner.all().into_iter().map(|end| (end.turn_id, end.state)).collect();
    published.sort_by(|(one, _), (other, _)| one.cmp(other));
    let expected = [("completed", TurnState::Completed), ("failed", TurnState::Failed)];
    assert_eq!(published, expected.map(|(id, state)| (turn_id(id), state)));
    for id in ["completed", "failed"] {
        let (conversation, exchanges) = conversation(&world, &stored(&world, id).unwrap());
        assert_eq!((conversation.lock, exchanges.len()), (None, 1), "{id}: what its owner left undone is done");
    }
}

#[test]
fn failures_are_told_as_lambda_reads_them() {
    let world = InMemory::new();
    recorded(&world, "t-1");
    let task = body(&watch("t-1", 1));
    let response = |event| serde_json::to_value(world.run(handle(&world, &world.events, event)).unwrap()).unwrap();
    assert_eq!(response(event([("m-1", task.as_str())])), json!({ "batchItemFailures": [] }));
    let mixed = event([("m-1", "?"), ("m-2", task.as_str()), ("m-3", "!")]);
    assert_eq!(
        response(mixed),
        json!({ "batchItemFailures": [{ "itemIdentifier": "m-1" }, { "itemIdentifier": "m-3" }] })
    );
    // Lambda takes an identifier that is empty for a failure of the whole batch.
    let nameless = serde_json::from_value(json!({ "Records": [{ "body": "?" }] })).unwrap();
    assert_eq!(response(nameless), json!({ "batchItemFailures": [{ "itemIdentifier": "" }] }));
}

#[test]
fn turns_are_looked_after_at_once() {
    let world = InMemory::new();
    let ids: Vec<_> = (0..10).map(|number| format!("t-{number}")).collect();
    let bodies: Vec<_> = ids.iter().map(|id| body(&watch(id, 1))).collect();
    let batch = || event(ids.iter().map(String::as_str).zip(bodies.iter().map(String::as_str)));
    for id in &ids {
        recorded(&world, id);
    }
    world.clock.advance_to(LAPSED_MS);
    world.set_round_trip_ms(100);
    // Reads the turn, has it taken over, arms its successor.
    assert!(watch_all(&world, batch()).is_empty());
    assert_eq!(world.clock.now_ms(), LAPSED_MS + 300);
    assert_eq!(tasks(&world, QueueName::FollowUp).len(), 10);
}

/// A call for one turn fails, and the others do not notice.
#[test]
fn a_failure_is_one_turns_own() {
    for failing in 0..4 {
        let world = InMemory::new();
        let ids = ["t-0", "t-1", "t-2", "t-3"];
        let bodies = ids.map(|id| body(&watch(id, 1)));
        for id in ids {
            recorded(&world, id);
        }
        world.clock.advance_to(LAPSED_MS);
        world.set_round_trip_ms(10);
        world.faults.plan(failing, Fault::FailBefore);
        let failed = watch_all(&world, event(ids.into_iter().zip(bodies.iter().map(String::as_str))));
        assert_eq!(failed, [ids[failing]]);
        let mut asked = ids.map(|id| finish(id, 1)).to_vec();
        asked.remove(failing);
        assert_eq!(tasks(&world, QueueName::FollowUp), asked);
    }
}

/// A turn in each state that the watchdog does something for, and tasks for them that are due.
fn due() -> InMemory {
    let world = InMemory::new();
    let leased = |ms| Hold::Leased { until: START_MS + ms };
    let at_ms = START_MS + TURN_AGE_MAX_MS / 2;
    recorded(&world, "lapsed");
    journal(&world, &recorded(&world, "live"), 1, Hold::Leased { until: at_ms + LEASE_MS }, None);
    journal(&world, &recorded(&world, "queued"), 1, Hold::Queued { since: at_ms - WATCH_QUEUED_MS }, None);
    journal(&world, &recorded(&world, "forgotten"), 1, Hold::Queued { since: at_ms - QUEUED_PATIENCE_MS }, None);
    journal(&world, &recorded(&world, "tired"), EPOCHS_MAX, leased(LEASE_MS), None);
    journal(&world, &recorded(&world, "ended"), 1, leased(LEASE_MS), Some(TurnState::Completed));
    world.clock.advance_to(at_ms);
    for (id, epoch) in
        [("lapsed", 1), ("live", 1), ("queued", 1), ("forgotten", 1), ("tired", EPOCHS_MAX), ("ended", 1)]
    {
        world.queues.inner.put(QueueName::Watchdog, &body(&watch(id, epoch)));
    }
    world
}

/// Nothing about a turn is forgotten: a task that leads to it is in the queue, or its end is stored and told.
fn check_looked_after(world: &InMemory, case: &str) {
    let watched = tasks(world, QueueName::Watchdog);
    let published = world.events.inner.all();
    for turn in world.turns.inner.all_turns() {
        let id = &turn.request.turn_id;
        let ended = turn.exchange().is_some();
        // While it goes on, of its newest owner: those of earlier owners find that out, and do nothing.
        let leads_there = |task: &Task| {
            let Task::Watch { turn_id, epoch } = task else { return false };
            turn_id == id && (ended || *epoch >= turn.epoch())
        };
        if watched.iter().any(leads_there) {
            continue;
        }
        assert!(ended, "{case}: {id} goes on and is not looked after");
        assert!(
            published.iter().any(|end| end.turn_id == *id && end.state == turn.state()),
            "{case}: {id} was not told"
        );
        assert_eq!(conversation(world, &turn).0.lock, None, "{case}: {id} holds its conversation");
    }
}

/// Wherever a call fails, its acknowledgement is lost or the process dies, nothing is deleted from the queue before its
/// effect is durable; and the next time it is done.
#[test]
fn a_turn_is_looked_after_whatever_fails() {
    let effects = {
        let world = due();
        assert_eq!(poll(&world), Some(vec![]));
        world.faults.effects()
    };
    assert!(effects.len() > 15, "{effects:?}");
    for (number, effect) in effects.iter().enumerate() {
        for fault in [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter] {
            let case = format!("{fault:?} of {number}, {}", effect.name);
            let world = due();
            let dying = world.process();
            dying.faults.plan(number, fault);
            let failed = poll(&dying);
            assert_eq!(failed.is_none(), matches!(fault, Fault::CrashBefore | Fault::CrashAfter), "{case}");
            check_looked_after(&world, &case);

            world.clock.advance(18_000);
            assert_eq!(poll(&world), Some(vec![]), "{case}: the second time");
            check_looked_after(&world, &case);
            let state = |id| stored(&world, id).unwrap().state();
            assert_eq!((state("tired"), state("ended")), (TurnState::Failed, TurnState::Completed), "{case}");
            for id in ["lapsed", "forgotten"] {
                assert!(tasks(&world, QueueName::FollowUp).contains(&finish(id, 1)), "{case}: {id}");
            }
        }
    }
}

/// It stays in the queue until that gives it up; its neighbours go.
#[test]
fn what_is_no_task_reaches_the_dead_letters() {
    let world = due();
    let malformed = r#"{"kind":"watch","turn_id":"#;
    let id = world.queues.inner.put(QueueName::Watchdog, malformed);
    assert_eq!(poll(&world), Some(vec![id.clone()]));
    for _ in 1..10 {
        world.clock.advance(18_000);
        assert!(poll(&world).unwrap().contains(&id));
    }
    world.clock.advance(18_000);
    poll(&world);
    let dead: Vec<_> = world.queues.inner.dead_letters(QueueName::Watchdog).into_iter().map(|(body, _)| body).collect();
    assert_eq!(dead, [malformed]);
}

/// The queue delivers twice: an end is told twice, and nothing else happens twice.
#[test]
fn a_task_may_come_twice() {
    for at_once in [true, false] {
        let world = due();
        for task in tasks(&world, QueueName::Watchdog) {
            world.queues.inner.put(QueueName::Watchdog, &body(&task));
        }
        let messages = world.queues.inner.receive_messages(QueueName::Watchdog, 10);
        let more = world.queues.inner.receive_messages(QueueName::Watchdog, 10);
        let messages: Vec<_> =
            messages.iter().chain(&more).map(|message| (message.message_id.as_str(), message.body.as_str())).collect();
        for batch in messages.chunks(if at_once { 12 } else { 6 }) {
            assert!(watch_all(&world, event(batch.iter().copied())).is_empty());
        }
        let turn = stored(&world, "tired").unwrap();
        assert_eq!((turn.state(), turn.epoch()), (TurnState::Failed, EPOCHS_MAX + 1), "it was ended once");
        check_looked_after(&world, "twice");
        let told = world.events.inner.all();
        assert!(told.iter().all(|end| told.iter().filter(|other| end == *other).count() == 2));
    }
}

/// An owner dies at any time, with its watchdog armed and its lease renewed as long as it lived; nobody comes back. The
/// follow-up worker is asked in time for the turn to be taken over within 45 s.
#[test]
fn a_dead_owner_is_found_in_time() {
    for lived_ms in (0..25_000).step_by(700) {
        let world = InMemory::new();
        let turn = recorded(&world, "t-1");
        world.run(world.queues.inner.send(&watch("t-1", 1), WATCH_AFTER_MS)).unwrap().unwrap();
        let mut writes = 0;
        let asked_at = loop {
            let next_tick_ms = (writes + 1) * TICK_MS;
            let due_at = world.queues.inner.next_due_at().unwrap();
            if next_tick_ms <= lived_ms && START_MS + next_tick_ms <= due_at {
                world.clock.advance_to(START_MS + next_tick_ms);
                writes += 1;
                let now = world.clock.now_ms();
                let write = JournalWrite {
                    turn_id: turn.turn_id.clone(),
                    epoch: 1,
                    writer: "owner".to_owned(),
                    number: writes,
                    frames: Vec::new(),
                    hold: Hold::Leased { until: now + LEASE_MS },
                    outcome: None,
                    now,
                };
                world.run(world.turns.inner.journal(&write)).unwrap().unwrap();
                continue;
            }
            world.clock.advance_to(due_at);
            assert_eq!(poll(&world), Some(vec![]));
            if !tasks(&world, QueueName::FollowUp).is_empty() {
                break world.clock.now_ms();
            }
        };
        let died_at = START_MS + lived_ms;
        assert!(asked_at >= died_at.max(LAPSED_MS), "lived {lived_ms} ms: an owner that may live is left alone");
        assert!(asked_at < died_at + 40_000, "lived {lived_ms} ms: found after {} ms", asked_at - died_at);
    }
}
