//! The token budgets of the models in DynamoDB. Keys are in [`table`](crate::table); how budgets are chosen is in
//! `docs/budgets.md`.
//!
//! A minute's budget is divided, to the token, among items of their own: as many as the writes of the calls it is good for
//! need. Setting tokens aside is one conditional write to one of them, drawn at random, and settling another. So what is set
//! aside in an item is never more than its part, and in all never more than the budget.
//!
//! A write whose acknowledgement is lost may be counted twice. One that takes tokens is sent again by the client, which then
//! counts too many; one that gives tokens back is sent once, so that they are given back once or, if it is lost on the way, not
//! at all. Either way too few calls are let through, never too many, and the next minute begins anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use domain::limits::{BUDGET_REFUSAL_MS, BUDGET_SHARD_TOKENS, BUDGET_SHARD_TRIES_MAX, BUDGET_SHARDS_MAX};
use domain::ports::{ModelChoice, Reservation, TokenBudgets, Unavailable};

use crate::table::{budget_pk, budget_sk, conditional, expiry, number, number_of, unavailable};

/// A minute, ms.
const MINUTE_MS: u64 = 60_000;

/// What all environments together may ask of each model, tokens a minute; none is without limit, and costs no call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetLimits {
    /// Of the model that answers while nothing is wrong.
    pub primary: Option<u64>,
    /// Of the one that costs less.
    pub cheaper: Option<u64>,
}

impl BudgetLimits {
    fn of(self, model: ModelChoice) -> Option<Budget> {
        let tokens = match model {
            ModelChoice::Primary => self.primary,
            ModelChoice::Cheaper => self.cheaper,
        };
        tokens.map(|tokens| Budget { tokens })
    }
}

/// A minute's budget and its parts.
#[derive(Debug, Clone, Copy)]
struct Budget {
    tokens: u64,
}

impl Budget {
    fn shards(self) -> u32 {
        let shards = self.tokens.div_ceil(BUDGET_SHARD_TOKENS).max(1);
        u32::try_from(shards).unwrap_or(u32::MAX).min(BUDGET_SHARDS_MAX)
    }

    /// The tokens of a part. All parts together are the budget.
    fn part(self, shard: u32) -> u64 {
        let shards = u64::from(self.shards());
        self.tokens / shards + u64::from(u64::from(shard) < self.tokens % shards)
    }
}

/// For a while, so many tokens or more are not to be had.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    tokens: u64,
    until: u64,
}

impl Refusal {
    fn holds(&self, tokens: u64, now: u64) -> bool {
        tokens >= self.tokens && now < self.until
    }
}

/// What this environment knows of a minute's budget.
#[derive(Debug, Default)]
struct Known {
    minute: u64,
    by_shard: HashMap<u32, Refusal>,
    by_all: Option<Refusal>,
}

impl Known {
    /// The parts to ask for tokens, in this order; none if there is none left to ask.
    fn candidates(&self, budget: Budget, tokens: u64, now: u64) -> Vec<u32> {
        if self.by_all.is_some_and(|refusal| refusal.holds(tokens, now)) {
            return Vec::new();
        }
        let refused = |refusal: &Refusal| refusal.holds(tokens, now);
        let has_room = |shard: &u32| tokens <= budget.part(*shard) && !self.by_shard.get(shard).is_some_and(refused);
        let mut shards: Vec<u32> = (0..budget.shards()).filter(has_room).collect();
        fastrand::shuffle(&mut shards);
        shards.truncate(BUDGET_SHARD_TRIES_MAX);
        shards
    }
}

/// Token budgets in the table of [`DynamoDbTurns`](crate::DynamoDbTurns). Clones share what they know of full parts.
#[derive(Debug, Clone)]
pub struct DynamoDbBudgets {
    client: Client,
    table: String,
    limits: BudgetLimits,
    known: Arc<Mutex<HashMap<ModelChoice, Known>>>,
}

impl DynamoDbBudgets {
    /// The budgets in a table that exists. Every environment must be given the same limits: each divides them by itself.
    pub fn new(client: Client, table: impl Into<String>, limits: BudgetLimits) -> Self {
        Self { client, table: table.into(), limits, known: Arc::default() }
    }

