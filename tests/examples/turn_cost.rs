//! Prints what a turn costs, beside the budgets: the release build of `message`, in a process of its own, whose whole
//! world is this program. Every call of the function passes through here and is noted; DynamoDB is an engine in memory
//! that says how many units each request consumed. The watchdog, which looks at the turn when it has ended, runs in this
//! program, and its requests count.
//!
//! `cargo run --release -p integration-tests --example turn_cost`

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot be made is given up"
)]

mod release;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_adapters::WatchdogAdapters;
use aws_adapters::configuration::WatchdogConfiguration;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message as EventStreamMessage};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::{Listener, ListenerExt as _};
use domain::store::{ArticlePage, OfferPage, Product, ProductOffer, ProductPage, PromotionPage, RecommendationPage};
use dynoxide::Database;
use futures_util::Stream;
use serde_json::{Value, json};
use testkit::{InMemory, StoreData, samples};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

/// The turn of the budgets: the question, bytes.
const QUESTION_BYTES: usize = 1_024;
/// Of which the answer consists.
const TOKENS: u32 = 300;
/// From the model's being asked to its first token: longer than anything else takes.
const FIRST_TOKEN: Duration = Duration::from_millis(300);
/// From the first token to the last.
const ANSWER: Duration = Duration::from_secs(4);
/// Each DynamoDB request of a measured turn takes this longer: requests made side by side overlap without doubt.
const DYNAMODB_LATENCY: Duration = Duration::from_millis(20);
/// Earlier turns of the conversation of each measured turn: none, a full history window, twice that.
const EARLIER_TURNS: [usize; 3] = [0, 5, 12];
/// Turns of the latency measurements.
const LATENCY_TURNS: usize = 1_000;

/// A call of the function, from its arrival here to its answer.
struct Call {
    began: Instant,
    ended: Instant,
    kind: Kind,
}

enum Kind {
    /// A request to DynamoDB: operation and item, units written, units read.
    DynamoDb(String, f64, f64),
    /// A frame to a client.
    Callback(Value),
    Model,
    Store,
    /// A task for a queue, as it was sent.
    Task(String),
    Event,
}

/// What the function is given to do and what it has done.
struct World {
    invocations: tokio::sync::Mutex<mpsc::Receiver<String>>,
    handed_over: Mutex<Option<Instant>>,
    answered: mpsc::Sender<Result<(), String>>,
    calls: Mutex<Vec<Call>>,
    first_token_at: Mutex<Option<Instant>>,
    pace: Mutex<Pace>,
    http: reqwest::Client,
    dynamodb_url: String,
}

#[derive(Clone, Copy)]
struct Pace {
    dynamodb_latency: Duration,
    first_token: Duration,
    tokens: u32,
    answer: Duration,
}

const MEASURED: Pace =
    Pace { dynamodb_latency: DYNAMODB_LATENCY, first_token: FIRST_TOKEN, tokens: TOKENS, answer: ANSWER };
/// The same turn as fast as it goes.
const FILLING: Pace =
    Pace { dynamodb_latency: Duration::ZERO, first_token: Duration::ZERO, tokens: TOKENS, answer: Duration::ZERO };
const SHORT: Pace = Pace { tokens: 1, ..FILLING };

impl World {
    fn note(&self, began: Instant, kind: Kind) {
        self.calls.lock().unwrap().push(Call { began, ended: Instant::now(), kind });
    }
}

/// The function, started and idle.
struct Function {
    process: Child,
    world: Arc<World>,
    invoke: mpsc::Sender<String>,
    answered: mpsc::Receiver<Result<(), String>>,
    watchdog: WatchdogAdapters,
}

/// What was measured of one turn.
struct Turn {
    handed_over: Instant,
    model_asked: Instant,
    first_token: Instant,
    cpu: Duration,
    calls: Vec<Call>,
}

