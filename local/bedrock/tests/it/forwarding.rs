use std::sync::{Arc, Mutex};

use aws_sdk_bedrockruntime::error::ProvideErrorMetadata;
use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamError;
use aws_sdk_bedrockruntime::types::{InferenceConfiguration, StopReason, SystemContentBlock};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bedrock_stand_in::{Config, ExceptionKind, Faults, MidStreamError};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{MODEL, answer, ask, assistant, start, stats_until, unpaced, user, within};

/// What an OpenAI-compatible server sends back, chunk by chunk.
struct Script {
    status: StatusCode,
    chunks: Vec<Vec<u8>>,
    stays_open: bool,
}

impl Script {
    fn ok(chunks: Vec<Vec<u8>>) -> Self {
        Self { status: StatusCode::OK, chunks, stays_open: false }
    }

    fn refusal(status: u16) -> Self {
        Self { status: StatusCode::from_u16(status).unwrap(), chunks: vec![b"no luck".to_vec()], stays_open: false }
    }
}

/// A server with one answer; it keeps the last request.
struct Upstream {
    url: String,
    asked: Arc<Mutex<Option<(HeaderMap, Value)>>>,
    _stop: DropGuard,
}

impl Upstream {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, script) = (Arc::new(Mutex::new(None)), Arc::new(script));
        let seen = Arc::clone(&asked);
        let answer = move |headers: HeaderMap, body: Bytes| {
            *seen.lock().unwrap() = Some((headers, serde_json::from_slice(&body).unwrap()));
            let response = respond(&script);
            async move { response }
        };
        let router = Router::new().route("/v1/chat/completions", post(answer));
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move { axum::serve(listener, router).with_graceful_shutdown(stopped).await });
        Self { url, asked, _stop: stop.drop_guard() }
    }

    fn config(&self) -> Config {
        Config { llm_url: Some(self.url.parse().unwrap()), ..unpaced() }
    }

    fn asked(&self) -> (HeaderMap, Value) {
        self.asked.lock().unwrap().clone().unwrap()
    }
}

fn respond(script: &Script) -> Response {
    let chunks = stream::iter(script.chunks.clone()).map(Ok::<_, std::convert::Infallible>);
    let body =
        if script.stays_open { Body::from_stream(chunks.chain(stream::pending())) } else { Body::from_stream(chunks) };
    (script.status, body).into_response()
}

fn event(chunk: &Value) -> String {
    format!("data: {chunk}\n\n")
}

fn delta(text: &str) -> String {
    event(&json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] }))
}

fn finish(reason: &str) -> String {
    event(&json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] }))
}

fn hello() -> String {
    let role = event(
        &json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] }),
    );
    let usage =
        event(&json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12 } }));
    [": a comment\n\n", &role, &delta("こんに"), &delta("ちは🎌"), &finish("stop"), &usage, "data: [DONE]\n\n"].concat()
}

fn bytes(text: &str) -> Vec<Vec<u8>> {
    text.bytes().map(|byte| vec![byte]).collect()
}

#[tokio::test]
async fn what_the_server_says_is_streamed_however_it_is_cut() {
    let crlf = hello().replace('\n', "\r\n");
    for chunks in [vec![hello().into_bytes()], bytes(&hello()), bytes(&crlf)] {
        let upstream = Upstream::start(Script::ok(chunks)).await;
        let (_stand_in, client) = start(upstream.config()).await;
        let said = answer(ask(&client, [user("やあ")])).await;
        assert_eq!(said.deltas, ["こんに", "ちは🎌"]);
        assert_eq!(said.stop_reason, StopReason::EndTurn);
        let usage = said.metadata.usage().unwrap();
        assert_eq!((usage.input_tokens(), usage.output_tokens(), usage.total_tokens()), (7, 5, 12));
    }
}

