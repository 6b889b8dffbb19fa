//! Handing a conversation to a person, and what is counted of turns.

use domain::answer::Workplace;
use domain::escalation::escalate;
use domain::ids::TurnId;
use domain::limits::ESCALATION_SUMMARY_CHARS_MAX;
use domain::ports::Escalation;
use domain::protocol::{Locale, MessageSend, TurnState};
use domain::turn::{Exchange, Past, Summary, TurnRequest};
use testkit::{Fault, InMemory, START_MS, Service, Step, samples};

use crate::client::read;
use crate::world::{
    Told, drain, dying_after, frames, lapse, names, positions, question, resume, say, send, stocked, take, the_turn,
};

const PERSON: &str = "I want to talk to a real person";

fn told(ports: &InMemory) -> Vec<Escalation> {
    ports.escalations.inner.all()
}

#[test]
fn the_people_of_the_store_are_told_who_waits_where_and_why() {
    let ports = stocked();
    assert_eq!(say(&ports, "aiko", &samples::message(1, "Hello!"), "a"), Some(Told::Frames));
    let conversation_id = Some(the_turn(&ports).request.conversation_id);
    let asks = MessageSend { conversation_id: conversation_id.clone(), ..samples::message(2, PERSON) };
    assert_eq!(say(&ports, "aiko", &asks, "a"), Some(Told::Frames));
    let [escalation] = <[_; 1]>::try_from(told(&ports)).unwrap();
    let turns = ports.turns.inner.all_turns();
    let turn = turns.iter().find(|turn| turn.request.text == PERSON).unwrap();
    assert_eq!(escalation.turn_id, turn.request.turn_id);
    assert_eq!(Some(escalation.conversation_id), conversation_id);
    assert_eq!((escalation.principal, escalation.locale), (samples::shopper("aiko"), Locale::En));
    assert_eq!(escalation.asked_at, turn.request.asked_at);
    let hello = "> Hello!\nHello! What kind of manga are you looking for? I can check your orders, too.";
    assert_eq!(escalation.summary, format!("{hello}\n> {PERSON}"));
    assert!(turn.journal.answer().contains("A person will get back to you"), "{}", turn.journal.answer());
    assert_eq!(ports.metrics.total("Escalations"), 1);

    assert_eq!(say(&ports, "aiko", &asks, "b"), Some(Told::Frames));
    ports.run(resume(&ports, &turn.request.turn_id, "c", 0, -1)).unwrap();
    ports.run(drain(&ports)).unwrap();
    assert_eq!((told(&ports).len(), ports.metrics.total("Escalations")), (1, 1), "once, however often it is shown");
}

#[test]
fn nobody_is_promised_a_person_whom_nobody_told() {
    let rehearsal = stocked();
    say(&rehearsal, "aiko", &samples::message(1, PERSON), "a");
    let at = positions(&names(&rehearsal), "escalations.escalate");
    assert_eq!(at.len(), 1, "once a turn");
    for fault in [Fault::FailBefore, Fault::FailAfter] {
        let ports = stocked();
        ports.faults.plan(at[0], fault);
        assert_eq!(say(&ports, "aiko", &samples::message(1, PERSON), "a"), Some(Told::Frames));
        let text = read(&frames(&ports, "a")).text;
        assert!(text.contains(&samples::pages().contact()) && !text.contains("will get back"), "{text}");
        assert_eq!((the_turn(&ports).state(), ports.metrics.total("Escalations")), (TurnState::Completed, 0));
    }
}

#[test]
fn only_who_asks_for_a_person_is_passed_on() {
    for text in ["Hmm?", "Hello!", "Where is my order?", "Any sale today?"] {
        let ports = stocked();
        say(&ports, "aiko", &samples::message(1, text), "a");
        assert_eq!(told(&ports), [], "{text}");
    }
}

#[test]
fn a_takeover_tells_again_under_the_same_name() {
    let world = stocked();
    let owner = world.process();
    owner.escalations.set_round_trip_ms(1_000);
    let (aiko, sent, from) = (samples::shopper("aiko"), samples::message(1, PERSON), samples::connection("a"));
    world.clock.block_on(dying_after(&world, 700, send(&owner, &aiko, &sent, &from)));
    assert_eq!(
        (told(&world).len(), the_turn(&world).state()),
        (1, TurnState::Running),
        "told, and dead before it knew"
    );
    lapse(&world);
    world.run(take(&world, Workplace::Message)).unwrap().unwrap();
    let [first, again] = <[_; 2]>::try_from(told(&world)).unwrap();
    assert_eq!(first, again);
    assert_eq!((the_turn(&world).state(), the_turn(&world).epoch()), (TurnState::Completed, 2));
    assert!(the_turn(&world).journal.answer().contains("will get back"));
}

/// The request of a turn that asks this.
fn request(text: &str) -> TurnRequest {
    let ports = stocked();
    say(&ports, "aiko", &samples::message(1, PERSON), "a");
    TurnRequest { text: text.to_owned(), ..the_turn(&ports).request }
}

