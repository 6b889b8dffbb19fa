//! `stream.resume`, and what becomes of a turn whose owner dies.

use domain::follow_up::{Done, perform};
use domain::ids::TurnId;
use domain::limits::{EPOCHS_MAX, LEASE_MS, REPLAYS_PER_MINUTE, TAKEOVER_MARGIN_MS, TURN_AGE_MAX_MS};
use domain::ports::{Clock as _, QueueName, Task};
use domain::protocol::TurnState;
use domain::turn::Hold;
use futures_util::future::{join_all, select};
use futures_util::join;
use serde_json::{Value, json};
use testkit::{Fault, ModelFailure, START_MS, Step, samples};

use super::{
    Held, LAPSED_MS, World, asked, check_held, completed, in_conversation, message, resume, sequenced, text, types,
};

/// An answer of some three seconds: three journal writes and the last.
pub(super) const PIECES: [&str; 30] = [
    "a1 ", "a2 ", "a3 ", "a4 ", "a5 ", "a6 ", "a7 ", "a8 ", "a9 ", "a10 ", "b1 ", "b2 ", "b3 ", "b4 ", "b5 ", "b6 ",
    "b7 ", "b8 ", "b9 ", "b10 ", "c1 ", "c2 ", "c3 ", "c4 ", "c5 ", "c6 ", "c7 ", "c8 ", "c9 ", "c10",
];

/// Who resumes no more often may always do so.
const REPLAY_EVERY_MS: u64 = 60_000 / REPLAYS_PER_MINUTE as u64;

/// The frames of a turn up to a `seq`, as a client holds them that was cut off there.
fn up_to(frames: &[Value], seq: i64) -> Vec<Value> {
    sequenced(frames).into_iter().filter(|frame| frame["seq"].as_i64().unwrap() <= seq).cloned().collect()
}

#[test]
fn an_ended_turn_resumes_from_anywhere() {
    let world = World::talking(&PIECES);
    let aiko = world.shopper("aiko", "one");
    let live = aiko.ask(message(1, "question"));
    let turn = world.the_turn();
    let last = turn.journal.last_seq();
    assert!(last > 20, "there is something to resume");
    for after_seq in -1..=last {
        let epoch = u64::from(after_seq >= 0);
        world.ports.clock.advance(REPLAY_EVERY_MS);
        let missing = aiko.ask(resume(&turn.request.turn_id, epoch, after_seq));
        assert!(sequenced(&missing).len() == missing.len(), "frames of the turn and nothing else");
        assert!(missing.iter().all(|frame| frame["seq"].as_i64().unwrap() > after_seq));
        let frames = [up_to(&live, after_seq), missing].concat();
        let held = Held::of(&frames);
        assert_eq!((held.text(), held.end()), (PIECES.concat(), "turn.completed"), "after {after_seq}");
    }
    assert!(aiko.ask(resume(&turn.request.turn_id, 1, last)).is_empty());
    assert!(aiko.ask(resume(&turn.request.turn_id, 1, i64::MAX)).is_empty());
}

#[test]
fn a_turn_that_goes_on_resumes_at_any_time() {
    for after_ms in (40..3_400).step_by(130) {
        let world = World::talking(&PIECES);
        let (aiko, tab) = (world.shopper("aiko", "one"), world.shopper("aiko", "two"));
        let turn = samples::session_key().turn_id(&aiko.principal, samples::client_message_id(1));
        let cut_off = async {
            // What this connection was sent until now is what its client held when it moved to the other.
            let held: Vec<Value> = sequenced(&aiko.frames()).into_iter().cloned().collect();
            let (epoch, seq) =
                held.last().map_or((0, -1), |frame| (frame["epoch"].as_u64().unwrap(), frame["seq"].as_i64().unwrap()));
            tab.invoke(resume(&turn, epoch, seq)).await;
            held
        };
        let (_, held) = world.run(async { join!(aiko.invoke(message(1, "question")), world.after(after_ms, cut_off)) });
        let frames = [held, tab.frames()].concat();
        let held = Held::of(&frames);
        assert_eq!((held.text(), held.end()), (PIECES.concat(), "turn.completed"), "after {after_ms} ms");
        assert_eq!(Held::of(&aiko.frames()).text(), PIECES.concat(), "the first connection is served on");
    }
}

