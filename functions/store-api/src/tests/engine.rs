//! The store's table in an engine of its own, and the store over it.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use domain::ports::Unavailable;
use serde::de::DeserializeOwned;
use serde_json::Value;
use testkit::ManualClock;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::dynamodb::DynamoDbTable;
use crate::http::{Api, router};
use crate::seed::Seed;
use crate::store::Store;
use crate::table::{Facts, Offer, PlacedOrder, Shopper, StoreTable};

pub const TABLE: &str = "store";
pub const PAGE_URL: &str = "https://store.example";
pub const SERVICE_KEY: &str = "a-store-key-for-samples-only-and-nothing-else";

/// A DynamoDB engine on a loopback port; it ends with this value.
pub struct Engine {
    pub client: Client,
    _server: JoinSet<()>,
}

/// A client for whatever listens on `port`.
pub fn client(port: u16) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(format!("http://{}:{port}", Ipv4Addr::LOCALHOST))
        .build();
    Client::from_conf(config)
}

impl Engine {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = client(listener.local_addr().unwrap().port());
        let mut server = JoinSet::new();
        server.spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
        let attribute = |name: &str| {
            let definition = AttributeDefinition::builder().attribute_name(name);
            definition.attribute_type(ScalarAttributeType::S).build().unwrap()
        };
        let key = |name: &str, kind| KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap();
        client
            .create_table()
            .table_name(TABLE)
            .billing_mode(BillingMode::PayPerRequest)
            .attribute_definitions(attribute("pk"))
            .attribute_definitions(attribute("sk"))
            .key_schema(key("pk", KeyType::Hash))
            .key_schema(key("sk", KeyType::Range))
            .send()
            .await
            .unwrap();
        Self { client, _server: server }
    }

    pub fn table(&self) -> DynamoDbTable {
        DynamoDbTable::new(self.client.clone(), TABLE)
    }

    /// Sets a number of a product's offer, as an operator would.
    pub async fn set_offer(&self, product_id: &str, attribute: &str, value: u64) {
        self.client
            .update_item()
            .table_name(TABLE)
            .key("pk", AttributeValue::S(format!("product#{product_id}")))
            .key("sk", AttributeValue::S("offer".to_owned()))
            .update_expression("SET #attribute = :value")
            .expression_attribute_names("#attribute", attribute)
            .expression_attribute_values(":value", AttributeValue::N(value.to_string()))
            .send()
            .await
            .unwrap();
    }

    /// Deletes an item.
    pub async fn delete(&self, pk: &str, sk: &str) {
        let request = self.client.delete_item().table_name(TABLE);
        let request = request.key("pk", AttributeValue::S(pk.to_owned())).key("sk", AttributeValue::S(sk.to_owned()));
        request.send().await.unwrap();
    }

    /// How many items the table holds.
    pub async fn items(&self) -> usize {
        let pages = self.client.scan().table_name(TABLE).into_paginator().items().send();
        pages.collect::<Result<Vec<_>, _>>().await.unwrap().len()
    }
}

/// A table that can be made to fail, and counts how often it was seeded and its facts were read.
#[derive(Clone)]
pub struct Flaky {
    inner: DynamoDbTable,
    pub failing: Arc<AtomicBool>,
    pub seedings: Arc<AtomicU32>,
    pub readings: Arc<AtomicU32>,
}

impl Flaky {
    pub fn new(inner: DynamoDbTable) -> Self {
        Self { inner, failing: Arc::default(), seedings: Arc::default(), readings: Arc::default() }
    }

    fn check(&self) -> Result<(), Unavailable> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(Unavailable { operation: "anything", source: "secret detail of the table".into() });
        }
        Ok(())
    }
}

impl StoreTable for Flaky {
    async fn seeded(&self) -> Result<Option<String>, Unavailable> {
        self.check()?;
        self.inner.seeded().await
    }

    async fn seed(&self, seed: &Seed) -> Result<(), Unavailable> {
        self.check()?;
        self.seedings.fetch_add(1, Ordering::SeqCst);
        self.inner.seed(seed).await
    }

    async fn facts(&self) -> Result<Facts, Unavailable> {
        self.check()?;
        self.readings.fetch_add(1, Ordering::SeqCst);
        self.inner.facts().await
    }

    async fn offers(&self, product_ids: &[&str]) -> Result<HashMap<String, Offer>, Unavailable> {
        self.check()?;
        self.inner.offers(product_ids).await
    }

    async fn shopper(&self, shopper_id: &str) -> Result<Shopper, Unavailable> {
        self.check()?;
        self.inner.shopper(shopper_id).await
    }

    async fn order(&self, shopper_id: &str, order_id: &str) -> Result<Option<PlacedOrder>, Unavailable> {
        self.check()?;
        self.inner.order(shopper_id, order_id).await
    }
}

/// The store over an engine of its own.
pub struct TestStore {
    pub engine: Engine,
    pub table: Flaky,
    pub clock: ManualClock,
    pub router: Router,
}

impl TestStore {
    pub async fn start() -> Self {
        let engine = Engine::start().await;
        let table = Flaky::new(engine.table());
        let clock = ManualClock::new();
        let router = environment(table.clone(), clock.clone());
        Self { engine, table, clock, router }
    }

    pub async fn send(&self, request: Request<Body>) -> (StatusCode, Value) {
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// The status and body of `GET path`.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// The same with the service key.
    pub async fn get_with_key(&self, path: &str) -> (StatusCode, Value) {
        let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {SERVICE_KEY}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// The body of `GET path`, which is answered.
    pub async fn ask<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.get_with_key(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_value(body).unwrap()
    }
}

/// The routes of one more environment over a table.
pub fn environment(table: Flaky, clock: ManualClock) -> Router {
    let store = Store::new(table, clock, PAGE_URL.to_owned());
    router(Arc::new(Api { store, service_key: SERVICE_KEY.to_owned() }))
}
