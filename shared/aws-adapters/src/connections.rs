//! Who is connected, in DynamoDB.
//!
//! A principal's connections are one set of `EXPIRY|ID`: its size is the cap's condition, so that two tabs that open at
//! once cannot both be the last. A connection's own item leads from its id to its principal, for `$disconnect`.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use domain::ids::{ConnectionId, Principal};
use domain::ports::{Clock, Connection, ConnectionStore, Registration, Unavailable};
use domain::protocol::Locale;

use crate::table::{
    CONNECTION, CONNECTIONS, EXPIRES_AT, Item, conditional, connection_pk, expiry, json, json_of, number, number_of,
    principal_pk, text, text_of, unavailable,
};

/// Connections in the table of [`DynamoDbTurns`](crate::DynamoDbTurns).
#[derive(Debug, Clone)]
pub struct DynamoDbConnections<C> {
    client: Client,
    table: String,
    clock: C,
}

fn member(id: &ConnectionId, expires_at: u64) -> String {
    format!("{expires_at}|{id}")
}

/// The connection of a member that has not expired.
fn current(member: &str, now: u64) -> Option<ConnectionId> {
    let (expires_at, id) = member.split_once('|')?;
    (expires_at.parse::<u64>().ok()? > now).then(|| ConnectionId(id.to_owned()))
}

fn members_of(item: &Item) -> Vec<String> {
    item.get("members").and_then(|members| members.as_ss().ok()).cloned().unwrap_or_default()
}

impl<C: Clock> DynamoDbConnections<C> {
    /// The store in a table that exists.
    pub fn new(client: Client, table: impl Into<String>, clock: C) -> Self {
        Self { client, table: table.into(), clock }
    }

    /// Adds to a principal's set, if there is room; else answers the set.
    async fn add(&self, connection: &Connection, max: usize) -> Result<Option<Vec<String>>, Unavailable> {
        let added = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", principal_pk(&connection.principal))
            .key("sk", text(CONNECTIONS))
            .update_expression("ADD members :member SET expires_at = :expires_at")
            .condition_expression("attribute_not_exists(members) OR size(members) < :max OR contains(members, :one)")
            .expression_attribute_values(
                ":member",
                AttributeValue::Ss(vec![member(&connection.id, connection.expires_at)]),
            )
            .expression_attribute_values(":one", text(member(&connection.id, connection.expires_at)))
            .expression_attribute_values(":max", number(max as u64))
            .expression_attribute_values(":expires_at", expiry(connection.expires_at))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        Ok(conditional("register connection", added)?.err().map(|item| members_of(&item)))
    }

    async fn item(
        &self,
        operation: &'static str,
        pk: AttributeValue,
        sk: &'static str,
    ) -> Result<Option<Item>, Unavailable> {
        let read = self.client.get_item().table_name(&self.table).key("pk", pk).key("sk", text(sk));
        Ok(read.consistent_read(true).send().await.map_err(unavailable(operation))?.item)
    }

    async fn remove(&self, principal: &Principal, members: Vec<String>) -> Result<(), Unavailable> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", principal_pk(principal))
            .key("sk", text(CONNECTIONS))
            .update_expression("DELETE members :members")
            .expression_attribute_values(":members", AttributeValue::Ss(members))
            .send()
            .await
            .map(drop)
            .map_err(unavailable("forget connections"))
    }
}

impl<C: Clock> ConnectionStore for DynamoDbConnections<C> {
    async fn register(&self, connection: &Connection, per_principal_max: usize) -> Result<Registration, Unavailable> {
        if let Some(members) = self.add(connection, per_principal_max).await? {
            let now = self.clock.now_ms();
            let is_expired = |member: &String| current(member, now).is_none();
            let expired: Vec<String> = members.into_iter().filter(is_expired).collect();
            if expired.is_empty() {
                return Ok(Registration::TooMany);
            }
            self.remove(&connection.principal, expired).await?;
            if self.add(connection, per_principal_max).await?.is_some() {
                return Ok(Registration::TooMany);
            }
        }
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", connection_pk(&connection.id))
            .item("sk", text(CONNECTION))
            .item("principal", text(connection.principal.to_string()))
            .item("session", text(connection.session_id.as_str()))
            .item("connected_at", number(connection.connected_at))
            .item("closes_at", number(connection.expires_at))
            .item(EXPIRES_AT, expiry(connection.expires_at))
            .send()
            .await
            .map_err(unavailable("register connection"))?;
        Ok(Registration::Registered)
    }

    async fn forget(&self, id: &ConnectionId) -> Result<(), Unavailable> {
        let operation = "forget connection";
        let Some(item) = self.item(operation, connection_pk(id), CONNECTION).await? else { return Ok(()) };
        let principal = text_of(&item, "principal").map_err(unavailable(operation))?;
        let closes_at = number_of(&item, "closes_at").map_err(unavailable(operation))?;
        // The set first: whoever repeats this after a failure half-way still finds the item.
        if let Some(principal) = Principal::parse(principal) {
            self.remove(&principal, vec![member(id, closes_at)]).await?;
        }
        self.client
            .delete_item()
            .table_name(&self.table)
            .key("pk", connection_pk(id))
            .key("sk", text(CONNECTION))
            .send()
            .await
            .map(drop)
            .map_err(unavailable(operation))
    }

    async fn set_locale(&self, id: &ConnectionId, locale: Locale) -> Result<(), Unavailable> {
        let updated = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", connection_pk(id))
            .key("sk", text(CONNECTION))
            .update_expression("SET spoken = :spoken")
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_values(":spoken", json(&locale))
            .send()
            .await;
        conditional("keep language", updated).map(drop)
    }

    async fn locale(&self, id: &ConnectionId) -> Result<Option<Locale>, Unavailable> {
        let item = self.item("read language", connection_pk(id), CONNECTION).await?;
        Ok(item.and_then(|item| json_of(&item, "spoken").ok()))
    }

    async fn connections_of(&self, principal: &Principal) -> Result<Vec<ConnectionId>, Unavailable> {
        let item = self.item("read connections", principal_pk(principal), CONNECTIONS).await?.unwrap_or_default();
        let now = self.clock.now_ms();
        Ok(members_of(&item).iter().filter_map(|member| current(member, now)).collect())
    }
}
