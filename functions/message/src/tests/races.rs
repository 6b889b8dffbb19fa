//! Several invocations at once, in one environment or many.

use aws_adapters::Adapters;
use domain::ids::{ConversationId, TurnId};
use domain::limits::LEASE_MS;
use domain::ports::{Clock as _, LockOutcome, LockRequest, TurnStore as _};
use domain::protocol::TurnState;
use futures_util::future::join_all;
use futures_util::join;
use serde_json::{Value, json};
use testkit::{Fault, InMemory, START_MS, samples};

use super::{Client, Held, LAPSED_MS, World, check_held, in_conversation, message, types};
use crate::Message;

const PIECES: [&str; 12] =
    ["one ", "two ", "three ", "four ", "five ", "six ", "seven ", "eight ", "nine ", "ten ", "eleven ", "twelve"];

/// The codes of the errors and the `duplicate`s of the acceptances that a connection got.
fn verdicts(client: &Client<'_>) -> Vec<String> {
    let told = |frame: &Value| {
        let data = &frame["data"];
        Some(match frame["type"].as_str()? {
            "message.accepted" if data["duplicate"] == true => "duplicate".to_owned(),
            "message.accepted" => "accepted".to_owned(),
            "error" => data["code"].as_str()?.to_owned(),
            _ => return None,
        })
    };
    client.frames().iter().filter_map(told).collect()
}

fn check_one_turn(world: &World, case: &str) {
    let turn = world.the_turn();
    assert_ne!(turn.state(), TurnState::Running, "{case}");
    let list = json!({ "action": "history.list", "conversation_id": turn.request.conversation_id });
    let page = &world.shopper("aiko", "history").ask(list)[0]["data"];
    assert_eq!(page["turns"].as_array().unwrap().len(), 1, "{case}");
    assert_eq!(page["turns"][0]["turn_id"], json!(turn.request.turn_id), "{case}");
}

#[test]
fn one_message_sent_twice_at_once_is_one_turn() {
    for after_ms in 0..60 {
        let case = format!("{after_ms} ms apart");
        let world = World::talking(&PIECES);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        world.run(async {
            join!(aiko.invoke(message(1, "question")), world.after(after_ms, tab.invoke(message(1, "question"))))
        });
        let verdicts = [verdicts(&aiko), verdicts(&tab)].map(|verdicts| verdicts.join(" "));
        assert_eq!(verdicts[0], "accepted", "{case}");
        assert!(["duplicate", "conversation_busy"].contains(&verdicts[1].as_str()), "{case}: {verdicts:?}");
        check_one_turn(&world, &case);
        assert_eq!(Held::of(&aiko.frames()).text(), PIECES.concat(), "{case}");
    }
}

/// As above, with a call that fails or whose acknowledgement is lost, or both processes dying, at every effect. Whatever
/// each is told, there is one turn, and who sends the message again sees it.
#[test]
fn one_message_sent_twice_at_once_is_one_turn_whatever_fails() {
    for after_ms in [0, 5, 25] {
        let send_twice = |faults: Option<(usize, Fault)>| {
            let world = World::talking(&PIECES[..4]);
            {
                let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
                if let Some((effect, fault)) = faults {
                    world.ports.faults.plan(effect, fault);
                }
                let both = async {
                    join!(
                        aiko.invoke(message(1, "question")),
                        world.after(after_ms, tab.invoke(message(1, "question")))
                    )
                };
                world.ports.run(both);
            }
            world
        };
        let effects = send_twice(None).ports.faults.effects();
        for (number, effect) in effects.iter().enumerate() {
            for fault in [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter] {
                let case = format!("{after_ms} ms apart, {fault:?} of {number}, {}", effect.name);
                let world = send_twice(Some((number, fault)));
                world.ports.faults.restart();
                world.ports.clock.advance_to(LAPSED_MS + LEASE_MS);
                let back = world.shopper("aiko", "three");
                back.ask(message(1, "question"));
                check_one_turn(&world, &case);

                check_held(&back.frames(), &world.the_turn(), &case);
                let told = ["one", "two"].map(|connection| verdicts(&world.shopper("aiko", connection)));
                let accepted = told.iter().flatten().filter(|verdict| *verdict == "accepted").count();
                assert!(accepted + usize::from(verdicts(&back) == ["accepted"]) <= 1, "{case}: {told:?}");
                for verdict in told.iter().flatten() {
                    let expected = ["accepted", "duplicate", "conversation_busy", "unavailable"];
                    assert!(expected.contains(&verdict.as_str()), "{case}: {verdict}");
                }
            }
        }
    }
}

/// The same message, once with the conversation it belongs to and once without: the two lock different conversations.
#[test]
fn one_message_sent_to_two_conversations_is_one_turn_and_holds_neither() {
    for after_ms in 0..60 {
        let world = World::talking(&PIECES[..2]);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let conversation = aiko.ask(message(1, "question"))[0]["conversation_id"].clone();
        let named = in_conversation(message(2, "question"), &conversation);
        world.run(async { join!(aiko.invoke(named), world.after(after_ms, tab.invoke(message(2, "question")))) });
        assert_eq!(world.ports.turns.inner.all_turns().len(), 2);
        let next = tab.ask(in_conversation(message(3, "question"), &conversation));
        assert_eq!(next[0]["type"], "message.accepted", "{after_ms} ms apart");
        let opened = samples::session_key().conversation_id(&aiko.principal, samples::client_message_id(2));
        let stored = world.run(world.ports.turns.inner.conversation(&opened, 0)).unwrap();
        assert!(stored.is_none_or(|(conversation, _)| conversation.lock.is_none()), "{after_ms} ms apart");
    }
}

