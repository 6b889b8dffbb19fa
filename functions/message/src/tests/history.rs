//! `history.list`.

use domain::limits::{CARD_TEXT_CHARS_MAX, HISTORY_PAGE_TURNS_DEFAULT, SERVER_FRAME_BYTES_MAX, TEXT_CHARS_MAX};
use domain::ports::Clock as _;
use domain::protocol::{ProductCard, ServerEvent};
use domain::store::Price;
use futures_util::join;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Value, json};
use testkit::{Fault, ModelFailure, START_MS, Step, samples};

use super::{Client, LAPSED_MS, World, asked, completed, in_conversation, message, resume, text, types};

fn list(more: Value) -> Value {
    let mut frame = json!({ "action": "history.list", "conversation_id": "c-1" });
    frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    frame
}

/// The turns of the newest page of a conversation.
fn page_of(client: &Client<'_>, conversation: &Value) -> Vec<Value> {
    page(client, list(json!({ "conversation_id": conversation }))).0
}

/// The turns of the one page a client gets for a frame, and where the next begins.
fn page(client: &Client<'_>, frame: Value) -> (Vec<Value>, Option<u64>) {
    let conversation = frame["conversation_id"].clone();
    let [page] = <[_; 1]>::try_from(client.ask(frame)).unwrap();
    assert_eq!(page["type"], "history.page");
    assert_eq!(page["conversation_id"], conversation);
    let turns = page["data"]["turns"].as_array().unwrap().clone();
    (turns, page["data"].get("next_before").map(|before| before.as_u64().unwrap()))
}

fn card(title: &str) -> ServerEvent {
    ServerEvent::ProductCard(ProductCard {
        product_id: "one-1".to_owned(),
        title: title.to_owned(),
        volume: Some(1),
        authors: vec![title.to_owned()],
        price: Price { amount: 528, currency: "JPY".to_owned() },
        in_stock: true,
        url: "https://store.example/products/one-1".to_owned(),
        image_url: None,
        reason: None,
        as_of: START_MS,
    })
}

/// A conversation of so many answered turns.
fn answered(turns: u64) -> World {
    let world = World::new();
    for number in 1..=turns {
        let turn = asked(number, &format!("question {number}"));
        world.begin_turn(&turn);
        world.journal(&turn, vec![card("one-1"), text("answer "), text(&number.to_string()), completed()], true);
        world.conclude(&turn);
    }
    world
}

#[test]
fn a_page_shows_turns_as_they_were() {
    let world = answered(2);
    let (turns, next_before) = page(&world.shopper("aiko", "one"), list(json!({})));
    let turn = |number: u64| {
        json!({
            "turn_id": format!("t-{number}"),
            "asked_at": START_MS,
            "text": format!("question {number}"),
            "answer": format!("answer {number}"),
            "cards": [card("one-1")],
            "state": "completed",
        })
    };
    assert_eq!((turns, next_before), (vec![turn(1), turn(2)], None));
}

#[test]
fn pages_have_as_many_turns_as_asked_for() {
    let world = answered(51);
    let aiko = world.shopper("aiko", "one");
    for (frame, numbers, next_before) in [
        (json!({}), (52 - u64::from(HISTORY_PAGE_TURNS_DEFAULT))..=51, Some(32)),
        (json!({ "limit": 1 }), 51..=51, Some(51)),
        (json!({ "limit": 50 }), 2..=51, Some(2)),
        (json!({ "limit": 50, "before": 51 }), 1..=50, None),
        (json!({ "limit": 50, "before": 2 }), 1..=1, None),
        (json!({ "limit": 1, "before": 2 }), 1..=1, None),
        (json!({ "limit": 50, "before": u64::MAX }), 2..=51, Some(2)),
    ] {
        let (turns, next) = page(&aiko, list(frame.clone()));
        let expected: Vec<_> = numbers.map(|number| json!(format!("t-{number}"))).collect();
        assert_eq!(turns.iter().map(|turn| turn["turn_id"].clone()).collect::<Vec<_>>(), expected, "{frame}");
        assert_eq!(next, next_before, "{frame}");
    }
    for before in [0, 1] {
        assert_eq!(page(&aiko, list(json!({ "before": before }))), (vec![], None));
    }
}

