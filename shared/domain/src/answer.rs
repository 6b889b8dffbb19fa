//! The owner of a turn: makes the message durable, asks store and model meanwhile, streams what they say, journals it once
//! a second and settles; or hands the turn to the follow-up queue when the model does not answer in time.
//!
//! Everything an owner writes carries its epoch, and every post waits for its lease. One tick a second stores what was
//! said, renews the lease, and learns that the shopper asked to stop, that another connection follows the turn, or that
//! the turn has a new owner.

use std::error::Error;
use std::pin::{Pin, pin};

use futures_util::future::{BoxFuture, Fuse, FusedFuture as _, select};
use futures_util::stream::{self, FusedStream};
use futures_util::{FutureExt as _, StreamExt as _, join, select_biased};

use crate::brown_out::{self, Allowance, Grant};
use crate::coalesce::Coalescer;
use crate::escalation::escalate;
use crate::facts::{FactFilter, Facts};
use crate::gather::{Gathered, gather};
use crate::intent::Intent;
use crate::lease::Moment;
use crate::limits::{
    FLUSH_BUDGET_MS, GONE_GRACE_MS, HAND_OVER_DELAY_MS, MESSAGE_TURN_MS, MODEL_SILENCE_MS, SETTLE_BUDGET_MS, TICK_MS,
    WATCH_AFTER_MS, WORKER_TURN_MS,
};
use crate::metrics::{Measure, Metrics as _};
use crate::outbox::Outbox;
use crate::ports::{
    Clock, ConnectionSender, JournalOutcome, JournalWrite, LanguageModel as _, ModelChoice, ModelError, ModelEvent,
    Nonces as _, Ports, RecordOutcome, Task, TaskQueues as _, TurnStore as _, Unavailable,
};
use crate::prompt;
use crate::protocol::{
    BrownOutStep, CancelledBy, Degraded, ErrorCode, Latency, MessageAccepted, ServerEvent, ServerFrame, StopReason,
    TextDelta, TurnCancelled, TurnCompleted, TurnPath, TurnQueued, TurnStarted, TurnState, Usage, blocked_text,
    brown_out_text, queued_text,
};
use crate::route::Route;
use crate::settle;
use crate::template::{self, Known};
use crate::turn::{Hold, Outcome, Past, StoredTurn, TurnFrame, TurnJournal, TurnLog, TurnRequest};

/// What became of a turn in its owner's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The turn ended, and its end was told to every connection that followed it.
    Settled,
    /// The turn waits in the follow-up queue, and everybody was told.
    Queued,
    /// The turn is somebody else's: nothing more was sent of ours.
    NotOurs,
}

/// Where an owner runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workplace {
    /// In `message`: little time, and the follow-up queue does not know of the turn.
    Message,
    /// In `follow-up-worker`: more time, and the task that led here stays in the queue until the turn has ended.
    FollowUpWorker,
}

/// Answers an admitted message. Frames go to the connection it came from and to whoever subscribes meanwhile.
///
/// `message.accepted` goes out once the turn's watchdog is armed and the turn recorded; store and model are asked without
/// waiting for that. The turn ends, or is handed to the follow-up queue, [`MESSAGE_TURN_MS`] after `admitted`, with
/// [`SETTLE_BUDGET_MS`] and [`FLUSH_BUDGET_MS`] for the rest.
///
/// # Errors
/// When the turn cannot be recorded in time, or its end not be stored. A recorded turn is then finished by whoever finds
/// it after its lease.
pub async fn answer<P: Ports>(
    ports: &P,
    request: &TurnRequest,
    past: &Past,
    allowance: Allowance,
    admitted: Moment,
) -> Result<Answered, Unavailable> {
    // In this order: whoever finds the turn recorded, and tells the shopper, may rely on its watchdog.
    let recording = async {
        watch(ports, request, 1).await?;
        ports.turns().record(request).await
    };
    let outbox = Outbox::new(ports.sender(), ports.clock(), admitted, [request.connection.clone()]);
    let tenure = Tenure { request, past, journal: TurnJournal::default(), epoch: 1, workplace: Workplace::Message };
    let owner = Owner::new(ports, tenure, outbox, ports.nonces().nonce(), 0);
    // On the heap: what an owner keeps between two awaits is large, and several may be at work on one thread.
    owner.run(recording.boxed().fuse(), allowance, admitted).boxed().await
}

