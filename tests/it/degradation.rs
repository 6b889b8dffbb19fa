//! What a shopper sees when a part of the store, the model or the cache is slow or down.

use std::time::{Duration, Instant};

use bedrock_stand_in::Faults;
use futures_util::future::join_all;
use local::Target;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Client, message, now_ms, question};
use crate::conversation::has_kana;
use crate::eventually::eventually;
use crate::queues::{Queue, body};
use crate::stack::{Exclusive, exclusive, shared};
use crate::turn::{Turn, kind};

/// The store's services answer, or are known not to, within this.
const GATHER: Duration = Duration::from_millis(1_500);

/// Reads what the first owner does, before the model's own time.
const SLOW_MACHINE: Duration = Duration::from_millis(3_000);

/// A breaker is open for this long.
const OPEN: Duration = Duration::from_secs(30);

const PRODUCT: &str = "Do you have One Piece volume 1?";
const RECOMMEND: &str = "Can you recommend me something good to read?";
const SHIPPING: &str = "How much is the shipping fee?";
const ORDERS: &str = "Where is my order?";
const PROMOTIONS: &str = "Are there any promotions or coupons right now?";

fn notices(turn: &Turn) -> Vec<Value> {
    turn.shown().notices
}

/// The dependencies an answer did without.
fn missing(turn: &Turn) -> Vec<String> {
    notices(turn).iter().filter_map(|notice| Some(notice["dependency"].as_str()?.to_owned())).collect()
}

fn steps(turn: &Turn) -> Vec<String> {
    notices(turn).iter().filter_map(|notice| Some(notice["step"].as_str()?.to_owned())).collect()
}

/// Asks in English, as a guest.
async fn ask(stack: &Exclusive, text: &str) -> Turn {
    let mut client = Client::guest(stack).await;
    client.ask(&asked(text)).await
}

fn asked(text: &str) -> Value {
    let mut asked = message(text);
    asked["locale"] = "en".into();
    asked
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun = Instant::now();
    (work.await, begun.elapsed())
}

#[tokio::test]
async fn while_the_catalog_is_down_a_shopper_is_shown_what_is_recommended() {
    let stack = exclusive().await;
    stack.start_anew().await;
    stack.fault(Target::Catalog, "error=1");
    let turn = ask(&stack, PRODUCT).await;
    assert_eq!((kind(turn.end()), missing(&turn)), ("turn.completed", vec!["catalog".to_owned()]), "{turn:#?}");
    let told = notices(&turn)[0]["message"].as_str().unwrap().to_owned();
    assert!(told.contains("Sorry") && told.contains("/search"), "{told}");
    // The service for recommendations says what they cost.
    let cards = turn.product_cards();
    assert!(!cards.is_empty() && cards.iter().all(|card| card["reason"].is_string()), "{turn:#?}");
    assert!(!turn.text().is_empty(), "{turn:#?}");

    // From the cache, they have no prices: nobody can be asked for those.
    let turn = ask(&stack, PRODUCT).await;
    assert_eq!((kind(turn.end()), missing(&turn)), ("turn.completed", vec!["catalog".to_owned()]), "{turn:#?}");
    assert!(turn.product_cards().is_empty() && !turn.text().is_empty(), "{turn:#?}");
}

#[tokio::test]
async fn without_recommendations_a_shopper_is_shown_what_is_popular() {
    let stack = exclusive().await;
    stack.start_anew().await;
    stack.fault(Target::Recommendations, "error=1");
    let turn = ask(&stack, RECOMMEND).await;
    assert_eq!(missing(&turn), ["recommendations"], "{turn:#?}");
    assert!(!turn.product_cards().is_empty() && kind(turn.end()) == "turn.completed", "{turn:#?}");
}

#[tokio::test]
async fn without_the_order_service_a_shopper_is_shown_to_the_order_page() {
    let stack = exclusive().await;
    stack.fault(Target::Orders, "error=1");
    let mut aiko = Client::shopper(*stack, "aiko").await;
    let turn = aiko.ask(&asked(ORDERS)).await;
    assert_eq!((turn.started()["path"].as_str(), missing(&turn)), (Some("services"), vec!["orders".to_owned()]));
    assert!(turn.text().contains("/orders") && kind(turn.end()) == "turn.completed", "{turn:#?}");
}

#[tokio::test]
async fn without_help_articles_the_model_answers_alone() {
    let stack = exclusive().await;
    stack.start_anew().await;
    stack.fault(Target::Knowledge, "error=1");
    let turn = ask(&stack, SHIPPING).await;
    assert_eq!(missing(&turn), ["knowledge"], "{turn:#?}");
    assert!(turn.shown().sources.is_empty() && !turn.text().is_empty(), "{turn:#?}");
    assert_eq!(turn.started()["path"], "llm");
}

