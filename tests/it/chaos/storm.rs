//! What goes wrong, and how often.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bedrock_stand_in::{ExceptionKind, Faults, MidStreamError, Stall};
use fastrand::Rng;
use local::Stack;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use crate::processes::environments;

/// Pauses between two kills, and between two cuts, ms.
const PAUSE_MS: std::ops::Range<u64> = 500..1_500;

/// How long the model suffers from one thing.
const FAULT: Duration = Duration::from_secs(8);

/// As many turns are asked for at a time: what the embedded AWS stands on two cores.
const TURNS_AT_ONCE: usize = 16;

/// What everybody knows of the storm.
pub struct Storm {
    pub websocket_url: String,
    pub ends_at: Instant,
    pub turns: Arc<Semaphore>,
    /// Turns that were accepted and have not ended, by id.
    pub open: Mutex<BTreeSet<String>>,
    pub tally: Tally,
}

impl Storm {
    pub fn new(websocket_url: &str, ends_at: Instant) -> Self {
        let turns = Arc::new(Semaphore::new(TURNS_AT_ONCE));
        Self {
            websocket_url: websocket_url.to_owned(),
            ends_at,
            turns,
            open: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// Has everything go wrong until the storm is over.
    pub async fn rage(&self, stack: &Stack, kills: Rng, cuts: Rng, faults: Rng) {
        let storm = async {
            tokio::join!(self.kill(stack.aws_url(), kills), self.cut(stack, cuts), afflict(stack, faults));
        };
        let _over = timeout_at(self.ends_at, storm).await;
        stack.bedrock().set_faults(Faults::default());
    }

    /// Kills execution environments, busy or not.
    async fn kill(&self, aws_url: &str, mut random: Rng) {
        loop {
            sleep(Duration::from_millis(random.u64(PAUSE_MS))).await;
            let environments = environments(aws_url);
            if let Some(chosen) = random.choice(&environments)
                && chosen.kill()
            {
                let (function, _hash) = chosen.function.rsplit_once('-').expect("CloudFormation's names end with one");
                self.tally.count(&format!("kills of {function}"));
            }
        }
    }

    /// Cuts connections as a lost network does.
    async fn cut(&self, stack: &Stack, mut random: Rng) {
        loop {
            sleep(Duration::from_millis(random.u64(PAUSE_MS))).await;
            if let Some(chosen) = random.choice(stack.gateway().connection_ids())
                && stack.gateway().cut(&chosen)
            {
                self.tally.count("cuts");
            }
        }
    }
}

/// Has the model suffer from one thing after the other.
async fn afflict(stack: &Stack, mut random: Rng) {
    loop {
        let seed = random.u64(..);
        let healthy = Faults { seed, ..Faults::default() };
        stack.bedrock().set_faults(match random.u32(..6) {
            0 => healthy,
            1 => Faults { throttle_rate: 0.6, ..healthy },
            2 => Faults { error_rate: 0.6, error: ExceptionKind::ServiceUnavailable, ..healthy },
            3 => {
                let exception = ExceptionKind::ModelStreamError;
                let broken = MidStreamError { rate: 0.3, after_tokens: random.u64(..40), exception };
                Faults { mid_stream_error: Some(broken), ..healthy }
            }
            4 => Faults {
                stall: Some(Stall { rate: 0.2, after_tokens: random.u64(..40), duration_ms: None }),
                ..healthy
            },
            _ => {
                let pause = Stall { rate: 0.5, after_tokens: random.u64(..40), duration_ms: Some(3_000) };
                Faults { first_token_extra_ms: 1_000, stall: Some(pause), ..healthy }
            }
        });
        sleep(FAULT).await;
    }
}

/// What happened, and how often.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<String, u64>>);

impl Tally {
    pub fn count(&self, what: &str) {
        self.add(what, 1);
    }

    pub fn add(&self, what: &str, times: u64) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += times;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.0.lock().unwrap();
        let counts: Vec<String> = counts.iter().map(|(what, times)| format!("{what} {times}")).collect();
        f.write_str(&counts.join(", "))
    }
}
