//! Token buckets in DynamoDB. Keys are in [`table`](crate::table).
//!
//! The bucket is read cheaply and perhaps stale: the write's condition is that it is as it was read, and shows it as it is
//! where it is not.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use domain::ports::{BucketKey, TakeOutcome, TakeToken, TokenBuckets, Unavailable};

use crate::table::{
    Item, Malformed, address_pk, conditional, expiry, number, number_of, optional, principal_pk, text, text_of,
    unavailable,
};

/// Token buckets in the table of [`DynamoDbTurns`](crate::DynamoDbTurns).
#[derive(Debug, Clone)]
pub struct DynamoDbBuckets {
    client: Client,
    table: String,
}

impl DynamoDbBuckets {
    /// The store in a table that exists.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }
}

fn key(bucket: &BucketKey) -> (AttributeValue, AttributeValue) {
    match bucket {
        BucketKey::Messages(principal) => (principal_pk(principal), text("bucket#messages")),
        BucketKey::Replays(principal) => (principal_pk(principal), text("bucket#replays")),
        BucketKey::OrderLookups(principal) => (principal_pk(principal), text("bucket#order_lookups")),
        BucketKey::Connections(digest) => (address_pk(digest), text("bucket#connections")),
    }
}

/// An empty item is that of a bucket that is not there.
fn full_at_of(item: &Item) -> Result<Option<u64>, Malformed> {
    optional(item, "full_at", number_of)
}

impl TokenBuckets for DynamoDbBuckets {
    async fn full_at(&self, bucket: &BucketKey) -> Result<Option<u64>, Unavailable> {
        let operation = "read token bucket";
        let (pk, sk) = key(bucket);
        let read = self.client.get_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        let item = read.send().await.map_err(unavailable(operation))?.item.unwrap_or_default();
        full_at_of(&item).map_err(unavailable(operation))
    }

    async fn take(&self, token: &TakeToken) -> Result<TakeOutcome, Unavailable> {
        let operation = "take token";
        let (pk, sk) = key(&token.key);
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", pk)
            .key("sk", sk)
            .update_expression("SET full_at = :full_at, attempt = :attempt, expires_at = :expires_at")
            .expression_attribute_values(":full_at", number(token.full_at))
            .expression_attribute_values(":attempt", text(&token.attempt))
            .expression_attribute_values(":expires_at", expiry(token.full_at))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        update = match token.full_at_before {
            None => update.condition_expression("attribute_not_exists(pk)"),
            Some(before) => update
                .condition_expression("full_at = :before AND attempt <> :attempt")
                .expression_attribute_values(":before", number(before)),
        };
        match conditional(operation, update.send().await)? {
            Ok(_) => Ok(TakeOutcome::Taken),
            Err(item) if text_of(&item, "attempt").is_ok_and(|attempt| attempt == token.attempt) => {
                Ok(TakeOutcome::Taken)
            }
            Err(item) => Ok(TakeOutcome::Changed(full_at_of(&item).map_err(unavailable(operation))?)),
        }
    }
}
