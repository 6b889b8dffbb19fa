//! The published protocol is the one the types speak.

#[path = "../../examples/protocol_documents/documents.rs"]
mod generator;

use std::collections::BTreeSet;
use std::path::Path;

use domain::limits::{
    ADDRESS_CONNECTIONS_PER_MINUTE, CLIENT_FRAME_BYTES_MAX, COMMENT_CHARS_MAX, CONNECTIONS_PER_PRINCIPAL_MAX,
    CONVERSATION_TURNS_MAX, FOLLOW_UPS_PER_VISIT_MAX, GONE_GRACE_MS, GUEST_MESSAGES_PER_MINUTE,
    HISTORY_PAGE_TURNS_DEFAULT, HISTORY_PAGE_TURNS_MAX, ID_BYTES_MAX, REPLAYS_PER_MINUTE, SERVER_FRAME_BYTES_MAX,
    SHOPPER_MESSAGES_PER_MINUTE, SUBSCRIBERS_MAX, TEXT_CHARS_MAX, TURN_AGE_MAX_MS,
};
use domain::protocol::{ClientFrame, ErrorCode, ServerEvent, ServerFrame, parse};
use serde_json::Value;

use crate::protocol::words;

fn committed(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).expect("committed")
}

#[test]
fn documents_are_made_from_the_types() {
    for (path, text) in generator::all() {
        assert!(
            committed(path) == text,
            "{path} is not what the types say; run: cargo run --package domain --example protocol_documents"
        );
    }
}

#[test]
fn references_of_the_documents_lead_somewhere() {
    for (path, text) in generator::all() {
        let document: Value = serde_json::from_str(&text).unwrap();
        let mut open = vec![&document];
        while let Some(value) = open.pop() {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("in the document");
                assert!(document.pointer(pointer).is_some(), "{reference} in {path}");
            }
            open.extend(value.as_object().into_iter().flatten().map(|(_, value)| value));
            open.extend(value.as_array().into_iter().flatten());
        }
    }
}

#[test]
fn every_frame_has_an_example_and_every_example_is_a_frame() {
    let mut actions = BTreeSet::new();
    let mut types = BTreeSet::new();
    for example in generator::examples() {
        if let Some(action) = example["action"].as_str() {
            let frame = parse(&example.to_string()).unwrap_or_else(|refusal| panic!("{refusal:?}: {example}"));
            assert_eq!(serde_json::to_value(&frame).unwrap(), example, "the types know every field");
            actions.insert(action.to_owned());
        } else {
            let frame: ServerFrame = serde_json::from_value(example.clone()).expect("a server frame");
            assert_eq!(serde_json::to_value(&frame).unwrap(), example, "the types know every field");
            assert_eq!(serde_json::from_str::<ServerFrame>(&frame.encode().unwrap()).unwrap(), frame);
            types.insert(example["type"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(actions, ClientFrame::ACTIONS.map(str::to_owned).into());
    let schema = schemars::schema_for!(ServerEvent).to_value();
    let known = schema["oneOf"].as_array().unwrap().iter();
    let known: BTreeSet<String> =
        known.map(|variant| variant["properties"]["type"]["const"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, known);
}

#[test]
fn the_page_knows_every_code_and_limit() {
    let page = committed("docs/protocol.md");
    let rows: Vec<Vec<&str>> =
        page.lines().map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let row = |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no row for {name}"));
    for code in words::<ErrorCode>() {
        let name = serde_json::to_value(code).unwrap();
        let retryable = if code.is_retryable() { "yes" } else { "no" };
        assert_eq!(row(&format!("`{}`", name.as_str().unwrap())).last(), Some(&retryable), "{name}");
    }
    let thousands = |number: usize| match (number / 1_000, number % 1_000) {
        (0, ones) => ones.to_string(),
        (thousands, ones) => format!("{thousands},{ones:03}"),
    };
    for (name, limit) in [
        ("client frame", format!("{} bytes", thousands(CLIENT_FRAME_BYTES_MAX))),
        ("server frame", format!("{} bytes", thousands(SERVER_FRAME_BYTES_MAX))),
        ("`text`", format!("{} characters", thousands(TEXT_CHARS_MAX))),
        ("`comment`", format!("{} characters", thousands(COMMENT_CHARS_MAX))),
        ("id", format!("{ID_BYTES_MAX} bytes")),
        (
            "`limit` of `history.list`",
            format!("{HISTORY_PAGE_TURNS_MAX} turns, {HISTORY_PAGE_TURNS_DEFAULT} when absent"),
        ),
        ("messages of a signed-in shopper", format!("{SHOPPER_MESSAGES_PER_MINUTE} a minute")),
        ("messages of a guest", format!("{GUEST_MESSAGES_PER_MINUTE} a minute")),
        ("replays of a principal", format!("{REPLAYS_PER_MINUTE} a minute")),
        ("turns of a conversation", CONVERSATION_TURNS_MAX.to_string()),
        ("connections of a principal", CONNECTIONS_PER_PRINCIPAL_MAX.to_string()),
        ("new connections of a network address", format!("{ADDRESS_CONNECTIONS_PER_MINUTE} a minute")),
        ("connections that follow one turn", SUBSCRIBERS_MAX.to_string()),
        ("follow-up messages at a `session.start`", FOLLOW_UPS_PER_VISIT_MAX.to_string()),
        ("time from a message to the end of its turn, whatever dies", format!("{} minutes", TURN_AGE_MAX_MS / 60_000)),
        ("time a turn goes on when no connection follows it", format!("{} s", GONE_GRACE_MS / 1_000)),
    ] {
        assert_eq!(row(name)[1], limit, "{name}");
    }
}
