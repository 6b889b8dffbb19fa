//! Turns are looked after until they have ended and their end is published.

use domain::answer::Workplace;
use domain::ids::TurnId;
use domain::intent::Intent;
use domain::limits::{
    EPOCHS_MAX, LEASE_MS, QUEUED_PATIENCE_MS, TAKEOVER_MARGIN_MS, TURN_AGE_MAX_MS, WATCH_AFTER_MS, WATCH_QUEUED_MS,
};
use domain::ports::{Clock as _, JournalWrite, LockRequest, QueueName, Task, TaskQueues as _, TurnStore as _};
use domain::protocol::{ErrorCode, ServerEvent, TurnState};
use domain::turn::{Hold, Outcome, Phase};
use domain::watchdog::Watched;
use futures_util::future::join;
use testkit::{Fault, InMemory, ModelFailure, START_MS, Step};

use crate::client::{put_together, read};
use crate::world::{
    abandoned, ask, asked, conversation, drain, dying_after, frames, is_watched, lapse, names, phase, pieces,
    positions, stocked, take, tasks, the_turn, types, wait, watchdog,
};

/// A turn whose owner is dead is taken over within this, ms, though nobody asks for it.
const TAKEN_OVER_WITHIN_MS: u64 = 45_000;

fn dying() -> InMemory {
    abandoned(pieces(&["Alpha ", "beta."], 900), 1_500)
}

fn watch_of(ports: &InMemory, epoch: u64) -> Task {
    Task::Watch { turn_id: the_turn(ports).request.turn_id, epoch }
}

fn finish_of(ports: &InMemory, epoch: u64) -> Task {
    Task::Finish { turn_id: the_turn(ports).request.turn_id, epoch }
}

/// When the next task of a queue is due.
fn due_at(ports: &InMemory) -> u64 {
    ports.queues.inner.next_due_at().expect("a task")
}

/// Runs the watchdog on the one task there is for it, which must be due.
fn watched(ports: &InMemory) -> Watched {
    let [watched] = <[_; 1]>::try_from(ports.run(watchdog(ports)).unwrap()).unwrap();
    assert_eq!(
        is_watched(ports),
        !matches!(watched, Watched::Unknown | Watched::HasNewerOwner | Watched::Ended),
        "{watched:?}: what is not over is watched on"
    );
    assert_eq!(!ports.events.inner.all().is_empty(), watched == Watched::Ended, "{watched:?}");
    watched
}

/// Waits for the watchdog's task, and runs it.
fn watched_when_due(ports: &InMemory) -> Watched {
    ports.clock.advance_to(due_at(ports));
    watched(ports)
}

/// The turn has an owner with this epoch from now on, who did nothing else, and who holds it like this.
fn claim(ports: &InMemory, epoch: u64, hold: Hold, outcome: Option<TurnState>) {
    let outcome = outcome.map(|state| Outcome { state, usage: Default::default() });
    let now = ports.clock.now_ms();
    let turn_id = the_turn(ports).request.turn_id;
    let write = JournalWrite { turn_id, epoch, writer: "w".to_owned(), number: 1, frames: vec![], hold, outcome, now };
    ports.run(ports.turns.inner.journal(&write)).unwrap().unwrap();
    assert_eq!(the_turn(ports).epoch(), epoch);
}

#[test]
fn a_turn_that_was_never_recorded_is_forgotten() {
    let ports = InMemory::new();
    let turn_id = TurnId::parse("t-1").unwrap();
    ports.run(ports.queues.inner.send(&Task::Watch { turn_id, epoch: 1 }, 0)).unwrap().unwrap();
    assert_eq!(watched(&ports), Watched::Unknown);
    assert_eq!(tasks(&ports), []);
}

