//! A chat client as a stranger writes it from docs/protocol.md: it shares no type with the suite, and refuses every
//! frame that the protocol does not allow.

use std::collections::VecDeque;
use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use crate::stack::Running;
use crate::turn::{Collector, TURN_FRAMES, Turn, kind};

/// What every client offers, and all that the server echoes.
pub const SUBPROTOCOL: &str = "manga-chat.v1";

/// How long any one thing may take, on a slow machine with cold functions.
const PATIENCE: Duration = Duration::from_secs(120);

/// "Each frame ≤ 28 KB of UTF-8."
const FRAME_BYTES_MAX: usize = 28 * 1024;

/// How far a frame's `ts` may lie from now: a replayed frame may be as old as the test.
const FRAME_AGE_MAX: Duration = Duration::from_secs(900);

/// A frame that sends `text` as a new message in a new conversation.
pub fn message(text: &str) -> Value {
    json!({"action": "message.send", "client_message_id": Uuid::new_v4(), "text": text})
}

/// The same frame, as one of the conversation.
pub fn message_in(conversation_id: &str, text: &str) -> Value {
    let mut frame = message(text);
    frame["conversation_id"] = conversation_id.into();
    frame
}

/// A question that nobody else asks: what the model is to say to it can be scripted.
pub fn question() -> String {
    format!("What is Fullmetal Alchemist about? I am reader {}.", Uuid::new_v4())
}

/// Unix milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// One connection.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    /// Frames that came while another was awaited.
    inbox: VecDeque<Value>,
    /// API Gateway's own errors are expected, and counted instead of refused.
    forgives_gateway_errors: bool,
    gateway_errors: usize,
}

impl Client {
    /// Connects as a guest without a past.
    pub async fn guest(stack: &Running) -> Self {
        Self::offer(stack, &[SUBPROTOCOL]).await.expect("guests are admitted")
    }

    /// Connects as the guest that was given the token.
    pub async fn returning_guest(stack: &Running, resume_token: &str) -> Self {
        let offer = format!("guest.{resume_token}");
        Self::offer(stack, &[SUBPROTOCOL, &offer]).await.expect("the token is accepted")
    }

    /// Connects as a sample shopper.
    pub async fn shopper(stack: &'static Running, name: &'static str) -> Self {
        let offer = format!("bearer.{}", stack.token(name).await);
        Self::offer(stack, &[SUBPROTOCOL, &offer]).await.expect("the token is accepted")
    }

    /// Connects with these subprotocols; the error is the HTTP status of the refusal.
    pub async fn offer(stack: &Running, subprotocols: &[&str]) -> Result<Self, u16> {
        Self::open(stack.websocket_url(), subprotocols).await
    }

    pub async fn open(url: &str, subprotocols: &[&str]) -> Result<Self, u16> {
        match Self::connect(Ipv4Addr::LOCALHOST, url, subprotocols).await {
            Ok(client) => Ok(client),
            Err(Error::Http(refusal)) => Err(refusal.status().as_u16()),
            Err(error) => panic!("the handshake fails: {error}"),
        }
    }

    /// Connects from an address of this machine, where more may go wrong than a refusal.
    pub async fn connect(from: Ipv4Addr, url: &str, subprotocols: &[&str]) -> Result<Self, Error> {
        let url: Uri = url.parse().expect("a URL");
        let server = url.authority().expect("a URL with an authority").as_str().parse().expect("an address");
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(server).await?;
        let request = ClientRequestBuilder::new(url);
        let request = subprotocols.iter().fold(request, |request, offer| request.with_sub_protocol(*offer));
        let (socket, answer) = timeout(PATIENCE, client_async(request, stream)).await.map_err(io::Error::from)??;
        let echoed: Vec<_> = answer.headers().get_all("sec-websocket-protocol").iter().collect();
        assert_eq!(echoed, [SUBPROTOCOL]);
        Ok(Self { socket, inbox: VecDeque::new(), forgives_gateway_errors: false, gateway_errors: 0 })
    }

    pub async fn send(&mut self, frame: &Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.expect("the connection is open");
    }

    /// Sends a frame, unless the connection is lost.
    pub async fn try_send(&mut self, frame: &Value) -> Result<(), Lost> {
        self.socket.send(Message::text(frame.to_string())).await.map_err(|_| Lost)
    }

    /// From now on functions may die: what API Gateway says then is no frame of the protocol.
    pub fn forgive_gateway_errors(&mut self) {
        self.forgives_gateway_errors = true;
    }

    /// How many errors of API Gateway's own came.
    pub fn gateway_errors(&self) -> usize {
        self.gateway_errors
    }

    /// The first frame, already here or still to come, that is `wanted`.
    pub async fn take(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let at = self.find(what, wanted).await;
        self.inbox.remove(at).unwrap()
    }