#[tokio::test]
async fn nobody_notices_that_promotions_and_reviews_hang() {
    let stack = exclusive().await;
    let (_, as_ever) = timed(ask(&stack, PRODUCT)).await;
    stack.start_anew().await;
    stack.fault(Target::Promotions, "stall");
    stack.fault(Target::Reviews, "stall");
    let mut about = asked("Is this any good?");
    about["context"] = json!({"product_id": "one-piece-1"});
    let mut client = Client::guest(&stack).await;
    let (turn, taken) = timed(client.ask(&about)).await;
    assert_eq!((kind(turn.end()), notices(&turn)), ("turn.completed", vec![]), "{turn:#?}");
    assert!(!turn.product_cards().is_empty());
    assert!(taken < as_ever + GATHER + SLOW_MACHINE, "{taken:?} instead of {as_ever:?}");
}

#[tokio::test]
async fn promotions_that_are_asked_for_and_down_are_to_be_found_on_their_page() {
    let stack = exclusive().await;
    stack.start_anew().await;
    stack.fault(Target::Promotions, "error=1");
    let turn = ask(&stack, PROMOTIONS).await;
    assert_eq!((kind(turn.end()), notices(&turn)), ("turn.completed", vec![]), "{turn:#?}");
    assert!(turn.text().contains("/promotions"), "{}", turn.text());
}

#[tokio::test]
async fn a_dead_service_costs_nothing_once_its_breaker_is_open_and_is_back_within_a_probe() {
    let stack = exclusive().await;
    stack.start_anew().await;
    stack.fault(Target::Catalog, "stall");
    let mut client = Client::guest(&stack).await;
    let first = client.ask(&asked(PRODUCT)).await;
    assert_eq!(missing(&first), ["catalog"], "{first:#?}");

    // Each environment finds out by itself, at the latest.
    let spared = eventually("a question that costs no call", OPEN, async || {
        let asked_so_far = stack.requests(Target::Catalog);
        let turn = client.ask(&asked("Do you have Naruto volume 3?")).await;
        assert_eq!(missing(&turn), ["catalog"]);
        (stack.requests(Target::Catalog) == asked_so_far).then_some(turn)
    })
    .await;
    let first_token = spared.end()["data"]["latency"]["first_token_ms"].as_u64().unwrap();
    assert!(u128::from(first_token) < GATHER.as_millis(), "{first_token} ms");

    stack.fault(Target::Catalog, "off");
    sleep(OPEN).await;
    let back = eventually("the catalog's answer", SLOW_MACHINE * 3, async || {
        let turn = client.ask(&asked("Do you have Haikyu volume 2?")).await;
        missing(&turn).is_empty().then_some(turn)
    })
    .await;
    assert!(!back.product_cards().is_empty(), "{back:#?}");
}

#[tokio::test]
async fn fifty_turns_are_answered_while_a_service_is_down() {
    let stack = exclusive().await;
    stack.fault(Target::Catalog, "stall");
    stack.fault(Target::Knowledge, "error=0.5");
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(Client::guest(&stack).await);
    }
    for _ in 0..5 {
        let asking = clients.iter_mut().map(async |client| client.ask(&asked(PRODUCT)).await);
        for turn in join_all(asking).await {
            assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
            assert!(!turn.text().is_empty());
        }
    }
}

/// Only the primary model has this fault.
fn primary(faults: Faults) -> Faults {
    Faults { models: vec!["claude".to_owned()], ..faults }
}

fn throttled() -> Faults {
    Faults { throttle_rate: 1.0, ..Faults::default() }
}

#[tokio::test]
async fn a_throttled_model_is_replaced_by_the_cheaper_one() {
    let stack = exclusive().await;
    stack.bedrock().set_faults(primary(throttled()));
    let question = question();
    let turn = ask(&stack, &question).await;
    assert_eq!((kind(turn.end()), steps(&turn)), ("turn.completed", vec!["cheaper_model".to_owned()]), "{turn:#?}");
    let requests = stack.model_requests();
    let last = requests.iter().rfind(|request| request.body.to_string().contains(&question[40..])).unwrap();
    assert!(last.resource.contains("nova"), "{}", last.resource);
}

#[tokio::test]
async fn when_all_models_are_throttled_a_shopper_is_shown_what_was_found() {
    let stack = exclusive().await;
    stack.bedrock().set_faults(throttled());
    for (locale, in_japanese) in [("en", false), ("ja", true)] {
        let mut asked = asked(PRODUCT);
        asked["locale"] = locale.into();
        let turn = Client::guest(&stack).await.ask(&asked).await;
        let told = vec!["cheaper_model".to_owned(), "template".to_owned()];
        assert_eq!((kind(turn.end()), steps(&turn)), ("turn.completed", told), "{turn:#?}");
        assert!(!turn.product_cards().is_empty());
        assert_eq!(has_kana(&turn.text()), in_japanese);
        assert_eq!(turn.end()["data"]["usage"], json!({"input_tokens": 0, "output_tokens": 0}));
    }
}