#[test]
fn only_ones_own_turn_resumes() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.journal(&asked(1, "question"), vec![text("answer"), completed()], true);
    let ben = world.shopper("ben", "one");
    assert_eq!(ben.refused(resume(&asked(1, "").turn_id, 0, -1)), "not_found");
    assert_eq!(ben.refused(resume(&asked(2, "").turn_id, 0, -1)), "not_found");
    let [others, unknown] = <[_; 2]>::try_from(ben.frames()).unwrap();
    assert_eq!(others, unknown, "nothing tells the two apart");
    world.ports.clock.advance_to(LAPSED_MS);
    ben.ask(resume(&asked(1, "").turn_id, 0, -1));
    assert!(world.the_turn().journal.subscribers.is_empty());
}

#[test]
fn another_shopper_does_not_take_an_abandoned_turn_over() {
    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.ports.clock.advance_to(LAPSED_MS);
    let stored = world.the_turn();
    assert_eq!(world.shopper("ben", "one").refused(resume(&asked(1, "").turn_id, 0, -1)), "not_found");
    assert_eq!(world.the_turn(), stored);
    assert!(world.ports.model.asked().is_empty());
}

/// A world in which an owner died with some of its frames durable and more of them sent, and what its client had got.
pub(super) fn abandoned() -> (World, Vec<Value>) {
    let world = World::new();
    world.ports.model.follow(Step::answer(PIECES, 100));
    world.ports.store.stock(samples::store_data());
    let owner = world.process();
    owner.ports.set_round_trip_ms(10);
    let aiko = owner.shopper("aiko", "one");
    let dead = || owner.effects("turns.journal") == 3;
    assert!(world.ports.clock.block_on_until(dead, aiko.invoke(message(1, "question"))).is_none());
    let live = aiko.frames();
    let durable = world.the_turn().journal.last_seq();
    let sent = sequenced(&live).last().unwrap()["seq"].as_i64().unwrap();
    assert!((5..sent).contains(&durable), "{durable} of {sent} are durable");
    (world, live)
}

fn turn_id(world: &World) -> TurnId {
    world.the_turn().request.turn_id
}

/// When the turn of [`abandoned`] may be taken over: its owner's second write renewed the lease.
pub(super) fn lapses_at(world: &World) -> u64 {
    let renewed = world.the_turn().journal.hold;
    let Some(Hold::Leased { until }) = renewed else { panic!("{renewed:?}") };
    assert!(until > START_MS + LEASE_MS);
    until + TAKEOVER_MARGIN_MS
}

