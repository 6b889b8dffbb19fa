//! A client that keeps to the protocol, and to nothing else.

use std::collections::BTreeMap;

use serde_json::Value;

/// After a gap of this length a client resumes, ms.
pub const GAP_MS: u64 = 2_000;

/// After this much silence of an open turn that is not queued a client resumes, ms.
pub const SILENCE_MS: u64 = 10_000;

/// A frame of a turn.
#[derive(Debug, Clone)]
struct Held {
    epoch: u64,
    first: u64,
    last: u64,
    arrived_at: u64,
    frame: Value,
}

impl Held {
    /// Of which epoch the frame before it is.
    fn after_epoch(&self) -> u64 {
        match self.frame["type"] == "turn.started" {
            true => self.frame["data"]["after_epoch"].as_u64().unwrap(),
            false => self.epoch,
        }
    }
}

/// What a shopper sees of a turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    pub text: String,
    pub cards: Vec<Value>,
    pub sources: Vec<Value>,
    pub notices: Vec<Value>,
    /// The answer will follow.
    pub queued: bool,
    /// The terminal frame's type and data.
    pub end: Option<(String, Value)>,
}

/// A turn as a client has it.
#[derive(Debug, Clone, Default)]
pub struct View {
    held: Vec<Held>,
    /// When something last arrived, or was asked for.
    heard_at: u64,
    asked_at: u64,
}

impl View {
    pub fn take(&mut self, frame: &Value, at: u64) {
        self.heard_at = at;
        let (Some(epoch), Some(last)) = (frame["epoch"].as_u64(), frame["seq"].as_u64()) else { return };
        let first = frame["data"]["from_seq"].as_u64().unwrap_or(last);
        self.held.push(Held { epoch, first, last, arrived_at: at, frame: frame.clone() });
    }

    /// Something was asked for: the answer is given time.
    pub fn asked(&mut self, at: u64) {
        (self.heard_at, self.asked_at) = (at, at);
    }

    /// Where an epoch began, of those whose beginning came.
    fn beginnings(&self) -> BTreeMap<u64, u64> {
        let started = self.held.iter().filter(|held| held.frame["type"] == "turn.started");
        started.map(|held| (held.epoch, held.first)).collect()
    }

    /// What counts: nothing that a later epoch voids, and nothing of an epoch whose beginning has not come.
    fn valid(&self) -> Vec<&Held> {
        let beginnings = self.beginnings();
        let is_void = |held: &Held| beginnings.range(held.epoch + 1..).any(|(_, begins)| *begins <= held.last);
        self.held.iter().filter(|held| beginnings.contains_key(&held.epoch) && !is_void(held)).collect()
    }

    /// The longest run of frames from `seq` 0 without a gap, and without an owner that was missed.
    fn run(&self) -> Vec<&Held> {
        let mut valid = self.valid();
        valid.sort_by_key(|held| held.first);
        // By the `seq` that follows it: the last frame of a run that gets there.
        let mut runs: BTreeMap<u64, &Held> = BTreeMap::new();
        for held in valid {
            let before = if held.first == 0 { Some(0) } else { runs.get(&held.first).map(|before| before.epoch) };
            if before == Some(held.after_epoch()) {
                runs.entry(held.last + 1).or_insert(held);
            }
        }
        let mut run = Vec::new();
        let mut next = runs.last_key_value().map_or(0, |(next, _)| *next);
        while let Some(held) = runs.get(&next) {
            run.push(*held);
            next = held.first;
        }
        run.reverse();
        run
    }

    /// Since when there are frames that something is missing before.
    fn gap_since(&self) -> Option<u64> {
        let shown_to = self.run().last().map(|held| held.last);
        let beginnings = self.beginnings();
        let is_void = |held: &Held| beginnings.range(held.epoch + 1..).any(|(_, begins)| *begins <= held.last);
        let early = self.held.iter().filter(|held| !is_void(held)).filter(|held| {
            shown_to.is_none_or(|shown_to| held.last > shown_to) || !beginnings.contains_key(&held.epoch)
        });
        early.map(|held| held.arrived_at.max(self.asked_at)).min()
    }

    /// The epoch and `seq` of the last frame shown; 0 and -1 for none.
    pub fn cursor(&self) -> (u64, i64) {
        self.run().last().map_or((0, -1), |held| (held.epoch, held.last as i64))
    }

    pub fn shown(&self) -> Shown {
        let mut shown = Shown::default();
        for held in self.run() {
            let data = held.frame["data"].clone();
            let kind = held.frame["type"].as_str().unwrap();
            assert!(shown.end.is_none(), "a frame follows the end of its turn: {}", held.frame);
            match kind {
                "turn.started" if data["restarted"] == true => shown = Shown::default(),
                "turn.started" => shown.queued = false,
                "text.delta" => shown.text.push_str(data["text"].as_str().unwrap()),
                "card.product" | "card.order" => shown.cards.push(data),
                "source" => shown.sources.push(data),
                "degraded" => shown.notices.push(data),
                "turn.queued" => shown.queued = true,
                "turn.completed" | "turn.cancelled" | "turn.failed" => shown.end = Some((kind.to_owned(), data)),
                other => panic!("{other} has no place in a turn"),
            }
        }
        shown
    }

    pub fn has_ended(&self) -> bool {
        self.shown().end.is_some()
    }

    /// Whether the rules ask the client to resume.
    pub fn is_to_resume(&self, now: u64) -> bool {
        let shown = self.shown();
        let gap = self.gap_since().is_some_and(|since| now >= since + GAP_MS);
        shown.end.is_none() && (gap || (!shown.queued && now >= self.heard_at + SILENCE_MS))
    }
}