#[tokio::main]
async fn main() {
    let executable = release::functions().remove("message").unwrap();
    let mut function = start(&executable).await;

    // Connections are made and code is warm after a few turns.
    for warm_up in 0..3 {
        function.turn(&format!("shopper:warm-{warm_up}"), None, FILLING).await;
    }
    let mut measured = Vec::new();
    let mut conversation = None;
    for turn in 0..=EARLIER_TURNS[EARLIER_TURNS.len() - 1] {
        let pace = if EARLIER_TURNS.contains(&turn) { MEASURED } else { FILLING };
        let done = function.turn("shopper:aiko", conversation.as_deref(), pace).await;
        conversation.get_or_insert_with(|| done.conversation_id());
        if EARLIER_TURNS.contains(&turn) {
            measured.push(done);
        }
    }
    let mut over_http = Vec::new();
    for turn in 0..LATENCY_TURNS {
        let done = function.turn(&format!("shopper:{turn}"), None, SHORT).await;
        over_http.push(done.model_asked - done.handed_over);
    }
    function.process.kill().unwrap();
    function.process.wait().unwrap();

    release::print_machine();
    print_turns(&measured);
    print_units(&measured[1]);
    println!("\nFrame in → model asked, {LATENCY_TURNS} turns; budget: p99 ≤ 10 ms\n");
    println!("| | p50 | p99 |\n|---|--:|--:|");
    print_latencies("the function's process, every dependency over HTTP on this machine", over_http);
    print_latencies("whole turn in process, ports in memory", in_process());
}

async fn start(executable: &std::path::Path) -> Function {
    let dynamodb = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dynamodb_url = format!("http://{}", dynamodb.local_addr().unwrap());
    tokio::spawn(dynoxide::server::serve_on(dynamodb, Database::memory().unwrap()));
    let (invoke, invocations) = mpsc::channel(1);
    let (answered_sender, answered) = mpsc::channel(1);
    let world = Arc::new(World {
        invocations: tokio::sync::Mutex::new(invocations),
        handed_over: Mutex::default(),
        answered: answered_sender,
        calls: Mutex::default(),
        first_token_at: Mutex::default(),
        pace: Mutex::new(FILLING),
        http: reqwest::Client::new(),
        dynamodb_url,
    });
    create_table(&world).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    tokio::spawn(axum::serve(without_delay(listener), router(Arc::clone(&world))).into_future());
    let mut command = release::function(executable, address);
    for service in ["CATALOG", "RECOMMENDATIONS", "ORDERS", "PROMOTIONS", "REVIEWS", "KNOWLEDGE"] {
        command.env(format!("{service}_URL"), &url);
    }
    // With a budget of tokens, which costs two writes.
    command
        .env("MODEL_TOKENS_PER_MINUTE", "1000000000")
        .env("CALLBACK_URL", format!("{url}/v1"))
        .env("AWS_ENDPOINT_URL", &url)
        .env("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", &url)
        .stdin(Stdio::null());
    let watchdog = WatchdogAdapters::new(&sdk(&url), &WatchdogConfiguration::from_lookup(sample_environment).unwrap());
    Function { process: command.spawn().unwrap(), world, invoke, answered, watchdog }
}

fn sample_environment(name: &str) -> Option<String> {
    release::sample_environment().remove(name)
}

fn sdk(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("local", "local", None, None, "local")))
        .endpoint_url(url)
        .build()
}

/// Answers leave at once, not when the one before is acknowledged.
fn without_delay(listener: TcpListener) -> impl Listener<Addr = SocketAddr> {
    listener.tap_io(|connection| connection.set_nodelay(true).unwrap())
}

async fn create_table(world: &World) {
    let key = |name: &str, kind: &str| json!({ "AttributeName": name, "KeyType": kind });
    let text = |name: &str| json!({ "AttributeName": name, "AttributeType": "S" });
    let request = json!({
        "TableName": "manga-chat-table",
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [key("pk", "HASH"), key("sk", "RANGE")],
        "AttributeDefinitions": [text("pk"), text("sk")],
    });
    let (status, answer) = world.ask_dynamodb("DynamoDB_20120810.CreateTable", request.to_string().into()).await;
    assert!(status.is_success(), "{answer:?}");
}

impl Function {
    async fn turn(&mut self, principal: &str, conversation_id: Option<&str>, pace: Pace) -> Turn {
        let world = &self.world;
        *world.pace.lock().unwrap() = pace;
        *world.first_token_at.lock().unwrap() = None;
        world.calls.lock().unwrap().clear();
        let cpu = cpu_of(self.process.id());
        self.invoke.send(message_event(principal, conversation_id)).await.unwrap();
        self.answered.recv().await.expect("the program runs").expect("the function answers");
        let cpu = cpu_of(self.process.id()) - cpu;
        self.look_after().await;

        let calls = std::mem::take(&mut *world.calls.lock().unwrap());
        let turn = Turn {
            handed_over: world.handed_over.lock().unwrap().unwrap(),
            model_asked: calls.iter().find(|call| matches!(call.kind, Kind::Model)).expect("the model is asked").began,
            first_token: world.first_token_at.lock().unwrap().unwrap(),
            cpu,
            calls,
        };
        let frames = turn.frames().map(|(_, frame)| &frame["type"]);
        assert_eq!(frames.last().unwrap(), "turn.completed");
        turn
    }
}

