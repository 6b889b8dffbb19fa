//! What the `message` function does with the rules, in small.

use domain::admission::{Admission, admit};
use domain::answer::{Answered, accepted, answer};
use domain::ids::{ConnectionId, Principal};
use domain::ports::{Clock as _, ConnectionSender as _, TurnStore as _, Unavailable};
use domain::protocol::{ErrorCode, MessageSend, ServerFrame, TurnState};
use domain::settle;
use domain::turn::{StoredTurn, TurnRequest};
use serde_json::Value;
use testkit::{InMemory, samples};

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The turn's frames.
    Frames,
    /// Why not.
    Refused(ErrorCode),
    /// Something failed.
    Unavailable,
}

/// Takes one `message.send` to its end.
pub async fn send(ports: &InMemory, principal: &Principal, sent: &MessageSend, from: &ConnectionId) -> Told {
    match try_send(ports, principal, sent, from).await {
        Ok(told) => told,
        Err(Unavailable { .. }) => Told::Unavailable,
    }
}

async fn try_send(
    ports: &InMemory,
    principal: &Principal,
    sent: &MessageSend,
    from: &ConnectionId,
) -> Result<Told, Unavailable> {
    let key = samples::session_key();
    let asked_at = ports.clock.now_ms();
    for _ in 0..2 {
        match admit(ports, &key, principal, sent, asked_at).await? {
            Admission::Refused(code) => return Ok(Told::Refused(code)),
            Admission::Existing(turn) => {
                let turn = follow(ports, turn, from).await?;
                deliver(ports, from, &accepted(&turn.request, true, ports.clock.now_ms())).await?;
                replay(ports, &turn, from, 0, -1).await?;
                return Ok(Told::Frames);
            }
            Admission::Admitted { request, history } => {
                match answer(ports, &request, &history, sent.product_id(), from).await? {
                    Answered::Settled => return Ok(Told::Frames),
                    Answered::NotOurs => {}
                }
            }
        }
    }
    Ok(Told::Refused(ErrorCode::ConversationBusy))
}

/// A process that takes one message of a shopper on a connection to its end; none if it died on the way.
pub fn say(ports: &InMemory, who: &str, sent: &MessageSend, from: &str) -> Option<Told> {
    let (principal, from) = (samples::shopper(who), samples::connection(from));
    ports.run(send(ports, &principal, sent, &from))
}

/// Takes one `stream.resume` to its end.
pub async fn resume(ports: &InMemory, request: &TurnRequest, from: &ConnectionId, epoch: u64, after_seq: i64) {
    let turn = ports.turns.turn(&request.turn_id).await.unwrap().expect("recorded");
    let turn = follow(ports, turn, from).await.unwrap();
    replay(ports, &turn, from, epoch, after_seq).await.unwrap();
}

async fn follow(ports: &InMemory, turn: StoredTurn, from: &ConnectionId) -> Result<StoredTurn, Unavailable> {
    let mut turn = settle::complete_abandoned(ports, turn).await?;
    if turn.state() == TurnState::Running {
        turn.journal = ports.turns.subscribe(&turn.request.turn_id, from, ports.clock.now_ms()).await?;
    }
    Ok(turn)
}

async fn replay(
    ports: &InMemory,
    turn: &StoredTurn,
    to: &ConnectionId,
    epoch: u64,
    after_seq: i64,
) -> Result<(), Unavailable> {
    for frame in turn.journal.replay(epoch, after_seq) {
        deliver(ports, to, &frame.addressed(&turn.request.conversation_id, &turn.request.turn_id)).await?;
    }
    Ok(())
}

async fn deliver(ports: &InMemory, to: &ConnectionId, frame: &ServerFrame) -> Result<(), Unavailable> {
    ports.sender.send(to, frame.encode().expect("fits")).await.map(drop)
}

/// Sends a message again and again, as a client does whose message was refused for now.
pub async fn send_until_taken(ports: &InMemory, principal: &Principal, sent: &MessageSend, from: &ConnectionId) {
    for _ in 0..10_000 {
        if send(ports, principal, sent, from).await == Told::Frames {
            return;
        }
        ports.clock.sleep_until(ports.clock.now_ms() + 20).await;
    }
    panic!("never taken");
}

/// The one turn there is.
pub fn the_turn(ports: &InMemory) -> StoredTurn {
    let mut turns = ports.turns.inner.all_turns();
    assert_eq!(turns.len(), 1);
    turns.remove(0)
}

/// The types of frames, in order.
pub fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().expect("every frame has a type")).collect()
}

/// Whether a frame ends a turn.
pub fn is_terminal(frame: &Value) -> bool {
    matches!(frame["type"].as_str(), Some("turn.completed" | "turn.failed" | "turn.cancelled"))
}
