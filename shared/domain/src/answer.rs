//! The owner of a turn: makes the message durable, asks store and model meanwhile, streams what they say, journals it once
//! a second and settles.

use std::error::Error;
use std::pin::{Pin, pin};

use futures_util::future::{BoxFuture, Fuse, FusedFuture as _, select};
use futures_util::stream::{self, FusedStream};
use futures_util::{FutureExt as _, StreamExt as _, select_biased};

use crate::coalesce::Coalescer;
use crate::gather::{Gathered, gather};
use crate::ids::{ConnectionId, ProductId};
use crate::intent::{self, Intent};
use crate::limits::{FLUSH_BUDGET_MS, MODEL_SILENCE_MS, SETTLE_BUDGET_MS, TICK_MS, TURN_BUDGET_MS};
use crate::outbox::Outbox;
use crate::ports::{
    Clock as _, ConnectionSender, JournalOutcome, JournalWrite, LanguageModel as _, ModelError, ModelEvent,
    Nonces as _, Ports, RecordOutcome, TurnStore as _, Unavailable,
};
use crate::prompt;
use crate::protocol::{
    ErrorCode, Latency, MessageAccepted, ServerEvent, ServerFrame, StopReason, TextDelta, TurnCompleted, TurnPath,
    TurnStarted, TurnState, Usage,
};
use crate::settle;
use crate::turn::{Exchange, Outcome, StoredTurn, TurnFrame, TurnJournal, TurnLog, TurnRequest};

/// What became of an admitted message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The turn ended, and its end was told to every connection that followed it.
    Settled,
    /// Somebody else recorded the turn first, or ended it: it is theirs, nothing was sent of ours.
    NotOurs,
}

/// Answers an admitted message. Frames go to `connection` and to whoever subscribes meanwhile.
///
/// `message.accepted` goes out once the turn is recorded; store and model are asked without waiting for that. The turn
/// ends within [`TURN_BUDGET_MS`] of `asked_at`, and is settled within [`SETTLE_BUDGET_MS`] more.
///
/// # Errors
/// When the turn cannot be recorded, or its end not be stored. A recorded turn is then ended by whoever finds it after
/// its lease.
pub async fn answer<P: Ports>(
    ports: &P,
    request: &TurnRequest,
    history: &[Exchange],
    product_id: Option<&ProductId>,
    connection: &ConnectionId,
) -> Result<Answered, Unavailable> {
    let intent = intent::guess(&request.text, product_id.is_some());
    let outbox = Outbox::new(ports.sender(), connection.clone());
    Owner {
        ports,
        request,
        intent,
        log: TurnLog::new(),
        outbox,
        coalescer: Coalescer::default(),
        writer: ports.nonces().nonce(),
        writes: 0,
        unconfirmed: None,
        first_text_at: None,
        usage: Usage::default(),
    }
    .run(history, product_id)
    .await
}

struct Owner<'p, P: Ports> {
    ports: &'p P,
    request: &'p TurnRequest,
    intent: Intent,
    log: TurnLog,
    outbox: Outbox<'p, P::Sender>,
    coalescer: Coalescer,
    writer: String,
    writes: u64,
    /// A write that was sent and not acknowledged, with the number of frames durable after it. It is sent again, as it
    /// was, before any other: the store recognises it if it had arrived.
    unconfirmed: Option<(JournalWrite, usize)>,
    first_text_at: Option<u64>,
    usage: Usage,
}

/// Why the model's part of a turn is over.
#[derive(Debug, Clone, Copy)]
enum End {
    Stopped(StopReason),
    Failed(ErrorCode),
}

type Answers<'p> = Pin<Box<dyn FusedStream<Item = Result<ModelEvent, ModelError>> + Send + 'p>>;
type Writing<'p> = Fuse<BoxFuture<'p, Result<JournalOutcome, Unavailable>>>;

const NEVER: u64 = u64::MAX;

