//! What becomes of a batch, of its messages, and of the turns and follow-ups they are about.

mod batches;
mod dead_letters;
mod durability;
mod heartbeats;
mod pauses;
mod redelivery;

use std::sync::Mutex;

use aws_lambda_events::sqs::SqsEvent;
use domain::follow_up::deliver_due;
use domain::ids::{ConversationId, SessionId, TurnId};
use domain::intent::Intent;
use domain::limits::{CONNECTION_LIFE_MS, LEASE_MS};
use domain::ports::{
    Clock as _, Connection, ConnectionStore as _, Deliveries, JournalOutcome, JournalWrite, LockOutcome, LockRequest,
    QueueName, RecordOutcome, Task, TurnEnded, TurnStore as _, Unavailable,
};
use domain::protocol::{Locale, ServerEvent, StopReason, TextDelta, TurnCompleted, TurnState, Usage};
use domain::turn::{Hold, Outcome, StoredTurn, Summary, TurnJournal, TurnLog, TurnRequest};
use serde_json::{Value, json};
use testkit::{InMemory, MessageCounts, ReceivedMessage, START_MS, Step, samples};

use crate::handle;

/// The whole answer of a model that answers at once.
const ANSWER: &str = "Read this one.";

/// The queue hands out so many messages at a time.
const BATCH_MAX: usize = 10;

/// A message that was kept out of sight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hide {
    at_ms: u64,
    receipt: String,
    for_ms: u64,
}

/// A worker process. It notes which messages it kept out of sight, and takes so long for that.
struct Worker {
    ports: InMemory,
    hides: Mutex<Vec<Hide>>,
    hide_takes_ms: u64,
}

impl Deliveries for Worker {
    async fn hide(&self, receipt: &str, for_ms: u64) -> Result<(), Unavailable> {
        let at_ms = self.ports.clock.now_ms();
        self.hides.lock().unwrap().push(Hide { at_ms, receipt: receipt.to_owned(), for_ms });
        self.ports.clock.sleep_until(at_ms + self.hide_takes_ms).await;
        self.ports.queues.hide(receipt, for_ms).await
    }

    async fn refuse(&self, body: &str, redrives: u32, first_sent_at: u64, reason: &str) -> Result<(), Unavailable> {
        self.ports.queues.refuse(body, redrives, first_sent_at, reason).await
    }
}

impl Worker {
    fn new(world: &InMemory) -> Self {
        Self { ports: world.process(), hides: Mutex::default(), hide_takes_ms: 0 }
    }

