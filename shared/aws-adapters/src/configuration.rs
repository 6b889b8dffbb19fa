//! The environment, read once at cold start into one typed struct for each function.
//!
//! Every problem is reported, in one line; nothing is silently replaced.

use domain::ids::SessionKey;
use store_client::{ServiceConfiguration, StoreConfiguration, ValkeyConfiguration};

use crate::OpenSearchConfiguration;

/// What is wrong with an environment, all of it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {}", problems.join("; "))]
pub struct ConfigurationError {
    problems: Vec<String>,
}

/// A variable of the process; an empty one counts as absent.
#[expect(clippy::disallowed_methods, reason = "the environment is read here")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

struct Reader<L> {
    lookup: L,
    problems: Vec<String>,
}

impl<L: Fn(&str) -> Option<String>> Reader<L> {
    fn new(lookup: L) -> Self {
        Self { lookup, problems: Vec::new() }
    }

    fn required(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            self.problems.push(format!("{name} is not set"));
            String::new()
        })
    }

    /// A base URL, without the slash at its end.
    fn url(&mut self, name: &str) -> String {
        let url = self.required(name);
        if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
            self.problems.push(format!("{name} is not an http(s) URL"));
        }
        url.trim_end_matches('/').to_owned()
    }

    fn optional(&mut self, name: &str) -> Option<String> {
        (self.lookup)(name)
    }

    fn number(&mut self, name: &str) -> u64 {
        match self.required(name).as_str() {
            "" => 0,
            digits => digits.parse().unwrap_or_else(|_| {
                self.problems.push(format!("{name} is no whole number"));
                0
            }),
        }
    }

    fn boolean(&mut self, name: &str) -> bool {
        match self.required(name).as_str() {
            "true" => true,
            "false" | "" => false,
            _other => {
                self.problems.push(format!("{name} is neither true nor false"));
                false
            }
        }
    }

    fn session_key(&mut self) -> Option<SessionKey> {
        let secret = self.required("SESSION_KEY");
        let key = SessionKey::new(secret.as_bytes());
        if key.is_none() && !secret.is_empty() {
            self.problems.push(format!("SESSION_KEY has fewer than {} bytes", SessionKey::BYTES_MIN));
        }
        key
    }

    /// The configuration, if nothing was wrong.
    fn finish<T>(self, configuration: Option<T>) -> Result<T, ConfigurationError> {
        match configuration {
            Some(configuration) if self.problems.is_empty() => Ok(configuration),
            _incomplete => Err(ConfigurationError { problems: self.problems }),
        }
    }
}

/// What `authorizer` is told.
#[derive(Debug, Clone)]
pub struct AuthorizerConfiguration {
    /// Who issues the shoppers' tokens: their `iss`.
    pub jwt_issuer: String,
    /// For whom: their `aud`.
    pub jwt_audience: String,
    /// The claim that names the shopper as the store knows them.
    pub jwt_subject_claim: String,
    /// Where the issuer's keys are.
    pub jwks_url: String,
    /// Verifies guests' resume tokens.
    pub session_key: SessionKey,
}

impl AuthorizerConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let jwt_issuer = reader.required("JWT_ISSUER");
        let jwt_audience = reader.required("JWT_AUDIENCE");
        let jwt_subject_claim = reader.required("JWT_SUBJECT_CLAIM");
        let jwks_url = reader.url("JWKS_URL");
        let key = reader.session_key();
        reader.finish(key.map(|session_key| Self {
            jwt_issuer,
            jwt_audience,
            jwt_subject_claim,
            jwks_url,
            session_key,
        }))
    }
}

/// What `connect` is told.
#[derive(Debug, Clone)]
pub struct ConnectConfiguration {
    /// The table of connections, conversations and turns.
    pub table_name: String,
    /// Makes digests of addresses.
    pub session_key: SessionKey,
}

impl ConnectConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let table_name = reader.required("TABLE_NAME");
        let session_key = reader.session_key();
        reader.finish(session_key.map(|session_key| Self { table_name, session_key }))
    }
}

/// What `disconnect` is told.
#[derive(Debug, Clone)]
pub struct DisconnectConfiguration {
    /// The table of connections, conversations and turns.
    pub table_name: String,
}

impl DisconnectConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let table_name = reader.required("TABLE_NAME");
        reader.finish(Some(Self { table_name }))
    }
}

