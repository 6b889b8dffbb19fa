//! Frames on their way to the connections that follow a turn: in order for each, none waiting for another, and none after
//! the owner's lease.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use crate::ids::ConnectionId;
use crate::lease::Moment;
use crate::ports::{Clock, ConnectionSender, Delivery, Unavailable};

type Sent = (ConnectionId, Result<Delivery, Unavailable>);

/// One queue for each connection. It holds no more than the frames of one turn.
pub(crate) struct Outbox<'p, S, C> {
    sender: &'p S,
    clock: &'p C,
    queues: BTreeMap<ConnectionId, VecDeque<Arc<str>>>,
    sending: FuturesUnordered<BoxFuture<'p, Sent>>,
    busy: BTreeSet<ConnectionId>,
    gone: BTreeSet<ConnectionId>,
    deserted_at: Option<u64>,
    open: bool,
    posts_until: u64,
}

impl<'p, S: ConnectionSender, C: Clock> Outbox<'p, S, C> {
    /// An outbox to some connections, closed: frames wait until it is opened.
    pub(crate) fn new(
        sender: &'p S,
        clock: &'p C,
        leased: Moment,
        connections: impl IntoIterator<Item = ConnectionId>,
    ) -> Self {
        Self {
            sender,
            clock,
            queues: connections.into_iter().map(|connection| (connection, VecDeque::new())).collect(),
            sending: FuturesUnordered::new(),
            busy: BTreeSet::new(),
            gone: BTreeSet::new(),
            deserted_at: None,
            open: false,
            posts_until: leased.posts_until(),
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

    /// Notes that the lease was renewed by a write sent at that moment.
    pub(crate) fn renew(&mut self, leased: Moment) {
        self.posts_until = self.posts_until.max(leased.posts_until());
        self.start();
    }

    /// Whether the lease lets posts start.
    pub(crate) fn may_post(&self) -> bool {
        self.clock.monotonic_ms() < self.posts_until
    }

    /// Whether a connection is served, or was until it was gone.
    pub(crate) fn has_served(&self, connection: &ConnectionId) -> bool {
        self.queues.contains_key(connection) || self.gone.contains(connection)
    }

    /// Serves one more connection, with `frames` first.
    pub(crate) fn add(&mut self, connection: ConnectionId, frames: Vec<String>) {
        self.queues.insert(connection, frames.into_iter().map(Arc::from).collect());
        self.deserted_at = None;
        self.start();
    }

    /// Queues a frame for every connection. One too large to travel is none.
    pub(crate) fn push(&mut self, frame: Option<String>) {
        if let Some(frame) = frame.map(Arc::<str>::from) {
            self.queues.values_mut().for_each(|queue| queue.push_back(frame.clone()));
        }
        self.start();
    }

    /// Whether some connection would get a frame at once. A slow one does not hold up the others.
    pub(crate) fn is_ready(&self) -> bool {
        self.queues.is_empty()
            || self.queues.iter().any(|(connection, queue)| queue.is_empty() && !self.busy.contains(connection))
    }

    /// Since when every connection is gone, Unix milliseconds.
    pub(crate) fn deserted_at(&self) -> Option<u64> {
        self.deserted_at
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
                        if self.queues.is_empty() {
                            self.deserted_at = Some(self.clock.now_ms());
                        }
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
        while !(self.sending.is_empty() && self.queues.values().all(VecDeque::is_empty)) {
            self.progress().await;
        }
    }

    fn start(&mut self) {
        if !self.open || !self.may_post() {
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