/// What an owner takes on.
pub(crate) struct Tenure<'a> {
    pub(crate) request: &'a TurnRequest,
    pub(crate) past: &'a Past,
    /// What earlier owners left.
    pub(crate) journal: TurnJournal,
    pub(crate) epoch: u64,
    pub(crate) workplace: Workplace,
}

/// Has the owner of a turn looked after.
pub(crate) async fn watch<P: Ports>(ports: &P, request: &TurnRequest, epoch: u64) -> Result<(), Unavailable> {
    let task = Task::Watch { turn_id: request.turn_id.clone(), epoch };
    ports.queues().send(&task, WATCH_AFTER_MS).await
}

pub(crate) struct Owner<'p, P: Ports> {
    ports: &'p P,
    tenure: Tenure<'p>,
    route: Route,
    /// What the store said, once it has.
    gathered: Gathered,
    /// The people of the store know of the conversation.
    escalated: bool,
    /// The leave by which a model was asked last, until what it used is settled.
    grant: Option<Grant>,
    /// What the model may not make up, while a model answers.
    filter: Option<FactFilter>,
    log: TurnLog,
    outbox: Outbox<'p, P::Sender, P::Clock>,
    /// How many frames of the log are with the outbox: all but a last one that must be durable first.
    posted: usize,
    coalescer: Coalescer,
    writer: String,
    writes: u64,
    unconfirmed: Option<Unconfirmed>,
    /// What the answer begins with, of an earlier owner.
    prefill: Option<String>,
    /// Space at the prefill's end was cut off, and is not to be said again.
    skips_space: bool,
    first_text_at: Option<u64>,
    usage: Usage,
}

/// A write that was sent and not acknowledged. It is sent again, as it was, before any other: the store recognises it if
/// it had arrived.
struct Unconfirmed {
    write: JournalWrite,
    sent: Moment,
    /// How many frames of the log are durable after it.
    frames: usize,
}

/// Why an owner's work is over.
#[derive(Debug, Clone, Copy)]
enum End {
    Stopped(StopReason),
    Cancelled(CancelledBy),
    Failed(ErrorCode),
    /// The model does not answer, or not in time.
    HandedOver,
}

/// The turn has a new owner, or has ended.
struct Fenced;

type Answers<'p> = Pin<Box<dyn FusedStream<Item = Result<ModelEvent, ModelError>> + Send + 'p>>;
/// Leave to ask a model, being asked for.
type Asking<'p> = Fuse<BoxFuture<'p, Option<Grant>>>;
type Writing<'p> = Fuse<BoxFuture<'p, Result<JournalOutcome, Unavailable>>>;
pub(crate) type Recording<'p> = Fuse<BoxFuture<'p, Result<RecordOutcome, Unavailable>>>;

const NEVER: u64 = u64::MAX;

impl<'p, P: Ports> Owner<'p, P> {
    /// The owner of a turn, which has made `writes` journal writes as `writer`.
    pub(crate) fn new(
        ports: &'p P,
        tenure: Tenure<'p>,
        outbox: Outbox<'p, P::Sender, P::Clock>,
        writer: String,
        writes: u64,
    ) -> Self {
        let Tenure { request, journal, epoch, .. } = &tenure;
        let route = Route::of(&request.text, request.product_id.is_some());
        let said = journal.answer();
        let continues = route.path == TurnPath::Llm && ports.model().accepts_prefill();
        let prefill = Some(said.trim_end()).filter(|text| !text.is_empty() && continues);
        Self {
            ports,
            route,
            gathered: Gathered::default(),
            escalated: false,
            grant: None,
            filter: None,
            log: TurnLog::after(journal, *epoch),
            outbox,
            posted: 0,
            coalescer: Coalescer::default(),
            writer,
            writes,
            unconfirmed: None,
            skips_space: prefill.is_some_and(|prefill| prefill.len() < said.len()),
            prefill: prefill.map(str::to_owned),
            first_text_at: None,
            usage: Usage::default(),
            tenure,
        }
    }

