//! Owners and their leases: a living owner keeps its turn, a stale one writes and says nothing (I2).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::admission::{Admission, admit};
use domain::answer::{Answered, Workplace, answer};
use domain::brown_out::Allowance;
use domain::lease::Moment;
use domain::limits::{LEASE_MARGIN_MS, LEASE_MS, TAKEOVER_MARGIN_MS, TICK_MS};
use domain::pages::StorePages;
use domain::ports::{Clock, Ports, TurnPorts, Unavailable};
use domain::protocol::{TurnState, Usage};
use domain::turn::{Hold, Outcome, Past, Phase, StoredTurn, TurnRequest};
use futures_util::future::{join, join3};
use proptest::prelude::*;
use testkit::{Fault, InMemory, ManualClock, ModelFailure, START_MS, Step, samples};

use crate::client::{put_together, read};
use crate::world::{
    Told, ask, asked, cancel, conversation, drain, dying_after, frames, names, paused, phase, pieces, position,
    positions, question, resume, stocked, take, the_turn, wait,
};

/// How long a post may be under way, ms: the time-out of the adapter.
const POST_MS_MAX: u64 = 2_000;

/// Words for so long, ms.
fn words_for(ms: u64) -> Vec<Step> {
    Step::answer((0..ms / 200).map(|token| format!("w{token} ")), 200)
}

/// Aiko's question on connection `a`, admitted now.
async fn admitted(ports: &impl Ports) -> (TurnRequest, Past, Allowance, Moment) {
    let arrived = Moment::now(ports.clock());
    let (key, aiko, connection) = (samples::session_key(), samples::shopper("aiko"), samples::connection("a"));
    match admit(ports, &key, &aiko, &question(), &connection, arrived).await.unwrap() {
        Admission::Admitted { request, past, allowance } => (request, past, allowance, arrived),
        other => panic!("{other:?}"),
    }
}

/// The first owner of aiko's question, and nothing else: what a function does after it lost the turn is not done.
async fn own(ports: &impl Ports) -> Result<Answered, Unavailable> {
    let (request, past, allowance, arrived) = admitted(ports).await;
    answer(ports, &request, &past, allowance, arrived).await
}

/// When a process began to post, ms from the start.
fn posts(process: &InMemory) -> Vec<u64> {
    let effects = process.faults.effects().into_iter();
    effects.filter(|effect| effect.name == "sender.send").map(|effect| effect.at_ms - START_MS).collect()
}

/// The client asks again on connection `b`, every second, until its turn is shown to it or taken over for it.
async fn resent_until_ended(ports: &InMemory) {
    while the_turn(ports).state() == TurnState::Running {
        ask(ports, "b").await;
        wait(ports, 1_000).await;
    }
}

#[test]
fn a_living_owner_renews_its_lease_once_a_second() {
    let ports = stocked();
    ports.model.follow(words_for(20_000));
    let observer = async {
        for second in 1..20 {
            ports.clock.sleep_until(START_MS + second * TICK_MS + 1).await;
            let until = START_MS + second * TICK_MS + LEASE_MS;
            assert_eq!(the_turn(&ports).journal.hold, Some(Hold::Leased { until }));
        }
    };
    let (told, ()) = ports.run(join(ask(&ports, "a"), observer)).unwrap();
    assert_eq!((told, the_turn(&ports).epoch()), (Told::Frames, 1));
    assert_eq!(the_turn(&ports).state(), TurnState::Completed);
}

#[test]
fn a_turn_may_be_taken_over_a_margin_after_its_lease() {
    let ports = stocked();
    let (request, ..) = ports.run(admitted(&ports)).unwrap();
    let (until, since) = (START_MS + 20_000, START_MS + 1);
    let mut turn = StoredTurn { request, journal: Default::default() };
    let boundary = |turn: &StoredTurn, until: u64| {
        let at = until + TAKEOVER_MARGIN_MS;
        assert_eq!([at - 1, at].map(|now| turn.phase(now)), [Phase::Live { until: at }, Phase::Lapsed]);
    };
    boundary(&turn, turn.request.lease_until);
    turn.journal.hold = Some(Hold::Leased { until });
    boundary(&turn, until);
    turn.journal.hold = Some(Hold::Queued { since });
    assert_eq!(turn.phase(u64::MAX), Phase::Queued { since });
    turn.journal.outcome = Some(Outcome { state: TurnState::Failed, usage: Usage::default() });
    assert_eq!(turn.phase(0), Phase::Ended);
}

