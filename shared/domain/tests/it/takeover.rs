//! Turns that lost their owner get a new one.

use domain::answer::{Answered, Workplace};
use domain::ids::TurnId;
use domain::limits::{EPOCHS_MAX, LEASE_MS, TURN_AGE_MAX_MS};
use domain::ports::{Clock as _, JournalWrite, LockRequest, Task, TurnStore as _, Unavailable};
use domain::protocol::{ErrorCode, ServerEvent, TurnStarted, TurnState};
use domain::takeover::{Resumer, TakenOver, take_over};
use domain::turn::{Hold, Phase, StoredTurn, Summary};
use futures_util::future::join;
use testkit::{Fault, InMemory, ModelFailure, Step, samples};

use crate::client::{put_together, read};
use crate::world::{
    abandoned, conversation, drain, dying_after, frames, is_watched, lapse, names, pieces, position, positions, resume,
    take, tasks, the_turn, types,
};

/// What one piece of text is durable of, in a turn whose owner died.
fn abandoned_having_said(text: &str) -> InMemory {
    let said = if text.is_empty() { vec![] } else { vec![Step::Say(text.to_owned())] };
    let world = abandoned([Step::Wait(100)].into_iter().chain(said).chain([Step::Silence]).collect(), 1_500);
    assert_eq!(the_turn(&world).journal.answer(), text);
    lapse(&world);
    world
}

fn starts(turn: &StoredTurn) -> Vec<(u64, &TurnStarted)> {
    let frames = turn.journal.frames.iter();
    frames
        .filter_map(|frame| match &frame.event {
            ServerEvent::TurnStarted(started) => Some((frame.epoch, started)),
            _ => None,
        })
        .collect()
}

fn answered(outcome: Option<Result<TakenOver, Unavailable>>) -> Answered {
    match outcome.unwrap().unwrap() {
        TakenOver::Answered(answered) => answered,
        TakenOver::NotFree(turn) => panic!("{turn:?} was not free"),
    }
}

fn not_free(outcome: Option<Result<TakenOver, Unavailable>>) -> StoredTurn {
    match outcome.unwrap().unwrap() {
        TakenOver::Answered(answered) => panic!("{answered:?}"),
        TakenOver::NotFree(turn) => *turn,
    }
}

fn resumer(connection: &str) -> Option<Resumer> {
    Some(Resumer { connection: samples::connection(connection), epoch: 0, after_seq: -1 })
}

#[test]
fn an_answer_is_continued_where_the_model_can() {
    for (said, begun_with, goes_on, whole) in [
        ("Alpha beta ", "Alpha beta", &[" gamma", " more."][..], "Alpha beta gamma more."),
        ("Alpha beta ", "Alpha beta", &["gamma ", "more."], "Alpha beta gamma more."),
        ("Alpha beta ", "Alpha beta", &[" ", " ", "gamma."], "Alpha beta gamma."),
        ("Alpha beta", "Alpha beta", &[" gamma."], "Alpha beta gamma."),
        ("Alpha bet", "Alpha bet", &["a."], "Alpha beta."),
        ("海賊の話\n\n", "海賊の話", &["\n\n次。"], "海賊の話\n\n次。"),
    ] {
        let world = abandoned_having_said(said);
        world.model.set_accepts_prefill(true);
        world.model.follow(pieces(goes_on, 200));
        let outcome = world.run(take_over(&world, the_turn(&world), Workplace::Message, resumer("b")));
        assert_eq!(answered(outcome), Answered::Settled);

        let asked = world.model.asked();
        assert_eq!(
            asked.iter().map(|(_, prompt)| prompt.prefill.as_deref()).collect::<Vec<_>>(),
            [None, Some(begun_with)]
        );
        let turn = the_turn(&world);
        assert_eq!((turn.state(), turn.journal.answer().as_str()), (TurnState::Completed, whole));
        let starts = starts(&turn);
        assert_eq!((starts.len(), starts[1].0), (2, 2));
        assert!(starts[1].1.continues && !starts[1].1.restarted);
        let frames_stored: Vec<&ServerEvent> = turn.journal.frames.iter().map(|frame| &frame.event).collect();
        assert_eq!(frames_stored.iter().filter(|event| event.is_card()).count(), 2, "cards are shown once");
        assert_eq!(frames_stored.iter().filter(|event| matches!(event, ServerEvent::Source(_))).count(), 1);
        for connection in ["a", "b"] {
            assert_eq!(read(&frames(&world, connection)), put_together(&turn.journal.frames), "{connection}");
        }
    }
}

