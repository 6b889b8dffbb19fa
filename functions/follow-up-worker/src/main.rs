//! Wires `follow-up-worker` to the real store, model, table and queues.

use std::sync::Arc;

use aws_adapters::configuration::{WorkerConfiguration, environment};
use aws_adapters::{WorkerAdapters, clients, telemetry};
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("follow-up-worker");
    let configuration = WorkerConfiguration::from_lookup(environment)?;
    let adapters = Arc::new(WorkerAdapters::new(&clients::sdk_config().await, &configuration));
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let adapters = adapters.clone();
        async move {
            let handled = follow_up_worker::handle(&adapters.ports, &adapters.deliveries, event.payload).await;
            adapters.ports.flush_metrics();
            Ok::<_, Error>(handled)
        }
    }))
    .await
}
