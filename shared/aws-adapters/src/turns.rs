//! Conversations and turns in DynamoDB. Keys are in [`table`](crate::table).
//!
//! Every conditional write asks for the item when its condition fails: an item that shows this very write means that an
//! earlier attempt had arrived and only its acknowledgement was lost.

use std::collections::HashMap;
use std::io::Read as _;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure};
use domain::ids::{ClientMessageId, ConnectionId, ConversationId, Principal, ProductId, TurnId};
use domain::limits::{CONVERSATION_LIFE_MS, SUBSCRIBERS_MAX, TAKEOVER_MARGIN_MS};
use domain::ports::{
    Clock, Conversation, HeldLock, JournalOutcome, JournalWrite, LockOutcome, LockRequest, RecordOutcome, TurnStore,
    Unavailable,
};
use domain::protocol::{Rating, ServerEvent};
use domain::turn::{Exchange, Hold, StoredTurn, Summary, TurnFrame, TurnJournal, TurnRequest};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

use crate::table::{
    CONVERSATION, EXPIRES_AT, FEEDBACK, Item, Malformed, REQUEST, RUN, SUMMARY, conditional, conversation_pk,
    exchange_sk, expiry, is_expired, json, json_of, number, number_of, optional, text, text_of, turn_pk, unavailable,
};

/// Times a batch read is asked again for what DynamoDB left out.
const BATCH_ATTEMPTS_MAX: u32 = 4;

/// First pause before a batch read is asked again; it doubles, with full jitter.
const BATCH_PAUSE_MS: u64 = 20;

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
        let now = self.clock.now_ms();
        let limit = limit as usize;
        let mut live = Vec::new();
        let mut page_items = limit;
        let mut after = None;
        // One page as a rule. Expired items that DynamoDB has not deleted yet may hide others behind them.
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                .expression_attribute_values(":pk", pk.clone())
                .expression_attribute_values(":first", range.0.clone())
                .expression_attribute_values(":last", range.1.clone())
                .consistent_read(true)
                .scan_index_forward(false)
                .limit(i32::try_from(page_items).unwrap_or(i32::MAX))
                .set_exclusive_start_key(after)
                .send()
                .await
                .map_err(unavailable(operation))?;
            live.extend(page.items.unwrap_or_default().into_iter().filter(|item| !is_expired(item, now)));
            after = page.last_evaluated_key;
            if after.is_none() || live.len() >= limit {
                live.truncate(limit);
                return Ok(live);
            }
            page_items = BATCH_ITEMS_MAX;
        }
    }

    async fn read_turn(&self, id: &TurnId, consistent: bool) -> Result<Option<StoredTurn>, Unavailable> {
        let operation = "read turn";
        let items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND sk >= :request")
            .expression_attribute_values(":pk", turn_pk(id))
            .expression_attribute_values(":request", text(REQUEST))
            .consistent_read(consistent)
            .send()
            .await
            .map_err(unavailable(operation))?
            .items
            .unwrap_or_default();
        let part = |sk| items.iter().find(|item| is_part(item, sk));
        let now = self.clock.now_ms();
        let Some(request) = part(REQUEST).filter(|request| !is_expired(request, now)) else { return Ok(None) };
        let request = request_of(id, request).map_err(unavailable(operation))?;
        let journal = part(RUN).map(|run| self.journal_in(run)).transpose().map_err(unavailable(operation))?;
        let journal = journal.unwrap_or_default();
        Ok(Some(StoredTurn { request, journal }))
    }

    /// What a run item holds; an expired one is none.
    fn journal_in(&self, item: &Item) -> Result<TurnJournal, Malformed> {
        if is_expired(item, self.clock.now_ms()) { Ok(TurnJournal::default()) } else { journal_of(item) }
    }

    /// Stores a request, over none or, if `replaces_expired`, over an expired one; else answers the one that is there.
    async fn put_request(&self, request: &TurnRequest, replaces_expired: bool) -> Result<Option<Item>, Unavailable> {
        let mut put = self
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
            .item("connection_id", text(request.connection.to_string()))
            .item("asked_at", number(request.asked_at))
            .item("lease_until", number(request.lease_until))
            .item(EXPIRES_AT, expiry(request.asked_at + CONVERSATION_LIFE_MS))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let Some(product_id) = &request.product_id {
            put = put.item("product_id", text(product_id.as_str()));
        }
        put = match replaces_expired {
            false => put.condition_expression("attribute_not_exists(pk)"),
            true => put
                .condition_expression("attribute_not_exists(pk) OR expires_at <= :now")
                .expression_attribute_values(":now", number(request.asked_at / 1_000)),
        };
        Ok(conditional("record turn", put.send().await)?.err())
    }

    /// Empties the run of an expired turn that is to be replaced. Another who replaces it at this moment may have written
    /// a new one: that expires later than half a life from now, and stays.
    async fn clear_expired_run(&self, id: &TurnId, now: u64) -> Result<(), Unavailable> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", turn_pk(id))
            .item("sk", text(RUN))
            .item(EXPIRES_AT, expiry(now + CONVERSATION_LIFE_MS))
            .condition_expression("expires_at < :new")
            .expression_attribute_values(":new", expiry(now + CONVERSATION_LIFE_MS / 2))
            .send()
            .await;
        conditional("clear expired turn", put).map(drop)
    }
}

