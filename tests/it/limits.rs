//! Who sends too much is told when to go on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Client, SUBPROTOCOL, message};
use crate::eventually::eventually;
use crate::stack::shared;
use crate::turn::kind;

const GUEST_MESSAGES_PER_MINUTE: usize = 10;

/// A token comes back after this.
const TOKEN: Duration = Duration::from_secs(6);

const CONNECTIONS_PER_PRINCIPAL_MAX: usize = 20;

#[tokio::test]
async fn a_guest_sends_ten_messages_at_once_and_then_one_every_six_seconds() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    client.start_session(json!({"locale": "en"})).await;
    let began = Instant::now();
    let mut taken = Vec::new();
    let (refused, data) = loop {
        let asked = message("Hello!");
        client.send(&asked).await;
        let answers = |frame: &Value| {
            frame.get("seq").is_none() && frame["data"]["client_message_id"] == asked["client_message_id"]
        };
        let answer = client.take("answer", answers).await;
        if kind(&answer) == "error" {
            break (asked, answer["data"].clone());
        }
        taken.push(answer);
    };
    // Some tokens may have come back meanwhile.
    let returned = usize::try_from(began.elapsed().as_millis() / TOKEN.as_millis()).unwrap();
    assert!((GUEST_MESSAGES_PER_MINUTE..=GUEST_MESSAGES_PER_MINUTE + returned).contains(&taken.len()), "{taken:#?}");
    assert_eq!((&data["code"], &data["retryable"]), (&json!("rate_limited"), &json!(true)), "{data}");
    let retry_after = Duration::from_millis(data["retry_after_ms"].as_u64().expect("when to go on"));
    assert!(Duration::ZERO < retry_after && retry_after <= TOKEN, "{retry_after:?}");

    sleep(retry_after).await;
    taken.push(client.submit(&refused).await);
    assert_eq!(taken.last().unwrap()["data"]["duplicate"], false);
    for accepted in &taken {
        assert_eq!(kind(client.whole_turn(accepted).await.end()), "turn.completed");
    }
}

#[tokio::test]
async fn a_principal_holds_twenty_connections() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    let token = client.start_session(json!({})).await["resume_token"].as_str().unwrap().to_owned();
    let mut held = vec![client];
    while held.len() < CONNECTIONS_PER_PRINCIPAL_MAX {
        held.push(Client::returning_guest(&stack, &token).await);
    }
    let offer = format!("guest.{token}");
    assert_eq!(Client::offer(&stack, &[SUBPROTOCOL, &offer]).await.err(), Some(429));

    held.pop();
    eventually("room for a connection", Duration::from_secs(30), async || {
        Client::offer(&stack, &[SUBPROTOCOL, &offer]).await.ok()
    })
    .await;
}
