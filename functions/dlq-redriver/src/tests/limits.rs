//! Limits, at n and at one more.

use domain::limits::{
    REDRIVE_FAILURES_MAX, REDRIVE_HALT_MS, REDRIVE_LETTERS_MAX, REDRIVE_RUN_MS, REDRIVES_MAX, REDRIVES_PER_SECOND_MAX,
    REFAILURES_MAX,
};
use domain::ports::{Clock as _, QueueName};
use domain::redrive::Reason;
use serde_json::json;
use testkit::{Fault, START_MS};

use super::world::{Content, Letter, QUEUES, Standing, World, adds_up};

const FOLLOW_UP: QueueName = QueueName::FollowUp;

fn transient(count: u32, redrives: u32) -> impl Iterator<Item = Letter> {
    (0..count).map(move |_| Letter::redriven(Content::TurnEnded, redrives))
}

fn dead(world: &World) -> usize {
    world.queues().counts(FOLLOW_UP).dead
}

#[test]
fn a_message_is_redriven_so_often_and_then_quarantined() {
    for (redrives, expected) in [(REDRIVES_MAX - 1, (1, 0)), (REDRIVES_MAX, (0, 1)), (REDRIVES_MAX + 1, (0, 1))] {
        let (mut world, _) = World::with(transient(1, redrives));
        let report = world.run_queue(FOLLOW_UP);
        assert_eq!((report.redriven, report.quarantined), expected, "redriven {redrives} times");
    }
}

#[test]
fn a_message_that_always_fails_ends_in_quarantine() {
    let (mut world, dead) = World::with([Letter::of(Content::Finish(Standing::Queued))]);
    for _ in 0..REDRIVES_MAX {
        assert_eq!(world.run_queue(FOLLOW_UP).redriven, 1);
        assert!(!world.has_failed_aloud(&dead[0].turn_id));
        world.consume_badly(FOLLOW_UP);
    }
    assert_eq!(world.run_queue(FOLLOW_UP).quarantined, 1);
    assert!(world.has_failed_aloud(&dead[0].turn_id));
    assert_eq!(world.queues().counts(FOLLOW_UP).dead, 0);
}

#[test]
fn a_few_messages_that_failed_again_do_not_halt_a_queue_and_one_more_does() {
    let (mut world, _) = World::with(transient(REFAILURES_MAX, 1).chain(transient(5, 0)));
    let report = world.run_queue(FOLLOW_UP);
    assert_eq!((report.redriven, report.refailed, report.halted_until), (REFAILURES_MAX + 5, REFAILURES_MAX, None));

    let (mut world, _) = World::with(transient(REFAILURES_MAX + 1, 1).chain(transient(5, 0)));
    let report = world.run_queue(FOLLOW_UP);
    adds_up(&report);
    // The run ends with the batch in hand, and gives back what of it was not treated.
    let given_back = report.received - REFAILURES_MAX;
    assert_eq!((report.redriven, report.given_back), (REFAILURES_MAX, given_back));
    assert_eq!(report.reasons[&Reason::Halted], given_back);
    let halted_until = START_MS + REDRIVE_HALT_MS;
    assert!(report.halted_until.is_some_and(|until| (halted_until..halted_until + 1_000).contains(&until)));
    assert_eq!(dead(&world), 6);
}

#[test]
fn a_broken_consumer_halts_its_queue_and_no_other() {
    let (mut world, _) = World::with(transient(40, 0));
    assert_eq!(world.run_queue(FOLLOW_UP).redriven, 40);
    world.consume_badly(FOLLOW_UP);
    world.bury(Letter::of(Content::Watch(Standing::Lapsed)));

    let report = world.run();
    let (halted, other) = (&report.queues[&FOLLOW_UP], &report.queues[&QueueName::Watchdog]);
    assert_eq!((halted.redriven, other.redriven, other.halted_until), (REFAILURES_MAX, 1, None));
    let until = halted.halted_until.expect("it is halted");
    world.consume_badly(FOLLOW_UP);
    assert_eq!(dead(&world), 40, "none was lost");

    // Until the halt is over nothing is even looked at.
    for left_ms in [until - world.ports.clock.now_ms() - 1, 1] {
        assert_eq!(world.run_queue(FOLLOW_UP).halted_until, Some(until));
        assert_eq!(world.run_queue(FOLLOW_UP).received, 0);
        world.ports.clock.advance(left_ms);
    }
    assert_eq!(world.ports.clock.now_ms(), until);
    let report = world.run_queue(FOLLOW_UP);
    assert_eq!((report.redriven + report.quarantined, report.refailed), (REFAILURES_MAX, REFAILURES_MAX + 1));
    assert!(report.halted_until > Some(until), "the consumer is broken still");
}

