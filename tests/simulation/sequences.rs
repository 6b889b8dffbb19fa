//! Whatever shoppers do and whatever goes wrong, in any order.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use domain::ids::ConversationId;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestError, TestRunner};
use testkit::{Fault, InMemory};

use crate::aftermath::settle;
use crate::engine::{DynamoDb, Engine};
use crate::lambda::{Accident, Function, Pace, Victim};
use crate::model::{Breakdown, Mood};
use crate::observations;
use crate::stores::{Memory, Stores};
use crate::world::{Message, World, message};

/// Sequences of a run on stores in memory.
const CASES: u32 = 2_500;

/// Of a run on an engine.
const CASES_ON_ENGINE: u32 = 150;

/// Of the draw of sequences, unless another is given.
const SEED: u64 = 1;

const TABS: usize = 3;
const CONVERSATIONS: usize = 2;

/// One thing that happens. Who and what are taken modulo what there is; a tab that is offline and has something to do
/// comes online first.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// A new message.
    Ask {
        tab: usize,
        conversation: usize,
    },
    /// A message is sent again.
    Again {
        tab: usize,
        message: usize,
    },
    /// A message's id comes with another text.
    OtherText {
        tab: usize,
        message: usize,
    },
    Cancel {
        tab: usize,
        message: usize,
    },
    Resume {
        tab: usize,
        message: usize,
    },
    Disconnect {
        tab: usize,
        noticed: bool,
    },
    /// A tab comes back and picks up what goes on.
    Return {
        tab: usize,
        conversation: usize,
    },
    /// A tab is loaded anew, and knows nothing.
    Reload {
        tab: usize,
    },
    /// The next frames to a tab are lost on their way.
    LoseFrames {
        tab: usize,
        frames: usize,
    },
    /// Time passes; clients do what the protocol asks of them.
    Wait {
        ms: u64,
    },
    /// One of the processes that run dies.
    Kill {
        process: usize,
    },
    /// Something is to befall the next process of a function.
    Accident {
        function: Function,
        effect: usize,
        fault: Fault,
    },
    /// One of the processes that run is struck soon.
    Strike {
        process: usize,
        effect: usize,
        fault: Fault,
    },
    Skew {
        ms: i64,
    },
    Mood(Mood),
    MoodOnce(Mood),
    Prefill(bool),
    Redeliver,
    LoseDelete,
    Sources(bool),
    /// A month passes, and what was said is forgotten. Only where stores forget.
    Expire,
}

#[derive(Debug, Clone)]
struct Case {
    /// Of the interleaving and of how long calls take.
    seed: u64,
    events: Vec<Event>,
}

fn event() -> BoxedStrategy<Event> {
    let tab = || 0..TABS;
    let conversation = || 0..CONVERSATIONS;
    let any_message = || 0..8_usize;
    let fault = || {
        prop_oneof![Just(Fault::CrashBefore), Just(Fault::CrashAfter), Just(Fault::FailBefore), Just(Fault::FailAfter)]
    };
    let function = || prop_oneof![2 => Just(Function::Message), 1 => Just(Function::Watchdog), 2 => Just(Function::FollowUpWorker)];
    let breakdown = || prop_oneof![Just(Breakdown::Throttled), Just(Breakdown::Unavailable), Just(Breakdown::Silence)];
    let mood = || {
        (prop_oneof![Just(20_u64), Just(150), Just(600), Just(2_500)], prop::option::of((0..10_usize, breakdown())))
            .prop_map(|(every_ms, breaks)| Mood { every_ms, breaks })
    };
    prop_oneof![
        8 => (tab(), conversation()).prop_map(|(tab, conversation)| Event::Ask { tab, conversation }),
        4 => (tab(), any_message()).prop_map(|(tab, message)| Event::Again { tab, message }),
        1 => (tab(), any_message()).prop_map(|(tab, message)| Event::OtherText { tab, message }),
        3 => (tab(), any_message()).prop_map(|(tab, message)| Event::Cancel { tab, message }),
        3 => (tab(), any_message()).prop_map(|(tab, message)| Event::Resume { tab, message }),
        3 => (tab(), any::<bool>()).prop_map(|(tab, noticed)| Event::Disconnect { tab, noticed }),
        3 => (tab(), conversation()).prop_map(|(tab, conversation)| Event::Return { tab, conversation }),
        1 => tab().prop_map(|tab| Event::Reload { tab }),
        3 => (tab(), 1..12_usize).prop_map(|(tab, frames)| Event::LoseFrames { tab, frames }),
        6 => (0..300_u64).prop_map(|ms| Event::Wait { ms }),
        8 => (300..5_000_u64).prop_map(|ms| Event::Wait { ms }),
        4 => (5_000..40_000_u64).prop_map(|ms| Event::Wait { ms }),
        1 => (40_000..600_000_u64).prop_map(|ms| Event::Wait { ms }),
        3 => (0..4_usize).prop_map(|process| Event::Kill { process }),
        5 => (function(), 0..30_usize, fault())
            .prop_map(|(function, effect, fault)| Event::Accident { function, effect, fault }),
        3 => (0..4_usize, 0..10_usize, fault())
            .prop_map(|(process, effect, fault)| Event::Strike { process, effect, fault }),
        1 => (-450..450_i64).prop_map(|ms| Event::Skew { ms }),
        2 => mood().prop_map(Event::Mood),
        4 => mood().prop_map(Event::MoodOnce),
        1 => any::<bool>().prop_map(Event::Prefill),
        1 => Just(Event::Redeliver),
        1 => Just(Event::LoseDelete),
        1 => any::<bool>().prop_map(Event::Sources),
    ]
    .boxed()
}

