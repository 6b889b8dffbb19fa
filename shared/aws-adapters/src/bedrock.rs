//! The models, by Bedrock's ConverseStream, behind a guardrail.

use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::error::{BuildError, DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamError;
use aws_sdk_bedrockruntime::types::error::ConverseStreamOutputError;
use aws_sdk_bedrockruntime::types::{
    ContentBlock, ConversationRole, ConverseStreamOutput, GuardrailConverseContentBlock, GuardrailConverseTextBlock,
    GuardrailStreamConfiguration, GuardrailStreamProcessingMode, InferenceConfiguration, Message,
    StopReason as BedrockStop, SystemContentBlock,
};
use domain::ports::{LanguageModel, ModelChoice, ModelError, ModelEvent};
use domain::prompt::{Prompt, PromptMessage, Role};
use domain::protocol::{StopReason, Usage};
use futures_util::Stream;

use crate::configuration::ModelConfiguration;

/// How freely the model chooses its words; low, because it reports what the store said.
const TEMPERATURE: f32 = 0.3;

/// What the guardrail of `template.yaml` says in place of what it blocks. Shoppers never see it: the domain has words for that in
/// their language.
const BLOCKED: &str = "[[blocked]]";

/// Models or inference profiles of Bedrock.
#[derive(Debug, Clone)]
pub struct BedrockModel {
    client: Client,
    configuration: ModelConfiguration,
}

impl BedrockModel {
    /// The models of a configuration.
    pub fn new(client: Client, configuration: ModelConfiguration) -> Self {
        Self { client, configuration }
    }

    fn id(&self, model: ModelChoice) -> &str {
        match model {
            ModelChoice::Primary => &self.configuration.model_id,
            ModelChoice::Cheaper => &self.configuration.cheaper_model_id,
        }
    }

    /// In synchronous mode: nothing is heard before it was looked at.
    fn guardrail(&self) -> Option<GuardrailStreamConfiguration> {
        let guardrail = self.configuration.guardrail.as_ref()?;
        Some(
            GuardrailStreamConfiguration::builder()
                .guardrail_identifier(&guardrail.id)
                .guardrail_version(&guardrail.version)
                .stream_processing_mode(GuardrailStreamProcessingMode::Sync)
                .build(),
        )
    }
}

impl LanguageModel for BedrockModel {
    fn answer(&self, prompt: Prompt) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        async_stream::try_stream! {
            // Bedrock refuses a last message that ends in white space.
            let prefill = prompt.prefill.map(|text| text.trim_end().to_owned()).filter(|text| !text.is_empty());
            let prefill = prefill.map(|text| PromptMessage { role: Role::Assistant, text });
            let last = prompt.messages.len().saturating_sub(1);
            let guards_at = |index| (self.configuration.guardrail.is_some() && index == last).then_some(prompt.question_at);
            let messages = prompt.messages.into_iter().chain(prefill).enumerate();
            let messages = messages
                .map(|(index, said)| message(said, guards_at(index)))
                .collect::<Result<Vec<_>, _>>()?;
            let mut heard = Heard::default();
            let answer = self
                .client
                .converse_stream()
                .model_id(self.id(prompt.model))
                .system(SystemContentBlock::Text(prompt.system))
                .set_messages(Some(messages))
                .inference_config(
                    InferenceConfiguration::builder()
                        .max_tokens(i32::try_from(prompt.answer_tokens_max).unwrap_or(i32::MAX))
                        .temperature(TEMPERATURE)
                        .build(),
                )
                .set_guardrail_config(self.guardrail())
                .send()
                .await
                .map_err(refused)?;
            let mut events = answer.stream;
            while let Some(event) = events.recv().await.map_err(broken_off)? {
                match model_event(&event) {
                    Some(ModelEvent::Text(text)) => {
                        if let Some(text) = heard.say(&text) {
                            yield ModelEvent::Text(text);
                        }
                    }
                    Some(stop @ ModelEvent::Stopped(_)) => {
                        if let Some(text) = heard.rest() {
                            yield ModelEvent::Text(text);
                        }
                        yield stop;
                    }
                    Some(usage @ ModelEvent::Usage(_)) => yield usage,
                    None => {}
                }
            }
        }
    }

    fn accepts_prefill(&self) -> bool {
        self.configuration.prefill
    }
}

/// What a model says, without what the guardrail says in its place: held back while it could be that.
#[derive(Debug, Default)]
struct Heard {
    held: String,
}

impl Heard {
    fn say(&mut self, text: &str) -> Option<String> {
        self.held.push_str(text);
        let said = self.held.replace(BLOCKED, "");
        // The longest end of the text that could be the beginning of the guardrail's words.
        let could_be =
            (1..BLOCKED.len()).rev().filter_map(|length| BLOCKED.get(..length)).find(|start| said.ends_with(start));
        let held = could_be.unwrap_or_default();
        let said = said.strip_suffix(held).map(str::to_owned).unwrap_or_default();
        self.held = held.to_owned();
        Some(said).filter(|said| !said.is_empty())
    }

