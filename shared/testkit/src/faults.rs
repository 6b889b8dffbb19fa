//! Faults at any effect: calls that fail, acknowledgements that are lost, processes that die.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use domain::ids::{ConnectionId, ConversationId, Principal, TurnId};
use domain::ports::{
    BucketKey, ClaimOutcome, Clock as _, Connection, ConnectionSender, ConnectionStore, Conversation, DeadLetter,
    DeadLetters, Deliveries, Delivery, Escalation, Escalations, FollowUpStore, JournalOutcome, JournalWrite,
    LockOutcome, LockRequest, ModelChoice, QueueName, RecordOutcome, Registration, Reservation, ScheduledFollowUp,
    TakeOutcome, TakeToken, Task, TaskQueues, TokenBuckets, TokenBudgets, TurnEnded, TurnEvents, TurnStore,
    Unavailable,
};
use domain::protocol::{Locale, Rating, ServerEvent};
use domain::turn::{Exchange, StoredTurn, Summary, TurnJournal, TurnRequest};

use crate::ManualClock;

/// What goes wrong at an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and nothing has happened.
    FailBefore,
    /// The effect happens, and its acknowledgement is lost.
    FailAfter,
    /// The process dies before the effect.
    CrashBefore,
    /// The process dies after the effect, before it learns of it.
    CrashAfter,
}

/// A call through a [`Faulty`] port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Port and method: `turns.lock`.
    pub name: &'static str,
    /// When it was called, Unix milliseconds.
    pub at_ms: u64,
}

#[derive(Debug, Default)]
struct Plan {
    effects: Vec<Effect>,
    faults: Vec<(usize, Fault)>,
    crashed: bool,
    waiting: Vec<Waker>,
}

/// The faults of all ports of a process, which count their effects together: effect 0 is the first call of any of them.
/// Clones share the count.
#[derive(Debug, Clone)]
pub struct Faults {
    clock: ManualClock,
    plan: Arc<Mutex<Plan>>,
}

impl Faults {
    /// No faults, until some are planned.
    pub fn new(clock: ManualClock) -> Self {
        Self { clock, plan: Arc::default() }
    }

    /// The faults of another process: none so far.
    #[must_use]
    pub fn for_process(&self) -> Self {
        Self::new(self.clock.clone())
    }

    /// Plans a fault for the effect number `effect`, counted from 0 at the last [`Self::restart`].
    pub fn plan(&self, effect: usize, fault: Fault) {
        self.plan.lock().unwrap().faults.push((effect, fault));
    }

    /// A new process: no faults planned, no effects counted, not crashed.
    pub fn restart(&self) {
        *self.plan.lock().unwrap() = Plan::default();
    }

    /// The process dies now, wherever it is.
    pub fn kill(&self) {
        self.plan.lock().unwrap().crashed = true;
    }

    /// The effects so far.
    pub fn effects(&self) -> Vec<Effect> {
        self.plan.lock().unwrap().effects.clone()
    }

    /// Whether the process has died. None of its calls goes anywhere then.
    pub fn crashed(&self) -> bool {
        self.plan.lock().unwrap().crashed
    }

