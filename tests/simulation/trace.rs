//! What happened in a world, for judging and for telling.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::ids::{ConnectionId, TurnId};
use domain::ports::JournalWrite;
use domain::turn::{Hold, TurnRequest};
use serde_json::Value;
use testkit::{Faults, START_MS};

/// A process, by the order in which they were started.
pub type ProcessNumber = usize;

/// A process that was started.
pub struct Started {
    /// How far its clock is ahead, ms.
    pub skew_ms: i64,
    /// Whether something is to befall it.
    pub disturbed: bool,
    /// Whether it has come to its end.
    pub ended: bool,
    pub faults: Faults,
}

/// A frame on its way to a client.
pub struct Post {
    pub by: ProcessNumber,
    pub started_at: u64,
    pub connection: ConnectionId,
    pub frame: Value,
}

/// A turn's record that took effect.
pub struct Recorded {
    pub by: ProcessNumber,
    pub at: u64,
    pub request: TurnRequest,
}

/// A journal write that took effect.
pub struct Written {
    pub by: ProcessNumber,
    pub at: u64,
    pub write: JournalWrite,
}

#[derive(Default)]
pub struct Events {
    pub started: Vec<Started>,
    pub posts: Vec<Post>,
    pub recorded: Vec<Recorded>,
    pub written: Vec<Written>,
    /// Invocations that took longer than they may.
    pub overtime: Vec<String>,
    /// What the world's driver did, and what processes got as answers, when.
    notes: Vec<(u64, String)>,
}

/// Clones share what they hold.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Events>>);

impl Trace {
    pub fn events(&self) -> MutexGuard<'_, Events> {
        // A check that fails while it looks is followed by the story of what it saw.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, at: u64, what: impl Into<String>) {
        self.events().notes.push((at, what.into()));
    }
}

impl Events {
    /// Forgets what happened to turns.
    pub fn clear(&mut self) {
        self.posts.clear();
        self.recorded.clear();
        self.written.clear();
    }

    /// Who recorded a turn first.
    pub fn record_of(&self, turn: &TurnId) -> Option<&Recorded> {
        self.recorded.iter().find(|recorded| recorded.request.turn_id == *turn)
    }

    /// A turn's journal writes in order.
    pub fn written_to<'e>(&'e self, turn: &TurnId) -> impl Iterator<Item = &'e Written> {
        self.written.iter().filter(move |written| written.write.turn_id == *turn)
    }

    /// Everything in order of time, a line each.
    pub fn story(&self) -> String {
        let mut lines = self.notes.clone();
        for recorded in &self.recorded {
            let TurnRequest { turn_id, number, lease_until, .. } = &recorded.request;
            let lease = lease_until.saturating_sub(START_MS);
            lines.push((recorded.at, format!("#{} records {turn_id} as turn {number}, lease {lease}", recorded.by)));
        }
        for written in &self.written {
            lines.push((written.at, format!("#{} {}", written.by, journal_line(&written.write))));
        }
        for post in &self.posts {
            lines.push((
                post.started_at,
                format!("#{} posts {} to {}", post.by, frame_line(&post.frame), post.connection),
            ));
        }
        for (number, process) in self.started.iter().enumerate() {
            for (count, effect) in process.faults.effects().iter().enumerate() {
                if !["sender.send", "turns.journal", "turns.record"].contains(&effect.name) {
                    lines.push((effect.at_ms, format!("#{number} effect {count}: {}", effect.name)));
                }
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().fold(String::new(), |mut story, (at, line)| {
            let _ = writeln!(story, "{:>10} {line}", at.saturating_sub(START_MS));
            story
        })
    }
}

fn journal_line(write: &JournalWrite) -> String {
    let frames = match (write.frames.first(), write.frames.last()) {
        (Some(first), Some(last)) => format!("frames {}..={}", first.first_seq(), last.seq),
        _ => "no frames".to_owned(),
    };
    let hold = match write.hold {
        Hold::Leased { until } => format!("leased until {}", until.saturating_sub(START_MS)),
        Hold::Queued { .. } => "queued".to_owned(),
    };
    let end = write.outcome.as_ref().map_or(String::new(), |outcome| format!(", ends it: {:?}", outcome.state));
    format!("journals {} epoch {} write {}: {frames}, {hold}{end}", write.turn_id, write.epoch, write.number)
}

pub fn frame_line(frame: &Value) -> String {
    let place = match (&frame["epoch"], &frame["seq"]) {
        (Value::Number(epoch), Value::Number(seq)) => format!(" {epoch}:{seq}"),
        _ => String::new(),
    };
    format!("{}{place} {}", frame["type"].as_str().unwrap_or("?"), frame["data"])
}
