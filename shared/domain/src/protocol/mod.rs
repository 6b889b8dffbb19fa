//! The WebSocket protocol, version 1: what clients send, what they are answered, and in which words.

mod client;
mod server;
mod texts;

pub use client::{
    ClientFrame, Feedback, HistoryList, Locale, MessageCancel, MessageContext, MessageSend, Rating, Refusal,
    SessionStart, StreamResume, parse,
};
pub use server::{
    ActiveTurn, BrownOutStep, CancelledBy, Degraded, Dependency, Empty, ErrorCode, ErrorData, FeedbackAccepted,
    FollowUp, HistoryPage, HistoryTurn, Latency, MessageAccepted, OrderCard, OrderCardItem, ProductCard, ServerEvent,
    ServerFrame, SessionLimits, SessionReady, Source, StopReason, TextDelta, TurnCancelled, TurnCompleted, TurnFailed,
    TurnPath, TurnQueued, TurnStarted, TurnState, Usage,
};
pub use texts::{blocked_text, brown_out_text, degraded_text, error_text, queued_text};

/// The subprotocol every client offers and the only one the server echoes.
pub const SUBPROTOCOL: &str = "manga-chat.v1";

/// Before a shopper's JWT in a second subprotocol.
pub const BEARER_PREFIX: &str = "bearer.";

/// Before a guest's resume token in a second subprotocol.
pub const GUEST_PREFIX: &str = "guest.";
