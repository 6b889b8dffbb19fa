//! `session.start`.

use domain::ids::{ConversationId, Principal};
use domain::limits::{
    CLIENT_FRAME_BYTES_MAX, GUEST_MESSAGES_PER_MINUTE, RECONNECT_AFTER_MS, SHOPPER_MESSAGES_PER_MINUTE, TEXT_CHARS_MAX,
};
use domain::ports::{Clock as _, ConnectionStore as _, Ports, TurnStore as _};
use domain::protocol::{
    ActiveTurn, ErrorCode, ServerEvent, ServerFrame, SessionLimits, SessionReady, SessionStart, TurnState,
};
use domain::settle;

use crate::{Message, Origin, Refused};

/// Opens the session: a guest gets a fresh resume token, a conversation that is named must be the caller's own.
pub(crate) async fn start<P: Ports>(
    message: &Message<P>,
    origin: &Origin,
    start: &SessionStart,
) -> Result<(), Refused> {
    let ports = &message.ports;
    let caller = &origin.caller;
    if let Some(locale) = start.locale {
        ports.connections().set_locale(&origin.connection, locale).await?;
    }
    let active_turn = match &start.conversation_id {
        Some(id) => active_turn(ports, &caller.principal, id).await?,
        None => None,
    };
    let now = ports.clock().now_ms();
    let (principal, resume_token, messages_per_minute) = match &caller.principal {
        Principal::Guest(session) => {
            let token = message.session_key.seal_resume_token(session, now);
            ("guest".to_owned(), Some(token), GUEST_MESSAGES_PER_MINUTE)
        }
        Principal::Shopper(subject) => (subject.clone(), None, SHOPPER_MESSAGES_PER_MINUTE),
    };
    let ready = SessionReady {
        session_id: caller.session_id.clone(),
        principal,
        resume_token,
        conversation_id: start.conversation_id.clone(),
        active_turn,
        limits: SessionLimits {
            text_max: TEXT_CHARS_MAX,
            frame_bytes_max: CLIENT_FRAME_BYTES_MAX,
            messages_per_minute,
        },
        reconnect_after_ms: RECONNECT_AFTER_MS.min(caller.expires_at.saturating_sub(now)),
    };
    message.send(origin, &ServerFrame::new(now, ServerEvent::SessionReady(ready))).await?;
    Ok(())
}

/// The turn of a conversation that goes on, if there is one.
async fn active_turn<P: Ports>(
    ports: &P,
    principal: &Principal,
    id: &ConversationId,
) -> Result<Option<ActiveTurn>, Refused> {
    let (conversation, _) = ports.turns().conversation(id, 0).await?.ok_or(ErrorCode::NotFound)?;
    if conversation.owner != *principal {
        return Err(ErrorCode::NotFound.into());
    }
    let Some(lock) = conversation.lock else { return Ok(None) };
    let Some(turn) = ports.turns().turn(&lock.turn_id).await? else { return Ok(None) };
    let turn = settle::complete_abandoned(ports, turn).await?;
    Ok((turn.state() == TurnState::Running).then(|| ActiveTurn {
        turn_id: turn.request.turn_id.clone(),
        epoch: turn.journal.epoch,
        last_seq: turn.journal.last_seq(),
    }))
}
