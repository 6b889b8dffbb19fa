use std::time::{Duration, Instant};

use aws_sdk_bedrockruntime::operation::converse::ConverseError;
use aws_sdk_bedrockruntime::operation::converse_stream::ConverseStreamError;
use aws_sdk_bedrockruntime::types::StopReason;
use aws_sdk_bedrockruntime::types::error::ConverseStreamOutputError;
use bedrock_stand_in::{ExceptionKind, Faults, MidStreamError, Stall};

use crate::{MODEL, answer, ask, start, stats_until, unpaced, user, within};

fn mid_stream(after_tokens: u64, exception: ExceptionKind) -> Faults {
    Faults { mid_stream_error: Some(MidStreamError { rate: 1.0, after_tokens, exception }), ..Faults::default() }
}

fn stall(after_tokens: u64, duration_ms: Option<u64>) -> Faults {
    Faults { stall: Some(Stall { rate: 1.0, after_tokens, duration_ms }), ..Faults::default() }
}

#[tokio::test]
async fn refusals_are_typed() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.set_faults(Faults { throttle_rate: 1.0, ..Faults::default() });
    let error = ask(&client, [user("a")]).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseStreamError::ThrottlingException(_)), "{error:?}");
    let error = client.converse().model_id(MODEL).messages(user("a")).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseError::ThrottlingException(_)), "{error:?}");

    let failing = |error| Faults { error_rate: 1.0, error, ..Faults::default() };
    stand_in.set_faults(failing(ExceptionKind::InternalServer));
    let error = ask(&client, [user("a")]).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseStreamError::InternalServerException(_)), "{error:?}");
    stand_in.set_faults(failing(ExceptionKind::ServiceUnavailable));
    let error = ask(&client, [user("a")]).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseStreamError::ServiceUnavailableException(_)), "{error:?}");

    stand_in.set_faults(Faults::default());
    answer(ask(&client, [user("a")])).await;
    assert_eq!((stand_in.stats().calls, stand_in.stats().cancelled), (5, 0));
}

#[tokio::test]
async fn a_rate_strikes_some_calls_and_the_same_ones_again() {
    let refused = async || {
        let faults = Faults { throttle_rate: 0.5, ..Faults::default() };
        let (_stand_in, client) = start(bedrock_stand_in::Config { faults, ..unpaced() }).await;
        let mut refused = Vec::new();
        for _ in 0..20 {
            refused.push(ask(&client, [user("a")]).send().await.is_err());
        }
        refused
    };
    let first = refused().await;
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(first, refused().await);
}

#[tokio::test]
async fn an_answer_breaks_after_the_tokens_it_is_told() {
    let (stand_in, client) = start(unpaced()).await;
    let length = u64::try_from(answer(ask(&client, [user("a")])).await.deltas.len()).unwrap();
    for after in [0, 1, length] {
        stand_in.set_faults(mid_stream(after, ExceptionKind::ModelStreamError));
        let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
        let mut said = 0;
        let error = loop {
            match within(stream.recv()).await {
                Ok(Some(event)) => said += u64::from(event.is_content_block_delta()),
                Ok(None) => panic!("ended"),
                Err(error) => break error.into_service_error(),
            }
        };
        assert_eq!(said, after);
        assert!(matches!(error, ConverseStreamOutputError::ModelStreamErrorException(_)), "{error:?}");
    }
    stand_in.set_faults(mid_stream(length + 1, ExceptionKind::ModelStreamError));
    assert_eq!(answer(ask(&client, [user("a")])).await.stop_reason, StopReason::EndTurn);
    assert_eq!(stand_in.stats().cancelled, 0);
}

#[tokio::test]
async fn every_exception_of_the_stream_is_typed() {
    use ConverseStreamOutputError as Error;
    type IsIt = fn(&Error) -> bool;
    let (stand_in, client) = start(unpaced()).await;
    let cases: [(ExceptionKind, IsIt); 5] = [
        (ExceptionKind::InternalServer, Error::is_internal_server_exception),
        (ExceptionKind::ModelStreamError, Error::is_model_stream_error_exception),
        (ExceptionKind::ServiceUnavailable, Error::is_service_unavailable_exception),
        (ExceptionKind::Throttling, Error::is_throttling_exception),
        (ExceptionKind::Validation, Error::is_validation_exception),
    ];
    for (kind, is_it) in cases {
        stand_in.set_faults(mid_stream(0, kind));
        let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
        assert!(within(stream.recv()).await.unwrap().unwrap().is_message_start());
        let error = within(stream.recv()).await.unwrap_err().into_service_error();
        assert!(is_it(&error), "{kind:?}: {error:?}");
    }
}

#[tokio::test]
async fn converse_fails_as_a_whole() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.set_faults(mid_stream(3, ExceptionKind::ModelStreamError));
    let error = client.converse().model_id(MODEL).messages(user("a")).send().await.unwrap_err().into_service_error();
    assert!(matches!(error, ConverseError::ModelErrorException(_)), "{error:?}");
}

#[tokio::test]
async fn a_client_that_leaves_a_stalled_answer_is_counted() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.set_faults(stall(4, None));
    let mut stream = ask(&client, [user("Hello?")]).send().await.unwrap().stream;
    let mut said = 0;
    while said < 4 {
        said += u64::from(within(stream.recv()).await.unwrap().unwrap().is_content_block_delta());
    }
    let stats = stand_in.stats();
    assert_eq!((stats.streams_active, stats.cancelled, stats.tokens), (1, 0, 4));
    drop(stream);
    let stats = stats_until(&stand_in, |stats| stats.streams_active == 0).await;
    assert_eq!((stats.cancelled, stats.tokens), (1, 4));
}

#[tokio::test]
async fn a_stall_that_ends_only_costs_time() {
    let (stand_in, client) = start(unpaced()).await;
    let smooth = answer(ask(&client, [user("a")])).await;
    stand_in.set_faults(stall(4, Some(60)));
    let begun = Instant::now();
    assert_eq!(answer(ask(&client, [user("a")])).await.text(), smooth.text());
    assert!(begun.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn the_first_token_can_be_slow() {
    let (stand_in, client) = start(unpaced()).await;
    stand_in.set_faults(Faults { first_token_extra_ms: 60, ..Faults::default() });
    let begun = Instant::now();
    let mut stream = ask(&client, [user("a")]).send().await.unwrap().stream;
    while !within(stream.recv()).await.unwrap().unwrap().is_content_block_delta() {}
    assert!(begun.elapsed() >= Duration::from_millis(60));
}
