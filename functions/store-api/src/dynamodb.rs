//! The store's table in DynamoDB: `pk` and `sk`, both strings.
//!
//! | `pk` | `sk` | item |
//! |---|---|---|
//! | `seed` | `marker` | `digest` of the sample data |
//! | `series` | series id | [`Series`] |
//! | `review` | review id | [`Review`](domain::store::Review) |
//! | `campaign` | promotion id | [`Campaign`](crate::table::Campaign) |
//! | `article` | article id | [`HelpArticle`](crate::table::HelpArticle) |
//! | `product#` product id | `offer` | [`Offer`]: what an operator changes |
//! | `shopper#` shopper id | `profile` | `adult` |
//! | `shopper#` shopper id | `order#` order id | [`PlacedOrder`] |
//!
//! All reads are strongly consistent.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, PutRequest, WriteRequest};
use domain::ports::Unavailable;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, from_items, to_item};

use crate::catalog::Series;
use crate::seed::Seed;
use crate::table::{Facts, OFFERS_MAX, Offer, PlacedOrder, Shopper, StoreTable};

/// Items in one BatchWriteItem (DynamoDB API reference).
const WRITE_BATCH_ITEMS: usize = 25;

/// Batches written at a time.
const WRITE_BATCHES_AT_ONCE: usize = 4;

/// Times a batch is sent before what DynamoDB leaves unprocessed is an error.
const BATCH_ATTEMPTS_MAX: u32 = 6;

/// The longest wait before the second attempt, doubled before each further one, milliseconds.
const BATCH_BACKOFF_MS: u64 = 40;

type Item = HashMap<String, AttributeValue>;

/// The table.
#[derive(Debug, Clone)]
pub struct DynamoDbTable {
    client: Client,
    name: String,
}

#[derive(Serialize)]
struct Row<'a, T> {
    pk: &'a str,
    sk: &'a str,
    #[serde(flatten)]
    item: &'a T,
}

#[derive(Serialize, Deserialize)]
struct Marker {
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct Profile {
    adult: bool,
}

impl DynamoDbTable {
    /// The table `name`, reached by `client`, whose timeouts and retries hold for every call.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        pk: &str,
        sk: &str,
    ) -> Result<Option<T>, Unavailable> {
        let request = self.client.get_item().table_name(&self.name).set_key(Some(key(pk, sk))).consistent_read(true);
        let item = request.send().await.map_err(failed(operation))?.item;
        item.map(from_item).transpose().map_err(failed(operation))
    }

    async fn query(&self, operation: &'static str, pk: &str) -> Result<Vec<Item>, Unavailable> {
        let request = self
            .client
            .query()
            .table_name(&self.name)
            .key_condition_expression("pk = :pk")
            .expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()))
            .consistent_read(true);
        request.into_paginator().items().send().try_collect().await.map_err(failed(operation))
    }

    async fn all<T: DeserializeOwned>(&self, operation: &'static str, pk: &str) -> Result<Vec<T>, Unavailable> {
        from_items(self.query(operation, pk).await?).map_err(failed(operation))
    }

    async fn write(&self, items: &[Item]) -> Result<(), Unavailable> {
        const OPERATION: &str = "write sample data";
        let mut pending = items.iter().map(|item| put(item.clone())).collect::<Result<Vec<_>, _>>()?;
        for attempt in 0..BATCH_ATTEMPTS_MAX {
            pause(attempt).await;
            let request = self.client.batch_write_item().request_items(&self.name, pending);
            let answer = request.send().await.map_err(failed(OPERATION))?;
            pending = answer.unprocessed_items.and_then(|mut tables| tables.remove(&self.name)).unwrap_or_default();
            if pending.is_empty() {
                return Ok(());
            }
        }
        Err(failed(OPERATION)(Unprocessed))
    }
}

impl StoreTable for DynamoDbTable {
    async fn seeded(&self) -> Result<Option<String>, Unavailable> {
        let marker: Option<Marker> = self.get("read seed marker", "seed", "marker").await?;
        Ok(marker.map(|marker| marker.digest))
    }

    async fn seed(&self, seed: &Seed) -> Result<(), Unavailable> {
        let items = rows(seed).map_err(failed("encode sample data"))?;
        let writes: Vec<_> = items.chunks(WRITE_BATCH_ITEMS).map(|batch| self.write(batch)).collect();
        stream::iter(writes).buffer_unordered(WRITE_BATCHES_AT_ONCE).try_collect::<()>().await?;
        let marker = row("seed", "marker", &Marker { digest: seed.digest.clone() });
        self.write(&[marker.map_err(failed("encode seed marker"))?]).await
    }

