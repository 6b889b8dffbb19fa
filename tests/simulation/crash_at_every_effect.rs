//! For every way a turn can go, every process in it dies before and after each of its effects, and what follows is as if
//! none had.

use std::panic::{AssertUnwindSafe, catch_unwind};

use domain::turn::Hold;
use testkit::{Effect, Fault, InMemory};

use crate::aftermath::settle;
use crate::engine::{DynamoDb, Engine};
use crate::invariants;
use crate::lambda::{Accident, Victim};
use crate::paths::{PATHS, Path};
use crate::stores::{Memory, Stores};
use crate::trace::ProcessNumber;
use crate::world::{Message, World};

/// A dead owner is replaced within this, however silent the client is, ms.
const TAKEOVER_MS_MAX: u64 = 45_000;

/// How the shopper gets their answer after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recovery {
    /// The client reconnects and sends its message again, once the lease of the dead has lapsed; no queue delivers.
    Resend,
    /// The client neither sends nor hears anything: watchdog and worker are alone.
    Silence,
    /// Everything that is in flight is delivered again at once, and one message twice; the client keeps to the protocol.
    Redelivery,
}

const RECOVERIES: [Recovery; 3] = [Recovery::Resend, Recovery::Silence, Recovery::Redelivery];

/// A moment at which a process dies.
#[derive(Debug, Clone, Copy)]
struct Crash {
    process: ProcessNumber,
    effect: usize,
    fault: Fault,
    is_telling: bool,
}

#[test]
fn nothing_is_lost_whatever_dies_when() {
    let mut broken = Vec::new();
    let mut cases = 0;
    for path in &PATHS {
        for crash in crashes(path, |world| Memory::new(&world.clock), "aiko") {
            for recovery in RECOVERIES {
                cases += 1;
                let case = || dies(path, |world| Memory::new(&world.clock), "aiko", crash, recovery);
                if catch_unwind(AssertUnwindSafe(case)).is_err() {
                    broken.push(format!("{}: {crash:?}, {recovery:?}", path.name));
                }
            }
        }
    }
    println!("{cases} crashes");
    assert!(broken.is_empty(), "{} of {cases}:\n{}", broken.len(), broken.join("\n"));
}

/// Every effect of every process of a path in which none dies, before and after.
fn crashes<S: Stores>(path: &Path, stores: impl FnOnce(&InMemory) -> S, subject: &str) -> Vec<Crash> {
    let (mut world, message) = path.world(stores, subject);
    path.take(&mut world, &message, |_| false);
    let effects: Vec<Vec<Effect>> = {
        let events = world.lambda.trace.events();
        events.started.iter().map(|started| started.faults.effects()).collect()
    };
    tell_if_broken(&mut world, |world| settle(world, std::slice::from_ref(&message)));
    let mut crashes = Vec::new();
    for (process, effects) in effects.iter().enumerate() {
        for effect in 0..effects.len() {
            let crash = |fault| Crash { process, effect, fault, is_telling: is_telling(effects, effect) };
            crashes.extend([Fault::CrashBefore, Fault::CrashAfter].map(crash));
        }
    }
    crashes
}

/// Whether an effect is one on a store, and not just another tick among ticks.
fn is_telling(effects: &[Effect], effect: usize) -> bool {
    let is_stored =
        |effect: &&Effect| ["turns", "connections", "buckets"].iter().any(|port| effect.name.starts_with(port));
    let is_tick = |effect: Option<&Effect>| effect.is_some_and(|effect| effect.name == "turns.journal");
    let mut before = effects[..effect].iter().rev().filter(is_stored);
    let mut after = effects[effect + 1..].iter().filter(is_stored);
    let among_ticks = is_tick(before.next()) && is_tick(before.next()) && is_tick(after.next());
    is_stored(&&effects[effect]) && !(is_tick(Some(&effects[effect])) && among_ticks)
}

/// Takes a path on which a process dies, and comes to rest.
fn dies<S: Stores>(path: &Path, stores: impl FnOnce(&InMemory) -> S, subject: &str, crash: Crash, recovery: Recovery) {
    let (mut world, message) = path.world(stores, subject);
    let Crash { process, effect, fault, .. } = crash;
    world.lambda.plan(Accident { whom: Victim::Process(process), effect, fault });
    tell_if_broken(&mut world, |world| {
        path.take(world, &message, |world| world.has_died(process));
        assert!(world.has_died(process), "the path went another way: {crash:?} did not happen");
        world.note(format!("--- #{process} died: {recovery:?}"));
        match recovery {
            Recovery::Resend => resend(world, &message),
            Recovery::Silence => stay_silent(world, &message, process),
            Recovery::Redelivery => deliver_again(world),
        }
        settle(world, std::slice::from_ref(&message));
    });
}

