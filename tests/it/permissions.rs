//! Each function may do what it does in `template.yaml`, and nothing else: the embedded AWS asks for no permission, so the
//! calls of the real adapters are noted on their way and compared with the policies.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_adapters::configuration::{
    InvalidatorConfiguration, MessageConfiguration, RedriverConfiguration, WatchdogConfiguration, WorkerConfiguration,
};
use aws_adapters::{
    Adapters, DynamoDbBuckets, DynamoDbConnections, InvalidatorAdapters, RandomNonces, SystemClock, WatchdogAdapters,
    WorkerAdapters, clients, redriver,
};
use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use aws_lambda_events::sqs::SqsEvent;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use connect::Connect;
use domain::ids::{ClientMessageId, Principal, SessionKey, TurnId};
use domain::limits::{LEASE_MS, TAKEOVER_MARGIN_MS, TURN_AGE_MAX_MS};
use domain::ports::{LockRequest, RecordOutcome, TurnPorts, TurnStore as _};
use domain::protocol::Locale;
use domain::turn::{TurnRequest, payload_hash};
use message::Message;
use serde_json::{Value, json};
use store_api::dynamodb::DynamoDbTable;
use store_api::http::Api;
use store_api::store::Store;
use testkit::samples;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::client::now_ms;
use crate::eventually::eventually;
use crate::queues::Queue;
use crate::stack::{Running, repository, sdk, shared};
use crate::template::template;

const KEY: &str = "a key of thirty-two bytes or more";

/// Passes calls on to the embedded AWS and notes the permission each needs.
#[derive(Clone)]
struct Notary {
    aws_url: String,
    http: reqwest::Client,
    needed: Arc<Mutex<BTreeSet<String>>>,
}

