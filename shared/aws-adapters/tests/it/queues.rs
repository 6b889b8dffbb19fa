//! `SqsQueues` and `SqsMessages` against queues of a test's making.

use aws_adapters::{SqsMessages, SqsQueues, clients};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use domain::ids::{ConversationId, TurnId};
use domain::intent::Intent;
use domain::ports::{Deliveries as _, Task, TaskQueues as _, TurnEnded, Unavailable};
use domain::protocol::{TurnState, Usage};
use serde_json::{Value, json};
use testkit::{START_MS, samples};

use crate::fake::{Fake, Request, nobody};
use crate::{environment, failure, within};

const WATCHDOG: &str = "http://sqs.example/watchdog";
const FOLLOW_UP: &str = "http://sqs.example/follow-up";
const FOLLOW_UP_DLQ: &str = "http://sqs.example/follow-up-dlq";

const SENT: &str = r#"{"MessageId":"m-1"}"#;

/// What SQS was asked: its operation and the request.
pub fn asked(request: &Request) -> (String, Value) {
    let operation = request.header("x-amz-target").unwrap().strip_prefix("AmazonSQS.").unwrap();
    (operation.to_owned(), request.json())
}

fn turn_id() -> TurnId {
    TurnId::parse("t-1").unwrap()
}

async fn send(url: &str, task: &Task, delay_ms: u64) -> Result<(), Unavailable> {
    let queues = SqsQueues::new(clients::sqs(&environment(url)), WATCHDOG, FOLLOW_UP);
    within(queues.send(task, delay_ms)).await
}

fn messages(url: &str) -> SqsMessages {
    SqsMessages::new(clients::sqs(&environment(url)), FOLLOW_UP, FOLLOW_UP_DLQ)
}

#[tokio::test]
async fn each_task_goes_to_its_queue_as_json() {
    let ended = TurnEnded {
        turn_id: turn_id(),
        conversation_id: ConversationId::parse("c-1").unwrap(),
        number: 1,
        intent: Intent::Chitchat,
        state: TurnState::Completed,
        usage: Usage::default(),
        ended_at: START_MS,
        follow_up: true,
    };
    let remind = Task::Remind { principal: samples::guest("g-1"), follow_up_id: "f-1".to_owned() };
    let cases = [
        (
            Task::Watch { turn_id: turn_id(), epoch: 2 },
            WATCHDOG,
            json!({"kind": "watch", "turn_id": "t-1", "epoch": 2}),
        ),
        (
            Task::Finish { turn_id: turn_id(), epoch: 1 },
            FOLLOW_UP,
            json!({"kind": "finish", "turn_id": "t-1", "epoch": 1}),
        ),
        (remind, FOLLOW_UP, json!({"kind": "remind", "principal": "guest:g-1", "follow_up_id": "f-1"})),
        (
            Task::TurnEnded(ended),
            FOLLOW_UP,
            json!({
                "kind": "turn_ended", "turn_id": "t-1", "conversation_id": "c-1", "number": 1, "intent": "chitchat",
                "state": "completed", "usage": { "input_tokens": 0, "output_tokens": 0 }, "ended_at": START_MS,
                "follow_up": true,
            }),
        ),
    ];
    for (task, queue, body) in cases {
        let sqs = Fake::always(StatusCode::OK, SENT).await;
        send(&sqs.url, &task, 0).await.unwrap();
        let requests = sqs.requests();
        assert_eq!(requests.len(), 1);
        let (operation, mut request) = asked(&requests[0]);
        let sent: Value = serde_json::from_str(request["MessageBody"].take().as_str().unwrap()).unwrap();
        assert_eq!((operation.as_str(), sent), ("SendMessage", body));
        assert_eq!(request, json!({ "QueueUrl": queue, "MessageBody": null, "DelaySeconds": 0 }), "and nothing else");
    }
}

#[tokio::test]
async fn a_delay_is_whole_seconds_rounded_up_and_at_most_a_quarter_of_an_hour() {
    let sqs = Fake::always(StatusCode::OK, SENT).await;
    let cases = [(0, 0), (1, 1), (1_000, 1), (1_001, 2), (15_000, 15), (899_001, 900), (900_001, 900), (u64::MAX, 900)];
    for (delay_ms, seconds) in cases {
        send(&sqs.url, &Task::Watch { turn_id: turn_id(), epoch: 1 }, delay_ms).await.unwrap();
        assert_eq!(sqs.requests().last().unwrap().json()["DelaySeconds"], json!(seconds), "{delay_ms} ms");
    }
}

#[tokio::test]
async fn a_message_is_hidden_for_whole_seconds_rounded_up_and_at_most_twelve_hours() {
    let sqs = Fake::always(StatusCode::OK, "{}").await;
    for (for_ms, seconds) in [(0, 0), (1, 1), (30_000, 30), (30_001, 31), (43_200_001, 43_200), (u64::MAX, 43_200)] {
        within(messages(&sqs.url).hide("receipt", for_ms)).await.unwrap();
        let expected = json!({ "QueueUrl": FOLLOW_UP, "ReceiptHandle": "receipt", "VisibilityTimeout": seconds });
        assert_eq!(asked(sqs.requests().last().unwrap()), ("ChangeMessageVisibility".to_owned(), expected));
    }
}

#[tokio::test]
async fn a_refused_message_goes_to_the_dead_letters_with_its_past_and_the_reason() {
    let sqs = Fake::always(StatusCode::OK, SENT).await;
    within(messages(&sqs.url).refuse("{\"kind\":", 2, START_MS, "not a task")).await.unwrap();
    let expected = json!({
        "QueueUrl": FOLLOW_UP_DLQ,
        "MessageBody": "{\"kind\":",
        "MessageAttributes": {
            "redrives": { "DataType": "Number", "StringValue": "2" },
            "first_sent_at": { "DataType": "Number", "StringValue": START_MS.to_string() },
            "reason": { "DataType": "String", "StringValue": "not a task" },
        },
    });
    assert_eq!(asked(&sqs.requests()[0]), ("SendMessage".to_owned(), expected));
}

#[tokio::test]
async fn queues_that_are_broken_silent_or_out_of_reach_are_unavailable() {
    let watch = Task::Watch { turn_id: turn_id(), epoch: 1 };
    let broken = Fake::always(StatusCode::INTERNAL_SERVER_ERROR, "").await;
    failure(send(&broken.url, &watch, 0).await);
    assert_eq!(broken.requests().len(), 3);
    let unreachable = nobody().await;
    failure(send(&unreachable, &watch, 0).await);
    failure(within(messages(&unreachable).hide("receipt", 0)).await);
    failure(within(messages(&unreachable).refuse("body", 0, 0, "reason")).await);
    let silent = Fake::silent().await;
    failure(send(&silent.url, &watch, 0).await);
    assert!((1..=2).contains(&silent.requests().len()), "attempts of 1 s within 2 s");
}

/// A queue whose messages are all visible.
pub async fn with_nothing_in_flight() -> Fake {
    Fake::start(|_| {
        let code = [("x-amzn-query-error", "AWS.SimpleQueueService.MessageNotInflight;Sender")];
        let refusal = r#"{"__type":"com.amazonaws.sqs#MessageNotInflight","message":"visible"}"#;
        std::future::ready(Some((StatusCode::BAD_REQUEST, code, refusal).into_response()))
    })
    .await
}

#[tokio::test]
async fn hiding_a_message_that_is_no_longer_ours_fails() {
    let sqs = with_nothing_in_flight().await;
    failure(within(messages(&sqs.url).hide("receipt", 1)).await);
    assert_eq!(sqs.requests().len(), 1);
}