#[test]
fn force_takes_up_a_halted_queue_and_does_not_halt_it() {
    let (mut world, _) = World::with(transient(REFAILURES_MAX + 20, 1));
    let until = world.run_queue(FOLLOW_UP).halted_until.expect("it is halted");
    assert_eq!(world.run_queue(FOLLOW_UP).received, 0);

    let probe = world.invoke(&json!({ "force": true, "max_messages": 7 }));
    assert_eq!(probe.queues[&FOLLOW_UP].redriven, 7);
    assert_eq!(world.run_queue(FOLLOW_UP).halted_until, Some(until), "scheduled runs still leave it alone");

    let report = world.invoke(&json!({ "force": true }));
    assert_eq!((report.queues[&FOLLOW_UP].redriven, dead(&world)), (13, 0));
}

#[test]
fn poison_does_not_halt_a_queue() {
    let poison = [Content::Unknown, Content::Garbage].map(|content| Letter::redriven(content, 1));
    let refused = Letter { refused: true, ..Letter::redriven(Content::TurnEnded, 1) };
    let done = Letter::redriven(Content::Finish(Standing::Ended), 1);
    let letters = poison.into_iter().chain([refused, done]).cycle().take(4 * REFAILURES_MAX as usize);
    let (mut world, _) = World::with(letters);
    let report = world.run_queue(FOLLOW_UP);
    let count = REFAILURES_MAX;
    assert_eq!((report.quarantined, report.duplicates, report.refailed), (3 * count, count, 0));
    assert_eq!((report.halted_until, dead(&world)), (None, 0));
}

#[test]
fn what_a_dead_run_counted_the_next_one_knows() {
    let (mut world, _) = World::with(transient(REFAILURES_MAX + 1, 1));
    // It dies over its last letter of the first batch.
    let redrives = |world: &World| {
        let effects = world.ports.faults.effects();
        effects.iter().filter(|effect| effect.name == "dead_letters.redrive").count() as u32
    };
    let redrive_of_seventh = {
        let (mut rehearsal, _) = World::with(transient(REFAILURES_MAX + 1, 1));
        rehearsal.run_queue(FOLLOW_UP);
        let effects = rehearsal.ports.faults.effects();
        let mut places = effects.iter().enumerate().filter(|(_, effect)| effect.name == "dead_letters.redrive");
        places.nth(6).unwrap().0
    };
    world.ports.faults.plan(redrive_of_seventh, Fault::CrashBefore);
    assert!(world.try_invoke(&json!({ "queues": ["follow-up"] })).is_none());
    assert_eq!(redrives(&world), 7);
    world.later();
    // Seven were counted, of which the last is seen again.
    let report = world.run_queue(FOLLOW_UP);
    assert_eq!((report.redriven, report.refailed), (REFAILURES_MAX - 7, REFAILURES_MAX - 6));
    assert!(report.halted_until.is_some());
}

#[test]
fn a_run_that_ended_well_is_forgotten() {
    let (mut world, _) = World::with(transient(REFAILURES_MAX, 1));
    for _ in 0..3 {
        assert_eq!(world.run_queue(FOLLOW_UP).halted_until, None);
        for letter in transient(REFAILURES_MAX, 1) {
            world.bury(letter);
        }
    }
}

#[test]
fn a_run_takes_up_as_many_letters_as_it_is_told() {
    for (letters, max, taken) in [(13, 13, 13), (14, 13, 13), (20, 20, 20), (21, 20, 20), (3, 1, 1)] {
        let (mut world, _) = World::with(transient(letters, 0));
        let report = world.invoke(&json!({ "queues": ["follow-up"], "max_messages": max }));
        let report = &report.queues[&FOLLOW_UP];
        adds_up(report);
        assert_eq!((report.redriven, dead(&world) as u32), (taken, letters - taken), "{max} of {letters}");
        assert_eq!(report.given_back, report.reasons.get(&Reason::OutOfBounds).copied().unwrap_or_default());
        assert_eq!(world.run_queue(FOLLOW_UP).redriven, letters - taken, "the others are there at once");
    }
}

