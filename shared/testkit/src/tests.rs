//! The fakes keep the contracts, and the clock is one.

mod processes;
mod queues;

use std::collections::BTreeMap;

use domain::ids::{ConversationId, TurnId};
use domain::intent::Intent;
use domain::ports::{
    BucketKey, Clock as _, ConnectionSender as _, ConnectionStore as _, DeadLetter, DeadLetters as _, Deliveries as _,
    Delivery, FollowUpStore as _, LanguageModel as _, ModelChoice, ModelEvent, QueueName, RecordOutcome, TakeToken,
    Task, TaskQueues as _, TokenBuckets as _, TurnEnded, TurnEvents as _, TurnStore as _,
};
use domain::prompt::Prompt;
use domain::protocol::{Locale, TurnState, Usage};
use domain::turn::{Summary, TurnRequest};
use futures_util::{StreamExt as _, join};

use crate::{
    Fault, InMemory, ManualClock, MemoryBuckets, MemoryBudgets, MemoryConnections, MemoryFollowUps, MemoryQueues,
    MemoryTurns, START_MS, Step, contract, samples,
};

#[test]
fn memory_stores_keep_their_contracts() {
    let clock = ManualClock::new();
    clock.block_on(contract::turn_store(&MemoryTurns::default(), "m", START_MS));
    clock.block_on(contract::connection_store(&MemoryConnections::new(clock.clone()), "m", START_MS));
    clock.block_on(contract::token_buckets(&MemoryBuckets::default(), "m", START_MS));
    let budgets = MemoryBudgets::default();
    budgets.limit(ModelChoice::Primary, 10_007);
    clock.block_on(contract::token_budgets(&vec![budgets; 4], 10_007, START_MS));
    let follow_ups = MemoryFollowUps::new(MemoryQueues::new(clock.clone()));
    clock.block_on(contract::follow_ups(&follow_ups, "m", START_MS));
}

#[test]
fn faultless_ports_keep_the_contracts_over_time() {
    let ports = InMemory::new();
    ports.set_round_trip_ms(7);
    ports.run(contract::turn_store(&ports.turns, "f", START_MS)).expect("nothing crashed");
    ports.run(contract::token_buckets(&ports.buckets, "f", START_MS)).expect("nothing crashed");
    ports.run(contract::follow_ups(&ports.follow_ups, "f", START_MS)).expect("nothing crashed");
    let now_ms = ports.clock.now_ms();
    assert!(now_ms > START_MS);
    ports.run(contract::connection_store(&ports.connections, "f", now_ms)).expect("nothing crashed");
}

#[test]
fn the_clock_jumps_to_the_earliest_sleeper() {
    let clock = ManualClock::new();
    let asleep = |ms| {
        let clock = &clock;
        async move {
            clock.sleep_until(START_MS + ms).await;
            clock.now_ms() - START_MS
        }
    };
    let woken = clock.block_on(async { join!(asleep(50), asleep(20), asleep(0), asleep(50)) });
    assert_eq!(woken, (50, 20, 0, 50));
    clock.advance(5);
    assert_eq!(clock.now_ms(), START_MS + 55);
}

#[test]
fn a_skewed_clock_is_off_by_its_skew_and_counts_as_every_other() {
    let clock = ManualClock::new();
    let (late, early) = (clock.skewed(400), clock.skewed(-600));
    clock.advance(1_000);
    assert_eq!([&late, &clock, &early].map(|clock| clock.now_ms() - START_MS), [1_400, 1_000, 400]);
    assert_eq!([&late, &clock, &early].map(|clock| clock.monotonic_ms()), [1_000; 3]);

    let asleep = |clock: &ManualClock| {
        let (shown, right) = (clock.clone(), late.skewed(0));
        async move {
            shown.sleep_until(START_MS + 2_000).await;
            (shown.now_ms() - START_MS, right.now_ms() - START_MS)
        }
    };
    let woken = early.block_on(async { join!(asleep(&late), asleep(&clock), asleep(&early)) });
    assert_eq!(woken, ((2_000, 1_600), (2_000, 2_000), (2_000, 2_600)));
    late.advance_to(START_MS + 3_100);
    assert_eq!(clock.now_ms(), START_MS + 2_700);
    assert_eq!(clock.next_sleeper_at(), None);
}