    /// Works on the turn from `begun` on; until `recording` is done, nothing is posted or journaled.
    pub(crate) async fn run(
        mut self,
        mut recording: Recording<'p>,
        allowance: Allowance,
        begun: Moment,
    ) -> Result<Answered, Unavailable> {
        let Self { ports, tenure: Tenure { request, workplace, .. }, .. } = self;
        let clock = ports.clock();
        let deadline = begun.unix_ms
            + match workplace {
                Workplace::Message => MESSAGE_TURN_MS,
                Workplace::FollowUpWorker => WORKER_TURN_MS,
            };
        let route = self.route.clone();
        let mut preparing = prepare(ports, request, self.tenure.past, &route).boxed().fuse();
        let mut allowance = Some(allowance);
        let mut asking: Asking<'p> = Fuse::terminated();
        let mut model: Answers<'p> = Box::pin(stream::pending());
        let mut writing: Writing<'p> = Fuse::terminated();
        let mut recorded = recording.is_terminated();
        let mut stopped = None;
        let mut end = None;
        let mut tick_at = clock.now_ms() + TICK_MS;
        let mut silent_at = NEVER;

        while !(recorded && end.is_some()) {
            if end.is_some() {
                // What it might still say is no part of the answer.
                model = Box::pin(stream::pending());
            }
            // Text waits while every connection is busy: when callbacks are slow the window widens by itself.
            let text_at = self.coalescer.due_at().filter(|_| self.outbox.is_ready()).unwrap_or(NEVER);
            let write_at = if recorded && writing.is_terminated() { tick_at } else { NEVER };
            let give_up_at =
                self.outbox.deserted_at().filter(|_| self.may_stop()).map_or(NEVER, |at| at + GONE_GRACE_MS);
            let stop_at = if end.is_none() { deadline.min(silent_at).min(give_up_at) } else { NEVER };
            let mut alarm = pin!(clock.sleep_until(text_at.min(write_at).min(stop_at)).fuse());

            select_biased! {
                outcome = recording => match outcome? {
                    RecordOutcome::Exists => return Ok(Answered::NotOurs),
                    // Others may have seen a turn without an owner, and a conversation that nobody held.
                    RecordOutcome::Recorded if !self.outbox.may_post() => {
                        return Err(Unavailable { operation: "record turn", source: "the lease had ended".into() });
                    }
                    RecordOutcome::Recorded => {
                        recorded = true;
                        self.count_turn();
                        self.outbox.open(accepted(request, false, clock.now_ms()).encode());
                    }
                },
                outcome = writing => match self.learn(outcome) {
                    Err(Fenced) => return Ok(Answered::NotOurs),
                    Ok(Some(journal)) if journal.cancel_asked => {
                        end.get_or_insert(End::Cancelled(CancelledBy::Client));
                    }
                    Ok(_) => {}
                },
                () = self.outbox.progress().fuse() => {}
                () = alarm => {
                    let now = clock.now_ms();
                    if now >= stop_at {
                        end = Some(self.cut_off(now >= give_up_at));
                    } else if now >= write_at {
                        tick_at = now + TICK_MS;
                        let write = self.next_write(None, None);
                        writing = async move { ports.turns().journal(&write).await }.boxed().fuse();
                    } else {
                        self.send_text();
                    }
                }
                (gathered, escalated) = preparing => {
                    (self.gathered, self.escalated) = (gathered, escalated);
                    self.announce();
                    if self.route.path == TurnPath::Llm {
                        asking = self.ask_leave(allowance.take().unwrap_or_default(), None);
                    } else if self.route.blocked {
                        ports.metrics().record(Measure::guarded());
                        model = fixed(None, StopReason::Guardrail);
                    } else {
                        model = fixed(Some(template::answer(&self.route, &self.known())), StopReason::EndTurn);
                    }
                }
                grant = asking => {
                    if end.is_some() {
                        // Cancelled meanwhile: what was set aside comes back with the next minute.
                    } else if let Some(grant) = grant {
                        model = self.ask_model(grant);
                        silent_at = clock.now_ms() + MODEL_SILENCE_MS;
                    } else if self.may_use_template() {
                        self.brown_out(BrownOutStep::Template);
                        model = fixed(Some(template::what_was_found(&self.known())), StopReason::EndTurn);
                    } else {
                        end = Some(End::HandedOver);
                    }
                }
                event = model.next() => {
                    silent_at = clock.now_ms() + MODEL_SILENCE_MS;
                    match event {
                        Some(Ok(ModelEvent::Text(text))) => {
                            self.first_text_at.get_or_insert_with(|| clock.now_ms());
                            self.hear(&text);
                        }
                        Some(Ok(ModelEvent::Stopped(reason))) => stopped = Some(reason),
                        Some(Ok(ModelEvent::Usage(usage))) => self.usage = usage,
                        Some(Err(error)) => {
                            log_failure("model", &error);
                            match error {
                                // Nothing was said: there may be a smaller way to answer.
                                ModelError::Throttled(_) if self.first_text_at.is_none() => {
                                    let refused = self.grant.as_ref().map(|grant| grant.rung.model);
                                    model = Box::pin(stream::pending());
                                    silent_at = NEVER;
                                    asking = self.ask_leave(Allowance::Unasked, refused);
                                }
                                ModelError::Throttled(_) | ModelError::Unavailable(_) => end = Some(End::HandedOver),
                                ModelError::Refused(_) => end = Some(End::Failed(ErrorCode::Internal)),
                            }
                        }
                        // An answer that ends without saying why was broken off.
                        None => end = Some(stopped.map_or(End::HandedOver, End::Stopped)),
                    }
                }
            }
        }
        drop(model);
        self.end_text(end);
        while self.send_text() {}
        if !writing.is_terminated() {
            let outcome = alongside(&mut self.outbox, writing).await;
            if self.learn(outcome).is_err() {
                return Ok(Answered::NotOurs);
            }
        }
        if self.log.is_empty() {
            self.begin();
        }
        match end.unwrap_or(End::HandedOver) {
            End::HandedOver => self.hand_over().await,
            End::Stopped(stop_reason) => {
                let completed = |latency, usage| TurnCompleted { stop_reason, usage, latency };
                self.settle(TurnState::Completed, |latency, usage| {
                    ServerEvent::TurnCompleted(completed(latency, usage))
                })
                .await
            }
            End::Cancelled(by) => {
                self.settle(TurnState::Cancelled, |_, _| ServerEvent::TurnCancelled(TurnCancelled { by })).await
            }
            End::Failed(code) => self.settle(TurnState::Failed, |_, _| settle::failed(code, request.locale)).await,
        }
    }