impl<'p, P: Ports> Owner<'p, P> {
    async fn run(mut self, history: &[Exchange], product_id: Option<&ProductId>) -> Result<Answered, Unavailable> {
        let Self { ports, request, intent, .. } = self;
        let clock = ports.clock();
        let deadline = request.asked_at + TURN_BUDGET_MS;
        let mut recording = pin!(ports.turns().record(request).fuse());
        let mut gathering = pin!(gather(ports, &request.principal, &request.text, intent, product_id).fuse());
        let mut model: Answers<'p> = Box::pin(stream::pending());
        let mut writing: Writing<'p> = Fuse::terminated();
        let mut recorded = false;
        let mut stopped = None;
        let mut end = None;
        let mut tick_at = clock.now_ms() + TICK_MS;
        let mut silent_at = NEVER;

        while !(recorded && end.is_some()) {
            if end.is_some() {
                // What it might still say is no part of the answer.
                model = Box::pin(stream::pending());
            }
            // Text waits while a frame is under way: when callbacks are slow the window widens by itself.
            let text_at = self.coalescer.due_at().filter(|_| self.outbox.is_idle()).unwrap_or(NEVER);
            let write_at = if recorded && writing.is_terminated() { tick_at } else { NEVER };
            let stop_at = if end.is_none() { deadline.min(silent_at) } else { NEVER };
            let mut alarm = pin!(clock.sleep_until(text_at.min(write_at).min(stop_at)).fuse());

            select_biased! {
                outcome = recording => match outcome? {
                    RecordOutcome::Exists => return Ok(Answered::NotOurs),
                    RecordOutcome::Recorded => {
                        recorded = true;
                        self.outbox.open(accepted(request, false, clock.now_ms()).encode());
                    }
                },
                outcome = writing => match outcome {
                    Ok(JournalOutcome::Fenced(_)) => return Ok(Answered::NotOurs),
                    Ok(JournalOutcome::Written(journal)) => {
                        let before = self.confirm();
                        self.serve_subscribers(&journal, before);
                    }
                    Err(error) => log_failure("journal write", &error),
                },
                () = self.outbox.progress().fuse() => {}
                () = alarm => {
                    let now = clock.now_ms();
                    if now >= stop_at {
                        end = Some(self.cut_off(now >= deadline));
                    } else if now >= write_at {
                        tick_at = now + TICK_MS;
                        if let Some(write) = self.next_write(None) {
                            writing = async move { ports.turns().journal(&write).await }.boxed().fuse();
                        }
                    } else {
                        self.send_text();
                    }
                }
                gathered = gathering => {
                    self.announce(&gathered);
                    let prompt = prompt::assemble(&request.text, request.locale, history, &gathered);
                    model = Box::pin(ports.model().answer(prompt).fuse());
                    silent_at = clock.now_ms() + MODEL_SILENCE_MS;
                }
                event = model.next() => {
                    silent_at = clock.now_ms() + MODEL_SILENCE_MS;
                    match event {
                        Some(Ok(ModelEvent::Text(text))) => {
                            self.first_text_at.get_or_insert_with(|| clock.now_ms());
                            self.coalescer.push(&text);
                        }
                        Some(Ok(ModelEvent::Stopped(reason))) => stopped = Some(reason),
                        Some(Ok(ModelEvent::Usage(usage))) => self.usage = usage,
                        Some(Err(error)) => {
                            log_failure("model", &error);
                            end = Some(End::Failed(match error {
                                ModelError::Throttled(_) | ModelError::Unavailable(_) => ErrorCode::Unavailable,
                                ModelError::Refused(_) => ErrorCode::Internal,
                            }));
                        }
                        // An answer that ends without saying why was broken off.
                        None => end = Some(stopped.map_or(End::Failed(ErrorCode::Unavailable), End::Stopped)),
                    }
                }
            }
        }
        drop(model);
        while self.send_text() {}
        if !writing.is_terminated() && !self.settle_write(writing).await {
            return Ok(Answered::NotOurs);
        }
        self.settle(end.unwrap_or(End::Failed(ErrorCode::Internal))).await
    }

    /// Tells what the answer is made of: that it begins, what the store could not say, cards and sources.
    fn announce(&mut self, gathered: &Gathered) {
        self.send(ServerEvent::TurnStarted(TurnStarted {
            client_message_id: self.request.client_message_id,
            intent: self.intent,
            path: TurnPath::Llm,
            restarted: false,
            continues: false,
        }));
        for event in gathered.events(self.intent, self.request.locale) {
            self.send(event);
        }
    }

    /// Sends one frame of the text that waits, if any does.
    fn send_text(&mut self) -> bool {
        let text = self.coalescer.take(self.ports.clock().now_ms());
        let any = text.is_some();
        if let Some(text) = text {
            self.send(ServerEvent::TextDelta(TextDelta { text, from_seq: None }));
        }
        any
    }

    fn send(&mut self, event: ServerEvent) {
        let frame = self.log.push(self.ports.clock().now_ms(), event);
        self.outbox.push(self.encode(&frame));
    }

    fn encode(&self, frame: &TurnFrame) -> Option<String> {
        frame.addressed(&self.request.conversation_id, &self.request.turn_id).encode()
    }

    /// The answer is cut off by the clock: what was said stands, if anything was.
    fn cut_off(&self, out_of_time: bool) -> End {
        tracing::warn!(out_of_time, silence_ms = MODEL_SILENCE_MS, "the model's answer was cut off");
        match out_of_time && self.first_text_at.is_some() {
            true => End::Stopped(StopReason::Deadline),
            false => End::Failed(ErrorCode::Unavailable),
        }
    }

    /// The next journal write: the one not confirmed, again, or what is new; none if there is nothing to write.
    fn next_write(&mut self, outcome: Option<Outcome>) -> Option<JournalWrite> {
        if self.unconfirmed.is_none() {
            let frames = self.log.unjournaled();
            if frames.is_empty() && outcome.is_none() {
                return None;
            }
            self.writes += 1;
            let write = JournalWrite {
                turn_id: self.request.turn_id.clone(),
                epoch: self.log.epoch(),
                writer: self.writer.clone(),
                number: self.writes,
                frames,
                outcome,
                now: self.ports.clock().now_ms(),
            };
            self.unconfirmed = Some((write, self.log.len()));
        }
        self.unconfirmed.as_ref().map(|(write, _)| write.clone())
    }

