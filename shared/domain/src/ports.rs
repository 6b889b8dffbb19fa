//! What the rules need of the world, one trait for each thing that fails on its own.

use std::collections::HashMap;
use std::error::Error;

use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::breaker::{Hint, Upstream};
use crate::ids::{ConnectionId, ConversationId, Principal, ProductId, SessionId, TurnId};
use crate::intent::Intent;
use crate::metrics::Metrics;
use crate::pages::StorePages;
use crate::prompt::Prompt;
use crate::protocol::{FollowUp, Locale, Rating, ServerEvent, StopReason, TurnState, Usage};
use crate::store::{Article, Order, Product, Promotion, Recommendation, Review};
use crate::turn::{Exchange, Hold, Outcome, StoredTurn, Summary, TurnFrame, TurnJournal, TurnRequest};

/// Something outside did not do what was asked, after the retries its adapter makes. It reads as the whole chain of causes,
/// for logs; clients get fixed texts.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed: {}", causes(&**source))]
pub struct Unavailable {
    /// What was asked, for logs.
    pub operation: &'static str,
    /// Why it failed.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// An error and what caused it, in one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", causes(cause)),
        None => error.to_string(),
    }
}

/// A conversation, without its turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Whose it is.
    pub owner: Principal,
    /// Turns it has had; the number of the newest.
    pub turns: u64,
    /// Which turn holds its lock.
    pub lock: Option<HeldLock>,
    /// What was said before the newest exchanges, if that is long enough to be summed up.
    pub summary: Option<Summary>,
}

/// The turn that holds a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLock {
    /// The turn.
    pub turn_id: TurnId,
    /// If it has no record by then, it was never accepted; Unix milliseconds.
    pub lease_until: u64,
}

/// A request for a conversation's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRequest {
    /// Which conversation.
    pub conversation_id: ConversationId,
    /// Whose it is, or will be.
    pub owner: Principal,
    /// Which turn will hold it.
    pub turn_id: TurnId,
    /// The turn's number: one more than the conversation has had when its history was read.
    pub number: u64,
    /// The lock's holder when it was read, which may be replaced.
    pub replaces: Option<TurnId>,
    /// Unix milliseconds.
    pub lease_until: u64,
    /// The name of this attempt: an acknowledgement that was lost is found again by it.
    pub attempt: String,
    /// Unix milliseconds.
    pub now: u64,
}

/// What became of a request for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockOutcome {
    /// The turn holds the conversation and has its number.
    Locked,
    /// The conversation is not as it was read: read again.
    Changed,
}

/// What became of a turn's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOutcome {
    /// Durable.
    Recorded,
    /// The turn had been recorded by somebody else.
    Exists,
}

/// One write of a turn's owner to its journal: it claims the turn with a new epoch, renews the lease, appends what became
/// frames since the last, or ends the turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalWrite {
    /// Which turn.
    pub turn_id: TurnId,
    /// The owner's.
    pub epoch: u64,
    /// The owner's name: two that claim one epoch are told apart by it.
    pub writer: String,
    /// The owner's writes are numbered from 1: one that was acknowledged to nobody is found again by its number.
    pub number: u64,
    /// To be appended.
    pub frames: Vec<TurnFrame>,
    /// Who has the turn after this write, while it goes on.
    pub hold: Hold,
    /// Set by the last write.
    pub outcome: Option<Outcome>,
    /// Unix milliseconds.
    pub now: u64,
}

/// What became of a journal write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalOutcome {
    /// Durable, once, however often it was sent; the journal after it.
    Written(TurnJournal),
    /// The turn has another owner, whose lease goes on or whose epoch is higher, or it has ended; the journal as it is.
    /// Nothing was written.
    Fenced(TurnJournal),
}

/// Conversations and their turns. Reads see every acknowledged write, except those that say otherwise.
pub trait TurnStore: Send + Sync {
    /// A turn, with what is durable of it.
    fn turn(&self, id: &TurnId) -> impl Future<Output = Result<Option<StoredTurn>, Unavailable>> + Send;

    /// A turn as it was a moment ago, at half the price: where it matters, a conditional write decides.
    fn glance(&self, id: &TurnId) -> impl Future<Output = Result<Option<StoredTurn>, Unavailable>> + Send;

