//! `message.send` and `stream.resume`: a turn is answered, or shown again.

use domain::admission::{Admission, admit};
use domain::answer::{Answered, accepted, answer};
use domain::ports::{Clock as _, ConnectionSender as _, Delivery, Ports, TurnStore as _};
use domain::protocol::{ErrorCode, MessageSend, StreamResume, TurnState};
use domain::settle;
use domain::turn::StoredTurn;

use crate::{Message, Origin, Refused};

/// Answers a message, once: one that was accepted before is shown again from its first frame.
pub(crate) async fn send<P: Ports>(message: &Message<P>, origin: &Origin, sent: &MessageSend) -> Result<(), Refused> {
    let ports = &message.ports;
    let principal = &origin.caller.principal;
    let asked_at = ports.clock().now_ms();
    let mut locked = None;
    // The second round finds the turn that somebody else recorded between our reading and our writing.
    for _ in 0..2 {
        let admission = admit(ports, &message.session_key, principal, sent, asked_at).await?;
        // A lock that was taken for a turn that is another conversation's. What fails here lapses.
        if let Some((conversation, turn_id)) = &locked
            && !matches!(&admission, Admission::Existing(turn) if turn.request.conversation_id == *conversation)
            && !matches!(&admission, Admission::Admitted { .. })
        {
            ports.turns().release(conversation, turn_id).await?;
        }
        match admission {
            Admission::Refused(code) => return Err(code.into()),
            Admission::Existing(turn) => {
                let turn = follow(ports, origin, turn).await?;
                let again = accepted(&turn.request, true, ports.clock().now_ms());
                if message.send(origin, &again).await? == Delivery::Delivered {
                    replay(ports, origin, &turn, 0, -1).await?;
                }
                return Ok(());
            }
            Admission::Admitted { request, history } => {
                locked = Some((request.conversation_id.clone(), request.turn_id.clone()));
                match answer(ports, &request, &history, sent.product_id(), &origin.connection).await? {
                    Answered::Settled => return Ok(()),
                    Answered::NotOurs => {}
                }
            }
        }
    }
    Err(ErrorCode::ConversationBusy.into())
}

/// Shows what a client lacks of one of its own turns, and what follows.
pub(crate) async fn resume<P: Ports>(
    message: &Message<P>,
    origin: &Origin,
    resume: &StreamResume,
) -> Result<(), Refused> {
    let ports = &message.ports;
    let turn = ports.turns().turn(&resume.turn_id).await?.ok_or(ErrorCode::NotFound)?;
    if turn.request.principal != origin.caller.principal {
        return Err(ErrorCode::NotFound.into());
    }
    let turn = follow(ports, origin, turn).await?;
    replay(ports, origin, &turn, resume.epoch, resume.after_seq).await
}

/// Has the turn's owner send this connection what is not durable yet; answers the turn with what is. A turn whose owner is
/// gone ends here.
async fn follow<P: Ports>(ports: &P, origin: &Origin, turn: StoredTurn) -> Result<StoredTurn, Refused> {
    let mut turn = settle::complete_abandoned(ports, turn).await?;
    if turn.state() == TurnState::Running {
        let now = ports.clock().now_ms();
        turn.journal = ports.turns().subscribe(&turn.request.turn_id, &origin.connection, now).await?;
    }
    Ok(turn)
}

async fn replay<P: Ports>(
    ports: &P,
    origin: &Origin,
    turn: &StoredTurn,
    epoch: u64,
    after_seq: i64,
) -> Result<(), Refused> {
    for frame in turn.journal.replay(epoch, after_seq) {
        let frame = frame.addressed(&turn.request.conversation_id, &turn.request.turn_id);
        if let Some(frame) = frame.encode()
            && ports.sender().send(&origin.connection, frame).await? == Delivery::Gone
        {
            break;
        }
    }
    Ok(())
}
