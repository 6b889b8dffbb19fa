//! `TokenVerifier` against an issuer of a test's making.

use std::iter;
use std::sync::{Arc, LazyLock, Mutex};

use aws_adapters::TokenVerifier;
use aws_adapters::configuration::AuthorizerConfiguration;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::ports::{Identity, IdentityProvider as _, TokenError};
use futures_util::future::join_all;
use futures_util::stream;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use testkit::{ManualClock, START_MS, samples};

use crate::fake::Fake;
use crate::within;

const ISSUER: &str = "https://issuer.example/pool";
const AUDIENCE: &str = "manga-chat";
const SUBJECT_CLAIM: &str = "store:shopper_id";

/// Milliseconds an unknown key id is not asked for after a fetch.
const REFRESH_PAUSE_MS: u64 = 10_000;
/// Milliseconds the issuer is left alone after a failure.
const RETRY_PAUSE_MS: u64 = 1_000;
/// Milliseconds a key set counts.
const KEYS_LIFE_MS: u64 = 3_600_000;
/// Bytes of a key set.
const KEY_SET_BYTES_MAX: usize = 256 * 1024;

struct RsaKey {
    private: EncodingKey,
    public_der: Vec<u8>,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn rsa_key() -> RsaKey {
    let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
    let private = AsDer::<Pkcs8V1Der>::as_der(&key).unwrap();
    let public = AsDer::<PublicKeyX509Der>::as_der(&key.public_key()).unwrap();
    let private = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    RsaKey { private, public_der: public.as_ref().to_vec() }
}

static RSA: LazyLock<RsaKey> = LazyLock::new(rsa_key);
static OTHER_RSA: LazyLock<RsaKey> = LazyLock::new(rsa_key);
static EC: LazyLock<EncodingKey> = LazyLock::new(|| {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    EncodingKey::from_ec_der(key.as_ref())
});

/// The public half of a key, as an issuer publishes it.
fn jwk(kid: &str, key: &EncodingKey, algorithm: Algorithm) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    serde_json::to_value(jwk).unwrap()
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "not-the-store's-name",
        SUBJECT_CLAIM: "aiko",
        "iat": START_MS / 1_000,
        "exp": START_MS / 1_000 + 86_400,
    })
}

/// [`claims`] with one of them changed.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn claims_without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

fn token(kid: &str, algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) }, claims, key).unwrap()
}

fn rsa_token(claims: &Value) -> String {
    token("rsa-1", Algorithm::RS256, &RSA.private, claims)
}

fn aiko() -> Identity {
    Identity { subject: "aiko".to_owned(), expires_at: START_MS + 86_400_000 }
}

fn configuration(jwks_url: String) -> AuthorizerConfiguration {
    AuthorizerConfiguration {
        jwt_issuer: ISSUER.to_owned(),
        jwt_audience: AUDIENCE.to_owned(),
        jwt_subject_claim: SUBJECT_CLAIM.to_owned(),
        jwks_url,
        session_key: samples::session_key(),
    }
}

type Answer = Arc<dyn Fn() -> Option<Response> + Send + Sync>;

/// An issuer that publishes `rsa-1` and `ec-1`, and a verifier of its tokens that has fetched nothing yet.
struct World {
    issuer: Fake,
    answer: Arc<Mutex<Answer>>,
    clock: ManualClock,
    verifier: TokenVerifier<ManualClock>,
}

