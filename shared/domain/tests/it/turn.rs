//! The journal of a turn: numbering, merging, replay.

use domain::gather::Gathered;
use domain::ids::{ConversationId, TurnId};
use domain::intent::Intent;
use domain::limits::ID_BYTES_MAX;
use domain::protocol::{CancelledBy, Locale, ServerEvent, Source, TextDelta, TurnCancelled, TurnPath, TurnStarted};
use domain::store::{Offer, Product};
use domain::turn::{TurnFrame, TurnJournal, TurnLog, payload_hash};
use proptest::prelude::*;
use testkit::{START_MS, samples};

use crate::client::put_together;

fn started(after_epoch: u64, restarted: bool) -> ServerEvent {
    ServerEvent::TurnStarted(TurnStarted {
        client_message_id: samples::client_message_id(1),
        intent: Intent::Faq,
        path: TurnPath::Llm,
        after_epoch,
        restarted,
        continues: !restarted,
    })
}

/// The log of a turn's first owner.
fn first_log() -> TurnLog {
    TurnLog::after(&TurnJournal::default(), 1)
}

/// What an owner has sent, as it was sent.
fn sent(log: &TurnLog) -> Vec<TurnFrame> {
    log.frames_between(0, log.len()).to_vec()
}

fn event() -> impl Strategy<Value = ServerEvent> {
    let text = |text: String| ServerEvent::TextDelta(TextDelta { text, from_seq: None });
    prop_oneof![
        6 => "[a-c本\u{1}]{1,5}".prop_map(text),
        1 => (1..3_500_usize).prop_map(move |times| text("\u{1}x".repeat(times))),
        1 => (0..3_u32).prop_map(|stock| {
            let offer = Some(Offer { stock, ..samples::offer() });
            let product = Product { offer, ..samples::product("one-1") };
            let gathered = Gathered { products: vec![product], ..Gathered::default() };
            gathered.events(&samples::pages(), Locale::En).remove(0)
        }),
        1 => "[a-z]{1,5}".prop_map(|id| {
            ServerEvent::Source(Source { id, title: "A title".to_owned(), url: None, snippet: None })
        }),
    ]
}

/// A log of one owner, and the places at which it wrote its journal.
fn owner() -> impl Strategy<Value = (Vec<ServerEvent>, Vec<usize>)> {
    (prop::collection::vec(event(), 0..30), prop::collection::vec(0..30_usize, 0..6))
}

/// What an owner journals that writes after so many frames, and what it sends.
fn run(mut log: TurnLog, first: ServerEvent, events: Vec<ServerEvent>, ticks: &[usize]) -> (Vec<TurnFrame>, TurnLog) {
    let mut journaled = Vec::new();
    log.push(START_MS, first);
    for (place, event) in events.into_iter().enumerate() {
        if ticks.contains(&place) {
            journaled.extend(log.unjournaled());
            log.mark_journaled(log.len());
        }
        log.push(START_MS + place as u64, event);
    }
    (journaled, log)
}

fn fits(frame: &TurnFrame) -> bool {
    let id = "x".repeat(ID_BYTES_MAX);
    frame.addressed(&ConversationId::parse(&id).unwrap(), &TurnId::parse(&id).unwrap()).encode().is_some()
}

