//! The wire: what is a frame, what is not, and what is said then.

use domain::ids::{ClientMessageId, ConversationId, ProductId, TurnId};
use domain::limits::{
    CLIENT_FRAME_BYTES_MAX, COMMENT_CHARS_MAX, HISTORY_PAGE_TURNS_MAX, ID_BYTES_MAX, SERVER_FRAME_BYTES_MAX,
    TEXT_CHARS_MAX,
};
use domain::protocol::{
    BrownOutStep, ClientFrame, Dependency, ErrorCode, Feedback, HistoryList, Locale, MessageCancel, MessageContext,
    MessageSend, Rating, Refusal, ServerEvent, ServerFrame, SessionStart, StreamResume, TextDelta, blocked_text,
    brown_out_text, degraded_text, error_text, parse, queued_text,
};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::{START_MS, samples};
use uuid::Uuid;

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,64}"
}

fn locale() -> impl Strategy<Value = Option<Locale>> {
    option::of(prop_oneof![Just(Locale::Ja), Just(Locale::En)])
}

fn frame() -> impl Strategy<Value = ClientFrame> {
    let conversation = || id().prop_map(|id| ConversationId::parse(&id).unwrap());
    let turn = || id().prop_map(|id| TurnId::parse(&id).unwrap());
    let context = option::of(
        option::of(id()).prop_map(|id| MessageContext { product_id: id.map(|id| ProductId::parse(&id).unwrap()) }),
    );
    prop_oneof![
        (locale(), option::of(conversation())).prop_map(|(locale, conversation_id)| {
            ClientFrame::SessionStart(SessionStart { locale, conversation_id })
        }),
        (any::<u128>(), ".{0,200}x", option::of(conversation()), locale(), context).prop_map(
            |(bits, text, conversation_id, locale, context)| ClientFrame::MessageSend(MessageSend {
                client_message_id: ClientMessageId(Uuid::from_u128(bits)),
                text,
                conversation_id,
                locale,
                context,
            })
        ),
        turn().prop_map(|id| {
            ClientFrame::MessageCancel(MessageCancel { turn_id: Some(id), client_message_id: None })
        }),
        any::<u128>().prop_map(|bits| {
            let client_message_id = Some(ClientMessageId(Uuid::from_u128(bits)));
            ClientFrame::MessageCancel(MessageCancel { turn_id: None, client_message_id })
        }),
        (turn(), any::<u64>(), -1..i64::MAX).prop_map(|(turn_id, epoch, after_seq)| {
            ClientFrame::StreamResume(StreamResume { turn_id, epoch, after_seq })
        }),
        (conversation(), option::of(any::<u64>()), option::of(1..=HISTORY_PAGE_TURNS_MAX)).prop_map(
            |(conversation_id, before, limit)| ClientFrame::HistoryList(HistoryList { conversation_id, before, limit })
        ),
        (turn(), prop_oneof![Just(Rating::Up), Just(Rating::Down)], option::of(".{0,200}"))
            .prop_map(|(turn_id, rating, comment)| ClientFrame::FeedbackSubmit(Feedback { turn_id, rating, comment })),
        Just(ClientFrame::Ping {}),
    ]
}

const FIELDS: [&str; 14] = [
    "action",
    "client_message_id",
    "text",
    "conversation_id",
    "locale",
    "context",
    "product_id",
    "turn_id",
    "epoch",
    "after_seq",
    "before",
    "limit",
    "rating",
    "comment",
];

/// JSON that looks like a frame here and there.
fn almost() -> impl Strategy<Value = Value> {
    let action = prop_oneof![prop::sample::select(&ClientFrame::ACTIONS[..]), Just("message.edit"), Just("")];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("00000000-0000-0000-0000-000000000001")),
        action.prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(prop::sample::select(&FIELDS[..]), inner, 0..8).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn every_frame_is_read_back(frame in frame()) {
        prop_assert_eq!(parse(&serde_json::to_string(&frame).unwrap()), Ok(frame));
    }

    #[test]
    fn unknown_fields_are_ignored(frame in frame(), name in "x_[a-z]{1,8}", value in almost()) {
        let mut json = serde_json::to_value(&frame).unwrap();
        json[name] = value;
        prop_assert_eq!(parse(&json.to_string()), Ok(frame));
    }

    #[test]
    fn no_text_breaks_the_reader(text in any::<String>()) {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn what_is_read_is_what_was_written(value in almost()) {
        if let Ok(frame) = parse(&value.to_string()) {
            let written = serde_json::to_value(&frame).unwrap();
            for (name, field) in written.as_object().unwrap() {
                if !field.is_object() {
                    prop_assert_eq!(&value[name], field);
                }
            }
        }
    }
}

fn code(body: &Value) -> Option<ErrorCode> {
    parse(&body.to_string()).err().map(|refusal| refusal.code)
}

fn message(text: &str) -> Value {
    json!({"action": "message.send", "client_message_id": samples::client_message_id(1), "text": text})
}

