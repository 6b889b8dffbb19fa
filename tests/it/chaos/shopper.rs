//! A shopper whose client does what the protocol says a client does when something is lost.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::chaos::storm::Storm;
use crate::client::{Client, Lost, SUBPROTOCOL, is_gateway_error, message, message_in};
use crate::turn::{Collector, Turn, kind};

/// Shoppers come one after the other, ms.
const ARRIVAL_MS: u64 = 60_000;

const MESSAGES_MAX: usize = 3;

/// They read and think between two messages, ms.
const PAUSE_MS: u64 = 20_000;

/// "After a gap of 2 s, or 10 s of silence in an open turn that is not queued."
const GAP: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(10);

/// A queued turn is asked for from time to time.
const QUEUED_SILENCE: Duration = Duration::from_secs(30);

/// How long a session takes to start, at the most.
const START_MAX: Duration = Duration::from_secs(15);

/// "A random part of a time that doubles with every failure, up to half a minute", ms.
const BACKOFF_MS: u64 = 2_000;
const BACKOFF_MS_MAX: u64 = 30_000;

/// Away for longer than a turn waits for somebody to follow it.
const ABSENCE: Duration = Duration::from_secs(14);

const QUESTIONS: [&str; 5] = [
    "What is Fullmetal Alchemist about?",
    "おすすめの漫画を教えてください。",
    "「鬼滅の刃」はどんな漫画ですか?",
    "How do returns work?",
    "Tell me more about One Piece, in detail.",
];

/// What a shopper does once an answer has begun.
#[derive(Clone, Copy, PartialEq)]
enum Whim {
    Reads,
    Cancels,
    Leaves,
}

pub struct Shopper {
    storm: Arc<Storm>,
    random: Rng,
    /// At home, where nobody else connects from.
    address: Ipv4Addr,
    /// Of the last session, for the next connection.
    token: Option<String>,
    connection: Option<Client>,
}

/// A message on its way to its end.
struct Exchange {
    asked: Value,
    accepted: Option<Value>,
    held: Collector,
    whim: Whim,
    /// Held until the turn has ended or waits in the queue.
    turn: Option<OwnedSemaphorePermit>,
}

/// What came of attending to an exchange on one connection.
enum Attended {
    Ended,
    Lost,
    Left,
}

impl Shopper {
    pub fn new(storm: Arc<Storm>, random: Rng, address: Ipv4Addr) -> Self {
        Self { storm, random, address, token: None, connection: None }
    }

    /// Up to three messages, at least one; in the end the history is what was shown.
    pub async fn visit(mut self) -> Vec<Turn> {
        self.pause(ARRIVAL_MS).await;
        let mut turns: Vec<Turn> = Vec::new();
        while turns.is_empty() || turns.len() < MESSAGES_MAX && Instant::now() < self.storm.ends_at {
            let question = format!("{} ({})", QUESTIONS[self.random.usize(..QUESTIONS.len())], turns.len() + 1);
            let asked = match turns.last() {
                Some(turn) => message_in(turn.conversation_id(), &question),
                None => message(&question),
            };
            turns.push(self.ask(asked).await);
            self.pause(PAUSE_MS).await;
        }
        // What is compared now is not disturbed any more.
        sleep_until(self.storm.ends_at).await;
        self.pause(PAUSE_MS / 2).await;
        self.compare_with_history(&turns).await;
        turns
    }

    async fn pause(&mut self, max_ms: u64) {
        sleep(Duration::from_millis(self.random.u64(..max_ms))).await;
    }

