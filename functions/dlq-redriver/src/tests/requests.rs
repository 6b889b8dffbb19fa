//! What the function can be asked, and what it answers.

use std::collections::BTreeSet;

use domain::limits::REDRIVE_LETTERS_MAX;
use domain::ports::{Clock as _, QueueName};
use domain::redrive::{QueueReport, RedriveRequest, RedriveStates as _, TaskKind};
use serde_json::{Value, json};
use testkit::samples;

use super::world::{Content, Letter, QUEUES, Standing, World, adds_up, every_letter};
use crate::handle;

#[test]
fn samples_are_understood() {
    let events = samples::events::<Value>("dlq-redriver");
    let read = |name: &str| RedriveRequest::from_event(&events[name]).unwrap();
    assert_eq!(events.keys().collect::<Vec<_>>(), ["dry-run", "probe", "scheduled"]);
    assert_eq!(read("scheduled"), RedriveRequest::default());
    assert_eq!(read("dry-run"), RedriveRequest { dry_run: true, ..RedriveRequest::default() });
    let probe = RedriveRequest {
        queues: BTreeSet::from([QueueName::FollowUp]),
        kinds: Some(BTreeSet::from([TaskKind::Finish])),
        max_messages: 10,
        force: true,
        dry_run: false,
    };
    assert_eq!(read("probe"), probe);
}

#[test]
fn a_schedule_asks_for_everything() {
    for event in [json!({}), json!({ "source": "aws.events" }), json!({ "detail-type": "Scheduled Event" })] {
        let request = RedriveRequest::from_event(&event).unwrap();
        assert_eq!(request, RedriveRequest::default(), "{event}");
    }
    let RedriveRequest { dry_run, queues, max_messages, force, kinds } = RedriveRequest::default();
    assert_eq!((dry_run, force, kinds, max_messages), (false, false, None, REDRIVE_LETTERS_MAX));
    assert_eq!(queues, BTreeSet::from(QUEUES));
}

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_done() {
    let max = REDRIVE_LETTERS_MAX;
    let refused = [
        (json!(null), "the payload is no JSON object".to_owned()),
        (json!([]), "the payload is no JSON object".to_owned()),
        (json!({ "dryrun": true }), "unknown field `dryrun`, expected one of `dry_run`, `queues`".to_owned()),
        (json!({ "dry_run": "yes" }), "invalid type: string \"yes\", expected a boolean".to_owned()),
        (json!({ "queues": ["dead"] }), "unknown variant `dead`, expected `follow-up` or `watchdog`".to_owned()),
        (json!({ "queues": [] }), "queues is empty: leave it out to mean all".to_owned()),
        (json!({ "kinds": ["cancel"] }), "unknown variant `cancel`, expected one of `watch`, `finish`".to_owned()),
        (json!({ "kinds": [] }), "kinds is empty: leave it out to mean all".to_owned()),
        (json!({ "max_messages": 0 }), format!("max_messages must be 1 to {max}")),
        (json!({ "max_messages": max + 1 }), format!("max_messages must be 1 to {max}")),
        (json!({ "max_messages": -1 }), "invalid value: integer `-1`, expected u32".to_owned()),
    ];
    let (world, _) = World::with([Letter::of(Content::TurnEnded)]);
    for (event, expected) in refused {
        let redriver = world.redriver();
        let error = world.ports.run(handle(&redriver, &event, Vec::new())).unwrap().unwrap_err().to_string();
        assert!(error.contains(&expected), "{event}: {error}");
    }
    assert!(world.ports.faults.effects().is_empty());
    for max_messages in [1, max] {
        let request = RedriveRequest::from_event(&json!({ "max_messages": max_messages })).unwrap();
        assert_eq!(request.max_messages, max_messages);
    }
}

/// What a dry run says is what the next run does.
#[test]
fn a_dry_run_changes_nothing_and_says_what_would_become_of_every_letter() {
    let letters = || every_letter().into_iter().filter(|letter| letter.redrives == 0);
    let (mut world, dead) = World::with(letters());
    let turns = |world: &World| dead.iter().map(|dead| world.turn(&dead.turn_id)).collect::<Vec<_>>();
    let before = turns(&world);
    let told = world.invoke(&json!({ "dry_run": true }));
    assert!(told.dry_run);
    assert_eq!(turns(&world), before);
    assert_eq!(world.left().len(), dead.len());
    for queue in QUEUES {
        assert!(world.sent(queue).is_empty());
    }
    assert!(world.quarantine.entries().is_empty());
    assert!(world.ports.sender.inner.sent().is_empty());
    assert!(world.log.is_empty(), "no metrics of what did not happen");
    let names: BTreeSet<_> = world.ports.faults.effects().into_iter().map(|effect| effect.name).collect();
    let reads = ["dead_letters.give_back", "dead_letters.receive", "redrive_states.state"];
    assert_eq!(names, BTreeSet::from_iter(reads.into_iter().chain(["turns.conversation", "turns.turn"])));

    let done = world.run();
    for (queue, told) in told.queues {
        adds_up(&told);
        let duration_ms = done.queues[&queue].duration_ms;
        assert_eq!(QueueReport { duration_ms, ..told }, done.queues[&queue], "at once, too");
    }
}

