//! Metrics in CloudWatch's embedded metric format: lines of the log that CloudWatch takes apart by itself.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::metrics::{Measure, Metrics, Unit};
use domain::ports::Clock;
use serde_json::{Map, Value, json};

use crate::SystemClock;

/// The namespace of all metrics.
pub const NAMESPACE: &str = "manga-chat";

/// Values of one metric in a line, as the format allows.
const VALUES_MAX: usize = 100;

/// What a metric is told apart by.
type Dimension = Option<(&'static str, &'static str)>;

/// Values by dimension and metric.
type Recorded = BTreeMap<Dimension, BTreeMap<&'static str, (Unit, Vec<u64>)>>;

/// Collects what an invocation counts, and writes it at its end: a line for each dimension. Clones share everything.
#[derive(Debug, Clone)]
pub struct EmbeddedMetrics {
    service: &'static str,
    recorded: Arc<Mutex<Recorded>>,
}

impl EmbeddedMetrics {
    /// The metrics of a function.
    pub fn new(service: &'static str) -> Self {
        Self { service, recorded: Arc::default() }
    }

    /// Writes what was recorded since it was last written to the log.
    pub fn flush(&self) {
        // A log that takes no more has nobody to tell.
        let _ = self.write(SystemClock.now_ms(), io::stdout().lock());
    }

    fn write(&self, now_ms: u64, mut output: impl Write) -> io::Result<()> {
        let recorded = std::mem::take(&mut *self.recorded());
        for (dimension, metrics) in recorded {
            let mut line = self.line(dimension, &metrics, now_ms).to_string();
            line.push('\n');
            // At once: lines of others do not come between.
            output.write_all(line.as_bytes())?;
        }
        Ok(())
    }

    fn line(&self, dimension: Dimension, metrics: &BTreeMap<&'static str, (Unit, Vec<u64>)>, now_ms: u64) -> Value {
        let names: Vec<&str> = ["service"].into_iter().chain(dimension.map(|(name, _)| name)).collect();
        let declared: Vec<Value> =
            metrics.iter().map(|(name, (unit, _))| json!({"Name": name, "Unit": unit_name(*unit)})).collect();
        let mut line = Map::new();
        line.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": now_ms,
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": declared}],
            }),
        );
        line.insert("service".to_owned(), self.service.into());
        line.extend(dimension.map(|(name, value)| (name.to_owned(), value.into())));
        line.extend(metrics.iter().map(|(name, (_, values))| ((*name).to_owned(), json!(values))));
        Value::Object(line)
    }

    /// Nothing can panic while the lock is held.
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "Count",
        Unit::Milliseconds => "Milliseconds",
    }
}

impl Metrics for EmbeddedMetrics {
    fn record(&self, measure: Measure) {
        let mut recorded = self.recorded();
        let metrics = recorded.entry(measure.dimension).or_default();
        let (_, values) = metrics.entry(measure.name).or_insert_with(|| (measure.unit, Vec::new()));
        // Counts of one invocation are one value.
        match (measure.unit, values.as_mut_slice()) {
            (Unit::Count, [count, ..]) => *count += measure.value,
            (Unit::Count | Unit::Milliseconds, full) if full.len() >= VALUES_MAX => {}
            (Unit::Count | Unit::Milliseconds, _) => values.push(measure.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::breaker::Upstream;
    use domain::metrics::CacheOutcome;
    use domain::protocol::TurnPath;

    use super::*;

    fn lines(metrics: &EmbeddedMetrics) -> Vec<Value> {
        let mut output = Vec::new();
        metrics.write(7, &mut output).unwrap();
        String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_holds_what_has_one_dimension() {
        let metrics = EmbeddedMetrics::new("message");
        metrics.record(Measure::turn_on_path(TurnPath::Llm));
        metrics.record(Measure::first_token_ms(310));
        metrics.record(Measure::first_token_ms(290));
        for outcome in [CacheOutcome::Miss, CacheOutcome::Miss, CacheOutcome::HitShared] {
            metrics.record(Measure::cache(outcome, Upstream::Catalog));
        }
        let lines = lines(&metrics);
        assert_eq!(lines.len(), 3);
        assert_eq!((&lines[0]["FirstToken"], &lines[0]["service"]), (&json!([310, 290]), &json!("message")));
        let turns = &lines[1];
        assert_eq!((&turns["path"], &turns["Turns"]), (&json!("llm"), &json!([1])));
        let declared = &turns["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(declared["Dimensions"], json!([["service", "path"]]));
        assert_eq!(declared["Metrics"], json!([{"Name": "Turns", "Unit": "Count"}]));
        assert_eq!((&lines[2]["CacheMisses"], &lines[2]["CacheHitsShared"]), (&json!([2]), &json!([1])));
    }

    #[test]
    fn what_was_written_is_not_written_again() {
        let metrics = EmbeddedMetrics::new("message");
        metrics.record(Measure::escalation());
        assert_eq!(lines(&metrics).len(), 1);
        assert_eq!(lines(&metrics), Vec::<Value>::new());
    }

    #[test]
    fn a_line_takes_as_many_values_as_the_format_allows() {
        let metrics = EmbeddedMetrics::new("message");
        (0..=VALUES_MAX).for_each(|value| metrics.record(Measure::first_token_ms(value as u64)));
        assert_eq!(lines(&metrics)[0]["FirstToken"].as_array().map(Vec::len), Some(VALUES_MAX));
    }
}
