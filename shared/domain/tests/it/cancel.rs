//! A shopper stops an answer, or is gone.

use domain::answer::Workplace;
use domain::limits::{GONE_GRACE_MS, TICK_MS};
use domain::ports::Clock as _;
use domain::protocol::{CancelledBy, MessageSend, ServerEvent, TurnCancelled, TurnState};
use domain::turn::Phase;
use futures_util::future::{join, join3};
use testkit::{Fault, InMemory, ModelFailure, START_MS, Step, samples};

use crate::client::{put_together, read};
use crate::world::{
    Told, abandoned, ask, asked, cancel, conversation, drain, frames, is_terminal, is_watched, lapse, names, pieces,
    positions, question, resume, say, stocked, take, the_turn, types, wait,
};

/// A live answer is stopped within this, ms.
const STOPPED_WITHIN_MS: u64 = 1_500;

/// Words without end.
fn endless() -> Vec<Step> {
    Step::answer((0..1_000).map(|token| format!("w{token} ")), 100)
}

fn cancelled_by(by: CancelledBy) -> Option<ServerEvent> {
    Some(ServerEvent::TurnCancelled(TurnCancelled { by }))
}

/// The turn has ended as cancelled, keeps what was said and frees its conversation; connection `a` knows.
fn check_cancelled(ports: &InMemory, by: CancelledBy) {
    let turn = the_turn(ports);
    let stored = put_together(&turn.journal.frames);
    assert_eq!((turn.state(), &stored.end), (TurnState::Cancelled, &cancelled_by(by)));
    assert_eq!(turn.journal.answer(), stored.text);
    assert_eq!(conversation(ports).1, [turn.exchange().unwrap()]);
    assert_eq!(conversation(ports).0.lock, None);
    if by == CancelledBy::Client {
        assert_eq!(read(&frames(ports, "a")), stored);
    }
}

#[test]
fn a_live_answer_is_stopped_whoever_asks() {
    for round_trip_ms in [0, 50] {
        for asked_at in (50..3_000).step_by(150) {
            for from in ["a", "b"] {
                let ports = stocked();
                ports.model.follow(endless());
                ports.set_round_trip_ms(round_trip_ms);
                let canceller = ports.process();
                let cancelling = async {
                    wait(&ports, asked_at).await;
                    while ports.turns.inner.all_turns().is_empty() {
                        wait(&ports, 10).await;
                    }
                    let asked = ports.clock.now_ms();
                    assert_eq!(cancel(&canceller, &the_turn(&ports).request.turn_id, from).await, Told::Frames);
                    while ports.model.cancelled() == 0 {
                        wait(&ports, 10).await;
                    }
                    let stopped_after = ports.clock.now_ms() - asked;
                    assert!(stopped_after <= STOPPED_WITHIN_MS, "{stopped_after} ms, round trip {round_trip_ms}");
                };
                let (told, ()) = ports.run(join(ask(&ports, "a"), cancelling)).unwrap();
                assert_eq!(told, Told::Frames);
                assert!(ports.clock.now_ms() < START_MS + asked_at + STOPPED_WITHIN_MS + 8 * round_trip_ms.max(10));
                check_cancelled(&ports, CancelledBy::Client);
                let ends = frames(&ports, from).iter().filter(|frame| is_terminal(frame)).count();
                assert_eq!(ends, 1, "{from} is told once: {:?}", types(&frames(&ports, from)));
                assert!(the_turn(&ports).journal.answer().starts_with("w0 ") || asked_at < 150 + 3 * round_trip_ms);
            }
        }
    }
}

#[test]
fn the_next_message_is_taken_after_a_cancel() {
    let ports = stocked();
    ports.model.follow_once(endless());
    let cancelling = async {
        wait(&ports, 1_500).await;
        cancel(&ports, &the_turn(&ports).request.turn_id, "a").await
    };
    ports.run(join(ask(&ports, "a"), cancelling)).unwrap();
    let said = the_turn(&ports).journal.answer();
    let conversation_id = Some(the_turn(&ports).request.conversation_id);
    let next = MessageSend { conversation_id, ..samples::message(2, "A cooking manga?") };
    assert_eq!(say(&ports, "aiko", &next, "a"), Some(Told::Frames));
    let asked = ports.model.asked();
    assert!(asked[1].1.messages.iter().any(|message| message.text == said), "what was said is part of it");
}

