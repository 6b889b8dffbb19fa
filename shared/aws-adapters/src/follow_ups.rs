//! Follow-up messages in DynamoDB, and their schedule by EventBridge Scheduler. Keys are in [`table`](crate::table).
//!
//! The item is the truth, and is stored first; the schedule only has its delivery begun on time. A follow-up whose schedule
//! was lost is delivered at the next visit.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use aws_sdk_scheduler::primitives::{DateTime, DateTimeFormat};
use aws_sdk_scheduler::types::{ActionAfterCompletion, FlexibleTimeWindow, FlexibleTimeWindowMode, Target};
use domain::ids::Principal;
use domain::ports::{ClaimOutcome, Clock, FollowUpStore, ScheduledFollowUp, Task, TaskQueues, Unavailable};

use crate::SqsQueues;
use crate::table::{
    EXPIRES_AT, FOLLOW_UP, Item, Malformed, conditional, expiry, follow_up_sk, is_expired, json, json_of, number,
    number_of, principal_pk, text, text_of, unavailable,
};

/// A follow-up is kept this long after it was due, ms: for shoppers who were away, and to know that it was delivered.
const KEPT_AFTER_DUE_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// A follow-up that is due sooner than this is sent by a delayed message, ms: a schedule is exact to a minute.
const SCHEDULED_AFTER_MS: u64 = 60_000;

/// This process reads follow-ups and delivers them; it has no schedules.
#[derive(Debug, thiserror::Error)]
#[error("no schedules are configured")]
struct NoSchedules;

/// One-time schedules of EventBridge Scheduler that send [`Task::Remind`] to the follow-up queue.
#[derive(Debug, Clone)]
pub struct Schedules {
    /// Makes schedules.
    pub client: aws_sdk_scheduler::Client,
    /// The schedules' group.
    pub group: String,
    /// The follow-up queue's ARN.
    pub queue_arn: String,
    /// The role in which the scheduler sends to the queue.
    pub role_arn: String,
    /// The queue itself, for what is due at once.
    pub queues: SqsQueues,
}

impl Schedules {
    /// Has a follow-up's task sent when it is due.
    async fn schedule(&self, follow_up: &ScheduledFollowUp, now: u64) -> Result<(), Unavailable> {
        let operation = "schedule follow-up";
        let id = &follow_up.follow_up_id;
        let task = Task::Remind { principal: follow_up.principal.clone(), follow_up_id: id.clone() };
        let wait_ms = follow_up.due_at.saturating_sub(now);
        if wait_ms <= SCHEDULED_AFTER_MS {
            return self.queues.send(&task, wait_ms).await;
        }
        let target = Target::builder()
            .arn(&self.queue_arn)
            .role_arn(&self.role_arn)
            .input(serde_json::to_string(&task).map_err(unavailable(operation))?)
            .build()
            .map_err(unavailable(operation))?;
        let on_time = FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build();
        let created = self
            .client
            .create_schedule()
            .name(id)
            .group_name(&self.group)
            .schedule_expression(at(follow_up.due_at).map_err(unavailable(operation))?)
            .schedule_expression_timezone("UTC")
            .flexible_time_window(on_time.map_err(unavailable(operation))?)
            .action_after_completion(ActionAfterCompletion::Delete)
            .target(target)
            .send()
            .await;
        match created {
            Ok(_) => Ok(()),
            // It was scheduled before.
            Err(error) if error.as_service_error().is_some_and(|error| error.is_conflict_exception()) => Ok(()),
            Err(error) => Err(unavailable(operation)(error)),
        }
    }
}

/// The expression of a schedule that fires once, in UTC and whole seconds, rounded up.
fn at(due_at: u64) -> Result<String, impl std::error::Error + Send + Sync + 'static> {
    let due_at = DateTime::from_secs(i64::try_from(due_at.div_ceil(1_000)).unwrap_or(i64::MAX));
    due_at.fmt(DateTimeFormat::DateTime).map(|time| format!("at({})", time.trim_end_matches('Z')))
}

/// Follow-ups in the table of [`DynamoDbTurns`](crate::DynamoDbTurns).
#[derive(Debug, Clone)]
pub struct DynamoDbFollowUps<C> {
    client: Client,
    table: String,
    schedules: Option<Schedules>,
    clock: C,
}

impl<C: Clock> DynamoDbFollowUps<C> {
    /// The store in a table that exists. Without schedules it delivers what others have scheduled.
    pub fn new(client: Client, table: impl Into<String>, schedules: Option<Schedules>, clock: C) -> Self {
        Self { client, table: table.into(), schedules, clock }
    }
}