#[test]
fn a_write_whose_acknowledgement_was_lost_is_recognised_and_counted_once() {
    let script = || pieces(&["Alpha ", "beta ", "gamma ", "delta."], 700);
    let rehearsal = stocked();
    rehearsal.model.follow(script());
    asked(&rehearsal);
    let writes = positions(&names(&rehearsal), "turns.journal");
    assert!(writes.len() > 2);
    for write in &writes {
        let ports = stocked();
        ports.model.follow(script());
        ports.faults.plan(*write, Fault::FailAfter);
        assert_eq!(asked(&ports), Told::Frames);
        let turn = the_turn(&ports);
        assert_eq!((turn.state(), turn.journal.answer().as_str()), (TurnState::Completed, "Alpha beta gamma delta."));
        assert_eq!(read(&frames(&ports, "a")), put_together(&turn.journal.frames));
        let mut next = 0;
        for frame in &turn.journal.frames {
            assert_eq!(frame.first_seq(), next, "no gap and nothing twice");
            next = frame.seq + 1;
        }
    }
}

/// The rest of a turn whose first owner slept, or waited for its store, from a time on for 30 s: a resend took it over
/// and ended it meanwhile.
fn check_stale(world: &InMemory, owner: &InMemory, outcome: &Result<Answered, Unavailable>, silent_from: u64) {
    assert!(matches!(outcome, Ok(Answered::NotOurs) | Err(_)), "{outcome:?}");
    let turn = the_turn(world);
    assert_eq!((turn.state(), turn.epoch()), (TurnState::Completed, 2));
    let taken_over_at = turn.journal.frames.iter().position(|frame| frame.epoch == 2).unwrap();
    assert!(turn.journal.frames[taken_over_at..].iter().all(|frame| frame.epoch == 2), "the stale owner wrote nothing");
    let last_post = posts(owner).into_iter().max().unwrap_or_default();
    assert!(last_post < silent_from, "the stale owner posted at {last_post}, its lease let it until {silent_from}");
    let sent = world.sender.inner.sent();
    let first_of_successor = sent.iter().find(|sent| sent.frame["epoch"] == 2).unwrap().at_ms - START_MS;
    assert!(last_post + POST_MS_MAX <= first_of_successor, "{last_post}, then {first_of_successor}");
    assert_eq!(read(&frames(world, "b")), put_together(&turn.journal.frames));
    let (conversation, exchanges) = conversation(world);
    assert_eq!((conversation.lock, exchanges), (None, vec![turn.exchange().unwrap()]));
    assert!(!names(owner).contains(&"turns.remember"), "nor did it do anything else for the turn");
}

#[test]
fn an_owner_that_overslept_its_lease_writes_and_says_nothing_more() {
    for falls_asleep_at in (0..4_000).step_by(100) {
        for accepts_prefill in [false, true] {
            let world = stocked();
            world.model.set_accepts_prefill(accepts_prefill);
            world.model.follow(words_for(6_000));
            let owner = world.process();
            // Every call takes a moment, so that it is asleep between any two.
            owner.set_round_trip_ms(30);
            let asleep = START_MS + falls_asleep_at..START_MS + falls_asleep_at + 30_000;
            let sleeper = paused(&world.clock, asleep.start, asleep.end, own(&owner));
            let successor = async {
                while world.turns.inner.all_turns().is_empty() && world.clock.now_ms() < asleep.start {
                    wait(&world, 10).await;
                }
                if !world.turns.inner.all_turns().is_empty() {
                    resent_until_ended(&world).await;
                    let ended = the_turn(&world);
                    assert!(world.clock.now_ms() < asleep.end);
                    world.clock.sleep_until(asleep.end + 20_000).await;
                    assert_eq!(the_turn(&world), ended, "nothing is written when it wakes");
                }
            };
            let (outcome, ()) = world.clock.block_on(join(sleeper, successor));
            if falls_asleep_at < 200 && the_turn(&world).epoch() == 1 {
                // It was not recorded before it fell asleep, or nobody knew of it.
                assert!(frames(&world, "b").is_empty());
                continue;
            }
            check_stale(&world, &owner, &outcome, falls_asleep_at + 1);
        }
    }
}

