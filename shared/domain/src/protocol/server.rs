//! Server frames: an envelope, and one event in it.

use serde::{Deserialize, Serialize};

use crate::ids::{ClientMessageId, ConversationId, SessionId, TurnId};
use crate::intent::Intent;
use crate::limits::SERVER_FRAME_BYTES_MAX;
use crate::store::{OrderStatus, Price};

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not a frame of the protocol.
    InvalidFrame,
    /// A frame, text or comment over its limit.
    PayloadTooLarge,
    /// A frame of the protocol, with an action this server does not know.
    UnknownAction,
    /// Too many messages, or too many replays; `retry_after_ms` says when to try again.
    RateLimited,
    /// The conversation has a turn that has not ended.
    ConversationBusy,
    /// The message's id was used with another text.
    IdempotencyMismatch,
    /// No such conversation or turn, or somebody else's.
    NotFound,
    /// The conversation has reached its length: start a new one.
    Forbidden,
    /// The principal's home is another Region.
    WrongRegion,
    /// The connection's token has expired: reconnect.
    SessionExpired,
    /// Something the answer needs is down or slow.
    Unavailable,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// Whether the same frame may succeed later.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::ConversationBusy | Self::SessionExpired | Self::Unavailable | Self::Internal => {
                true
            }
            Self::InvalidFrame
            | Self::PayloadTooLarge
            | Self::UnknownAction
            | Self::IdempotencyMismatch
            | Self::NotFound
            | Self::Forbidden
            | Self::WrongRegion => false,
        }
    }
}

/// A turn that had not ended when the session started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActiveTurn {
    /// The turn, to be resumed.
    pub turn_id: TurnId,
    /// Its owner's epoch.
    pub epoch: u64,
    /// The last `seq` that is durable, -1 for none.
    pub last_seq: i64,
}

/// What a client must keep to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionLimits {
    /// Characters of a message's text.
    pub text_max: usize,
    /// Bytes of a client frame.
    pub frame_bytes_max: usize,
    /// Messages a minute.
    pub messages_per_minute: u32,
}

/// The session stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionReady {
    /// The guest's session, or this signed-in connection's.
    pub session_id: SessionId,
    /// `guest`, or the token's subject.
    pub principal: String,
    /// For guests: to be stored, and offered as `guest.TOKEN` when coming back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_token: Option<String>,
    /// The conversation asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// Its turn that has not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_turn: Option<ActiveTurn>,
    /// What to keep to.
    pub limits: SessionLimits,
    /// When to reconnect, ms from now.
    pub reconnect_after_ms: u64,
}

/// The message is stored and will be answered, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageAccepted {
    /// Which message.
    pub client_message_id: ClientMessageId,
    /// It had been accepted before.
    pub duplicate: bool,
}

/// How a turn is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TurnPath {
    /// With fixed words.
    Template,
    /// From the store's services.
    Services,
    /// By the model.
    Llm,
}

impl TurnPath {
    /// As it is on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Services => "services",
            Self::Llm => "llm",
        }
    }
}

/// An owner began to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TurnStarted {
    /// The message being answered.
    pub client_message_id: ClientMessageId,
    /// What it is about.
    pub intent: Intent,
    /// How it is answered.
    pub path: TurnPath,
    /// The epoch of the frame before this one, 0 for none: a client that holds a frame of another epoch there lacks some.
    pub after_epoch: u64,
    /// A new owner took over: discard what was shown so far.
    pub restarted: bool,
    /// A new owner took over: keep what was shown so far.
    pub continues: bool,
}

/// More text of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TextDelta {
    /// To be appended.
    pub text: String,
    /// In a replay: the first of the frames this one stands for; `seq` is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_seq: Option<u64>,
}

/// A product, from the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProductCard {
    /// The catalog's id.
    pub product_id: String,
    /// In the shopper's language.
    pub title: String,
    /// Absent for box sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
    /// In the shopper's language.
    pub authors: Vec<String>,
    /// As the catalog had it at `as_of`.
    pub price: Price,
    /// As the catalog had it at `as_of`.
    pub in_stock: bool,
    /// The product's page.
    pub url: String,
    /// The cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Why it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When price and stock were read, Unix milliseconds.
    pub as_of: u64,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrderCardItem {
    /// The catalog's id.
    pub product_id: String,
    /// In the shopper's language.
    pub title: String,
    /// How many.
    pub quantity: u32,
}

