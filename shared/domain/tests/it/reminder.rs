//! Reminders: asked for in a message, sent once when they are due, at the next visit to who was not there.

use domain::follow_up::{Done, deliver_due, perform};
use domain::ids::{Principal, SessionId, TurnId};
use domain::limits::{
    CONNECTIONS_PER_PRINCIPAL_MAX, FOLLOW_UP_CLAIM_MS, FOLLOW_UPS_PER_VISIT_MAX, TURN_AGE_MAX_MS, WATCH_AFTER_MS,
};
use domain::ports::{
    ClaimOutcome, Clock as _, Connection, ConnectionStore as _, FollowUpStore as _, QueueName, ScheduledFollowUp, Task,
};
use domain::protocol::{Locale, MessageSend, ServerEvent, TurnState};
use domain::reminder::{due_at, is_asked_for, of_order};
use domain::store::{Order, OrderStatus};
use futures_util::future::join;
use serde_json::Value;
use testkit::{Fault, InMemory, START_MS, Service, StoreData, samples};

use crate::client::read;
use crate::world::{Told, drain, dying_after, frames, names, positions, send, tasks, wait, watchdog, worker};

const DAY_MS: u64 = 86_400_000;
/// The clock starts on 2026-11-21; the pre-order arrives on the 24th.
const DUE_MS: u64 = START_MS + 3 * DAY_MS;
const QUESTION: &str = "Please remind me when it arrives.";

fn preorder(id: &str) -> Order {
    Order { status: OrderStatus::Preordered, ..samples::order(id, "aiko") }
}

/// A store in which aiko has these orders.
fn world(orders: Vec<Order>) -> InMemory {
    let ports = InMemory::new();
    ports.store.stock(StoreData { orders, ..samples::store_data() });
    ports
}

/// A client of aiko's is connected from now on.
fn connected(ports: &InMemory, name: &str) {
    let connection = Connection {
        id: samples::connection(name),
        principal: samples::shopper("aiko"),
        session_id: SessionId::parse("session").unwrap(),
        connected_at: ports.clock.now_ms(),
        expires_at: START_MS + 30 * DAY_MS,
    };
    ports.run(ports.connections.inner.register(&connection, CONNECTIONS_PER_PRINCIPAL_MAX)).unwrap().unwrap();
}

/// Somebody asks to be reminded on connection `a`; what follows from that is done, up to the reminder.
fn asks(ports: &InMemory, principal: &Principal) -> MessageSend {
    let message = samples::message(1, QUESTION);
    assert_eq!(ports.run(send(ports, principal, &message, &samples::connection("a"))), Some(Told::Frames));
    ports.clock.advance(WATCH_AFTER_MS);
    ports.run(watchdog(ports));
    ports.run(worker(ports));
    message
}

/// What connections got of reminders.
fn reminders(ports: &InMemory, connection: &str) -> Vec<Value> {
    frames(ports, connection).into_iter().filter(|frame| frame["type"] == "follow_up").collect()
}

fn scheduled(ports: &InMemory) -> Vec<(ScheduledFollowUp, bool)> {
    ports.follow_ups.inner.all()
}

/// A world with a reminder of aiko's that was scheduled for `DUE_MS`.
fn reminded() -> (InMemory, ScheduledFollowUp) {
    let ports = world(vec![preorder("MC-1")]);
    asks(&ports, &samples::shopper("aiko"));
    let [(follow_up, delivered)] = <[_; 1]>::try_from(scheduled(&ports)).unwrap();
    assert_eq!((follow_up.due_at, delivered), (DUE_MS, false));
    (ports, follow_up)
}

fn visit(ports: &InMemory, connection: &str) {
    let aiko = samples::shopper("aiko");
    ports.run(deliver_due(ports, &aiko, &samples::connection(connection))).unwrap().unwrap();
}

#[test]
fn words_ask_for_a_reminder() {
    for text in [
        QUESTION,
        "REMIND ME!",
        "Can you set a reminder?",
        "please notify me",
        "発売日にリマインドして",
        "届いたら知らせて",
        "通知してください",
    ] {
        assert!(is_asked_for(text), "{text}");
    }
    for text in ["Where is my order?", "A pirate story?", "お知らせはありますか", "海賊の漫画"] {
        assert!(!is_asked_for(text), "{text}");
    }
}