#[tokio::test]
async fn while_the_model_is_down_small_talk_orders_and_promotions_are_answered_as_ever() {
    let stack = exclusive().await;
    stack.fault(Target::Bedrock, "error=1");
    let asked_so_far = stack.model_stats().calls;
    let mut aiko = Client::shopper(*stack, "aiko").await;
    for (text, path) in [("Hello!", "template"), (ORDERS, "services"), (PROMOTIONS, "services")] {
        let turn = aiko.ask(&asked(text)).await;
        assert_eq!((kind(turn.end()), turn.started()["path"].as_str()), ("turn.completed", Some(path)), "{turn:#?}");
        assert_eq!(notices(&turn), Vec::<Value>::new());
    }
    assert_eq!(stack.model_stats().calls, asked_so_far, "no model was asked");
}

#[tokio::test]
async fn a_valkey_that_dies_among_questions_loses_none() {
    let stack = exclusive().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::guest(&stack).await;
        client.ask(&asked(PRODUCT)).await;
        clients.push(client);
    }
    let asking = async {
        let mut answered = 0;
        for _ in 0..6 {
            let asking = clients.iter_mut().map(async |client| client.ask(&asked(PRODUCT)).await);
            for turn in join_all(asking).await {
                assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
                assert!(!turn.text().is_empty());
                answered += 1;
            }
        }
        answered
    };
    let killing = async {
        sleep(Duration::from_millis(700)).await;
        stack.valkey().kill();
    };
    let (answered, ()) = tokio::join!(asking, killing);
    assert_eq!(answered, 24);
    stack.valkey().restart().await.expect("Valkey starts again");
}

#[tokio::test]
async fn what_is_cached_is_asked_again_when_the_store_says_it_has_changed() {
    let stack = exclusive().await;
    stack.start_anew().await;
    ask(&stack, PROMOTIONS).await;
    let asked_once = stack.requests(Target::Promotions);
    ask(&stack, PROMOTIONS).await;
    assert_eq!(stack.requests(Target::Promotions), asked_once, "the second answer is from a cache");

    let rules = stack.call("AWSEvents.ListRules", json!({})).await;
    let by_events = |rule: &&Value| rule.get("EventPattern").is_some();
    for rule in rules["Rules"].as_array().unwrap().iter().filter(by_events) {
        stack.call("AWSEvents.EnableRule", json!({"Name": rule["Name"]})).await;
    }
    let event = json!({"Source": "manga-store", "DetailType": "promotions.changed", "Detail": "{}"});
    let answer = stack.call("AWSEvents.PutEvents", json!({"Entries": [event]})).await;
    assert_eq!(answer["FailedEntryCount"], 0, "{answer}");
    // Environments read what they are told every ten seconds.
    eventually("a new question to the promotions", Duration::from_secs(60), async || {
        sleep(Duration::from_secs(3)).await;
        ask(&stack, PROMOTIONS).await;
        (stack.requests(Target::Promotions) > asked_once).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_wants_a_person_is_handed_over_with_a_summary() {
    let stack = shared().await;
    let queue = Queue::create(&stack.sdk()).await;
    queue.subscribe(&stack.sdk(), stack.output("EscalationsTopicArn")).await;
    let mut client = Client::guest(&stack).await;
    let mut first = asked("Hello!");
    let opened = client.ask(&first).await;
    first = asked("I want to talk to a real person, please.");
    first["conversation_id"] = opened.conversation_id().into();
    let turn = client.ask(&first).await;
    assert_eq!((turn.started()["intent"].as_str(), kind(turn.end())), (Some("escalation"), "turn.completed"));
    assert!(turn.text().contains("person") && !turn.text().contains("Sorry"), "{}", turn.text());
    let told: Value = eventually("an escalation", Duration::from_secs(30), async || {
        let received = queue.receive(Duration::from_secs(20)).await;
        let mut told = received.iter().map(|message| serde_json::from_str::<Value>(body(message)).expect("JSON"));
        told.find(|escalation| escalation["turn_id"] == turn.id())
    })
    .await;
    assert_eq!(told["conversation_id"], turn.conversation_id());
    let summary = told["summary"].as_str().unwrap();
    assert!(summary.contains("Hello!") && summary.contains("real person"), "{summary}");
    assert!(told["asked_at"].as_u64().unwrap() <= now_ms());
}