#[test]
fn an_answer_is_begun_anew_where_the_model_cannot_continue_it() {
    for (accepts_prefill, said) in [(false, "Alpha beta "), (false, ""), (true, ""), (true, " \n")] {
        let world = abandoned_having_said(said);
        world.model.set_accepts_prefill(accepts_prefill);
        world.model.follow(pieces(&["Another ", "answer."], 200));
        let outcome = world.run(take_over(&world, the_turn(&world), Workplace::Message, resumer("b")));
        assert_eq!(answered(outcome), Answered::Settled);

        let turn = the_turn(&world);
        assert!(world.model.asked().iter().all(|(_, prompt)| prompt.prefill.is_none()));
        let starts = starts(&turn);
        assert_eq!((starts.len(), starts[1].0), (2, 2));
        assert!(starts[1].1.restarted && !starts[1].1.continues);
        let shown = put_together(&turn.journal.frames);
        assert_eq!((turn.journal.answer().as_str(), shown.text.as_str()), ("Another answer.", "Another answer."));
        assert_eq!((turn.journal.cards().len(), shown.items.len()), (2, 3), "cards and source are shown anew");
        assert_eq!(turn.exchange().unwrap().answer, "Another answer.", "what is remembered is what is shown");
        for connection in ["a", "b"] {
            assert_eq!(read(&frames(&world, connection)), shown, "{connection}");
        }
    }
}

#[test]
fn a_resumer_gets_what_it_lacks_and_then_what_follows() {
    for dropped_after in 1..8 {
        let world = abandoned(pieces(&["Alpha ", "beta ", "gamma ", "delta ", "epsilon."], 300), 1_300);
        let held = frames(&world, "a");
        let held = &held[..dropped_after.min(held.len())];
        lapse(&world);
        world.model.set_accepts_prefill(dropped_after % 2 == 0);
        world.model.follow(pieces(&["Alpha ", "beta ", "gamma ", "delta ", "epsilon."], 300));
        let (epoch, after_seq) = position(held);
        let turn_id = the_turn(&world).request.turn_id;
        world.run(resume(&world, &turn_id, "b", epoch, after_seq)).unwrap();
        let got = frames(&world, "b");
        assert_eq!(read(&[held, &got].concat()), put_together(&the_turn(&world).journal.frames));
        assert_eq!(the_turn(&world).journal.answer(), "Alpha beta gamma delta epsilon.");
        let first_of_successor = got.iter().position(|frame| frame["epoch"] == 2).unwrap();
        assert_eq!(got[first_of_successor]["type"], "turn.started", "an owner begins with its own");
        assert!(got[first_of_successor..].iter().all(|frame| frame["epoch"] == 2), "{:?}", types(&got));
    }
}

#[test]
fn whoever_followed_the_dead_owner_follows_its_successor() {
    let world = abandoned(pieces(&["Alpha ", "beta ", "gamma."], 900), 1_500);
    let turn_id = the_turn(&world).request.turn_id;
    world.run(resume(&world, &turn_id, "b", 0, -1)).unwrap();
    lapse(&world);
    world.model.follow(pieces(&["Another."], 100));
    let taken_at = world.clock.now_ms();
    assert_eq!(answered(world.run(take(&world, Workplace::FollowUpWorker))), Answered::Settled);
    for connection in ["a", "b"] {
        assert_eq!(read(&frames(&world, connection)), put_together(&the_turn(&world).journal.frames));
        let id = samples::connection(connection);
        let sent = world.sender.inner.sent();
        let begun = sent.iter().find(|sent| sent.connection == id && sent.frame["epoch"] == 2).unwrap();
        assert_eq!(begun.at_ms, taken_at, "{connection} sees it go on at once");
    }
}

#[test]
fn a_successor_is_watched_before_it_claims_the_turn() {
    let world = abandoned_having_said("Alpha ");
    let successor = world.process();
    answered(world.clock.block_on(async { Some(take(&successor, Workplace::Message).await) }));
    let names = names(&successor);
    assert!(positions(&names, "queues.send")[0] < positions(&names, "turns.journal")[0], "{names:?}");
    let watch = Task::Watch { turn_id: the_turn(&world).request.turn_id, epoch: 2 };
    assert!(tasks(&world).contains(&watch));

    let world = abandoned_having_said("Alpha ");
    let before = the_turn(&world);
    let successor = world.process();
    successor.faults.plan(positions(&names, "queues.send")[0], Fault::FailBefore);
    assert!(world.clock.block_on(take(&successor, Workplace::Message)).is_err());
    assert_eq!(the_turn(&world), before, "one that cannot be watched is not taken over");
}

