//! Faults on purpose, chosen by counting, so that the same calls meet the same faults on every run.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exception::{Exception, ExceptionKind};

/// What goes wrong. A rate is the share of calls it happens to: 0 is never, 1 is always. The default is nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Share of calls refused with `ThrottlingException`.
    pub throttle_rate: f64,
    /// Share of calls refused with [`Faults::error`].
    pub error_rate: f64,
    /// What those calls are refused with.
    pub error: ExceptionKind,
    /// Ends an answer with an exception.
    pub mid_stream_error: Option<MidStreamError>,
    /// Falls silent within an answer.
    pub stall: Option<Stall>,
    /// Added before the first token, milliseconds.
    pub first_token_extra_ms: u64,
    /// Only calls of models whose ids hold one of these meet a fault; none is all of them.
    pub models: Vec<String>,
    /// Another seed, another choice of calls.
    pub seed: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            throttle_rate: 0.0,
            error_rate: 0.0,
            error: ExceptionKind::InternalServer,
            mid_stream_error: None,
            stall: None,
            first_token_extra_ms: 0,
            models: Vec::new(),
            seed: 0,
        }
    }
}

/// An exception in the middle of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MidStreamError {
    /// Share of answers.
    #[serde(default = "always")]
    pub rate: f64,
    /// So many tokens are said before; an answer shorter than that is spared.
    pub after_tokens: u64,
    /// Which exception.
    #[serde(default = "model_stream_error")]
    pub exception: ExceptionKind,
}

/// Silence in the middle of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stall {
    /// Share of answers.
    #[serde(default = "always")]
    pub rate: f64,
    /// So many tokens are said before; an answer shorter than that is spared.
    pub after_tokens: u64,
    /// How long, milliseconds; absent is until the client gives up.
    #[serde(default)]
    pub duration_ms: Option<u64>,
}

fn always() -> f64 {
    1.0
}

fn model_stream_error() -> ExceptionKind {
    ExceptionKind::ModelStreamError
}

/// What one answer meets on its way.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Course {
    pub first_token_extra: Duration,
    pub error_after: Option<(u64, Exception)>,
    /// Without a duration, for ever.
    pub stall_after: Option<(u64, Option<Duration>)>,
}

impl Faults {
    /// What calls of that model meet.
    pub(crate) fn of_model(self, model_id: &str) -> Self {
        match self.models.is_empty() || self.models.iter().any(|part| model_id.contains(part)) {
            true => self,
            false => Self::default(),
        }
    }

    /// Decides whether call number `call` is refused.
    ///
    /// # Errors
    /// With the exception it is refused with.
    pub(crate) fn admit(&self, call: u64) -> Result<(), Exception> {
        if self.happens(call, 0, self.throttle_rate) {
            return Err(Exception::new(
                ExceptionKind::Throttling,
                "Too many requests, please wait before trying again.",
            ));
        }
        if self.happens(call, 1, self.error_rate) {
            return Err(Exception::new(self.error, "The stand-in was told to fail this call."));
        }
        Ok(())
    }

    /// Decides what the answer to call number `call` meets.
    pub(crate) fn course(&self, call: u64) -> Course {
        let error = self.mid_stream_error.as_ref().filter(|error| self.happens(call, 2, error.rate));
        let stall = self.stall.as_ref().filter(|stall| self.happens(call, 3, stall.rate));
        Course {
            first_token_extra: Duration::from_millis(self.first_token_extra_ms),
            error_after: error.map(|error| {
                (error.after_tokens, Exception::new(error.exception, "The stand-in was told to break this answer off."))
            }),
            stall_after: stall.map(|stall| (stall.after_tokens, stall.duration_ms.map(Duration::from_millis))),
        }
    }

    fn happens(&self, call: u64, fault: u64, rate: f64) -> bool {
        happens(self.seed, call, fault, rate)
    }
}

/// Whether a fault that strikes that `rate` of calls strikes call number `call`. The same for the same seed, call and number
/// of the fault; over many calls, true as often as `rate` says.
pub fn happens(seed: u64, call: u64, fault: u64, rate: f64) -> bool {
    let mixed = mix(mix(mix(seed) ^ call) ^ fault);
    // A float holds 53 bits exactly.
    let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    share < rate
}

/// SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_hold_over_many_calls_and_repeat() {
        let faults = Faults { throttle_rate: 0.25, ..Faults::default() };
        let refused = |faults: &Faults| (0..10_000).filter(|call| faults.admit(*call).is_err()).collect::<Vec<u64>>();
        let first = refused(&faults);
        assert!((2_300..2_700).contains(&first.len()), "{}", first.len());
        assert_eq!(first, refused(&faults));
        assert_ne!(first, refused(&Faults { seed: 1, ..faults }));
    }

    #[test]
    fn never_and_always() {
        let with = |rate| Faults { error_rate: rate, ..Faults::default() };
        assert!((0..1_000).all(|call| with(0.0).admit(call).is_ok()));
        assert!((0..1_000).all(|call| with(1.0).admit(call).is_err()));
        assert_eq!(Faults::default().course(7), Course::default());
    }

    #[test]
    fn json_needs_only_what_differs() {
        let faults: Faults =
            serde_json::from_str(r#"{"stall":{"after_tokens":3},"mid_stream_error":{"after_tokens":5}}"#).unwrap();
        let course = faults.course(0);
        assert_eq!(course.stall_after, Some((3, None)));
        assert_eq!(
            course.error_after.map(|(after, exception)| (after, exception.kind)),
            Some((5, ExceptionKind::ModelStreamError))
        );
        assert!(serde_json::from_str::<Faults>(r#"{"throttle":1}"#).is_err());
    }
}
