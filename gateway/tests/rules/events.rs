//! The events functions get.

use aws_lambda_events::apigw::{ApiGatewayCustomAuthorizerRequestTypeRequest, ApiGatewayWebsocketProxyRequest};
use gateway::AuthorizerConfig;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;

use crate::{Api, connect, ok};

/// The names of an object's members, sorted.
fn members(object: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// What all events' contexts have, beside what one kind adds.
const CONTEXT: [&str; 13] = [
    "apiId",
    "connectedAt",
    "connectionId",
    "domainName",
    "eventType",
    "extendedRequestId",
    "identity",
    "messageDirection",
    "requestId",
    "requestTime",
    "requestTimeEpoch",
    "routeKey",
    "stage",
];

fn context_with(more: &[&'static str]) -> Vec<&'static str> {
    let mut names = [&CONTEXT[..], more].concat();
    names.sort_unstable();
    names
}

/// Events of the three kinds as recorded on AWS, and "WebSocket API mapping template reference": the same connection id
/// and time throughout, a request id of its own for each, `messageId` with messages only, `requestId` the "same as"
/// `extendedRequestId`.
#[tokio::test]
async fn events_have_the_members_of_aws() {
    let api = Api::start(&["$connect", "$default", "$disconnect"], |config| {
        config.domain_name = Some("chat.example.com".to_owned());
        config.api_id = "abcdef123".to_owned();
    })
    .await;
    let request =
        ClientRequestBuilder::new(format!("{}?shop=tokyo&shop=osaka&q=%E6%BC%AB", api.url()).parse().unwrap())
            .with_header("User-Agent", "test/1.0")
            .with_header("Origin", "http://localhost");
    let (client, connected) = tokio::join!(connect(request), async {
        let invocation = api.functions.invoked("connect").await;
        let event = invocation.event.clone();
        invocation.answer(&ok());
        event
    });
    let mut client = client.unwrap();
    client.send("hello").await;
    let messaged = api.functions.invoked("default").await.event;
    drop(client);
    let disconnected = api.functions.invoked("disconnect").await.event;

    let context = |event: &Value| event["requestContext"].clone();
    for (event, event_type, route_key) in [
        (&connected, "CONNECT", "$connect"),
        (&messaged, "MESSAGE", "$default"),
        (&disconnected, "DISCONNECT", "$disconnect"),
    ] {
        let context = context(event);
        assert_eq!(context["eventType"], event_type);
        assert_eq!(context["routeKey"], route_key);
        assert_eq!(context["messageDirection"], "IN");
        assert_eq!(context["stage"], "v1");
        assert_eq!(context["apiId"], "abcdef123");
        assert_eq!(context["domainName"], "chat.example.com");
        assert_eq!(context["identity"], json!({ "sourceIp": "127.0.0.1", "userAgent": "test/1.0" }));
        assert_eq!(context["connectionId"], connected["requestContext"]["connectionId"]);
        assert_eq!(context["connectedAt"], connected["requestContext"]["connectedAt"]);
        assert_eq!(context["requestId"], context["extendedRequestId"]);
        assert_eq!(event["isBase64Encoded"], false);

        let now = OffsetDateTime::now_utc().unix_timestamp();
        let at = context["requestTimeEpoch"].as_i64().unwrap();
        assert!((now - at / 1000).abs() < 60 && at >= context["connectedAt"].as_i64().unwrap());
        assert!(context["requestTime"].as_str().unwrap().ends_with(" +0000"));

        // The SDK of Rust functions reads it.
        let typed: ApiGatewayWebsocketProxyRequest = serde_json::from_value(event.clone()).unwrap();
        assert_eq!(typed.request_context.event_type.as_deref(), Some(event_type));
        assert_eq!(typed.request_context.connected_at, context["connectedAt"].as_i64().unwrap());
    }
    assert_ne!(context(&connected)["requestId"], context(&messaged)["requestId"]);

    assert_eq!(members(&context(&connected)), context_with(&[]));
    assert_eq!(
        members(&connected),
        [
            "headers",
            "isBase64Encoded",
            "multiValueHeaders",
            "multiValueQueryStringParameters",
            "queryStringParameters",
            "requestContext"
        ]
    );
    assert_eq!(connected["queryStringParameters"], json!({ "shop": "osaka", "q": "漫" }));
    assert_eq!(connected["multiValueQueryStringParameters"], json!({ "shop": ["tokyo", "osaka"], "q": ["漫"] }));
    let headers = &connected["headers"];
    assert_eq!(headers["Host"], api.gateway.address().to_string());
    assert_eq!(headers["Origin"], "http://localhost");
    assert_eq!(headers["User-Agent"], "test/1.0");
    assert_eq!(headers["Sec-WebSocket-Version"], "13");
    assert_eq!(headers["X-Forwarded-For"], "127.0.0.1");
    assert_eq!(connected["multiValueHeaders"]["Sec-WebSocket-Version"], json!(["13"]));

    assert_eq!(members(&context(&messaged)), context_with(&["messageId"]));
    assert_eq!(members(&messaged), ["body", "isBase64Encoded", "requestContext"]);
    assert_eq!(context(&messaged)["messageId"].as_str().unwrap().len(), 16);

    assert_eq!(members(&context(&disconnected)), context_with(&["disconnectReason", "disconnectStatusCode"]));
    assert_eq!(members(&disconnected), ["headers", "isBase64Encoded", "multiValueHeaders", "requestContext"]);
    assert_eq!(
        disconnected["headers"],
        json!({ "Host": "chat.example.com", "x-api-key": "", "X-Forwarded-For": "", "x-restapi": "" })
    );
}

/// By default the domain name is what the client called, so that functions can call back.
#[tokio::test]
async fn the_domain_name_is_the_host_of_the_handshake() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    client.send("hello").await;
    let event = api.functions.invoked("default").await.event;
    assert_eq!(event["requestContext"]["domainName"], api.gateway.address().to_string());
    assert_eq!(event["requestContext"]["connectionId"], api.connection_id());
}

/// "Control access to WebSocket APIs with AWS Lambda REQUEST authorizers": the example input; `methodArn` "ends with
/// $connect". Its connection is the one that later events name.
#[tokio::test]
async fn the_authorizers_event_has_the_members_of_aws() {
    let api = Api::start(&["$connect"], |config| {
        config.region = "ap-northeast-1".to_owned();
        config.account_id = "123456789012".to_owned();
        config.api_id = "abcdef123".to_owned();
        config.authorizer = Some(AuthorizerConfig { function: "authorizer".to_owned(), identity_sources: Vec::new() });
    })
    .await;
    let arn = "arn:aws:execute-api:ap-northeast-1:123456789012:abcdef123/v1/$connect";
    let request = ClientRequestBuilder::new(format!("{}?shop=tokyo", api.url()).parse().unwrap())
        .with_sub_protocol("manga-chat.v1")
        .with_sub_protocol("bearer.x");
    let (client, (authorizing, connecting)) = tokio::join!(connect(request), async {
        let authorizer = api.functions.invoked("authorizer").await;
        let authorizing = authorizer.event.clone();
        let statement = json!({ "Effect": "Allow", "Action": "execute-api:Invoke", "Resource": arn });
        authorizer.answer(&json!({ "principalId": "me", "policyDocument": { "Statement": statement } }));
        let connect = api.functions.invoked("connect").await;
        let connecting = connect.event.clone();
        connect.answer(&json!({ "statusCode": 200, "headers": { "Sec-WebSocket-Protocol": "manga-chat.v1" } }));
        (authorizing, connecting)
    });
    client.unwrap();

    assert_eq!(
        members(&authorizing),
        [
            "headers",
            "methodArn",
            "multiValueHeaders",
            "multiValueQueryStringParameters",
            "queryStringParameters",
            "requestContext",
            "stageVariables",
            "type"
        ]
    );
    assert_eq!(authorizing["type"], "REQUEST");
    assert_eq!(authorizing["methodArn"], arn);
    assert_eq!(authorizing["stageVariables"], json!({}));
    assert_eq!(authorizing["headers"]["Sec-WebSocket-Protocol"], "manga-chat.v1, bearer.x");
    assert_eq!(authorizing["queryStringParameters"], json!({ "shop": "tokyo" }));
    let (authorizing_context, connecting_context) = (&authorizing["requestContext"], &connecting["requestContext"]);
    let mut expected = CONTEXT.to_vec();
    expected.sort_unstable();
    assert_eq!(members(authorizing_context), expected);
    assert_eq!(authorizing_context["routeKey"], "$connect");
    assert_eq!(authorizing_context["eventType"], "CONNECT");
    for same in ["connectionId", "connectedAt"] {
        assert_eq!(authorizing_context[same], connecting_context[same]);
    }
    let typed: ApiGatewayCustomAuthorizerRequestTypeRequest = serde_json::from_value(authorizing).unwrap();
    assert_eq!(typed.method_arn.as_deref(), Some(arn));
}
