//! How much a principal may ask, and how long a conversation gets.

use domain::ids::{ConversationId, Principal};
use domain::limits::{
    CONVERSATION_TURNS_MAX, GUEST_MESSAGES_PER_MINUTE, REPLAYS_PER_MINUTE, SHOPPER_MESSAGES_PER_MINUTE,
};
use domain::ports::{Clock as _, LockOutcome, LockRequest, TurnStore as _};
use domain::protocol::TurnState;
use futures_util::join;
use serde_json::{Value, json};
use testkit::{Step, samples};

use super::{Client, World, asked, completed, in_conversation, message, resume, text, types};

const MINUTE_MS: u64 = 60_000;

/// The codes with which a client may be told to wait, and for how long.
fn wait(frames: &[Value]) -> (&Value, u64) {
    let error = &frames.last().unwrap()["data"];
    assert_eq!(error["retryable"], true, "{error}");
    (&error["code"], error["retry_after_ms"].as_u64().unwrap())
}

/// Sends messages that open conversations, each answered, until `count` were sent.
fn send_all(client: &Client<'_>, numbers: std::ops::Range<u128>) {
    for number in numbers {
        assert_eq!(client.ask(message(number, "question"))[0]["type"], "message.accepted", "message {number}");
    }
}

fn principals() -> [(Principal, u32); 2] {
    [(samples::shopper("aiko"), SHOPPER_MESSAGES_PER_MINUTE), (samples::guest("g-1"), GUEST_MESSAGES_PER_MINUTE)]
}

#[test]
fn a_principal_may_send_so_many_messages_a_minute() {
    for (principal, limit) in principals() {
        let world = World::new();
        let client = world.client(principal, "one");
        let token_ms = MINUTE_MS / u64::from(limit);
        let next = u128::from(limit);
        send_all(&client, 0..next);
        let refused = client.ask(message(next, "question"));
        assert_eq!((types(&refused), wait(&refused)), (vec!["error"], (&json!("rate_limited"), token_ms)));
        assert_eq!(refused[0]["data"]["client_message_id"], json!(samples::client_message_id(next)));

        // Exactly then, and not a millisecond sooner.
        world.ports.clock.advance(token_ms - 1);
        assert_eq!(wait(&client.ask(message(next, "question"))), (&json!("rate_limited"), 1));
        world.ports.clock.advance(1);
        assert_eq!(client.ask(message(next, "question"))[0]["type"], "message.accepted");
        assert_eq!(wait(&client.ask(message(next + 1, "question"))), (&json!("rate_limited"), token_ms));

        // Who waits a minute has them all again, and no more.
        world.ports.clock.advance(MINUTE_MS + token_ms);
        send_all(&client, next + 1..2 * next + 1);
        assert_eq!(client.refused(message(2 * next + 1, "question")), "rate_limited");
    }
}

#[test]
fn a_message_that_is_one_too_many_leaves_nothing() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    let count = u128::from(SHOPPER_MESSAGES_PER_MINUTE);
    send_all(&aiko, 0..count);
    world.ports.faults.restart();
    aiko.refused(message(count, "question"));
    for write in ["turns.lock", "turns.record", "turns.journal", "turns.release", "buckets.take", "queues.send"] {
        assert_eq!(world.effects(write), 0, "{write}: it costs reads alone");
    }
    assert_eq!(world.ports.turns.inner.all_turns().len(), SHOPPER_MESSAGES_PER_MINUTE as usize);
}

#[test]
fn a_limit_is_the_principals_on_all_its_connections() {
    let world = World::new();
    let (one, two) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    let half = u128::from(SHOPPER_MESSAGES_PER_MINUTE / 2);
    send_all(&one, 0..half);
    send_all(&two, half..2 * half);
    for client in [&one, &two] {
        assert_eq!(client.refused(message(99, "question")), "rate_limited");
    }
    for principal in [samples::shopper("ben"), samples::guest("aiko")] {
        assert_eq!(world.client(principal, "three").ask(message(99, "question"))[0]["type"], "message.accepted");
    }
}

/// Sending again is how a client makes sure: it costs no message, and is possible without one.
#[test]
fn a_resend_costs_no_message() {
    let world = World::new();
    let aiko = world.shopper("aiko", "one");
    let count = u128::from(SHOPPER_MESSAGES_PER_MINUTE);
    send_all(&aiko, 0..1);
    for _ in 0..5 {
        assert_eq!(aiko.ask(message(0, "question"))[0]["data"]["duplicate"], true);
    }
    send_all(&aiko, 1..count);
    assert_eq!(aiko.refused(message(count, "question")), "rate_limited");
    assert_eq!(aiko.ask(message(0, "question"))[0]["data"]["duplicate"], true);
}

#[test]
fn a_message_that_must_wait_for_another_costs_nothing() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    let aiko = world.shopper("aiko", "one");
    for number in 0..u128::from(2 * SHOPPER_MESSAGES_PER_MINUTE) {
        let busy = aiko.ask(in_conversation(message(number, "question"), &json!("c-1")));
        assert_eq!(wait(&busy).0, "conversation_busy");
    }
    send_all(&aiko, 0..u128::from(SHOPPER_MESSAGES_PER_MINUTE));
}

