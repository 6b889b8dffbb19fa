//! What becomes of a letter.

use std::collections::BTreeMap;

use domain::limits::{LEASE_MS, REDRIVES_MAX};
use domain::ports::{Clock as _, JournalOutcome, JournalWrite, QueueName, TurnStore as _};
use domain::protocol::TurnState;
use domain::redrive::{Fate, Quarantined, QueueReport, Reason};
use domain::turn::Hold;
use serde_json::json;
use testkit::{MessageAttributes, START_MS};

use super::world::{
    Content, Dead, Letter, QUEUES, Standing, World, adds_up, deserves, every_letter, fails_its_turn, is_sent_again,
};

/// A letter is where it deserves to be, and nowhere else.
#[track_caller]
fn is_where_it_belongs(world: &World, dead: &Dead) {
    let Dead { letter, body, turn_id, .. } = dead;
    let reason = deserves(*letter);
    let sent = world.sent(letter.queue()).get(body).copied().unwrap_or_default();
    assert_eq!(sent, usize::from(is_sent_again(*letter)), "{letter:?}");
    assert_eq!(world.left().contains(body), reason.fate() == Fate::GivenBack, "{letter:?}");
    let entry = world.quarantined(dead);
    assert_eq!(entry.as_ref().map(|entry| entry.reason), (reason.fate() == Fate::Quarantined).then_some(reason));
    assert!(entry.is_none_or(|entry| entry.payload == *body && entry.redrives == letter.redrives));
    let has_failed = world.state(turn_id) == Some(TurnState::Failed);
    assert_eq!(has_failed, fails_its_turn(*letter), "{letter:?}");
    assert!(!has_failed || world.has_failed_aloud(turn_id), "{letter:?}");
}

#[test]
fn every_letter_gets_what_it_deserves() {
    for letter in every_letter() {
        let (mut world, dead) = World::with([letter]);
        let report = world.run_queue(letter.queue());
        adds_up(&report);
        assert_eq!(report.reasons, BTreeMap::from([(deserves(letter), 1)]), "{letter:?}");
        assert_eq!(report.turns_failed, u32::from(fails_its_turn(letter)), "{letter:?}");
        is_where_it_belongs(&world, &dead[0]);
    }
}

/// A thousand letters of every kind, mixed up.
pub fn a_thousand() -> Vec<Letter> {
    // Not more of those that had been redriven before than a run lets pass.
    let exhausted = |content| (Letter::redriven(content, REDRIVES_MAX), 2);
    let mix = [
        (Letter::of(Content::Finish(Standing::Unrecorded)), 20),
        (Letter::of(Content::Finish(Standing::NeverRecorded)), 30),
        (Letter::of(Content::Finish(Standing::Live)), 40),
        (Letter::of(Content::Finish(Standing::LiveAndOld)), 10),
        (Letter::of(Content::Finish(Standing::Lapsed)), 60),
        (Letter::of(Content::Finish(Standing::Queued)), 120),
        (Letter::of(Content::Finish(Standing::Old)), 90),
        (Letter::of(Content::Finish(Standing::EndedAndHeld)), 20),
        (Letter::of(Content::Finish(Standing::Ended)), 150),
        (Letter::refused(Content::Finish(Standing::Queued)), 10),
        (Letter::refused(Content::TurnEnded), 15),
        (Letter::of(Content::TurnEnded), 80),
        (Letter::of(Content::Remind), 25),
        (Letter::of(Content::OldRemind), 15),
        (Letter::of(Content::Unknown), 20),
        (Letter::of(Content::Garbage), 35),
        exhausted(Content::Finish(Standing::Queued)),
        exhausted(Content::TurnEnded),
        exhausted(Content::Remind),
        (Letter::of(Content::Watch(Standing::NeverRecorded)), 12),
        (Letter::of(Content::Watch(Standing::Live)), 48),
        (Letter::of(Content::Watch(Standing::Lapsed)), 80),
        (Letter::of(Content::Watch(Standing::Old)), 40),
        (Letter::of(Content::Watch(Standing::Ended)), 30),
        (Letter::of(Content::WatchOfFormer(Standing::Queued)), 25),
        (Letter::of(Content::Misplaced), 15),
        exhausted(Content::Watch(Standing::Lapsed)),
        exhausted(Content::Watch(Standing::Ended)),
    ];
    // Mixed up: letter i of a kind stands before letter i + 1 of all others.
    let mut letters: Vec<(u32, Letter)> =
        mix.iter().flat_map(|&(letter, count)| (0..count).map(move |place| (place, letter))).collect();
    letters.sort();
    letters.into_iter().map(|(_, letter)| letter).collect()
}