#[test]
fn only_ones_own_conversation_is_shown() {
    let world = answered(1);
    let ben = world.shopper("ben", "one");
    assert_eq!(ben.refused(list(json!({}))), "not_found");
    assert_eq!(ben.refused(list(json!({ "conversation_id": "c-2" }))), "not_found");
    let [others, unknown] = <[_; 2]>::try_from(ben.frames()).unwrap();
    assert_eq!(others, unknown, "nothing tells the two apart");
}

#[test]
fn the_newest_page_ends_with_the_turn_that_goes_on() {
    let world = answered(2);
    world.begin_turn(&asked(3, "question 3"));
    world.journal(&asked(3, "question 3"), vec![card("one-1"), text("half an ans")], false);
    let aiko = world.shopper("aiko", "one");
    let (turns, next_before) = page(&aiko, list(json!({ "limit": 1 })));
    assert_eq!((turns.len(), next_before), (1, Some(3)));
    let newest = &turns[0];
    assert_eq!((&newest["turn_id"], &newest["state"]), (&json!("t-3"), &json!("running")));
    assert_eq!((&newest["answer"], &newest["cards"]), (&json!("half an ans"), &json!([card("one-1")])));
    let older = page(&aiko, list(json!({ "before": 3 }))).0;
    assert_eq!(older.iter().map(|turn| &turn["turn_id"]).collect::<Vec<_>>(), ["t-1", "t-2"]);
}

/// Looking at a conversation does not end what goes on in it.
#[test]
fn a_turn_without_an_owner_goes_on() {
    let world = answered(1);
    world.begin_turn(&asked(2, "question 2"));
    world.journal(&asked(2, "question 2"), vec![text("half an ans")], false);
    let aiko = world.shopper("aiko", "one");
    for at_ms in [START_MS, LAPSED_MS] {
        world.ports.clock.advance_to(at_ms);
        let newest = page(&aiko, list(json!({}))).0.pop().unwrap();
        assert_eq!((&newest["turn_id"], &newest["state"]), (&json!("t-2"), &json!("running")));
        assert_eq!(newest["answer"], "half an ans");
    }
    aiko.ask(resume(&asked(2, "").turn_id, 1, 0));
    let newest = page(&aiko, list(json!({}))).0.pop().unwrap();
    assert_eq!((&newest["state"], &newest["answer"]), (&json!("completed"), &json!("Here you are.")));
}

/// What was shown before the answer began anew is no part of it.
#[test]
fn a_turn_that_was_begun_anew_shows_its_last_answer() {
    for throttled_first in [false, true] {
        let world = World::new();
        world.ports.store.stock(samples::store_data());
        if throttled_first {
            world.ports.model.follow_once(vec![Step::Say("Read ".to_owned()), Step::Fail(ModelFailure::Unavailable)]);
        }
        let aiko = world.shopper("aiko", "one");
        let conversation = aiko.ask(message(1, "question"))[0]["conversation_id"].clone();
        world.work();
        let [shown] = <[_; 1]>::try_from(page_of(&aiko, &conversation)).unwrap();
        assert_eq!((&shown["state"], &shown["answer"]), (&json!("completed"), &json!("Here you are.")));
        assert_eq!(shown["cards"].as_array().unwrap().len(), 2, "each card once");
    }
}

#[test]
fn a_turn_that_ended_shows_wherever_its_owner_died() {
    for (remembered, case) in [(false, "its end is stored"), (true, "it is part of its conversation")] {
        let world = answered(1);
        world.begin_turn(&asked(2, "question 2"));
        world.journal(&asked(2, "question 2"), vec![text("answer 2"), completed()], true);
        if remembered {
            world.remember(&asked(2, "question 2"));
        }
        let (turns, _) = page(&world.shopper("aiko", "one"), list(json!({})));
        let shown: Vec<_> = turns.iter().map(|turn| (&turn["turn_id"], &turn["state"])).collect();
        let completed = json!("completed");
        assert_eq!(shown, [(&json!("t-1"), &completed), (&json!("t-2"), &completed)], "{case}");
    }
}

