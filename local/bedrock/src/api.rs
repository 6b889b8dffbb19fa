//! Requests and answers of Bedrock Runtime, as far as the stand-in reads and writes them, and the rules a request must meet.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::exception::Exception;
use crate::tokens;

/// The body of `Converse` and `ConverseStream`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConverseRequest {
    #[serde(default)]
    pub messages: Vec<Message>,
    #[serde(default)]
    pub system: Vec<ContentBlock>,
    #[serde(default)]
    pub inference_config: InferenceConfig,
    pub guardrail_config: Option<GuardrailConfig>,
}

/// One message of the conversation.
#[derive(Debug, Deserialize)]
pub(crate) struct Message {
    pub role: Role,
    #[serde(default)]
    pub content: Vec<ContentBlock>,
}

impl Message {
    /// All of its text.
    pub fn text(&self) -> String {
        self.content.iter().map(ContentBlock::text).collect()
    }

    /// What of it a guardrail is to look at, if anything is marked so.
    fn guarded_text(&self) -> Option<String> {
        let guarded = self.content.iter().filter(|block| matches!(block, ContentBlock::GuardContent(_)));
        Some(guarded.map(ContentBlock::text).collect::<String>()).filter(|text| !text.is_empty())
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    User,
    Assistant,
}

impl Role {
    /// Its name in both protocols.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// The kinds of block that a chat sends.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ContentBlock {
    Text(String),
    /// What a guardrail is to look at; the rest is then none of its business.
    GuardContent(GuardContent),
    /// What comes before may be cached; nothing is said by it.
    CachePoint(IgnoredAny),
}

impl ContentBlock {
    /// Empty for a block without text.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::GuardContent(GuardContent { text: GuardText { text } }) => text,
            Self::CachePoint(_) => "",
        }
    }

    fn is_blank(&self) -> bool {
        match self {
            Self::CachePoint(_) => false,
            Self::Text(_) | Self::GuardContent(_) => self.text().trim().is_empty(),
        }
    }
}

/// Text that a guardrail is to look at.
#[derive(Debug, Deserialize)]
pub(crate) struct GuardContent {
    text: GuardText,
}

#[derive(Debug, Deserialize)]
struct GuardText {
    text: String,
}

/// How to generate.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InferenceConfig {
    pub max_tokens: Option<i64>,
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    #[serde(default)]
    pub stop_sequences: Vec<String>,
}

/// Asks for a guardrail; which one makes no difference here.
#[derive(Debug, Deserialize)]
pub(crate) struct GuardrailConfig {}

/// Why the answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model had said everything.
    EndTurn,
    /// `maxTokens` were said.
    MaxTokens,
    /// One of `stopSequences` was about to be said.
    StopSequence,
    /// A guardrail blocked the question or the answer.
    GuardrailIntervened,
    /// The model's own filter stopped it.
    ContentFiltered,
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub total_tokens: u64,
}

impl Usage {
    pub fn new(input_tokens: u64, output_tokens: u64) -> Self {
        Self { input_tokens, output_tokens, total_tokens: input_tokens.saturating_add(output_tokens) }
    }
}

impl ConverseRequest {
    /// What a guardrail looks at: what is marked for it, else all that the user says.
    pub fn guarded_text(&self) -> String {
        let marked: Vec<String> = self.messages.iter().filter_map(Message::guarded_text).collect();
        if !marked.is_empty() {
            return marked.concat();
        }
        self.messages.iter().filter(|message| message.role == Role::User).map(Message::text).collect()
    }

    /// Checks what Bedrock checks before it asks the model.
    ///
    /// # Errors
    /// A `ValidationException` that names the first rule broken.
    pub fn validate(&self) -> Result<(), Exception> {
        for (index, block) in self.system.iter().enumerate() {
            not_blank("SystemContentBlock", &format!("system.{index}"), block)?;
        }
        if self.messages.first().is_none_or(|message| message.role != Role::User) {
            return Err(Exception::validation(
                "A conversation must start with a user message. Try again with a conversation that starts with a user message.",
            ));
        }
        if self.messages.windows(2).any(|pair| matches!(pair, [one, next] if one.role == next.role)) {
            return Err(Exception::validation(
                "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between user and assistant roles and try again.",
            ));
        }
        for (index, message) in self.messages.iter().enumerate() {
            let place = format!("messages.{index}");
            if message.content.is_empty() {
                return Err(Exception::validation(format!(
                    "The content field in the Message object at {place} is empty. Add a ContentBlock object to the content field and try again."
                )));
            }
            for (block_index, block) in message.content.iter().enumerate() {
                not_blank("ContentBlock", &format!("{place}.content.{block_index}"), block)?;
            }
        }
        if self.prefill().is_some_and(|text| text.ends_with(char::is_whitespace)) {
            return Err(Exception::validation(
                "The model returned the following errors: messages: final assistant content cannot end with trailing whitespace",
            ));
        }
        self.inference_config.validate()
    }

    /// The beginning of the answer, when the client wrote it.
    pub fn prefill(&self) -> Option<String> {
        self.messages.last().filter(|message| message.role == Role::Assistant).map(Message::text)
    }

    /// Estimated by the stand-in's own measure.
    pub fn input_tokens(&self) -> u64 {
        let system = self.system.iter();
        system
            .chain(self.messages.iter().flat_map(|message| &message.content))
            .map(|block| tokens::count(block.text()))
            .sum()
    }
}

impl InferenceConfig {
    fn validate(&self) -> Result<(), Exception> {
        if let Some(tokens) = self.max_tokens.filter(|tokens| *tokens < 1) {
            return Err(out_of_range(tokens, "maxTokens", "greater than or equal to 1"));
        }
        for (value, name) in [(self.temperature, "temperature"), (self.top_p, "topP")] {
            if let Some(value) = value.filter(|value| *value < 0.0) {
                return Err(out_of_range(value, name, "greater than or equal to 0"));
            }
            if let Some(value) = value.filter(|value| *value > 1.0) {
                return Err(out_of_range(value, name, "less than or equal to 1"));
            }
        }
        Ok(())
    }
}

fn not_blank(object: &str, place: &str, block: &ContentBlock) -> Result<(), Exception> {
    if block.is_blank() {
        return Err(Exception::validation(format!(
            "The text field in the {object} object at {place} is blank. Add text to the text field, and try again."
        )));
    }
    Ok(())
}

fn out_of_range(value: impl std::fmt::Display, name: &str, constraint: &str) -> Exception {
    Exception::validation(format!(
        "1 validation error detected: Value '{value}' at 'inferenceConfig.{name}' failed to satisfy constraint: Member must have value {constraint}"
    ))
}
