//! Faults on purpose: where they strike, what they are, and how both are written.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// A longer latency is a stall.
const LATENCY_SECONDS_MAX: u64 = 3_600;

/// What the suite depends on and a fault strikes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Target {
    /// The model.
    Bedrock,
    /// The store's catalog.
    Catalog,
    /// The store's recommendations.
    Recommendations,
    /// The store's orders.
    Orders,
    /// The store's promotions.
    Promotions,
    /// The store's reviews.
    Reviews,
    /// The store's help articles.
    Knowledge,
    /// The second-level cache.
    Valkey,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 8] = [
        Self::Bedrock,
        Self::Catalog,
        Self::Recommendations,
        Self::Orders,
        Self::Promotions,
        Self::Reviews,
        Self::Knowledge,
        Self::Valkey,
    ];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bedrock => "bedrock",
            Self::Catalog => "catalog",
            Self::Recommendations => "recommendations",
            Self::Orders => "orders",
            Self::Promotions => "promotions",
            Self::Reviews => "reviews",
            Self::Knowledge => "knowledge",
            Self::Valkey => "valkey",
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let target = Self::ALL.into_iter().find(|target| target.name() == name);
        target.with_context(|| format!("there is no target {name}: choose {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// What is wrong with a target, in one way or several. The default is nothing. A rate is the share of requests it happens
/// to: 0 is none, 1 is all.
///
/// Written as words: `error=RATE`, `latency=DURATION`, `stall`, `throttle` (or `stall=RATE`, `throttle=RATE`), or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fault {
    /// Requests that fail at once.
    pub error_rate: f64,
    /// How much later every other request is taken, in whole milliseconds and at most an hour.
    pub latency: Duration,
    /// Requests that are taken and not answered as long as this fault lasts.
    pub stall_rate: f64,
    /// Requests that are turned away because there are too many.
    pub throttle_rate: f64,
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        if words == ["off"] {
            return Ok(Self::default());
        }
        ensure!(!words.is_empty(), "name a fault: {CHOICE}");
        let mut fault = Self::default();
        let mut kinds = Vec::new();
        for word in words {
            let (kind, value) = match word.split_once('=') {
                Some((kind, value)) => (kind, Some(value)),
                None => (word, None),
            };
            match (kind, value) {
                ("error", Some(value)) => fault.error_rate = rate(word, value)?,
                ("latency", Some(value)) => fault.latency = latency(word, value)?,
                ("stall", value) => fault.stall_rate = value.map_or(Ok(1.0), |value| rate(word, value))?,
                ("throttle", value) => fault.throttle_rate = value.map_or(Ok(1.0), |value| rate(word, value))?,
                ("error", None) => bail!("error needs a rate, as error=0.5"),
                ("latency", None) => bail!("latency needs a duration, as latency=200ms"),
                ("off", None) => bail!("off goes with no other fault"),
                _ => bail!("there is no fault {word}: choose {CHOICE}"),
            }
            ensure!(!kinds.contains(&kind), "{kind} is given twice");
            kinds.push(kind);
        }
        Ok(fault)
    }
}

const CHOICE: &str = "error=RATE, latency=DURATION, stall, throttle or off";

fn rate(word: &str, value: &str) -> Result<f64> {
    let rate = value.parse().ok().filter(|rate| (0.0..=1.0).contains(rate));
    rate.with_context(|| format!("{word}: a rate is a number from 0 to 1"))
}