fn case(event: BoxedStrategy<Event>) -> impl Strategy<Value = Case> {
    (any::<u64>(), vec(event, 1..30)).prop_map(|(seed, events)| Case { seed, events })
}

/// What the shopper has sent so far.
struct Chat<S: Stores> {
    world: World<S>,
    messages: Vec<Message>,
    /// Which message belongs to which conversation of the case.
    places: Vec<usize>,
    asked: u128,
}

impl<S: Stores> Chat<S> {
    fn new(seed: u64, stores: impl FnOnce(&InMemory) -> S, subject: &str) -> Self {
        let world = World::new(stores, subject, TABS, seed, Pace::Drawn(fastrand::Rng::with_seed(seed)));
        world.lambda.start_event_sources();
        Self { world, messages: Vec::new(), places: Vec::new(), asked: 0 }
    }

    /// The id of a conversation of the case, once a client was told it.
    fn known(&self, conversation: usize) -> Option<ConversationId> {
        let of_it = self.messages.iter().zip(&self.places).filter(|(_, place)| **place == conversation);
        let mut told =
            of_it.filter(|(message, _)| self.world.tabs.iter().any(|tab| tab.accepted(message.id).is_some()));
        told.next().map(|(message, _)| message.conversation.clone().unwrap_or_else(|| self.world.opened_by(message)))
    }

    fn online(&mut self, tab: usize) -> usize {
        if !self.world.tabs[tab].is_online() {
            self.world.connect(tab);
        }
        tab
    }

    fn message(&self, index: usize) -> Option<Message> {
        let index = index.checked_rem(self.messages.len())?;
        Some(self.messages[index].clone())
    }

    fn happen(&mut self, event: Event) {
        self.world.note(format!("--- {event:?}"));
        match event {
            Event::Ask { tab, conversation } => {
                let tab = self.online(tab);
                self.asked += 1;
                let message = message(self.asked, self.known(conversation));
                self.world.send(tab, &message);
                self.messages.push(message);
                self.places.push(conversation);
            }
            Event::Again { tab, message } => {
                if let Some(message) = self.message(message) {
                    let tab = self.online(tab);
                    self.world.send(tab, &message);
                }
            }
            Event::OtherText { tab, message } => {
                if let Some(message) = self.message(message) {
                    let tab = self.online(tab);
                    self.world.send_with_text(tab, &message, &format!("{} or not", message.text));
                }
            }
            Event::Cancel { tab, message } => {
                if let Some(message) = self.message(message) {
                    let tab = self.online(tab);
                    self.world.cancel(tab, &message);
                }
            }
            Event::Resume { tab, message } => {
                let told = self
                    .message(message)
                    .filter(|message| self.world.tabs.iter().any(|tab| tab.accepted(message.id).is_some()));
                if let Some(message) = told {
                    let (tab, turn) = (self.online(tab), self.world.turn_id(&message));
                    self.world.resume(tab, &turn);
                }
            }
            Event::Disconnect { tab, noticed } => self.world.disconnect(tab, noticed),
            Event::Return { tab, conversation } => {
                let (tab, conversation) = (self.online(tab), self.known(conversation));
                self.world.pick_up(tab, conversation.as_ref());
            }
            Event::Reload { tab } => self.world.reload(tab),
            Event::LoseFrames { tab, frames } => self.world.lose_frames(tab, frames),
            Event::Wait { ms } => self.world.attend_for(ms),
            Event::Kill { process } => {
                if let Some(process) = self.world.running(process) {
                    self.world.kill(process);
                }
            }
            Event::Accident { function, effect, fault } => {
                self.world.lambda.plan(Accident { whom: Victim::Next(function), effect, fault });
            }
            Event::Strike { process, effect, fault } => {
                if let Some(process) = self.world.running(process) {
                    self.world.strike(process, effect, fault);
                }
            }
            Event::Skew { ms } => self.world.lambda.set_skew_ms(ms),
            Event::Mood(mood) => self.world.lambda.model.set_mood(mood),
            Event::MoodOnce(mood) => self.world.lambda.model.set_mood_once(mood),
            Event::Prefill(accepts) => self.world.lambda.model.set_accepts_prefill(accepts),
            Event::Redeliver => self.world.lambda.redeliver(),
            Event::LoseDelete => self.world.lambda.lose_a_delete(),
            Event::Sources(true) => self.world.lambda.start_event_sources(),
            Event::Sources(false) => self.world.lambda.stop_event_sources(),
            Event::Expire => self.expire(),
        }
    }