#[test]
fn an_owner_that_wakes_while_it_is_replaced_keeps_its_turn_or_loses_it() {
    // The last write it made before it fell asleep was at 1 s.
    let lapses_at = START_MS + TICK_MS + LEASE_MS + TAKEOVER_MARGIN_MS;
    let mut kept = 0;
    for wakes_after in (0..400).step_by(4) {
        let world = stocked();
        world.model.follow(words_for(8_000));
        let owner = world.process();
        owner.turns.set_round_trip_ms(10);
        let sleeper = paused(&world.clock, START_MS + 1_500, lapses_at - 20 + wakes_after, own(&owner));
        // It reads and claims the turn with some time in between.
        let successor = world.process();
        successor.set_round_trip_ms(40);
        let taken = async {
            world.clock.sleep_until(lapses_at - 20).await;
            ask(&successor, "b").await
        };
        let (outcome, told) = world.clock.block_on(join(sleeper, taken));
        assert_eq!(told, Told::Frames);
        let turn = the_turn(&world);
        if turn.epoch() == 1 {
            assert_eq!(outcome.unwrap(), Answered::Settled);
            assert_eq!(read(&frames(&world, "a")), put_together(&turn.journal.frames));
            kept += 1;
        } else {
            check_stale(&world, &owner, &outcome, LEASE_MS + TICK_MS - LEASE_MARGIN_MS);
        }
    }
    assert!((1..100).contains(&kept), "both happen: {kept}");
}

#[test]
fn an_owner_that_wakes_when_nobody_holds_its_turn_any_more_has_lost_it_all_the_same() {
    // Its successor leaves the turn to the queue, or dies and lets its lease lapse.
    for script in [vec![Step::Fail(ModelFailure::Unavailable)], words_for(9_000)] {
        let world = stocked();
        world.model.follow_once(words_for(6_000));
        world.model.follow(script);
        let owner = world.process();
        let sleeper = paused(&world.clock, START_MS + 1_500, START_MS + 40_000, own(&owner));
        let successor = async {
            wait(&world, TICK_MS + LEASE_MS + TAKEOVER_MARGIN_MS).await;
            dying_after(&world, 2_000, take(&world.process(), Workplace::Message)).await;
            world.clock.sleep_until(START_MS + 39_999).await;
            assert!(!matches!(phase(&world), Phase::Live { .. }), "{:?}", phase(&world));
            the_turn(&world)
        };
        let (outcome, left) = world.clock.block_on(join(sleeper, successor));
        assert_eq!((outcome.unwrap(), left.epoch()), (Answered::NotOurs, 2));
        assert_eq!(the_turn(&world), left, "nothing is written when it wakes");
        assert!(posts(&owner).into_iter().max().unwrap() < 2_000);
    }
}

