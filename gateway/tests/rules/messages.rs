//! Messages of clients: routing, concurrency, what comes back, sizes.

use std::time::Duration;

use futures_util::SinkExt;
use gateway::Limits;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::{Api, Client, ok};

/// "WebSocket selection expressions": the service "will use the route whose routeKey exactly matches the evaluated
/// value. If none match, and a route with the $default route key exists, that will be selected." "Use routes to process
/// messages": "Non-JSON messages are passed through to the backend by the $default route."
#[tokio::test]
async fn a_message_goes_to_the_route_its_expression_selects_or_to_default() {
    let api = Api::start(&["$default", "$connect", "join"], |config| {
        config.route_selection_expression = "$request.body.do.what".parse().unwrap();
    })
    .await;
    let connecting = api.connect();
    let (mut client, ()) = tokio::join!(connecting, async { api.functions.invoked("connect").await.answer(&ok()) });
    for (message, function, route_key) in [
        (r#"{"do":{"what":"join"}}"#, "join", "join"),
        (r#"{"do":{"what":"leave"}}"#, "default", "$default"),
        (r#"{"do":{"what":"$connect"}}"#, "default", "$default"),
        (r#"{"action":"join"}"#, "default", "$default"),
        ("join us!", "default", "$default"),
        ("", "default", "$default"),
    ] {
        client.send(message).await;
        let invocation = api.functions.invoked(function).await;
        assert_eq!(invocation.event["body"], message);
        assert_eq!(invocation.event["requestContext"]["routeKey"], route_key);
        invocation.answer(&ok());
    }
}

/// "WebSocket selection expressions": "If no routes match the evaluated value and there is no $default route, the
/// service will return an error." aws-samples/simple-websockets-chat-app#24 shows the error.
#[tokio::test]
async fn a_message_without_a_route_is_answered_with_forbidden() {
    let api = Api::start(&["join"], |_| ()).await;
    let mut client = api.connect().await;
    client.send(r#"{"action":"leave"}"#).await;
    assert_complaint(&client.json().await, "Forbidden", &api);
    client.send("still open").await;
    assert_complaint(&client.json().await, "Forbidden", &api);
}

fn assert_complaint(frame: &Value, message: &str, api: &Api) {
    let request_id = frame["requestId"].as_str().unwrap();
    assert_eq!(request_id.len(), 16);
    assert_eq!(*frame, json!({ "message": message, "connectionId": api.connection_id(), "requestId": request_id }));
}

/// A client's messages are independent requests: one does not wait for another's integration.
#[tokio::test]
async fn messages_of_one_connection_run_concurrently() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    for n in 0..3 {
        client.send(n.to_string()).await;
    }
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(api.functions.invoked("default").await);
    }
    assert_eq!(api.functions.peak(), 3);
    running.into_iter().rev().for_each(|invocation| invocation.answer(&ok()));
}

/// Own limit: messages of one connection in flight.
#[tokio::test]
async fn no_more_messages_run_at_once_than_the_limit() {
    let api = Api::with_limits(&["$default"], Limits { frames_in_flight_max: 2, ..Limits::default() }).await;
    let mut client = api.connect().await;
    for n in 0..6 {
        client.send(n.to_string()).await;
    }
    let mut previous = api.functions.invoked("default").await;
    for _ in 1..6 {
        let next = api.functions.invoked("default").await;
        previous.answer(&ok());
        previous = next;
    }
    previous.answer(&ok());
    assert_eq!(api.functions.peak(), 2);
}

/// "Set up route responses for WebSocket APIs": "API Gateway will not pass the backend response through to the route
/// response, unless you set up a route response."
#[tokio::test]
async fn what_a_function_answers_does_not_reach_the_client() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    for answer in [json!({ "statusCode": 200, "body": "secret" }), json!({ "statusCode": 500, "body": "secret" })] {
        client.send("hello").await;
        api.functions.invoked("default").await.answer(&answer);
    }
    // The answers above are over when a later message's complaint arrives.
    client.send("fail").await;
    api.functions.invoked("default").await.fail("boom");
    assert_complaint(&client.json().await, "Internal server error", &api);
}

/// aws/aws-cdk#18208 and middyjs/middy#1219 show the frame: for a function that fails, and for an answer that is not
/// one of a proxy integration.
#[tokio::test]
async fn a_function_that_fails_is_reported_as_internal_server_error() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    client.send("hello").await;
    api.functions.invoked("default").await.fail("boom");
    assert_complaint(&client.json().await, "Internal server error", &api);

    client.send("hello").await;
    api.functions.invoked("default").await.throttle();
    assert_complaint(&client.json().await, "Internal server error", &api);

    for wrong in [json!(null), json!("text"), json!({}), json!({ "statusCode": 200, "ConnectionId": "x" })] {
        client.send("hello").await;
        api.functions.invoked("default").await.answer(&wrong);
        assert_complaint(&client.json().await, "Internal server error", &api);
    }
}

/// "Quotas for configuring and running a WebSocket API": integration timeout 29 s. Kludex/mangum#128 shows the frame.
/// The function is not stopped: what it does later still counts, as Lambda runs it to its end.
#[tokio::test]
async fn a_function_that_does_not_answer_in_time_is_reported_as_timed_out() {
    assert_eq!(Limits::default().integration_timeout, Duration::from_secs(29));
    let limits = Limits { integration_timeout: Duration::from_millis(100), ..Limits::default() };
    let api = Api::with_limits(&["$default"], limits).await;
    let mut client = api.connect().await;
    client.send("hello").await;
    let unanswered = api.functions.invoked("default").await;
    assert_complaint(&client.json().await, "Endpoint request timed out", &api);
    unanswered.answer(&ok());
    client.send("still open").await;
    api.functions.invoked("default").await.answer(&ok());
}

/// Sends a text as frames of the given sizes.
async fn send_in_frames(client: &mut Client, sizes: &[usize]) {
    for (n, size) in sizes.iter().enumerate() {
        let kind = if n == 0 { Data::Text } else { Data::Continue };
        let frame = Frame::message("x".repeat(*size), OpCode::Data(kind), n + 1 == sizes.len());
        client.0.send(Message::Frame(frame)).await.unwrap();
    }
}

const KB: usize = 1024;

/// "Quotas for configuring and running a WebSocket API": frame 32 KB, message 128 KB; "If a larger message (or larger
/// frame size) is received, the connection is closed with code 1009."
#[tokio::test]
async fn frames_of_32_kb_and_messages_of_128_kb_pass_and_larger_ones_close_with_1009() {
    let api = Api::start(&["$default", "$disconnect"], |_| ()).await;
    for (sizes, passes) in [
        (&[32 * KB][..], true),
        (&[32 * KB + 1], false),
        (&[32 * KB; 4], true),
        (&[32 * KB, 32 * KB, 32 * KB, 32 * KB, 1], false),
        (&[1, 32 * KB + 1], false),
    ] {
        let mut client = api.connect().await;
        send_in_frames(&mut client, sizes).await;
        if passes {
            let invocation = api.functions.invoked("default").await;
            assert_eq!(invocation.event["body"].as_str().unwrap().len(), sizes.iter().sum::<usize>());
            invocation.answer(&ok());
            drop(client);
            api.functions.invoked("disconnect").await.answer(&ok());
        } else {
            assert_eq!(client.closed().await.0, 1009, "{sizes:?}");
            let disconnect = api.functions.invoked("disconnect").await;
            assert_eq!(disconnect.event["requestContext"]["disconnectStatusCode"], 1009);
            disconnect.answer(&ok());
        }
    }
}

/// The close frame arrives even when the client goes on writing what will never be read.
#[tokio::test]
async fn a_client_in_the_middle_of_a_huge_frame_still_gets_the_close_frame() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    client.send("x".repeat(1024 * KB)).await;
    assert_eq!(client.closed().await.0, 1009);
}

