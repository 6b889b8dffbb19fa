//! Wires `watchdog` to the real table, queues and topic.

use std::sync::Arc;

use aws_adapters::configuration::{WatchdogConfiguration, environment};
use aws_adapters::{WatchdogAdapters, clients, telemetry};
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("watchdog");
    let configuration = WatchdogConfiguration::from_lookup(environment)?;
    let adapters = Arc::new(WatchdogAdapters::new(&clients::sdk_config().await, &configuration));
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let adapters = adapters.clone();
        async move { Ok::<_, Error>(watchdog::handle(&adapters.ports, &adapters.events, event.payload).await) }
    }))
    .await
}