#[test]
#[should_panic(expected = "never happen")]
fn the_end_of_time_never_comes() {
    let clock = ManualClock::new().skewed(-5);
    clock.block_on(clock.sleep_until(u64::MAX));
}

#[test]
#[should_panic(expected = "never happen")]
fn waiting_for_nothing_is_reported() {
    ManualClock::new().block_on(std::future::pending::<()>());
}

fn prompt() -> Prompt {
    Prompt {
        system: String::new(),
        messages: Vec::new(),
        question_at: 0,
        prefill: None,
        model: ModelChoice::Primary,
        answer_tokens_max: 1,
        instructions_dropped: 0,
    }
}

fn ended(follow_up: bool) -> TurnEnded {
    TurnEnded {
        turn_id: request().turn_id,
        conversation_id: request().conversation_id,
        number: 1,
        intent: Intent::Faq,
        state: TurnState::Completed,
        usage: Usage::default(),
        ended_at: START_MS,
        follow_up,
    }
}

fn request() -> TurnRequest {
    TurnRequest {
        turn_id: TurnId::parse("t-1").unwrap(),
        conversation_id: ConversationId::parse("c-1").unwrap(),
        number: 1,
        principal: samples::shopper("aiko"),
        client_message_id: samples::client_message_id(1),
        payload_hash: "hash".to_owned(),
        text: "text".to_owned(),
        locale: Locale::En,
        product_id: None,
        connection: samples::connection("asked-on"),
        asked_at: START_MS,
        lease_until: START_MS + 1,
    }
}

#[test]
fn faults_strike_where_they_are_planned() {
    for (fault, answered, happened) in [
        (Fault::FailBefore, true, false),
        (Fault::FailAfter, true, true),
        (Fault::CrashBefore, false, false),
        (Fault::CrashAfter, false, true),
    ] {
        let ports = InMemory::new();
        ports.faults.plan(1, fault);
        assert_eq!(ports.run(ports.turns.turn(&request().turn_id)).unwrap().unwrap(), None, "effect 0 is well");
        let outcome = ports.run(ports.turns.record(&request()));
        assert_eq!(outcome.is_some(), answered, "{fault:?}");
        assert!(outcome.is_none_or(|outcome| outcome.is_err()), "{fault:?}");
        assert_eq!(ports.faults.crashed(), !answered);
        assert_eq!(ports.turns.inner.all_turns().len(), usize::from(happened), "{fault:?}");

        ports.faults.restart();
        let again = ports.run(ports.turns.record(&request())).expect("no crash");
        assert_eq!(again.unwrap(), RecordOutcome::Recorded);
        assert_eq!(ports.faults.effects().len(), 1, "counted anew");
    }
}

#[test]
fn a_dead_process_does_nothing_more() {
    let ports = InMemory::new();
    ports.faults.plan(0, Fault::CrashBefore);
    let known = samples::connection("known");
    let request = request();
    let both = async { join!(ports.connections.forget(&known), ports.turns.record(&request)) };
    assert!(ports.run(both).is_none());
    assert_eq!(ports.faults.effects().len(), 1);
    assert!(ports.turns.inner.all_turns().is_empty());
}

#[test]
fn the_model_follows_its_script_and_counts_who_leaves() {
    let ports = InMemory::new();
    ports.model.follow(Step::answer(["one ", "two"], 10));
    let events = ports.run(ports.model.answer(prompt()).collect::<Vec<_>>()).unwrap();
    assert_eq!((events.len(), ports.clock.now_ms()), (4, START_MS + 20));
    assert_eq!(ports.model.cancelled(), 0);
    drop(ports.model.answer(prompt()));
    assert_eq!(ports.model.asked().len(), 1, "it is asked by the first poll");
    ports.run(async { Box::pin(ports.model.answer(prompt())).next().await.is_some() });
    assert_eq!((ports.model.asked().len(), ports.model.cancelled()), (2, 1));
}

/// What the model says to a prompt with that beginning.
fn said(ports: &InMemory, prefill: Option<&str>) -> String {
    let prompt = Prompt { prefill: prefill.map(str::to_owned), ..prompt() };
    let events = ports.run(ports.model.answer(prompt).collect::<Vec<_>>()).expect("nothing crashed");
    let text = events.into_iter().filter_map(|event| match event.expect("it does not break off") {
        ModelEvent::Text(text) => Some(text),
        ModelEvent::Stopped(_) | ModelEvent::Usage(_) => None,
    });
    text.collect()
}