impl World {
    async fn new() -> Self {
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Arc::new(|| None)));
        let current = Arc::clone(&answer);
        let issuer = Fake::start(move |_| {
            let answer = Arc::clone(&current.lock().unwrap());
            std::future::ready(answer())
        })
        .await;
        let clock = ManualClock::new();
        let jwks_url = format!("{}/.well-known/jwks.json", issuer.url);
        let verifier = TokenVerifier::new(configuration(jwks_url), clock.clone());
        let world = Self { issuer, answer, clock, verifier };
        world.publish(&[jwk("rsa-1", &RSA.private, Algorithm::RS256), jwk("ec-1", &EC, Algorithm::ES256)]);
        world
    }

    /// From now on the issuer answers so.
    fn answers(&self, answer: impl Fn() -> Option<Response> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    fn says(&self, status: StatusCode, body: impl Into<String>) {
        let body = body.into();
        self.answers(move || Some((status, body.clone()).into_response()));
    }

    fn publish(&self, keys: &[Value]) {
        self.says(StatusCode::OK, key_set(keys));
    }

    fn hangs_up(&self) {
        self.answers(|| None);
    }

    async fn verify(&self, token: &str) -> Result<Identity, TokenError> {
        within(self.verifier.verify(token)).await
    }

    async fn admitted(&self, token: &str) {
        assert_eq!(self.verify(token).await.unwrap(), aiko());
    }

    async fn refused(&self, token: &str) {
        match self.verify(token).await {
            Err(TokenError::Invalid(_)) => {}
            other => panic!("{other:?} for {token}"),
        }
    }

    async fn undecided(&self, token: &str) {
        match self.verify(token).await {
            Err(TokenError::Unavailable(_)) => {}
            other => panic!("{other:?} for {token}"),
        }
    }

    /// How often the issuer was asked for its keys.
    fn fetches(&self) -> usize {
        self.issuer.requests().len()
    }
}

#[tokio::test]
async fn a_valid_token_names_its_shopper() {
    let world = World::new().await;
    world.admitted(&rsa_token(&claims())).await;
    world.admitted(&token("ec-1", Algorithm::ES256, &EC, &claims())).await;
    assert_eq!(world.fetches(), 1, "both keys came at once");
    assert_eq!(world.issuer.requests()[0].target, "/.well-known/jwks.json");
}

#[tokio::test]
async fn a_token_must_be_of_this_issuer_and_for_this_audience() {
    let world = World::new().await;
    for good in [json!(AUDIENCE), json!([AUDIENCE]), json!(["another", AUDIENCE])] {
        world.admitted(&rsa_token(&claims_with("aud", good))).await;
    }
    for bad in [json!("another"), json!(["another"]), json!([]), json!(""), json!("manga-chat-2"), json!(7), json!({})]
    {
        world.refused(&rsa_token(&claims_with("aud", bad))).await;
    }
    for bad in [json!("https://issuer.example/pool2"), json!("https://issuer.example"), json!(""), json!(7)] {
        world.refused(&rsa_token(&claims_with("iss", bad))).await;
    }
}

#[tokio::test]
async fn a_token_without_a_claim_that_counts_is_refused() {
    let world = World::new().await;
    for missing in ["exp", "iss", "aud", SUBJECT_CLAIM] {
        world.refused(&rsa_token(&claims_without(missing))).await;
        world.refused(&rsa_token(&claims_with(missing, Value::Null))).await;
    }
    for nobody in [json!(""), json!(42), json!(["aiko"]), json!(true)] {
        world.refused(&rsa_token(&claims_with(SUBJECT_CLAIM, nobody))).await;
    }
    for never in [json!("1795305600"), json!(-1), json!(true), json!([1_795_305_600_u64]), json!("")] {
        world.refused(&rsa_token(&claims_with("exp", never))).await;
    }
    let unnamed = encode(&Header::new(Algorithm::RS256), &claims(), &RSA.private).unwrap();
    world.refused(&unnamed).await;
    world.admitted(&rsa_token(&claims())).await;
}

#[tokio::test]
async fn a_token_ends_at_the_millisecond_it_names() {
    let world = World::new().await;
    let exp = START_MS / 1_000 + 60;
    let expiring = rsa_token(&claims_with("exp", json!(exp)));
    let half_a_second_longer = rsa_token(&claims_with("exp", json!(exp as f64 + 0.5)));
    world.clock.advance_to(exp * 1_000 - 1);
    assert_eq!(world.verify(&expiring).await.unwrap().expires_at, exp * 1_000);
    world.clock.advance(1);
    world.refused(&expiring).await;
    assert_eq!(world.verify(&half_a_second_longer).await.unwrap().expires_at, exp * 1_000 + 500);
    world.clock.advance(500);
    world.refused(&half_a_second_longer).await;
}