#[test]
fn a_turn_with_a_living_owner_or_an_end_is_not_taken_over() {
    let world = abandoned(pieces(&["Alpha ", "beta."], 900), 1_500);
    let Phase::Live { until } = the_turn(&world).phase(world.clock.now_ms()) else { panic!("it lives") };
    world.clock.advance_to(until - 1);
    let before = the_turn(&world);
    assert_eq!(not_free(world.run(take(&world, Workplace::Message))), before);
    world.clock.advance(1);
    answered(world.run(take(&world, Workplace::Message)));
    let before = the_turn(&world);
    assert_eq!((before.state(), before.epoch()), (TurnState::Completed, 2));
    let sent = world.sender.inner.sent().len();
    assert_eq!(not_free(world.run(take(&world, Workplace::Message))), before);
    assert_eq!((the_turn(&world), world.sender.inner.sent().len()), (before, sent));
}

#[test]
fn one_of_two_successors_gets_the_turn() {
    for round_trip_ms in [0, 20] {
        let world = abandoned_having_said("Alpha ");
        world.model.follow(pieces(&["Another ", "answer."], 300));
        let rivals = [world.process(), world.process()];
        rivals.iter().for_each(|rival| rival.set_round_trip_ms(round_trip_ms));
        let race = join(take(&rivals[0], Workplace::Message), take(&rivals[1], Workplace::FollowUpWorker));
        let (one, other) = world.clock.block_on(race);
        let won =
            [one, other].into_iter().filter(|outcome| matches!(outcome, Ok(TakenOver::Answered(Answered::Settled))));
        assert_eq!(won.count(), 1);
        assert_eq!(world.model.asked().len(), 2, "the dead owner's, and one");
        let turn = the_turn(&world);
        assert_eq!((turn.epoch(), turn.journal.answer().as_str()), (2, "Another answer."));
        assert_eq!(read(&frames(&world, "a")), put_together(&turn.journal.frames));
        let loser = rivals.iter().find(|rival| !names(rival).contains(&"sender.send")).expect("who lost said nothing");
        let claims = positions(&names(loser), "turns.journal").len();
        assert_eq!(claims, usize::from(round_trip_ms > 0), "it wrote nothing but its claim, if it came to that");
    }
}

#[test]
fn a_claim_whose_acknowledgement_is_lost_is_taken_over_in_turn() {
    let world = abandoned_having_said("Alpha ");
    let rehearsal = abandoned_having_said("Alpha ");
    let claimed = rehearsal.process();
    answered(rehearsal.clock.block_on(async { Some(take(&claimed, Workplace::Message).await) }));
    let claim = positions(&names(&claimed), "turns.journal")[0];

    let successor = world.process();
    successor.faults.plan(claim, Fault::FailAfter);
    assert!(world.clock.block_on(take(&successor, Workplace::Message)).is_err());
    assert_eq!(the_turn(&world).epoch(), 2);
    world.run(drain(&world)).unwrap();
    assert_eq!((the_turn(&world).epoch(), the_turn(&world).state()), (3, TurnState::Completed));
    assert_eq!(read(&frames(&world, "a")), put_together(&the_turn(&world).journal.frames));
}

#[test]
fn owners_may_die_one_after_the_other() {
    for accepts_prefill in [true, false] {
        let script = || pieces(&["Alpha ", "beta ", "gamma ", "delta ", "epsilon."], 700);
        let world = abandoned(script(), 1_500);
        world.model.set_accepts_prefill(accepts_prefill);
        world.model.follow(script());
        for epoch in 2..5 {
            lapse(&world);
            let owner = world.process();
            world.clock.block_on(dying_after(&world, 1_100, take(&owner, Workplace::Message)));
            assert_eq!((the_turn(&world).epoch(), the_turn(&world).state()), (epoch, TurnState::Running));
        }
        lapse(&world);
        assert_eq!(answered(world.run(take(&world, Workplace::Message))), Answered::Settled);
        let turn = the_turn(&world);
        assert_eq!(turn.journal.answer(), "Alpha beta gamma delta epsilon.");
        assert_eq!(turn.journal.cards().len(), 2);
        assert_eq!(read(&frames(&world, "a")), put_together(&turn.journal.frames));
    }
}

#[test]
fn a_turn_that_lost_its_conversation_is_failed() {
    let world = abandoned_having_said("Alpha ");
    let turn = the_turn(&world);
    let usurper = LockRequest {
        conversation_id: turn.request.conversation_id.clone(),
        owner: turn.request.principal.clone(),
        turn_id: TurnId::parse("t-2").unwrap(),
        number: 2,
        replaces: Some(turn.request.turn_id.clone()),
        lease_until: world.clock.now_ms() + LEASE_MS,
        attempt: "attempt".to_owned(),
        now: world.clock.now_ms(),
    };
    world.run(world.turns.inner.lock(&usurper)).unwrap().unwrap();
    check_failed(&world, "Alpha ");
    let lock = conversation(&world).0.lock;
    assert_eq!(lock.map(|lock| lock.turn_id), Some(usurper.turn_id), "the conversation stays with whom it has");
}

