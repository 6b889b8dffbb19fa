//! What no consumer can use ends in quarantine, with its reason.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_lambda::primitives::Blob;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::eventually::eventually;
use crate::queues::{Queue, attribute, body};
use crate::stack::{Running, exclusive};

const PATIENCE: Duration = Duration::from_secs(60);

/// Invokes the redriver and returns what it reports of the follow-up queue.
async fn redrive(stack: &Running, request: Value) -> Value {
    let client = aws_sdk_lambda::Client::new(&stack.sdk());
    let invoke = client.invoke().function_name(stack.output("DlqRedriverFunction"));
    let answer = invoke.payload(Blob::new(request.to_string())).send().await.unwrap();
    assert_eq!(answer.function_error, None, "{:?}", answer.payload);
    let report: Value = serde_json::from_slice(answer.payload.unwrap().as_ref()).unwrap();
    assert_eq!(report["dry_run"], request["dry_run"] == true);
    report["queues"]["follow-up"].clone()
}

/// What is in quarantine with this payload.
async fn quarantined(stack: &Running, payload: &str) -> Vec<std::collections::HashMap<String, AttributeValue>> {
    let query = aws_sdk_dynamodb::Client::new(&stack.sdk()).query().table_name(stack.output("TableName"));
    let query = query
        .key_condition_expression("pk = :pk")
        .filter_expression("payload = :payload")
        .expression_attribute_values(":pk", AttributeValue::S("quarantine#follow-up".to_owned()))
        .expression_attribute_values(":payload", AttributeValue::S(payload.to_owned()));
    query.consistent_read(true).send().await.unwrap().items.unwrap_or_default()
}

#[tokio::test]
async fn a_malformed_message_is_quarantined() {
    // Alone, because the redriver takes up every dead letter there is.
    let stack = exclusive().await;
    let malformed = json!({"kind": "dance", "id": Uuid::new_v4()}).to_string();
    Queue::at(&stack.sdk(), stack.output("FollowUpQueueUrl")).send(&malformed).await;
    let dead_letters = Queue::at(&stack.sdk(), stack.output("FollowUpDlqUrl"));
    let letter = eventually("dead letter", PATIENCE, async || {
        dead_letters.receive(Duration::ZERO).await.into_iter().find(|letter| body(letter) == malformed)
    });
    assert_eq!(attribute(&letter.await, "reason"), Some("the message is no task"));

    let report = redrive(&stack, json!({"dry_run": true, "queues": ["follow-up"]})).await;
    assert_eq!((&report["received"], &report["quarantined"]), (&json!(1), &json!(1)), "{report}");
    assert!(quarantined(&stack, &malformed).await.is_empty());
    assert_eq!(dead_letters.receive(Duration::ZERO).await.len(), 1);

    let report = redrive(&stack, json!({"queues": ["follow-up"]})).await;
    assert_eq!((&report["received"], &report["quarantined"]), (&json!(1), &json!(1)), "{report}");
    let entries = quarantined(&stack, &malformed).await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(entry["refusal"].as_s().unwrap(), "the message is no task");
    assert_eq!(entry["reason"].as_s().unwrap(), "\"unknown_kind\"");
    dead_letters.drained().await;
}