#[tokio::test]
async fn a_token_begins_when_it_says() {
    let world = World::new().await;
    let nbf = START_MS / 1_000 + 60;
    let later = rsa_token(&claims_with("nbf", json!(nbf)));
    world.clock.advance_to(nbf * 1_000 - 1);
    world.refused(&later).await;
    world.clock.advance(1);
    world.admitted(&later).await;
    for never in [json!("now"), json!(-1), json!({})] {
        world.refused(&rsa_token(&claims_with("nbf", never))).await;
    }
}

#[tokio::test]
async fn what_was_changed_since_it_was_signed_is_refused() {
    let world = World::new().await;
    let good = rsa_token(&claims());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    let forged = URL_SAFE_NO_PAD.encode(claims_with(SUBJECT_CLAIM, json!("ben")).to_string());
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    bytes[100] ^= 1;
    let flipped = URL_SAFE_NO_PAD.encode(&bytes);
    let other_rsa = token("rsa-1", Algorithm::RS256, &OTHER_RSA.private, &claims());
    let tampered = [
        format!("{header}.{forged}.{signature}"),
        format!("{header}.{payload}.{flipped}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{good}.{signature}"),
        format!("{header}.{payload}.{}", &signature[..signature.len() - 4]),
        format!(" {good}"),
        String::new(),
        "..".to_owned(),
        "token".to_owned(),
        other_rsa,
    ];
    for token in tampered {
        world.refused(&token).await;
    }
    world.admitted(&good).await;
}

#[tokio::test]
async fn the_key_decides_the_algorithm() {
    let world = World::new().await;
    let payload = URL_SAFE_NO_PAD.encode(claims().to_string());
    for none in ["none", "None", "NONE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": none, "typ": "JWT", "kid": "rsa-1" }).to_string());
        world.refused(&format!("{header}.{payload}.")).await;
    }
    let public_jwk = jwk("rsa-1", &RSA.private, Algorithm::RS256);
    let modulus = URL_SAFE_NO_PAD.decode(public_jwk["n"].as_str().unwrap()).unwrap();
    for public in [
        RSA.public_der.clone(),
        pem("PUBLIC KEY", &RSA.public_der).into_bytes(),
        modulus,
        public_jwk.to_string().into_bytes(),
    ] {
        let as_secret = EncodingKey::from_secret(&public);
        world.refused(&token("rsa-1", Algorithm::HS256, &as_secret, &claims())).await;
    }
    world.refused(&token("rsa-1", Algorithm::ES256, &EC, &claims())).await;
    world.refused(&token("ec-1", Algorithm::RS256, &RSA.private, &claims())).await;
    for another in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        world.refused(&token("rsa-1", another, &RSA.private, &claims())).await;
    }
    world.admitted(&rsa_token(&claims())).await;
}

