//! Model text into frames: the first piece at once, then one frame per window.
//!
//! One callback per token would exhaust the account's API Gateway requests (10,000/s) at 200 answers a second.

use crate::limits::{COALESCING_WINDOW_MS, ENVELOPE_BYTES_MAX, SERVER_FRAME_BYTES_MAX};

/// What a piece of text may take as JSON inside a frame, bytes.
const DELTA_JSON_BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX;

/// Text on its way from the model to the shopper.
#[derive(Debug, Default)]
pub struct Coalescer {
    held: String,
    taken_at: Option<u64>,
}

impl Coalescer {
    /// Adds what the model said.
    pub fn push(&mut self, text: &str) {
        self.held.push_str(text);
    }

    /// When the next frame is due, ms on the clock given to [`Self::take`]; none if there is no text.
    pub fn due_at(&self) -> Option<u64> {
        (!self.held.is_empty()).then(|| self.taken_at.map_or(0, |at| at.saturating_add(COALESCING_WINDOW_MS)))
    }

    /// The next frame's text, whether due or not; none if there is none. Never splits a character, never outgrows a frame.
    pub fn take(&mut self, now_ms: u64) -> Option<String> {
        if self.held.is_empty() {
            return None;
        }
        self.taken_at = Some(now_ms);
        let rest = self.held.split_off(json_prefix_bytes(&self.held, DELTA_JSON_BYTES_MAX));
        Some(std::mem::replace(&mut self.held, rest))
    }
}

/// How many bytes of `text`, cut between characters, fit `json_bytes_max` bytes of JSON string without its quotes.
pub(crate) fn json_prefix_bytes(text: &str, json_bytes_max: usize) -> usize {
    let mut room = json_bytes_max;
    for (at, character) in text.char_indices() {
        let bytes = match character {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            '\0'..='\u{1f}' => 6,
            _ => character.len_utf8(),
        };
        if bytes > room {
            return at;
        }
        room -= bytes;
    }
    text.len()
}
