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

/// An ended turn: its frames count from 0 without gaps and end with its only terminal frame. Each owner's begin with its
/// `turn.started`; what a later owner voided is not among them.
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

    /// The last owner's.
    pub fn epoch(&self) -> u64 {
        epoch(self.end())
    }

    /// The data of the last owner's `turn.started`.
    pub fn started(&self) -> &Value {
        self.data("turn.started").last().expect("a turn starts with turn.started")
    }

    /// The terminal frame.
    pub fn end(&self) -> &Value {
        self.frames.last().expect("a turn has frames")
    }

    /// All of its frames, in order.
    pub fn frames(&self) -> &[Value] {
        &self.frames
    }

    /// How many frames brought text.
    pub fn deltas(&self) -> usize {
        self.data("text.delta").count()
    }

    /// Whether the turn was queued on its way.
    pub fn was_queued(&self) -> bool {
        self.data("turn.queued").next().is_some()
    }

    pub fn text(&self) -> String {
        self.shown().text
    }

    pub fn product_cards(&self) -> Vec<Value> {
        self.on_screen().filter(|frame| kind(frame) == "card.product").map(|frame| frame["data"].clone()).collect()
    }

    pub fn shown(&self) -> Shown {
        shown(self.on_screen())
    }

    fn on_screen(&self) -> impl Iterator<Item = &Value> {
        on_screen(&self.frames).iter()
    }

    fn data<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
        self.frames.iter().filter(move |frame| kind(frame) == wanted).map(|frame| &frame["data"])
    }

    /// True when each frame came once, after the one before it.
    pub fn arrived_in_order(&self) -> bool {
        self.arrived_in_order
    }
}

/// What `restarted` leaves of a turn's frames.
fn on_screen(frames: &[Value]) -> &[Value] {
    let restarts = |frame: &Value| kind(frame) == "turn.started" && frame["data"]["restarted"] == true;
    &frames[frames.iter().rposition(restarts).unwrap_or(0)..]
}

fn shown<'a>(frames: impl Iterator<Item = &'a Value>) -> Shown {
    let mut shown = Shown { text: String::new(), cards: Vec::new(), sources: Vec::new(), notices: Vec::new() };
    for frame in frames {
        let data = &frame["data"];
        match kind(frame) {
            "text.delta" => shown.text.push_str(data["text"].as_str().unwrap()),
            "card.product" | "card.order" => shown.cards.push(data.clone()),
            "source" => shown.sources.push(data.clone()),
            "degraded" => shown.notices.push(data.clone()),
            _control => {}
        }
    }
    shown
}

/// The frames of one turn as they come in.
#[derive(Debug, Default)]
pub struct Collector {
    /// Each owner's, by the first `seq` a frame stands for.
    held: BTreeMap<u64, BTreeMap<u64, Value>>,
    arrived: Vec<(u64, u64)>,
    repeated: usize,
}

impl Collector {
    /// Holds a frame, unless what it says is held already: a replay may repeat live frames, one by one or several in
    /// one, and may be repeated by them.
    pub fn hold(&mut self, frame: Value) {
        let (first, last) = span(&frame);
        assert!(first <= last, "from_seq after seq: {frame}");
        self.arrived.push((first, last));
        let held = self.held.entry(epoch(&frame)).or_default();
        let overlapping: Vec<(u64, u64)> =
            held.values().map(span).filter(|held| held.0 <= last && first <= held.1).collect();
        if let Some(&same) = overlapping.iter().find(|held| held.0 <= first && last <= held.1) {
            if same == (first, last) {
                assert_eq!(said(&held[&first]), said(&frame), "two frames with the same epoch and seq differ");
            }
            self.repeated += 1;
            return;
        }
        for (held_first, held_last) in overlapping {
            assert!(first <= held_first && held_last <= last, "{frame} cuts through {held_first}..={held_last}");
            held.remove(&held_first);
            self.repeated += 1;
        }
        held.insert(first, frame);
    }

    /// The frames that count, in order: per `seq` those of the highest epoch whose beginning is held, up to the first owner
    /// that began after frames which are not.
    fn counting(&self) -> Vec<&Value> {
        let mut counting: Vec<&Value> = Vec::new();
        for frames in self.held.values() {
            let Some(start) = frames.values().find(|frame| kind(frame) == "turn.started") else { continue };
            let after_epoch = start["data"]["after_epoch"].as_u64().expect("an owner names the epoch it follows");
            let (start, _) = span(start);
            counting.retain(|frame| span(frame).0 < start);
            if let Some(frame) = counting.last() {
                assert!(span(frame).1 < start, "seq {start} begins within {frame}");
            }
            if counting.last().map_or(0, |frame| epoch(frame)) != after_epoch {
                break;
            }
            counting.extend(frames.range(start..).map(|(_, frame)| frame));
        }
        counting
    }

    /// The frames up to the first `seq` that is missing.
    fn unbroken(&self) -> Vec<&Value> {
        let mut next = 0;
        let mut unbroken = self.counting();
        let gap = unbroken.iter().position(|frame| {
            let (first, last) = span(frame);
            let missing = first != next;
            next = last + 1;
            missing
        });
        unbroken.truncate(gap.unwrap_or(unbroken.len()));
        unbroken
    }

    /// True when the terminal frame and every frame before it are held.
    pub fn is_complete(&self) -> bool {
        self.unbroken().last().is_some_and(|frame| ENDS.contains(&kind(frame)))
    }

    /// True when the turn waits in a queue, as far as is known here.
    pub fn is_queued(&self) -> bool {
        self.unbroken().last().is_some_and(|frame| kind(frame) == "turn.queued")
    }