impl<C: Clock> TurnStore for DynamoDbTurns<C> {
    async fn turn(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        self.read_turn(id, true).await
    }

    async fn glance(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        self.read_turn(id, false).await
    }

    async fn holder(&self, id: &ConversationId) -> Result<Option<TurnId>, Unavailable> {
        let operation = "read holder";
        let get = self.client.get_item().table_name(&self.table).key("pk", conversation_pk(id));
        let answer = get.key("sk", text(CONVERSATION)).send().await.map_err(unavailable(operation))?;
        let Some(item) = answer.item else { return Ok(None) };
        let conversation = conversation_of(&item, None).map_err(unavailable(operation))?;
        Ok(conversation.lock.map(|lock| lock.turn_id))
    }

    async fn conversation(
        &self,
        id: &ConversationId,
        exchanges_max: u32,
    ) -> Result<Option<(Conversation, Vec<Exchange>)>, Unavailable> {
        let operation = "read conversation";
        // The newest, and two items that sort after them.
        let range = (exchange_sk(0), text(SUMMARY));
        let items = self.newest(operation, conversation_pk(id), range, exchanges_max + 2).await?;
        let mut items = items.iter().peekable();
        let summary = items.next_if(|item| is_part(item, SUMMARY));
        let Some(conversation) = items.next_if(|item| is_part(item, CONVERSATION)) else { return Ok(None) };
        let conversation = conversation_of(conversation, summary).map_err(unavailable(operation))?;
        let exchanges = items.take(exchanges_max as usize).map(exchange_of).collect::<Result<_, _>>();
        Ok(Some((conversation, exchanges.map_err(unavailable(operation))?)))
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
        Ok(match conditional("lock conversation", update.send().await)? {
            Ok(_) => LockOutcome::Locked,
            Err(item) if text_of(&item, "lock_attempt").is_ok_and(|attempt| attempt == request.attempt) => {
                LockOutcome::Locked
            }
            Err(_changed) => LockOutcome::Changed,
        })
    }

    async fn record(&self, request: &TurnRequest) -> Result<RecordOutcome, Unavailable> {
        let Some(mut found) = self.put_request(request, false).await? else { return Ok(RecordOutcome::Recorded) };
        if is_expired(&found, request.asked_at) {
            // The run first: between the two the turn is still an expired one, which is none.
            self.clear_expired_run(&request.turn_id, request.asked_at).await?;
            match self.put_request(request, true).await? {
                None => return Ok(RecordOutcome::Recorded),
                Some(newer) => found = newer,
            }
        }
        let found = request_of(&request.turn_id, &found).map_err(unavailable("record turn"))?;
        // Conversation and number come from the lock, which one attempt holds: the same are the same write.
        Ok(if found == *request { RecordOutcome::Recorded } else { RecordOutcome::Exists })
    }

