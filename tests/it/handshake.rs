//! Who may connect, and as whom.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{Client, SUBPROTOCOL, now_ms};
use crate::stack::{Running, exclusive, shared};
use crate::turn::kind;

/// Meets the password policy of the user pool.
const PASSWORD: &str = "Integration-test-1";

/// Long enough to connect with on a slow machine, short enough to wait for.
const SHORT_VALIDITY_S: u64 = 20;

/// Connects with this token; the error is the HTTP status of the refusal.
async fn sign_in(stack: &Running, token: &str) -> Result<Client, u16> {
    Client::offer(stack, &[SUBPROTOCOL, &format!("bearer.{token}")]).await
}

async fn principal(mut client: Client) -> Value {
    client.start_session(json!({})).await["principal"].clone()
}

#[tokio::test]
async fn a_client_must_offer_the_protocol() {
    let stack = shared().await;
    let bearer = format!("bearer.{}", stack.token("aiko").await);
    for offers in [&[][..], &["manga-chat.v2"], &[&bearer]] {
        let status = Client::offer(&stack, offers).await.err();
        assert!(matches!(status, Some(401 | 403)), "{offers:?} is answered by {status:?}");
    }
}

#[tokio::test]
async fn the_order_of_the_offers_does_not_matter() {
    let stack = shared().await;
    let bearer = format!("bearer.{}", stack.token("aiko").await);
    for offers in [[SUBPROTOCOL, &bearer], [&bearer, SUBPROTOCOL]] {
        let client = Client::offer(&stack, &offers).await.expect("aiko is admitted");
        assert_eq!(principal(client).await, "aiko");
    }
}

