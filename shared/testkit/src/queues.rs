//! SQS in memory: the two queues, each with its dead-letter queue.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use domain::ports::{Clock as _, DeadLetter, DeadLetters, Deliveries, QueueName, Task, TaskQueues, Unavailable};
use futures_util::future::select;

use crate::ManualClock;

/// SQS delays a message by 15 minutes at the most, ms.
const DELAY_MS_MAX: u64 = 15 * 60 * 1000;

/// SQS hides a message for 12 hours at the most, ms.
const VISIBILITY_MS_MAX: u64 = 12 * 60 * 60 * 1000;

/// SQS hands out so many messages at a time.
const BATCH_MAX: usize = 10;

/// A dead letter that was received and not deleted reappears after this, ms.
const DEAD_VISIBILITY_MS: u64 = 120_000;

/// How a queue treats what it delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedrivePolicy {
    /// A message that was received and not deleted reappears after this, ms.
    pub visibility_ms: u64,
    /// A message that was received so often is moved to the dead-letter queue instead of being received again.
    pub receives_max: u32,
}

/// What travels beside a message's body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageAttributes {
    /// How often it was redriven.
    pub redrives: Option<u32>,
    /// When it was sent for the first time, Unix milliseconds, if it was redriven since.
    pub first_sent_at: Option<u64>,
    /// Why its consumer refused it.
    pub reason: Option<String>,
}

/// A message as its consumer gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedMessage {
    /// The same each time.
    pub message_id: String,
    /// Another each time.
    pub receipt: String,
    /// As it was sent.
    pub body: String,
    /// As they were sent.
    pub attributes: MessageAttributes,
    /// When it was sent to this queue, Unix milliseconds.
    pub sent_at: u64,
    /// This time included.
    pub receive_count: u32,
}

/// How many messages of a queue are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// To be received now.
    pub visible: usize,
    /// Not yet to be received for the first time.
    pub delayed: usize,
    /// Received, and neither deleted nor visible again.
    pub in_flight: usize,
    /// In the dead-letter queue.
    pub dead: usize,
}

#[derive(Debug, Clone)]
struct Message {
    id: String,
    body: String,
    attributes: MessageAttributes,
    sent_at: u64,
    visible_at: u64,
    receive_count: u32,
    /// The last one; those before it are stale.
    receipt: String,
}

impl Message {
    fn in_flight(&self, now: u64) -> bool {
        self.receive_count > 0 && self.visible_at > now
    }
}

#[derive(Debug)]
struct Queue {
    policy: RedrivePolicy,
    messages: Vec<Message>,
    dead: Vec<Message>,
}

impl Queue {
    /// Moves what was received often enough to the dead-letter queue. SQS does so when it would be received again.
    fn bury(&mut self, now: u64) {
        let receives_max = self.policy.receives_max;
        let given_up = |message: &mut Message| message.visible_at <= now && message.receive_count >= receives_max;
        let buried = self.messages.extract_if(.., given_up);
        self.dead.extend(buried.map(|message| Message { receive_count: 0, receipt: String::new(), ..message }));
    }
}

#[derive(Debug)]
struct Queues {
    follow_up: Queue,
    watchdog: Queue,
    names: Names,
    changes: u64,
    waiting: Vec<Waker>,
}

impl Queues {
    fn queue(&self, name: QueueName) -> &Queue {
        match name {
            QueueName::FollowUp => &self.follow_up,
            QueueName::Watchdog => &self.watchdog,
        }
    }

    fn queue_mut(&mut self, name: QueueName) -> (&mut Queue, &mut Names) {
        match name {
            QueueName::FollowUp => (&mut self.follow_up, &mut self.names),
            QueueName::Watchdog => (&mut self.watchdog, &mut self.names),
        }
    }
}

/// Names messages and receipts.
#[derive(Debug, Default)]
struct Names(u64);

impl Names {
    fn next(&mut self, kind: &str) -> String {
        self.0 += 1;
        format!("{kind}-{}", self.0)
    }

    fn message(&mut self, body: &str, attributes: MessageAttributes, sent_at: u64, visible_at: u64) -> Message {
        Message {
            id: self.next("message"),
            body: body.to_owned(),
            attributes,
            sent_at,
            visible_at,
            receive_count: 0,
            receipt: String::new(),
        }
    }
}

fn receive(messages: &mut [Message], names: &mut Names, max: usize, visibility_ms: u64, now: u64) -> Vec<Message> {
    let visible = messages.iter_mut().filter(|message| message.visible_at <= now).take(max.min(BATCH_MAX));
    visible
        .map(|message| {
            message.receipt = names.next("receipt");
            message.receive_count += 1;
            message.visible_at = now + visibility_ms;
            message.clone()
        })
        .collect()
}