#[test]
fn the_model_gives_single_answers_before_its_usual_one() {
    let ports = InMemory::new();
    ports.model.follow(Step::answer(["as usual"], 0));
    ports.model.follow_once(Step::answer(["first"], 0));
    ports.model.follow_once(Step::answer(["second"], 0));
    assert_eq!([(); 4].map(|()| said(&ports, None)), ["first", "second", "as usual", "as usual"]);
    assert_eq!(ports.model.asked().len(), 4);
}

#[test]
fn the_model_continues_what_it_is_given_if_it_accepts_that() {
    let ports = InMemory::new();
    ports.model.follow(Step::answer(["one ", "two ", "three"], 10));
    assert!(!ports.model.accepts_prefill());
    assert_eq!(said(&ports, Some("one ")), "one two three");
    ports.model.set_accepts_prefill(true);
    assert!(ports.model.accepts_prefill());
    let before = ports.clock.now_ms();
    for (prefill, rest) in [
        ("one ", "two three"),
        ("one", " two three"),
        ("one tw", "o three"),
        ("one two three", ""),
        ("one two three four", "one two three"),
        ("another", "one two three"),
        ("", "one two three"),
    ] {
        assert_eq!(said(&ports, Some(prefill)), rest, "{prefill:?}");
    }
    assert_eq!(ports.clock.now_ms() - before, 20 + 20 + 10 + 30 + 30 + 30, "what is not said takes no time");
}

#[test]
fn clients_are_cut_off_and_posts_fail() {
    let ports = InMemory::new();
    let (near, far) = (samples::connection("near"), samples::connection("far"));
    let send = |connection| ports.run(ports.sender.send(connection, "1".to_owned())).expect("nothing crashed");
    ports.sender.inner.fail_next(2);
    assert!(send(&near).is_err() && send(&far).is_err());
    assert_eq!(send(&near).unwrap(), Delivery::Delivered);
    ports.sender.inner.cut(&near);
    assert_eq!((send(&near).unwrap(), send(&far).unwrap()), (Delivery::Gone, Delivery::Delivered));
    assert_eq!(ports.sender.inner.frames(&near).len(), 1);
}

#[test]
fn a_reminder_comes_once_and_when_it_is_due() {
    let ports = InMemory::new();
    let follow_up = samples::follow_up("f-1", &samples::shopper("aiko"), START_MS + 86_400_000);
    for _ in 0..2 {
        ports.run(ports.follow_ups.schedule(&follow_up)).unwrap().unwrap();
    }
    let queues = &ports.queues.inner;
    ports.clock.advance_to(follow_up.due_at - 1);
    assert_eq!(queues.receive_messages(QueueName::FollowUp, 10), []);
    ports.clock.advance(1);
    let received = queues.receive_messages(QueueName::FollowUp, 10);
    let remind = Task::Remind { principal: follow_up.principal.clone(), follow_up_id: "f-1".to_owned() };
    assert_eq!(received.len(), 1);
    assert_eq!(serde_json::from_str::<Task>(&received[0].body).unwrap(), remind);
    assert_eq!(received[0].sent_at, follow_up.due_at);
    assert_eq!(ports.follow_ups.inner.all(), [(follow_up, false)]);
}

#[test]
fn the_follow_up_queue_is_told_of_ends_that_concern_it() {
    let ports = InMemory::new();
    for follow_up in [false, true] {
        ports.run(ports.events.turn_ended(&ended(follow_up))).unwrap().unwrap();
    }
    assert_eq!(ports.events.inner.all(), [ended(false), ended(true)]);
    let told = ports.queues.inner.bodies(QueueName::FollowUp);
    let told: Vec<Task> = told.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(told, [Task::TurnEnded(ended(true))]);
}

