//! What becomes a turn, and what is refused.

use domain::ids::ConversationId;
use domain::limits::LEASE_MS;
use domain::ports::{Clock as _, TurnStore as _};
use domain::protocol::{ErrorCode, MessageContext, MessageSend, TurnState};
use futures_util::future::join_all;
use futures_util::join;
use testkit::{Fault, InMemory, Step, samples};

use crate::world::{self, Told, send, the_turn};

fn say(ports: &InMemory, who: &str, sent: &MessageSend) -> Told {
    world::say(ports, who, sent, "a").expect("no crash was planned")
}

/// Aiko's first message, answered; the next is to continue its conversation.
fn opened(ports: &InMemory) -> MessageSend {
    assert_eq!(say(ports, "aiko", &samples::message(1, "First.")), Told::Frames);
    let conversation_id = Some(the_turn(ports).request.conversation_id);
    MessageSend { conversation_id, ..samples::message(2, "Second.") }
}

#[test]
fn a_conversation_goes_on_with_its_history() {
    let ports = InMemory::new();
    let second = opened(&ports);
    assert_eq!(say(&ports, "aiko", &second), Told::Frames);
    let (conversation, history) =
        ports.run(ports.turns.conversation(&second.conversation_id.clone().unwrap(), 9)).unwrap().unwrap().unwrap();
    assert_eq!(conversation.turns, 2);
    let numbers: Vec<u64> = history.iter().map(|exchange| exchange.number).collect();
    assert_eq!(numbers, [2, 1]);
    let asked = ports.model.asked();
    let messages: Vec<&str> = asked[1].1.messages.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(messages[..2], ["First.", "Here you are."]);
}

#[test]
fn a_message_id_stands_for_one_text_and_one_product() {
    let ports = InMemory::new();
    opened(&ports);
    let mismatch = Told::Refused(ErrorCode::IdempotencyMismatch);
    assert_eq!(say(&ports, "aiko", &samples::message(1, "Another.")), mismatch);
    let context = Some(MessageContext { product_id: Some(samples::product_id("one-1")) });
    assert_eq!(say(&ports, "aiko", &MessageSend { context, ..samples::message(1, "First.") }), mismatch);
    assert_eq!(say(&ports, "aiko", &samples::message(1, "First.")), Told::Frames);
    assert_eq!(ports.model.asked().len(), 1);
}

#[test]
fn the_same_id_of_another_shopper_is_another_message() {
    let ports = InMemory::new();
    opened(&ports);
    assert_eq!(say(&ports, "ben", &samples::message(1, "Something else.")), Told::Frames);
    assert_eq!(ports.turns.inner.all_turns().len(), 2);
}

#[test]
fn what_is_not_theirs_is_not_found() {
    let ports = InMemory::new();
    let second = opened(&ports);
    assert_eq!(say(&ports, "ben", &second), Told::Refused(ErrorCode::NotFound));
    let conversation_id = ConversationId::parse("c_nobody");
    let nowhere = MessageSend { conversation_id, ..samples::message(3, "Hello.") };
    assert_eq!(say(&ports, "aiko", &nowhere), Told::Refused(ErrorCode::NotFound));
    assert_eq!(ports.turns.inner.all_turns().len(), 1, "a refusal leaves no record");
}

#[test]
fn a_conversation_answers_one_message_at_a_time() {
    let ports = InMemory::new();
    let second = opened(&ports);
    let third = MessageSend { client_message_id: samples::client_message_id(3), ..second.clone() };
    ports.model.follow(Step::answer(["Slowly."], 2_000));
    let aiko = samples::shopper("aiko");
    let (a, b) = (samples::connection("a"), samples::connection("b"));
    let impatient = async {
        ports.clock.sleep_until(ports.clock.now_ms() + 1_000).await;
        send(&ports, &aiko, &third, &b).await
    };
    let (first, refused) = ports.run(async { join!(send(&ports, &aiko, &second, &a), impatient) }).unwrap();
    assert_eq!((first, refused), (Told::Frames, Told::Refused(ErrorCode::ConversationBusy)));
    assert_eq!(say(&ports, "aiko", &third), Told::Frames, "free again");
}

#[test]
fn messages_that_race_for_a_conversation_are_answered_one_at_a_time() {
    for round_trip_ms in [0, 10] {
        let ports = InMemory::new();
        let second = opened(&ports);
        ports.turns.set_round_trip_ms(round_trip_ms);
        let rivals: Vec<MessageSend> = (10..14)
            .map(|number| MessageSend { client_message_id: samples::client_message_id(number), ..second.clone() })
            .collect();
        let aiko = samples::shopper("aiko");
        let connection = samples::connection("b");
        let race = join_all(rivals.iter().map(|rival| send(&ports, &aiko, rival, &connection)));
        let told = ports.run(race).unwrap();
        let answered = told.iter().filter(|told| **told == Told::Frames).count();
        let (conversation, exchanges) =
            ports.run(ports.turns.conversation(&second.conversation_id.unwrap(), 9)).unwrap().unwrap().unwrap();
        assert!(answered >= 1, "{told:?}");
        assert_eq!(exchanges.len(), 1 + answered, "every answer is in the conversation, once");
        assert_eq!(conversation.lock, None);
        assert_eq!(ports.turns.inner.all_turns().len(), 1 + answered, "a refusal leaves no record");
    }
}

