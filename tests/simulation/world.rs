//! A world: functions, queues, a model, and a shopper with some tabs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use domain::ids::{ClientMessageId, ConnectionId, ConversationId, Principal, SessionId, TurnId};
use domain::limits::{CONNECTION_LIFE_MS, CONVERSATION_LIFE_MS};
use domain::ports::{Clock as _, Connection, ConnectionStore as _, Conversation, TurnStore as _};
use domain::turn::{Exchange, StoredTurn};
use futures_util::FutureExt as _;
use serde_json::{Value, json};
use testkit::{Fault, InMemory, Processes, samples};

use crate::client::View;
use crate::lambda::{Lambda, Pace};
use crate::model::SimulatedModel;
use crate::stores::Stores;
use crate::trace::ProcessNumber;

/// A message of the shopper, as the client sends it however often.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: ClientMessageId,
    pub text: String,
    pub conversation: Option<ConversationId>,
}

/// A browser tab of the shopper.
#[derive(Default)]
pub struct Tab {
    /// None: offline.
    connection: Option<ConnectionId>,
    /// Posts up to here were looked at.
    read: usize,
    /// How many of the next frames never arrive.
    frames_to_lose: usize,
    turns: BTreeMap<TurnId, View>,
    /// Turns of messages whose `message.accepted` came, and whether as a duplicate.
    accepted: BTreeMap<ClientMessageId, (TurnId, bool)>,
    /// Errors, as they came.
    errors: Vec<Value>,
    /// The newest page of history.
    history: Option<Value>,
    /// The turn that goes on, as `session.ready` says.
    active: Option<TurnId>,
}

impl Tab {
    pub fn is_online(&self) -> bool {
        self.connection.is_some()
    }

    pub fn has_connection(&self, id: &ConnectionId) -> bool {
        self.connection.as_ref() == Some(id)
    }

    pub fn accepted(&self, id: ClientMessageId) -> Option<&(TurnId, bool)> {
        self.accepted.get(&id)
    }

    pub fn view(&self, turn: &TurnId) -> Option<&View> {
        self.turns.get(turn)
    }

    pub fn views(&self) -> impl Iterator<Item = (&TurnId, &View)> {
        self.turns.iter()
    }

    pub fn errors(&self) -> &[Value] {
        &self.errors
    }

    pub fn history(&self) -> Option<&Value> {
        self.history.as_ref()
    }

    fn take(&mut self, frame: &Value, at: u64) {
        let turn = || TurnId::parse(frame["turn_id"].as_str()?);
        match frame["type"].as_str().unwrap() {
            "message.accepted" => {
                let id = serde_json::from_value(frame["data"]["client_message_id"].clone()).unwrap();
                let duplicate = frame["data"]["duplicate"].as_bool().unwrap();
                self.accepted.insert(id, (turn().unwrap(), duplicate));
                self.turns.entry(turn().unwrap()).or_default().take(frame, at);
            }
            "error" => self.errors.push(frame["data"].clone()),
            "session.ready" => {
                let active = frame["data"]["active_turn"]["turn_id"].as_str();
                self.active = active.map(|turn| TurnId::parse(turn).unwrap());
            }
            "history.page" => self.history = Some(frame["data"].clone()),
            _ if frame["seq"].is_u64() => self.turns.entry(turn().unwrap()).or_default().take(frame, at),
            _ => {}
        }
    }
}

/// A `message.send` that went off.
pub struct Sent {
    pub by: ProcessNumber,
    pub at: u64,
    pub connection: ConnectionId,
    pub id: ClientMessageId,
    pub text: String,
    /// Where it belongs.
    pub conversation: ConversationId,
}

/// Another frame about a turn that went off.
pub struct Request {
    pub by: ProcessNumber,
    pub at: u64,
    pub connection: ConnectionId,
    pub turn: TurnId,
}

