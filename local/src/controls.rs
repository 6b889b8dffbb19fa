//! The faults of all targets, to be set and read.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bedrock_stand_in::{ExceptionKind, FaultControl, Faults, Stall};

use crate::fault::{Fault, Target};
use crate::gate::Gate;

/// What faults are set with.
#[derive(Clone)]
pub(crate) struct Controls {
    bedrock: FaultControl,
    /// Those of all other targets.
    gates: Arc<BTreeMap<Target, Arc<Gate>>>,
}

impl Controls {
    pub(crate) fn new(bedrock: FaultControl, gates: impl IntoIterator<Item = (Target, Arc<Gate>)>) -> Self {
        Self { bedrock, gates: Arc::new(gates.into_iter().collect()) }
    }

    /// Replaces a target's fault.
    pub(crate) fn set(&self, target: Target, fault: Fault) {
        match self.gates.get(&target) {
            Some(gate) => gate.set(fault),
            None => self.bedrock.set(as_model_faults(fault)),
        }
    }

    /// Ends every fault, those that only the model knows included.
    pub(crate) fn clear(&self) {
        for target in Target::ALL {
            self.set(target, Fault::default());
        }
    }

    /// A target's fault in force.
    pub(crate) fn get(&self, target: Target) -> Fault {
        self.gates.get(&target).map_or_else(|| of_model_faults(&self.bedrock.get()), |gate| gate.fault())
    }

    /// A target's gate; the model has none.
    pub(crate) fn gate(&self, target: Target) -> Option<&Gate> {
        self.gates.get(&target).map(Arc::as_ref)
    }

    /// Every target with its fault, a line each.
    pub(crate) fn listing(&self) -> String {
        let mut lines = String::new();
        for target in Target::ALL {
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{:<16} {}", target.name(), self.get(target));
        }
        lines
    }
}

/// A stalled answer stalls before its first token, until the client gives up.
fn as_model_faults(fault: Fault) -> Faults {
    Faults {
        throttle_rate: fault.throttle_rate,
        error_rate: fault.error_rate,
        error: ExceptionKind::ServiceUnavailable,
        stall: (fault.stall_rate > 0.0).then_some(Stall { rate: fault.stall_rate, after_tokens: 0, duration_ms: None }),
        first_token_extra_ms: u64::try_from(fault.latency.as_millis()).unwrap_or(u64::MAX),
        ..Faults::default()
    }
}

/// As far as it can be said: the stand-in has faults that only the model knows.
fn of_model_faults(faults: &Faults) -> Fault {
    Fault {
        error_rate: faults.error_rate,
        latency: Duration::from_millis(faults.first_token_extra_ms),
        stall_rate: faults.stall.as_ref().map_or(0.0, |stall| stall.rate),
        throttle_rate: faults.throttle_rate,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bedrock_stand_in::{Config, StandIn};

    use super::*;
    use crate::ports;

    /// Controls without anything that they would strike but the stand-in.
    pub(crate) async fn controls() -> (StandIn, Controls) {
        let bedrock = StandIn::start(ports::listen_on_free().await.unwrap(), Config::default());
        let gates = Target::ALL.into_iter().filter(|target| *target != Target::Bedrock);
        let controls = Controls::new(bedrock.fault_control(), gates.map(|target| (target, Arc::default())));
        (bedrock, controls)
    }

    #[tokio::test]
    async fn each_target_has_a_fault_of_its_own_and_all_end_at_once() {
        let (_bedrock, controls) = controls().await;
        for (target, number) in Target::ALL.into_iter().zip(1..) {
            controls.set(target, Fault { latency: Duration::from_millis(number), ..Fault::default() });
        }
        let expected = "bedrock          latency=1ms\n\
                        catalog          latency=2ms\n\
                        recommendations  latency=3ms\n\
                        orders           latency=4ms\n\
                        promotions       latency=5ms\n\
                        reviews          latency=6ms\n\
                        knowledge        latency=7ms\n\
                        valkey           latency=8ms\n";
        assert_eq!(controls.listing(), expected);
        controls.clear();
        assert!(Target::ALL.into_iter().all(|target| controls.get(target) == Fault::default()));
    }

    #[tokio::test]
    async fn the_model_meets_its_fault_and_tells_it() {
        let (_bedrock, controls) = controls().await;
        let text = "error=0.1 latency=1.5s stall=0.2 throttle=0.3";
        controls.set(Target::Bedrock, text.parse().unwrap());
        let expected = Faults {
            throttle_rate: 0.3,
            error_rate: 0.1,
            error: ExceptionKind::ServiceUnavailable,
            stall: Some(Stall { rate: 0.2, after_tokens: 0, duration_ms: None }),
            first_token_extra_ms: 1_500,
            ..Faults::default()
        };
        assert_eq!(controls.bedrock.get(), expected);
        assert_eq!(controls.get(Target::Bedrock).to_string(), text);
        controls.clear();
        assert_eq!(controls.bedrock.get(), Faults { error: ExceptionKind::ServiceUnavailable, ..Faults::default() });
    }
}