    /// True when a frame has come and one before it has not, or not its owner's beginning.
    pub fn has_gap(&self) -> bool {
        let newest = self.held.keys().next_back();
        self.unbroken().len() < self.counting().len() || newest.is_some_and(|&newest| newest > self.position().0)
    }

    /// What to resume after: epoch and `seq` of the last frame before anything that is missing.
    pub fn position(&self) -> (u64, i64) {
        self.unbroken().last().map_or((0, -1), |frame| (epoch(frame), span(frame).1.try_into().unwrap()))
    }

    /// How many frames brought text.
    pub fn deltas(&self) -> usize {
        self.unbroken().into_iter().filter(|frame| kind(frame) == "text.delta").count()
    }

    /// How many frames came that said nothing new, or were replaced by one that says more.
    pub fn repeated(&self) -> usize {
        self.repeated
    }

    /// The whole turn.
    pub fn finish(self) -> Turn {
        let frames: Vec<Value> = self.unbroken().into_iter().cloned().collect();
        let first = frames.first().expect("a turn has frames");
        for frame in &frames {
            for member in ["turn_id", "conversation_id"] {
                assert_eq!(frame[member], first[member], "{member} changes within a turn: {frame}");
            }
        }
        for (at, frame) in frames.iter().enumerate() {
            let begins = at == 0 || epoch(frame) > epoch(&frames[at - 1]);
            assert_eq!(kind(frame) == "turn.started", begins, "an owner starts with turn.started: {frames:#?}");
        }
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

fn epoch(frame: &Value) -> u64 {
    frame["epoch"].as_u64().expect("a turn's frame has an epoch")
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
        let data = from_seq.map_or(json!({"text": seq.to_string()}), |from_seq| {
            let text: String = (from_seq..=seq).map(|seq| seq.to_string()).collect();
            json!({"from_seq": from_seq, "text": text})
        });
        json!({"type": kind, "turn_id": "t", "conversation_id": "c", "epoch": 1, "seq": seq, "data": data})
    }

    /// The `turn.started` of an owner.
    fn started(epoch: u64, after_epoch: u64, seq: u64, restarted: bool) -> Value {
        let mut started = of(epoch, frame("turn.started", None, seq));
        let continues = epoch > 1 && !restarted;
        started["data"] = json!({"after_epoch": after_epoch, "restarted": restarted, "continues": continues});
        started
    }

    fn of(epoch: u64, mut frame: Value) -> Value {
        frame["epoch"] = epoch.into();
        frame
    }

    fn collect<'a>(frames: impl IntoIterator<Item = &'a Value>) -> Collector {
        let mut collector = Collector::default();
        frames.into_iter().for_each(|frame| collector.hold(frame.clone()));
        collector
    }

    #[test]
    fn a_gap_keeps_a_turn_incomplete() {
        let whole = [started(1, 0, 0, false), frame("text.delta", None, 1), frame("turn.completed", None, 2)];
        let [started, delta, completed] = &whole;
        for (gap, position) in
            [([started, delta], (1, 1)), ([started, completed], (1, 0)), ([delta, completed], (0, -1))]
        {
            assert!(!collect(gap).is_complete());
            assert_eq!(collect(gap).position(), position);
        }
        assert!(collect([started, completed]).has_gap() && !collect([started, delta]).has_gap());
        assert!(collect([completed, delta, started]).is_complete());
        assert!(!collect([completed, delta, started]).finish().arrived_in_order());
        assert!(!collect([started, delta, delta, completed]).finish().arrived_in_order());
        assert!(collect(&whole).finish().arrived_in_order());
    }

    #[test]
    fn a_replayed_frame_stands_for_several() {
        let ends = [started(1, 0, 0, false), frame("turn.completed", None, 4)];
        let live = [frame("text.delta", None, 1), frame("text.delta", None, 3), frame("text.delta", None, 2)];
        let replayed = [frame("text.delta", Some(1), 3)];
        for order in [[&ends[..], &live, &replayed], [&replayed, &ends, &live]] {
            let collector = collect(order.concat().iter());
            assert!(collector.is_complete());
            assert_eq!(collector.repeated(), 3);
            assert_eq!(collector.finish().text(), "123");
        }
    }

    #[test]
    fn a_later_owner_voids_what_follows_its_beginning() {
        let first = [started(1, 0, 0, false), frame("text.delta", None, 1), frame("text.delta", None, 2)];
        for (restarted, text) in [(false, "13"), (true, "3")] {
            let second = [
                started(2, 1, 2, restarted),
                of(2, frame("text.delta", None, 3)),
                of(2, frame("turn.completed", None, 4)),
            ];
            for order in [[&first[..], &second], [&second, &first]] {
                let collector = collect(order.concat().iter());
                assert!(collector.is_complete());
                assert_eq!(collector.finish().text(), text);
            }
            let [_, delta, end] = &second;
            let without_beginning = collect(first.iter().chain([delta, end]));
            assert!(!without_beginning.is_complete() && without_beginning.has_gap());
            assert_eq!(without_beginning.position(), (1, 2));
        }
    }

    #[test]
    fn an_owner_that_was_not_heard_is_missed() {
        let first = [started(1, 0, 0, false), frame("text.delta", None, 1), frame("text.delta", None, 2)];
        let second = [started(2, 1, 2, false)];
        let third = [started(3, 2, 3, false), of(3, frame("turn.completed", None, 4))];
        let without = collect(first.iter().chain(&third));
        assert!(!without.is_complete() && without.has_gap());
        assert_eq!(without.position(), (1, 2));
        assert_eq!(collect(first.iter().chain(&third).chain(&second)).finish().text(), "1");
    }
}