    /// Everything is forgotten; a message that opened a conversation then opens it anew.
    fn expire(&mut self) {
        self.rest();
        self.world.forget_everything();
        let forgotten = std::mem::take(&mut self.messages);
        self.places.clear();
        if let Some(message) = forgotten.into_iter().find(|message| message.conversation.is_none()) {
            let turn = self.world.turn_id(&message);
            assert!(self.world.stored(&turn).is_none(), "{turn} has expired and is still there");
            self.world.send(0, &message);
            self.world.run_for(2_000);
            let accepted = self.world.tabs[0].accepted(message.id);
            assert_eq!(accepted, Some(&(turn, false)), "a message is not accepted again after its turn has expired");
            self.messages.push(message);
            self.places.push(0);
        }
    }

    /// Lets the world come to rest, and checks what became of it.
    fn rest(&mut self) {
        settle(&mut self.world, &self.messages);
        observations::are_explained(&self.world, &self.messages);
    }

    fn run(&mut self, events: &[Event]) {
        for event in events {
            self.happen(*event);
        }
        self.rest();
    }
}

/// Tells the story when a promise is broken.
fn tell<S: Stores>(mut chat: Chat<S>, events: &[Event]) {
    if let Err(broken) = catch_unwind(AssertUnwindSafe(|| chat.run(events))) {
        println!("{}", chat.world.story());
        resume_unwind(broken);
    }
}

/// A world of that seed in memory.
fn chat(seed: u64) -> Chat<Memory> {
    Chat::new(seed, |world| Memory::new(&world.clock), "aiko")
}

/// Before, while and after its turn is answered, handed over, taken over and handed over again.
#[test]
fn a_cancel_is_heeded_whenever_it_comes() {
    let breaks = Event::Mood(Mood::breaking(400, 2, Breakdown::Throttled));
    let (ask, cancel) = (Event::Ask { tab: 0, conversation: 0 }, Event::Cancel { tab: 1, message: 0 });
    for ms in (0..4_500).step_by(9) {
        tell(chat(ms), &[breaks, ask, Event::Wait { ms }, cancel]);
    }
}

#[test]
fn another_text_at_the_same_moment_frees_no_conversation() {
    let (ask, other_text) = (Event::Ask { tab: 0, conversation: 0 }, Event::OtherText { tab: 0, message: 0 });
    let throttled = Event::Mood(Mood::breaking(20, 0, Breakdown::Throttled));
    tell(chat(15_724_440_542_254_605_273), &[ask, throttled, other_text, ask, ask, Event::Wait { ms: 40 }]);
    let crash = Event::Strike { process: 0, effect: 0, fault: Fault::CrashAfter };
    tell(chat(3_790_014_387_816_288_898), &[ask, Event::Wait { ms: 36 }, crash, other_text]);
}

/// A conversation that is opened anew after it expired is not hidden by what is left of it.
#[test]
fn what_has_expired_hides_nothing() {
    let engine = Engine::start();
    let turn = [Event::Ask { tab: 0, conversation: 0 }, Event::Wait { ms: 20_000 }];
    let mut events = turn.repeat(6);
    events.push(Event::Expire);
    tell(Chat::new(0, |world| DynamoDb::new(&engine, &world.clock), "aiko"), &events);
}

#[test]
fn promises_hold_whatever_happens() {
    check(CASES, event(), |world| Memory::new(&world.clock));
}

#[test]
fn promises_hold_whatever_happens_on_an_engine() {
    let engine = Engine::start();
    let event = prop_oneof![60 => event(), 1 => Just(Event::Expire)].boxed();
    check(CASES_ON_ENGINE, event, |world| DynamoDb::new(&engine, &world.clock));
}

/// Runs cases, each as another shopper, and tells the story of the smallest that breaks a promise. The cases are the same
/// in every run; `PROPTEST_RNG_SEED` draws others.
fn check<S: Stores>(cases: u32, event: BoxedStrategy<Event>, stores: impl Fn(&InMemory) -> S) {
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("simulation/regressions.txt"))),
        ..Config::default()
    };
    let rng_seed = if config.rng_seed == RngSeed::Random { RngSeed::Fixed(SEED) } else { config.rng_seed };
    let config = Config { rng_seed, ..config };
    let shoppers = Cell::new(0);
    let chat = |seed| {
        shoppers.set(shoppers.get() + 1);
        let subject = format!("aiko-{}", shoppers.get());
        Chat::new(seed, &stores, &subject)
    };
    let outcome = TestRunner::new(config).run(&case(event), |case| {
        chat(case.seed).run(&case.events);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("{reason}"),
        Err(TestError::Fail(reason, case)) => {
            let mut chat = chat(case.seed);
            let _ = catch_unwind(AssertUnwindSafe(|| chat.run(&case.events)));
            panic!("{reason}\n{case:?}\n{}", chat.world.story());
        }
    }
}
