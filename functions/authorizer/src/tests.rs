//! Who is let in and as whom, and what API Gateway is told.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use aws_adapters::configuration::AuthorizerConfiguration;
use aws_adapters::{RandomNonces, TokenVerifier};
use aws_lambda_events::apigw::{ApiGatewayCustomAuthorizerRequestTypeRequest, ApiGatewayCustomAuthorizerResponse};
use axum::routing::get;
use domain::ids::{Principal, SessionKey};
use domain::limits::{CONNECTION_LIFE_MS, RESUME_TOKEN_LIFE_MS};
use domain::ports::{Clock as _, Identity, IdentityProvider, Nonces};
use domain::session::Caller;
use lambda_runtime::Diagnostic;
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::{KnownTokens, ManualClock, START_MS, SequentialNonces, samples};
use tokio::net::TcpListener;

use crate::{Authorizer, Refused};

const EVENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events");
const CONNECT_ARN: &str = "arn:aws:execute-api:ap-northeast-1:123456789012:a1b2c3d4e5/v1/$connect";

/// The samples by name.
fn sample_events() -> BTreeMap<String, ApiGatewayCustomAuthorizerRequestTypeRequest> {
    fs::read_dir(format!("{EVENTS}/authorizer"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let event = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), event)
        })
        .collect()
}

/// A handshake that offers these subprotocols.
fn handshake(subprotocols: &str) -> ApiGatewayCustomAuthorizerRequestTypeRequest {
    let mut event = sample_events().remove("guest").unwrap();
    event.headers.insert("sec-websocket-protocol", subprotocols.parse().unwrap());
    event
}

