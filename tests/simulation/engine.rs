//! The stores of a world in a DynamoDB engine.
//!
//! Virtual time stands still while the engine works: a call blocks the world until it is answered.

use std::net::Ipv4Addr;
use std::sync::Arc;

use aws_adapters::{DynamoDbBuckets, DynamoDbConnections, DynamoDbTurns};
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use testkit::ManualClock;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::stores::Stores;

const TABLE: &str = "chat";

/// An engine on a loopback port, with the table of template.yaml. Its server runs while a call does.
pub struct Engine {
    runtime: Runtime,
    client: Client,
}

impl Engine {
    pub fn start() -> Arc<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let client = client(&format!("http://{}", listener.local_addr().unwrap()));
            tokio::spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
            create_table(&client).await;
            client
        });
        Arc::new(Self { runtime, client })
    }
}

/// A client that waits as long as it takes: real time says nothing about a simulated world.
fn client(url: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
        .endpoint_url(url)
        .timeout_config(TimeoutConfig::disabled())
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

async fn create_table(client: &Client) {
    let attribute = |name: &str| {
        let definition = AttributeDefinition::builder().attribute_name(name);
        definition.attribute_type(ScalarAttributeType::S).build().unwrap()
    };
    let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
    let table = client.create_table().table_name(TABLE).billing_mode(BillingMode::PayPerRequest);
    let table = table.attribute_definitions(attribute("pk")).attribute_definitions(attribute("sk"));
    let table = table.key_schema(key("pk", KeyType::Hash)).key_schema(key("sk", KeyType::Range));
    table.send().await.unwrap();
}

/// The table, as a world on this clock sees it: what has expired by its time is gone.
#[derive(Clone)]
pub struct DynamoDb {
    engine: Arc<Engine>,
    clock: ManualClock,
}

impl DynamoDb {
    pub fn new(engine: &Arc<Engine>, clock: &ManualClock) -> Self {
        Self { engine: Arc::clone(engine), clock: clock.clone() }
    }
}

impl Stores for DynamoDb {
    type Turns = DynamoDbTurns<ManualClock>;
    type Connections = DynamoDbConnections<ManualClock>;
    type Buckets = DynamoDbBuckets;

    fn turns(&self) -> Self::Turns {
        DynamoDbTurns::new(self.engine.client.clone(), TABLE, self.clock.clone())
    }

    fn connections(&self) -> Self::Connections {
        DynamoDbConnections::new(self.engine.client.clone(), TABLE, self.clock.clone())
    }

    fn buckets(&self) -> Self::Buckets {
        DynamoDbBuckets::new(self.engine.client.clone(), TABLE)
    }

    fn call<T>(&self, call: impl Future<Output = T> + Send) -> impl Future<Output = T> + Send {
        // The futures of the SDK are large, and those around them would be larger.
        let call = Box::pin(call);
        async move { self.engine.runtime.block_on(call) }
    }
}