/// Tells the world's story when a promise is broken.
fn tell_if_broken<S: Stores>(world: &mut World<S>, check: impl FnOnce(&mut World<S>)) {
    if let Err(broken) = catch_unwind(AssertUnwindSafe(|| check(world))) {
        println!("{}", world.story());
        std::panic::resume_unwind(broken);
    }
}

fn resend<S: Stores>(world: &mut World<S>, message: &Message) {
    world.lambda.stop_event_sources();
    world.disconnect(0, true);
    world.run_for(11_000);
    world.connect(0);
    world.send(0, message);
    world.run_for(2_000);
    assert!(
        world.tabs[0].accepted(message.id).is_some(),
        "a message is not accepted when it is sent again after the lease: {:?}",
        world.tabs[0].errors().last()
    );
    // Nobody but the new owner goes on.
    world.attend_for(30_000);
    let turn = world.turn_id(message);
    let shown = world.tabs[0].view(&turn).expect("it was accepted").shown();
    assert!(
        shown.end.is_some() || shown.queued,
        "a turn is not continued when its message is sent again after the lease: {shown:?}"
    );
}

fn stay_silent<S: Stores>(world: &mut World<S>, message: &Message, dead: ProcessNumber) {
    let died_at = world.now();
    world.lambda.start_event_sources();
    let owned = owned_by(world, message, dead);
    world.run_until_idle(60 * 60_000);
    if owned {
        let events = world.lambda.trace.events();
        let taken_over =
            events.written_to(&world.turn_id(message)).find(|written| written.by != dead && written.at >= died_at);
        let after_ms = taken_over.map(|written| written.at - died_at);
        assert!(
            after_ms.is_some_and(|ms| ms <= TAKEOVER_MS_MAX),
            "a turn whose owner died is taken over after {after_ms:?} ms"
        );
    }
    if let Some(turn) = world.stored(&world.turn_id(message)) {
        assert!(turn.journal.outcome.is_some(), "I1: with a silent client the turn never ends");
    }
}

/// Whether a process had the turn, which had neither ended nor been handed over.
fn owned_by<S: Stores>(world: &World<S>, message: &Message, process: ProcessNumber) -> bool {
    let turn = world.turn_id(message);
    let events = world.lambda.trace.events();
    match events.written_to(&turn).last() {
        None => events.record_of(&turn).is_some_and(|recorded| recorded.by == process),
        Some(last) => {
            let goes_on = last.write.outcome.is_none() && matches!(last.write.hold, Hold::Leased { .. });
            last.by == process && goes_on
        }
    }
}

fn deliver_again<S: Stores>(world: &mut World<S>) {
    world.lambda.start_event_sources();
    world.lambda.lose_a_delete();
    world.lambda.redeliver();
    world.attend_for(90_000);
}

/// The same on a DynamoDB engine, where a process dies before and after its calls to it, with one recovery for each crash
/// in turn.
#[test]
fn nothing_is_lost_whatever_dies_when_on_an_engine() {
    let engine = Engine::start();
    let mut broken = Vec::new();
    let mut cases = 0;
    for path in &PATHS {
        let subject = |case: usize| format!("{}-{case}", path.name.replace(' ', "-"));
        let crashes = crashes(path, |world| DynamoDb::new(&engine, &world.clock), &subject(0));
        let crashes = crashes.into_iter().filter(|crash| crash.is_telling);
        for (case, (crash, recovery)) in crashes.zip(RECOVERIES.into_iter().cycle()).enumerate() {
            cases += 1;
            let stores = |world: &InMemory| DynamoDb::new(&engine, &world.clock);
            let case = || dies(path, stores, &subject(case + 1), crash, recovery);
            if catch_unwind(AssertUnwindSafe(case)).is_err() {
                broken.push(format!("{}: {crash:?}, {recovery:?}", path.name));
            }
        }
    }
    println!("{cases} crashes");
    assert!(broken.is_empty(), "{} of {cases}:\n{}", broken.len(), broken.join("\n"));
}

/// What a turn shows does not depend on who looks, or when: a guard for the tests themselves.
#[test]
fn an_undisturbed_turn_is_shown_as_it_is_stored() {
    let (mut world, message) = PATHS[1].world(|world| Memory::new(&world.clock), "aiko");
    PATHS[1].take(&mut world, &message, |_| false);
    let turn = world.stored(&world.turn_id(&message)).unwrap();
    assert_eq!(world.tabs[0].view(&turn.request.turn_id).unwrap().shown(), invariants::shown(&turn));
}
