//! Model text into frames.

use domain::coalesce::Coalescer;
use domain::ids::{ConversationId, TurnId};
use domain::limits::{COALESCING_WINDOW_MS, ID_BYTES_MAX, SERVER_FRAME_BYTES_MAX};
use domain::protocol::{ServerEvent, TextDelta};
use domain::turn::TurnFrame;
use proptest::prelude::*;
use testkit::START_MS;

/// Whether a text fits a frame, beside the longest ids and numbers there are.
fn fits(text: &str) -> bool {
    let event = ServerEvent::TextDelta(TextDelta { text: text.to_owned(), from_seq: Some(u64::MAX) });
    let frame = TurnFrame { epoch: u64::MAX, seq: u64::MAX, ts: u64::MAX, event };
    let id = "x".repeat(ID_BYTES_MAX);
    frame.addressed(&ConversationId::parse(&id).unwrap(), &TurnId::parse(&id).unwrap()).encode().is_some()
}

/// What goes out, and when, of pieces that arrive after these waits, ms.
fn drive(pieces: &[(u64, String)]) -> Vec<(u64, String)> {
    let mut coalescer = Coalescer::default();
    let mut frames = Vec::new();
    let mut now = START_MS;
    for (wait, piece) in pieces {
        let arrives_at = now + wait;
        while let Some(due) = coalescer.due_at().filter(|due| *due < arrives_at) {
            now = now.max(due);
            frames.extend(coalescer.take(now).map(|text| (now, text)));
        }
        now = arrives_at;
        coalescer.push(piece);
        while coalescer.due_at().is_some_and(|due| due <= now) {
            frames.extend(coalescer.take(now).map(|text| (now, text)));
        }
    }
    while let Some(due) = coalescer.due_at() {
        now = now.max(due);
        frames.extend(coalescer.take(now).map(|text| (now, text)));
    }
    frames
}

fn piece() -> impl Strategy<Value = String> {
    let long = |character: char, times: usize| character.to_string().repeat(times);
    prop_oneof![
        8 => ".{0,8}",
        1 => (prop::sample::select(vec!['\u{1}', '"', '\n', 'a', '本', '😀']), 0..30_000_usize)
            .prop_map(move |(character, times)| long(character, times)),
    ]
}

proptest! {
    #[test]
    fn text_arrives_whole_in_frames_that_fit_at_their_pace(
        pieces in prop::collection::vec((0..400_u64, piece()), 0..30)
    ) {
        let frames = drive(&pieces);
        let said: String = pieces.iter().map(|(_, piece)| piece.as_str()).collect();
        let got: String = frames.iter().map(|(_, text)| text.as_str()).collect();
        prop_assert!(got == said, "{} of {} bytes", got.len(), said.len());
        prop_assert!(frames.iter().all(|(_, text)| !text.is_empty() && fits(text)));
        prop_assert!(frames.windows(2).all(|pair| pair[1].0 - pair[0].0 >= COALESCING_WINDOW_MS));

        let mut now = START_MS;
        let first_at = pieces.iter().find_map(|(wait, piece)| {
            now += wait;
            (!piece.is_empty()).then_some(now)
        });
        prop_assert_eq!(frames.first().map(|(at, _)| *at), first_at, "the first goes at once");
    }
}

#[test]
fn a_frame_is_filled_to_its_limit() {
    for (character, json_bytes) in [("a", 1), ("\u{1}", 6), ("\"", 2), ("\n", 2), ("本", 3), ("😀", 4), ("\u{7f}", 1)]
    {
        let mut coalescer = Coalescer::default();
        coalescer.push(&character.repeat(SERVER_FRAME_BYTES_MAX));
        let text = coalescer.take(START_MS).unwrap();
        assert!(fits(&text), "{character:?}");
        let used = serde_json::to_string(&text).unwrap().len() - 2;
        assert_eq!(used, text.chars().count() * json_bytes);
        assert!(used + 1_024 > SERVER_FRAME_BYTES_MAX, "{character:?} fills {used} bytes");
    }
}

#[test]
fn nothing_is_due_without_text() {
    let mut coalescer = Coalescer::default();
    assert_eq!((coalescer.due_at(), coalescer.take(START_MS)), (None, None));
    coalescer.push("");
    assert_eq!((coalescer.due_at(), coalescer.take(START_MS)), (None, None));
    coalescer.push("one");
    assert!(coalescer.due_at().is_some_and(|due| due <= START_MS));
    assert_eq!(coalescer.take(START_MS).as_deref(), Some("one"));
    assert_eq!(coalescer.due_at(), None);
    coalescer.push("two");
    assert_eq!(coalescer.due_at(), Some(START_MS + COALESCING_WINDOW_MS));
}
