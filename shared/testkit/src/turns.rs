//! Conversations and their turns in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use domain::ids::{ConnectionId, ConversationId, TurnId};
use domain::limits::{SUBSCRIBERS_MAX, TAKEOVER_MARGIN_MS};
use domain::ports::{
    Conversation, HeldLock, JournalOutcome, JournalWrite, LockOutcome, LockRequest, RecordOutcome, TurnStore,
    Unavailable,
};
use domain::protocol::{Rating, ServerEvent};
use domain::turn::{Exchange, Hold, StoredTurn, Summary, TurnJournal, TurnRequest};

/// What a shopper thought of an answer, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRating {
    /// Up or down.
    pub rating: Rating,
    /// What they said of it.
    pub comment: Option<String>,
}

#[derive(Debug)]
struct ConversationRow {
    /// Without its summary.
    conversation: Conversation,
    /// Of the last lock.
    attempt: String,
}

#[derive(Debug)]
struct TurnRow {
    turn: StoredTurn,
    /// Of the last journal write.
    writer: String,
    /// Of the last journal write.
    number: u64,
    rating: Option<StoredRating>,
}

#[derive(Debug, Default)]
struct Tables {
    conversations: BTreeMap<ConversationId, ConversationRow>,
    exchanges: BTreeMap<ConversationId, BTreeMap<u64, Exchange>>,
    summaries: BTreeMap<ConversationId, Summary>,
    turns: BTreeMap<TurnId, TurnRow>,
}

impl Tables {
    fn conversation(&self, id: &ConversationId) -> Option<Conversation> {
        let row = self.conversations.get(id)?;
        Some(Conversation { summary: self.summaries.get(id).cloned(), ..row.conversation.clone() })
    }

    fn newest_exchanges(&self, id: &ConversationId, before: Option<u64>, exchanges_max: u32) -> Vec<Exchange> {
        let exchanges = self.exchanges.get(id).into_iter().flatten().rev().map(|(_, exchange)| exchange);
        let older = exchanges.filter(|exchange| before.is_none_or(|before| exchange.number < before));
        older.take(exchanges_max as usize).cloned().collect()
    }
}

/// A [`TurnStore`] in memory. Clones share their content.
#[derive(Debug, Clone, Default)]
pub struct MemoryTurns(Arc<Mutex<Tables>>);

impl MemoryTurns {
    /// What was thought of a turn's answer.
    pub fn rating(&self, id: &TurnId) -> Option<StoredRating> {
        self.0.lock().unwrap().turns.get(id)?.rating.clone()
    }

    /// Every turn, by id.
    pub fn all_turns(&self) -> Vec<StoredTurn> {
        self.0.lock().unwrap().turns.values().map(|row| row.turn.clone()).collect()
    }
}

fn unknown(operation: &'static str) -> Unavailable {
    Unavailable { operation, source: "no such turn".into() }
}

impl TurnStore for MemoryTurns {
    async fn turn(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        Ok(self.0.lock().unwrap().turns.get(id).map(|row| row.turn.clone()))
    }

    async fn glance(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        self.turn(id).await
    }

    async fn holder(&self, id: &ConversationId) -> Result<Option<TurnId>, Unavailable> {
        let tables = self.0.lock().unwrap();
        let lock = tables.conversations.get(id).and_then(|row| row.conversation.lock.as_ref());
        Ok(lock.map(|lock| lock.turn_id.clone()))
    }

    async fn conversation(
        &self,
        id: &ConversationId,
        exchanges_max: u32,
    ) -> Result<Option<(Conversation, Vec<Exchange>)>, Unavailable> {
        let tables = self.0.lock().unwrap();
        let conversation = tables.conversation(id);
        Ok(conversation.map(|conversation| (conversation, tables.newest_exchanges(id, None, exchanges_max))))
    }

    async fn lock(&self, request: &LockRequest) -> Result<LockOutcome, Unavailable> {
        let mut tables = self.0.lock().unwrap();
        let lock = HeldLock { turn_id: request.turn_id.clone(), lease_until: request.lease_until };
        if let Some(row) = tables.conversations.get(&request.conversation_id) {
            let held = &row.conversation;
            if row.attempt == request.attempt && held.turns == request.number && held.lock.as_ref() == Some(&lock) {
                return Ok(LockOutcome::Locked);
            }
            let may_be_taken = held.lock.as_ref().is_none_or(|lock| Some(&lock.turn_id) == request.replaces.as_ref());
            if held.owner != request.owner || held.turns + 1 != request.number || !may_be_taken {
                return Ok(LockOutcome::Changed);
            }
        } else if request.number != 1 {
            return Ok(LockOutcome::Changed);
        }
        let conversation =
            Conversation { owner: request.owner.clone(), turns: request.number, lock: Some(lock), summary: None };
        let row = ConversationRow { conversation, attempt: request.attempt.clone() };
        tables.conversations.insert(request.conversation_id.clone(), row);
        Ok(LockOutcome::Locked)
    }

