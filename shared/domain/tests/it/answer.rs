//! Answering: what is sent, stored and asked, in which order and when.

use domain::limits::{
    COALESCING_WINDOW_MS, LEASE_MS, MODEL_SILENCE_MS, SERVER_FRAME_BYTES_MAX, TICK_MS, TURN_BUDGET_MS,
};
use domain::ports::{Clock as _, TurnStore as _};
use domain::protocol::{ErrorCode, ServerEvent, StopReason, TurnFailed, TurnState, Usage};
use futures_util::join;
use proptest::prelude::*;
use serde_json::Value;
use testkit::{Fault, InMemory, ModelFailure, START_MS, Service, Step, samples};

use crate::client::{Shown, put_together, read};
use crate::world::{Told, is_terminal, resume, say, send, send_until_taken, the_turn, types};

/// Callbacks of an LLM answer of 300 tokens over 4 s (budget).
const CALLBACKS_MAX: usize = 45;

fn world() -> InMemory {
    let ports = InMemory::new();
    ports.store.stock(samples::store_data());
    ports
}

/// Aiko asks on connection `a`, and is answered to the end.
fn ask(ports: &InMemory) -> Told {
    say(ports, "aiko", &samples::message(1, "A pirate story?"), "a").expect("no crash was planned")
}

fn frames(ports: &InMemory, connection: &str) -> Vec<Value> {
    ports.sender.inner.frames(&samples::connection(connection))
}

fn stored(ports: &InMemory) -> Shown {
    put_together(&the_turn(ports).journal.frames)
}

fn failure(ports: &InMemory) -> TurnFailed {
    let Some(ServerEvent::TurnFailed(failed)) = read(&frames(ports, "a")).end else { panic!("did not fail") };
    assert_eq!(the_turn(ports).state(), TurnState::Failed);
    failed
}

fn names(ports: &InMemory) -> Vec<&'static str> {
    ports.faults.effects().into_iter().map(|effect| effect.name).collect()
}

fn positions(names: &[&str], name: &str) -> Vec<usize> {
    names.iter().enumerate().filter(|(_, found)| **found == name).map(|(at, _)| at).collect()
}

#[test]
fn a_turn_is_accepted_streamed_settled_and_ended() {
    let ports = world();
    ports.model.follow(Step::answer(["One ", "two ", "three."], 200));
    assert_eq!(ask(&ports), Told::Frames);

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
    assert_eq!(turn.journal.answer(), "One two three.");
    assert_eq!(read(&frames), stored(&ports));
    let (conversation, history) =
        ports.run(ports.turns.conversation(&turn.request.conversation_id, 9)).unwrap().unwrap().unwrap();
    assert_eq!((conversation.turns, conversation.lock), (1, None));
    assert_eq!(history, [turn.exchange().unwrap()]);
}

#[test]
fn every_step_waits_for_the_one_before() {
    let ports = world();
    ask(&ports);
    let names = names(&ports);
    let sends = positions(&names, "sender.send");
    let one = |name| {
        let found = positions(&names, name);
        assert_eq!(found.len(), 1, "{name}: {names:?}");
        found[0]
    };
    assert!(one("turns.lock") < one("turns.record"));
    assert!(one("turns.record") < sends[0], "accepted once it is recorded");
    assert!(one("turns.journal") < one("turns.remember"));
    assert!(one("turns.remember") < one("turns.release"));
    assert!(one("turns.release") < *sends.last().unwrap(), "the end is told last");
    assert!(*sends.last().unwrap() < one("events.turn_ended"));
    let events = ports.events.inner.all();
    assert_eq!((events[0].state, events[0].usage.output_tokens), (TurnState::Completed, 1));
}

#[test]
fn the_model_is_asked_after_two_round_trips() {
    let ports = world();
    ports.turns.set_round_trip_ms(10);
    ask(&ports);
    assert_eq!(ports.model.asked()[0].0, START_MS + 20);
}