/// An order, from the order service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrderCard {
    /// The order service's id.
    pub order_id: String,
    /// As the order service had it at `as_of`.
    pub status: OrderStatus,
    /// The day it should arrive, `2026-11-24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// Who carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// What was bought, at most ten lines.
    pub items: Vec<OrderCardItem>,
    /// The order's page.
    pub url: String,
    /// When the state was read, Unix milliseconds.
    pub as_of: u64,
}

/// What the answer stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Source {
    /// The article's id.
    pub id: String,
    /// In the shopper's language.
    pub title: String,
    /// Where it can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snippet: Option<String>,
}

/// A part of the store the answer had to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Dependency {
    /// Product search and look-up.
    Catalog,
    /// Recommendations.
    Recommendations,
    /// Orders.
    Orders,
    /// Help articles.
    Knowledge,
}

/// How an answer is made smaller while the model is under pressure, from the mildest to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BrownOutStep {
    /// Fewer tokens.
    ShorterAnswer,
    /// Another model, that costs less.
    CheaperModel,
    /// Fixed words around what the store says.
    Template,
    /// Later, from the follow-up queue.
    Queued,
}

impl BrownOutStep {
    /// As it is on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::ShorterAnswer => "shorter_answer",
            Self::CheaperModel => "cheaper_model",
            Self::Template => "template",
            Self::Queued => "queued",
        }
    }
}

/// The answer does without something, or is smaller than usual: one of `dependency` and `step`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Degraded {
    /// Without what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependency: Option<Dependency>,
    /// How it is smaller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<BrownOutStep>,
    /// For the shopper.
    pub message: String,
}

/// The answer will follow, later or at the next visit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TurnQueued {
    /// For the shopper.
    pub message: String,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// It had said all.
    EndTurn,
    /// It reached the answer's token limit.
    MaxTokens,
    /// A guardrail intervened.
    Guardrail,
    /// The turn's time was up.
    Deadline,
}

/// Tokens, as the model counted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Of the prompt.
    pub input_tokens: u64,
    /// Of the answer.
    pub output_tokens: u64,
}

/// How long the shopper waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Latency {
    /// From the frame to the first text, ms.
    pub first_token_ms: u64,
    /// From the frame to the end, ms.
    pub total_ms: u64,
}

/// The turn ended with an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TurnCompleted {
    /// Why the model stopped.
    pub stop_reason: StopReason,
    /// What it cost.
    pub usage: Usage,
    /// How long it took.
    pub latency: Latency,
}

/// Who ended a turn early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CancelledBy {
    /// The shopper.
    Client,
    /// Nobody was listening any more.
    Gone,
}

/// The turn was ended early; what was shown is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TurnCancelled {
    /// By whom.
    pub by: CancelledBy,
}

/// The turn ended without an answer, or within one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TurnFailed {
    /// Why.
    pub code: ErrorCode,
    /// For the shopper.
    pub message: String,
    /// Whether asking again, with a new id, may help.
    pub retryable: bool,
}

/// Where a turn stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TurnState {
    /// Being answered.
    Running,
    /// Answered.
    Completed,
    /// Ended early.
    Cancelled,
    /// Ended without an answer, or within one.
    Failed,
}

/// A turn, as history shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryTurn {
    /// The turn.
    pub turn_id: TurnId,
    /// Unix milliseconds.
    pub asked_at: u64,
    /// The shopper's message.
    pub text: String,
    /// The answer, as far as there is one.
    pub answer: String,
    /// `card.product` and `card.order` events, as they were sent.
    pub cards: Vec<ServerEvent>,
    /// How it ended.
    pub state: TurnState,
}

/// Turns of a conversation, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryPage {
    /// Oldest first.
    pub turns: Vec<HistoryTurn>,
    /// `before` of the page with the turns before these; absent: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_before: Option<u64>,
}

/// A message the store sends later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FollowUp {
    /// Its name: the same id is the same message, to be shown once.
    pub follow_up_id: String,
    /// What it is about.
    pub kind: String,
    /// In the shopper's language.
    pub text: String,
    /// `card.product` and `card.order` events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<ServerEvent>,
}

/// A frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorData {
    /// Why, for programs.
    pub code: ErrorCode,
    /// Why, for the shopper.
    pub message: String,
    /// Whether the same frame may succeed later.
    pub retryable: bool,
    /// When, ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The message the frame named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientMessageId>,
    /// The frame's action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
}