fn latency(word: &str, value: &str) -> Result<Duration> {
    let in_seconds = |number: &str, unit: f64| Some(number.parse::<f64>().ok()? * unit);
    let seconds = match value.strip_suffix("ms") {
        Some(number) => in_seconds(number, 0.001),
        None => value.strip_suffix('s').and_then(|number| in_seconds(number, 1.0)),
    };
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|latency| *latency <= Duration::from_secs(LATENCY_SECONDS_MAX))
        .filter(|latency| latency.subsec_nanos() % 1_000_000 == 0)
        .with_context(|| {
            format!("{word}: a duration is in whole milliseconds, as 200ms or 1.5s, and at most {LATENCY_SECONDS_MAX}s")
        })
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let share = |kind: &str, rate: f64| match rate {
            0.0 => None,
            1.0 => Some(kind.to_owned()),
            rate => Some(format!("{kind}={rate}")),
        };
        let words: Vec<String> = [
            (self.error_rate > 0.0).then(|| format!("error={}", self.error_rate)),
            (!self.latency.is_zero()).then(|| format!("latency={:?}", self.latency)),
            share("stall", self.stall_rate),
            share("throttle", self.throttle_rate),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(if words.is_empty() { "off".to_owned() } else { words.join(" ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem<T: FromStr<Err = anyhow::Error>>(text: &str) -> String {
        text.parse::<T>().err().unwrap_or_else(|| panic!("{text} is taken")).to_string()
    }

    #[test]
    fn every_target_has_a_name_that_names_it() {
        for target in Target::ALL {
            assert_eq!(target.to_string().parse::<Target>().unwrap(), target);
        }
        assert_eq!(
            problem::<Target>("Catalog"),
            "there is no target Catalog: choose bedrock, catalog, recommendations, orders, promotions, reviews, \
             knowledge, valkey"
        );
    }

    #[test]
    fn faults_are_read_as_they_are_written() {
        let none = Fault::default();
        for (text, fault) in [
            ("off", none),
            ("error=0.25", Fault { error_rate: 0.25, ..none }),
            ("error=1", Fault { error_rate: 1.0, ..none }),
            ("latency=200ms", Fault { latency: Duration::from_millis(200), ..none }),
            ("latency=1.5s", Fault { latency: Duration::from_millis(1_500), ..none }),
            ("latency=3600s", Fault { latency: Duration::from_secs(3_600), ..none }),
            ("stall", Fault { stall_rate: 1.0, ..none }),
            ("throttle=0.5", Fault { throttle_rate: 0.5, ..none }),
            (
                "error=0.1 latency=1ms stall=0.2 throttle",
                Fault { error_rate: 0.1, latency: Duration::from_millis(1), stall_rate: 0.2, throttle_rate: 1.0 },
            ),
        ] {
            assert_eq!(text.parse::<Fault>().unwrap(), fault, "{text}");
            assert_eq!(fault.to_string(), text);
        }
    }

    #[test]
    fn what_never_happens_is_no_fault() {
        for text in ["error=0", "error=-0", "latency=0s", "stall=0", "throttle=0.0", "  off "] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), "off", "{text}");
        }
    }

    #[test]
    fn rates_outside_of_0_to_1_are_refused() {
        for rate in ["1.001", "-0.001", "NaN", "inf", "50%", "", "one", "0,5"] {
            for kind in ["error", "stall", "throttle"] {
                let word = format!("{kind}={rate}");
                assert_eq!(problem::<Fault>(&word), format!("{word}: a rate is a number from 0 to 1"));
            }
        }
    }

    #[test]
    fn durations_without_unit_or_out_of_bounds_are_refused() {
        for duration in ["200", "ms", "s", "", "-1ms", "1.5ms", "0.4ms", "3600.001s", "1h", "fast", "NaNs", "1e30s"] {
            let said = problem::<Fault>(&format!("latency={duration}"));
            let reason = "a duration is in whole milliseconds, as 200ms or 1.5s, and at most 3600s";
            assert_eq!(said, format!("latency={duration}: {reason}"));
        }
    }

    #[test]
    fn other_words_are_refused_with_what_there_is() {
        let choice = "error=RATE, latency=DURATION, stall, throttle or off";
        for word in ["slow", "errors=0.5", "off=1", "=", "=1", "ERROR=1"] {
            assert_eq!(problem::<Fault>(word), format!("there is no fault {word}: choose {choice}"));
        }
        assert_eq!(problem::<Fault>(""), format!("name a fault: {choice}"));
        assert_eq!(problem::<Fault>("error"), "error needs a rate, as error=0.5");
        assert_eq!(problem::<Fault>("latency"), "latency needs a duration, as latency=200ms");
        assert_eq!(problem::<Fault>("stall off"), "off goes with no other fault");
        assert_eq!(problem::<Fault>("off off"), "off goes with no other fault");
        assert_eq!(problem::<Fault>("error=0.1 stall error=0.2"), "error is given twice");
    }
}
