//! Lambda and its event sources: starts a process for every invocation, and ends those that take too long.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;

use aws_lambda_events::apigw::ApiGatewayWebsocketProxyRequest;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use domain::ids::SessionKey;
use domain::ports::{Clock as _, QueueName};
use futures_util::future::{Either, pending, select};
use message::Message;
use testkit::{Fault, Faults, InMemory, ReceivedMessage, RedrivePolicy, Spawned, Spawner};

use crate::model::SimulatedModel;
use crate::observed::Past;
use crate::process::{Circumstances, Process};
use crate::stores::Stores;
use crate::trace::{ProcessNumber, Trace};

/// A function of the suite, as template.yaml has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Message,
    Watchdog,
    FollowUpWorker,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Watchdog => "watchdog",
            Self::FollowUpWorker => "follow-up-worker",
        }
    }

    fn timeout_ms(self) -> u64 {
        match self {
            Self::Message => 28_000,
            Self::Watchdog => 3_000,
            Self::FollowUpWorker => 120_000,
        }
    }

    /// It is to end within this, ms.
    fn budget_ms(self) -> u64 {
        match self {
            Self::Message => 25_000,
            Self::Watchdog | Self::FollowUpWorker => self.timeout_ms(),
        }
    }
}

/// Something that befalls a process.
#[derive(Debug, Clone, Copy)]
pub struct Accident {
    pub whom: Victim,
    /// At which of its effects, from 0.
    pub effect: usize,
    pub fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Process(ProcessNumber),
    /// Whoever of a function is started next.
    Next(Function),
}

struct State {
    accidents: Vec<Accident>,
    skew_ms: i64,
    pace: Pace,
    /// What its consumers got and has not been deleted.
    in_flight: Vec<(QueueName, String)>,
    deletes_to_lose: usize,
}

/// How long the calls of processes take, and how old what they glance at is.
pub enum Pace {
    /// 10 ms, and half a second.
    Usual,
    /// For each process anew: up to 40 ms, and up to a second.
    Drawn(fastrand::Rng),
}

impl Pace {
    fn next(&mut self) -> (u64, u64) {
        match self {
            Self::Usual => (10, 500),
            Self::Drawn(rng) => (rng.u64(0..=40), rng.u64(0..=1_000)),
        }
    }
}

/// Clones are the same.
pub struct Lambda<S: Stores> {
    pub world: InMemory,
    pub stores: S,
    pub model: SimulatedModel,
    pub trace: Trace,
    past: Past,
    spawner: Spawner<'static>,
    /// Dies when the event sources are switched off.
    pollers: Rc<RefCell<Faults>>,
    state: Rc<RefCell<State>>,
}

impl<S: Stores> Clone for Lambda<S> {
    fn clone(&self) -> Self {
        Self {
            world: self.world.clone(),
            stores: self.stores.clone(),
            model: self.model.clone(),
            trace: self.trace.clone(),
            past: self.past.clone(),
            spawner: self.spawner.clone(),
            pollers: Rc::clone(&self.pollers),
            state: Rc::clone(&self.state),
        }
    }
}

impl<S: Stores> Lambda<S> {
    pub fn new(world: InMemory, stores: S, model: SimulatedModel, spawner: Spawner<'static>, pace: Pace) -> Self {
        let policy = |visibility_ms| RedrivePolicy { visibility_ms, receives_max: 10 };
        world.queues.inner.set_policy(QueueName::FollowUp, policy(720_000));
        world.queues.inner.set_policy(QueueName::Watchdog, policy(18_000));
        let state = State { accidents: Vec::new(), skew_ms: 0, pace, in_flight: Vec::new(), deletes_to_lose: 0 };
        let pollers = Rc::new(RefCell::new(world.faults.for_process()));
        Self {
            world,
            stores,
            model,
            trace: Trace::default(),
            past: Past::default(),
            spawner,
            pollers,
            state: Rc::new(RefCell::new(state)),
        }
    }

    pub fn plan(&self, accident: Accident) {
        self.state.borrow_mut().accidents.push(accident);
    }

    /// Nothing befalls processes that are not started yet.
    pub fn forget_accidents(&self) {
        let mut state = self.state.borrow_mut();
        state.accidents.clear();
        state.skew_ms = 0;
        state.deletes_to_lose = 0;
    }

    /// Processes that are started from now on have clocks that are so far ahead, ms.
    pub fn set_skew_ms(&self, skew_ms: i64) {
        self.state.borrow_mut().skew_ms = skew_ms;
    }

    /// The next message that an event source is to delete stays.
    pub fn lose_a_delete(&self) {
        self.state.borrow_mut().deletes_to_lose += 1;
    }

    /// Nobody remembers the turns that were.
    pub fn forget_past(&self) {
        self.past.clear();
        self.trace.events().clear();
    }

    fn start(&self, function: Function) -> Process<S> {
        let mut state = self.state.borrow_mut();
        let (round_trip_ms, lag_ms) = state.pace.next();
        let circumstances = Circumstances { skew_ms: state.skew_ms, round_trip_ms, lag_ms };
        let Self { world, stores, model, trace, past, .. } = self;
        let process = Process::start(world, stores, model, trace, past, circumstances);
        let (mine, others) = state.accidents.drain(..).partition::<Vec<_>, _>(|accident| {
            [Victim::Process(process.number), Victim::Next(function)].contains(&accident.whom)
        });
        state.accidents = others;
        self.trace.events().started[process.number].disturbed = !mine.is_empty();
        for accident in mine {
            process.faults().plan(accident.effect, accident.fault);
        }
        process
    }

