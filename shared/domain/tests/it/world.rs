//! What the functions do with the rules, in small.

use std::pin::pin;

use domain::admission::{Admission, Denial, admit, admit_replay};
use domain::answer::{Answered, Workplace, accepted, answer};
use domain::cancel::Cancelled;
use domain::follow_up::{Done, TaskError, perform, retry_after_ms};
use domain::ids::{ConnectionId, Principal, TurnId};
use domain::lease::Moment;
use domain::ports::{
    Clock as _, ConnectionSender as _, Conversation, Delivery, QueueName, Task, TurnStore as _, Unavailable,
};
use domain::protocol::{ErrorCode, MessageSend, ServerFrame, TurnState};
use domain::takeover::{Resumer, TakenOver, take_over};
use domain::turn::{Exchange, Phase, StoredTurn, TurnFrame};
use domain::watchdog::{Watched, watch};
use futures_util::future::{join, select};
use serde_json::Value;
use testkit::{InMemory, ManualClock, ReceivedMessage, Step, samples};

/// What became of a client's frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// The turn's frames.
    Frames,
    /// Why not.
    Refused(Denial),
    /// Something failed.
    Unavailable,
}

impl From<Unavailable> for Told {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl From<Denial> for Told {
    fn from(denial: Denial) -> Self {
        Self::Refused(denial)
    }
}

impl From<ErrorCode> for Told {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code.into())
    }
}

fn told(outcome: Result<(), Told>) -> Told {
    match outcome {
        Ok(()) => Told::Frames,
        Err(told) => told,
    }
}

/// A world with a store, in which aiko asks [`samples::message`] number 1.
pub fn stocked() -> InMemory {
    let ports = InMemory::new();
    ports.store.stock(samples::store_data());
    ports
}

/// The message that most tests are about: nobody can say what it wants, so it is shown two cards and a source.
pub fn question() -> MessageSend {
    samples::message(1, "Hmm?")
}

/// Takes one `message.send` to its end.
pub async fn send(ports: &InMemory, principal: &Principal, sent: &MessageSend, from: &ConnectionId) -> Told {
    told(try_send(ports, principal, sent, from).await)
}

async fn try_send(
    ports: &InMemory,
    principal: &Principal,
    sent: &MessageSend,
    from: &ConnectionId,
) -> Result<(), Told> {
    let key = samples::session_key();
    let arrived = Moment::now(&ports.clock);
    let mut locked = None;
    for _ in 0..2 {
        let admission = admit(ports, &key, principal, sent, from, arrived).await?;
        if let Some((conversation, turn_id)) = &locked
            && !matches!(&admission, Admission::Existing(turn) if turn.request.conversation_id == *conversation)
            && !matches!(&admission, Admission::Admitted { .. })
        {
            ports.turns.release(conversation, turn_id).await?;
        }
        match admission {
            Admission::Refused(denial) => return Err(denial.into()),
            Admission::Existing(turn) => {
                admit_replay(ports, principal).await??;
                return match deliver(ports, from, &accepted(&turn.request, true, ports.clock.now_ms())).await? {
                    Delivery::Delivered => show(ports, turn, from, 0, -1).await,
                    Delivery::Gone => Ok(()),
                };
            }
            Admission::Admitted { request, past, allowance } => {
                locked = Some((request.conversation_id.clone(), request.turn_id.clone()));
                match answer(ports, &request, &past, allowance, arrived).await? {
                    Answered::Settled | Answered::Queued => return Ok(()),
                    Answered::NotOurs => {}
                }
            }
        }
    }
    Err(ErrorCode::ConversationBusy.into())
}

/// A process that takes one message of a shopper on a connection to its end; none if it died on the way.
pub fn say(ports: &InMemory, who: &str, sent: &MessageSend, from: &str) -> Option<Told> {
    let (principal, from) = (samples::shopper(who), samples::connection(from));
    ports.run(send(ports, &principal, sent, &from))
}

/// Aiko asks the [`question`] on a connection.
pub async fn ask(ports: &InMemory, from: &str) -> Told {
    send(ports, &samples::shopper("aiko"), &question(), &samples::connection(from)).await
}

/// Aiko asks the [`question`] on connection `a`, in a process that nothing kills.
pub fn asked(ports: &InMemory) -> Told {
    ports.run(ask(ports, "a")).expect("no crash was planned")
}

/// A world in which aiko asked the [`question`] on connection `a`, the model began to answer like this, and the owner died
/// after so long, ms.
pub fn abandoned(script: Vec<Step>, died_after_ms: u64) -> InMemory {
    let world = stocked();
    world.model.follow_once(script);
    world.clock.block_on(dying_after(&world, died_after_ms, ask(&world.process(), "a")));
    assert_eq!(the_turn(&world).state(), TurnState::Running);
    world
}

/// A process that is no more after so long, ms.
pub async fn dying_after<T>(ports: &InMemory, ms: u64, process: impl Future<Output = T>) {
    select(pin!(process), pin!(wait(ports, ms))).await;
}

