//! How connections end.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use gateway::Limits;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::{Api, connect, ok, soon};

/// Code and reason that `$disconnect` was told.
async fn disconnected(api: &Api) -> (Value, Value) {
    let invocation = api.functions.invoked("disconnect").await;
    let context = &invocation.event["requestContext"];
    let told = (context["disconnectStatusCode"].clone(), context["disconnectReason"].clone());
    invocation.answer(&ok());
    told
}

/// "Quotas for configuring and running a WebSocket API": idle connection timeout 10 minutes. Events recorded on AWS
/// after it have `disconnectStatusCode` 1001 and `disconnectReason` "Going away".
#[tokio::test]
async fn an_idle_connection_is_closed_with_1001() {
    assert_eq!(Limits::default().idle_timeout, Duration::from_secs(600));
    let idle_timeout = Duration::from_millis(200);
    let api = Api::with_limits(&["$disconnect"], Limits { idle_timeout, ..Limits::default() }).await;
    let opened = Instant::now();
    let mut client = api.connect().await;
    assert_eq!(client.closed().await, (1001, "Going away".to_owned()));
    assert!(opened.elapsed() >= idle_timeout);
    assert_eq!(disconnected(&api).await, (json!(1001), json!("Going away")));
    assert_eq!(api.gateway.connections(), 0);
}

/// andyrichardson/subscriptionless#3: a message in either direction keeps a connection from being idle.
#[tokio::test]
async fn a_message_in_either_direction_is_activity() {
    let idle_timeout = Duration::from_secs(4);
    let api = Api::with_limits(&["$default", "$disconnect"], Limits { idle_timeout, ..Limits::default() }).await;
    let mut client = api.connect().await;

    tokio::time::sleep(idle_timeout / 2).await;
    let sent = Instant::now();
    client.send("from the client").await;
    api.functions.invoked("default").await.answer(&ok());

    tokio::time::sleep((idle_timeout / 2).saturating_sub(sent.elapsed())).await;
    let posted = Instant::now();
    let id = api.connection_id();
    api.callbacks().post_to_connection().connection_id(id).data(b"back".to_vec().into()).send().await.unwrap();
    assert_eq!(client.text().await, "back");

    assert_eq!(client.closed().await.0, 1001);
    assert!(posted.elapsed() >= idle_timeout, "closed {:?} after the last message", posted.elapsed());
}

/// "Quotas for configuring and running a WebSocket API": connection duration 2 hours. The code is not documented; it is
/// taken to be that of the idle timeout.
#[tokio::test]
async fn a_connection_is_closed_at_its_age_limit_however_busy() {
    assert_eq!(Limits::default().connection_duration, Duration::from_secs(7200));
    let connection_duration = Duration::from_millis(300);
    let limits = Limits { connection_duration, idle_timeout: Duration::from_secs(600), ..Limits::default() };
    let api = Api::with_limits(&["$disconnect"], limits).await;
    let opened = Instant::now();
    let mut client = api.connect().await;
    client.send("busy").await;
    assert_eq!(client.json().await["message"], "Forbidden");
    assert_eq!(client.closed().await, (1001, "Going away".to_owned()));
    assert!(opened.elapsed() >= connection_duration);
    assert_eq!(disconnected(&api).await, (json!(1001), json!("Going away")));
}

/// "Manage connected users and client apps: $connect and $disconnect routes": `$disconnect` is invoked after the
/// connection is closed, by client or server, with the status code and reason of the close frame.
#[tokio::test]
async fn a_clients_close_frame_is_answered_and_reported() {
    let api = Api::start(&["$disconnect"], |_| ()).await;
    let mut client = api.connect().await;
    client.0.close(Some(CloseFrame { code: 4001.into(), reason: "token refresh".into() })).await.unwrap();
    assert_eq!(client.closed().await, (4001, "token refresh".to_owned()));
    assert!(client.next().await.is_none());
    assert_eq!(disconnected(&api).await, (json!(4001), json!("token refresh")));
}