    /// An invocation of a function: dies when it takes longer than the function may.
    fn invoke<T: 'static>(
        &self,
        function: Function,
        process: &Process<S>,
        work: impl Future<Output = T> + 'static,
    ) -> Spawned<T> {
        let (clock, faults) = (self.world.clock.clone(), process.faults().clone());
        let trace = self.trace.clone();
        let number = process.number;
        trace.note(clock.now_ms(), format!("#{number} starts: {}", function.name()));
        let limited = async move {
            let began = clock.now_ms();
            let time_is_up = pin!(clock.sleep_until(began + function.timeout_ms()));
            match select(pin!(work), time_is_up).await {
                Either::Left((output, _)) => {
                    let took_ms = clock.now_ms() - began;
                    trace.note(clock.now_ms(), format!("#{number} ends"));
                    let events = &mut trace.events();
                    events.started[number].ended = true;
                    if took_ms > function.budget_ms() {
                        events.overtime.push(format!("#{number} {} took {took_ms} ms", function.name()));
                    }
                    output
                }
                Either::Right(_) => {
                    trace.note(clock.now_ms(), format!("#{number} is timed out"));
                    trace.events().overtime.push(format!("#{number} {} was timed out", function.name()));
                    faults.kill();
                    pending().await
                }
            }
        };
        self.spawner.spawn(process.faults(), limited)
    }

    /// Has `message` handle a client's frame.
    pub fn frame(&self, event: ApiGatewayWebsocketProxyRequest, session_key: SessionKey) -> ProcessNumber {
        let process = self.start(Function::Message);
        let number = process.number;
        let message = Message { ports: process.clone(), session_key };
        let work = async move {
            let response = message.handle(event).await;
            assert_eq!(response.status_code, 200);
        };
        self.invoke(Function::Message, &process, work);
        number
    }

    /// Switches the event sources on: each queue's messages are delivered as soon as they are visible.
    pub fn start_event_sources(&self) {
        self.stop_event_sources();
        *self.pollers.borrow_mut() = self.world.faults.for_process();
        for queue in [QueueName::Watchdog, QueueName::FollowUp] {
            let lambda = self.clone();
            let poller = async move {
                loop {
                    lambda.world.queues.inner.wait_visible(queue).await;
                    lambda.deliver(queue);
                }
            };
            self.spawner.spawn(&self.pollers.borrow(), poller);
        }
    }

    /// Switches them off; what was delivered is still worked on and deleted.
    pub fn stop_event_sources(&self) {
        self.pollers.borrow().kill();
    }

    fn deliver(&self, queue: QueueName) {
        let (function, batch_max) = match queue {
            QueueName::Watchdog => (Function::Watchdog, 10),
            QueueName::FollowUp => (Function::FollowUpWorker, 5),
        };
        let messages = self.world.queues.inner.receive_messages(queue, batch_max);
        if messages.is_empty() {
            return;
        }
        let receipts = messages.iter().map(|message| (queue, message.receipt.clone()));
        self.state.borrow_mut().in_flight.extend(receipts);
        let process = self.start(function);
        for message in &messages {
            let at = self.world.clock.now_ms();
            self.trace.note(at, format!("#{} gets {} {}", process.number, message.message_id, message.body));
        }
        let batch = batch_of(&messages);
        let ports = process.clone();
        let handled = match queue {
            QueueName::Watchdog => {
                self.invoke(function, &process, async move { watchdog::handle(&ports, ports.events(), batch).await })
            }
            QueueName::FollowUp => self.invoke(function, &process, async move {
                follow_up_worker::handle(&ports, ports.deliveries(), batch).await
            }),
        };
        let lambda = self.clone();
        let acknowledging = async move {
            handled.ended().await;
            if let Some(response) = handled.into_output() {
                lambda.acknowledge(queue, &messages, &response);
            }
        };
        self.spawner.spawn(&self.world.faults, acknowledging);
    }

    /// Deletes what was not reported as failed.
    fn acknowledge(&self, queue: QueueName, messages: &[ReceivedMessage], response: &SqsBatchResponse) {
        for message in messages {
            let failed =
                response.batch_item_failures.iter().any(|failure| failure.item_identifier == message.message_id);
            let mut state = self.state.borrow_mut();
            if failed {
                self.trace.note(self.world.clock.now_ms(), format!("{} is not done", message.message_id));
            } else if let Some(left) = state.deletes_to_lose.checked_sub(1) {
                state.deletes_to_lose = left;
            } else {
                self.world.queues.inner.delete_message(queue, &message.receipt);
                state.in_flight.retain(|(_, receipt)| *receipt != message.receipt);
            }
        }
    }

    /// Has everything that consumers work on, or left, delivered again at once.
    pub fn redeliver(&self) {
        for (queue, receipt) in self.state.borrow_mut().in_flight.drain(..) {
            // Some are visible again already.
            let _ = self.world.queues.inner.change_visibility(queue, &receipt, 0);
        }
    }
}

fn batch_of(messages: &[ReceivedMessage]) -> SqsEvent {
    let records = messages.iter().map(|message| {
        let mut record = SqsMessage::default();
        record.message_id = Some(message.message_id.clone());
        record.receipt_handle = Some(message.receipt.clone());
        record.body = Some(message.body.clone());
        record.attributes = HashMap::from([
            ("ApproximateReceiveCount".to_owned(), message.receive_count.to_string()),
            ("SentTimestamp".to_owned(), message.sent_at.to_string()),
        ]);
        record
    });
    let mut event = SqsEvent::default();
    event.records = records.collect();
    event
}
