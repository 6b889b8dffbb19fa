//! Conversations and turns in DynamoDB. Keys are in [`table`](crate::table).
//!
//! Every conditional write asks for the item when its condition fails: an item that shows this very write means that an
//! earlier attempt had arrived and only its acknowledgement was lost.

use std::collections::HashMap;
use std::io::Read as _;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::ids::{ClientMessageId, ConnectionId, ConversationId, Principal, TurnId};
use domain::limits::{CONVERSATION_LIFE_MS, SUBSCRIBERS_MAX};
use domain::ports::{
    Clock, Conversation, HeldLock, JournalOutcome, JournalWrite, LockOutcome, LockRequest, RecordOutcome, TurnStore,
    Unavailable,
};
use domain::protocol::{Rating, ServerEvent};
use domain::turn::{Exchange, StoredTurn, TurnFrame, TurnJournal, TurnRequest};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::table::{
    CONVERSATION, EXPIRES_AT, FEEDBACK, Item, Malformed, REQUEST, RUN, conversation_pk, exchange_sk, expiry,
    is_expired, json, json_of, number, number_of, text, text_of, turn_pk, unavailable,
};

/// Times a batch read is asked again for what DynamoDB left out.
const BATCH_ATTEMPTS_MAX: u32 = 4;

/// Items of one batch read; DynamoDB takes 100.
const BATCH_ITEMS_MAX: usize = 100;

/// What one journal write may inflate to, bytes: an item of 400 KB holds no more than a turn's frames.
const PACKED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// DynamoDB kept leaving out some of a batch.
#[derive(Debug, thiserror::Error)]
#[error("a batch read was not completed in {BATCH_ATTEMPTS_MAX} attempts")]
struct Unprocessed;

/// Conversations and turns in one DynamoDB table.
#[derive(Debug, Clone)]
pub struct DynamoDbTurns<C> {
    client: Client,
    table: String,
    clock: C,
}

impl<C: Clock> DynamoDbTurns<C> {
    /// The store in a table that exists.
    pub fn new(client: Client, table: impl Into<String>, clock: C) -> Self {
        Self { client, table: table.into(), clock }
    }

    /// Items of a partition with sort keys in a range, newest first.
    async fn newest(
        &self,
        operation: &'static str,
        pk: AttributeValue,
        range: (AttributeValue, AttributeValue),
        limit: u32,
    ) -> Result<Vec<Item>, Unavailable> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
            .expression_attribute_values(":pk", pk)
            .expression_attribute_values(":first", range.0)
            .expression_attribute_values(":last", range.1)
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(unavailable(operation))?;
        let now = self.clock.now_ms();
        Ok(answer.items.unwrap_or_default().into_iter().filter(|item| !is_expired(item, now)).collect())
    }
}

impl<C: Clock> TurnStore for DynamoDbTurns<C> {
    async fn turn(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        let operation = "read turn";
        let items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk >= :request")
            .expression_attribute_values(":pk", turn_pk(id))
            .expression_attribute_values(":request", text(REQUEST))
            .consistent_read(true)
            .send()
            .await
            .map_err(unavailable(operation))?
            .items
            .unwrap_or_default();
        let part = |sk: &str| items.iter().find(|item| text_of(item, "sk").is_ok_and(|found| found == sk));
        let Some(request) = part(REQUEST) else { return Ok(None) };
        let request = request_of(id, request).map_err(unavailable(operation))?;
        let journal = part(RUN).map(journal_of).transpose().map_err(unavailable(operation))?.unwrap_or_default();
        Ok(Some(StoredTurn { request, journal }))
    }

    async fn conversation(
        &self,
        id: &ConversationId,
        exchanges_max: u32,
    ) -> Result<Option<(Conversation, Vec<Exchange>)>, Unavailable> {
        let operation = "read conversation";
        let range = (exchange_sk(0), text(CONVERSATION));
        let items = self.newest(operation, conversation_pk(id), range, exchanges_max + 1).await?;
        let Some((conversation, exchanges)) = items.split_first() else { return Ok(None) };
        if text_of(conversation, "sk").map_err(unavailable(operation))? != CONVERSATION {
            return Ok(None);
        }
        let conversation = conversation_of(conversation).map_err(unavailable(operation))?;
        let exchanges = exchanges.iter().map(exchange_of).collect::<Result<_, _>>().map_err(unavailable(operation))?;
        Ok(Some((conversation, exchanges)))
    }

