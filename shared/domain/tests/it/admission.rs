//! What becomes a turn, and what is refused.

use domain::ids::{ConversationId, TurnId};
use domain::lease::Moment;
use domain::limits::{CONVERSATION_TURNS_MAX, LEASE_MS, REPLAYS_PER_MINUTE, TAKEOVER_MARGIN_MS};
use domain::ports::{Clock as _, HeldLock, LockRequest, Task, TurnStore as _};
use domain::protocol::{ErrorCode, MessageContext, MessageSend, TurnState};
use domain::turn::{Hold, Phase};
use futures_util::future::join_all;
use futures_util::join;
use testkit::{Fault, InMemory, Step, samples};

use crate::world::{self, Told, names, positions, resume, send, tasks, the_turn, wait, worker};

fn refused(code: ErrorCode) -> Told {
    Told::Refused(code.into())
}

fn say(ports: &InMemory, who: &str, sent: &MessageSend) -> Told {
    world::say(ports, who, sent, "a").expect("no crash was planned")
}

/// Aiko's first message, answered; the next is to continue its conversation.
fn opened(ports: &InMemory) -> MessageSend {
    assert_eq!(say(ports, "aiko", &samples::message(1, "A pirate story?")), Told::Frames);
    let conversation_id = Some(the_turn(ports).request.conversation_id);
    MessageSend { conversation_id, ..samples::message(2, "A cooking manga?") }
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
    assert_eq!(messages[..2], ["A pirate story?", "Here you are."]);
}

#[test]
fn a_message_id_stands_for_one_text_and_one_product() {
    let ports = InMemory::new();
    opened(&ports);
    let mismatch = refused(ErrorCode::IdempotencyMismatch);
    assert_eq!(say(&ports, "aiko", &samples::message(1, "Another.")), mismatch);
    let context = Some(MessageContext { product_id: Some(samples::product_id("one-1")) });
    assert_eq!(say(&ports, "aiko", &MessageSend { context, ..samples::message(1, "A pirate story?") }), mismatch);
    assert_eq!(say(&ports, "aiko", &samples::message(1, "A pirate story?")), Told::Frames);
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
    assert_eq!(say(&ports, "ben", &second), refused(ErrorCode::NotFound));
    let conversation_id = ConversationId::parse("c_nobody");
    let nowhere = MessageSend { conversation_id, ..samples::message(3, "Hello.") };
    assert_eq!(say(&ports, "aiko", &nowhere), refused(ErrorCode::NotFound));
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
        wait(&ports, 1_000).await;
        send(&ports, &aiko, &third, &b).await
    };
    let told = ports.run(async { join!(send(&ports, &aiko, &second, &a), impatient) }).unwrap();
    assert_eq!(told, (Told::Frames, refused(ErrorCode::ConversationBusy)));
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
        ports.model.follow(Step::answer(["Alpha ", "beta."], 300));
        let sent = samples::message(1, "A pirate story?");
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
    let script = || Step::answer(["Alpha ", "beta ", "gamma."], 600);
    let second = opened(&rehearsal);
    rehearsal.faults.restart();
    rehearsal.model.follow(script());
    say(&rehearsal, "aiko", &second);
    let died_at = positions(&names(&rehearsal), effect)[0];

    let ports = InMemory::new();
    let second = opened(&ports);
    ports.faults.restart();
    ports.model.follow(script());
    ports.faults.plan(died_at, Fault::CrashAfter);
    assert_eq!(world::say(&ports, "aiko", &second, "a"), None);
    ports.faults.restart();
    (ports, second)
}

fn is_asked_to_finish(ports: &InMemory, turn: &TurnId) -> bool {
    tasks(ports).contains(&Task::Finish { turn_id: turn.clone(), epoch: 1 })
}

