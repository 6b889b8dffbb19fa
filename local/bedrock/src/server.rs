//! The HTTP side: the three operations of Bedrock Runtime, and the stand-in's own controls under `/_stand-in`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use async_stream::stream;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::{ConverseRequest, Message, Role, Usage};
use crate::exception::{Exception, ExceptionKind};
use crate::forward::Upstream;
use crate::generation::{self, Pace, Piece, Pieces};
use crate::guardrail::{ApplyRequest, WordFilter};
use crate::prompt::Prompt;
use crate::wire::{self, Event};
use crate::{Config, Faults, Reply, answer, tokens};

/// So many requests are kept for [`crate::StandIn::requests`].
pub const REQUESTS_RECORDED_MAX: usize = 256;
/// "Max allowed payload of 25,000,000 bytes", as for `InvokeModel` in the Bedrock Runtime API reference.
const REQUEST_BYTES_MAX: usize = 25_000_000;

/// An operation of Bedrock Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `POST /model/{modelId}/converse`
    Converse,
    /// `POST /model/{modelId}/converse-stream`
    ConverseStream,
    /// `POST /guardrail/{guardrailIdentifier}/version/{guardrailVersion}/apply`
    ApplyGuardrail,
}

/// A request as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What was asked for.
    pub operation: Operation,
    /// The id or ARN of the model or guardrail, decoded.
    pub resource: String,
    /// The JSON body.
    pub body: Value,
    /// When it came, Unix milliseconds.
    pub at_ms: u64,
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Calls of Bedrock Runtime, refused ones included.
    pub calls: u64,
    /// Answers in the making now.
    pub streams_active: u64,
    /// Answers whose client went away before the end.
    pub cancelled: u64,
    /// Tokens said.
    pub tokens: u64,
}

/// What all calls share.
pub(crate) struct Bedrock {
    pace: Pace,
    filter: WordFilter,
    upstream: Option<Upstream>,
    faults: Mutex<Faults>,
    script: Mutex<VecDeque<Reply>>,
    requests: Mutex<VecDeque<Request>>,
    calls: AtomicU64,
    streams_active: AtomicU64,
    cancelled: AtomicU64,
    tokens: AtomicU64,
    stopping: CancellationToken,
}

impl Bedrock {
    pub fn new(config: Config, stopping: CancellationToken) -> Self {
        Self {
            pace: Pace::new(config.first_token_ms, config.tokens_per_second),
            filter: WordFilter::new(&config.blocked_words),
            upstream: Upstream::of(&config),
            faults: Mutex::new(config.faults),
            script: Mutex::default(),
            requests: Mutex::default(),
            calls: AtomicU64::new(0),
            streams_active: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            stopping,
        }
    }

    pub fn set_faults(&self, faults: Faults) {
        *locked(&self.faults) = faults;
    }

