//! What becomes of dead letters: messages that their queue delivered again and again and then gave up on.
//!
//! A letter is redriven, quarantined, or dropped because its work is done or of no use any more. In each case the effect is
//! acknowledged before the letter is deleted: a run that dies in between has the letter come back and does the same again.
//! How often a message was redriven travels with it; what a queue was halted for is stored.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::TurnId;
use crate::limits::{
    GIVE_BACKS_AT_ONCE_MAX, REDRIVE_FAILURES_MAX, REDRIVE_HALT_MS, REDRIVE_LETTERS_MAX, REDRIVE_RUN_MS, REDRIVES_MAX,
    REDRIVES_PER_SECOND_MAX, REFAILURES_MAX, REMINDER_AGE_MAX_MS, TURN_AGE_MAX_MS,
};
use crate::ports::{Clock as _, DeadLetter, DeadLetters, QueueName, Task, TurnPorts, TurnStore as _, Unavailable};
use crate::protocol::{ErrorCode, TurnState};
use crate::settle;
use crate::takeover::is_spent;
use crate::turn::{Phase, StoredTurn};

/// Time between two messages that are redriven to one queue, ms.
const REDRIVE_PAUSE_MS: u64 = 1_000_u64.div_ceil(REDRIVES_PER_SECOND_MAX);

/// The kinds of [`Task`], as they are written in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// See whether an owner is alive.
    Watch,
    /// Finish a turn.
    Finish,
    /// A turn has ended.
    TurnEnded,
    /// Send a follow-up message.
    Remind,
}

impl TaskKind {
    fn of(task: &Task) -> Self {
        match task {
            Task::Watch { .. } => Self::Watch,
            Task::Finish { .. } => Self::Finish,
            Task::TurnEnded(_) => Self::TurnEnded,
            Task::Remind { .. } => Self::Remind,
        }
    }

    fn queue(self) -> QueueName {
        match self {
            Self::Watch => QueueName::Watchdog,
            Self::Finish | Self::TurnEnded | Self::Remind => QueueName::FollowUp,
        }
    }
}

/// What a run is asked to do. Without a word: everything, on all queues.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedriveRequest {
    /// Only say what would become of the letters. All of them are given back, and nothing else is changed.
    pub dry_run: bool,
    /// Whose dead letters.
    pub queues: BTreeSet<QueueName>,
    /// Letters of each queue to take up, those of the wrong kind not counted; 1 to [`REDRIVE_LETTERS_MAX`].
    pub max_messages: u32,
    /// Take up the letters of a halted queue, and do not halt it.
    pub force: bool,
    /// Tasks to take up; letters of other kinds, and those that are no task, are given back. None: every letter.
    pub kinds: Option<BTreeSet<TaskKind>>,
}

impl Default for RedriveRequest {
    fn default() -> Self {
        Self {
            dry_run: false,
            queues: BTreeSet::from([QueueName::FollowUp, QueueName::Watchdog]),
            max_messages: REDRIVE_LETTERS_MAX,
            force: false,
            kinds: None,
        }
    }
}

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is no object.
    #[error("the payload is no JSON object")]
    NotAnObject,
    /// A field is unknown, or its value is not one it may have.
    #[error("the payload is malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Too few or too many.
    #[error("max_messages must be 1 to {REDRIVE_LETTERS_MAX}")]
    MaxMessages,
    /// A list without a member.
    #[error("{0} is empty: leave it out to mean all")]
    Empty(&'static str),
}

impl RedriveRequest {
    /// Reads the event of an invocation: an operator's request, or a schedule's event, which asks for everything.
    ///
    /// # Errors
    /// When an operator's request cannot be meant as it is written.
    pub fn from_event(event: &Value) -> Result<Self, RequestError> {
        let event = event.as_object().ok_or(RequestError::NotAnObject)?;
        if event.contains_key("detail-type") || event.get("source").is_some_and(|source| source == "aws.events") {
            return Ok(Self::default());
        }
        let request = Self::deserialize(event)?;
        if !(1..=REDRIVE_LETTERS_MAX).contains(&request.max_messages) {
            return Err(RequestError::MaxMessages);
        }
        if request.queues.is_empty() {
            return Err(RequestError::Empty("queues"));
        }
        if request.kinds.as_ref().is_some_and(BTreeSet::is_empty) {
            return Err(RequestError::Empty("kinds"));
        }
        Ok(request)
    }
}

