//! How a turn ends. In this order: the outcome is stored, the exchange becomes part of the conversation, the conversation
//! is freed, the last frame is sent. Whoever finds a turn whose outcome is stored does the rest; the watchdog of each turn
//! looks for that, and publishes the event.

use crate::lease::Moment;
use crate::ports::{
    Clock as _, ConnectionSender as _, JournalOutcome, JournalWrite, Nonces as _, TurnPorts, TurnStore as _,
    Unavailable,
};
use crate::protocol::{
    CancelledBy, ErrorCode, Locale, ServerEvent, TurnCancelled, TurnFailed, TurnStarted, TurnState, Usage, error_text,
};
use crate::route::Route;
use crate::turn::{Hold, Outcome, StoredTurn, TurnLog};

/// The end of a turn that could not be answered.
pub(crate) fn failed(code: ErrorCode, locale: Locale) -> ServerEvent {
    ServerEvent::TurnFailed(TurnFailed {
        code,
        message: error_text(code, locale).to_owned(),
        retryable: code.is_retryable(),
    })
}

/// Stores an ended turn in its conversation and frees the conversation. May be done again.
///
/// # Errors
/// When the store does not answer: the next who finds the turn does what is missing.
pub async fn conclude<P: TurnPorts>(ports: &P, turn: &StoredTurn) -> Result<(), Unavailable> {
    let Some(exchange) = turn.exchange() else { return Ok(()) };
    let conversation = &turn.request.conversation_id;
    ports.turns().remember(conversation, &exchange, ports.clock().now_ms()).await?;
    ports.turns().release(conversation, &turn.request.turn_id).await
}

/// Ends a turn that has no living owner as failed, and tells the shopper; answers the turn as it then is. One that has
/// ended, or got an owner meanwhile, is left as it is.
///
/// # Errors
/// When the store does not answer.
pub async fn fail<P: TurnPorts>(ports: &P, turn: StoredTurn, code: ErrorCode) -> Result<StoredTurn, Unavailable> {
    let event = failed(code, turn.request.locale);
    end(ports, turn, TurnState::Failed, event).await
}

/// Ends a turn that has no living owner as cancelled by the shopper, keeping what was said; as [`fail`] otherwise.
///
/// # Errors
/// When the store does not answer.
pub async fn cancel<P: TurnPorts>(ports: &P, turn: StoredTurn) -> Result<StoredTurn, Unavailable> {
    let event = ServerEvent::TurnCancelled(TurnCancelled { by: CancelledBy::Client });
    end(ports, turn, TurnState::Cancelled, event).await
}

/// Takes a turn over only to end it.
async fn end<P: TurnPorts>(
    ports: &P,
    mut turn: StoredTurn,
    state: TurnState,
    event: ServerEvent,
) -> Result<StoredTurn, Unavailable> {
    let moment = Moment::now(ports.clock());
    let mut log = TurnLog::after(&turn.journal, turn.epoch() + 1);
    let route = Route::of(&turn.request.text, turn.request.product_id.is_some());
    let started = TurnStarted {
        client_message_id: turn.request.client_message_id,
        intent: route.intent,
        path: route.path,
        after_epoch: turn.journal.last_epoch(),
        restarted: false,
        continues: !turn.journal.frames.is_empty(),
    };
    let frames = [ServerEvent::TurnStarted(started), event].map(|event| log.push(moment.unix_ms, event));
    let write = JournalWrite {
        turn_id: turn.request.turn_id.clone(),
        epoch: log.epoch(),
        writer: ports.nonces().nonce(),
        number: 1,
        frames: log.unjournaled(),
        hold: Hold::Leased { until: moment.lease_until() },
        outcome: Some(Outcome { state, usage: Usage::default() }),
        now: moment.unix_ms,
    };
    turn.journal = match ports.turns().journal(&write).await? {
        JournalOutcome::Written(journal) => journal,
        JournalOutcome::Fenced(journal) => {
            turn.journal = journal;
            return Ok(turn);
        }
    };
    tracing::info!(turn_id = %turn.request.turn_id, epoch = turn.journal.epoch, ?state, "turn was ended in its owner's place");
    conclude(ports, &turn).await?;
    let asker = &turn.request.connection;
    let others = turn.journal.subscribers.iter().filter(|other| *other != asker);
    'telling: for connection in others.chain([asker]) {
        for frame in &frames {
            if ports.clock().monotonic_ms() >= moment.posts_until() {
                break 'telling;
            }
            let Some(frame) = frame.addressed(&turn.request.conversation_id, &turn.request.turn_id).encode() else {
                continue;
            };
            if let Err(error) = ports.sender().send(connection, frame).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the end of a turn was not delivered");
            }
        }
    }
    Ok(turn)
}
