//! Answering: what is sent, stored and asked, in which order and when.

use domain::limits::{
    COALESCING_WINDOW_MS, GATHER_DEADLINE_MS, LEASE_MS, MESSAGE_TURN_MS, MODEL_SILENCE_MS, SERVER_FRAME_BYTES_MAX,
    TAKEOVER_MARGIN_MS, TICK_MS, WATCH_AFTER_MS,
};
use domain::ports::{Clock as _, Task};
use domain::protocol::{ErrorCode, ServerEvent, StopReason, TurnState, Usage};
use domain::turn::{Hold, Phase};
use domain::watchdog::Watched;
use futures_util::future::join_all;
use futures_util::join;
use proptest::prelude::*;
use serde_json::Value;
use testkit::{Fault, InMemory, ModelFailure, START_MS, Service, Step, samples};

use crate::client::{Shown, put_together, read};
use crate::world::{
    Told, asked, conversation, frames, is_terminal, is_watched, names, phase, position, positions, question, resume,
    say, send, send_until_taken, stocked, tasks, the_turn, types, wait, watchdog,
};

/// Callbacks of an LLM answer of 300 tokens over 4 s (budget).
const CALLBACKS_MAX: usize = 45;

fn stored(ports: &InMemory) -> Shown {
    put_together(&the_turn(ports).journal.frames)
}

#[test]
fn a_turn_is_accepted_streamed_settled_and_ended() {
    let ports = stocked();
    ports.model.follow(Step::answer(["Alpha ", "beta ", "gamma."], 200));
    assert_eq!(asked(&ports), Told::Frames);

    let frames = frames(&ports, "a");
    assert_eq!(
        types(&frames),
        [
            "message.accepted",
            "turn.started",
            "card.product",
            "card.product",
            "source",
            "text.delta",
            "text.delta",
            "text.delta",
            "turn.completed"
        ]
    );
    assert_eq!(frames[0]["seq"], Value::Null);
    assert_eq!(frames[0]["data"]["duplicate"], false);
    for (seq, frame) in frames[1..].iter().enumerate() {
        assert_eq!((&frame["v"], &frame["epoch"], &frame["seq"]), (&1.into(), &1.into(), &seq.into()));
        assert_eq!(frame["turn_id"], frames[0]["turn_id"]);
        assert_eq!(frame["conversation_id"], frames[0]["conversation_id"]);
    }
    let end = &frames[8]["data"];
    assert_eq!(end["stop_reason"], "end_turn");
    assert_eq!(end["usage"], serde_json::json!({"input_tokens": 100, "output_tokens": 3}));
    assert_eq!(end["latency"], serde_json::json!({"first_token_ms": 200, "total_ms": 600}));

    let turn = the_turn(&ports);
    assert_eq!(turn.journal.answer(), "Alpha beta gamma.");
    assert_eq!(read(&frames), stored(&ports));
    let (conversation, history) = conversation(&ports);
    assert_eq!((conversation.turns, conversation.lock), (1, None));
    assert_eq!(history, [turn.exchange().unwrap()]);
}

#[test]
fn every_step_waits_for_the_one_before() {
    let ports = stocked();
    asked(&ports);
    let names = names(&ports);
    let sends = positions(&names, "sender.send");
    let one = |name| {
        let found = positions(&names, name);
        assert_eq!(found.len(), 1, "{name}: {names:?}");
        found[0]
    };
    assert!(one("turns.lock") < one("turns.record"));
    assert!(one("turns.record") < sends[0], "accepted once it is recorded");
    assert!(one("queues.send") < sends[0], "and its watchdog armed");
    assert!(one("turns.journal") < one("turns.remember"));
    assert!(one("turns.remember") < one("turns.release"));
    assert!(one("turns.release") < *sends.last().unwrap(), "the end is told last");
    assert!(!names.contains(&"events.turn_ended"), "the watchdog publishes, nobody waits for it");
    ports.clock.advance(WATCH_AFTER_MS);
    assert_eq!(ports.run(watchdog(&ports)), Some(vec![Watched::Ended]));
    let events = ports.events.inner.all();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].state, events[0].usage.output_tokens), (TurnState::Completed, 1));
}