#[test]
fn a_lock_without_a_turn_shows_nothing() {
    let world = answered(1);
    let aiko = world.shopper("aiko", "one");
    // Effects 0 to 2 read, 3 locks, 4 takes a token, 5 arms the watchdog, 6 records.
    world.ports.faults.plan(6, Fault::CrashBefore);
    let second = in_conversation(message(2, "question 2"), &json!("c-1"));
    assert!(world.ports.run(aiko.invoke(second)).is_none());
    world.ports.faults.restart();
    assert_eq!(page(&aiko, list(json!({}))).0.len(), 1);
}

/// Reads of the store fall before, between and after the steps in which a turn ends.
#[test]
fn a_turn_that_ends_meanwhile_is_shown_once() {
    let ends_at = {
        let world = answered(1);
        world.ports.turns.set_round_trip_ms(10);
        world.shopper("aiko", "one").ask(in_conversation(message(2, "question 2"), &json!("c-1")));
        world.ports.clock.now_ms() - START_MS
    };
    let mut states = Vec::new();
    for after_ms in 0..=ends_at {
        let world = answered(1);
        world.ports.turns.set_round_trip_ms(10);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let second = in_conversation(message(2, "question 2"), &json!("c-1"));
        world.run(async { join!(aiko.invoke(second), world.after(after_ms, tab.invoke(list(json!({}))))) });
        let shown = tab.frames()[0]["data"]["turns"].as_array().unwrap().clone();
        // Admission reads, locks and records, 10 ms each.
        let accepted_by_then = after_ms >= 30;
        assert!(shown.len() == 2 || (shown.len() == 1 && !accepted_by_then), "after {after_ms} ms: {shown:?}");
        assert_eq!(shown[0]["turn_id"], "t-1", "after {after_ms} ms");
        if let Some(newest) = shown.get(1) {
            assert_eq!(newest["text"], "question 2", "after {after_ms} ms");
            states.push(newest["state"].as_str().unwrap().to_owned());
        }
    }
    states.dedup();
    assert_eq!(states, ["running", "completed"]);
}

/// So many of one character.
type Repeated = (char, usize);

fn repeated((character, count): Repeated) -> String {
    character.to_string().repeat(count)
}

/// Texts from one character to longer than a frame, as JSON of 1 to 6 bytes a character.
fn repeated_up_to(count_max: usize) -> impl Strategy<Value = Repeated> {
    let count = prop_oneof![8 => 1..100_usize, 2 => 100..2_000_usize, 1 => 2_000..=count_max];
    (prop_oneof![Just('a'), Just('漫'), Just('"'), Just('\u{1}'), Just('🗾')], count)
}