    /// Waits until `count` effects were begun.
    pub async fn reached(&self, count: usize) {
        std::future::poll_fn(|context| {
            let mut plan = self.plan.lock().unwrap();
            if plan.effects.len() >= count {
                return Poll::Ready(());
            }
            plan.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn begin(&self, name: &'static str) -> Option<Fault> {
        let at_ms = self.clock.now_ms();
        let mut plan = self.plan.lock().unwrap();
        let number = plan.effects.len();
        plan.effects.push(Effect { name, at_ms });
        plan.waiting.drain(..).for_each(Waker::wake);
        plan.faults.iter().find(|(effect, _)| *effect == number).map(|(_, fault)| *fault)
    }

    async fn crash<T>(&self) -> T {
        self.kill();
        pending().await
    }
}

fn failure(operation: &'static str) -> Unavailable {
    Unavailable { operation, source: "a fault was planned here".into() }
}

/// A port with faults, and with a time that its calls take.
#[derive(Debug, Clone)]
pub struct Faulty<P> {
    /// The port itself, to be looked at past the faults.
    pub inner: P,
    faults: Faults,
    round_trip_ms: Arc<Mutex<u64>>,
}

impl<P> Faulty<P> {
    /// `inner`, as `faults` has it. Calls take no time until [`Self::set_round_trip_ms`] says otherwise.
    pub fn new(inner: P, faults: Faults) -> Self {
        Self { inner, faults, round_trip_ms: Arc::default() }
    }

    /// The same port as another process sees it: its own faults and its own time.
    #[must_use]
    pub fn for_process(&self, faults: &Faults) -> Self
    where
        P: Clone,
    {
        Self::new(self.inner.clone(), faults.clone())
    }

    /// How long a call takes from now on, ms; the effect happens half-way.
    pub fn set_round_trip_ms(&self, round_trip_ms: u64) {
        *self.round_trip_ms.lock().unwrap() = round_trip_ms;
    }

    pub(crate) async fn effect<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        if self.faults.crashed() {
            return pending().await;
        }
        let fault = self.faults.begin(name);
        let clock = &self.faults.clock;
        let (start, round_trip_ms) = (clock.now_ms(), *self.round_trip_ms.lock().unwrap());
        clock.sleep_until(start + round_trip_ms / 2).await;
        match fault {
            Some(Fault::FailBefore) => return Err(failure(name)),
            Some(Fault::CrashBefore) => return self.faults.crash().await,
            Some(Fault::FailAfter | Fault::CrashAfter) | None => {}
        }
        let answer = call.await;
        match fault {
            Some(Fault::FailAfter) => return Err(failure(name)),
            Some(Fault::CrashAfter) => return self.faults.crash().await,
            Some(Fault::FailBefore | Fault::CrashBefore) | None => {}
        }
        clock.sleep_until(start + round_trip_ms).await;
        answer
    }
}

impl<P: TurnStore> TurnStore for Faulty<P> {
    async fn turn(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        self.effect("turns.turn", self.inner.turn(id)).await
    }

    async fn glance(&self, id: &TurnId) -> Result<Option<StoredTurn>, Unavailable> {
        self.effect("turns.glance", self.inner.glance(id)).await
    }

    async fn holder(&self, id: &ConversationId) -> Result<Option<TurnId>, Unavailable> {
        self.effect("turns.holder", self.inner.holder(id)).await
    }

    async fn conversation(
        &self,
        id: &ConversationId,
        exchanges_max: u32,
    ) -> Result<Option<(Conversation, Vec<Exchange>)>, Unavailable> {
        self.effect("turns.conversation", self.inner.conversation(id, exchanges_max)).await
    }

    async fn lock(&self, request: &LockRequest) -> Result<LockOutcome, Unavailable> {
        self.effect("turns.lock", self.inner.lock(request)).await
    }

    async fn record(&self, request: &TurnRequest) -> Result<RecordOutcome, Unavailable> {
        self.effect("turns.record", self.inner.record(request)).await
    }

    async fn journal(&self, write: &JournalWrite) -> Result<JournalOutcome, Unavailable> {
        self.effect("turns.journal", self.inner.journal(write)).await
    }

    async fn subscribe(&self, id: &TurnId, connection: &ConnectionId, now: u64) -> Result<TurnJournal, Unavailable> {
        self.effect("turns.subscribe", self.inner.subscribe(id, connection, now)).await
    }

    async fn ask_to_cancel(&self, id: &TurnId, now: u64) -> Result<TurnJournal, Unavailable> {
        self.effect("turns.ask_to_cancel", self.inner.ask_to_cancel(id, now)).await
    }

    async fn remember(&self, id: &ConversationId, exchange: &Exchange, now: u64) -> Result<(), Unavailable> {
        self.effect("turns.remember", self.inner.remember(id, exchange, now)).await
    }

    async fn release(&self, id: &ConversationId, turn: &TurnId) -> Result<(), Unavailable> {
        self.effect("turns.release", self.inner.release(id, turn)).await
    }

    async fn summarise(&self, id: &ConversationId, summary: &Summary, now: u64) -> Result<(), Unavailable> {
        self.effect("turns.summarise", self.inner.summarise(id, summary, now)).await
    }

    async fn exchanges(
        &self,
        id: &ConversationId,
        before: Option<u64>,
        exchanges_max: u32,
    ) -> Result<Vec<Exchange>, Unavailable> {
        self.effect("turns.exchanges", self.inner.exchanges(id, before, exchanges_max)).await
    }

    async fn cards(&self, turns: &[TurnId]) -> Result<HashMap<TurnId, Vec<ServerEvent>>, Unavailable> {
        self.effect("turns.cards", self.inner.cards(turns)).await
    }

    async fn rate(&self, id: &TurnId, rating: Rating, comment: Option<&str>, now: u64) -> Result<(), Unavailable> {
        self.effect("turns.rate", self.inner.rate(id, rating, comment, now)).await
    }
}

impl<P: ConnectionStore> ConnectionStore for Faulty<P> {
    async fn register(&self, connection: &Connection, per_principal_max: usize) -> Result<Registration, Unavailable> {
        self.effect("connections.register", self.inner.register(connection, per_principal_max)).await
    }

    async fn forget(&self, id: &ConnectionId) -> Result<(), Unavailable> {
        self.effect("connections.forget", self.inner.forget(id)).await
    }

    async fn set_locale(&self, id: &ConnectionId, locale: Locale) -> Result<(), Unavailable> {
        self.effect("connections.set_locale", self.inner.set_locale(id, locale)).await
    }

    async fn locale(&self, id: &ConnectionId) -> Result<Option<Locale>, Unavailable> {
        self.effect("connections.locale", self.inner.locale(id)).await
    }

    async fn connections_of(&self, principal: &Principal) -> Result<Vec<ConnectionId>, Unavailable> {
        self.effect("connections.connections_of", self.inner.connections_of(principal)).await
    }
}

impl<P: TokenBuckets> TokenBuckets for Faulty<P> {
    async fn full_at(&self, key: &BucketKey) -> Result<Option<u64>, Unavailable> {
        self.effect("buckets.full_at", self.inner.full_at(key)).await
    }

    async fn take(&self, token: &TakeToken) -> Result<TakeOutcome, Unavailable> {
        self.effect("buckets.take", self.inner.take(token)).await
    }
}

impl<P: TaskQueues> TaskQueues for Faulty<P> {
    async fn send(&self, task: &Task, delay_ms: u64) -> Result<(), Unavailable> {
        self.effect("queues.send", self.inner.send(task, delay_ms)).await
    }
}

impl<P: FollowUpStore> FollowUpStore for Faulty<P> {
    async fn schedule(&self, follow_up: &ScheduledFollowUp) -> Result<(), Unavailable> {
        self.effect("follow_ups.schedule", self.inner.schedule(follow_up)).await
    }

    async fn due(&self, principal: &Principal, now: u64, max: u32) -> Result<Vec<ScheduledFollowUp>, Unavailable> {
        self.effect("follow_ups.due", self.inner.due(principal, now, max)).await
    }

    async fn claim(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        now: u64,
        until: u64,
    ) -> Result<ClaimOutcome, Unavailable> {
        self.effect("follow_ups.claim", self.inner.claim(principal, follow_up_id, attempt, now, until)).await
    }

    async fn finish(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        delivered: bool,
    ) -> Result<(), Unavailable> {
        self.effect("follow_ups.finish", self.inner.finish(principal, follow_up_id, attempt, delivered)).await
    }
}

impl<P: DeadLetters> DeadLetters for Faulty<P> {
    async fn receive(&self, queue: QueueName) -> Result<Vec<DeadLetter>, Unavailable> {
        self.effect("dead_letters.receive", self.inner.receive(queue)).await
    }

    async fn redrive(&self, queue: QueueName, letter: &DeadLetter) -> Result<(), Unavailable> {
        self.effect("dead_letters.redrive", self.inner.redrive(queue, letter)).await
    }

    async fn delete(&self, queue: QueueName, receipt: &str) -> Result<(), Unavailable> {
        self.effect("dead_letters.delete", self.inner.delete(queue, receipt)).await
    }

    async fn give_back(&self, queue: QueueName, receipt: &str) -> Result<(), Unavailable> {
        self.effect("dead_letters.give_back", self.inner.give_back(queue, receipt)).await
    }
}

impl<P: Deliveries> Deliveries for Faulty<P> {
    async fn hide(&self, receipt: &str, for_ms: u64) -> Result<(), Unavailable> {
        self.effect("deliveries.hide", self.inner.hide(receipt, for_ms)).await
    }

    async fn refuse(&self, body: &str, redrives: u32, first_sent_at: u64, reason: &str) -> Result<(), Unavailable> {
        self.effect("deliveries.refuse", self.inner.refuse(body, redrives, first_sent_at, reason)).await
    }
}

impl<P: ConnectionSender> ConnectionSender for Faulty<P> {
    async fn send(&self, connection: &ConnectionId, frame: String) -> Result<Delivery, Unavailable> {
        self.effect("sender.send", self.inner.send(connection, frame)).await
    }
}

impl<P: TurnEvents> TurnEvents for Faulty<P> {
    async fn turn_ended(&self, event: &TurnEnded) -> Result<(), Unavailable> {
        self.effect("events.turn_ended", self.inner.turn_ended(event)).await
    }
}

impl<P: TokenBudgets> TokenBudgets for Faulty<P> {
    async fn reserve(&self, model: ModelChoice, tokens: u64, now: u64) -> Result<Option<Reservation>, Unavailable> {
        self.effect("budgets.reserve", self.inner.reserve(model, tokens, now)).await
    }

    async fn settle(&self, reservation: &Reservation, used: u64, now: u64) -> Result<(), Unavailable> {
        self.effect("budgets.settle", self.inner.settle(reservation, used, now)).await
    }
}

impl<P: Escalations> Escalations for Faulty<P> {
    async fn escalate(&self, escalation: &Escalation) -> Result<(), Unavailable> {
        self.effect("escalations.escalate", self.inner.escalate(escalation)).await
    }
}