#[test]
fn texts_are_counted_in_characters() {
    for character in ["a", "本", "😀", "\u{1}"] {
        assert_eq!(code(&message(&character.repeat(TEXT_CHARS_MAX))), None, "{character:?}");
        assert_eq!(code(&message(&character.repeat(TEXT_CHARS_MAX + 1))), Some(ErrorCode::PayloadTooLarge));
        let feedback =
            |comment: String| json!({"action": "feedback.submit", "turn_id": "t", "rating": "up", "comment": comment});
        assert_eq!(code(&feedback(character.repeat(COMMENT_CHARS_MAX))), None);
        assert_eq!(code(&feedback(character.repeat(COMMENT_CHARS_MAX + 1))), Some(ErrorCode::PayloadTooLarge));
    }
}

#[test]
fn a_frame_has_a_size() {
    let of_bytes = |bytes: usize| {
        let bare = json!({"action": "ping", "x": ""}).to_string();
        bare.replace("\"x\":\"\"", &format!("\"x\":\"{}\"", "y".repeat(bytes - bare.len())))
    };
    assert_eq!(of_bytes(CLIENT_FRAME_BYTES_MAX).len(), CLIENT_FRAME_BYTES_MAX);
    assert_eq!(parse(&of_bytes(CLIENT_FRAME_BYTES_MAX)), Ok(ClientFrame::Ping {}));
    let too_large = parse(&of_bytes(CLIENT_FRAME_BYTES_MAX + 1)).unwrap_err();
    assert_eq!(too_large.code, ErrorCode::PayloadTooLarge);
}

#[test]
fn numbers_have_limits() {
    let list = |limit: u32| json!({"action": "history.list", "conversation_id": "c", "limit": limit});
    assert_eq!(code(&list(1)), None);
    assert_eq!(code(&list(HISTORY_PAGE_TURNS_MAX)), None);
    assert_eq!(code(&list(0)), Some(ErrorCode::InvalidFrame));
    assert_eq!(code(&list(HISTORY_PAGE_TURNS_MAX + 1)), Some(ErrorCode::InvalidFrame));
    let resume =
        |after_seq: i64| json!({"action": "stream.resume", "turn_id": "t", "epoch": 0, "after_seq": after_seq});
    assert_eq!(code(&resume(-1)), None);
    assert_eq!(code(&resume(-2)), Some(ErrorCode::InvalidFrame));
}

#[test]
fn what_is_no_frame_is_refused() {
    let invalid = Some(ErrorCode::InvalidFrame);
    for body in [json!(null), json!([]), json!("ping"), json!({}), json!({"action": 1}), json!({"action": null})] {
        assert_eq!(code(&body), invalid, "{body}");
    }
    for (text, expected) in [("", invalid), (" \u{3000}\n", invalid), ("x", None)] {
        assert_eq!(code(&message(text)), expected, "{text:?}");
    }
    for (field, value) in [
        ("client_message_id", json!("1")),
        ("client_message_id", json!(null)),
        ("text", json!(1)),
        ("locale", json!("fr")),
        ("conversation_id", json!("a b")),
        ("context", json!({"product_id": ""})),
    ] {
        let mut body = message("x");
        body[field] = value;
        assert_eq!(code(&body), invalid, "{body}");
    }
    assert_eq!(parse("{\"action\":\"ping\"").unwrap_err().code, ErrorCode::InvalidFrame);
    assert_eq!(parse("").unwrap_err().code, ErrorCode::InvalidFrame);
}

#[test]
fn an_action_of_another_version_is_unknown() {
    for action in ["message.edit", "PING", "ping ", "$connect"] {
        let refusal = parse(&json!({"action": action}).to_string()).unwrap_err();
        assert_eq!((refusal.code, refusal.action.as_deref()), (ErrorCode::UnknownAction, Some(action)));
    }
    for chars in [ID_BYTES_MAX, ID_BYTES_MAX + 1] {
        let refusal = parse(&json!({"action": "本".repeat(chars)}).to_string()).unwrap_err();
        assert_eq!(refusal.action, Some("本".repeat(ID_BYTES_MAX)), "the answer repeats only so much");
    }
}

#[test]
fn a_refusal_names_what_it_refuses() {
    let mut body = message(&"海".repeat(TEXT_CHARS_MAX + 1));
    body["locale"] = json!("en");
    let refusal = Refusal {
        code: ErrorCode::PayloadTooLarge,
        retry_after_ms: None,
        action: Some("message.send".to_owned()),
        client_message_id: Some(samples::client_message_id(1)),
        locale: Some(Locale::En),
        text_locale: Some(Locale::Ja),
    };
    assert_eq!(parse(&body.to_string()), Err(refusal.clone()));
    body["text"] = json!("海賊");
    assert_eq!(parse(&body.to_string()).unwrap().refusal(ErrorCode::PayloadTooLarge), refusal, "also when it is ours");
    body["text"] = json!(7);
    let refusal = Refusal { text_locale: None, ..refusal };
    assert_eq!(parse(&body.to_string()), Err(Refusal { code: ErrorCode::InvalidFrame, ..refusal.clone() }));
    body["action"] = json!("message.edit");
    let action = Some("message.edit".to_owned());
    let unknown = Refusal { code: ErrorCode::UnknownAction, action, ..refusal };
    assert_eq!(parse(&body.to_string()), Err(unknown));
}