#[test]
fn an_owner_is_looked_at_when_its_lease_could_be_over() {
    let ports = stocked();
    ports.model.follow(pieces(&["Alpha ", "beta."], 9_000));
    let looking = async {
        wait(&ports, WATCH_AFTER_MS).await;
        assert_eq!(watchdog(&ports).await, [Watched::Alive]);
        let Phase::Live { until } = phase(&ports) else { panic!("it lives") };
        assert_eq!(tasks(&ports), [watch_of(&ports, 1)]);
        assert_eq!(due_at(&ports), until.next_multiple_of(1_000), "a queue delays by whole seconds");
    };
    ports.run(join(ask(&ports, "a"), looking)).unwrap();
    assert_eq!(watched_when_due(&ports), Watched::Ended);
    assert_eq!(tasks(&ports), []);
}

#[test]
fn a_dead_owner_is_replaced_once_its_lease_has_lapsed() {
    let ports = dying();
    let Phase::Live { until } = phase(&ports) else { panic!("its lease goes on") };
    ports.clock.advance_to(until - 1);
    // Sooner than the owner had it sent, to see both sides of the lease.
    ports.queues.inner.put(QueueName::Watchdog, &serde_json::to_string(&watch_of(&ports, 1)).unwrap());
    assert_eq!(ports.run(watchdog(&ports)), Some(vec![Watched::Alive]));
    assert!(!tasks(&ports).contains(&finish_of(&ports, 1)));
    ports.clock.advance_to(START_MS + WATCH_AFTER_MS);
    assert_eq!(ports.run(watchdog(&ports)), Some(vec![Watched::TakeoverAsked; 2]));
    assert!(is_watched(&ports) && tasks(&ports).contains(&finish_of(&ports, 1)));
    ports.run(drain(&ports));
    assert_eq!((the_turn(&ports).state(), the_turn(&ports).epoch()), (TurnState::Completed, 2));
}

#[test]
fn the_successors_watchdog_replaces_the_dead_owners() {
    let ports = dying();
    lapse(&ports);
    ports.model.follow(pieces(&["Alpha ", "beta ", "gamma."], 5_000));
    let looking = async {
        wait(&ports, START_MS + WATCH_AFTER_MS - ports.clock.now_ms()).await;
        assert_eq!(watchdog(&ports).await, [Watched::HasNewerOwner]);
        assert_eq!(tasks(&ports), [watch_of(&ports, 2)]);
    };
    let (taken, ()) = ports.run(join(take(&ports, Workplace::Message), looking)).unwrap();
    taken.unwrap();
    assert_eq!(watched_when_due(&ports), Watched::Ended);
    assert_eq!(tasks(&ports), []);
}

fn queued() -> InMemory {
    let ports = stocked();
    ports.model.follow(vec![Step::Say("Alpha ".to_owned()), Step::Fail(ModelFailure::Throttled)]);
    asked(&ports);
    assert_eq!(phase(&ports), Phase::Queued { since: START_MS });
    // Its task in the queue got lost.
    for message in ports.clock.block_on(async {
        wait(&ports, 2_000).await;
        ports.queues.inner.receive_messages(QueueName::FollowUp, 10)
    }) {
        ports.queues.inner.delete_message(QueueName::FollowUp, &message.receipt);
    }
    assert_eq!(tasks(&ports), [watch_of(&ports, 1)]);
    ports
}

#[test]
fn a_queued_turn_is_looked_at_every_minute_and_asked_for_again_in_time() {
    let ports = queued();
    let mut looked = Vec::new();
    while tasks(&ports) == [watch_of(&ports, 1)] {
        let expected = match due_at(&ports) < START_MS + QUEUED_PATIENCE_MS {
            true => Watched::Queued,
            false => Watched::TakeoverAsked,
        };
        looked.push(due_at(&ports));
        assert_eq!(watched_when_due(&ports), expected);
    }
    assert_eq!(looked[0], START_MS + WATCH_AFTER_MS);
    assert!(looked.windows(2).all(|pair| pair[1] - pair[0] == WATCH_QUEUED_MS), "{looked:?}");
    assert!((QUEUED_PATIENCE_MS..QUEUED_PATIENCE_MS + WATCH_QUEUED_MS).contains(&(looked.last().unwrap() - START_MS)));
    assert!(is_watched(&ports) && tasks(&ports).contains(&finish_of(&ports, 1)));
}