#[test]
fn a_turn_whose_owner_is_dead_is_cancelled_where_it_is_found() {
    for from in ["a", "b"] {
        let world = abandoned(pieces(&["Alpha ", "beta."], 900), 1_500);
        let turn_id = the_turn(&world).request.turn_id;
        lapse(&world);
        assert_eq!(world.run(cancel(&world, &turn_id, from)), Some(Told::Frames));
        check_cancelled(&world, CancelledBy::Client);
        assert_eq!((the_turn(&world).epoch(), the_turn(&world).journal.answer().as_str()), (2, "Alpha "));
        assert_eq!(frames(&world, from).iter().filter(|frame| is_terminal(frame)).count(), 1);
        assert_eq!(world.model.asked().len(), 1);
        world.run(drain(&world));
        assert_eq!(world.events.inner.all().len(), 1, "the dead owner's watchdog publishes");
    }
}

#[test]
fn a_turn_whose_owner_died_after_a_cancel_is_cancelled() {
    for from in ["a", "b"] {
        let world = abandoned(pieces(&["Alpha ", "beta."], 900), 1_500);
        let turn_id = the_turn(&world).request.turn_id;
        assert_eq!(world.run(cancel(&world, &turn_id, from)), Some(Told::Frames));
        assert_eq!(the_turn(&world).state(), TurnState::Running, "its owner may live");
        world.run(drain(&world));
        check_cancelled(&world, CancelledBy::Client);
        assert!(frames(&world, from).iter().any(is_terminal), "who asked is told");
        assert_eq!(world.model.asked().len(), 1);
    }
}

/// A world whose turn waits in the queue, and would be answered from there.
fn queued() -> InMemory {
    let ports = stocked();
    ports.model.follow_once(vec![Step::Say("Alpha ".to_owned()), Step::Fail(ModelFailure::Throttled)]);
    asked(&ports);
    assert!(matches!(the_turn(&ports).phase(ports.clock.now_ms()), Phase::Queued { .. }));
    ports
}

#[test]
fn a_queued_turn_is_cancelled_and_not_answered() {
    for from in ["a", "b"] {
        let ports = queued();
        let turn_id = the_turn(&ports).request.turn_id;
        assert_eq!(ports.run(cancel(&ports, &turn_id, from)), Some(Told::Frames));
        check_cancelled(&ports, CancelledBy::Client);
        assert_eq!(frames(&ports, from).iter().filter(|frame| is_terminal(frame)).count(), 1);
        ports.run(drain(&ports));
        check_cancelled(&ports, CancelledBy::Client);
        assert_eq!(ports.model.asked().len(), 1);
    }
}

#[test]
fn everybody_who_cancels_is_told_of_the_end() {
    for round_trip_ms in [0, 30] {
        let ports = queued();
        let turn_id = the_turn(&ports).request.turn_id;
        let tabs = [ports.process(), ports.process()];
        tabs.iter().for_each(|tab| tab.set_round_trip_ms(round_trip_ms));
        let told = ports.clock.block_on(join(cancel(&tabs[0], &turn_id, "b"), cancel(&tabs[1], &turn_id, "c")));
        assert_eq!(told, (Told::Frames, Told::Frames));
        check_cancelled(&ports, CancelledBy::Client);
        for connection in ["b", "c"] {
            let got = frames(&ports, connection);
            assert!(got.iter().any(is_terminal), "{connection} got {:?}, round trip {round_trip_ms}", types(&got));
        }
    }
}

#[test]
fn a_cancel_that_races_the_hand_over_is_found_by_the_next_owner() {
    for asked_at in 480..620 {
        let ports = stocked();
        let fails =
            [Step::Wait(450), Step::Say("Alpha ".to_owned()), Step::Wait(50), Step::Fail(ModelFailure::Throttled)];
        ports.model.follow_once(fails.to_vec());
        ports.turns.set_round_trip_ms(20);
        ports.queues.set_round_trip_ms(20);
        let cancelling = async {
            wait(&ports, asked_at).await;
            cancel(&ports.process(), &the_turn(&ports).request.turn_id, "b").await
        };
        ports.run(join(ask(&ports, "a"), cancelling)).unwrap();
        ports.run(drain(&ports)).unwrap();
        check_cancelled(&ports, CancelledBy::Client);
        assert!(frames(&ports, "b").iter().any(is_terminal), "asked at {asked_at}");
        assert_eq!(ports.model.asked().len(), 1);
    }
}

