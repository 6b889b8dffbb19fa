//! Circuit breakers: an upstream whose retries were exhausted is left alone for a while, then tried by one call.
//!
//! Each execution environment has a breaker of its own for each upstream. What the others have found is a hint: a few
//! reports make this one careful, and only several make it leave the upstream alone. Whoever hears of an open breaker still
//! probes by itself after [`BREAKER_OPEN_MS`], so that no hint, true or false, keeps an upstream down.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::{BREAKER_OPEN_MS, BREAKER_PROBE_MS, BREAKER_REPORTS_MIN};

/// What the answer to a question may depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Upstream {
    /// Product search, look-up, prices, stock, and what is trending.
    Catalog,
    /// Recommendations.
    Recommendations,
    /// Orders.
    Orders,
    /// Campaigns.
    Promotions,
    /// Reviews.
    Reviews,
    /// Help articles.
    Knowledge,
    /// The model.
    Model,
}

impl Upstream {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Catalog,
        Self::Recommendations,
        Self::Orders,
        Self::Promotions,
        Self::Reviews,
        Self::Knowledge,
        Self::Model,
    ];

    /// For metrics and keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Recommendations => "recommendations",
            Self::Orders => "orders",
            Self::Promotions => "promotions",
            Self::Reviews => "reviews",
            Self::Knowledge => "knowledge",
            Self::Model => "model",
        }
    }
}

/// What other environments have found out about an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hint {
    /// How many environments say that their breaker is open now.
    pub reports: usize,
    /// Until when the last of them is, Unix milliseconds.
    pub open_until: u64,
}

/// Whether and how an upstream may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// As ever, with retries.
    Free,
    /// Once, without retries, to see whether it is back. The answer counts until this time, Unix milliseconds; afterwards
    /// another call may probe.
    Probe {
        /// Unix milliseconds.
        deadline: u64,
    },
}

/// A breaker has changed its mind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Retries were exhausted, or a probe has failed.
    Opened {
        /// Unix milliseconds.
        until: u64,
    },
    /// A probe is under way.
    HalfOpened,
    /// A probe has succeeded.
    Closed,
}

impl Transition {
    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened { .. } => "opened",
            Self::HalfOpened => "half_opened",
            Self::Closed => "closed",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: u64,
    },
    HalfOpen {
        deadline: u64,
    },
}

#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    state: State,
    /// Hints count for nothing before this time, Unix milliseconds: a call of our own says otherwise.
    knows_better_until: u64,
}

/// The breaker of one upstream in one environment. All times are Unix milliseconds.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<Memory>);

impl Breaker {
    /// Asks to call the upstream; none means to leave it alone. A call that is let through reports back with the passage it
    /// was given; one that never does, because it was dropped, blocks nothing.
    pub fn enter(&self, now: u64, hint: Hint) -> (Option<Passage>, Option<Transition>) {
        let mut memory = self.memory();
        let open_until = match memory.state {
            State::Open { until } => Some(until),
            State::HalfOpen { deadline } if deadline > now => return (None, None),
            State::HalfOpen { .. } => Some(0),
            State::Closed if hint.open_until <= now || memory.knows_better_until > now => None,
            // Heeded once: after that this environment has seen for itself.
            State::Closed if hint.reports >= BREAKER_REPORTS_MIN => Some(hint.open_until.min(now + BREAKER_OPEN_MS)),
            State::Closed => Some(0),
        };
        match open_until {
            None => (Some(Passage::Free), None),
            Some(until) if until > now => {
                let opens = memory.state == State::Closed;
                memory.state = State::Open { until };
                (None, opens.then_some(Transition::Opened { until }))
            }
            Some(_) => {
                let deadline = now + BREAKER_PROBE_MS;
                memory.state = State::HalfOpen { deadline };
                (Some(Passage::Probe { deadline }), Some(Transition::HalfOpened))
            }
        }
    }

    /// The call was answered.
    pub fn succeeded(&self, passage: Passage, now: u64) -> Option<Transition> {
        let mut memory = self.memory();
        match (passage, memory.state) {
            (Passage::Probe { deadline }, State::HalfOpen { deadline: current }) if deadline == current => {
                *memory = Memory { state: State::Closed, knows_better_until: now + BREAKER_OPEN_MS };
                Some(Transition::Closed)
            }
            // The upstream failed after this call had begun.
            (Passage::Free | Passage::Probe { .. }, State::Open { .. } | State::HalfOpen { .. } | State::Closed) => {
                None
            }
        }
    }

    /// The call failed, with all retries it was allowed.
    pub fn failed(&self, passage: Passage, now: u64) -> Option<Transition> {
        let mut memory = self.memory();
        let opens = match (passage, memory.state) {
            (Passage::Free, State::Closed) => true,
            (Passage::Probe { deadline }, State::HalfOpen { deadline: current }) => deadline == current,
            (Passage::Free | Passage::Probe { .. }, State::Open { .. } | State::HalfOpen { .. } | State::Closed) => {
                false
            }
        };
        opens.then(|| {
            let until = now + BREAKER_OPEN_MS;
            *memory = Memory { state: State::Open { until }, knows_better_until: 0 };
            Transition::Opened { until }
        })
    }

    /// Nothing can panic while the lock is held.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The breakers of an environment, one for each upstream.
#[derive(Debug, Default)]
pub struct Breakers([Breaker; Upstream::ALL.len()]);

impl Breakers {
    /// The breaker of an upstream.
    pub fn of(&self, upstream: Upstream) -> &Breaker {
        let [catalog, recommendations, orders, promotions, reviews, knowledge, model] = &self.0;
        match upstream {
            Upstream::Catalog => catalog,
            Upstream::Recommendations => recommendations,
            Upstream::Orders => orders,
            Upstream::Promotions => promotions,
            Upstream::Reviews => reviews,
            Upstream::Knowledge => knowledge,
            Upstream::Model => model,
        }
    }
}
