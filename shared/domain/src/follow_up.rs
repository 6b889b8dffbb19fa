//! What the follow-up worker does with a task. Every task may be done twice, and by two at once: what it changes is fenced
//! or named.

use std::pin::pin;

use futures_util::StreamExt as _;

use crate::answer::{Answered, Workplace};
use crate::ids::{ConnectionId, ConversationId, Principal, TurnId};
use crate::limits::{
    FOLLOW_UP_CLAIM_MS, FOLLOW_UPS_PER_VISIT_MAX, HISTORY_WINDOW_TURNS_MAX, MODEL_SILENCE_MS, SUMMARY_CHARS_MAX,
    SUMMARY_EVERY_TURNS, SUMMARY_MS_MAX, TASK_PAUSE_MAX_MS, TASK_PAUSE_MS,
};
use crate::ports::{
    ClaimOutcome, Clock as _, ConnectionSender as _, ConnectionStore as _, Delivery, FollowUpStore as _,
    LanguageModel as _, ModelError, ModelEvent, Nonces as _, Ports, ScheduledFollowUp, StoreServices as _, Task,
    TurnEnded, TurnStore as _, Unavailable,
};
use crate::prompt::{self, cut};
use crate::protocol::{ServerEvent, ServerFrame, StopReason};
use crate::reminder;
use crate::takeover::{TakenOver, take_over};
use crate::turn::{Exchange, Phase, Summary};
use crate::watchdog::needs_summary;

/// What became of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// There is nothing left to do: the task may be deleted.
    Done,
    /// It must come again, after so many ms; none: after a pause that grows with each attempt.
    Later(Option<u64>),
}