impl Function {
    /// Has the watchdog look at the turn, as it does when the turn's task is due.
    async fn look_after(&self) {
        let task = |call: &Call| if let Kind::Task(task) = &call.kind { Some(task.clone()) } else { None };
        let tasks: Vec<String> = self.world.calls.lock().unwrap().iter().filter_map(task).collect();
        let records: Vec<Value> = tasks.iter().map(|task| json!({ "messageId": "1", "body": task })).collect();
        let batch = serde_json::from_value(json!({ "Records": records })).unwrap();
        let failed = watchdog::handle(&self.watchdog.ports, &self.watchdog.events, batch).await.batch_item_failures;
        assert!(tasks.len() == 1 && failed.is_empty(), "{tasks:?}");
        let calls = self.world.calls.lock().unwrap();
        assert!(calls.iter().any(|call| matches!(call.kind, Kind::Event)), "the end of the turn is published");
    }
}

/// CPU time of all threads a process has, by Linux's scheduler; threads come and go only while it starts.
fn cpu_of(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_thread = |thread: std::io::Result<fs::DirEntry>| -> u64 {
        let statistics = fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        statistics.split(' ').next().unwrap().parse().unwrap()
    };
    Duration::from_nanos(threads.map(of_thread).sum())
}

/// The sample event of a message, with another message of somebody else.
fn message_event(principal: &str, conversation_id: Option<&str>) -> String {
    let sample = fs::read(release::repository().join("events/message/message-send-en.json")).unwrap();
    let mut event: Value = serde_json::from_slice(&sample).unwrap();
    let mut message = json!({
        "action": "message.send",
        "client_message_id": Uuid::new_v4(),
        "text": "Which volume should I read next? ".repeat(QUESTION_BYTES)[..QUESTION_BYTES],
        "locale": "en",
    });
    if let Some(conversation_id) = conversation_id {
        message["conversation_id"] = conversation_id.into();
    }
    event["requestContext"]["authorizer"]["principal"] = principal.into();
    event["body"] = message.to_string().into();
    event.to_string()
}

// What the function calls.

fn router(world: Arc<World>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next_invocation))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(invocation_answered))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(invocation_failed))
        .route("/", post(aws))
        .route("/v1/@connections/{id}", post(callback))
        .route("/model/{id}/converse-stream", post(model))
        .route("/catalog/search", get(|world| store(world, ProductPage { products: goods().found })))
        .route(
            "/recommendations",
            get(|world| store(world, RecommendationPage { recommendations: goods().recommendations })),
        )
        .route("/trending", get(|world| store(world, ProductPage { products: goods().trending })))
        .route("/catalog/offers", get(|world| store(world, offers())))
        .route("/promotions", get(|world| store(world, PromotionPage { promotions: goods().promotions })))
        .route("/knowledge/search", get(|world| store(world, ArticlePage { articles: goods().articles })))
        .with_state(world)
}

/// What everything costs.
fn offers() -> OfferPage {
    let StoreData { found, trending, recommendations, .. } = goods();
    let recommended = recommendations.into_iter().map(|item| item.product);
    let priced = |product: Product| Some(ProductOffer { product_id: product.product_id, offer: product.offer? });
    OfferPage { offers: found.into_iter().chain(trending).chain(recommended).filter_map(priced).collect() }
}

async fn next_invocation(State(world): State<Arc<World>>) -> impl IntoResponse {
    let event = world.invocations.lock().await.recv().await.expect("the program runs");
    *world.handed_over.lock().unwrap() = Some(Instant::now());
    let headers = [
        ("lambda-runtime-aws-request-id", "measured"),
        ("lambda-runtime-deadline-ms", "4102444800000"),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:ap-northeast-1:123456789012:function:message"),
    ];
    (headers, event)
}

async fn invocation_answered(State(world): State<Arc<World>>) -> StatusCode {
    world.answered.send(Ok(())).await.unwrap();
    StatusCode::ACCEPTED
}

async fn invocation_failed(State(world): State<Arc<World>>, error: String) -> StatusCode {
    world.answered.send(Err(error)).await.unwrap();
    StatusCode::ACCEPTED
}