    /// What was held back after all.
    fn rest(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.held)).filter(|held| !held.is_empty())
    }
}

/// A message; a guardrail looks at the part of it that begins at `guarded_at`, if any does.
fn message(message: PromptMessage, guarded_at: Option<usize>) -> Result<Message, ModelError> {
    let role = match message.role {
        Role::User => ConversationRole::User,
        Role::Assistant => ConversationRole::Assistant,
    };
    let malformed = |error: BuildError| ModelError::Refused(Box::new(error));
    let content = match guarded_at.and_then(|at| message.text.split_at_checked(at)) {
        None => vec![ContentBlock::Text(message.text)],
        Some((data, question)) => {
            let question = GuardrailConverseTextBlock::builder().text(question).build().map_err(malformed)?;
            let data = Some(data).filter(|data| !data.is_empty()).map(|data| ContentBlock::Text(data.to_owned()));
            let question = ContentBlock::GuardContent(GuardrailConverseContentBlock::Text(question));
            data.into_iter().chain([question]).collect()
        }
    };
    Message::builder().role(role).set_content(Some(content)).build().map_err(malformed)
}

/// What an event of the stream says; block starts and stops say nothing.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the SDK's enum is open: a reason that is new to it ends an answer, too"
)]
fn model_event(event: &ConverseStreamOutput) -> Option<ModelEvent> {
    if let Ok(delta) = event.as_content_block_delta() {
        let text = delta.delta.as_ref()?.as_text().ok()?;
        return Some(ModelEvent::Text(text.clone()));
    }
    if let Ok(stop) = event.as_message_stop() {
        return Some(ModelEvent::Stopped(match &stop.stop_reason {
            BedrockStop::MaxTokens | BedrockStop::ModelContextWindowExceeded => StopReason::MaxTokens,
            BedrockStop::GuardrailIntervened | BedrockStop::ContentFiltered => StopReason::Guardrail,
            _said_all => StopReason::EndTurn,
        }));
    }
    let usage = event.as_metadata().ok()?.usage.as_ref()?;
    let tokens = |count: i32| u64::try_from(count).unwrap_or_default();
    Some(ModelEvent::Usage(Usage {
        input_tokens: tokens(usage.input_tokens),
        output_tokens: tokens(usage.output_tokens),
    }))
}

/// An exception that answers the request.
fn refused(error: SdkError<ConverseStreamError>) -> ModelError {
    let code = error.code().map(str::to_owned);
    let source = DisplayErrorContext(error).to_string().into();
    match code.as_deref() {
        Some("ThrottlingException" | "ServiceQuotaExceededException" | "ModelNotReadyException") => {
            ModelError::Throttled(source)
        }
        Some("ValidationException" | "AccessDeniedException" | "ResourceNotFoundException") => {
            ModelError::Refused(source)
        }
        _down => ModelError::Unavailable(source),
    }
}

/// An exception within the stream: told by its type, for it has no code there.
fn broken_off<R>(error: SdkError<ConverseStreamOutputError, R>) -> ModelError
where
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let kind: fn(_) -> _ = match error.as_service_error() {
        Some(exception) if exception.is_throttling_exception() => ModelError::Throttled,
        Some(exception) if exception.is_validation_exception() => ModelError::Refused,
        _down => ModelError::Unavailable,
    };
    kind(DisplayErrorContext(error).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(pieces: &[&str]) -> String {
        let mut heard = Heard::default();
        let mut said: String = pieces.iter().filter_map(|piece| heard.say(piece)).collect();
        said.extend(heard.rest());
        said
    }

    #[test]
    fn the_guardrails_words_are_never_heard_however_they_are_cut() {
        for cut in 0..=BLOCKED.len() {
            let (start, end) = BLOCKED.split_at(cut);
            assert_eq!(heard(&[start, end]), "");
            assert_eq!(heard(&["Two ", start, end]), "Two ");
        }
        assert_eq!(heard(&["Two [[", "blocked]]"]), "Two ");
    }

    #[test]
    fn nothing_else_is_lost() {
        for text in ["[[blocked", "a [ b [[ c [[block] d", "[[[[blocked", "海賊の[", ""] {
            assert_eq!(heard(&[text]), text);
            let pieces: Vec<String> = text.chars().map(String::from).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(heard(&pieces), text);
        }
    }

    #[test]
    fn text_that_cannot_be_the_guardrails_is_heard_at_once() {
        let mut heard = Heard::default();
        assert_eq!(heard.say("Two brothers"), Some("Two brothers".to_owned()));
        assert_eq!(heard.say(" ["), Some(" ".to_owned()));
        assert_eq!(heard.say("1]"), Some("[1]".to_owned()));
    }
}
