//! An OpenSearch endpoint: JSON in signed requests.

use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use domain::ports::{Clock, Unavailable};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::OpenSearchConfiguration;
use crate::table::unavailable;

/// Making a connection, ms.
const CONNECT_MS: u64 = 300;

/// An answer, bytes: forty articles of 8 KB in both languages, and what OpenSearch says of each.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the environment has no credentials")]
    NoCredentials,
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

/// What OpenSearch answered.
pub(super) struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

impl Answer {
    /// The answer, if the request succeeded. The body of a failure may hold the question, which is not for logs.
    pub(super) fn read<T: DeserializeOwned>(self, operation: &'static str) -> Result<T, Unavailable> {
        if !self.status.is_success() {
            return Err(unavailable(operation)(Failure::Status(self.status)));
        }
        serde_json::from_slice(&self.body).map_err(unavailable(operation))
    }

    /// Whether a request failed for this reason.
    pub(super) fn failed_with(&self, kind: &str) -> bool {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        !self.status.is_success() && body.pointer("/error/type").and_then(Value::as_str) == Some(kind)
    }
}

/// The endpoint of a domain or a collection, with one pool of connections.
#[derive(Debug)]
pub(super) struct Endpoint<C> {
    url: String,
    region: String,
    credentials: Option<SharedCredentialsProvider>,
    clock: C,
    answer_ms: u64,
    client: OnceLock<Client>,
}

impl<C: Clock> Endpoint<C> {
    /// An endpoint that answers within `answer_ms`, or fails.
    pub(super) fn new(configuration: &OpenSearchConfiguration, sdk: &SdkConfig, clock: C, answer_ms: u64) -> Self {
        Self {
            url: configuration.endpoint.clone(),
            region: configuration.region.clone(),
            credentials: sdk.credentials_provider(),
            clock,
            answer_ms,
            client: OnceLock::new(),
        }
    }

    /// Sends JSON, signed, and reads what is answered, whatever it is.
    pub(super) async fn send(
        &self,
        operation: &'static str,
        method: Method,
        path: &[&str],
        parameter: Option<(&str, &str)>,
        body: &Value,
    ) -> Result<Answer, Unavailable> {
        let mut url = Url::parse(&self.url).map_err(unavailable(operation))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if let Some((name, value)) = parameter {
            url.query_pairs_mut().append_pair(name, value);
        }
        let client = self.client(operation)?;
        let json = body.to_string();
        let request = client.request(method, url).header(CONTENT_TYPE, "application/json").body(json.clone());
        let mut request = request.build().map_err(unavailable(operation))?;
        self.sign(operation, &mut request, json.as_bytes()).await?;
        let mut answer = client.execute(request).await.map_err(unavailable(operation))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unavailable(operation))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(unavailable(operation)(Failure::TooLarge));
            }
        }
        Ok(Answer { status, body })
    }

    /// Adds the signature (Signature Version 4). A serverless collection also wants the digest of the body in a header.
    async fn sign(&self, operation: &'static str, request: &mut Request, body: &[u8]) -> Result<(), Unavailable> {
        let provider = self.credentials.as_ref().ok_or_else(|| unavailable(operation)(Failure::NoCredentials))?;
        let credentials = provider.provide_credentials().await.map_err(unavailable(operation))?;
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service(request.url()))
            .time(UNIX_EPOCH + Duration::from_millis(self.clock.now_ms()))
            .settings(settings)
            .build()
            .map_err(unavailable(operation))?;
        let signed = [(CONTENT_TYPE.as_str(), "application/json")].into_iter();
        let signable =
            SignableRequest::new(request.method().as_str(), request.url().as_str(), signed, SignableBody::Bytes(body));
        let signed = sign(signable.map_err(unavailable(operation))?, &parameters.into());
        let (instructions, _signature) = signed.map_err(unavailable(operation))?.into_parts();
        for (name, value) in instructions.headers() {
            let name = HeaderName::try_from(name).map_err(unavailable(operation))?;
            request.headers_mut().insert(name, HeaderValue::try_from(value).map_err(unavailable(operation))?);
        }
        Ok(())
    }

    /// The client, which is made with the first request, as those of the SDK.
    fn client(&self, operation: &'static str) -> Result<&Client, Unavailable> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::builder()
            .connect_timeout(Duration::from_millis(CONNECT_MS))
            .timeout(Duration::from_millis(self.answer_ms))
            .build()
            .map_err(unavailable(operation))?;
        Ok(self.client.get_or_init(|| client))
    }
}

/// The name a signature has for the service: collections (`….aoss.amazonaws.com`) have another than domains.
fn service(url: &Url) -> &'static str {
    match url.host_str().is_some_and(|host| host.ends_with(".aoss.amazonaws.com")) {
        true => "aoss",
        false => "es",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_another_service_than_a_domain() {
        for (url, expected) in [
            ("https://search-help-abc.ap-northeast-1.es.amazonaws.com", "es"),
            ("https://abc123.ap-northeast-1.aoss.amazonaws.com", "aoss"),
            ("https://aoss.amazonaws.com.example.org", "es"),
            ("http://127.0.0.1:9200", "es"),
        ] {
            assert_eq!(service(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
