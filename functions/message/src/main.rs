//! Wires `message` to the real store, model and table.

use std::sync::Arc;

use aws_adapters::configuration::{MessageConfiguration, environment};
use aws_adapters::{Adapters, clients, telemetry};
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};
use message::Message;

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("message");
    let configuration = MessageConfiguration::from_lookup(environment)?;
    let ports = Adapters::new(&clients::sdk_config().await, &configuration);
    let message = Arc::new(Message { ports, session_key: configuration.session_key });
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let message = message.clone();
        async move {
            let answer = message.handle(event.payload).await;
            message.ports.flush_metrics();
            Ok::<_, Error>(answer)
        }
    }))
    .await
}
