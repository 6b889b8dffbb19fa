//! Client frames: one JSON object, routed on `action`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::server::ErrorCode;
use crate::ids::{ClientMessageId, ConversationId, ProductId, TurnId};
use crate::limits::{
    CLIENT_FRAME_BYTES_MAX, COMMENT_CHARS_MAX, HISTORY_PAGE_TURNS_DEFAULT, HISTORY_PAGE_TURNS_MAX, ID_BYTES_MAX,
    TEXT_CHARS_MAX,
};
use crate::prompt::cut;

/// A language of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Locale {
    /// Japanese.
    Ja,
    /// English.
    En,
}

impl Locale {
    /// The language a text is written in: Japanese if any of it is in a Japanese script.
    pub fn of_text(text: &str) -> Self {
        let japanese = |character: char| {
            matches!(character,
                '\u{3040}'..='\u{30ff}'       // hiragana, katakana
                | '\u{31f0}'..='\u{31ff}'     // small katakana
                | '\u{3400}'..='\u{9fff}'     // kanji
                | '\u{f900}'..='\u{faff}'     // compatibility kanji
                | '\u{ff66}'..='\u{ff9f}') // half-width katakana
        };
        if text.chars().any(japanese) { Self::Ja } else { Self::En }
    }

    /// `ja` or `en`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ja => "ja",
            Self::En => "en",
        }
    }
}

/// Opens the session, or names the conversation to go on with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionStart {
    /// The language of errors on this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
    /// A conversation to come back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
}

/// What the shopper is looking at.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageContext {
    /// The product on the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_id: Option<ProductId>,
}

/// A shopper's message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MessageSend {
    /// The idempotency key: the same id and text are one message, however often they are sent.
    pub client_message_id: ClientMessageId,
    /// 1 to 4,000 characters, not all of them white space.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 4000)))]
    pub text: String,
    /// Absent: a new conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// The language of the answer; absent: the language of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<Locale>,
    /// What the shopper is looking at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<MessageContext>,
}

impl MessageSend {
    /// The language to answer in.
    pub fn answer_locale(&self) -> Locale {
        self.locale.unwrap_or_else(|| Locale::of_text(&self.text))
    }

    /// The product the shopper is looking at.
    pub fn product_id(&self) -> Option<&ProductId> {
        self.context.as_ref()?.product_id.as_ref()
    }
}

/// Asks a turn to end early, named by exactly one of its ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = [{"required": ["turn_id"]}, {"required": ["client_message_id"]}])))]
pub struct MessageCancel {
    /// The turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// The message it answers, for a client that was not told its turn yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<ClientMessageId>,
}

/// Asks for what a turn has sent after the frame held, and for what it sends from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StreamResume {
    /// The turn.
    pub turn_id: TurnId,
    /// The epoch of the last frame held, 0 for none.
    pub epoch: u64,
    /// The `seq` of the last frame held, -1 for none.
    #[cfg_attr(feature = "schema", schemars(range(min = -1)))]
    pub after_seq: i64,
}

/// Asks for a page of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HistoryList {
    /// Whose turns.
    pub conversation_id: ConversationId,
    /// `next_before` of the page before; absent: the newest page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// 1 to 50 turns; absent: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 50)))]
    pub limit: Option<u32>,
}

impl HistoryList {
    /// How many turns to answer with at the most.
    pub fn turns_max(&self) -> u32 {
        self.limit.unwrap_or(HISTORY_PAGE_TURNS_DEFAULT)
    }
}

/// What the shopper thinks of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// It helped.
    Up,
    /// It did not.
    Down,
}

/// Says what the shopper thinks of an answer; the last word counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Feedback {
    /// Whose answer.
    pub turn_id: TurnId,
    /// Up or down.
    pub rating: Rating,
    /// At most 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 1000)))]
    pub comment: Option<String>,
}

/// A frame of a client, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "action")]
pub enum ClientFrame {
    /// Answered by `session.ready`.
    #[serde(rename = "session.start")]
    SessionStart(SessionStart),
    /// Answered by `message.accepted`, then the turn.
    #[serde(rename = "message.send")]
    MessageSend(MessageSend),
    /// Answered by the turn's end.
    #[serde(rename = "message.cancel")]
    MessageCancel(MessageCancel),
    /// Answered by the missing frames, then the live ones.
    #[serde(rename = "stream.resume")]
    StreamResume(StreamResume),
    /// Answered by `history.page`.
    #[serde(rename = "history.list")]
    HistoryList(HistoryList),
    /// Answered by `feedback.accepted`.
    #[serde(rename = "feedback.submit")]
    FeedbackSubmit(Feedback),
    /// Answered by `pong`.
    #[serde(rename = "ping")]
    Ping {},
}

impl ClientFrame {
    /// Every action this server knows.
    pub const ACTIONS: [&'static str; 7] =
        ["session.start", "message.send", "message.cancel", "stream.resume", "history.list", "feedback.submit", "ping"];

    /// The action the frame was routed on.
    pub fn action(&self) -> &'static str {
        match self {
            Self::SessionStart(_) => "session.start",
            Self::MessageSend(_) => "message.send",
            Self::MessageCancel(_) => "message.cancel",
            Self::StreamResume(_) => "stream.resume",
            Self::HistoryList(_) => "history.list",
            Self::FeedbackSubmit(_) => "feedback.submit",
            Self::Ping {} => "ping",
        }
    }