/// At once on a resend or a resume, to the millisecond; before it the owner may be alive, and who asks waits with it.
#[test]
fn a_turn_is_taken_over_when_its_lease_has_lapsed() {
    for continues in [false, true] {
        for resends in [false, true] {
            let case = format!("the model continues: {continues}, resent: {resends}");
            let (world, live) = abandoned();
            world.ports.model.set_accepts_prefill(continues);
            let durable = world.the_turn().journal;
            let back = world.shopper("aiko", "two");
            let frame = if resends { message(1, "question") } else { resume(&turn_id(&world), 0, -1) };
            world.ports.clock.advance_to(lapses_at(&world) - 1);
            let waiting = back.ask(frame.clone());
            assert_eq!(Held::of(&waiting).text(), durable.answer(), "{case}");
            assert_eq!((world.the_turn().state(), world.the_turn().epoch()), (TurnState::Running, 1), "{case}");

            world.ports.clock.advance(1);
            let began_at = world.ports.clock.now_ms();
            back.ask(frame);
            let turn = world.the_turn();
            assert_eq!((turn.state(), turn.epoch()), (TurnState::Completed, 2), "{case}");
            assert_eq!(turn.journal.answer(), PIECES.concat(), "{case}");
            check_held(&back.frames(), &turn, &case);
            let frames = back.frames();
            let begun = frames.iter().find(|frame| frame["epoch"] == 2).unwrap();
            assert_eq!(
                (&begun["type"], &begun["seq"]),
                (&json!("turn.started"), &json!(durable.last_seq() + 1)),
                "{case}"
            );
            assert_eq!(
                (&begun["data"]["continues"], &begun["data"]["restarted"]),
                (&json!(continues), &json!(!continues)),
                "{case}"
            );
            assert_eq!(world.ports.model.asked().last().unwrap().0, began_at, "{case}: without delay");

            // The connection it was asked on is served too, from what it held.
            check_held(&world.shopper("aiko", "one").frames(), &turn, &case);
            assert!(world.shopper("aiko", "one").frames().len() > live.len(), "{case}");
            let watch = Task::Watch { turn_id: turn.request.turn_id.clone(), epoch: 2 };
            assert_eq!(world.tasks(QueueName::Watchdog).last(), Some(&watch), "{case}: every owner is looked after");
            let next = in_conversation(message(2, "question"), &json!(turn.request.conversation_id));
            assert_eq!(back.ask(next)[0]["type"], "message.accepted", "{case}: the conversation is free");
        }
    }
}

/// What the client holds from the first frame on that was not durable is void.
#[test]
fn a_later_epoch_is_replayed_from_its_beginning() {
    for continues in [false, true] {
        let (world, live) = abandoned();
        world.ports.model.set_accepts_prefill(continues);
        let durable = world.the_turn().journal.last_seq();
        let sent = sequenced(&live).last().unwrap()["seq"].as_i64().unwrap();
        let turn = turn_id(&world);
        let back = world.shopper("aiko", "two");
        world.ports.clock.advance_to(lapses_at(&world));
        let first = back.ask(resume(&turn, 1, sent));
        let stored = world.the_turn();
        for after_seq in -1..=sent {
            world.ports.clock.advance(REPLAY_EVERY_MS);
            let case = format!("after {after_seq}, the model continues: {continues}");
            let missing = back.ask(resume(&turn, u64::from(after_seq >= 0), after_seq));
            let beginning = missing.iter().find(|frame| frame["epoch"] == 2).unwrap();
            assert_eq!(
                (&beginning["type"], &beginning["seq"]),
                (&json!("turn.started"), &json!(durable + 1)),
                "{case}"
            );
            if after_seq >= durable {
                assert_eq!(missing[0], *beginning, "{case}");
            }
            check_held(&[up_to(&live, after_seq), missing].concat(), &stored, &case);
        }
        check_held(&[live, first].concat(), &stored, "who had it taken over");
        let end = world.the_turn().journal.last_seq();
        assert!(back.ask(resume(&turn, 2, end)).is_empty(), "epochs are begun once");
    }
}

/// Everybody who waits for a dead owner comes back at the same moment: one takes over, all see it.
#[test]
fn a_turn_is_taken_over_once() {
    for round_trip_ms in [0, 10] {
        let (world, _) = abandoned();
        let turn = turn_id(&world);
        let asked_before = world.ports.model.asked().len();
        world.ports.clock.advance_to(lapses_at(&world));
        let processes: Vec<World> = (0..3).map(|_| world.process()).collect();
        for process in &processes {
            process.ports.set_round_trip_ms(round_trip_ms);
        }
        let tabs: Vec<_> = processes
            .iter()
            .enumerate()
            .map(|(number, process)| process.shopper("aiko", &format!("tab {number}")))
            .collect();
        let frame = |number: usize| if number == 0 { message(1, "question") } else { resume(&turn, 0, -1) };
        let coming = tabs.iter().enumerate().map(|(number, tab)| tab.invoke(frame(number)));
        world.ports.clock.block_on(join_all(coming));
        let stored = world.the_turn();
        assert_eq!((stored.state(), stored.epoch()), (TurnState::Completed, 2));
        assert_eq!(world.ports.model.asked().len(), asked_before + 1);
        for (number, tab) in tabs.iter().enumerate() {
            check_held(&tab.frames(), &stored, &format!("tab {number}"));
        }
    }
}

