//! What a client sees for what it sends.

mod cancel;
mod events;
mod feedback;
mod history;
mod queued;
mod races;
mod rates;
mod refusals;
mod resume;
mod send;
mod session;

use std::collections::BTreeMap;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use domain::follow_up::{Done, perform};
use domain::ids::{ConnectionId, ConversationId, Principal, SessionId, TurnId};
use domain::limits::{CONNECTION_LIFE_MS, LEASE_MS, TAKEOVER_MARGIN_MS};
use domain::ports::{
    Clock as _, Connection, ConnectionStore as _, JournalOutcome, JournalWrite, LockOutcome, LockRequest, QueueName,
    Task, TurnStore as _,
};
use domain::protocol::{Locale, ServerEvent, StopReason, TextDelta, TurnCompleted, TurnState, Usage};
use domain::turn::{Hold, Outcome, StoredTurn, TurnFrame, TurnJournal, TurnLog, TurnRequest};
use serde_json::{Value, json};
use testkit::{InMemory, START_MS, Step, samples};

use crate::Message;

/// An execution environment, and the world around it.
struct World {
    ports: InMemory,
    message: Message<InMemory>,
}

impl World {
    fn new() -> Self {
        let ports = InMemory::new();
        Self { message: Message { ports: ports.clone(), session_key: samples::session_key() }, ports }
    }

    /// A world whose model says `pieces`, one every 100 ms, and whose store and callbacks take 10 ms.
    fn talking(pieces: &[&str]) -> Self {
        let world = Self::new();
        world.ports.model.follow(Step::answer(pieces.iter().copied(), 100));
        world.ports.turns.set_round_trip_ms(10);
        world.ports.sender.set_round_trip_ms(10);
        world
    }

    /// Another process in the same world, which nothing has happened to.
    fn process(&self) -> Self {
        let ports = self.ports.process();
        Self { message: Message { ports: ports.clone(), session_key: samples::session_key() }, ports }
    }

    /// A connection of a shopper.
    fn shopper<'w>(&'w self, subject: &str, connection: &str) -> Client<'w> {
        self.client(samples::shopper(subject), connection)
    }

    /// A connection of somebody.
    fn client<'w>(&'w self, principal: Principal, connection: &str) -> Client<'w> {
        let connection = Connection {
            id: samples::connection(connection),
            principal,
            session_id: SessionId::parse("session").unwrap(),
            connected_at: START_MS,
            expires_at: START_MS + CONNECTION_LIFE_MS,
        };
        self.run(self.ports.connections.inner.register(&connection, usize::MAX)).unwrap();
        Client { world: self, principal: connection.principal, connection: connection.id }
    }

    /// Runs what no planned fault kills.
    fn run<T>(&self, process: impl Future<Output = T>) -> T {
        self.ports.run(process).expect("nothing crashed")
    }

    /// Does something after so many ms.
    async fn after<T>(&self, ms: u64, then: impl Future<Output = T>) -> T {
        let clock = &self.ports.clock;
        clock.sleep_until(clock.now_ms() + ms).await;
        then.await
    }

    /// The one turn there is.
    fn the_turn(&self) -> StoredTurn {
        let [turn] = <[_; 1]>::try_from(self.ports.turns.inner.all_turns()).unwrap();
        turn
    }

    /// Locks a conversation for a turn and records it, as its owner would; the conversation is made with its first turn.
    fn begin_turn(&self, turn: &TurnRequest) {
        let turns = &self.ports.turns.inner;
        let lock = LockRequest {
            conversation_id: turn.conversation_id.clone(),
            owner: turn.principal.clone(),
            turn_id: turn.turn_id.clone(),
            number: turn.number,
            replaces: None,
            lease_until: turn.lease_until,
            attempt: turn.turn_id.to_string(),
            now: turn.asked_at,
        };
        assert_eq!(self.run(turns.lock(&lock)).unwrap(), LockOutcome::Locked);
        self.run(turns.record(turn)).unwrap();
    }

    /// Journals events of a turn's first owner, and the end of the turn with them.
    fn journal(&self, turn: &TurnRequest, events: Vec<ServerEvent>, ended: bool) {
        let mut log = TurnLog::after(&TurnJournal::default(), 1);
        let frames: Vec<TurnFrame> = events.into_iter().map(|event| log.push(turn.asked_at, event)).collect();
        let usage = Usage::default();
        let write = JournalWrite {
            turn_id: turn.turn_id.clone(),
            epoch: 1,
            writer: "owner".to_owned(),
            number: 1,
            frames,
            hold: Hold::Leased { until: turn.lease_until },
            outcome: ended.then_some(Outcome { state: TurnState::Completed, usage }),
            now: turn.asked_at,
        };
        let written = self.run(self.ports.turns.inner.journal(&write)).unwrap();
        assert!(matches!(written, JournalOutcome::Written(_)));
    }

    /// Does what waits in the follow-up queue, as its worker would; what became of each task.
    fn work(&self) -> Vec<Done> {
        let worker = self.ports.process();
        let tasks = self.tasks(QueueName::FollowUp);
        tasks.iter().map(|task| worker.run(perform(&worker, task)).unwrap().unwrap()).collect()
    }

    /// The tasks of a queue, whenever they are due.
    fn tasks(&self, queue: QueueName) -> Vec<Task> {
        self.ports.queues.inner.bodies(queue).iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }

    /// The effects so far of one kind.
    fn effects(&self, name: &str) -> usize {
        self.ports.faults.effects().iter().filter(|effect| effect.name == name).count()
    }

    /// Makes an ended turn part of its conversation.
    fn remember(&self, turn: &TurnRequest) {
        let turns = &self.ports.turns.inner;
        let exchange = self.run(turns.turn(&turn.turn_id)).unwrap().unwrap().exchange().unwrap();
        self.run(turns.remember(&turn.conversation_id, &exchange, turn.asked_at)).unwrap();
    }

    /// Makes an ended turn part of its conversation and frees it, as its owner would.
    fn conclude(&self, turn: &TurnRequest) {
        self.remember(turn);
        self.run(self.ports.turns.inner.release(&turn.conversation_id, &turn.turn_id)).unwrap();
    }
}

