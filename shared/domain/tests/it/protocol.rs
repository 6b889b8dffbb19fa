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
        check(&value.to_string());
    }

    #[test]
    fn a_frame_with_other_members_is_read_as_it_is_or_refused(frame in frame(), changes in prop::collection::vec(change(), 1..4)) {
        let mut json = serde_json::to_value(&frame).unwrap();
        for (name, value) in changes {
            match value {
                Some(value) => json[name] = value,
                None => drop(json.as_object_mut().unwrap().remove(name)),
            }
        }
        check(&json.to_string());
    }

    #[test]
    fn a_damaged_frame_is_read_as_it_is_or_refused(frame in frame(), damages in prop::collection::vec(damage(), 1..4)) {
        let mut text: Vec<char> = serde_json::to_string(&frame).unwrap().chars().collect();
        for (at, length, inserted) in damages {
            let from = at.index(text.len() + 1);
            let to = text.len().min(from + length);
            text.splice(from..to, inserted.chars());
        }
        check(&text.into_iter().collect::<String>());
    }
}

/// A member, and what it is changed to; none: it is left out.
fn change() -> impl Strategy<Value = (&'static str, Option<Value>)> {
    let long = prop_oneof![
        Just(ID_BYTES_MAX),
        Just(COMMENT_CHARS_MAX),
        Just(TEXT_CHARS_MAX),
        Just(CLIENT_FRAME_BYTES_MAX / 3),
    ];
    // What serde might take for a word or an object.
    let alike = [json!({"ja": null}), json!({"up": null}), json!(["one-1"]), json!([null]), json!({"Ok": "x"})];
    let value = prop_oneof![
        3 => almost(),
        1 => prop::sample::select(alike.to_vec()),
        1 => (long, 0..2_usize, prop_oneof![Just("x"), Just("本"), Just("\u{0}")])
            .prop_map(|(count, more, character)| character.repeat(count + more).into()),
    ];
    (prop::sample::select(&FIELDS[..]), option::weighted(0.8, value))
}

/// A place in a text, how many characters are lost there, and what comes instead.
fn damage() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
    let inserted = prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "\"",
            "\\",
            "\\u",
            "\\ud800",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "1e999",
            "-0",
            "\u{0}",
            "\u{feff}",
            "\n",
            ",\"action\":\"ping\"",
            "\"text\":\"x\",",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    (any::<prop::sample::Index>(), 0..6_usize, inserted)
}

/// A frame that is taken says what was sent and keeps every limit; one that is not has one of the reader's codes.
#[track_caller]
fn check(sent: &str) {
    let frame = match parse(sent) {
        Ok(frame) => frame,
        Err(refusal) => {
            let of_reader = [ErrorCode::InvalidFrame, ErrorCode::PayloadTooLarge, ErrorCode::UnknownAction];
            assert!(of_reader.contains(&refusal.code), "{refusal:?}");
            assert_eq!(refusal.retry_after_ms, None, "it is never taken");
            assert!(refusal.action.is_none_or(|action| action.chars().count() <= ID_BYTES_MAX));
            return;
        }
    };
    assert!(sent.len() <= CLIENT_FRAME_BYTES_MAX);
    let written = serde_json::to_value(&frame).unwrap();
    assert!(holds(&serde_json::from_str(sent).unwrap(), &written), "{sent} is read as {written}");
    for id in
        ["conversation_id", "turn_id"].map(|name| &written[name]).into_iter().chain([&written["context"]["product_id"]])
    {
        assert!(id.as_str().is_none_or(|id| (1..=ID_BYTES_MAX).contains(&id.len())), "{id}");
    }
    match frame {
        ClientFrame::MessageSend(message) => {
            assert!(message.text.chars().count() <= TEXT_CHARS_MAX && !message.text.trim().is_empty());
        }
        ClientFrame::FeedbackSubmit(feedback) => {
            assert!(feedback.comment.is_none_or(|comment| comment.chars().count() <= COMMENT_CHARS_MAX));
        }
        ClientFrame::HistoryList(list) => assert!((1..=HISTORY_PAGE_TURNS_MAX).contains(&list.turns_max())),
        ClientFrame::StreamResume(resume) => assert!(resume.after_seq >= -1),
        ClientFrame::MessageCancel(cancel) => assert_ne!(cancel.turn_id.is_some(), cancel.client_message_id.is_some()),
        ClientFrame::SessionStart(_) | ClientFrame::Ping {} => {}
    }
}

