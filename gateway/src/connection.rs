//! One open connection: its handle, through which callbacks reach it, and the task that owns its socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use crate::events::{ConnectionContext, Request, now_ms};
use crate::integration::integrate;
use crate::limits::{Limits, MESSAGE_OVERHEAD_BYTES};
use crate::route::{DEFAULT, DISCONNECT};
use crate::server::Shared;

/// `disconnectReason` of code 1001.
const GOING_AWAY: &str = "Going away";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The handle of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) context: ConnectionContext,
    last_active_ms: AtomicI64,
    outbox: mpsc::UnboundedSender<Outbound>,
    /// Bounds the outbox by bytes.
    budget: Arc<Semaphore>,
    cut: CancellationToken,
}

/// What the gateway or a callback wants of the client's socket, in order.
pub(crate) enum Outbound {
    /// A text, with the part of the budget it occupies until it is written.
    Text(Utf8Bytes, OwnedSemaphorePermit),
    /// The end: a close frame.
    Close(CloseCode, &'static str),
}

/// The connection is closed, or was dropped because the client reads too slowly.
pub(crate) struct Gone;

impl Connection {
    /// A connection and the receiving end of its outbox.
    pub(crate) fn new(context: ConnectionContext, limits: &Limits) -> (Arc<Self>, mpsc::UnboundedReceiver<Outbound>) {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let connection = Self {
            last_active_ms: AtomicI64::new(context.connected_at),
            context,
            outbox,
            budget: Arc::new(Semaphore::new(limits.outbound_bytes_max)),
            cut: CancellationToken::new(),
        };
        (Arc::new(connection), inbox)
    }

    /// Queues a text. A client that has let the queue fill up is dropped.
    pub(crate) fn send(&self, text: Utf8Bytes) -> Result<(), Gone> {
        let cost = u32::try_from(text.len() + MESSAGE_OVERHEAD_BYTES).map_err(|_| Gone)?;
        let Ok(share) = Arc::clone(&self.budget).try_acquire_many_owned(cost) else {
            self.cut();
            return Err(Gone);
        };
        self.outbox.send(Outbound::Text(text, share)).map_err(|_| Gone)
    }

    /// Closes with a close frame, behind what is already queued.
    pub(crate) fn close(&self, code: CloseCode, reason: &'static str) -> Result<(), Gone> {
        self.outbox.send(Outbound::Close(code, reason)).map_err(|_| Gone)
    }

    /// Closes the TCP connection without a close frame.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    /// Unix time in milliseconds of the last message in either direction.
    pub(crate) fn last_active_ms(&self) -> i64 {
        self.last_active_ms.load(Ordering::Relaxed)
    }