#[test]
fn the_model_is_asked_after_two_round_trips() {
    let ports = stocked();
    ports.set_round_trip_ms(10);
    asked(&ports);
    assert_eq!(ports.model.asked()[0].0, START_MS + 20);
}

#[test]
fn the_first_piece_travels_when_it_arrives_and_the_rest_once_a_window() {
    let ports = stocked();
    ports.model.follow(Step::answer((0..300).map(|token| format!("w{token} ")), 13));
    asked(&ports);
    let sent = ports.sender.inner.sent();
    assert!(sent.len() <= CALLBACKS_MAX, "{} callbacks", sent.len());
    assert!(sent.iter().all(|sent| sent.bytes <= SERVER_FRAME_BYTES_MAX));
    let deltas: Vec<u64> =
        sent.iter().filter(|sent| sent.frame["type"] == "text.delta").map(|sent| sent.at_ms).collect();
    assert_eq!(deltas[0], START_MS + 13);
    let (last, windows) = deltas[1..].split_last().unwrap();
    let mut before = deltas[0];
    for at in windows {
        assert!(at - before >= COALESCING_WINDOW_MS, "{before}, then {at}");
        before = *at;
    }
    assert_eq!(*last, START_MS + 300 * 13, "nothing waits when the model has stopped");
    assert_eq!(read(&frames(&ports, "a")), stored(&ports));
}

#[test]
fn slow_callbacks_widen_the_window() {
    let ports = stocked();
    ports.sender.set_round_trip_ms(500);
    ports.model.follow(Step::answer((0..300).map(|token| format!("w{token} ")), 13));
    asked(&ports);
    let deltas = frames(&ports, "a").iter().filter(|frame| frame["type"] == "text.delta").count();
    assert!(deltas <= 9, "{deltas} frames");
    let begun: Vec<u64> = ports
        .faults
        .effects()
        .into_iter()
        .filter(|effect| effect.name == "sender.send")
        .map(|effect| effect.at_ms)
        .collect();
    assert!(begun.windows(2).all(|pair| pair[1] - pair[0] >= 500), "one frame at a time, or they overtake: {begun:?}");
    assert_eq!(read(&frames(&ports, "a")), stored(&ports));
}

#[test]
fn the_journal_is_written_once_a_second() {
    let ports = stocked();
    ports.model.follow(Step::answer((0..300).map(|token| format!("w{token} ")), 13));
    asked(&ports);
    let writes: Vec<u64> = ports
        .faults
        .effects()
        .into_iter()
        .filter(|effect| effect.name == "turns.journal")
        .map(|effect| effect.at_ms - START_MS)
        .collect();
    assert_eq!(writes, [TICK_MS, 2 * TICK_MS, 3 * TICK_MS, 3_900]);
}

#[test]
fn nothing_is_accepted_that_is_not_recorded_or_not_watched() {
    for needed in ["turns.record", "queues.send"] {
        let ports = stocked();
        let effect = {
            let rehearsal = stocked();
            asked(&rehearsal);
            positions(&names(&rehearsal), needed)[0]
        };
        ports.faults.plan(effect, Fault::FailBefore);
        assert_eq!(asked(&ports), Told::Unavailable);
        assert_eq!(frames(&ports, "a"), Vec::<Value>::new());
        assert!(ports.turns.inner.all_turns().is_empty() || is_watched(&ports), "no turn without a watchdog");
    }
}

#[test]
fn a_slow_record_delays_no_question_and_no_word_goes_before_it() {
    let ports = stocked();
    ports.turns.set_round_trip_ms(400);
    ports.model.follow(Step::answer(["Alpha ", "beta ", "gamma."], 50));
    asked(&ports);
    assert_eq!(ports.model.asked()[0].0, START_MS + 800);
    let sent = ports.sender.inner.sent();
    assert_eq!(sent[0].frame["type"], "message.accepted");
    assert_eq!(sent[0].at_ms, START_MS + 1_200);
    assert_eq!(read(&frames(&ports, "a")), stored(&ports));
    assert_eq!(stored(&ports).text, "Alpha beta gamma.");
}