#[test]
fn an_end_is_told_once_to_who_resumed_on_the_connection_that_asked() {
    let world = abandoned(pieces(&["Alpha ", "beta."], 900), 1_500);
    let turn_id = the_turn(&world).request.turn_id;
    world.run(resume(&world, &turn_id, "a", 0, -1));
    lapse(&world);
    world.run(cancel(&world, &turn_id, "a"));
    check_cancelled(&world, CancelledBy::Client);
    assert_eq!(frames(&world, "a").iter().filter(|frame| is_terminal(frame)).count(), 1);
}

#[test]
fn an_ended_turn_answers_with_the_end_it_had() {
    let ports = stocked();
    asked(&ports);
    let before = the_turn(&ports);
    assert_eq!(ports.run(cancel(&ports, &before.request.turn_id, "b")), Some(Told::Frames));
    assert_eq!(the_turn(&ports), before);
    let got = frames(&ports, "b");
    assert_eq!(types(&got), ["turn.completed"]);
    assert_eq!(got[0], *frames(&ports, "a").last().unwrap());
}

#[test]
fn a_cancel_that_races_the_end_is_told_the_end_there_is() {
    for from in ["a", "b"] {
        for asked_at in 850..1_100 {
            let ports = stocked();
            ports.model.follow(pieces(&["Alpha ", "beta."], 450));
            ports.turns.set_round_trip_ms(40);
            ports.sender.set_round_trip_ms(7);
            let canceller = ports.process();
            canceller.set_round_trip_ms(15);
            let cancelling = async {
                wait(&ports, asked_at).await;
                cancel(&canceller, &the_turn(&ports).request.turn_id, from).await
            };
            let told = ports.run(join(ask(&ports, "a"), cancelling)).unwrap();
            assert_eq!(told, (Told::Frames, Told::Frames));
            let turn = the_turn(&ports);
            let ends: Vec<_> = turn.journal.frames.iter().filter(|frame| frame.event.ends_turn().is_some()).collect();
            assert_eq!(ends.len(), 1, "asked at {asked_at}");
            assert_eq!(read(&frames(&ports, "a")), put_together(&turn.journal.frames));
            let got = frames(&ports, from);
            let told: Vec<_> = got.iter().filter(|frame| is_terminal(frame)).collect();
            assert!(!told.is_empty(), "{from} asked at {asked_at} and got {:?}", types(&got));
            let end = serde_json::to_value(ends[0]).unwrap();
            assert!(told.iter().all(|frame| (&frame["type"], &frame["seq"]) == (&end["type"], &end["seq"])));
            assert_eq!(conversation(&ports).0.lock, None);
        }
    }
}

#[test]
fn a_cancel_is_taken_from_whoever_may_see_the_turn_end_only_once() {
    let ports = stocked();
    ports.model.follow(endless());
    let turn_id = async || {
        wait(&ports, 400).await;
        the_turn(&ports).request.turn_id
    };
    let impatient = async {
        let turn_id = turn_id().await;
        for _ in 0..3 {
            cancel(&ports, &turn_id, "a").await;
            wait(&ports, 50).await;
        }
    };
    let other_tab = async {
        let turn_id = turn_id().await;
        cancel(&ports, &turn_id, "b").await;
    };
    ports.run(join3(ask(&ports, "a"), impatient, other_tab)).unwrap();
    check_cancelled(&ports, CancelledBy::Client);
    assert_eq!(frames(&ports, "a").iter().filter(|frame| is_terminal(frame)).count(), 1);
}

/// Aiko's client is gone after its second frame; the model says a word each second and is done after so many.
fn deserted(words: usize) -> InMemory {
    let ports = stocked();
    ports.model.follow(Step::answer((0..words).map(|word| format!("w{word} ")), TICK_MS));
    ports.sender.inner.hang_up_after(&samples::connection("a"), 2);
    ports
}

#[test]
fn nobody_is_answered_longer_than_the_grace_period() {
    // The owner learns with the first card, at once, that nobody is there.
    let last_in_time = usize::try_from(GONE_GRACE_MS / TICK_MS).unwrap();
    for (words, ends_as) in [(last_in_time - 1, TurnState::Completed), (last_in_time + 1, TurnState::Cancelled)] {
        let ports = deserted(words);
        assert_eq!(asked(&ports), Told::Frames);
        assert_eq!(the_turn(&ports).state(), ends_as, "{words} words");
        if ends_as == TurnState::Cancelled {
            check_cancelled(&ports, CancelledBy::Gone);
            assert_eq!(ports.clock.now_ms(), START_MS + GONE_GRACE_MS);
            assert_eq!(ports.model.cancelled(), 1, "the model stops");
        }
    }
}

