//! Calls of a service: attempts with retries, within a deadline, behind a breaker.

use std::pin::pin;
use std::time::Duration;

use backon::Retryable as _;
use domain::breaker::{Breakers, Passage, Transition, Upstream};
use domain::limits::{RETRIES_MAX, RETRY_AFTER_MS_MAX, RETRY_PAUSE_MS};
use domain::metrics::{Measure, Metrics};
use domain::ports::{Clock, SharedHints};
use futures_util::future::{Either, select};

use crate::http::Failure;

/// Makes calls, and remembers which services are down.
#[derive(Debug)]
pub(crate) struct Calls<C, M, H> {
    pub(crate) clock: C,
    pub(crate) metrics: M,
    pub(crate) hints: H,
    breakers: Breakers,
}

impl<C: Clock + Clone + 'static, M: Metrics, H: SharedHints> Calls<C, M, H> {
    pub(crate) fn new(clock: C, metrics: M, hints: H) -> Self {
        Self { clock, metrics, hints, breakers: Breakers::default() }
    }

    /// Calls an upstream, unless it is to be left alone. `attempt` is made again while it fails in a way that may pass and
    /// there is time before `deadline`, Unix milliseconds; each attempt ends within `timeout_ms`.
    pub(crate) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        upstream: Upstream,
        timeout_ms: u64,
        deadline: u64,
        attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let breaker = self.breakers.of(upstream);
        let began = self.clock.now_ms();
        if began >= deadline {
            return Err(Failure::Late);
        }
        let (passage, transition) = breaker.enter(began, self.hints.breaker(upstream));
        self.tell(upstream, transition);
        let Some(passage) = passage else {
            self.metrics.record(Measure::spared_call(upstream));
            return Err(Failure::Spared);
        };
        let answer = self.persist(passage, timeout_ms, deadline, attempt).await;
        let now = self.clock.now_ms();
        let transition = match &answer {
            // A call that had less than an attempt's time says nothing about the service.
            Err(Failure::Late) if deadline.saturating_sub(began) < timeout_ms => None,
            Err(failure) if failure.is_the_upstreams() => breaker.failed(passage, now),
            Ok(_) | Err(_) => breaker.succeeded(passage, now),
        };
        self.tell(upstream, transition);
        answer
    }

    async fn persist<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        passage: Passage,
        timeout_ms: u64,
        deadline: u64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let sleeping = self.clock.clone();
        let sleep = move |pause: Duration| {
            let clock = sleeping.clone();
            async move { clock.sleep_until(after(clock.now_ms(), pause)).await }
        };
        let in_time = || {
            let until = deadline.min(self.clock.now_ms().saturating_add(timeout_ms));
            let attempt = attempt();
            async move {
                match select(pin!(attempt), pin!(self.clock.sleep_until(until))).await {
                    Either::Left((answer, _)) => answer,
                    Either::Right(((), _)) => Err(Failure::Late),
                }
            }
        };
        in_time
            .retry(pauses(passage))
            .sleep(sleep)
            .when(Failure::may_pass)
            .adjust(|failure, pause| {
                let wanted = failure.retry_after_ms().unwrap_or_default();
                let pause = pause?.max(Duration::from_millis(wanted));
                let waits = wanted <= RETRY_AFTER_MS_MAX && after(self.clock.now_ms(), pause) < deadline;
                waits.then_some(pause)
            })
            .await
    }

    fn tell(&self, upstream: Upstream, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        self.metrics.record(Measure::breaker(upstream, transition));
        tracing::warn!(upstream = upstream.name(), transition = transition.name(), "breaker changed");
        if let Transition::Opened { until } = transition {
            self.hints.opened(upstream, until);
        }
    }
}

/// Before each retry: exponential with full jitter. A probe is not retried.
fn pauses(passage: Passage) -> impl Iterator<Item = Duration> + Send + Sync + Unpin {
    let retries = match passage {
        Passage::Free => RETRIES_MAX,
        Passage::Probe { .. } => 0,
    };
    (0..retries).map(|retry| Duration::from_millis(fastrand::u64(0..=RETRY_PAUSE_MS << retry)))
}

fn after(now: u64, pause: Duration) -> u64 {
    now.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
}