#[test]
fn a_turn_to_be_cancelled_is_named_once() {
    let message = samples::client_message_id(1);
    let cancel = |ids: Value| {
        let mut body = ids;
        body["action"] = json!("message.cancel");
        parse(&body.to_string())
    };
    let by_message = cancel(json!({"client_message_id": message})).unwrap();
    assert_eq!(by_message.refusal(ErrorCode::NotFound).client_message_id, Some(message), "said again in the answer");
    let by_turn = cancel(json!({"turn_id": "t", "client_message_id": null})).unwrap();
    assert_eq!(by_turn.refusal(ErrorCode::NotFound).client_message_id, None);
    for ids in [json!({}), json!({"turn_id": "t", "client_message_id": message}), json!({"turn_id": "a b"})] {
        assert_eq!(cancel(ids.clone()).unwrap_err().code, ErrorCode::InvalidFrame, "{ids}");
    }
}

#[test]
fn the_language_of_an_answer_is_asked_for_or_seen() {
    let answered_in = |text: &str, locale| MessageSend { locale, ..samples::message(1, text) }.answer_locale();
    for (text, locale) in
        [("海賊", Locale::Ja), ("ｶﾀｶﾅ", Locale::Ja), ("Pirates!", Locale::En), ("ONE PIECE の１巻", Locale::Ja)]
    {
        assert_eq!(answered_in(text, None), locale, "{text}");
        assert_eq!(answered_in(text, Some(Locale::En)), Locale::En);
        assert_eq!(answered_in(text, Some(Locale::Ja)), Locale::Ja);
    }
}

#[test]
fn a_server_frame_has_a_size() {
    let delta = |text: String| ServerFrame::new(START_MS, ServerEvent::TextDelta(TextDelta { text, from_seq: None }));
    let bare = delta(String::new()).encode().unwrap().len();
    let full = delta("x".repeat(SERVER_FRAME_BYTES_MAX - bare));
    assert_eq!(full.encode().map(|frame| frame.len()), Some(SERVER_FRAME_BYTES_MAX));
    assert_eq!(delta("x".repeat(SERVER_FRAME_BYTES_MAX - bare + 1)).encode(), None);
    let control = delta("\u{1}".repeat((SERVER_FRAME_BYTES_MAX - bare) / 6 + 1));
    assert_eq!(control.encode(), None, "bytes are counted as they travel");
}

/// Every value of a type that is written as one word.
pub fn words<T: schemars::JsonSchema + serde::de::DeserializeOwned>() -> Vec<T> {
    let schema = schemars::schema_for!(T).to_value();
    let one_of = schema["oneOf"].as_array().expect("one of several words");
    one_of.iter().map(|word| serde_json::from_value(word["const"].clone()).expect("a word")).collect()
}

#[test]
fn every_word_to_a_shopper_is_said_in_both_languages() {
    let both = |text: &dyn Fn(Locale) -> String| (text(Locale::Ja), text(Locale::En));
    let codes: Vec<ErrorCode> = words();
    assert_eq!(codes.len(), 12);
    let mut texts = vec![both(&|locale| blocked_text(locale).to_owned())];
    texts.extend(codes.iter().map(|code| both(&|locale| error_text(*code, locale).to_owned())));
    let steps: Vec<BrownOutStep> = words();
    texts.extend(steps.iter().map(|step| both(&|locale| brown_out_text(*step, locale).to_owned())));
    assert!(texts.contains(&both(&|locale| queued_text(locale).to_owned())), "the last step is the queue");
    let dependencies: Vec<Dependency> = words();
    let pages = samples::pages();
    for part in dependencies {
        let (ja, en) = both(&|locale| degraded_text(part, &pages, locale));
        let page = match part {
            Dependency::Catalog => Some(pages.search()),
            Dependency::Orders => Some(pages.orders()),
            Dependency::Recommendations | Dependency::Knowledge => None,
        };
        // Where else to look is said last.
        texts.push(match page {
            None => (ja, en),
            Some(page) => [(ja, "。"), (en, ".")]
                .map(|(text, stop)| text.strip_suffix(&format!(": {page}")).expect("a page").to_owned() + stop)
                .into(),
        });
    }
    for (ja, en) in &texts {
        assert_eq!(Locale::of_text(ja), Locale::Ja, "{ja}");
        assert_eq!(Locale::of_text(en), Locale::En, "{en}");
        for text in [ja, en] {
            assert!(text.ends_with(['。', '.']), "{text}");
            assert!(!text.contains(['{', '}', '<', '>', '%', '_', '$']), "{text}");
        }
    }
    let mut english: Vec<&str> = texts.iter().map(|(_, en)| en.as_str()).collect();
    english.sort_unstable();
    english.dedup();
    assert_eq!(english.len(), texts.len(), "no two mean the same");
}