    /// Sends a message until it is accepted, and follows its turn to the end.
    async fn ask(&mut self, asked: Value) -> Turn {
        let whim = match self.random.u32(..20) {
            0 | 1 => Whim::Cancels,
            2 => Whim::Leaves,
            _ => Whim::Reads,
        };
        let turn = Arc::clone(&self.storm.turns).acquire_owned().await.expect("nobody closes it");
        let mut exchange = Exchange { asked, accepted: None, held: Collector::default(), whim, turn: Some(turn) };
        loop {
            let mut client = match self.connection.take() {
                Some(client) => client,
                None => self.connect(exchange.accepted.as_ref()).await,
            };
            match self.attend(&mut client, &mut exchange).await {
                Attended::Ended => {
                    self.connection = Some(client);
                    self.storm.tally.add("frames seen again", exchange.held.repeated().try_into().unwrap());
                    let turn = exchange.held.finish();
                    self.storm.open.lock().unwrap().remove(turn.id());
                    return turn;
                }
                Attended::Lost => self.storm.tally.count("connections lost"),
                Attended::Left => {
                    drop(client);
                    sleep(ABSENCE).await;
                }
            }
        }
    }

    /// Sends what is to be sent and reads what comes, until the turn has ended or the connection.
    async fn attend(&mut self, client: &mut Client, exchange: &mut Exchange) -> Attended {
        let mut attempt = 0;
        let mut gap_since = None;
        loop {
            let sent = match &exchange.accepted {
                None => client.try_send(&exchange.asked).await,
                Some(accepted) => {
                    let (epoch, after_seq) = exchange.held.position();
                    let turn_id = &accepted["turn_id"];
                    self.storm.tally.count("resumes");
                    client
                        .try_send(&json!({
                            "action": "stream.resume", "turn_id": turn_id, "epoch": epoch, "after_seq": after_seq,
                        }))
                        .await
                }
            };
            if sent.is_err() {
                return Attended::Lost;
            }
            let mut heard_at = Instant::now();
            let retry_after = loop {
                let patience = if exchange.held.is_queued() { QUEUED_SILENCE } else { SILENCE };
                let due = gap_since.map_or(heard_at + patience, |since| since + GAP);
                let frame = match timeout_at(due, client.next()).await {
                    Ok(Ok(frame)) => frame,
                    Ok(Err(Lost)) => return Attended::Lost,
                    Err(_) => break Duration::ZERO,
                };
                if is_gateway_error(&frame) {
                    self.storm.tally.count("gateway errors");
                    break self.backoff(&mut attempt);
                }
                if kind(&frame) == "error" {
                    let data = &frame["data"];
                    assert_eq!(data["retryable"], true, "{frame}");
                    self.storm.tally.count(&format!("refused as {}", data["code"].as_str().unwrap()));
                    let advised = Duration::from_millis(data["retry_after_ms"].as_u64().unwrap_or_default());
                    break advised.max(self.backoff(&mut attempt));
                }
                heard_at = Instant::now();
                if self.take(exchange, frame) {
                    return Attended::Ended;
                }
                gap_since = exchange.held.has_gap().then(|| gap_since.unwrap_or(heard_at));
                if exchange.held.deltas() > 0 {
                    match std::mem::replace(&mut exchange.whim, Whim::Reads) {
                        Whim::Reads => {}
                        Whim::Leaves => {
                            self.storm.tally.count("leaves");
                            return Attended::Left;
                        }
                        Whim::Cancels => {
                            self.storm.tally.count("cancels");
                            let turn_id =
                                &exchange.accepted.as_ref().expect("a turn that began was accepted")["turn_id"];
                            let cancel = json!({"action": "message.cancel", "turn_id": turn_id});
                            if client.try_send(&cancel).await.is_err() {
                                return Attended::Lost;
                            }
                        }
                    }
                }
            };
            sleep(retry_after).await;
            gap_since = None;
            if exchange.accepted.is_none() {
                self.storm.tally.count("resends");
            }
        }
    }