    fn touch(&self) -> Instant {
        self.last_active_ms.store(now_ms(), Ordering::Relaxed);
        Instant::now()
    }
}

/// How a connection ended.
enum Ending {
    /// The client sent a close frame, perhaps an empty one.
    Client(Option<CloseFrame>),
    /// The gateway sends a close frame.
    Gateway(CloseCode, &'static str),
    /// The TCP connection is gone, or the gateway drops it.
    Lost,
}

impl Ending {
    fn of_error(error: &Error) -> Self {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest are errors of the socket: nothing can be sent")]
        match error {
            Error::Capacity(_) => Self::Gateway(CloseCode::Size, "Message too big"),
            Error::Utf8(_) => Self::Gateway(CloseCode::Invalid, "Text is not UTF-8"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Lost,
            Error::Protocol(_) => Self::Gateway(CloseCode::Protocol, "Protocol error"),
            _ => Self::Lost,
        }
    }

    /// `disconnectStatusCode` and `disconnectReason`.
    ///
    /// The texts for 1000 and 1001 and for a close frame without a status are those of events recorded on AWS; the
    /// others are not documented.
    fn status(&self) -> (u16, &str) {
        match self {
            Self::Client(Some(frame)) => (frame.code.into(), frame.reason.as_str()),
            Self::Client(None) => (CloseCode::Status.into(), "Client-side close frame status not set"),
            Self::Gateway(code, reason) => ((*code).into(), reason),
            Self::Lost => (CloseCode::Abnormal.into(), "Connection closed abnormally"),
        }
    }
}

/// Owns a connection from the end of its handshake on, and delivers `$disconnect` when it is over.
pub(crate) async fn run(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    mut inbox: mpsc::UnboundedReceiver<Outbound>,
    upgrade: OnUpgrade,
    slot: OwnedSemaphorePermit,
) {
    let limits = &shared.config.limits;
    let (mut socket, ending) = match upgrade.await {
        Ok(upgraded) => {
            let settings = WebSocketConfig::default()
                .max_frame_size(Some(limits.frame_bytes_max))
                .max_message_size(Some(limits.message_bytes_max));
            let mut socket =
                WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(settings)).await;
            let ending = converse(&shared, &connection, &mut inbox, &mut socket).await;
            (Some(socket), ending)
        }
        Err(error) => {
            tracing::debug!(connection_id = connection.context.connection_id, %error, "handshake not completed");
            (None, Ending::Lost)
        }
    };
    shared.forget(&connection);
    drop((inbox, slot));
    let closing = async {
        if let Some(socket) = socket.as_mut() {
            // A client that does not take part in the closing handshake in time is not waited for.
            let _ = timeout(limits.close_timeout, close(socket, &ending)).await;
        }
        drop(socket.take());
    };
    tokio::join!(closing, disconnected(&shared, &connection.context, &ending));
}

/// Moves messages both ways until the connection is over.
async fn converse(
    shared: &Arc<Shared>,
    connection: &Arc<Connection>,
    inbox: &mut mpsc::UnboundedReceiver<Outbound>,
    socket: &mut Socket,
) -> Ending {
    let limits = &shared.config.limits;
    let slots = Arc::new(Semaphore::new(limits.frames_in_flight_max));
    let mut active = connection.touch();
    let expires = active + limits.connection_duration;
    loop {
        tokio::select! {
            () = connection.cut.cancelled() => return Ending::Lost,
            () = shared.stopping.cancelled() => return Ending::Gateway(CloseCode::Away, GOING_AWAY),
            () = sleep_until(expires) => return Ending::Gateway(CloseCode::Away, GOING_AWAY),
            () = sleep_until(active + limits.idle_timeout) => return Ending::Gateway(CloseCode::Away, GOING_AWAY),
            Some(outbound) = inbox.recv() => match outbound {
                Outbound::Text(text, _share) => {
                    let written = tokio::select! {
                        () = connection.cut.cancelled() => false,
                        written = timeout(limits.send_timeout, write(socket, text, limits.frame_bytes_max)) => {
                            matches!(written, Ok(Ok(())))
                        }
                    };
                    if !written {
                        return Ending::Lost;
                    }
                    active = connection.touch();
                }
                Outbound::Close(code, reason) => return Ending::Gateway(code, reason),
            },
            (slot, message) = read(&slots, socket) => match message {
                Some(Ok(Message::Text(text))) => {
                    active = connection.touch();
                    shared.tasks.spawn(dispatch(Arc::clone(shared), Arc::clone(connection), text, slot));
                }
                Some(Ok(Message::Binary(_))) => {
                    return Ending::Gateway(CloseCode::Unsupported, "Binary frames are not supported");
                }
                Some(Ok(Message::Close(frame))) => return Ending::Client(frame),
                // Only messages are activity: AWS does not promise it of control frames.
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => return Ending::of_error(&error),
                None => return Ending::Lost,
            },
        }
    }
}

/// The next message, as soon as there is a slot to handle it in.
async fn read(
    slots: &Arc<Semaphore>,
    socket: &mut Socket,
) -> (Option<OwnedSemaphorePermit>, Option<Result<Message, Error>>) {
    // The semaphore is never closed, so there always is a slot.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    (slot, socket.next().await)
}

/// Writes a text in frames of at most `frame_bytes_max`.
async fn write(socket: &mut Socket, text: Utf8Bytes, frame_bytes_max: usize) -> Result<(), Error> {
    let mut rest = Bytes::from(text);
    let mut kind = Data::Text;
    while rest.len() > frame_bytes_max {
        let part = rest.split_to(frame_bytes_max);
        socket.feed(Message::Frame(Frame::message(part, OpCode::Data(kind), false))).await?;
        kind = Data::Continue;
    }
    socket.send(Message::Frame(Frame::message(rest, OpCode::Data(kind), true))).await
}

/// Takes the gateway's part in the closing handshake.
async fn close(socket: &mut Socket, ending: &Ending) -> Result<(), Error> {
    match ending {
        Ending::Lost => Ok(()),
        // The answer to the client's close frame is written on the next flush.
        Ending::Client(_) => socket.flush().await,
        Ending::Gateway(code, reason) => {
            socket.close(Some(CloseFrame { code: *code, reason: Utf8Bytes::from_static(reason) })).await?;
            // Reading on until the client has closed keeps the close frame from being lost: closing a socket with
            // unread data resets the connection.
            let stream = socket.get_mut();
            stream.shutdown().await?;
            tokio::io::copy(stream, &mut tokio::io::sink()).await?;
            Ok(())
        }
    }
}

/// Routes one message and invokes the function behind the route.
async fn dispatch(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    text: Utf8Bytes,
    _slot: Option<OwnedSemaphorePermit>,
) {
    let config = &shared.config;
    let selected = config.route_selection_expression.evaluate(&text);
    let route = selected
        .as_deref()
        .and_then(|key| config.routes.get_key_value(key))
        .or_else(|| config.routes.get_key_value(DEFAULT));
    let request = Request::new(route.map_or(DEFAULT, |(key, _)| key.as_str()), &connection.context);
    let complaint = match route {
        None => "Forbidden",
        Some((_, function)) => {
            let event = request.message_event(&text);
            match integrate(&config.client, function, event, config.limits.integration_timeout).await {
                // Whatever its status: without a route response nothing of an answer reaches the client.
                Ok(_) => return,
                Err(error) => {
                    error.log(function, &request);
                    error.message()
                }
            }
        }
    };
    // A connection that is gone has nobody left to tell.
    let _ = connection.send(request.gateway_message(complaint).into());
}

/// Invokes the function of the `$disconnect` route, if there is one.
async fn disconnected(shared: &Shared, context: &ConnectionContext, ending: &Ending) {
    let (status_code, reason) = ending.status();
    tracing::debug!(connection_id = context.connection_id, status_code, reason, "disconnected");
    let Some(function) = shared.config.routes.get(DISCONNECT) else { return };
    let request = Request::new(DISCONNECT, context);
    let event = request.disconnect_event(status_code, reason);
    if let Err(error) =
        integrate(&shared.config.client, function, event, shared.config.limits.integration_timeout).await
    {
        error.log(function, &request);
    }
}
