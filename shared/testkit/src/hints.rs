//! What environments tell one another, in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::breaker::{Hint, Upstream};
use domain::ports::SharedHints;

#[derive(Debug, Default)]
struct Known {
    breakers: HashMap<Upstream, Hint>,
    told: Vec<(Upstream, u64)>,
    invalidated: HashMap<String, u64>,
}

/// [`SharedHints`] that say what a test tells them to. Clones share everything.
#[derive(Debug, Clone, Default)]
pub struct ScriptedHints(Arc<Mutex<Known>>);

impl ScriptedHints {
    /// What other environments say of an upstream from now on.
    pub fn set_breaker(&self, upstream: Upstream, hint: Hint) {
        self.0.lock().unwrap().breakers.insert(upstream, hint);
    }

    /// A tag is out of date as of a time, Unix milliseconds.
    pub fn invalidate(&self, tag: &str, at: u64) {
        self.0.lock().unwrap().invalidated.insert(tag.to_owned(), at);
    }

    /// What was told to the others, in order.
    pub fn told(&self) -> Vec<(Upstream, u64)> {
        self.0.lock().unwrap().told.clone()
    }
}

impl SharedHints for ScriptedHints {
    fn breaker(&self, upstream: Upstream) -> Hint {
        self.0.lock().unwrap().breakers.get(&upstream).copied().unwrap_or_default()
    }

    fn opened(&self, upstream: Upstream, until: u64) {
        self.0.lock().unwrap().told.push((upstream, until));
    }

    fn invalidated_at(&self, tag: &str) -> u64 {
        self.0.lock().unwrap().invalidated.get(tag).copied().unwrap_or_default()
    }
}