    /// Takes a frame; whether it was the last that was missing.
    fn take(&mut self, exchange: &mut Exchange, frame: Value) -> bool {
        let of_turn = |accepted: &Value| frame["turn_id"] == accepted["turn_id"];
        if kind(&frame) == "message.accepted" {
            if frame["data"]["client_message_id"] == exchange.asked["client_message_id"] {
                if let Some(accepted) = &exchange.accepted {
                    assert!(of_turn(accepted), "two turns for one message: {accepted} {frame}");
                } else {
                    self.storm.tally.count("accepted");
                    self.storm.open.lock().unwrap().insert(frame["turn_id"].as_str().unwrap().to_owned());
                }
                exchange.accepted = Some(frame);
            }
        } else if frame.get("seq").is_some() && exchange.accepted.as_ref().is_some_and(of_turn) {
            exchange.held.hold(frame);
            exchange.turn.take_if(|_| exchange.held.is_queued());
        }
        exchange.held.is_complete()
    }

    fn backoff(&mut self, attempt: &mut u32) -> Duration {
        let max = (BACKOFF_MS << (*attempt).min(8)).min(BACKOFF_MS_MAX);
        *attempt += 1;
        Duration::from_millis(self.random.u64(..max))
    }

    /// A connection with a started session, however many attempts it takes.
    async fn connect(&mut self, accepted: Option<&Value>) -> Client {
        let mut attempt = 0;
        loop {
            let guest = self.token.as_ref().map(|token| format!("guest.{token}"));
            let offers: Vec<&str> = [SUBPROTOCOL].into_iter().chain(guest.as_deref()).collect();
            self.storm.tally.count("handshakes");
            match Client::connect(self.address, &self.storm.websocket_url, &offers).await {
                Ok(mut client) => {
                    client.forgive_gateway_errors();
                    if let Ok(Ok(ready)) = timeout(START_MAX, start_session(&mut client, accepted)).await {
                        self.token = ready["resume_token"].as_str().map(str::to_owned);
                        return client;
                    }
                    self.storm.tally.count("sessions not started");
                }
                Err(error) => self.storm.tally.count(&format!("handshakes that failed with {error}")),
            }
            sleep(self.backoff(&mut attempt)).await;
        }
    }

    /// What is stored of each turn is what was shown.
    async fn compare_with_history(&mut self, turns: &[Turn]) {
        let list = json!({"action": "history.list", "conversation_id": turns[0].conversation_id()});
        let stored = loop {
            let mut client = match self.connection.take() {
                Some(client) => client,
                None => self.connect(None).await,
            };
            if let Ok(Ok(page)) = timeout(START_MAX, request(&mut client, &list, "history.page")).await {
                break page["turns"].as_array().unwrap().clone();
            }
        };
        assert_eq!(stored.len(), turns.len(), "{stored:#?}");
        for (stored, turn) in stored.iter().zip(turns) {
            let shown = turn.shown();
            assert_eq!(stored["turn_id"], turn.id());
            assert_eq!(stored["answer"], shown.text, "{turn:#?}");
            let cards: Vec<&Value> = stored["cards"].as_array().unwrap().iter().map(|card| &card["data"]).collect();
            assert_eq!(cards, shown.cards.iter().collect::<Vec<_>>(), "{turn:#?}");
            assert_eq!(format!("turn.{}", stored["state"].as_str().unwrap()), kind(turn.end()));
        }
    }
}

/// Starts a session, and comes back to the conversation of the message that was accepted.
async fn start_session(client: &mut Client, accepted: Option<&Value>) -> Result<Value, Lost> {
    let mut start = json!({"action": "session.start"});
    if let Some(accepted) = accepted {
        start["conversation_id"] = accepted["conversation_id"].clone();
    }
    let ready = request(client, &start, "session.ready").await?;
    if let (Some(active), Some(accepted)) = (ready.get("active_turn"), accepted) {
        assert_eq!(active["turn_id"], accepted["turn_id"], "one turn at a time");
    }
    Ok(ready)
}

/// The data of the frame that answers; an error counts as a lost connection.
async fn request(client: &mut Client, frame: &Value, wanted: &str) -> Result<Value, Lost> {
    client.try_send(frame).await?;
    loop {
        let answer = client.next().await?;
        if is_gateway_error(&answer) || kind(&answer) == "error" {
            return Err(Lost);
        }
        if kind(&answer) == wanted {
            return Ok(answer["data"].clone());
        }
    }
}