/// What the people of the store are told of a conversation.
fn summary(text: &str, past: &Past) -> String {
    let ports = stocked();
    assert!(ports.run(escalate(&ports, &request(text), past)).unwrap());
    let summary = told(&ports).remove(0).summary;
    assert!(summary.chars().count() <= ESCALATION_SUMMARY_CHARS_MAX, "{} characters", summary.chars().count());
    summary
}

fn exchange(number: u64, question: &str, answer: &str) -> Exchange {
    Exchange {
        number,
        turn_id: TurnId::parse(&format!("t-{number}")).unwrap(),
        asked_at: START_MS,
        question: question.to_owned(),
        answer: answer.to_owned(),
        state: TurnState::Completed,
    }
}

#[test]
fn a_long_question_is_cut_to_the_limit() {
    let room = ESCALATION_SUMMARY_CHARS_MAX - "> ".len();
    for (chars, kept) in [(room, room), (room + 1, room)] {
        assert_eq!(summary(&"本".repeat(chars), &Past::default()), format!("> {}", "本".repeat(kept)));
    }
}

#[test]
fn of_a_long_conversation_the_newest_is_kept() {
    let question = format!("> {PERSON}");
    // Newest last, as they are told; newest first, as they are read.
    let newest = exchange(3, "Why?", "Because.");
    let room = ESCALATION_SUMMARY_CHARS_MAX - question.len() - "\n> Why?\nBecause.".len() - "\n> Q\n".len();
    for (chars, kept) in [(room, room), (room + 1, room)] {
        let older = exchange(2, "Q", &"答".repeat(chars));
        let oldest = exchange(1, "Forgotten?", "Yes.");
        for exchanges in
            [[newest.clone(), older.clone(), oldest.clone()], [oldest.clone(), newest.clone(), older.clone()]]
        {
            let text = Summary { through: 0, text: "They like pirates.".to_owned() };
            let past = Past { summary: Some(text), exchanges: exchanges.to_vec() };
            let told = summary(PERSON, &past);
            assert_eq!(told, format!("> Q\n{}\n> Why?\nBecause.\n{question}", "答".repeat(kept)));
        }
    }
    let past = Past {
        summary: Some(Summary { through: 1, text: "They like pirates.".to_owned() }),
        exchanges: vec![newest, exchange(2, "And?", "So.")],
    };
    let told = summary(PERSON, &past);
    assert_eq!(told, format!("They like pirates.\n> And?\nSo.\n> Why?\nBecause.\n{question}"), "all of it, if it fits");
}

#[test]
fn paths_and_intents_are_counted_once_a_turn() {
    for (text, path, intent) in [
        ("Hello!", "template", "chitchat"),
        ("Where is my order?", "services", "order_tracking"),
        ("A pirate story?", "llm", "product_discovery"),
        ("Hmm?", "llm", "unsure"),
    ] {
        let ports = stocked();
        let sent = samples::message(1, text);
        for connection in ["a", "b"] {
            assert_eq!(say(&ports, "aiko", &sent, connection), Some(Told::Frames));
        }
        assert_eq!((ports.metrics.total("Turns"), ports.metrics.total_of("Turns", path)), (1, 1), "{text}");
        assert_eq!((ports.metrics.total("Intents"), ports.metrics.total_of("Intents", intent)), (1, 1), "{text}");
        let first_tokens = ports.metrics.all().iter().filter(|measure| measure.name == "FirstToken").count();
        assert_eq!(first_tokens, 1, "{text}");
        assert_eq!(ports.metrics.total("ModelTokens"), if path == "llm" { 101 } else { 0 });
    }
}

#[test]
fn a_turn_that_is_taken_over_is_counted_once() {
    let world = stocked();
    world.model.follow_once(vec![Step::Say("Alpha ".to_owned()), Step::Silence]);
    let (aiko, from) = (samples::shopper("aiko"), samples::connection("a"));
    world.clock.block_on(dying_after(&world, 1_500, send(&world.process(), &aiko, &question(), &from)));
    lapse(&world);
    world.run(take(&world, Workplace::Message)).unwrap().unwrap();
    assert_eq!((the_turn(&world).state(), the_turn(&world).epoch()), (TurnState::Completed, 2));
    assert_eq!((world.metrics.total("Turns"), world.metrics.total("Intents")), (1, 1));

    let queued = stocked();
    queued.model.follow_once(vec![Step::Fail(testkit::ModelFailure::Unavailable)]);
    say(&queued, "aiko", &question(), "a");
    queued.run(drain(&queued)).unwrap();
    assert_eq!(the_turn(&queued).state(), TurnState::Completed);
    assert_eq!((queued.metrics.total("Turns"), queued.metrics.total("Intents")), (1, 1));
}

#[test]
fn a_turn_that_is_taken_over_before_it_was_announced_is_counted_too() {
    let world = stocked();
    let owner = world.process();
    world.store.delay(Service::Search, 1_000);
    let (aiko, from) = (samples::shopper("aiko"), samples::connection("a"));
    world.clock.block_on(dying_after(&world, 500, send(&owner, &aiko, &question(), &from)));
    assert!(the_turn(&world).journal.frames.is_empty());
    lapse(&world);
    world.run(take(&world, Workplace::Message)).unwrap().unwrap();
    assert_eq!((world.metrics.total("Turns"), world.metrics.total("Intents")), (1, 1));
}