#[test]
fn the_first_piece_travels_when_it_arrives_and_the_rest_once_a_window() {
    let ports = world();
    ports.model.follow(Step::answer((0..300).map(|token| format!("w{token} ")), 13));
    ask(&ports);
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
    let ports = world();
    ports.sender.set_round_trip_ms(500);
    ports.model.follow(Step::answer((0..300).map(|token| format!("w{token} ")), 13));
    ask(&ports);
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
    let ports = world();
    ports.model.follow(Step::answer((0..300).map(|token| format!("w{token} ")), 13));
    ask(&ports);
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
fn nothing_is_accepted_that_is_not_recorded() {
    let ports = world();
    let record = {
        let rehearsal = world();
        ask(&rehearsal);
        positions(&names(&rehearsal), "turns.record")[0]
    };
    ports.faults.plan(record, Fault::FailBefore);
    assert_eq!(ask(&ports), Told::Unavailable);
    assert_eq!(frames(&ports, "a"), Vec::<Value>::new());
    assert_eq!(ports.turns.inner.all_turns(), []);
}

#[test]
fn a_slow_record_delays_no_question_and_no_word_goes_before_it() {
    let ports = world();
    ports.turns.set_round_trip_ms(400);
    ports.model.follow(Step::answer(["One ", "two ", "three."], 50));
    ask(&ports);
    assert_eq!(ports.model.asked()[0].0, START_MS + 800);
    let sent = ports.sender.inner.sent();
    assert_eq!(sent[0].frame["type"], "message.accepted");
    assert_eq!(sent[0].at_ms, START_MS + 1_200);
    assert_eq!(read(&frames(&ports, "a")), stored(&ports));
    assert_eq!(stored(&ports).text, "One two three.");
}

#[test]
fn a_turn_whose_listener_left_is_stored_all_the_same() {
    let ports = world();
    ports.model.follow(Step::answer(["One ", "two ", "three."], 300));
    ports.sender.inner.hang_up_after(&samples::connection("a"), 6);
    assert_eq!(ask(&ports), Told::Frames);
    assert_eq!(frames(&ports, "a").len(), 6);
    assert_eq!(the_turn(&ports).state(), TurnState::Completed);
    assert_eq!(stored(&ports).text, "One two three.");
    let sends = positions(&names(&ports), "sender.send").len();
    assert_eq!(sends, 7, "nothing more is tried on a connection that is gone");
}

#[test]
fn a_model_that_fails_fails_the_turn_and_what_it_said_is_kept() {
    for (failure_of_model, code) in [
        (ModelFailure::Throttled, ErrorCode::Unavailable),
        (ModelFailure::Unavailable, ErrorCode::Unavailable),
        (ModelFailure::Refused, ErrorCode::Internal),
    ] {
        // The turn's record is slower than the model, faster, and between.
        for record_ms in [0, 30, 400] {
            let ports = world();
            ports.turns.set_round_trip_ms(record_ms);
            let said = vec![Step::Wait(10), Step::Say("One ".to_owned()), Step::Wait(10), Step::Fail(failure_of_model)];
            ports.model.follow(said);
            ask(&ports);
            let failed = failure(&ports);
            assert_eq!((failed.code, failed.retryable), (code, true), "{failure_of_model:?}, record {record_ms} ms");
            assert_eq!(read(&frames(&ports, "a")), stored(&ports));
            assert_eq!(stored(&ports).text, "One ");
        }
    }
}

#[test]
fn an_answer_that_stops_without_a_word_was_broken_off() {
    let ports = world();
    ports.model.follow(vec![Step::Say("One ".to_owned())]);
    ask(&ports);
    assert_eq!(failure(&ports).code, ErrorCode::Unavailable);
}

#[test]
fn an_answer_without_end_is_cut_off_at_the_deadline() {
    let ports = world();
    ports.model.follow(Step::answer((0..60).map(|token| format!("w{token} ")), 1_000));
    ask(&ports);
    let Some(ServerEvent::TurnCompleted(completed)) = read(&frames(&ports, "a")).end else { panic!("completed") };
    assert_eq!(completed.stop_reason, StopReason::Deadline);
    assert_eq!(completed.latency.total_ms, TURN_BUDGET_MS);
    assert_eq!(ports.model.cancelled(), 1, "the model stops too");
    assert_eq!(read(&frames(&ports, "a")), stored(&ports));
    assert!(stored(&ports).text.ends_with("w23 "), "{}", stored(&ports).text);
}

#[test]
fn a_model_that_falls_silent_fails_the_turn() {
    for said in [vec![], vec![Step::Say("One ".to_owned())]] {
        let ports = world();
        let text: String = if said.is_empty() { "" } else { "One " }.to_owned();
        ports.model.follow(said.into_iter().chain([Step::Silence]).collect());
        ask(&ports);
        assert_eq!(failure(&ports).code, ErrorCode::Unavailable);
        assert_eq!(ports.clock.now_ms(), START_MS + MODEL_SILENCE_MS);
        assert_eq!(ports.model.cancelled(), 1);
        assert_eq!(stored(&ports).text, text);
    }
}

#[test]
fn a_store_that_is_down_is_announced_and_the_question_answered() {
    let ports = world();
    for service in Service::ALL {
        ports.store.fail(service);
    }
    ask(&ports);
    let frames = frames(&ports, "a");
    assert_eq!(
        types(&frames),
        ["message.accepted", "turn.started", "degraded", "degraded", "degraded", "text.delta", "turn.completed"]
    );
    assert_eq!(frames[2]["data"]["dependency"], "catalog");
}

#[test]
fn the_end_is_told_to_followers_after_it_is_stored_even_when_a_tick_was_not_acknowledged() {
    let script = || Step::answer(["One ", "two ", "three."], 400);
    let rehearsal = world();
    rehearsal.model.follow(script());
    ask(&rehearsal);
    let tick = positions(&names(&rehearsal), "turns.journal")[0];

    let ports = world();
    ports.model.follow(script());
    ports.faults.plan(tick, Fault::FailAfter);
    let sent = samples::message(1, "A pirate story?");
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
    let script = || Step::answer(["One ", "two ", "three ", "four."], 400);
    let rehearsal = world();
    rehearsal.model.follow(script());
    ask(&rehearsal);
    for effect in 1..=names(&rehearsal).len() {
        let ports = world();
        ports.model.follow(script());
        let sent = samples::message(1, "A pirate story?");
        let aiko = samples::shopper("aiko");
        let (first, second) = (samples::connection("a"), samples::connection("b"));
        let follower = async {
            ports.faults.reached(effect).await;
            send_until_taken(&ports, &aiko, &sent, &second).await;
        };
        ports.run(async { join!(send(&ports, &aiko, &sent, &first), follower) });
        assert_eq!(stored(&ports).text, "One two three four.");
        assert_eq!(read(&frames(&ports, "a")), stored(&ports), "effect {effect}");
        assert_eq!(read(&frames(&ports, "b")), stored(&ports), "effect {effect}");
    }
}

#[test]
fn an_owner_that_overslept_its_lease_writes_and_says_nothing_more() {
    let ports = world();
    ports.model.follow(Step::answer(["One ", "two ", "three ", "four."], 600));
    let sent = samples::message(1, "A pirate story?");
    let aiko = samples::shopper("aiko");
    let (first, second) = (samples::connection("a"), samples::connection("b"));
    let oversleeps = async {
        ports.clock.sleep_until(START_MS + 1_500).await;
        ports.clock.advance(LEASE_MS);
        let told = send(&ports, &aiko, &sent, &second).await;
        (told, ports.sender.inner.frames(&first).len())
    };
    let (told, (taken_over, said_before)) =
        ports.run(async { join!(send(&ports, &aiko, &sent, &first), oversleeps) }).unwrap();
    assert_eq!((told, taken_over), (Told::Frames, Told::Frames));
    let turn = the_turn(&ports);
    assert_eq!((turn.state(), turn.journal.epoch), (TurnState::Failed, 2));
    let late = &frames(&ports, "a")[said_before..];
    let by_the_owner = late.iter().filter(|frame| is_terminal(frame) && frame["epoch"] == 1).count();
    assert_eq!(by_the_owner, 0, "{:?}", types(late));
    assert_eq!(read(&frames(&ports, "a")), stored(&ports));
    assert_eq!(read(&frames(&ports, "b")), stored(&ports));
    let states: Vec<_> = ports.events.inner.all().iter().map(|event| event.state).collect();
    assert_eq!(states, [TurnState::Failed], "who ended the turn publishes, who was fenced does not");
}

#[test]
fn an_ended_turn_is_shown_again_as_it_was() {
    let ports = world();
    ports.model.follow(Step::answer(["One ", "two ", "three."], 700));
    ask(&ports);
    assert_eq!(say(&ports, "aiko", &samples::message(1, "A pirate story?"), "b"), Some(Told::Frames));
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
        let ports = world();
        ports.model.follow(script);
        ports.turns.set_round_trip_ms(store_ms);
        ports.sender.set_round_trip_ms(sender_ms);
        let sent = samples::message(1, "A pirate story?");
        let aiko = samples::shopper("aiko");
        let first = samples::connection("a");
        let answered = std::cell::Cell::new(false);
        let owner = async {
            send(&ports, &aiko, &sent, &first).await;
            answered.set(true);
        };
        let joining = futures_util::future::join_all(joins_at.iter().enumerate().map(|(name, at)| {
            let (ports, sent, aiko, answered) = (&ports, &sent, &aiko, &answered);
            async move {
                while ports.faults.effects().len() < *at && !answered.get() {
                    ports.clock.sleep_until(ports.clock.now_ms() + 3).await;
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
        let ports = world();
        ports.model.follow(script);
        ports.turns.set_round_trip_ms(store_ms);
        for (effect, happens) in faults {
            ports.faults.plan(effect, if happens { Fault::FailAfter } else { Fault::FailBefore });
        }
        let sent = samples::message(1, "A pirate story?");
        let aiko = samples::shopper("aiko");
        let first = samples::connection("a");
        let owner = send(&ports, &aiko, &sent, &first);
        let joining = futures_util::future::join_all(joins_at.iter().enumerate().map(|(name, at)| {
            let (ports, sent, aiko) = (&ports, &sent, &aiko);
            async move {
                while ports.faults.effects().len() < *at && ports.clock.now_ms() < START_MS + LEASE_MS {
                    ports.clock.sleep_until(ports.clock.now_ms() + 3).await;
                }
                send_until_taken(ports, aiko, sent, &samples::connection(&format!("b{name}"))).await;
            }
        }));
        ports.run(async { join!(owner, joining) });
        ports.faults.restart();
        ports.clock.advance(LEASE_MS);
        let names: Vec<String> = (0..joins_at.len()).map(|name| format!("b{name}")).chain(["a".to_owned()]).collect();
        for name in names {
            let live = read(&frames(&ports, &name));
            ports.run(resume(&ports, &the_turn(&ports).request, &samples::connection(&name), 0, -1));
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
        let ports = world();
        ports.model.follow(script);
        ports.turns.set_round_trip_ms(store_ms);
        let sent = samples::message(1, "A pirate story?");
        let aiko = samples::shopper("aiko");
        let (first, second) = (samples::connection("a"), samples::connection("b"));
        ports.sender.inner.hang_up_after(&first, drops_after);
        let answered = std::cell::Cell::new(false);
        let owner = async {
            send(&ports, &aiko, &sent, &first).await;
            answered.set(true);
        };
        let comes_back = async {
            while ports.sender.inner.frames(&first).len() < drops_after && !answered.get() {
                ports.clock.sleep_until(ports.clock.now_ms() + 3).await;
            }
            ports.clock.sleep_until(ports.clock.now_ms() + away_ms).await;
            let held = ports.sender.inner.frames(&first);
            let last = held.last().expect("it was accepted");
            let (epoch, seq) = (last["epoch"].as_u64().unwrap_or(0), last["seq"].as_i64().unwrap_or(-1));
            resume(&ports, &the_turn(&ports).request, &second, epoch, seq).await;
        };
        ports.run(async { join!(owner, comes_back) });
        let held = [frames(&ports, "a"), frames(&ports, "b")].concat();
        prop_assert_eq!(read(&held), stored(&ports));
        prop_assert!(stored(&ports).end.is_some());
    }
}
