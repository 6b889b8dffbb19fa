//! The stand-in as the AWS SDK for Rust sees it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "a test fails by panicking")]

mod answers;
mod control;
mod faults;
mod forwarding;
mod guardrail;
mod scripts;
mod streaming;
mod validation;

use std::time::Duration;

use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::config::{Config as ClientConfig, Credentials, Region, retry::RetryConfig};
use aws_sdk_bedrockruntime::operation::converse_stream::builders::ConverseStreamFluentBuilder;
use aws_sdk_bedrockruntime::types::{
    ContentBlock, ConversationRole, ConverseStreamMetadataEvent, ConverseStreamOutput, InferenceConfiguration, Message,
    StopReason,
};
use bedrock_stand_in::{Config, StandIn, Stats};
use serde_json::Value;
use tokio::net::TcpListener;

const MODEL: &str = "anthropic.claude-sonnet-4-20250514-v1:0";
/// Long enough for any machine; reaching it is a failure, never a pass.
const PATIENCE: Duration = Duration::from_secs(30);

/// No pacing: nothing here waits unless the test says so.
fn unpaced() -> Config {
    Config { first_token_ms: 0, tokens_per_second: 0, ..Config::default() }
}

async fn start(config: Config) -> (StandIn, Client) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stand_in = StandIn::start(listener, config);
    let client = Client::from_conf(
        ClientConfig::builder()
            .region(Region::new("ap-northeast-1"))
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .endpoint_url(stand_in.url())
            .retry_config(RetryConfig::disabled())
            .build(),
    );
    (stand_in, client)
}

fn message(role: ConversationRole, text: &str) -> Message {
    Message::builder().role(role).content(ContentBlock::Text(text.to_owned())).build().unwrap()
}

fn user(text: &str) -> Message {
    message(ConversationRole::User, text)
}

fn assistant(text: &str) -> Message {
    message(ConversationRole::Assistant, text)
}

fn max_tokens(max: i32) -> InferenceConfiguration {
    InferenceConfiguration::builder().max_tokens(max).build()
}

/// A question in the form the chat gives it.
fn asked(locale: &str, data: &Value, question: &str) -> Message {
    let data = data.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let question = question.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    user(&format!("<store_data>\n{data}\n</store_data>\n<question locale=\"{locale}\">\n{question}\n</question>"))
}

fn ask(client: &Client, messages: impl IntoIterator<Item = Message>) -> ConverseStreamFluentBuilder {
    client.converse_stream().model_id(MODEL).set_messages(Some(messages.into_iter().collect()))
}

/// A whole answer, checked for the order of its events.
struct Answer {
    deltas: Vec<String>,
    stop_reason: StopReason,
    metadata: ConverseStreamMetadataEvent,
}

impl Answer {
    fn text(&self) -> String {
        self.deltas.concat()
    }

    fn output_tokens(&self) -> usize {
        usize::try_from(self.metadata.usage().unwrap().output_tokens()).unwrap()
    }
}

async fn answer(request: ConverseStreamFluentBuilder) -> Answer {
    within(async {
        let mut stream = request.send().await.unwrap().stream;
        let mut events = Vec::new();
        while let Some(event) = stream.recv().await.unwrap() {
            events.push(event);
        }
        let mut events = events.into_iter();
        let ConverseStreamOutput::MessageStart(begin) = events.next().unwrap() else { panic!("no messageStart") };
        assert_eq!(begin.role(), &ConversationRole::Assistant);
        let mut deltas = Vec::new();
        let end = loop {
            match events.next().unwrap() {
                ConverseStreamOutput::ContentBlockDelta(delta) => {
                    assert_eq!(delta.content_block_index(), 0);
                    deltas.push(delta.delta().unwrap().as_text().unwrap().clone());
                }
                other => break other,
            }
        };
        let ConverseStreamOutput::ContentBlockStop(_) = end else { panic!("no contentBlockStop: {end:?}") };
        let ConverseStreamOutput::MessageStop(stop) = events.next().unwrap() else { panic!("no messageStop") };
        let ConverseStreamOutput::Metadata(metadata) = events.next().unwrap() else { panic!("no metadata") };
        assert_eq!(events.next(), None);
        Answer { deltas, stop_reason: stop.stop_reason, metadata }
    })
    .await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

/// Waits for counters that change when the server notices something, and only then.
async fn stats_until(stand_in: &StandIn, done: impl Fn(&Stats) -> bool) -> Stats {
    within(async {
        loop {
            let stats = stand_in.stats();
            if done(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}
