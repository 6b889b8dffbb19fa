//! Who a shopper's token speaks for: a JWT, verified with its issuer's published keys.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use domain::ports::{Clock, Identity, IdentityProvider, TokenError, Unavailable};
use jsonwebtoken::jwk::{JwkSet, KeyAlgorithm};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::configuration::AuthorizerConfiguration;
use crate::table::unavailable;

/// A key set is fetched again for an unknown key id, but not more often than this: tokens with invented key ids must not
/// turn into load on the issuer.
const REFRESH_PAUSE_MS: u64 = 10_000;

/// A key set older than this is fetched again, so that a key its issuer withdrew stops to count.
const KEYS_LIFE_MS: u64 = 60 * 60 * 1_000;

/// Fetching the keys; the authorizer itself has 10 s.
const FETCH_MS: u64 = 3_000;

/// A key set's size, bytes.
const KEY_SET_BYTES_MAX: u64 = 256 * 1024;

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, (DecodingKey, Algorithm)>,
    fetched_at: Option<u64>,
}

/// Verifies the tokens of one issuer for one audience.
pub struct TokenVerifier<C> {
    configuration: AuthorizerConfiguration,
    clock: C,
    http: OnceLock<reqwest::Client>,
    keys: Mutex<Keys>,
}

impl<C: Clock> TokenVerifier<C> {
    /// A verifier of the tokens the configuration names. Fetches nothing until a token asks for it.
    pub fn new(configuration: AuthorizerConfiguration, clock: C) -> Self {
        Self { configuration, clock, http: OnceLock::new(), keys: Mutex::new(Keys::default()) }
    }

    /// The key with that id, from memory or from the issuer. One fetch at a time: who waits finds its keys.
    async fn key(&self, id: &str) -> Result<(DecodingKey, Algorithm), TokenError> {
        let mut keys = self.keys.lock().await;
        let age = keys.fetched_at.map_or(u64::MAX, |at| self.clock.now_ms().saturating_sub(at));
        let wanted = age >= KEYS_LIFE_MS || (!keys.by_id.contains_key(id) && age >= REFRESH_PAUSE_MS);
        if wanted {
            match self.fetch().await {
                Ok(by_id) => *keys = Keys { by_id, fetched_at: Some(self.clock.now_ms()) },
                Err(error) if !keys.by_id.contains_key(id) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "keys were not refreshed");
                }
            }
        }
        keys.by_id.get(id).cloned().ok_or_else(|| invalid(Refused("its key is unknown")))
    }

    /// The issuer's signing keys. Symmetric keys and algorithms we do not take are left out.
    async fn fetch(&self) -> Result<HashMap<String, (DecodingKey, Algorithm)>, Unavailable> {
        let operation = "fetch the issuer's keys";
        let client = match self.http.get() {
            Some(client) => client,
            None => {
                let client = reqwest::Client::builder()
                    .timeout(Duration::from_millis(FETCH_MS))
                    .build()
                    .map_err(unavailable(operation))?;
                self.http.get_or_init(|| client)
            }
        };
        let answer = client.get(&self.configuration.jwks_url).send().await.map_err(unavailable(operation))?;
        let answer = answer.error_for_status().map_err(unavailable(operation))?;
        if answer.content_length().is_some_and(|bytes| bytes > KEY_SET_BYTES_MAX) {
            return Err(unavailable(operation)(Refused("the key set is too large")));
        }
        let set: JwkSet = answer.json().await.map_err(unavailable(operation))?;
        Ok(set
            .keys
            .iter()
            .filter_map(|jwk| {
                let algorithm = match jwk.common.key_algorithm {
                    Some(KeyAlgorithm::RS256) => Algorithm::RS256,
                    Some(KeyAlgorithm::ES256) => Algorithm::ES256,
                    _not_taken => return None,
                };
                Some((jwk.common.key_id.clone()?, (DecodingKey::from_jwk(jwk).ok()?, algorithm)))
            })
            .collect())
    }
}

impl<C: Clock> IdentityProvider for TokenVerifier<C> {
    async fn verify(&self, token: &str) -> Result<Identity, TokenError> {        let header = decode_header(token).map_err(invalid)?;
        let key_id = header.kid.ok_or_else(|| invalid(Refused("it names no key")))?;
        let (key, algorithm) = self.key(&key_id).await?;
        // The key decides the algorithm, never the token: a public key must not serve as an HMAC secret.
        let mut validation = Validation::new(algorithm);
        // Frames of a connection end with its token to the millisecond; so does the right to connect.
        validation.leeway = 0;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.configuration.jwt_issuer]);
        validation.set_audience(&[&self.configuration.jwt_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims: Value = decode(token, &key, &validation).map_err(invalid)?.claims;
        let subject = claims.get(&self.configuration.jwt_subject_claim).and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| invalid(Refused("it names no shopper")))?;
        let expires_at = claims.get("exp").and_then(Value::as_u64).unwrap_or_default().saturating_mul(1_000);
        Ok(Identity { subject: subject.to_owned(), expires_at })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

fn invalid(source: impl std::error::Error + Send + Sync + 'static) -> TokenError {
    TokenError::Invalid(Box::new(source))
}