#[tokio::test]
async fn keys_that_do_not_sign_tokens_are_left_out_and_spoil_nothing() {
    let world = World::new().await;
    let secret = EncodingKey::from_secret(b"a secret that everybody can read");
    world.publish(&[
        jwk("secret", &secret, Algorithm::HS256),
        jwk("pss", &OTHER_RSA.private, Algorithm::PS256),
        json!({ "kty": "OKP", "kid": "ed", "alg": "EdDSA", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
        json!({ "kty": "RSA", "kid": "encrypts", "use": "enc", "alg": "RSA-OAEP", "n": "AQAB", "e": "AQAB" }),
        json!({ "kty": "NEW", "kid": "new", "alg": "NEW-1" }),
        jwk("rsa-1", &RSA.private, Algorithm::RS256),
    ]);
    world.admitted(&rsa_token(&claims())).await;
    world.refused(&token("secret", Algorithm::HS256, &secret, &claims())).await;
    world.refused(&token("pss", Algorithm::PS256, &OTHER_RSA.private, &claims())).await;
    world.refused(&token("pss", Algorithm::RS256, &OTHER_RSA.private, &claims())).await;
}

#[tokio::test]
async fn a_key_without_an_algorithm_has_that_of_its_kind() {
    let world = World::new().await;
    let without_algorithm = |mut key: Value, usage: &str| {
        key.as_object_mut().unwrap().remove("alg").unwrap();
        key["use"] = usage.into();
        key
    };
    world.publish(&[
        without_algorithm(jwk("rsa-1", &RSA.private, Algorithm::RS256), "sig"),
        without_algorithm(jwk("ec-1", &EC, Algorithm::ES256), "sig"),
        without_algorithm(jwk("encrypts", &OTHER_RSA.private, Algorithm::RS256), "enc"),
    ]);
    world.admitted(&rsa_token(&claims())).await;
    world.admitted(&token("ec-1", Algorithm::ES256, &EC, &claims())).await;
    world.refused(&token("rsa-1", Algorithm::RS512, &RSA.private, &claims())).await;
    world.refused(&token("encrypts", Algorithm::RS256, &OTHER_RSA.private, &claims())).await;
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_in_a_while() {
    let world = World::new().await;
    let unknown = token("rsa-2", Algorithm::RS256, &OTHER_RSA.private, &claims());
    world.refused(&unknown).await;
    assert_eq!(world.fetches(), 1);
    world.clock.advance(REFRESH_PAUSE_MS - 1);
    world.refused(&unknown).await;
    assert_eq!(world.fetches(), 1);
    world.clock.advance(1);
    world.refused(&unknown).await;
    world.refused(&unknown).await;
    world.refused(&token("rsa-3", Algorithm::RS256, &OTHER_RSA.private, &claims())).await;
    assert_eq!(world.fetches(), 2);
    world.admitted(&rsa_token(&claims())).await;
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn a_new_key_is_found() {
    let world = World::new().await;
    world.admitted(&rsa_token(&claims())).await;
    world.publish(&[jwk("rsa-1", &RSA.private, Algorithm::RS256), jwk("rsa-2", &OTHER_RSA.private, Algorithm::RS256)]);
    world.clock.advance(REFRESH_PAUSE_MS);
    world.admitted(&rsa_token(&claims())).await;
    assert_eq!(world.fetches(), 1, "a known key is no reason to ask");
    world.admitted(&token("rsa-2", Algorithm::RS256, &OTHER_RSA.private, &claims())).await;
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn a_withdrawn_key_stops_to_count() {
    let world = World::new().await;
    let signed = rsa_token(&claims());
    world.admitted(&signed).await;
    world.publish(&[jwk("rsa-2", &OTHER_RSA.private, Algorithm::RS256)]);
    world.clock.advance(KEYS_LIFE_MS - 1);
    world.admitted(&signed).await;
    assert_eq!(world.fetches(), 1);
    world.clock.advance(1);
    world.refused(&signed).await;
    assert_eq!(world.fetches(), 2);
}

#[tokio::test]
async fn without_keys_nothing_is_said_about_a_token() {
    let world = World::new().await;
    let signed = rsa_token(&claims());
    let key_set = key_set(&[jwk("rsa-1", &RSA.private, Algorithm::RS256)]);
    let failures: [(StatusCode, &str); 7] = [
        (StatusCode::INTERNAL_SERVER_ERROR, &key_set),
        (StatusCode::NOT_FOUND, &key_set),
        (StatusCode::OK, ""),
        (StatusCode::OK, "<html>login</html>"),
        (StatusCode::OK, "[]"),
        (StatusCode::OK, r#"{"keys":7}"#),
        (StatusCode::OK, &key_set[..key_set.len() - 1]),
    ];
    for (status, body) in failures {
        world.says(status, body);
        world.undecided(&signed).await;
        world.clock.advance(RETRY_PAUSE_MS);
    }
    world.hangs_up();
    world.undecided(&signed).await;
    world.clock.advance(RETRY_PAUSE_MS);
    world.says(StatusCode::OK, key_set);
    world.admitted(&signed).await;
}

#[tokio::test]
async fn an_issuer_that_failed_is_left_alone_for_a_moment() {
    let world = World::new().await;
    world.hangs_up();
    let signed = rsa_token(&claims());
    world.undecided(&signed).await;
    let asked = world.fetches();
    world.undecided(&signed).await;
    world.clock.advance(RETRY_PAUSE_MS - 1);
    world.undecided(&signed).await;
    assert_eq!(world.fetches(), asked);
    world.clock.advance(1);
    world.undecided(&signed).await;
    assert!(world.fetches() > asked);
}

#[tokio::test]
async fn known_keys_outlast_their_issuer() {
    let world = World::new().await;
    let signed = rsa_token(&claims());
    world.admitted(&signed).await;
    world.hangs_up();
    world.clock.advance(REFRESH_PAUSE_MS);
    world.undecided(&token("rsa-2", Algorithm::RS256, &OTHER_RSA.private, &claims())).await;
    world.admitted(&signed).await;
    world.clock.advance(KEYS_LIFE_MS);
    world.admitted(&signed).await;
    let asked = world.fetches();
    world.admitted(&signed).await;
    assert_eq!(world.fetches(), asked, "the issuer is left alone for a moment");
}

#[tokio::test]
async fn an_issuer_that_never_answers_is_given_up() {
    let silent = Fake::silent().await;
    let verifier = TokenVerifier::new(configuration(silent.url.clone()), ManualClock::new());
    let outcome = within(verifier.verify(&rsa_token(&claims()))).await;
    assert!(matches!(outcome, Err(TokenError::Unavailable(_))), "{outcome:?}");
    assert_eq!(silent.requests().len(), 1);
}

/// A key set padded to a size.
fn padded(bytes: usize) -> String {
    let mut padded = key_set(&[jwk("rsa-1", &RSA.private, Algorithm::RS256)]);
    padded.extend(iter::repeat_n(' ', bytes - padded.len()));
    padded
}

/// The same body without a length in its head.
fn chunked(body: String) -> Response {
    let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
        body.as_bytes().chunks(10_000).map(|chunk| Ok(chunk.to_vec())).collect();
    Body::from_stream(stream::iter(chunks)).into_response()
}

#[tokio::test]
async fn a_key_set_too_large_is_not_read() {
    let signed = rsa_token(&claims());
    for answer in [|body: String| body.into_response(), chunked] {
        let world = World::new().await;
        world.answers(move || Some(answer(padded(KEY_SET_BYTES_MAX + 1))));
        world.undecided(&signed).await;
        world.clock.advance(RETRY_PAUSE_MS);
        world.answers(move || Some(answer(padded(KEY_SET_BYTES_MAX))));
        world.admitted(&signed).await;
    }
}

#[tokio::test]
async fn a_key_set_without_end_is_given_up() {
    let world = World::new().await;
    world.answers(|| {
        let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 4_096]));
        Some(Body::from_stream(endless).into_response())
    });
    world.undecided(&rsa_token(&claims())).await;
}

#[tokio::test]
async fn many_tokens_at_once_fetch_once() {
    let world = World::new().await;
    let signed = rsa_token(&claims());
    let outcomes = within(join_all((0..64).map(|_| world.verifier.verify(&signed)))).await;
    assert!(outcomes.into_iter().all(|outcome| outcome.is_ok_and(|identity| identity == aiko())));
    assert_eq!(world.fetches(), 1);

    world.clock.advance(REFRESH_PAUSE_MS);
    let unknown: Vec<String> =
        (0..64).map(|number| token(&format!("unknown-{number}"), Algorithm::ES256, &EC, &claims())).collect();
    let outcomes = within(join_all(unknown.iter().map(|token| world.verifier.verify(token)))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(TokenError::Invalid(_)))));
    assert_eq!(world.fetches(), 2);

    world.says(StatusCode::INTERNAL_SERVER_ERROR, "");
    world.clock.advance(REFRESH_PAUSE_MS);
    let outcomes = within(join_all(unknown.iter().map(|token| world.verifier.verify(token)))).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Err(TokenError::Unavailable(_)))));
    assert_eq!(world.fetches(), 3, "whoever waits fails with the first");
}