/// "Binary media types for WebSocket APIs": "If a client app sends a binary frame, API Gateway rejects it and
/// disconnects the client with code 1003."
#[tokio::test]
async fn a_binary_frame_closes_with_1003() {
    let api = Api::start(&["$default", "$disconnect"], |_| ()).await;
    let mut client = api.connect().await;
    client.0.send(Message::Binary(b"\x00"[..].into())).await.unwrap();
    assert_eq!(client.closed().await.0, 1003);
    let disconnect = api.functions.invoked("disconnect").await;
    assert_eq!(disconnect.event["requestContext"]["disconnectStatusCode"], 1003);
    assert_eq!(api.functions.total(), 1);
}

/// RFC 6455, section 7.4.1: 1007 for text that is not UTF-8, 1002 for a protocol error.
#[tokio::test]
async fn frames_against_the_protocol_close_with_the_protocols_codes() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    let not_utf8 = Frame::message(vec![0xFF], OpCode::Data(Data::Text), true);
    client.0.send(Message::Frame(not_utf8)).await.unwrap();
    assert_eq!(client.closed().await.0, 1007);

    let mut client = api.connect().await;
    let continues_nothing = Frame::message("x", OpCode::Data(Data::Continue), true);
    client.0.send(Message::Frame(continues_nothing)).await.unwrap();
    assert_eq!(client.closed().await.0, 1002);
}

/// RFC 6455, section 5.5.2: a ping is answered with a pong of the same data.
#[tokio::test]
async fn a_ping_is_answered_and_not_routed() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    client.0.send(Message::Ping(b"are you there"[..].into())).await.unwrap();
    match client.next().await {
        Some(Ok(Message::Pong(data))) => assert_eq!(data, b"are you there"[..]),
        other => panic!("{other:?} instead of a pong"),
    }
    assert_eq!(api.functions.total(), 0);
}
