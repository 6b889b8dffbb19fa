//! Wires `store-api` to its table.

use std::sync::Arc;

use aws_adapters::configuration::{StoreApiConfiguration, environment};
use aws_adapters::{SystemClock, clients, telemetry};
use lambda_http::{Error, run_concurrent, service_fn};
use store_api::dynamodb::DynamoDbTable;
use store_api::http::{Api, answer};
use store_api::store::Store;

fn main() -> Result<(), Error> {
    aws_adapters::runtime()?.block_on(run())
}

async fn run() -> Result<(), Error> {
    telemetry::init("store-api");
    let configuration = StoreApiConfiguration::from_lookup(environment)?;
    let client = clients::dynamodb(&clients::sdk_config().await);
    let table = DynamoDbTable::new(client, configuration.table_name);
    let store = Store::new(table, SystemClock, configuration.page_url);
    let api = Api { store, service_key: configuration.store_key };
    let routes = store_api::router(Arc::new(api));
    run_concurrent(service_fn(move |request| answer(routes.clone(), request))).await
}