/// A guardrail of Bedrock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardrailConfiguration {
    /// Its id or ARN.
    pub id: String,
    /// A number, or `DRAFT`.
    pub version: String,
}

/// The models, and what keeps them in check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfiguration {
    /// The Bedrock model or inference profile that answers.
    pub model_id: String,
    /// Whether it continues an answer that it is given the beginning of.
    pub prefill: bool,
    /// The one that answers under pressure.
    pub cheaper_model_id: String,
    /// What questions and answers pass.
    pub guardrail: Option<GuardrailConfiguration>,
    /// Tokens a minute that all environments together may ask for; none without a limit.
    pub tokens_per_minute: Option<u64>,
    /// The same of the cheaper model.
    pub cheaper_tokens_per_minute: Option<u64>,
}

impl ModelConfiguration {
    fn read(reader: &mut Reader<impl Fn(&str) -> Option<String>>) -> Self {
        let guardrail = (reader.optional("GUARDRAIL_ID"), reader.optional("GUARDRAIL_VERSION"));
        let limit = |tokens: u64| Some(tokens).filter(|tokens| *tokens > 0);
        Self {
            model_id: reader.required("MODEL_ID"),
            prefill: reader.boolean("MODEL_PREFILL"),
            cheaper_model_id: reader.required("CHEAPER_MODEL_ID"),
            guardrail: match guardrail {
                (Some(id), Some(version)) => Some(GuardrailConfiguration { id, version }),
                _none => None,
            },
            tokens_per_minute: limit(reader.number("MODEL_TOKENS_PER_MINUTE")),
            cheaper_tokens_per_minute: limit(reader.number("CHEAPER_MODEL_TOKENS_PER_MINUTE")),
        }
    }
}

fn store_configuration(reader: &mut Reader<impl Fn(&str) -> Option<String>>) -> StoreConfiguration {
    let mut service = |name: &str| ServiceConfiguration {
        url: reader.url(&format!("{name}_URL")),
        timeout_ms: reader.number(&format!("{name}_TIMEOUT_MS")),
    };
    StoreConfiguration {
        catalog: service("CATALOG"),
        recommendations: service("RECOMMENDATIONS"),
        orders: service("ORDERS"),
        promotions: service("PROMOTIONS"),
        reviews: service("REVIEWS"),
        knowledge: service("KNOWLEDGE"),
        store_key: reader.required("STORE_KEY"),
    }
}

fn open_search_configuration(reader: &mut Reader<impl Fn(&str) -> Option<String>>) -> Option<OpenSearchConfiguration> {
    let (index, embedding_model_id) = (reader.required("OPENSEARCH_INDEX"), reader.required("EMBEDDING_MODEL_ID"));
    let region = reader.optional("AWS_REGION").unwrap_or_default();
    let endpoint = reader.optional("OPENSEARCH_URL")?;
    let pipeline = format!("{index}-hybrid");
    Some(OpenSearchConfiguration { endpoint, index, pipeline, embedding_model_id, region })
}

fn valkey_configuration(reader: &mut Reader<impl Fn(&str) -> Option<String>>) -> Option<ValkeyConfiguration> {
    let (username, password) = (reader.optional("VALKEY_USERNAME"), reader.optional("VALKEY_PASSWORD"));
    reader.optional("VALKEY_URL").map(|url| ValkeyConfiguration { url, username, password })
}

/// What every function that works on turns is told.
#[derive(Debug, Clone)]
pub struct TurnConfiguration {
    /// The table of connections, conversations and turns.
    pub table_name: String,
    /// Where frames to clients are posted.
    pub callback_url: String,
    /// The queue of the watchdog.
    pub watchdog_queue_url: String,
    /// The queue of everything else that is done later.
    pub follow_up_queue_url: String,
}

impl TurnConfiguration {
    fn read(reader: &mut Reader<impl Fn(&str) -> Option<String>>) -> Self {
        Self {
            table_name: reader.required("TABLE_NAME"),
            callback_url: reader.url("CALLBACK_URL"),
            watchdog_queue_url: reader.url("WATCHDOG_QUEUE_URL"),
            follow_up_queue_url: reader.url("FOLLOW_UP_QUEUE_URL"),
        }
    }
}