/// Why a task is not done.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It will never be: it belongs to the dead letters.
    #[error("{0}")]
    Refused(&'static str),
    /// It must come again.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It must come again, when the model answers.
    #[error("the model did not sum up")]
    Model(#[source] ModelError),
}

/// Does a task.
///
/// # Errors
/// When it belongs elsewhere, or something it needs does not answer.
pub async fn perform<P: Ports>(ports: &P, task: &Task) -> Result<Done, TaskError> {
    match task {
        Task::Finish { turn_id, epoch } => Ok(finish(ports, turn_id, *epoch).await?),
        Task::TurnEnded(ended) => follow(ports, ended).await,
        Task::Remind { principal, follow_up_id } => Ok(remind(ports, principal, follow_up_id).await?),
        Task::Watch { .. } => Err(TaskError::Refused("a watchdog's task is not for this queue")),
    }
}

/// How long a task waits before it is tried again that was received so often, ms: exponential, and between half of it and
/// all of it by a random number from 0 to 1, so that those that failed together do not come back together.
pub fn retry_after_ms(receives: u32, random: f64) -> u64 {
    let doublings = receives.saturating_sub(1).min(u64::BITS - 1);
    let pause = TASK_PAUSE_MS.saturating_mul(1 << doublings).min(TASK_PAUSE_MAX_MS);
    // Both are far below 2^53.
    pause / 2 + (random.clamp(0.0, 1.0) * (pause / 2) as f64) as u64
}

/// Finishes a turn in the place of the owner with `epoch`, or of any later one that put it back into the queue.
async fn finish<P: Ports>(ports: &P, turn_id: &TurnId, epoch: u64) -> Result<Done, Unavailable> {
    // A turn that was never recorded was never accepted.
    let Some(turn) = ports.turns().turn(turn_id).await? else { return Ok(Done::Done) };
    let turn = match take_over(ports, turn, Workplace::FollowUpWorker, None).await? {
        TakenOver::Answered(Answered::Settled) => return Ok(Done::Done),
        TakenOver::Answered(Answered::Queued) => return Ok(Done::Later(None)),
        TakenOver::Answered(Answered::NotOurs) => return Ok(Done::Later(Some(0))),
        TakenOver::NotFree(turn) => *turn,
    };
    let now = ports.clock().now_ms();
    Ok(match turn.phase(now) {
        Phase::Ended => Done::Done,
        // A later owner has a watchdog, which asks anew when it dies.
        Phase::Live { .. } if turn.epoch() > epoch => Done::Done,
        Phase::Live { until } => Done::Later(Some(until.saturating_sub(now))),
        Phase::Lapsed | Phase::Queued { .. } => Done::Later(Some(0)),
    })
}

/// Does what is to be done after a turn.
async fn follow<P: Ports>(ports: &P, ended: &TurnEnded) -> Result<Done, TaskError> {
    let Some(turn) = ports.turns().turn(&ended.turn_id).await? else { return Ok(Done::Done) };
    let request = &turn.request;
    if needs_summary(&turn) {
        sum_up(ports, &request.conversation_id, request.number).await?;
    }
    if let Some(shopper) = request.principal.shopper()
        && reminder::is_asked_for(&request.text)
    {
        let now = ports.clock().now_ms();
        for order in ports.store().orders(shopper).await? {
            let scheduled = reminder::of_order(&request.turn_id, &request.principal, &order, request.locale, now);
            if let Some(follow_up) = scheduled {
                ports.follow_ups().schedule(&follow_up).await?;
            }
        }
    }
    Ok(Done::Done)
}

/// Sums up a conversation through a turn, from its last summary on.
async fn sum_up<P: Ports>(ports: &P, id: &ConversationId, through: u64) -> Result<(), TaskError> {
    let Some((conversation, _)) = ports.turns().conversation(id, 0).await? else { return Ok(()) };
    let so_far = conversation.summary;
    let covered = so_far.as_ref().map_or(0, |summary| summary.through);
    if covered >= through {
        return Ok(());
    }
    // More than a summary covers as a rule: the one before may have failed.
    let exchanges_max = HISTORY_WINDOW_TURNS_MAX + 2 * u32::try_from(SUMMARY_EVERY_TURNS).unwrap_or(u32::MAX / 2);
    let mut exchanges = ports.turns().exchanges(id, Some(through + 1), exchanges_max).await?;
    exchanges.retain(|exchange| exchange.number > covered && exchange.is_fit_for_prompts());
    exchanges.sort_by_key(|exchange| exchange.number);
    if exchanges.is_empty() {
        return Ok(());
    }
    let text = ask_for_summary(ports, so_far.as_ref(), &exchanges).await?;
    let summary = Summary { through, text };
    ports.turns().summarise(id, &summary, ports.clock().now_ms()).await?;
    Ok(())
}

async fn ask_for_summary<P: Ports>(
    ports: &P,
    so_far: Option<&Summary>,
    exchanges: &[Exchange],
) -> Result<String, TaskError> {
    let clock = ports.clock();
    let mut answer = pin!(ports.model().answer(prompt::summing_up(so_far, exchanges)));
    let mut text = String::new();
    let mut stopped = None;
    let deadline = clock.now_ms() + SUMMARY_MS_MAX;
    loop {
        let silence = pin!(clock.sleep_until(deadline.min(clock.now_ms() + MODEL_SILENCE_MS)));
        let event = match futures_util::future::select(answer.next(), silence).await {
            futures_util::future::Either::Left((event, _)) => event,
            futures_util::future::Either::Right(_) => {
                return Err(TaskError::Model(ModelError::Unavailable("silence".into())));
            }
        };
        match event {
            Some(Ok(ModelEvent::Text(piece))) => text.push_str(&piece),
            Some(Ok(ModelEvent::Stopped(reason))) => stopped = Some(reason),
            Some(Ok(ModelEvent::Usage(_))) => {}
            Some(Err(error)) => return Err(TaskError::Model(error)),
            None => break,
        }
    }
    match stopped {
        Some(StopReason::EndTurn | StopReason::MaxTokens) if !text.trim().is_empty() => {
            Ok(cut(text.trim(), SUMMARY_CHARS_MAX).to_owned())
        }
        _ => Err(TaskError::Model(ModelError::Unavailable("the answer broke off".into()))),
    }
}

/// Sends a follow-up that is due to every connection of its shopper; one who is not there gets it at the next visit.
async fn remind<P: Ports>(ports: &P, principal: &Principal, follow_up_id: &str) -> Result<Done, Unavailable> {
    let connections = ports.connections().connections_of(principal).await?;
    if connections.is_empty() {
        return Ok(Done::Done);
    }
    Ok(match deliver(ports, principal, follow_up_id, &connections).await? {
        Delivered::Busy => Done::Later(Some(FOLLOW_UP_CLAIM_MS)),
        Delivered::Yes | Delivered::No => Done::Done,
    })
}

/// Sends a shopper who has just connected what has become due meanwhile.
///
/// # Errors
/// When the store of follow-ups does not answer: the next visit brings them.
pub async fn deliver_due<P: Ports>(
    ports: &P,
    principal: &Principal,
    connection: &ConnectionId,
) -> Result<(), Unavailable> {
    let now = ports.clock().now_ms();
    for follow_up in ports.follow_ups().due(principal, now, FOLLOW_UPS_PER_VISIT_MAX).await? {
        deliver(ports, principal, &follow_up.follow_up_id, std::slice::from_ref(connection)).await?;
    }
    Ok(())
}

enum Delivered {
    Yes,
    No,
    Busy,
}

/// Claims a follow-up, sends it and notes whether it arrived. Whoever dies between sending and noting leaves a claim that
/// lapses: it is then sent again under the same id, which clients show once.
async fn deliver<P: Ports>(
    ports: &P,
    principal: &Principal,
    follow_up_id: &str,
    connections: &[ConnectionId],
) -> Result<Delivered, Unavailable> {
    let (store, now) = (ports.follow_ups(), ports.clock().now_ms());
    let attempt = ports.nonces().nonce();
    let until = now + FOLLOW_UP_CLAIM_MS;
    let ScheduledFollowUp { message, .. } = match store.claim(principal, follow_up_id, &attempt, now, until).await? {
        ClaimOutcome::Claimed(follow_up) => follow_up,
        ClaimOutcome::Busy => return Ok(Delivered::Busy),
        ClaimOutcome::Done => return Ok(Delivered::No),
    };
    let mut delivered = false;
    if let Some(frame) = ServerFrame::new(now, ServerEvent::FollowUp(message)).encode() {
        for connection in connections {
            match ports.sender().send(connection, frame.clone()).await {
                Ok(Delivery::Delivered) => delivered = true,
                Ok(Delivery::Gone) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a follow-up was not delivered");
                }
            }
        }
    }
    store.finish(principal, follow_up_id, &attempt, delivered).await?;
    Ok(if delivered { Delivered::Yes } else { Delivered::No })
}
