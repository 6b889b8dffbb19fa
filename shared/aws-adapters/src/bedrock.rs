//! The model, by Bedrock's ConverseStream.

use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamError;
use aws_sdk_bedrockruntime::types::error::ConverseStreamOutputError;
use aws_sdk_bedrockruntime::types::{
    ContentBlock, ConversationRole, ConverseStreamOutput, InferenceConfiguration, Message, StopReason as BedrockStop,
    SystemContentBlock,
};
use domain::ports::{LanguageModel, ModelError, ModelEvent};
use domain::prompt::{Prompt, PromptMessage, Role};
use domain::protocol::{StopReason, Usage};
use futures_util::Stream;

/// How freely the model chooses its words; low, because it reports what the store said.
const TEMPERATURE: f32 = 0.3;

/// A model or inference profile of Bedrock.
#[derive(Debug, Clone)]
pub struct BedrockModel {
    client: Client,
    model_id: String,
    accepts_prefill: bool,
}

impl BedrockModel {
    /// The model with that id, ARN or inference profile, and whether it continues an answer that a prompt begins.
    pub fn new(client: Client, model_id: impl Into<String>, accepts_prefill: bool) -> Self {
        Self { client, model_id: model_id.into(), accepts_prefill }
    }
}

impl LanguageModel for BedrockModel {
    fn answer(&self, prompt: Prompt) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        async_stream::try_stream! {
            // Bedrock refuses a last message that ends in white space.
            let prefill = prompt.prefill.map(|text| text.trim_end().to_owned()).filter(|text| !text.is_empty());
            let prefill = prefill.map(|text| PromptMessage { role: Role::Assistant, text });
            let messages = prompt.messages.into_iter().chain(prefill).map(message).collect::<Result<Vec<_>, _>>()?;
            let answer = self
                .client
                .converse_stream()
                .model_id(&self.model_id)
                .system(SystemContentBlock::Text(prompt.system))
                .set_messages(Some(messages))
                .inference_config(
                    InferenceConfiguration::builder()
                        .max_tokens(i32::try_from(prompt.answer_tokens_max).unwrap_or(i32::MAX))
                        .temperature(TEMPERATURE)
                        .build(),
                )
                .send()
                .await
                .map_err(refused)?;
            let mut events = answer.stream;
            while let Some(event) = events.recv().await.map_err(broken_off)? {
                if let Some(event) = model_event(&event) {
                    yield event;
                }
            }
        }
    }

    fn accepts_prefill(&self) -> bool {
        self.accepts_prefill
    }
}

fn message(message: PromptMessage) -> Result<Message, ModelError> {
    let role = match message.role {
        Role::User => ConversationRole::User,
        Role::Assistant => ConversationRole::Assistant,
    };
    Message::builder()
        .role(role)
        .content(ContentBlock::Text(message.text))
        .build()
        .map_err(|error| ModelError::Refused(Box::new(error)))
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
