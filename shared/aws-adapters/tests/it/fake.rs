//! A server that a test writes: it notes what it is asked and answers, keeps silent or hangs up.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query, still encoded.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    async fn read(request: hyper::Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
        Self { target: head.uri.to_string(), headers: head.headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A server on a loopback port; it ends with this value.
pub struct Fake {
    pub url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct HungUp;

impl std::fmt::Display for HungUp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("hung up")
    }
}

impl std::error::Error for HungUp {}

impl Fake {
    /// Serves what `answer` makes of each request; none closes the connection without a word.
    pub async fn start<A>(answer: impl Fn(Request) -> A + Clone + Send + Sync + 'static) -> Self
    where
        A: Future<Output = Option<Response>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&requests);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, noted) = (answer.clone(), Arc::clone(&noted));
                let service = service_fn(move |request| {
                    let (answer, noted) = (answer.clone(), Arc::clone(&noted));
                    async move {
                        let request = Request::read(request).await;
                        noted.lock().unwrap().push(request.clone());
                        answer(request).await.ok_or(HungUp)
                    }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, requests, _server: server }
    }

    /// Answers every request alike.
    pub async fn always(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::start(move |_| std::future::ready(Some((status, body.clone()).into_response()))).await
    }

    /// Takes requests and never answers.
    pub async fn silent() -> Self {
        Self::start(|_| std::future::pending()).await
    }

    /// What it was asked so far, in order.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// The URL of a port on which nobody listens.
pub async fn nobody() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