#[test]
fn a_turn_whose_listener_left_is_stored_all_the_same() {
    let ports = stocked();
    ports.model.follow(Step::answer(["Alpha ", "beta ", "gamma."], 300));
    ports.sender.inner.hang_up_after(&samples::connection("a"), 6);
    assert_eq!(asked(&ports), Told::Frames);
    assert_eq!(frames(&ports, "a").len(), 6);
    assert_eq!(the_turn(&ports).state(), TurnState::Completed);
    assert_eq!(stored(&ports).text, "Alpha beta gamma.");
    let sends = positions(&names(&ports), "sender.send").len();
    assert_eq!(sends, 7, "nothing more is tried on a connection that is gone");
}

/// The owner has left the turn to the follow-up queue, at a time after it was asked, ms, having said so much.
fn check_handed_over(ports: &InMemory, after_ms: u64, said: &str) {
    let turn = the_turn(ports);
    assert_eq!(phase(ports), Phase::Queued { since: START_MS + after_ms });
    assert_eq!(turn.journal.hold, Some(Hold::Queued { since: START_MS + after_ms }));
    assert_eq!(turn.journal.answer(), said);
    let task = Task::Finish { turn_id: turn.request.turn_id.clone(), epoch: 1 };
    assert!(tasks(ports).contains(&task) && is_watched(ports));
    assert_eq!(types(&frames(ports, "a")).last(), Some(&"turn.queued"));
    assert_eq!(read(&frames(ports, "a")), stored(ports));
    assert_eq!(stored(ports).end, None);
    let (conversation, exchanges) = conversation(ports);
    assert_eq!(conversation.lock.map(|lock| lock.turn_id), Some(turn.request.turn_id), "it keeps the conversation");
    assert_eq!(exchanges, []);
}

#[test]
fn a_model_that_is_down_or_throttled_in_its_answer_leaves_the_turn_to_the_queue() {
    for (failure, text) in
        [(ModelFailure::Unavailable, ""), (ModelFailure::Unavailable, "Alpha "), (ModelFailure::Throttled, "Alpha ")]
    {
        // The turn's record is slower than the model, faster, and between.
        for record_ms in [0, 30, 400] {
            let ports = stocked();
            ports.turns.set_round_trip_ms(record_ms);
            let said = (!text.is_empty()).then(|| Step::Say(text.to_owned()));
            let fails = [Step::Wait(10), Step::Fail(failure)];
            ports.model.follow([Step::Wait(10)].into_iter().chain(said).chain(fails).collect());
            assert_eq!(asked(&ports), Told::Frames);
            check_handed_over(&ports, (2 * record_ms + 20).max(3 * record_ms), text);
            assert_eq!(ports.model.asked().len(), 1);
        }
    }
}

#[test]
fn a_model_that_refuses_fails_the_turn() {
    for record_ms in [0, 30, 400] {
        let ports = stocked();
        ports.turns.set_round_trip_ms(record_ms);
        ports.model.follow(vec![Step::Wait(10), Step::Say("Alpha ".to_owned()), Step::Fail(ModelFailure::Refused)]);
        assert_eq!(asked(&ports), Told::Frames);
        let Some(ServerEvent::TurnFailed(failed)) = read(&frames(&ports, "a")).end else { panic!("did not fail") };
        assert_eq!((failed.code, the_turn(&ports).state()), (ErrorCode::Internal, TurnState::Failed));
        assert_eq!(read(&frames(&ports, "a")), stored(&ports));
        assert_eq!(stored(&ports).text, "Alpha ", "what it said is kept");
    }
}

#[test]
fn an_answer_that_stops_without_a_word_was_broken_off() {
    let ports = stocked();
    ports.model.follow(vec![Step::Say("Alpha ".to_owned())]);
    asked(&ports);
    check_handed_over(&ports, 0, "Alpha ");
}