    /// Where in the inbox the first `wanted` frame lies, when it has come.
    async fn find(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> usize {
        let reading = async {
            let mut next = 0;
            loop {
                if next == self.inbox.len() {
                    let frame = self.receive().await;
                    self.inbox.push_back(frame);
                }
                if wanted(&self.inbox[next]) {
                    return next;
                }
                next += 1;
            }
        };
        match timeout(PATIENCE, reading).await {
            Ok(at) => at,
            Err(_) => panic!("no {what} within {PATIENCE:?}, but {:#?}", self.inbox),
        }
    }

    async fn receive(&mut self) -> Value {
        loop {
            let frame = self.next().await.expect("the connection is open");
            if !is_gateway_error(&frame) {
                return frame;
            }
            self.gateway_errors += 1;
        }
    }

    /// The next frame, unless the connection is lost.
    pub async fn next(&mut self) -> Result<Value, Lost> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    let frame = serde_json::from_str(&text).expect("a frame is JSON");
                    if !(self.forgives_gateway_errors && is_gateway_error(&frame)) {
                        check(&frame, text.len());
                    }
                    return Ok(frame);
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other @ (Message::Binary(_) | Message::Frame(_)))) => panic!("unexpected {other:?}"),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Lost),
            }
        }
    }

    /// The status code with which the server closes the connection.
    pub async fn close_code(&mut self) -> u16 {
        let closing = async {
            loop {
                match self.socket.next().await.expect("a close frame comes").expect("a close frame comes") {
                    Message::Close(frame) => return frame.expect("a close frame with a code").code.into(),
                    Message::Ping(_) | Message::Pong(_) => {}
                    other @ (Message::Text(_) | Message::Binary(_) | Message::Frame(_)) => {
                        panic!("unexpected {other:?}");
                    }
                }
            }
        };
        timeout(PATIENCE, closing).await.expect("the server closes the connection")
    }

    /// Sends a frame and returns the one frame that answers it outside any turn.
    pub async fn request(&mut self, frame: &Value) -> Value {
        self.send(frame).await;
        self.take(&format!("answer to {frame}"), |answer| answer.get("seq").is_none()).await
    }

    /// Sends a frame that must be refused, and returns the data of the error.
    pub async fn refused(&mut self, frame: &Value) -> Value {
        let answer = self.request(frame).await;
        assert_eq!(kind(&answer), "error", "{frame} is answered by {answer}");
        let data = answer["data"].clone();
        if frame["action"].is_string() {
            assert_eq!(data["action"], frame["action"], "{answer}");
        }
        if frame["client_message_id"].as_str().is_some_and(|id| Uuid::try_parse(id).is_ok()) {
            assert_eq!(data["client_message_id"], frame["client_message_id"], "{answer}");
        }
        data
    }

    /// Starts the session; returns the data of `session.ready`.
    pub async fn start_session(&mut self, fields: Value) -> Value {
        let mut frame = fields;
        frame["action"] = "session.start".into();
        let ready = self.request(&frame).await;
        assert_eq!(kind(&ready), "session.ready", "{ready}");
        ready["data"].clone()
    }

    /// Sends a message that must be accepted, and returns `message.accepted`. Its turn is still to come.
    pub async fn submit(&mut self, message: &Value) -> Value {
        self.send(message).await;
        let id = &message["client_message_id"];
        let answers = |frame: &Value| frame.get("seq").is_none() && frame["data"]["client_message_id"] == *id;
        let answer = self.take("message.accepted", answers).await;
        assert_eq!(kind(&answer), "message.accepted", "{answer}");
        assert!(answer["turn_id"].is_string() && answer["conversation_id"].is_string(), "{answer}");
        answer
    }

    /// The frames of a turn up to its end, in whatever order they come.
    pub async fn whole_turn(&mut self, accepted: &Value) -> Turn {
        let mut collector = Collector::default();
        self.collect(accepted, &mut collector, Collector::is_complete).await;
        let turn = collector.finish();
        assert_eq!(turn.started()["client_message_id"], accepted["data"]["client_message_id"]);
        assert_eq!(turn.conversation_id(), accepted["conversation_id"]);
        turn
    }

    /// Takes frames of a turn until there are enough.
    pub async fn collect(&mut self, accepted: &Value, collector: &mut Collector, enough: fn(&Collector) -> bool) {
        let of_turn = |frame: &Value| frame.get("seq").is_some() && frame["turn_id"] == accepted["turn_id"];
        while !enough(collector) {
            collector.hold(self.take("frame of the turn", of_turn).await);
        }
    }

    /// Asks for what the turn has sent after what is held.
    pub async fn resume(&mut self, accepted: &Value, held: &Collector) {
        let (epoch, after_seq) = held.position();
        let turn_id = &accepted["turn_id"];
        self.send(&json!({"action": "stream.resume", "turn_id": turn_id, "epoch": epoch, "after_seq": after_seq}))
            .await;
    }

    /// Waits until a frame of the turn is here, without taking it.
    pub async fn await_frame(&mut self, accepted: &Value, wanted: &str) {
        let turn_id = &accepted["turn_id"];
        self.find(wanted, |frame| kind(frame) == wanted && frame["turn_id"] == *turn_id).await;
    }

    /// Sends a new message and returns its whole turn, which nobody else had a part in.
    pub async fn ask(&mut self, message: &Value) -> Turn {
        let accepted = self.submit(message).await;
        assert_eq!(accepted["data"]["duplicate"], false, "{accepted}");
        let early = self.inbox.iter().find(|frame| frame["turn_id"] == accepted["turn_id"]);
        assert!(early.is_none(), "a turn begins after message.accepted: {early:?}");
        let turn = self.whole_turn(&accepted).await;
        assert!(turn.arrived_in_order(), "{turn:#?}");
        turn
    }

    /// One page of a conversation's history.
    pub async fn history_page(&mut self, conversation_id: &str, fields: Value) -> Value {
        let mut frame = fields;
        frame["action"] = "history.list".into();
        frame["conversation_id"] = conversation_id.into();
        let page = self.request(&frame).await;
        assert_eq!(kind(&page), "history.page", "{page}");
        page["data"].clone()
    }

    /// The turns of a conversation that fits one page.
    pub async fn history(&mut self, conversation_id: &str) -> Vec<Value> {
        let page = self.history_page(conversation_id, json!({})).await;
        assert!(page.get("next_before").is_none(), "{page}");
        page["turns"].as_array().unwrap().clone()
    }

    /// Nothing is left to read: what the server still had to say came before the answer to a `ping`.
    pub async fn assert_silent(&mut self) {
        let pong = self.request(&json!({"action": "ping"})).await;
        assert_eq!(kind(&pong), "pong", "{pong}");
        assert!(self.inbox.is_empty(), "{:#?}", self.inbox);
    }
}