/// What is found out about a letter, and why that becomes of it what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Nothing speaks against another attempt.
    Transient,
    /// Its turn has ended; its conversation is still to be freed or its end to be published.
    EndIncomplete,
    /// Its turn has ended and its conversation is free.
    TurnEnded,
    /// Its turn has a later owner, which has a watchdog of its own.
    OwnerSuperseded,
    /// Its turn had all the time, or all the owners, it may have and is ended as failed. A watchdog's letter is sent on, to
    /// have that published.
    TurnExpired,
    /// Its turn was not recorded in all the time a turn may have: it was never accepted.
    NeverAccepted,
    /// The reminder was due long ago.
    ReminderExpired,
    /// Not a task.
    Malformed,
    /// A task of a kind this version does not know.
    UnknownKind,
    /// A task of another queue.
    Misplaced,
    /// Its consumer said that it will never do it.
    Refused,
    /// It was redriven as often as it may be.
    RedrivesExhausted,
    /// Its turn has a living owner: to be decided once that is done.
    OwnerAlive,
    /// Of a kind that was not asked for.
    Filtered,
    /// The queue was halted.
    Halted,
    /// More than were asked for, or than the run got through.
    OutOfBounds,
    /// Something did not answer.
    Unavailable,
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Sent to its queue again.
    Redriven,
    /// Stored with its reason, for people to look at.
    Quarantined,
    /// Dropped: its work was done by others.
    Duplicate,
    /// Dropped: its work is of no use any more.
    Expired,
    /// Left where it is.
    GivenBack,
}

impl Reason {
    /// What becomes of the letter.
    pub fn fate(self) -> Fate {
        match self {
            Self::Transient | Self::EndIncomplete => Fate::Redriven,
            Self::TurnEnded | Self::OwnerSuperseded => Fate::Duplicate,
            Self::TurnExpired | Self::NeverAccepted | Self::ReminderExpired => Fate::Expired,
            Self::Malformed | Self::UnknownKind | Self::Misplaced | Self::Refused | Self::RedrivesExhausted => {
                Fate::Quarantined
            }
            Self::OwnerAlive | Self::Filtered | Self::Halted | Self::OutOfBounds | Self::Unavailable => Fate::GivenBack,
        }
    }
}

/// A message that no consumer can use, kept for people to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The queue that gave it up.
    pub queue: QueueName,
    /// Its id among the dead letters.
    pub message_id: String,
    /// Why nobody can use it.
    pub reason: Reason,
    /// What its consumer said, if it refused it.
    pub refusal: Option<String>,
    /// The whole body, as it was sent; at most 1 MiB, as SQS takes it.
    pub payload: String,
    /// The turn it is about, if it names one.
    pub turn_id: Option<TurnId>,
    /// When it was first sent, Unix milliseconds.
    pub first_sent_at: u64,
    /// How often it was redriven.
    pub redrives: u32,
    /// Unix milliseconds.
    pub quarantined_at: u64,
}

/// Where poison is kept, for [`QUARANTINE_LIFE_MS`](crate::limits::QUARANTINE_LIFE_MS).
pub trait Quarantine: Send + Sync {
    /// Stores a message under its queue and id; the same message again is the same entry.
    fn put(&self, entry: &Quarantined) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What runs remember of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedriveState {
    /// Until when scheduled runs leave the queue alone, Unix milliseconds.
    pub halted_until: Option<u64>,
    /// Redriven messages that were found dead again, since a run ended well.
    pub refailures: u32,
}

/// What runs remember of the queues, so that one that died does not begin to count anew.
pub trait RedriveStates: Send + Sync {
    /// What is remembered of a queue; the default if nothing is.
    fn state(&self, queue: QueueName) -> impl Future<Output = Result<RedriveState, Unavailable>> + Send;