    /// Whether the turn may stop early when nobody listens: taken-over turns run to their end.
    fn may_stop(&self) -> bool {
        self.log.epoch() == 1
    }

    /// Tells that the answer begins, or begins again, or goes on.
    fn begin(&mut self) {
        let continues = self.prefill.is_some();
        self.send(ServerEvent::TurnStarted(TurnStarted {
            client_message_id: self.tenure.request.client_message_id,
            intent: self.route.intent,
            path: self.route.path,
            after_epoch: self.tenure.journal.last_epoch(),
            restarted: self.log.epoch() > 1 && !continues,
            continues,
        }));
    }

    /// Tells what the answer is made of: that it begins, what the store could not say, cards and sources. An answer that
    /// goes on has told.
    fn announce(&mut self) {
        self.begin();
        if self.prefill.is_none() {
            for event in self.gathered.events(self.ports.pages(), self.tenure.request.locale) {
                self.send(event);
            }
        }
    }

    /// Counts the turn: each has one first owner, that recorded it.
    fn count_turn(&self) {
        let metrics = self.ports.metrics();
        metrics.record(Measure::turn_on_path(self.route.path));
        metrics.record(if self.route.sure { Measure::turn_about(self.route.intent) } else { Measure::unsure() });
    }

    /// What an answer in fixed words is made of.
    fn known(&self) -> Known<'_> {
        let request = self.tenure.request;
        Known {
            question: &request.text,
            principal: &request.principal,
            locale: request.locale,
            gathered: &self.gathered,
            pages: self.ports.pages(),
            escalated: self.escalated,
        }
    }

    /// Asks for leave to ask a model, if nobody has yet, after giving back what an attempt before did not use; not of the
    /// model that has just refused.
    fn ask_leave(&mut self, allowance: Allowance, refused: Option<ModelChoice>) -> Asking<'p> {
        let (ports, request, past) = (self.ports, self.tenure.request, self.tenure.past);
        let unused = self.grant.take();
        let asking = async move {
            if let Some(unused) = unused {
                brown_out::settle(ports, &unused, 0).await;
            }
            match allowance {
                Allowance::Granted(grant) => Some(grant),
                Allowance::Refused => None,
                Allowance::Unasked => {
                    brown_out::grant(ports, prompt::expected_tokens(&request.text, past), refused).await
                }
            }
        };
        asking.boxed().fuse()
    }

    /// Asks a model.
    fn ask_model(&mut self, grant: Grant) -> Answers<'p> {
        let request = self.tenure.request;
        if let Some(step) = grant.rung.step {
            self.brown_out(step);
        }
        let (past, prefill) = (self.tenure.past, self.prefill.clone());
        let prompt = prompt::assemble(&request.text, request.locale, past, &self.gathered, grant.rung, prefill);
        self.grant = Some(grant);
        let stated = self.gathered.stated_by_the_store(request.locale).chain([request.text.as_str().into()]);
        let facts = Facts::allowing(stated);
        self.filter = Some(match &self.prefill {
            Some(said) => FactFilter::after(facts, request.locale, said),
            None => FactFilter::new(facts, request.locale),
        });
        let metrics = self.ports.metrics();
        metrics.record(Measure::guarded());
        if prompt.instructions_dropped > 0 {
            metrics.record(Measure::instructions_dropped(prompt.instructions_dropped));
        }
        Box::pin(self.ports.model().answer(prompt).fuse())
    }

    /// Whether fixed words around what the store said are better than an answer later. The worker's shopper waits already.
    fn may_use_template(&self) -> bool {
        let nothing_said = self.first_text_at.is_none() && self.tenure.journal.answer().is_empty();
        self.tenure.workplace == Workplace::Message && nothing_said && !self.gathered.is_empty()
    }

    /// Tells that the answer is smaller than usual.
    fn brown_out(&mut self, step: BrownOutStep) {
        self.ports.metrics().record(Measure::brown_out(step));
        let message = brown_out_text(step, self.tenure.request.locale).to_owned();
        self.send(ServerEvent::Degraded(Degraded { dependency: None, step: Some(step), message }));
    }

    /// Says that a guardrail has blocked the question or the rest of the answer.
    fn say_blocked(&mut self) {
        self.ports.metrics().record(Measure::blocked());
        let text = blocked_text(self.tenure.request.locale);
        if self.first_text_at.is_some() || self.prefill.is_some() {
            self.coalescer.push("\n");
        }
        self.first_text_at.get_or_insert_with(|| self.ports.clock().now_ms());
        self.coalescer.push(text);
    }

    /// Takes what the model said.
    fn hear(&mut self, text: &str) {
        let text = if self.skips_space { text.trim_start() } else { text };
        self.skips_space &= text.is_empty();
        match &mut self.filter {
            Some(filter) => self.coalescer.push(&filter.push(text)),
            None => self.coalescer.push(text),
        }
    }

    /// Takes the rest of the text, held back so far, and what an end adds to it. A turn that is handed over has no end yet: what
    /// was held back is said anew.
    fn end_text(&mut self, end: Option<End>) {
        let metrics = self.ports.metrics();
        let (rest, replaced) = self.filter.take().map(FactFilter::finish).unwrap_or_default();
        if replaced.total() > 0 {
            metrics.record(Measure::facts_replaced(replaced.total().into()));
        }
        if !matches!(end, Some(End::HandedOver) | None) {
            self.coalescer.push(&rest);
        }
        if let Some(End::Stopped(StopReason::Guardrail)) = end {
            self.say_blocked();
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
        self.post(&frame);
    }

    fn post(&mut self, frame: &TurnFrame) {
        self.outbox.push(self.encode(frame));
        self.posted = self.log.len();
    }

    fn encode(&self, frame: &TurnFrame) -> Option<String> {
        frame.addressed(&self.tenure.request.conversation_id, &self.tenure.request.turn_id).encode()
    }

    /// The clock ends the answer. The worker keeps what was said: it has tried for as long as it may.
    fn cut_off(&self, deserted: bool) -> End {
        tracing::warn!(deserted, silence_ms = MODEL_SILENCE_MS, "the model's answer was cut off");
        match self.tenure.workplace {
            _ if deserted => End::Cancelled(CancelledBy::Gone),
            Workplace::FollowUpWorker if self.first_text_at.is_some() => End::Stopped(StopReason::Deadline),
            Workplace::FollowUpWorker | Workplace::Message => End::HandedOver,
        }
    }

    /// The next journal write: the one not confirmed, again, or a new one. It says who has the turn after it, which is
    /// the owner unless told otherwise.
    fn next_write(&mut self, hold: Option<Hold>, outcome: Option<Outcome>) -> JournalWrite {
        if let Some(unconfirmed) = &self.unconfirmed {
            return unconfirmed.write.clone();
        }
        let sent = Moment::now(self.ports.clock());
        self.writes += 1;
        let write = JournalWrite {
            turn_id: self.tenure.request.turn_id.clone(),
            epoch: self.log.epoch(),
            writer: self.writer.clone(),
            number: self.writes,
            frames: self.log.unjournaled(),
            hold: hold.unwrap_or(Hold::Leased { until: sent.lease_until() }),
            outcome,
            now: sent.unix_ms,
        };
        self.unconfirmed = Some(Unconfirmed { write: write.clone(), sent, frames: self.log.len() });
        write
    }

    /// Takes note of what became of the last write: the journal if it is durable. Connections that subscribed since the
    /// write before were replayed what was durable then, and get the rest from here.
    fn learn(&mut self, outcome: Result<JournalOutcome, Unavailable>) -> Result<Option<TurnJournal>, Fenced> {
        let journal = match outcome {
            Ok(JournalOutcome::Written(journal)) => journal,
            Ok(JournalOutcome::Fenced(_)) => {
                tracing::warn!(turn_id = %self.tenure.request.turn_id, epoch = self.log.epoch(), "the turn is not ours any more");
                return Err(Fenced);
            }
            Err(error) => {
                log_failure("journal write", &error);
                return Ok(None);
            }
        };
        let before = self.log.journaled();
        if let Some(Unconfirmed { sent, frames, .. }) = self.unconfirmed.take() {
            self.log.mark_journaled(frames);
            self.outbox.renew(sent);
        }
        for connection in &journal.subscribers {
            if !self.outbox.has_served(connection) {
                let missed = self.log.frames_between(before, self.posted);
                let frames = missed.iter().filter_map(|frame| self.encode(frame)).collect();
                self.outbox.add(connection.clone(), frames);
            }
        }
        Ok(Some(journal))
    }

    /// Writes until all frames are durable and the turn is as told; the journal then, none if the turn is not ours.
    async fn write_all(
        &mut self,
        hold: Option<Hold>,
        outcome: Option<Outcome>,
    ) -> Result<Option<TurnJournal>, Unavailable> {
        let clock = self.ports.clock();
        let patience = clock.now_ms() + SETTLE_BUDGET_MS;
        loop {
            let write = self.next_write(hold, outcome.clone());
            let written = alongside(&mut self.outbox, self.ports.turns().journal(&write)).await;
            let written = match written {
                Err(error) if clock.now_ms() >= patience => return Err(error),
                written => written,
            };
            match self.learn(written) {
                Err(Fenced) => return Ok(None),
                Ok(Some(journal)) if self.log.journaled() == self.log.len() => return Ok(Some(journal)),
                Ok(Some(_)) => {}
                Ok(None) => alongside(&mut self.outbox, clock.sleep_until(clock.now_ms() + SETTLE_RETRY_MS)).await,
            }
        }
    }

    /// Ends the turn: stores its end, then frees the conversation, then tells.
    async fn settle(
        mut self,
        state: TurnState,
        event: impl FnOnce(Latency, Usage) -> ServerEvent,
    ) -> Result<Answered, Unavailable> {
        let Self { ports, tenure: Tenure { request, .. }, usage, .. } = self;
        let intent = self.route.intent;
        let now = ports.clock().now_ms();
        let latency = Latency {
            first_token_ms: self.first_text_at.map_or(0, |at| at.saturating_sub(request.asked_at)),
            total_ms: now.saturating_sub(request.asked_at),
        };
        let last = self.log.push(now, event(latency, usage));
        let Some(journal) = self.write_all(None, Some(Outcome { state, usage })).await? else {
            return Ok(Answered::NotOurs);
        };
        // The outcome is stored: what fails from here on is done by whoever finds the turn.
        let turn = StoredTurn { request: request.clone(), journal };
        let grant = self.grant.take();
        let concluding = async { join!(settle::conclude(ports, &turn), settle_tokens(ports, grant, usage)) };
        if let (Err(error), ()) = alongside(&mut self.outbox, concluding).await {
            log_failure("freeing the conversation", &error);
        }
        self.post_last(&last).await;
        if self.first_text_at.is_some() && self.log.epoch() == 1 {
            ports.metrics().record(Measure::first_token_ms(latency.first_token_ms));
        }
        tracing::info!(
            turn_id = %request.turn_id,
            ?intent,
            ?state,
            epoch = self.log.epoch(),
            first_token_ms = latency.first_token_ms,
            total_ms = latency.total_ms,
            input_tokens = usage.input_tokens,
            output_tokens = usage.output_tokens,
            frames = self.log.len(),
            "turn ended"
        );
        Ok(Answered::Settled)
    }

    /// Leaves the turn to the follow-up queue, and tells. First the queue, then the journal: an owner that dies between the
    /// two leaves a lease that lapses and a task that waits for that. A queue that does not take it fails the turn.
    async fn hand_over(mut self) -> Result<Answered, Unavailable> {
        let Self { ports, tenure: Tenure { request, workplace, .. }, .. } = self;
        let clock = ports.clock();
        if workplace == Workplace::Message {
            let task = Task::Finish { turn_id: request.turn_id.clone(), epoch: self.log.epoch() };
            if let Err(error) = alongside(&mut self.outbox, ports.queues().send(&task, HAND_OVER_DELAY_MS)).await {
                log_failure("handing over", &error);
                let failed = settle::failed(ErrorCode::Unavailable, request.locale);
                return self.settle(TurnState::Failed, |_, _| failed).await;
            }
        }
        if let Some(grant) = self.grant.take() {
            let tokens = settle_tokens(ports, Some(grant), self.usage);
            alongside(&mut self.outbox, tokens).await;
        }
        let now = clock.now_ms();
        let message = queued_text(request.locale).to_owned();
        let last = self.log.push(now, ServerEvent::TurnQueued(TurnQueued { message }));
        let Some(journal) = self.write_all(Some(Hold::Queued { since: now }), None).await? else {
            return Ok(Answered::NotOurs);
        };
        self.post_last(&last).await;
        if journal.cancel_asked {
            // Asked for while the turn was handed over: nobody need wait for the queue to hear of it.
            settle::cancel(ports, StoredTurn { request: request.clone(), journal }).await?;
            return Ok(Answered::Settled);
        }
        tracing::info!(turn_id = %request.turn_id, epoch = self.log.epoch(), "turn was queued");
        Ok(Answered::Queued)
    }

    /// Posts a frame that had to be durable first, and what still waits. A client that reads too slowly for this resumes
    /// from the journal.
    async fn post_last(&mut self, last: &TurnFrame) {
        self.post(last);
        let clock = self.ports.clock();
        let patience = pin!(clock.sleep_until(clock.now_ms() + FLUSH_BUDGET_MS));
        select(pin!(self.outbox.flush()), patience).await;
    }
}