    pub fn faults(&self) -> Faults {
        locked(&self.faults).clone()
    }

    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        locked(&self.script).extend(replies);
    }

    pub fn requests(&self) -> Vec<Request> {
        locked(&self.requests).iter().cloned().collect()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            calls: self.calls.load(Ordering::Relaxed),
            streams_active: self.streams_active.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            tokens: self.tokens.load(Ordering::Relaxed),
        }
    }

    fn record(&self, operation: Operation, resource: &str, body: Value) {
        let mut requests = locked(&self.requests);
        if requests.len() == REQUESTS_RECORDED_MAX {
            requests.pop_front();
        }
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let at_ms = u64::try_from(at_ms).unwrap_or(u64::MAX);
        requests.push_back(Request { operation, resource: resource.to_owned(), body, at_ms });
    }

    /// Begins the answer to a call of `Converse` or `ConverseStream`.
    async fn begin(self: Arc<Self>, operation: Operation, model_id: &str, body: &[u8]) -> Result<Answer, Exception> {
        let begun = Instant::now();
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let (body, request) = parsed::<ConverseRequest>(body)?;
        request.validate()?;
        self.record(operation, model_id, body);
        let mut under_way = UnderWay::new(Arc::clone(&self));
        let pieces = self.pieces(call, model_id, &request).await.inspect_err(|_| under_way.ended = true)?;
        let pieces = pieces.take_until(self.stopping.clone().cancelled_owned()).boxed();
        Ok(Answer { pieces, under_way, input_tokens: request.input_tokens(), output_tokens: 0, begun })
    }

    async fn pieces(&self, call: u64, model_id: &str, request: &ConverseRequest) -> Result<Pieces, Exception> {
        let guarded = |pieces| match &request.guardrail_config {
            Some(_) => generation::guarded(pieces, self.filter.clone()),
            None => pieces,
        };
        let question = request.messages.iter().rfind(|message| message.role == Role::User).map(Message::text);
        let question = question.unwrap_or_default();
        if let Some(reply) = self.scripted(&question) {
            return match reply.refusal {
                Some(exception) => Err(exception),
                None => Ok(guarded(generation::scripted(reply))),
            };
        }
        let faults = self.faults().of_model(model_id);
        faults.admit(call)?;
        if request.guardrail_config.is_some() && !self.filter.matches(&request.guarded_text()).is_empty() {
            return Ok(generation::blocked());
        }
        let pieces = match &self.upstream {
            Some(upstream) => upstream.ask(model_id, request).await?,
            None => self.own(request),
        };
        Ok(guarded(generation::on_course(pieces, faults.course(call))))
    }

    /// Takes the first reply in the script that fits.
    fn scripted(&self, question: &str) -> Option<Reply> {
        let mut script = locked(&self.script);
        let at = script.iter().position(|reply| reply.fits(question))?;
        script.remove(at)
    }

    /// The stand-in's own answer.
    fn own(&self, request: &ConverseRequest) -> Pieces {
        let prompt = Prompt::of(request);
        let text = match request.prefill() {
            Some(prefill) => answer::continuation(&prompt, &prefill),
            None => answer::answer(&prompt),
        };
        let config = &request.inference_config;
        let max_tokens = config.max_tokens.and_then(|max| usize::try_from(max).ok());
        let (tokens, stop_reason) = tokens::limited(&text, max_tokens, &config.stop_sequences);
        generation::paced(tokens, stop_reason, self.pace)
    }
}

/// An answer and what is counted about it.
struct Answer {
    pieces: Pieces,
    under_way: UnderWay,
    input_tokens: u64,
    output_tokens: u64,
    begun: Instant,
}

impl Answer {
    /// The next piece; `None` when the stand-in stops before the answer ends.
    async fn next(&mut self) -> Option<Result<Piece, Exception>> {
        let piece = self.pieces.next().await?;
        match &piece {
            Ok(Piece::Text(text)) => {
                let said = tokens::count(text);
                self.output_tokens += said;
                self.under_way.bedrock.tokens.fetch_add(said, Ordering::Relaxed);
            }
            Ok(Piece::End { .. }) | Err(_) => self.under_way.ended = true,
        }
        Some(piece)
    }

    fn usage(&self, counted: Option<Usage>) -> Usage {
        counted.unwrap_or_else(|| Usage::new(self.input_tokens, self.output_tokens))
    }

    fn latency_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn events(mut self) -> impl Stream<Item = Event> {
        stream! {
            yield Event::MessageStart;
            while let Some(piece) = self.next().await {
                match piece {
                    Ok(Piece::Text(text)) => yield Event::ContentBlockDelta { text },
                    Ok(Piece::End { stop_reason, usage }) => {
                        yield Event::ContentBlockStop;
                        yield Event::MessageStop { stop_reason };
                        yield Event::Metadata { usage: self.usage(usage), latency_ms: self.latency_ms() };
                    }
                    Err(exception) => yield Event::Exception(exception),
                }
            }
        }
    }