    /// Remembers this instead.
    fn set_state(&self, queue: QueueName, state: &RedriveState)
    -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// What became of the letters of one queue; in a dry run, what would have.
///
/// Of those received each is counted once among redriven, quarantined, duplicates, expired and given back, and once among
/// the reasons.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct QueueReport {
    /// Letters looked at.
    pub received: u32,
    /// Sent to their queue again.
    pub redriven: u32,
    /// Stored as poison.
    pub quarantined: u32,
    /// Dropped, because others did the work.
    pub duplicates: u32,
    /// Dropped, because the work is of no use any more.
    pub expired: u32,
    /// Left among the dead letters.
    pub given_back: u32,
    /// Of those given back: of a kind that was not asked for.
    pub skipped: u32,
    /// Redriven before, and dead again.
    pub refailed: u32,
    /// Turns ended as failed, whose shoppers were told.
    pub turns_failed: u32,
    /// Until when scheduled runs leave the queue alone, Unix milliseconds, if they do.
    pub halted_until: Option<u64>,
    /// What did not answer, if the run ended early for it.
    pub unavailable: Option<&'static str>,
    /// How long it took, ms.
    pub duration_ms: u64,
    /// Why, by number of letters.
    pub reasons: BTreeMap<Reason, u32>,
}

/// What a run did; in a dry run, what it would have done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RedriveReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// By queue.
    pub queues: BTreeMap<QueueName, QueueReport>,
}

/// Looks after dead letters.
#[derive(Debug, Clone)]
pub struct Redriver<P, D, Q> {
    /// Turns, and how to end them.
    pub ports: P,
    /// The dead letters.
    pub dead_letters: D,
    /// Where poison is kept, and what is remembered of queues.
    pub quarantine: Q,
}

impl<P: TurnPorts, D: DeadLetters, Q: Quarantine + RedriveStates> Redriver<P, D, Q> {
    /// Takes up dead letters, for at most [`REDRIVE_RUN_MS`]; no queue waits for another. What does not answer is logged
    /// and counted, and its letters are left where they are.
    pub async fn run(&self, request: &RedriveRequest) -> RedriveReport {
        let runs = request.queues.iter().map(async |&queue| (queue, Run::new(self, queue, request).report().await));
        RedriveReport { dry_run: request.dry_run, queues: join_all(runs).await.into_iter().collect() }
    }
}

/// What a letter deserves.
struct Judgement {
    reason: Reason,
    /// Whether its message is to be sent again.
    redrive: bool,
    /// Whether it was redriven and is dead again for no fault of its own.
    refailed: bool,
    /// Its turn, if that is to be ended as failed.
    to_fail: Option<StoredTurn>,
    /// The turn it names.
    turn_id: Option<TurnId>,
}

impl Judgement {
    fn new(reason: Reason) -> Self {
        let redrive = reason.fate() == Fate::Redriven;
        Self { reason, redrive, refailed: false, to_fail: None, turn_id: None }
    }
}

/// A task, or why it is none.
fn read(body: &str) -> Result<Task, Reason> {
    serde_json::from_str(body).map_err(|_| {
        let json: Option<Value> = serde_json::from_str(body).ok();
        match json.as_ref().and_then(|json| json.get("kind")).filter(|kind| kind.is_string()) {
            Some(kind) if TaskKind::deserialize(kind).is_err() => Reason::UnknownKind,
            _known_or_none => Reason::Malformed,
        }
    })
}

