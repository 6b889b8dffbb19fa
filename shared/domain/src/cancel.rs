//! A shopper stops an answer. Cancelling only ever asks: a living owner ends its turn itself, within a tick.

use crate::ids::ConnectionId;
use crate::ports::{Clock as _, TurnPorts, TurnStore as _, Unavailable};
use crate::settle;
use crate::turn::{Phase, StoredTurn};

/// How often a turn is looked at again that changed hands meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// Asks a turn to end. A turn without a living owner is cancelled here, keeping what was said. Answers the turn as it then
/// is: when it has ended, its end may have been sent to `canceller` or not; while it goes on, its owner tells the
/// canceller of the end.
///
/// # Errors
/// When the store does not answer.
pub async fn cancel<P: TurnPorts>(
    ports: &P,
    mut turn: StoredTurn,
    canceller: &ConnectionId,
) -> Result<Cancelled, Unavailable> {
    for _ in 0..ATTEMPTS_MAX {
        let now = ports.clock().now_ms();
        match turn.phase(now) {
            Phase::Ended => return Ok(Cancelled::HadEnded(Box::new(turn))),
            Phase::Lapsed | Phase::Queued { .. } => {
                let epoch = turn.epoch();
                turn = settle::cancel(ports, turn, Some(canceller)).await?;
                if turn.phase(now) == Phase::Ended && turn.epoch() > epoch {
                    return Ok(Cancelled::Asked);
                }
            }
            Phase::Live { .. } => {
                let id = &turn.request.turn_id;
                turn.journal = ports.turns().ask_to_cancel(id, now).await?;
                if turn.journal.outcome.is_none() && *canceller != turn.request.connection {
                    turn.journal = ports.turns().subscribe(id, canceller, now).await?;
                }
                // An owner that died between the two is found by the watchdog, and whoever takes over finds the request.
                if turn.journal.outcome.is_none() {
                    return Ok(Cancelled::Asked);
                }
            }
        }
    }
    Ok(Cancelled::Asked)
}

/// What became of the request.
#[derive(Debug)]
pub enum Cancelled {
    /// The canceller is told of the end.
    Asked,
    /// The turn had ended already, like this.
    HadEnded(Box<StoredTurn>),
}
