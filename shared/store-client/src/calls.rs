//! Calls of a service: attempts with retries, within a deadline, behind a breaker.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable as _;
use domain::breaker::{Passage, Upstream};
use domain::guard::Guard;
use domain::limits::{RETRIES_MAX, RETRY_AFTER_MS_MAX, RETRY_PAUSE_MS};
use domain::metrics::Metrics;
use domain::ports::{Clock, SharedHints};
use futures_util::future::{Either, select};

use crate::http::Failure;

/// Makes calls, of services that are not down.
#[derive(Debug)]
pub(crate) struct Calls<C, M, H> {
    pub(crate) guard: Arc<Guard<C, M, H>>,
}

impl<C: Clock + Clone + 'static, M: Metrics, H: SharedHints> Calls<C, M, H> {
    /// Calls an upstream, unless it is to be left alone. `attempt` is made again while it fails in a way that may pass and
    /// there is time before `deadline`, Unix milliseconds; each attempt ends within `timeout_ms`.
    pub(crate) async fn call<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        upstream: Upstream,
        timeout_ms: u64,
        deadline: u64,
        attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let began = self.guard.clock().now_ms();
        if began >= deadline {
            return Err(Failure::Late);
        }
        let passage = self.guard.enter(upstream).ok_or(Failure::Spared)?;
        let answer = self.persist(passage, timeout_ms, deadline, attempt).await;
        match &answer {
            // A call that had less than an attempt's time says nothing about the service.
            Err(Failure::Late) if deadline.saturating_sub(began) < timeout_ms => {}
            Err(failure) if failure.is_the_upstreams() => self.guard.failed(upstream, passage),
            Ok(_) | Err(_) => self.guard.succeeded(upstream, passage),
        }
        answer
    }

    async fn persist<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        passage: Passage,
        timeout_ms: u64,
        deadline: u64,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let clock = self.guard.clock();
        let sleeping = clock.clone();
        let sleep = move |pause: Duration| {
            let clock = sleeping.clone();
            async move { clock.sleep_until(after(clock.now_ms(), pause)).await }
        };
        let in_time = || {
            let until = deadline.min(clock.now_ms().saturating_add(timeout_ms));
            let attempt = attempt();
            async move {
                match select(pin!(attempt), pin!(clock.sleep_until(until))).await {
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
                let waits = wanted <= RETRY_AFTER_MS_MAX && after(clock.now_ms(), pause) < deadline;
                waits.then_some(pause)
            })
            .await
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
