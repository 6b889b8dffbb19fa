//! `DynamoDbBudgets` on an engine.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_adapters::{BudgetLimits, DynamoDbBudgets};
use aws_sdk_dynamodb::Client;
use domain::limits::{BUDGET_REFUSAL_MS, BUDGET_SHARD_TOKENS, BUDGET_SHARD_TRIES_MAX};
use domain::ports::{ModelChoice, Reservation, TokenBudgets as _};
use fastrand::Rng;
use futures_util::future::join_all;
use testkit::{START_MS, contract};

use crate::engine::{Engine, TABLE, Wire, client, patient};
use crate::fake::nobody;
use crate::{failure, within};

const PRIMARY: ModelChoice = ModelChoice::Primary;

/// A minute, ms. Tests begin at the beginning of one.
const MINUTE_MS: u64 = 60_000;

/// An environment of its own, with a budget of the primary model.
fn budgets(client: &Client, primary: u64) -> DynamoDbBudgets {
    DynamoDbBudgets::new(client.clone(), TABLE, BudgetLimits { primary: Some(primary), cheaper: None })
}

async fn reserved(budgets: &DynamoDbBudgets, tokens: u64, now: u64) -> Option<Reservation> {
    within(budgets.reserve(PRIMARY, tokens, now)).await.unwrap()
}

/// What is set aside of a minute, by parts.
async fn set_aside(engine: &Engine, minute: u64) -> Vec<u64> {
    let items = engine.lines().await;
    let keys = items.keys().filter_map(|key| key.split_once(' ')).filter(|(_, sk)| *sk == minute.to_string());
    join_all(keys.map(async |(pk, sk)| {
        let item = engine.item(pk, sk).await;
        item["reserved"].as_n().unwrap().parse().unwrap()
    }))
    .await
}

fn operations(wire: &Wire) -> Vec<String> {
    wire.requests().into_iter().map(|(operation, _)| operation).collect()
}

#[tokio::test]
async fn keeps_its_contract_in_one_part() {
    let engine = Engine::start().await;
    let environments: Vec<_> = (0..4).map(|_| budgets(&engine.client, 10_007)).collect();
    within(contract::token_budgets(&environments, 10_007, START_MS)).await;
}

#[tokio::test]
async fn keeps_its_contract_in_four_parts() {
    let engine = Engine::start().await;
    let budget = 4 * BUDGET_SHARD_TOKENS - 1;
    let environments: Vec<_> = (0..4).map(|_| budgets(&engine.client, budget)).collect();
    within(contract::token_budgets(&environments, budget, START_MS)).await;
    assert_eq!(set_aside(&engine, START_MS / MINUTE_MS + 11).await.len(), 4);
}

/// What 64 environments set aside in a minute, all asking at once until nothing is left: the tokens that were granted and
/// not given back, and the most there ever were.
async fn a_busy_minute(environments: &[DynamoDbBudgets], budget: u64, minute: u64) -> (u64, u64) {
    // Goes up after tokens were set aside and down before they are given back: never more than what really is.
    let (ledger, most) = (AtomicU64::new(0), AtomicU64::new(0));
    join_all(environments.iter().enumerate().map(|(environment, budgets)| {
        let (ledger, most) = (&ledger, &most);
        async move {
            let mut rng = Rng::with_seed(minute << 8 | environment as u64);
            for second in (0..60).step_by(5) {
                let now = (minute * 60 + second) * 1_000;
                // One call in eight is ten times as large; together they ask for more than twice the budget.
                let usual = budget / 500;
                let tokens = if rng.u8(..8) == 0 { 10 * usual } else { rng.u64(usual / 2..=usual) };
                let Some(reservation) = budgets.reserve(PRIMARY, tokens, now).await.unwrap() else { continue };
                most.fetch_max(ledger.fetch_add(tokens, Ordering::Relaxed) + tokens, Ordering::Relaxed);
                let used = rng.u64(tokens / 2..=tokens);
                ledger.fetch_sub(tokens - used, Ordering::Relaxed);
                budgets.settle(&reservation, used, now).await.unwrap();
            }
        }
    }))
    .await;
    (ledger.into_inner(), most.into_inner())
}

