//! Whatever fails or dies at whatever moment, and whoever finds the turn then: an accepted message has one stored outcome,
//! and the client has what is stored (I1 to I4).

use domain::limits::LEASE_MS;
use domain::ports::{QueueName, TurnStore as _};
use domain::protocol::{ErrorCode, MessageSend, ServerEvent, TurnState};
use domain::turn::Phase;
use futures_util::future::{Either, join, select};
use proptest::prelude::*;
use serde_json::Value;
use testkit::{Fault, InMemory, ModelFailure, Processes, Step, samples};

use crate::client::{put_together, read};
use crate::world::{
    Told, cancel, conversation, drain, dying_after, frames, lapse, names, phase, position, question, resume, say, send,
    stocked, tasks, the_turn, types, wait,
};

const FAULTS: [Fault; 4] = [Fault::FailBefore, Fault::FailAfter, Fault::CrashBefore, Fault::CrashAfter];
const ANSWER: [&str; 6] = ["Alpha ", "beta ", "gamma ", "delta ", "epsilon ", "zeta."];

/// How a turn goes when nothing goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// It is answered.
    Answered,
    /// The same, and the model can continue an answer.
    Continued,
    /// The model is throttled, and answers later.
    HandedOver,
    /// The model does not take the question.
    Refused,
    /// The shopper stops it.
    Cancelled,
    /// The model is throttled before it says a word, and a cheaper one answers.
    BrownedOut,
    /// A person is asked for; no model answers.
    Escalated,
}

const PATHS: [Path; 7] = [
    Path::Answered,
    Path::Continued,
    Path::HandedOver,
    Path::Refused,
    Path::Cancelled,
    Path::BrownedOut,
    Path::Escalated,
];

impl Path {
    fn world(self) -> InMemory {
        let world = stocked();
        let answer = || Step::answer(ANSWER, 450);
        let fails = |failure| answer().into_iter().take(6).chain([Step::Fail(failure)]).collect();
        world.model.set_accepts_prefill(self == Self::Continued);
        world.model.follow(answer());
        match self {
            Self::Answered | Self::Continued | Self::Cancelled | Self::Escalated => {}
            Self::BrownedOut => world.model.follow_once(vec![Step::Fail(ModelFailure::Throttled)]),
            Self::HandedOver => world.model.follow_once(fails(ModelFailure::Throttled)),
            Self::Refused => world.model.follow(fails(ModelFailure::Refused)),
        }
        world
    }

    fn question(self) -> MessageSend {
        match self {
            Self::Escalated => samples::message(1, "I want to talk to a real person"),
            _ => question(),
        }
    }

    /// The whole answers that there may be.
    fn answers(self) -> Vec<String> {
        match self {
            Self::Escalated => vec![
                "I have passed this conversation on to our staff. A person will get back to you.".to_owned(),
                format!(
                    "Sorry, I cannot reach our staff right now. Please contact us here: {}",
                    samples::pages().contact()
                ),
            ],
            _ => vec![ANSWER.concat()],
        }
    }

    /// Aiko asks on a connection.
    async fn ask(self, ports: &InMemory, from: &str) -> Told {
        send(ports, &samples::shopper("aiko"), &self.question(), &samples::connection(from)).await
    }

    /// What else happens while the first owner is at it.
    async fn meanwhile(self, world: &InMemory) {
        if self == Self::Cancelled {
            wait(world, 1_700).await;
            if let Some(turn) = world.turns.inner.all_turns().first() {
                cancel(world, &turn.request.turn_id, "a").await;
            }
        }
    }

    /// Whether a turn may end like this when processes die, and nothing else fails.
    fn may_end(self, state: TurnState) -> bool {
        match self {
            Self::Answered | Self::Continued | Self::HandedOver | Self::BrownedOut | Self::Escalated => {
                state == TurnState::Completed
            }
            Self::Refused => state == TurnState::Failed,
            // Who dies before the cancel, or after the end, is not asked to stop.
            Self::Cancelled => matches!(state, TurnState::Cancelled | TurnState::Completed),
        }
    }
}