/// An owner that was held up beyond its lease writes nothing over what became of its turn and says nothing of its own.
#[test]
fn an_owner_that_comes_late_shows_what_became_of_its_turn() {
    let world = World::talking(&PIECES);
    let late = world.process();
    late.ports.set_round_trip_ms(10);
    let (aiko, tab) = (late.shopper("aiko", "one"), world.shopper("aiko", "two"));
    let turn = samples::session_key().turn_id(&aiko.principal, samples::client_message_id(1));
    let meanwhile = async {
        // The owner's second write takes longer than its lease.
        late.after(1_500, async { late.ports.turns.set_round_trip_ms(4 * LEASE_MS) }).await;
        late.after(LEASE_MS + TAKEOVER_MARGIN_MS, async { late.ports.turns.set_round_trip_ms(10) }).await;
        tab.invoke(resume(&turn, 0, -1)).await;
    };
    world.ports.clock.block_on(async { join!(aiko.invoke(message(1, "question")), meanwhile) });

    let stored = world.the_turn();
    assert_eq!((stored.state(), stored.journal.epoch), (TurnState::Completed, 2));
    for client in [&aiko, &tab] {
        let frames = client.frames();
        check_held(&frames, &stored, "late");
        let first_of_two = frames.iter().position(|frame| frame["epoch"] == 2).unwrap();
        let accepted_again = |frame: &&Value| frame["data"]["duplicate"] == true;
        let replayed_from = frames.iter().position(|frame| accepted_again(&frame)).unwrap_or(frames.len());
        let after: Vec<_> = frames[first_of_two..replayed_from.max(first_of_two)].iter().collect();
        assert!(after.iter().all(|frame| frame["epoch"] == 2), "nothing of the late owner's once the other has begun");
    }
}

/// An owner whose process died while others waited for it: they do not hang, and a later resume is served.
#[test]
fn who_waits_for_an_owner_that_dies_resumes() {
    let world = World::talking(&PIECES);
    let owner = world.process();
    owner.ports.set_round_trip_ms(10);
    let (aiko, tab) = (owner.shopper("aiko", "one"), world.shopper("aiko", "two"));
    let turn = samples::session_key().turn_id(&aiko.principal, samples::client_message_id(1));
    let dying = world.after(1_800, async { owner.ports.faults.kill() });
    world.ports.clock.block_on(async {
        let both = async { join!(world.after(500, tab.invoke(resume(&turn, 0, -1))), dying) };
        select(std::pin::pin!(aiko.invoke(message(1, "question"))), std::pin::pin!(both)).await;
    });
    assert_eq!(world.the_turn().state(), TurnState::Running);
    world.ports.clock.advance_to(lapses_at(&world));
    let held = Held::of(&tab.frames()).text().len();
    let last = sequenced(&tab.frames()).last().map_or(-1, |frame| frame["seq"].as_i64().unwrap());
    assert!(held > 0, "it had been served");
    tab.ask(resume(&turn, 1, last));
    check_held(&tab.frames(), &world.the_turn(), "resumed");
    assert_eq!(world.the_turn().journal.answer(), PIECES.concat());
}

