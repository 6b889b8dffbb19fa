//! `template.yaml`: what SAM makes of it has no cycle, and a function has one name everywhere.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use aws_adapters::configuration::{
    AuthorizerConfiguration, ConnectConfiguration, DisconnectConfiguration, InvalidatorConfiguration,
    MessageConfiguration, RedriverConfiguration, StoreApiConfiguration, WatchdogConfiguration, WorkerConfiguration,
};
use cargo_metadata::MetadataCommand;
use serde_json::{Value, json};

use crate::stack::{repository, shared};

/// `template.yaml` as it is `written` and as SAM has `expanded` it.
pub async fn template() -> Value {
    // Starting the stack makes .venv, which holds the SAM translator.
    let _stack = shared().await;
    let translated = Command::new(repository().join(".venv/bin/python"))
        .args(["tests/it/transform.py", "template.yaml"])
        .current_dir(repository())
        .env("AWS_DEFAULT_REGION", local::REGION)
        .output()
        .expect("the interpreter of .venv starts");
    assert!(translated.status.success(), "{}", String::from_utf8_lossy(&translated.stderr));
    serde_json::from_slice(&translated.stdout).expect("JSON")
}

#[tokio::test]
async fn the_expanded_template_has_no_cycle() {
    let graph = references(&template().await["expanded"]);
    assert!(graph.values().any(|targets| !targets.is_empty()), "no resource refers to another");
    assert_eq!(cycle(&graph), None);
}

#[tokio::test]
async fn a_function_has_one_name_everywhere() {
    let template = template().await;
    let resources = template["written"]["Resources"].as_object().unwrap();
    let functions = resources.iter().filter(|(_, resource)| resource["Type"] == "AWS::Serverless::Function");
    let declared: BTreeMap<String, String> = functions
        .map(|(id, resource)| (binary(resource).unwrap_or_else(|| panic!("{id} has no Binary")), id.clone()))
        .collect();

    let root = repository();
    let folders: BTreeSet<String> = fs::read_dir(root.join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().expect("UTF-8"))
        .collect();
    assert_eq!(declared.keys().cloned().collect::<BTreeSet<_>>(), folders);

    for (name, id) in &declared {
        assert_eq!(*id, format!("{}Function", pascal_case(name)));
        let manifest = root.join("functions").join(name).join("Cargo.toml");
        let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata");
        let package = metadata.packages.iter().find(|package| package.name == *name);
        let package = package.unwrap_or_else(|| panic!("functions/{name} has another package name"));
        assert!(package.targets.iter().any(|target| target.is_bin() && target.name == *name), "{name} has no binary");
        let events = root.join("events").join(name);
        assert!(fs::read_dir(&events).is_ok_and(|mut files| files.next().is_some()), "{} is empty", events.display());
    }
}

/// The variables a function reads: those its configuration asks for, whether they are there or not, and what telemetry reads.
fn variables_read(function: &str) -> BTreeSet<String> {
    let read = RefCell::new(BTreeSet::from(["LOG_LEVEL".to_owned()]));
    let lookup = |name: &str| {
        read.borrow_mut().insert(name.to_owned());
        None
    };
    let complete = match function {
        "authorizer" => AuthorizerConfiguration::from_lookup(lookup).is_ok(),
        "cache-invalidator" => InvalidatorConfiguration::from_lookup(lookup).is_ok(),
        "connect" => ConnectConfiguration::from_lookup(lookup).is_ok(),
        "disconnect" => DisconnectConfiguration::from_lookup(lookup).is_ok(),
        "dlq-redriver" => RedriverConfiguration::from_lookup(lookup).is_ok(),
        "follow-up-worker" => WorkerConfiguration::from_lookup(lookup).is_ok(),
        "message" => MessageConfiguration::from_lookup(lookup).is_ok(),
        "store-api" => StoreApiConfiguration::from_lookup(lookup).is_ok(),
        "watchdog" => WatchdogConfiguration::from_lookup(lookup).is_ok(),
        other => panic!("{other} has no configuration"),
    };
    assert!(!complete, "{function} needs nothing");
    let mut read = read.into_inner();
    // The SDK's, which Lambda sets.
    read.retain(|name| !name.starts_with("AWS_"));
    read
}

#[tokio::test]
async fn a_function_is_given_the_variables_it_reads() {
    let template = template().await;
    let names = |variables: &Value| -> BTreeSet<String> {
        variables.as_object().into_iter().flat_map(|variables| variables.keys().cloned()).collect()
    };
    let shared = names(&template["written"]["Globals"]["Function"]["Environment"]["Variables"]);
    let samples: Value =
        serde_json::from_str(&fs::read_to_string(repository().join("events/env.json")).unwrap()).expect("JSON");
    let samples = names(&samples["Parameters"]);
    for (id, resource) in template["written"]["Resources"].as_object().unwrap() {
        let Some(function) = binary(resource) else { continue };
        let mut given = names(&resource["Properties"]["Environment"]["Variables"]);
        given.extend(shared.clone());
        // The SDK reads its own variables by itself.
        given.retain(|name| !name.starts_with("AWS_"));
        let read = variables_read(&function);
        assert_eq!(given, read, "{id}");
        assert!(samples.is_superset(&read), "events/env.json lacks {:?}", read.difference(&samples));
    }
}

