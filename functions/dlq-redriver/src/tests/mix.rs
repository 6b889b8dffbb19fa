//! Letters in any mix, with any faults, against what each of them deserves.

use domain::limits::{REDRIVE_HALT_MS, REDRIVES_MAX, REFAILURES_MAX};
use domain::redrive::Fate;
use proptest::prelude::*;
use serde_json::json;
use testkit::Fault;

use super::crash::is_dealt_with;
use super::world::{Letter, World, adds_up, deserves, every_letter};

/// More runs than it takes to get at every letter, halts and all.
const RUNS_MAX: usize = 12;

fn letter() -> impl Strategy<Value = Letter> {
    (prop::sample::select(every_letter()), 0..=REDRIVES_MAX)
        .prop_map(|(letter, redrives)| Letter { redrives, ..letter })
}

fn fault() -> impl Strategy<Value = (usize, Fault)> {
    let faults = [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter];
    (0_usize..150, prop::sample::select(faults.to_vec()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_letter_is_dealt_with_in_the_end_and_none_twice_without_need(
        letters in prop::collection::vec(letter(), 1..40),
        troubles in prop::collection::vec(prop::collection::vec(fault(), 0..3), 0..3),
    ) {
        let (mut world, dead) = World::with(letters);
        let mut troubles = troubles.into_iter();
        let mut faults_met = 0;
        for _ in 0..RUNS_MAX {
            let trouble = troubles.next().unwrap_or_default();
            faults_met += trouble.len();
            for (effect, fault) in trouble {
                world.ports.faults.plan(effect, fault);
            }
            let report = world.try_invoke(&json!({}));
            for report in report.iter().flat_map(|report| report.queues.values()) {
                adds_up(report);
                prop_assert!(report.refailed <= REFAILURES_MAX + 1);
            }
            world.later();
            world.ports.clock.advance(REDRIVE_HALT_MS);
        }
        for dead in &dead {
            let copies = world.sent(dead.letter.queue()).get(&dead.body).copied().unwrap_or_default();
            prop_assert!(copies <= 1 + faults_met, "{:?} was sent {copies} times", dead.letter);
            if deserves(dead.letter).fate() == Fate::GivenBack {
                prop_assert!(world.left().contains(&dead.body), "{:?} is gone", dead.letter);
            } else {
                is_dealt_with(&world, dead, "in the end");
            }
        }
    }
}
