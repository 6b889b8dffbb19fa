//! A turn whose owner is dead, or that waits in the queue, gets a new owner.

use futures_util::FutureExt as _;
use futures_util::future::Fuse;

use crate::answer::{Answered, Owner, Tenure, Workplace, watch};
use crate::brown_out::Allowance;
use crate::ids::ConnectionId;
use crate::lease::Moment;
use crate::limits::{EPOCHS_MAX, HISTORY_WINDOW_TURNS_MAX, TURN_AGE_MAX_MS};
use crate::outbox::Outbox;
use crate::ports::{JournalOutcome, JournalWrite, Nonces as _, Ports, TurnStore as _, Unavailable};
use crate::protocol::ErrorCode;
use crate::settle;
use crate::turn::{Hold, Past, Phase, StoredTurn};

/// A connection that asked for the turn, and what it has of it.
#[derive(Debug, Clone)]
pub struct Resumer {
    /// The connection.
    pub connection: ConnectionId,
    /// The epoch of the last frame it holds, 0 for none.
    pub epoch: u64,
    /// The `seq` of that frame, -1 for none.
    pub after_seq: i64,
}

/// What became of an attempt to take a turn over.
#[derive(Debug)]
pub enum TakenOver {
    /// It was ours.
    Answered(Answered),
    /// It has a living owner, or has ended: as it is now.
    NotFree(Box<StoredTurn>),
}

/// Whether a turn has had all the time and all the owners it may.
pub(crate) fn is_spent(turn: &StoredTurn, now: u64) -> bool {
    turn.epoch() >= EPOCHS_MAX || now >= turn.request.asked_at + TURN_AGE_MAX_MS
}

/// Takes over a turn without a living owner and finishes it: continues its text if the model can do that, else answers
/// anew. The resumer is shown first what it lacks of the durable frames.
///
/// A turn that the shopper asked to stop is cancelled, one that has had its time is failed, and so is one that lost its
/// conversation to another: it was never accepted.
///
/// # Errors
/// As [`answer`](crate::answer::answer).
pub async fn take_over<P: Ports>(
    ports: &P,
    mut turn: StoredTurn,
    workplace: Workplace,
    resumer: Option<Resumer>,
) -> Result<TakenOver, Unavailable> {
    let begun = Moment::now(ports.clock());
    match turn.phase(begun.unix_ms) {
        Phase::Live { .. } | Phase::Ended => return Ok(TakenOver::NotFree(Box::new(turn))),
        Phase::Lapsed | Phase::Queued { .. } => {}
    }
    let request = &turn.request;
    if turn.journal.cancel_asked {
        return settle::cancel(ports, turn).await.map(|turn| TakenOver::NotFree(Box::new(turn)));
    }
    let found = ports.turns().conversation(&request.conversation_id, HISTORY_WINDOW_TURNS_MAX).await?;
    let held = found
        .filter(|(conversation, _)| conversation.lock.as_ref().is_some_and(|lock| lock.turn_id == request.turn_id));
    let Some((conversation, mut exchanges)) = held.filter(|_| !is_spent(&turn, begun.unix_ms)) else {
        return settle::fail(ports, turn, ErrorCode::Unavailable).await.map(|turn| TakenOver::NotFree(Box::new(turn)));
    };
    exchanges.retain(|exchange| exchange.number < request.number);
    let past = Past { summary: conversation.summary, exchanges };

    let epoch = turn.epoch() + 1;
    watch(ports, request, epoch).await?;
    let claimed = Moment::now(ports.clock());
    let claim = JournalWrite {
        turn_id: request.turn_id.clone(),
        epoch,
        writer: ports.nonces().nonce(),
        number: 1,
        frames: Vec::new(),
        hold: Hold::Leased { until: claimed.lease_until() },
        outcome: None,
        now: claimed.unix_ms,
    };
    let journal = match ports.turns().journal(&claim).await? {
        JournalOutcome::Written(journal) => journal,
        JournalOutcome::Fenced(journal) => {
            turn.journal = journal;
            return Ok(TakenOver::NotFree(Box::new(turn)));
        }
    };
    tracing::info!(turn_id = %request.turn_id, epoch, ?workplace, "turn was taken over");
    let others = journal.subscribers.iter().chain([&request.connection]).cloned();
    let mut outbox = Outbox::new(ports.sender(), ports.clock(), claimed, others);
    outbox.open(None);
    if let Some(resumer) = resumer {
        let missed = journal.replay(resumer.epoch, resumer.after_seq).into_iter();
        let frames = missed.filter_map(|frame| frame.addressed(&request.conversation_id, &request.turn_id).encode());
        outbox.add(resumer.connection, frames.collect());
    }
    let tenure = Tenure { request, past: &past, journal, epoch, workplace };
    let owner = Owner::new(ports, tenure, outbox, claim.writer, claim.number);
    owner.run(Fuse::terminated(), Allowance::Unasked, begun).boxed().await.map(TakenOver::Answered)
}
