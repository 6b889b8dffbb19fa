//! Wires `disconnect` to its table.

use std::sync::Arc;

use aws_adapters::configuration::{DisconnectConfiguration, environment};
use aws_adapters::{DynamoDbConnections, SystemClock, clients, telemetry};
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("disconnect");
    let configuration = DisconnectConfiguration::from_lookup(environment)?;
    let dynamodb = clients::dynamodb(&clients::sdk_config().await);
    let connections = Arc::new(DynamoDbConnections::new(dynamodb, configuration.table_name, SystemClock));
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let connections = connections.clone();
        async move { Ok::<_, Error>(disconnect::handle(&*connections, event.payload).await) }
    }))
    .await
}
