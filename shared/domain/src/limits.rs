//! Every limit of the suite, with its unit last in the name and its source beside it.

/// A client frame, bytes. API Gateway closes the connection above it (WebSocket quotas: frame size 32 KB).
pub const CLIENT_FRAME_BYTES_MAX: usize = 32 * 1024;

/// A server frame as JSON, bytes of UTF-8: below API Gateway's 32 KB frame, so that no frame is split on its way.
pub const SERVER_FRAME_BYTES_MAX: usize = 28 * 1024;

/// What the envelope of a server frame takes at the most, bytes: ids, numbers and the names of the fields.
pub const ENVELOPE_BYTES_MAX: usize = 512;

/// A message's text, Unicode scalar values (policy "payload").
pub const TEXT_CHARS_MAX: usize = 4_000;

/// Order numbers that are read in a message: as many as orders are shown.
pub const ORDERS_NAMED_MAX: usize = 3;

/// A title in quotes, Unicode scalar values: longer than any title, shorter than what is quoted from elsewhere.
pub const TITLE_CHARS_MAX: usize = 60;

/// A volume's number; the longest series has some two hundred.
pub const VOLUME_MAX: u32 = 999;

/// A price that is asked for, yen; greater ones count as this.
pub const PRICE_YEN_MAX: u32 = 10_000_000;

/// A comment in feedback, Unicode scalar values.
pub const COMMENT_CHARS_MAX: usize = 1_000;

/// A conversation, turn or product id in a client frame, bytes; the ids we make have 24.
pub const ID_BYTES_MAX: usize = 64;

/// Turns in a page of history.
pub const HISTORY_PAGE_TURNS_MAX: u32 = 50;

/// Turns in a page of history when the client names no limit.
pub const HISTORY_PAGE_TURNS_DEFAULT: u32 = 20;

/// Earlier turns read for a prompt; a summary covers those before. Five of the budget's size (1 KB question, 1.3 KB answer)
/// with conversation and summary are four read units.
pub const HISTORY_WINDOW_TURNS_MAX: u32 = 5;

/// Earlier questions and answers in a prompt with the summary of what was before them, tokens as
/// [`estimated_tokens`](crate::prompt::estimated_tokens) counts them.
pub const HISTORY_TOKENS_MAX: usize = 6_000;

/// Tokens a summary may have.
pub const SUMMARY_TOKENS_MAX: u32 = 400;

/// The model sums a conversation up within this, ms.
pub const SUMMARY_MS_MAX: u64 = 30_000;

/// A summary as it is stored, Unicode scalar values; a longer one is cut.
pub const SUMMARY_CHARS_MAX: usize = 1_600;

/// A conversation is summed up anew after this many turns: each of them is then in the window or in the summary.
pub const SUMMARY_EVERY_TURNS: u64 = 3;

/// Earlier questions and answers in a prompt, bytes (budget "history window").
pub const HISTORY_WINDOW_BYTES_MAX: usize = 16 * 1024;

/// Messages a minute of a signed-in shopper (policy "rate limit").
pub const SHOPPER_MESSAGES_PER_MINUTE: u32 = 30;

/// Messages a minute of a guest session (policy "rate limit").
pub const GUEST_MESSAGES_PER_MINUTE: u32 = 10;

/// Resent messages and resumed turns a minute of one principal: each replays a turn. A client that resumes every 2 s, the
/// soonest it may, stays within.
pub const REPLAYS_PER_MINUTE: u32 = 40;

/// Messages a minute that are answered in which one shopper names orders, [`ORDER_CARDS_MAX`] in each: nobody has so many of their
/// own, and guessing takes for ever.
pub const ORDER_LOOKUPS_PER_MINUTE: u32 = 10;

/// New connections a minute from one network address: carriers and offices put many shoppers behind one.
pub const ADDRESS_CONNECTIONS_PER_MINUTE: u32 = 300;

