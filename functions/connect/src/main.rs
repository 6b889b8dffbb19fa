//! Wires `connect` to its table.

use std::sync::Arc;

use aws_adapters::configuration::{ConnectConfiguration, environment};
use aws_adapters::{DynamoDbBuckets, DynamoDbConnections, RandomNonces, SystemClock, clients, telemetry};
use connect::Connect;
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("connect");
    let ConnectConfiguration { table_name, session_key } = ConnectConfiguration::from_lookup(environment)?;
    let dynamodb = clients::dynamodb(&clients::sdk_config().await);
    let connect = Arc::new(Connect {
        connections: DynamoDbConnections::new(dynamodb.clone(), &table_name, SystemClock),
        buckets: DynamoDbBuckets::new(dynamodb, &table_name),
        clock: SystemClock,
        nonces: RandomNonces,
        session_key,
    });
    run_concurrent(service_fn(move |event: LambdaEvent<_>| {
        let connect = connect.clone();
        async move { Ok::<_, Error>(connect.handle(event.payload).await) }
    }))
    .await
}
