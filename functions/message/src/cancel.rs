//! `message.cancel`: the shopper stops an answer.

use domain::cancel::{Cancelled, cancel as ask};
use domain::ports::{Ports, TurnStore as _};
use domain::protocol::{ErrorCode, MessageCancel};

use crate::{Message, Origin, Refused};

/// Asks one of the caller's own turns to end. One that had ended answers with its end.
pub(crate) async fn cancel<P: Ports>(
    message: &Message<P>,
    origin: &Origin,
    cancel: &MessageCancel,
) -> Result<(), Refused> {
    let ports = &message.ports;
    let principal = &origin.caller.principal;
    let named = cancel.client_message_id.map(|id| message.session_key.turn_id(principal, id));
    let turn_id = cancel.turn_id.clone().or(named).ok_or(ErrorCode::InvalidFrame)?;
    let turn = ports.turns().turn(&turn_id).await?.filter(|turn| turn.request.principal == *principal);
    match ask(ports, turn.ok_or(ErrorCode::NotFound)?, &origin.connection).await? {
        Cancelled::Asked => {}
        Cancelled::HadEnded(turn) => {
            if let Some(end) = turn.journal.frames.last() {
                message.send(origin, &end.addressed(&turn.request.conversation_id, &turn.request.turn_id)).await?;
            }
        }
    }
    Ok(())
}
