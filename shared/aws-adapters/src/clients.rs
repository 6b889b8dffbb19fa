//! The AWS SDK's clients, with every timeout and retry said here.
//!
//! Built once for an execution environment: a client holds the connection pool and the resolved credentials.

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls;
use aws_smithy_runtime_api::client::http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

/// Attempts of one call, the first included (policy "retries": at most two).
const ATTEMPTS_MAX: u32 = 3;

/// First pause before a retry; it doubles, with full jitter.
const BACKOFF_MS: u64 = 50;

/// Making a connection, to any service.
const CONNECT_MS: u64 = 1_000;

/// The environment's region, credentials and endpoints, and one pool of connections for all clients.
pub async fn sdk_config() -> SdkConfig {
    let http = SharedHttpClient::new(MadeOnFirstUse::default());
    aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await
}

/// An HTTP client that is made with the first request. Reading the root certificates, half of a cold start, is then not in
/// the way of an environment that is started ahead of its first event.
#[derive(Debug, Default)]
struct MadeOnFirstUse(OnceLock<SharedHttpClient>);

impl HttpClient for MadeOnFirstUse {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let client = self.0.get_or_init(|| {
            aws_smithy_http_client::Builder::new()
                .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
                .build_https()
        });
        client.http_connector(settings, components)
    }
}

fn timeouts(attempt_ms: u64, operation_ms: u64) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(CONNECT_MS))
        .operation_attempt_timeout(Duration::from_millis(attempt_ms))
        .operation_timeout(Duration::from_millis(operation_ms))
        .build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX).with_initial_backoff(Duration::from_millis(BACKOFF_MS))
}

/// DynamoDB: an attempt in 1 s, a call with its retries in 3 s.
pub fn dynamodb(config: &SdkConfig) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::config::Builder::from(config)
        .timeout_config(timeouts(1_000, 3_000))
        .retry_config(retries())
        .build();
    aws_sdk_dynamodb::Client::from_conf(config)
}

/// `@connections`: an attempt in 1 s, a frame with its retries in 2 s.
pub fn api_gateway_management(config: &SdkConfig, callback_url: &str) -> aws_sdk_apigatewaymanagement::Client {
    let config = aws_sdk_apigatewaymanagement::config::Builder::from(config)
        .endpoint_url(callback_url)
        .timeout_config(timeouts(1_000, 2_000))
        .retry_config(retries())
        .build();
    aws_sdk_apigatewaymanagement::Client::from_conf(config)
}

/// Bedrock: the beginning of an answer in 4 s, with retries in 9 s, before the turn's owner calls it silent (10 s). Silence
/// within a stream is the turn's own limit, so the SDK's stalled-stream protection, which is stricter, is off.
pub fn bedrock_runtime(config: &SdkConfig) -> aws_sdk_bedrockruntime::Client {
    let config = aws_sdk_bedrockruntime::config::Builder::from(config)
        .timeout_config(timeouts(4_000, 9_000))
        .retry_config(retries())
        .stalled_stream_protection(aws_sdk_bedrockruntime::config::StalledStreamProtectionConfig::disabled())
        .build();
    aws_sdk_bedrockruntime::Client::from_conf(config)
}

/// Bedrock for the vector of a question: 400 ms, once. Who waits for it searches without, if it takes longer.
pub fn bedrock_embedding(config: &SdkConfig) -> aws_sdk_bedrockruntime::Client {
    let config = aws_sdk_bedrockruntime::config::Builder::from(config)
        .timeout_config(timeouts(400, 400))
        .retry_config(RetryConfig::disabled())
        .build();
    aws_sdk_bedrockruntime::Client::from_conf(config)
}

/// SNS: an attempt in 1 s, a call with its retries in 2 s.
pub fn sns(config: &SdkConfig) -> aws_sdk_sns::Client {
    let config = aws_sdk_sns::config::Builder::from(config)
        .timeout_config(timeouts(1_000, 2_000))
        .retry_config(retries())
        .build();
    aws_sdk_sns::Client::from_conf(config)
}

/// SQS: an attempt in 1 s, a call with its retries in 2 s.
pub fn sqs(config: &SdkConfig) -> aws_sdk_sqs::Client {
    sqs_within(config, timeouts(1_000, 2_000))
}

/// SQS for who waits a second for messages: an attempt in 3 s, a call with its retries in 6 s.
pub fn sqs_receiving(config: &SdkConfig) -> aws_sdk_sqs::Client {
    sqs_within(config, timeouts(3_000, 6_000))
}

fn sqs_within(config: &SdkConfig, timeouts: TimeoutConfig) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::config::Builder::from(config).timeout_config(timeouts).retry_config(retries()).build();
    aws_sdk_sqs::Client::from_conf(config)
}

/// EventBridge Scheduler: an attempt in 2 s, a call with its retries in 5 s.
pub fn scheduler(config: &SdkConfig) -> aws_sdk_scheduler::Client {
    let config = aws_sdk_scheduler::config::Builder::from(config)
        .timeout_config(timeouts(2_000, 5_000))
        .retry_config(retries())
        .build();
    aws_sdk_scheduler::Client::from_conf(config)
}
