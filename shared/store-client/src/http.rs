//! Requests to the store's services, one attempt each.

use std::sync::OnceLock;
use std::time::Duration;

use domain::limits::{SERVICE_ANSWER_BYTES_MAX, SERVICE_CONNECT_MS};
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

/// Why there is no answer. Holds nothing of a question, an answer or a URL.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The breaker is open: the service was not asked.
    #[error("left alone, because it was down")]
    Spared,
    /// No answer, or not all of it, in time.
    #[error("no answer in time")]
    Late,
    /// The URL cannot be used, or no client can be made.
    #[error("no request could be made")]
    Unmade(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No connection, or it broke.
    #[error("the connection failed")]
    Disconnected(#[source] reqwest::Error),
    /// It has too much to do, or something is wrong with it.
    #[error("answered {status}")]
    Overwhelmed {
        /// 429 or 5xx.
        status: StatusCode,
        /// When it wants to be asked again, ms from now.
        retry_after_ms: Option<u64>,
    },
    /// It takes our request for wrong.
    #[error("answered {0}")]
    Refused(StatusCode),
    /// More than it may say.
    #[error("the answer is longer than {SERVICE_ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// Not what the contract says. What it says instead may be personal, so only the place is told.
    #[error("the answer is not what it should be at line {line}, column {column}")]
    Malformed {
        /// From 1; 0 if all of it is wrong.
        line: usize,
        /// From 1.
        column: usize,
    },
}

/// Without what is there instead.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed { line: error.line(), column: error.column() }
    }
}

impl Failure {
    /// Whether the same request may succeed a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Late | Self::Disconnected(_) | Self::Overwhelmed { .. } => true,
            Self::Spared | Self::Unmade(_) | Self::Refused(_) | Self::TooLong | Self::Malformed { .. } => false,
        }
    }

    /// Whether something is wrong with the service, not with the request.
    pub(crate) fn is_the_upstreams(&self) -> bool {
        match self {
            Self::Late | Self::Disconnected(_) | Self::Overwhelmed { .. } | Self::TooLong | Self::Malformed { .. } => {
                true
            }
            Self::Spared | Self::Unmade(_) | Self::Refused(_) => false,
        }
    }

    /// How long the service wants to be left alone, ms.
    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        if let Self::Overwhelmed { retry_after_ms, .. } = self { *retry_after_ms } else { None }
    }
}

/// One client for all services, and its pool of connections.
#[derive(Debug, Default)]
pub(crate) struct Http(OnceLock<Client>);

impl Http {
    /// A request to a service. The client is made with the first: reading the root certificates would be half of a cold
    /// start, and meanwhile admission is under way.
    pub(crate) fn get(&self, base_url: &str, path: &[&str]) -> Result<RequestBuilder, Failure> {
        let client = match self.0.get() {
            Some(client) => client,
            None => {
                // A service that sends us elsewhere would have a shopper's question sent there.
                let client = Client::builder()
                    .connect_timeout(Duration::from_millis(SERVICE_CONNECT_MS))
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|error| Failure::Unmade(error.without_url().into()))?;
                self.0.get_or_init(|| client)
            }
        };
        let mut url = Url::parse(base_url).map_err(|error| Failure::Unmade(error.into()))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        Ok(client.get(url))
    }
}

/// Asks once; none if there is no such thing.
pub(crate) async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<Option<T>, Failure> {
    let answer = request.send().await.map_err(disconnected)?;
    let status = answer.status();
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        return Err(Failure::Overwhelmed { status, retry_after_ms: retry_after_ms(&answer) });
    }
    if status.is_client_error() {
        return Err(Failure::Refused(status));
    }
    if !status.is_success() {
        return Err(Failure::Malformed { line: 0, column: 0 });
    }
    let body = read(answer).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// The body, as far as it may reach: a service that never ends is cut off.
async fn read(mut answer: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(disconnected)? {
        if body.len() + chunk.len() > SERVICE_ANSWER_BYTES_MAX {
            return Err(Failure::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// In seconds; a date is as good as nothing, for no pause we make is long enough for one.
fn retry_after_ms(answer: &Response) -> Option<u64> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

/// A URL holds what the shopper asked, which is not for logs.
fn disconnected(error: reqwest::Error) -> Failure {
    Failure::Disconnected(error.without_url())
}
