//! Prints what a shopper sees, and how long the first token takes, for each fault of each dependency: the local stack with its
//! faults on purpose, the functions in the release profile if `--release` is given to the program.
//!
//! `cargo run -p integration-tests --example degradation`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be made is given up"
)]

#[path = "../it/processes.rs"]
mod processes;

use std::collections::BTreeMap;
use std::env;
use std::time::{Duration, Instant};

use bedrock_stand_in::Faults;
use futures_util::{SinkExt as _, StreamExt as _};
use local::{Options, Stack, Target};
use processes::environments;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use uuid::Uuid;

/// Turns of each measurement, of which the median is printed.
const TURNS: usize = 5;

/// A turn that has not ended by then goes on in the queue.
const PATIENCE: Duration = Duration::from_secs(20);

/// Questions, each on its path.
const PRODUCT: &str = "Do you have One Piece volume 1?";
const RECOMMEND: &str = "Can you recommend me something good to read?";
const SHIPPING: &str = "How much is the shipping fee?";
const ORDERS: &str = "Where is my order?";
const PROMOTIONS: &str = "Are there any promotions or coupons right now?";
/// Needs the catalog, recommendations and, because nobody can tell what it means, help articles.
const UNCLEAR: &str = "asdf qwer zxcv";

#[tokio::main]
async fn main() {
    let release = env::args().any(|argument| argument == "--release");
    let stack = Stack::start(Options { release, ..Options::default() }, |step| eprintln!("{step}")).await.unwrap();
    let lab = Lab { stack };
    lab.anew().await;

    println!(
        "| what is wrong | asked | tier | path | frames the shopper sees | first token, ms: first turn | later turns | end |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (target, fault, question, tier) in [
        (None, "", PRODUCT, "–"),
        (Some(Target::Catalog), "error=1", PRODUCT, "2"),
        (Some(Target::Catalog), "stall", PRODUCT, "2"),
        (Some(Target::Catalog), "throttle", PRODUCT, "2"),
        (None, "", RECOMMEND, "–"),
        (Some(Target::Recommendations), "error=1", RECOMMEND, "2"),
        (Some(Target::Recommendations), "stall", RECOMMEND, "2"),
        (None, "", ORDERS, "–"),
        (Some(Target::Orders), "error=1", ORDERS, "2"),
        (Some(Target::Orders), "stall", ORDERS, "2"),
        (None, "", SHIPPING, "–"),
        (Some(Target::Knowledge), "error=1", SHIPPING, "2"),
        (Some(Target::Knowledge), "stall", SHIPPING, "2"),
        (Some(Target::Promotions), "stall", PRODUCT, "3"),
        (Some(Target::Reviews), "stall", PRODUCT, "3"),
        (None, "", PROMOTIONS, "–"),
        (Some(Target::Promotions), "error=1", PROMOTIONS, "3"),
        (Some(Target::Valkey), "stall", PRODUCT, "–"),
        (Some(Target::Valkey), "error=1", PRODUCT, "–"),
        (Some(Target::Bedrock), "error=1", PRODUCT, "1"),
        (Some(Target::Bedrock), "throttle", PRODUCT, "1"),
    ] {
        lab.anew().await;
        if let Some(target) = target {
            lab.stack.fault(target, fault.parse().unwrap());
        }
        let mut seen = Vec::new();
        for _ in 0..TURNS {
            seen.push(lab.ask(question).await);
        }
        let what = target.map_or("nothing".to_owned(), |target| format!("`{target} {fault}`"));
        print_row(&what, question, tier, &seen);
    }
    lab.anew().await;
    lab.stack.bedrock().set_faults(Faults {
        throttle_rate: 1.0,
        models: vec!["claude".to_owned()],
        ..Faults::default()
    });
    let mut seen = Vec::new();
    for _ in 0..TURNS {
        seen.push(lab.ask(PRODUCT).await);
    }
    print_row("only the primary model throttles", PRODUCT, "1", &seen);

    println!();
    println!("| added on the way | model asked after, ms (median of {TURNS}) |");
    println!("|---|---|");
    lab.anew().await;
    // Without what was cached: each question is another.
    let before = lab.median_until_asked().await;
    println!("| nothing | {before} |");
    lab.stack.fault(Target::Recommendations, "latency=200ms".parse().unwrap());
    lab.stack.fault(Target::Catalog, "latency=100ms".parse().unwrap());
    lab.stack.fault(Target::Knowledge, "latency=300ms".parse().unwrap());
    let after = lab.median_until_asked().await;
    println!(
        "| recommendations 200 ms, catalog 100 ms, knowledge 300 ms | {after} (+{}) |",
        after.saturating_sub(before)
    );
    lab.stack.stop().await.unwrap();
}

/// What came of one turn.
struct Seen {
    path: String,
    frames: Vec<String>,
    first_token: Option<Duration>,
    end: String,
}

