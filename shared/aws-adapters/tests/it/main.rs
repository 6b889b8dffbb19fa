//! The adapters against what they talk to: a DynamoDB engine, the Bedrock stand-in, and servers of one test each.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod buckets;
mod budgets;
mod connections;
mod dead_letters;
mod engine;
mod events;
mod fake;
mod follow_ups;
mod hints;
mod identity;
mod model;
mod opensearch;
mod quarantine;
mod queues;
mod sender;
mod turns;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use domain::ports::Unavailable;

/// Long enough for any machine; reaching it is a failure, never a pass.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not done in {PATIENCE:?}"))
}

/// An environment whose every service is at `url`.
fn environment(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
        .endpoint_url(url)
        .build()
}

/// Why it failed.
#[track_caller]
fn failure<T: std::fmt::Debug>(result: Result<T, Unavailable>) -> Unavailable {
    match result {
        Ok(value) => panic!("did not fail: {value:?}"),
        Err(error) => error,
    }
}