    /// The refusal of this frame.
    pub fn refusal(&self, code: ErrorCode) -> Refusal {
        let (locale, client_message_id, text) = match self {
            Self::SessionStart(start) => (start.locale, None, None),
            Self::MessageSend(message) => {
                (message.locale, Some(message.client_message_id), Some(message.text.as_str()))
            }
            Self::MessageCancel(cancel) => (None, cancel.client_message_id, None),
            Self::StreamResume(_) | Self::HistoryList(_) | Self::FeedbackSubmit(_) | Self::Ping {} => {
                (None, None, None)
            }
        };
        Refusal {
            code,
            retry_after_ms: None,
            action: Some(self.action().to_owned()),
            client_message_id,
            locale,
            text_locale: text.map(Locale::of_text),
        }
    }
}

/// A frame that is not taken, with what of it the answer can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: ErrorCode,
    /// When the frame would be taken, ms from now, if that is known.
    pub retry_after_ms: Option<u64>,
    /// Its action, as far as it is no longer than an id.
    pub action: Option<String>,
    /// The message it named, if it did.
    pub client_message_id: Option<ClientMessageId>,
    /// The language it asked for.
    pub locale: Option<Locale>,
    /// The language its text is written in.
    pub text_locale: Option<Locale>,
}

/// Reads a client frame.
///
/// # Errors
/// `payload_too_large` above 32 KB, 4,000 characters of text or 1,000 of comment; `unknown_action` for an action this
/// server does not know; `invalid_frame` for everything else that is not a frame of the protocol.
pub fn parse(body: &str) -> Result<ClientFrame, Refusal> {
    let mut refusal = Refusal {
        code: ErrorCode::InvalidFrame,
        retry_after_ms: None,
        action: None,
        client_message_id: None,
        locale: None,
        text_locale: None,
    };
    if body.len() > CLIENT_FRAME_BYTES_MAX {
        return Err(Refusal { code: ErrorCode::PayloadTooLarge, ..refusal });
    }
    let Ok(frame @ Value::Object(_)) = serde_json::from_str::<Value>(body) else { return Err(refusal) };
    refusal.client_message_id = field(&frame, "client_message_id");
    refusal.locale = field(&frame, "locale");
    refusal.text_locale = frame.get("text").and_then(Value::as_str).map(Locale::of_text);
    let Some(action) = frame.get("action").and_then(Value::as_str) else { return Err(refusal) };
    refusal.action = Some(cut(action, ID_BYTES_MAX).to_owned());
    if !ClientFrame::ACTIONS.contains(&action) {
        return Err(Refusal { code: ErrorCode::UnknownAction, ..refusal });
    }
    // What serde takes beyond the schema: a word as an object's only name, and an object as a list of its values.
    let is = |name: &str, wrong: fn(&Value) -> bool| frame.get(name).is_some_and(wrong);
    if is("locale", Value::is_object) || is("rating", Value::is_object) || is("context", Value::is_array) {
        return Err(refusal);
    }
    let Ok(frame) = serde_json::from_value(frame) else { return Err(refusal) };
    match fault(&frame) {
        None => Ok(frame),
        Some(code) => Err(Refusal { code, ..refusal }),
    }
}

fn field<T: serde::de::DeserializeOwned>(frame: &Value, name: &str) -> Option<T> {
    frame.get(name).and_then(|value| T::deserialize(value).ok())
}

fn fault(frame: &ClientFrame) -> Option<ErrorCode> {
    let longer_than = |text: &str, chars_max: usize| text.chars().nth(chars_max).is_some();
    match frame {
        ClientFrame::MessageSend(message) if message.text.trim().is_empty() => Some(ErrorCode::InvalidFrame),
        ClientFrame::MessageSend(message) if longer_than(&message.text, TEXT_CHARS_MAX) => {
            Some(ErrorCode::PayloadTooLarge)
        }
        ClientFrame::MessageCancel(cancel) if cancel.turn_id.is_some() == cancel.client_message_id.is_some() => {
            Some(ErrorCode::InvalidFrame)
        }
        ClientFrame::FeedbackSubmit(Feedback { comment: Some(comment), .. })
            if longer_than(comment, COMMENT_CHARS_MAX) =>
        {
            Some(ErrorCode::PayloadTooLarge)
        }
        ClientFrame::HistoryList(list) if !(1..=HISTORY_PAGE_TURNS_MAX).contains(&list.turns_max()) => {
            Some(ErrorCode::InvalidFrame)
        }
        ClientFrame::StreamResume(resume) if resume.after_seq < -1 => Some(ErrorCode::InvalidFrame),
        ClientFrame::SessionStart(_)
        | ClientFrame::MessageSend(_)
        | ClientFrame::MessageCancel(_)
        | ClientFrame::StreamResume(_)
        | ClientFrame::HistoryList(_)
        | ClientFrame::FeedbackSubmit(_)
        | ClientFrame::Ping {} => None,
    }
}