/// What every function that answers is told.
#[derive(Debug, Clone)]
pub struct AnswerConfiguration {
    /// Where turns are.
    pub turns: TurnConfiguration,
    /// Who answers.
    pub models: ModelConfiguration,
    /// Where the store's services are.
    pub store: StoreConfiguration,
    /// The cache that environments share.
    pub valkey: Option<ValkeyConfiguration>,
    /// What searches the help articles in place of the service.
    pub open_search: Option<OpenSearchConfiguration>,
    /// Where the store's pages are, without a slash at the end.
    pub page_url: String,
    /// The topic of conversations that a person should take on.
    pub escalations_topic_arn: String,
}

impl AnswerConfiguration {
    fn read(reader: &mut Reader<impl Fn(&str) -> Option<String>>) -> Self {
        Self {
            turns: TurnConfiguration::read(reader),
            models: ModelConfiguration::read(reader),
            store: store_configuration(reader),
            valkey: valkey_configuration(reader),
            open_search: open_search_configuration(reader),
            page_url: reader.url("STORE_PAGE_URL"),
            escalations_topic_arn: reader.required("ESCALATIONS_TOPIC_ARN"),
        }
    }
}

/// What `message` is told.
#[derive(Debug, Clone)]
pub struct MessageConfiguration {
    /// What it answers with.
    pub answers: AnswerConfiguration,
    /// Derives ids and signs resume tokens.
    pub session_key: SessionKey,
}

impl MessageConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let answers = AnswerConfiguration::read(&mut reader);
        let key = reader.session_key();
        reader.finish(key.map(|session_key| Self { answers, session_key }))
    }
}

/// What `follow-up-worker` is told.
#[derive(Debug, Clone)]
pub struct WorkerConfiguration {
    /// What it answers with.
    pub answers: AnswerConfiguration,
    /// The follow-up queue, as schedules name it.
    pub follow_up_queue_arn: String,
    /// The follow-up queue's dead letters.
    pub follow_up_dlq_url: String,
    /// The group of the schedules of EventBridge Scheduler.
    pub schedule_group: String,
    /// The role in which the scheduler sends to the follow-up queue.
    pub schedule_role_arn: String,
}

impl WorkerConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let configuration = Self {
            answers: AnswerConfiguration::read(&mut reader),
            follow_up_queue_arn: reader.required("FOLLOW_UP_QUEUE_ARN"),
            follow_up_dlq_url: reader.url("FOLLOW_UP_DLQ_URL"),
            schedule_group: reader.required("SCHEDULE_GROUP"),
            schedule_role_arn: reader.required("SCHEDULE_ROLE_ARN"),
        };
        reader.finish(Some(configuration))
    }
}

/// What `cache-invalidator` is told.
#[derive(Debug, Clone)]
pub struct InvalidatorConfiguration {
    /// The table of hints.
    pub table_name: String,
    /// Where the store's services are.
    pub store: StoreConfiguration,
    /// The cache that environments share.
    pub valkey: Option<ValkeyConfiguration>,
}

impl InvalidatorConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let configuration = Self {
            table_name: reader.required("TABLE_NAME"),
            store: store_configuration(&mut reader),
            valkey: valkey_configuration(&mut reader),
        };
        reader.finish(Some(configuration))
    }
}

/// What `watchdog` is told.
#[derive(Debug, Clone)]
pub struct WatchdogConfiguration {
    /// Where turns are.
    pub turns: TurnConfiguration,
    /// The topic of turn events.
    pub turn_events_topic_arn: String,
}

impl WatchdogConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let turns = TurnConfiguration::read(&mut reader);
        let turn_events_topic_arn = reader.required("TURN_EVENTS_TOPIC_ARN");
        reader.finish(Some(Self { turns, turn_events_topic_arn }))
    }
}

/// What `dlq-redriver` is told.
#[derive(Debug, Clone)]
pub struct RedriverConfiguration {
    /// Where turns are, and the queues to redrive to.
    pub turns: TurnConfiguration,
    /// The dead letters of the watchdog's queue.
    pub watchdog_dlq_url: String,
    /// The dead letters of the follow-up queue.
    pub follow_up_dlq_url: String,
}

impl RedriverConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let turns = TurnConfiguration::read(&mut reader);
        let watchdog_dlq_url = reader.url("WATCHDOG_DLQ_URL");
        let follow_up_dlq_url = reader.url("FOLLOW_UP_DLQ_URL");
        reader.finish(Some(Self { turns, watchdog_dlq_url, follow_up_dlq_url }))
    }
}