#[test]
fn a_preorder_is_due_in_the_morning_of_its_day() {
    let order = preorder("MC-1");
    assert_eq!(due_at(&order, START_MS), Some(DUE_MS));
    assert_eq!([DUE_MS - 1, DUE_MS].map(|now| due_at(&order, now)), [Some(DUE_MS), None], "not when it has come");
    for status in [OrderStatus::Shipped, OrderStatus::Delivered, OrderStatus::Cancelled] {
        assert_eq!(due_at(&Order { status, ..order.clone() }, START_MS), None);
    }
    for eta in [None, Some("soon"), Some("2026-11"), Some("2026-02-30"), Some("1969-01-01")] {
        let eta = eta.map(str::to_owned);
        assert_eq!(due_at(&Order { eta: eta.clone(), ..order.clone() }, START_MS), None, "{eta:?}");
    }
}

#[test]
fn a_reminder_is_named_by_its_turn_and_order() {
    let turn = |id| TurnId::parse(id).unwrap();
    let aiko = samples::shopper("aiko");
    let id = |turn_id: &TurnId, order: &str| {
        of_order(turn_id, &aiko, &preorder(order), Locale::En, START_MS).unwrap().follow_up_id
    };
    assert_eq!(id(&turn("t-1"), "MC-1"), id(&turn("t-1"), "MC-1"));
    assert_ne!(id(&turn("t-1"), "MC-1"), id(&turn("t-1"), "MC-2"));
    assert_ne!(id(&turn("t-1"), "MC-1"), id(&turn("t-2"), "MC-1"));
    let later = of_order(&turn("t-1"), &aiko, &preorder("MC-1"), Locale::Ja, START_MS + 5).unwrap();
    assert_eq!(later.follow_up_id, id(&turn("t-1"), "MC-1"));
    assert!(later.message.text.contains("ご予約") && later.message.text.contains("MC-1"));
    assert_eq!(later.message.follow_up_id, later.follow_up_id);
    assert!(matches!(&later.message.cards[..], [ServerEvent::OrderCard(card)] if card.order_id == "MC-1"));
}

#[test]
fn every_preorder_is_scheduled_once_however_often_the_turn_is_followed_up() {
    let ports = world(vec![preorder("MC-1"), samples::order("MC-2", "aiko"), preorder("MC-3"), preorder("MC-4")]);
    asks(&ports, &samples::shopper("aiko"));
    let first = scheduled(&ports);
    assert_eq!(first.len(), 3);
    assert!(first.iter().all(|(follow_up, delivered)| follow_up.due_at == DUE_MS && !delivered));
    let ended = ports.events.inner.all().remove(0);
    assert!(ended.follow_up);
    assert_eq!(ports.run(perform(&ports, &Task::TurnEnded(ended))).unwrap().unwrap(), Done::Done);
    assert_eq!(scheduled(&ports), first);
    assert_eq!(tasks(&ports).iter().filter(|task| matches!(task, Task::Remind { .. })).count(), 3);
    let told = read(&frames(&ports, "a")).text;
    assert_eq!(told, "All right. We will remind you here on the morning it should arrive.");
}

#[test]
fn who_did_not_ask_or_has_no_orders_is_not_reminded() {
    let ports = world(vec![preorder("MC-1")]);
    asks(&ports, &samples::guest("g"));
    assert_eq!((scheduled(&ports), tasks(&ports)), (vec![], vec![]));
    let ports = world(vec![preorder("MC-1")]);
    let message = samples::message(1, "Where is my order?");
    ports.run(send(&ports, &samples::shopper("aiko"), &message, &samples::connection("a")));
    ports.run(drain(&ports));
    assert_eq!(scheduled(&ports), []);
    assert!(!ports.events.inner.all()[0].follow_up);
    let ports = world(vec![]);
    asks(&ports, &samples::shopper("aiko"));
    assert_eq!((scheduled(&ports), tasks(&ports)), (vec![], vec![]));
}

#[test]
fn orders_that_cannot_be_read_are_read_again() {
    let ports = world(vec![preorder("MC-1")]);
    ports.store.fail(Service::Orders);
    let (aiko, message) = (samples::shopper("aiko"), samples::message(1, QUESTION));
    ports.run(send(&ports, &aiko, &message, &samples::connection("a"))).unwrap();
    ports.clock.advance(WATCH_AFTER_MS);
    ports.run(watchdog(&ports));
    ports.run(worker(&ports));
    assert_eq!(scheduled(&ports), []);
    assert!(matches!(tasks(&ports)[..], [Task::TurnEnded(_)]), "the task stays");
}