/// Turns of one conversation. Longer ones start anew.
pub const CONVERSATION_TURNS_MAX: u64 = 500;

/// Follow-up messages that are sent when a session starts.
pub const FOLLOW_UPS_PER_VISIT_MAX: u32 = 5;

/// A claim to deliver a follow-up message lapses after this, ms: several posts that reach their time-out.
pub const FOLLOW_UP_CLAIM_MS: u64 = 30_000;

/// Connections one principal may hold at a time: tabs and devices.
pub const CONNECTIONS_PER_PRINCIPAL_MAX: usize = 20;

/// A connection's life, ms: API Gateway ends it after two hours.
pub const CONNECTION_LIFE_MS: u64 = 2 * 60 * 60 * 1000;

/// When a client should reconnect, ms after its connection was made: ten minutes before API Gateway ends it.
pub const RECONNECT_AFTER_MS: u64 = 110 * 60 * 1000;

/// A guest's resume token is valid this long after it was last given out, ms.
pub const RESUME_TOKEN_LIFE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// A conversation and its turns are kept this long after their last change, ms.
pub const CONVERSATION_LIFE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// After its first piece, an answer's text travels in one frame per window, ms: 4 s of answer are 33 frames, which with
/// cards, sources and the turn's own frames stays within 45 callbacks.
pub const COALESCING_WINDOW_MS: u64 = 120;

/// A price, a stock level or an order's state in an answer, Unicode scalar values: more than any way of saying one has. Less
/// than this is held back of a streamed answer.
pub const FACT_CHARS_MAX: usize = 48;

/// What is looked back at to tell whether something in an answer is such a fact, Unicode scalar values: a long sentence.
pub const FACT_CONTEXT_CHARS: usize = 160;

/// Time between two journal writes of a streaming turn, ms.
pub const TICK_MS: u64 = 1_000;

/// The store's services answer within this, or the turn goes on without them, ms.
pub const GATHER_DEADLINE_MS: u64 = 1_500;

/// A call of a service with all its retries, ms: a little less than [`GATHER_DEADLINE_MS`], so that the call is known to have
/// failed before nobody waits for it any more.
pub const SERVICE_CALL_MS: u64 = 1_400;

/// Retries of a call (policy "retries": at most 2).
pub const RETRIES_MAX: usize = 2;

/// The longest pause before the first retry, ms; it doubles for the second, and each is drawn between nothing and that (policy
/// "retries": exponential backoff with full jitter).
pub const RETRY_PAUSE_MS: u64 = 50;

/// Making a connection to a service, ms.
pub const SERVICE_CONNECT_MS: u64 = 500;

/// A service that asks for a pause is asked again after it, if it is no longer than this, ms; else it counts as failed.
pub const RETRY_AFTER_MS_MAX: u64 = 1_000;

/// An answer of a service, bytes: forty products with long summaries in both languages take a tenth of it.
pub const SERVICE_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A breaker stays open this long, ms (policy "circuit breaker").
pub const BREAKER_OPEN_MS: u64 = 30_000;

/// A probe of an open breaker is answered within this, ms, or counts for nothing.
pub const BREAKER_PROBE_MS: u64 = 1_500;

/// So many environments must say that an upstream is down before another leaves it alone without having tried: one that has
/// lost its network takes nothing down.
pub const BREAKER_REPORTS_MIN: usize = 3;

/// What other environments know is read this often, ms.
pub const HINTS_REFRESH_MS: u64 = 10_000;

/// Product details are used from a cache this long, ms (policy "cache").
pub const PRODUCT_CACHE_MS: u64 = 5 * 60 * 1_000;

/// Recommendations are used from a cache this long, ms (policy "cache").
pub const RECOMMENDATIONS_CACHE_MS: u64 = 15 * 60 * 1_000;

/// Promotions are used from a cache this long, ms (policy "cache").
pub const PROMOTIONS_CACHE_MS: u64 = 15 * 60 * 1_000;