#[test]
fn a_thousand_letters_of_every_kind_end_where_they_belong() {
    let (mut world, dead) = World::with(a_thousand());
    let report = world.run();
    for queue in QUEUES {
        let mut expected = BTreeMap::new();
        for dead in dead.iter().filter(|dead| dead.letter.queue() == queue) {
            *expected.entry(deserves(dead.letter)).or_default() += 1;
        }
        let report = &report.queues[&queue];
        adds_up(report);
        assert_eq!((&report.reasons, report.unavailable, report.halted_until), (&expected, None, None));
    }
    for dead in &dead {
        is_where_it_belongs(&world, dead);
    }
    let total = |count: fn(&QueueReport) -> u32| report.queues.values().map(count).sum::<u32>();
    assert_eq!(total(|report| report.received), 1_000);
    assert_eq!(total(|report| report.redriven), 523);
    assert_eq!(total(|report| report.quarantined), 105);
    assert_eq!(total(|report| report.duplicates), 175);
    assert_eq!(total(|report| report.expired), 187);
    assert_eq!(total(|report| report.given_back), 10);
    assert_eq!(total(|report| report.turns_failed), 144);
}

#[test]
fn a_redriven_message_takes_its_past_along() {
    let mut world = World::new();
    let attributes = MessageAttributes { redrives: Some(1), first_sent_at: Some(START_MS - 5_000), reason: None };
    let body = json!({ "kind": "remind", "principal": "shopper:aiko", "follow_up_id": "f" }).to_string();
    world.queues().put_dead(QueueName::FollowUp, &body, attributes.clone());
    assert_eq!(world.run_queue(QueueName::FollowUp).redriven, 1);
    let received = world.queues().receive_messages(QueueName::FollowUp, 10);
    let [message] = received.as_slice() else { panic!("one message: {received:?}") };
    assert_eq!(message.body, body);
    assert_eq!(message.attributes, MessageAttributes { redrives: Some(2), ..attributes });
}

#[test]
fn quarantine_says_all_there_is_to_know() {
    let (mut world, dead) = World::with([Letter::refused(Content::Finish(Standing::Queued))]);
    world.run();
    let entry = world.quarantined(&dead[0]).unwrap();
    let first_sent_at = entry.first_sent_at;
    assert!(first_sent_at > START_MS);
    let expected = Quarantined {
        queue: QueueName::FollowUp,
        message_id: dead[0].message_id.clone(),
        reason: Reason::Refused,
        refusal: Some("nobody can do this".to_owned()),
        payload: dead[0].body.clone(),
        turn_id: Some(dead[0].turn_id.clone()),
        first_sent_at,
        redrives: 0,
        quarantined_at: START_MS,
    };
    assert_eq!(entry, expected);
}

/// A turn that gets an owner after its letter was judged is left to that owner.
#[test]
fn a_turn_that_is_taken_over_meanwhile_is_left_alone() {
    let (world, dead) = World::with([Letter::of(Content::Finish(Standing::Old))]);
    let (redriver, event) = (world.redriver(), json!({}));
    world.ports.turns.set_round_trip_ms(100);
    let take_over = async {
        // The turn is read at 50 ms, and to be ended at 150 ms.
        world.ports.clock.sleep_until(START_MS + 120).await;
        let claim = JournalWrite {
            turn_id: dead[0].turn_id.clone(),
            epoch: 3,
            writer: "worker".to_owned(),
            number: 1,
            frames: Vec::new(),
            hold: Hold::Leased { until: START_MS + LEASE_MS },
            outcome: None,
            now: START_MS + 120,
        };
        let claimed = world.ports.turns.inner.journal(&claim).await.unwrap();
        assert!(matches!(claimed, JournalOutcome::Written(_)));
    };
    let mut log = Vec::new();
    let both = futures_util::future::join(crate::handle(&redriver, &event, &mut log), take_over);
    let (report, ()) = world.ports.run(both).unwrap();
    let report = &report.unwrap().queues[&QueueName::FollowUp];
    assert_eq!(report.reasons, BTreeMap::from([(Reason::OwnerAlive, 1)]));
    assert_eq!((world.state(&dead[0].turn_id), report.turns_failed), (Some(TurnState::Running), 0));
    assert_eq!(world.left(), [dead[0].body.clone()]);
}
