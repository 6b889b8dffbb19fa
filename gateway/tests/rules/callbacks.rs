//! The `@connections` API, through the SDK.

use std::time::Duration;

use aws_sdk_apigatewaymanagement::operation::post_to_connection::PostToConnectionError;
use aws_sdk_apigatewaymanagement::primitives::Blob;
use gateway::{Limits, MESSAGE_OVERHEAD_BYTES, Rate};
use serde_json::json;

use crate::{Api, ok};

const KB: usize = 1024;

async fn post(api: &Api, id: &str, data: impl Into<Vec<u8>>) -> Result<(), PostToConnectionError> {
    let request = api.callbacks().post_to_connection().connection_id(id).data(Blob::new(data.into()));
    request.send().await.map(|_| ()).map_err(|error| error.into_service_error())
}

/// "Use @connections commands in your backend service": POST "sends a callback message to the client".
#[tokio::test]
async fn post_sends_to_that_client_only() {
    let api = Api::start(&["$default"], |_| ()).await;
    let mut client = api.connect().await;
    let id = api.connection_id();
    let mut other = api.connect().await;
    post(&api, &id, "こんにちは").await.unwrap();
    assert_eq!(client.text().await, "こんにちは");

    other.send("who am I?").await;
    let invocation = api.functions.invoked("default").await;
    let other_id = invocation.event["requestContext"]["connectionId"].as_str().unwrap().to_owned();
    assert_ne!(id, other_id);
    post(&api, &other_id, "the other one").await.unwrap();
    assert_eq!(other.text().await, "the other one");
}

/// "Quotas for configuring and running a WebSocket API": a message larger than 32 KB "must be split into multiple
/// frames, each 32 KB or smaller. This applies to @connections commands." The test's client refuses larger frames.
/// ApiGatewayManagementApi, PayloadTooLargeException: 413, beyond 128 KB.
#[tokio::test]
async fn messages_of_128_kb_arrive_in_frames_of_32_kb_and_larger_ones_are_refused() {
    let api = Api::start(&[], |_| ()).await;
    let mut client = api.connect().await;
    let id = api.connection_id();
    for bytes in [0, 1, 32 * KB, 32 * KB + 1, 128 * KB] {
        let text = "x".repeat(bytes);
        post(&api, &id, text.clone()).await.unwrap();
        assert!(client.text().await == text, "{bytes} bytes");
    }
    // Frames are cut by bytes: in the middle of a character, too.
    let text = "漫".repeat(20 * KB);
    post(&api, &id, text.clone()).await.unwrap();
    assert!(client.text().await == text);

    for bytes in [128 * KB + 1, 5 * 1024 * KB] {
        assert!(post(&api, &id, "x".repeat(bytes)).await.unwrap_err().is_payload_too_large_exception());
    }
    post(&api, &id, "still open").await.unwrap();
    assert_eq!(client.text().await, "still open");
}

/// Own rule, as clients get text frames only ("Binary media types for WebSocket APIs").
#[tokio::test]
async fn data_that_is_not_utf8_is_refused() {
    let api = Api::start(&[], |_| ()).await;
    let _client = api.connect().await;
    let error = post(&api, &api.connection_id(), vec![0xFF]).await.unwrap_err();
    assert_eq!(error.meta().code(), Some("BadRequestException"));
}

/// ApiGatewayManagementApi, GetConnection: `connectedAt`, `lastActiveAt` and `identity`.
#[tokio::test]
async fn get_tells_who_is_connected_and_since_when() {
    let api = Api::start(&["$default"], |_| ()).await;
    let request = api.request().with_header("User-Agent", "test/1.0");
    let mut client = crate::connect(request).await.unwrap();
    let get = async || api.callbacks().get_connection().connection_id(api.connection_id()).send().await.unwrap();

    let before = get().await;
    let identity = before.identity().unwrap();
    assert_eq!((identity.source_ip(), identity.user_agent()), (Some("127.0.0.1"), Some("test/1.0")));
    client.send("hello").await;
    let invocation = api.functions.invoked("default").await;
    let after = get().await;
    assert_eq!(after.connected_at(), before.connected_at());
    let connected_at = after.connected_at().unwrap().to_millis().unwrap();
    assert_eq!(invocation.event["requestContext"]["connectedAt"], connected_at);
    let last_active_at = after.last_active_at().unwrap().to_millis().unwrap();
    assert!(last_active_at >= before.last_active_at().unwrap().to_millis().unwrap() && last_active_at >= connected_at);
}

/// "Use @connections commands in your backend service": DELETE disconnects the client. boto/boto3#3789 shows the
/// event: 1000, "Connection Closed Normally".
#[tokio::test]
async fn delete_closes_behind_what_was_posted_before() {
    let api = Api::start(&["$disconnect"], |_| ()).await;
    let mut client = api.connect().await;
    let id = api.connection_id();
    post(&api, &id, "one").await.unwrap();
    post(&api, &id, "two").await.unwrap();
    api.callbacks().delete_connection().connection_id(&id).send().await.unwrap();
    assert_eq!([client.text().await, client.text().await], ["one", "two"]);
    assert_eq!(client.closed().await, (1000, "Connection Closed Normally".to_owned()));

    let disconnect = api.functions.invoked("disconnect").await;
    let context = &disconnect.event["requestContext"];
    assert_eq!(context["disconnectStatusCode"], 1000);
    assert_eq!(context["disconnectReason"], "Connection Closed Normally");
    disconnect.answer(&ok());
    assert!(post(&api, &id, "three").await.unwrap_err().is_gone_exception());
}

