//! `history.list`.

use domain::limits::{ENVELOPE_BYTES_MAX, SERVER_FRAME_BYTES_MAX};
use domain::ports::{Clock as _, Ports, TurnStore as _};
use domain::protocol::{ErrorCode, HistoryList, HistoryPage, HistoryTurn, ServerEvent, ServerFrame};
use domain::turn::{Exchange, StoredTurn};
use futures_util::future::try_join;

use crate::{Message, Origin, Refused};

/// What the turns of a page may take as JSON, bytes.
const TURNS_BYTES_MAX: usize = SERVER_FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX;

/// Sends a page of one of the caller's own conversations: the newest turns before the cursor that fit, oldest first. The
/// newest page ends with the turn that holds the conversation, if one does.
pub(crate) async fn list<P: Ports>(message: &Message<P>, origin: &Origin, list: &HistoryList) -> Result<(), Refused> {
    let ports = &message.ports;
    let turns = ports.turns();
    let id = &list.conversation_id;
    let (conversation, _) = turns.conversation(id, 0).await?.ok_or(ErrorCode::NotFound)?;
    if conversation.owner != origin.caller.principal {
        return Err(ErrorCode::NotFound.into());
    }
    let holder = async {
        match conversation.lock.filter(|_| list.before.is_none()) {
            Some(lock) => turns.turn(&lock.turn_id).await,
            None => Ok(None),
        }
    };
    // Read after the lock: a turn that ends meanwhile is found as its holder, as an exchange or as both, never as neither.
    // One more than asked for tells whether there is another page.
    let (holder, mut exchanges) = try_join(holder, turns.exchanges(id, list.before, list.turns_max() + 1)).await?;
    let holder = holder.filter(|turn| exchanges.iter().all(|exchange| exchange.turn_id != turn.request.turn_id));
    let ids: Vec<_> = exchanges.iter().map(|exchange| exchange.turn_id.clone()).collect();
    let mut cards = turns.cards(&ids).await?;
    let newest_first =
        holder.iter().map(|turn| (turn.request.number, held(turn))).chain(exchanges.drain(..).map(|exchange| {
            let cards = cards.remove(&exchange.turn_id).unwrap_or_default();
            (exchange.number, ended(exchange, cards))
        }));
    let page = page(newest_first, list.turns_max());
    let frame = ServerFrame::new(ports.clock().now_ms(), ServerEvent::HistoryPage(page)).in_conversation(id.clone());
    message.send(origin, &frame).await?;
    Ok(())
}

fn ended(exchange: Exchange, cards: Vec<ServerEvent>) -> HistoryTurn {
    HistoryTurn {
        turn_id: exchange.turn_id,
        asked_at: exchange.asked_at,
        text: exchange.question,
        answer: exchange.answer,
        cards,
        state: exchange.state,
    }
}

fn held(turn: &StoredTurn) -> HistoryTurn {
    HistoryTurn {
        turn_id: turn.request.turn_id.clone(),
        asked_at: turn.request.asked_at,
        text: turn.request.text.clone(),
        answer: turn.journal.answer(),
        cards: turn.journal.cards(),
        state: turn.state(),
    }
}

/// The first turns of those that fit a frame and the limit, turned around. A turn that fits no frame by itself loses its
/// cards, and then the end of its answer, so that every page moves on.
fn page(newest_first: impl Iterator<Item = (u64, HistoryTurn)>, turns_max: u32) -> HistoryPage {
    let mut room = TURNS_BYTES_MAX;
    let mut turns = Vec::new();
    let mut next_before = None;
    let mut oldest = None;
    for (number, mut turn) in newest_first {
        if turns.is_empty() {
            shorten(&mut turn);
        }
        let bytes = json_bytes(&turn) + 1;
        if turns.len() >= turns_max as usize || bytes > room {
            next_before = oldest;
            break;
        }
        room -= bytes;
        oldest = Some(number);
        turns.push(turn);
    }
    turns.reverse();
    HistoryPage { turns, next_before }
}

fn shorten(turn: &mut HistoryTurn) {
    if json_bytes(turn) >= TURNS_BYTES_MAX {
        turn.cards.clear();
    }
    while json_bytes(turn) >= TURNS_BYTES_MAX && !turn.answer.is_empty() {
        let half = turn.answer.chars().count() / 2;
        turn.answer = turn.answer.chars().take(half).collect();
    }
}

fn json_bytes(turn: &HistoryTurn) -> usize {
    serde_json::to_string(turn).map_or(usize::MAX, |json| json.len())
}