/// A takeover ends the turn as failed, and tells; the model is not asked.
fn check_failed(world: &InMemory, said: &str) {
    let asked = world.model.asked().len();
    let epoch = the_turn(world).epoch();
    let turn = not_free(world.run(take(world, Workplace::FollowUpWorker)));
    assert_eq!(turn, the_turn(world));
    assert_eq!((turn.state(), turn.epoch(), turn.journal.answer().as_str()), (TurnState::Failed, epoch + 1, said));
    assert_eq!(world.model.asked().len(), asked);
    let shown = read(&frames(world, "a"));
    assert_eq!(shown, put_together(&turn.journal.frames));
    assert!(matches!(shown.end, Some(ServerEvent::TurnFailed(failed)) if failed.code == ErrorCode::Unavailable));
}

/// A turn whose last owner had this epoch, and is dead.
fn abandoned_by(epoch: u64) -> InMemory {
    let world = abandoned_having_said("Alpha ");
    let write = JournalWrite {
        turn_id: the_turn(&world).request.turn_id,
        epoch,
        writer: "writer".to_owned(),
        number: 1,
        frames: vec![],
        hold: Hold::Leased { until: world.clock.now_ms() },
        outcome: None,
        now: world.clock.now_ms(),
    };
    world.run(world.turns.inner.journal(&write)).unwrap().unwrap();
    lapse(&world);
    world
}

#[test]
fn a_turn_has_so_many_owners() {
    let world = abandoned_by(EPOCHS_MAX - 1);
    assert_eq!(answered(world.run(take(&world, Workplace::FollowUpWorker))), Answered::Settled);
    assert_eq!((the_turn(&world).epoch(), the_turn(&world).state()), (EPOCHS_MAX, TurnState::Completed));
    check_failed(&abandoned_by(EPOCHS_MAX), "Alpha ");
}

#[test]
fn a_turn_is_taken_over_until_it_is_so_old() {
    for (age_ms, is_failed) in [(TURN_AGE_MAX_MS - 1, false), (TURN_AGE_MAX_MS, true)] {
        let world = abandoned_having_said("Alpha ");
        world.clock.advance_to(the_turn(&world).request.asked_at + age_ms);
        if is_failed {
            check_failed(&world, "Alpha ");
        } else {
            assert_eq!(answered(world.run(take(&world, Workplace::FollowUpWorker))), Answered::Settled);
        }
    }
}

#[test]
fn a_turn_whose_owner_died_over_a_cancel_is_cancelled() {
    let world = abandoned_having_said("Alpha ");
    let turn_id = the_turn(&world).request.turn_id;
    world.run(world.turns.inner.ask_to_cancel(&turn_id, world.clock.now_ms())).unwrap().unwrap();
    let turn = not_free(world.run(take(&world, Workplace::FollowUpWorker)));
    assert_eq!((turn.state(), turn.journal.answer().as_str()), (TurnState::Cancelled, "Alpha "));
    assert_eq!(world.model.asked().len(), 1);
    assert_eq!(read(&frames(&world, "a")), put_together(&turn.journal.frames));
}

#[test]
fn a_successor_whose_model_fails_leaves_the_turn_to_the_queue() {
    let world = abandoned_having_said("Alpha ");
    world.model.follow_once(vec![Step::Say("More ".to_owned()), Step::Fail(ModelFailure::Throttled)]);
    world.model.follow(pieces(&["Another ", "answer."], 100));
    assert_eq!(answered(world.run(take(&world, Workplace::Message))), Answered::Queued);
    let turn = the_turn(&world);
    assert!(matches!(turn.phase(world.clock.now_ms()), Phase::Queued { .. }) && is_watched(&world));
    assert!(tasks(&world).contains(&Task::Finish { turn_id: turn.request.turn_id, epoch: 2 }));
    world.run(drain(&world)).unwrap();
    assert_eq!((the_turn(&world).epoch(), the_turn(&world).journal.answer().as_str()), (3, "Another answer."));
    assert_eq!(read(&frames(&world, "a")), put_together(&the_turn(&world).journal.frames));
}

#[test]
fn a_successor_asks_with_the_past_its_turn_had() {
    let world = abandoned_having_said("Alpha ");
    let conversation = the_turn(&world).request.conversation_id;
    let summary = Summary { through: 0, text: "They like pirates.".to_owned() };
    world.run(world.turns.inner.summarise(&conversation, &summary, 0)).unwrap().unwrap();
    answered(world.run(take(&world, Workplace::Message)));
    let asked = world.model.asked();
    assert!(asked[1].1.system.contains("They like pirates."));
    assert_eq!(asked[1].1.messages, asked[0].1.messages, "the question, and what was said before it");
}