/// Whether `sent` is what was read, but for members that nobody knows. Letter case and hyphens of a UUID say nothing.
fn holds(sent: &Value, read: &Value) -> bool {
    match (sent, read) {
        (Value::Object(sent), Value::Object(read)) => {
            read.iter().all(|(name, read)| sent.get(name).is_some_and(|sent| holds(sent, read)))
        }
        (Value::String(sent), Value::String(read)) if Uuid::try_parse(read).is_ok() => {
            Uuid::try_parse(sent) == Uuid::try_parse(read)
        }
        _ => sent == read,
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
fn ids_and_counters_end_where_their_types_end() {
    for (start, n, one_more) in [
        (
            r#"{"action":"stream.resume","turn_id":"t","after_seq":0,"epoch":"#,
            "18446744073709551615",
            "18446744073709551616",
        ),
        (
            r#"{"action":"stream.resume","turn_id":"t","epoch":0,"after_seq":"#,
            "9223372036854775807",
            "9223372036854775808",
        ),
        (r#"{"action":"history.list","conversation_id":"c","before":"#, "18446744073709551615", "18446744073709551616"),
    ] {
        assert!(parse(&format!("{start}{n}}}")).is_ok(), "{start}{n}");
        for wrong in [one_more, "-2", "0.0", "1e2", "1e999", "-0", "00", "0x1", "NaN", "\"0\"", "[0]"] {
            let refusal = parse(&format!("{start}{wrong}}}")).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidFrame, "{start}{wrong}");
        }
    }
    for (length, expected) in [(ID_BYTES_MAX, None), (ID_BYTES_MAX + 1, Some(ErrorCode::InvalidFrame))] {
        let id = "x".repeat(length);
        for frame in [
            json!({"action": "session.start", "conversation_id": id}),
            json!({"action": "message.cancel", "turn_id": id}),
            json!({"action": "stream.resume", "turn_id": id, "epoch": 0, "after_seq": 0}),
            json!({"action": "history.list", "conversation_id": id}),
            json!({"action": "feedback.submit", "turn_id": id, "rating": "up"}),
        ] {
            assert_eq!(code(&frame), expected, "{frame}");
        }
        for (field, value) in [("conversation_id", json!(id)), ("context", json!({"product_id": id}))] {
            let mut frame = message("x");
            frame[field] = value;
            assert_eq!(code(&frame), expected, "{frame}");
        }
    }
}

#[test]
fn a_word_is_a_text_and_an_object_an_object() {
    let feedback = json!({"action": "feedback.submit", "turn_id": "t", "rating": "up"});
    for (frame, field, value) in [
        (message("x"), "locale", json!({"ja": null})),
        (json!({"action": "session.start"}), "locale", json!({"ja": null})),
        (feedback, "rating", json!({"up": null})),
        (message("x"), "context", json!(["one-1"])),
        (message("x"), "context", json!([])),
    ] {
        assert_eq!(code(&frame), None);
        let mut frame = frame;
        frame[field] = value;
        assert_eq!(code(&frame), Some(ErrorCode::InvalidFrame), "{frame}");
    }
}

#[test]
fn what_is_nested_without_end_is_refused_and_not_followed() {
    let nested = |levels: usize, open: &str, close: &str| {
        format!(r#"{{"action":"ping","x":{}1{}}}"#, open.repeat(levels), close.repeat(levels))
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"action\":", "}]")] {
        assert_eq!(
            parse(&nested(50, open, close)),
            Ok(ClientFrame::Ping {}),
            "a client of another version may send so much"
        );
        let most = (CLIENT_FRAME_BYTES_MAX - 32) / (open.len() + close.len());
        for levels in [200, most] {
            let refusal = parse(&nested(levels, open, close)).unwrap_err();
            assert_eq!(refusal.code, ErrorCode::InvalidFrame, "{levels} of {open}");
        }
        let unended = open.repeat(CLIENT_FRAME_BYTES_MAX / open.len());
        assert_eq!(parse(&unended).unwrap_err().code, ErrorCode::InvalidFrame);
    }
}

#[test]
fn of_two_members_of_one_name_the_last_counts() {
    let code = |text: &str| parse(text).map(|frame| frame.action()).map_err(|refusal| refusal.code);
    assert_eq!(code(r#"{"action":"message.edit","action":"ping"}"#), Ok("ping"));
    assert_eq!(code(r#"{"action":"ping","action":"message.edit"}"#), Err(ErrorCode::UnknownAction));
    assert_eq!(code(r#"{"action":"ping","\u0061ction":1}"#), Err(ErrorCode::InvalidFrame), "however it is written");
    let id = samples::client_message_id(1);
    let long = "x".repeat(TEXT_CHARS_MAX + 1);
    let two = |first: &str, last: &str| {
        code(&format!(r#"{{"action":"message.send","client_message_id":"{id}","text":"{first}","text":"{last}"}}"#))
    };
    assert_eq!(two(&long, "x"), Ok("message.send"));
    assert_eq!(two("x", &long), Err(ErrorCode::PayloadTooLarge));
    assert_eq!(two("x", " "), Err(ErrorCode::InvalidFrame));
}

#[test]
fn texts_are_unicode_however_they_are_written() {
    let said = |text: &str| {
        let id = samples::client_message_id(1);
        match parse(&format!(r#"{{"action":"message.send","client_message_id":"{id}","text":"{text}"}}"#)) {
            Ok(ClientFrame::MessageSend(message)) => Ok(message.text),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.code),
        }
    };
    for (text, read) in [
        (r"\u672c", "本"),
        (r"\ud83d\ude00", "😀"),
        (r"a\u0000b", "a\u{0}b"),
        (r"\u202eabc", "\u{202e}abc"),
        (r"\/\b\f\n\r\t\\", "/\u{8}\u{c}\n\r\t\\"),
    ] {
        assert_eq!(said(text).as_deref(), Ok(read), "{text}");
    }
    for text in [r"\ud800", r"\ude00", r"\ud83dx", r"\ud83d\u0041", r"\u12", r"\x41", "\u{0}", "\n", "\\"] {
        assert_eq!(said(text), Err(ErrorCode::InvalidFrame), "{text:?}");
    }
    // A pair of escapes is one character.
    assert!(said(&r"\u0061".repeat(TEXT_CHARS_MAX)).is_ok());
    assert_eq!(said(&r"\u0061".repeat(TEXT_CHARS_MAX + 1)), Err(ErrorCode::PayloadTooLarge));
    let pairs = (CLIENT_FRAME_BYTES_MAX - 200) / r"\ud83d\ude00".len();
    assert_eq!(said(&r"\ud83d\ude00".repeat(pairs)).map(|text| text.chars().count()), Ok(pairs));
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
