//! What a shopper does: ask, ask on, come back, look back, judge.

use domain::store::Bilingual;
use serde_json::{Value, json};

use crate::client::{Client, message, message_in, now_ms};
use crate::stack::{Running, shared};
use crate::store;
use crate::summaries::text;
use crate::turn::{Turn, kind};

pub const CHITCHAT: &str = "Hello!";

/// Its answer takes the model some seconds.
pub const LONG_QUESTION: &str = "Tell me more about Fullmetal Alchemist, in detail and at length.";

/// Hiragana and katakana: no English text has them, and no Japanese sentence is without.
pub fn has_kana(text: &str) -> bool {
    text.chars().any(|character| matches!(character, '\u{3041}'..='\u{30ff}'))
}

async fn assert_grounded(stack: &'static Running, locale: &str, question: &str) -> Turn {
    let asked_at = now_ms();
    let mut client = Client::guest(stack).await;
    client.start_session(json!({"locale": locale})).await;
    let turn = client.ask(&message(question)).await;
    client.assert_silent().await;

    assert_eq!(turn.started()["path"], "llm");
    assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
    assert_eq!(turn.end()["data"]["stop_reason"], "end_turn");
    let latency = &turn.end()["data"]["latency"];
    assert!(latency["first_token_ms"].as_u64() <= latency["total_ms"].as_u64(), "{latency}");
    for tokens in ["input_tokens", "output_tokens"] {
        assert!(turn.end()["data"]["usage"][tokens].as_u64() > Some(0), "{:?}", turn.end());
    }
    assert!(turn.deltas() >= 3, "{turn:#?}");
    assert_eq!(has_kana(&turn.text()), locale == "ja", "{}", turn.text());
    assert!(!turn.text().contains(char::REPLACEMENT_CHARACTER), "{}", turn.text());

    let cards = turn.product_cards();
    assert!(!cards.is_empty(), "{turn:#?}");
    for card in &cards {
        let product = store::product(stack, card["product_id"].as_str().unwrap()).await;
        let in_locale = |text: &Bilingual| if locale == "ja" { text.ja.clone() } else { text.en.clone() };
        assert_eq!(card["title"], in_locale(&product.title));
        assert_eq!(card["authors"], json!(product.authors.iter().map(in_locale).collect::<Vec<_>>()));
        assert_eq!(card.get("volume").cloned(), product.volume.map(Value::from));
        assert_eq!(card["url"], product.url);
        let offer = product.offer.as_ref().unwrap();
        assert_eq!(card["price"], json!({"amount": offer.price.amount, "currency": offer.price.currency}));
        assert_eq!(card["in_stock"], offer.stock > 0);
        let as_of = card["as_of"].as_u64().unwrap();
        assert!((asked_at..=now_ms()).contains(&as_of), "{card} was not read for this answer, asked at {asked_at}");
    }
    let named = cards.iter().any(|card| turn.text().contains(card["title"].as_str().unwrap()));
    assert!(named, "{} names none of {cards:#?}", turn.text());
    turn
}

#[tokio::test]
async fn an_english_question_gets_a_streamed_answer_from_the_catalog() {
    let stack = shared().await;
    let turn = assert_grounded(*stack, "en", "What is Fullmetal Alchemist about?").await;
    let catalog = store::search(*stack, "Fullmetal Alchemist").await;
    let asked_for = |card: &Value| catalog.iter().any(|product| card["product_id"] == product.product_id);
    assert!(turn.product_cards().iter().any(asked_for), "{turn:#?}");
}

#[tokio::test]
async fn a_japanese_question_gets_a_streamed_answer_from_the_catalog() {
    let stack = shared().await;
    let turn = assert_grounded(*stack, "ja", "「鬼滅の刃」はどんな漫画ですか?").await;
    let catalog = store::search(*stack, "鬼滅の刃").await;
    let asked_for = |card: &Value| catalog.iter().any(|product| card["product_id"] == product.product_id);
    assert!(turn.product_cards().iter().any(asked_for), "{turn:#?}");
}

#[tokio::test]
async fn a_question_that_names_no_title_gets_recommendations() {
    let stack = shared().await;
    assert_grounded(*stack, "en", "Please recommend me a few manga to start with.").await;
    assert_grounded(*stack, "ja", "おすすめの漫画を教えてください。").await;
}

#[tokio::test]
async fn the_locale_of_a_message_goes_before_that_of_the_session() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    client.start_session(json!({"locale": "en"})).await;
    let mut in_japanese = message(CHITCHAT);
    in_japanese["locale"] = "ja".into();
    assert!(has_kana(&client.ask(&in_japanese).await.text()));
    assert!(!has_kana(&client.ask(&message(CHITCHAT)).await.text()));
}