/// When a turn whose first owner died before its first journal write may be taken over.
const LAPSED_MS: u64 = START_MS + LEASE_MS + TAKEOVER_MARGIN_MS;

/// Turn `number` of aiko's conversation `c-1`, and its answer.
fn asked(number: u64, question: &str) -> TurnRequest {
    TurnRequest {
        turn_id: TurnId::parse(&format!("t-{number}")).unwrap(),
        conversation_id: ConversationId::parse("c-1").unwrap(),
        number,
        principal: samples::shopper("aiko"),
        client_message_id: samples::client_message_id(number.into()),
        payload_hash: String::new(),
        text: question.to_owned(),
        locale: Locale::En,
        product_id: None,
        connection: samples::connection("asked on"),
        asked_at: START_MS,
        lease_until: START_MS + LEASE_MS,
    }
}

fn text(text: &str) -> ServerEvent {
    ServerEvent::TextDelta(TextDelta { text: text.to_owned(), from_seq: None })
}

fn completed() -> ServerEvent {
    let (usage, latency) = Default::default();
    ServerEvent::TurnCompleted(TurnCompleted { stop_reason: StopReason::EndTurn, usage, latency })
}

/// A client on one connection.
struct Client<'w> {
    world: &'w World,
    principal: Principal,
    connection: ConnectionId,
}

impl Client<'_> {
    /// The event of a frame with this body, from a session that does not expire soon.
    fn event(&self, body: &str) -> ApiGatewayWebsocketProxyRequest {
        let mut event = events::sample("ping");
        event.request_context.connection_id = Some(self.connection.to_string());
        let context = [
            ("principal", self.principal.to_string()),
            ("session_id", "session".to_owned()),
            ("tier", "shopper".to_owned()),
            ("expires_at", (START_MS + CONNECTION_LIFE_MS).to_string()),
        ];
        event.request_context.authorizer.fields =
            context.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        event.body = Some(body.to_owned());
        event
    }

    /// One invocation for a frame.
    async fn invoke(&self, frame: Value) {
        let response = self.world.message.handle(self.event(&frame.to_string())).await;
        assert_eq!(response.status_code, 200);
    }

    /// What this connection got, in order.
    fn frames(&self) -> Vec<Value> {
        self.world.ports.sender.inner.frames(&self.connection)
    }

    /// What this connection gets for a frame.
    fn ask(&self, frame: Value) -> Vec<Value> {
        let before = self.frames().len();
        self.world.run(self.invoke(frame));
        self.frames().split_off(before)
    }

    /// The error code this connection gets for a frame, and nothing else.
    fn refused(&self, frame: Value) -> String {
        let [error] = <[_; 1]>::try_from(self.ask(frame)).unwrap();
        assert_eq!(error["type"], "error");
        error["data"]["code"].as_str().unwrap().to_owned()
    }
}

