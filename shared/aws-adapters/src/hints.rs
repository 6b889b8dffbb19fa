//! What environments tell one another, in DynamoDB. Keys are in [`table`](crate::table).
//!
//! Everything is one small item, which each environment reads in the background, at most every [`HINTS_REFRESH_MS`], and keeps
//! in memory. There are [`HINT_COPIES`] of it under keys of their own: a read takes any of them, a write, which is rare, all.
//!
//! | attribute | holds |
//! |---|---|
//! | `open_UPSTREAM` | a set of `UNTIL\|ENVIRONMENT`: who has the upstream's breaker open |
//! | `invalidated` | a set of `TIME\|TAG`: what is out of date |
//! | `everything_at` | when everything was declared out of date, because the set was full |
//!
//! Writes only add members and take away such as mean nothing any more. Members never change, so writers at the same time lose
//! nothing of one another; and so does a reader that puts what it reads to what it knew.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use domain::breaker::{Hint, Upstream};
use domain::limits::{HINT_COPIES, HINT_REPORTS_MAX, HINT_TAG_BYTES_MAX, HINT_TAG_MS, HINT_TAGS_MAX, HINTS_REFRESH_MS};
use domain::ports::{Clock, SharedHints, Unavailable};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::table::{
    EXPIRES_AT, HINTS, Item, conditional, expiry, hints_pk, is_expired, number, number_of, optional, text, unavailable,
};

const INVALIDATED: &str = "invalidated";
const EVERYTHING_AT: &str = "everything_at";

/// How often members are added to a full set from which others were taken away: between the two somebody else may have added
/// theirs.
const ADD_ATTEMPTS_MAX: u32 = 3;

/// How much sooner than [`HINTS_REFRESH_MS`] the item may be read again, ms: environments that started together do not read
/// together.
const REFRESH_JITTER_MS: u64 = HINTS_REFRESH_MS / 5;

fn open_attribute(upstream: Upstream) -> String {
    format!("open_{}", upstream.name())
}

fn member(at: u64, name: &str) -> String {
    format!("{at}|{name}")
}

fn member_of(text: &str) -> Option<(u64, &str)> {
    let (at, name) = text.split_once('|')?;
    Some((at.parse().ok()?, name))
}

fn members_of<'a>(item: &'a Item, attribute: &str) -> &'a [String] {
    item.get(attribute).and_then(|set| set.as_ss().ok()).map_or(&[], Vec::as_slice)
}

/// A tag as it is told of.
fn cut(tag: &str) -> &str {
    tag.get(..tag.floor_char_boundary(HINT_TAG_BYTES_MAX)).unwrap_or(tag)
}

/// What is known, by name and with the latest time of each.
#[derive(Debug, Default)]
struct Known {
    /// Until when environments have a breaker open.
    open_until: HashMap<Upstream, HashMap<String, u64>>,
    invalidated_at: HashMap<String, u64>,
    everything_at: u64,
}

impl Known {
    /// Puts an item to what is known, and forgets what has passed.
    fn learn(&mut self, item: &Item, now: u64) {
        self.everything_at = self.everything_at.max(everything_at(item));
        let everything_at = self.everything_at;
        add_latest(&mut self.invalidated_at, members_of(item, INVALIDATED));
        self.invalidated_at.retain(|_, at| *at > everything_at && at.saturating_add(HINT_TAG_MS) > now);
        for upstream in Upstream::ALL {
            let open_until = self.open_until.entry(upstream).or_default();
            add_latest(open_until, members_of(item, &open_attribute(upstream)));
            open_until.retain(|_, until| *until > now);
        }
    }

    /// What others than this environment say of an upstream.
    fn hint(&self, upstream: Upstream, environment: &str, now: u64) -> Hint {
        let of_others = |(name, until): (&String, &u64)| (name != environment && *until > now).then_some(*until);
        let reports = self.open_until.get(&upstream).into_iter().flatten().filter_map(of_others);
        reports.fold(Hint::default(), |hint, until| Hint {
            reports: hint.reports + 1,
            open_until: hint.open_until.max(until),
        })
    }
}

fn add_latest(known: &mut HashMap<String, u64>, members: &[String]) {
    for (at, name) in members.iter().filter_map(|member| member_of(member)) {
        let latest = known.entry(name.to_owned()).or_default();
        *latest = at.max(*latest);
    }
}

