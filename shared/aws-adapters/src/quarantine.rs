//! Messages that nobody can use, and what the redriver remembers of their queues, in DynamoDB. Keys are in
//! [`table`](crate::table).
//!
//! A body may be larger than an item: the entry holds the beginning, and as many parts as it says hold the rest.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use domain::limits::QUARANTINE_LIFE_MS;
use domain::ports::{QueueName, Unavailable};
use domain::redrive::{Quarantine, Quarantined, RedriveState, RedriveStates};

use crate::table::{EXPIRES_AT, REDRIVE_STATE, expiry, json, number, number_of, optional, text, unavailable};

/// The part of a body that one item holds, bytes; an item of DynamoDB has 400 KB.
const PART_BYTES_MAX: usize = 300 * 1_000;

/// Poison, and the states of queues, in the table of [`DynamoDbTurns`](crate::DynamoDbTurns).
#[derive(Debug, Clone)]
pub struct DynamoDbQuarantine {
    client: Client,
    table: String,
}

impl DynamoDbQuarantine {
    /// The store in a table that exists.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into() }
    }

    fn put_under(&self, pk: AttributeValue, sk: AttributeValue) -> PutItemFluentBuilder {
        self.client.put_item().table_name(&self.table).item("pk", pk).item("sk", sk)
    }
}

fn queue_name(queue: QueueName) -> &'static str {
    match queue {
        QueueName::FollowUp => "follow-up",
        QueueName::Watchdog => "watchdog",
    }
}

fn state_pk(queue: QueueName) -> AttributeValue {
    text(format!("redrive#{}", queue_name(queue)))
}

/// The first part of a text, and the others with their numbers from 2.
fn parts(body: &str) -> (&str, Vec<(usize, &str)>) {
    let (first, mut rest) = body.split_at(body.floor_char_boundary(PART_BYTES_MAX));
    let mut others = Vec::new();
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.floor_char_boundary(PART_BYTES_MAX));
        others.push((others.len() + 2, part));
        rest = after;
    }
    (first, others)
}

impl Quarantine for DynamoDbQuarantine {
    async fn put(&self, entry: &Quarantined) -> Result<(), Unavailable> {
        let operation = "quarantine message";
        let expires_at = expiry(entry.quarantined_at + QUARANTINE_LIFE_MS);
        let (payload, others) = parts(&entry.payload);
        let pk = format!("quarantine#{}", queue_name(entry.queue));
        for (part, payload) in &others {
            let under = self.put_under(text(format!("{pk}#{}", entry.message_id)), text(format!("part#{part}")));
            let put = under.item("payload", text(*payload)).item(EXPIRES_AT, expires_at.clone());
            put.send().await.map_err(unavailable(operation))?;
        }
        // Last: an entry that is there is whole.
        let mut put = self
            .put_under(text(pk), text(&entry.message_id))
            .item("reason", json(&entry.reason))
            .item("payload", text(payload))
            .item("payload_parts", number(others.len() as u64 + 1))
            .item("first_sent_at", number(entry.first_sent_at))
            .item("redrives", number(entry.redrives.into()))
            .item("quarantined_at", number(entry.quarantined_at))
            .item(EXPIRES_AT, expires_at);
        if let Some(refusal) = &entry.refusal {
            put = put.item("refusal", text(refusal));
        }
        if let Some(turn_id) = &entry.turn_id {
            put = put.item("turn", text(turn_id.as_str()));
        }
        put.send().await.map(drop).map_err(unavailable(operation))
    }
}

impl RedriveStates for DynamoDbQuarantine {
    async fn state(&self, queue: QueueName) -> Result<RedriveState, Unavailable> {
        let operation = "read redrive state";
        let read = self.client.get_item().table_name(&self.table);
        let read = read.key("pk", state_pk(queue)).key("sk", text(REDRIVE_STATE)).consistent_read(true);
        let item = read.send().await.map_err(unavailable(operation))?.item.unwrap_or_default();
        let count = |name| optional(&item, name, number_of).map_err(unavailable(operation));
        let refailures = count("refailures")?.unwrap_or_default();
        Ok(RedriveState {
            halted_until: count("halted_until")?,
            refailures: u32::try_from(refailures).unwrap_or(u32::MAX),
        })
    }

    async fn set_state(&self, queue: QueueName, state: &RedriveState) -> Result<(), Unavailable> {
        let mut put =
            self.put_under(state_pk(queue), text(REDRIVE_STATE)).item("refailures", number(state.refailures.into()));
        if let Some(halted_until) = state.halted_until {
            put = put.item("halted_until", number(halted_until));
        }
        put.send().await.map(drop).map_err(unavailable("store redrive state"))
    }
}
