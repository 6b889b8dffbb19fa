//! Invoking functions.

use std::time::Duration;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_lambda::error::DisplayErrorContext;
use aws_sdk_lambda::primitives::Blob;
use http::StatusCode;
use serde::Deserialize;

use crate::events::{ProxyResponse, Request};

/// Time to connect to the Invoke endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The settings every client of the gateway's has: no retries (API Gateway invokes once), a connect timeout, and no
/// read timeout, because a function may be silent up to the integration timeout, which the gateway keeps itself.
#[must_use]
pub fn invoke_settings(settings: aws_sdk_lambda::config::Builder) -> aws_sdk_lambda::config::Builder {
    settings
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// A client for an Invoke endpoint that checks no signatures, such as `cargo lambda watch`, `sam local start-lambda`,
/// MiniStack or LocalStack.
#[must_use]
pub fn local_invoke_client(endpoint_url: &str, region: &str) -> Client {
    let settings = aws_sdk_lambda::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint_url)
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::new("test", "test", None, None, "local"));
    Client::from_conf(invoke_settings(settings).build())
}

/// Why an invocation gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvokeError {
    #[error("the function did not answer in time")]
    TimedOut,
    #[error("the function failed ({error_type})")]
    Function { error_type: String, error_message: String },
    #[error("the Invoke endpoint failed: {0}")]
    Endpoint(String),
    #[error("the function's answer is malformed")]
    Malformed,
}

impl InvokeError {
    /// The text the client is told.
    pub(crate) fn message(&self) -> &'static str {
        match self {
            Self::TimedOut => "Endpoint request timed out",
            Self::Function { .. } | Self::Endpoint(_) | Self::Malformed => "Internal server error",
        }
    }

    /// The status of a handshake that fails with it.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Function { .. } | Self::Endpoint(_) | Self::Malformed => StatusCode::BAD_GATEWAY,
        }
    }

    pub(crate) fn log(&self, function: &str, request: &Request<'_>) {
        tracing::warn!(
            function,
            route_key = request.route_key,
            connection_id = request.connection.connection_id,
            request_id = request.id,
            error = %self,
            "integration failed"
        );
    }
}

/// The payload of a failed invocation.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FunctionError {
    error_type: String,
    error_message: String,
}

/// Invokes a function once and waits for its answer.
pub(crate) async fn invoke(
    client: &Client,
    function: &str,
    event: Vec<u8>,
    timeout: Duration,
) -> Result<Vec<u8>, InvokeError> {
    let request = client.invoke().function_name(function).payload(Blob::new(event)).send();
    let output = tokio::time::timeout(timeout, request)
        .await
        .map_err(|_| InvokeError::TimedOut)?
        .map_err(|error| InvokeError::Endpoint(DisplayErrorContext(error).to_string()))?;
    let failed = output.function_error.is_some();
    let payload = output.payload.map(Blob::into_inner).unwrap_or_default();
    if failed {
        // A payload that is not an error object still is a failure; only its description is missing.
        let FunctionError { error_type, error_message } = serde_json::from_slice(&payload).unwrap_or_default();
        return Err(InvokeError::Function { error_type, error_message });
    }
    Ok(payload)
}

/// Invokes a function behind a route.
pub(crate) async fn integrate(
    client: &Client,
    function: &str,
    event: Vec<u8>,
    timeout: Duration,
) -> Result<ProxyResponse, InvokeError> {
    let payload = invoke(client, function, event, timeout).await?;
    let response: ProxyResponse = serde_json::from_slice(&payload).map_err(|_| InvokeError::Malformed)?;
    // An HTTP response ends with a status of 200 or more; below are interim ones.
    if (200..600).contains(&response.status_code) { Ok(response) } else { Err(InvokeError::Malformed) }
}
