//! A server that a test writes: it notes what it is asked and answers, keeps silent or hangs up.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Path and query, still encoded.
    pub target: String,
    pub headers: HeaderMap,
}

/// A server on a loopback port; it ends with this value.
pub struct Fake {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _server: JoinSet<()>,
}

impl Fake {
    /// Serves what `answer` makes of each path and query.
    pub async fn start<A>(answer: impl Fn(String) -> A + Clone + Send + Sync + 'static) -> Self
    where
        A: Future<Output = Response> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let router = Router::new().fallback(move |request: Request| {
            let asked = Asked { target: request.uri().to_string(), headers: request.headers().clone() };
            noted.lock().unwrap().push(asked.clone());
            answer(asked.target)
        });
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked, _server: server }
    }

    /// Answers every request alike.
    pub async fn always(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self::start(move |_| std::future::ready((status, body.clone()).into_response())).await
    }

    /// Takes requests and never answers.
    pub async fn silent() -> Self {
        Self::start(|_| std::future::pending()).await
    }

    /// What it was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Paths and queries of what it was asked so far, in order.
    pub fn targets(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.target).collect()
    }

    /// Waits until it has been asked so often.
    pub async fn is_asked(&self, times: usize) {
        while self.asked().len() < times {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// How often a path was asked for.
    pub fn times(&self, path: &str) -> usize {
        self.targets().iter().filter(|target| target.split('?').next() == Some(path)).count()
    }
}

/// A port on which nobody listens, for it takes a system's rights to do so.
pub const NOBODY: &str = "http://127.0.0.1:1";

/// Takes connections and closes them without a word.
pub async fn hanging_up() -> (String, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
        }
    });
    (url, server)
}