#[test]
fn no_run_takes_up_more_letters_than_it_can_send() {
    for more in [0, 1] {
        let (mut world, _) = World::with(transient(REDRIVE_LETTERS_MAX + more, 0));
        assert_eq!(world.run_queue(FOLLOW_UP).redriven, REDRIVE_LETTERS_MAX);
        assert_eq!(dead(&world) as u32, more);
        assert!(world.ports.clock.now_ms() <= START_MS + REDRIVE_RUN_MS, "they could be sent in time");
    }
    let garbage = (0..REDRIVE_LETTERS_MAX + 20).map(|_| Letter::of(Content::Garbage));
    let (mut world, _) = World::with(garbage);
    let report = world.invoke(&json!({ "queues": ["follow-up"], "kinds": ["finish"] }));
    let skipped = report.queues[&FOLLOW_UP].skipped;
    assert_eq!(skipped, REDRIVE_LETTERS_MAX, "nor leaves out more");
}

#[test]
fn messages_are_sent_no_faster_than_their_consumer_can_bear() {
    let (mut world, _) = World::with((0..120).flat_map(|_| {
        [Letter::of(Content::TurnEnded), Letter::of(Content::Watch(Standing::Lapsed)), Letter::of(Content::Garbage)]
    }));
    world.run();
    let effects = world.ports.faults.effects();
    let mut sent: Vec<u64> =
        effects.iter().filter(|effect| effect.name == "dead_letters.redrive").map(|effect| effect.at_ms).collect();
    sent.sort_unstable();
    assert_eq!(sent.len(), 240);
    // To each of the two queues.
    let rate = 2 * REDRIVES_PER_SECOND_MAX as usize;
    for (first, next) in sent.iter().zip(&sent[rate..]) {
        assert!(next - first >= 1_000, "more than {rate} in the second from {first} on");
    }
    assert_eq!(sent.iter().filter(|at| **at < START_MS + 1_000).count(), rate, "nor slower");
}

#[test]
fn a_run_ends_in_time() {
    let (mut world, _) = World::with(transient(50, 0));
    // A receive, and for each letter that is sent its sending and its deletion.
    world.ports.queues.set_round_trip_ms(1_000);
    let report = world.run_queue(FOLLOW_UP);
    adds_up(&report);
    // 21 s for each ten: the second ten are begun at 21 s, the tenth of them would be at 40 s.
    assert_eq!(REDRIVE_RUN_MS, 40_000);
    assert_eq!((report.redriven, report.given_back), (19, 1));
    assert_eq!(report.reasons[&Reason::OutOfBounds], 1);
    assert_eq!(dead(&world), 31);
    assert!(report.duration_ms <= REDRIVE_RUN_MS + 1_000);
}

#[test]
fn a_run_bears_some_failures() {
    for (failures, treated) in [(REDRIVE_FAILURES_MAX, 25 - REDRIVE_FAILURES_MAX), (REDRIVE_FAILURES_MAX + 1, 4)] {
        let (mut world, _) = World::with(transient(25, 0));
        let deletions = {
            let (mut rehearsal, _) = World::with(transient(25, 0));
            rehearsal.run_queue(FOLLOW_UP);
            let effects = rehearsal.ports.faults.effects();
            let places = effects.iter().enumerate().filter(|(_, effect)| effect.name == "dead_letters.redrive");
            places.map(|(place, _)| place).collect::<Vec<_>>()
        };
        // A letter that is not sent is not deleted: each failure moves what follows up by one.
        for (failed, place) in deletions[4..].iter().take(failures as usize).enumerate() {
            world.ports.faults.plan(place - failed, Fault::FailBefore);
        }
        let report = world.run_queue(FOLLOW_UP);
        adds_up(&report);
        assert_eq!((report.redriven, report.reasons[&Reason::Unavailable]), (treated, failures));
        assert_eq!(report.unavailable, (failures > REDRIVE_FAILURES_MAX).then_some("dead_letters.redrive"));
        world.later();
        assert_eq!(world.run_queue(FOLLOW_UP).redriven, 25 - treated, "the others are still there");
    }
}

#[test]
fn what_is_out_of_reach_is_reported() {
    for (effect, operation) in [(0, "redrive_states.state"), (1, "dead_letters.receive")] {
        let (mut world, _) = World::with(transient(3, 0));
        world.ports.faults.plan(effect, Fault::FailBefore);
        let report = world.run_queue(FOLLOW_UP);
        assert_eq!((report.received, report.unavailable), (0, Some(operation)));
        assert_eq!(world.run().queues.len(), QUEUES.len());
        assert_eq!(dead(&world), 0);
    }
}