fn hide(messages: &mut [Message], receipt: &str, for_ms: u64, now: u64) -> Result<(), Unavailable> {
    let operation = "ChangeMessageVisibility";
    let for_ms = whole_seconds(operation, for_ms, VISIBILITY_MS_MAX)?;
    let message = messages.iter_mut().find(|message| message.receipt == receipt && message.in_flight(now));
    let stale = || Unavailable { operation, source: "the message is not in flight under this receipt".into() };
    message.ok_or_else(stale)?.visible_at = now + for_ms;
    Ok(())
}

fn whole_seconds(operation: &'static str, ms: u64, ms_max: u64) -> Result<u64, Unavailable> {
    match ms.div_ceil(1000) * 1000 {
        ms if ms <= ms_max => Ok(ms),
        _ => Err(Unavailable { operation, source: format!("{ms} ms are too many").into() }),
    }
}

/// SQS in memory, on a [`ManualClock`]: standard queues, at least once, the oldest first. As [`Deliveries`] it is the
/// follow-up queue's. Clones share their content.
#[derive(Debug, Clone)]
pub struct MemoryQueues {
    clock: ManualClock,
    queues: Arc<Mutex<Queues>>,
}

impl MemoryQueues {
    /// Empty queues as the template makes them: the follow-up queue hides what it delivered for 12 minutes, the watchdog's
    /// for 18 seconds; both deliver a message ten times.
    pub fn new(clock: ManualClock) -> Self {
        let queue = |visibility_ms| Queue {
            policy: RedrivePolicy { visibility_ms, receives_max: 10 },
            messages: Vec::new(),
            dead: Vec::new(),
        };
        let queues = Queues {
            follow_up: queue(12 * 60_000),
            watchdog: queue(18_000),
            names: Names::default(),
            changes: 0,
            waiting: Vec::new(),
        };
        Self { clock, queues: Arc::new(Mutex::new(queues)) }
    }

    /// Sets a queue's policy, from the next receive on.
    pub fn set_policy(&self, queue: QueueName, policy: RedrivePolicy) {
        self.change(queue, |queue, _, _| queue.policy = policy);
    }

    /// Sends any body, visible at once, and answers the message's id. The same body again is a duplicate.
    pub fn put(&self, queue: QueueName, body: &str) -> String {
        self.put_at(queue, body, self.clock.now_ms())
    }

    /// Sends any body at a time to come, Unix milliseconds, as a scheduler does; until then it counts as delayed.
    pub fn put_at(&self, queue: QueueName, body: &str, at_ms: u64) -> String {
        self.change(queue, |queue, names, now| {
            let at_ms = at_ms.max(now);
            let message = names.message(body, MessageAttributes::default(), at_ms, at_ms);
            let id = message.id.clone();
            queue.messages.push(message);
            id
        })
    }

    /// Sends any body to a queue's dead-letter queue, and answers the message's id.
    pub fn put_dead(&self, queue: QueueName, body: &str, attributes: MessageAttributes) -> String {
        self.change(queue, |queue, names, now| {
            let message = names.message(body, attributes, now, now);
            let id = message.id.clone();
            queue.dead.push(message);
            id
        })
    }

    /// Takes up to `max` messages out of sight, 10 at the most. What was received too often goes to the dead-letter queue
    /// instead.
    pub fn receive_messages(&self, queue: QueueName, max: usize) -> Vec<ReceivedMessage> {
        let messages = self.change(queue, |queue, names, now| {
            queue.bury(now);
            receive(&mut queue.messages, names, max, queue.policy.visibility_ms, now)
        });
        let received = |message: Message| ReceivedMessage {
            message_id: message.id,
            receipt: message.receipt,
            body: message.body,
            attributes: message.attributes,
            sent_at: message.sent_at,
            receive_count: message.receive_count,
        };
        messages.into_iter().map(received).collect()
    }

    /// Deletes a message. With a stale receipt nothing happens, as in SQS.
    pub fn delete_message(&self, queue: QueueName, receipt: &str) {
        self.change(queue, |queue, _, _| queue.messages.retain(|message| message.receipt != receipt));
    }

    /// Has a message that is in flight reappear after `for_ms`, in whole seconds, rounded up.
    ///
    /// # Errors
    /// When the receipt is stale, the message is no longer in flight, or the time is longer than 12 hours.
    pub fn change_visibility(&self, queue: QueueName, receipt: &str, for_ms: u64) -> Result<(), Unavailable> {
        self.change(queue, |queue, _, now| hide(&mut queue.messages, receipt, for_ms, now))
    }

    /// Waits until a queue has a visible message.
    pub async fn wait_visible(&self, queue: QueueName) {
        loop {
            let changes = self.queues.lock().unwrap().changes;
            let visible_at = self.visible_at(queue).unwrap_or(u64::MAX);
            if visible_at <= self.clock.now_ms() {
                return;
            }
            let changed = poll_fn(|context| {
                let mut queues = self.queues.lock().unwrap();
                if queues.changes > changes {
                    return Poll::Ready(());
                }
                queues.waiting.push(context.waker().clone());
                Poll::Pending
            });
            select(pin!(self.clock.sleep_until(visible_at)), changed).await;
        }
    }