    async fn whole(mut self) -> Result<Value, Exception> {
        let mut text = String::new();
        while let Some(piece) = self.next().await {
            match piece.map_err(Exception::unstreamed)? {
                Piece::Text(more) => text.push_str(&more),
                Piece::End { stop_reason, usage } => {
                    return Ok(json!({
                        "output": { "message": { "role": "assistant", "content": [{ "text": text }] } },
                        "stopReason": stop_reason,
                        "usage": self.usage(usage),
                        "metrics": { "latencyMs": self.latency_ms() },
                    }));
                }
            }
        }
        Err(Exception::new(ExceptionKind::ServiceUnavailable, "The stand-in is stopping."))
    }
}

/// Counts an answer as active while it lives, and as cancelled when it is dropped before its end.
struct UnderWay {
    bedrock: Arc<Bedrock>,
    ended: bool,
}

impl UnderWay {
    fn new(bedrock: Arc<Bedrock>) -> Self {
        bedrock.streams_active.fetch_add(1, Ordering::Relaxed);
        Self { bedrock, ended: false }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.ended {
            self.bedrock.cancelled.fetch_add(1, Ordering::Relaxed);
        }
        self.bedrock.streams_active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Every route of the server.
pub(crate) fn router(bedrock: Arc<Bedrock>) -> Router {
    Router::new()
        .route("/model/{model_id}/converse", post(converse))
        .route("/model/{model_id}/converse-stream", post(converse_stream))
        .route("/guardrail/{guardrail_id}/version/{version}/apply", post(apply_guardrail))
        .route("/_stand-in/faults", get(faults).put(put_faults))
        .route("/_stand-in/stats", get(stats))
        .fallback(unknown_operation)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(bedrock)
}

async fn converse(
    State(bedrock): State<Arc<Bedrock>>,
    Path(model_id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Exception> {
    bedrock.begin(Operation::Converse, &model_id, &body).await?.whole().await.map(Json)
}

async fn converse_stream(
    State(bedrock): State<Arc<Bedrock>>,
    Path(model_id): Path<String>,
    body: Bytes,
) -> Result<Response, Exception> {
    let answer = bedrock.begin(Operation::ConverseStream, &model_id, &body).await?;
    let frames = answer.events().map(Event::encode);
    Ok(([(CONTENT_TYPE, wire::CONTENT_TYPE)], Body::from_stream(frames)).into_response())
}

async fn apply_guardrail(
    State(bedrock): State<Arc<Bedrock>>,
    Path((guardrail_id, _version)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Exception> {
    let call = bedrock.calls.fetch_add(1, Ordering::Relaxed);
    let (body, request) = parsed::<ApplyRequest>(&body)?;
    let answer = bedrock.filter.apply(&request)?;
    bedrock.record(Operation::ApplyGuardrail, &guardrail_id, body);
    bedrock.faults().admit(call)?;
    Ok(answer)
}

async fn faults(State(bedrock): State<Arc<Bedrock>>) -> Json<Faults> {
    Json(bedrock.faults())
}

async fn put_faults(State(bedrock): State<Arc<Bedrock>>, Json(faults): Json<Faults>) -> Json<Faults> {
    bedrock.set_faults(faults.clone());
    Json(faults)
}

async fn stats(State(bedrock): State<Arc<Bedrock>>) -> Json<Stats> {
    Json(bedrock.stats())
}

async fn unknown_operation() -> Exception {
    Exception::new(ExceptionKind::UnknownOperation, "The stand-in knows no such operation.")
}

/// The body twice: as it came, and as it is read.
fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<(Value, T), Exception> {
    let malformed = |error| {
        Exception::validation(format!("Malformed input request: {error}, please reformat your input and try again."))
    };
    let value: Value = serde_json::from_slice(body).map_err(malformed)?;
    let request = T::deserialize(&value).map_err(malformed)?;
    Ok((value, request))
}

/// The data is whole even if a holder of the lock panicked: every change is one assignment or one queue operation.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
