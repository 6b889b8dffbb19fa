//! Who a connection speaks for: what it offers at the handshake, and what later frames carry of it.

use std::collections::BTreeMap;

use crate::ids::{Principal, SessionId};
use crate::protocol::{BEARER_PREFIX, GUEST_PREFIX, SUBPROTOCOL};

/// What a client shows at the handshake, in its subprotocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials<'a> {
    /// Nothing: a guest who is here for the first time.
    NewGuest,
    /// A guest's resume token.
    ReturningGuest(&'a str),
    /// A shopper's JWT.
    Shopper(&'a str),
}

impl<'a> Credentials<'a> {
    /// Reads the subprotocols a client offers, separated by commas; none if `manga-chat.v1` is not among them, or if they
    /// show more than one identity.
    pub fn offered(subprotocols: &'a str) -> Option<Self> {
        let mut speaks = false;
        let mut shown = None;
        for offered in subprotocols.split(',').map(str::trim) {
            let credentials = if offered == SUBPROTOCOL {
                speaks = true;
                continue;
            } else if let Some(token) = offered.strip_prefix(BEARER_PREFIX) {
                Self::Shopper(token)
            } else if let Some(token) = offered.strip_prefix(GUEST_PREFIX) {
                Self::ReturningGuest(token)
            } else {
                continue;
            };
            if shown.replace(credentials).is_some() {
                return None;
            }
        }
        speaks.then_some(shown.unwrap_or(Self::NewGuest))
    }
}

/// Who a connection speaks for, as the authorizer found it. Every later event of the connection carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whom it speaks for.
    pub principal: Principal,
    /// The guest's session, or this connection's.
    pub session_id: SessionId,
    /// When its token expires; Unix milliseconds.
    pub expires_at: u64,
}

impl Caller {
    /// The caller as authorizer context: strings, because API Gateway hands on every value as one.
    pub fn to_context(&self) -> BTreeMap<String, String> {
        let tier = match self.principal {
            Principal::Guest(_) => "guest",
            Principal::Shopper(_) => "shopper",
        };
        [
            ("principal", self.principal.to_string()),
            ("session_id", self.session_id.to_string()),
            ("tier", tier.to_owned()),
            ("expires_at", self.expires_at.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The caller of an event, from its authorizer context; none if the context is not one of ours.
    pub fn from_context(value: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            principal: Principal::parse(&value("principal")?)?,
            session_id: SessionId::parse(&value("session_id")?)?,
            expires_at: value("expires_at")?.parse().ok()?,
        })
    }
}