    async fn journal(&self, write: &JournalWrite) -> Result<JournalOutcome, Unavailable> {
        let operation = "journal turn";
        let (held, not_held, held_at) = match write.hold {
            Hold::Leased { until } => ("lease_until", "queued_since", until),
            Hold::Queued { since } => ("queued_since", "lease_until", since),
        };
        let mut set = format!(
            "epoch = :epoch, writer = :writer, write_number = :number, expires_at = :expires_at, {held} = :held_at"
        );
        let mut condition = "attribute_not_exists(outcome) AND (attribute_not_exists(epoch) OR \
                             (epoch < :epoch AND (attribute_not_exists(lease_until) OR lease_until <= :lapsed)) OR \
                             (epoch = :epoch AND writer = :writer AND write_number < :number))"
            .to_owned();
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", turn_pk(&write.turn_id))
            .key("sk", text(RUN))
            .expression_attribute_values(":epoch", number(write.epoch))
            .expression_attribute_values(":writer", text(&write.writer))
            .expression_attribute_values(":number", number(write.number))
            .expression_attribute_values(":expires_at", expiry(write.now + CONVERSATION_LIFE_MS))
            .expression_attribute_values(":held_at", number(held_at))
            .expression_attribute_values(":lapsed", number(write.now.saturating_sub(TAKEOVER_MARGIN_MS)))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        if let (Some(first), Some(last)) = (write.frames.first(), write.frames.last()) {
            let packed = pack(&write.frames).map_err(unavailable(operation))?;
            set.push_str(", frames = list_append(if_not_exists(frames, :none), :frames), next_seq = :next_seq");
            condition.push_str(" AND (attribute_not_exists(next_seq) OR next_seq = :first_seq)");
            update = update
                .expression_attribute_values(":first_seq", number(first.first_seq()))
                .expression_attribute_values(":next_seq", number(last.seq + 1))
                .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
                .expression_attribute_values(":frames", AttributeValue::L(vec![packed]));
        }
        if let Some(outcome) = &write.outcome {
            set.push_str(", outcome = :outcome");
            update = update.expression_attribute_values(":outcome", json(outcome));
        }
        let update = update.condition_expression(condition).update_expression(format!("SET {set} REMOVE {not_held}"));
        let update = update.send().await;
        let (item, is_ours) = match conditional(operation, update)? {
            Ok(answer) => (answer.attributes.unwrap_or_default(), true),
            Err(item) => {
                let is_ours = number_of(&item, "epoch").is_ok_and(|epoch| epoch == write.epoch)
                    && text_of(&item, "writer").is_ok_and(|writer| writer == write.writer)
                    && number_of(&item, "write_number").is_ok_and(|number| number == write.number);
                (item, is_ours)
            }
        };
        let journal = journal_of(&item).map_err(unavailable(operation))?;
        Ok(if is_ours { JournalOutcome::Written(journal) } else { JournalOutcome::Fenced(journal) })
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
        let item = conditional(operation, update)?.map_or_else(|item| item, |new| new.attributes.unwrap_or_default());
        self.journal_in(&item).map_err(unavailable(operation))
    }

    async fn ask_to_cancel(&self, id: &TurnId, now: u64) -> Result<TurnJournal, Unavailable> {
        let operation = "ask to cancel turn";
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", turn_pk(id))
            .key("sk", text(RUN))
            .update_expression("SET cancel_asked = :asked, expires_at = if_not_exists(expires_at, :expires_at)")
            .condition_expression("attribute_not_exists(outcome)")
            .expression_attribute_values(":asked", AttributeValue::Bool(true))
            .expression_attribute_values(":expires_at", expiry(now + CONVERSATION_LIFE_MS))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        let item = conditional(operation, update)?.map_or_else(|item| item, |new| new.attributes.unwrap_or_default());
        self.journal_in(&item).map_err(unavailable(operation))
    }

