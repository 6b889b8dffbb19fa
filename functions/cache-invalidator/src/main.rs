//! Wires `cache-invalidator` to the real table, cache and store.

use std::sync::Arc;

use aws_adapters::configuration::{InvalidatorConfiguration, environment};
use aws_adapters::{InvalidatorAdapters, SystemClock, clients, telemetry};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run_concurrent, service_fn};

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("cache-invalidator");
    let configuration = InvalidatorConfiguration::from_lookup(environment)?;
    let adapters = Arc::new(InvalidatorAdapters::new(&clients::sdk_config().await, &configuration));
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let adapters = adapters.clone();
        async move {
            let heeded =
                cache_invalidator::handle(&adapters.caches, &adapters.store, &SystemClock, &event.payload).await;
            adapters.metrics.flush();
            heeded.map_err(|failure| {
                tracing::error!(error = &failure as &dyn std::error::Error, "an event was not heeded");
                Diagnostic { error_type: "Failure".to_owned(), error_message: failure.to_string() }
            })
        }
    }))
    .await
}
