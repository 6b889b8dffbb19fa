//! Guardrails with a word filter.

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::exception::Exception;

/// What a blocked question or answer is replaced by: as the guardrail in `template.yaml` is told to.
pub(crate) const BLOCKED_MESSAGE: &str = "[[blocked]]";
/// A text unit of a guardrail, by which it is billed: "A text unit can contain up to 1000 characters", Bedrock pricing.
const TEXT_UNIT_CHARS: usize = 1_000;

/// The body of `ApplyGuardrail`.
#[derive(Debug, Deserialize)]
pub(crate) struct ApplyRequest {
    source: Source,
    content: Vec<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Source {
    Input,
    Output,
}

#[derive(Debug, Deserialize)]
struct Content {
    text: Text,
}

#[derive(Debug, Deserialize)]
struct Text {
    text: String,
}

/// Blocks texts by words.
#[derive(Clone)]
pub(crate) struct WordFilter {
    lowercase: Vec<String>,
}

impl WordFilter {
    pub fn new(words: &[String]) -> Self {
        Self {
            lowercase: words.iter().map(|word| word.to_lowercase()).filter(|word| !word.trim().is_empty()).collect(),
        }
    }

    /// The blocked words in `text`.
    pub fn matches(&self, text: &str) -> Vec<&str> {
        let text = text.to_lowercase();
        self.lowercase.iter().map(String::as_str).filter(|word| text.contains(word)).collect()
    }

    /// Answers `ApplyGuardrail`.
    ///
    /// # Errors
    /// `ValidationException` without content.
    pub fn apply(&self, request: &ApplyRequest) -> Result<Response, Exception> {
        if request.content.is_empty() {
            return Err(Exception::validation(
                "1 validation error detected: Value at 'content' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ));
        }
        let text: String = request.content.iter().map(|content| content.text.text.as_str()).collect();
        let chars = text.chars().count();
        let matches = self.matches(&text);
        let words: Vec<_> =
            matches.iter().map(|word| json!({ "match": word, "action": "BLOCKED", "detected": true })).collect();
        let (action, outputs, assessments) = if matches.is_empty() {
            ("NONE", json!([]), json!([{}]))
        } else {
            let policy = json!({ "customWords": words, "managedWordLists": [] });
            ("GUARDRAIL_INTERVENED", json!([{ "text": BLOCKED_MESSAGE }]), json!([{ "wordPolicy": policy }]))
        };
        let reason = match (matches.is_empty(), &request.source) {
            (true, _) => "No action.",
            (false, Source::Input) => "Guardrail blocked the input.",
            (false, Source::Output) => "Guardrail blocked the output.",
        };
        let answer = json!({
            "action": action,
            "actionReason": reason,
            "outputs": outputs,
            "assessments": assessments,
            "guardrailCoverage": { "textCharacters": { "guarded": chars, "total": chars } },
            "usage": {
                "topicPolicyUnits": 0,
                "contentPolicyUnits": 0,
                "wordPolicyUnits": chars.div_ceil(TEXT_UNIT_CHARS),
                "sensitiveInformationPolicyUnits": 0,
                "sensitiveInformationPolicyFreeUnits": 0,
                "contextualGroundingPolicyUnits": 0,
            },
        });
        Ok(Json(answer).into_response())
    }
}
