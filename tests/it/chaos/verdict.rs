//! What must hold when all is over, read from the table and the queues.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;

use crate::eventually::eventually;
use crate::queues::{Queue, body};
use crate::stack::repository;
use crate::turn::{Turn, kind};

type Item = HashMap<String, AttributeValue>;

fn text<'a>(item: &'a Item, name: &str) -> &'a str {
    item[name].as_s().unwrap_or_else(|_| panic!("{name} of {item:?} is a text"))
}

/// `turn.completed` → `completed`.
fn state(turn: &Turn) -> &str {
    kind(turn.end()).strip_prefix("turn.").unwrap()
}

/// Each accepted message has one record, one outcome and one place in its conversation, all as its shopper saw them; there
/// is no other, and no conversation is left locked.
pub async fn assert_every_turn_is_stored_once(sdk: &SdkConfig, table: &str, turns: &[Turn]) {
    let items = scan(sdk, table).await;
    let with_sk = |sk: &'static str| items.iter().filter(move |item| text(item, "sk") == sk);
    let ids: BTreeSet<String> = turns.iter().map(|turn| format!("turn#{}", turn.id())).collect();
    assert_eq!(ids.len(), turns.len(), "every message is a turn of its own");
    let recorded: BTreeSet<String> = with_sk("request").map(|item| text(item, "pk").to_owned()).collect();
    assert_eq!(recorded, ids, "records");

    let runs: BTreeMap<&str, &Item> = with_sk("run").map(|item| (text(item, "pk"), item)).collect();
    let mut exchanges: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for item in items.iter().filter(|item| text(item, "sk").starts_with("turn#")) {
        exchanges.entry(text(item, "turn")).or_default().push(item);
    }
    for turn in turns {
        let run = runs[format!("turn#{}", turn.id()).as_str()];
        let outcome: Value = serde_json::from_str(text(run, "outcome")).expect("JSON");
        assert_eq!(outcome["state"], state(turn), "{turn:#?}");
        assert_eq!(run["epoch"].as_n().unwrap(), &turn.epoch().to_string(), "{turn:#?}");
        let [exchange] = exchanges[turn.id()][..] else { panic!("{:?}", exchanges[turn.id()]) };
        assert_eq!(text(exchange, "pk"), format!("conversation#{}", turn.conversation_id()));
        assert_eq!(text(exchange, "outcome"), format!("{:?}", state(turn)));
        assert_eq!(text(exchange, "answer"), turn.text());
    }
    assert_eq!(exchanges.len(), turns.len());
    let locked: Vec<&Item> = with_sk("~conversation").filter(|item| item.contains_key("lock_turn")).collect();
    assert!(locked.is_empty(), "{locked:#?}");
    let quarantined: Vec<&Item> = items.iter().filter(|item| text(item, "pk").starts_with("quarantine#")).collect();
    assert!(quarantined.is_empty(), "{quarantined:#?}");
}

async fn scan(sdk: &SdkConfig, table: &str) -> Vec<Item> {
    let scan = aws_sdk_dynamodb::Client::new(sdk).scan().table_name(table).consistent_read(true);
    let pages: Result<Vec<_>, _> = scan.into_paginator().items().send().collect().await;
    pages.expect("the table is read")
}

/// Every end was published; answers how many ends were told again.
pub async fn assert_every_end_was_published(events: &Queue, turns: &[Turn]) -> usize {
    let mut told = Vec::new();
    let ended: BTreeSet<&str> = turns.iter().map(Turn::id).collect();
    eventually("event of every turn", Duration::from_secs(30), async || {
        loop {
            let received = events.receive(Duration::from_secs(600)).await;
            if received.is_empty() {
                break;
            }
            for event in &received {
                let event: Value = serde_json::from_str(body(event)).expect("JSON");
                told.push((event["turn_id"].as_str().unwrap().to_owned(), event["state"].clone()));
            }
        }
        ended.iter().all(|id| told.iter().any(|(told, _)| told == id)).then_some(())
    })
    .await;
    let states: BTreeMap<&str, &str> = turns.iter().map(|turn| (turn.id(), state(turn))).collect();
    for (id, state) in &told {
        assert_eq!(state, states[id.as_str()], "{id}");
    }
    told.len() - turns.len()
}

/// How the turns ended, counted.
pub fn outcomes(turns: &[Turn]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |what: String| *counts.entry(what).or_default() += 1;
    for turn in turns {
        let data = &turn.end()["data"];
        let why = data["stop_reason"].as_str().or(data["by"].as_str()).or(data["code"].as_str());
        count(format!("{} ({})", state(turn), why.unwrap()));
        if turn.was_queued() {
            count("queued on the way".to_owned());
        }
        if turn.epoch() > 1 {
            count("taken over".to_owned());
        }
    }
    let counts: Vec<String> = counts.iter().map(|(what, times)| format!("{what} {times}")).collect();
    format!("{} turns: {}", turns.len(), counts.join(", "))
}

/// How many batches came back, whole or in part, as the log of the embedded AWS has it.
pub fn redelivered_batches(aws_url: &str) -> usize {
    let (_, port) = aws_url.rsplit_once(':').expect("a URL with a port");
    let log = fs::read_to_string(repository().join(format!(".local/ministack-{port}.log"))).expect("a log");
    let came_back = |line: &&str| line.contains("failed processing SQS batch") || line.contains("partial failures)");
    log.lines().filter(came_back).count()
}