    /// Which turn held a conversation a moment ago.
    fn holder(&self, id: &ConversationId) -> impl Future<Output = Result<Option<TurnId>, Unavailable>> + Send;

    /// A conversation with its newest exchanges, at most `exchanges_max`, newest first. They are read at the same moment
    /// as the conversation's `turns`, or later: none that was remembered by then is missing.
    fn conversation(
        &self,
        id: &ConversationId,
        exchanges_max: u32,
    ) -> impl Future<Output = Result<Option<(Conversation, Vec<Exchange>)>, Unavailable>> + Send;

    /// Locks a conversation for a turn, and makes the conversation with its first turn. Succeeds only if the conversation
    /// is the owner's, has had exactly `number - 1` turns and its lock is free or held by the turn to be replaced; and
    /// again for an attempt that had succeeded.
    fn lock(&self, request: &LockRequest) -> impl Future<Output = Result<LockOutcome, Unavailable>> + Send;

    /// Stores what was asked, once. The very same request is `Recorded` again: its number names the attempt.
    fn record(&self, request: &TurnRequest) -> impl Future<Output = Result<RecordOutcome, Unavailable>> + Send;

    /// Appends to a turn's journal and perhaps ends the turn. Fenced by the epoch; and a new epoch waits until
    /// [`TAKEOVER_MARGIN_MS`](crate::limits::TAKEOVER_MARGIN_MS) after the lease that the journal holds by then, which may
    /// have been renewed since it was read. Fenced, too, are frames that do not follow those the journal holds.
    fn journal(&self, write: &JournalWrite) -> impl Future<Output = Result<JournalOutcome, Unavailable>> + Send;

    /// Registers a connection that wants the turn's frames, once, and unless there are
    /// [`SUBSCRIBERS_MAX`](crate::limits::SUBSCRIBERS_MAX) others; answers the journal as of that moment in any case. The
    /// owner learns of it by its next journal write.
    fn subscribe(
        &self,
        id: &TurnId,
        connection: &ConnectionId,
        now: u64,
    ) -> impl Future<Output = Result<TurnJournal, Unavailable>> + Send;

    /// Asks a turn that goes on to end early. Its owner learns of it by its next journal write; answers the journal as of
    /// that moment.
    fn ask_to_cancel(&self, id: &TurnId, now: u64) -> impl Future<Output = Result<TurnJournal, Unavailable>> + Send;

