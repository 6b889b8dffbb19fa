//! The owner of a turn dies, and the shopper is answered all the same.

use std::time::Duration;

use bedrock_stand_in::Reply;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Client, message, now_ms, question};
use crate::eventually::eventually;
use crate::processes::environments;
use crate::stack::{Exclusive, Running, exclusive};
use crate::turn::{Collector, Turn, kind};

const FIRST_HALF: &str = "Two brothers travel";
const SECOND_HALF: &str = " to find what they have lost.";

/// "Is taken over within 45 s even if the client stays silent."
const SILENT_TAKEOVER_MAX: Duration = Duration::from_secs(45);

/// A lease, and the margin after it: from then on a turn without an owner is anybody's.
const LAPSE: Duration = Duration::from_millis(10_000);

/// A guest whose answer has come to a halt in the middle: what was said is durable, and its owner is dead.
struct Orphaned {
    client: Client,
    token: String,
    asked: Value,
    accepted: Value,
    held: Collector,
    killed_at: u64,
}

async fn orphaned(stack: &Exclusive) -> Orphaned {
    let mut client = Client::guest(stack).await;
    client.forgive_gateway_errors();
    let token = client.start_session(json!({"locale": "en"})).await["resume_token"].as_str().unwrap().to_owned();
    let question = question();
    stack.script(&question, [Reply::new().say(FIRST_HALF).hang(), Reply::new().say(SECOND_HALF)]);
    let asked = message(&question);
    let accepted = client.submit(&asked).await;
    let mut held = Collector::default();
    client.collect(&accepted, &mut held, |held| held.deltas() == 1).await;
    let (_, said) = held.position();
    let mut elsewhere = Client::returning_guest(stack, &token).await;
    eventually("journal write", LAPSE, async || {
        let ready = elsewhere.start_session(json!({"conversation_id": accepted["conversation_id"]})).await;
        (ready["active_turn"]["last_seq"] == said).then_some(())
    })
    .await;
    kill_owner(stack);
    Orphaned { client, token, asked, accepted, held, killed_at: now_ms() }
}

/// No other turn is answered at the moment.
fn kill_owner(stack: &Running) {
    let function = stack.function_name("MessageFunction");
    let killed =
        environments(stack.aws_url()).iter().filter(|found| found.function == function && found.kill()).count();
    assert!(killed > 0, "no {function} runs");
}

fn assert_continued(turn: &Turn) {
    assert_eq!(kind(turn.end()), "turn.completed", "{turn:#?}");
    assert_eq!(turn.text(), [FIRST_HALF, SECOND_HALF].concat(), "{turn:#?}");
    assert_eq!((turn.epoch(), &turn.started()["continues"]), (2, &json!(true)));
}

async fn assert_stored(client: &mut Client, turn: &Turn) {
    let [stored] = <[Value; 1]>::try_from(client.history(turn.conversation_id()).await).expect("one turn");
    assert_eq!((&stored["state"], &stored["answer"]), (&json!("completed"), &json!(turn.text())));
    assert_eq!(stored["cards"].as_array().map(Vec::len), Some(turn.shown().cards.len()));
}

#[tokio::test]
async fn an_answer_whose_owner_died_goes_on_though_the_client_says_nothing() {
    let stack = exclusive().await;
    let Orphaned { mut client, accepted, mut held, killed_at, .. } = orphaned(&stack).await;
    client.collect(&accepted, &mut held, Collector::is_complete).await;
    let turn = held.finish();
    assert_continued(&turn);
    let taken_over_after = Duration::from_millis(turn.end()["ts"].as_u64().unwrap().saturating_sub(killed_at));
    assert!(taken_over_after <= SILENT_TAKEOVER_MAX, "{taken_over_after:?}");
    assert_eq!(client.gateway_errors(), 1, "the death of the function is told by API Gateway");
    assert_stored(&mut client, &turn).await;
}

#[tokio::test]
async fn an_answer_whose_owner_died_goes_on_though_the_client_never_comes_back() {
    let stack = exclusive().await;
    let Orphaned { client, token, asked, accepted, .. } = orphaned(&stack).await;
    drop(client);
    let mut returned = Client::returning_guest(&stack, &token).await;
    let conversation = accepted["conversation_id"].as_str().unwrap();
    eventually("end of the turn", SILENT_TAKEOVER_MAX, async || {
        (returned.history(conversation).await[0]["state"] != "running").then_some(())
    })
    .await;
    let again = returned.submit(&asked).await;
    let turn = returned.whole_turn(&again).await;
    assert_continued(&turn);
    assert_stored(&mut returned, &turn).await;
}

#[tokio::test]
async fn a_message_sent_again_after_the_lease_is_answered_at_once() {
    let stack = exclusive().await;
    let Orphaned { client, token, asked, .. } = orphaned(&stack).await;
    drop(client);
    sleep(LAPSE).await;
    let mut returned = Client::returning_guest(&stack, &token).await;
    let again = returned.submit(&asked).await;
    assert_eq!(again["data"]["duplicate"], true);
    let turn = returned.whole_turn(&again).await;
    assert_continued(&turn);
    assert_stored(&mut returned, &turn).await;
}

#[tokio::test]
async fn a_stream_resumed_after_the_lease_goes_on_at_once() {
    let stack = exclusive().await;
    let Orphaned { client, token, accepted, mut held, .. } = orphaned(&stack).await;
    drop(client);
    sleep(LAPSE).await;
    let mut returned = Client::returning_guest(&stack, &token).await;
    returned.resume(&accepted, &held).await;
    returned.collect(&accepted, &mut held, Collector::is_complete).await;
    let turn = held.finish();
    assert_continued(&turn);
    assert_stored(&mut returned, &turn).await;
}
