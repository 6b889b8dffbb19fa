//! Every bound the gateway keeps, with its source.

use std::time::Duration;

/// A token bucket's figures: `burst` requests at once, refilled at `per_second`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Requests added to the bucket per second.
    pub per_second: f64,
    /// Requests the bucket holds when full.
    pub burst: u32,
}

/// The limits of one gateway. `Limits::default()` holds API Gateway's own values; tests shrink them.
///
/// Sources: *quotas* is the developer guide's page "Quotas for configuring and running a WebSocket API in API
/// Gateway", *account* its page "Amazon API Gateway quotas". Limits marked *own* bound this process and have no
/// counterpart in the documentation.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// New connections. *quotas*: 500 per second; the burst is not documented and taken to be one second's worth.
    pub new_connections: Rate,
    /// `@connections` requests. *account*: 10,000 per second with a burst of 5,000, shared by all APIs of an account.
    pub callbacks: Rate,
    /// Characters in the URL of a handshake. *quotas*: 4,096.
    pub url_chars_max: usize,
    /// Bytes of an authorizer's answer. *quotas*: 8 KB.
    pub authorizer_result_bytes_max: usize,
    /// Time an integration or authorizer has to answer. *quotas*: 29 s.
    pub integration_timeout: Duration,
    /// Payload bytes of one WebSocket frame, in either direction. *quotas*: 32 KB.
    pub frame_bytes_max: usize,
    /// Payload bytes of one message, in either direction. *quotas*: 128 KB.
    pub message_bytes_max: usize,
    /// Time without a message in either direction after which a connection is closed. *quotas*: 10 minutes.
    pub idle_timeout: Duration,
    /// Age at which a connection is closed, busy or not. *quotas*: 2 hours.
    pub connection_duration: Duration,
    /// Connections open or opening at once. *own*: 10,000 (API Gateway has no such quota).
    pub connections_max: usize,
    /// Frames of one connection whose integration has not answered yet; reading pauses at this number. *own*: 64.
    pub frames_in_flight_max: usize,
    /// Bytes queued towards one client, each message counted with [`MESSAGE_OVERHEAD_BYTES`] more; a client this far
    /// behind is dropped. *own*: 1 MiB.
    pub outbound_bytes_max: usize,
    /// Time one message may take to be written to the client's socket before the client is dropped. *own*: 10 s.
    pub send_timeout: Duration,
    /// Time a closing handshake may take before the socket is dropped. *own*: 2 s.
    pub close_timeout: Duration,
    /// Time [`stop`](crate::Gateway::stop) waits for connections and integrations to end. *own*: 5 s.
    pub stop_timeout: Duration,
    /// Bytes of an oversized callback that are read and thrown away, so that its sender sees the 413. *own*: 10 MB,
    /// the payload API Gateway accepts at its HTTP front (*account*).
    pub callback_drain_bytes_max: usize,
}

/// What a queued message costs beside its text, so that empty messages are bounded too.
pub const MESSAGE_OVERHEAD_BYTES: usize = 64;

impl Default for Limits {
    fn default() -> Self {
        Self {
            new_connections: Rate { per_second: 500.0, burst: 500 },
            callbacks: Rate { per_second: 10_000.0, burst: 5_000 },
            url_chars_max: 4_096,
            authorizer_result_bytes_max: 8 * 1024,
            integration_timeout: Duration::from_secs(29),
            frame_bytes_max: 32 * 1024,
            message_bytes_max: 128 * 1024,
            idle_timeout: Duration::from_secs(10 * 60),
            connection_duration: Duration::from_secs(2 * 60 * 60),
            connections_max: 10_000,
            frames_in_flight_max: 64,
            outbound_bytes_max: 1024 * 1024,
            send_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            stop_timeout: Duration::from_secs(5),
            callback_drain_bytes_max: 10 * 1024 * 1024,
        }
    }
}