    async fn record(&self, request: &TurnRequest) -> Result<RecordOutcome, Unavailable> {
        let mut tables = self.0.lock().unwrap();
        if let Some(row) = tables.turns.get(&request.turn_id) {
            return Ok(match row.turn.request == *request {
                true => RecordOutcome::Recorded,
                false => RecordOutcome::Exists,
            });
        }
        let turn = StoredTurn { request: request.clone(), journal: TurnJournal::default() };
        let row = TurnRow { turn, writer: String::new(), number: 0, rating: None };
        tables.turns.insert(request.turn_id.clone(), row);
        Ok(RecordOutcome::Recorded)
    }

    async fn journal(&self, write: &JournalWrite) -> Result<JournalOutcome, Unavailable> {
        let mut tables = self.0.lock().unwrap();
        let row = tables.turns.get_mut(&write.turn_id).ok_or(unknown("journal"))?;
        let journal = &mut row.turn.journal;
        let same_writer = journal.epoch == write.epoch && row.writer == write.writer;
        if same_writer && write.number == row.number {
            return Ok(JournalOutcome::Written(journal.clone()));
        }
        let is_free = match journal.hold {
            Some(Hold::Leased { until }) => until + TAKEOVER_MARGIN_MS <= write.now,
            Some(Hold::Queued { .. }) | None => true,
        };
        let comes_next = (write.epoch > journal.epoch && is_free) || (same_writer && write.number > row.number);
        let follows = write.frames.first().is_none_or(|frame| frame.first_seq() == journal.next_seq());
        if journal.outcome.is_some() || !comes_next || !follows {
            return Ok(JournalOutcome::Fenced(journal.clone()));
        }
        journal.epoch = write.epoch;
        journal.frames.extend(write.frames.iter().cloned());
        journal.hold = Some(write.hold);
        journal.outcome = write.outcome.clone();
        let written = journal.clone();
        (row.writer, row.number) = (write.writer.clone(), write.number);
        Ok(JournalOutcome::Written(written))
    }

    async fn subscribe(&self, id: &TurnId, connection: &ConnectionId, _now: u64) -> Result<TurnJournal, Unavailable> {
        let mut tables = self.0.lock().unwrap();
        let journal = &mut tables.turns.get_mut(id).ok_or(unknown("subscribe"))?.turn.journal;
        if !journal.subscribers.contains(connection) && journal.subscribers.len() < SUBSCRIBERS_MAX {
            journal.subscribers.push(connection.clone());
        }
        Ok(journal.clone())
    }

    async fn ask_to_cancel(&self, id: &TurnId, _now: u64) -> Result<TurnJournal, Unavailable> {
        let mut tables = self.0.lock().unwrap();
        let journal = &mut tables.turns.get_mut(id).ok_or(unknown("ask_to_cancel"))?.turn.journal;
        journal.cancel_asked |= journal.outcome.is_none();
        Ok(journal.clone())
    }

    async fn remember(&self, id: &ConversationId, exchange: &Exchange, _now: u64) -> Result<(), Unavailable> {
        let mut tables = self.0.lock().unwrap();
        tables.exchanges.entry(id.clone()).or_default().entry(exchange.number).or_insert(exchange.clone());
        Ok(())
    }

    async fn release(&self, id: &ConversationId, turn: &TurnId) -> Result<(), Unavailable> {
        let mut tables = self.0.lock().unwrap();
        if let Some(row) = tables.conversations.get_mut(id) {
            row.conversation.lock.take_if(|lock| lock.turn_id == *turn);
        }
        Ok(())
    }

    async fn summarise(&self, id: &ConversationId, summary: &Summary, _now: u64) -> Result<(), Unavailable> {
        let mut tables = self.0.lock().unwrap();
        if tables.summaries.get(id).is_none_or(|held| summary.through > held.through) {
            tables.summaries.insert(id.clone(), summary.clone());
        }
        Ok(())
    }

    async fn exchanges(
        &self,
        id: &ConversationId,
        before: Option<u64>,
        exchanges_max: u32,
    ) -> Result<Vec<Exchange>, Unavailable> {
        Ok(self.0.lock().unwrap().newest_exchanges(id, before, exchanges_max))
    }

    async fn cards(&self, turns: &[TurnId]) -> Result<HashMap<TurnId, Vec<ServerEvent>>, Unavailable> {
        let tables = self.0.lock().unwrap();
        let known = turns.iter().filter_map(|id| tables.turns.get(id));
        let ended = known.filter(|row| row.turn.journal.outcome.is_some());
        Ok(ended.map(|row| (row.turn.request.turn_id.clone(), row.turn.journal.cards())).collect())
    }

    async fn rate(&self, id: &TurnId, rating: Rating, comment: Option<&str>, _now: u64) -> Result<(), Unavailable> {
        let mut tables = self.0.lock().unwrap();
        let row = tables.turns.get_mut(id).ok_or(unknown("rate"))?;
        row.rating = Some(StoredRating { rating, comment: comment.map(str::to_owned) });
        Ok(())
    }
}