#[test]
fn turns_are_shown_again_so_many_times_a_minute() {
    let world = World::new();
    let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
    send_all(&aiko, 0..1);
    let turn = world.the_turn();
    let again = [message(0, "question"), resume(&turn.request.turn_id, 0, -1)];
    let token_ms = MINUTE_MS / u64::from(REPLAYS_PER_MINUTE);
    for (number, frame) in (0..REPLAYS_PER_MINUTE).zip(again.iter().cycle()) {
        assert_eq!(types(&aiko.ask(frame.clone())).last(), Some(&"turn.completed"), "replay {number}");
    }
    for client in [&aiko, &tab] {
        for frame in &again {
            let refused = client.ask(frame.clone());
            assert_eq!((types(&refused), wait(&refused)), (vec!["error"], (&json!("rate_limited"), token_ms)));
            assert_eq!(refused[0]["data"]["action"], frame["action"]);
        }
    }
    world.ports.clock.advance(token_ms - 1);
    assert_eq!(aiko.refused(again[1].clone()), "rate_limited");
    world.ports.clock.advance(1);
    assert_eq!(types(&aiko.ask(again[1].clone())).last(), Some(&"turn.completed"));
    assert_eq!(aiko.refused(again[0].clone()), "rate_limited");
    assert_eq!(world.shopper("ben", "three").refused(again[1].clone()), "not_found", "nobody else waits");
    assert_eq!(aiko.ask(message(1, "question"))[0]["type"], "message.accepted", "and messages are taken");
}

/// Two messages that open conversations, and one token.
#[test]
fn the_last_token_is_taken_once() {
    for after_ms in 0..60 {
        let case = format!("{after_ms} ms apart");
        let world = World::new();
        let (one, two) = (world.client(samples::guest("g-1"), "one"), world.client(samples::guest("g-1"), "two"));
        let count = u128::from(GUEST_MESSAGES_PER_MINUTE);
        send_all(&one, 0..count - 1);
        world.ports.turns.set_round_trip_ms(10);
        world.ports.buckets.set_round_trip_ms(14);
        world.ports.model.follow(Step::answer(["Read ", "this."], 20));
        world.run(async {
            join!(
                one.invoke(message(count, "question")),
                world.after(after_ms, two.invoke(message(count + 1, "question"))),
            )
        });
        let ends = [&one, &two].map(|client| client.frames().pop().unwrap()["type"].as_str().unwrap().to_owned());
        assert_eq!(ends.iter().filter(|end| *end == "turn.completed").count(), 1, "{case}: {ends:?}");
        let refused =
            [&one, &two].into_iter().find(|client| client.frames().last().unwrap()["type"] == "error").unwrap();
        let frames = refused.frames();
        assert_eq!(wait(&frames).0, "rate_limited", "{case}");
        assert!((1..=MINUTE_MS / u64::from(GUEST_MESSAGES_PER_MINUTE)).contains(&wait(&frames).1), "{case}");
        let ours = world.ports.turns.inner.all_turns();
        assert_eq!(ours.len() as u128, count, "{case}: what was refused left no record");
        assert!(ours.iter().all(|turn| turn.state() == TurnState::Completed), "{case}");

        // Nor does it hold the conversation it would have opened.
        world.ports.clock.advance(MINUTE_MS);
        let number = if refused.connection == one.connection { count } else { count + 1 };
        let conversation = samples::session_key().conversation_id(&one.principal, samples::client_message_id(number));
        let stored = world.run(world.ports.turns.inner.conversation(&conversation, 0)).unwrap();
        assert!(stored.is_none_or(|(conversation, _)| conversation.lock.is_none()), "{case}");
        assert_eq!(refused.ask(message(number, "question"))[0]["type"], "message.accepted", "{case}");
    }
}

/// A conversation of aiko's that has had so many turns, of which the last is stored.
pub(super) fn long_conversation(turns: u64) -> World {
    let world = World::new();
    let store = &world.ports.turns.inner;
    for number in 1..turns {
        let turn = asked(number, "question");
        let lock = LockRequest {
            conversation_id: turn.conversation_id.clone(),
            owner: turn.principal.clone(),
            turn_id: turn.turn_id.clone(),
            number,
            replaces: None,
            lease_until: turn.lease_until,
            attempt: turn.turn_id.to_string(),
            now: world.ports.clock.now_ms(),
        };
        assert_eq!(world.run(store.lock(&lock)).unwrap(), LockOutcome::Locked);
        world.run(store.release(&turn.conversation_id, &turn.turn_id)).unwrap();
    }
    let last = asked(turns, "question");
    world.begin_turn(&last);
    world.journal(&last, vec![text("answer"), completed()], true);
    world.conclude(&last);
    world
}

#[test]
fn a_conversation_has_an_end() {
    let world = long_conversation(CONVERSATION_TURNS_MAX - 1);
    let aiko = world.shopper("aiko", "one");
    let send = |number| in_conversation(message(number, "question"), &json!("c-1"));
    assert_eq!(types(&aiko.ask(send(1))).last(), Some(&"turn.completed"), "the last one");

    let [refused] = <[_; 1]>::try_from(aiko.ask(send(2))).unwrap();
    assert_eq!((&refused["data"]["code"], &refused["data"]["retryable"]), (&json!("forbidden"), &json!(false)));
    let turns = world.ports.turns.inner.all_turns().len();
    let conversation = ConversationId::parse("c-1").unwrap();
    let (stored, _) = world.run(world.ports.turns.inner.conversation(&conversation, 0)).unwrap().unwrap();
    assert_eq!((stored.turns, stored.lock), (CONVERSATION_TURNS_MAX, None), "what was refused left nothing");
    assert_eq!(aiko.ask(send(1))[0]["data"]["duplicate"], true, "what was answered is shown");
    assert_eq!(aiko.ask(message(2, "question"))[0]["type"], "message.accepted", "in another conversation");
    assert_eq!(world.ports.turns.inner.all_turns().len(), turns + 1);
}
