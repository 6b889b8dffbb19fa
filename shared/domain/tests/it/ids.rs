//! Ids and the key they are derived under.

use domain::ids::{ClientMessageId, ConversationId, Principal, ResumeTokenError, SessionId, SessionKey, TurnId};
use domain::limits::{ID_BYTES_MAX, RESUME_TOKEN_LIFE_MS};
use proptest::prelude::*;
use testkit::{START_MS, samples};
use uuid::Uuid;

#[test]
fn ids_have_a_form_and_a_limit() {
    for good in ["a", "t_-Z9", &"x".repeat(ID_BYTES_MAX)] {
        assert_eq!(TurnId::parse(good).map(|id| id.to_string()).as_deref(), Some(good));
    }
    for bad in ["", " ", "a b", "a/b", "a#b", "日本", "a\n", &"x".repeat(ID_BYTES_MAX + 1)] {
        assert_eq!(TurnId::parse(bad), None, "{bad:?}");
        assert!(serde_json::from_value::<TurnId>(bad.into()).is_err());
    }
}

#[test]
fn a_key_has_at_least_32_bytes() {
    assert!(SessionKey::new(&[1; 31]).is_none());
    assert!(SessionKey::new(&[1; 32]).is_some());
}

#[test]
fn a_key_does_not_show() {
    assert!(!format!("{:?}", samples::session_key()).contains('7'));
}

fn principal() -> impl Strategy<Value = Principal> {
    prop_oneof![
        "[A-Za-z0-9_-]{1,64}".prop_map(|session| Principal::Guest(SessionId::parse(&session).unwrap())),
        "\\PC{1,40}".prop_map(Principal::Shopper),
    ]
}

fn message_id() -> impl Strategy<Value = ClientMessageId> {
    any::<u128>().prop_map(|bits| ClientMessageId(Uuid::from_u128(bits)))
}

proptest! {
    #[test]
    fn principals_are_read_back(principal in principal()) {
        prop_assert_eq!(Principal::parse(&principal.to_string()), Some(principal));
    }

    #[test]
    fn derived_ids_are_the_same_for_the_same_and_differ_otherwise(
        (one, other) in (principal(), principal()),
        (id, another) in (message_id(), message_id()),
    ) {
        let key = samples::session_key();
        let derived = |key: &SessionKey, principal: &Principal, id| {
            [key.turn_id(principal, id).to_string(), key.conversation_id(principal, id).to_string()]
        };
        let ids = derived(&key, &one, id);
        prop_assert_eq!(&derived(&key, &one, id), &ids);
        prop_assert!(TurnId::parse(&ids[0]).is_some() && ConversationId::parse(&ids[1]).is_some());
        prop_assert_ne!(&ids[0][2..], &ids[1][2..], "each purpose has its own");
        let other_key = SessionKey::new(&[8; 32]).unwrap();
        prop_assert_ne!(derived(&other_key, &one, id)[0].clone(), ids[0].clone());
        if one != other {
            prop_assert_ne!(derived(&key, &other, id)[0].clone(), ids[0].clone());
        }
        if id != another {
            prop_assert_ne!(derived(&key, &one, another)[0].clone(), ids[0].clone());
        }
    }
}

#[test]
fn a_guest_and_a_shopper_of_one_name_share_nothing() {
    let key = samples::session_key();
    let id = samples::client_message_id(1);
    assert_ne!(key.turn_id(&samples::guest("aiko"), id), key.turn_id(&samples::shopper("aiko"), id));
}

#[test]
fn a_resume_token_admits_until_it_expires() {
    let key = samples::session_key();
    let session = SessionId::parse("guest_1-a").unwrap();
    let token = key.seal_resume_token(&session, START_MS);
    let expires_at = START_MS + RESUME_TOKEN_LIFE_MS;
    assert_eq!(key.open_resume_token(&token, START_MS), Ok(session.clone()));
    assert_eq!(key.open_resume_token(&token, expires_at - 1), Ok(session));
    assert_eq!(key.open_resume_token(&token, expires_at), Err(ResumeTokenError::Expired));
    let other = SessionKey::new(&[8; 32]).unwrap();
    assert_eq!(other.open_resume_token(&token, START_MS), Err(ResumeTokenError::Forged));
}

#[test]
fn a_resume_token_is_a_subprotocol() {
    let token = samples::session_key().seal_resume_token(&SessionId::parse("guest_1-a").unwrap(), START_MS);
    // RFC 9110: a token is made of these.
    let is_token_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    assert!(token.bytes().all(is_token_char), "{token}");
}

#[test]
fn a_token_with_any_other_character_is_forged() {
    let key = samples::session_key();
    let token = key.seal_resume_token(&SessionId::parse("guest_1-a").unwrap(), START_MS);
    let others: Vec<char> =
        ('0'..='9').chain('A'..='Z').chain('a'..='z').chain(['-', '_', '.', '=', '+', ' ']).collect();
    for (at, was) in token.char_indices() {
        for other in others.iter().filter(|other| **other != was) {
            let mut forged = token.clone();
            forged.replace_range(at..=at, other.encode_utf8(&mut [0; 4]));
            assert_eq!(key.open_resume_token(&forged, START_MS), Err(ResumeTokenError::Forged), "{forged}");
        }
        assert_eq!(key.open_resume_token(&token[..at], START_MS), Err(ResumeTokenError::Forged));
    }
    for nonsense in ["", ".", "..", "...", "a.b.c", &format!("{token}.")] {
        assert_eq!(key.open_resume_token(nonsense, START_MS), Err(ResumeTokenError::Forged));
    }
}

proptest! {
    #[test]
    fn no_text_is_a_token_by_chance(text in "\\PC*") {
        prop_assert_eq!(samples::session_key().open_resume_token(&text, START_MS), Err(ResumeTokenError::Forged));
    }
}