/// A run over one queue.
struct Run<'r, P, D, Q> {
    redriver: &'r Redriver<P, D, Q>,
    queue: QueueName,
    request: &'r RedriveRequest,
    /// On the monotonic clock.
    begun_at: u64,
    state: RedriveState,
    stopped: bool,
    failures: u32,
    /// When the next message may be sent, Unix milliseconds.
    next_redrive_at: u64,
    /// Receipts of letters to be given back: only in the end, or this run would receive them again.
    held: Vec<String>,
    report: QueueReport,
}

impl<'r, P: TurnPorts, D: DeadLetters, Q: Quarantine + RedriveStates> Run<'r, P, D, Q> {
    fn new(redriver: &'r Redriver<P, D, Q>, queue: QueueName, request: &'r RedriveRequest) -> Self {
        Self {
            redriver,
            queue,
            request,
            begun_at: redriver.ports.clock().monotonic_ms(),
            state: RedriveState::default(),
            stopped: false,
            failures: 0,
            next_redrive_at: 0,
            held: Vec::new(),
            report: QueueReport::default(),
        }
    }

    async fn report(mut self) -> QueueReport {
        if let Err(error) = self.work().await {
            tracing::error!(queue = ?self.queue, error = &error as &dyn std::error::Error, "dead letters were not taken up");
            self.report.unavailable = Some(error.operation);
        }
        self.give_back().await;
        self.report.duration_ms = self.elapsed_ms();
        self.report
    }

    fn elapsed_ms(&self) -> u64 {
        self.redriver.ports.clock().monotonic_ms().saturating_sub(self.begun_at)
    }

    fn is_over(&self) -> bool {
        let QueueReport { received, skipped, .. } = self.report;
        let is_full = received >= REDRIVE_LETTERS_MAX || received - skipped >= self.request.max_messages;
        self.stopped || is_full || self.elapsed_ms() >= REDRIVE_RUN_MS
    }

    /// Whether halts count.
    fn is_guarded(&self) -> bool {
        !self.request.force && !self.request.dry_run
    }

    async fn work(&mut self) -> Result<(), Unavailable> {
        let Redriver { ports, dead_letters, quarantine } = self.redriver;
        self.state = quarantine.state(self.queue).await?;
        self.report.halted_until = self.state.halted_until.filter(|until| *until > ports.clock().now_ms());
        if self.report.halted_until.is_some() && self.is_guarded() {
            return Ok(());
        }
        while !self.is_over() {
            let letters = dead_letters.receive(self.queue).await?;
            if letters.is_empty() {
                break;
            }
            let judgements = join_all(letters.iter().map(|letter| self.judge(letter))).await;
            for (letter, judgement) in letters.into_iter().zip(judgements) {
                self.treat(letter, judgement).await;
            }
        }
        if self.is_guarded() && !self.stopped && self.state.refailures > 0 {
            quarantine.set_state(self.queue, &RedriveState::default()).await?;
        }
        Ok(())
    }