/// Reviews are used from a cache this long, ms (policy "cache").
pub const REVIEWS_CACHE_MS: u64 = 60 * 60 * 1_000;

/// Help articles are used from a cache this long, ms: they change about as often as campaigns.
pub const ARTICLES_CACHE_MS: u64 = 15 * 60 * 1_000;

/// A cached answer lives up to this share of its time shorter, percent, drawn for each: what was cached together does not
/// expire together.
pub const CACHE_JITTER_PERCENT: u64 = 10;

/// While its source is down a cached answer is used for this long after it was read, ms.
pub const CACHE_STALE_MS: u64 = 24 * 60 * 60 * 1_000;

/// Answers that an environment keeps in its memory.
pub const CACHE_ENTRIES_MAX: u64 = 2_000;

/// Products that one event of the store may name.
pub const PRODUCTS_PER_EVENT_MAX: usize = 100;

/// Products whose reviews are read again on a schedule: those in demand.
pub const REVIEW_REFRESHES_MAX: usize = 40;

/// Of those, read at the same time.
pub const REVIEW_REFRESHES_AT_ONCE_MAX: usize = 5;

/// An answer as it is kept in a cache, bytes of JSON; longer ones are asked for each time. A page of forty products fits.
pub const CACHE_ENTRY_BYTES_MAX: usize = 32 * 1024;

/// That there is nothing is remembered this long, ms: what was just added is soon found.
pub const CACHE_NEGATIVE_MS: u64 = 30_000;

/// What was read this shortly after its tag was declared out of date is read again, ms: more than clocks of two machines differ.
pub const CACHE_SKEW_MS: u64 = 1_000;

/// Making a connection to Valkey, ms; nobody waits for it longer than for an operation.
pub const VALKEY_CONNECT_MS: u64 = 100;

/// An operation of Valkey with the wait for its connection, ms; then the turn goes on without.
pub const VALKEY_OPERATION_MS: u64 = 20;

/// Valkey is left alone this long after it has failed or was late, ms.
pub const VALKEY_REST_MS: u64 = 5_000;

/// What a store event declares out of date is deleted from Valkey within this, ms: nobody waits for it.
pub const VALKEY_FORGET_MS: u64 = 1_000;

/// What a person who takes a conversation on is told of it, Unicode scalar values.
pub const ESCALATION_SUMMARY_CHARS_MAX: usize = 2_000;

/// How long `message` works on a turn before it hands it to the follow-up queue, ms. With settling and flushing it ends
/// within 25 s of the 29 that API Gateway gives an integration.
pub const MESSAGE_TURN_MS: u64 = 21_000;

/// A turn that is handed over is tried again after this, ms: by then its owner has let go of it.
pub const HAND_OVER_DELAY_MS: u64 = 2_000;

/// How long `follow-up-worker` works on a turn before it puts it back, ms.
pub const WORKER_TURN_MS: u64 = 90_000;

/// Tasks of one batch that a worker does at once.
pub const WORKER_TASKS_AT_ONCE_MAX: usize = 5;

/// A task that could not be begun this soon after its batch came is left to the next, ms: with [`WORKER_TURN_MS`] it still
/// ends before the worker's two minutes.
pub const WORKER_START_MS: u64 = 20_000;

/// A worker keeps a message out of sight this often, ms.
pub const HEARTBEAT_MS: u64 = 15_000;

/// And each time for this long, ms: two heartbeats may fail before another worker gets it.
pub const HEARTBEAT_VISIBILITY_MS: u64 = 45_000;

/// The pause before a task's second attempt, ms; it doubles with each.
pub const TASK_PAUSE_MS: u64 = 5_000;

/// The longest pause between two attempts, ms.
pub const TASK_PAUSE_MAX_MS: u64 = 5 * 60 * 1_000;

/// What settling, or handing over, may take of the time after that, ms.
pub const SETTLE_BUDGET_MS: u64 = 1_500;

