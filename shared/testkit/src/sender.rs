//! Frames to clients, recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::ids::ConnectionId;
use domain::ports::{Clock as _, ConnectionSender, Delivery, Unavailable};
use serde_json::Value;

use crate::ManualClock;

/// A frame that a client got.
#[derive(Debug, Clone, PartialEq)]
pub struct SentFrame {
    /// Which client.
    pub connection: ConnectionId,
    /// The frame.
    pub frame: Value,
    /// Its size as it travelled.
    pub bytes: usize,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

#[derive(Debug, Default)]
struct Clients {
    sent: Vec<SentFrame>,
    /// How many frames a connection that hangs up still takes.
    hanging_up: HashMap<ConnectionId, usize>,
    /// How many posts still fail.
    failing: usize,
}

/// A [`ConnectionSender`] that delivers to memory. Clones share their record.
#[derive(Debug, Clone)]
pub struct RecordingSender {
    clock: ManualClock,
    clients: Arc<Mutex<Clients>>,
}

impl RecordingSender {
    /// A sender that has sent nothing.
    pub fn new(clock: ManualClock) -> Self {
        Self { clock, clients: Arc::default() }
    }

    /// Everything sent, in order.
    pub fn sent(&self) -> Vec<SentFrame> {
        self.clients.lock().unwrap().sent.clone()
    }

    /// The frames that one connection got, in order.
    pub fn frames(&self, connection: &ConnectionId) -> Vec<Value> {
        let clients = self.clients.lock().unwrap();
        clients.sent.iter().filter(|sent| sent.connection == *connection).map(|sent| sent.frame.clone()).collect()
    }

    /// The connection takes `frames` more frames and is gone.
    pub fn hang_up_after(&self, connection: &ConnectionId, frames: usize) {
        self.clients.lock().unwrap().hanging_up.insert(connection.clone(), frames);
    }

    /// The connection is gone from now on.
    pub fn cut(&self, connection: &ConnectionId) {
        self.hang_up_after(connection, 0);
    }

    /// The next `posts` fail, whomever they are for.
    pub fn fail_next(&self, posts: usize) {
        self.clients.lock().unwrap().failing = posts;
    }
}

impl ConnectionSender for RecordingSender {
    async fn send(&self, connection: &ConnectionId, frame: String) -> Result<Delivery, Unavailable> {
        let at_ms = self.clock.now_ms();
        let mut clients = self.clients.lock().unwrap();
        if let Some(left) = clients.failing.checked_sub(1) {
            clients.failing = left;
            return Err(Unavailable { operation: "send", source: "the post was to fail".into() });
        }
        if let Some(takes) = clients.hanging_up.get_mut(connection) {
            match takes.checked_sub(1) {
                Some(left) => *takes = left,
                None => return Ok(Delivery::Gone),
            }
        }
        clients.sent.push(SentFrame {
            connection: connection.clone(),
            frame: serde_json::from_str(&frame).expect("a frame is JSON"),
            bytes: frame.len(),
            at_ms,
        });
        Ok(Delivery::Delivered)
    }
}
