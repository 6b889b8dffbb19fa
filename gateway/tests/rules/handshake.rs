//! Handshake, authorizer and `$connect`.

use std::time::Duration;

use gateway::{AuthorizerConfig, Config, Limits, Rate};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::{ClientRequestBuilder, IntoClientRequest};

use crate::{Api, STAGE, connect, handshake, ok, refusal, soon};

const METHOD_ARN: &str = "arn:aws:execute-api:eu-west-1:123456789012:abcdef123/v1/$connect";

fn authorized(config: &mut Config) {
    config.region = "eu-west-1".to_owned();
    config.account_id = "123456789012".to_owned();
    config.api_id = "abcdef123".to_owned();
    config.authorizer = Some(AuthorizerConfig {
        function: "authorizer".to_owned(),
        identity_sources: vec![
            "route.request.header.Authorization".parse().unwrap(),
            "route.request.querystring.shop".parse().unwrap(),
        ],
    });
}

/// A handshake with every identity source.
fn identified(api: &Api) -> ClientRequestBuilder {
    ClientRequestBuilder::new(format!("{}?shop=tokyo", api.url()).parse().unwrap())
        .with_header("authorization", "Bearer x")
}

fn policy(effect: &str) -> Value {
    json!({
        "principalId": "guest",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [{ "Action": "execute-api:Invoke", "Effect": effect, "Resource": METHOD_ARN }],
        },
    })
}

/// CloudFormation, AWS::ApiGateway::Authorizer, IdentitySource: the parameters must be "present, not null and
/// non-empty"; otherwise API Gateway "returns a 401 Unauthorized response without calling the Lambda function".
#[tokio::test]
async fn without_its_identity_sources_a_client_is_refused_and_the_authorizer_not_asked() {
    let api = Api::start(&["$connect"], authorized).await;
    let no_header = format!("{}?shop=tokyo", api.url());
    let empty_parameter = ClientRequestBuilder::new(format!("{}?shop=", api.url()).parse().unwrap());
    let no_parameter = api.request().with_header("authorization", "Bearer x");

    assert_eq!(refusal(no_header).await.0, 401);
    assert_eq!(refusal(empty_parameter.with_header("authorization", "Bearer x")).await.0, 401);
    assert_eq!(refusal(no_parameter).await.0, 401);
    assert_eq!(api.functions.total(), 0);
}

/// "Control access to WebSocket APIs with AWS Lambda REQUEST authorizers": its example fails with the error
/// `Unauthorized` to refuse a client, which serverlessland's pattern apigw-lambda-authorizer-sam-nodejs shows as a 401.
#[tokio::test]
async fn an_authorizer_that_fails_with_unauthorized_is_a_401() {
    let api = Api::start(&[], authorized).await;
    let request = identified(&api);
    let (refused, ()) = tokio::join!(refusal(request), async {
        api.functions.invoked("authorizer").await.fail("Unauthorized");
    });
    assert_eq!(refused.0, 401);
    assert_eq!(refused.1["message"], "Unauthorized");
}

/// "Gateway response types for API Gateway", ACCESS_DENIED: 403 "for authorization failure; for example, when access is
/// denied by a custom authorizer".
#[tokio::test]
async fn a_policy_that_denies_is_a_403_and_connect_is_not_invoked() {
    let api = Api::start(&["$connect"], authorized).await;
    let request = identified(&api);
    let (refused, ()) = tokio::join!(refusal(request), async {
        api.functions.invoked("authorizer").await.answer(&policy("Deny"));
    });
    assert_eq!(refused.0, 403);
    assert_eq!(api.functions.total(), 1);
}

/// "Gateway response types for API Gateway", AUTHORIZER_CONFIGURATION_ERROR and AUTHORIZER_FAILURE: 500. "Output from
/// an API Gateway Lambda authorizer": a JSON object or array is not a valid value of the context.
#[tokio::test]
async fn any_other_failure_of_the_authorizer_is_a_500() {
    let api = Api::start(&[], authorized).await;
    let mut nested = policy("Allow");
    nested["context"] = json!({ "roles": ["reader"] });
    for wrong in [nested, json!(null), json!({ "principalId": "guest" })] {
        let request = identified(&api);
        let (refused, ()) = tokio::join!(refusal(request), async {
            api.functions.invoked("authorizer").await.answer(&wrong);
        });
        assert_eq!(refused.0, 500, "{wrong}");
    }
    let request = identified(&api);
    let (refused, ()) = tokio::join!(refusal(request), async {
        api.functions.invoked("authorizer").await.fail("Unauthorized: no such key");
    });
    assert_eq!(refused.0, 500);
}

