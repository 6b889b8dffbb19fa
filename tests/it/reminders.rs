//! A shopper who asks to be reminded of a pre-order is reminded, once.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_scheduler::types::ScheduleSummary;
use serde_json::{Value, json};

use crate::client::{Client, message, now_ms};
use crate::eventually::eventually;
use crate::queues::Queue;
use crate::stack::{Running, exclusive, shared};
use crate::turn::kind;

/// The sample shopper's only order that waits for its publication.
const PREORDERED: &str = "MC-2026-000148";

/// The watchdog looks at a turn 15 s after it was asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for two reminders, and returns their tasks as EventBridge Scheduler has them.
async fn scheduled(stack: &'static Running) -> [Value; 2] {
    let mut client = Client::shopper(stack, "aiko").await;
    client.start_session(json!({"locale": "en"})).await;
    let mut eta = String::new();
    for _ in 0..2 {
        let turn = client.ask(&message("Please remind me when my pre-order arrives.")).await;
        let cards = turn.shown().cards;
        let order = cards.iter().find(|card| card["order_id"] == PREORDERED).expect("the pre-order is shown");
        order["eta"].as_str().unwrap().clone_into(&mut eta);
    }
    let schedules = eventually("two schedules", PATIENCE, async || {
        let listed = scheduler(stack).list_schedules().group_name(GROUP).send().await.unwrap();
        <[ScheduleSummary; 2]>::try_from(listed.schedules).ok()
    });
    let mut tasks = Vec::new();
    for summary in schedules.await {
        let name = summary.name.expect("a schedule has a name");
        let schedule = scheduler(stack).get_schedule().name(name).group_name(GROUP).send().await.unwrap();
        // Nine in the morning in Japan.
        assert_eq!(schedule.schedule_expression.unwrap(), format!("at({eta}T00:00:00)"));
        let target = schedule.target.expect("a schedule has a target");
        let queue = stack.output("FollowUpQueueUrl").rsplit('/').next().unwrap();
        assert!(target.arn.ends_with(&format!(":{queue}")), "{target:?}");
        tasks.push(serde_json::from_str(&target.input.expect("the task")).expect("JSON"));
    }
    tasks.try_into().unwrap()
}

/// Named by the template after the stack.
const GROUP: &str = "manga-chat-reminders";

fn scheduler(stack: &Running) -> aws_sdk_scheduler::Client {
    aws_sdk_scheduler::Client::new(&stack.sdk())
}

/// Lets the time come at which the reminder is due.
async fn make_due(stack: &Running, task: &Value) {
    let text = |text: String| AttributeValue::S(text);
    aws_sdk_dynamodb::Client::new(&stack.sdk())
        .update_item()
        .table_name(stack.output("TableName"))
        .key("pk", text(format!("principal#{}", task["principal"].as_str().unwrap())))
        .key("sk", text(format!("follow_up#{}", task["follow_up_id"].as_str().unwrap())))
        .update_expression("SET due_at = :now")
        .expression_attribute_values(":now", AttributeValue::N(now_ms().to_string()))
        .send()
        .await
        .unwrap();
}

fn assert_reminds(frame: &Value, task: &Value) {
    let reminder = &frame["data"];
    assert_eq!((&reminder["kind"], &reminder["follow_up_id"]), (&json!("preorder_reminder"), &task["follow_up_id"]));
    assert!(reminder["text"].as_str().unwrap().contains(PREORDERED), "{reminder}");
    assert_eq!(reminder["cards"][0]["data"]["order_id"], PREORDERED);
}

#[tokio::test]
async fn reminders_are_scheduled_and_reach_the_shopper_once() {
    let [present, absent] = {
        let stack = shared().await;
        scheduled(*stack).await
    };
    // Alone, because other tests are this shopper, too.
    let stack = exclusive().await;
    let queue = Queue::at(&stack.sdk(), stack.output("FollowUpQueueUrl"));
    // Nobody is there: it waits for the next visit.
    make_due(&stack, &absent).await;
    queue.send(&absent.to_string()).await;
    queue.drained().await;
    let mut visit = Client::shopper(*stack, "aiko").await;
    visit.start_session(json!({})).await;
    assert_reminds(&follow_up(&mut visit).await, &absent);
    visit.start_session(json!({})).await;
    visit.assert_silent().await;

    // Every connection gets it at once, however often the queue delivers its task.
    let mut tabs = [visit, Client::shopper(*stack, "aiko").await];
    for _ in 0..2 {
        queue.send(&present.to_string()).await;
    }
    for tab in &mut tabs {
        assert_reminds(&follow_up(tab).await, &present);
    }
    queue.drained().await;
    for tab in &mut tabs {
        tab.start_session(json!({})).await;
        tab.assert_silent().await;
    }
}

async fn follow_up(client: &mut Client) -> Value {
    client.take("follow_up", |frame| kind(frame) == "follow_up").await
}