proptest! {
    #[test]
    fn a_replay_is_what_is_missing(
        (events, ticks) in owner(),
        cut in 0..40_i64,
    ) {
        let (mut frames, mut log) = run(first_log(), started(0, false), events, &ticks);
        log.push(START_MS, ServerEvent::TurnCancelled(TurnCancelled { by: CancelledBy::Client }));
        frames.extend(log.unjournaled());
        let sent = sent(&log);
        let last = sent.len() as i64 - 1;
        let after_seq = cut.min(last) - 1;
        let journal = TurnJournal { epoch: 1, frames, ..TurnJournal::default() };
        prop_assert_eq!(journal.last_seq(), last);
        prop_assert_eq!(put_together(&journal.frames), put_together(&sent));

        let replay = journal.replay(1, after_seq);
        prop_assert!(replay.iter().all(|frame| frame.epoch == 1 && fits(frame)));
        prop_assert!(replay[0].first_seq() as i64 <= after_seq + 1);
        let inside = journal.frames.iter().any(|frame| {
            (frame.first_seq() as i64) <= after_seq && after_seq < frame.seq as i64
        });
        prop_assert_eq!((replay[0].first_seq() as i64) < after_seq + 1, inside, "only whole frames come again");
        prop_assert!(replay.windows(2).all(|pair| pair[1].first_seq() == pair[0].seq + 1), "no gaps");
        prop_assert_eq!(replay.last().map(|frame| frame.seq as i64), Some(last));
        let held: Vec<TurnFrame> = sent.iter().filter(|frame| frame.seq as i64 <= after_seq).cloned().collect();
        prop_assert_eq!(put_together(&[held, replay].concat()), put_together(&sent));
        prop_assert_eq!(journal.replay(1, last), vec![]);
    }

    #[test]
    fn a_later_epoch_voids_what_was_not_durable(
        (first, ticks) in owner(),
        (second, later_ticks) in owner(),
        restarted: bool,
        held_count in 0..40_usize,
    ) {
        let (durable, lost) = run(first_log(), started(0, false), first, &ticks);
        let next_seq = durable.last().map_or(0, |frame| frame.seq + 1);
        let left = TurnJournal { epoch: 1, frames: durable, ..TurnJournal::default() };
        let (mut frames, log) = run(TurnLog::after(&left, 2), started(left.last_epoch(), restarted), second, &later_ticks);
        frames.extend(log.unjournaled());
        let journal = TurnJournal { epoch: 2, frames: [left.frames, frames].concat(), ..TurnJournal::default() };
        let whole = put_together(&journal.frames);
        prop_assert_eq!(&journal.answer(), &whole.text, "what is stored is what is shown");
        let cards: Vec<ServerEvent> = whole.items.iter().filter(|event| event.is_card()).cloned().collect();
        prop_assert_eq!(journal.cards(), cards);

        let held: Vec<TurnFrame> = sent(&lost).into_iter().take(held_count).collect();
        let (epoch, after_seq) = held.last().map_or((0, -1), |frame| (frame.epoch, frame.seq as i64));
        let replay = journal.replay(epoch, after_seq);
        prop_assert!(replay.windows(2).all(|pair| pair[1].first_seq() == pair[0].seq + 1 && pair[1].epoch >= pair[0].epoch));
        prop_assert!(replay.iter().all(|frame| (frame.epoch == 1) == (frame.seq < next_seq)));
        prop_assert_eq!(put_together(&[held, replay].concat()), whole);
    }

    #[test]
    fn an_owner_that_was_not_heard_is_missed(
        (first, ticks) in owner(),
        (second, second_ticks) in owner(),
        (third, third_ticks) in owner(),
    ) {
        let (frames, lost) = run(first_log(), started(0, false), first, &ticks);
        let left = TurnJournal { epoch: 1, frames, ..TurnJournal::default() };
        let (frames, _) = run(TurnLog::after(&left, 2), started(left.last_epoch(), false), second, &second_ticks);
        let left = TurnJournal { epoch: 2, frames: [left.frames, frames].concat(), ..TurnJournal::default() };
        let unheard = left.last_epoch() == 2;
        let (mut frames, mut log) =
            run(TurnLog::after(&left, 3), started(left.last_epoch(), false), third, &third_ticks);
        log.push(START_MS, ServerEvent::TurnCancelled(TurnCancelled { by: CancelledBy::Client }));
        frames.extend(log.unjournaled());
        let journal = TurnJournal { epoch: 3, frames: [left.frames, frames].concat(), ..TurnJournal::default() };
        let whole = put_together(&journal.frames);

        let held = [sent(&lost), sent(&log)].concat();
        prop_assert_eq!(put_together(&held).end.is_none(), unheard);
        let replay = journal.replay(1, lost.len() as i64 - 1);
        prop_assert_eq!(put_together(&[held, replay].concat()), whole);
    }

    #[test]
    fn the_end_of_a_log_is_reached_by_any_writes((events, ticks) in owner()) {
        let (mut written, log) = run(first_log(), started(0, false), events, &ticks);
        written.extend(log.unjournaled());
        prop_assert!(written.windows(2).all(|pair| pair[1].first_seq() == pair[0].seq + 1));
        let text = |frames: &[TurnFrame]| TurnJournal { frames: frames.to_vec(), ..TurnJournal::default() }.answer();
        prop_assert_eq!(text(&written), text(&sent(&log)));
    }
}

#[test]
fn an_empty_journal_replays_nothing() {
    let journal = TurnJournal::default();
    assert_eq!((journal.last_seq(), journal.replay(0, -1)), (-1, vec![]));
}

#[test]
fn what_is_the_same_message() {
    let message = samples::message(1, "A pirate story?");
    assert_eq!(payload_hash(&message), payload_hash(&samples::message(2, "A pirate story?")));
    assert_ne!(payload_hash(&message), payload_hash(&samples::message(1, "A pirate story? ")));
}