/// "Quotas for configuring and running a WebSocket API": an authorizer's result has at most 8 KB.
#[tokio::test]
async fn an_authorizers_answer_may_have_8_kb() {
    let api = Api::start(&[], authorized).await;
    for (excess, admitted) in [(0, true), (1, false)] {
        let mut answer = policy("Allow");
        answer["context"] = json!({ "filler": "" });
        let filler = 8 * 1024 + excess - answer.to_string().len();
        answer["context"]["filler"] = "x".repeat(filler).into();
        let request = identified(&api);
        let (connected, ()) = tokio::join!(connect(request), async {
            api.functions.invoked("authorizer").await.answer(&answer);
        });
        assert_eq!(connected.is_ok(), admitted, "{excess}");
    }
}

/// "WebSocket API mapping template reference": `$context.authorizer.property` is the "stringified value" of the
/// authorizer's context, and `$context.authorizer.principalId` its principal.
#[tokio::test]
async fn the_authorizers_context_reaches_every_later_event_as_strings() {
    let api = Api::start(&["$connect", "$default", "$disconnect"], authorized).await;
    let mut answer = policy("Allow");
    answer["context"] = json!({ "tier": "guest", "expires_at": 1_764_000_000_000_i64, "trusted": false });
    let expected =
        json!({ "principalId": "guest", "tier": "guest", "expires_at": "1764000000000", "trusted": "false" });

    let request = identified(&api);
    let (client, ()) = tokio::join!(connect(request), async {
        let authorizer = api.functions.invoked("authorizer").await;
        assert_eq!(authorizer.event["requestContext"]["authorizer"], Value::Null);
        authorizer.answer(&answer);
        let connect = api.functions.invoked("connect").await;
        assert_eq!(connect.event["requestContext"]["authorizer"], expected);
        connect.answer(&ok());
    });
    let mut client = client.unwrap();
    client.send("hello").await;
    let message = api.functions.invoked("default").await;
    assert_eq!(message.event["requestContext"]["authorizer"], expected);
    drop(client);
    let disconnect = api.functions.invoked("disconnect").await;
    assert_eq!(disconnect.event["requestContext"]["authorizer"], expected);
}

/// "Set up a $connect route that requires a WebSocket subprotocol": the function answers 400, and `wscat` reports
/// "Unexpected server response: 400"; the connection is not made.
#[tokio::test]
async fn a_status_of_connect_that_is_no_success_is_the_handshakes_status() {
    let api = Api::start(&["$connect", "$disconnect"], |_| ()).await;
    for status in [301, 400, 401, 403, 429, 500, 503] {
        let url = api.url();
        let (refused, connection_id) = tokio::join!(refusal(url), async {
            let connect = api.functions.invoked("connect").await;
            let connection_id = connect.event["requestContext"]["connectionId"].clone();
            connect.answer(&json!({ "statusCode": status, "body": "the function's own words" }));
            connection_id
        });
        assert_eq!(refused.0, status);
        assert_eq!(refused.1["connectionId"], connection_id);
        assert!(!refused.1.to_string().contains("own words"));
    }
    assert_eq!(api.gateway.connections(), 0);
    assert_eq!(api.functions.total(), 7, "no $disconnect for a connection that was not made");
}

/// michalkvasnicak/aws-lambda-graphql#107 and anomalyco/guide#644: a `$connect` function that fails is a 502.
/// middyjs/middy#1219: an answer with members other than those of a proxy integration is a failure too.
#[tokio::test]
async fn a_connect_function_that_fails_is_a_502() {
    let api = Api::start(&["$connect"], |_| ()).await;
    let url = api.url();
    let (refused, ()) =
        tokio::join!(refusal(url.clone()), async { api.functions.invoked("connect").await.fail("boom") });
    assert_eq!(refused, (502, gateway_message("Internal server error", &refused.1)));
    for wrong in [json!(null), json!({ "statusCode": 200, "ConnectionId": "x" }), json!({ "statusCode": 101 })] {
        let (refused, ()) =
            tokio::join!(refusal(url.clone()), async { api.functions.invoked("connect").await.answer(&wrong) });
        assert_eq!(refused.0, 502, "{wrong}");
    }
    let (refused, ()) = tokio::join!(refusal(url), async { api.functions.invoked("connect").await.throttle() });
    assert_eq!(refused.0, 502);
}

/// "Quotas for configuring and running a WebSocket API": integration timeout. "Gateway response types for API
/// Gateway", INTEGRATION_TIMEOUT: 504.
#[tokio::test]
async fn a_connect_function_that_does_not_answer_in_time_is_a_504() {
    let limits = Limits { integration_timeout: Duration::from_millis(100), ..Limits::default() };
    let api = Api::with_limits(&["$connect"], limits).await;
    let (refused, _unanswered) = tokio::join!(refusal(api.url()), api.functions.invoked("connect"));
    assert_eq!(refused, (504, gateway_message("Endpoint request timed out", &refused.1)));
}

fn gateway_message(message: &str, like: &Value) -> Value {
    json!({ "message": message, "connectionId": like["connectionId"], "requestId": like["requestId"] })
}

