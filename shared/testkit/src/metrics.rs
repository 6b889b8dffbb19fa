//! Metrics, recorded.

use std::sync::{Arc, Mutex};

use domain::metrics::{Measure, Metrics};

/// [`Metrics`] kept in memory. Clones share their record.
#[derive(Debug, Clone, Default)]
pub struct RecordedMetrics(Arc<Mutex<Vec<Measure>>>);

impl RecordedMetrics {
    /// Everything recorded, in order.
    pub fn all(&self) -> Vec<Measure> {
        self.0.lock().unwrap().clone()
    }

    /// What was counted under that name, whatever its dimension.
    pub fn total(&self, name: &str) -> u64 {
        self.all().iter().filter(|measure| measure.name == name).map(|measure| measure.value).sum()
    }

    /// What was counted under that name and that value of its dimension.
    pub fn total_of(&self, name: &str, dimension: &str) -> u64 {
        let of_it =
            |measure: &&Measure| measure.name == name && measure.dimension.is_some_and(|(_, value)| value == dimension);
        self.all().iter().filter(of_it).map(|measure| measure.value).sum()
    }
}

impl Metrics for RecordedMetrics {
    fn record(&self, measure: Measure) {
        self.0.lock().unwrap().push(measure);
    }
}