#[test]
fn an_owner_that_wakes_while_its_turn_is_cancelled_writes_before_or_not_at_all() {
    // It fell asleep with words that are not durable, and wakes with a model that was silent for too long.
    let mut handed_over = 0;
    for wakes_after in 0..120 {
        let world = stocked();
        let silent =
            words_for(1_800).into_iter().take_while(|step| !matches!(step, Step::Stop(_))).chain([Step::Silence]);
        world.model.follow_once(silent.collect());
        let owner = world.process();
        owner.turns.set_round_trip_ms(10);
        let asked_at = START_MS + TICK_MS + LEASE_MS + TAKEOVER_MARGIN_MS + 1_000;
        let sleeper = paused(&world.clock, START_MS + 1_900, asked_at + wakes_after, own(&owner));
        let canceller = world.process();
        canceller.set_round_trip_ms(40);
        let cancelling = async {
            world.clock.sleep_until(asked_at).await;
            cancel(&canceller, &the_turn(&world).request.turn_id, "b").await
        };
        let (outcome, told) = world.clock.block_on(join(sleeper, cancelling));
        assert_eq!(told, Told::Frames);
        handed_over += usize::from(matches!(outcome, Ok(Answered::Queued)));
        let turn = the_turn(&world);
        let mut next = 0;
        for frame in &turn.journal.frames {
            assert_eq!(frame.first_seq(), next, "no gap and nothing twice, woken after {wakes_after} ms");
            next = frame.seq + 1;
        }
        let stored = put_together(&turn.journal.frames);
        assert_eq!((turn.state(), &turn.journal.answer()), (TurnState::Cancelled, &stored.text));
        let (epoch, after_seq) = position(&frames(&world, "a"));
        world.clock.block_on(resume(&world, &turn.request.turn_id, "a", epoch, after_seq));
        assert_eq!(read(&frames(&world, "a")), stored);
    }
    assert!((1..120).contains(&handed_over), "both happen: {handed_over}");
}

#[test]
fn an_owner_that_overslept_and_was_not_missed_goes_on() {
    let world = stocked();
    world.model.follow(words_for(6_000));
    let outcome = world.clock.block_on(paused(&world.clock, START_MS + 2_500, START_MS + 12_300, own(&world)));
    assert_eq!(outcome.unwrap(), Answered::Settled);
    assert_eq!((the_turn(&world).state(), the_turn(&world).epoch()), (TurnState::Completed, 1));
    assert_eq!(read(&frames(&world, "a")), put_together(&the_turn(&world).journal.frames));
}

/// When the first owner begins its posts, ms from the start, if this happens meanwhile; it answers for a minute, and a
/// resend takes over when it may.
fn posts_while(process: impl Fn(&InMemory) -> InMemory, meanwhile: impl AsyncFn(&InMemory)) -> (InMemory, Vec<u64>) {
    let world = stocked();
    world.model.follow_once(words_for(18_000));
    world.model.follow(words_for(2_000));
    let owner = process(&world);
    let successor = async {
        wait(&world, 100).await;
        resent_until_ended(&world).await;
    };
    let (outcome, (), ()) = world.clock.block_on(join3(own(&owner), meanwhile(&owner), successor));
    let posts = posts(&owner);
    check_stale(&world, &owner, &outcome, posts.last().unwrap() + 1);
    (world, posts)
}

/// The last moment at which an owner may begin a post that sent its last successful write at this one, ms.
fn last_post(renewed_at: u64) -> std::ops::Range<u64> {
    let silent_from = renewed_at + LEASE_MS - LEASE_MARGIN_MS;
    silent_from - 200..silent_from
}

#[test]
fn an_owner_whose_writes_hang_posts_until_its_lease_ends_and_is_fenced() {
    for sender_ms in [0, 100] {
        let (_, posts) = posts_while(InMemory::process, async |owner| {
            owner.sender.set_round_trip_ms(sender_ms);
            wait(owner, 1_500).await;
            owner.turns.set_round_trip_ms(30_000);
        });
        assert!(last_post(TICK_MS).contains(posts.last().unwrap()), "{posts:?}");
    }
}

#[test]
fn a_renewal_counts_from_when_it_was_sent() {
    let (_, posts) = posts_while(InMemory::process, async |owner| {
        wait(owner, 1_500).await;
        // The second tick is under way from 2 s to 5 s, the third does not return.
        owner.turns.set_round_trip_ms(3_000);
        wait(owner, 2_000).await;
        owner.turns.set_round_trip_ms(60_000);
    });
    assert!(last_post(2 * TICK_MS).contains(posts.last().unwrap()), "{posts:?}");
}