/// Lets the time pass until the one turn may be taken over.
pub fn lapse(ports: &InMemory) {
    let Phase::Live { until } = phase(ports) else { panic!("it has no living owner") };
    ports.clock.advance_to(until);
}

/// Takes the one turn over, if it can be.
pub async fn take(ports: &InMemory, workplace: Workplace) -> Result<TakenOver, Unavailable> {
    take_over(ports, the_turn(ports), workplace, None).await
}

/// Takes one `stream.resume` to its end.
pub async fn resume(ports: &InMemory, turn: &TurnId, from: &str, epoch: u64, after_seq: i64) -> Told {
    told(try_resume(ports, turn, &samples::connection(from), epoch, after_seq).await)
}

async fn try_resume(
    ports: &InMemory,
    turn: &TurnId,
    from: &ConnectionId,
    epoch: u64,
    after_seq: i64,
) -> Result<(), Told> {
    let turn = ports.turns.turn(turn).await?.ok_or(ErrorCode::NotFound)?;
    admit_replay(ports, &turn.request.principal).await??;
    show(ports, turn, from, epoch, after_seq).await
}

async fn show(
    ports: &InMemory,
    mut turn: StoredTurn,
    to: &ConnectionId,
    epoch: u64,
    after_seq: i64,
) -> Result<(), Told> {
    let turn_id = turn.request.turn_id.clone();
    if turn.phase(ports.clock.now_ms()) == Phase::Lapsed {
        let resumer = Resumer { connection: to.clone(), epoch, after_seq };
        match take_over(ports, turn, Workplace::Message, Some(resumer)).await? {
            TakenOver::Answered(Answered::Settled | Answered::Queued) => return Ok(()),
            TakenOver::Answered(Answered::NotOurs) => {
                turn = ports.turns.turn(&turn_id).await?.ok_or(ErrorCode::NotFound)?;
            }
            TakenOver::NotFree(found) => turn = *found,
        }
    }
    if turn.journal.outcome.is_none() {
        turn.journal = ports.turns.subscribe(&turn_id, to, ports.clock.now_ms()).await?;
    }
    for frame in turn.journal.replay(epoch, after_seq) {
        if deliver(ports, to, &frame.addressed(&turn.request.conversation_id, &turn_id)).await? == Delivery::Gone {
            break;
        }
    }
    Ok(())
}

/// Takes one `message.cancel` to its end.
pub async fn cancel(ports: &InMemory, turn: &TurnId, from: &str) -> Told {
    told(try_cancel(ports, turn, &samples::connection(from)).await)
}

async fn try_cancel(ports: &InMemory, turn: &TurnId, from: &ConnectionId) -> Result<(), Told> {
    let turn = ports.turns.turn(turn).await?.ok_or(ErrorCode::NotFound)?;
    if let Cancelled::HadEnded(turn) = domain::cancel::cancel(ports, turn, from).await? {
        let end: &TurnFrame = turn.journal.frames.last().expect("an ended turn has an end");
        deliver(ports, from, &end.addressed(&turn.request.conversation_id, &turn.request.turn_id)).await?;
    }
    Ok(())
}

async fn deliver(ports: &InMemory, to: &ConnectionId, frame: &ServerFrame) -> Result<Delivery, Unavailable> {
    ports.sender.send(to, frame.encode().expect("fits")).await
}

/// Sends a message again and again, as a client does whose message was refused for now.
pub async fn send_until_taken(ports: &InMemory, principal: &Principal, sent: &MessageSend, from: &ConnectionId) {
    for _ in 0..10_000 {
        if send(ports, principal, sent, from).await == Told::Frames {
            return;
        }
        wait(ports, 20).await;
    }
    panic!("never taken");
}

/// Waits so long, ms.
pub async fn wait(ports: &InMemory, ms: u64) {
    ports.clock.sleep_until(ports.clock.now_ms() + ms).await;
}

/// A process that is not run at all between two times, Unix milliseconds, and goes on as if nothing had been.
pub async fn paused<T>(clock: &ManualClock, from: u64, until: u64, process: impl Future<Output = T>) -> T {
    let mut process = pin!(process);
    match select(process.as_mut(), pin!(clock.sleep_until(from))).await {
        futures_util::future::Either::Left((done, _)) => done,
        futures_util::future::Either::Right(((), _)) => {
            clock.sleep_until(until).await;
            process.await
        }
    }
}

fn task(message: &ReceivedMessage) -> Task {
    serde_json::from_str(&message.body).expect("a task")
}

/// Looks at every turn whose watchdog is due, once.
pub async fn watchdog(ports: &InMemory) -> Vec<Watched> {
    let queues = &ports.queues.inner;
    let mut seen = Vec::new();
    for message in queues.receive_messages(QueueName::Watchdog, 10) {
        let Task::Watch { turn_id, epoch } = task(&message) else { panic!("{message:?} is not for this queue") };
        if let Ok(watched) = watch(ports, &ports.events, &turn_id, epoch).await {
            queues.delete_message(QueueName::Watchdog, &message.receipt);
            seen.push(watched);
        }
    }
    seen
}

