//! Who a shopper's token speaks for: a JWT, verified with its issuer's published keys.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;

use domain::ports::{Clock, Identity, IdentityProvider, TokenError, Unavailable};
use jsonwebtoken::jwk::{AlgorithmParameters, JwkSet, KeyAlgorithm, PublicKeyUse};
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

/// After a fetch that failed, the issuer is left alone this long: whoever waited for it fails with it.
const RETRY_PAUSE_MS: u64 = 1_000;

/// Fetching the keys; the authorizer itself has 5 s.
const FETCH_MS: u64 = 3_000;

/// A key set's size, bytes.
const KEY_SET_BYTES_MAX: usize = 256 * 1024;

const FETCH: &str = "fetch the issuer's keys";

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, (DecodingKey, Algorithm)>,
    fetched_at: Option<u64>,
    failed_at: Option<u64>,
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
        let is_known = keys.by_id.contains_key(id);
        let age = self.since(keys.fetched_at);
        let is_wanted = age >= KEYS_LIFE_MS || (!is_known && age >= REFRESH_PAUSE_MS);
        if is_wanted && let Err(error) = self.refresh(&mut keys).await {
            if !is_known {
                return Err(error.into());
            }
            tracing::warn!(error = &error as &dyn std::error::Error, "keys were not refreshed");
        }
        keys.by_id.get(id).cloned().ok_or_else(|| invalid(Refused("its key is unknown")))
    }

    /// Milliseconds since a time; for ever since none.
    fn since(&self, at: Option<u64>) -> u64 {
        at.map_or(u64::MAX, |at| self.clock.now_ms().saturating_sub(at))
    }

    async fn refresh(&self, keys: &mut Keys) -> Result<(), Unavailable> {
        if self.since(keys.failed_at) < RETRY_PAUSE_MS {
            return Err(unavailable(FETCH)(Refused("the issuer failed a moment ago")));
        }
        match self.fetch().await {
            Ok(by_id) => *keys = Keys { by_id, fetched_at: Some(self.clock.now_ms()), failed_at: None },
            Err(error) => {
                keys.failed_at = Some(self.clock.now_ms());
                return Err(error);
            }
        }
        Ok(())
    }

    /// The issuer's signing keys. Symmetric keys and algorithms we do not take are left out.
    async fn fetch(&self) -> Result<HashMap<String, (DecodingKey, Algorithm)>, Unavailable> {
        let client = match self.http.get() {
            Some(client) => client,
            None => {
                let client = reqwest::Client::builder()
                    .timeout(Duration::from_millis(FETCH_MS))
                    .build()
                    .map_err(unavailable(FETCH))?;
                self.http.get_or_init(|| client)
            }
        };
        let answer = client.get(&self.configuration.jwks_url).send().await.map_err(unavailable(FETCH))?;
        let mut answer = answer.error_for_status().map_err(unavailable(FETCH))?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unavailable(FETCH))? {
            body.extend_from_slice(&chunk);
            if body.len() > KEY_SET_BYTES_MAX {
                return Err(unavailable(FETCH)(Refused("the key set is too large")));
            }
        }
        let set: JwkSet = serde_json::from_slice(&body).map_err(unavailable(FETCH))?;
        Ok(set
            .keys
            .iter()
            .filter_map(|jwk| {
                if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
                    return None;
                }
                // Some issuers leave `alg` out (it is optional in RFC 7517, 4.4): then the kind of key tells it.
                let algorithm = match (jwk.common.key_algorithm, &jwk.algorithm) {
                    (Some(KeyAlgorithm::RS256), _) | (None, AlgorithmParameters::RSA(_)) => Algorithm::RS256,
                    (Some(KeyAlgorithm::ES256), _) | (None, AlgorithmParameters::EllipticCurve(_)) => Algorithm::ES256,
                    _not_taken => return None,
                };
                Some((jwk.common.key_id.clone()?, (DecodingKey::from_jwk(jwk).ok()?, algorithm)))
            })
            .collect())
    }
}

impl<C: Clock> IdentityProvider for TokenVerifier<C> {
    async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        let header = decode_header(token).map_err(invalid)?;
        let key_id = header.kid.ok_or_else(|| invalid(Refused("it names no key")))?;
        let (key, algorithm) = self.key(&key_id).await?;
        // The key decides the algorithm, never the token: a public key must not serve as an HMAC secret.
        let mut validation = Validation::new(algorithm);
        // Frames of a connection end with its token to the millisecond; so does the right to connect, by the same clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.set_issuer(&[&self.configuration.jwt_issuer]);
        validation.set_audience(&[&self.configuration.jwt_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims: Value = decode(token, &key, &validation).map_err(invalid)?.claims;
        let now = self.clock.now_ms();
        let expires_at = claims.get("exp").and_then(milliseconds).filter(|expires_at| now < *expires_at);
        let expires_at = expires_at.ok_or_else(|| invalid(Refused("it has expired")))?;
        if claims
            .get("nbf")
            .is_some_and(|not_before| milliseconds(not_before).is_none_or(|not_before| now < not_before))
        {
            return Err(invalid(Refused("it is not valid yet")));
        }
        let subject = claims.get(&self.configuration.jwt_subject_claim).and_then(Value::as_str);
        let subject = subject.filter(|subject| !subject.is_empty());
        let subject = subject.ok_or_else(|| invalid(Refused("it names no shopper")))?;
        Ok(Identity { subject: subject.to_owned(), expires_at })
    }
}

/// A NumericDate in Unix milliseconds: seconds, perhaps with decimals (RFC 7519, section 2).
fn milliseconds(date: &Value) -> Option<u64> {
    let seconds = date.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Some((seconds * 1_000.0) as u64)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(&'static str);

fn invalid(source: impl std::error::Error + Send + Sync + 'static) -> TokenError {
    TokenError::Invalid(Box::new(source))
}