/// DynamoDB, SQS and SNS, whose requests all go to one path.
async fn aws(State(world): State<Arc<World>>, headers: HeaderMap, body: Bytes) -> Response {
    let began = Instant::now();
    let Some(target) = headers.get("x-amz-target").and_then(|target| target.to_str().ok()) else {
        world.note(began, Kind::Event);
        let published = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
        return published.into_response();
    };
    let mut request: Value = serde_json::from_slice(&body).unwrap();
    let operation = target.split('.').next_back().unwrap();
    if operation == "SendMessage" {
        world.note(began, Kind::Task(request["MessageBody"].as_str().unwrap().to_owned()));
        return axum::Json(json!({ "MessageId": "1" })).into_response();
    }
    let sort_key = request.pointer("/Key/sk/S").or(request.pointer("/Item/sk/S"));
    let partition = request.pointer("/ExpressionAttributeValues/:pk/S");
    let item = sort_key.or(partition).and_then(Value::as_str).unwrap_or_default();
    // Items are told apart by the word before their number or id.
    let name = format!("{operation} {}", item.split('#').next().unwrap());
    request["ReturnConsumedCapacity"] = "TOTAL".into();

    let latency = world.pace.lock().unwrap().dynamodb_latency;
    tokio::time::sleep(latency).await;
    let (status, answer) = world.ask_dynamodb(target, request.to_string().into()).await;
    let consumed: Value = serde_json::from_slice(&answer).unwrap();
    let units = consumed["ConsumedCapacity"]["CapacityUnits"].as_f64().expect("the engine tells the units");
    let reads = matches!(operation, "Query" | "GetItem");
    world.note(began, Kind::DynamoDb(name, if reads { 0.0 } else { units }, if reads { units } else { 0.0 }));
    (status, answer).into_response()
}

impl World {
    async fn ask_dynamodb(&self, target: &str, body: Bytes) -> (StatusCode, Bytes) {
        let request = self.http.post(&self.dynamodb_url).header("x-amz-target", target);
        // The engine wants a signature, not a valid one.
        let signature = "AWS4-HMAC-SHA256 Credential=local/20261121/ap-northeast-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0";
        let request = request.header(header::CONTENT_TYPE, "application/x-amz-json-1.0");
        let request = request.header(header::AUTHORIZATION, signature).header("x-amz-date", "20261121T000000Z");
        let answer = request.body(body).send().await.unwrap();
        (answer.status(), answer.bytes().await.unwrap())
    }
}

async fn callback(State(world): State<Arc<World>>, frame: Bytes) -> StatusCode {
    world.note(Instant::now(), Kind::Callback(serde_json::from_slice(&frame).unwrap()));
    StatusCode::OK
}

async fn store<T: serde::Serialize>(State(world): State<Arc<World>>, answer: T) -> axum::Json<T> {
    world.note(Instant::now(), Kind::Store);
    axum::Json(answer)
}

/// Three cards and two sources.
fn goods() -> StoreData {
    StoreData {
        found: ["one-piece-1", "naruto-1", "slam-dunk-1"].map(samples::product).into(),
        articles: ["returns", "shipping"].map(samples::article).into(),
        ..samples::store_data()
    }
}

async fn model(State(world): State<Arc<World>>) -> impl IntoResponse {
    world.note(Instant::now(), Kind::Model);
    let content_type = [(header::CONTENT_TYPE, "application/vnd.amazon.eventstream")];
    (content_type, Body::from_stream(answer(world)))
}

/// 300 tokens of four or five letters are 1.3 KB.
fn answer(world: Arc<World>) -> impl Stream<Item = std::io::Result<Bytes>> {
    let pace = *world.pace.lock().unwrap();
    async_stream::stream! {
        yield Ok(model_event("messageStart", json!({ "role": "assistant" })));
        let begun = tokio::time::Instant::now() + pace.first_token;
        for token in 0..pace.tokens {
            tokio::time::sleep_until(begun + pace.answer * token / pace.tokens).await;
            world.first_token_at.lock().unwrap().get_or_insert_with(Instant::now);
            let text = if token % 3 == 0 { "tale " } else { "and " };
            yield Ok(model_event("contentBlockDelta", json!({ "contentBlockIndex": 0, "delta": { "text": text } })));
        }
        yield Ok(model_event("contentBlockStop", json!({ "contentBlockIndex": 0 })));
        yield Ok(model_event("messageStop", json!({ "stopReason": "end_turn" })));
        let usage = json!({ "inputTokens": 2_000, "outputTokens": pace.tokens, "totalTokens": 2_000 + pace.tokens });
        yield Ok(model_event("metadata", json!({ "usage": usage, "metrics": { "latencyMs": 0 } })));
    }
}