    /// Nothing can panic while the lock is held.
    fn all_known(&self) -> MutexGuard<'_, HashMap<ModelChoice, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn candidates(&self, budget: Budget, model: ModelChoice, tokens: u64, now: u64) -> Vec<u32> {
        let mut all = self.all_known();
        let known = all.entry(model).or_default();
        let minute = now / MINUTE_MS;
        if known.minute != minute {
            *known = Known { minute, ..Known::default() };
        }
        known.candidates(budget, tokens, now)
    }

    /// Keeps in mind what was found out, if it is of the minute that is known of by now.
    fn learn(&self, model: ModelChoice, minute: u64, learnt: impl FnOnce(&mut Known)) {
        if let Some(known) = self.all_known().get_mut(&model).filter(|known| known.minute == minute) {
            learnt(known);
        }
    }

    /// Takes tokens of one part; or answers how many it has left.
    async fn take(&self, reservation: &Reservation, part: u64) -> Result<Result<(), u64>, Unavailable> {
        let operation = "reserve tokens";
        let taken = self
            .update(reservation, reservation.tokens.to_string())
            .condition_expression("attribute_not_exists(reserved) OR reserved <= :before_max")
            .expression_attribute_values(":before_max", number(part.saturating_sub(reservation.tokens)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match conditional(operation, taken)? {
            Ok(_) => Ok(Ok(())),
            Err(item) => {
                let reserved = number_of(&item, "reserved").map_err(unavailable(operation))?;
                Ok(Err(part.saturating_sub(reserved)))
            }
        }
    }

    /// Adds to what is set aside in the reservation's part of the budget.
    fn update(&self, reservation: &Reservation, change: String) -> UpdateItemFluentBuilder {
        // A minute longer than it counts: clocks differ.
        let expires_at = expiry((reservation.minute + 2) * MINUTE_MS);
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", budget_pk(reservation.model, reservation.shard))
            .key("sk", budget_sk(reservation.minute))
            .update_expression("ADD reserved :change SET expires_at = :expires_at")
            .expression_attribute_values(":change", AttributeValue::N(change))
            .expression_attribute_values(":expires_at", expires_at)
    }
}

impl TokenBudgets for DynamoDbBudgets {
    /// One write, or [`BUDGET_SHARD_TRIES_MAX`] where parts of the budget are used up; none for tokens that were refused less
    /// than [`BUDGET_REFUSAL_MS`] ago.
    async fn reserve(&self, model: ModelChoice, tokens: u64, now: u64) -> Result<Option<Reservation>, Unavailable> {
        let minute = now / MINUTE_MS;
        let in_shard = |shard| Reservation { model, minute, shard, tokens };
        let Some(budget) = self.limits.of(model) else { return Ok(Some(in_shard(0))) };
        let until = now.saturating_add(BUDGET_REFUSAL_MS);
        let refusal = |left: u64| Refusal { tokens: left.saturating_add(1), until };
        let mut most_left = None;
        for shard in self.candidates(budget, model, tokens, now) {
            let reservation = in_shard(shard);
            match self.take(&reservation, budget.part(shard)).await? {
                Ok(()) => return Ok(Some(reservation)),
                Err(left) => {
                    most_left = most_left.max(Some(left));
                    self.learn(model, minute, |known| _ = known.by_shard.insert(shard, refusal(left)));
                }
            }
        }
        // Parts fill up alike: what these had not, the others have not.
        self.learn(model, minute, |known| known.by_all = most_left.map(refusal).or(known.by_all));
        Ok(None)
    }

    /// One write, or none where there is nothing to give back or the minute is over.
    async fn settle(&self, reservation: &Reservation, used: u64, now: u64) -> Result<(), Unavailable> {
        let operation = "settle tokens";
        let Some(_) = self.limits.of(reservation.model) else { return Ok(()) };
        if used == reservation.tokens || now / MINUTE_MS != reservation.minute {
            return Ok(());
        }
        if used > reservation.tokens {
            let more = (used - reservation.tokens).to_string();
            return self.update(reservation, more).send().await.map(drop).map_err(unavailable(operation));
        }
        let rest = reservation.tokens - used;
        let given_back = self
            .update(reservation, format!("-{rest}"))
            .condition_expression("reserved >= :rest")
            .expression_attribute_values(":rest", number(rest))
            .customize()
            .config_override(Builder::new().retry_config(RetryConfig::disabled()))
            .send()
            .await;
        conditional(operation, given_back).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(tokens: u64) -> Vec<u64> {
        let budget = Budget { tokens };
        (0..budget.shards()).map(|shard| budget.part(shard)).collect()
    }

    #[test]
    fn a_budget_is_divided_to_the_token_and_evenly() {
        let whole = BUDGET_SHARD_TOKENS;
        for tokens in [0, 1, 7, whole - 1, whole, whole + 1, 5 * whole - 1, 5 * whole + 3, 999 * whole + 999, u64::MAX]
        {
            let parts = parts(tokens);
            assert_eq!(parts.iter().sum::<u64>(), tokens);
            assert!(parts[0] - parts[parts.len() - 1] <= 1, "{tokens}");
        }
    }

    #[test]
    fn a_budget_has_as_many_parts_as_its_writes_need() {
        let whole = BUDGET_SHARD_TOKENS;
        let max = u64::from(BUDGET_SHARDS_MAX);
        for (tokens, shards) in [(0, 1), (1, 1), (whole, 1), (whole + 1, 2), (max * whole, max), (max * whole + 1, max)]
        {
            assert_eq!(parts(tokens).len() as u64, shards, "{tokens}");
        }
        let calls_a_minute = 30_000 * 60;
        assert_eq!(parts(calls_a_minute * domain::limits::BUDGET_CALL_TOKENS).len(), 120);
    }
}