    /// Notes that the last write is durable; answers how many frames were durable before it.
    fn confirm(&mut self) -> usize {
        let before = self.log.journaled();
        if let Some((_, count)) = self.unconfirmed.take() {
            self.log.mark_journaled(count);
        }
        before
    }

    /// Connections that subscribed since the write before: they were replayed what was durable then, `before` frames, and
    /// get the rest from here.
    fn serve_subscribers(&mut self, journal: &TurnJournal, before: usize) {
        for connection in &journal.subscribers {
            if !self.outbox.has_served(connection) {
                let frames: Vec<String> =
                    self.log.frames_from(before).iter().filter_map(|frame| self.encode(frame)).collect();
                self.outbox.add(connection.clone(), frames);
            }
        }
    }

    /// Waits for a write that is under way; whether the turn is still ours.
    async fn settle_write(&mut self, writing: Writing<'p>) -> bool {
        match alongside(&mut self.outbox, writing).await {
            Ok(JournalOutcome::Fenced(_)) => false,
            Ok(JournalOutcome::Written(journal)) => {
                let before = self.confirm();
                self.serve_subscribers(&journal, before);
                true
            }
            Err(error) => {
                log_failure("journal write", &error);
                true
            }
        }
    }

    async fn settle(mut self, end: End) -> Result<Answered, Unavailable> {
        let Self { ports, request, .. } = self;
        let clock = ports.clock();
        let now = clock.now_ms();
        let latency = Latency {
            first_token_ms: self.first_text_at.map_or(0, |at| at.saturating_sub(request.asked_at)),
            total_ms: now.saturating_sub(request.asked_at),
        };
        let (state, event) = match end {
            End::Failed(code) => (TurnState::Failed, settle::failed(code, request.locale)),
            End::Stopped(stop_reason) => (
                TurnState::Completed,
                ServerEvent::TurnCompleted(TurnCompleted { stop_reason, usage: self.usage, latency }),
            ),
        };
        let last = self.log.push(now, event);
        let outcome = Outcome { state, usage: self.usage };
        // Subscribers are served once the end is stored: the log, which they are served from, holds the last frame already.
        let before = self.log.journaled();
        let journal = loop {
            let Some(write) = self.next_write(Some(outcome.clone())) else { return Ok(Answered::NotOurs) };
            match alongside(&mut self.outbox, ports.turns().journal(&write)).await {
                Ok(JournalOutcome::Fenced(_)) => return Ok(Answered::NotOurs),
                Ok(JournalOutcome::Written(journal)) => {
                    self.confirm();
                    if write.outcome.is_some() {
                        break journal;
                    }
                }
                Err(error) if clock.now_ms() >= now + SETTLE_BUDGET_MS => return Err(error),
                Err(error) => {
                    log_failure("settling", &error);
                    alongside(&mut self.outbox, clock.sleep_until(clock.now_ms() + SETTLE_RETRY_MS)).await;
                }
            }
        };
        let turn = StoredTurn { request: request.clone(), journal };
        // The outcome is stored: what fails from here on is done by whoever finds the turn.
        if let Err(error) = alongside(&mut self.outbox, settle::conclude(ports, &turn)).await {
            log_failure("freeing the conversation", &error);
        }
        self.outbox.push(self.encode(&last));
        self.serve_subscribers(&turn.journal, before);
        // A client that reads too slowly for this resumes from the journal.
        let patience = pin!(clock.sleep_until(clock.now_ms() + FLUSH_BUDGET_MS));
        select(pin!(self.outbox.flush()), patience).await;
        settle::publish(ports, &turn, self.intent).await;
        tracing::info!(
            turn_id = %request.turn_id,
            intent = ?self.intent,
            state = ?state,
            first_token_ms = latency.first_token_ms,
            total_ms = latency.total_ms,
            input_tokens = self.usage.input_tokens,
            output_tokens = self.usage.output_tokens,
            frames = self.log.len(),
            "turn ended"
        );
        Ok(Answered::Settled)
    }
}

/// Pause between two attempts to store a turn's end, ms.
const SETTLE_RETRY_MS: u64 = 100;

/// Does some work while frames go out.
async fn alongside<T, S: ConnectionSender>(outbox: &mut Outbox<'_, S>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work.fuse());
    loop {
        select_biased! {
            done = work => return done,
            () = outbox.progress().fuse() => {}
        }
    }
}

/// `message.accepted` for a turn.
pub fn accepted(request: &TurnRequest, duplicate: bool, now: u64) -> ServerFrame {
    let event =
        ServerEvent::MessageAccepted(MessageAccepted { client_message_id: request.client_message_id, duplicate });
    ServerFrame::new(now, event).in_conversation(request.conversation_id.clone()).of_turn(request.turn_id.clone())
}

fn log_failure(operation: &'static str, error: &(dyn Error + 'static)) {
    tracing::warn!(operation, error, "operation failed");
}