pub struct World<S: Stores> {
    pub lambda: Lambda<S>,
    pub processes: Processes<'static>,
    pub tabs: Vec<Tab>,
    pub principal: Principal,
    /// Every `message.send` so far.
    pub sends: Vec<Sent>,
    /// Every `stream.resume`.
    pub resumes: Vec<Request>,
    /// Every `message.cancel`.
    pub cancels: Vec<Request>,
    /// When which connection was cut.
    pub cuts: BTreeMap<ConnectionId, u64>,
    connections_made: usize,
}

static SAMPLE: LazyLock<ApiGatewayWebsocketProxyRequest> =
    LazyLock::new(|| samples::events("message").remove("ping").unwrap());

/// Expiry is kept in whole seconds, ms.
const RETENTION_SLACK_MS: u64 = 60_000;

/// How often an attentive client looks whether it should resume, ms.
const LOOK_EVERY_MS: u64 = 500;

impl<S: Stores> World<S> {
    /// A world of a seed, with so many tabs, all online.
    pub fn new(stores: impl FnOnce(&InMemory) -> S, subject: &str, tabs: usize, seed: u64, pace: Pace) -> Self {
        // The pauses of the worker's tasks.
        fastrand::seed(seed);
        let world = InMemory::new();
        world.store.stock(samples::store_data());
        let model = SimulatedModel::new(world.clock.clone(), 12);
        let processes = Processes::shuffled(world.clock.clone(), seed);
        let stores = stores(&world);
        let lambda = Lambda::new(world, stores, model, processes.spawner(), pace);
        let principal = samples::shopper(subject);
        let mut world = Self {
            lambda,
            processes,
            tabs: Vec::new(),
            principal,
            sends: Vec::new(),
            resumes: Vec::new(),
            cancels: Vec::new(),
            cuts: BTreeMap::new(),
            connections_made: 0,
        };
        for tab in 0..tabs {
            world.tabs.push(Tab::default());
            world.connect(tab);
        }
        world
    }

    pub fn now(&self) -> u64 {
        self.lambda.world.clock.now_ms()
    }

    pub fn note(&self, what: impl Into<String>) {
        self.lambda.trace.note(self.now(), what);
    }

    /// Runs the world for so long, ms, whatever clients should do.
    pub fn run_for(&mut self, ms: u64) {
        self.processes.run_for(ms);
        self.listen();
    }

    /// Runs the world for so long, ms; clients that are online resume where the protocol asks them to.
    pub fn attend_for(&mut self, ms: u64) {
        let until = self.now() + ms;
        while self.now() < until {
            self.run_for(LOOK_EVERY_MS.min(until - self.now()));
            let now = self.now();
            for tab in 0..self.tabs.len() {
                let views = self.tabs[tab].turns.iter().filter(|_| self.tabs[tab].is_online());
                let due: Vec<TurnId> =
                    views.filter(|(_, view)| view.is_to_resume(now)).map(|(turn, _)| turn.clone()).collect();
                for turn in due {
                    self.resume(tab, &turn);
                }
            }
        }
    }

    /// Runs the world until nothing happens any more.
    pub fn run_until_idle(&mut self, ms_max: u64) {
        let idle = self.processes.run_until_idle(self.now() + ms_max);
        assert!(idle, "something still goes on {} min later", ms_max / 60_000);
        self.listen();
    }

    /// Runs the world for so long, ms, or until nothing happens any more; whether that is so.
    pub fn is_idle_for(&mut self, ms: u64) -> bool {
        let is_idle = self.processes.run_until_idle(self.now() + ms);
        self.listen();
        is_idle
    }

    /// Kills a process, wherever it is.
    pub fn kill(&mut self, process: ProcessNumber) {
        self.note(format!("#{process} is killed"));
        let mut events = self.lambda.trace.events();
        events.started[process].disturbed = true;
        events.started[process].faults.kill();
    }

    /// One of the processes that run, the newest first.
    pub fn running(&self, which: usize) -> Option<ProcessNumber> {
        let events = self.lambda.trace.events();
        let running = events.started.iter().enumerate().rev();
        let running = running.filter(|(_, started)| !started.ended && !started.faults.crashed());
        let running: Vec<ProcessNumber> = running.map(|(number, _)| number).collect();
        Some(running[which.checked_rem(running.len())?])
    }

