//! After everything that went wrong: the world runs idle, clients come back, and everything is as if nothing had happened.

use std::collections::BTreeSet;

use domain::ids::ConversationId;
use domain::limits::{LEASE_MS, TAKEOVER_MARGIN_MS};
use domain::turn::StoredTurn;
use serde_json::{Value, json};

use crate::invariants;
use crate::model::Mood;
use crate::stores::Stores;
use crate::world::{Message, World, message};

/// The longest time that may pass before nothing happens any more, ms: a turn ends within half an hour, and its last
/// tasks wait for less than as much again.
const IDLE_MS_MAX: u64 = 90 * 60_000;

/// What a busy conversation asks clients to wait, ms.
const RETRY_AFTER_MS: u64 = 1_000;

/// A replay of a turn that had many owners may take this long, ms.
const REPLAY_MS_MAX: u64 = 10_000;

/// Numbers of the messages that are sent last.
const LAST: u128 = 1_000;

/// Lets the world come to rest, and checks everything that was promised about these messages.
///
/// # Panics
/// When a promise is broken.
pub fn settle<S: Stores>(world: &mut World<S>, messages: &[Message]) {
    world.note("--- the world is well again");
    world.lambda.forget_accidents();
    world.lambda.model.clear_moods_once();
    world.lambda.model.set_mood(Mood::well(50));
    for tab in 0..world.tabs.len() {
        world.lose_frames(tab, 0);
    }
    world.lambda.start_event_sources();
    world.run_until_idle(IDLE_MS_MAX);
    // Whatever was replayed too often before may be replayed again.
    world.run_for(60_000);
    come_back(world);
    for message in messages {
        if world.stored(&world.turn_id(message)).is_none() {
            is_accepted_now(world, message);
        }
    }
    invariants::hold(world, messages);
    for tab in 0..world.tabs.len() {
        shows_what_is_stored(world, tab);
    }
    another_tab_shows_the_same(world, messages);
    let next = next_messages_work(world, messages);
    invariants::hold(world, &next);
}

/// Every tab comes online and resumes what it has open.
fn come_back<S: Stores>(world: &mut World<S>) {
    for tab in 0..world.tabs.len() {
        if !world.tabs[tab].is_online() {
            world.connect(tab);
        }
        let open = world.tabs[tab].views().filter(|(_, view)| !view.has_ended());
        let open: Vec<_> = open.map(|(turn, _)| turn.clone()).collect();
        for turn in open {
            world.resume(tab, &turn);
            world.run_for(2_000);
        }
    }
    world.run_until_idle(IDLE_MS_MAX);
}

/// A message that was not accepted is when it is sent again: at the latest when the lease under which it was locked has
/// lapsed.
fn is_accepted_now<S: Stores>(world: &mut World<S>, message: &Message) {
    let until = world.now() + LEASE_MS + TAKEOVER_MARGIN_MS;
    while world.tabs[0].accepted(message.id).is_none() && world.now() <= until + RETRY_AFTER_MS {
        world.send(0, message);
        world.run_for(RETRY_AFTER_MS);
    }
    world.run_until_idle(IDLE_MS_MAX);
    let turn = world.turn_id(message);
    assert!(
        world.stored(&turn).is_some() && world.tabs[0].accepted(message.id).is_some(),
        "I1: {:?} was not accepted, and is not when it is sent again: {:?}",
        message.text,
        world.tabs[0].errors().last()
    );
}

/// I4: who has resumed has what is stored.
fn shows_what_is_stored<S: Stores>(world: &World<S>, tab: usize) {
    for (id, view) in world.tabs[tab].views() {
        let turn = world.stored(id).expect("a turn that was shown is stored");
        assert_eq!(view.shown(), invariants::shown(&turn), "I4: tab {tab} does not show {id} as it is stored");
    }
}

/// I3: a tab that knows nothing sends everything again, and has the stored turns; other texts are refused.
fn another_tab_shows_the_same<S: Stores>(world: &mut World<S>, messages: &[Message]) {
    world.reload(0);
    for message in messages {
        let id = world.turn_id(message);
        let turn = world.stored(&id).expect("checked before");
        world.send_with_text(0, message, &turn.request.text);
        world.run_for(REPLAY_MS_MAX);
        let accepted = world.tabs[0].accepted(message.id);
        assert_eq!(accepted, Some(&(id.clone(), true)), "I3: {:?} is not a duplicate", message.text);
        let view = world.tabs[0].view(&id).expect("it was accepted");
        assert_eq!(view.shown(), invariants::shown(&turn), "I3: {id} is not replayed as it is stored");

        world.send_with_text(0, message, &format!("not {}", turn.request.text));
        world.run_for(2_000);
        let refused = world.tabs[0].errors().last().map(|error| error["code"].clone());
        assert_eq!(refused, Some(json!("idempotency_mismatch")), "I3: {id} takes another text");
    }
}

/// Every conversation takes its next message, and its history has every answer.
fn next_messages_work<S: Stores>(world: &mut World<S>, messages: &[Message]) -> Vec<Message> {
    let mut all = messages.to_vec();
    for (conversation, number) in conversations(world, messages).into_iter().zip(LAST..) {
        let next = message(number, Some(conversation.clone()));
        world.send(0, &next);
        world.run_until_idle(IDLE_MS_MAX);
        let view = world.tabs[0].view(&world.turn_id(&next));
        let end = view.and_then(|view| view.shown().end).map(|(end, _)| end);
        assert_eq!(end.as_deref(), Some("turn.completed"), "{conversation} does not answer its next message");
        all.push(next);

        world.frame(0, &json!({"action": "history.list", "conversation_id": conversation, "limit": 50}));
        world.run_for(2_000);
        let page = world.tabs[0].history().expect("history was answered").clone();
        let mut expected: Vec<StoredTurn> = all
            .iter()
            .map(|message| world.stored(&world.turn_id(message)).expect("checked before"))
            .filter(|turn| turn.request.conversation_id == conversation)
            .collect();
        expected.sort_by_key(|turn| turn.request.number);
        let expected: Vec<Value> = expected
            .iter()
            .map(|turn| {
                let shown = invariants::shown(turn);
                json!({"text": turn.request.text, "answer": shown.text, "cards": shown.cards, "state": turn.state()})
            })
            .collect();
        let listed: Vec<Value> = page["turns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|turn| {
                let cards = turn["cards"].as_array().unwrap().iter().map(|card| card["data"].clone());
                let cards: Vec<Value> = cards.collect();
                json!({"text": turn["text"], "answer": turn["answer"], "cards": cards, "state": turn["state"]})
            })
            .collect();
        assert_eq!(listed, expected, "I4: the history of {conversation} is not what its clients show");
    }
    all
}

fn conversations<S: Stores>(world: &World<S>, messages: &[Message]) -> BTreeSet<ConversationId> {
    messages
        .iter()
        .map(|message| world.stored(&world.turn_id(message)).expect("checked before").request.conversation_id)
        .collect()
}
