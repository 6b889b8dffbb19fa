//! `feedback.submit`.

use domain::ports::{Clock as _, Ports, TurnStore as _};
use domain::protocol::{ErrorCode, Feedback, FeedbackAccepted, ServerEvent, ServerFrame};

use crate::{Message, Origin, Refused};

/// Keeps what the shopper thinks of one of their own answers; the last word counts.
pub(crate) async fn submit<P: Ports>(
    message: &Message<P>,
    origin: &Origin,
    feedback: &Feedback,
) -> Result<(), Refused> {
    let turns = message.ports.turns();
    let turn = turns.turn(&feedback.turn_id).await?.ok_or(ErrorCode::NotFound)?;
    if turn.request.principal != origin.caller.principal {
        return Err(ErrorCode::NotFound.into());
    }
    let now = message.ports.clock().now_ms();
    turns.rate(&feedback.turn_id, feedback.rating, feedback.comment.as_deref(), now).await?;
    tracing::info!(turn_id = %feedback.turn_id, rating = ?feedback.rating, "feedback");
    let accepted = ServerFrame::new(now, ServerEvent::FeedbackAccepted(FeedbackAccepted {}))
        .in_conversation(turn.request.conversation_id)
        .of_turn(turn.request.turn_id);
    message.send(origin, &accepted).await?;
    Ok(())
}
