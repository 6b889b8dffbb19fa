//! The items of the table: keys, and reading attributes.
//!
//! | item | `pk` | `sk` | written by |
//! |---|---|---|---|
//! | request | `turn#ID` | `request` | admission, once |
//! | run | `turn#ID` | `run` | the turn's owner; subscribers; who asks to cancel |
//! | feedback | `turn#ID` | `feedback` | the shopper's last word |
//! | exchange | `conversation#ID` | `turn#NUMBER` | settling |
//! | conversation | `conversation#ID` | `~conversation` | admission (lock, number), settling (release) |
//! | summary | `conversation#ID` | `~summary` | follow-up worker |
//! | connection | `connection#ID` | `connection` | connect; session start (language) |
//! | connections | `principal#ID` | `connections` | connect, disconnect |
//! | bucket | `principal#ID` | `bucket#messages`, `bucket#replays` | admission, resume |
//! | bucket | `address#DIGEST` | `bucket#connections` | connect |
//! | token budget | `budget#MODEL#SHARD` | minute | whoever asks the model |
//! | hints | `hints#COPY` | `hints` | whoever has a breaker opened; who handles the catalog's events |
//! | follow-up | `principal#ID` | `follow_up#ID` | follow-up worker; whoever delivers it |
//! | quarantined message | `quarantine#QUEUE` | message id | redriver |
//! | its further parts | `quarantine#QUEUE#MESSAGE` | `part#NUMBER` from 2 | redriver |
//! | redrive state | `redrive#QUEUE` | `state` | redriver |
//!
//! `~` sorts after every `turn#`: one query backwards reads a conversation's summary, the conversation and its newest
//! exchanges.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;
use domain::ids::{ConnectionId, ConversationId, Principal, TurnId};
use domain::ports::{ModelChoice, Unavailable};

pub(crate) type Item = HashMap<String, AttributeValue>;

/// When DynamoDB may delete an item, Unix seconds.
pub(crate) const EXPIRES_AT: &str = "expires_at";
pub(crate) const REQUEST: &str = "request";
pub(crate) const RUN: &str = "run";
pub(crate) const FEEDBACK: &str = "feedback";
pub(crate) const CONVERSATION: &str = "~conversation";
pub(crate) const SUMMARY: &str = "~summary";
pub(crate) const CONNECTION: &str = "connection";
pub(crate) const CONNECTIONS: &str = "connections";
pub(crate) const REDRIVE_STATE: &str = "state";
pub(crate) const HINTS: &str = "hints";
/// Before a follow-up's id.
pub(crate) const FOLLOW_UP: &str = "follow_up#";

pub(crate) fn turn_pk(id: &TurnId) -> AttributeValue {
    text(format!("turn#{id}"))
}

pub(crate) fn conversation_pk(id: &ConversationId) -> AttributeValue {
    text(format!("conversation#{id}"))
}

pub(crate) fn connection_pk(id: &ConnectionId) -> AttributeValue {
    text(format!("connection#{id}"))
}

pub(crate) fn principal_pk(principal: &Principal) -> AttributeValue {
    text(format!("principal#{principal}"))
}

/// Of a network address, by its digest.
pub(crate) fn address_pk(digest: &str) -> AttributeValue {
    text(format!("address#{digest}"))
}

/// Of a part of a model's token budget.
pub(crate) fn budget_pk(model: ModelChoice, shard: u32) -> AttributeValue {
    text(format!("budget#{}#{shard}", model.name()))
}

/// Of a minute, counted from the Unix epoch.
pub(crate) fn budget_sk(minute: u64) -> AttributeValue {
    text(minute.to_string())
}

/// Of one copy of the hints.
pub(crate) fn hints_pk(copy: u32) -> AttributeValue {
    text(format!("hints#{copy}"))
}

/// Sort keys of exchanges sort as their numbers do.
pub(crate) fn exchange_sk(number: u64) -> AttributeValue {
    text(format!("turn#{number:012}"))
}

pub(crate) fn follow_up_sk(id: &str) -> AttributeValue {
    text(format!("{FOLLOW_UP}{id}"))
}

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// `expires_at` of an item that is to be kept until then.
pub(crate) fn expiry(until_ms: u64) -> AttributeValue {
    number(until_ms.div_ceil(1_000))
}

/// Whether an item counts as deleted, whenever DynamoDB gets to it.
pub(crate) fn is_expired(item: &Item, now_ms: u64) -> bool {
    number_of(item, EXPIRES_AT).is_ok_and(|expires_at| expires_at.saturating_mul(1_000) <= now_ms)
}

/// An item does not hold what was written.
#[derive(Debug, thiserror::Error)]
#[error("attribute {0} is missing or malformed")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn text_of<'a>(item: &'a Item, name: &'static str) -> Result<&'a str, Malformed> {
    item.get(name).and_then(|value| value.as_s().ok()).map(String::as_str).ok_or(Malformed(name))
}

pub(crate) fn number_of(item: &Item, name: &'static str) -> Result<u64, Malformed> {
    item.get(name).and_then(|value| value.as_n().ok()).and_then(|digits| digits.parse().ok()).ok_or(Malformed(name))
}

/// An attribute that may be absent.
pub(crate) fn optional<'a, T>(
    item: &'a Item,
    name: &'static str,
    read: impl Fn(&'a Item, &'static str) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    item.contains_key(name).then(|| read(item, name)).transpose()
}

pub(crate) fn json_of<T: serde::de::DeserializeOwned>(item: &Item, name: &'static str) -> Result<T, Malformed> {
    serde_json::from_str(text_of(item, name)?).map_err(|_| Malformed(name))
}

/// A value that is written as JSON: enums of one word, and frames.
pub(crate) fn json(value: &impl serde::Serialize) -> AttributeValue {
    // Types of the domain have string keys and no failing serializer: this cannot fail.
    text(serde_json::to_string(value).unwrap_or_default())
}

pub(crate) fn unavailable<E>(operation: &'static str) -> impl Fn(E) -> Unavailable
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |source| Unavailable { operation, source: Box::new(source) }
}

/// An error of a write that may have a condition.
pub(crate) trait ConditionalError: std::error::Error + Send + Sync + 'static {
    /// Says that the condition failed.
    fn condition_failed(&self) -> Option<&ConditionalCheckFailedException>;
}

macro_rules! conditional_error {
    ($($error:ident),*) => {
        $(impl ConditionalError for $error {
            fn condition_failed(&self) -> Option<&ConditionalCheckFailedException> {
                if let Self::ConditionalCheckFailedException(failed) = self { Some(failed) } else { None }
            }
        })*
    };
}

conditional_error!(PutItemError, UpdateItemError, DeleteItemError);

/// What a conditional write answered; or the item on which its condition failed, if the write asked for it, and empty if
/// there is none. Any other error stays one.
pub(crate) fn conditional<T, E: ConditionalError>(
    operation: &'static str,
    written: Result<T, SdkError<E>>,
) -> Result<Result<T, Item>, Unavailable> {
    match written {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) => match error.as_service_error().and_then(ConditionalError::condition_failed) {
            Some(failed) => Ok(Err(failed.item().cloned().unwrap_or_default())),
            None => Err(unavailable(operation)(error)),
        },
    }
}
