//! Whether a message becomes a turn.

use futures_util::join;

use crate::ids::{ConversationId, Principal, SessionKey, TurnId};
use crate::limits::{ADMISSION_ATTEMPTS_MAX, HISTORY_WINDOW_TURNS_MAX, LEASE_MS};
use crate::ports::{
    Clock as _, Conversation, HeldLock, LockOutcome, LockRequest, Nonces as _, Ports, TurnStore as _, Unavailable,
};
use crate::protocol::{ErrorCode, MessageSend, TurnState};
use crate::settle;
use crate::turn::{Exchange, StoredTurn, TurnRequest, payload_hash};

/// What became of a message.
#[derive(Debug)]
pub enum Admission {
    /// It holds its conversation and is to be answered; its record is still to be written.
    Admitted {
        /// What was asked.
        request: TurnRequest,
        /// The conversation so far, newest first.
        history: Vec<Exchange>,
    },
    /// It was accepted before.
    Existing(StoredTurn),
    /// It is not taken, and has left no record.
    Refused(ErrorCode),
}

/// Admits a message. Two round trips to the store when the message is new and its conversation free: one that reads turn,
/// conversation and history, one that takes the lock and with it the turn's number.
///
/// An existing turn decides first, so that a resend is never refused for what happened since. The caller owns the turn
/// until its lease ends, [`LEASE_MS`] after `asked_at`.
///
/// # Errors
/// When the store does not answer. The lock may then be held; it lapses with the lease.
pub async fn admit<P: Ports>(
    ports: &P,
    key: &SessionKey,
    principal: &Principal,
    message: &MessageSend,
    asked_at: u64,
) -> Result<Admission, Unavailable> {
    let turn_id = key.turn_id(principal, message.client_message_id);
    let conversation_id =
        message.conversation_id.clone().unwrap_or_else(|| key.conversation_id(principal, message.client_message_id));
    let payload_hash = payload_hash(message);
    let attempt = ports.nonces().nonce();

    for _ in 0..ADMISSION_ATTEMPTS_MAX {
        let turns = ports.turns();
        let (turn, conversation) =
            join!(turns.turn(&turn_id), turns.conversation(&conversation_id, HISTORY_WINDOW_TURNS_MAX));
        if let Some(turn) = turn? {
            return Ok(match turn.request.payload_hash == payload_hash {
                true => Admission::Existing(turn),
                false => Admission::Refused(ErrorCode::IdempotencyMismatch),
            });
        }
        let (conversation, history) = match conversation? {
            Some((conversation, _)) if conversation.owner != *principal => {
                return Ok(Admission::Refused(ErrorCode::NotFound));
            }
            None if message.conversation_id.is_some() => return Ok(Admission::Refused(ErrorCode::NotFound)),
            Some(found) => found,
            None => (Conversation { owner: principal.clone(), turns: 0, lock: None }, Vec::new()),
        };
        let now = ports.clock().now_ms();
        let replaces = match &conversation.lock {
            None => None,
            Some(lock) => match held(ports, &conversation_id, lock, &turn_id, now).await? {
                Held::Lapsed => Some(lock.turn_id.clone()),
                Held::Freed => continue,
                Held::Busy => return Ok(Admission::Refused(ErrorCode::ConversationBusy)),
            },
        };
        let request = LockRequest {
            conversation_id: conversation_id.clone(),
            owner: principal.clone(),
            turn_id: turn_id.clone(),
            number: conversation.turns + 1,
            replaces,
            lease_until: asked_at + LEASE_MS,
            attempt: attempt.clone(),
            now,
        };
        match turns.lock(&request).await? {
            LockOutcome::Changed => {}
            LockOutcome::Locked => {
                let request = TurnRequest {
                    turn_id,
                    conversation_id,
                    number: request.number,
                    principal: principal.clone(),
                    client_message_id: message.client_message_id,
                    payload_hash,
                    text: message.text.clone(),
                    locale: message.answer_locale(),
                    asked_at,
                    lease_until: request.lease_until,
                };
                return Ok(Admission::Admitted { request, history });
            }
        }
    }
    Ok(Admission::Refused(ErrorCode::ConversationBusy))
}

enum Held {
    /// Its turn goes on.
    Busy,
    /// Its turn was never accepted here, and its owner is gone or lost to another.
    Lapsed,
    /// Its turn had ended; what its owner left undone is done now.
    Freed,
}

/// What a conversation's lock means for the next message.
async fn held<P: Ports>(
    ports: &P,
    conversation: &ConversationId,
    lock: &HeldLock,
    mine: &TurnId,
    now: u64,
) -> Result<Held, Unavailable> {
    match ports.turns().turn(&lock.turn_id).await? {
        None if lock.lease_until > now => Ok(Held::Busy),
        None => Ok(Held::Lapsed),
        // The same message, recorded between two reads: the next one finds it.
        Some(turn) if turn.request.turn_id == *mine => Ok(Held::Freed),
        // The same id was sent to two conversations at once and is a turn of the other: this lock leads nowhere.
        Some(turn) if turn.request.conversation_id != *conversation => Ok(Held::Lapsed),
        Some(turn) if turn.state() == TurnState::Running && turn.request.lease_until > now => Ok(Held::Busy),
        Some(turn) => {
            settle::complete(ports, turn).await?;
            Ok(Held::Freed)
        }
    }
}
