//! The fakes keep the contracts, and the clock is one.

use domain::ids::{ConversationId, TurnId};
use domain::ports::{Clock as _, ConnectionStore as _, LanguageModel as _, RecordOutcome, TurnStore as _};
use domain::prompt::Prompt;
use domain::protocol::Locale;
use domain::turn::TurnRequest;
use futures_util::{StreamExt as _, join};

use crate::{Fault, InMemory, ManualClock, MemoryConnections, MemoryTurns, START_MS, Step, contract, samples};

#[test]
fn memory_turns_keep_the_contract() {
    ManualClock::new().block_on(contract::turn_store(&MemoryTurns::default(), "m", START_MS));
}

#[test]
fn memory_connections_keep_the_contract() {
    ManualClock::new().block_on(contract::connection_store(&MemoryConnections::new(ManualClock::new()), "m", START_MS));
}

#[test]
fn faultless_ports_keep_the_contracts_over_time() {
    let ports = InMemory::new();
    ports.turns.set_round_trip_ms(7);
    ports.run(contract::turn_store(&ports.turns, "f", START_MS)).expect("nothing crashed");
    ports.run(contract::connection_store(&ports.connections, "f", START_MS)).expect("nothing crashed");
    assert!(ports.clock.now_ms() > START_MS);
}

#[test]
fn the_clock_jumps_to_the_earliest_sleeper() {
    let clock = ManualClock::new();
    let asleep = |ms| {
        let clock = &clock;
        async move {
            clock.sleep_until(START_MS + ms).await;
            clock.now_ms() - START_MS
        }
    };
    let woken = clock.block_on(async { join!(asleep(50), asleep(20), asleep(0), asleep(50)) });
    assert_eq!(woken, (50, 20, 0, 50));
    clock.advance(5);
    assert_eq!(clock.now_ms(), START_MS + 55);
}

#[test]
#[should_panic(expected = "never happen")]
fn waiting_for_nothing_is_reported() {
    ManualClock::new().block_on(std::future::pending::<()>());
}

fn request() -> TurnRequest {
    TurnRequest {
        turn_id: TurnId::parse("t-1").unwrap(),
        conversation_id: ConversationId::parse("c-1").unwrap(),
        number: 1,
        principal: samples::shopper("aiko"),
        client_message_id: samples::client_message_id(1),
        payload_hash: "hash".to_owned(),
        text: "text".to_owned(),
        locale: Locale::En,
        product_id: None,
        connection: samples::connection("asked-on"),
        asked_at: START_MS,
        lease_until: START_MS + 1,
    }
}

#[test]
fn faults_strike_where_they_are_planned() {
    for (fault, answered, happened) in [
        (Fault::FailBefore, true, false),
        (Fault::FailAfter, true, true),
        (Fault::CrashBefore, false, false),
        (Fault::CrashAfter, false, true),
    ] {
        let ports = InMemory::new();
        ports.faults.plan(1, fault);
        assert_eq!(ports.run(ports.turns.turn(&request().turn_id)).unwrap().unwrap(), None, "effect 0 is well");
        let outcome = ports.run(ports.turns.record(&request()));
        assert_eq!(outcome.is_some(), answered, "{fault:?}");
        assert!(outcome.is_none_or(|outcome| outcome.is_err()), "{fault:?}");
        assert_eq!(ports.faults.crashed(), !answered);
        assert_eq!(ports.turns.inner.all_turns().len(), usize::from(happened), "{fault:?}");

        ports.faults.restart();
        let again = ports.run(ports.turns.record(&request())).expect("no crash");
        assert_eq!(again.unwrap(), RecordOutcome::Recorded);
        assert_eq!(ports.faults.effects().len(), 1, "counted anew");
    }
}

#[test]
fn a_dead_process_does_nothing_more() {
    let ports = InMemory::new();
    ports.faults.plan(0, Fault::CrashBefore);
    let known = samples::connection("known");
    let request = request();
    let both = async { join!(ports.connections.forget(&known), ports.turns.record(&request)) };
    assert!(ports.run(both).is_none());
    assert_eq!(ports.faults.effects().len(), 1);
    assert!(ports.turns.inner.all_turns().is_empty());
}

#[test]
fn the_model_follows_its_script_and_counts_who_leaves() {
    let ports = InMemory::new();
    ports.model.follow(Step::answer(["one ", "two"], 10));
    let prompt = || Prompt { system: String::new(), messages: Vec::new(), prefill: None, answer_tokens_max: 1 };
    let events = ports.run(ports.model.answer(prompt()).collect::<Vec<_>>()).unwrap();
    assert_eq!((events.len(), ports.clock.now_ms()), (4, START_MS + 20));
    assert_eq!(ports.model.cancelled(), 0);
    drop(ports.model.answer(prompt()));
    assert_eq!(ports.model.asked().len(), 1, "it is asked by the first poll");
    ports.run(async { Box::pin(ports.model.answer(prompt())).next().await.is_some() });
    assert_eq!((ports.model.asked().len(), ports.model.cancelled()), (2, 1));
}