/// What the client does that was not told the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// It sends its message again and again.
    Resends,
    /// It sends its message again at once, and is not heard of any more.
    ResendsOnce,
    /// It waits.
    Waits,
}

const CLIENTS: [Client; 3] = [Client::Resends, Client::ResendsOnce, Client::Waits];

/// Who has the turn after its first owner is dead, before everything works again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Successor {
    /// A function that got the message again.
    Resender,
    /// Watchdog and worker.
    Consumers,
}

/// Faults by the number of the effect they strike.
type Plan = [(usize, Fault)];

fn process(world: &InMemory, plan: &Plan) -> InMemory {
    let process = world.process();
    plan.iter().for_each(|(effect, fault)| process.faults.plan(*effect, *fault));
    process
}

/// The first owner answers, in a process that these faults strike, to its end or its death; its effects.
fn first_owner(path: Path, world: &InMemory, plan: &Plan) -> Vec<&'static str> {
    let owner = process(world, plan);
    let mut processes = Processes::new(world.clock.clone());
    let answering = processes.spawn(&owner.faults, path.ask(&owner, "a"));
    let meanwhile = processes.spawn(&world.faults, path.meanwhile(world));
    processes.run_until(|| !answering.is_running() && !meanwhile.is_running());
    names(&owner)
}

/// A successor does what it does, in a process that these faults strike, to its end or its death.
fn successor(path: Path, world: &InMemory, successor: Successor, plan: &Plan) -> usize {
    let process = process(world, plan);
    match successor {
        Successor::Resender => process.run(path.ask(&process, "b")).map(drop),
        Successor::Consumers => process.run(drain(&process)),
    };
    process.faults.effects().len()
}

/// The client's side of the recovery.
fn client(path: Path, world: &InMemory, client: Client) {
    let known = |world: &InMemory| {
        let all = world.sender.inner.sent();
        all.iter().any(|sent| {
            matches!(sent.frame["type"].as_str(), Some("turn.completed" | "turn.failed" | "turn.cancelled"))
        })
    };
    match client {
        Client::Waits => {}
        Client::ResendsOnce => {
            world.run(path.ask(world, "b"));
        }
        Client::Resends => {
            for _ in 0..40 {
                let waits = !world.turns.inner.all_turns().is_empty() && matches!(phase(world), Phase::Queued { .. });
                if known(world) || waits {
                    return;
                }
                world.run(path.ask(world, "b"));
                world.clock.advance(LEASE_MS / 8);
            }
            panic!("resends alone do not end it");
        }
    }
}

/// The client was told that its message is accepted.
fn is_accepted(world: &InMemory) -> bool {
    world.sender.inner.sent().iter().any(|sent| sent.frame["type"] == "message.accepted")
}