    /// Makes an ended turn part of its conversation. May be done again with the same exchange; an exchange of another turn
    /// under the same number stays.
    fn remember(
        &self,
        id: &ConversationId,
        exchange: &Exchange,
        now: u64,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Frees a conversation, if that turn holds it.
    fn release(&self, id: &ConversationId, turn: &TurnId) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Replaces a conversation's summary, if this one goes further.
    fn summarise(
        &self,
        id: &ConversationId,
        summary: &Summary,
        now: u64,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Exchanges numbered below `before`, newest first, at most `exchanges_max`.
    fn exchanges(
        &self,
        id: &ConversationId,
        before: Option<u64>,
        exchanges_max: u32,
    ) -> impl Future<Output = Result<Vec<Exchange>, Unavailable>> + Send;

    /// The cards of ended turns.
    fn cards(
        &self,
        turns: &[TurnId],
    ) -> impl Future<Output = Result<HashMap<TurnId, Vec<ServerEvent>>, Unavailable>> + Send;

    /// Stores what the shopper thinks of an answer, over what they thought before.
    fn rate(
        &self,
        id: &TurnId,
        rating: Rating,
        comment: Option<&str>,
        now: u64,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// A connection, from `$connect` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// API Gateway's name of it.
    pub id: ConnectionId,
    /// Whom it speaks for.
    pub principal: Principal,
    /// The guest's session, or this connection's.
    pub session_id: SessionId,
    /// Unix milliseconds.
    pub connected_at: u64,
    /// When it counts as gone; Unix milliseconds.
    pub expires_at: u64,
}

/// What became of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// Known from now on.
    Registered,
    /// The principal holds as many as it may.
    TooMany,
}

/// Who is connected.
pub trait ConnectionStore: Send + Sync {
    /// Makes a connection known, unless its principal holds `per_principal_max` that have not expired.
    fn register(
        &self,
        connection: &Connection,
        per_principal_max: usize,
    ) -> impl Future<Output = Result<Registration, Unavailable>> + Send;

    /// Forgets a connection; one that is not known is forgotten already.
    fn forget(&self, id: &ConnectionId) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Keeps the language of a connection, if it is known.
    fn set_locale(&self, id: &ConnectionId, locale: Locale) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// The language of a connection, if one was kept.
    fn locale(&self, id: &ConnectionId) -> impl Future<Output = Result<Option<Locale>, Unavailable>> + Send;

    /// A principal's connections that have not expired; some of them may be gone.
    fn connections_of(
        &self,
        principal: &Principal,
    ) -> impl Future<Output = Result<Vec<ConnectionId>, Unavailable>> + Send;
}

/// What a token bucket limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BucketKey {
    /// A principal's messages.
    Messages(Principal),
    /// What a principal has shown again: resent messages and resumed turns.
    Replays(Principal),
    /// Orders that a shopper names.
    OrderLookups(Principal),
    /// New connections of a network address, by its digest: no address is stored.
    Connections(String),
}

/// A token to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeToken {
    /// From which bucket.
    pub key: BucketKey,
    /// When the bucket was to be full again as it was read, Unix milliseconds; none if it was not there.
    pub full_at_before: Option<u64>,
    /// When it is full again without the token, Unix milliseconds. The bucket may be forgotten from then on.
    pub full_at: u64,
    /// The name of this attempt: an acknowledgement that was lost is found again by it.
    pub attempt: String,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOutcome {
    /// It is taken.
    Taken,
    /// The bucket is not as it was read: when it is full again now, Unix milliseconds.
    Changed(Option<u64>),
}

/// Token buckets. The arithmetic is in [`bucket`](crate::bucket).
pub trait TokenBuckets: Send + Sync {
    /// When a bucket is full again, Unix milliseconds; none if it never was used.
    fn full_at(&self, key: &BucketKey) -> impl Future<Output = Result<Option<u64>, Unavailable>> + Send;

    /// Takes a token, if the bucket is as it was read; and again for an attempt that had succeeded.
    fn take(&self, token: &TakeToken) -> impl Future<Output = Result<TakeOutcome, Unavailable>> + Send;
}

/// Work for later. The queues deliver at least once, in no particular order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// See whether the owner of a turn is alive. On the watchdog's own queue.
    Watch {
        /// The turn.
        turn_id: TurnId,
        /// The owner.
        epoch: u64,
    },
    /// Finish a turn in that owner's place. On the follow-up queue, as all that follow.
    Finish {
        /// The turn.
        turn_id: TurnId,
        /// The owner that asks for it, or that is dead.
        epoch: u64,
    },
    /// A turn has ended after which there is something to do.
    TurnEnded(TurnEnded),
    /// Send a scheduled follow-up message that is due.
    Remind {
        /// Whom.
        principal: Principal,
        /// Which.
        follow_up_id: String,
    },
}

/// The queues.
pub trait TaskQueues: Send + Sync {
    /// Sends a task, to be delivered after a delay, ms; at most 15 minutes, in whole seconds, rounded up.
    fn send(&self, task: &Task, delay_ms: u64) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// A message that the store sends later, because the shopper asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledFollowUp {
    /// Its name: the same id is the same message, however often it is scheduled.
    pub follow_up_id: String,
    /// For whom.
    pub principal: Principal,
    /// When it is to be sent, Unix milliseconds.
    pub due_at: u64,
    /// What the client gets.
    pub message: FollowUp,
}

/// What became of a claim to deliver a follow-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// It is the claimant's to deliver.
    Claimed(ScheduledFollowUp),
    /// Somebody else is at it.
    Busy,
    /// It was delivered, or is not known.
    Done,
}

/// Follow-up messages and their schedule.
pub trait FollowUpStore: Send + Sync {
    /// Stores a follow-up and has its [`Task::Remind`] sent when it is due. May be done again.
    fn schedule(&self, follow_up: &ScheduledFollowUp) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// A principal's follow-ups that are due and not delivered, oldest first, at most `max`.
    fn due(
        &self,
        principal: &Principal,
        now: u64,
        max: u32,
    ) -> impl Future<Output = Result<Vec<ScheduledFollowUp>, Unavailable>> + Send;