/// As above with another text, which is refused and holds nothing either.
#[test]
fn one_id_sent_to_two_conversations_with_two_texts_holds_neither() {
    for after_ms in 0..60 {
        let case = format!("{after_ms} ms apart");
        let world = World::talking(&PIECES[..2]);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let one = aiko.ask(message(1, "question"))[0]["conversation_id"].clone();
        let two = aiko.ask(message(2, "question"))[0]["conversation_id"].clone();
        let (first, second) =
            (in_conversation(message(3, "a text"), &one), in_conversation(message(3, "another"), &two));
        world.run(async { join!(aiko.invoke(first), world.after(after_ms, tab.invoke(second))) });
        assert_eq!(world.ports.turns.inner.all_turns().len(), 3, "{case}");
        for (number, conversation) in [(4, &one), (5, &two)] {
            let next = tab.ask(in_conversation(message(number, "question"), conversation));
            assert_eq!(next[0]["type"], "message.accepted", "{case}");
        }
    }
}

/// What a process that died between losing the race and giving the lock back leaves behind.
#[test]
fn a_lock_for_a_turn_of_another_conversation_holds_nobody_up() {
    let world = World::talking(&PIECES[..2]);
    let aiko = world.shopper("aiko", "one");
    let elsewhere = aiko.ask(message(1, "question"))[0]["turn_id"].clone();
    let conversation = aiko.ask(message(2, "question"))[0]["conversation_id"].clone();
    let left_behind = LockRequest {
        conversation_id: ConversationId::parse(conversation.as_str().unwrap()).unwrap(),
        owner: aiko.principal.clone(),
        turn_id: TurnId::parse(elsewhere.as_str().unwrap()).unwrap(),
        number: 2,
        replaces: None,
        lease_until: world.ports.clock.now_ms() + LEASE_MS,
        attempt: "lost".to_owned(),
        now: world.ports.clock.now_ms(),
    };
    assert_eq!(world.run(world.ports.turns.inner.lock(&left_behind)).unwrap(), LockOutcome::Locked);
    let next = aiko.ask(in_conversation(message(3, "question"), &conversation));
    assert_eq!(next[0]["type"], "message.accepted");
}

#[test]
fn a_conversation_takes_one_message_at_a_time() {
    for after_ms in 0..60 {
        let case = format!("{after_ms} ms apart");
        let world = World::talking(&PIECES);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let conversation = aiko.ask(message(1, "question"))[0]["conversation_id"].clone();
        let second = |number| in_conversation(message(number, "another question"), &conversation);
        world.run(async { join!(aiko.invoke(second(2)), world.after(after_ms, tab.invoke(second(3)))) });
        assert_eq!(verdicts(&aiko), ["accepted", "accepted"], "{case}");
        assert_eq!(verdicts(&tab), ["conversation_busy"], "{case}");
        let refusal = &tab.frames()[0]["data"];
        assert_eq!(refusal["retryable"], true);
        assert_eq!(refusal["client_message_id"], json!(samples::client_message_id(3)));
        assert_eq!(world.ports.turns.inner.all_turns().len(), 2, "{case}: what was refused left nothing");

        assert_eq!(tab.ask(second(3))[0]["data"]["duplicate"], false, "it is taken when it is sent again");
    }
}

#[test]
fn an_environment_serves_many_invocations_at_once() {
    fn send(_: impl Send) {}
    fn shared<T: Send + Sync>() {}
    shared::<Message<InMemory>>();
    shared::<Message<Adapters>>();

    let alone = World::talking(&PIECES);
    alone.shopper("aiko", "one").ask(message(1, "question"));
    let alone_ms = alone.ports.clock.now_ms() - START_MS;

    let world = World::talking(&PIECES);
    send(world.message.handle(world.shopper("aiko", "one").event("")));
    let clients: Vec<_> =
        (0..32).map(|number| world.shopper(&format!("shopper-{number}"), &number.to_string())).collect();
    let left = &clients[7];
    world.ports.sender.inner.hang_up_after(&left.connection, 2);
    world.run(join_all(clients.iter().map(|client| client.invoke(message(1, "question")))));

    assert_eq!(world.ports.clock.now_ms() - START_MS, alone_ms, "none waits for another");
    let mut conversations = Vec::new();
    for client in &clients {
        let frames = client.frames();
        let conversation = frames[0]["conversation_id"].as_str().unwrap().to_owned();
        assert!(frames.iter().all(|frame| frame["conversation_id"] == conversation), "nothing of the others' turns");
        conversations.push(conversation);
        if client.connection == left.connection {
            assert_eq!(frames.len(), 2);
            continue;
        }
        assert_eq!((verdicts(client), types(&frames).last()), (vec!["accepted".to_owned()], Some(&"turn.completed")));
        assert_eq!(Held::of(&frames).text(), PIECES.concat());
    }
    conversations.sort();
    conversations.dedup();
    assert_eq!(conversations.len(), 32);
}