/// What a client sees of a decision.
#[derive(Debug, PartialEq)]
enum Seen {
    Guest,
    GuestOf(&'static str),
    Shopper(&'static str),
    Status(u16),
}

/// The status of the handshake, or the caller of the frames that follow: what API Gateway makes of an answer.
fn verdict(answer: Result<ApiGatewayCustomAuthorizerResponse, Refused>) -> Result<Caller, u16> {
    let response = match answer {
        Ok(response) => serde_json::to_value(response).unwrap(),
        Err(refused) => {
            let told = serde_json::to_value(Diagnostic::from(refused)).unwrap();
            return Err(if told["errorMessage"] == "Unauthorized" { 401 } else { 500 });
        }
    };
    match response["policyDocument"]["Statement"][0]["Effect"].as_str().unwrap() {
        "Allow" => Ok(Caller::from_context(|name| Some(response["context"][name].as_str()?.to_owned())).unwrap()),
        "Deny" => Err(403),
        effect => panic!("{effect}"),
    }
}

struct World {
    tokens: KnownTokens,
    clock: ManualClock,
    authorizer: Authorizer<KnownTokens, ManualClock, SequentialNonces>,
}

impl World {
    /// A world in which aiko's token is `aiko.jwt`, valid for an hour.
    fn new() -> Self {
        let (tokens, clock) = (KnownTokens::default(), ManualClock::new());
        tokens.issue("aiko.jwt", Identity { subject: "aiko".to_owned(), expires_at: START_MS + 3_600_000 });
        let authorizer = Authorizer {
            identities: tokens.clone(),
            session_key: samples::session_key(),
            clock: clock.clone(),
            nonces: SequentialNonces::default(),
        };
        Self { tokens, clock, authorizer }
    }

    fn answer(&self, subprotocols: &str) -> Result<ApiGatewayCustomAuthorizerResponse, Refused> {
        self.clock.block_on(self.authorizer.handle(handshake(subprotocols)))
    }

    fn verdict(&self, subprotocols: &str) -> Result<Caller, u16> {
        verdict(self.answer(subprotocols))
    }

    fn resume_token(&self, session: &str) -> String {
        let Principal::Guest(session) = samples::guest(session) else { unreachable!("a guest") };
        samples::session_key().seal_resume_token(&session, self.clock.now_ms())
    }
}

/// As deployed: tokens are verified with the key set beside the samples, served as their issuer would.
#[tokio::test]
async fn every_sample_is_decided() {
    #[derive(Deserialize)]
    struct Environment {
        #[serde(rename = "Parameters")]
        parameters: HashMap<String, String>,
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let jwks_url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let jwks = fs::read_to_string(format!("{EVENTS}/jwks.json")).unwrap();
    let issuer = axum::serve(listener, axum::Router::new().route("/jwks.json", get(async move || jwks)));

    let environment: Environment = serde_json::from_slice(&fs::read(format!("{EVENTS}/env.json")).unwrap()).unwrap();
    let configuration = AuthorizerConfiguration::from_lookup(|name| match name {
        "JWKS_URL" => Some(jwks_url.clone()),
        name => environment.parameters.get(name).cloned(),
    })
    .unwrap();
    let clock = ManualClock::new();
    let authorizer = Authorizer {
        session_key: configuration.session_key.clone(),
        identities: TokenVerifier::new(configuration, clock.clone()),
        clock,
        nonces: RandomNonces,
    };
    let decided = async {
        let mut decided = BTreeMap::new();
        for (name, event) in sample_events() {
            decided.insert(name, verdict(authorizer.handle(event).await).map(|caller| caller.principal));
        }
        decided
    };
    let mut decided = tokio::select! {
        decided = decided => decided,
        served = issuer.into_future() => panic!("the issuer stopped: {served:?}"),
    };

    assert!(matches!(decided.remove("guest"), Some(Ok(Principal::Guest(_)))), "a name nobody can foresee");
    let expected = [
        ("forged-token", Err(401)),
        ("no-subprotocol", Err(403)),
        ("returning-guest", Ok(samples::guest("s_Ov1Qm8pYc2Tz0kLr5uHnXw"))),
        ("shopper", Ok(samples::shopper("aiko"))),
    ];
    assert_eq!(decided, expected.map(|(name, outcome)| (name.to_owned(), outcome)).into());
}

#[test]
fn subprotocols_decide() {
    let world = World::new();
    let yuki = world.resume_token("yuki");
    for (offered, expected) in [
        ("manga-chat.v1", Seen::Guest),
        ("  manga-chat.v1\t", Seen::Guest),
        ("chat, manga-chat.v1, soap", Seen::Guest),
        ("manga-chat.v1, manga-chat.v1", Seen::Guest),
        ("manga-chat.v1, bearer.aiko.jwt", Seen::Shopper("aiko")),
        ("bearer.aiko.jwt,manga-chat.v1", Seen::Shopper("aiko")),
        ("  bearer.aiko.jwt  ,  manga-chat.v1  ", Seen::Shopper("aiko")),
        (&format!("manga-chat.v1, guest.{yuki}"), Seen::GuestOf("yuki")),
        (&format!("guest.{yuki},manga-chat.v1"), Seen::GuestOf("yuki")),
        ("", Seen::Status(403)),
        ("chat", Seen::Status(403)),
        ("manga-chat.v2", Seen::Status(403)),
        ("Manga-Chat.v1", Seen::Status(403)),
        ("manga-chat.v1 bearer.aiko.jwt", Seen::Status(403)),
        ("bearer.aiko.jwt", Seen::Status(403)),
        (&format!("guest.{yuki}"), Seen::Status(403)),
        ("manga-chat.v1, bearer.aiko.jwt, bearer.aiko.jwt", Seen::Status(403)),
        (&format!("manga-chat.v1, guest.{yuki}, guest.{yuki}"), Seen::Status(403)),
        (&format!("bearer.aiko.jwt, manga-chat.v1, guest.{yuki}"), Seen::Status(403)),
        ("manga-chat.v1, bearer.", Seen::Status(401)),
        ("manga-chat.v1, guest.", Seen::Status(401)),
        ("manga-chat.v1, bearer.somebody.jwt", Seen::Status(401)),
        ("manga-chat.v1, Bearer.aiko.jwt", Seen::Guest),
    ] {
        let seen = match world.verdict(offered) {
            Ok(Caller { principal, .. }) if principal == samples::shopper("aiko") => Seen::Shopper("aiko"),
            Ok(Caller { principal, .. }) if principal == samples::guest("yuki") => Seen::GuestOf("yuki"),
            Ok(_) => Seen::Guest,
            Err(status) => Seen::Status(status),
        };
        assert_eq!(seen, expected, "{offered:?}");
    }
}

#[test]
fn a_handshake_without_subprotocols_is_denied() {
    let world = World::new();
    let mut event = handshake("manga-chat.v1");
    event.headers.remove("sec-websocket-protocol");
    assert_eq!(verdict(world.clock.block_on(world.authorizer.handle(event))), Err(403));
}

#[test]
fn every_new_guest_has_a_session_of_their_own() {
    let world = World::new();
    let (first, second) = (world.verdict("manga-chat.v1").unwrap(), world.verdict("manga-chat.v1").unwrap());
    assert_ne!(first.session_id, second.session_id);
    for guest in [first, second] {
        assert_eq!(guest.principal, Principal::Guest(guest.session_id.clone()));
        assert_eq!(guest.expires_at, START_MS + CONNECTION_LIFE_MS);
    }
}

#[test]
fn session_names_are_random() {
    let [one, other] = [RandomNonces.nonce(), RandomNonces.nonce()].map(|nonce| nonce.replace('-', ""));
    let agreeing = one.bytes().zip(other.bytes()).filter(|(one, other)| one == other).count();
    assert_eq!((one.len(), other.len()), (32, 32), "a UUID, 122 bits of it random");
    assert!(agreeing < 20, "of 32 digits {agreeing} agree: {one} {other}");
}

#[test]
fn a_returning_guest_keeps_the_session() {
    let world = World::new();
    let token = world.resume_token("yuki");
    world.clock.advance(86_400_000);
    let caller = world.verdict(&format!("manga-chat.v1, guest.{token}")).unwrap();
    assert_eq!((caller.principal, caller.session_id.as_str()), (samples::guest("yuki"), "yuki"));
    assert_eq!(caller.expires_at, world.clock.now_ms() + CONNECTION_LIFE_MS);
}

#[test]
fn resume_tokens_expire_to_the_millisecond() {
    let world = World::new();
    let offer = format!("manga-chat.v1, guest.{}", world.resume_token("yuki"));
    world.clock.advance(RESUME_TOKEN_LIFE_MS - 1);
    assert!(world.verdict(&offer).is_ok());
    world.clock.advance(1);
    assert_eq!(world.verdict(&offer), Err(401));
}

#[test]
fn forged_resume_tokens_are_refused() {
    let world = World::new();
    let token = world.resume_token("yuki");
    let [session, expires_at, tag] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
    let other_key = SessionKey::new(&[8; SessionKey::BYTES_MIN]).unwrap();
    let Principal::Guest(yuki) = samples::guest("yuki") else { unreachable!("a guest") };
    for forged in [
        format!("sato.{expires_at}.{tag}"),
        format!("{session}.9{expires_at}.{tag}"),
        format!("{session}.{expires_at}."),
        format!("{session}.{expires_at}"),
        format!("{session}.{expires_at}.{}", &tag[..tag.len() - 2]),
        format!("{session}.{expires_at}.{tag}.{tag}"),
        session.to_owned(),
        other_key.seal_resume_token(&yuki, world.clock.now_ms()),
    ] {
        assert_eq!(world.verdict(&format!("manga-chat.v1, guest.{forged}")), Err(401), "{forged}");
    }
}

#[test]
fn a_shopper_may_speak_until_the_token_or_the_connection_ends() {
    let world = World::new();
    for (token_ends, expected) in [
        (START_MS + 1, START_MS + 1),
        (START_MS + CONNECTION_LIFE_MS - 1, START_MS + CONNECTION_LIFE_MS - 1),
        (START_MS + CONNECTION_LIFE_MS, START_MS + CONNECTION_LIFE_MS),
        (START_MS + CONNECTION_LIFE_MS + 1, START_MS + CONNECTION_LIFE_MS),
        (u64::MAX, START_MS + CONNECTION_LIFE_MS),
    ] {
        world.tokens.issue("jwt", Identity { subject: "ben".to_owned(), expires_at: token_ends });
        let caller = world.verdict("manga-chat.v1, bearer.jwt").unwrap();
        assert_eq!((caller.principal, caller.expires_at), (samples::shopper("ben"), expected));
    }
}

#[test]
fn without_the_issuers_keys_nobody_is_called_unauthorized() {
    let world = World::new();
    world.tokens.go_down();
    assert_eq!(world.verdict("manga-chat.v1, bearer.aiko.jwt"), Err(500));
    assert!(world.verdict("manga-chat.v1").is_ok(), "guests need no issuer");
}

#[test]
fn api_gateway_reads_the_text_of_a_refusal() {
    let told = |refused| serde_json::to_value(Diagnostic::from(refused)).unwrap();
    let unauthorized = json!({ "errorType": "Unauthorized", "errorMessage": "Unauthorized" });
    assert_eq!(told(Refused::Unauthorized), unauthorized, "401 takes exactly this text");
    assert_ne!(told(Refused::Unavailable)["errorMessage"], "Unauthorized", "that would be a 401");
}

#[test]
fn an_allowed_handshake_answers_policy_and_context() {
    let world = World::new();
    let response = serde_json::to_value(world.answer("manga-chat.v1, bearer.aiko.jwt").unwrap()).unwrap();
    assert_eq!(
        response,
        json!({
            "principalId": "shopper:aiko",
            "policyDocument": {
                "Version": "2012-10-17",
                "Statement": [{ "Action": ["execute-api:Invoke"], "Effect": "Allow", "Resource": [CONNECT_ARN] }],
            },
            "context": {
                "principal": "shopper:aiko",
                "session_id": "nonce-1",
                "tier": "shopper",
                "expires_at": (START_MS + 3_600_000).to_string(),
            },
            "usageIdentifierKey": null,
        })
    );
}

#[test]
fn a_denied_handshake_answers_a_policy_without_context() {
    let response = serde_json::to_value(World::new().answer("chat").unwrap()).unwrap();
    let statement = json!([{ "Action": ["execute-api:Invoke"], "Effect": "Deny", "Resource": [CONNECT_ARN] }]);
    assert_eq!(response["policyDocument"], json!({ "Version": "2012-10-17", "Statement": statement }));
    assert_eq!((&response["principalId"], &response["context"]), (&json!("nobody"), &json!({})));
}

/// API Gateway takes at most 8 KB of context, all of it strings. The headers of a handshake, 10,240 bytes in all, cannot
/// carry a token with a longer subject than this.
#[test]
fn the_longest_context_is_small_and_flat() {
    let world = World::new();
    let subject = "s".repeat(10_240 * 3 / 4);
    world.tokens.issue("jwt", Identity { subject, expires_at: START_MS + 1 });
    let response = world.answer("manga-chat.v1, bearer.jwt").unwrap();
    assert!(response.context.as_object().unwrap().values().all(Value::is_string));
    assert!(response.context.to_string().len() <= 8 * 1024);
}

#[test]
fn an_environment_serves_many_handshakes_at_once() {
    fn shared<I: IdentityProvider, C: domain::ports::Clock, N: Nonces>(
        authorizer: &Authorizer<I, C, N>,
        event: ApiGatewayCustomAuthorizerRequestTypeRequest,
    ) -> impl Send {
        fn sync<T: Sync>(_: &T) {}
        sync(authorizer);
        authorizer.handle(event)
    }
    drop(shared(&World::new().authorizer, handshake("manga-chat.v1")));
}
