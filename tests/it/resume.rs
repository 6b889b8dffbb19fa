//! An answer is whole, however often its reader loses the connection.

use serde_json::{Value, json};

use crate::client::{Client, message};
use crate::conversation::LONG_QUESTION;
use crate::stack::shared;
use crate::turn::{Collector, Shown, Turn, kind};

/// What is stored of the turn is what was shown.
async fn assert_stored(client: &mut Client, asked: &Value, turn: &Turn) {
    let [stored] = <[Value; 1]>::try_from(client.history(turn.conversation_id()).await).expect("one turn");
    assert_eq!((&stored["state"], &stored["answer"]), (&json!("completed"), &json!(turn.text())));
    let again = client.submit(asked).await;
    assert_eq!(again["data"]["duplicate"], true);
    let replayed = client.whole_turn(&again).await;
    assert_eq!(replayed.shown(), turn.shown());
    assert_eq!(replayed.end(), turn.end());
}

fn assert_whole(shown: &Shown) {
    assert!(!shown.text.is_empty() && !shown.cards.is_empty(), "{shown:#?}");
}

#[tokio::test]
async fn an_answer_goes_on_on_the_next_connection() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let token = client.start_session(json!({"locale": "en"})).await["resume_token"].as_str().unwrap().to_owned();
    let asked = message(LONG_QUESTION);
    let accepted = client.submit(&asked).await;
    let mut held = Collector::default();
    client.collect(&accepted, &mut held, |held| held.deltas() >= 2).await;
    drop(client);

    let mut reconnected = Client::returning_guest(&stack, &token).await;
    let ready = reconnected.start_session(json!({"conversation_id": accepted["conversation_id"]})).await;
    assert_eq!(ready["active_turn"]["turn_id"], accepted["turn_id"], "{ready}");
    reconnected.resume(&accepted, &held).await;
    reconnected.collect(&accepted, &mut held, Collector::is_complete).await;
    let turn = held.finish();
    assert_eq!(kind(turn.end()), "turn.completed");
    assert_whole(&turn.shown());
    assert_stored(&mut reconnected, &asked, &turn).await;
    let ready = reconnected.start_session(json!({"conversation_id": accepted["conversation_id"]})).await;
    assert_eq!(ready.get("active_turn"), None);
}

#[tokio::test]
async fn every_tab_of_the_shopper_can_follow_an_answer() {
    let stack = shared().await;
    let mut phone = Client::shopper(*stack, "ben").await;
    phone.start_session(json!({"locale": "en"})).await;
    let asked = message(LONG_QUESTION);
    let accepted = phone.submit(&asked).await;
    phone.await_frame(&accepted, "text.delta").await;

    let mut laptop = Client::shopper(*stack, "ben").await;
    let ready = laptop.start_session(json!({"conversation_id": accepted["conversation_id"]})).await;
    assert_eq!(ready["active_turn"]["turn_id"], accepted["turn_id"], "{ready}");
    laptop.resume(&accepted, &Collector::default()).await;

    let on_phone = phone.whole_turn(&accepted).await;
    let on_laptop = laptop.whole_turn(&accepted).await;
    assert_whole(&on_phone.shown());
    assert_eq!(on_laptop.shown(), on_phone.shown());
    assert_eq!(on_laptop.end(), on_phone.end());
    assert_stored(&mut laptop, &asked, &on_phone).await;
}

#[tokio::test]
async fn an_ended_answer_is_shown_from_where_it_was_left() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    client.start_session(json!({"locale": "en"})).await;
    let asked = message("What is Fullmetal Alchemist about?");
    let accepted = client.submit(&asked).await;
    let mut early = Collector::default();
    client.collect(&accepted, &mut early, |held| held.deltas() >= 1).await;
    // The rest is on its way; that it also comes again changes nothing.
    client.await_frame(&accepted, "turn.completed").await;
    client.resume(&accepted, &early).await;
    client.collect(&accepted, &mut early, Collector::is_complete).await;
    let turn = early.finish();
    assert_stored(&mut client, &asked, &turn).await;

    let nobodys = json!({"action": "stream.resume", "turn_id": accepted["turn_id"], "epoch": 0, "after_seq": -1});
    let refusal = Client::guest(&stack).await.refused(&nobodys).await;
    assert_eq!(refusal["code"], "not_found");
}