#[test]
fn a_process_shares_the_world_and_not_its_faults() {
    let first = InMemory::new();
    let second = first.process().skewed(50);
    first.set_round_trip_ms(10);
    first.faults.plan(1, Fault::CrashAfter);
    assert!(first.run(first.turns.record(&request())).is_some());
    assert!(first.run(first.connections.forget(&samples::connection("c"))).is_none());
    assert!(first.faults.crashed() && !second.faults.crashed());
    assert_eq!(second.faults.effects(), []);

    let before = second.clock.now_ms();
    assert_eq!(before, first.clock.now_ms() + 50);
    assert!(second.run(second.turns.turn(&request().turn_id)).unwrap().unwrap().is_some(), "what the other recorded");
    assert_eq!(second.clock.now_ms(), before, "its round trips are its own");
    assert_eq!(second.faults.effects().len(), 1);
    assert!(first.process().run(first.process().turns.turn(&request().turn_id)).is_some(), "new ones are well");
}

#[test]
fn a_process_is_killed_wherever_it_is() {
    let ports = InMemory::new();
    ports.set_round_trip_ms(10);
    let (request, killer) = (request(), ports.faults.clone());
    let dies = async {
        join!(ports.turns.record(&request), async {
            ports.clock.sleep_until(START_MS + 7).await;
            killer.kill();
        })
    };
    assert!(ports.run(dies).is_none());
    assert_eq!(ports.clock.now_ms(), START_MS + 7);
    assert_eq!(ports.turns.inner.all_turns().len(), 1, "the effect had happened half-way");
}

#[test]
fn every_effect_has_its_name() {
    let ports = InMemory::new();
    let (principal, request) = (samples::shopper("aiko"), request());
    let follow_up = samples::follow_up("f-1", &principal, START_MS);
    let letter = DeadLetter {
        message_id: String::new(),
        receipt: String::new(),
        body: String::new(),
        first_sent_at: START_MS,
        redrives: 0,
        reason: None,
    };
    let key = BucketKey::Messages(principal.clone());
    let token = TakeToken { key: key.clone(), full_at_before: None, full_at: START_MS, attempt: String::new() };
    let task = Task::Watch { turn_id: request.turn_id.clone(), epoch: 1 };
    let summary = Summary { through: 1, text: String::new() };
    ports.run(async {
        ports.turns.record(&request).await.unwrap();
        ports.turns.ask_to_cancel(&request.turn_id, START_MS).await.unwrap();
        ports.turns.summarise(&request.conversation_id, &summary, START_MS).await.unwrap();
        ports.connections.connections_of(&principal).await.unwrap();
        ports.buckets.full_at(&key).await.unwrap();
        ports.buckets.take(&token).await.unwrap();
        ports.queues.send(&task, 0).await.unwrap();
        ports.follow_ups.schedule(&follow_up).await.unwrap();
        ports.follow_ups.due(&principal, START_MS, 1).await.unwrap();
        ports.follow_ups.claim(&principal, "f-1", "a", START_MS, START_MS + 1).await.unwrap();
        ports.follow_ups.finish(&principal, "f-1", "a", true).await.unwrap();
        ports.queues.receive(QueueName::FollowUp).await.unwrap();
        ports.queues.redrive(QueueName::FollowUp, &letter).await.unwrap();
        ports.queues.delete(QueueName::FollowUp, "none").await.unwrap();
        assert!(ports.queues.give_back(QueueName::FollowUp, "none").await.is_err());
        assert!(ports.queues.hide("none", 1).await.is_err());
        ports.queues.refuse("body", 0, START_MS, "reason").await.unwrap();
    });
    let names: Vec<&str> = ports.faults.effects().iter().map(|effect| effect.name).collect();
    let expected = [
        "turns.record",
        "turns.ask_to_cancel",
        "turns.summarise",
        "connections.connections_of",
        "buckets.full_at",
        "buckets.take",
        "queues.send",
        "follow_ups.schedule",
        "follow_ups.due",
        "follow_ups.claim",
        "follow_ups.finish",
        "dead_letters.receive",
        "dead_letters.redrive",
        "dead_letters.delete",
        "dead_letters.give_back",
        "deliveries.hide",
        "deliveries.refuse",
    ];
    assert_eq!(names, expected);
}

#[test]
fn the_sample_events_are_found_by_name() {
    let events: BTreeMap<String, serde_json::Value> = samples::events("connect");
    assert_eq!(events["guest"]["requestContext"]["routeKey"], "$connect");
}