struct Lab {
    stack: Stack,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Lab {
    /// Nothing is wrong, no cache holds anything, every function starts anew, and two turns have warmed them up.
    async fn anew(&self) {
        self.stack.end_faults();
        self.stack.bedrock().set_faults(Faults::default());
        self.stack.valkey().kill();
        self.stack.valkey().restart().await.unwrap();
        environments(self.stack.aws_url()).iter().filter(|environment| !environment.function.is_empty()).for_each(
            |environment| {
                environment.kill();
            },
        );
        let table = &self.stack.outputs()["TableName"];
        let http = reqwest::Client::new();
        for copy in 0..domain::limits::HINT_COPIES {
            let key = json!({"pk": {"S": format!("hints#{copy}")}, "sk": {"S": "hints"}});
            http.post(self.stack.aws_url())
                .header("content-type", "application/x-amz-json-1.0")
                .header("x-amz-target", "DynamoDB_20120810.DeleteItem")
                .body(json!({"TableName": table, "Key": key}).to_string())
                .send()
                .await
                .unwrap();
        }
        for _ in 0..2 {
            self.ask("Hello!").await;
        }
    }

    /// Connects as a shopper for questions about orders, else as another guest each time, whose bucket is full.
    async fn connect(&self, question: &str) -> Socket {
        let mut request =
            ClientRequestBuilder::new(self.stack.websocket_url().parse().unwrap()).with_sub_protocol("manga-chat.v1");
        if question == ORDERS {
            let token = self.stack.token("aiko").await.unwrap();
            request = request.with_sub_protocol(format!("bearer.{token}"));
        }
        connect_async(request).await.expect("the gateway admits").0
    }

    async fn ask(&self, question: &str) -> Seen {
        let mut socket = self.connect(question).await;
        let asked = json!({
            "action": "message.send", "client_message_id": Uuid::new_v4(), "text": question, "locale": "en",
            "context": {"product_id": "one-piece-1"},
        });
        let begun = Instant::now();
        socket.send(Message::text(asked.to_string())).await.unwrap();
        let mut seen = Seen { path: String::new(), frames: Vec::new(), first_token: None, end: "none".to_owned() };
        let reading = async {
            loop {
                let Some(Ok(Message::Text(text))) = socket.next().await else { continue };
                let frame: Value = serde_json::from_str(&text).unwrap();
                let kind = frame["type"].as_str().unwrap_or("error").to_owned();
                match kind.as_str() {
                    "turn.started" => seen.path = frame["data"]["path"].as_str().unwrap().to_owned(),
                    "text.delta" => _ = seen.first_token.get_or_insert_with(|| begun.elapsed()),
                    "degraded" => {
                        let of = frame["data"]["dependency"].as_str().or(frame["data"]["step"].as_str()).unwrap();
                        seen.frames.push(format!("degraded {of}"));
                    }
                    "card.product" | "card.order" | "source" => seen.frames.push(kind.clone()),
                    "turn.queued" | "turn.completed" | "turn.failed" | "turn.cancelled" | "error" => {
                        seen.end = kind;
                        break;
                    }
                    _other => {}
                }
            }
        };
        let _ = timeout(PATIENCE, reading).await;
        let _ = socket.close(None).await;
        seen
    }

    /// From a question's being sent to the model's being asked, ms: the median of several that are asked for the first time.
    async fn median_until_asked(&self) -> u64 {
        let mut waits = Vec::new();
        for number in 0..TURNS {
            let question = format!("{UNCLEAR} {number} {}", Uuid::new_v4());
            let sent_at = now_ms();
            self.ask(&question).await;
            let requests = self.stack.bedrock().requests();
            let asked = requests.iter().rfind(|request| request.body.to_string().contains(&question)).unwrap();
            waits.push(asked.at_ms - sent_at);
            sleep(Duration::from_millis(100)).await;
        }
        waits.sort_unstable();
        waits[waits.len() / 2]
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_millis().try_into().unwrap()
}

fn print_row(what: &str, question: &str, tier: &str, seen: &[Seen]) {
    let ms = |seen: &Seen| seen.first_token.map_or("–".to_owned(), |wait| wait.as_millis().to_string());
    let mut later: Vec<Option<Duration>> = seen[1..].iter().map(|seen| seen.first_token).collect();
    later.sort_unstable();
    let median = later[later.len() / 2].map_or("–".to_owned(), |wait| wait.as_millis().to_string());
    let mut frames: BTreeMap<&str, usize> = BTreeMap::new();
    seen[0].frames.iter().for_each(|frame| *frames.entry(frame).or_default() += 1);
    let frames: Vec<String> = frames
        .into_iter()
        .map(|(frame, count)| if count > 1 { format!("{count} × `{frame}`") } else { format!("`{frame}`") })
        .collect();
    println!(
        "| {what} | {question} | {tier} | {} | {} | {} | {median} | `{}` |",
        seen[0].path,
        frames.join(", "),
        ms(&seen[0]),
        seen[0].end
    );
}
