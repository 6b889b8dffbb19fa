//! A long conversation is summed up, and the model is told the summary.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use bedrock_stand_in::Request;
use serde_json::{Value, json};

use crate::client::{Client, message, message_in};
use crate::eventually::eventually;
use crate::stack::{Running, shared};

/// The summary that covers the first turns comes with the sixth.
const SUMMED_UP: usize = 6;

/// The watchdog looks at a turn 15 s after it was asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tells this conversation's requests from all others.
const MARK: &str = "the lighthouse keeper's question";

/// All of a message; what a guardrail is to look at stands in a block of its own.
pub fn text(message: &Value) -> String {
    let block = |block: &Value| {
        let text = block["text"].as_str().or(block["guardContent"]["text"]["text"].as_str());
        text.unwrap().to_owned()
    };
    message["content"].as_array().unwrap().iter().map(block).collect()
}

/// What the model was asked last about this.
fn asked_about(stack: &Running, wanted: &str) -> Request {
    let asked =
        stack.model_requests().into_iter().rfind(|request| request.body["messages"].to_string().contains(wanted));
    asked.expect("the model was asked")
}

async fn summary(stack: &Running, conversation_id: &str) -> Option<String> {
    let text = |text: String| AttributeValue::S(text);
    let read = aws_sdk_dynamodb::Client::new(&stack.sdk()).get_item().table_name(stack.output("TableName"));
    let read = read.key("pk", text(format!("conversation#{conversation_id}"))).key("sk", text("~summary".to_owned()));
    let item = read.consistent_read(true).send().await.unwrap().item?;
    Some(item["summary"].as_s().unwrap().to_owned())
}

#[tokio::test]
async fn what_leaves_the_prompt_stays_in_the_summary() {
    let stack = shared().await;
    let mut client = Client::guest(&stack).await;
    client.start_session(json!({"locale": "en"})).await;
    let first = client.ask(&message(&format!("Do you have manga about {MARK} number 1."))).await;
    let conversation = first.conversation_id();
    for number in 2..=SUMMED_UP {
        client.ask(&message_in(conversation, &format!("Do you have manga about {MARK} number {number}."))).await;
    }
    let summary = eventually("summary", PATIENCE, async || summary(&stack, conversation).await).await;
    let summed_up = asked_about(&stack, "<conversation>");
    let said = text(&summed_up.body["messages"][0]);
    for number in 1..=SUMMED_UP {
        assert!(said.contains(&format!("{MARK} number {number}.")), "{said}");
    }

    client.ask(&message_in(conversation, &format!("Do you have manga about {MARK} number 7."))).await;
    let request = asked_about(&stack, &format!("{MARK} number 7."));
    let system = text(&json!({"content": request.body["system"]}));
    assert!(system.contains(&format!("<conversation_summary>\n{summary}\n</conversation_summary>")), "{system}");
    let messages = request.body["messages"].as_array().unwrap();
    assert!(messages.len() <= 2 * SUMMED_UP + 1, "{messages:#?}");

    // One turn later the first exchange is left to the summary.
    client.ask(&message_in(conversation, &format!("Do you have manga about {MARK} number 8."))).await;
    let request = asked_about(&stack, &format!("{MARK} number 8."));
    assert!(!request.body["messages"].to_string().contains(&format!("{MARK} number 1.")), "{request:#?}");
}