/// Does every follow-up task that is due, once.
pub async fn worker(ports: &InMemory) -> Vec<Done> {
    let queues = &ports.queues.inner;
    let mut done = Vec::new();
    for message in queues.receive_messages(QueueName::FollowUp, 10) {
        let pause = match perform(ports, &task(&message)).await {
            Ok(Done::Done) => {
                queues.delete_message(QueueName::FollowUp, &message.receipt);
                done.push(Done::Done);
                continue;
            }
            Ok(Done::Later(pause)) => {
                done.push(Done::Later(pause));
                pause
            }
            Err(TaskError::Refused(reason)) => panic!("{message:?}: {reason}"),
            Err(TaskError::Unavailable(_) | TaskError::Model(_)) => None,
        };
        let pause = pause.unwrap_or_else(|| retry_after_ms(message.receive_count, 1.0));
        queues.change_visibility(QueueName::FollowUp, &message.receipt, pause).expect("it is still ours");
    }
    done
}

/// Watchdog and worker, until their queues are empty.
pub async fn drain(ports: &InMemory) {
    let queues = &ports.queues.inner;
    let watchdogs = async {
        loop {
            queues.wait_visible(QueueName::Watchdog).await;
            watchdog(ports).await;
        }
    };
    let workers = async {
        loop {
            queues.wait_visible(QueueName::FollowUp).await;
            worker(ports).await;
        }
    };
    let consumers = join(watchdogs, workers);
    let empty = std::future::poll_fn(|_| match queues.next_due_at() {
        None => std::task::Poll::Ready(()),
        Some(_) => std::task::Poll::Pending,
    });
    // In this order: what a consumer did is seen when it waits again.
    select(pin!(consumers), empty).await;
}

/// The tasks in both queues, whether or not they are due.
pub fn tasks(ports: &InMemory) -> Vec<Task> {
    let bodies = [QueueName::Watchdog, QueueName::FollowUp].map(|queue| ports.queues.inner.bodies(queue));
    bodies.concat().iter().map(|body| serde_json::from_str(body).expect("a task")).collect()
}

/// Whether a turn's watchdog will come.
pub fn is_watched(ports: &InMemory) -> bool {
    tasks(ports).iter().any(|task| matches!(task, Task::Watch { .. }))
}

/// The one turn there is.
pub fn the_turn(ports: &InMemory) -> StoredTurn {
    let mut turns = ports.turns.inner.all_turns();
    assert_eq!(turns.len(), 1);
    turns.remove(0)
}

/// The one turn's conversation with what is remembered of it.
pub fn conversation(ports: &InMemory) -> (Conversation, Vec<Exchange>) {
    let id = the_turn(ports).request.conversation_id;
    ports.clock.block_on(ports.turns.inner.conversation(&id, u32::MAX)).unwrap().expect("known")
}

/// Where the one turn stands.
pub fn phase(ports: &InMemory) -> Phase {
    the_turn(ports).phase(ports.clock.now_ms())
}

/// The frames that a connection got.
pub fn frames(ports: &InMemory, connection: &str) -> Vec<Value> {
    ports.sender.inner.frames(&samples::connection(connection))
}

/// The types of frames, in order.
pub fn types(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().expect("every frame has a type")).collect()
}

/// Whether a frame ends a turn.
pub fn is_terminal(frame: &Value) -> bool {
    matches!(frame["type"].as_str(), Some("turn.completed" | "turn.failed" | "turn.cancelled"))
}

/// The names of a process's effects, in order.
pub fn names(ports: &InMemory) -> Vec<&'static str> {
    ports.faults.effects().into_iter().map(|effect| effect.name).collect()
}

/// Which of some effects have this name.
pub fn positions(names: &[&str], name: &str) -> Vec<usize> {
    names.iter().enumerate().filter(|(_, found)| **found == name).map(|(at, _)| at).collect()
}

/// A slow answer in some pieces.
pub fn pieces(pieces: &[&str], every_ms: u64) -> Vec<Step> {
    Step::answer(pieces.iter().copied(), every_ms)
}

/// The epoch and `seq` from which a client resumes that got these frames: the last before any gap.
pub fn position(frames: &[Value]) -> (u64, i64) {
    let number = |value: &Value| value.as_i64();
    let mut held = (0, -1);
    loop {
        let follows = |frame: &&Value| {
            let first = number(&frame["data"]["from_seq"]).or(number(&frame["seq"]));
            let epoch = frame["epoch"].as_u64().unwrap_or_default();
            first == Some(held.1 + 1) && (epoch == held.0 || (epoch > held.0 && frame["type"] == "turn.started"))
        };
        let after = |frame: &Value| Some((frame["epoch"].as_u64()?, number(&frame["seq"])?));
        match frames.iter().filter(follows).filter_map(after).max() {
            Some(next) => held = next,
            None => return held,
        }
    }
}