fn everything_at(item: &Item) -> u64 {
    optional(item, EVERYTHING_AT, number_of).ok().flatten().unwrap_or_default()
}

/// Members of a set of reports that have passed.
fn past_reports(item: &Item, upstream: Upstream, now: u64) -> Vec<String> {
    let is_past = |report: &&String| member_of(report).is_none_or(|(until, _)| until <= now);
    members_of(item, &open_attribute(upstream)).iter().filter(is_past).cloned().collect()
}

/// Invalidations that have passed, or that a later one says too.
fn past_invalidations(item: &Item, now: u64) -> Vec<String> {
    let mut latest = Known::default();
    latest.learn(item, now);
    let is_past = |invalidation: &&String| {
        member_of(invalidation).is_none_or(|(at, tag)| latest.invalidated_at.get(tag).is_none_or(|latest| *latest > at))
    };
    members_of(item, INVALIDATED).iter().filter(is_past).cloned().collect()
}

#[derive(Debug, Default)]
struct Memory {
    known: Known,
    /// When the item is to be read again, Unix milliseconds.
    refresh_at: u64,
    /// Until when this environment has told that breakers are open.
    told_until: HashMap<Upstream, u64>,
}

#[derive(Debug)]
struct Environment<C> {
    client: Client,
    table: String,
    clock: C,
    /// Under which it reports.
    name: String,
    memory: Mutex<Memory>,
}

/// [`SharedHints`] in the table of [`DynamoDbTurns`](crate::DynamoDbTurns). Clones are one environment. Must be used within a
/// tokio runtime.
#[derive(Debug, Clone)]
pub struct DynamoDbHints<C>(Arc<Environment<C>>);

impl<C: Clock + 'static> DynamoDbHints<C> {
    /// The hints in a table that exists.
    pub fn new(client: Client, table: impl Into<String>, clock: C) -> Self {
        let (table, memory) = (table.into(), Mutex::default());
        // 32 bits: two environments of one name would only count as one.
        let name = Uuid::new_v4().simple().to_string().chars().take(8).collect();
        Self(Arc::new(Environment { client, table, clock, name, memory }))
    }

    /// Declares what is cached under these tags out of date as of `now`, Unix milliseconds, for [`HINT_TAG_MS`]. Where more
    /// than [`HINT_TAGS_MAX`] tags are, everything is. May be done again.
    ///
    /// # Errors
    /// When not every environment will learn of it.
    pub async fn invalidate(&self, tags: &[String], now: u64) -> Result<(), Unavailable> {
        // Sets take no member twice.
        let members: BTreeSet<String> = tags.iter().map(|tag| member(now, cut(tag))).collect();
        if members.is_empty() {
            return Ok(());
        }
        let members = Vec::from_iter(members);
        let copies = (0..HINT_COPIES).map(|copy| self.0.invalidate(copy, &members, now));
        join_all(copies).await.into_iter().collect()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for hints: what a freeze interrupts is read again, or told late"
    )]
    fn in_background<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(Arc<Environment<C>>) -> F) {
        tokio::spawn(work(Arc::clone(&self.0)));
    }

    /// What is known, which is read anew meanwhile if it is old.
    fn known<T>(&self, ask: impl FnOnce(&Known, u64) -> T) -> T {
        let now = self.0.clock.now_ms();
        let (answer, is_old) = {
            let mut memory = self.0.memory();
            let is_old = memory.refresh_at <= now;
            if is_old {
                memory.refresh_at = now + HINTS_REFRESH_MS - fastrand::u64(..REFRESH_JITTER_MS);
            }
            (ask(&memory.known, now), is_old)
        };
        if is_old {
            self.in_background(async |environment| environment.refresh().await.unwrap_or_else(log));
        }
        answer
    }
}

fn log(error: Unavailable) {
    tracing::warn!(error = &error as &dyn std::error::Error, "hints were not shared");
}

