//! A shopper stops an answer. Cancelling only ever asks: a living owner ends its turn itself, within a tick.

use crate::ids::ConnectionId;
use crate::ports::{Clock as _, TurnPorts, TurnStore as _, Unavailable};
use crate::settle;
use crate::turn::{Phase, StoredTurn};

/// How often a turn is looked at again that changed hands meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// Asks a turn to end. A turn without a living owner is cancelled here, keeping what was said. Whoever ends it tells the
/// canceller; one that had ended before is answered as it was.
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
        let id = &turn.request.turn_id;
        // First, so that nobody can end it from here on without telling the canceller.
        if turn.journal.outcome.is_none() && *canceller != turn.request.connection {
            turn.journal = ports.turns().subscribe(id, canceller, now).await?;
        }
        match turn.phase(now) {
            Phase::Ended => return Ok(Cancelled::HadEnded(Box::new(turn))),
            Phase::Lapsed | Phase::Queued { .. } => {
                turn = settle::cancel(ports, turn).await?;
                if turn.journal.outcome.is_some() {
                    break;
                }
            }
            Phase::Live { .. } => {
                // An owner that is dead is found by the watchdog, and whoever takes over finds the request.
                turn.journal = ports.turns().ask_to_cancel(id, now).await?;
                // An owner that has let go meanwhile has not heard of it.
                if !matches!(turn.phase(now), Phase::Queued { .. }) {
                    break;
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