#[tokio::test]
async fn the_request_is_translated() {
    let upstream = Upstream::start(Script::ok(vec![hello().into_bytes()])).await;
    let llm_model = Some("tiny".to_owned());
    let (_stand_in, client) =
        start(Config { llm_key: Some("sesame".to_owned()), llm_model, ..upstream.config() }).await;
    let config =
        InferenceConfiguration::builder().max_tokens(9).temperature(0.5).top_p(0.25).stop_sequences("END").build();
    let messages = [user("one"), assistant("two"), user("three")];
    answer(ask(&client, messages).system(SystemContentBlock::Text("Be kind.".to_owned())).inference_config(config))
        .await;
    let (headers, body) = upstream.asked();
    assert_eq!(headers["authorization"], "Bearer sesame");
    let expected = json!({
        "model": "tiny",
        "messages": [
            { "role": "system", "content": "Be kind." },
            { "role": "user", "content": "one" },
            { "role": "assistant", "content": "two" },
            { "role": "user", "content": "three" },
        ],
        "max_tokens": 9, "temperature": 0.5, "top_p": 0.25, "stop": ["END"],
        "stream": true, "stream_options": { "include_usage": true },
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn without_options_little_is_sent_and_tokens_are_estimated() {
    let answered = [delta("one two three"), finish("length")].concat();
    let upstream = Upstream::start(Script::ok(vec![answered.into_bytes()])).await;
    let (_stand_in, client) = start(upstream.config()).await;
    let said = answer(ask(&client, [user("count")])).await;
    assert_eq!((said.stop_reason.clone(), said.output_tokens()), (StopReason::MaxTokens, 3));
    let (headers, body) = upstream.asked();
    assert!(!headers.contains_key("authorization"));
    assert_eq!(body["model"], MODEL);
    assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
}

#[tokio::test]
async fn refusals_become_bedrock_exceptions() {
    use ConverseStreamError as Error;
    type IsIt = fn(&Error) -> bool;
    let cases: [(u16, IsIt); 8] = [
        (400, Error::is_validation_exception),
        (401, Error::is_access_denied_exception),
        (404, Error::is_resource_not_found_exception),
        (422, Error::is_validation_exception),
        (429, Error::is_throttling_exception),
        (500, Error::is_internal_server_exception),
        (503, Error::is_service_unavailable_exception),
        (504, Error::is_model_timeout_exception),
    ];
    for (status, is_it) in cases {
        let upstream = Upstream::start(Script::refusal(status)).await;
        let (stand_in, client) = start(upstream.config()).await;
        let error = ask(&client, [user("a")]).send().await.unwrap_err().into_service_error();
        assert!(is_it(&error), "{status}: {error:?}");
        assert!(error.message().unwrap().contains("no luck"), "{error:?}");
        assert_eq!((stand_in.stats().streams_active, stand_in.stats().cancelled), (0, 0));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}").parse().unwrap();
    let (_stand_in, client) = start(Config { llm_url: Some(url), ..unpaced() }).await;
    let error = ask(&client, [user("a")]).send().await.unwrap_err().into_service_error();
    assert!(error.is_service_unavailable_exception(), "{error:?}");
}

#[tokio::test]
async fn a_broken_stream_is_an_error_of_the_stream() {
    let failure = event(&json!({ "error": { "message": "out of memory" } }));
    for end in [String::new(), "data: {\n\n".to_owned(), failure, "data: [DONE]\n\n".to_owned()] {
        let upstream = Upstream::start(Script::ok(vec![(delta("well") + &end).into_bytes()])).await;
        let (stand_in, client) = start(upstream.config()).await;
        let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
        assert!(within(stream.recv()).await.unwrap().unwrap().is_message_start());
        assert!(within(stream.recv()).await.unwrap().unwrap().is_content_block_delta());
        let error = within(stream.recv()).await.unwrap_err().into_service_error();
        assert!(error.is_model_stream_error_exception(), "{end}: {error:?}");
        assert_eq!(stand_in.stats().cancelled, 0);
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let script = Script { stays_open: true, ..Script::ok(vec![delta("well").into_bytes()]) };
    let upstream = Upstream::start(script).await;
    let (_stand_in, client) = start(Config { llm_stall_ms: 50, ..upstream.config() }).await;
    let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
    let error = loop {
        match within(stream.recv()).await {
            Ok(event) => assert!(!event.unwrap().is_message_stop()),
            Err(error) => break error.into_service_error(),
        }
    };
    assert!(error.is_model_stream_error_exception(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_never_begins_is_a_model_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (_stand_in, client) = start(Config { llm_url: Some(url), llm_stall_ms: 50, ..unpaced() }).await;
    let error = ask(&client, [user("a")]).send().await.unwrap_err().into_service_error();
    assert!(error.is_model_timeout_exception(), "{error:?}");
}

#[tokio::test]
async fn leaving_and_faults_work_on_forwarded_answers_too() {
    let script = Script { stays_open: true, ..Script::ok(vec![delta("one two three").into_bytes()]) };
    let upstream = Upstream::start(script).await;
    let (stand_in, client) = start(upstream.config()).await;
    let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
    while !within(stream.recv()).await.unwrap().unwrap().is_content_block_delta() {}
    drop(stream);
    let stats = stats_until(&stand_in, |stats| stats.streams_active == 0).await;
    assert_eq!((stats.cancelled, stats.tokens), (1, 3));

    let error = MidStreamError { rate: 1.0, after_tokens: 0, exception: ExceptionKind::Throttling };
    stand_in.set_faults(Faults { mid_stream_error: Some(error), ..Faults::default() });
    let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
    assert!(within(stream.recv()).await.unwrap().unwrap().is_message_start());
    assert!(within(stream.recv()).await.unwrap_err().into_service_error().is_throttling_exception());
}
