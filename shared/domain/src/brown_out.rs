//! How much of the models an answer may use. Under pressure answers get smaller, step by step, instead of failing: a shorter
//! answer, a cheaper model, fixed words, and at last the follow-up queue.

use std::pin::pin;

use futures_util::future::{Either, select};

use crate::limits::{ANSWER_TOKENS_MAX, BUDGET_WAIT_MS, SHORT_ANSWER_TOKENS_MAX};
use crate::ports::{Clock, ModelChoice, Ports, Reservation, TokenBudgets as _, Unavailable};
use crate::protocol::BrownOutStep;

/// A way to ask a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Which one.
    pub model: ModelChoice,
    /// Tokens the answer may have.
    pub answer_tokens_max: u32,
    /// What the shopper is told of it, if it is less than usual.
    pub step: Option<BrownOutStep>,
}

/// From the best to the least.
const LADDER: [Rung; 3] = [
    Rung { model: ModelChoice::Primary, answer_tokens_max: ANSWER_TOKENS_MAX, step: None },
    Rung {
        model: ModelChoice::Primary,
        answer_tokens_max: SHORT_ANSWER_TOKENS_MAX,
        step: Some(BrownOutStep::ShorterAnswer),
    },
    Rung {
        model: ModelChoice::Cheaper,
        answer_tokens_max: SHORT_ANSWER_TOKENS_MAX,
        step: Some(BrownOutStep::CheaperModel),
    },
];

/// Leave to ask a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// How.
    pub rung: Rung,
    /// What was set aside for it; none when the budgets did not answer.
    pub reservation: Option<Reservation>,
}

/// What is known of the leave to ask a model when a turn begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Allowance {
    /// Nobody has asked for it.
    #[default]
    Unasked,
    /// It was given.
    Granted(Grant),
    /// The budgets have no room.
    Refused,
}

impl From<Option<Grant>> for Allowance {
    fn from(grant: Option<Grant>) -> Self {
        grant.map_or(Self::Refused, Self::Granted)
    }
}

/// Asks for leave to ask a model with a prompt of so many tokens, as well as there is room; not of `refused` or what comes
/// before it. None if there is no room at all. Budgets that do not answer hold nobody up: Bedrock has quotas of its own.
pub async fn grant<P: Ports>(ports: &P, input_tokens: u64, refused: Option<ModelChoice>) -> Option<Grant> {
    let first = match refused {
        None => 0,
        Some(ModelChoice::Primary) => LADDER.iter().position(|rung| rung.model == ModelChoice::Cheaper)?,
        Some(ModelChoice::Cheaper) => return None,
    };
    let patience = ports.clock().now_ms() + BUDGET_WAIT_MS;
    for rung in LADDER.into_iter().skip(first) {
        let tokens = input_tokens + u64::from(rung.answer_tokens_max);
        let reserving = ports.budgets().reserve(rung.model, tokens, ports.clock().now_ms());
        match answered_by(ports.clock(), patience, reserving).await {
            Ok(Some(reservation)) => return Some(Grant { rung, reservation: Some(reservation) }),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the token budget did not answer");
                return Some(Grant { rung, reservation: None });
            }
        }
    }
    None
}

/// Gives back what a call did not use. What cannot be given back comes back with the next minute.
pub async fn settle<P: Ports>(ports: &P, grant: &Grant, used_tokens: u64) {
    let Some(reservation) = &grant.reservation else { return };
    let now = ports.clock().now_ms();
    let settling = ports.budgets().settle(reservation, used_tokens, now);
    if let Err(error) = answered_by(ports.clock(), now + BUDGET_WAIT_MS, settling).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "a reservation of tokens was not settled");
    }
}

/// What the budgets answer, if they do so in time, Unix milliseconds.
async fn answered_by<T>(
    clock: &impl Clock,
    patience: u64,
    call: impl Future<Output = Result<T, Unavailable>>,
) -> Result<T, Unavailable> {
    match select(pin!(call), pin!(clock.sleep_until(patience))).await {
        Either::Left((answer, _)) => answer,
        Either::Right(((), _)) => Err(Unavailable { operation: "token budget", source: "it was late".into() }),
    }
}