fn follow_up_of(principal: &Principal, item: &Item) -> Result<ScheduledFollowUp, Malformed> {
    Ok(ScheduledFollowUp {
        follow_up_id: text_of(item, "sk")?.strip_prefix(FOLLOW_UP).ok_or(Malformed("sk"))?.to_owned(),
        principal: principal.clone(),
        due_at: number_of(item, "due_at")?,
        message: json_of(item, "message")?,
    })
}

impl<C: Clock> FollowUpStore for DynamoDbFollowUps<C> {
    async fn schedule(&self, follow_up: &ScheduledFollowUp) -> Result<(), Unavailable> {
        let operation = "store follow-up";
        let schedules = self.schedules.as_ref().ok_or(NoSchedules).map_err(unavailable(operation))?;
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("pk", principal_pk(&follow_up.principal))
            .item("sk", follow_up_sk(&follow_up.follow_up_id))
            .item("due_at", number(follow_up.due_at))
            .item("message", json(&follow_up.message))
            .item(EXPIRES_AT, expiry(follow_up.due_at + KEPT_AFTER_DUE_MS))
            .condition_expression("attribute_not_exists(pk)")
            .send()
            .await;
        // One that is there was stored before, and perhaps not scheduled.
        conditional(operation, put).map(drop)?;
        schedules.schedule(follow_up, self.clock.now_ms()).await
    }

    async fn due(&self, principal: &Principal, now: u64, max: u32) -> Result<Vec<ScheduledFollowUp>, Unavailable> {
        let operation = "read follow-ups";
        // One page of 1 MB holds a thousand: what is beyond it comes by its schedule.
        let page = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :pk AND begins_with(sk, :follow_up)")
            .filter_expression("due_at <= :now AND attribute_not_exists(delivered)")
            .expression_attribute_values(":pk", principal_pk(principal))
            .expression_attribute_values(":follow_up", text(FOLLOW_UP))
            .expression_attribute_values(":now", number(now))
            .send()
            .await
            .map_err(unavailable(operation))?;
        let items = page.items.unwrap_or_default();
        let due = items.iter().filter(|item| !is_expired(item, now)).map(|item| follow_up_of(principal, item));
        let mut due = due.collect::<Result<Vec<_>, _>>().map_err(unavailable(operation))?;
        due.sort_by_key(|follow_up| follow_up.due_at);
        due.truncate(max as usize);
        Ok(due)
    }

    async fn claim(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        now: u64,
        until: u64,
    ) -> Result<ClaimOutcome, Unavailable> {
        let operation = "claim follow-up";
        let update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", principal_pk(principal))
            .key("sk", follow_up_sk(follow_up_id))
            .update_expression("SET claimed_by = :attempt, claimed_until = :until")
            .condition_expression(
                "expires_at > :seconds AND attribute_not_exists(delivered) AND (attribute_not_exists(claimed_by) OR \
                 claimed_until <= :now OR claimed_by = :attempt)",
            )
            .expression_attribute_values(":attempt", text(attempt))
            .expression_attribute_values(":until", number(until))
            .expression_attribute_values(":now", number(now))
            .expression_attribute_values(":seconds", number(now / 1_000))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        Ok(match conditional(operation, update)? {
            Ok(answer) => {
                let item = answer.attributes.unwrap_or_default();
                ClaimOutcome::Claimed(follow_up_of(principal, &item).map_err(unavailable(operation))?)
            }
            Err(item) if item.is_empty() || item.contains_key("delivered") || is_expired(&item, now) => {
                ClaimOutcome::Done
            }
            Err(_claimed) => ClaimOutcome::Busy,
        })
    }

    async fn finish(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        delivered: bool,
    ) -> Result<(), Unavailable> {
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("pk", principal_pk(principal))
            .key("sk", follow_up_sk(follow_up_id))
            .condition_expression("claimed_by = :attempt")
            .expression_attribute_values(":attempt", text(attempt));
        update = match delivered {
            // What was delivered is only known to have been, so that it costs later visits next to nothing.
            true => update
                .update_expression("SET delivered = :delivered REMOVE claimed_by, claimed_until, message")
                .expression_attribute_values(":delivered", AttributeValue::Bool(true)),
            false => update.update_expression("REMOVE claimed_by, claimed_until"),
        };
        conditional("finish follow-up", update.send().await).map(drop)
    }
}