#[test]
fn patience_ends_to_the_millisecond() {
    for (waited_ms, found) in [(QUEUED_PATIENCE_MS - 1, Watched::Queued), (QUEUED_PATIENCE_MS, Watched::TakeoverAsked)]
    {
        let ports = queued();
        ports.clock.advance_to(START_MS + waited_ms);
        assert_eq!(watched(&ports), found);
    }
}

/// The turn was ended as failed, everybody was told, and its conversation is free.
fn check_failed(ports: &InMemory) {
    let turn = the_turn(ports);
    let shown = read(&frames(ports, "a"));
    assert_eq!(turn.state(), TurnState::Failed);
    assert_eq!(shown, put_together(&turn.journal.frames));
    assert!(matches!(shown.end, Some(ServerEvent::TurnFailed(failed)) if failed.code == ErrorCode::Unavailable));
    assert_eq!(
        conversation(ports),
        (domain::ports::Conversation { lock: None, ..conversation(ports).0 }, vec![turn.exchange().unwrap()])
    );
    assert_eq!(ports.events.inner.all().iter().map(|event| event.state).collect::<Vec<_>>(), [TurnState::Failed]);
    assert_eq!(tasks(ports), []);
}

#[test]
fn a_turn_that_has_had_its_time_is_ended() {
    for make in [dying, queued] {
        for (age_ms, found) in [(TURN_AGE_MAX_MS - 1, Watched::TakeoverAsked), (TURN_AGE_MAX_MS, Watched::Ended)] {
            let ports = make();
            ports.clock.advance_to(START_MS + age_ms);
            assert_eq!(watched(&ports), found);
            if found == Watched::Ended {
                check_failed(&ports);
            }
        }
    }
}

#[test]
fn a_turn_that_has_had_its_owners_is_ended() {
    for queued in [true, false] {
        for (epoch, found) in [(EPOCHS_MAX - 1, Watched::TakeoverAsked), (EPOCHS_MAX, Watched::Ended)] {
            let ports = dying();
            lapse(&ports);
            let now = ports.clock.now_ms();
            claim(&ports, epoch, if queued { Hold::Queued { since: now } } else { Hold::Leased { until: now } }, None);
            ports.clock.advance_to(now + QUEUED_PATIENCE_MS);
            // The tasks of the owners before are dropped; the last owner's is looked at.
            ports.run(watchdog(&ports));
            ports.queues.inner.put(QueueName::Watchdog, &serde_json::to_string(&watch_of(&ports, epoch)).unwrap());
            if ports.events.inner.all().is_empty() {
                assert_eq!(ports.run(watchdog(&ports)), Some(vec![found]));
            }
            if found == Watched::Ended {
                check_failed(&ports);
            } else {
                assert!(is_watched(&ports) && tasks(&ports).contains(&finish_of(&ports, epoch)));
            }
        }
    }
}

#[test]
fn a_turn_that_has_had_its_time_waits_in_no_queue() {
    for spent in [true, false] {
        let ports = dying();
        lapse(&ports);
        let epoch = if spent { EPOCHS_MAX } else { EPOCHS_MAX - 1 };
        claim(&ports, epoch, Hold::Queued { since: ports.clock.now_ms() }, None);
        ports.queues.inner.put(QueueName::Watchdog, &serde_json::to_string(&watch_of(&ports, epoch)).unwrap());
        assert_eq!(ports.run(watchdog(&ports)), Some(vec![if spent { Watched::Ended } else { Watched::Queued }]));
        assert_eq!(the_turn(&ports).state() == TurnState::Failed, spent);
    }
}

