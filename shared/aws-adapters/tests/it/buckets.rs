//! `DynamoDbBuckets` on an engine.

use std::collections::BTreeMap;

use aws_adapters::DynamoDbBuckets;
use aws_sdk_dynamodb::Client;
use domain::ports::{BucketKey, TakeOutcome, TakeToken, TokenBuckets};
use serde_json::Value;
use testkit::{START_MS, contract, samples};

use crate::engine::{Engine, TABLE, client};
use crate::fake::nobody;
use crate::{failure, within};

fn buckets(client: &Client) -> DynamoDbBuckets {
    DynamoDbBuckets::new(client.clone(), TABLE)
}

fn messages() -> BucketKey {
    BucketKey::Messages(samples::shopper("aiko"))
}

fn token(key: BucketKey, full_at_before: Option<u64>, full_at: u64) -> TakeToken {
    TakeToken { key, full_at_before, full_at, attempt: format!("attempt-{full_at}") }
}

#[tokio::test]
async fn keeps_its_contract() {
    let engine = Engine::start().await;
    within(contract::token_buckets(&buckets(&engine.client), "b", START_MS)).await;
}

#[tokio::test]
async fn keeps_its_contract_when_the_first_answer_to_every_write_is_lost() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(1).await;
    within(contract::token_buckets(&buckets(&wire.client), "b", START_MS)).await;
    assert!(wire.lost() > 0);
}

#[tokio::test]
async fn a_token_whose_every_answer_is_lost_is_not_taken_twice() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(3).await;
    let (store, cut_off) = (buckets(&engine.client), buckets(&wire.client));
    let token = token(messages(), None, START_MS + 2_000);
    failure(within(cut_off.take(&token)).await);
    assert_eq!(wire.lost(), 3);
    assert_eq!(store.take(&token).await.unwrap(), TakeOutcome::Taken);
    assert_eq!(store.full_at(&messages()).await.unwrap(), Some(token.full_at));
}

#[tokio::test]
async fn items_are_laid_out_as_documented_and_expire_when_the_bucket_is_full() {
    let engine = Engine::start().await;
    let store = buckets(&engine.client);
    let keys = [messages(), BucketKey::Replays(samples::guest("g-1")), BucketKey::Connections("digest".to_owned())];
    for key in keys {
        store.take(&token(key, None, START_MS + 1)).await.unwrap();
    }
    let full = START_MS / 1_000 + 1;
    let expected = [
        "address#digest bucket#connections",
        "principal#guest:g-1 bucket#replays",
        "principal#shopper:aiko bucket#messages",
    ];
    let expected = expected.map(|key| (key.to_owned(), format!("attempt expires_at full_at = {full}")));
    assert_eq!(engine.lines().await, BTreeMap::from(expected), "and not one second too early");
}

#[tokio::test]
async fn a_token_costs_a_cheap_read_and_one_write() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(0).await;
    let store = buckets(&wire.client);
    assert_eq!(store.full_at(&messages()).await.unwrap(), None);
    store.take(&token(messages(), None, START_MS + 1)).await.unwrap();
    let requests = wire.requests();
    let operations: Vec<&str> = requests.iter().map(|(operation, _)| operation.as_str()).collect();
    assert_eq!(operations, ["GetItem", "UpdateItem"]);
    assert!(matches!(requests[0].1["ConsistentRead"], Value::Null | Value::Bool(false)));
}

#[tokio::test]
async fn without_its_table_or_out_of_reach_the_store_is_unavailable() {
    let engine = Engine::start().await;
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    for client in [engine.client.clone(), client(&nobody().await)] {
        let store = buckets(&client);
        failure(within(store.full_at(&messages())).await);
        failure(within(store.take(&token(messages(), None, START_MS))).await);
        failure(within(store.take(&token(messages(), Some(1), START_MS))).await);
    }
}
