//! The client against services and a Valkey of a test's making.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod cache;
mod calls;
mod clock;
mod fake;
mod requests;
mod server;
mod shop;
mod valkey;

use std::sync::Arc;
use std::time::Duration;

use domain::guard::Guard;
use domain::ports::Unavailable;
use store_client::{ServiceConfiguration, StoreClient, StoreConfiguration, ValkeyConfiguration};
use testkit::{RecordedMetrics, ScriptedHints};

use crate::clock::SkippingClock;

/// Long enough for any machine; reaching it is a failure, never a pass.
const PATIENCE: Duration = Duration::from_secs(60);

const KEY: &str = "a-service-key";

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not done in {PATIENCE:?}"))
}

/// Why it failed.
#[track_caller]
fn failure<T: std::fmt::Debug>(result: Result<T, Unavailable>) -> Unavailable {
    match result {
        Ok(value) => panic!("did not fail: {value:?}"),
        Err(error) => error,
    }
}

/// A service whose attempts may take a second.
fn service(url: &str) -> ServiceConfiguration {
    ServiceConfiguration { url: url.to_owned(), timeout_ms: 1_000 }
}

/// All services at one URL.
fn at(url: &str) -> StoreConfiguration {
    StoreConfiguration {
        catalog: service(url),
        recommendations: service(url),
        orders: service(url),
        promotions: service(url),
        reviews: service(url),
        knowledge: service(url),
        store_key: KEY.to_owned(),
    }
}

type Client = StoreClient<SkippingClock, RecordedMetrics, ScriptedHints>;

/// A client and what it is told and tells.
struct World {
    client: Client,
    clock: SkippingClock,
    metrics: RecordedMetrics,
    hints: ScriptedHints,
}

impl World {
    fn new(configuration: StoreConfiguration) -> Self {
        Self::with(configuration, None, SkippingClock::slower(20))
    }

    fn with(configuration: StoreConfiguration, valkey: Option<ValkeyConfiguration>, clock: SkippingClock) -> Self {
        let (metrics, hints) = (RecordedMetrics::default(), ScriptedHints::default());
        let guard = Arc::new(Guard::new(clock.clone(), metrics.clone(), hints.clone()));
        let client = StoreClient::new(configuration, valkey, guard);
        Self { client, clock, metrics, hints }
    }
}
