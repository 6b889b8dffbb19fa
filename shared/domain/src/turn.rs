//! The turn as data: what was asked, what was sent, how it ended.

use serde::{Deserialize, Serialize};

use crate::ids::{ClientMessageId, ConnectionId, ConversationId, Principal, ProductId, TurnId, digest};
use crate::limits::{ENVELOPE_BYTES_MAX, SERVER_FRAME_BYTES_MAX, TAKEOVER_MARGIN_MS};
use crate::protocol::{Locale, MessageSend, ServerEvent, ServerFrame, TextDelta, TurnState, Usage, blocked_text};

/// What a shopper asked: written once, when the message is accepted. It is the idempotency record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRequest {
    /// Derived from principal and client message id.
    pub turn_id: TurnId,
    /// Where it belongs.
    pub conversation_id: ConversationId,
    /// Its place in the conversation, from 1.
    pub number: u64,
    /// Whose it is.
    pub principal: Principal,
    /// The client's name for it.
    pub client_message_id: ClientMessageId,
    /// Of text and context, see [`payload_hash`].
    pub payload_hash: String,
    /// The question.
    pub text: String,
    /// The language of the answer.
    pub locale: Locale,
    /// The product the shopper was looking at.
    pub product_id: Option<ProductId>,
    /// Where the message came from; whoever owns the turn sends its frames there.
    pub connection: ConnectionId,
    /// Unix milliseconds.
    pub asked_at: u64,
    /// The first owner's lease, until its first journal write renews it; Unix milliseconds.
    pub lease_until: u64,
}

/// What makes two messages the same: the text, and the product it was asked about.
pub fn payload_hash(message: &MessageSend) -> String {
    digest(&[&message.text, message.product_id().map_or("", |id| id.as_str())])
}

/// A sequenced frame of a turn, as it is journaled and replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnFrame {
    /// The owner that made it.
    pub epoch: u64,
    /// Its place in the turn, without gaps from 0.
    pub seq: u64,
    /// Unix milliseconds.
    pub ts: u64,
    /// What it says.
    #[serde(flatten)]
    pub event: ServerEvent,
}

impl TurnFrame {
    /// The first `seq` it stands for.
    pub fn first_seq(&self) -> u64 {
        if let ServerEvent::TextDelta(TextDelta { from_seq: Some(from_seq), .. }) = &self.event {
            *from_seq
        } else {
            self.seq
        }
    }

    /// The frame as clients get it.
    pub fn addressed(&self, conversation_id: &ConversationId, turn_id: &TurnId) -> ServerFrame {
        ServerFrame {
            v: 1,
            ts: self.ts,
            conversation_id: Some(conversation_id.clone()),
            turn_id: Some(turn_id.clone()),
            epoch: Some(self.epoch),
            seq: Some(self.seq),
            event: self.event.clone(),
        }
    }
}

/// How a turn ended, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Completed, cancelled or failed.
    pub state: TurnState,
    /// The model's tokens.
    pub usage: Usage,
}

/// Who has a turn that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Its owner, which counts as dead from [`TAKEOVER_MARGIN_MS`] after this time on; Unix milliseconds.
    Leased {
        /// Unix milliseconds.
        until: u64,
    },
    /// Nobody: it waits in the follow-up queue.
    Queued {
        /// Unix milliseconds.
        since: u64,
    },
}

/// Where a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Its owner works on it; Unix milliseconds from which it may be taken over.
    Live {
        /// Unix milliseconds.
        until: u64,
    },
    /// Its owner is dead.
    Lapsed,
    /// It waits in the follow-up queue.
    Queued {
        /// Unix milliseconds.
        since: u64,
    },
    /// Its outcome is stored.
    Ended,
}

