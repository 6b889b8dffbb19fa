//! Ports that tell the trace what took effect.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use domain::ids::{ConnectionId, ConversationId, Principal, TurnId};
use domain::ports::{
    BucketKey, Clock as _, Connection, ConnectionSender, ConnectionStore, Conversation, Delivery, JournalOutcome,
    JournalWrite, LockOutcome, LockRequest, RecordOutcome, Registration, TakeOutcome, TakeToken, TokenBuckets,
    TurnStore, Unavailable,
};
use domain::protocol::{Locale, Rating, ServerEvent};
use domain::turn::{Exchange, StoredTurn, Summary, TurnJournal, TurnRequest};
use testkit::{ManualClock, RecordingSender};

use crate::stores::Stores;
use crate::trace::{Post, ProcessNumber, Recorded, Trace, Written};

/// Who calls.
#[derive(Clone)]
pub struct Observer {
    pub process: ProcessNumber,
    pub clock: ManualClock,
    /// Between the start of a call and its effect, ms.
    pub way_ms: u64,
    /// How old what it glances at is, ms.
    pub lag_ms: u64,
    pub trace: Trace,
    pub past: Past,
}

/// What turns and locks were when. Clones share it.
#[derive(Clone, Default)]
pub struct Past(Arc<Mutex<Versions>>);

impl Past {
    pub fn clear(&self) {
        *self.0.lock().unwrap() = Versions::default();
    }
}

#[derive(Default)]
struct Versions {
    turns: BTreeMap<TurnId, Vec<(u64, StoredTurn)>>,
    holders: BTreeMap<ConversationId, Vec<(u64, Option<TurnId>)>>,
}

fn as_of<T: Clone>(versions: Option<&Vec<(u64, T)>>, at: u64) -> Option<T> {
    versions?.iter().rev().find(|(since, _)| *since <= at).map(|(_, version)| version.clone())
}

/// A port of one process.
#[derive(Clone)]
pub struct Observed<P, S> {
    pub port: P,
    pub stores: S,
    pub observer: Observer,
}

impl Observer {
    fn keep_request(&self, request: &TurnRequest) {
        let turn = StoredTurn { request: request.clone(), journal: TurnJournal::default() };
        let versions = &mut self.past.0.lock().unwrap().turns;
        versions.entry(request.turn_id.clone()).or_insert_with(|| vec![(self.clock.now_ms(), turn)]);
    }

    fn keep_journal(&self, id: &TurnId, journal: &TurnJournal) {
        if let Some(versions) = self.past.0.lock().unwrap().turns.get_mut(id) {
            let request = versions[0].1.request.clone();
            versions.push((self.clock.now_ms(), StoredTurn { request, journal: journal.clone() }));
        }
    }

    fn keep_holder(&self, id: &ConversationId, holder: Option<TurnId>) {
        let versions = &mut self.past.0.lock().unwrap().holders;
        versions.entry(id.clone()).or_default().push((self.clock.now_ms(), holder));
    }

    fn keep_release(&self, id: &ConversationId, turn: &TurnId) {
        let held = as_of(self.past.0.lock().unwrap().holders.get(id), u64::MAX).flatten();
        if held.as_ref() == Some(turn) {
            self.keep_holder(id, None);
        }
    }

    /// The moment that is shown by a read that is eventually consistent.
    fn glanced_at(&self) -> u64 {
        self.clock.now_ms() - self.lag_ms
    }
}

impl<P: TurnStore, S: Stores> TurnStore for Observed<P, S> {
    async fn glance(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        Ok(as_of(self.observer.past.0.lock().unwrap().turns.get(id), self.observer.glanced_at()))
    }

    async fn holder(&self, id: &ConversationId) -> Result<Option<TurnId>, Unavailable> {
        Ok(as_of(self.observer.past.0.lock().unwrap().holders.get(id), self.observer.glanced_at()).flatten())
    }

    async fn turn(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        self.stores.call(self.port.turn(id)).await
    }

    async fn conversation(
        &self,
        id: &ConversationId,
        exchanges_max: u32,
    ) -> Result<Option<(Conversation, Vec<Exchange>)>, Unavailable> {
        self.stores.call(self.port.conversation(id, exchanges_max)).await
    }

    async fn lock(&self, request: &LockRequest) -> Result<LockOutcome, Unavailable> {
        let outcome = self.stores.call(self.port.lock(request)).await;
        if let Ok(LockOutcome::Locked) = outcome {
            self.observer.keep_holder(&request.conversation_id, Some(request.turn_id.clone()));
        }
        outcome
    }

    async fn record(&self, request: &TurnRequest) -> Result<RecordOutcome, Unavailable> {
        let outcome = self.stores.call(self.port.record(request)).await;
        if let Ok(RecordOutcome::Recorded) = outcome {
            let Observer { process: by, clock, .. } = &self.observer;
            let recorded = Recorded { by: *by, at: clock.now_ms(), request: request.clone() };
            self.observer.trace.events().recorded.push(recorded);
            self.observer.keep_request(request);
        }
        outcome
    }