/// What `store-api` is told.
#[derive(Debug, Clone)]
pub struct StoreApiConfiguration {
    /// The sample store's own table.
    pub table_name: String,
    /// What a caller must show to see orders.
    pub store_key: String,
    /// The store's pages, for links.
    pub page_url: String,
}

impl StoreApiConfiguration {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`ConfigurationError`] names everything that is missing or malformed.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        let mut reader = Reader::new(lookup);
        let table_name = reader.required("STORE_TABLE_NAME");
        let store_key = reader.required("STORE_KEY");
        let page_url = reader.url("STORE_PAGE_URL");
        reader.finish(Some(Self { table_name, store_key, page_url }))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    /// Variables that may be empty.
    const OPTIONAL: [&str; 6] =
        ["GUARDRAIL_ID", "GUARDRAIL_VERSION", "VALKEY_URL", "VALKEY_USERNAME", "VALKEY_PASSWORD", "OPENSEARCH_URL"];

    fn complete(name: &str) -> Option<String> {
        Some(match name {
            "SESSION_KEY" => KEY.to_owned(),
            "MODEL_PREFILL" => "true".to_owned(),
            name if name.ends_with("_MS") || name.ends_with("_PER_MINUTE") => "450".to_owned(),
            name if name.ends_with("_URL") => "https://store.example/".to_owned(),
            name => format!("value of {name}"),
        })
    }

    /// Every variable that is read is asked for even when others are missing: all problems are told at once.
    fn check<T>(read: impl Fn(&dyn Fn(&str) -> Option<String>) -> Result<T, ConfigurationError>) {
        let names = RefCell::new(BTreeSet::new());
        let complete = |name: &str| {
            // Lambda sets these.
            if !name.starts_with("AWS_") {
                names.borrow_mut().insert(name.to_owned());
            }
            complete(name)
        };
        assert!(read(&complete).is_ok());
        let Err(error) = read(&|_| None) else { panic!("an empty environment was accepted") };
        for name in names.borrow().iter().filter(|name| !OPTIONAL.contains(&name.as_str())) {
            assert!(error.to_string().contains(&format!("{name} is not set")), "{name}: {error}");
        }
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        check(|lookup| AuthorizerConfiguration::from_lookup(lookup));
        check(|lookup| ConnectConfiguration::from_lookup(lookup));
        check(|lookup| DisconnectConfiguration::from_lookup(lookup));
        check(|lookup| MessageConfiguration::from_lookup(lookup));
        check(|lookup| WorkerConfiguration::from_lookup(lookup));
        check(|lookup| WatchdogConfiguration::from_lookup(lookup));
        check(|lookup| RedriverConfiguration::from_lookup(lookup));
        check(|lookup| InvalidatorConfiguration::from_lookup(lookup));
        check(|lookup| StoreApiConfiguration::from_lookup(lookup));
    }

    #[test]
    fn malformed_values_are_named() {
        let lookup = |name: &str| match name {
            "JWKS_URL" => Some("ftp://keys".to_owned()),
            "SESSION_KEY" => Some(KEY.chars().skip(1).collect()),
            name => complete(name),
        };
        let error = AuthorizerConfiguration::from_lookup(lookup).unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration: JWKS_URL is not an http(s) URL; SESSION_KEY has fewer than 32 bytes"
        );
    }

    #[test]
    fn base_urls_lose_their_last_slash() {
        let configuration = MessageConfiguration::from_lookup(complete).unwrap();
        assert_eq!(configuration.answers.store.catalog.url, "https://store.example");
    }

    #[test]
    fn a_switch_is_true_or_false() {
        let read = |value: &str| {
            let lookup = |name: &str| if name == "MODEL_PREFILL" { Some(value.to_owned()) } else { complete(name) };
            MessageConfiguration::from_lookup(lookup).map(|configuration| configuration.answers.models.prefill)
        };
        assert_eq!((read("true"), read("false")), (Ok(true), Ok(false)));
        for malformed in ["True", "1", "no", " "] {
            let error = read(malformed).unwrap_err();
            assert_eq!(error.to_string(), "configuration: MODEL_PREFILL is neither true nor false");
        }
    }
}
