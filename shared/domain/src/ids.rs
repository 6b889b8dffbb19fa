//! Ids, and the server key they are derived under.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::limits::{ID_BYTES_MAX, RESUME_TOKEN_LIFE_MS};

/// An id is 1 to [`ID_BYTES_MAX`] letters, digits, `_` or `-`.
fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[A-Za-z0-9_-]{1,64}$")))]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The id, if `text` has the form of one: letters, digits, `_` and `-`, at most 64 bytes.
            pub fn parse(text: &str) -> Option<Self> {
                is_id(text).then(|| Self(text.to_owned()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?)
                    .ok_or_else(|| serde::de::Error::custom("an id is letters, digits, _ and -, at most 64 bytes"))
            }
        }
    };
}

id! {
    /// A conversation. 128 bits under the server key: unguessable, and the same for a resend.
    ConversationId
}
id! {
    /// One shopper message and its answer. Derived from principal and client message id under the server key.
    TurnId
}
id! {
    /// A guest's session, or one signed-in connection.
    SessionId
}
id! {
    /// A product of the store.
    ProductId
}

/// The client's name for a message it sends, and its idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct ClientMessageId(
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("format" = "uuid")))] pub Uuid,
);

impl fmt::Display for ClientMessageId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// API Gateway's name of a connection, as it is written in its URL and in the table. Opaque.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub String);

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Who a connection speaks for: what owns conversations, and the scope of idempotency and limits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// Nobody signed in; the session stands for the person.
    Guest(SessionId),
    /// The subject of a verified token.
    Shopper(String),
}

impl Principal {
    /// `guest:SESSION` or `shopper:SUBJECT`, read back.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("guest", session) => SessionId::parse(session).map(Self::Guest),
            ("shopper", subject) if !subject.is_empty() => Some(Self::Shopper(subject.to_owned())),
            _ => None,
        }
    }

    /// The shopper's subject, as the store knows them; none for a guest.
    pub fn shopper(&self) -> Option<&str> {
        match self {
            Self::Guest(_) => None,
            Self::Shopper(subject) => Some(subject),
        }
    }
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a principal is guest:SESSION or shopper:SUBJECT"))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guest(session) => write!(formatter, "guest:{session}"),
            Self::Shopper(subject) => write!(formatter, "shopper:{subject}"),
        }
    }
}

/// SHA-256 of texts in their order, in base64 for URLs.
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

/// The server key. Ids derived under it cannot be guessed, tokens signed with it cannot be forged.
///
/// Each use has its own purpose string under the one key.
#[derive(Clone)]
pub struct SessionKey(Hmac<Sha256>);

/// Why a resume token does not admit its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ResumeTokenError {
    /// Not a token of ours, or changed since.
    #[error("not signed by this server")]
    Forged,
    /// Older than [`RESUME_TOKEN_LIFE_MS`].
    #[error("expired")]
    Expired,
}

impl SessionKey {
    /// Bytes the key must have at least: the block of information HMAC-SHA-256 keeps.
    pub const BYTES_MIN: usize = 32;

    /// The key made of a secret; none if the secret is shorter than [`Self::BYTES_MIN`].
    pub fn new(secret: &[u8]) -> Option<Self> {
        if secret.len() < Self::BYTES_MIN {
            return None;
        }
        Hmac::new_from_slice(secret).ok().map(Self)
    }

    fn mac(&self, purpose: &str, parts: &[&str]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in std::iter::once(&purpose).chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }

    fn derive(&self, purpose: &str, principal: &Principal, id: ClientMessageId) -> String {
        let tag = self.mac(purpose, &[&principal.to_string(), &id.to_string()]).finalize().into_bytes();
        // Half of the tag: 128 bits.
        URL_SAFE_NO_PAD.encode(tag.get(..16).unwrap_or(&tag))
    }

    /// The turn of a message, on whichever connection it comes and however often.
    pub fn turn_id(&self, principal: &Principal, id: ClientMessageId) -> TurnId {
        TurnId(format!("t_{}", self.derive("turn", principal, id)))
    }

    /// The conversation a message opens when it names none.
    pub fn conversation_id(&self, principal: &Principal, id: ClientMessageId) -> ConversationId {
        ConversationId(format!("c_{}", self.derive("conversation", principal, id)))
    }

    /// What stands for a network address in the table: nobody without the key finds the address again.
    pub fn address_digest(&self, address: &str) -> String {
        let tag = self.mac("address", &[address]).finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(tag.get(..16).unwrap_or(&tag))
    }

    /// A token with which a guest comes back to their session within [`RESUME_TOKEN_LIFE_MS`] of `now_ms`.
    pub fn seal_resume_token(&self, session: &SessionId, now_ms: u64) -> String {
        let expires_at = now_ms.saturating_add(RESUME_TOKEN_LIFE_MS).to_string();
        let tag = self.mac("resume", &[session.as_str(), &expires_at]).finalize().into_bytes();
        format!("{session}.{expires_at}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The session a resume token was given to.
    ///
    /// # Errors
    /// [`ResumeTokenError`] when the token is not ours, or too old at `now_ms`. The signature is compared in constant time.
    pub fn open_resume_token(&self, token: &str, now_ms: u64) -> Result<SessionId, ResumeTokenError> {
        let forged = ResumeTokenError::Forged;
        let (rest, tag) = token.rsplit_once('.').ok_or(forged)?;
        let (session, expires_at) = rest.split_once('.').ok_or(forged)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| forged)?;
        self.mac("resume", &[session, expires_at]).verify_slice(&tag).map_err(|_| forged)?;
        let expires_at: u64 = expires_at.parse().map_err(|_| forged)?;
        if now_ms >= expires_at {
            return Err(ResumeTokenError::Expired);
        }
        SessionId::parse(session).ok_or(forged)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionKey(..)")
    }
}