    async fn facts(&self) -> Result<Facts, Unavailable> {
        let (series, reviews, campaigns, articles) = futures_util::try_join!(
            self.all("read series", "series"),
            self.all("read reviews", "review"),
            self.all("read campaigns", "campaign"),
            self.all("read articles", "article"),
        )?;
        Ok(Facts { series, reviews, campaigns, articles })
    }

    async fn offers(&self, product_ids: &[&str]) -> Result<HashMap<String, Offer>, Unavailable> {
        const OPERATION: &str = "read offers";
        let keys = product_ids.iter().take(OFFERS_MAX).map(|id| key(&format!("product#{id}"), "offer")).collect();
        let mut pending = Some(KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build());
        let mut offers = HashMap::new();
        for attempt in 0..BATCH_ATTEMPTS_MAX {
            let Some(keys) = pending.take() else { break };
            pause(attempt).await;
            let request = self.client.batch_get_item().request_items(&self.name, keys.map_err(failed(OPERATION))?);
            let answer = request.send().await.map_err(failed(OPERATION))?;
            let items = answer.responses.and_then(|mut tables| tables.remove(&self.name)).unwrap_or_default();
            let read: Vec<Offer> = from_items(items).map_err(failed(OPERATION))?;
            offers.extend(read.into_iter().map(|offer| (offer.product_id.clone(), offer)));
            pending = answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.name)).map(Ok);
        }
        if pending.is_some() { Err(failed(OPERATION)(Unprocessed)) } else { Ok(offers) }
    }

    async fn shopper(&self, shopper_id: &str) -> Result<Shopper, Unavailable> {
        const OPERATION: &str = "read shopper";
        let mut shopper = Shopper::default();
        for item in self.query(OPERATION, &format!("shopper#{shopper_id}")).await? {
            if item.get("sk").and_then(|sk| sk.as_s().ok()).is_some_and(|sk| sk == "profile") {
                shopper.adult = from_item::<Profile>(item).map_err(failed(OPERATION))?.adult;
            } else {
                shopper.orders.push(from_item(item).map_err(failed(OPERATION))?);
            }
        }
        Ok(shopper)
    }

    async fn order(&self, shopper_id: &str, order_id: &str) -> Result<Option<PlacedOrder>, Unavailable> {
        self.get("read order", &format!("shopper#{shopper_id}"), &format!("order#{order_id}")).await
    }
}

#[derive(Debug, thiserror::Error)]
#[error("still unprocessed after {BATCH_ATTEMPTS_MAX} attempts")]
struct Unprocessed;

async fn pause(attempt: u32) {
    if attempt > 0 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..=BATCH_BACKOFF_MS << (attempt - 1)))).await;
    }
}

fn key(pk: &str, sk: &str) -> Item {
    HashMap::from([
        ("pk".to_owned(), AttributeValue::S(pk.to_owned())),
        ("sk".to_owned(), AttributeValue::S(sk.to_owned())),
    ])
}

fn put(item: Item) -> Result<WriteRequest, Unavailable> {
    let put = PutRequest::builder().set_item(Some(item)).build().map_err(failed("encode sample data"))?;
    Ok(WriteRequest::builder().put_request(put).build())
}

fn row<T: Serialize>(pk: &str, sk: &str, item: &T) -> Result<Item, serde_dynamo::Error> {
    to_item(Row { pk, sk, item })
}

fn rows(seed: &Seed) -> Result<Vec<Item>, serde_dynamo::Error> {
    let Facts { series, reviews, campaigns, articles } = &seed.facts;
    let series = series.iter().map(|one: &Series| row("series", &one.series_id, one));
    let reviews = reviews.iter().map(|one| row("review", &one.review_id, one));
    let campaigns = campaigns.iter().map(|one| row("campaign", &one.promotion_id, one));
    let articles = articles.iter().map(|one| row("article", &one.article_id, one));
    let offers = seed.offers.iter().map(|one| row(&format!("product#{}", one.product_id), "offer", one));
    let profiles = seed.shoppers.iter();
    let profiles =
        profiles.map(|one| row(&format!("shopper#{}", one.shopper_id), "profile", &Profile { adult: one.adult }));
    let orders = seed.orders.iter();
    let orders = orders.map(|one| row(&format!("shopper#{}", one.shopper_id), &format!("order#{}", one.order_id), one));
    series.chain(reviews).chain(campaigns).chain(articles).chain(offers).chain(profiles).chain(orders).collect()
}

fn failed<E: Error + Send + Sync + 'static>(operation: &'static str) -> impl Fn(E) -> Unavailable {
    move |source| Unavailable { operation, source: Box::new(source) }
}