    async fn lock(&self, request: &LockRequest) -> Result<LockOutcome, Unavailable> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", conversation_pk(&request.conversation_id))
            .key("sk", text(CONVERSATION))
            .update_expression(
                "SET principal = :principal, turn_count = :number, lock_turn = :turn, lock_until = :until, \
                 lock_attempt = :attempt, expires_at = :expires_at",
            )
            .expression_attribute_values(":principal", text(request.owner.to_string()))
            .expression_attribute_values(":number", number(request.number))
            .expression_attribute_values(":turn", text(request.turn_id.as_str()))
            .expression_attribute_values(":until", number(request.lease_until))
            .expression_attribute_values(":attempt", text(&request.attempt))
            .expression_attribute_values(":expires_at", expiry(request.now + CONVERSATION_LIFE_MS))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        update = match request.number {
            0 | 1 => update
                .condition_expression("attribute_not_exists(pk) OR expires_at <= :now")
                .expression_attribute_values(":now", number(request.now / 1_000)),
            turns => {
                let update = update.expression_attribute_values(":turns", number(turns - 1));
                let is_next = "principal = :principal AND turn_count = :turns";
                match &request.replaces {
                    None => update.condition_expression(format!("{is_next} AND attribute_not_exists(lock_turn)")),
                    Some(held) => update
                        .condition_expression(format!(
                            "{is_next} AND (attribute_not_exists(lock_turn) OR lock_turn = :held)"
                        ))
                        .expression_attribute_values(":held", text(held.as_str())),
                }
            }
        };
        match update.send().await {
            Ok(_) => Ok(LockOutcome::Locked),
            Err(error) => {
                let item = item_that_failed("lock conversation", error)?;
                let ours = text_of(&item, "lock_attempt").is_ok_and(|attempt| attempt == request.attempt);
                Ok(if ours { LockOutcome::Locked } else { LockOutcome::Changed })
            }
        }
    }

    async fn record(&self, request: &TurnRequest) -> Result<RecordOutcome, Unavailable> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", turn_pk(&request.turn_id))
            .item("sk", text(REQUEST))
            .item("conversation", text(request.conversation_id.as_str()))
            .item("turn_number", number(request.number))
            .item("principal", text(request.principal.to_string()))
            .item("client_message_id", text(request.client_message_id.to_string()))
            .item("payload_hash", text(&request.payload_hash))
            .item("question", text(&request.text))
            .item("language", json(&request.locale))
            .item("asked_at", number(request.asked_at))
            .item("lease_until", number(request.lease_until))
            .item(EXPIRES_AT, expiry(request.asked_at + CONVERSATION_LIFE_MS))
            .condition_expression("attribute_not_exists(pk)")
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match put {
            Ok(_) => Ok(RecordOutcome::Recorded),
            Err(error) => {
                let operation = "record turn";
                let item = match error.as_service_error() {
                    Some(PutItemError::ConditionalCheckFailedException(failed)) => failed.item().cloned(),
                    _other => None,
                };
                let Some(item) = item else { return Err(unavailable(operation)(error)) };
                let found = request_of(&request.turn_id, &item).map_err(unavailable(operation))?;
                // Conversation and number come from the lock, which one attempt holds: the same are the same write.
                let ours = found == *request;
                Ok(if ours { RecordOutcome::Recorded } else { RecordOutcome::Exists })
            }
        }
    }

    async fn journal(&self, write: &JournalWrite) -> Result<JournalOutcome, Unavailable> {
        let operation = "journal turn";
        let packed = pack(&write.frames).map_err(unavailable(operation))?;
        let outcome = write.outcome.as_ref().map(|_| ", outcome = :outcome").unwrap_or_default();
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", turn_pk(&write.turn_id))
            .key("sk", text(RUN))
            .update_expression(format!(
                "SET frames = list_append(if_not_exists(frames, :none), :frames), epoch = :epoch, writer = :writer, \
                 write_number = :number, expires_at = :expires_at{outcome}"
            ))
            .condition_expression(
                "attribute_not_exists(outcome) AND (attribute_not_exists(epoch) OR epoch < :epoch OR \
                 (epoch = :epoch AND writer = :writer AND write_number < :number))",
            )
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":frames", AttributeValue::L(vec![packed]))
            .expression_attribute_values(":epoch", number(write.epoch))
            .expression_attribute_values(":writer", text(&write.writer))
            .expression_attribute_values(":number", number(write.number))
            .expression_attribute_values(":expires_at", expiry(write.now + CONVERSATION_LIFE_MS))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Some(outcome) = &write.outcome {
            update = update.expression_attribute_values(":outcome", json(outcome));
        }
        match update.send().await {
            Ok(answer) => {
                let item = answer.attributes.unwrap_or_default();
                Ok(JournalOutcome::Written(journal_of(&item).map_err(unavailable(operation))?))
            }
            Err(error) => {
                let item = item_that_failed(operation, error)?;
                let journal = journal_of(&item).map_err(unavailable(operation))?;
                let ours = journal.epoch == write.epoch
                    && text_of(&item, "writer").is_ok_and(|writer| writer == write.writer)
                    && number_of(&item, "write_number").is_ok_and(|number| number == write.number);
                Ok(if ours { JournalOutcome::Written(journal) } else { JournalOutcome::Fenced(journal) })
            }
        }
    }

    async fn subscribe(&self, id: &TurnId, connection: &ConnectionId, now: u64) -> Result<TurnJournal, Unavailable> {
        let operation = "subscribe to turn";
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", turn_pk(id))
            .key("sk", text(RUN))
            .update_expression("ADD subscribers :connections SET expires_at = if_not_exists(expires_at, :expires_at)")
            .condition_expression(
                "attribute_not_exists(subscribers) OR size(subscribers) < :max OR contains(subscribers, :connection)",
            )
            .expression_attribute_values(":connections", AttributeValue::Ss(vec![connection.to_string()]))
            .expression_attribute_values(":connection", text(connection.to_string()))
            .expression_attribute_values(":max", number(SUBSCRIBERS_MAX as u64))
            .expression_attribute_values(":expires_at", expiry(now + CONVERSATION_LIFE_MS))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let item = match update {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(error) => item_that_failed(operation, error)?,
        };
        journal_of(&item).map_err(unavailable(operation))
    }

    async fn remember(&self, id: &ConversationId, exchange: &Exchange, now: u64) -> Result<(), Unavailable> {
        self.client
            .put_item()
            .table_name(&self.table)
            .item("pk", conversation_pk(id))
            .item("sk", exchange_sk(exchange.number))
            .item("turn_number", number(exchange.number))
            .item("turn", text(exchange.turn_id.as_str()))
            .item("asked_at", number(exchange.asked_at))
            .item("question", text(&exchange.question))
            .item("answer", text(&exchange.answer))
            .item("outcome", json(&exchange.state))
            .item(EXPIRES_AT, expiry(now + CONVERSATION_LIFE_MS))
            .send()
            .await
            .map(drop)
            .map_err(unavailable("remember exchange"))
    }

    async fn release(&self, id: &ConversationId, turn: &TurnId) -> Result<(), Unavailable> {
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", conversation_pk(id))
            .key("sk", text(CONVERSATION))
            .update_expression("REMOVE lock_turn, lock_until, lock_attempt")
            .condition_expression("lock_turn = :turn")
            .expression_attribute_values(":turn", text(turn.as_str()))
            .send()
            .await;
        match update {
            Ok(_) => Ok(()),
            Err(error) => item_that_failed("release conversation", error).map(drop),
        }
    }

    async fn exchanges(
        &self,
        id: &ConversationId,
        before: Option<u64>,
        exchanges_max: u32,
    ) -> Result<Vec<Exchange>, Unavailable> {
        let operation = "read exchanges";
        let last = match before {
            Some(0 | 1) => return Ok(Vec::new()),
            Some(before) => exchange_sk(before - 1),
            None => exchange_sk(u64::MAX),
        };
        let items = self.newest(operation, conversation_pk(id), (exchange_sk(0), last), exchanges_max).await?;
        items.iter().map(exchange_of).collect::<Result<_, _>>().map_err(unavailable(operation))
    }

    async fn cards(&self, turns: &[TurnId]) -> Result<HashMap<TurnId, Vec<ServerEvent>>, Unavailable> {
        let operation = "read cards";
        let mut cards = HashMap::new();
        for turns in turns.chunks(BATCH_ITEMS_MAX) {
            let keys = turns
                .iter()
                .map(|id| HashMap::from([("pk".to_owned(), turn_pk(id)), ("sk".to_owned(), text(RUN))]))
                .collect();
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .projection_expression("pk, frames")
                .consistent_read(true)
                .build()
                .map_err(unavailable(operation))?;
            let mut left = Some(HashMap::from([(self.table.clone(), wanted)]));
            for _ in 0..BATCH_ATTEMPTS_MAX {
                let Some(request) = left.take().filter(|left| !left.is_empty()) else { break };
                let answer = self
                    .client
                    .batch_get_item()
                    .set_request_items(Some(request))
                    .send()
                    .await
                    .map_err(unavailable(operation))?;
                for item in answer.responses.unwrap_or_default().values().flatten() {
                    let id = text_of(item, "pk").map_err(unavailable(operation))?;
                    if let Some(id) = id.strip_prefix("turn#").and_then(TurnId::parse) {
                        cards.insert(id, journal_of(item).map_err(unavailable(operation))?.cards());
                    }
                }
                left = answer.unprocessed_keys;
            }
            if left.is_some_and(|left| !left.is_empty()) {
                return Err(unavailable(operation)(Unprocessed));
            }
        }
        Ok(cards)
    }

    async fn rate(&self, id: &TurnId, rating: Rating, comment: Option<&str>, now: u64) -> Result<(), Unavailable> {
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", turn_pk(id))
            .item("sk", text(FEEDBACK))
            .item("rating", json(&rating))
            .item("rated_at", number(now))
            .item(EXPIRES_AT, expiry(now + CONVERSATION_LIFE_MS));
        if let Some(comment) = comment {
            put = put.item("comment", text(comment));
        }
        put.send().await.map(drop).map_err(unavailable("store feedback"))
    }
}

