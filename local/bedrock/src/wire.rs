//! The output stream of `ConverseStream` in the binary framing `application/vnd.amazon.eventstream`.

use aws_smithy_eventstream::error::Error;
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use aws_smithy_types::str_bytes::StrBytes;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::api::{StopReason, Usage};
use crate::exception::Exception;

/// The content type of a stream of frames.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// One member of the stream. The stand-in's messages have one content block, of index 0.
pub(crate) enum Event {
    MessageStart,
    ContentBlockDelta { text: String },
    ContentBlockStop,
    MessageStop { stop_reason: StopReason },
    Metadata { usage: Usage, latency_ms: u64 },
    Exception(Exception),
}

impl Event {
    /// The frame: prelude, headers, JSON payload and both checksums.
    ///
    /// # Errors
    /// When a text is too long for one frame.
    pub fn encode(self) -> Result<Bytes, Error> {
        let message = match self {
            Self::MessageStart => event("messageStart", &json!({ "role": "assistant" })),
            Self::ContentBlockDelta { text } => {
                event("contentBlockDelta", &json!({ "contentBlockIndex": 0, "delta": { "text": text } }))
            }
            Self::ContentBlockStop => event("contentBlockStop", &json!({ "contentBlockIndex": 0 })),
            Self::MessageStop { stop_reason } => event("messageStop", &json!({ "stopReason": stop_reason })),
            Self::Metadata { usage, latency_ms } => {
                event("metadata", &json!({ "usage": usage, "metrics": { "latencyMs": latency_ms } }))
            }
            Self::Exception(exception) => frame(
                "exception",
                ":exception-type",
                exception.kind.stream_member(),
                &json!({ "message": exception.message }),
            ),
        };
        let mut bytes = Vec::new();
        write_message_to(&message, &mut bytes)?;
        Ok(bytes.into())
    }
}

fn event(name: &'static str, payload: &Value) -> Message {
    frame("event", ":event-type", name, payload)
}

fn frame(message_type: &'static str, type_header: &'static str, name: &'static str, payload: &Value) -> Message {
    let header = |name, value| Header::new(name, HeaderValue::String(StrBytes::from(value)));
    Message::new(payload.to_string())
        .add_header(header(":message-type", message_type))
        .add_header(header(type_header, name))
        .add_header(header(":content-type", "application/json"))
}