/// Runs the queues dry, and checks that the turn has one outcome, that everybody holds it, now or after they resume, and
/// that the conversation goes on.
fn check(path: Path, world: &InMemory, case: &dyn std::fmt::Debug) {
    world.run(drain(world)).unwrap();
    assert_eq!(tasks(world), [], "nothing is left to do, {case:?}");
    assert_eq!(world.queues.inner.counts(QueueName::Watchdog).dead, 0, "{case:?}");
    if world.turns.inner.all_turns().is_empty() {
        assert_eq!(world.sender.inner.sent(), [], "of a message that is not recorded, {case:?}");
        world.clock.advance(2 * LEASE_MS);
        assert_eq!(say(world, "aiko", &path.question(), "a"), Some(Told::Frames), "it can be sent again, {case:?}");
        world.run(drain(world)).unwrap();
    }

    // I1: one outcome, published as it is, and remembered.
    let turn = the_turn(world);
    let stored = put_together(&turn.journal.frames);
    assert_ne!(turn.state(), TurnState::Running, "{case:?}");
    let ends = turn.journal.frames.iter().filter_map(|frame| frame.event.ends_turn()).collect::<Vec<_>>();
    assert_eq!(ends, [turn.state()], "{case:?}");
    assert_eq!(stored.end.as_ref().and_then(ServerEvent::ends_turn), Some(turn.state()), "{case:?}");
    let published: Vec<TurnState> = world.events.inner.all().iter().map(|event| event.state).collect();
    assert!(!published.is_empty() && published.iter().all(|state| *state == turn.state()), "{published:?}, {case:?}");
    assert_eq!((conversation(world).0.lock, conversation(world).1), (None, vec![turn.exchange().unwrap()]), "{case:?}");
    let answer = turn.journal.answer();
    assert_eq!(answer, stored.text, "{case:?}");
    match turn.state() {
        TurnState::Completed => assert!(path.answers().contains(&answer), "{answer:?}, {case:?}"),
        _ended => assert!(path.answers().iter().any(|whole| whole.starts_with(&answer)), "{answer:?}, {case:?}"),
    }
    let told = world.escalations.inner.all();
    assert!(told.iter().all(|escalation| escalation.turn_id == turn.request.turn_id), "{told:?}, {case:?}");
    assert!(!answer.contains("A person will get back") || !told.is_empty(), "{case:?}");

    // I2: each owner wrote after the one before, without a gap.
    assert!(turn.journal.frames.is_sorted_by_key(|frame| frame.epoch), "{case:?}");
    let mut next = 0;
    for frame in &turn.journal.frames {
        assert_eq!(frame.first_seq(), next, "{case:?}");
        next = frame.seq + 1;
    }

    // I4: whoever held anything has the rest after a resume.
    for (held, resumes) in [("a", "y"), ("b", "z")] {
        let mut held: Vec<Value> = frames(world, held);
        let (epoch, after_seq) = position(&held);
        world.clock.advance(60_000);
        assert_eq!(world.run(resume(world, &turn.request.turn_id, resumes, epoch, after_seq)), Some(Told::Frames));
        held.extend(frames(world, resumes));
        assert_eq!(read(&held), stored, "{case:?}");
    }

    // I3: the message again is the turn again, and another is none.
    let asked = world.model.asked().len();
    assert_eq!(say(world, "aiko", &path.question(), "c"), Some(Told::Frames));
    assert_eq!(read(&frames(world, "c")), stored, "{case:?}");
    let other = MessageSend { text: "Another question?".to_owned(), ..path.question() };
    assert_eq!(say(world, "aiko", &other, "c"), Some(Told::Refused(ErrorCode::IdempotencyMismatch.into())));
    assert_eq!((the_turn(world), world.model.asked().len()), (turn.clone(), asked), "{case:?}");

    let conversation_id = Some(turn.request.conversation_id.clone());
    let more = MessageSend { conversation_id, ..samples::message(2, "And then?") };
    assert_eq!(say(world, "aiko", &more, "d"), Some(Told::Frames), "the conversation is free, {case:?}");
    let found = world.run(world.turns.conversation(&turn.request.conversation_id, 9)).unwrap().unwrap().unwrap();
    assert_eq!((found.0.lock.is_none(), found.1.last()), (found.1.len() == 2, turn.exchange().as_ref()), "{case:?}");
}

/// What may go wrong at each effect of a process that makes so many when all goes well.
fn each_fault(effects: usize) -> impl Iterator<Item = (usize, Fault)> {
    (0..effects).flat_map(|effect| FAULTS.map(|fault| (effect, fault)))
}

#[test]
fn every_kind_of_effect_of_an_owner_is_struck() {
    let effects = PATHS.map(|path| first_owner(path, &path.world(), &[])).concat();
    for effect in ["turns.lock", "turns.record", "turns.journal", "turns.remember", "turns.release"]
        .into_iter()
        .chain(["buckets.take", "queues.send", "sender.send"])
        .chain(["budgets.reserve", "budgets.settle", "escalations.escalate"])
    {
        assert!(effects.contains(&effect), "{effect}");
    }
}

#[test]
fn whatever_strikes_the_first_owner_leaves_one_outcome() {
    for path in PATHS {
        let effects = first_owner(path, &path.world(), &[]).len();
        assert!(effects > 12, "{path:?} has {effects} effects");
        for (effect, fault) in each_fault(effects) {
            for client_does in CLIENTS {
                let case = (path, effect, fault, client_does);
                let world = path.world();
                first_owner(path, &world, &[(effect, fault)]);
                client(path, &world, client_does);
                let accepted = is_accepted(&world);
                check(path, &world, &case);
                if matches!(fault, Fault::CrashBefore | Fault::CrashAfter) && accepted {
                    let state = the_turn_of_the_question(path, &world);
                    assert!(path.may_end(state), "{state:?}, {case:?}");
                }
            }
        }
    }
}