#[test]
fn a_renewal_that_is_sent_again_counts_from_when_it_was_sent_first() {
    let first_tick = {
        let rehearsal = stocked();
        rehearsal.model.follow(words_for(18_000));
        asked(&rehearsal);
        positions(&names(&rehearsal), "turns.journal")[0]
    };
    let lost = |world: &InMemory| {
        let owner = world.process();
        owner.faults.plan(first_tick, Fault::FailAfter);
        owner
    };
    let (_, posts) = posts_while(lost, async |owner| {
        wait(owner, 2_500).await;
        owner.turns.set_round_trip_ms(60_000);
    });
    assert!(last_post(TICK_MS).contains(posts.last().unwrap()), "{posts:?}");
}

#[test]
fn clocks_may_differ_by_the_margin() {
    for offset_ms in [-1, 1].map(|sign| sign * i64::try_from(LEASE_MARGIN_MS).unwrap()) {
        let (_, posts) = posts_while(
            |world| world.process().skewed(offset_ms),
            async |owner| {
                wait(owner, 1_500).await;
                owner.turns.set_round_trip_ms(30_000);
            },
        );
        assert!(last_post(TICK_MS).contains(posts.last().unwrap()), "{posts:?}");
    }
}

/// A process on a machine whose time of day is set while it runs.
struct Resettable {
    ports: InMemory,
    clock: ResettableClock,
}

#[derive(Clone)]
struct ResettableClock {
    right: ManualClock,
    behind_ms: Arc<AtomicU64>,
}

impl ResettableClock {
    fn behind_ms(&self) -> u64 {
        self.behind_ms.load(Ordering::Relaxed)
    }
}

impl Clock for ResettableClock {
    fn now_ms(&self) -> u64 {
        self.right.now_ms() - self.behind_ms()
    }

    fn monotonic_ms(&self) -> u64 {
        self.right.monotonic_ms()
    }

    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> + Send {
        self.right.sleep_until(at_ms.saturating_add(self.behind_ms()))
    }
}

impl TurnPorts for Resettable {
    type Turns = <InMemory as TurnPorts>::Turns;
    type Queues = <InMemory as TurnPorts>::Queues;
    type Sender = <InMemory as TurnPorts>::Sender;
    type Clock = ResettableClock;
    type Nonces = <InMemory as TurnPorts>::Nonces;

    fn turns(&self) -> &Self::Turns {
        self.ports.turns()
    }

    fn queues(&self) -> &Self::Queues {
        self.ports.queues()
    }

    fn sender(&self) -> &Self::Sender {
        self.ports.sender()
    }

    fn clock(&self) -> &Self::Clock {
        &self.clock
    }

    fn nonces(&self) -> &Self::Nonces {
        self.ports.nonces()
    }
}

impl Ports for Resettable {
    type Connections = <InMemory as Ports>::Connections;
    type Buckets = <InMemory as Ports>::Buckets;
    type FollowUps = <InMemory as Ports>::FollowUps;
    type Model = <InMemory as Ports>::Model;
    type Store = <InMemory as Ports>::Store;
    type Budgets = <InMemory as Ports>::Budgets;
    type Escalations = <InMemory as Ports>::Escalations;
    type Metrics = <InMemory as Ports>::Metrics;

    fn connections(&self) -> &Self::Connections {
        self.ports.connections()
    }

    fn buckets(&self) -> &Self::Buckets {
        self.ports.buckets()
    }

    fn follow_ups(&self) -> &Self::FollowUps {
        self.ports.follow_ups()
    }

    fn model(&self) -> &Self::Model {
        self.ports.model()
    }

    fn store(&self) -> &Self::Store {
        self.ports.store()
    }

    fn budgets(&self) -> &Self::Budgets {
        self.ports.budgets()
    }

    fn escalations(&self) -> &Self::Escalations {
        self.ports.escalations()
    }

    fn pages(&self) -> &StorePages {
        self.ports.pages()
    }

    fn metrics(&self) -> &Self::Metrics {
        self.ports.metrics()
    }
}

