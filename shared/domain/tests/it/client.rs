//! A client that does what the protocol says: puts the frames of a turn together by `seq`, the highest epoch wins, early
//! and repeated frames do no harm. An epoch begins with its `turn.started`,
//! which names the epoch of the frame before.

use std::collections::BTreeMap;

use domain::protocol::{ServerEvent, ServerFrame};
use domain::turn::TurnFrame;
use serde_json::Value;

/// What a client shows of one turn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    /// The answer.
    pub text: String,
    /// Notices, cards and sources.
    pub items: Vec<ServerEvent>,
    /// How it ended, if the client knows.
    pub end: Option<ServerEvent>,
}

impl Shown {
    fn with(mut self, event: &ServerEvent) -> Self {
        match event {
            ServerEvent::TurnStarted(started) if started.restarted => return Self::default(),
            ServerEvent::TurnStarted(_) => {}
            ServerEvent::TextDelta(delta) => self.text.push_str(&delta.text),
            event if event.ends_turn().is_some() => self.end = Some(event.clone()),
            event => self.items.push(event.clone()),
        }
        self
    }
}

/// What a client shows that got these frames of one turn, in whatever order. Panics where two frames contradict.
pub fn read(frames: &[Value]) -> Shown {
    let frames = frames.iter().map(|frame| serde_json::from_value(frame.clone()).expect("a server frame"));
    let sequenced = frames.filter_map(|frame: ServerFrame| {
        Some(TurnFrame { epoch: frame.epoch?, seq: frame.seq?, ts: frame.ts, event: frame.event })
    });
    put_together(&sequenced.collect::<Vec<_>>())
}

/// What a client shows that was replayed a whole turn.
pub fn put_together(frames: &[TurnFrame]) -> Shown {
    let is_start = |frame: &TurnFrame| matches!(frame.event, ServerEvent::TurnStarted(_));
    let is_void = |frame: &TurnFrame| {
        frames.iter().any(|start| is_start(start) && start.epoch > frame.epoch && start.seq <= frame.seq)
    };
    // The epoch, and what is shown, by the seq that is expected next.
    let mut states = BTreeMap::from([(0, (0, Shown::default()))]);
    let mut last = Shown::default();
    while let Some((next, (epoch, shown))) = states.pop_first() {
        let follows = |frame: &&TurnFrame| {
            let after_epoch = match &frame.event {
                ServerEvent::TurnStarted(started) => started.after_epoch,
                _ => frame.epoch,
            };
            frame.first_seq() == next && !is_void(frame) && after_epoch == epoch
        };
        for frame in frames.iter().filter(follows) {
            let after = (frame.epoch, shown.clone().with(&frame.event));
            let known = states.entry(frame.seq + 1).or_insert_with(|| after.clone());
            assert_eq!(*known, after, "two frames contradict each other before seq {}", frame.seq);
        }
        last = shown;
    }
    last
}