    /// Something befalls a process `effects` effects from now.
    pub fn strike(&mut self, process: ProcessNumber, effects: usize, fault: Fault) {
        self.note(format!("#{process} is to be struck"));
        let mut events = self.lambda.trace.events();
        let started = &mut events.started[process];
        started.disturbed = true;
        started.faults.plan(started.faults.effects().len() + effects, fault);
    }

    pub fn has_died(&self, process: ProcessNumber) -> bool {
        self.lambda.trace.events().started.get(process).is_some_and(|started| started.faults.crashed())
    }

    /// Has the tabs read what came.
    fn listen(&mut self) {
        let events = self.lambda.trace.events();
        for tab in &mut self.tabs {
            for post in &events.posts[tab.read..] {
                if tab.connection.as_ref() != Some(&post.connection) {
                    continue;
                }
                match tab.frames_to_lose.checked_sub(1) {
                    Some(left) => tab.frames_to_lose = left,
                    None => tab.take(&post.frame, post.started_at),
                }
            }
            tab.read = events.posts.len();
        }
    }

    /// Gives a tab a new connection.
    pub fn connect(&mut self, tab: usize) {
        self.listen();
        self.tabs[tab].frames_to_lose = 0;
        self.connections_made += 1;
        let id = samples::connection(&format!("tab-{tab}-{}", self.connections_made));
        let connection = Connection {
            id: id.clone(),
            principal: self.principal.clone(),
            session_id: SessionId::parse("session").unwrap(),
            connected_at: self.now(),
            expires_at: self.now() + CONNECTION_LIFE_MS,
        };
        let connections = self.lambda.stores.connections();
        self.lambda.stores.call(connections.register(&connection, usize::MAX)).now_or_never().unwrap().unwrap();
        self.note(format!("tab {tab} connects as {id}"));
        self.tabs[tab].connection = Some(id);
    }

    /// A tab loses its connection. Where that is not noticed, API Gateway goes on taking frames for it.
    pub fn disconnect(&mut self, tab: usize, noticed: bool) {
        self.listen();
        if let Some(connection) = self.tabs[tab].connection.take() {
            self.note(format!("tab {tab} loses its connection{}", if noticed { "" } else { ", unnoticed" }));
            if noticed {
                self.cuts.insert(connection.clone(), self.now());
                self.lambda.world.sender.inner.cut(&connection);
                let connections = self.lambda.stores.connections();
                self.lambda.stores.call(connections.forget(&connection)).now_or_never().unwrap().unwrap();
            }
        }
    }

    /// The next frames to a tab are lost on their way.
    pub fn lose_frames(&mut self, tab: usize, frames: usize) {
        self.listen();
        self.tabs[tab].frames_to_lose = frames;
    }

    /// A tab is loaded anew: it knows nothing of what it had.
    pub fn reload(&mut self, tab: usize) {
        self.disconnect(tab, true);
        let read = self.tabs[tab].read;
        self.tabs[tab] = Tab { read, ..Tab::default() };
        self.connect(tab);
    }

    /// A tab that is online sends a frame.
    pub fn frame(&mut self, tab: usize, frame: &Value) -> ProcessNumber {
        let connection = self.tabs[tab].connection.clone().expect("the tab is online");
        let mut event = SAMPLE.clone();
        event.request_context.connection_id = Some(connection.to_string());
        let fields = &mut event.request_context.authorizer.fields;
        fields.insert("principal".to_owned(), self.principal.to_string().into());
        fields.insert("session_id".to_owned(), "session".into());
        event.body = Some(frame.to_string());
        let process = self.lambda.frame(event, samples::session_key());
        self.note(format!("tab {tab} sends {frame} to #{process}"));
        process
    }

    pub fn send(&mut self, tab: usize, message: &Message) {
        self.send_with_text(tab, message, &message.text);
    }

