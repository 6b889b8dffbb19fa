//! The redriver dies before and after each of its effects.

use std::collections::BTreeSet;

use domain::limits::{REDRIVE_HALT_MS, REDRIVES_MAX};
use domain::protocol::TurnState;
use domain::redrive::Fate;
use serde_json::json;
use testkit::Fault;

use super::fates::a_thousand;
use super::world::{
    Content, Dead, Letter, QUEUES, Standing, World, adds_up, deserves, every_letter, fails_its_turn, is_sent_again,
};

/// Every kind of letter that does not wait for a living owner. Few were redriven before, so that no queue is halted.
fn letters() -> Vec<Letter> {
    let was_not_redriven = every_letter().into_iter().filter(|letter| letter.redrives == 0);
    let exhausted =
        [Content::Finish(Standing::Queued), Content::TurnEnded].map(|content| Letter::redriven(content, REDRIVES_MAX));
    was_not_redriven.chain(exhausted).filter(|letter| deserves(*letter).fate() != Fate::GivenBack).collect()
}

/// A letter was dealt with: as it deserves, or, where its turn was ended before a crash, as that turn's deserves.
#[track_caller]
pub fn is_dealt_with(world: &World, dead: &Dead, when: &str) {
    let Dead { letter, body, turn_id, .. } = dead;
    assert!(!world.left().contains(body), "{when}: {letter:?} is still there");
    let is_sent = world.sent(letter.queue()).contains_key(body);
    let turn_failed = world.state(turn_id) == Some(TurnState::Failed);
    match deserves(*letter).fate() {
        Fate::Redriven => assert!(is_sent, "{when}: {letter:?} was lost"),
        Fate::Quarantined => {
            assert!(world.quarantined(dead).is_some() || turn_failed, "{when}: {letter:?} was lost");
        }
        Fate::Expired => assert!(is_sent || !is_sent_again(*letter), "{when}: {letter:?} was lost"),
        Fate::Duplicate | Fate::GivenBack => assert!(!is_sent, "{when}: {letter:?} was sent"),
    }
    if fails_its_turn(*letter) {
        assert!(turn_failed, "{when}: the turn of {letter:?} goes on");
    }
}

#[test]
fn whatever_happens_at_any_effect_no_letter_is_lost() {
    let (mut world, _) = World::with(letters());
    world.run();
    let effects = world.ports.faults.effects();
    let names: BTreeSet<&str> = effects.iter().map(|effect| effect.name).collect();
    for name in ["dead_letters.redrive", "dead_letters.delete", "quarantine.put", "turns.journal", "sender.send"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::FailBefore, Fault::FailAfter] {
        for (number, effect) in effects.iter().enumerate() {
            let when = format!("{fault:?} at effect {number}, {}", effect.name);
            let (mut world, dead) = World::with(letters());
            world.ports.faults.plan(number, fault);
            let crashes = matches!(fault, Fault::CrashBefore | Fault::CrashAfter);
            let report = world.try_invoke(&json!({}));
            assert_eq!(report.is_none(), crashes, "{when}");
            report.iter().flat_map(|report| report.queues.values()).for_each(adds_up);

            world.later();
            let report = world.run();
            for report in report.queues.values() {
                adds_up(report);
                assert_eq!((report.given_back, report.unavailable), (0, None), "{when}");
            }
            for dead in &dead {
                is_dealt_with(&world, dead, &when);
                let copies = world.sent(dead.letter.queue()).get(&dead.body).copied().unwrap_or_default();
                assert!(copies <= 2, "{when}: {:?} was sent {copies} times", dead.letter);
            }
        }
    }
}

#[test]
fn a_thousand_letters_survive_redrivers_that_die_midway() {
    let (mut world, dead) = World::with(a_thousand());
    for (number, fault) in [(150, Fault::CrashAfter), (333, Fault::CrashBefore), (700, Fault::CrashAfter)] {
        world.ports.faults.plan(number, fault);
        assert!(world.try_invoke(&json!({})).is_none());
        world.later();
    }
    // What the dead runs had counted twice may halt a queue.
    for _ in 0..3 {
        world.run().queues.values().for_each(adds_up);
        world.later();
        world.ports.clock.advance(REDRIVE_HALT_MS);
    }
    for dead in dead.iter().filter(|dead| deserves(dead.letter).fate() != Fate::GivenBack) {
        is_dealt_with(&world, dead, "after three deaths");
    }
    let waiting = dead.iter().filter(|dead| deserves(dead.letter).fate() == Fate::GivenBack).count();
    assert_eq!((world.left().len(), waiting), (10, 10), "only turns with a living owner wait");
    let sent: usize = QUEUES.iter().map(|queue| world.queues().bodies(*queue).len()).sum();
    let once = dead.iter().filter(|dead| is_sent_again(dead.letter)).count();
    assert!(
        (once..=once + 3 * QUEUES.len()).contains(&sent),
        "a death sends a message of each queue twice at the most"
    );
}

/// What is deleted is what has had its effect: in each run the deletion of a letter comes after everything else.
#[test]
fn nothing_is_deleted_before_its_effect_is_acknowledged() {
    for letter in letters() {
        let (mut world, _) = World::with([letter]);
        world.run();
        let names: Vec<&str> = world.ports.faults.effects().iter().map(|effect| effect.name).collect();
        let deleted = names.iter().position(|name| *name == "dead_letters.delete").unwrap();
        let effects = ["dead_letters.redrive", "quarantine.put", "turns.journal", "turns.release"];
        assert!(names[deleted..].iter().all(|name| !effects.contains(name)), "{letter:?}: {names:?}");
    }
}
