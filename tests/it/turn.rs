//! One turn, put together from its frames as a client does.

use std::collections::BTreeMap;

use serde_json::Value;

/// Every frame of these types belongs to a turn and is numbered.
pub const TURN_FRAMES: [&str; 10] = [
    "turn.started",
    "text.delta",
    "card.product",
    "card.order",
    "source",
    "degraded",
    "turn.queued",
    "turn.completed",
    "turn.cancelled",
    "turn.failed",
];

const ENDS: [&str; 3] = ["turn.completed", "turn.cancelled", "turn.failed"];

/// The `type` of a frame.
pub fn kind(frame: &Value) -> &str {
    frame["type"].as_str().expect("every frame has a type")
}

/// What a turn leaves on the shopper's screen, but for its end.
#[derive(Debug, PartialEq)]
pub struct Shown {
    pub text: String,
    pub cards: Vec<Value>,
    pub sources: Vec<Value>,
    pub notices: Vec<Value>,
}

/// An ended turn: its frames count from 0 without gaps and end with its only terminal frame.
#[derive(Debug)]
pub struct Turn {
    frames: Vec<Value>,
    arrived_in_order: bool,
}

impl Turn {
    pub fn id(&self) -> &str {
        self.frames[0]["turn_id"].as_str().unwrap()
    }

    pub fn conversation_id(&self) -> &str {
        self.frames[0]["conversation_id"].as_str().unwrap()
    }

    pub fn epoch(&self) -> u64 {
        self.frames[0]["epoch"].as_u64().unwrap()
    }

    /// The data of `turn.started`.
    pub fn started(&self) -> &Value {
        &self.frames[0]["data"]
    }

    /// The terminal frame.
    pub fn end(&self) -> &Value {
        self.frames.last().expect("a turn has frames")
    }

    /// How many frames brought text.
    pub fn deltas(&self) -> usize {
        self.data("text.delta").count()
    }

    pub fn text(&self) -> String {
        self.data("text.delta").map(|data| data["text"].as_str().unwrap()).collect()
    }

    pub fn product_cards(&self) -> Vec<&Value> {
        self.data("card.product").collect()
    }

    pub fn shown(&self) -> Shown {
        let cards = self.frames.iter().filter(|frame| kind(frame).starts_with("card."));
        Shown {
            text: self.text(),
            cards: cards.map(|frame| frame["data"].clone()).collect(),
            sources: self.data("source").cloned().collect(),
            notices: self.data("degraded").cloned().collect(),
        }
    }

    fn data<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
        self.frames.iter().filter(move |frame| kind(frame) == wanted).map(|frame| &frame["data"])
    }

    /// True when each frame came once, after the one before it.
    pub fn arrived_in_order(&self) -> bool {
        self.arrived_in_order
    }
}

/// The frames of one turn as they come in.
#[derive(Debug, Default)]
pub struct Collector {
    /// By the first `seq` a frame stands for.
    held: BTreeMap<u64, Value>,
    arrived: Vec<(u64, u64)>,
}

impl Collector {
    /// Holds a frame, unless what it says is held already: a replay may repeat live frames, one by one or several in
    /// one, and may be repeated by them.
    pub fn hold(&mut self, frame: Value) {
        let (first, last) = span(&frame);
        assert!(first <= last, "from_seq after seq: {frame}");
        self.arrived.push((first, last));
        let overlapping: Vec<(u64, u64)> =
            self.held.values().map(span).filter(|held| held.0 <= last && first <= held.1).collect();
        if let Some(&held) = overlapping.iter().find(|held| held.0 <= first && last <= held.1) {
            if held == (first, last) {
                assert_eq!(said(&self.held[&first]), said(&frame), "two frames with the same seq differ");
            }
            return;
        }
        for (held_first, held_last) in overlapping {
            assert!(first <= held_first && held_last <= last, "{frame} cuts through {held_first}..={held_last}");
            self.held.remove(&held_first);
        }
        self.held.insert(first, frame);
    }

