//! `ApiGatewaySender` against `@connections` of a test's making.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use aws_adapters::{ApiGatewaySender, clients};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use domain::ids::ConnectionId;
use domain::ports::{ConnectionSender as _, Delivery, Unavailable};

use crate::fake::{Fake, nobody};
use crate::{environment, failure, within};

/// As API Gateway refuses.
type Refusal = (u16, &'static str);

const GONE: Refusal = (410, "GoneException");
const THROTTLED: Refusal = (429, "LimitExceededException");
const TOO_LARGE: Refusal = (413, "PayloadTooLargeException");
const FORBIDDEN: Refusal = (403, "ForbiddenException");
const BROKEN: Refusal = (500, "InternalServerException");

/// Refuses so often, then takes every frame.
async fn refusing(refusals: impl IntoIterator<Item = Refusal>) -> Fake {
    let refusals: Arc<Mutex<VecDeque<Refusal>>> = Arc::new(Mutex::new(refusals.into_iter().collect()));
    Fake::start(move |_| {
        let answer = match refusals.lock().unwrap().pop_front() {
            None => StatusCode::OK.into_response(),
            Some((status, error)) => {
                let status = StatusCode::from_u16(status).unwrap();
                (status, [("x-amzn-errortype", error)], r#"{"message":"refused"}"#).into_response()
            }
        };
        std::future::ready(Some(answer))
    })
    .await
}

async fn send(callback_url: &str, frame: &str) -> Result<Delivery, Unavailable> {
    let sender = ApiGatewaySender::new(clients::api_gateway_management(&environment("http://unused"), callback_url));
    within(sender.send(&ConnectionId("L0SM9cOFvHcCIhw=".to_owned()), frame.to_owned())).await
}

#[tokio::test]
async fn a_frame_is_posted_to_its_connection() {
    let api = refusing([]).await;
    let frame = r#"{"v":1,"text":"海賊"}"#;
    assert_eq!(send(&format!("{}/prod", api.url), frame).await.unwrap(), Delivery::Delivered);
    let requests = api.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target, "/prod/@connections/L0SM9cOFvHcCIhw%3D");
    assert_eq!(requests[0].body, frame);
    assert!(requests[0].header("authorization").unwrap().contains("/ap-northeast-1/execute-api/aws4_request"));
}

#[tokio::test]
async fn what_api_gateway_answers_decides() {
    enum Expect {
        Delivery(Delivery),
        Failure,
    }
    use Expect::{Delivery as Is, Failure};
    let cases = [
        ("a connection that is gone", vec![GONE], Is(Delivery::Gone), 1),
        ("throttled twice", vec![THROTTLED; 2], Is(Delivery::Delivered), 3),
        ("throttled for good", vec![THROTTLED; 9], Failure, 3),
        ("gone while throttled", vec![THROTTLED, GONE], Is(Delivery::Gone), 2),
        ("broken twice", vec![BROKEN; 2], Is(Delivery::Delivered), 3),
        ("broken for good", vec![BROKEN; 9], Failure, 3),
        ("a frame too large", vec![TOO_LARGE], Failure, 1),
        ("not allowed", vec![FORBIDDEN], Failure, 1),
    ];
    for (case, refusals, expected, attempts) in cases {
        let api = refusing(refusals).await;
        let sent = send(&api.url, "frame").await;
        match expected {
            Is(delivery) => assert_eq!(sent.unwrap(), delivery, "{case}"),
            Failure => drop(failure(sent)),
        }
        assert_eq!(api.requests().len(), attempts, "{case}");
    }
}

#[tokio::test]
async fn an_api_out_of_reach_or_silent_is_unavailable() {
    failure(send(&nobody().await, "frame").await);
    let silent = Fake::silent().await;
    failure(send(&silent.url, "frame").await);
    assert!((1..=2).contains(&silent.requests().len()), "attempts of 1 s within 2 s");
}
