//! Whether a message becomes a turn.

use futures_util::{join, try_join};

use crate::brown_out::{self, Allowance};
use crate::bucket::{self, Exhausted, PerMinute};
use crate::ids::{ConnectionId, ConversationId, Principal, SessionKey, TurnId};
use crate::lease::Moment;
use crate::limits::{
    ADMISSION_ATTEMPTS_MAX, CONVERSATION_TURNS_MAX, GUEST_MESSAGES_PER_MINUTE, HISTORY_WINDOW_TURNS_MAX,
    REPLAYS_PER_MINUTE, SHOPPER_MESSAGES_PER_MINUTE, TAKEOVER_MARGIN_MS,
};
use crate::ports::{
    BucketKey, Clock as _, Conversation, HeldLock, LockOutcome, LockRequest, Nonces as _, Ports, Task, TaskQueues as _,
    TokenBuckets as _, TurnStore as _, Unavailable,
};
use crate::prompt::expected_tokens;
use crate::protocol::{ErrorCode, MessageSend, TurnPath};
use crate::route::Route;
use crate::settle;
use crate::turn::{Past, Phase, StoredTurn, TurnRequest, payload_hash};

/// What became of a message.
#[derive(Debug)]
pub enum Admission {
    /// It holds its conversation and is to be answered; its record is still to be written.
    Admitted {
        /// What was asked.
        request: TurnRequest,
        /// The conversation so far.
        past: Past,
        /// Whether a model may be asked, if the message needs one.
        allowance: Allowance,
    },
    /// It was accepted before.
    Existing(StoredTurn),
    /// It is not taken, and has left no record.
    Refused(Denial),
}

/// Why something is not done for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// What the protocol calls it.
    pub code: ErrorCode,
    /// When it may be tried again, ms from now, if that is known.
    pub retry_after_ms: Option<u64>,
}

impl From<ErrorCode> for Denial {
    fn from(code: ErrorCode) -> Self {
        Self { code, retry_after_ms: None }
    }
}

impl From<Exhausted> for Denial {
    fn from(exhausted: Exhausted) -> Self {
        Self { code: ErrorCode::RateLimited, retry_after_ms: Some(exhausted.retry_after_ms) }
    }
}

/// How many messages a principal may send.
pub fn message_limit(principal: &Principal) -> PerMinute {
    match principal {
        Principal::Guest(_) => PerMinute(GUEST_MESSAGES_PER_MINUTE),
        Principal::Shopper(_) => PerMinute(SHOPPER_MESSAGES_PER_MINUTE),
    }
}

/// Takes a token for showing a turn again: a resent message, or a resumed turn.
///
/// # Errors
/// When the store does not answer.
pub async fn admit_replay<P: Ports>(ports: &P, principal: &Principal) -> Result<Result<(), Denial>, Unavailable> {
    let key = BucketKey::Replays(principal.clone());
    let full_at = ports.buckets().full_at(&key).await?;
    let now = ports.clock().now_ms();
    let limit = PerMinute(REPLAYS_PER_MINUTE);
    let taken = bucket::take(ports.buckets(), ports.nonces(), &key, limit, full_at, now).await?;
    Ok(taken.map_err(Denial::from))
}

/// Admits a message that came from `connection` at `arrived`, and asks for leave to ask a model if it needs one. What was
/// granted to a message that is not admitted is given back.
///
/// # Errors
/// When the store does not answer. The lock may then be held; it lapses with the lease.
pub async fn admit<P: Ports>(
    ports: &P,
    key: &SessionKey,
    principal: &Principal,
    message: &MessageSend,
    connection: &ConnectionId,
    arrived: Moment,
) -> Result<Admission, Unavailable> {
    let mut asked = Allowance::Unasked;
    let mut admission = admit_once(ports, key, principal, message, connection, arrived, &mut asked).await;
    match (&mut admission, asked) {
        (Ok(Admission::Admitted { allowance, .. }), asked) => *allowance = asked,
        (_, Allowance::Granted(grant)) => brown_out::settle(ports, &grant, 0).await,
        (_, Allowance::Unasked | Allowance::Refused) => {}
    }
    admission
}

