//! How a turn ends. In this order: the outcome is stored, the exchange becomes part of the conversation, the conversation
//! is freed, the last frame is sent, the event is published. Whoever finds a turn whose outcome is stored, or whose owner is
//! gone, does the rest; only an event that the owner of an answered turn died before publishing stays unpublished.

use crate::intent::{self, Intent};
use crate::ports::{
    Clock as _, JournalOutcome, JournalWrite, Nonces as _, Ports, TurnEnded, TurnEvents as _, TurnStore as _,
    Unavailable,
};
use crate::protocol::{
    ErrorCode, Locale, ServerEvent, TurnFailed, TurnPath, TurnStarted, TurnState, Usage, error_text,
};
use crate::turn::{Outcome, StoredTurn, TurnLog};

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
pub(crate) async fn conclude<P: Ports>(ports: &P, turn: &StoredTurn) -> Result<(), Unavailable> {
    let Some(exchange) = turn.exchange() else { return Ok(()) };
    let conversation = &turn.request.conversation_id;
    ports.turns().remember(conversation, &exchange, ports.clock().now_ms()).await?;
    ports.turns().release(conversation, &turn.request.turn_id).await
}

/// Does what the owner of a turn has left undone, and answers the turn as it then is: one that ended is made part of its
/// conversation and frees it, one whose owner's lease has lapsed is ended as failed first. A turn whose owner still has its
/// lease is left alone.
///
/// # Errors
/// When the store does not answer.
pub async fn complete<P: Ports>(ports: &P, turn: StoredTurn) -> Result<StoredTurn, Unavailable> {
    if turn.state() == TurnState::Running {
        return complete_abandoned(ports, turn).await;
    }
    conclude(ports, &turn).await?;
    Ok(turn)
}

/// Ends a turn as failed whose owner's lease has lapsed; leaves any other alone.
///
/// # Errors
/// When the store does not answer.
pub async fn complete_abandoned<P: Ports>(ports: &P, mut turn: StoredTurn) -> Result<StoredTurn, Unavailable> {
    let now = ports.clock().now_ms();
    if turn.state() != TurnState::Running || turn.request.lease_until > now {
        return Ok(turn);
    }
    let intent = intent::guess(&turn.request.text, false);
    let next_seq = u64::try_from(turn.journal.last_seq() + 1).unwrap_or_default();
    let mut log = TurnLog::continuing(turn.journal.epoch.max(1) + 1, next_seq);
    log.push(
        now,
        ServerEvent::TurnStarted(TurnStarted {
            client_message_id: turn.request.client_message_id,
            intent,
            path: TurnPath::Llm,
            restarted: false,
            continues: next_seq > 0,
        }),
    );
    log.push(now, failed(ErrorCode::Unavailable, turn.request.locale));
    let write = JournalWrite {
        turn_id: turn.request.turn_id.clone(),
        epoch: log.epoch(),
        writer: ports.nonces().nonce(),
        number: 1,
        frames: log.unjournaled(),
        outcome: Some(Outcome { state: TurnState::Failed, usage: Usage::default() }),
        now,
    };
    tracing::warn!(turn_id = %turn.request.turn_id, "turn had lost its owner");
    let ours = match ports.turns().journal(&write).await? {
        JournalOutcome::Written(journal) => {
            turn.journal = journal;
            true
        }
        // Somebody else ended it meanwhile, and tells of it.
        JournalOutcome::Fenced(journal) => {
            turn.journal = journal;
            false
        }
    };
    conclude(ports, &turn).await?;
    if ours {
        publish(ports, &turn, intent).await;
    }
    Ok(turn)
}

/// Tells whoever listens that a turn has ended. What fails is logged: the turn stands without it.
pub(crate) async fn publish<P: Ports>(ports: &P, turn: &StoredTurn, intent: Intent) {
    let Some(outcome) = &turn.journal.outcome else { return };
    let ended = TurnEnded {
        turn_id: turn.request.turn_id.clone(),
        conversation_id: turn.request.conversation_id.clone(),
        intent,
        state: outcome.state,
        usage: outcome.usage,
        ended_at: ports.clock().now_ms(),
    };
    if let Err(error) = ports.events().turn_ended(&ended).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the end of a turn was not published");
    }
}