/// Questions, answers and titles of cards.
fn turns() -> impl Strategy<Value = Vec<(Repeated, Repeated, Vec<Repeated>)>> {
    let title = (prop_oneof![Just('a'), Just('漫')], 1..=CARD_TEXT_CHARS_MAX);
    let cards = prop::collection::vec(title, 0..=6);
    prop::collection::vec((repeated_up_to(TEXT_CHARS_MAX), repeated_up_to(20_000), cards), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pages_cover_every_turn_once(turns in turns(), limit in 1..=50_usize, last_goes_on in any::<bool>()) {
        let texts = |(question, answer, titles): (Repeated, Repeated, Vec<Repeated>)| Texts {
            question: repeated(question),
            answer: repeated(answer),
            titles: titles.into_iter().map(repeated).collect(),
        };
        check_pages(&turns.into_iter().map(texts).collect::<Vec<_>>(), limit, last_goes_on);
    }
}

struct Texts {
    question: String,
    answer: String,
    titles: Vec<String>,
}

/// From page to page every turn is seen once and in order, whatever the sizes. Only the newest of a page may be shortened,
/// and then loses its cards first.
fn check_pages(turns: &[Texts], limit: usize, last_goes_on: bool) {
    let world = World::new();
    let goes_on = |number: usize| last_goes_on && number == turns.len();
    for (number, Texts { question, answer, titles }) in (1..).zip(turns) {
        let turn = asked(number as u64, question);
        let events = titles.iter().map(|title| card(title)).chain([text(answer)]);
        let end = (!goes_on(number)).then(completed);
        world.begin_turn(&turn);
        world.journal(&turn, events.chain(end).collect(), !goes_on(number));
        if !goes_on(number) {
            world.conclude(&turn);
        }
    }

    let aiko = world.shopper("aiko", "one");
    let mut seen: Vec<Value> = Vec::new();
    let mut before = None;
    loop {
        let cursor = before.map_or(json!({}), |before| json!({ "before": before }));
        let mut frame = list(cursor);
        frame["limit"] = json!(limit);
        let (page, next_before) = page(&aiko, frame);
        assert!((1..=limit).contains(&page.len()));
        for (place, shown) in (1..).zip(&page) {
            let number: usize = shown["turn_id"].as_str().unwrap()[2..].parse().unwrap();
            let Texts { question, answer, titles } = &turns[number - 1];
            let (shown_answer, shown_cards) = (shown["answer"].as_str().unwrap(), shown["cards"].as_array().unwrap());
            let whole = shown_answer == answer && shown_cards.len() == titles.len();
            assert!(whole || place == page.len(), "turn {number}");
            assert!(shown_answer == answer || shown_cards.is_empty(), "turn {number}");
            assert!(shown["text"] == *question && answer.starts_with(shown_answer), "turn {number}");
            assert_eq!(shown["state"] == "running", goes_on(number));
        }
        seen.splice(0..0, page.iter().map(|turn| turn["turn_id"].clone()));
        let Some(next) = next_before else { break };
        assert!(before.is_none_or(|before| next < before), "every page moves on");
        before = Some(next);
    }
    assert_eq!(seen, (1..=turns.len()).map(|number| json!(format!("t-{number}"))).collect::<Vec<_>>());
    assert!(world.ports.sender.inner.sent().iter().all(|sent| sent.bytes <= SERVER_FRAME_BYTES_MAX));
}

#[test]
fn a_turn_larger_than_a_frame_keeps_the_beginning_of_its_answer() {
    let world = World::new();
    let answer: String = (0..20_000).map(|number| format!("{number} ")).collect();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![card("one-1"), text(&answer), completed()], true);
    world.conclude(&asked(1, "question"));
    let (turns, _) = page(&world.shopper("aiko", "one"), list(json!({})));
    let shown = turns[0]["answer"].as_str().unwrap();
    assert!(answer.starts_with(shown) && turns[0]["cards"] == json!([]));
    assert!(shown.len() > SERVER_FRAME_BYTES_MAX / 3, "{} bytes", shown.len());
}

/// No page is refused for its size: one byte more of a neighbour moves it to the next.
#[test]
fn pages_are_filled_to_the_brim() {
    let bytes_of = |filler: usize| {
        let world = World::new();
        for number in 1..=2 {
            let turn = asked(number, "question");
            world.begin_turn(&turn);
            let answer = "a".repeat(if number == 1 { filler } else { 9_000 });
            world.journal(&turn, vec![text(&answer), completed()], true);
            world.conclude(&turn);
        }
        let aiko = world.shopper("aiko", "one");
        let frames = aiko.ask(list(json!({})));
        assert_eq!(types(&frames), ["history.page"]);
        let turns = frames[0]["data"]["turns"].as_array().unwrap().len();
        (turns, world.ports.sender.inner.sent()[0].bytes)
    };
    let largest = (18_000..20_000).rev().find(|filler| bytes_of(*filler).0 == 2).unwrap();
    assert_eq!(bytes_of(largest + 1).0, 1);
    let bytes = bytes_of(largest).1;
    assert!((SERVER_FRAME_BYTES_MAX - 512..=SERVER_FRAME_BYTES_MAX).contains(&bytes), "{bytes}");
}
