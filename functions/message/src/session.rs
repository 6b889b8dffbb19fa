//! `session.start`.

use domain::ids::{ConversationId, Principal};
use domain::limits::{CLIENT_FRAME_BYTES_MAX, RECONNECT_AFTER_MS, TEXT_CHARS_MAX};
use domain::ports::{Clock as _, ConnectionStore as _, Ports, TurnStore as _};
use domain::protocol::{
    ActiveTurn, ErrorCode, ServerEvent, ServerFrame, SessionLimits, SessionReady, SessionStart, TurnState,
};
use domain::{admission, follow_up};

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
    let (principal, resume_token) = match &caller.principal {
        Principal::Guest(session) => {
            let token = message.session_key.seal_resume_token(session, now);
            ("guest".to_owned(), Some(token))
        }
        Principal::Shopper(subject) => (subject.clone(), None),
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
            messages_per_minute: admission::message_limit(&caller.principal).0,
        },
        reconnect_after_ms: RECONNECT_AFTER_MS.min(caller.expires_at.saturating_sub(now)),
    };
    message.send(origin, &ServerFrame::new(now, ServerEvent::SessionReady(ready))).await?;
    // The session is open: what cannot be had now comes with the next visit.
    if let Err(error) = follow_up::deliver_due(ports, &caller.principal, &origin.connection).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "follow-ups were not delivered");
    }
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
    Ok((turn.state() == TurnState::Running).then(|| ActiveTurn {
        turn_id: turn.request.turn_id.clone(),
        epoch: turn.epoch(),
        last_seq: turn.journal.last_seq(),
    }))
}