fn the_turn_of_the_question(path: Path, world: &InMemory) -> TurnState {
    let turns = world.turns.inner.all_turns();
    turns.iter().find(|turn| turn.request.text == path.question().text).expect("recorded").state()
}

/// A world whose first owner died in the middle.
fn abandoned(path: Path) -> InMemory {
    let world = path.world();
    world.clock.block_on(dying_after(&world, 1_500, path.ask(&world.process(), "a")));
    world
}

#[test]
fn whatever_strikes_a_successor_leaves_one_outcome() {
    for path in [Path::Answered, Path::Continued] {
        for who in [Successor::Resender, Successor::Consumers] {
            let taken_over = |plan: &Plan| {
                let world = abandoned(path);
                if who == Successor::Resender {
                    lapse(&world);
                }
                let effects = successor(path, &world, who, plan);
                (world, effects)
            };
            let effects = taken_over(&[]).1;
            assert!(effects > 12, "{who:?} has {effects} effects");
            for (effect, fault) in each_fault(effects) {
                for client_does in CLIENTS {
                    let (world, _) = taken_over(&[(effect, fault)]);
                    client(path, &world, client_does);
                    check(path, &world, &(path, who, effect, fault, client_does));
                }
            }
        }
    }
}

#[test]
fn whatever_strikes_those_who_finish_a_queued_turn_leaves_one_outcome() {
    let queued = |plan: &Plan| {
        let world = Path::HandedOver.world();
        first_owner(Path::HandedOver, &world, &[]);
        let effects = successor(Path::HandedOver, &world, Successor::Consumers, plan);
        (world, effects)
    };
    for (effect, fault) in each_fault(queued(&[]).1) {
        for client_does in CLIENTS {
            let (world, _) = queued(&[(effect, fault)]);
            client(Path::HandedOver, &world, client_does);
            check(Path::HandedOver, &world, &(effect, fault, client_does));
        }
    }
}

#[test]
fn a_dead_owner_is_not_waited_for_by_who_resumes_after_its_lease() {
    for path in [Path::Answered, Path::Continued] {
        let world = abandoned(path);
        lapse(&world);
        let begun = domain::ports::Clock::now_ms(&world.clock);
        let turn_id = the_turn(&world).request.turn_id;
        let first_frame = async {
            while frames(&world, "b").iter().all(|frame| frame["epoch"] != 2) {
                wait(&world, 1).await;
            }
            domain::ports::Clock::now_ms(&world.clock)
        };
        let resuming = resume(&world, &turn_id, "b", 0, -1);
        let goes_on = world.clock.block_on(async {
            match select(std::pin::pin!(first_frame), std::pin::pin!(join(resuming, wait(&world, 100)))).await {
                Either::Left((at, _)) => at,
                Either::Right(_) => panic!("{:?}", types(&frames(&world, "b"))),
            }
        });
        assert!(goes_on <= begun + 1, "at once");
    }
}

fn plan() -> impl Strategy<Value = Vec<(usize, Fault)>> {
    prop::collection::vec((0..50_usize, prop::sample::select(&FAULTS[..])), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_strikes_whomever_leaves_one_outcome(
        path in prop::sample::select(&PATHS[..]),
        first in plan(),
        successors in prop::collection::vec(
            (prop::sample::select(vec![Successor::Resender, Successor::Consumers]), plan(), 0..12_000_u64),
            0..3,
        ),
        client_does in prop::sample::select(&CLIENTS[..]),
    ) {
        let world = path.world();
        first_owner(path, &world, &first);
        for (who, plan, after_ms) in &successors {
            world.clock.advance(*after_ms);
            successor(path, &world, *who, plan);
        }
        client(path, &world, client_does);
        check(path, &world, &(path, first, successors, client_does));
    }
}