#[test]
fn an_answer_without_end_is_handed_over_in_time() {
    for (every_ms, ends) in [(MESSAGE_TURN_MS / 21 - 1, true), (MESSAGE_TURN_MS / 21, false)] {
        let ports = stocked();
        ports.model.follow(Step::answer(["word "; 21], every_ms));
        asked(&ports);
        if ends {
            assert_eq!(the_turn(&ports).state(), TurnState::Completed);
            continue;
        }
        check_handed_over(&ports, MESSAGE_TURN_MS, &"word ".repeat(20));
        assert_eq!(ports.model.cancelled(), 1, "the model stops too");
    }
}

#[test]
fn a_model_that_falls_silent_leaves_the_turn_to_the_queue() {
    for said in [vec![], vec![Step::Say("Alpha ".to_owned())]] {
        let ports = stocked();
        let text: String = if said.is_empty() { "" } else { "Alpha " }.to_owned();
        ports.model.follow(said.into_iter().chain([Step::Silence]).collect());
        asked(&ports);
        check_handed_over(&ports, MODEL_SILENCE_MS, &text);
        assert_eq!(ports.model.cancelled(), 1);
    }
}

#[test]
fn a_turn_that_cannot_be_handed_over_fails() {
    let script = vec![Step::Say("Alpha ".to_owned()), Step::Fail(ModelFailure::Throttled)];
    let rehearsal = stocked();
    rehearsal.model.follow(script.clone());
    asked(&rehearsal);
    let sends = positions(&names(&rehearsal), "queues.send");
    assert_eq!(sends.len(), 2, "the watchdog, and the task");

    let ports = stocked();
    ports.model.follow(script);
    ports.faults.plan(sends[1], Fault::FailBefore);
    assert_eq!(asked(&ports), Told::Frames);
    let Some(ServerEvent::TurnFailed(failed)) = read(&frames(&ports, "a")).end else { panic!("did not fail") };
    assert_eq!((failed.code, failed.retryable), (ErrorCode::Unavailable, true));
    assert_eq!((the_turn(&ports).state(), stored(&ports).text.as_str()), (TurnState::Failed, "Alpha "));
    assert_eq!(read(&frames(&ports, "a")), stored(&ports));
}

#[test]
fn a_store_that_is_down_is_announced_and_the_question_answered() {
    let ports = stocked();
    for service in Service::ALL {
        ports.store.fail(service);
    }
    asked(&ports);
    let frames = frames(&ports, "a");
    assert_eq!(
        types(&frames),
        ["message.accepted", "turn.started", "degraded", "degraded", "degraded", "text.delta", "turn.completed"]
    );
    assert_eq!(frames[2]["data"]["dependency"], "catalog");
}

#[test]
fn fifty_turns_at_once_are_answered_while_services_hang_and_fail() {
    let ports = stocked();
    ports.store.delay(Service::Search, 60_000);
    ports.store.delay(Service::Reviews, 60_000);
    ports.store.fail(Service::Articles);
    ports.model.follow(Step::answer(["Alpha ", "beta."], 200));
    let shoppers: Vec<_> = (0..50).map(|number| samples::shopper(&format!("shopper-{number}"))).collect();
    let asking = shoppers.iter().enumerate().map(|(number, shopper)| {
        let (message, connection) = (question(), samples::connection(&format!("tab-{number}")));
        let ports = &ports;
        async move { send(ports, shopper, &message, &connection).await }
    });
    let told = ports.clock.block_on(join_all(asking));
    assert_eq!(told.len(), 50);
    for (number, told) in told.into_iter().enumerate() {
        let frames = frames(&ports, &format!("tab-{number}"));
        assert_eq!((told, types(&frames).last().copied()), (Told::Frames, Some("turn.completed")), "{frames:#?}");
        let end = frames.last().unwrap();
        let first_token_ms = end["data"]["latency"]["first_token_ms"].as_u64().unwrap();
        assert!(first_token_ms <= GATHER_DEADLINE_MS + 500, "nobody waits for another: {first_token_ms} ms");
    }
}