/// What of a turn is durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TurnJournal {
    /// The last owner's; 0 before the first write.
    pub epoch: u64,
    /// The frames so far, in order of `seq`.
    pub frames: Vec<TurnFrame>,
    /// Who has it; none before the first write.
    pub hold: Option<Hold>,
    /// How it ended; none while it goes on.
    pub outcome: Option<Outcome>,
    /// Connections other than the one it was asked on that follow the turn.
    pub subscribers: Vec<ConnectionId>,
    /// The shopper asked to stop.
    pub cancel_asked: bool,
}

impl TurnJournal {
    /// The last durable `seq`, -1 for none.
    pub fn last_seq(&self) -> i64 {
        self.frames.last().map_or(-1, |frame| i64::try_from(frame.seq).unwrap_or(i64::MAX))
    }

    /// The `seq` of the next frame.
    pub fn next_seq(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.seq + 1)
    }

    /// The epoch of the last durable frame, 0 for none.
    pub fn last_epoch(&self) -> u64 {
        self.frames.last().map_or(0, |frame| frame.epoch)
    }

    /// The answer's text so far.
    pub fn answer(&self) -> String {
        self.shown()
            .map(|event| if let ServerEvent::TextDelta(delta) = event { delta.text.as_str() } else { "" })
            .collect()
    }

    /// The cards so far.
    pub fn cards(&self) -> Vec<ServerEvent> {
        self.shown().filter(|event| event.is_card()).cloned().collect()
    }

    /// What counts: everything, or what was said since the answer was begun anew.
    fn shown(&self) -> impl Iterator<Item = &ServerEvent> {
        let begins_anew =
            |frame: &TurnFrame| matches!(&frame.event, ServerEvent::TurnStarted(started) if started.restarted);
        let from = self.frames.iter().rposition(begins_anew).unwrap_or(0);
        self.frames.iter().skip(from).map(|frame| &frame.event)
    }

    /// What a client lacks that holds everything up to `after_seq`, the last of it from `epoch`; small text frames merged.
    ///
    /// Where a later epoch began at or before `after_seq`, the replay starts at that beginning: what the client holds from
    /// there on is void. A durable frame that stands for several is sent whole to a client that asks from inside it.
    pub fn replay(&self, epoch: u64, after_seq: i64) -> Vec<TurnFrame> {
        let signed = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
        let void_from = self.frames.iter().find(|frame| frame.epoch > epoch).map(|frame| signed(frame.first_seq()));
        let after_seq = after_seq.min(void_from.map_or(i64::MAX, |seq| seq - 1));
        merge_text(self.frames.iter().filter(|frame| signed(frame.seq) > after_seq).cloned())
    }
}

/// A turn with what is durable of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTurn {
    /// What was asked.
    pub request: TurnRequest,
    /// What was answered so far.
    pub journal: TurnJournal,
}

impl StoredTurn {
    /// Whether and how it ended.
    pub fn state(&self) -> TurnState {
        self.journal.outcome.as_ref().map_or(TurnState::Running, |outcome| outcome.state)
    }

    /// The last owner's epoch: the first owner has 1, from the record on.
    pub fn epoch(&self) -> u64 {
        self.journal.epoch.max(1)
    }

    /// Where it stands at a time, Unix milliseconds.
    pub fn phase(&self, now: u64) -> Phase {
        if self.journal.outcome.is_some() {
            return Phase::Ended;
        }
        match self.journal.hold.unwrap_or(Hold::Leased { until: self.request.lease_until }) {
            Hold::Queued { since } => Phase::Queued { since },
            Hold::Leased { until } => match until + TAKEOVER_MARGIN_MS {
                until if until > now => Phase::Live { until },
                _ => Phase::Lapsed,
            },
        }
    }

    /// The turn as later prompts and history see it; none while it goes on.
    pub fn exchange(&self) -> Option<Exchange> {
        let outcome = self.journal.outcome.as_ref()?;
        Some(Exchange {
            number: self.request.number,
            turn_id: self.request.turn_id.clone(),
            asked_at: self.request.asked_at,
            question: self.request.text.clone(),
            answer: self.journal.answer(),
            state: outcome.state,
        })
    }
}