impl Notary {
    /// A notary of the stack's AWS, and its URL.
    async fn start(stack: &Running) -> (Self, String) {
        let notary = Self { aws_url: stack.aws_url().to_owned(), http: reqwest::Client::new(), needed: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new().fallback(pass_on).with_state(notary.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (notary, url)
    }

    fn needed(&self) -> BTreeSet<String> {
        self.needed.lock().unwrap().clone()
    }
}

async fn pass_on(State(notary): State<Notary>, uri: Uri, headers: HeaderMap, body: Bytes) -> (StatusCode, Bytes) {
    let permission = permission(&uri, &headers, &body);
    notary.needed.lock().unwrap().insert(permission.clone());
    // Callbacks have no connection to go to, schedules no queue that outlives the test, and the model is down.
    match permission.as_str() {
        "execute-api:ManageConnections" => return (StatusCode::OK, Bytes::new()),
        "scheduler:CreateSchedule" => return (StatusCode::OK, Bytes::from(r#"{"ScheduleArn":"arn"}"#)),
        "bedrock:InvokeModelWithResponseStream" => return (StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
        _passed_on => {}
    }
    let request = notary.http.post(format!("{}{uri}", notary.aws_url)).headers(headers).body(body);
    let answer = request.send().await.expect("the embedded AWS answers");
    (answer.status(), answer.bytes().await.expect("a body"))
}

/// The IAM action of a call.
fn permission(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> String {
    let target = headers.get("x-amz-target").map(|target| target.to_str().expect("ASCII"));
    if let Some(operation) = target.and_then(|target| target.strip_prefix("DynamoDB_20120810.")) {
        format!("dynamodb:{operation}")
    } else if let Some(operation) = target.and_then(|target| target.strip_prefix("AmazonSQS.")) {
        format!("sqs:{operation}")
    } else if uri.path().starts_with("/schedules/") {
        "scheduler:CreateSchedule".to_owned()
    } else if uri.path().contains("/@connections/") {
        "execute-api:ManageConnections".to_owned()
    } else if uri.path().ends_with("/converse-stream") {
        "bedrock:InvokeModelWithResponseStream".to_owned()
    } else if body.starts_with(b"Action=Publish&") {
        "sns:Publish".to_owned()
    } else {
        panic!("a call of another service: {uri} {target:?}")
    }
}

/// The actions `template.yaml` allows a function.
async fn allowed(function: &str) -> BTreeSet<String> {
    let template = template().await;
    let policies = &template["written"]["Resources"][function]["Properties"]["Policies"];
    let policies = policies.as_array().into_iter().flatten();
    let statements = policies.flat_map(|policy| policy["Statement"].as_array().expect("statements").clone());
    // What a VPC and OpenSearch need is allowed where there are any; here are none.
    let statements = statements.filter(|statement| statement.get("Fn::If").is_none());
    statements
        .flat_map(|statement| match statement["Action"].as_array() {
            Some(actions) => actions.clone(),
            None => vec![statement["Action"].clone()],
        })
        .map(|action| action.as_str().expect("an action").to_owned())
        .collect()
}

/// A sample event, on a connection of this test.
fn event(path: &str, connection: &str, body: Option<&Value>) -> ApiGatewayWebsocketProxyRequest {
    let sample = fs::read_to_string(repository().join("events").join(path)).unwrap();
    let mut event: Value = serde_json::from_str(&sample).unwrap();
    event["requestContext"]["connectionId"] = connection.into();
    if let Some(body) = body {
        event["body"] = body.to_string().into();
    }
    serde_json::from_value(event).unwrap()
}

#[tokio::test]
async fn connect_and_disconnect_may_do_what_they_do() {
    let stack = shared().await;
    let connection = Uuid::new_v4().to_string();
    for (function, sample) in
        [("ConnectFunction", "connect/guest.json"), ("DisconnectFunction", "disconnect/closed.json")]
    {
        let (notary, url) = Notary::start(&stack).await;
        let dynamodb = clients::dynamodb(&sdk(&url));
        let table = stack.output("TableName");
        let connections = DynamoDbConnections::new(dynamodb.clone(), table, SystemClock);
        let event = event(sample, &connection, None);
        let answer = match function {
            "ConnectFunction" => {
                let buckets = DynamoDbBuckets::new(dynamodb, table);
                let (clock, nonces, session_key) = (SystemClock, RandomNonces, session_key());
                Connect { connections, buckets, clock, nonces, session_key }.handle(event).await
            }
            _other => disconnect::handle(&connections, event).await,
        };
        assert_eq!(answer.status_code, 200);
        assert_eq!(notary.needed(), allowed(function).await, "{function}");
    }
}

fn session_key() -> SessionKey {
    SessionKey::new(KEY.as_bytes()).unwrap()
}

/// What the functions that work on turns have in common: a table, which forgets nothing by itself, and queues that no
/// deployed function listens to.
struct Workshop {
    notary: Notary,
    /// Where the function under test calls.
    url: String,
    table: String,
    store_url: String,
    watchdog: Queue,
    watchdog_dlq: Queue,
    follow_up: Queue,
    follow_up_dlq: Queue,
    escalations: String,
    /// Unobserved, for what must be there before.
    turns: Adapters,
}

impl Workshop {
    async fn new(stack: &Running) -> Self {
        let (notary, url) = Notary::start(stack).await;
        let table = format!("permissions-{}", Uuid::new_v4());
        create_table(stack.aws_url(), &table).await;
        let (store_table, store_url) = start_store(stack.aws_url()).await;
        create_table(stack.aws_url(), &store_table).await;
        let [watchdog, watchdog_dlq, follow_up, follow_up_dlq] = [
            Queue::create(&stack.sdk()).await,
            Queue::create(&stack.sdk()).await,
            Queue::create(&stack.sdk()).await,
            Queue::create(&stack.sdk()).await,
        ];
        let escalations = stack.output("EscalationsTopicArn").to_owned();
        let variable = |name: &str| variable(name, stack.aws_url(), &table, &store_url, [&watchdog; 4], &escalations);
        let turns = Adapters::new(&stack.sdk(), &MessageConfiguration::from_lookup(variable).unwrap());
        Self { notary, url, table, store_url, watchdog, watchdog_dlq, follow_up, follow_up_dlq, escalations, turns }
    }

    /// The environment of a function.
    fn variable(&self, name: &str) -> Option<String> {
        let queues = [&self.watchdog, &self.watchdog_dlq, &self.follow_up, &self.follow_up_dlq];
        variable(name, &self.url, &self.table, &self.store_url, queues, &self.escalations)
    }

    /// Records a turn that its owner has left since.
    async fn orphan(&self, asked_at: u64, text: &str) -> TurnId {
        let (key, principal, id) = (session_key(), samples::shopper("aiko"), ClientMessageId(Uuid::new_v4()));
        let message = samples::message(id.0.as_u128(), text);
        let request = TurnRequest {
            turn_id: key.turn_id(&principal, id),
            conversation_id: key.conversation_id(&principal, id),
            number: 1,
            client_message_id: id,
            payload_hash: payload_hash(&message),
            text: message.text,
            locale: Locale::En,
            product_id: None,
            connection: samples::connection(&id.to_string()),
            asked_at,
            lease_until: asked_at + LEASE_MS,
            principal,
        };
        let lock = LockRequest {
            conversation_id: request.conversation_id.clone(),
            owner: request.principal.clone(),
            turn_id: request.turn_id.clone(),
            number: request.number,
            replaces: None,
            lease_until: request.lease_until,
            attempt: id.to_string(),
            now: asked_at,
        };
        self.turns.turns().lock(&lock).await.unwrap();
        assert_eq!(self.turns.turns().record(&request).await.unwrap(), RecordOutcome::Recorded);
        request.turn_id
    }

    async fn assert_needs_what_is_allowed(&self, function: &str) {
        let mut needed = self.notary.needed();
        // Whoever makes a schedule hands it a role.
        if needed.contains("scheduler:CreateSchedule") {
            needed.insert("iam:PassRole".to_owned());
        }
        // Whoever asks a model behind a guardrail applies it.
        if needed.contains("bedrock:InvokeModelWithResponseStream") {
            needed.insert("bedrock:ApplyGuardrail".to_owned());
        }
        assert_eq!(needed, allowed(function).await, "{function}");
    }
}

fn variable(
    name: &str,
    aws_url: &str,
    table: &str,
    store_url: &str,
    queues: [&Queue; 4],
    escalations: &str,
) -> Option<String> {
    let [watchdog, watchdog_dlq, follow_up, follow_up_dlq] = queues;
    Some(match name {
        "TABLE_NAME" => table.to_owned(),
        "CALLBACK_URL" => aws_url.to_owned(),
        "SESSION_KEY" | "STORE_KEY" => KEY.to_owned(),
        "MODEL_PREFILL" => "true".to_owned(),
        "ESCALATIONS_TOPIC_ARN" => escalations.to_owned(),
        "VALKEY_URL" | "VALKEY_USERNAME" | "VALKEY_PASSWORD" | "OPENSEARCH_URL" => return None,
        name if name.ends_with("_PER_MINUTE") => "1000000".to_owned(),
        name if name.ends_with("_TIMEOUT_MS") => "1200".to_owned(),
        "WATCHDOG_QUEUE_URL" => watchdog.url().to_owned(),
        "WATCHDOG_DLQ_URL" => watchdog_dlq.url().to_owned(),
        "FOLLOW_UP_QUEUE_URL" => follow_up.url().to_owned(),
        "FOLLOW_UP_DLQ_URL" => follow_up_dlq.url().to_owned(),
        name if name.ends_with("_URL") => store_url.to_owned(),
        name => name.to_owned(),
    })
}

/// A message after whose turn there is something to do.
const REMINDER: &str = "Please remind me of my pre-order.";

/// When a turn was asked that is anybody's now, and when one that has had all its time.
fn asked_at() -> (u64, u64) {
    let now = now_ms();
    (now - LEASE_MS - TAKEOVER_MARGIN_MS, now - TURN_AGE_MAX_MS)
}

/// A delivery of messages with these bodies.
fn delivery(bodies: impl IntoIterator<Item = String>) -> SqsEvent {
    let record = |body: String| {
        let id = Uuid::new_v4();
        let attributes = json!({"ApproximateReceiveCount": "1", "SentTimestamp": now_ms().to_string()});
        json!({"messageId": id, "receiptHandle": id, "body": body, "attributes": attributes, "messageAttributes": {}})
    };
    let records: Vec<Value> = bodies.into_iter().map(record).collect();
    serde_json::from_value(json!({"Records": records})).unwrap()
}

#[tokio::test]
async fn message_may_do_what_it_does() {
    let stack = shared().await;
    let workshop = Workshop::new(&stack).await;
    let configuration = MessageConfiguration::from_lookup(|name| workshop.variable(name)).unwrap();
    let message =
        Message { ports: Adapters::new(&sdk(&workshop.url), &configuration), session_key: configuration.session_key };
    let id = Uuid::new_v4();
    let aiko = Principal::Shopper("aiko".to_owned());
    let conversation = message.session_key.conversation_id(&aiko, ClientMessageId(id));
    let turn_id = message.session_key.turn_id(&aiko, ClientMessageId(id));
    // A message of long ago, which may be asked again.
    let (_, long_ago) = asked_at();
    put_expired_request(stack.aws_url(), &workshop.table, &turn_id, long_ago).await;
    for frame in [
        json!({"action": "session.start", "locale": "ja"}),
        json!({"action": "message.send", "client_message_id": id, "text": "A pirate story?"}),
        json!({"action": "message.send", "client_message_id": id, "text": "A pirate story?"}),
        json!({"action": "message.send", "client_message_id": Uuid::new_v4(), "text": "I want to talk to a human."}),
        json!({"action": "stream.resume", "turn_id": turn_id, "epoch": 0, "after_seq": -1}),
        json!({"action": "message.cancel", "turn_id": turn_id}),
        json!({"action": "history.list", "conversation_id": conversation}),
        json!({"action": "feedback.submit", "turn_id": turn_id, "rating": "up"}),
        json!({"action": "dance"}),
    ] {
        message.handle(event("message/history-list.json", &Uuid::new_v4().to_string(), Some(&frame))).await;
    }
    workshop.assert_needs_what_is_allowed("MessageFunction").await;
}

/// The record of a turn that DynamoDB has not got round to deleting.
async fn put_expired_request(aws_url: &str, table: &str, turn_id: &TurnId, asked_at: u64) {
    let text = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
    let number = |number: u64| aws_sdk_dynamodb::types::AttributeValue::N(number.to_string());
    aws_sdk_dynamodb::Client::new(&sdk(aws_url))
        .put_item()
        .table_name(table)
        .item("pk", text(format!("turn#{turn_id}")))
        .item("sk", text("request".to_owned()))
        .item("expires_at", number(asked_at / 1_000))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn watchdog_may_do_what_it_does() {
    let stack = shared().await;
    let workshop = Workshop::new(&stack).await;
    let configuration = WatchdogConfiguration::from_lookup(|name| match name {
        "TURN_EVENTS_TOPIC_ARN" => Some(stack.output("TurnEventsTopicArn").to_owned()),
        name => workshop.variable(name),
    });
    let adapters = WatchdogAdapters::new(&sdk(&workshop.url), &configuration.unwrap());
    let (lapsed, spent) = asked_at();
    let turns = [workshop.orphan(lapsed, REMINDER).await, workshop.orphan(spent, REMINDER).await];
    let tasks = turns.map(|turn_id| json!({"kind": "watch", "turn_id": turn_id, "epoch": 1}).to_string());
    let failures = watchdog::handle(&adapters.ports, &adapters.events, delivery(tasks)).await.batch_item_failures;
    assert_eq!(failures.len(), 0, "{failures:?}");
    workshop.assert_needs_what_is_allowed("WatchdogFunction").await;
}

#[tokio::test]
async fn follow_up_worker_may_do_what_it_does() {
    let stack = shared().await;
    let workshop = Workshop::new(&stack).await;
    let configuration = WorkerConfiguration::from_lookup(|name| workshop.variable(name)).unwrap();
    let adapters = WorkerAdapters::new(&sdk(&workshop.url), &configuration);
    let (lapsed, spent) = asked_at();
    let unfinished = workshop.orphan(lapsed, "A pirate story?").await;
    let escalated = workshop.orphan(lapsed, "I want to talk to a human.").await;
    let ended = workshop.orphan(spent, REMINDER).await;
    let usage = json!({"input_tokens": 0, "output_tokens": 0});
    let tasks = [
        json!({"kind": "finish", "turn_id": unfinished, "epoch": 1}),
        json!({"kind": "finish", "turn_id": escalated, "epoch": 1}),
        json!({"kind": "finish", "turn_id": ended, "epoch": 1}),
        json!({
            "kind": "turn_ended", "turn_id": ended, "conversation_id": "c", "number": 1, "intent": "order_tracking",
            "state": "failed", "usage": usage, "ended_at": 0, "follow_up": true,
        }),
        json!({"kind": "remind", "principal": "shopper:aiko", "follow_up_id": "unknown"}),
        json!({"kind": "dance"}),
    ];
    let batch = delivery(tasks.map(|task| task.to_string()));
    let failures = follow_up_worker::handle(&adapters.ports, &adapters.deliveries, batch).await.batch_item_failures;
    assert_eq!(failures.len(), 1, "the model is down for one task: {failures:?}");
    workshop.assert_needs_what_is_allowed("FollowUpWorkerFunction").await;
}

#[tokio::test]
async fn cache_invalidator_may_do_what_it_does() {
    let stack = shared().await;
    let workshop = Workshop::new(&stack).await;
    let configuration = InvalidatorConfiguration::from_lookup(|name| workshop.variable(name)).unwrap();
    let adapters = InvalidatorAdapters::new(&sdk(&workshop.url), &configuration);
    for event in [
        json!({"source": "manga-store", "detail-type": "promotions.changed", "detail": {}}),
        json!({"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}}),
    ] {
        cache_invalidator::handle(&adapters.caches, &adapters.store, &SystemClock, &event).await.unwrap();
    }
    // What it is told is read in the background.
    eventually("a look at the hints", Duration::from_secs(10), async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        workshop.notary.needed().contains("dynamodb:GetItem").then_some(())
    })
    .await;
    workshop.assert_needs_what_is_allowed("CacheInvalidatorFunction").await;
}

#[tokio::test]
async fn dlq_redriver_may_do_what_it_does() {
    let stack = shared().await;
    let workshop = Workshop::new(&stack).await;
    let configuration = RedriverConfiguration::from_lookup(|name| workshop.variable(name)).unwrap();
    let redriver = redriver(&sdk(&workshop.url), &configuration);
    let (lapsed, spent) = asked_at();
    for turn_id in [workshop.orphan(lapsed, REMINDER).await, workshop.orphan(spent, REMINDER).await] {
        workshop.follow_up_dlq.send(&json!({"kind": "finish", "turn_id": turn_id, "epoch": 1}).to_string()).await;
    }
    workshop.follow_up_dlq.send("no task").await;
    for request in [json!({"dry_run": true}), json!({})] {
        let report = dlq_redriver::handle(&redriver, &request, io::sink()).await.unwrap();
        let report = serde_json::to_value(&report).unwrap();
        assert_eq!(report["queues"]["follow-up"]["received"], 3, "{report}");
    }
    workshop.assert_needs_what_is_allowed("DlqRedriverFunction").await;
}

/// Serves the sample store from a table of its own at the AWS of this URL; answers the store's URL, too.
async fn start_store(aws_url: &str) -> (String, String) {
    let table = format!("permissions-{}", Uuid::new_v4());
    let store =
        Store::new(DynamoDbTable::new(clients::dynamodb(&sdk(aws_url)), &table), SystemClock, aws_url.to_owned());
    let routes = store_api::router(Arc::new(Api { store, service_key: KEY.to_owned() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (table, url)
}

#[tokio::test]
async fn the_sample_store_may_do_what_it_does() {
    let stack = shared().await;
    let (notary, url) = Notary::start(&stack).await;
    let (table, store_url) = start_store(&url).await;
    create_table(stack.aws_url(), &table).await;
    for path in [
        "/catalog/search?q=ONE PIECE",
        "/catalog/products/one-piece-1",
        "/catalog/offers?product_ids=one-piece-1",
        "/recommendations?shopper_id=aiko",
        "/trending",
        "/orders?shopper_id=aiko",
        "/orders/MC-2026-000139?shopper_id=aiko",
        "/promotions",
        "/products/one-piece-1/reviews",
        "/knowledge/search?q=returns",
        "/knowledge/articles/returns",
    ] {
        let answer = notary.http.get(format!("{store_url}{path}")).bearer_auth(KEY).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }
    assert_eq!(notary.needed(), allowed("StoreApiFunction").await);
}

/// Makes a table with the keys of `template.yaml`'s.
async fn create_table(aws_url: &str, name: &str) {
    let client = aws_sdk_dynamodb::Client::new(&sdk(aws_url));
    let key = |name: &str, kind| {
        aws_sdk_dynamodb::types::KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
    };
    let attribute = |name: &str| {
        aws_sdk_dynamodb::types::AttributeDefinition::builder()
            .attribute_name(name)
            .attribute_type(aws_sdk_dynamodb::types::ScalarAttributeType::S)
            .build()
            .unwrap()
    };
    client
        .create_table()
        .table_name(name)
        .billing_mode(aws_sdk_dynamodb::types::BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk"))
        .attribute_definitions(attribute("sk"))
        .key_schema(key("pk", aws_sdk_dynamodb::types::KeyType::Hash))
        .key_schema(key("sk", aws_sdk_dynamodb::types::KeyType::Range))
        .send()
        .await
        .unwrap();
}
