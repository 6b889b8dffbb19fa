//! Frames on their way to the connections that follow a turn: in order for each, none waiting for another.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use crate::ids::ConnectionId;
use crate::ports::{ConnectionSender, Delivery, Unavailable};

type Sent = (ConnectionId, Result<Delivery, Unavailable>);

/// One queue for each connection. It holds no more than the frames of one turn.
pub(crate) struct Outbox<'p, S> {
    sender: &'p S,
    queues: BTreeMap<ConnectionId, VecDeque<Arc<str>>>,
    sending: FuturesUnordered<BoxFuture<'p, Sent>>,
    busy: BTreeSet<ConnectionId>,
    gone: BTreeSet<ConnectionId>,
    open: bool,
}

impl<'p, S: ConnectionSender> Outbox<'p, S> {
    /// An outbox to one connection, closed: frames wait until it is opened.
    pub(crate) fn new(sender: &'p S, connection: ConnectionId) -> Self {
        Self {
            sender,
            queues: BTreeMap::from([(connection, VecDeque::new())]),
            sending: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            gone: BTreeSet::new(),
            open: false,
        }
    }

    /// Lets frames go, after `first`, which was not queued with the others because it was not yet true.
    pub(crate) fn open(&mut self, first: Option<String>) {
        if let Some(first) = first.map(Arc::<str>::from) {
            self.queues.values_mut().for_each(|queue| queue.push_front(first.clone()));
        }
        self.open = true;
        self.start();
    }

    /// Whether a connection is served, or was until it was gone.
    pub(crate) fn has_served(&self, connection: &ConnectionId) -> bool {
        self.queues.contains_key(connection) || self.gone.contains(connection)
    }

    /// Serves one more connection, with `frames` first.
    pub(crate) fn add(&mut self, connection: ConnectionId, frames: Vec<String>) {
        self.queues.insert(connection, frames.into_iter().map(Arc::from).collect());
        self.start();
    }

    /// Queues a frame for every connection. One too large to travel is none.
    pub(crate) fn push(&mut self, frame: Option<String>) {
        if let Some(frame) = frame.map(Arc::<str>::from) {
            self.queues.values_mut().for_each(|queue| queue.push_back(frame.clone()));
        }
        self.start();
    }

    /// Whether nothing waits or is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_empty() && self.queues.values().all(VecDeque::is_empty)
    }

    /// Waits until a frame under way has arrived; for ever if there is none. May be dropped and called again.
    pub(crate) async fn progress(&mut self) {
        match self.sending.next().await {
            None => std::future::pending().await,
            Some((connection, outcome)) => {
                self.busy.remove(&connection);
                match outcome {
                    Ok(Delivery::Delivered) => {}
                    Ok(Delivery::Gone) => {
                        self.queues.remove(&connection);
                        self.gone.insert(connection);
                    }
                    // A frame that may not have arrived leaves a gap, which the client notices and resumes from the journal.
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "frame was not delivered");
                    }
                }
                self.start();
            }
        }
    }

    /// Sends all that waits.
    pub(crate) async fn flush(&mut self) {
        while !self.is_idle() {
            self.progress().await;
        }
    }

    fn start(&mut self) {
        if !self.open {
            return;
        }
        for (connection, queue) in &mut self.queues {
            if self.busy.contains(connection) {
                continue;
            }
            if let Some(frame) = queue.pop_front() {
                self.busy.insert(connection.clone());
                let (sender, connection) = (self.sender, connection.clone());
                let send = async move {
                    let outcome = sender.send(&connection, frame.to_string()).await;
                    (connection, outcome)
                };
                self.sending.push(send.boxed());
            }
        }
    }
}
