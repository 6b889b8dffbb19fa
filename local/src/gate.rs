//! Where a target's requests meet its faults.

use std::sync::atomic::{AtomicU64, Ordering};

use bedrock_stand_in::happens;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::fault::Fault;

/// What has come to a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Traffic {
    /// Requests since the start, whatever became of them.
    pub requests: u64,
    /// Requests that are being answered; of Valkey, connections that are open.
    pub in_flight: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It is passed on.
    Pass,
    /// It fails.
    Fail,
    /// It is turned away because there are too many.
    Throttle,
}

/// A fault and how many requests have met it: requests are told by their number, so that the same requests meet the same
/// every time a fault is set.
#[derive(Default)]
struct InForce {
    fault: Fault,
    met: AtomicU64,
}

/// One target's fault and counters.
pub(crate) struct Gate {
    in_force: watch::Sender<InForce>,
    requests: AtomicU64,
    in_flight: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        let in_force = watch::Sender::new(InForce::default());
        Self { in_force, requests: AtomicU64::new(0), in_flight: AtomicU64::new(0) }
    }
}

impl Gate {
    /// Replaces the fault; requests that are stalled meet the new one.
    pub(crate) fn set(&self, fault: Fault) {
        self.in_force.send_replace(InForce { fault, met: AtomicU64::new(0) });
    }

    /// The fault in force.
    pub(crate) fn fault(&self) -> Fault {
        self.in_force.borrow().fault
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic { requests: self.requests.load(Ordering::Relaxed), in_flight: self.in_flight.load(Ordering::Relaxed) }
    }

    /// Counts as in flight until it is dropped.
    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Counts a request, keeps it waiting as the fault says and tells what becomes of it.
    pub(crate) async fn meet(&self) -> Verdict {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut changes = self.in_force.subscribe();
        loop {
            let (fault, number) = {
                let in_force = changes.borrow_and_update();
                (in_force.fault, in_force.met.fetch_add(1, Ordering::Relaxed))
            };
            if happens(0, number, 0, fault.throttle_rate) {
                return Verdict::Throttle;
            }
            if happens(0, number, 1, fault.error_rate) {
                return Verdict::Fail;
            }
            // The sender is ours: there will be a change, or this is dropped.
            if happens(0, number, 2, fault.stall_rate) && changes.changed().await.is_ok() {
                continue;
            }
            if !fault.latency.is_zero() {
                sleep(fault.latency).await;
            }
            return Verdict::Pass;
        }
    }
}

/// Something in flight.
pub(crate) struct InFlight<'a>(&'a Gate);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::*;

    fn gate(fault: &str) -> Gate {
        let gate = Gate::default();
        gate.set(fault.parse().unwrap());
        gate
    }

    async fn verdicts(gate: &Gate, count: usize) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for _ in 0..count {
            verdicts.push(gate.meet().await);
        }
        verdicts
    }

    #[tokio::test]
    async fn without_a_fault_everything_passes() {
        let gate = Gate::default();
        assert_eq!(verdicts(&gate, 100).await, [Verdict::Pass; 100]);
        assert_eq!(gate.traffic(), Traffic { requests: 100, in_flight: 0 });
    }

    #[tokio::test]
    async fn a_share_fails_and_the_same_requests_do_each_time() {
        let gate = gate("error=0.25 throttle=0.5");
        let first = verdicts(&gate, 1_000).await;
        let count = |verdict| first.iter().filter(|other| **other == verdict).count();
        assert!((450..550).contains(&count(Verdict::Throttle)), "{}", count(Verdict::Throttle));
        // A quarter of the half that is left.
        assert!((95..155).contains(&count(Verdict::Fail)), "{}", count(Verdict::Fail));

        gate.set(gate.fault());
        assert_eq!(verdicts(&gate, 1_000).await, first);
        assert_eq!(gate.traffic().requests, 2_000);
    }

    #[tokio::test]
    async fn all_is_all() {
        assert_eq!(verdicts(&gate("error=1"), 100).await, [Verdict::Fail; 100]);
        assert_eq!(verdicts(&gate("throttle"), 100).await, [Verdict::Throttle; 100]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_late_and_what_fails_is_not() {
        let begun = Instant::now();
        assert_eq!(gate("latency=200ms").meet().await, Verdict::Pass);
        assert_eq!(begun.elapsed(), Duration::from_millis(200));
        assert_eq!(gate("latency=200ms error=1").meet().await, Verdict::Fail);
        assert_eq!(begun.elapsed(), Duration::from_millis(200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_request_meets_what_comes_after() {
        for (after, expected) in [("off", Verdict::Pass), ("error=1", Verdict::Fail)] {
            let gate = gate("stall");
            let mut stalled = Box::pin(gate.meet());
            timeout(Duration::from_secs(1_000), &mut stalled).await.unwrap_err();
            gate.set("stall latency=1s".parse().unwrap());
            timeout(Duration::from_secs(1_000), &mut stalled).await.unwrap_err();
            gate.set(after.parse().unwrap());
            assert_eq!(stalled.await, expected);
            assert_eq!(gate.traffic().requests, 1, "it is one request all the time");
        }
    }

    #[test]
    fn what_is_dropped_is_in_flight_no_longer() {
        let gate = Gate::default();
        let one = gate.in_flight();
        let other = gate.in_flight();
        assert_eq!(gate.traffic().in_flight, 2);
        drop((one, other));
        assert_eq!(gate.traffic().in_flight, 0);
    }
}