/// What sending the last frames may take after a turn is settled, ms: one frame that reaches its own time-out.
pub const FLUSH_BUDGET_MS: u64 = 2_000;

/// An owner holds its turn this long after it sent its last successful write, ms.
pub const LEASE_MS: u64 = 8_000;

/// An owner starts no post this shortly before its lease ends, ms: more than clocks of two machines differ.
pub const LEASE_MARGIN_MS: u64 = 1_000;

/// After a lease has ended a turn is left alone for this long, ms: a post that its owner had started takes at most 2 s.
pub const TAKEOVER_MARGIN_MS: u64 = 2_000;

/// An owner is looked after first after this, ms: later than most turns end, so that most are looked at once.
pub const WATCH_AFTER_MS: u64 = 15_000;

/// A turn that waits in the follow-up queue is looked after this often, ms.
pub const WATCH_QUEUED_MS: u64 = 60_000;

/// A turn that has waited this long is put into the follow-up queue again, ms: longer than a failed attempt waits.
pub const QUEUED_PATIENCE_MS: u64 = 6 * 60 * 1_000;

/// Owners a turn may have before it is ended as failed.
pub const EPOCHS_MAX: u64 = 12;

/// A turn that has not ended this long after it was asked is ended as failed, ms.
pub const TURN_AGE_MAX_MS: u64 = 30 * 60 * 1_000;

/// When every connection that follows a turn is gone, its owner answers on for this long before it stops, ms: enough for
/// a client to reconnect and resume.
pub const GONE_GRACE_MS: u64 = 10_000;

/// Silence of the model after which its answer counts as broken off, ms.
pub const MODEL_SILENCE_MS: u64 = 10_000;

/// Tokens the model may answer with. Always sent: Bedrock reserves the model's maximum otherwise.
pub const ANSWER_TOKENS_MAX: u32 = 1_024;

/// A token budget answers within this, ms, or is not waited for: an owner that asks all the way down still speaks in time.
pub const BUDGET_WAIT_MS: u64 = 250;

/// Tokens of an answer that is to be short, because the models are under pressure.
pub const SHORT_ANSWER_TOKENS_MAX: u32 = 256;

/// Tokens that the store's data is expected to take in a prompt, when they are set aside before it is known; more than most
/// questions need.
pub const GROUNDING_TOKENS_EXPECTED: u64 = 3_000;

/// Product cards of a turn.
pub const PRODUCT_CARDS_MAX: usize = 3;

/// Order cards of a turn.
pub const ORDER_CARDS_MAX: usize = 3;

/// Products the model is told of.
pub const GROUNDING_PRODUCTS_MAX: usize = 5;

/// Help articles the model is told of, and sources of a turn.
pub const GROUNDING_ARTICLES_MAX: usize = 2;

/// Reviews the model is told of.
pub const GROUNDING_REVIEWS_MAX: usize = 3;

/// Promotions the model is told of.
pub const GROUNDING_PROMOTIONS_MAX: usize = 3;

/// A text of the store in a prompt, Unicode scalar values; longer ones are cut.
pub const GROUNDING_TEXT_CHARS_MAX: usize = 1_200;

/// A source's snippet, Unicode scalar values.
pub const SNIPPET_CHARS_MAX: usize = 160;

/// Text from the store in a card, Unicode scalar values; longer ones are cut, so that a card always fits a frame.
pub const CARD_TEXT_CHARS_MAX: usize = 300;

/// Lines of an order on its card.
pub const CARD_ITEMS_MAX: usize = 10;

/// Connections that follow one turn.
pub const SUBSCRIBERS_MAX: usize = 20;

/// How often admission reads the conversation again when it changed under it.
pub const ADMISSION_ATTEMPTS_MAX: u32 = 3;

/// How often a message may be redriven from the dead letters before it is quarantined.
pub const REDRIVES_MAX: u32 = 3;