    /// Claims the delivery of a follow-up until a time, Unix milliseconds; and again for an attempt that had succeeded.
    fn claim(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        now: u64,
        until: u64,
    ) -> impl Future<Output = Result<ClaimOutcome, Unavailable>> + Send;

    /// Ends a claim: delivered, or to be claimed by the next visit. Does nothing for a claim that was lost.
    fn finish(
        &self,
        principal: &Principal,
        follow_up_id: &str,
        attempt: &str,
        delivered: bool,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// Whom a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The shopper, as the store knows them.
    pub subject: String,
    /// Until when, Unix milliseconds.
    pub expires_at: u64,
}

/// Why a token does not admit its bearer.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Malformed, forged, expired, not yet valid, of another issuer or for another audience.
    #[error("the token is not valid")]
    Invalid(#[source] Box<dyn Error + Send + Sync>),
    /// The issuer's keys cannot be had: nothing can be said about the token.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Who issues shoppers' tokens.
pub trait IdentityProvider: Send + Sync {
    /// Verifies a token: signature, algorithm, issuer, audience, expiry and not-before.
    fn verify(&self, token: &str) -> impl Future<Output = Result<Identity, TokenError>> + Send;
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// API Gateway took it.
    Delivered,
    /// The connection is no more.
    Gone,
}

/// Frames to clients.
pub trait ConnectionSender: Send + Sync {
    /// Sends one frame, at most 28 KB.
    fn send(
        &self,
        connection: &ConnectionId,
        frame: String,
    ) -> impl Future<Output = Result<Delivery, Unavailable>> + Send;
}

/// What a model says while it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelEvent {
    /// More text.
    Text(String),
    /// It said all it will say.
    Stopped(StopReason),
    /// What it cost.
    Usage(Usage),
}

/// Why a model does not answer, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Too many requests or tokens: later may do.
    #[error("the model is throttled")]
    Throttled(#[source] Box<dyn Error + Send + Sync>),
    /// It is down, or broke off.
    #[error("the model is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// It does not take the request: asking again does not help.
    #[error("the model refused the request")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
}

/// Which of the models answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ModelChoice {
    /// The one that answers while nothing is wrong.
    #[default]
    Primary,
    /// The one that costs less.
    Cheaper,
}

impl ModelChoice {
    /// For metrics and keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Cheaper => "cheaper",
        }
    }
}

/// Tokens that were set aside for one call of a model. They come back with the next minute by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Of which model's budget.
    pub model: ModelChoice,
    /// Of which minute, counted from the Unix epoch.
    pub minute: u64,
    /// Of which part of the minute's budget.
    pub shard: u32,
    /// How many.
    pub tokens: u64,
}

/// What all environments together may ask of the models: so many tokens a minute, of each model.
pub trait TokenBudgets: Send + Sync {
    /// Sets tokens aside in the budget of the minute of `now`, Unix milliseconds; none if there are not so many left. What is
    /// set aside is never more than the budget.
    fn reserve(
        &self,
        model: ModelChoice,
        tokens: u64,
        now: u64,
    ) -> impl Future<Output = Result<Option<Reservation>, Unavailable>> + Send;

    /// Says what a call has used: the rest goes back while its minute lasts. Once for each reservation.
    fn settle(
        &self,
        reservation: &Reservation,
        used: u64,
        now: u64,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// A conversation that a person should take on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    /// The turn that asked for it: an escalation that is told twice has the same.
    pub turn_id: TurnId,
    /// Where it goes on.
    pub conversation_id: ConversationId,
    /// Whose it is.
    pub principal: Principal,
    /// What the shopper speaks.
    pub locale: Locale,
    /// What was said so far, in short; at most [`ESCALATION_SUMMARY_CHARS_MAX`](crate::limits::ESCALATION_SUMMARY_CHARS_MAX)
    /// characters.
    pub summary: String,
    /// Unix milliseconds.
    pub asked_at: u64,
}

/// The people who take conversations on.
pub trait Escalations: Send + Sync {
    /// Tells them.
    fn escalate(&self, escalation: &Escalation) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// The models.
pub trait LanguageModel: Send + Sync {
    /// Asks; the first poll sends the request. The stream ends after [`ModelEvent::Stopped`] and [`ModelEvent::Usage`],
    /// or with an error. Dropping it stops the model.
    fn answer(&self, prompt: Prompt) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send;