#[test]
fn the_end_is_told_to_followers_after_it_is_stored_even_when_a_tick_was_not_acknowledged() {
    let script = || Step::answer(["Alpha ", "beta ", "gamma."], 400);
    let rehearsal = stocked();
    rehearsal.model.follow(script());
    asked(&rehearsal);
    let tick = positions(&names(&rehearsal), "turns.journal")[0];

    let ports = stocked();
    ports.model.follow(script());
    ports.faults.plan(tick, Fault::FailAfter);
    let sent = question();
    let aiko = samples::shopper("aiko");
    let (first, second) = (samples::connection("a"), samples::connection("b"));
    let follower = async {
        ports.faults.reached(tick + 1).await;
        send_until_taken(&ports, &aiko, &sent, &second).await;
    };
    ports.run(async { join!(send(&ports, &aiko, &sent, &first), follower) });

    let names = names(&ports);
    let released = positions(&names, "turns.release")[0];
    let sends = positions(&names, "sender.send");
    for (sent, at) in ports.sender.inner.sent().iter().zip(sends) {
        assert!(!is_terminal(&sent.frame) || at > released, "told too early: {names:?}");
    }
    for connection in ["a", "b"] {
        let frames = frames(&ports, connection);
        assert_eq!(frames.iter().filter(|frame| is_terminal(frame)).count(), 1, "{:?}", types(&frames));
        assert_eq!(read(&frames), stored(&ports));
    }
}

#[test]
fn whoever_joins_at_any_effect_ends_with_the_same() {
    let script = || Step::answer(["Alpha ", "beta ", "gamma ", "delta."], 400);
    let rehearsal = stocked();
    rehearsal.model.follow(script());
    asked(&rehearsal);
    for effect in 1..=names(&rehearsal).len() {
        let ports = stocked();
        ports.model.follow(script());
        let sent = question();
        let aiko = samples::shopper("aiko");
        let (first, second) = (samples::connection("a"), samples::connection("b"));
        let follower = async {
            ports.faults.reached(effect).await;
            send_until_taken(&ports, &aiko, &sent, &second).await;
        };
        ports.run(async { join!(send(&ports, &aiko, &sent, &first), follower) });
        assert_eq!(stored(&ports).text, "Alpha beta gamma delta.");
        assert_eq!(read(&frames(&ports, "a")), stored(&ports), "effect {effect}");
        assert_eq!(read(&frames(&ports, "b")), stored(&ports), "effect {effect}");
    }
}

#[test]
fn an_ended_turn_is_shown_again_as_it_was() {
    let ports = stocked();
    ports.model.follow(Step::answer(["Alpha ", "beta ", "gamma."], 700));
    asked(&ports);
    assert_eq!(say(&ports, "aiko", &question(), "b"), Some(Told::Frames));
    let frames_again = frames(&ports, "b");
    assert_eq!(frames_again[0]["data"]["duplicate"], true);
    assert_eq!(read(&frames_again), read(&frames(&ports, "a")));
    assert_eq!(ports.model.asked().len(), 1);
}