#[tokio::test]
async fn sixty_four_environments_never_exceed_a_budget_and_use_nine_tenths_of_it() {
    let engine = Engine::start().await;
    let client = patient(&engine.client);
    for parts in [1, 16] {
        let budget = parts * BUDGET_SHARD_TOKENS;
        let environments: Vec<_> = (0..64).map(|_| budgets(&client, budget)).collect();
        for minute in 1..=2 {
            let minute = START_MS / MINUTE_MS + 10 * parts + minute;
            let (left, most) = within(a_busy_minute(&environments, budget, minute)).await;
            let stored = set_aside(&engine, minute).await;
            assert!(most <= budget, "{most} of {budget} in {parts} parts");
            assert!(left >= budget / 10 * 9, "only {left} of {budget} in {parts} parts");
            assert!(stored.iter().all(|part| *part <= BUDGET_SHARD_TOKENS), "{stored:?}");
            assert_eq!(stored.iter().sum::<u64>(), left, "what was settled is what is stored");
        }
    }
}

#[tokio::test]
async fn items_are_laid_out_as_documented_and_outlive_their_minute() {
    let engine = Engine::start().await;
    let limits = BudgetLimits { primary: Some(10), cheaper: Some(10) };
    let budgets = DynamoDbBudgets::new(engine.client.clone(), TABLE, limits);
    for model in [PRIMARY, ModelChoice::Cheaper] {
        budgets.reserve(model, 1, START_MS + MINUTE_MS - 1).await.unwrap().unwrap();
    }
    let minute = START_MS / MINUTE_MS;
    let expires_at = (minute + 2) * 60;
    let expected = [format!("budget#cheaper#0 {minute}"), format!("budget#primary#0 {minute}")];
    let expected = expected.map(|key| (key, format!("expires_at reserved = {expires_at}")));
    assert_eq!(engine.lines().await, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_call_costs_two_writes_and_a_refusal_none_after_the_first() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(0).await;
    let budgets = budgets(&wire.client, 100);
    let half = reserved(&budgets, 50, START_MS).await.unwrap();
    let rest = reserved(&budgets, 50, START_MS).await.unwrap();
    budgets.settle(&half, 30, START_MS).await.unwrap();
    assert_eq!(operations(&wire), ["UpdateItem"; 3]);

    budgets.settle(&rest, 50, START_MS).await.unwrap();
    budgets.settle(&rest, 1, START_MS + MINUTE_MS).await.unwrap();
    assert_eq!(operations(&wire).len(), 3, "nothing is left over, or the minute is");

    assert_eq!(reserved(&budgets, 21, START_MS).await, None);
    assert_eq!(operations(&wire).len(), 4);
    for (tokens, now) in [(21, START_MS + 1), (22, START_MS + BUDGET_REFUSAL_MS - 1), (101, START_MS + MINUTE_MS)] {
        assert_eq!(reserved(&budgets, tokens, now).await, None, "{tokens}");
    }
    assert_eq!(operations(&wire).len(), 4, "it knows, and no budget is so large");

    assert!(reserved(&budgets, 20, START_MS + 1).await.is_some(), "a smaller call has room");
    assert_eq!(reserved(&budgets, 21, START_MS + BUDGET_REFUSAL_MS).await, None);
    assert_eq!(operations(&wire).len(), 6, "and asks again later");
    assert!(reserved(&budgets, 100, START_MS + MINUTE_MS).await.is_some(), "a new minute, a new budget");
    assert_eq!(operations(&wire).len(), 7);
}

#[tokio::test]
async fn a_model_without_limit_costs_no_call() {
    let budgets = DynamoDbBudgets::new(client(&nobody().await), TABLE, BudgetLimits::default());
    for model in [PRIMARY, ModelChoice::Cheaper] {
        let reservation = budgets.reserve(model, u64::MAX, START_MS).await.unwrap().unwrap();
        budgets.settle(&reservation, 7, START_MS).await.unwrap();
    }
}

#[tokio::test]
async fn a_few_full_parts_stand_for_all_of_them() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(0).await;
    let parts = BUDGET_SHARD_TRIES_MAX as u64 + 3;
    let budgets = |client: &Client| budgets(client, parts * BUDGET_SHARD_TOKENS);
    let (busy, late) = (budgets(&engine.client), budgets(&wire.client));
    let half = BUDGET_SHARD_TOKENS / 2;
    for second in [0, 20, 40] {
        while reserved(&busy, half, START_MS + second * 1_000).await.is_some() {}
    }
    assert_eq!(set_aside(&engine, START_MS / MINUTE_MS).await, vec![2 * half; 7], "all of it can be had");

    let now = START_MS + 40_000;
    assert_eq!(reserved(&late, half, now).await, None);
    assert_eq!(operations(&wire).len(), BUDGET_SHARD_TRIES_MAX);
    for tokens in [half, 1] {
        assert_eq!(reserved(&late, tokens, now + BUDGET_REFUSAL_MS - 1).await, None);
    }
    assert_eq!(operations(&wire).len(), BUDGET_SHARD_TRIES_MAX, "it looks no further, not for a smaller call either");
    assert_eq!(reserved(&late, 1, now + BUDGET_REFUSAL_MS).await, None);
    assert_eq!(operations(&wire).len(), 2 * BUDGET_SHARD_TRIES_MAX, "until some time has passed");
}