#[test]
fn a_turn_that_lost_its_owner_keeps_the_conversation_until_it_is_finished() {
    for (died_after, said) in [("turns.record", ""), ("turns.journal", "Alpha ")] {
        let (ports, second) = abandoned_after(died_after);
        let third = MessageSend { client_message_id: samples::client_message_id(3), ..second.clone() };
        let turns = ports.turns.inner.all_turns();
        let lost = turns.iter().find(|turn| turn.state() == TurnState::Running).unwrap();
        assert_eq!(
            (lost.journal.answer().as_str(), lost.request.lease_until),
            (said, lost.request.asked_at + LEASE_MS)
        );
        let until = match lost.journal.hold {
            None => lost.request.lease_until,
            Some(Hold::Leased { until }) => until,
            Some(Hold::Queued { .. }) => panic!("nobody queued it"),
        };
        assert!(said.is_empty() || until > lost.request.lease_until, "the first write renews the lease");
        let lapses_at = until + TAKEOVER_MARGIN_MS;

        ports.clock.advance_to(lapses_at - 1);
        assert_eq!(say(&ports, "aiko", &third), refused(ErrorCode::ConversationBusy));
        assert!(!is_asked_to_finish(&ports, &lost.request.turn_id), "its owner may live");
        ports.clock.advance(1);
        assert_eq!(say(&ports, "aiko", &third), refused(ErrorCode::ConversationBusy));
        assert!(is_asked_to_finish(&ports, &lost.request.turn_id), "whoever finds it has it finished");

        ports.run(worker(&ports));
        let ended = ports.run(ports.turns.turn(&lost.request.turn_id)).unwrap().unwrap().unwrap();
        assert_eq!((ended.state(), ended.epoch()), (TurnState::Completed, 2));
        assert_eq!(ended.journal.answer(), "Alpha beta gamma.");
        assert_eq!(say(&ports, "aiko", &third), Told::Frames, "free again");
        let asked = ports.model.asked();
        let prompt = &asked.last().unwrap().1;
        assert!(
            prompt.messages.iter().any(|message| message.text == "Alpha beta gamma."),
            "the next prompt knows of it"
        );
    }
}

#[test]
fn a_resend_continues_a_turn_that_lost_its_owner() {
    for died_after in ["turns.record", "turns.journal"] {
        let (ports, second) = abandoned_after(died_after);
        let lost = ports.turns.inner.all_turns().into_iter().find(|turn| turn.state() == TurnState::Running).unwrap();
        let Phase::Live { until } = lost.phase(ports.clock.now_ms()) else { panic!("its lease goes on") };
        ports.clock.advance_to(until);
        assert_eq!(world::say(&ports, "aiko", &second, "b"), Some(Told::Frames));
        let frames = ports.sender.inner.frames(&samples::connection("b"));
        assert_eq!((&frames[0]["type"], &frames[0]["data"]["duplicate"]), (&"message.accepted".into(), &true.into()));
        let started = frames.iter().rfind(|frame| frame["type"] == "turn.started").unwrap();
        assert_eq!((&started["epoch"], &started["data"]["restarted"]), (&2.into(), &true.into()));
        let last = frames.last().unwrap();
        assert_eq!((&last["type"], &last["epoch"]), (&"turn.completed".into(), &2.into()));
    }
}

/// Aiko's conversation, and when the lock of a message that died with it leads to nothing.
fn locked_for_nothing(ports: &InMemory, second: &MessageSend) -> HeldLock {
    let names = {
        let rehearsal = InMemory::new();
        let second = opened(&rehearsal);
        rehearsal.faults.restart();
        say(&rehearsal, "aiko", &second);
        names(&rehearsal)
    };
    ports.faults.restart();
    ports.faults.plan(positions(&names, "turns.lock")[0], Fault::CrashAfter);
    assert_eq!(world::say(ports, "aiko", second, "a"), None);
    ports.faults.restart();
    let found = ports.run(ports.turns.conversation(second.conversation_id.as_ref().unwrap(), 1)).unwrap();
    found.unwrap().unwrap().0.lock.expect("locked")
}

#[test]
fn a_lock_without_a_turn_lapses_with_its_lease() {
    let ports = InMemory::new();
    let second = opened(&ports);
    let third = MessageSend { client_message_id: samples::client_message_id(3), ..second.clone() };
    let lock = locked_for_nothing(&ports, &second);
    assert_eq!(lock.lease_until, ports.clock.now_ms() + LEASE_MS);
    ports.clock.advance_to(lock.lease_until + TAKEOVER_MARGIN_MS - 1);
    assert_eq!(say(&ports, "aiko", &third), refused(ErrorCode::ConversationBusy));
    ports.clock.advance(1);
    assert_eq!(say(&ports, "aiko", &third), Told::Frames);
    assert_eq!(say(&ports, "aiko", &second), Told::Frames);
    assert_eq!(ports.turns.inner.all_turns().len(), 3);
}

/// That attempt may be under way yet: freed too soon, the conversation would take another message beside it.
#[test]
fn the_lock_that_an_attempt_left_lapses_for_the_same_message_too() {
    let ports = InMemory::new();
    let second = opened(&ports);
    let lock = locked_for_nothing(&ports, &second);
    ports.clock.advance_to(lock.lease_until + TAKEOVER_MARGIN_MS - 1);
    assert_eq!(say(&ports, "aiko", &second), refused(ErrorCode::ConversationBusy));
    ports.clock.advance(1);
    assert_eq!(say(&ports, "aiko", &second), Told::Frames);
    let turns = ports.turns.inner.all_turns();
    let turn = turns.iter().find(|turn| turn.request.text == second.text).unwrap();
    let found = ports.run(ports.turns.conversation(&turn.request.conversation_id, 9)).unwrap().unwrap();
    let (conversation, exchanges) = found.unwrap();
    assert_eq!((conversation.lock, exchanges.first()), (None, turn.exchange().as_ref()));
}