/// A turn gets no more owners than it may, and no more time.
#[test]
fn a_turn_that_nobody_can_finish_fails() {
    let world = World::new();
    world.ports.model.follow(vec![Step::Fail(ModelFailure::Unavailable)]);
    let aiko = world.shopper("aiko", "one");
    aiko.ask(message(1, "question"));
    let finish = Task::Finish { turn_id: turn_id(&world), epoch: 1 };
    for epoch in 2..=EPOCHS_MAX {
        let worker = world.process();
        assert_eq!(worker.run(perform(&worker.ports, &finish)).unwrap(), Done::Later(None), "epoch {epoch}");
        assert_eq!(world.the_turn().epoch(), epoch);
    }
    let worker = world.process();
    assert_eq!(worker.run(perform(&worker.ports, &finish)).unwrap(), Done::Done);
    check_failed(&world, &aiko.frames());

    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.ports.clock.advance_to(START_MS + TURN_AGE_MAX_MS);
    let aiko = world.shopper("aiko", "one");
    let frames = aiko.ask(resume(&asked(1, "").turn_id, 0, -1));
    assert!(world.ports.model.asked().is_empty());
    check_failed(&world, &frames);

    let world = World::new();
    world.begin_turn(&asked(1, "question"));
    world.ports.clock.advance_to(START_MS + TURN_AGE_MAX_MS - 1);
    let frames = world.shopper("aiko", "one").ask(resume(&asked(1, "").turn_id, 0, -1));
    assert_eq!(types(&frames).last(), Some(&"turn.completed"), "to the last moment");
}

fn check_failed(world: &World, frames: &[Value]) {
    let turn = world.the_turn();
    assert_eq!(turn.state(), TurnState::Failed);
    check_held(frames, &turn, "failed");
    assert_eq!(frames.last().unwrap()["data"]["code"], "unavailable");
    let next = in_conversation(message(2, "question"), &json!(turn.request.conversation_id));
    assert_eq!(world.shopper("aiko", "three").ask(next)[0]["type"], "message.accepted", "the conversation is free");
}

/// Wherever the owner dies, the shopper who sends the message again gets one answer to it, and the conversation goes on.
/// It does not matter whether the model answers, or the turn had to be queued.
#[test]
fn a_message_is_answered_once_wherever_its_owner_dies() {
    let scripts = [
        Step::answer(PIECES[..12].iter().copied(), 100),
        vec![Step::Say("one ".to_owned()), Step::Wait(1_100), Step::Fail(ModelFailure::Unavailable)],
    ];
    for script in scripts {
        let ask = |world: &World, fault: Option<(usize, Fault)>| {
            world.ports.model.follow_once(script.clone());
            let owner = world.process();
            owner.ports.set_round_trip_ms(10);
            if let Some((effect, fault)) = fault {
                owner.ports.faults.plan(effect, fault);
            }
            let died = owner.ports.run(owner.shopper("aiko", "one").invoke(message(1, "question"))).is_none();
            assert_eq!(died, fault.is_some());
            owner.ports.faults.effects()
        };
        for (number, effect) in ask(&World::talking(&PIECES[..12]), None).iter().enumerate() {
            for fault in [Fault::CrashBefore, Fault::CrashAfter] {
                let case = format!("{fault:?} of {number}, {}", effect.name);
                let world = World::talking(&PIECES[..12]);
                ask(&world, Some((number, fault)));
                let back = world.shopper("aiko", "two");
                let lapsed_at = world.ports.clock.now_ms() + LEASE_MS + TAKEOVER_MARGIN_MS;
                world.ports.clock.advance_to(lapsed_at);
                let again = back.ask(message(1, "question"));
                assert_eq!(again[0]["type"], "message.accepted", "{case}");
                if world.the_turn().state() == TurnState::Running {
                    assert!(matches!(world.work()[..], [Done::Done]), "{case}: it was queued");
                }
                let turn = world.the_turn();
                assert_eq!(turn.state(), TurnState::Completed, "{case}");

                // What was seen before and what is seen now are one answer.
                check_held(&back.frames(), &turn, &case);
                check_held(&[world.shopper("aiko", "one").frames(), back.frames()].concat(), &turn, &case);
                let next = in_conversation(message(2, "question"), &json!(turn.request.conversation_id));
                assert_eq!(back.ask(next).last().unwrap()["type"], "turn.completed", "{case}");
            }
        }
    }
}