#[tokio::test]
async fn lost_answers_count_too_much_and_never_too_little() {
    let engine = Engine::start().await;
    let wire = engine.behind_a_lossy_wire(1).await;
    let cut_off = budgets(&wire.client, 1_000);
    let minute = START_MS / MINUTE_MS;
    let reservation = reserved(&cut_off, 100, START_MS).await.unwrap();
    assert_eq!(set_aside(&engine, minute).await, [200], "taken by both attempts");

    failure(within(cut_off.settle(&reservation, 60, START_MS)).await);
    assert_eq!(set_aside(&engine, minute).await, [160], "given back by the only one");

    within(cut_off.settle(&reservation, 110, START_MS)).await.unwrap();
    assert_eq!(set_aside(&engine, minute).await, [180], "and what was used above it by both");
}

#[tokio::test]
async fn nothing_is_given_back_that_is_not_there() {
    let engine = Engine::start().await;
    let budgets = budgets(&engine.client, 100);
    let minute = START_MS / MINUTE_MS;
    let lost = Reservation { model: PRIMARY, minute, shard: 0, tokens: 50 };
    budgets.settle(&lost, 0, START_MS).await.unwrap();
    assert_eq!(engine.lines().await, BTreeMap::new(), "the table was emptied");
    reserved(&budgets, 49, START_MS).await.unwrap();
    budgets.settle(&lost, 0, START_MS).await.unwrap();
    assert_eq!(set_aside(&engine, minute).await, [49]);
}

#[tokio::test]
async fn without_its_table_or_out_of_reach_the_budgets_are_unavailable() {
    let engine = Engine::start().await;
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    for client in [engine.client.clone(), client(&nobody().await)] {
        let budgets = budgets(&client, 100);
        let reservation = Reservation { model: PRIMARY, minute: START_MS / MINUTE_MS, shard: 0, tokens: 50 };
        failure(within(budgets.reserve(PRIMARY, 50, START_MS)).await);
        failure(within(budgets.settle(&reservation, 0, START_MS)).await);
        failure(within(budgets.settle(&reservation, 51, START_MS)).await);
    }
}