#[test]
fn a_lock_whose_acknowledgement_was_lost_is_found_again() {
    let ports = InMemory::new();
    let second = opened(&ports);
    let request = LockRequest {
        conversation_id: second.conversation_id.unwrap(),
        owner: samples::shopper("aiko"),
        turn_id: TurnId::parse("t-2").unwrap(),
        number: 2,
        replaces: None,
        lease_until: Moment::now(&ports.clock).lease_until(),
        attempt: "attempt".to_owned(),
        now: ports.clock.now_ms(),
    };
    let lock = |request: &LockRequest| ports.run(ports.turns.inner.lock(request)).unwrap().unwrap();
    let first = lock(&request);
    assert_eq!(lock(&request), first, "the same attempt");
    assert_ne!(lock(&LockRequest { attempt: "another".to_owned(), ..request }), first);
}

#[test]
fn a_conversation_has_so_many_turns() {
    for (had, outcome) in
        [(CONVERSATION_TURNS_MAX - 1, Told::Frames), (CONVERSATION_TURNS_MAX, refused(ErrorCode::Forbidden))]
    {
        let ports = InMemory::new();
        let next = opened(&ports);
        let conversation_id = next.conversation_id.clone().unwrap();
        for number in 2..=had {
            let turn_id = TurnId::parse(&format!("t-{number}")).unwrap();
            let request = LockRequest {
                conversation_id: conversation_id.clone(),
                owner: samples::shopper("aiko"),
                turn_id: turn_id.clone(),
                number,
                replaces: None,
                lease_until: ports.clock.now_ms(),
                attempt: number.to_string(),
                now: ports.clock.now_ms(),
            };
            ports.run(ports.turns.inner.lock(&request)).unwrap().unwrap();
            ports.run(ports.turns.inner.release(&conversation_id, &turn_id)).unwrap().unwrap();
        }
        ports.faults.restart();
        assert_eq!(say(&ports, "aiko", &next), outcome, "after {had} turns");
        let had_locks = positions(&names(&ports), "turns.lock").len();
        assert_eq!(had_locks, usize::from(outcome == Told::Frames), "a refusal writes nothing");
        assert_eq!(
            say(&ports, "aiko", &samples::message(1, "A pirate story?")),
            Told::Frames,
            "what was said can be seen"
        );
    }
}

#[test]
fn a_turn_is_shown_again_so_often_a_minute() {
    let ports = InMemory::new();
    opened(&ports);
    let turn_id = the_turn(&ports).request.turn_id;
    let first = samples::message(1, "A pirate story?");
    for _ in 0..REPLAYS_PER_MINUTE / 2 {
        assert_eq!(say(&ports, "aiko", &first), Told::Frames);
        assert_eq!(ports.run(resume(&ports, &turn_id, "b", 0, -1)), Some(Told::Frames));
    }
    let shown = ports.sender.inner.sent().len();
    let Told::Refused(denial) = say(&ports, "aiko", &first) else { panic!("one too many") };
    assert_eq!(denial.code, ErrorCode::RateLimited);
    assert_eq!(ports.run(resume(&ports, &turn_id, "b", 0, -1)), Some(Told::Refused(denial)));
    assert_eq!(ports.sender.inner.sent().len(), shown, "nothing is shown");
    let second = MessageSend { client_message_id: samples::client_message_id(2), ..first.clone() };
    assert_eq!(say(&ports, "aiko", &second), Told::Frames, "messages have tokens of their own");

    ports.clock.advance(denial.retry_after_ms.unwrap() - 1);
    assert!(matches!(say(&ports, "aiko", &first), Told::Refused(_)));
    ports.clock.advance(1);
    assert_eq!(say(&ports, "aiko", &first), Told::Frames);
}

#[test]
fn a_resend_costs_no_message() {
    let ports = InMemory::new();
    opened(&ports);
    ports.faults.restart();
    assert_eq!(say(&ports, "aiko", &samples::message(1, "A pirate story?")), Told::Frames);
    assert!(!names(&ports).contains(&"turns.lock"));
    assert_eq!(positions(&names(&ports), "buckets.take").len(), 1, "of the replays");
    ports.faults.restart();
    assert_eq!(say(&ports, "aiko", &samples::message(1, "Another.")), refused(ErrorCode::IdempotencyMismatch));
    assert!(!names(&ports).contains(&"buckets.take"));
}