    /// True when the terminal frame and every frame before it are held.
    pub fn is_complete(&self) -> bool {
        self.held.values().any(|frame| ENDS.contains(&kind(frame))) && self.next_missing() == self.end()
    }

    /// The first `seq` that is not held.
    fn next_missing(&self) -> u64 {
        self.held.values().map(span).fold(0, |next, (first, last)| if first == next { last + 1 } else { next })
    }

    /// One more than the highest `seq` held.
    fn end(&self) -> u64 {
        self.held.values().map(|frame| span(frame).1 + 1).max().unwrap_or(0)
    }

    /// The whole turn.
    pub fn finish(self) -> Turn {
        let frames: Vec<Value> = self.held.into_values().collect();
        let first = frames.first().expect("a turn has frames");
        assert_eq!(kind(first), "turn.started", "a turn starts with turn.started");
        for frame in &frames {
            for member in ["turn_id", "conversation_id", "epoch"] {
                assert_eq!(frame[member], first[member], "{member} changes within a turn: {frame}");
            }
        }
        assert_eq!(frames.iter().filter(|frame| kind(frame) == "turn.started").count(), 1, "{frames:#?}");
        let ends: Vec<usize> = (0..frames.len()).filter(|&at| ENDS.contains(&kind(&frames[at]))).collect();
        assert_eq!(ends, [frames.len() - 1], "the only terminal frame is the last: {frames:#?}");
        let arrived_in_order = self.arrived.iter().eq(frames.iter().map(span).collect::<Vec<_>>().iter());
        Turn { frames, arrived_in_order }
    }
}

/// What a frame says, apart from how it is numbered.
fn said(frame: &Value) -> (&str, BTreeMap<&String, &Value>) {
    let data = frame["data"].as_object().expect("a frame has data");
    (kind(frame), data.iter().filter(|(member, _)| *member != "from_seq").collect())
}

/// The first and the last `seq` that a frame stands for.
fn span(frame: &Value) -> (u64, u64) {
    let last = frame["seq"].as_u64().expect("a turn's frame has a seq");
    (frame["data"]["from_seq"].as_u64().unwrap_or(last), last)
}

mod tests {
    use serde_json::json;

    use super::*;

    fn frame(kind: &str, from_seq: Option<u64>, seq: u64) -> Value {
        let data = from_seq.map_or(json!({}), |from_seq| json!({"from_seq": from_seq, "text": "…"}));
        json!({"type": kind, "turn_id": "t", "conversation_id": "c", "epoch": 1, "seq": seq, "data": data})
    }

    fn collect<'a>(frames: impl IntoIterator<Item = &'a Value>) -> Collector {
        let mut collector = Collector::default();
        frames.into_iter().for_each(|frame| collector.hold(frame.clone()));
        collector
    }

    #[test]
    fn a_gap_keeps_a_turn_incomplete() {
        let whole = [frame("turn.started", None, 0), frame("text.delta", None, 1), frame("turn.completed", None, 2)];
        let [started, delta, completed] = &whole;
        for gap in [[started, delta], [started, completed], [delta, completed]] {
            assert!(!collect(gap).is_complete());
        }
        assert!(collect([completed, delta, started]).is_complete());
        assert!(!collect([completed, delta, started]).finish().arrived_in_order());
        assert!(!collect([started, delta, delta, completed]).finish().arrived_in_order());
        assert!(collect(&whole).finish().arrived_in_order());
    }

    #[test]
    fn a_replayed_frame_stands_for_several() {
        let ends = [frame("turn.started", None, 0), frame("turn.completed", None, 4)];
        let live = [frame("text.delta", None, 1), frame("text.delta", None, 3), frame("text.delta", None, 2)];
        let replayed = [frame("text.delta", Some(1), 3)];
        for order in [[&ends[..], &live, &replayed], [&replayed, &ends, &live]] {
            let collector = collect(order.concat().iter());
            assert!(collector.is_complete());
            assert_eq!(collector.finish().deltas(), 1);
        }
    }
}