    /// When the next message of either queue is visible, or was, Unix milliseconds; dead letters do not count.
    pub fn next_due_at(&self) -> Option<u64> {
        [QueueName::FollowUp, QueueName::Watchdog].into_iter().filter_map(|queue| self.visible_at(queue)).min()
    }

    /// How many messages are where.
    pub fn counts(&self, queue: QueueName) -> MessageCounts {
        let now = self.clock.now_ms();
        self.look(queue, |queue| {
            let count = |is: &dyn Fn(&Message) -> bool| queue.messages.iter().filter(|message| is(message)).count();
            MessageCounts {
                visible: count(&|message| message.visible_at <= now),
                delayed: count(&|message| message.visible_at > now && message.receive_count == 0),
                in_flight: count(&|message| message.in_flight(now)),
                dead: queue.dead.len(),
            }
        })
    }

    /// The body of every message, wherever it is, the oldest first; dead letters are not among them.
    pub fn bodies(&self, queue: QueueName) -> Vec<String> {
        self.look(queue, |queue| queue.messages.iter().map(|message| message.body.clone()).collect())
    }

    /// Body and attributes of every dead letter, the oldest first.
    pub fn dead_letters(&self, queue: QueueName) -> Vec<(String, MessageAttributes)> {
        let letter = |message: &Message| (message.body.clone(), message.attributes.clone());
        self.look(queue, |queue| queue.dead.iter().map(letter).collect())
    }

    fn look<T>(&self, queue: QueueName, look: impl FnOnce(&Queue) -> T) -> T {
        look(self.queues.lock().unwrap().queue(queue))
    }

    fn visible_at(&self, queue: QueueName) -> Option<u64> {
        self.look(queue, |queue| queue.messages.iter().map(|message| message.visible_at).min())
    }

    fn change<T>(&self, queue: QueueName, change: impl FnOnce(&mut Queue, &mut Names, u64) -> T) -> T {
        let now = self.clock.now_ms();
        let mut queues = self.queues.lock().unwrap();
        let (queue, names) = queues.queue_mut(queue);
        let changed = change(queue, names, now);
        queues.changes += 1;
        queues.waiting.drain(..).for_each(Waker::wake);
        changed
    }
}

impl TaskQueues for MemoryQueues {
    async fn send(&self, task: &Task, delay_ms: u64) -> Result<(), Unavailable> {
        let delay_ms = whole_seconds("SendMessage", delay_ms, DELAY_MS_MAX)?;
        let body = serde_json::to_string(task).expect("a task is JSON");
        let queue = match task {
            Task::Watch { .. } => QueueName::Watchdog,
            Task::Finish { .. } | Task::TurnEnded(_) | Task::Remind { .. } => QueueName::FollowUp,
        };
        self.change(queue, |queue, names, now| {
            queue.messages.push(names.message(&body, MessageAttributes::default(), now, now + delay_ms));
        });
        Ok(())
    }
}

impl DeadLetters for MemoryQueues {
    async fn receive(&self, queue: QueueName) -> Result<Vec<DeadLetter>, Unavailable> {
        let messages =
            self.change(queue, |queue, names, now| receive(&mut queue.dead, names, BATCH_MAX, DEAD_VISIBILITY_MS, now));
        let letter = |message: Message| DeadLetter {
            message_id: message.id,
            receipt: message.receipt,
            body: message.body,
            first_sent_at: message.attributes.first_sent_at.unwrap_or(message.sent_at),
            redrives: message.attributes.redrives.unwrap_or_default(),
            reason: message.attributes.reason,
        };
        Ok(messages.into_iter().map(letter).collect())
    }

    async fn redrive(&self, queue: QueueName, letter: &DeadLetter) -> Result<(), Unavailable> {
        let attributes = MessageAttributes {
            redrives: Some(letter.redrives + 1),
            first_sent_at: Some(letter.first_sent_at),
            reason: None,
        };
        self.change(queue, |queue, names, now| queue.messages.push(names.message(&letter.body, attributes, now, now)));
        Ok(())
    }

    async fn delete(&self, queue: QueueName, receipt: &str) -> Result<(), Unavailable> {
        self.change(queue, |queue, _, _| queue.dead.retain(|message| message.receipt != receipt));
        Ok(())
    }

    async fn give_back(&self, queue: QueueName, receipt: &str) -> Result<(), Unavailable> {
        self.change(queue, |queue, _, now| hide(&mut queue.dead, receipt, 0, now))
    }
}

impl Deliveries for MemoryQueues {
    async fn hide(&self, receipt: &str, for_ms: u64) -> Result<(), Unavailable> {
        self.change_visibility(QueueName::FollowUp, receipt, for_ms)
    }

    async fn refuse(&self, body: &str, redrives: u32, first_sent_at: u64, reason: &str) -> Result<(), Unavailable> {
        let reason = Some(reason.to_owned());
        let attributes = MessageAttributes { redrives: Some(redrives), first_sent_at: Some(first_sent_at), reason };
        self.put_dead(QueueName::FollowUp, body, attributes);
        Ok(())
    }
}