    /// Whether the primary model continues an answer that it is given the beginning of.
    fn accepts_prefill(&self) -> bool;
}

/// What the environments of a function tell one another, without waiting: what is read is as fresh as
/// [`HINTS_REFRESH_MS`](crate::limits::HINTS_REFRESH_MS), what is told arrives soon or never. Nothing depends on it.
pub trait SharedHints: Send + Sync {
    /// What other environments say of an upstream.
    fn breaker(&self, upstream: Upstream) -> Hint;

    /// Tells the others that the breaker of an upstream is open here, Unix milliseconds.
    fn opened(&self, upstream: Upstream, until: u64);

    /// When what is cached under a tag was last declared out of date, Unix milliseconds; 0 for never. Tags are those of
    /// [`store::tags`](crate::store::tags).
    fn invalidated_at(&self, tag: &str) -> u64;
}

/// The caches of all environments.
pub trait CacheInvalidations: Send + Sync {
    /// Declares what is cached under these tags out of date as of now, Unix milliseconds. An environment heeds it within
    /// [`HINTS_REFRESH_MS`](crate::limits::HINTS_REFRESH_MS).
    fn invalidate(&self, tags: &[String], now: u64) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// The store's services. Each call fails on its own, within [`SERVICE_CALL_MS`](crate::limits::SERVICE_CALL_MS).
pub trait StoreServices: Send + Sync {
    /// Products that match a question, best first.
    fn search(&self, query: &str, limit: usize) -> impl Future<Output = Result<Vec<Product>, Unavailable>> + Send;

    /// One product; none if there is no such.
    fn product(&self, id: &ProductId) -> impl Future<Output = Result<Option<Product>, Unavailable>> + Send;

    /// Recommendations for a shopper, or for anybody; best first. Another session of the same shopper is recommended afresh.
    fn recommendations(
        &self,
        shopper: Option<&str>,
        session: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Recommendation>, Unavailable>> + Send;

    /// What sells best: products for anybody.
    fn trending(&self, limit: usize) -> impl Future<Output = Result<Vec<Product>, Unavailable>> + Send;

    /// One order of a shopper; none if there is no such, or it is somebody else's.
    fn order(&self, shopper: &str, order_id: &str) -> impl Future<Output = Result<Option<Order>, Unavailable>> + Send;

    /// A shopper's orders, newest first.
    fn orders(&self, shopper: &str) -> impl Future<Output = Result<Vec<Order>, Unavailable>> + Send;

    /// Promotions that run now.
    fn promotions(&self) -> impl Future<Output = Result<Vec<Promotion>, Unavailable>> + Send;

    /// A product's newest reviews.
    fn reviews(&self, id: &ProductId, limit: usize) -> impl Future<Output = Result<Vec<Review>, Unavailable>> + Send;

    /// Help articles that match a question, best first.
    fn articles(&self, query: &str, limit: usize) -> impl Future<Output = Result<Vec<Article>, Unavailable>> + Send;
}

/// A turn has ended: told to whoever follows up or counts, at least once. Holds no text of the shopper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnEnded {
    /// The turn; an event that is told twice has the same.
    pub turn_id: TurnId,
    /// Its conversation.
    pub conversation_id: ConversationId,
    /// Its place in the conversation.
    pub number: u64,
    /// What it was about.
    pub intent: Intent,
    /// How it ended.
    pub state: TurnState,
    /// What it cost.
    pub usage: Usage,
    /// Unix milliseconds.
    pub ended_at: u64,
    /// Whether the follow-up worker has something to do for it.
    pub follow_up: bool,
}

/// Events about turns, to whoever listens.
pub trait TurnEvents: Send + Sync {
    /// Tells that a turn has ended.
    fn turn_ended(&self, event: &TurnEnded) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// Time.
pub trait Clock: Send + Sync {
    /// Unix milliseconds. May jump when the machine's clock is set.
    fn now_ms(&self) -> u64;

    /// Milliseconds since some moment, on a clock that never jumps: for leases.
    fn monotonic_ms(&self) -> u64;

