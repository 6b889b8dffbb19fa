//! `DynamoDbFollowUps` on an engine, with a scheduler and a queue of a test's making.

use std::collections::BTreeMap;

use aws_adapters::{DynamoDbFollowUps, Schedules, SqsQueues, clients};
use aws_sdk_dynamodb::Client;
use axum::http::StatusCode;
use domain::ports::{ClaimOutcome, FollowUpStore, ScheduledFollowUp};
use serde_json::{Value, json};
use testkit::{ManualClock, START_MS, contract, samples};

use crate::engine::{Engine, TABLE, client};
use crate::fake::{Fake, nobody};
use crate::queues::asked;
use crate::{environment, failure, within};

const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What both a schedule and a message are acknowledged with.
const TAKEN: &str = r#"{"MessageId":"m-1","ScheduleArn":"arn:aws:scheduler:ap-northeast-1:000000000000:schedule/g/f"}"#;

fn schedules(url: &str) -> Schedules {
    let sdk = environment(url);
    Schedules {
        client: clients::scheduler(&sdk),
        group: "reminders".to_owned(),
        queue_arn: "arn:aws:sqs:ap-northeast-1:000000000000:follow-up".to_owned(),
        role_arn: "arn:aws:iam::000000000000:role/scheduler".to_owned(),
        queues: SqsQueues::new(clients::sqs(&sdk), "http://sqs.example/watchdog", "http://sqs.example/follow-up"),
    }
}

fn follow_ups(client: &Client, schedules: Option<Schedules>) -> DynamoDbFollowUps<ManualClock> {
    DynamoDbFollowUps::new(client.clone(), TABLE, schedules, ManualClock::new())
}

fn follow_up(id: &str, due_at: u64) -> ScheduledFollowUp {
    samples::follow_up(id, &samples::shopper("aiko"), due_at)
}

#[tokio::test]
async fn keeps_its_contract() {
    let engine = Engine::start().await;
    let aws = Fake::always(StatusCode::OK, TAKEN).await;
    let store = follow_ups(&engine.client, Some(schedules(&aws.url)));
    within(contract::follow_ups(&store, "f", START_MS)).await;
}

#[tokio::test]
async fn keeps_its_contract_when_the_first_answer_to_every_write_is_lost() {
    let engine = Engine::start().await;
    let aws = Fake::always(StatusCode::OK, TAKEN).await;
    let wire = engine.behind_a_lossy_wire(1).await;
    within(contract::follow_ups(&follow_ups(&wire.client, Some(schedules(&aws.url))), "f", START_MS)).await;
    assert!(wire.lost() > 0);
}