impl<C: Clock> Environment<C> {
    /// Nothing can panic while the lock is held.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads one copy. Without retries: it is read again soon, and they are left to calls that matter.
    async fn refresh(&self) -> Result<(), Unavailable> {
        let copy = fastrand::u32(..HINT_COPIES);
        let read = self.client.get_item().table_name(&self.table).key("pk", hints_pk(copy)).key("sk", text(HINTS));
        let once = Builder::new().retry_config(RetryConfig::disabled());
        let answer = read.customize().config_override(once).send().await.map_err(unavailable("read hints"))?;
        let item = answer.item.unwrap_or_default();
        let now = self.clock.now_ms();
        if !is_expired(&item, now) {
            self.memory().known.learn(&item, now);
        }
        Ok(())
    }

    /// Reports a breaker as open, unless enough others do: when an upstream fails, it fails for thousands at once.
    async fn report(&self, upstream: Upstream, until: u64) -> Result<(), Unavailable> {
        self.refresh().await?;
        let now = self.clock.now_ms();
        if self.memory().known.hint(upstream, &self.name, now).reports >= HINT_REPORTS_MAX {
            return Ok(());
        }
        let (attribute, members) = (open_attribute(upstream), [member(until, &self.name)]);
        let past = |item: &Item| past_reports(item, upstream, now);
        let copies = (0..HINT_COPIES).map(|copy| self.add(copy, &attribute, &members, HINT_REPORTS_MAX, past, now));
        // A copy that is full tells of others.
        join_all(copies).await.into_iter().try_for_each(|added| added.map(drop))
    }

    async fn invalidate(&self, copy: u32, members: &[String], now: u64) -> Result<(), Unavailable> {
        let past = |item: &Item| past_invalidations(item, now);
        if self.add(copy, INVALIDATED, members, HINT_TAGS_MAX, past, now).await? {
            return Ok(());
        }
        let everything = self
            .update(copy, now)
            .update_expression("SET everything_at = :now, expires_at = :expires_at")
            .condition_expression("attribute_not_exists(everything_at) OR everything_at < :now")
            .expression_attribute_values(":now", number(now))
            .send()
            .await;
        // Where the condition fails, everything is out of date already, as of then or later.
        conditional("invalidate everything", everything).map(drop)
    }

    /// Adds members to a set that has `max` at most; takes those away that `past` names if it is full, and answers whether
    /// there was room then.
    async fn add(
        &self,
        copy: u32,
        attribute: &str,
        members: &[String],
        max: usize,
        past: impl Fn(&Item) -> Vec<String>,
        now: u64,
    ) -> Result<bool, Unavailable> {
        let operation = "add hints";
        let Some(before_max) = max.checked_sub(members.len()) else { return Ok(false) };
        for _ in 0..ADD_ATTEMPTS_MAX {
            let added = self
                .update(copy, now)
                .update_expression(format!("ADD {attribute} :members SET {EXPIRES_AT} = :expires_at"))
                .condition_expression(format!("attribute_not_exists({attribute}) OR size({attribute}) <= :before_max"))
                .expression_attribute_values(":members", AttributeValue::Ss(members.to_vec()))
                .expression_attribute_values(":before_max", number(before_max as u64))
                .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
                .send()
                .await;
            let Err(item) = conditional(operation, added)? else { return Ok(true) };
            let past = past(&item);
            if past.is_empty() {
                return Ok(false);
            }
            self.update(copy, now)
                .update_expression(format!("DELETE {attribute} :members SET {EXPIRES_AT} = :expires_at"))
                .expression_attribute_values(":members", AttributeValue::Ss(past))
                .send()
                .await
                .map_err(unavailable(operation))?;
        }
        Ok(false)
    }

    fn update(&self, copy: u32, now: u64) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", hints_pk(copy))
            .key("sk", text(HINTS))
            .expression_attribute_values(":expires_at", expiry(now + HINT_TAG_MS))
    }
}

impl<C: Clock + 'static> SharedHints for DynamoDbHints<C> {
    fn breaker(&self, upstream: Upstream) -> Hint {
        self.known(|known, now| known.hint(upstream, &self.0.name, now))
    }

    fn opened(&self, upstream: Upstream, until: u64) {
        let told = self.0.memory().told_until.insert(upstream, until);
        if told != Some(until) {
            self.in_background(async move |environment| environment.report(upstream, until).await.unwrap_or_else(log));
        }
    }

    fn invalidated_at(&self, tag: &str) -> u64 {
        let of_tag = |known: &Known| known.invalidated_at.get(cut(tag)).copied().unwrap_or_default();
        self.known(|known, _| of_tag(known).max(known.everything_at))
    }
}