#[test]
fn an_owner_that_lives_is_left_alone_however_old_its_turn() {
    let ports = dying();
    lapse(&ports);
    let now = START_MS + TURN_AGE_MAX_MS;
    ports.clock.advance_to(now);
    claim(&ports, EPOCHS_MAX, Hold::Leased { until: now + LEASE_MS }, None);
    ports.queues.inner.put(QueueName::Watchdog, &serde_json::to_string(&watch_of(&ports, EPOCHS_MAX)).unwrap());
    let found = ports.run(watchdog(&ports)).unwrap();
    assert_eq!(found, [Watched::HasNewerOwner, Watched::Alive]);
    assert_eq!(the_turn(&ports).state(), TurnState::Running);
    assert_eq!(due_at(&ports), now + LEASE_MS + TAKEOVER_MARGIN_MS);
}

#[test]
fn the_end_of_a_turn_is_published_once_if_nothing_goes_wrong() {
    let ports = stocked();
    asked(&ports);
    let before = (the_turn(&ports), conversation(&ports));
    assert_eq!(watched_when_due(&ports), Watched::Ended);
    assert_eq!(ports.clock.now_ms(), START_MS + WATCH_AFTER_MS, "it was looked at once");
    assert_eq!((the_turn(&ports), conversation(&ports)), before);
    let [event] = <[_; 1]>::try_from(ports.events.inner.all()).unwrap();
    let (turn, request) = (&before.0, &before.0.request);
    assert_eq!((&event.turn_id, &event.conversation_id, event.number), (&request.turn_id, &request.conversation_id, 1));
    assert_eq!((event.intent, event.state), (Intent::ProductDiscovery, TurnState::Completed));
    assert_eq!(
        (Some(event.usage), event.ended_at),
        (turn.journal.outcome.as_ref().map(|outcome| outcome.usage), START_MS)
    );
    assert!(!event.follow_up && tasks(&ports).is_empty(), "there is nothing to follow up");
}

#[test]
fn an_end_that_was_stored_and_not_concluded_is_concluded() {
    let script = || pieces(&["Alpha ", "beta."], 300);
    let rehearsal = stocked();
    rehearsal.model.follow(script());
    asked(&rehearsal);
    let effects = names(&rehearsal);
    for undone in ["turns.remember", "turns.release"] {
        let ports = stocked();
        ports.model.follow(script());
        let owner = ports.process();
        owner.faults.plan(positions(&effects, undone)[0], Fault::CrashBefore);
        assert_eq!(owner.run(ask(&owner, "a")), None);
        assert_eq!(the_turn(&ports).state(), TurnState::Completed);
        assert_eq!(conversation(&ports).0.lock.map(|lock| lock.turn_id), Some(the_turn(&ports).request.turn_id));
        assert_eq!(watched_when_due(&ports), Watched::Ended);
        assert_eq!(
            (conversation(&ports).0.lock, conversation(&ports).1),
            (None, vec![the_turn(&ports).exchange().unwrap()])
        );
        assert_eq!(conversation(&rehearsal), conversation(&ports));
    }
}

#[test]
fn an_end_frees_no_conversation_that_another_turn_holds() {
    let ports = stocked();
    asked(&ports);
    let request = the_turn(&ports).request;
    let next = LockRequest {
        conversation_id: request.conversation_id,
        owner: request.principal,
        turn_id: TurnId::parse("t-2").unwrap(),
        number: 2,
        replaces: None,
        lease_until: START_MS + LEASE_MS,
        attempt: "attempt".to_owned(),
        now: START_MS,
    };
    ports.run(ports.turns.inner.lock(&next)).unwrap().unwrap();
    assert_eq!(watched_when_due(&ports), Watched::Ended);
    assert_eq!(conversation(&ports).0.lock.map(|lock| lock.turn_id), Some(next.turn_id));
}

