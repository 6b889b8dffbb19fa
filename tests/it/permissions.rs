//! Each function may do what it does in `template.yaml`, and nothing else: the embedded AWS asks for no permission, so the
//! calls of the real adapters are noted on their way and compared with the policies.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use aws_adapters::configuration::MessageConfiguration;
use aws_adapters::{Adapters, DynamoDbConnections, SystemClock, clients};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use domain::ids::SessionKey;
use message::Message;
use serde_json::{Value, json};
use store_api::dynamodb::DynamoDbTable;
use store_api::http::Api;
use store_api::store::Store;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::stack::{Running, repository, shared};
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
    // Callbacks have no connection to go to, and a model that is down ends a turn as well as one that answers.
    match permission.as_str() {
        "execute-api:ManageConnections" => return (StatusCode::OK, Bytes::new()),
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

fn sdk(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(local::REGION))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test")))
        .endpoint_url(url)
        .build()
}

/// The actions `template.yaml` allows a function.
async fn allowed(function: &str) -> BTreeSet<String> {
    let template = template().await;
    let policies = &template["written"]["Resources"][function]["Properties"]["Policies"];
    let policies = policies.as_array().into_iter().flatten();
    let statements = policies.flat_map(|policy| policy["Statement"].as_array().expect("statements").clone());
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
        let connections = DynamoDbConnections::new(dynamodb, stack.output("TableName"), SystemClock);
        let event = event(sample, &connection, None);
        let answer = match function {
            "ConnectFunction" => connect::handle(&connections, &SystemClock, event).await,
            _other => disconnect::handle(&connections, event).await,
        };
        assert_eq!(answer.status_code, 200);
        assert_eq!(notary.needed(), allowed(function).await, "{function}");
    }
}

#[tokio::test]
async fn message_may_do_what_it_does() {
    let stack = shared().await;
    let (notary, url) = Notary::start(&stack).await;
    let configuration = MessageConfiguration::from_lookup(|name| {
        Some(match name {
            "TABLE_NAME" => stack.output("TableName").to_owned(),
            "TURN_EVENTS_TOPIC_ARN" => stack.output("TurnEventsTopicArn").to_owned(),
            "CALLBACK_URL" => url.clone(),
            "SESSION_KEY" => KEY.to_owned(),
            name if name.ends_with("_URL") => stack.output("StoreUrl").to_owned(),
            name => name.to_owned(),
        })
    })
    .unwrap();
    let session_key = SessionKey::new(KEY.as_bytes()).unwrap();
    let message = Message { ports: Adapters::new(&sdk(&url), &configuration), session_key };
    let id = Uuid::new_v4();
    let aiko = domain::ids::Principal::Shopper("aiko".to_owned());
    let conversation = message.session_key.conversation_id(&aiko, domain::ids::ClientMessageId(id));
    for frame in [
        json!({"action": "session.start", "locale": "ja"}),
        json!({"action": "message.send", "client_message_id": id, "text": "A pirate story?"}),
        json!({"action": "message.send", "client_message_id": id, "text": "A pirate story?"}),
        json!({"action": "history.list", "conversation_id": conversation}),
        json!({"action": "dance"}),
    ] {
        message.handle(event("message/history-list.json", &Uuid::new_v4().to_string(), Some(&frame))).await;
    }
    assert_eq!(notary.needed(), allowed("MessageFunction").await);
}

#[tokio::test]
async fn the_sample_store_may_do_what_it_does() {
    let stack = shared().await;
    let (notary, url) = Notary::start(&stack).await;
    let table = format!("permissions-{}", Uuid::new_v4());
    create_table(stack.aws_url(), &table).await;
    let store = Store::new(DynamoDbTable::new(clients::dynamodb(&sdk(&url)), table), SystemClock, url);
    let routes = store_api::router(Arc::new(Api { store, service_key: KEY.to_owned() }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store_url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    for path in [
        "/catalog/search?q=ONE PIECE",
        "/catalog/products/one-piece-1",
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