    /// Finds out what a letter deserves; changes nothing.
    async fn judge(&self, letter: &DeadLetter) -> Result<Judgement, Unavailable> {
        let ports = &self.redriver.ports;
        let task = read(&letter.body);
        let is_wanted = |kinds: &BTreeSet<_>| task.as_ref().is_ok_and(|task| kinds.contains(&TaskKind::of(task)));
        if !self.request.kinds.as_ref().is_none_or(is_wanted) {
            return Ok(Judgement::new(Reason::Filtered));
        }
        let task = match task {
            Ok(task) => task,
            Err(reason) => return Ok(Judgement::new(reason)),
        };
        let turn_id = match &task {
            Task::Watch { turn_id, .. } | Task::Finish { turn_id, .. } => Some(turn_id.clone()),
            Task::TurnEnded(_) | Task::Remind { .. } => None,
        };
        let turn = match &turn_id {
            Some(turn_id) => ports.turns().turn(turn_id).await?,
            None => None,
        };
        let now = ports.clock().now_ms();
        let age_ms = now.saturating_sub(letter.first_sent_at);
        let kind = TaskKind::of(&task);
        let superseded = matches!((&task, &turn), (Task::Watch { epoch, .. }, Some(turn)) if turn.epoch() > *epoch);
        let phase = turn.as_ref().map(|turn| turn.phase(now));

        let reason = if letter.reason.is_some() {
            Reason::Refused
        } else if kind.queue() != self.queue {
            Reason::Misplaced
        } else {
            match (kind, &turn) {
                (TaskKind::TurnEnded, _) => Reason::Transient,
                (TaskKind::Remind, _) if age_ms >= REMINDER_AGE_MAX_MS => Reason::ReminderExpired,
                (TaskKind::Remind, _) => Reason::Transient,
                (TaskKind::Watch | TaskKind::Finish, None) if age_ms >= TURN_AGE_MAX_MS => Reason::NeverAccepted,
                (TaskKind::Watch | TaskKind::Finish, None) => Reason::Transient,
                (TaskKind::Watch | TaskKind::Finish, Some(turn)) if phase == Some(Phase::Ended) => {
                    match kind == TaskKind::Watch || self.is_held(turn).await? {
                        true => Reason::EndIncomplete,
                        false => Reason::TurnEnded,
                    }
                }
                (TaskKind::Watch | TaskKind::Finish, Some(_)) if superseded => Reason::OwnerSuperseded,
                (TaskKind::Watch | TaskKind::Finish, Some(turn)) if is_spent(turn, now) => Reason::TurnExpired,
                (TaskKind::Watch | TaskKind::Finish, Some(_)) => Reason::Transient,
            }
        };

        let mut judgement = Judgement { turn_id, ..Judgement::new(reason) };
        judgement.redrive |= reason == Reason::TurnExpired && kind == TaskKind::Watch;
        judgement.refailed = judgement.redrive && letter.redrives > 0;
        if judgement.redrive && letter.redrives >= REDRIVES_MAX {
            judgement.reason = Reason::RedrivesExhausted;
            judgement.redrive = false;
        }
        let given_up = judgement.reason == Reason::TurnExpired || judgement.reason.fate() == Fate::Quarantined;
        if given_up && !superseded {
            match phase {
                Some(Phase::Live { .. }) => return Ok(Judgement::new(Reason::OwnerAlive)),
                Some(Phase::Lapsed | Phase::Queued { .. }) => judgement.to_fail = turn,
                Some(Phase::Ended) | None => {}
            }
        }
        Ok(judgement)
    }

    /// Whether an ended turn still holds its conversation.
    async fn is_held(&self, turn: &StoredTurn) -> Result<bool, Unavailable> {
        let found = self.redriver.ports.turns().conversation(&turn.request.conversation_id, 0).await?;
        let lock = found.and_then(|(conversation, _)| conversation.lock);
        Ok(lock.is_some_and(|lock| lock.turn_id == turn.request.turn_id))
    }

    /// Gives a letter what it deserves, unless the run is over, and counts it.
    async fn treat(&mut self, letter: DeadLetter, judgement: Result<Judgement, Unavailable>) {
        let treated = match judgement {
            Ok(judgement) if !self.is_over() => self.carry_out(&letter, judgement).await,
            Ok(_) if self.report.halted_until.is_some() && self.is_guarded() => Ok(Reason::Halted),
            Ok(_) => Ok(Reason::OutOfBounds),
            Err(error) => Err(error),
        };
        let reason = treated.unwrap_or_else(|error| {
            let message_id = &letter.message_id;
            tracing::warn!(queue = ?self.queue, message_id, error = &error as &dyn std::error::Error, "dead letter was left");
            self.failures += 1;
            if self.failures > REDRIVE_FAILURES_MAX {
                self.stopped = true;
                self.report.unavailable = Some(error.operation);
            }
            Reason::Unavailable
        });
        let report = &mut self.report;
        report.received += 1;
        *report.reasons.entry(reason).or_default() += 1;
        match reason.fate() {
            Fate::Redriven => report.redriven += 1,
            Fate::Quarantined => report.quarantined += 1,
            Fate::Duplicate => report.duplicates += 1,
            Fate::Expired => report.expired += 1,
            Fate::GivenBack => report.given_back += 1,
        }
        if reason == Reason::Filtered {
            report.skipped += 1;
        }
        if self.request.dry_run || reason.fate() == Fate::GivenBack {
            self.held.push(letter.receipt);
        }
    }