#[test]
fn the_same_message_twice_at_once_is_one_turn() {
    for round_trip_ms in [0, 10] {
        let ports = InMemory::new();
        ports.turns.set_round_trip_ms(round_trip_ms);
        ports.model.follow(Step::answer(["One ", "two."], 300));
        let sent = samples::message(1, "First.");
        let aiko = samples::shopper("aiko");
        let (a, b) = (samples::connection("a"), samples::connection("b"));
        ports.run(async { join!(send(&ports, &aiko, &sent, &a), send(&ports, &aiko, &sent, &b)) });
        assert_eq!(the_turn(&ports).state(), TurnState::Completed);
        assert_eq!(ports.model.asked().len(), 1);
    }
}

/// A world in which the owner of aiko's second message died after its first call of this name.
fn abandoned_after(effect: &str) -> (InMemory, MessageSend) {
    let rehearsal = InMemory::new();
    let script = || Step::answer(["One ", "two ", "three."], 600);
    let second = opened(&rehearsal);
    rehearsal.faults.restart();
    rehearsal.model.follow(script());
    say(&rehearsal, "aiko", &second);
    let last = rehearsal.faults.effects().iter().position(|found| found.name == effect).unwrap();

    let ports = InMemory::new();
    let second = opened(&ports);
    ports.faults.restart();
    ports.model.follow(script());
    ports.faults.plan(last, Fault::CrashAfter);
    assert_eq!(world::say(&ports, "aiko", &second, "a"), None);
    ports.faults.restart();
    (ports, second)
}

#[test]
fn a_turn_that_lost_its_owner_keeps_the_conversation_until_its_lease_ends() {
    let (ports, second) = abandoned_after("turns.journal");
    let third = MessageSend { client_message_id: samples::client_message_id(3), ..second.clone() };
    let turns = ports.turns.inner.all_turns();
    let lost = turns.iter().find(|turn| turn.state() == TurnState::Running).unwrap();
    assert_eq!(lost.request.lease_until, lost.request.asked_at + LEASE_MS);

    ports.clock.advance_to(lost.request.lease_until - 1);
    assert_eq!(say(&ports, "aiko", &third), Told::Refused(ErrorCode::ConversationBusy));
    ports.clock.advance(1);
    assert_eq!(say(&ports, "aiko", &third), Told::Frames, "whoever finds it ends it, and goes on");

    let ended = ports.run(ports.turns.turn(&lost.request.turn_id)).unwrap().unwrap().unwrap();
    assert_eq!((ended.state(), ended.journal.epoch), (TurnState::Failed, 2));
    assert_eq!(ended.journal.answer(), "One ", "what was durable is kept");
    let prompt = &ports.model.asked()[2].1;
    assert!(prompt.messages.iter().any(|message| message.text == "One "), "and the next prompt knows of it");
}

#[test]
fn a_resend_ends_a_turn_that_lost_its_owner() {
    for (died_after, continues) in [("turns.record", false), ("turns.journal", true)] {
        let (ports, second) = abandoned_after(died_after);
        ports.clock.advance(LEASE_MS);
        let asked = ports.model.asked().len();
        assert_eq!(world::say(&ports, "aiko", &second, "b"), Some(Told::Frames));
        let frames = ports.sender.inner.frames(&samples::connection("b"));
        let started = frames.iter().rfind(|frame| frame["type"] == "turn.started").unwrap();
        assert_eq!((&started["epoch"], &started["data"]["continues"]), (&2.into(), &continues.into()));
        let last = frames.last().unwrap();
        assert_eq!((&last["type"], &last["epoch"]), (&"turn.failed".into(), &2.into()));
        assert_eq!(ports.model.asked().len(), asked, "nothing is answered twice");
    }
}

#[test]
fn a_lock_without_a_turn_lapses_with_its_lease() {
    let ports = InMemory::new();
    let second = opened(&ports);
    ports.faults.restart();
    // Turn and conversation are read, then the lock is taken.
    ports.faults.plan(2, Fault::CrashAfter);
    assert_eq!(world::say(&ports, "aiko", &second, "a"), None);
    ports.faults.restart();
    let locked = ports
        .run(ports.turns.conversation(second.conversation_id.as_ref().unwrap(), 1))
        .unwrap()
        .unwrap()
        .unwrap()
        .0
        .lock
        .expect("locked");
    ports.clock.advance_to(locked.lease_until - 1);
    assert_eq!(say(&ports, "aiko", &second), Told::Refused(ErrorCode::ConversationBusy));
    ports.clock.advance(1);
    assert_eq!(say(&ports, "aiko", &second), Told::Frames);
}