/// The connection is lost: closed by the server, or cut.
#[derive(Debug, Clone, Copy)]
pub struct Lost;

/// "Any frame without `v` and with `message`."
pub fn is_gateway_error(frame: &Value) -> bool {
    frame.get("v").is_none() && frame["message"].is_string()
}

/// Checks all that the protocol says of any frame of this type.
fn check(frame: &Value, bytes: usize) {
    assert!(bytes <= FRAME_BYTES_MAX, "a frame of {bytes} bytes");
    assert_eq!(frame["v"], 1, "{frame}");
    let sent_at = frame["ts"].as_u64().unwrap_or_else(|| panic!("no ts: {frame}"));
    let now = now_ms();
    assert!(sent_at <= now && now - sent_at <= FRAME_AGE_MAX.as_millis() as u64, "at {now}: {frame}");
    let numbered = TURN_FRAMES.contains(&kind(frame));
    assert_eq!(frame["seq"].is_u64(), numbered, "{frame}");
    assert_eq!(frame["epoch"].is_u64(), numbered, "{frame}");
    assert!(!numbered || frame["turn_id"].is_string() && frame["conversation_id"].is_string(), "{frame}");
    assert!(frame["data"].is_object(), "{frame}");
    for (member, has_its_type) in members(kind(frame)) {
        assert!(has_its_type(&frame["data"][member]), "{member} of {frame}");
    }
}

/// A member and what tells that a value is of its JSON type.
type Member = (&'static str, fn(&Value) -> bool);

/// What the data of a frame of this type must hold.
fn members(kind: &str) -> &'static [Member] {
    match kind {
        "session.ready" => &[
            ("session_id", Value::is_string),
            ("principal", Value::is_string),
            ("limits", Value::is_object),
            ("reconnect_after_ms", Value::is_u64),
        ],
        "message.accepted" => &[("client_message_id", Value::is_string), ("duplicate", Value::is_boolean)],
        "turn.started" => &[
            ("client_message_id", Value::is_string),
            ("intent", Value::is_string),
            ("path", Value::is_string),
            ("after_epoch", Value::is_u64),
            ("restarted", Value::is_boolean),
            ("continues", Value::is_boolean),
        ],
        "text.delta" => &[("text", Value::is_string)],
        "card.product" => &[
            ("product_id", Value::is_string),
            ("title", Value::is_string),
            ("authors", Value::is_array),
            ("price", Value::is_object),
            ("in_stock", Value::is_boolean),
            ("url", Value::is_string),
            ("as_of", Value::is_u64),
        ],
        "card.order" => &[
            ("order_id", Value::is_string),
            ("status", Value::is_string),
            ("items", Value::is_array),
            ("url", Value::is_string),
            ("as_of", Value::is_u64),
        ],
        "source" => &[("id", Value::is_string), ("title", Value::is_string)],
        "degraded" | "turn.queued" => &[("message", Value::is_string)],
        "turn.completed" => {
            &[("stop_reason", Value::is_string), ("usage", Value::is_object), ("latency", Value::is_object)]
        }
        "turn.cancelled" => &[("by", Value::is_string)],
        "turn.failed" | "error" => {
            &[("code", Value::is_string), ("message", Value::is_string), ("retryable", Value::is_boolean)]
        }
        "history.page" => &[("turns", Value::is_array)],
        "feedback.accepted" | "pong" => &[],
        "follow_up" => &[("kind", Value::is_string), ("text", Value::is_string)],
        other => panic!("the protocol has no frame type {other}"),
    }
}