/// Decides about a message. Two round trips to the store when the message is new and its
/// conversation free: one that reads turn, conversation, history and token bucket, one that takes the lock, with it the
/// turn's number, and a token.
///
/// An existing turn decides first, so that a resend is never refused for what happened since, and costs no token. A message
/// whose bucket is empty costs no write. The caller owns the turn until its lease ends.
///
/// # Errors
/// When the store does not answer. The lock may then be held; it lapses with the lease.
async fn admit_once<P: Ports>(
    ports: &P,
    key: &SessionKey,
    principal: &Principal,
    message: &MessageSend,
    connection: &ConnectionId,
    arrived: Moment,
    allowance: &mut Allowance,
) -> Result<Admission, Unavailable> {
    let turn_id = key.turn_id(principal, message.client_message_id);
    let conversation_id =
        message.conversation_id.clone().unwrap_or_else(|| key.conversation_id(principal, message.client_message_id));
    let payload_hash = payload_hash(message);
    let attempt = ports.nonces().nonce();
    let (bucket_key, limit) = (BucketKey::Messages(principal.clone()), message_limit(principal));
    let mut has_token = false;

    for _ in 0..ADMISSION_ATTEMPTS_MAX {
        let (turns, buckets) = (ports.turns(), ports.buckets());
        let (turn, conversation, full_at) = join!(
            turns.glance(&turn_id),
            turns.conversation(&conversation_id, HISTORY_WINDOW_TURNS_MAX),
            buckets.full_at(&bucket_key),
        );
        if let Some(turn) = turn? {
            return Ok(existing(turn, &payload_hash));
        }
        let (conversation, exchanges) = match conversation? {
            Some((conversation, _)) if conversation.owner != *principal => {
                return Ok(Admission::Refused(ErrorCode::NotFound.into()));
            }
            None if message.conversation_id.is_some() => return Ok(Admission::Refused(ErrorCode::NotFound.into())),
            Some(found) => found,
            None => (Conversation { owner: principal.clone(), turns: 0, lock: None, summary: None }, Vec::new()),
        };
        if conversation.turns >= CONVERSATION_TURNS_MAX {
            return Ok(Admission::Refused(ErrorCode::Forbidden.into()));
        }
        let now = ports.clock().now_ms();
        let full_at = full_at?;
        if !has_token && let Err(exhausted) = limit.take(full_at, now) {
            return Ok(Admission::Refused(exhausted.into()));
        }
        let replaces = match &conversation.lock {
            None => None,
            Some(lock) => match held(ports, &conversation_id, lock, &turn_id, now).await? {
                Held::Lapsed => Some(lock.turn_id.clone()),
                Held::Freed => continue,
                Held::Mine(turn) => return Ok(existing(*turn, &payload_hash)),
                Held::Busy => return Ok(Admission::Refused(ErrorCode::ConversationBusy.into())),
            },
        };
        let lock = LockRequest {
            conversation_id: conversation_id.clone(),
            owner: principal.clone(),
            turn_id: turn_id.clone(),
            number: conversation.turns + 1,
            replaces,
            lease_until: arrived.lease_until(),
            attempt: attempt.clone(),
            now,
        };
        let token = async {
            match has_token {
                true => Ok(Ok(())),
                false => bucket::take(buckets, ports.nonces(), &bucket_key, limit, full_at, now).await,
            }
        };
        let past = Past { summary: conversation.summary, exchanges };
        let leave = async {
            if *allowance == Allowance::Unasked && needs_model(message) {
                let input_tokens = expected_tokens(&message.text, &past);
                *allowance = brown_out::grant(ports, input_tokens, None).await.into();
            }
            Ok(())
        };
        let (locked, token, ()) = try_join!(turns.lock(&lock), token, leave)?;
        has_token = token.is_ok();
        match (locked, token) {
            (LockOutcome::Changed, Ok(())) => {}
            (LockOutcome::Changed, Err(exhausted)) => return Ok(Admission::Refused(exhausted.into())),
            (LockOutcome::Locked, Err(exhausted)) => {
                turns.release(&conversation_id, &turn_id).await?;
                return Ok(Admission::Refused(exhausted.into()));
            }
            (LockOutcome::Locked, Ok(())) => {
                let request = TurnRequest {
                    turn_id,
                    conversation_id,
                    number: lock.number,
                    principal: principal.clone(),
                    client_message_id: message.client_message_id,
                    payload_hash,
                    text: message.text.clone(),
                    locale: message.answer_locale(),
                    product_id: message.product_id().cloned(),
                    connection: connection.clone(),
                    asked_at: arrived.unix_ms,
                    lease_until: lock.lease_until,
                };
                return Ok(Admission::Admitted { request, past, allowance: Allowance::Unasked });
            }
        }
    }
    Ok(Admission::Refused(ErrorCode::ConversationBusy.into()))
}

fn needs_model(message: &MessageSend) -> bool {
    Route::of(&message.text, message.product_id().is_some()).path == TurnPath::Llm
}

/// The same message again, or another under its id.
fn existing(turn: StoredTurn, payload_hash: &str) -> Admission {
    match turn.request.payload_hash == payload_hash {
        true => Admission::Existing(turn),
        false => Admission::Refused(ErrorCode::IdempotencyMismatch.into()),
    }
}

enum Held {
    /// Its turn goes on.
    Busy,
    /// Its turn was never accepted here, and its owner is gone or lost to another.
    Lapsed,
    /// Its turn is the very message, recorded so lately that a glance missed it.
    Mine(Box<StoredTurn>),
    /// Its turn had ended; what its owner left undone is done now.
    Freed,
}

/// What a conversation's lock means for the next message. A turn that lost its owner is handed to the follow-up worker.
async fn held<P: Ports>(
    ports: &P,
    conversation: &ConversationId,
    lock: &HeldLock,
    mine: &TurnId,
    now: u64,
) -> Result<Held, Unavailable> {
    let Some(turn) = ports.turns().turn(&lock.turn_id).await? else {
        // Another attempt at the very message may be under way, too.
        return Ok(if lock.lease_until + TAKEOVER_MARGIN_MS > now { Held::Busy } else { Held::Lapsed });
    };
    if turn.request.turn_id == *mine {
        return Ok(Held::Mine(Box::new(turn)));
    }
    // The same id was sent to two conversations at once and is a turn of the other: this lock leads nowhere.
    if turn.request.conversation_id != *conversation {
        return Ok(Held::Lapsed);
    }
    match turn.phase(now) {
        Phase::Ended => {
            settle::conclude(ports, &turn).await?;
            Ok(Held::Freed)
        }
        Phase::Lapsed => {
            let task = Task::Finish { turn_id: turn.request.turn_id.clone(), epoch: turn.epoch() };
            ports.queues().send(&task, 0).await?;
            Ok(Held::Busy)
        }
        Phase::Live { .. } | Phase::Queued { .. } => Ok(Held::Busy),
    }
}