    /// One invocation: the ids of the messages that stay in the queue.
    async fn invoke(&self, event: SqsEvent) -> Vec<String> {
        let response = handle(&self.ports, self, event).await;
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// What the event source mapping does: receives a batch, has it worked on and deletes what did not fail. The ids of what
    /// did.
    async fn poll(&self) -> Vec<String> {
        let queues = &self.ports.queues.inner;
        let batch = queues.receive_messages(QueueName::FollowUp, BATCH_MAX);
        let failed = self.invoke(event(&batch)).await;
        for message in batch.iter().filter(|message| !failed.contains(&message.message_id)) {
            queues.delete_message(QueueName::FollowUp, &message.receipt);
        }
        failed
    }

    /// Polls once; none if the process died.
    fn try_poll(&self) -> Option<Vec<String>> {
        self.ports.run(self.poll())
    }

    fn hides(&self) -> Vec<Hide> {
        self.hides.lock().unwrap().clone()
    }
}

/// The event of some messages.
fn event(batch: &[ReceivedMessage]) -> SqsEvent {
    let number =
        |value: Option<u64>| value.map(|value| json!({ "dataType": "Number", "stringValue": value.to_string() }));
    let records = batch.iter().map(|message| {
        let attributes = [
            ("redrives", number(message.attributes.redrives.map(u64::from))),
            ("first_sent_at", number(message.attributes.first_sent_at)),
        ];
        let attributes = attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        json!({
            "messageId": message.message_id,
            "receiptHandle": message.receipt,
            "body": message.body,
            "attributes": {
                "ApproximateReceiveCount": message.receive_count.to_string(),
                "SentTimestamp": message.sent_at.to_string(),
            },
            "messageAttributes": Value::Object(attributes.collect()),
        })
    });
    serde_json::from_value(json!({ "Records": records.collect::<Vec<_>>() })).unwrap()
}

/// A world in which aiko is connected, for longer than a connection lasts, and the model answers at once.
fn world() -> InMemory {
    let world = InMemory::new();
    world.model.follow(Step::answer([ANSWER], 0));
    let connection = Connection {
        id: samples::connection("one"),
        principal: samples::shopper("aiko"),
        session_id: SessionId::parse("session").unwrap(),
        connected_at: START_MS,
        expires_at: START_MS + 100 * CONNECTION_LIFE_MS,
    };
    world.run(world.connections.inner.register(&connection, 9)).unwrap().unwrap();
    world
}

/// Puts a task into the queue, and answers the message's id.
fn put(world: &InMemory, task: &Task) -> String {
    world.queues.inner.put(QueueName::FollowUp, &serde_json::to_string(task).unwrap())
}

fn turn_id(id: &str) -> TurnId {
    TurnId::parse(id).unwrap()
}

fn finish(id: &str, epoch: u64) -> Task {
    Task::Finish { turn_id: turn_id(id), epoch }
}

fn remind(id: &str) -> Task {
    Task::Remind { principal: samples::shopper("aiko"), follow_up_id: id.to_owned() }
}

/// A turn of aiko's.
fn asked(id: &str, conversation: &str, number: u64, question: &str) -> TurnRequest {
    TurnRequest {
        turn_id: turn_id(id),
        conversation_id: ConversationId::parse(conversation).unwrap(),
        number,
        principal: samples::shopper("aiko"),
        client_message_id: samples::client_message_id(number.into()),
        payload_hash: String::new(),
        text: question.to_owned(),
        locale: Locale::En,
        product_id: None,
        connection: samples::connection("one"),
        asked_at: START_MS,
        lease_until: START_MS + LEASE_MS,
    }
}

/// Locks the conversation for a turn and records it.
fn record(world: &InMemory, turn: &TurnRequest) {
    let lock = LockRequest {
        conversation_id: turn.conversation_id.clone(),
        owner: turn.principal.clone(),
        turn_id: turn.turn_id.clone(),
        number: turn.number,
        replaces: None,
        lease_until: turn.lease_until,
        attempt: turn.turn_id.to_string(),
        now: START_MS,
    };
    let turns = &world.turns.inner;
    assert_eq!(world.run(turns.lock(&lock)).unwrap().unwrap(), LockOutcome::Locked);
    assert_eq!(world.run(turns.record(turn)).unwrap().unwrap(), RecordOutcome::Recorded);
}

/// The first journal write of an owner: some text, and who has the turn then; `ended` ends it.
fn journal(world: &InMemory, turn: &TurnRequest, epoch: u64, hold: Hold, ended: bool) {
    let mut log = TurnLog::after(&TurnJournal::default(), epoch);
    log.push(START_MS, ServerEvent::TextDelta(TextDelta { text: format!("About {} ", turn.number), from_seq: None }));
    if ended {
        let (usage, latency) = Default::default();
        let completed = TurnCompleted { stop_reason: StopReason::EndTurn, usage, latency };
        log.push(START_MS, ServerEvent::TurnCompleted(completed));
    }
    let write = JournalWrite {
        turn_id: turn.turn_id.clone(),
        epoch,
        writer: format!("owner {epoch}"),
        number: 1,
        frames: log.unjournaled(),
        hold,
        outcome: ended.then(|| Outcome { state: TurnState::Completed, usage: Usage::default() }),
        now: START_MS,
    };
    let written = world.run(world.turns.inner.journal(&write)).unwrap().unwrap();
    assert!(matches!(written, JournalOutcome::Written(_)));
}

/// A turn that waits in the queue, the first of its conversation.
fn queued(world: &InMemory, id: &str) -> TurnRequest {
    let turn = asked(id, &format!("c-{id}"), 1, "What should I read?");
    record(world, &turn);
    journal(world, &turn, 1, Hold::Queued { since: START_MS }, false);
    turn
}

/// An ended turn, which is part of its conversation.
fn answered(world: &InMemory, turn: &TurnRequest) {
    record(world, turn);
    journal(world, turn, 1, Hold::Leased { until: turn.lease_until }, true);
    let exchange = stored(world, turn.turn_id.as_str()).exchange().unwrap();
    let turns = &world.turns.inner;
    world.run(turns.remember(&turn.conversation_id, &exchange, START_MS)).unwrap().unwrap();
    world.run(turns.release(&turn.conversation_id, &turn.turn_id)).unwrap().unwrap();
}

/// A conversation of so many answered turns, whose ids end in their numbers.
fn conversation(world: &InMemory, id: &str, turns: u64) {
    for number in 1..=turns {
        answered(world, &asked(&format!("{id}-{number}"), id, number, &format!("Question {number}?")));
    }
}

/// The end of a turn of such a conversation.
fn turn_ended(conversation: &str, number: u64) -> Task {
    Task::TurnEnded(TurnEnded {
        turn_id: turn_id(&format!("{conversation}-{number}")),
        conversation_id: ConversationId::parse(conversation).unwrap(),
        number,
        intent: Intent::ProductDiscovery,
        state: TurnState::Completed,
        usage: Usage::default(),
        ended_at: START_MS,
        follow_up: true,
    })
}

fn stored(world: &InMemory, id: &str) -> StoredTurn {
    world.run(world.turns.inner.turn(&turn_id(id))).unwrap().unwrap().unwrap()
}

fn summary(world: &InMemory, id: &str) -> Option<Summary> {
    let id = ConversationId::parse(id).unwrap();
    world.run(world.turns.inner.conversation(&id, 0)).unwrap().unwrap().unwrap().0.summary
}

/// What aiko's client got.
fn frames(world: &InMemory) -> Vec<Value> {
    world.sender.inner.frames(&samples::connection("one"))
}

/// The ids of the follow-ups that aiko's client got.
fn follow_ups(world: &InMemory) -> Vec<String> {
    let follow_ups = frames(world).into_iter().filter(|frame| frame["type"] == "follow_up");
    follow_ups.map(|frame| frame["data"]["follow_up_id"].as_str().unwrap().to_owned()).collect()
}

/// Aiko opens a session on a connection: what has become due is sent there.
fn visit(world: &InMemory, connection: &str) {
    let visited = world.process();
    let (aiko, connection) = (samples::shopper("aiko"), samples::connection(connection));
    visited.run(deliver_due(&visited, &aiko, &connection)).unwrap().unwrap();
}

/// The turn was answered, its conversation is free, and its client saw what is stored.
fn check_answered(world: &InMemory, id: &str, case: &str) {
    check_stored(world, id, case);
    let mut shown = String::new();
    for frame in frames(world).into_iter().filter(|frame| frame["turn_id"] == id) {
        if frame["data"]["restarted"] == true {
            shown.clear();
        }
        shown.push_str(frame["data"]["text"].as_str().unwrap_or_default());
    }
    assert_eq!(shown, ANSWER, "{case}: {id}");
}

/// The turn was answered, and its conversation is free.
fn check_stored(world: &InMemory, id: &str, case: &str) {
    let turn = stored(world, id);
    assert_eq!((turn.state(), turn.journal.answer().as_str()), (TurnState::Completed, ANSWER), "{case}: {id}");
    let conversation = &turn.request.conversation_id;
    let (conversation, exchanges) =
        world.run(world.turns.inner.conversation(conversation, 9)).unwrap().unwrap().unwrap();
    assert_eq!((conversation.lock, exchanges), (None, vec![turn.exchange().unwrap()]), "{case}: {id}");
}

/// How many messages the queue holds, wherever they are.
fn left(world: &InMemory) -> usize {
    let MessageCounts { visible, delayed, in_flight, .. } = world.queues.inner.counts(QueueName::FollowUp);
    visible + delayed + in_flight
}

/// Reasons and bodies of the dead letters.
fn dead(world: &InMemory) -> Vec<(String, String)> {
    let letters = world.queues.inner.dead_letters(QueueName::FollowUp).into_iter();
    letters.map(|(body, attributes)| (attributes.reason.unwrap(), body)).collect()
}

/// Workers do whatever the queue delivers until it is empty; how often they were invoked.
fn drain(world: &InMemory) -> usize {
    for polls in 0..100 {
        if left(world) == 0 {
            return polls;
        }
        world.clock.block_on(world.queues.inner.wait_visible(QueueName::FollowUp));
        Worker::new(world).try_poll().unwrap();
    }
    panic!("never empty: {:?}", world.queues.inner.bodies(QueueName::FollowUp));
}
