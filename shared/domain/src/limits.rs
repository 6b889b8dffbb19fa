//! Every limit of the suite, with its unit last in the name and its source beside it.

/// A client frame, bytes. API Gateway closes the connection above it (WebSocket quotas: frame size 32 KB).
pub const CLIENT_FRAME_BYTES_MAX: usize = 32 * 1024;

/// A server frame as JSON, bytes of UTF-8: below API Gateway's 32 KB frame, so that no frame is split on its way.
pub const SERVER_FRAME_BYTES_MAX: usize = 28 * 1024;

/// What the envelope of a server frame takes at the most, bytes: ids, numbers and the names of the fields.
pub const ENVELOPE_BYTES_MAX: usize = 512;

/// A message's text, Unicode scalar values (policy "payload").
pub const TEXT_CHARS_MAX: usize = 4_000;

/// A comment in feedback, Unicode scalar values.
pub const COMMENT_CHARS_MAX: usize = 1_000;

/// A conversation, turn or product id in a client frame, bytes; the ids we make have 24.
pub const ID_BYTES_MAX: usize = 64;

/// Turns in a page of history.
pub const HISTORY_PAGE_TURNS_MAX: u32 = 50;

/// Turns in a page of history when the client names no limit.
pub const HISTORY_PAGE_TURNS_DEFAULT: u32 = 20;

/// Earlier turns read for a prompt. Six of the budget's size (1 KB question, 1.3 KB answer) are four read units.
pub const HISTORY_WINDOW_TURNS_MAX: u32 = 6;

/// Earlier questions and answers in a prompt, bytes (budget "history window").
pub const HISTORY_WINDOW_BYTES_MAX: usize = 16 * 1024;

/// Messages a minute of a signed-in shopper (policy "rate limit").
pub const SHOPPER_MESSAGES_PER_MINUTE: u32 = 30;

/// Messages a minute of a guest session (policy "rate limit").
pub const GUEST_MESSAGES_PER_MINUTE: u32 = 10;

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

/// Time between two journal writes of a streaming turn, ms.
pub const TICK_MS: u64 = 1_000;

/// The store's services answer within this, or the turn goes on without them, ms.
pub const GATHER_DEADLINE_MS: u64 = 1_500;

/// A turn ends within this, ms: API Gateway gives an integration 29 s, `message` has 28 s.
pub const TURN_BUDGET_MS: u64 = 25_000;

/// What settling may take of the time after the budget, ms.
pub const SETTLE_BUDGET_MS: u64 = 2_500;

/// What sending the last frames may take after a turn is settled, ms: one frame that reaches its own time-out.
pub const FLUSH_BUDGET_MS: u64 = 2_000;

/// A turn whose owner has not settled it after this, ms, has lost its owner: longer than `message` may run (28 s) by a
/// margin for clocks that differ.
pub const LEASE_MS: u64 = 30_000;

/// Silence of the model after which its answer counts as broken off, ms.
pub const MODEL_SILENCE_MS: u64 = 10_000;

/// Tokens the model may answer with. Always sent: Bedrock reserves the model's maximum otherwise.
pub const ANSWER_TOKENS_MAX: u32 = 1_024;

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
