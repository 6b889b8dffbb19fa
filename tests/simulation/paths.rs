//! The ways a turn can go when nothing goes wrong that was not meant to.

use crate::lambda::Pace;
use crate::model::{Breakdown, Mood};
use crate::stores::Stores;
use crate::world::{Message, World, message};
use testkit::InMemory;

/// What the shopper and their surroundings do.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    Send,
    Wait(u64),
    Cancel,
    /// The tab loses its connection.
    Disconnect,
    /// The tab makes another, and resumes.
    Return,
    /// The tab makes another, and sends the message again.
    Resend,
    /// The first process dies.
    KillFirst,
    StopEventSources,
}

/// A way for a turn to go.
pub struct Path {
    pub name: &'static str,
    pub pieces: usize,
    pub mood: Mood,
    /// For the first answers.
    pub moods_once: &'static [Mood],
    pub prefill: bool,
    pub steps: &'static [Step],
}

const USUAL: Path =
    Path { name: "", pieces: 4, mood: Mood::well(100), moods_once: &[], prefill: false, steps: &[Step::Send] };

pub const PATHS: [Path; 12] = [
    Path { name: "a short answer", ..USUAL },
    Path { name: "a long answer with many ticks", pieces: 20, mood: Mood::well(300), ..USUAL },
    Path {
        name: "a throttled model",
        moods_once: &[Mood::breaking(100, 0, Breakdown::Throttled), Mood::breaking(100, 0, Breakdown::Throttled)],
        ..USUAL
    },
    Path {
        name: "a model that breaks off",
        pieces: 12,
        mood: Mood::well(250),
        moods_once: &[Mood::breaking(250, 7, Breakdown::Unavailable)],
        ..USUAL
    },
    Path {
        name: "a model that breaks off and continues",
        pieces: 12,
        mood: Mood::well(250),
        moods_once: &[Mood::breaking(250, 7, Breakdown::Unavailable)],
        prefill: true,
        ..USUAL
    },
    Path {
        name: "a model that falls silent",
        pieces: 8,
        mood: Mood::well(250),
        moods_once: &[Mood::breaking(250, 5, Breakdown::Silence)],
        prefill: true,
        ..USUAL
    },
    Path {
        name: "a cancelled answer",
        pieces: 20,
        mood: Mood::well(300),
        steps: &[Step::Send, Step::Wait(2_500), Step::Cancel],
        ..USUAL
    },
    Path {
        name: "a queued answer that is cancelled",
        mood: Mood::breaking(100, 0, Breakdown::Throttled),
        steps: &[Step::Send, Step::Wait(3_400), Step::Cancel],
        ..USUAL
    },
    Path {
        name: "an answer resumed on another connection",
        pieces: 20,
        mood: Mood::well(300),
        steps: &[Step::Send, Step::Wait(2_000), Step::Disconnect, Step::Wait(1_000), Step::Return],
        ..USUAL
    },
    Path {
        name: "an answer taken over by a resend",
        pieces: 14,
        mood: Mood::well(300),
        steps: &[
            Step::StopEventSources,
            Step::Send,
            Step::Wait(3_000),
            Step::KillFirst,
            Step::Disconnect,
            Step::Wait(10_500),
            Step::Resend,
        ],
        ..USUAL
    },
    Path {
        name: "an answer taken over by the follow-up worker",
        pieces: 14,
        mood: Mood::well(300),
        prefill: true,
        steps: &[Step::Send, Step::Wait(3_000), Step::KillFirst],
        ..USUAL
    },
    Path {
        name: "an answer handed over when its time is up",
        pieces: 40,
        mood: Mood::well(750),
        prefill: true,
        ..USUAL
    },
];

impl Path {
    /// A world for this path, and its message.
    pub fn world<S: Stores>(&self, stores: impl FnOnce(&InMemory) -> S, subject: &str) -> (World<S>, Message) {
        let world = World::new(stores, subject, 1, 1, Pace::Usual);
        let model = &world.lambda.model;
        model.set_pieces(self.pieces);
        model.set_mood(self.mood);
        self.moods_once.iter().for_each(|mood| model.set_mood_once(*mood));
        model.set_accepts_prefill(self.prefill);
        world.lambda.start_event_sources();
        (world, message(1, None))
    }

    /// Takes its steps, and lets the world come to rest; ends early once `is_enough`.
    pub fn take<S: Stores>(&self, world: &mut World<S>, message: &Message, is_enough: impl Fn(&World<S>) -> bool) {
        for step in self.steps {
            if is_enough(world) {
                return;
            }
            match step {
                Step::Send => world.send(0, message),
                Step::Wait(ms) => wait(world, *ms, &is_enough),
                Step::Cancel => world.cancel(0, message),
                Step::Disconnect => world.disconnect(0, true),
                Step::Return => {
                    world.connect(0);
                    let turn = world.turn_id(message);
                    world.resume(0, &turn);
                }
                Step::Resend => {
                    world.connect(0);
                    world.send(0, message);
                }
                Step::KillFirst => world.kill(0),
                Step::StopEventSources => world.lambda.stop_event_sources(),
            }
        }
        wait(world, 5 * 60_000, &is_enough);
    }
}

/// Lets time pass in small steps.
fn wait<S: Stores>(world: &mut World<S>, ms: u64, is_enough: &impl Fn(&World<S>) -> bool) {
    const STEP_MS: u64 = 20;
    let until = world.now() + ms;
    while world.now() < until && !is_enough(world) {
        let step_ms = STEP_MS.min(until - world.now());
        if world.is_idle_for(step_ms) {
            return;
        }
    }
}
