//! The turn as data: what was asked, what was sent, how it ended.

use serde::{Deserialize, Serialize};

use crate::ids::{ClientMessageId, ConnectionId, ConversationId, Principal, TurnId, digest};
use crate::limits::{ENVELOPE_BYTES_MAX, SERVER_FRAME_BYTES_MAX};
use crate::protocol::{Locale, MessageSend, ServerEvent, ServerFrame, TextDelta, TurnState, Usage};

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
    /// Unix milliseconds.
    pub asked_at: u64,
    /// An owner that has not settled the turn by then is gone; Unix milliseconds.
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

/// What of a turn is durable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TurnJournal {
    /// The last owner's; 0 before the first write.
    pub epoch: u64,
    /// The frames so far, in order of `seq`.
    pub frames: Vec<TurnFrame>,
    /// How it ended; none while it goes on.
    pub outcome: Option<Outcome>,
    /// Connections other than the owner's that follow the turn.
    pub subscribers: Vec<ConnectionId>,
}

impl TurnJournal {
    /// The last durable `seq`, -1 for none.
    pub fn last_seq(&self) -> i64 {
        self.frames.last().map_or(-1, |frame| i64::try_from(frame.seq).unwrap_or(i64::MAX))
    }

    /// The answer's text so far.
    pub fn answer(&self) -> String {
        answer_text(&self.frames)
    }

    /// The cards so far.
    pub fn cards(&self) -> Vec<ServerEvent> {
        self.frames.iter().map(|frame| &frame.event).filter(|event| event.is_card()).cloned().collect()
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

fn answer_text(frames: &[TurnFrame]) -> String {
    frames
        .iter()
        .filter_map(
            |frame| {
                if let ServerEvent::TextDelta(delta) = &frame.event { Some(delta.text.as_str()) } else { None }
            },
        )
        .collect()
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
    /// Where it stands.
    pub fn state(&self) -> TurnState {
        self.journal.outcome.as_ref().map_or(TurnState::Running, |outcome| outcome.state)
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

/// A turn in its owner's memory: numbers the frames and knows which of them are durable.
#[derive(Debug)]
pub struct TurnLog {
    epoch: u64,
    next_seq: u64,
    frames: Vec<TurnFrame>,
    journaled: usize,
}

impl TurnLog {
    /// The log of a turn's first owner.
    pub fn new() -> Self {
        Self::continuing(1, 0)
    }

    /// The log of an owner that begins where the durable frames end.
    pub fn continuing(epoch: u64, next_seq: u64) -> Self {
        Self { epoch, next_seq, frames: Vec::new(), journaled: 0 }
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
        merge_text(self.frames_from(self.journaled).iter().cloned())
    }

    /// The frames from a place in this log on, as they were sent.
    pub fn frames_from(&self, place: usize) -> &[TurnFrame] {
        self.frames.get(place..).unwrap_or_default()
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

impl Default for TurnLog {
    fn default() -> Self {
        Self::new()
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