fn binary(function: &Value) -> Option<String> {
    Some(function.pointer("/Metadata/BuildProperties/Binary")?.as_str()?.to_owned())
}

/// `store-api` → `StoreApi`.
fn pascal_case(name: &str) -> String {
    name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

/// Which resources each resource refers to, in whatever branch of a condition.
fn references(template: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let resources = template["Resources"].as_object().expect("a template has resources");
    let targets = |resource| {
        let mut named = BTreeSet::new();
        collect_names(resource, &mut named);
        named.into_iter().filter(|name| resources.contains_key(name)).collect()
    };
    resources.iter().map(|(name, resource)| (name.clone(), targets(resource))).collect()
}

/// Adds what `Ref`, `Fn::GetAtt`, `Fn::Sub` and `DependsOn` name anywhere in `value`.
fn collect_names(value: &Value, named: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, inner) in members {
                match (key.as_str(), inner) {
                    ("Ref" | "DependsOn", Value::String(name)) => _ = named.insert(name.clone()),
                    ("DependsOn", Value::Array(names)) => {
                        named.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
                    }
                    ("Fn::GetAtt", Value::String(path)) => _ = named.insert(resource_of(path)),
                    ("Fn::GetAtt", Value::Array(path)) => named.extend(path[0].as_str().map(str::to_owned)),
                    ("Fn::Sub", Value::String(text)) => named.extend(placeholders(text)),
                    ("Fn::Sub", Value::Array(parts)) => {
                        let own = parts[1].as_object().expect("the variables of Fn::Sub");
                        let text = parts[0].as_str().expect("the text of Fn::Sub");
                        named.extend(placeholders(text).filter(|name| !own.contains_key(name)));
                    }
                    _ => {}
                }
                collect_names(inner, named);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_names(item, named)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The resources in `${Resource}` and `${Resource.Attribute}`; `${!Literal}` names none.
fn placeholders(text: &str) -> impl Iterator<Item = String> {
    let opened = text.split("${").skip(1).filter_map(|rest| rest.split_once('}'));
    opened.map(|(path, _)| path).filter(|path| !path.starts_with('!')).map(resource_of)
}

fn resource_of(path: &str) -> String {
    path.split('.').next().unwrap_or(path).to_owned()
}

/// The resources of a cycle, each referring to the next one and the last to the first.
fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<&str>> {
    fn visit<'a>(
        graph: &'a BTreeMap<String, BTreeSet<String>>,
        name: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(at) = path.iter().position(|visited| *visited == name) {
            return Some(path[at..].to_vec());
        }
        if done.contains(name) {
            return None;
        }
        path.push(name);
        let found = graph[name].iter().find_map(|target| visit(graph, target, path, done));
        path.pop();
        done.insert(name);
        found
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|name| visit(graph, name, &mut Vec::new(), &mut done))
}

#[test]
fn a_cycle_is_found_through_every_kind_of_reference() {
    for reference in [
        json!({"Properties": {"Deep": [{"Ref": "A"}]}}),
        json!({"Properties": {"Fn::GetAtt": ["A", "Arn"]}}),
        json!({"Properties": {"Fn::GetAtt": "A.Arn"}}),
        json!({"Properties": {"Fn::Sub": "arn:${AWS::Partition}:${A.Name}"}}),
        json!({"Properties": {"Fn::Sub": ["${Own}", {"Own": {"Ref": "A"}}]}}),
        json!({"Properties": {"Fn::If": ["Sometimes", "nothing", {"Ref": "A"}]}}),
        json!({"DependsOn": "A"}),
        json!({"DependsOn": ["C", "A"]}),
    ] {
        let template = json!({"Resources": {"A": {"DependsOn": "B"}, "B": reference, "C": {}}});
        assert_eq!(cycle(&references(&template)), Some(vec!["A", "B"]), "{template}");
    }
    for reference in [
        json!({"Properties": {"Fn::Sub": "${!A} and A"}}),
        json!({"Properties": {"Fn::Sub": ["${A}", {"A": "a variable of its own"}]}}),
        json!({"Properties": {"Ref": "C"}, "Condition": "A"}),
    ] {
        let template = json!({"Resources": {"A": {"DependsOn": "B"}, "B": reference, "C": {}}});
        assert_eq!(cycle(&references(&template)), None, "{template}");
    }
}