    async fn journal(&self, write: &JournalWrite) -> Result<JournalOutcome, Unavailable> {
        let outcome = self.stores.call(self.port.journal(write)).await;
        let Observer { process: by, clock, trace, .. } = &self.observer;
        match &outcome {
            Ok(JournalOutcome::Written(_)) => {
                let written = Written { by: *by, at: clock.now_ms(), write: write.clone() };
                trace.events().written.push(written);
            }
            Ok(JournalOutcome::Fenced(journal)) => {
                let at = clock.now_ms();
                trace.note(at, format!("#{by} is fenced: epoch {} writes, {} owns", write.epoch, journal.epoch));
            }
            Err(_) => {}
        }
        if let Ok(JournalOutcome::Written(journal)) = &outcome {
            self.observer.keep_journal(&write.turn_id, journal);
        }
        outcome
    }

    async fn subscribe(&self, id: &TurnId, connection: &ConnectionId, now: u64) -> Result<TurnJournal, Unavailable> {
        let journal = self.stores.call(self.port.subscribe(id, connection, now)).await;
        if let Ok(journal) = &journal {
            self.observer.keep_journal(id, journal);
        }
        journal
    }

    async fn ask_to_cancel(&self, id: &TurnId, now: u64) -> Result<TurnJournal, Unavailable> {
        let journal = self.stores.call(self.port.ask_to_cancel(id, now)).await;
        if let Ok(journal) = &journal {
            self.observer.keep_journal(id, journal);
        }
        journal
    }

    async fn remember(&self, id: &ConversationId, exchange: &Exchange, now: u64) -> Result<(), Unavailable> {
        self.stores.call(self.port.remember(id, exchange, now)).await
    }

    async fn release(&self, id: &ConversationId, turn: &TurnId) -> Result<(), Unavailable> {
        let released = self.stores.call(self.port.release(id, turn)).await;
        if released.is_ok() {
            self.observer.keep_release(id, turn);
        }
        released
    }

    async fn summarise(&self, id: &ConversationId, summary: &Summary, now: u64) -> Result<(), Unavailable> {
        self.stores.call(self.port.summarise(id, summary, now)).await
    }

    async fn exchanges(
        &self,
        id: &ConversationId,
        before: Option<u64>,
        exchanges_max: u32,
    ) -> Result<Vec<Exchange>, Unavailable> {
        self.stores.call(self.port.exchanges(id, before, exchanges_max)).await
    }

    async fn cards(&self, turns: &[TurnId]) -> Result<HashMap<TurnId, Vec<ServerEvent>>, Unavailable> {
        self.stores.call(self.port.cards(turns)).await
    }

    async fn rate(&self, id: &TurnId, rating: Rating, comment: Option<&str>, now: u64) -> Result<(), Unavailable> {
        self.stores.call(self.port.rate(id, rating, comment, now)).await
    }
}

impl<P: ConnectionStore, S: Stores> ConnectionStore for Observed<P, S> {
    async fn register(&self, connection: &Connection, per_principal_max: usize) -> Result<Registration, Unavailable> {
        self.stores.call(self.port.register(connection, per_principal_max)).await
    }

    async fn forget(&self, id: &ConnectionId) -> Result<(), Unavailable> {
        self.stores.call(self.port.forget(id)).await
    }

    async fn set_locale(&self, id: &ConnectionId, locale: Locale) -> Result<(), Unavailable> {
        self.stores.call(self.port.set_locale(id, locale)).await
    }

    async fn locale(&self, id: &ConnectionId) -> Result<Option<Locale>, Unavailable> {
        self.stores.call(self.port.locale(id)).await
    }

    async fn connections_of(&self, principal: &Principal) -> Result<Vec<ConnectionId>, Unavailable> {
        self.stores.call(self.port.connections_of(principal)).await
    }
}

impl<P: TokenBuckets, S: Stores> TokenBuckets for Observed<P, S> {
    async fn full_at(&self, key: &BucketKey) -> Result<Option<u64>, Unavailable> {
        self.stores.call(self.port.full_at(key)).await
    }

    async fn take(&self, token: &TakeToken) -> Result<TakeOutcome, Unavailable> {
        self.stores.call(self.port.take(token)).await
    }
}

/// The callbacks of one process.
#[derive(Clone)]
pub struct ObservedSender {
    pub sender: RecordingSender,
    pub observer: Observer,
}

impl ConnectionSender for ObservedSender {
    async fn send(&self, connection: &ConnectionId, frame: String) -> Result<Delivery, Unavailable> {
        let Observer { process, clock, way_ms, trace, .. } = &self.observer;
        let post = Post {
            by: *process,
            started_at: clock.now_ms() - way_ms,
            connection: connection.clone(),
            frame: serde_json::from_str(&frame).unwrap(),
        };
        trace.events().posts.push(post);
        self.sender.send(connection, frame).await
    }
}
