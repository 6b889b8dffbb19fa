//! Looks after turns: every owner of a turn has a task in the watchdog's queue, from before its first write until the turn
//! has ended and its end is published.
//!
//! So a turn that was recorded is never forgotten: whoever dies, the task comes back, finds the lease lapsed and has the
//! follow-up worker take the turn over; and an end that was stored but not concluded is concluded here.

use crate::ids::TurnId;
use crate::limits::{
    HISTORY_TOKENS_MAX, HISTORY_WINDOW_BYTES_MAX, HISTORY_WINDOW_TURNS_MAX, QUEUED_PATIENCE_MS, SUMMARY_EVERY_TURNS,
    WATCH_QUEUED_MS,
};
use crate::ports::{Clock as _, Task, TaskQueues as _, TurnEnded, TurnEvents, TurnPorts, TurnStore as _, Unavailable};
use crate::prompt::{escape_markup, estimated_tokens};
use crate::protocol::ErrorCode;
use crate::reminder;
use crate::route::Route;
use crate::settle;
use crate::takeover::is_spent;
use crate::turn::{Phase, StoredTurn};

/// What the watchdog found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// The turn was never recorded, so never accepted.
    Unknown,
    /// A later owner has the turn, and a watchdog of its own.
    HasNewerOwner,
    /// The owner lives: to be looked at again.
    Alive,
    /// The turn waits in the follow-up queue: to be looked at again.
    Queued,
    /// The owner is dead: the follow-up worker is asked to take over.
    TakeoverAsked,
    /// The turn had ended, or was ended here; its end is published.
    Ended,
}

/// Looks at a turn once. Afterwards the task may be deleted: what is still to be seen to has a task of its own.
///
/// # Errors
/// When something does not answer: the task must come again.
pub async fn watch<P: TurnPorts>(
    ports: &P,
    events: &impl TurnEvents,
    turn_id: &TurnId,
    epoch: u64,
) -> Result<Watched, Unavailable> {
    // What a glance misses is looked at properly; what it shows too old is only looked at once more.
    let glanced = ports.turns().glance(turn_id).await?;
    let found = if glanced.is_some() { glanced } else { ports.turns().turn(turn_id).await? };
    let Some(turn) = found else { return Ok(Watched::Unknown) };
    let now = ports.clock().now_ms();
    let again = async |at: u64| {
        let task = Task::Watch { turn_id: turn_id.clone(), epoch };
        ports.queues().send(&task, at.saturating_sub(now)).await
    };
    match turn.phase(now) {
        Phase::Ended => return publish(ports, events, &turn).await,
        Phase::Live { .. } | Phase::Lapsed | Phase::Queued { .. } if turn.epoch() > epoch => {
            return Ok(Watched::HasNewerOwner);
        }
        Phase::Live { until } => {
            again(until).await?;
            return Ok(Watched::Alive);
        }
        Phase::Queued { since } if now < since + QUEUED_PATIENCE_MS && !is_spent(&turn, now) => {
            again(now + WATCH_QUEUED_MS).await?;
            return Ok(Watched::Queued);
        }
        Phase::Lapsed | Phase::Queued { .. } => {}
    }
    if is_spent(&turn, now) {
        let turn = settle::fail(ports, turn, ErrorCode::Unavailable).await?;
        if turn.phase(now) == Phase::Ended {
            return publish(ports, events, &turn).await;
        }
    } else {
        let task = Task::Finish { turn_id: turn_id.clone(), epoch: turn.epoch() };
        ports.queues().send(&task, 0).await?;
    }
    again(now + WATCH_QUEUED_MS).await?;
    Ok(Watched::TakeoverAsked)
}

/// Does what the end of a turn still lacks, and publishes it.
async fn publish<P: TurnPorts>(ports: &P, events: &impl TurnEvents, turn: &StoredTurn) -> Result<Watched, Unavailable> {
    let Some(outcome) = &turn.journal.outcome else { return Ok(Watched::Alive) };
    let request = &turn.request;
    if ports.turns().holder(&request.conversation_id).await?.as_ref() == Some(&request.turn_id) {
        settle::conclude(ports, turn).await?;
    }
    let event = TurnEnded {
        turn_id: request.turn_id.clone(),
        conversation_id: request.conversation_id.clone(),
        number: request.number,
        intent: Route::of(&request.text, request.product_id.is_some()).intent,
        state: outcome.state,
        usage: outcome.usage,
        ended_at: turn.journal.frames.last().map_or(request.asked_at, |frame| frame.ts),
        follow_up: needs_summary(turn) || reminder::is_asked_for(&request.text),
    };
    events.turn_ended(&event).await?;
    Ok(Watched::Ended)
}

/// Whether the conversation is to be summed up after a turn: every few turns once the window is full, and at once after a
/// long one. What no summary covers then always fits the window of the next prompt.
pub fn needs_summary(turn: &StoredTurn) -> bool {
    // Before the first summary so many turns are in none; later one less at the most, and the summary in its place.
    const PARTS: usize = HISTORY_WINDOW_TURNS_MAX as usize;
    let number = turn.request.number;
    let (question, answer) = (escape_markup(&turn.request.text), turn.journal.answer());
    let is_long = question.len() + answer.len() > HISTORY_WINDOW_BYTES_MAX / PARTS
        || estimated_tokens(&question) + estimated_tokens(&answer) > HISTORY_TOKENS_MAX / PARTS;
    is_long || (number >= u64::from(HISTORY_WINDOW_TURNS_MAX) && number.is_multiple_of(SUMMARY_EVERY_TURNS))
}
