//! Token budgets, in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::ports::{ModelChoice, Reservation, TokenBudgets, Unavailable};

/// A minute, ms.
const MINUTE_MS: u64 = 60_000;

#[derive(Debug, Default)]
struct Budgets {
    /// None is without limit.
    tokens_per_minute: HashMap<ModelChoice, u64>,
    reserved: HashMap<(ModelChoice, u64), u64>,
    settled: Vec<(Reservation, u64)>,
}

/// [`TokenBudgets`] kept in memory, without limits until they are set. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct MemoryBudgets(Arc<Mutex<Budgets>>);

impl MemoryBudgets {
    /// So many tokens of a model a minute from now on.
    pub fn limit(&self, model: ModelChoice, tokens_per_minute: u64) {
        self.0.lock().unwrap().tokens_per_minute.insert(model, tokens_per_minute);
    }

    /// What was settled, and with how many tokens, in order.
    pub fn settled(&self) -> Vec<(Reservation, u64)> {
        self.0.lock().unwrap().settled.clone()
    }

    /// What is set aside of a minute's budget.
    pub fn reserved(&self, model: ModelChoice, minute: u64) -> u64 {
        self.0.lock().unwrap().reserved.get(&(model, minute)).copied().unwrap_or_default()
    }
}

impl TokenBudgets for MemoryBudgets {
    async fn reserve(&self, model: ModelChoice, tokens: u64, now: u64) -> Result<Option<Reservation>, Unavailable> {
        let mut budgets = self.0.lock().unwrap();
        let limit = budgets.tokens_per_minute.get(&model).copied().unwrap_or(u64::MAX);
        let minute = now / MINUTE_MS;
        let reserved = budgets.reserved.entry((model, minute)).or_default();
        if limit - (*reserved).min(limit) < tokens {
            return Ok(None);
        }
        *reserved += tokens;
        Ok(Some(Reservation { model, minute, shard: 0, tokens }))
    }

    async fn settle(&self, reservation: &Reservation, used: u64, now: u64) -> Result<(), Unavailable> {
        let mut budgets = self.0.lock().unwrap();
        budgets.settled.push((reservation.clone(), used));
        if now / MINUTE_MS == reservation.minute {
            let reserved = budgets.reserved.entry((reservation.model, reservation.minute)).or_default();
            *reserved = (*reserved + used).saturating_sub(reservation.tokens);
        }
        Ok(())
    }
}