#[tokio::test]
async fn a_token_in_the_url_is_not_looked_at() {
    let stack = shared().await;
    let token = stack.token("aiko").await;
    for name in ["token", "access_token", "Authorization", "Sec-WebSocket-Protocol"] {
        let url = format!("{}?{name}={token}", stack.websocket_url());
        let client = Client::open(&url, &[SUBPROTOCOL]).await.expect("guests are admitted");
        assert_eq!(principal(client).await, "guest", "?{name}=");
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let stack = shared().await;
    let token = stack.token("aiko").await;
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let edit = |part: &str, member: &str, value: Value| {
        let mut object: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_ne!(object[member], value);
        object[member] = value;
        BASE64_URL_SAFE_NO_PAD.encode(object.to_string())
    };
    let as_ben = edit(claims, "cognito:username", json!("ben"));
    let unsigned = edit(header, "alg", json!("none"));
    let symmetric = edit(header, "alg", json!("HS256"));
    for (what, forged) in [
        ("another subject", format!("{header}.{as_ben}.{signature}")),
        ("another signature", format!("{header}.{claims}.{}", altered(signature))),
        ("no signature", format!("{header}.{claims}.")),
        ("the algorithm none", format!("{unsigned}.{claims}.")),
        ("the algorithm none and a signature", format!("{unsigned}.{claims}.{signature}")),
        ("a symmetric algorithm", format!("{symmetric}.{claims}.{signature}")),
        ("an unknown key", format!("{}.{claims}.{signature}", edit(header, "kid", json!("unknown")))),
        ("two parts", format!("{header}.{claims}")),
        ("no JWT", "aiko".to_owned()),
    ] {
        assert_eq!(sign_in(&stack, &forged).await.err(), Some(401), "{what}");
    }
    assert_eq!(principal(sign_in(&stack, &token).await.expect("the real one is good")).await, "aiko");
}

#[tokio::test]
async fn forged_guest_tokens_are_refused() {
    let stack = shared().await;
    let token = Client::guest(&stack).await.start_session(json!({})).await["resume_token"].as_str().unwrap().to_owned();
    for forged in [&altered(&token), &token[..token.len() / 2], &format!("{token}A"), "aiko"] {
        let offer = format!("guest.{forged}");
        assert_eq!(Client::offer(&stack, &[SUBPROTOCOL, &offer]).await.err(), Some(401), "{forged} for {token}");
    }
    assert_eq!(principal(Client::returning_guest(&stack, &token).await).await, "guest");
}

/// The same with another character in the middle, where every bit of a base64 character counts.
fn altered(token: &str) -> String {
    let half = token.len() / 2;
    let at = half + token[half..].find(|character: char| character.is_ascii_alphanumeric()).unwrap();
    let other = if token[at..].starts_with('A') { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

#[tokio::test]
async fn tokens_for_others_are_refused() {
    let stack = shared().await;
    let pool = stack.output("UserPoolId");
    create_user(&stack, pool, "chika").await;
    let genuine = token_of(&stack, stack.output("UserPoolClientId"), "chika").await;
    assert_eq!(principal(sign_in(&stack, &genuine).await.expect("chika is admitted")).await, "chika");

    let other_client = create_client(&stack, pool).await;
    let for_another_audience = token_of(&stack, &other_client, "chika").await;
    assert_eq!(sign_in(&stack, &for_another_audience).await.err(), Some(401));

    let created = cognito(&stack, "CreateUserPool", json!({"PoolName": "another"})).await;
    let other_pool = created["UserPool"]["Id"].as_str().unwrap();
    create_user(&stack, other_pool, "chika").await;
    let from_another_issuer = token_of(&stack, &create_client(&stack, other_pool).await, "chika").await;
    assert_eq!(sign_in(&stack, &from_another_issuer).await.err(), Some(401));
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let (token, mut client) = {
        // Alone, because the tokens of all others would be as short-lived.
        let stack = exclusive().await;
        let id = json!({"UserPoolId": stack.output("UserPoolId"), "ClientId": stack.output("UserPoolClientId")});
        let settings = cognito(&stack, "DescribeUserPoolClient", id.clone()).await["UserPoolClient"].clone();
        let mut short_lived = id.clone();
        short_lived["IdTokenValidity"] = SHORT_VALIDITY_S.into();
        short_lived["TokenValidityUnits"] = json!({"IdToken": "seconds"});
        cognito(&stack, "UpdateUserPoolClient", short_lived).await;
        let token = stack.token("ben").await;
        let mut restored = id;
        restored["IdTokenValidity"] = settings["IdTokenValidity"].clone();
        restored["TokenValidityUnits"] = settings["TokenValidityUnits"].clone();
        cognito(&stack, "UpdateUserPoolClient", restored).await;
        let client = sign_in(&stack, &token).await.expect("the token has not expired yet");
        (token, client)
    };
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let expires_at = serde_json::from_slice::<Value>(&claims).unwrap()["exp"].as_u64().unwrap() * 1000;
    let remaining_ms = expires_at.checked_sub(now_ms()).expect("the token has not expired yet");
    assert!(remaining_ms <= SHORT_VALIDITY_S * 1000, "{remaining_ms}");
    sleep(Duration::from_millis(remaining_ms + 1)).await;

    let answer = client.request(&json!({"action": "ping"})).await;
    assert_eq!(kind(&answer), "error", "{answer}");
    assert_eq!(answer["data"]["code"], "session_expired", "{answer}");
    let stack = shared().await;
    assert_eq!(sign_in(&stack, &token).await.err(), Some(401));
}

async fn create_user(stack: &Running, pool: &str, name: &str) {
    let user = json!({"UserPoolId": pool, "Username": name, "MessageAction": "SUPPRESS"});
    cognito(stack, "AdminCreateUser", user).await;
    let password = json!({"UserPoolId": pool, "Username": name, "Password": PASSWORD, "Permanent": true});
    cognito(stack, "AdminSetUserPassword", password).await;
}

async fn create_client(stack: &Running, pool: &str) -> String {
    let client =
        json!({"UserPoolId": pool, "ClientName": "another", "ExplicitAuthFlows": ["ALLOW_USER_PASSWORD_AUTH"]});
    let created = cognito(stack, "CreateUserPoolClient", client).await;
    created["UserPoolClient"]["ClientId"].as_str().unwrap().to_owned()
}

/// The ID token with which the user signs in to the client.
async fn token_of(stack: &Running, client: &str, name: &str) -> String {
    let request = json!({
        "ClientId": client,
        "AuthFlow": "USER_PASSWORD_AUTH",
        "AuthParameters": {"USERNAME": name, "PASSWORD": PASSWORD},
    });
    let answer = cognito(stack, "InitiateAuth", request).await;
    answer["AuthenticationResult"]["IdToken"].as_str().unwrap().to_owned()
}

async fn cognito(stack: &Running, action: &str, request: Value) -> Value {
    stack.call(&format!("AWSCognitoIdentityProviderService.{action}"), request).await
}