    async fn remember(&self, id: &ConversationId, exchange: &Exchange, now: u64) -> Result<(), Unavailable> {
        let put = self
            .client
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
            .condition_expression("attribute_not_exists(pk) OR turn = :turn OR expires_at <= :now")
            .expression_attribute_values(":turn", text(exchange.turn_id.as_str()))
            .expression_attribute_values(":now", number(now / 1_000))
            .send()
            .await;
        conditional("remember exchange", put).map(drop)
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
        conditional("release conversation", update).map(drop)
    }

    async fn summarise(&self, id: &ConversationId, summary: &Summary, now: u64) -> Result<(), Unavailable> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", conversation_pk(id))
            .item("sk", text(SUMMARY))
            .item("through_turn", number(summary.through))
            .item("summary", text(&summary.text))
            .item(EXPIRES_AT, expiry(now + CONVERSATION_LIFE_MS))
            .condition_expression("attribute_not_exists(pk) OR through_turn < :through OR expires_at <= :now")
            .expression_attribute_values(":through", number(summary.through))
            .expression_attribute_values(":now", number(now / 1_000))
            .send()
            .await;
        conditional("summarise conversation", put).map(drop)
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
                .projection_expression("pk, frames, expires_at")
                .consistent_read(true)
                .build()
                .map_err(unavailable(operation))?;
            let mut left = Some(HashMap::from([(self.table.clone(), wanted)]));
            for attempt in 0..BATCH_ATTEMPTS_MAX {
                let Some(request) = left.take().filter(|left| !left.is_empty()) else { break };
                if attempt > 0 {
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..=BATCH_PAUSE_MS << (attempt - 1)))).await;
                }
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
                        cards.insert(id, self.journal_in(item).map_err(unavailable(operation))?.cards());
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

fn is_part(item: &Item, sk: &str) -> bool {
    text_of(item, "sk").is_ok_and(|found| found == sk)
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
        product_id: optional(item, "product_id", |item, name| id_of(item, name, ProductId::parse))?,
        connection: ConnectionId(text_of(item, "connection_id")?.to_owned()),
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
    let lease = optional(item, "lease_until", number_of)?.map(|until| Hold::Leased { until });
    let queued = optional(item, "queued_since", number_of)?.map(|since| Hold::Queued { since });
    let subscribers = item.get("subscribers").and_then(|value| value.as_ss().ok());
    Ok(TurnJournal {
        epoch: optional(item, "epoch", number_of)?.unwrap_or_default(),
        frames,
        hold: lease.or(queued),
        outcome: optional(item, "outcome", json_of)?,
        subscribers: subscribers.into_iter().flatten().cloned().map(ConnectionId).collect(),
        cancel_asked: item.contains_key("cancel_asked"),
    })
}

fn conversation_of(item: &Item, summary: Option<&Item>) -> Result<Conversation, Malformed> {
    let lock = optional(item, "lock_turn", |item, name| {
        Ok(HeldLock { turn_id: id_of(item, name, TurnId::parse)?, lease_until: number_of(item, "lock_until")? })
    })?;
    let turns = number_of(item, "turn_count")?;
    let summary = summary.map(summary_of).transpose()?;
    Ok(Conversation {
        owner: id_of(item, "principal", Principal::parse)?,
        turns,
        lock,
        // One that goes further is of a conversation that expired, a moment before its summary did.
        summary: summary.filter(|summary| summary.through <= turns),
    })
}

fn summary_of(item: &Item) -> Result<Summary, Malformed> {
    Ok(Summary { through: number_of(item, "through_turn")?, text: text_of(item, "summary")?.to_owned() })
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