#[test]
fn the_grace_period_ends_to_the_millisecond() {
    for (answered_after, ends_as) in
        [(GONE_GRACE_MS - 1, TurnState::Completed), (GONE_GRACE_MS + 1, TurnState::Cancelled)]
    {
        let ports = stocked();
        let half = answered_after / 2;
        let said = [Step::Wait(half), Step::Say("Alpha ".to_owned()), Step::Wait(answered_after - half)];
        ports.model.follow(said.into_iter().chain(pieces(&["beta."], 0)).collect());
        ports.sender.inner.hang_up_after(&samples::connection("a"), 2);
        asked(&ports);
        assert_eq!(the_turn(&ports).state(), ends_as, "answered after {answered_after} ms");
    }
}

#[test]
fn who_resumes_within_the_grace_period_gets_the_whole_answer() {
    // The owner learns of a resume at its next tick.
    for (resumed_after, ends_as) in
        [(GONE_GRACE_MS - TICK_MS - 1, TurnState::Completed), (GONE_GRACE_MS + 1, TurnState::Cancelled)]
    {
        let ports = deserted(15);
        let resuming = async {
            wait(&ports, resumed_after).await;
            resume(&ports, &the_turn(&ports).request.turn_id, "b", 1, 0).await
        };
        let told = ports.run(join(ask(&ports, "a"), resuming)).unwrap();
        assert_eq!(told, (Told::Frames, Told::Frames));
        let turn = the_turn(&ports);
        assert_eq!(turn.state(), ends_as, "resumed after {resumed_after} ms");
        let held = [frames(&ports, "a"), frames(&ports, "b")].concat();
        assert_eq!(read(&held), put_together(&turn.journal.frames));
    }
}

#[test]
fn the_grace_period_begins_anew_with_each_who_is_gone() {
    let ports = deserted(17);
    ports.sender.inner.hang_up_after(&samples::connection("b"), 8);
    let resuming = async {
        wait(&ports, 5_000).await;
        resume(&ports, &the_turn(&ports).request.turn_id, "b", 0, -1).await
    };
    ports.run(join(ask(&ports, "a"), resuming)).unwrap();
    assert_eq!(
        the_turn(&ports).state(),
        TurnState::Completed,
        "it was told to b until 8 s or so, and goes on for 10 more"
    );
}

#[test]
fn a_turn_that_was_taken_over_is_finished_though_nobody_listens() {
    for workplace in [Workplace::Message, Workplace::FollowUpWorker] {
        let world = abandoned(pieces(&["Alpha ", "beta."], 900), 1_500);
        world.sender.inner.cut(&samples::connection("a"));
        lapse(&world);
        world.model.follow(Step::answer((0..20).map(|word| format!("w{word} ")), TICK_MS));
        world.run(take(&world, workplace)).unwrap().unwrap();
        assert_eq!((the_turn(&world).state(), the_turn(&world).epoch()), (TurnState::Completed, 2));
        assert_eq!(world.model.cancelled(), 1, "that of the owner who died");
    }
}

#[test]
fn a_cancel_that_could_not_be_told_is_done_all_the_same() {
    let script = || pieces(&["Alpha ", "beta."], 900);
    let rehearsal = abandoned(script(), 1_500);
    lapse(&rehearsal);
    let process = rehearsal.process();
    let turn_id = the_turn(&rehearsal).request.turn_id;
    rehearsal.clock.block_on(cancel(&process, &turn_id, "b"));
    let effects = names(&process);
    let ending = positions(&effects, "turns.journal")[0];
    for (effect, name) in effects.iter().enumerate() {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let world = abandoned(script(), 1_500);
            lapse(&world);
            let process = world.process();
            process.faults.plan(effect, fault);
            assert_eq!(process.run(cancel(&process, &turn_id, "b")), None);
            world.run(drain(&world));
            let is_stored = effect > ending || (effect == ending && fault == Fault::CrashAfter);
            let state = if is_stored { TurnState::Cancelled } else { TurnState::Completed };
            assert_eq!(the_turn(&world).state(), state, "{fault:?} at {}", name);
            assert_eq!((conversation(&world).0.lock, conversation(&world).1.len()), (None, 1));
            assert!(!is_watched(&world) && world.events.inner.all().iter().all(|event| event.state == state));
        }
    }
}

#[test]
fn a_turn_is_known_to_the_canceller_by_its_question() {
    let ports = stocked();
    asked(&ports);
    let key = samples::session_key();
    assert_eq!(key.turn_id(&samples::shopper("aiko"), question().client_message_id), the_turn(&ports).request.turn_id);
}