/// `message.send` number `number` that opens a conversation.
fn message(number: u128, text: &str) -> Value {
    json!({ "action": "message.send", "client_message_id": samples::client_message_id(number), "text": text })
}

/// The same frame, in a conversation.
fn in_conversation(mut frame: Value, conversation: &Value) -> Value {
    frame["conversation_id"] = conversation.clone();
    frame
}

fn resume(turn: &TurnId, epoch: u64, after_seq: i64) -> Value {
    json!({ "action": "stream.resume", "turn_id": turn, "epoch": epoch, "after_seq": after_seq })
}

fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect()
}

/// The frames of a turn.
fn sequenced(frames: &[Value]) -> Vec<&Value> {
    frames.iter().filter(|frame| frame["seq"].is_u64()).collect()
}

/// A turn as a client holds it that keeps to the protocol: by first `seq`, with the last one and the epoch.
#[derive(Default)]
struct Held<'f> {
    frames: BTreeMap<u64, (u64, u64, &'f Value)>,
    begun: Vec<(u64, u64)>,
}

impl<'f> Held<'f> {
    fn of(frames: &'f [Value]) -> Self {
        let mut held = Self::default();
        for frame in sequenced(frames) {
            held.take(frame);
        }
        held
    }

    fn take(&mut self, frame: &'f Value) {
        let (epoch, last) = (frame["epoch"].as_u64().unwrap(), frame["seq"].as_u64().unwrap());
        let first = frame["data"]["from_seq"].as_u64().unwrap_or(last);
        if self.begun.iter().any(|(later, from)| *later > epoch && *from <= last) {
            return;
        }
        let begins = frame["type"] == "turn.started";
        self.frames.retain(|held_first, (held_last, held_epoch, _)| {
            let replaced = *held_first <= last && first <= *held_last;
            let void = begins && *held_epoch < epoch && *held_last >= first;
            !replaced && !void
        });
        if begins {
            self.begun.push((epoch, first));
        }
        self.frames.insert(first, (last, epoch, frame));
    }

    /// The frames that are shown: those since the answer last began anew.
    ///
    /// # Panics
    /// When there is a gap.
    fn shown(&self) -> Vec<&'f Value> {
        let mut next = 0;
        let mut shown = Vec::new();
        for (first, (last, _, frame)) in &self.frames {
            assert_eq!(*first, next, "a gap before {frame}");
            next = last + 1;
            if frame["data"]["restarted"] == true {
                shown.clear();
            }
            shown.push(*frame);
        }
        shown
    }

    /// The text shown.
    ///
    /// # Panics
    /// When there is a gap.
    fn text(&self) -> String {
        let shown = self.shown().into_iter().filter(|frame| frame["type"] == "text.delta");
        shown.map(|frame| frame["data"]["text"].as_str().unwrap()).collect()
    }

    /// The type of the last frame.
    fn end(&self) -> &'f str {
        self.frames.values().next_back().unwrap().2["type"].as_str().unwrap()
    }
}

/// A client sees what is stored: the text and the cards of the answer, and how it ended.
fn check_held(frames: &[Value], stored: &StoredTurn, case: &str) {
    let held = Held::of(frames);
    assert_eq!(held.text(), stored.journal.answer(), "{case}");
    let cards = held.shown().into_iter().filter(|frame| frame["type"].as_str().unwrap().starts_with("card."));
    let cards: Vec<_> = cards.map(|frame| json!({ "type": frame["type"], "data": frame["data"] })).collect();
    assert_eq!(json!(cards), json!(stored.journal.cards()), "{case}");
    let end = match stored.state() {
        TurnState::Running => "turn.queued",
        TurnState::Completed => "turn.completed",
        TurnState::Cancelled => "turn.cancelled",
        TurnState::Failed => "turn.failed",
    };
    assert_eq!(held.end(), end, "{case}");
}