#[test]
fn a_lease_ends_however_the_time_of_day_is_set() {
    let world = stocked();
    // The owner has the end of its answer to send when its turn has another owner already.
    world.model.follow_once(words_for(14_000));
    world.model.follow(words_for(4_000));
    let clock = ResettableClock { right: world.clock.clone(), behind_ms: Arc::default() };
    let owner = Resettable { ports: world.process(), clock: clock.clone() };
    let set_back = async {
        wait(&world, 1_500).await;
        clock.behind_ms.store(3_600_000, Ordering::Relaxed);
    };
    let successor = async {
        wait(&world, 100).await;
        resent_until_ended(&world).await;
    };
    let (outcome, (), ()) = world.clock.block_on(join3(own(&owner), set_back, successor));
    check_stale(&world, &owner.ports, &outcome, last_post(TICK_MS).end);
}

#[test]
fn a_turn_that_was_recorded_after_the_lease_is_not_accepted() {
    let posts_until = LEASE_MS - LEASE_MARGIN_MS;
    for (record_ms, is_accepted) in [(posts_until - 1, true), (posts_until, false)] {
        let ports = stocked();
        let outcome = ports.clock.block_on(async {
            let (request, past, allowance, arrived) = admitted(&ports).await;
            ports.turns.set_round_trip_ms(record_ms);
            answer(&ports, &request, &past, allowance, arrived).await
        });
        assert_eq!((outcome.is_ok(), !frames(&ports, "a").is_empty()), (is_accepted, is_accepted));
        assert_eq!(the_turn(&ports).state() == TurnState::Completed, is_accepted);
        // Recorded it is, and so it is ended.
        ports.turns.set_round_trip_ms(0);
        ports.run(drain(&ports));
        assert_ne!(the_turn(&ports).state(), TurnState::Running);
    }
}

#[test]
fn a_moment_tells_both_ends_of_a_lease() {
    let moment = Moment { unix_ms: 1_000_000, monotonic_ms: 5 };
    assert_eq!(moment.lease_until(), 1_000_000 + LEASE_MS);
    assert_eq!(moment.posts_until(), 5 + LEASE_MS - LEASE_MARGIN_MS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// I2, whenever it sleeps, however long, however slow its calls are.
    #[test]
    fn a_stale_owner_never_posts_beside_its_successor(
        falls_asleep_at in 0..8_000_u64,
        sleeps_ms in 0..30_000_u64,
        store_ms in 0..9_000_u64,
        sender_ms in 0..POST_MS_MAX,
    ) {
        let world = stocked();
        world.model.follow(words_for(6_000));
        let owner = world.process();
        owner.sender.set_round_trip_ms(sender_ms);
        let slow = async {
            wait(&world, 500).await;
            owner.turns.set_round_trip_ms(store_ms);
        };
        let from = START_MS + falls_asleep_at;
        let sleeper = paused(&world.clock, from, from + sleeps_ms, own(&owner));
        let successor = async {
            wait(&world, 100).await;
            if !world.turns.inner.all_turns().is_empty() {
                resent_until_ended(&world).await;
            }
        };
        let _ = world.clock.block_on(join3(sleeper, slow, successor));
        let sent = world.sender.inner.sent();
        let by_successor = sent.iter().filter(|sent| sent.frame["epoch"] == 2).map(|sent| sent.at_ms - START_MS).min();
        let last_by_owner = posts(&owner).into_iter().max().unwrap_or_default();
        prop_assert!(by_successor.is_none_or(|first| last_by_owner + sender_ms <= first), "{last_by_owner}, {by_successor:?}");
        let epochs: Vec<u64> = the_turn(&world).journal.frames.iter().map(|frame| frame.epoch).collect();
        prop_assert!(epochs.is_sorted(), "{epochs:?}");
        world.clock.block_on(async {
            drain(&world).await;
            let (epoch, after_seq) = position(&frames(&world, "a"));
            resume(&world, &the_turn(&world).request.turn_id, "a", epoch, after_seq).await;
        });
        prop_assert_eq!(read(&frames(&world, "a")), put_together(&the_turn(&world).journal.frames));
    }
}