/// ApiGatewayManagementApi, GoneException: 410, "the connection with the provided id no longer exists".
#[tokio::test]
async fn an_unknown_connection_is_gone() {
    let api = Api::start(&[], |_| ()).await;
    let (callbacks, id) = (api.callbacks(), "L0SM9cOFvHcCIhw=");
    assert!(post(&api, id, "hi").await.unwrap_err().is_gone_exception());
    let got = callbacks.get_connection().connection_id(id).send().await.unwrap_err();
    assert!(got.into_service_error().is_gone_exception());
    let deleted = callbacks.delete_connection().connection_id(id).send().await.unwrap_err();
    assert!(deleted.into_service_error().is_gone_exception());
}

/// "Use @connections commands in your backend service": the command may be URL-encoded, as
/// `%40connections/R0oXAdfD0kwCH6w%3D`.
#[tokio::test]
async fn the_path_may_be_encoded_or_not() {
    let api = Api::start(&[], |_| ()).await;
    let mut client = api.connect().await;
    let id = api.connection_id();
    let encoded = id.replace('=', "%3D");
    for path in [format!("/v1/@connections/{id}"), format!("/v1/%40connections/{encoded}")] {
        let response = api.http(&format!("POST {path}"), "hi").await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert_eq!(client.text().await, "hi");
    }
}

/// ApiGatewayManagementApi, ForbiddenException: 403.
#[tokio::test]
async fn other_paths_are_forbidden() {
    let api = Api::start(&[], |_| ()).await;
    let _client = api.connect().await;
    let id = api.connection_id();
    for path in [format!("/v2/@connections/{id}"), format!("/v1/connections/{id}"), "/".to_owned()] {
        let response = api.http(&format!("POST {path}"), "hi").await;
        assert!(response.starts_with("HTTP/1.1 403 "), "{path}: {response}");
        assert!(response.contains("x-amzn-errortype: ForbiddenException"), "{path}: {response}");
    }
}

/// "Amazon API Gateway quotas": callbacks count towards the account's requests per second. ApiGatewayManagementApi,
/// LimitExceededException: 429.
#[tokio::test]
async fn callbacks_beyond_the_rate_are_refused_with_429() {
    assert_eq!(Limits::default().callbacks, Rate { per_second: 10_000.0, burst: 5_000 });
    let callbacks = Rate { per_second: 0.0, burst: 2 };
    let api = Api::with_limits(&[], Limits { callbacks, ..Limits::default() }).await;
    let mut client = api.connect().await;
    let id = api.connection_id();
    post(&api, &id, "one").await.unwrap();
    post(&api, &id, "two").await.unwrap();
    assert!(post(&api, &id, "three").await.unwrap_err().is_limit_exceeded_exception());
    assert_eq!([client.text().await, client.text().await], ["one", "two"]);
}

/// Own limit: bytes queued towards one client. Whoever is beyond it is dropped.
#[tokio::test]
async fn a_message_beyond_the_queue_drops_the_client() {
    let outbound_bytes_max = KB;
    let api = Api::with_limits(&["$disconnect"], Limits { outbound_bytes_max, ..Limits::default() }).await;
    let mut client = api.connect().await;
    let id = api.connection_id();
    let fits = "x".repeat(outbound_bytes_max - MESSAGE_OVERHEAD_BYTES);
    post(&api, &id, fits.clone()).await.unwrap();
    assert_eq!(client.text().await, fits);

    assert!(post(&api, &id, fits + "x").await.unwrap_err().is_gone_exception());
    assert!(client.lost().await);
    let disconnect = api.functions.invoked("disconnect").await;
    assert_eq!(disconnect.event["requestContext"]["disconnectStatusCode"], json!(1006));
}

/// Posts to a client that reads nothing until it is gone; the sockets' buffers take the first megabytes.
async fn post_until_gone(api: &Api) {
    let _unread = api.connect().await;
    let id = api.connection_id();
    for _ in 0..2000 {
        match post(api, &id, "x".repeat(128 * KB)).await {
            Ok(()) => {}
            Err(error) => {
                assert!(error.is_gone_exception(), "{error:?}");
                let disconnect = api.functions.invoked("disconnect").await;
                assert_eq!(disconnect.event["requestContext"]["disconnectStatusCode"], json!(1006));
                return;
            }
        }
    }
    panic!("250 MB for a client that reads nothing");
}

/// Own limits: a client that reads too slowly is dropped, whichever of queue and patience ends first.
#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let by_queue = Limits { outbound_bytes_max: 256 * KB, send_timeout: Duration::from_secs(600), ..Limits::default() };
    post_until_gone(&Api::with_limits(&["$disconnect"], by_queue).await).await;
    let by_time = Limits { outbound_bytes_max: 1 << 30, send_timeout: Duration::from_millis(50), ..Limits::default() };
    post_until_gone(&Api::with_limits(&["$disconnect"], by_time).await).await;
}