/// Pause between two attempts to store a turn's end, ms.
const SETTLE_RETRY_MS: u64 = 100;

/// Does some work while frames go out.
async fn alongside<T, S: ConnectionSender, C: Clock>(
    outbox: &mut Outbox<'_, S, C>,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work.fuse());
    loop {
        select_biased! {
            done = work => return done,
            () = outbox.progress().fuse() => {}
        }
    }
}

/// What has to be known before anything is said: what the store says, and whether a person will take the conversation on.
async fn prepare<P: Ports>(ports: &P, request: &TurnRequest, past: &Past, route: &Route) -> (Gathered, bool) {
    let escalating = async { route.intent == Intent::Escalation && escalate(ports, request, past).await };
    let TurnRequest { principal, conversation_id, text, product_id, .. } = request;
    join!(gather(ports, principal, conversation_id, text, route, product_id.as_ref()), escalating)
}

/// An answer in fixed words, as a model would give it.
fn fixed<'p>(text: Option<String>, reason: StopReason) -> Answers<'p> {
    let said = text.map(ModelEvent::Text).into_iter().chain([ModelEvent::Stopped(reason)]);
    Box::pin(stream::iter(said.map(Ok)).fuse())
}

/// Gives back what a model was granted and did not use. An answer that was broken off does not say what it cost: then nothing
/// is given back.
async fn settle_tokens<P: Ports>(ports: &P, grant: Option<Grant>, usage: Usage) {
    let used = usage.input_tokens + usage.output_tokens;
    if let Some(grant) = grant.filter(|_| used > 0) {
        brown_out::settle(ports, &grant, used).await;
        ports.metrics().record(Measure::tokens(used));
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
