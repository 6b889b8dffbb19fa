//! `SqsDeadLetters` against queues of a test's making.

use aws_adapters::configuration::{RedriverConfiguration, TurnConfiguration};
use aws_adapters::{SqsDeadLetters, clients};
use axum::http::StatusCode;
use domain::ports::{DeadLetter, DeadLetters as _, QueueName};
use serde_json::{Value, json};
use testkit::START_MS;

use crate::fake::{Fake, nobody};
use crate::queues::{asked, with_nothing_in_flight};
use crate::{environment, failure, within};

const QUEUES: [QueueName; 2] = [QueueName::FollowUp, QueueName::Watchdog];

fn dead_letters(url: &str) -> SqsDeadLetters {
    let queue = |name: &str| format!("http://sqs.example/{name}");
    let turns = TurnConfiguration {
        table_name: "chat".to_owned(),
        callback_url: "http://unused".to_owned(),
        watchdog_queue_url: queue("watchdog"),
        follow_up_queue_url: queue("follow-up"),
    };
    let configuration = RedriverConfiguration {
        turns,
        watchdog_dlq_url: queue("watchdog-dlq"),
        follow_up_dlq_url: queue("follow-up-dlq"),
    };
    SqsDeadLetters::new(clients::sqs_receiving(&environment(url)), &configuration)
}

/// The URLs of a queue and of its dead-letter queue.
fn urls(queue: QueueName) -> (&'static str, &'static str) {
    match queue {
        QueueName::FollowUp => ("http://sqs.example/follow-up", "http://sqs.example/follow-up-dlq"),
        QueueName::Watchdog => ("http://sqs.example/watchdog", "http://sqs.example/watchdog-dlq"),
    }
}

async fn holding(messages: Value) -> Fake {
    Fake::always(StatusCode::OK, json!({ "Messages": messages }).to_string()).await
}

fn letter() -> DeadLetter {
    DeadLetter {
        message_id: "m-1".to_owned(),
        receipt: "receipt".to_owned(),
        body: "海賊".to_owned(),
        first_sent_at: START_MS,
        redrives: 0,
        reason: None,
    }
}

#[tokio::test]
async fn up_to_ten_letters_are_received_with_what_survived() {
    let message = |attributes: Value| {
        json!({
            "MessageId": "m-1", "ReceiptHandle": "receipt", "Body": "海賊",
            "Attributes": { "SentTimestamp": START_MS.to_string() }, "MessageAttributes": attributes,
        })
    };
    let number = |number: u64| json!({ "DataType": "Number", "StringValue": number.to_string() });
    let reason = json!({ "DataType": "String", "StringValue": "not a task" });
    let sqs = holding(json!([
        message(json!(null)),
        message(json!({ "redrives": number(2), "first_sent_at": number(START_MS - 5), "other": number(1) })),
        message(json!({ "reason": reason })),
    ]))
    .await;
    let expected = [
        letter(),
        DeadLetter { redrives: 2, first_sent_at: START_MS - 5, ..letter() },
        DeadLetter { reason: Some("not a task".to_owned()), ..letter() },
    ];
    for queue in QUEUES {
        assert_eq!(within(dead_letters(&sqs.url).receive(queue)).await.unwrap(), expected);
        let (operation, request) = asked(sqs.requests().last().unwrap());
        assert_eq!((operation.as_str(), &request["QueueUrl"]), ("ReceiveMessage", &json!(urls(queue).1)));
        assert_eq!((&request["MaxNumberOfMessages"], &request["WaitTimeSeconds"]), (&json!(10), &json!(1)));
        assert!(request["VisibilityTimeout"].as_u64().unwrap() >= 60);
        assert_eq!(request["MessageAttributeNames"], json!(["All"]));
        assert_eq!(request["MessageSystemAttributeNames"], json!(["SentTimestamp"]));
    }
}

#[tokio::test]
async fn an_empty_queue_has_no_letters() {
    let sqs = Fake::always(StatusCode::OK, "{}").await;
    assert_eq!(within(dead_letters(&sqs.url).receive(QueueName::FollowUp)).await.unwrap(), []);
}

#[tokio::test]
async fn a_letter_of_unknown_age_is_not_taken_for_an_old_one() {
    let sqs = holding(json!([{ "MessageId": "m-1", "ReceiptHandle": "receipt", "Body": "" }])).await;
    failure(within(dead_letters(&sqs.url).receive(QueueName::FollowUp)).await);
}

#[tokio::test]
async fn a_letter_is_redriven_as_such() {
    let sqs = Fake::always(StatusCode::OK, r#"{"MessageId":"m-2"}"#).await;
    for queue in QUEUES {
        let letter = DeadLetter { redrives: 1, reason: Some("not a task".to_owned()), ..letter() };
        within(dead_letters(&sqs.url).redrive(queue, &letter)).await.unwrap();
        let expected = json!({
            "QueueUrl": urls(queue).0,
            "MessageBody": "海賊",
            "MessageAttributes": {
                "redrives": { "DataType": "Number", "StringValue": "2" },
                "first_sent_at": { "DataType": "Number", "StringValue": START_MS.to_string() },
            },
        });
        assert_eq!(asked(sqs.requests().last().unwrap()), ("SendMessage".to_owned(), expected), "and is there still");
    }
}

#[tokio::test]
async fn a_letter_is_deleted_or_given_back() {
    let sqs = Fake::always(StatusCode::OK, "{}").await;
    for queue in QUEUES {
        within(dead_letters(&sqs.url).delete(queue, "receipt")).await.unwrap();
        let expected = json!({ "QueueUrl": urls(queue).1, "ReceiptHandle": "receipt" });
        assert_eq!(asked(sqs.requests().last().unwrap()), ("DeleteMessage".to_owned(), expected));
        within(dead_letters(&sqs.url).give_back(queue, "receipt")).await.unwrap();
        let expected = json!({ "QueueUrl": urls(queue).1, "ReceiptHandle": "receipt", "VisibilityTimeout": 0 });
        assert_eq!(asked(sqs.requests().last().unwrap()), ("ChangeMessageVisibility".to_owned(), expected));
    }
}

#[tokio::test]
async fn a_letter_that_has_reappeared_is_given_back_already() {
    let sqs = with_nothing_in_flight().await;
    within(dead_letters(&sqs.url).give_back(QueueName::FollowUp, "receipt")).await.unwrap();
}

#[tokio::test]
async fn queues_that_are_broken_or_out_of_reach_are_unavailable() {
    let broken = Fake::always(StatusCode::INTERNAL_SERVER_ERROR, "").await;
    for url in [&broken.url, &nobody().await] {
        for queue in QUEUES {
            let letters = dead_letters(url);
            failure(within(letters.receive(queue)).await);
            failure(within(letters.redrive(queue, &letter())).await);
            failure(within(letters.delete(queue, "receipt")).await);
            failure(within(letters.give_back(queue, "receipt")).await);
        }
    }
    assert_eq!(broken.requests().len(), 2 * 4 * 3);
}