    /// Waits until [`Self::now_ms`] is at least `at_ms`.
    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> + Send;
}

/// Names that nobody else has.
pub trait Nonces: Send + Sync {
    /// 128 random bits as text of at most 36 letters, digits and `-`.
    fn nonce(&self) -> String;
}

/// What it takes to end a turn in its owner's place, and to tell of it.
pub trait TurnPorts: Send + Sync {
    /// Conversations and turns.
    type Turns: TurnStore;
    /// Work for later.
    type Queues: TaskQueues;
    /// Frames to clients.
    type Sender: ConnectionSender;
    /// Time.
    type Clock: Clock;
    /// Names.
    type Nonces: Nonces;

    /// Conversations and turns.
    fn turns(&self) -> &Self::Turns;
    /// Work for later.
    fn queues(&self) -> &Self::Queues;
    /// Frames to clients.
    fn sender(&self) -> &Self::Sender;
    /// Time.
    fn clock(&self) -> &Self::Clock;
    /// Names.
    fn nonces(&self) -> &Self::Nonces;
}

/// What it takes to answer.
pub trait Ports: TurnPorts {
    /// Who is connected.
    type Connections: ConnectionStore;
    /// Token buckets.
    type Buckets: TokenBuckets;
    /// Follow-up messages.
    type FollowUps: FollowUpStore;
    /// The model.
    type Model: LanguageModel;
    /// The store's services.
    type Store: StoreServices;
    /// What may be asked of the models.
    type Budgets: TokenBudgets;
    /// The people who take conversations on.
    type Escalations: Escalations;
    /// What is counted.
    type Metrics: Metrics;

    /// Who is connected.
    fn connections(&self) -> &Self::Connections;
    /// Token buckets.
    fn buckets(&self) -> &Self::Buckets;
    /// Follow-up messages.
    fn follow_ups(&self) -> &Self::FollowUps;
    /// The model.
    fn model(&self) -> &Self::Model;
    /// The store's services.
    fn store(&self) -> &Self::Store;
    /// What may be asked of the models.
    fn budgets(&self) -> &Self::Budgets;
    /// Where the store's pages are.
    fn pages(&self) -> &StorePages;
    /// The people who take conversations on.
    fn escalations(&self) -> &Self::Escalations;
    /// What is counted.
    fn metrics(&self) -> &Self::Metrics;
}

/// A queue whose dead letters are looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueName {
    /// Turns to finish, and what follows turns.
    FollowUp,
    /// Owners to watch.
    Watchdog,
}

/// A message that its queue gave up on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message's id in the dead-letter queue.
    pub message_id: String,
    /// Needed to delete it or give it back.
    pub receipt: String,
    /// As it was sent.
    pub body: String,
    /// When it was first sent to its queue, Unix milliseconds; survives redriving.
    pub first_sent_at: u64,
    /// How often it was redriven.
    pub redrives: u32,
    /// Why its consumer refused it, if it said so.
    pub reason: Option<String>,
}

/// Dead-letter queues. A message that is neither deleted nor given back reappears by itself.
pub trait DeadLetters: Send + Sync {
    /// Takes up to 10 messages out of sight.
    fn receive(&self, queue: QueueName) -> impl Future<Output = Result<Vec<DeadLetter>, Unavailable>> + Send;

    /// Sends a message to its queue again, as redriven once more.
    fn redrive(&self, queue: QueueName, letter: &DeadLetter) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Deletes a message from the dead-letter queue.
    fn delete(&self, queue: QueueName, receipt: &str) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Has a message reappear at once.
    fn give_back(&self, queue: QueueName, receipt: &str) -> impl Future<Output = Result<(), Unavailable>> + Send;
}

/// Messages that a queue has delivered to this consumer and that it has not acknowledged yet.
pub trait Deliveries: Send + Sync {
    /// Keeps a message from being delivered again for this long from now on, ms; at most 12 hours, in whole seconds,
    /// rounded up. Fails for one that was acknowledged or is visible again.
    fn hide(&self, receipt: &str, for_ms: u64) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Sends what nobody can use to the queue's dead letters, with the reason and what survives redriving. The delivery
    /// itself stays: it is acknowledged once this has succeeded, so that a failure in between duplicates and never loses.
    fn refuse(
        &self,
        body: &str,
        redrives: u32,
        first_sent_at: u64,
        reason: &str,
    ) -> impl Future<Output = Result<(), Unavailable>> + Send;
}