#[test]
fn a_reminder_comes_when_it_is_due_to_every_tab_and_once() {
    let (ports, follow_up) = reminded();
    connected(&ports, "a");
    connected(&ports, "b");
    visit(&ports, "a");
    assert_eq!(reminders(&ports, "a"), Vec::<Value>::new(), "it is not due");
    ports.run(drain(&ports)).unwrap();
    assert_eq!(ports.clock.now_ms(), DUE_MS);
    for connection in ["a", "b"] {
        let [frame] = <[_; 1]>::try_from(reminders(&ports, connection)).unwrap();
        assert_eq!(frame["data"]["follow_up_id"], follow_up.follow_up_id);
        assert_eq!(frame["data"]["cards"][0]["type"], "card.order");
        assert_eq!((&frame["ts"], &frame["turn_id"]), (&DUE_MS.into(), &Value::Null));
    }
    assert_eq!(scheduled(&ports), [(follow_up.clone(), true)]);

    let again = Task::Remind { principal: follow_up.principal.clone(), follow_up_id: follow_up.follow_up_id };
    assert_eq!(ports.run(perform(&ports, &again)).unwrap().unwrap(), Done::Done);
    visit(&ports, "a");
    assert_eq!(reminders(&ports, "a").len(), 1);
}

#[test]
fn who_is_not_there_is_reminded_at_the_next_visit_and_once() {
    for was_cut_off in [false, true] {
        let (ports, follow_up) = reminded();
        if was_cut_off {
            connected(&ports, "a");
            ports.sender.inner.cut(&samples::connection("a"));
        }
        ports.run(drain(&ports)).unwrap();
        assert_eq!(scheduled(&ports), [(follow_up.clone(), false)]);
        ports.clock.advance(DAY_MS);
        visit(&ports, "c");
        assert_eq!(reminders(&ports, "c").len(), 1);
        assert_eq!(scheduled(&ports), [(follow_up, true)]);
        visit(&ports, "d");
        assert_eq!(reminders(&ports, "d"), Vec::<Value>::new());
    }
}

#[test]
fn a_post_that_fails_is_made_up_for() {
    let (ports, follow_up) = reminded();
    connected(&ports, "b");
    ports.sender.inner.fail_next(1);
    ports.run(drain(&ports)).unwrap();
    assert_eq!(scheduled(&ports), [(follow_up.clone(), false)]);
    visit(&ports, "b");
    assert_eq!((reminders(&ports, "b").len(), scheduled(&ports)), (1, vec![(follow_up, true)]));
}

#[test]
fn of_all_who_would_deliver_one_does() {
    for round_trip_ms in [0, 20] {
        let (ports, follow_up) = reminded();
        connected(&ports, "b");
        ports.clock.advance_to(DUE_MS);
        let processes = [ports.process(), ports.process()];
        processes.iter().for_each(|process| process.set_round_trip_ms(round_trip_ms));
        let task =
            Task::Remind { principal: follow_up.principal.clone(), follow_up_id: follow_up.follow_up_id.clone() };
        let (aiko, b) = (samples::shopper("aiko"), samples::connection("b"));
        let visiting = async {
            wait(&ports, round_trip_ms).await;
            deliver_due(&processes[1], &aiko, &b).await
        };
        let (performed, visited) = ports.clock.block_on(join(perform(&processes[0], &task), visiting));
        visited.unwrap();
        let done = performed.unwrap();
        assert!(matches!(done, Done::Done | Done::Later(Some(FOLLOW_UP_CLAIM_MS))), "{done:?}");
        assert_eq!(reminders(&ports, "b").len(), 1, "round trip {round_trip_ms}");
        assert_eq!(scheduled(&ports), [(follow_up, true)]);
    }
}