/// The item on which an update's condition failed, empty if there is none; any other error stays one.
fn item_that_failed(operation: &'static str, error: SdkError<UpdateItemError>) -> Result<Item, Unavailable> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
            Ok(failed.item().cloned().unwrap_or_default())
        }
        _other => Err(unavailable(operation)(error)),
    }
}

fn id_of<T>(item: &Item, name: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Malformed> {
    parse(text_of(item, name)?).ok_or(Malformed(name))
}

fn request_of(id: &TurnId, item: &Item) -> Result<TurnRequest, Malformed> {
    Ok(TurnRequest {
        turn_id: id.clone(),
        conversation_id: id_of(item, "conversation", ConversationId::parse)?,
        number: number_of(item, "turn_number")?,
        principal: id_of(item, "principal", Principal::parse)?,
        client_message_id: id_of(item, "client_message_id", |text| text.parse().ok().map(ClientMessageId))?,
        payload_hash: text_of(item, "payload_hash")?.to_owned(),
        text: text_of(item, "question")?.to_owned(),
        locale: json_of(item, "language")?,
        asked_at: number_of(item, "asked_at")?,
        lease_until: number_of(item, "lease_until")?,
    })
}

/// The frames of one write, as JSON and deflated: a write is billed by the size of the whole item, and each pays again for
/// all before it.
fn pack(frames: &[TurnFrame]) -> serde_json::Result<AttributeValue> {
    let mut deflated = DeflateEncoder::new(Vec::new(), Compression::best());
    serde_json::to_writer(&mut deflated, frames)?;
    Ok(AttributeValue::B(Blob::new(deflated.finish().map_err(serde_json::Error::io)?)))
}

fn unpack(packed: &AttributeValue) -> Result<Vec<TurnFrame>, Malformed> {
    let deflated = packed.as_b().map_err(|_| Malformed("frames"))?;
    let inflated = DeflateDecoder::new(deflated.as_ref()).take(PACKED_BYTES_MAX);
    serde_json::from_reader(inflated).map_err(|_| Malformed("frames"))
}

/// A run item: absent attributes are those of a turn nothing was written of.
fn journal_of(item: &Item) -> Result<TurnJournal, Malformed> {
    let frames = match item.get("frames") {
        None => Vec::new(),
        Some(AttributeValue::L(writes)) => {
            let frames: Result<Vec<_>, _> = writes.iter().map(unpack).collect();
            frames?.into_iter().flatten().collect()
        }
        Some(_other) => return Err(Malformed("frames")),
    };
    let subscribers = item.get("subscribers").and_then(|value| value.as_ss().ok());
    Ok(TurnJournal {
        epoch: if item.contains_key("epoch") { number_of(item, "epoch")? } else { 0 },
        frames,
        outcome: item.contains_key("outcome").then(|| json_of(item, "outcome")).transpose()?,
        subscribers: subscribers.into_iter().flatten().cloned().map(ConnectionId).collect(),
    })
}

fn conversation_of(item: &Item) -> Result<Conversation, Malformed> {
    let lock = match item.contains_key("lock_turn") {
        false => None,
        true => Some(HeldLock {
            turn_id: id_of(item, "lock_turn", TurnId::parse)?,
            lease_until: number_of(item, "lock_until")?,
        }),
    };
    Ok(Conversation { owner: id_of(item, "principal", Principal::parse)?, turns: number_of(item, "turn_count")?, lock })
}

fn exchange_of(item: &Item) -> Result<Exchange, Malformed> {
    Ok(Exchange {
        number: number_of(item, "turn_number")?,
        turn_id: id_of(item, "turn", TurnId::parse)?,
        asked_at: number_of(item, "asked_at")?,
        question: text_of(item, "question")?.to_owned(),
        answer: text_of(item, "answer")?.to_owned(),
        state: json_of(item, "outcome")?,
    })
}
