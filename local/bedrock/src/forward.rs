//! Answers from an OpenAI-compatible server, streamed at its own pace.

use std::io;
use std::time::Duration;

use async_stream::try_stream;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use crate::Config;
use crate::api::{ContentBlock, ConverseRequest, Message, StopReason, Usage};
use crate::exception::{Exception, ExceptionKind};
use crate::generation::{Piece, Pieces};

/// How long the server may be silent by default, milliseconds: a large model reading a long prompt on a CPU takes its time.
pub const LLM_STALL_MS: u64 = 60_000;
/// The longest line of the server's event stream.
const LINE_BYTES_MAX: usize = 1 << 20;
/// How much of the server's error text is passed on.
const ERROR_BYTES_MAX: u64 = 500;

/// The server that answers instead.
pub(crate) struct Upstream {
    client: Client,
    completions: Url,
    key: Option<String>,
    model: Option<String>,
    stall: Duration,
}

/// One event of the server's stream, as far as it matters here.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<ChunkUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
}

#[derive(Deserialize)]
struct ChunkUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

impl Upstream {
    /// The server of the configuration, if it names one.
    pub fn of(config: &Config) -> Option<Self> {
        config.llm_url.as_ref().map(|url| Self {
            client: Client::new(),
            completions: completions(url),
            key: config.llm_key.clone(),
            model: config.llm_model.clone(),
            stall: Duration::from_millis(config.llm_stall_ms),
        })
    }

    /// Asks the server and returns once it began to answer.
    ///
    /// # Errors
    /// The exception of Bedrock that means the same to a client.
    pub async fn ask(&self, model_id: &str, request: &ConverseRequest) -> Result<Pieces, Exception> {
        let model = self.model.as_deref().unwrap_or(model_id);
        let mut asking = self.client.post(self.completions.clone()).json(&body(model, request));
        if let Some(key) = &self.key {
            asking = asking.bearer_auth(key);
        }
        let response = timeout(self.stall, asking.send())
            .await
            .map_err(|_| {
                Exception::new(ExceptionKind::ModelTimeout, "The forwarded-to server did not begin to answer in time.")
            })?
            .map_err(|error| {
                Exception::new(
                    ExceptionKind::ServiceUnavailable,
                    format!("The forwarded-to server cannot be reached: {error}"),
                )
            })?;
        if response.status().is_success() {
            Ok(pieces(response, self.stall))
        } else {
            Err(self.refused(response).await)
        }
    }

    async fn refused(&self, response: Response) -> Exception {
        let status = response.status();
        let mut text = Vec::new();
        let mut body = reader(response).take(ERROR_BYTES_MAX);
        // An error text that does not arrive is no reason to hide the error.
        let _read = timeout(self.stall, body.read_to_end(&mut text)).await;
        let text = String::from_utf8_lossy(&text);
        Exception::new(kind_of(status), format!("The forwarded-to server answered {status}: {text}"))
    }
}

/// `BASE`, `BASE/v1` and the full address all mean the same.
fn completions(url: &Url) -> Url {
    let base = url.path().trim_end_matches('/');
    let base = base.strip_suffix("/chat/completions").unwrap_or(base);
    let base = base.strip_suffix("/v1").unwrap_or(base);
    let path = format!("{base}/v1/chat/completions");
    let mut url = url.clone();
    url.set_path(&path);
    url
}

fn kind_of(status: StatusCode) -> ExceptionKind {
    match status.as_u16() {
        401 | 403 => ExceptionKind::AccessDenied,
        404 => ExceptionKind::ResourceNotFound,
        408 | 504 => ExceptionKind::ModelTimeout,
        429 => ExceptionKind::Throttling,
        503 => ExceptionKind::ServiceUnavailable,
        400..500 => ExceptionKind::Validation,
        _ => ExceptionKind::InternalServer,
    }
}

fn body(model: &str, request: &ConverseRequest) -> Value {
    let system: String = request.system.iter().map(ContentBlock::text).collect();
    let system = (!system.is_empty()).then(|| json!({ "role": "system", "content": system }));
    let said = request
        .messages
        .iter()
        .map(|message: &Message| json!({ "role": message.role.name(), "content": message.text() }));
    let mut body = json!({
        "model": model,
        "messages": system.into_iter().chain(said).collect::<Vec<Value>>(),
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    let config = &request.inference_config;
    let stop = (!config.stop_sequences.is_empty()).then(|| json!(config.stop_sequences));
    let options = [
        ("max_tokens", config.max_tokens.map(Value::from)),
        ("temperature", config.temperature.map(Value::from)),
        ("top_p", config.top_p.map(Value::from)),
        ("stop", stop),
    ];
    if let Some(body) = body.as_object_mut() {
        body.extend(options.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))));
    }
    body
}

fn reader(response: Response) -> impl tokio::io::AsyncRead + Send + Unpin {
    StreamReader::new(response.bytes_stream().map_err(io::Error::other).boxed())
}

fn pieces(response: Response, stall: Duration) -> Pieces {
    try_stream! {
        let mut lines = FramedRead::new(reader(response), LinesCodec::new_with_max_length(LINE_BYTES_MAX));
        let (mut stop_reason, mut usage) = (None, None);
        loop {
            let line = timeout(stall, lines.next()).await.map_err(|_| broken("fell silent"))?;
            let Some(line) = line.transpose().map_err(|error| broken(&format!("broke off: {error}")))? else { break };
            // Every event of this protocol is JSON on one line; other fields and comments mean nothing here.
            let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
            if data == "[DONE]" {
                break;
            }
            let chunk: Chunk = serde_json::from_str(data).map_err(|error| broken(&format!("sent no valid chunk: {error}")))?;
            if let Some(error) = chunk.error {
                Err(broken(&format!("failed: {error}")))?;
            }
            if let Some(counted) = chunk.usage {
                usage = Some(Usage::new(counted.prompt_tokens, counted.completion_tokens));
            }
            if let Some(choice) = chunk.choices.into_iter().next() {
                if let Some(reason) = choice.finish_reason {
                    stop_reason = Some(stop_reason_of(&reason));
                }
                if let Some(text) = choice.delta.content.filter(|text| !text.is_empty()) {
                    yield Piece::Text(text);
                }
            }
        }
        let stop_reason = stop_reason.ok_or_else(|| broken("ended without a finish reason"))?;
        yield Piece::End { stop_reason, usage };
    }
    .boxed()
}

fn stop_reason_of(finish_reason: &str) -> StopReason {
    match finish_reason {
        "length" => StopReason::MaxTokens,
        "content_filter" => StopReason::ContentFiltered,
        _ => StopReason::EndTurn,
    }
}

fn broken(how: &str) -> Exception {
    Exception::new(ExceptionKind::ModelStreamError, format!("The forwarded-to server {how}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_url_names_the_completions() {
        for url in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions"] {
            assert_eq!(completions(&url.parse().unwrap()).as_str(), "http://h:1/v1/chat/completions", "{url}");
        }
        assert_eq!(completions(&"http://h/api/v1".parse().unwrap()).as_str(), "http://h/api/v1/chat/completions");
    }
}