/// Which turn the feedback was stored for is said by the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FeedbackAccepted {}

/// An event without data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Empty {}

/// What a server frame says: `type` and `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", content = "data")]
pub enum ServerEvent {
    /// The session stands.
    #[serde(rename = "session.ready")]
    SessionReady(SessionReady),
    /// The message is stored and will be answered, once.
    #[serde(rename = "message.accepted")]
    MessageAccepted(MessageAccepted),
    /// An owner began to answer.
    #[serde(rename = "turn.started")]
    TurnStarted(TurnStarted),
    /// More text of the answer.
    #[serde(rename = "text.delta")]
    TextDelta(TextDelta),
    /// A product, from the catalog.
    #[serde(rename = "card.product")]
    ProductCard(ProductCard),
    /// An order, from the order service.
    #[serde(rename = "card.order")]
    OrderCard(OrderCard),
    /// What the answer stands on.
    #[serde(rename = "source")]
    Source(Source),
    /// The answer does without something.
    #[serde(rename = "degraded")]
    Degraded(Degraded),
    /// The answer will follow later.
    #[serde(rename = "turn.queued")]
    TurnQueued(TurnQueued),
    /// The turn ended with an answer.
    #[serde(rename = "turn.completed")]
    TurnCompleted(TurnCompleted),
    /// The turn was ended early.
    #[serde(rename = "turn.cancelled")]
    TurnCancelled(TurnCancelled),
    /// The turn ended without an answer, or within one.
    #[serde(rename = "turn.failed")]
    TurnFailed(TurnFailed),
    /// A page of a conversation.
    #[serde(rename = "history.page")]
    HistoryPage(HistoryPage),
    /// The feedback is stored.
    #[serde(rename = "feedback.accepted")]
    FeedbackAccepted(FeedbackAccepted),
    /// A message the store sends later.
    #[serde(rename = "follow_up")]
    FollowUp(FollowUp),
    /// A frame was refused.
    #[serde(rename = "error")]
    Error(ErrorData),
    /// The server is there.
    #[serde(rename = "pong")]
    Pong(Empty),
}

impl ServerEvent {
    /// The state a turn has after this event; none if it goes on.
    pub fn ends_turn(&self) -> Option<TurnState> {
        match self {
            Self::TurnCompleted(_) => Some(TurnState::Completed),
            Self::TurnCancelled(_) => Some(TurnState::Cancelled),
            Self::TurnFailed(_) => Some(TurnState::Failed),
            Self::SessionReady(_)
            | Self::MessageAccepted(_)
            | Self::TurnStarted(_)
            | Self::TextDelta(_)
            | Self::ProductCard(_)
            | Self::OrderCard(_)
            | Self::Source(_)
            | Self::Degraded(_)
            | Self::TurnQueued(_)
            | Self::HistoryPage(_)
            | Self::FeedbackAccepted(_)
            | Self::FollowUp(_)
            | Self::Error(_)
            | Self::Pong(_) => None,
        }
    }

    /// Whether history shows it beside the answer.
    pub fn is_card(&self) -> bool {
        matches!(self, Self::ProductCard(_) | Self::OrderCard(_))
    }
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ServerFrame {
    /// The protocol's version, 1.
    pub v: u8,
    /// When the frame was made, Unix milliseconds.
    pub ts: u64,
    /// The conversation it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The turn it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// The epoch of the turn's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// Its place in the turn, without gaps from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What it says.
    #[serde(flatten)]
    pub event: ServerEvent,
}

impl ServerFrame {
    /// A frame that belongs to no turn.
    pub fn new(ts: u64, event: ServerEvent) -> Self {
        Self { v: 1, ts, conversation_id: None, turn_id: None, epoch: None, seq: None, event }
    }

    /// The same frame, said of a conversation.
    #[must_use]
    pub fn in_conversation(self, id: ConversationId) -> Self {
        Self { conversation_id: Some(id), ..self }
    }

    /// The same frame, said of a turn.
    #[must_use]
    pub fn of_turn(self, id: TurnId) -> Self {
        Self { turn_id: Some(id), ..self }
    }

    /// The frame as it travels; none if it would be over [`SERVER_FRAME_BYTES_MAX`].
    pub fn encode(&self) -> Option<String> {
        serde_json::to_string(self).ok().filter(|text| text.len() <= SERVER_FRAME_BYTES_MAX)
    }
}