    /// Sends a message under its id with a text that may be another.
    pub fn send_with_text(&mut self, tab: usize, message: &Message, text: &str) {
        let mut frame = json!({
            "action": "message.send", "client_message_id": message.id, "text": text, "locale": "en",
        });
        if let Some(conversation) = &message.conversation {
            frame["conversation_id"] = json!(conversation);
        }
        let (at, connection) = (self.now(), self.tabs[tab].connection.clone().expect("the tab is online"));
        let conversation = message.conversation.clone().unwrap_or_else(|| self.opened_by(message));
        let by = self.frame(tab, &frame);
        self.sends.push(Sent { by, at, connection, id: message.id, text: text.to_owned(), conversation });
    }

    pub fn resume(&mut self, tab: usize, turn: &TurnId) {
        let at = self.now();
        let view = self.tabs[tab].turns.entry(turn.clone()).or_default();
        view.asked(at);
        let (epoch, after_seq) = view.cursor();
        let frame = json!({"action": "stream.resume", "turn_id": turn, "epoch": epoch, "after_seq": after_seq});
        let request = self.request(tab, turn, &frame);
        self.resumes.push(request);
    }

    pub fn cancel(&mut self, tab: usize, message: &Message) {
        let turn = self.turn_id(message);
        let request = self.request(tab, &turn, &json!({"action": "message.cancel", "client_message_id": message.id}));
        self.cancels.push(request);
    }

    fn request(&mut self, tab: usize, turn: &TurnId, frame: &Value) -> Request {
        let connection = self.tabs[tab].connection.clone().expect("the tab is online");
        let by = self.frame(tab, frame);
        Request { by, at: self.now(), connection, turn: turn.clone() }
    }

    /// Has a tab say where it is, and go on with whatever turn is active there and whatever it has open.
    pub fn pick_up(&mut self, tab: usize, conversation: Option<&ConversationId>) {
        if let Some(conversation) = conversation {
            self.frame(tab, &json!({"action": "session.start", "conversation_id": conversation}));
            self.run_for(300);
        }
        let tab_now = &mut self.tabs[tab];
        let mut open: BTreeSet<TurnId> = tab_now.active.take().into_iter().collect();
        open.extend(tab_now.turns.iter().filter(|(_, view)| !view.has_ended()).map(|(turn, _)| turn.clone()));
        for turn in open {
            self.resume(tab, &turn);
        }
    }

    pub fn turn_id(&self, message: &Message) -> TurnId {
        samples::session_key().turn_id(&self.principal, message.id)
    }

    /// The conversation of a message that names none.
    pub fn opened_by(&self, message: &Message) -> ConversationId {
        samples::session_key().conversation_id(&self.principal, message.id)
    }

    pub fn stored(&self, turn: &TurnId) -> Option<StoredTurn> {
        let turns = self.lambda.stores.turns();
        self.lambda.stores.call(turns.turn(turn)).now_or_never().unwrap().unwrap()
    }

    pub fn conversation(&self, id: &ConversationId) -> Option<(Conversation, Vec<Exchange>)> {
        let turns = self.lambda.stores.turns();
        self.lambda.stores.call(turns.conversation(id, 50)).now_or_never().unwrap().unwrap()
    }

    /// So much time passes that everything is forgotten that is not to be kept. Nothing may be going on.
    pub fn forget_everything(&mut self) {
        self.run_for(CONVERSATION_LIFE_MS + RETENTION_SLACK_MS);
        self.note("--- everything has expired");
        for tab in 0..self.tabs.len() {
            self.reload(tab);
        }
        self.lambda.forget_past();
        self.tabs.iter_mut().for_each(|tab| tab.read = 0);
        self.sends.clear();
        self.resumes.clear();
        self.cancels.clear();
    }

    pub fn story(&self) -> String {
        self.lambda.trace.events().story()
    }
}

/// Message number `number`, whose text no other has.
pub fn message(number: u128, conversation: Option<ConversationId>) -> Message {
    Message { id: samples::client_message_id(number), text: format!("q{number}"), conversation }
}