#[tokio::test]
async fn a_follow_up_question_is_asked_with_the_conversation_so_far() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let first = "What is Fullmetal Alchemist about?";
    let answered = client.ask(&message(first)).await;
    let second = "Which manga would its readers enjoy next?";
    let followed_up = client.ask(&message_in(answered.conversation_id(), second)).await;
    assert_eq!(followed_up.conversation_id(), answered.conversation_id());
    assert_ne!(followed_up.id(), answered.id());

    let requests = stack.model_requests();
    let request = requests.iter().find(|request| request.body.to_string().contains(second));
    let messages = request.expect("the model was asked").body["messages"].as_array().unwrap();
    let [question, answer, follow_up] = &messages[..] else { panic!("{messages:#?}") };
    assert!(question["role"] == "user" && text(question).contains(first), "{question}");
    assert!(answer["role"] == "assistant" && text(answer) == answered.text(), "{answer}");
    assert!(follow_up["role"] == "user" && text(follow_up).contains(second), "{follow_up}");
}

#[tokio::test]
async fn a_guest_who_returns_finds_session_and_conversation() {
    let stack = shared().await;
    let mut first_visit = Client::guest(&stack).await;
    let ready = first_visit.start_session(json!({"locale": "en"})).await;
    assert_eq!(ready["principal"], "guest");
    let limits = &ready["limits"];
    assert_eq!((&limits["text_max"], &limits["messages_per_minute"]), (&json!(4_000), &json!(10)));
    assert_eq!(limits["frame_bytes_max"], 32 * 1024);
    let two_hours_ms = 2 * 60 * 60 * 1000;
    assert!(ready["reconnect_after_ms"].as_u64() < Some(two_hours_ms), "{ready}");
    let greeted = first_visit.ask(&message(CHITCHAT)).await;
    let conversation = greeted.conversation_id();
    let question = "What is Fullmetal Alchemist about?";
    let answered = first_visit.ask(&message_in(conversation, question)).await;
    drop(first_visit);

    let mut second_visit = Client::returning_guest(&stack, ready["resume_token"].as_str().unwrap()).await;
    let again = second_visit.start_session(json!({"conversation_id": conversation})).await;
    assert_eq!(again["session_id"], ready["session_id"]);
    assert_eq!(again["principal"], "guest");
    assert_eq!(again["conversation_id"], conversation);
    assert_eq!(again.get("active_turn"), None);

    let history = second_visit.history(conversation).await;
    assert_eq!(history.len(), 2, "{history:#?}");
    for (stored, (turn, text)) in history.iter().zip([(&greeted, CHITCHAT), (&answered, question)]) {
        assert_eq!(stored["turn_id"], turn.id());
        assert_eq!(stored["text"], text);
        assert_eq!(stored["answer"], turn.text());
        assert_eq!(stored["state"], "completed");
        assert_same_cards(stored["cards"].as_array().unwrap(), &turn.shown().cards);
    }
    assert!(history[0]["asked_at"].as_u64() <= history[1]["asked_at"].as_u64(), "{history:#?}");

    let third = second_visit.ask(&message_in(conversation, CHITCHAT)).await;
    assert_eq!(third.conversation_id(), conversation);
}

/// History holds the events of the cards that were streamed, with every member of their data.
fn assert_same_cards(stored: &[Value], streamed: &[Value]) {
    assert_eq!(stored.len(), streamed.len());
    for (stored, streamed) in stored.iter().zip(streamed) {
        for (member, value) in streamed.as_object().unwrap() {
            assert_eq!(stored["data"][member], *value, "{member} of {stored}");
        }
    }
}