#[test]
fn a_dry_run_of_a_halted_queue_shows_all_of_it() {
    let (mut world, _) = World::with((0..30).map(|_| Letter::redriven(Content::TurnEnded, 1)));
    let until = world.run_queue(QueueName::FollowUp).halted_until.expect("it is halted");
    let state = |world: &World| world.ports.clock.block_on(world.quarantine.state(QueueName::FollowUp)).unwrap();
    let before = state(&world);
    let report = world.invoke(&json!({ "dry_run": true })).queues.remove(&QueueName::FollowUp).unwrap();
    assert_eq!((report.redriven, report.refailed, report.halted_until), (20, 20, Some(until)));
    assert_eq!(state(&world), before);
}

#[test]
fn queues_and_kinds_that_were_not_asked_for_are_left_alone() {
    let letters = [
        Letter::of(Content::Finish(Standing::Queued)),
        Letter::of(Content::TurnEnded),
        Letter::of(Content::Remind),
        Letter::of(Content::Garbage),
        Letter::of(Content::Unknown),
        Letter::of(Content::Watch(Standing::Lapsed)),
    ];
    let check = |event: Value, sent: &[usize], received: u32| {
        let (mut world, dead) = World::with(letters);
        let report = world.invoke(&event);
        report.queues.values().for_each(adds_up);
        assert_eq!(report.queues.values().map(|report| report.received).sum::<u32>(), received, "{event}");
        for (place, dead) in dead.iter().enumerate() {
            let is_sent = world.sent(dead.letter.queue()).contains_key(&dead.body);
            assert_eq!(is_sent, sent.contains(&place), "{event}: {:?}", dead.letter);
            let is_gone = is_sent || world.quarantined(dead).is_some();
            assert_eq!(world.left().contains(&dead.body), !is_gone, "{event}: {:?}", dead.letter);
        }
        let skipped: u32 = report.queues.values().map(|report| report.skipped).sum();
        assert_eq!(skipped as usize, if event["kinds"].is_null() { 0 } else { received as usize - sent.len() });
    };
    check(json!({}), &[0, 1, 2, 5], 6);
    check(json!({ "queues": ["watchdog"] }), &[5], 1);
    check(json!({ "queues": ["follow-up"] }), &[0, 1, 2], 5);
    check(json!({ "kinds": ["finish"] }), &[0], 6);
    check(json!({ "kinds": ["turn_ended", "remind"], "queues": ["follow-up"] }), &[1, 2], 5);
    check(json!({ "kinds": ["watch"], "queues": ["follow-up"] }), &[], 5);
    check(json!({ "kinds": ["finish", "watch", "turn_ended", "remind"] }), &[0, 1, 2, 5], 6);
}

#[test]
fn letters_of_another_kind_do_not_count() {
    let letters = [Content::TurnEnded, Content::Finish(Standing::Queued)].map(Letter::of);
    let (mut world, _) = World::with(letters.into_iter().cycle().take(20));
    let report = world.invoke(&json!({ "queues": ["follow-up"], "kinds": ["finish"], "max_messages": 7 }));
    assert_eq!(report.queues[&QueueName::FollowUp].redriven, 7);
}

#[test]
fn metrics_say_what_the_report_says() {
    let (mut world, _) = World::with(every_letter());
    let report = world.run();
    let lines: Vec<Value> =
        world.log.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert_eq!(lines.len(), QUEUES.len());
    for (line, (queue, report)) in lines.iter().zip(&report.queues) {
        assert_eq!((&line["queue"], &line["service"]), (&json!(queue), &json!("dlq-redriver")));
        assert_eq!(line["_aws"]["Timestamp"], json!(world.ports.clock.now_ms()));
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "manga-chat");
        for dimension in directive["Dimensions"][0].as_array().unwrap() {
            assert!(line[dimension.as_str().unwrap()].is_string(), "{dimension}");
        }
        let value = |metric: &Value| (metric["Unit"].clone(), line[metric["Name"].as_str().unwrap()].clone());
        let metrics = directive["Metrics"].as_array().unwrap();
        let values: Vec<_> = metrics.iter().map(value).collect();
        let count = |count: u32| (json!("Count"), json!(count));
        let expected = [
            count(report.received),
            count(report.redriven),
            count(report.quarantined),
            count(report.duplicates),
            count(report.expired),
            count(report.given_back),
            count(report.refailed),
            count(report.turns_failed),
            count(report.halted_until.is_some().into()),
            count(0),
            (json!("Milliseconds"), json!(report.duration_ms)),
        ];
        assert_eq!(values, expected);
        let members = line.as_object().unwrap().len();
        assert_eq!(members, metrics.len() + 4, "nothing else but _aws, service, queue and reasons: {line}");
    }
}

#[test]
fn an_answer_names_queues_and_reasons_as_requests_do() {
    let (mut world, _) = World::with([Letter::of(Content::Garbage), Letter::of(Content::Watch(Standing::Lapsed))]);
    let answer = serde_json::to_value(world.run()).unwrap();
    assert_eq!(answer["dry_run"], false);
    assert_eq!(answer["queues"]["follow-up"]["reasons"], json!({ "malformed": 1 }));
    assert_eq!(answer["queues"]["watchdog"]["reasons"], json!({ "transient": 1 }));
    assert_eq!(answer["queues"]["watchdog"]["halted_until"], json!(null));
}

#[test]
fn an_environment_serves_many_invocations_at_once() {
    fn send(_: impl Send) {}
    send(handle(&World::new().redriver(), &json!({}), Vec::new()));
}