/// Messages redriven to one queue a second: a fraction of what its consumer takes, which has work of its own.
pub const REDRIVES_PER_SECOND_MAX: u64 = 50;

/// How long a run of the redriver takes up dead letters, ms. With a turn it is about to end, which may take a lease, and the
/// letters it then gives back it ends within its 60 s.
pub const REDRIVE_RUN_MS: u64 = 40_000;

/// Dead letters of one queue that a run takes up: what can be redriven in its time.
pub const REDRIVE_LETTERS_MAX: u32 = 2_000;

/// Redriven messages that may be found dead again in a run before it halts their queue: a few are bad luck, more say that
/// the consumer is still broken.
pub const REFAILURES_MAX: u32 = 10;

/// How long a halted queue is left alone by scheduled runs, ms.
pub const REDRIVE_HALT_MS: u64 = 15 * 60 * 1_000;

/// Dead letters of one queue that may go untreated, because something did not answer, before a run ends early.
pub const REDRIVE_FAILURES_MAX: u32 = 10;

/// Dead letters that are given back at once.
pub const GIVE_BACKS_AT_ONCE_MAX: usize = 10;

/// A reminder that is still not sent this long after it was due is not sent any more, ms: the shopper finds it at the next
/// visit.
pub const REMINDER_AGE_MAX_MS: u64 = 24 * 60 * 60 * 1_000;

/// What is quarantined is kept this long, ms: twice as long as a dead letter.
pub const QUARANTINE_LIFE_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Writes that one part of a token budget takes, a second: half of what DynamoDB gives one partition key, so that an uneven
/// second is not throttled.
pub const BUDGET_SHARD_WRITES_PER_SECOND: u64 = 500;

/// Tokens that a small call of the model sets aside: a short prompt and [`ANSWER_TOKENS_MAX`]. The smaller it is, the more parts
/// a budget has.
pub const BUDGET_CALL_TOKENS: u64 = 2_000;

/// Tokens of one part of a minute's budget: as many small calls as its writes allow, each being one to set aside and one to
/// settle. No part of a divided budget is smaller than half of that, 7,500 small calls.
pub const BUDGET_SHARD_TOKENS: u64 = BUDGET_SHARD_WRITES_PER_SECOND / 2 * 60 * BUDGET_CALL_TOKENS;

/// Parts of one budget. 30,000 small calls a second are 120.
pub const BUDGET_SHARDS_MAX: u32 = 1_000;

/// Parts of a budget that one call of the model asks for tokens, one after the other. They fill up alike, since each is drawn at
/// random: if four of them have no room, the others have none worth looking for.
pub const BUDGET_SHARD_TRIES_MAX: usize = 4;

/// What was refused is not asked for again for this long, ms: longer than an answer takes, after which some of what it had set
/// aside may be back.
pub const BUDGET_REFUSAL_MS: u64 = 10_000;

/// Copies of what environments tell one another. One of them is read at random: 180,000 environments that each read half a unit
/// every [`HINTS_REFRESH_MS`] are 1,125 units a second for each copy; DynamoDB gives one partition key 3,000.
pub const HINT_COPIES: u32 = 8;

/// Environments that are told of as having a breaker open, of one upstream: more than [`BREAKER_REPORTS_MIN`] without the one
/// that reads.
pub const HINT_REPORTS_MAX: usize = 5;

/// Tags that are told of as out of date. When there are more, everything is. With [`HINT_REPORTS_MAX`] and
/// [`HINT_TAG_BYTES_MAX`] the item stays below 4 KB, which are half a unit to read.
pub const HINT_TAGS_MAX: usize = 48;

/// A tag that is told of, bytes; a longer one counts as its beginning. Enough for `reviews:` and a UUID.
pub const HINT_TAG_BYTES_MAX: usize = 44;

/// For how long environments are told that a tag is out of date, ms: the longest that anything is used from a cache while its
/// source answers.
pub const HINT_TAG_MS: u64 = REVIEWS_CACHE_MS;
