//! Breakers at work: what calls find out about an upstream, its breaker, the metrics and the other environments are told.

use crate::breaker::{Breakers, Passage, Transition, Upstream};
use crate::metrics::{Measure, Metrics};
use crate::ports::{Clock, SharedHints};

/// The breakers of an execution environment, which heeds what the others have found and tells them what it has.
#[derive(Debug)]
pub struct Guard<C, M, H> {
    clock: C,
    metrics: M,
    hints: H,
    breakers: Breakers,
}

impl<C: Clock, M: Metrics, H: SharedHints> Guard<C, M, H> {
    /// All breakers are closed.
    pub fn new(clock: C, metrics: M, hints: H) -> Self {
        Self { clock, metrics, hints, breakers: Breakers::default() }
    }

    /// By which the breakers open and close.
    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// Which count the calls spared, and every transition.
    pub fn metrics(&self) -> &M {
        &self.metrics
    }

    /// What other environments have found.
    pub fn hints(&self) -> &H {
        &self.hints
    }

    /// Asks to call an upstream; none means to leave it alone. Who is let through reports back by [`succeeded`] or
    /// [`failed`], unless the call has shown neither.
    ///
    /// [`succeeded`]: Self::succeeded
    /// [`failed`]: Self::failed
    pub fn enter(&self, upstream: Upstream) -> Option<Passage> {
        let hint = self.hints.breaker(upstream);
        let (passage, transition) = self.breakers.of(upstream).enter(self.clock.now_ms(), hint);
        self.tell(upstream, transition);
        if passage.is_none() {
            self.metrics.record(Measure::spared_call(upstream));
        }
        passage
    }

    /// The call was answered.
    pub fn succeeded(&self, upstream: Upstream, passage: Passage) {
        self.tell(upstream, self.breakers.of(upstream).succeeded(passage, self.clock.now_ms()));
    }

    /// The call failed, with all retries it was allowed.
    pub fn failed(&self, upstream: Upstream, passage: Passage) {
        self.tell(upstream, self.breakers.of(upstream).failed(passage, self.clock.now_ms()));
    }

    fn tell(&self, upstream: Upstream, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        tracing::warn!(upstream = upstream.name(), transition = transition.name(), "a breaker has changed");
        self.metrics.record(Measure::breaker(upstream, transition));
        if let Transition::Opened { until } = transition {
            self.hints.opened(upstream, until);
        }
    }
}