/// "Set up a $connect route that requires a WebSocket subprotocol": the client gets the `Sec-WebSocket-Protocol` header
/// that the function answers, and none of its own accord.
#[tokio::test]
async fn connect_chooses_the_subprotocol() {
    let api = Api::start(&["$connect"], |_| ()).await;
    let request = api.request().with_sub_protocol("bearer.x").with_sub_protocol("manga-chat.v1");
    let (connected, ()) = tokio::join!(handshake(request), async {
        let connect = api.functions.invoked("connect").await;
        connect.answer(&json!({ "statusCode": 200, "headers": { "sec-websocket-Protocol": "manga-chat.v1" } }));
    });
    assert_eq!(connected.unwrap().1.as_deref(), Some("manga-chat.v1"));

    let (connected, ()) =
        tokio::join!(handshake(api.url()), async { api.functions.invoked("connect").await.answer(&ok()) });
    assert_eq!(connected.unwrap().1, None);
}

/// "Manage connected users and client apps: $connect and $disconnect routes": "Setting up an integration for $connect
/// is optional."
#[tokio::test]
async fn connect_is_optional() {
    let api = Api::start(&[], |_| ()).await;
    let _client = api.connect().await;
    assert_eq!(api.gateway.connections(), 1);
    assert_eq!(api.functions.total(), 0);
}

/// AWS re:Post, knowledge-center/410-gone-api-gateway: 410 when "a message was posted to the WebSocket API before
/// the connection was established".
#[tokio::test]
async fn a_connection_takes_callbacks_only_once_connect_has_answered() {
    let api = Api::start(&["$connect"], |_| ()).await;
    let callbacks = api.callbacks();
    let post =
        async |id: &str| callbacks.post_to_connection().connection_id(id).data(b"hi".to_vec().into()).send().await;
    let url = api.url();
    let (client, id) = tokio::join!(connect(url), async {
        let connect = api.functions.invoked("connect").await;
        let id = connect.event["requestContext"]["connectionId"].as_str().unwrap().to_owned();
        let early = post(&id).await.unwrap_err().into_service_error();
        connect.answer(&ok());
        assert!(early.is_gone_exception());
        id
    });
    post(&id).await.unwrap();
    assert_eq!(client.unwrap().text().await, "hi");
}

/// Own rule: whoever hangs up while `$connect` runs is reported to `$disconnect`, since `$connect` has recorded it.
#[tokio::test]
async fn a_client_that_hangs_up_during_connect_is_disconnected() {
    let api = Api::start(&["$connect", "$disconnect"], |_| ()).await;
    let request = api.request().into_client_request().unwrap();
    let key = request.headers()["sec-websocket-key"].to_str().unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(api.gateway.address()).await.unwrap();
    let handshake = format!(
        "GET /{STAGE} HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n"
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, handshake.as_bytes()).await.unwrap();
    let connect = api.functions.invoked("connect").await;
    drop(stream);
    connect.answer(&ok());
    let disconnect = soon("$disconnect", api.functions.invoked("disconnect")).await;
    assert_eq!(disconnect.event["requestContext"]["disconnectStatusCode"], 1006);
}

/// "Quotas for configuring and running a WebSocket API": the URL has at most 4,096 characters. "Output from an API
/// Gateway Lambda authorizer" names the answer, "414 Request URI too long".
#[tokio::test]
async fn a_url_may_have_4096_characters() {
    let api = Api::start(&[], |_| ()).await;
    let url = |chars: usize| {
        let bare = format!("{}?x=", api.url());
        let filler = "x".repeat(chars - bare.len());
        bare + &filler
    };
    assert!(connect(url(4096)).await.is_ok());
    assert_eq!(refusal(url(4097)).await.0, 414);
}

/// RFC 9110, 15.5.22: 426 for a request that should have been an upgrade. API Gateway answers 403 for a stage it
/// does not have.
#[tokio::test]
async fn what_is_no_handshake_or_no_stage_is_refused() {
    let api = Api::start(&[], |_| ()).await;
    assert!(api.http("GET /v1", "").await.starts_with("HTTP/1.1 426 "));
    assert_eq!(refusal(api.url() + "2").await.0, 403);
    assert!(connect(api.url() + "/").await.is_ok());
}

/// "Quotas for configuring and running a WebSocket API": new connections per second.
#[tokio::test]
async fn new_connections_beyond_the_rate_are_refused_with_429() {
    let new_connections = Rate { per_second: 0.0, burst: 2 };
    let api = Api::with_limits(&[], Limits { new_connections, ..Limits::default() }).await;
    let _first = api.connect().await;
    let _second = api.connect().await;
    assert_eq!(refusal(api.url()).await.0, 429);
}

/// Own limit: connections at once.
#[tokio::test]
async fn connections_beyond_the_maximum_are_refused_until_one_ends() {
    let api = Api::with_limits(&["$disconnect"], Limits { connections_max: 2, ..Limits::default() }).await;
    let first = api.connect().await;
    let _second = api.connect().await;
    assert_eq!(refusal(api.url()).await.0, 429);
    drop(first);
    api.functions.invoked("disconnect").await.answer(&ok());
    let _third = api.connect().await;
}