fn model_event(name: &'static str, payload: Value) -> Bytes {
    let header = |name, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    let message = EventStreamMessage::new(payload.to_string())
        .add_header(header(":message-type", "event"))
        .add_header(header(":event-type", name))
        .add_header(header(":content-type", "application/json"));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).unwrap();
    bytes.into()
}

// What came of it.

impl Turn {
    fn frames(&self) -> impl Iterator<Item = (Instant, &Value)> {
        self.calls.iter().filter_map(|call| match &call.kind {
            Kind::Callback(frame) => Some((call.began, frame)),
            Kind::DynamoDb(..) | Kind::Model | Kind::Store | Kind::Task(_) | Kind::Event => None,
        })
    }

    fn conversation_id(&self) -> String {
        let (_, frame) = self.frames().next().unwrap();
        frame["conversation_id"].as_str().unwrap().to_owned()
    }

    /// Requests to DynamoDB with what they wrote and read.
    fn dynamodb(&self) -> impl Iterator<Item = (&Call, &str, f64, f64)> {
        self.calls.iter().filter_map(|call| match &call.kind {
            Kind::DynamoDb(name, written, read) => Some((call, name.as_str(), *written, *read)),
            Kind::Callback(_) | Kind::Model | Kind::Store | Kind::Task(_) | Kind::Event => None,
        })
    }

    /// DynamoDB requests before the model was asked, those side by side counted once.
    fn round_trips_before_model(&self) -> usize {
        let mut before: Vec<&Call> = self.dynamodb().map(|(call, ..)| call).collect();
        before.retain(|call| call.ended <= self.model_asked);
        before.sort_by_key(|call| call.ended);
        let mut last_ended = self.handed_over;
        let mut round_trips = 0;
        for call in before {
            if call.began >= last_ended {
                round_trips += 1;
                last_ended = call.ended;
            }
        }
        round_trips
    }

    /// From the model's first token to the frame that carries it.
    fn first_token_added(&self) -> Duration {
        let (at, _) = self.frames().find(|(_, frame)| frame["type"] == "text.delta").unwrap();
        at - self.first_token
    }
}

fn print_turns(turns: &[Turn]) {
    println!(
        "Question {QUESTION_BYTES} bytes, answer of {TOKENS} tokens over {} s, 3 cards, 2 sources\n",
        ANSWER.as_secs()
    );
    let row = |what: &str, budget: &str, value: &dyn Fn(&Turn) -> String| {
        let values: Vec<String> = turns.iter().map(value).collect();
        println!("| {what} | {} | {budget} |", values.join(" | "));
    };
    let earlier = EARLIER_TURNS.map(|turns| turns.to_string());
    println!("| earlier turns | {} | budget |", earlier.join(" | "));
    println!("|---|{}--:|", "--:|".repeat(turns.len()));
    row("sequential DynamoDB round trips before the model", "2", &|turn| turn.round_trips_before_model().to_string());
    row("DynamoDB requests", "", &|turn| turn.dynamodb().count().to_string());
    row("write units", "18", &|turn| turn.dynamodb().map(|(_, _, written, _)| written).sum::<f64>().to_string());
    row("read units", "6", &|turn| turn.dynamodb().map(|(.., read)| read).sum::<f64>().to_string());
    row("callbacks", "45", &|turn| turn.frames().count().to_string());
    row("first token → its callback", "same ms", &|turn| ms(turn.first_token_added()));
    row("CPU of `message`", "10 ms", &|turn| ms(turn.cpu));
}

fn print_units(turn: &Turn) {
    let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (_, name, written, read) in turn.dynamodb() {
        by_name.entry(name).or_default().push((written + read).to_string());
    }
    println!("\nWith {} earlier turns:\n\n| request, item | units |\n|---|--:|", EARLIER_TURNS[1]);
    for (name, units) in by_name {
        println!("| {name} | {} |", units.join(" + "));
    }
}

/// Whole turns through the function's own code, on ports in memory and a clock that never waits.
fn in_process() -> Vec<Duration> {
    let world = InMemory::new();
    world.store.stock(goods());
    let message = message::Message { ports: world.clone(), session_key: samples::session_key() };
    let turn = |turn: usize| {
        let event = serde_json::from_str(&message_event(&format!("shopper:{turn}"), None)).unwrap();
        let begun = Instant::now();
        world.run(message.handle(event)).expect("no fault is planned");
        begun.elapsed()
    };
    (0..LATENCY_TURNS).map(turn).collect()
}

fn print_latencies(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort();
    println!("| {what} | {} | {} |", ms(release::percentile(&latencies, 50)), ms(release::percentile(&latencies, 99)));
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
