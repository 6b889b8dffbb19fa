//! An answer in the making: where its pieces come from, and what may befall them.

use std::time::Duration;

use async_stream::stream;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::api::{StopReason, Usage};
use crate::exception::Exception;
use crate::faults::Course;
use crate::guardrail::{BLOCKED_MESSAGE, WordFilter};
use crate::script::{Reply, Step};
use crate::tokens;

/// A piece of an answer.
#[derive(Debug)]
pub(crate) enum Piece {
    Text(String),
    /// The last piece. Without `usage`, tokens are counted by the stand-in's own measure.
    End {
        stop_reason: StopReason,
        usage: Option<Usage>,
    },
}

impl Piece {
    fn end(stop_reason: StopReason) -> Self {
        Self::End { stop_reason, usage: None }
    }
}

/// Texts, then one end or one exception. Dropping it stops the generation.
pub(crate) type Pieces = BoxStream<'static, Result<Piece, Exception>>;

/// When tokens are said, counted from the first poll.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    first_token: Duration,
    token: Duration,
}

impl Pace {
    pub fn new(first_token_ms: u64, tokens_per_second: u32) -> Self {
        let token = Duration::from_secs(1).checked_div(tokens_per_second).unwrap_or_default();
        Self { first_token: Duration::from_millis(first_token_ms), token }
    }
}

/// Says `tokens` at `pace`. A client that reads late is not waited for: the schedule is fixed at the start.
pub(crate) fn paced(tokens: Vec<String>, stop_reason: StopReason, pace: Pace) -> Pieces {
    stream! {
        let mut due = Instant::now() + pace.first_token;
        for token in tokens {
            // A timer rounds up to a millisecond, which would slow an unpaced answer.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            due += pace.token;
            yield Ok(Piece::Text(token));
        }
        yield Ok(Piece::end(stop_reason));
    }
    .boxed()
}

/// Says what the script says.
pub(crate) fn scripted(reply: Reply) -> Pieces {
    stream! {
        for step in reply.steps {
            match step {
                Step::Say(text) => yield Ok(Piece::Text(text)),
                Step::Pause(duration) => sleep(duration).await,
                Step::Await(notify) => notify.notified().await,
                Step::Hang => std::future::pending().await,
                Step::End(reason) => {
                    yield Ok(Piece::end(reason));
                    return;
                }
                Step::Fail(exception) => {
                    yield Err(exception);
                    return;
                }
            }
        }
        yield Ok(Piece::end(StopReason::EndTurn));
    }
    .boxed()
}

/// What the guardrail says instead of asking the model.
pub(crate) fn blocked() -> Pieces {
    let end = Piece::End { stop_reason: StopReason::GuardrailIntervened, usage: Some(Usage::new(0, 0)) };
    futures_util::stream::iter([Ok(Piece::Text(BLOCKED_MESSAGE.to_owned())), Ok(end)]).boxed()
}

/// Sends the pieces on their course.
pub(crate) fn on_course(mut pieces: Pieces, mut course: Course) -> Pieces {
    stream! {
        let mut said = 0;
        if !course.first_token_extra.is_zero() {
            sleep(course.first_token_extra).await;
        }
        while let Some(piece) = pieces.next().await {
            if let Some((_, duration)) = course.stall_after.take_if(|(after, _)| said >= *after) {
                match duration {
                    Some(duration) => sleep(duration).await,
                    None => std::future::pending().await,
                }
            }
            if let Some((_, exception)) = course.error_after.take_if(|(after, _)| said >= *after) {
                yield Err(exception);
                return;
            }
            if let Ok(Piece::Text(text)) = &piece {
                said += tokens::count(text);
            }
            yield piece;
        }
    }
    .boxed()
}

/// Breaks the answer off at the first blocked word, as a guardrail in asynchronous mode does: what was said before stays said.
pub(crate) fn guarded(mut pieces: Pieces, filter: WordFilter) -> Pieces {
    stream! {
        let mut said = String::new();
        while let Some(piece) = pieces.next().await {
            if let Ok(Piece::Text(text)) = &piece {
                said.push_str(text);
                if !filter.matches(&said).is_empty() {
                    yield Ok(Piece::Text(BLOCKED_MESSAGE.to_owned()));
                    yield Ok(Piece::end(StopReason::GuardrailIntervened));
                    return;
                }
            }
            yield piece;
        }
    }
    .boxed()
}
