//! `message.send` and `stream.resume`: a turn is answered, shown again, or taken over from an owner that died.

use domain::admission::{Admission, admit, admit_replay};
use domain::answer::{Answered, Workplace, accepted, answer};
use domain::ids::{ConversationId, TurnId};
use domain::ports::{Clock as _, ConnectionSender as _, Delivery, Ports, TurnStore as _, Unavailable};
use domain::protocol::{ErrorCode, MessageSend, StreamResume};
use domain::takeover::{Resumer, TakenOver, take_over};
use domain::turn::{Phase, StoredTurn};

use crate::{Message, Origin, Refused};

/// Answers a message, once: one that was accepted before is shown again from its first frame.
pub(crate) async fn send<P: Ports>(message: &Message<P>, origin: &Origin, sent: &MessageSend) -> Result<(), Refused> {
    let ports = &message.ports;
    let Origin { connection, caller, arrived } = origin;
    let mut locked = None;
    // The second round finds the turn that somebody else recorded between our reading and our writing.
    for _ in 0..2 {
        let admission = admit(ports, &message.session_key, &caller.principal, sent, connection, *arrived).await?;
        if let Some(conversation) = &locked
            && !matches!(&admission, Admission::Admitted { .. })
        {
            unlock(ports, conversation, &message.session_key.turn_id(&caller.principal, sent.client_message_id))
                .await?;
        }
        match admission {
            Admission::Refused(denial) => return Err(denial.into()),
            Admission::Existing(turn) => {
                admit_replay(ports, &caller.principal).await??;
                let again = accepted(&turn.request, true, ports.clock().now_ms());
                return match message.send(origin, &again).await? {
                    Delivery::Delivered => show(ports, origin, turn, 0, -1).await,
                    Delivery::Gone => Ok(()),
                };
            }
            Admission::Admitted { request, past, allowance } => {
                locked = Some(request.conversation_id.clone());
                match answer(ports, &request, &past, allowance, *arrived).await? {
                    Answered::Settled | Answered::Queued => return Ok(()),
                    Answered::NotOurs => {}
                }
            }
        }
    }
    Err(ErrorCode::ConversationBusy.into())
}

/// Frees a conversation that was locked for a turn which somebody else recorded, if that turn is another conversation's.
/// What fails here lapses.
async fn unlock<P: Ports>(ports: &P, conversation: &ConversationId, turn_id: &TurnId) -> Result<(), Unavailable> {
    let turn = ports.turns().turn(turn_id).await?;
    match turn.is_some_and(|turn| turn.request.conversation_id == *conversation) {
        true => Ok(()),
        false => ports.turns().release(conversation, turn_id).await,
    }
}

/// Shows what a client lacks of one of its own turns, and what follows.
pub(crate) async fn resume<P: Ports>(
    message: &Message<P>,
    origin: &Origin,
    resume: &StreamResume,
) -> Result<(), Refused> {
    let ports = &message.ports;
    let principal = &origin.caller.principal;
    let turn = ports.turns().turn(&resume.turn_id).await?.filter(|turn| turn.request.principal == *principal);
    let turn = turn.ok_or(ErrorCode::NotFound)?;
    admit_replay(ports, principal).await??;
    show(ports, origin, turn, resume.epoch, resume.after_seq).await
}

/// Sends a connection what it lacks of a turn. What is not durable yet comes from the turn's owner, to which the connection
/// is made known; a turn whose owner is dead gets its new one here.
async fn show<P: Ports>(
    ports: &P,
    origin: &Origin,
    turn: StoredTurn,
    epoch: u64,
    after_seq: i64,
) -> Result<(), Refused> {
    let connection = &origin.connection;
    let mut turn = turn;
    let turn_id = turn.request.turn_id.clone();
    if turn.phase(ports.clock().now_ms()) == Phase::Lapsed {
        let resumer = Resumer { connection: connection.clone(), epoch, after_seq };
        match take_over(ports, turn, Workplace::Message, Some(resumer)).await? {
            TakenOver::Answered(Answered::Settled | Answered::Queued) => return Ok(()),
            TakenOver::Answered(Answered::NotOurs) => {
                turn = ports.turns().turn(&turn_id).await?.ok_or(ErrorCode::NotFound)?;
            }
            TakenOver::NotFree(found) => turn = *found,
        }
    }
    if turn.journal.outcome.is_none() {
        let now = ports.clock().now_ms();
        turn.journal = ports.turns().subscribe(&turn_id, connection, now).await?;
    }
    for frame in turn.journal.replay(epoch, after_seq) {
        let frame = frame.addressed(&turn.request.conversation_id, &turn_id);
        if let Some(frame) = frame.encode()
            && ports.sender().send(connection, frame).await? == Delivery::Gone
        {
            break;
        }
    }
    Ok(())
}