#[test]
fn a_watchdog_that_fails_or_dies_comes_again() {
    let ended = || {
        let ports = stocked();
        asked(&ports);
        ports
    };
    let unconcluded = || {
        let ports = dying();
        lapse(&ports);
        claim(&ports, 2, Hold::Leased { until: 0 }, Some(TurnState::Failed));
        ports
    };
    let spent = || {
        let ports = dying();
        ports.clock.advance_to(START_MS + TURN_AGE_MAX_MS);
        ports
    };
    for make in [&dying as &dyn Fn() -> InMemory, &queued, &ended, &unconcluded, &spent] {
        let rehearsal = make();
        let process = rehearsal.process();
        rehearsal.clock.advance_to(due_at(&rehearsal));
        rehearsal.clock.block_on(watchdog(&process));
        for effect in 0..process.faults.effects().len() {
            for fault in [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter] {
                let ports = make();
                let process = ports.process();
                process.faults.plan(effect, fault);
                ports.clock.advance_to(due_at(&ports));
                process.run(watchdog(&process));
                assert!(is_watched(&ports) || !ports.events.inner.all().is_empty(), "until it is published");
                ports.model.follow(pieces(&["Alpha ", "beta."], 100));
                ports.run(drain(&ports));
                let turn = the_turn(&ports);
                assert_ne!(turn.state(), TurnState::Running);
                let states: Vec<TurnState> = ports.events.inner.all().iter().map(|event| event.state).collect();
                assert!(!states.is_empty() && states.iter().all(|state| *state == turn.state()), "{states:?}");
                assert_eq!((conversation(&ports).0.lock, conversation(&ports).1.len()), (None, 1));
            }
        }
    }
}

#[test]
fn a_turn_whose_owner_died_is_taken_over_in_time_though_nobody_asks() {
    for died_after in (100..20_000).step_by(300) {
        let ports = stocked();
        ports.model.follow_once(Step::answer((0..70).map(|word| format!("w{word} ")), 300));
        ports.model.follow(pieces(&["Another ", "answer."], 300));
        let died_at = START_MS + died_after;
        let queues = async {
            wait(&ports, 10).await;
            drain(&ports).await;
        };
        ports.run(join(dying_after(&ports, died_after, ask(&ports.process(), "a")), queues)).unwrap();
        let sent = ports.sender.inner.sent();
        let goes_on = sent.iter().find(|sent| sent.frame["epoch"] == 2).expect("a successor").at_ms;
        assert!(
            goes_on <= died_at + TAKEN_OVER_WITHIN_MS,
            "died after {died_after}, went on at {}",
            goes_on - START_MS
        );
        assert_eq!((the_turn(&ports).state(), the_turn(&ports).epoch()), (TurnState::Completed, 2));
        assert_eq!(read(&frames(&ports, "a")), put_together(&the_turn(&ports).journal.frames));
    }
}

#[test]
fn a_turn_that_no_model_answers_fails_in_the_end_and_is_told() {
    let ports = stocked();
    ports.model.follow(vec![Step::Say("Alpha ".to_owned()), Step::Fail(ModelFailure::Throttled)]);
    asked(&ports);
    ports.run(drain(&ports)).unwrap();
    let turn = the_turn(&ports);
    assert_eq!(turn.state(), TurnState::Failed);
    assert!(turn.epoch() <= EPOCHS_MAX + 1 && ports.model.asked().len() <= EPOCHS_MAX as usize);
    let last = turn.journal.frames.last().unwrap().ts - START_MS;
    assert!(last <= TURN_AGE_MAX_MS + QUEUED_PATIENCE_MS, "{last} ms");
    assert_eq!(types(&frames(&ports, "a")).last(), Some(&"turn.failed"));
    assert_eq!(read(&frames(&ports, "a")), put_together(&turn.journal.frames));
    assert_eq!(conversation(&ports).0.lock, None);
    assert_eq!(ports.queues.inner.counts(QueueName::Watchdog).dead, 0);
}