/// Pieces of an answer with the time before each, ms.
fn script() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..600_u64, "[a-z本\u{1}\"]{1,12}"), 0..20).prop_map(|pieces| {
        let said = pieces.into_iter().flat_map(|(wait, text)| [Step::Wait(wait), Step::Say(text)]);
        let usage = Usage { input_tokens: 1, output_tokens: 1 };
        said.chain([Step::Stop(StopReason::EndTurn), Step::Count(usage)]).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// I4: whoever joins, whenever, ends with what everybody has.
    #[test]
    fn whoever_joins_ends_with_the_same(
        script in script(),
        joins_at in prop::collection::vec(0..60_usize, 1..4),
        store_ms in 0..300_u64,
        sender_ms in 0..200_u64,
    ) {
        let ports = stocked();
        ports.model.follow(script);
        ports.turns.set_round_trip_ms(store_ms);
        ports.sender.set_round_trip_ms(sender_ms);
        let sent = question();
        let aiko = samples::shopper("aiko");
        let first = samples::connection("a");
        let answered = std::cell::Cell::new(false);
        let owner = async {
            send(&ports, &aiko, &sent, &first).await;
            answered.set(true);
        };
        let joining = join_all(joins_at.iter().enumerate().map(|(name, at)| {
            let (ports, sent, aiko, answered) = (&ports, &sent, &aiko, &answered);
            async move {
                while ports.faults.effects().len() < *at && !answered.get() {
                    wait(ports, 3).await;
                }
                send_until_taken(ports, aiko, sent, &samples::connection(&format!("b{name}"))).await;
            }
        }));
        ports.run(async { join!(owner, joining) });
        let stored = stored(&ports);
        prop_assert!(stored.end.is_some());
        prop_assert_eq!(read(&frames(&ports, "a")), stored.clone());
        for name in 0..joins_at.len() {
            prop_assert_eq!(read(&frames(&ports, &format!("b{name}"))), stored.clone());
        }
        prop_assert_eq!(ports.model.asked().len(), 1);
    }

    /// Also when calls fail meanwhile: nobody is told what is not stored, and a resume brings whatever got lost.
    #[test]
    fn whoever_joins_agrees_with_what_is_stored_whatever_fails(
        script in script(),
        joins_at in prop::collection::vec(0..40_usize, 1..3),
        faults in prop::collection::vec((0..60_usize, any::<bool>()), 1..6),
        store_ms in 0..300_u64,
    ) {
        let ports = stocked();
        ports.model.follow(script);
        ports.turns.set_round_trip_ms(store_ms);
        for (effect, happens) in faults {
            ports.faults.plan(effect, if happens { Fault::FailAfter } else { Fault::FailBefore });
        }
        let sent = question();
        let aiko = samples::shopper("aiko");
        let first = samples::connection("a");
        let owner = send(&ports, &aiko, &sent, &first);
        let joining = join_all(joins_at.iter().enumerate().map(|(name, at)| {
            let (ports, sent, aiko) = (&ports, &sent, &aiko);
            async move {
                while ports.faults.effects().len() < *at && ports.clock.now_ms() < START_MS + LEASE_MS {
                    wait(ports, 3).await;
                }
                send_until_taken(ports, aiko, sent, &samples::connection(&format!("b{name}"))).await;
            }
        }));
        ports.run(async { join!(owner, joining) });
        ports.faults.restart();
        ports.clock.advance(LEASE_MS + TAKEOVER_MARGIN_MS);
        let names: Vec<String> = (0..joins_at.len()).map(|name| format!("b{name}")).chain(["a".to_owned()]).collect();
        for name in names {
            let live = read(&frames(&ports, &name));
            ports.run(resume(&ports, &the_turn(&ports).request.turn_id, &name, 0, -1));
            let stored = stored(&ports);
            prop_assert!(stored.end.is_some());
            prop_assert!(live.end.is_none() || live == stored);
            prop_assert_eq!(read(&frames(&ports, &name)), stored);
        }
        prop_assert_eq!(the_turn(&ports).journal.frames.iter().filter(|frame| frame.event.ends_turn().is_some()).count(), 1);
    }

    /// I4: a client that drops after any frame and resumes at any moment ends with what was stored.
    #[test]
    fn whoever_drops_and_resumes_ends_with_the_same(
        script in script(),
        drops_after in 2..20_usize,
        away_ms in 0..3_000_u64,
        store_ms in 0..300_u64,
    ) {
        let ports = stocked();
        ports.model.follow(script);
        ports.turns.set_round_trip_ms(store_ms);
        let sent = question();
        let aiko = samples::shopper("aiko");
        let first = samples::connection("a");
        ports.sender.inner.hang_up_after(&first, drops_after);
        let answered = std::cell::Cell::new(false);
        let owner = async {
            send(&ports, &aiko, &sent, &first).await;
            answered.set(true);
        };
        let comes_back = async {
            while ports.sender.inner.frames(&first).len() < drops_after && !answered.get() {
                wait(&ports, 3).await;
            }
            wait(&ports, away_ms).await;
            let (epoch, seq) = position(&frames(&ports, "a"));
            resume(&ports, &the_turn(&ports).request.turn_id, "b", epoch, seq).await;
        };
        ports.run(async { join!(owner, comes_back) });
        let held = [frames(&ports, "a"), frames(&ports, "b")].concat();
        prop_assert_eq!(read(&held), stored(&ports));
        prop_assert!(stored(&ports).end.is_some());
    }
}