/// typelevel/feral, ApiGatewayWebSocketEventSuite: the event recorded on AWS for an empty close frame.
#[tokio::test]
async fn an_empty_close_frame_is_reported_as_1005() {
    let api = Api::start(&["$disconnect"], |_| ()).await;
    let mut client = api.connect().await;
    client.0.send(Message::Close(None)).await.unwrap();
    assert_eq!(disconnected(&api).await, (json!(1005), json!("Client-side close frame status not set")));
}

/// RFC 6455, section 7.4.1: 1006 when the connection was closed abnormally, without a close frame.
#[tokio::test]
async fn a_lost_connection_is_reported_as_1006() {
    let api = Api::start(&["$disconnect"], |_| ()).await;
    drop(api.connect().await);
    assert_eq!(disconnected(&api).await.0, json!(1006));
    assert_eq!(api.gateway.connections(), 0);
}

/// "Manage connected users and client apps": "Because of the best-effort delivery" of `$disconnect`, its failure
/// changes nothing.
#[tokio::test]
async fn a_failing_disconnect_changes_nothing() {
    let api = Api::start(&["$disconnect"], |_| ()).await;
    drop(api.connect().await);
    api.functions.invoked("disconnect").await.fail("boom");
    let _next = api.connect().await;
    assert_eq!(api.gateway.connections(), 1);
}

/// For the host's tests of lost connections.
#[tokio::test]
async fn a_cut_connection_ends_without_a_close_frame() {
    let api = Api::start(&["$disconnect"], |_| ()).await;
    let mut client = api.connect().await;
    assert!(api.gateway.cut(&api.connection_id()));
    assert!(client.lost().await);
    assert_eq!(disconnected(&api).await.0, json!(1006));
    assert!(!api.gateway.cut("L0SM9cOFvHcCIhw="));

    let mut clients = [api.connect().await, api.connect().await];
    assert_eq!(api.gateway.connections(), 2);
    api.gateway.cut_all();
    for client in &mut clients {
        assert!(client.lost().await);
    }
}

/// A function goes on when its client leaves, as Lambda runs an invocation to its end.
#[tokio::test]
async fn a_function_under_way_is_not_cancelled_when_the_client_leaves() {
    let api = Api::start(&["$default", "$disconnect"], |_| ()).await;
    let mut client = api.connect().await;
    client.send("hello").await;
    let under_way = api.functions.invoked("default").await;
    drop(client);
    assert_eq!(disconnected(&api).await.0, json!(1006));
    assert!(under_way.is_awaited());
    under_way.answer(&ok());
}

#[tokio::test]
async fn stopping_closes_every_connection_and_delivers_disconnect_first() {
    let api = Api::start(&["$disconnect"], |_| ()).await;
    let mut clients = [api.connect().await, api.connect().await];
    let address = api.gateway.address();
    let Api { gateway, functions } = api;
    let mut stopping = tokio::spawn(gateway.stop());
    for client in &mut clients {
        assert_eq!(client.closed().await, (1001, "Going away".to_owned()));
    }
    let first = functions.invoked("disconnect").await;
    let second = functions.invoked("disconnect").await;
    assert_eq!(second.event["requestContext"]["disconnectStatusCode"], 1001);
    first.answer(&ok());
    assert!(!stopping.is_finished());
    second.answer(&ok());
    soon("the stop", &mut stopping).await.unwrap();
    assert!(connect(format!("ws://{address}/v1")).await.is_err());
}

/// Own limit: the time `stop` takes, even when a function never answers.
#[tokio::test]
async fn stopping_ends_in_time_whatever_functions_do() {
    let stop_timeout = Duration::from_millis(200);
    let api = Api::with_limits(&["$default"], Limits { stop_timeout, ..Limits::default() }).await;
    let mut client = api.connect().await;
    client.send("hello").await;
    let _unanswered = api.functions.invoked("default").await;
    soon("the stop", api.gateway.stop()).await;
}

#[tokio::test]
async fn dropping_the_gateway_closes_its_connections() {
    let api = Api::start(&[], |_| ()).await;
    let mut client = api.connect().await;
    drop(api.gateway);
    assert_eq!(client.closed().await.0, 1001);
}