#[tokio::test]
async fn history_comes_in_pages() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let first = client.ask(&message(CHITCHAT)).await;
    let conversation = first.conversation_id();
    let mut asked = vec![first.id().to_owned()];
    for _ in 0..2 {
        asked.push(client.ask(&message_in(conversation, CHITCHAT)).await.id().to_owned());
    }
    let ids = |page: &Value| -> Vec<String> {
        let turns = page["turns"].as_array().unwrap().iter();
        turns.map(|turn| turn["turn_id"].as_str().unwrap().to_owned()).collect()
    };

    let page = client.history_page(conversation, json!({"limit": 50})).await;
    assert_eq!((ids(&page), page.get("next_before")), (asked.clone(), None));

    let newest_two = client.history_page(conversation, json!({"limit": 2})).await;
    assert_eq!(ids(&newest_two), asked[1..]);

    let mut one_by_one = Vec::new();
    let mut fields = json!({"limit": 1});
    for _ in 0..=asked.len() {
        let page = client.history_page(conversation, fields.clone()).await;
        assert!(ids(&page).len() <= 1, "{page}");
        one_by_one.extend(ids(&page));
        match page.get("next_before") {
            Some(before) => fields["before"] = before.clone(),
            None => break,
        }
    }
    one_by_one.reverse();
    assert_eq!(one_by_one, asked);

    let too_many = json!({"action": "history.list", "conversation_id": conversation, "limit": 51});
    assert_eq!(client.refused(&too_many).await["code"], "invalid_frame");
}

#[tokio::test]
async fn an_answer_can_be_judged() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let turn = client.ask(&message(CHITCHAT)).await;
    for judgement in [
        json!({"rating": "up"}),
        json!({"rating": "down", "comment": "挨拶だけでした。"}),
        json!({"rating": "up", "comment": "On second thought, friendly."}),
    ] {
        let mut frame = judgement;
        frame["action"] = "feedback.submit".into();
        frame["turn_id"] = turn.id().into();
        assert_eq!(kind(&client.request(&frame).await), "feedback.accepted");
    }
}

#[tokio::test]
async fn a_ping_is_answered() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    assert_eq!(kind(&client.request(&json!({"action": "ping"})).await), "pong");
}

#[tokio::test]
async fn a_signed_in_shopper_has_the_same_conversations_on_every_connection() {
    let stack = shared().await;
    let mut phone = Client::shopper(*stack, "aiko").await;
    let ready = phone.start_session(json!({"locale": "ja"})).await;
    assert_eq!(ready["principal"], "aiko");
    assert_eq!(ready.get("resume_token"), None);
    assert_eq!(ready["limits"]["messages_per_minute"], 30);
    let turn = phone.ask(&message("こんにちは")).await;

    let mut laptop = Client::shopper(*stack, "aiko").await;
    assert_eq!(laptop.start_session(json!({})).await["principal"], "aiko");
    let history = laptop.history(turn.conversation_id()).await;
    assert_eq!(history.len(), 1, "{history:#?}");
    assert_eq!(history[0]["answer"], turn.text());
}

#[tokio::test]
async fn nobody_sees_another_shoppers_conversation() {
    let stack = shared().await;
    let owners = [Client::shopper(*stack, "aiko").await, Client::guest(&stack).await];
    for mut owner in owners {
        let turn = owner.ask(&message(CHITCHAT)).await;
        let others = [Client::shopper(*stack, "ben").await, Client::guest(&stack).await];
        for mut other in others {
            assert_hidden(&mut other, &turn).await;
        }
        let history = owner.history(turn.conversation_id()).await;
        assert_eq!(history.len(), 1, "{history:#?}");
    }
}

/// A conversation or turn of somebody else looks to `other` just like one that never was.
async fn assert_hidden(other: &mut Client, turn: &Turn) {
    other.start_session(json!({"locale": "en"})).await;
    let own = other.ask(&message(CHITCHAT)).await;
    let frames = |conversation_id: &str, turn_id: &str| {
        [
            json!({"action": "session.start", "conversation_id": conversation_id}),
            json!({"action": "history.list", "conversation_id": conversation_id}),
            message_in(conversation_id, CHITCHAT),
            json!({"action": "feedback.submit", "turn_id": turn_id, "rating": "down"}),
        ]
    };
    let hidden = frames(turn.conversation_id(), turn.id());
    let missing = frames(&altered(own.conversation_id()), &altered(own.id()));
    for (hidden, mut missing) in hidden.into_iter().zip(missing) {
        if hidden["action"] == "message.send" {
            missing["client_message_id"] = hidden["client_message_id"].clone();
        }
        let refusal = other.refused(&hidden).await;
        assert_eq!(refusal["code"], "not_found", "{hidden}");
        assert_eq!(refusal["retryable"], false);
        assert_eq!(refusal, other.refused(&missing).await, "{hidden} tells that the conversation exists");
    }
}

/// An id of the same form that was never given out.
pub fn altered(id: &str) -> String {
    let at = id.rfind(|character: char| character.is_ascii_alphanumeric()).expect("an id has letters or digits");
    let other = if id[at..].starts_with('0') { '1' } else { '0' };
    let mut altered = id.to_owned();
    altered.replace_range(at..=at, &other.to_string());
    altered
}
