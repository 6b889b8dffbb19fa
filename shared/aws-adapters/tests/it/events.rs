//! `SnsTurnEvents` against a topic of a test's making.

use std::collections::{BTreeMap, HashMap};

use aws_adapters::{SnsTurnEvents, clients};
use axum::http::StatusCode;
use domain::ids::{ConversationId, TurnId};
use domain::intent::Intent;
use domain::ports::{TurnEnded, TurnEvents as _, Unavailable};
use domain::protocol::{TurnState, Usage};
use serde_json::{Value, json};
use testkit::START_MS;

use crate::fake::{Fake, nobody};
use crate::{environment, failure, within};

const TOPIC: &str = "arn:aws:sns:ap-northeast-1:000000000000:turn-events";

const PUBLISHED: &str = r#"<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>m-1</MessageId></PublishResult></PublishResponse>"#;

async fn publish(url: &str, follow_up: bool) -> Result<(), Unavailable> {
    let events = SnsTurnEvents::new(clients::sns(&environment(url)), TOPIC);
    let ended = TurnEnded {
        turn_id: TurnId::parse("t-1").unwrap(),
        conversation_id: ConversationId::parse("c-1").unwrap(),
        number: 3,
        intent: Intent::OrderTracking,
        state: TurnState::Completed,
        usage: Usage { input_tokens: 11, output_tokens: 7 },
        ended_at: START_MS,
        follow_up,
    };
    within(events.turn_ended(&ended)).await
}

#[tokio::test]
async fn the_end_of_a_turn_is_published_as_a_task_that_subscribers_can_choose() {
    for (follow_up, chosen_by) in [(true, "yes"), (false, "no")] {
        let topic = Fake::always(StatusCode::OK, PUBLISHED).await;
        publish(&topic.url, follow_up).await.unwrap();
        let requests = topic.requests();
        assert_eq!(requests.len(), 1);
        let form = format!("http://form/?{}", str::from_utf8(&requests[0].body).unwrap());
        let form: HashMap<String, String> = reqwest::Url::parse(&form).unwrap().query_pairs().into_owned().collect();
        assert_eq!((form["Action"].as_str(), form["TopicArn"].as_str()), ("Publish", TOPIC));
        let attributes: BTreeMap<&str, &str> = (1..=2)
            .map(|entry| {
                assert_eq!(form[&format!("MessageAttributes.entry.{entry}.Value.DataType")], "String");
                let part = |part: &str| form[&format!("MessageAttributes.entry.{entry}.{part}")].as_str();
                (part("Name"), part("Value.StringValue"))
            })
            .collect();
        assert_eq!(attributes, BTreeMap::from([("follow_up", chosen_by), ("kind", "turn_ended")]));
        let message: Value = serde_json::from_str(&form["Message"]).unwrap();
        let expected = json!({
            "kind": "turn_ended",
            "turn_id": "t-1",
            "conversation_id": "c-1",
            "number": 3,
            "intent": "order_tracking",
            "state": "completed",
            "usage": { "input_tokens": 11, "output_tokens": 7 },
            "ended_at": START_MS,
            "follow_up": follow_up,
        });
        assert_eq!(message, expected, "and no word of the shopper");
    }
}

#[tokio::test]
async fn a_topic_that_is_broken_or_out_of_reach_is_unavailable() {
    let broken = Fake::always(StatusCode::INTERNAL_SERVER_ERROR, "").await;
    failure(publish(&broken.url, true).await);
    assert_eq!(broken.requests().len(), 3);
    failure(publish(&nobody().await, true).await);
}