/// A question and its answer, as later prompts and history see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its place in the conversation, from 1.
    pub number: u64,
    /// The turn.
    pub turn_id: TurnId,
    /// Unix milliseconds.
    pub asked_at: u64,
    /// The shopper's message.
    pub question: String,
    /// The answer, as far as there is one.
    pub answer: String,
    /// How it ended.
    pub state: TurnState,
}

impl Exchange {
    /// Whether a model may be told of it: there is an answer, and neither it nor the question was blocked. A later prompt
    /// would bring before the model what a guardrail kept from it.
    pub fn is_fit_for_prompts(&self) -> bool {
        let blocked = |locale| self.answer.ends_with(blocked_text(locale));
        !self.answer.trim().is_empty() && !blocked(Locale::Ja) && !blocked(Locale::En)
    }
}

/// The earlier part of a conversation in few words, for prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The number of the last turn it covers.
    pub through: u64,
    /// At most [`SUMMARY_TOKENS_MAX`](crate::limits::SUMMARY_TOKENS_MAX) tokens.
    pub text: String,
}

/// A conversation before a turn, as far as prompts need it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Past {
    /// What was said before the exchanges.
    pub summary: Option<Summary>,
    /// The newest exchanges, newest first.
    pub exchanges: Vec<Exchange>,
}

/// A turn in its owner's memory: numbers the frames and knows which of them are durable.
#[derive(Debug)]
pub struct TurnLog {
    epoch: u64,
    next_seq: u64,
    frames: Vec<TurnFrame>,
    journaled: usize,
}

impl TurnLog {
    /// The log of an owner that begins where the durable frames end.
    pub fn after(journal: &TurnJournal, epoch: u64) -> Self {
        Self { epoch, next_seq: journal.next_seq(), frames: Vec::new(), journaled: 0 }
    }

    /// The owner's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Numbers an event.
    pub fn push(&mut self, ts: u64, event: ServerEvent) -> TurnFrame {
        let frame = TurnFrame { epoch: self.epoch, seq: self.next_seq, ts, event };
        self.next_seq += 1;
        self.frames.push(frame.clone());
        frame
    }

    /// How many frames there are, durable or not.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// What the next journal write stores, text merged.
    pub fn unjournaled(&self) -> Vec<TurnFrame> {
        merge_text(self.frames_between(self.journaled, self.frames.len()).iter().cloned())
    }

    /// The frames between two places in this log, as they were sent.
    pub fn frames_between(&self, from: usize, to: usize) -> &[TurnFrame] {
        self.frames.get(from..to).unwrap_or_default()
    }

    /// How many of the frames are durable.
    pub fn journaled(&self) -> usize {
        self.journaled
    }

    /// Notes that the first `count` frames are durable.
    pub fn mark_journaled(&mut self, count: usize) {
        self.journaled = count;
    }
}

/// Neighbouring text frames of one epoch as one, as long as it fits a frame.
fn merge_text(frames: impl Iterator<Item = TurnFrame>) -> Vec<TurnFrame> {
    let json_bytes = |text: &str| serde_json::to_string(text).map_or(usize::MAX, |json| json.len());
    let mut merged: Vec<TurnFrame> = Vec::new();
    for frame in frames {
        if let (Some(last), ServerEvent::TextDelta(delta)) = (merged.last_mut(), &frame.event)
            && last.epoch == frame.epoch
            && let first_seq = last.first_seq()
            && let ServerEvent::TextDelta(held) = &mut last.event
            && json_bytes(&held.text).saturating_add(json_bytes(&delta.text))
                <= SERVER_FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX
        {
            held.text.push_str(&delta.text);
            held.from_seq = Some(first_seq);
            last.seq = frame.seq;
            last.ts = frame.ts;
            continue;
        }
        merged.push(frame);
    }
    merged
}
