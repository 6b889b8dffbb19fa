//! Whatever fails or dies at whatever moment: an accepted message has one stored outcome, and the client has what is
//! stored.

use domain::ids::Principal;
use domain::limits::LEASE_MS;
use domain::ports::TurnStore as _;
use domain::protocol::{MessageSend, TurnState};
use proptest::prelude::*;
use serde_json::Value;
use testkit::{Fault, InMemory, Step, samples};

use crate::client::{put_together, read};
use crate::world::{Told, send, the_turn, types};

const FAULTS: [Fault; 4] = [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter];
const ANSWER: [&str; 6] = ["One ", "two ", "three ", "four ", "five ", "six."];

fn world() -> (InMemory, Principal, MessageSend) {
    let ports = InMemory::new();
    ports.store.stock(samples::store_data());
    ports.model.follow(Step::answer(ANSWER, 450));
    (ports, samples::shopper("aiko"), samples::message(1, "A pirate story?"))
}

/// How many effects a turn has when nothing goes wrong.
fn effects() -> usize {
    let (ports, aiko, sent) = world();
    ports.run(send(&ports, &aiko, &sent, &samples::connection("a")));
    ports.faults.effects().len()
}

/// Sends a message into these faults, and again, as a client does that was not told the end; then checks that the turn
/// has one outcome, that the client holds it and that the conversation goes on.
fn check(faults: &[(usize, Fault)]) {
    let (ports, aiko, sent) = world();
    for (effect, fault) in faults {
        ports.faults.plan(*effect, *fault);
    }
    let mut held: Vec<Value> = Vec::new();
    for attempt in 0..40 {
        let connection = samples::connection(&format!("a{attempt}"));
        let told = ports.run(send(&ports, &aiko, &sent, &connection));
        let got = ports.sender.inner.frames(&connection);
        let recorded = !ports.turns.inner.all_turns().is_empty();
        assert!(recorded || got.is_empty(), "{:?} of a message that is not recorded, with {faults:?}", types(&got));
        held.extend(got);
        if told == Some(Told::Frames) && read(&held).end.is_some() {
            break;
        }
        if told.is_none() {
            ports.faults.restart();
        }
        ports.clock.advance(LEASE_MS / 8);
    }
    let turn = the_turn(&ports);
    let shown = put_together(&turn.journal.frames);
    assert_ne!(turn.state(), TurnState::Running, "{faults:?}");
    assert_eq!(read(&held), shown, "{faults:?}");
    assert!(shown.end.is_some_and(|end| end.ends_turn() == Some(turn.state())), "{faults:?}");
    let ends = turn.journal.frames.iter().filter(|frame| frame.event.ends_turn().is_some()).count();
    assert_eq!(ends, 1, "one stored outcome with {faults:?}");
    let answer = turn.journal.answer();
    match turn.state() {
        TurnState::Completed => assert_eq!(answer, ANSWER.concat(), "{faults:?}"),
        _failed => assert!(ANSWER.concat().starts_with(&answer), "{answer:?} with {faults:?}"),
    }
    let mut next = 0;
    for frame in &turn.journal.frames {
        assert_eq!(frame.first_seq(), next, "no gap and nothing twice with {faults:?}");
        next = frame.seq + 1;
    }

    ports.faults.restart();
    let conversation_id = turn.request.conversation_id.clone();
    let more = MessageSend { conversation_id: Some(conversation_id.clone()), ..samples::message(2, "And then?") };
    let told = ports.run(send(&ports, &aiko, &more, &samples::connection("c")));
    assert_eq!(told, Some(Told::Frames), "the conversation is free after {faults:?}");
    let (conversation, exchanges) = ports.run(ports.turns.conversation(&conversation_id, 9)).unwrap().unwrap().unwrap();
    assert_eq!(conversation.lock, None);
    assert_eq!(exchanges.len(), 2, "each turn is remembered once with {faults:?}");
    assert_eq!(exchanges.last(), turn.exchange().as_ref(), "{faults:?}");
}

#[test]
fn any_one_fault_leaves_one_outcome() {
    let effects = effects();
    assert!(effects > 15, "{effects}");
    for effect in 0..effects {
        for fault in FAULTS {
            check(&[(effect, fault)]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_faults_leave_one_outcome(
        faults in prop::collection::vec((0..40_usize, prop::sample::select(&FAULTS[..])), 2..6)
    ) {
        check(&faults);
    }
}