#[tokio::test]
async fn a_follow_up_is_scheduled_once_for_the_second_it_is_due() {
    let engine = Engine::start().await;
    let scheduler = Fake::always(StatusCode::OK, TAKEN).await;
    let store = follow_ups(&engine.client, Some(schedules(&scheduler.url)));
    let due_at = START_MS + DAY_MS + 1;
    store.schedule(&follow_up("f-1", due_at)).await.unwrap();
    let requests = scheduler.requests();
    assert_eq!((requests.len(), requests[0].target.as_str()), (1, "/schedules/f-1"));
    let mut body = requests[0].json();
    let input: Value = serde_json::from_str(body["Target"]["Input"].take().as_str().unwrap()).unwrap();
    assert_eq!(input, json!({ "kind": "remind", "principal": "shopper:aiko", "follow_up_id": "f-1" }));
    assert!(body["ClientToken"].take().is_string());
    let expected = json!({
        "ActionAfterCompletion": "DELETE",
        "ClientToken": null,
        "FlexibleTimeWindow": { "Mode": "OFF" },
        "GroupName": "reminders",
        "ScheduleExpression": "at(2026-11-22T00:00:01)",
        "ScheduleExpressionTimezone": "UTC",
        "Target": {
            "Arn": "arn:aws:sqs:ap-northeast-1:000000000000:follow-up",
            "Input": null,
            "RoleArn": "arn:aws:iam::000000000000:role/scheduler",
        },
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn what_is_due_within_a_minute_is_a_delayed_message() {
    let cases = [(START_MS - DAY_MS, Some(0)), (START_MS, Some(0)), (START_MS + 59_001, Some(60))];
    let cases = cases.into_iter().chain([(START_MS + 60_000, Some(60)), (START_MS + 60_001, None)]);
    for (due_at, delay) in cases {
        let engine = Engine::start().await;
        let aws = Fake::always(StatusCode::OK, TAKEN).await;
        let store = follow_ups(&engine.client, Some(schedules(&aws.url)));
        store.schedule(&follow_up("f-1", due_at)).await.unwrap();
        let requests = aws.requests();
        assert_eq!(requests.len(), 1);
        let Some(delay) = delay else {
            assert_eq!(requests[0].target, "/schedules/f-1");
            continue;
        };
        let (operation, request) = asked(&requests[0]);
        assert_eq!(operation, "SendMessage");
        assert_eq!(request["QueueUrl"], "http://sqs.example/follow-up");
        assert_eq!(request["DelaySeconds"], delay);
        let task: Value = serde_json::from_str(request["MessageBody"].as_str().unwrap()).unwrap();
        assert_eq!(task, json!({ "kind": "remind", "principal": "shopper:aiko", "follow_up_id": "f-1" }));
    }
}

#[tokio::test]
async fn a_schedule_that_exists_is_one_that_was_made() {
    let engine = Engine::start().await;
    let refusal = r#"{"Message":"it exists"}"#;
    let answer = move |error: &'static str| {
        Fake::start(move |_| {
            let headers = [("x-amzn-errortype", error)];
            std::future::ready(Some(axum::response::IntoResponse::into_response((
                StatusCode::CONFLICT,
                headers,
                refusal,
            ))))
        })
    };
    let due = follow_up("f-1", START_MS + DAY_MS);
    let conflict = answer("ConflictException").await;
    follow_ups(&engine.client, Some(schedules(&conflict.url))).schedule(&due).await.unwrap();
    let invalid = answer("ValidationException").await;
    failure(follow_ups(&engine.client, Some(schedules(&invalid.url))).schedule(&due).await);
}

#[tokio::test]
async fn a_follow_up_without_its_schedule_is_still_due() {
    let engine = Engine::start().await;
    let unscheduled = follow_ups(&engine.client, Some(schedules(&nobody().await)));
    let late = follow_up("f-1", START_MS + DAY_MS);
    failure(within(unscheduled.schedule(&late)).await);
    failure(within(unscheduled.schedule(&follow_up("f-2", START_MS))).await);
    let store = follow_ups(&engine.client, None);
    let aiko = samples::shopper("aiko");
    assert_eq!(store.due(&aiko, START_MS, 5).await.unwrap(), [follow_up("f-2", START_MS)]);
    assert_eq!(store.due(&aiko, START_MS + DAY_MS, 5).await.unwrap(), [follow_up("f-2", START_MS), late]);
}

#[tokio::test]
async fn without_schedules_nothing_is_scheduled() {
    let engine = Engine::start().await;
    let store = follow_ups(&engine.client, None);
    failure(store.schedule(&follow_up("f-1", START_MS)).await);
    assert_eq!(engine.lines().await, BTreeMap::new());
}

#[tokio::test]
async fn items_are_laid_out_as_documented_and_a_delivered_one_is_only_a_mark() {
    let engine = Engine::start().await;
    let aws = Fake::always(StatusCode::OK, TAKEN).await;
    let store = follow_ups(&engine.client, Some(schedules(&aws.url)));
    let aiko = samples::shopper("aiko");
    for id in ["f-1", "f-2", "f-3"] {
        store.schedule(&follow_up(id, START_MS + 1)).await.unwrap();
    }
    let now = START_MS + 1;
    for id in ["f-2", "f-3"] {
        let claim = store.claim(&aiko, id, "attempt", now, now + 1).await.unwrap();
        assert_eq!(claim, ClaimOutcome::Claimed(follow_up(id, now)));
    }
    store.finish(&aiko, "f-3", "attempt", true).await.unwrap();
    let thirty_days_on = START_MS / 1_000 + 30 * 86_400 + 1;
    let expected = [
        ("f-1", "due_at expires_at message"),
        ("f-2", "claimed_by claimed_until due_at expires_at message"),
        ("f-3", "delivered due_at expires_at"),
    ];
    let expected = expected
        .map(|(id, names)| (format!("principal#shopper:aiko follow_up#{id}"), format!("{names} = {thirty_days_on}")));
    assert_eq!(engine.lines().await, BTreeMap::from(expected));
    store.schedule(&follow_up("f-3", START_MS + 1)).await.unwrap();
    let again = store.claim(&aiko, "f-3", "again", now, now + 1).await.unwrap();
    assert_eq!(again, ClaimOutcome::Done, "scheduling it again delivers nothing again");
}

#[tokio::test]
async fn an_expired_follow_up_is_gone_before_dynamodb_deletes_it() {
    let engine = Engine::start().await;
    let aws = Fake::always(StatusCode::OK, TAKEN).await;
    let store = follow_ups(&engine.client, Some(schedules(&aws.url)));
    let aiko = samples::shopper("aiko");
    store.schedule(&follow_up("f-1", START_MS)).await.unwrap();
    let gone_at = START_MS + 30 * DAY_MS;
    assert_eq!(store.due(&aiko, gone_at - 1, 5).await.unwrap().len(), 1);
    assert_eq!(store.due(&aiko, gone_at, 5).await.unwrap(), []);
    assert_eq!(store.claim(&aiko, "f-1", "late", gone_at, gone_at + 1).await.unwrap(), ClaimOutcome::Done);
    let claim = store.claim(&aiko, "f-1", "just in time", gone_at - 1, gone_at).await.unwrap();
    assert_eq!(claim, ClaimOutcome::Claimed(follow_up("f-1", START_MS)));
}

#[tokio::test]
async fn without_its_table_or_out_of_reach_the_store_is_unavailable() {
    let engine = Engine::start().await;
    engine.client.delete_table().table_name(TABLE).send().await.unwrap();
    let aws = Fake::always(StatusCode::OK, TAKEN).await;
    let aiko = samples::shopper("aiko");
    for client in [engine.client.clone(), client(&nobody().await)] {
        let store = follow_ups(&client, Some(schedules(&aws.url)));
        failure(within(store.schedule(&follow_up("f-1", START_MS))).await);
        failure(within(store.due(&aiko, START_MS, 5)).await);
        failure(within(store.claim(&aiko, "f-1", "attempt", START_MS, START_MS + 1)).await);
        failure(within(store.finish(&aiko, "f-1", "attempt", true)).await);
    }
    assert_eq!(aws.requests().len(), 0, "nothing is scheduled that is not stored");
}
