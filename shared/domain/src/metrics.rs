//! What is counted, for the dashboard and the alarms. Nothing of a shopper is a value or a dimension.

use crate::breaker::{Transition, Upstream};
use crate::intent::Intent;
use crate::protocol::{BrownOutStep, TurnPath};

/// Takes measures. Must not block, and cannot fail.
pub trait Metrics: Send + Sync {
    /// Takes one.
    fn record(&self, measure: Measure);
}

/// In what a value is counted, as CloudWatch names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
}

/// One value of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Measure {
    /// The metric.
    pub name: &'static str,
    /// In what it is counted.
    pub unit: Unit,
    /// How much.
    pub value: u64,
    /// What it is told apart by, if anything: a name and a value.
    pub dimension: Option<(&'static str, &'static str)>,
}

/// What a look into a cache came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheOutcome {
    /// Found in this process.
    HitInProcess,
    /// Found in Valkey.
    HitShared,
    /// Asked for.
    Miss,
    /// Older than it should be, and used because the source is down.
    Stale,
}

impl Measure {
    fn count(name: &'static str, value: u64) -> Self {
        Self { name, unit: Unit::Count, value, dimension: None }
    }

    fn by(self, name: &'static str, value: &'static str) -> Self {
        Self { dimension: Some((name, value)), ..self }
    }

    /// A turn's first owner has chosen how to answer it: the share of each path.
    pub fn turn_on_path(path: TurnPath) -> Self {
        Self::count("Turns", 1).by("path", path.name())
    }

    /// What a turn is about.
    pub fn turn_about(intent: Intent) -> Self {
        Self::count("Intents", 1).by("intent", intent.name())
    }

    /// Nobody can say what a turn is about: the model is asked.
    pub fn unsure() -> Self {
        Self::count("Intents", 1).by("intent", "unsure")
    }

    /// A breaker has opened, is being probed, or has closed.
    pub fn breaker(upstream: Upstream, transition: Transition) -> Self {
        let name = match transition {
            Transition::Opened { .. } => "BreakerOpened",
            Transition::HalfOpened => "BreakerHalfOpened",
            Transition::Closed => "BreakerClosed",
        };
        Self::count(name, 1).by("upstream", upstream.name())
    }

    /// A call was not made because its breaker is open.
    pub fn spared_call(upstream: Upstream) -> Self {
        Self::count("CallsSpared", 1).by("upstream", upstream.name())
    }

    /// A look into the cache of what an upstream says.
    pub fn cache(outcome: CacheOutcome, upstream: Upstream) -> Self {
        let name = match outcome {
            CacheOutcome::HitInProcess => "CacheHitsInProcess",
            CacheOutcome::HitShared => "CacheHitsShared",
            CacheOutcome::Miss => "CacheMisses",
            CacheOutcome::Stale => "CacheStale",
        };
        Self::count(name, 1).by("upstream", upstream.name())
    }

    /// An answer was made smaller because the model is under pressure.
    pub fn brown_out(step: BrownOutStep) -> Self {
        Self::count("BrownOuts", 1).by("step", step.name())
    }

    /// A question or an answer was blocked by a guardrail, or a question by our own check.
    pub fn blocked() -> Self {
        Self::count("GuardrailBlocks", 1)
    }

    /// A question was put to the guardrails: what [`Self::blocked`] is a share of.
    pub fn guarded() -> Self {
        Self::count("GuardrailChecks", 1)
    }

    /// Instructions were taken out of the store's data.
    pub fn instructions_dropped(texts: u64) -> Self {
        Self::count("InstructionsDropped", texts)
    }

    /// Prices, stock or order states that the model had made up were taken out of an answer.
    pub fn facts_replaced(facts: u64) -> Self {
        Self::count("FactsReplaced", facts)
    }

    /// A conversation was handed to a person.
    pub fn escalation() -> Self {
        Self::count("Escalations", 1)
    }

    /// From the frame to the first text of the answer.
    pub fn first_token_ms(value: u64) -> Self {
        Self { unit: Unit::Milliseconds, ..Self::count("FirstToken", value) }
    }

    /// Tokens of the model's prompt and answer.
    pub fn tokens(value: u64) -> Self {
        Self::count("ModelTokens", value)
    }
}
