//! The protocol for machines: AsyncAPI and JSON Schema, made from the types, with the examples of `docs/protocol.md`.

use domain::protocol::{ClientFrame, SUBPROTOCOL, ServerFrame};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The protocol in words.
const PAGE: &str = include_str!("../../../../docs/protocol.md");

/// What answers an action. Any may also be answered by `error`.
const ANSWERS: [(&str, &[&str]); 7] = [
    ("session.start", &["session.ready"]),
    ("message.send", &["message.accepted"]),
    ("message.cancel", &["turn.cancelled", "turn.completed", "turn.failed"]),
    ("stream.resume", &["turn.started", "text.delta"]),
    ("history.list", &["history.page"]),
    ("feedback.submit", &["feedback.accepted"]),
    ("ping", &["pong"]),
];

/// Every document: its path from the repository's root, and its text.
pub fn all() -> [(&'static str, String); 2] {
    [("docs/protocol/asyncapi.json", pretty(&asyncapi())), ("docs/protocol/schema.json", pretty(&schema()))]
}

/// The examples of the page, in its order.
pub fn examples() -> Vec<Value> {
    let blocks = PAGE.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(|block| serde_json::from_str(block).expect("examples are JSON")).collect()
}

fn pretty(document: &Value) -> String {
    format!("{document:#}\n")
}

/// The types of client and server frames, below `path`.
fn definitions(settings: SchemaSettings, path: &'static str) -> Map<String, Value> {
    let mut generator = settings.with(|settings| settings.definitions_path = path.into()).into_generator();
    generator.subschema_for::<ClientFrame>();
    generator.subschema_for::<ServerFrame>();
    generator.take_definitions(true)
}

fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Frames of manga-chat, version 1",
        "anyOf": [{"$ref": "#/$defs/ClientFrame"}, {"$ref": "#/$defs/ServerFrame"}],
        "$defs": definitions(SchemaSettings::draft2020_12(), "/$defs"),
    })
}

fn asyncapi() -> Value {
    let mut schemas = definitions(SchemaSettings::draft07(), "/components/schemas");
    let mut messages = Map::new();
    let client = schemas.remove("ClientFrame").expect("a definition");
    for variant in variants(&client) {
        messages.insert(name(variant, "action"), message(variant, "action", variant.clone()));
    }
    let actions: Vec<String> = messages.keys().cloned().collect();
    // An envelope is a frame without what it says.
    let mut envelope = schemas.remove("ServerFrame").expect("a definition");
    let events = json!({"oneOf": envelope.as_object_mut().expect("a type").remove("oneOf")});
    for variant in variants(&events) {
        let payload = json!({"allOf": [{"$ref": "#/components/schemas/Envelope"}, variant]});
        messages.insert(name(variant, "type"), message(variant, "type", payload));
    }
    schemas.insert("Envelope".to_owned(), envelope);
    let types: Vec<&String> = messages.keys().filter(|name| !actions.contains(name)).collect();

    let in_channel = |name: &str| json!({"$ref": format!("#/channels/chat/messages/{name}")});
    let channel = json!({"$ref": "#/channels/chat"});
    let mut operations = Map::new();
    for (action, answers) in ANSWERS {
        let answers: Vec<Value> = answers.iter().chain(&["error"]).map(|answer| in_channel(answer)).collect();
        operations.insert(
            action.to_owned(),
            json!({
                "action": "receive",
                "channel": channel,
                "messages": [in_channel(action)],
                "reply": {"channel": channel, "messages": answers},
            }),
        );
    }
    let told: Vec<Value> = types.iter().map(|name| in_channel(name)).collect();
    operations.insert("tell".to_owned(), json!({"action": "send", "channel": channel, "messages": told}));
    let in_components: Map<String, Value> =
        messages.keys().map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")}))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "manga-chat",
            "version": "1.0.0",
            "description": "Chat of a store for Japanese manga. docs/protocol.md says in words what this says in types.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "chat": {
                "address": "/",
                "description": format!("WebSocket with subprotocol {SUBPROTOCOL}; the stage is part of the URL."),
                "messages": in_components,
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            },
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    })
}

fn variants(schema: &Value) -> &[Value] {
    schema.get("oneOf").and_then(Value::as_array).map(Vec::as_slice).expect("one of several frames")
}

/// The word a frame is told by.
fn name(variant: &Value, tag: &str) -> String {
    variant["properties"][tag]["const"].as_str().expect("a constant tag").to_owned()
}

fn message(variant: &Value, tag: &str, payload: Value) -> Value {
    let name = name(variant, tag);
    let examples: Vec<Value> = examples()
        .into_iter()
        .filter(|example| example[tag] == *name)
        .map(|example| json!({"payload": example}))
        .collect();
    json!({"name": name, "summary": variant["description"], "payload": payload, "examples": examples})
}
