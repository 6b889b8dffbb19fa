use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamError;
use aws_sdk_bedrockruntime::types::StopReason;
use bedrock_stand_in::{Exception, ExceptionKind, Faults, REQUESTS_RECORDED_MAX, Reply};
use tokio::sync::Notify;

use crate::{answer, ask, start, stats_until, unpaced, user, within};

#[tokio::test]
async fn replies_are_given_in_order_then_the_default_answers() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.set_faults(Faults { throttle_rate: 1.0, ..Faults::default() });
    stand_in.script([
        Reply::new().say("こん").say("にちは🎌"),
        Reply::refuse(Exception::new(ExceptionKind::ServiceUnavailable, "later")),
        Reply::new().say("x").end(bedrock_stand_in::StopReason::MaxTokens).say("never said"),
    ]);
    let first = answer(ask(&client, [user("a")])).await;
    assert_eq!(
        (first.deltas, first.stop_reason),
        (vec!["こん".to_owned(), "にちは🎌".to_owned()], StopReason::EndTurn)
    );
    let error = ask(&client, [user("b")]).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseStreamError::ServiceUnavailableException(_)), "{error:?}");
    let third = answer(ask(&client, [user("c")])).await;
    assert_eq!((third.text().as_str(), third.stop_reason), ("x", StopReason::MaxTokens));
    let error = ask(&client, [user("d")]).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseStreamError::ThrottlingException(_)), "{error:?}");
}

#[tokio::test]
async fn a_reply_about_something_waits_for_the_question() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.script([Reply::new().about("second").say("2"), Reply::new().say("1")]);
    for (question, said) in [("the first", "1"), ("the second", "2")] {
        assert_eq!(answer(ask(&client, [user(question)])).await.text(), said);
    }
}

#[tokio::test]
async fn a_reply_waits_until_it_is_told() {
    let (stand_in, client) = start(unpaced()).await;
    let go = Arc::new(Notify::new());
    let boom = Exception::new(ExceptionKind::InternalServer, "boom");
    stand_in.script([Reply::new()
        .say("one")
        .until(Arc::clone(&go))
        .pause(Duration::from_millis(20))
        .say("two")
        .fail(boom)]);
    let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
    while !within(stream.recv()).await.unwrap().unwrap().is_content_block_delta() {}
    assert_eq!(stand_in.stats().tokens, 1);
    let told = Instant::now();
    go.notify_one();
    let event = within(stream.recv()).await.unwrap().unwrap();
    assert_eq!(event.as_content_block_delta().unwrap().delta().unwrap().as_text().unwrap(), "two");
    assert!(told.elapsed() >= Duration::from_millis(20));
    let error = within(stream.recv()).await.unwrap_err().into_service_error();
    assert!(error.is_internal_server_exception(), "{error:?}");
}

#[tokio::test]
async fn a_reply_can_hang() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.script([Reply::new().say("one").hang()]);
    let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
    while !within(stream.recv()).await.unwrap().unwrap().is_content_block_delta() {}
    drop(stream);
    assert_eq!(stats_until(&stand_in, |stats| stats.streams_active == 0).await.cancelled, 1);
}

#[tokio::test]
async fn the_newest_requests_are_kept_up_to_the_limit() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.script((0..=REQUESTS_RECORDED_MAX).map(|_| Reply::new().say("ok")));
    for number in 0..REQUESTS_RECORDED_MAX {
        ask(&client, [user(&number.to_string())]).send().await.unwrap();
    }
    let first = |stand_in: &bedrock_stand_in::StandIn| {
        let requests = stand_in.requests();
        assert_eq!(requests.len(), REQUESTS_RECORDED_MAX);
        requests[0].body["messages"][0]["content"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(first(&stand_in), "0");
    ask(&client, [user("one more")]).send().await.unwrap();
    assert_eq!(first(&stand_in), "1");
}
