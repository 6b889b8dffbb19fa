//! A stand-in for the Lambda Invoke endpoint: every invocation waits for the test to answer it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::soon;

pub(crate) struct Functions {
    url: String,
    arrivals: Mutex<Arrivals>,
    counters: Arc<Counters>,
    server: JoinHandle<()>,
}

struct Arrivals {
    channel: mpsc::UnboundedReceiver<Invocation>,
    /// Arrived before the test asked for them.
    waiting: VecDeque<Invocation>,
}

#[derive(Default)]
struct Counters {
    running: AtomicUsize,
    peak: AtomicUsize,
    total: AtomicUsize,
}

/// One invocation that waits for its answer. Dropped unanswered, it fails.
pub(crate) struct Invocation {
    function: String,
    pub(crate) event: Value,
    answer: oneshot::Sender<Response>,
}

impl Invocation {
    /// Whether somebody still waits for its answer.
    pub(crate) fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Ends it with a result.
    pub(crate) fn answer(self, result: &Value) {
        // The gateway may have given up on it.
        let _ = self.answer.send(result.to_string().into_response());
    }

    /// Ends it with an error of the function, as a handler's error does.
    pub(crate) fn fail(self, error_message: &str) {
        let error = json!({ "errorType": "Error", "errorMessage": error_message }).to_string();
        let _ = self.answer.send(([("x-amz-function-error", "Unhandled")], error).into_response());
    }

    /// Ends it without the function having run: the Invoke API itself refuses.
    pub(crate) fn throttle(self) {
        let error =
            json!({ "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded", "message": "Rate Exceeded." });
        let headers = [("x-amzn-errortype", "TooManyRequestsException")];
        let _ = self.answer.send((StatusCode::TOO_MANY_REQUESTS, headers, error.to_string()).into_response());
    }
}

type Inbox = (mpsc::UnboundedSender<Invocation>, Arc<Counters>);

async fn invoke(State((inbox, counters)): State<Inbox>, Path(function): Path<String>, payload: Bytes) -> Response {
    let (answer, answered) = oneshot::channel();
    let event = serde_json::from_slice(&payload).unwrap();
    let running = counters.running.fetch_add(1, Ordering::SeqCst) + 1;
    counters.peak.fetch_max(running, Ordering::SeqCst);
    counters.total.fetch_add(1, Ordering::SeqCst);
    inbox.send(Invocation { function, event, answer }).unwrap();
    let response = answered.await;
    counters.running.fetch_sub(1, Ordering::SeqCst);
    response.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

impl Functions {
    pub(crate) async fn start() -> Self {
        let (sender, channel) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let router = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .with_state((sender, Arc::clone(&counters)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, arrivals: Mutex::new(Arrivals { channel, waiting: VecDeque::new() }), counters, server }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The next invocation of a function; those of others keep their place.
    pub(crate) async fn invoked(&self, function: &str) -> Invocation {
        let mut arrivals = self.arrivals.lock().await;
        loop {
            if let Some(place) = arrivals.waiting.iter().position(|invocation| invocation.function == function) {
                return arrivals.waiting.remove(place).unwrap();
            }
            let invocation = soon(&format!("an invocation of {function}"), arrivals.channel.recv()).await.unwrap();
            arrivals.waiting.push_back(invocation);
        }
    }

    /// The most invocations that ever ran at once.
    pub(crate) fn peak(&self) -> usize {
        self.counters.peak.load(Ordering::SeqCst)
    }

    /// How many invocations there were.
    pub(crate) fn total(&self) -> usize {
        self.counters.total.load(Ordering::SeqCst)
    }
}

impl Drop for Functions {
    fn drop(&mut self) {
        self.server.abort();
    }
}