    /// Does what was judged, the deletion last; answers what it came to.
    async fn carry_out(&mut self, letter: &DeadLetter, judgement: Judgement) -> Result<Reason, Unavailable> {
        let Redriver { ports, dead_letters, quarantine } = self.redriver;
        let Judgement { reason, redrive, refailed, to_fail, turn_id } = judgement;
        if refailed && self.halts().await? {
            return Ok(Reason::Halted);
        }
        if reason.fate() == Fate::GivenBack {
            return Ok(reason);
        }
        if self.request.dry_run {
            self.report.turns_failed += u32::from(to_fail.is_some());
            return Ok(reason);
        }
        if let Some(turn) = to_fail {
            match settle::fail(ports, turn, ErrorCode::Unavailable).await?.state() {
                // It has got an owner since it was judged.
                TurnState::Running => return Ok(Reason::OwnerAlive),
                TurnState::Failed => self.report.turns_failed += 1,
                TurnState::Completed | TurnState::Cancelled => {}
            }
        }
        if redrive {
            self.pace().await;
            dead_letters.redrive(self.queue, letter).await?;
        }
        if reason.fate() == Fate::Quarantined {
            let message_id = &letter.message_id;
            tracing::warn!(queue = ?self.queue, message_id, ?reason, "dead letter is quarantined");
            let entry = Quarantined {
                queue: self.queue,
                message_id: letter.message_id.clone(),
                reason,
                refusal: letter.reason.clone(),
                payload: letter.body.clone(),
                turn_id,
                first_sent_at: letter.first_sent_at,
                redrives: letter.redrives,
                quarantined_at: ports.clock().now_ms(),
            };
            quarantine.put(&entry).await?;
        }
        dead_letters.delete(self.queue, &letter.receipt).await?;
        Ok(reason)
    }

    /// Counts a message that was redriven and is dead again; whether that halts the queue.
    async fn halts(&mut self) -> Result<bool, Unavailable> {
        self.report.refailed += 1;
        if !self.is_guarded() {
            return Ok(false);
        }
        let quarantine = &self.redriver.quarantine;
        if self.state.refailures < REFAILURES_MAX {
            self.state.refailures += 1;
            quarantine.set_state(self.queue, &self.state).await?;
            return Ok(false);
        }
        let until = self.redriver.ports.clock().now_ms() + REDRIVE_HALT_MS;
        self.stopped = true;
        quarantine.set_state(self.queue, &RedriveState { halted_until: Some(until), refailures: 0 }).await?;
        self.report.halted_until = Some(until);
        tracing::error!(queue = ?self.queue, until, "redriven messages fail again: the queue is halted");
        Ok(true)
    }

    /// Waits until a message may be sent.
    async fn pace(&mut self) {
        let clock = self.redriver.ports.clock();
        clock.sleep_until(self.next_redrive_at).await;
        self.next_redrive_at = clock.now_ms() + REDRIVE_PAUSE_MS;
    }

    /// Has the letters that stay reappear. One that does not will by itself.
    async fn give_back(&mut self) {
        let (dead_letters, queue) = (&self.redriver.dead_letters, self.queue);
        stream::iter(std::mem::take(&mut self.held))
            .map(async |receipt| {
                if let Err(error) = dead_letters.give_back(queue, &receipt).await {
                    tracing::warn!(?queue, error = &error as &dyn std::error::Error, "dead letter was not given back");
                }
            })
            .buffer_unordered(GIVE_BACKS_AT_ONCE_MAX)
            .collect::<()>()
            .await;
    }
}
