//! The table of template.yaml in a DynamoDB engine, and a wire to it that can lose answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use aws_adapters::clients;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::{RetryPartition, TokenBucket};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::environment;
use crate::fake::{Fake, Request};

pub const TABLE: &str = "chat";

/// A client with the timeouts and retries of the functions. Its budget of retries has no end: by default all clients of a
/// process share one, and what fails in one test would leave none to another.
pub fn client(url: &str) -> Client {
    let client = clients::dynamodb(&environment(url));
    let budget = RetryPartition::custom(url.to_owned()).token_bucket(TokenBucket::unlimited()).build();
    Client::from_conf(client.config().to_builder().retry_partition(budget).build())
}

/// The client without time-outs: for who asks for more at once than a busy machine answers in time.
pub fn patient(client: &Client) -> Client {
    Client::from_conf(client.config().to_builder().timeout_config(TimeoutConfig::disabled()).build())
}

/// A DynamoDB engine on a loopback port, with the table; it ends with this value.
pub struct Engine {
    url: String,
    pub client: Client,
    _server: JoinSet<()>,
}

impl Engine {
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = client(&url);
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
        Self { url, client, _server: server }
    }

    /// Every item, one line each: key, names of attributes, and when it expires.
    pub async fn lines(&self) -> BTreeMap<String, String> {
        let line = |((pk, sk), (names, expires_at)): ((String, String), (BTreeSet<String>, Option<String>))| {
            (
                format!("{pk} {sk}"),
                format!("{} = {}", Vec::from_iter(names).join(" "), expires_at.unwrap_or("for good".to_owned())),
            )
        };
        self.layout().await.into_iter().map(line).collect()
    }

    async fn layout(&self) -> BTreeMap<(String, String), (BTreeSet<String>, Option<String>)> {
        let pages = self.client.scan().table_name(TABLE).into_paginator().items().send();
        let items = pages.collect::<Result<Vec<_>, _>>().await.unwrap();
        let text = |value: &AttributeValue| value.as_s().unwrap().clone();
        items
            .into_iter()
            .map(|mut item| {
                let key = (text(&item.remove("pk").unwrap()), text(&item.remove("sk").unwrap()));
                let expires_at = item.get("expires_at").map(|value| value.as_n().unwrap().clone());
                (key, (item.into_keys().collect(), expires_at))
            })
            .collect()
    }

    /// What an item holds.
    pub async fn item(&self, pk: &str, sk: &str) -> HashMap<String, AttributeValue> {
        let key = |text: &str| AttributeValue::S(text.to_owned());
        let read = self.client.get_item().table_name(TABLE).key("pk", key(pk)).key("sk", key(sk)).send().await;
        read.unwrap().item.unwrap()
    }

    /// The engine behind a wire that loses, of every write, the answers to its first `answers_lost` attempts: each of them
    /// has arrived.
    pub async fn behind_a_lossy_wire(&self, answers_lost: u32) -> Wire {
        let lost = Arc::new(AtomicU32::new(0));
        let (engine, http, counter) = (self.url.clone(), reqwest::Client::new(), Arc::clone(&lost));
        let fake = Fake::start(move |request| {
            let (engine, http, counter) = (engine.clone(), http.clone(), Arc::clone(&counter));
            async move {
                let is_lost = is_write(&request) && attempt(&request) <= answers_lost;
                let answer = forward(&http, &engine, request).await;
                counter.fetch_add(u32::from(is_lost), Ordering::Relaxed);
                (!is_lost).then_some(answer)
            }
        })
        .await;
        Wire { client: client(&fake.url), fake, lost }
    }

    /// The engine behind a wire on which the first request for an operation on an item with that sort key arrives after
    /// something else has happened.
    pub async fn interrupted<M>(
        &self,
        by: &'static str,
        sk: &'static str,
        meanwhile: impl FnOnce() -> M + Send + 'static,
    ) -> Wire
    where
        M: Future<Output = ()> + Send + 'static,
    {
        let (engine, http) = (self.url.clone(), reqwest::Client::new());
        let meanwhile = Arc::new(Mutex::new(Some(meanwhile)));
        let fake = Fake::start(move |request| {
            let (engine, http, meanwhile) = (engine.clone(), http.clone(), Arc::clone(&meanwhile));
            async move {
                let is_it = operation(&request) == by && request.json()["Item"]["sk"]["S"] == sk;
                let interruption = if is_it { meanwhile.lock().unwrap().take() } else { None };
                if let Some(meanwhile) = interruption {
                    meanwhile().await;
                }
                Some(forward(&http, &engine, request).await)
            }
        })
        .await;
        Wire { client: client(&fake.url), fake, lost: Arc::default() }
    }
}

/// A way to an engine.
pub struct Wire {
    pub client: Client,
    fake: Fake,
    lost: Arc<AtomicU32>,
}

impl Wire {
    /// How many answers were lost.
    pub fn lost(&self) -> u32 {
        self.lost.load(Ordering::Relaxed)
    }

    /// What went through, in order: operation and request.
    pub fn requests(&self) -> Vec<(String, serde_json::Value)> {
        self.fake.requests().iter().map(|request| (operation(request), request.json())).collect()
    }
}

async fn forward(http: &reqwest::Client, engine: &str, request: Request) -> Response {
    let mut onward = http.post(format!("{engine}{}", request.target)).body(request.body);
    for name in ["content-type", "x-amz-target", "x-amz-date", "authorization"] {
        if let Some(value) = request.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let answer = onward.send().await.unwrap();
    let status = answer.status();
    let headers = [("content-type", "application/x-amz-json-1.0")];
    (status, headers, answer.bytes().await.unwrap()).into_response()
}

fn operation(request: &Request) -> String {
    let target = request.header("x-amz-target").unwrap();
    target.strip_prefix("DynamoDB_20120810.").unwrap().to_owned()
}

fn is_write(request: &Request) -> bool {
    ["PutItem", "UpdateItem", "DeleteItem"].contains(&operation(request).as_str())
}

/// Which attempt of its call a request is, from 1, as the SDK says.
fn attempt(request: &Request) -> u32 {
    let info = request.header("amz-sdk-request").unwrap();
    let attempt = info.split("; ").find_map(|part| part.strip_prefix("attempt="));
    attempt.unwrap().parse().unwrap()
}
