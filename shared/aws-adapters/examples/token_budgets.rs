//! Prints how well environments share a minute's token budget of which they ask three times as much: how much of it is used,
//! how many writes it takes to let a call through and to refuse one, and how long it takes to let one through. The table is
//! an engine in memory, in the same process.
//!
//! `cargo run -p aws-adapters --example token_budgets`

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a measurement that cannot be made is given up")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_adapters::{BudgetLimits, DynamoDbBudgets, clients};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    ConfigBag, Credentials, Intercept, RuntimeComponents, SharedCredentialsProvider, SharedInterceptor,
};
use aws_sdk_dynamodb::error::BoxError;
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use domain::limits::BUDGET_SHARD_TOKENS;
use domain::ports::{ModelChoice, TokenBudgets as _};
use fastrand::Rng;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const TABLE: &str = "chat";
/// Environments that ask at once, the calls of each in the minute, and the parts of the budget.
const RUNS: [(u64, u64, u64); 4] = [(64, 60, 1), (64, 60, 16), (64, 60, 120), (1, 2_000, 1)];
/// What they ask for together, budgets.
const DEMAND: u64 = 3;

/// Counts what is sent, retries included.
#[derive(Debug, Clone, Default)]
struct Writes(Arc<AtomicUsize>);

impl Writes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for Writes {
    fn name(&self) -> &'static str {
        "Writes"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// A call for tokens.
struct Call {
    /// What is set aside of them when the call is settled; none if it was refused.
    tokens: Option<u64>,
    /// Writes, one after the other, before it was let through or refused.
    writes: usize,
    took: Duration,
}

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "measure")))
        .endpoint_url(format!("http://{}", listener.local_addr().unwrap()))
        .build();
    let mut engine = JoinSet::new();
    engine.spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
    let client = clients::dynamodb(&config).config().to_builder().timeout_config(TimeoutConfig::disabled()).build();
    let client = Client::from_conf(client);
    create_table(&client).await;

    println!(
        "| environments | parts | let through | refused | of the budget | writes | p99 | of a refusal | p50 | p99 |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for (run, (environments, count, parts)) in (0..).zip(RUNS) {
        let budget = parts * BUDGET_SHARD_TOKENS;
        let average = DEMAND * budget / (environments * count);
        // Each run has a minute of its own: budgets share items.
        let seen = (0..environments).map(|seed| calls(&client, (budget, average), run, count, Rng::with_seed(seed)));
        let seen = join_all(seen).await.into_iter().flatten().collect();
        println!("| {environments} | {parts} | {} |", figures(budget, seen));
    }
}

/// One environment's calls in a minute by the clock it is told, each of about `average` tokens. A call uses two thirds of what it asks for,
/// the rest comes back.
async fn calls(client: &Client, (budget, average): (u64, u64), minute: u64, count: u64, mut rng: Rng) -> Vec<Call> {
    let writes = Writes::default();
    let counted = client.config().to_builder().interceptor(SharedInterceptor::new(writes.clone())).build();
    let limits = BudgetLimits { primary: Some(budget), cheaper: None };
    let budgets = DynamoDbBudgets::new(Client::from_conf(counted), TABLE, limits);
    let mut calls = Vec::new();
    for call in 0..count {
        let now = minute * 60_000 + call * 60_000 / count;
        let tokens = rng.u64(average / 2..=average / 2 * 3);
        let (asked, before) = (Instant::now(), writes.count());
        let reservation = budgets.reserve(ModelChoice::Primary, tokens, now).await.unwrap();
        let mut call = Call { tokens: None, writes: writes.count() - before, took: asked.elapsed() };
        if let Some(reservation) = reservation {
            let used = rng.u64(tokens / 3..=tokens);
            budgets.settle(&reservation, used, now).await.unwrap();
            call.tokens = Some(used);
        }
        calls.push(call);
    }
    calls
}

fn figures(budget: u64, calls: Vec<Call>) -> String {
    let (granted, refused): (Vec<Call>, Vec<Call>) = calls.into_iter().partition(|call| call.tokens.is_some());
    let tokens: u64 = granted.iter().filter_map(|call| call.tokens).sum();
    let mean = |calls: &[Call]| calls.iter().map(|call| call.writes).sum::<usize>() as f64 / calls.len().max(1) as f64;
    let mut writes: Vec<usize> = granted.iter().map(|call| call.writes).collect();
    let mut took: Vec<Duration> = granted.iter().map(|call| call.took).collect();
    writes.sort_unstable();
    took.sort_unstable();
    let ms = |percent: usize| took[took.len() * percent / 100].as_secs_f64() * 1_000.0;
    format!(
        "{} | {} | {:.1} % | {:.2} | {} | {:.2} | {:.1} ms | {:.1} ms",
        granted.len(),
        refused.len(),
        tokens as f64 * 100.0 / budget as f64,
        mean(&granted),
        writes[writes.len() * 99 / 100],
        mean(&refused),
        ms(50),
        ms(99)
    )
}

async fn create_table(client: &Client) {
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
}