#[test]
fn a_claim_lapses_with_who_made_it() {
    let (ports, follow_up) = reminded();
    ports.clock.advance_to(DUE_MS);
    let rehearsal = ports.process();
    let aiko = samples::shopper("aiko");
    let claim = |attempt: &str, now: u64| {
        let claimed =
            ports.follow_ups.inner.claim(&aiko, &follow_up.follow_up_id, attempt, now, now + FOLLOW_UP_CLAIM_MS);
        ports.clock.block_on(claimed).unwrap()
    };
    assert_eq!(claim("dead", DUE_MS), ClaimOutcome::Claimed(follow_up.clone()));
    assert_eq!(claim("dead", DUE_MS), ClaimOutcome::Claimed(follow_up.clone()), "its acknowledgement was lost");
    ports.clock.advance_to(DUE_MS + FOLLOW_UP_CLAIM_MS - 1);
    visit(&rehearsal, "b");
    assert_eq!(reminders(&ports, "b"), Vec::<Value>::new());
    ports.clock.advance(1);
    visit(&rehearsal, "b");
    assert_eq!(reminders(&ports, "b").len(), 1);
    assert_eq!(claim("late", ports.clock.now_ms()), ClaimOutcome::Done);
}

#[test]
fn who_dies_over_a_reminder_loses_none_and_sends_none_under_another_name() {
    let effects = {
        let (ports, follow_up) = reminded();
        connected(&ports, "b");
        ports.clock.advance_to(DUE_MS);
        let process = ports.process();
        let task = Task::Remind { principal: follow_up.principal, follow_up_id: follow_up.follow_up_id };
        ports.clock.block_on(perform(&process, &task)).unwrap();
        names(&process)
    };
    let sent = positions(&effects, "sender.send")[0];
    for (effect, name) in effects.iter().enumerate() {
        for fault in [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter] {
            let (ports, follow_up) = reminded();
            connected(&ports, "b");
            ports.clock.advance_to(DUE_MS);
            let process = ports.process();
            process.faults.plan(effect, fault);
            process.run(worker(&process));
            ports.run(drain(&ports)).unwrap();
            visit(&ports, "b");
            let ids: Vec<Value> =
                reminders(&ports, "b").iter().map(|frame| frame["data"]["follow_up_id"].clone()).collect();
            assert!(ids.iter().all(|id| *id == follow_up.follow_up_id.as_str()));
            assert_eq!(scheduled(&ports), [(follow_up, true)], "{fault:?} at {}", name);
            let may_be_twice = effect == sent && matches!(fault, Fault::FailAfter | Fault::CrashAfter)
                || effect > sent && fault != Fault::FailAfter && fault != Fault::CrashAfter;
            assert_eq!(ids.len(), 1 + usize::from(may_be_twice), "{fault:?} at {}", name);
        }
    }
}

#[test]
fn a_visit_brings_so_many_the_oldest_first() {
    let ports = InMemory::new();
    let aiko = samples::shopper("aiko");
    let count = u64::from(FOLLOW_UPS_PER_VISIT_MAX) + 1;
    for number in (0..count).rev() {
        let follow_up = samples::follow_up(&format!("f-{number}"), &aiko, START_MS + number);
        ports.run(ports.follow_ups.inner.schedule(&follow_up)).unwrap().unwrap();
    }
    ports.clock.advance(count);
    let mut ids = Vec::new();
    for (connection, new) in [("a", FOLLOW_UPS_PER_VISIT_MAX as usize), ("b", 1), ("c", 0)] {
        visit(&ports, connection);
        let got = reminders(&ports, connection);
        assert_eq!(got.len(), new);
        ids.extend(got.iter().map(|frame| frame["data"]["follow_up_id"].as_str().unwrap().to_owned()));
    }
    assert_eq!(ids, (0..count).map(|number| format!("f-{number}")).collect::<Vec<_>>());
}

#[test]
fn a_turn_that_failed_is_followed_up_too() {
    let ports = world(vec![preorder("MC-1")]);
    ports.store.delay(Service::Orders, 1_000);
    let (aiko, connection) = (samples::shopper("aiko"), samples::connection("a"));
    let message = samples::message(1, QUESTION);
    ports.clock.block_on(dying_after(&ports, 500, send(&ports.process(), &aiko, &message, &connection)));
    ports.clock.advance(TURN_AGE_MAX_MS);
    ports.run(watchdog(&ports));
    assert_eq!(ports.events.inner.all()[0].state, TurnState::Failed);
    ports.run(worker(&ports));
    assert_eq!(scheduled(&ports).len(), 1, "it was asked for");
    assert_eq!(ports.queues.inner.counts(QueueName::FollowUp).delayed, 1);
}
