//! When the model is left alone, and when it is asked again.

use std::sync::Arc;

use domain::breaker::{Hint, Upstream};
use domain::guard::Guard;
use domain::guarded_model::GuardedModel;
use domain::limits::{BREAKER_OPEN_MS, BREAKER_REPORTS_MIN, MODEL_SILENCE_MS};
use domain::ports::{Clock as _, LanguageModel as _, ModelChoice, ModelError, ModelEvent};
use domain::prompt::{Prompt, PromptMessage, Role};
use futures_util::{FutureExt as _, StreamExt as _};
use testkit::{ManualClock, ModelFailure, RecordedMetrics, ScriptedHints, ScriptedModel, Step};

fn prompt() -> Prompt {
    let question = PromptMessage { role: Role::User, text: "Hello".into() };
    Prompt {
        system: String::new(),
        messages: vec![question],
        question_at: 0,
        prefill: None,
        model: ModelChoice::Primary,
        answer_tokens_max: 1,
        instructions_dropped: 0,
    }
}

struct World {
    clock: ManualClock,
    metrics: RecordedMetrics,
    hints: ScriptedHints,
    script: ScriptedModel,
    model: GuardedModel<ScriptedModel, ManualClock, RecordedMetrics, ScriptedHints>,
}

impl World {
    fn new() -> Self {
        let (clock, metrics, hints) = (ManualClock::new(), RecordedMetrics::default(), ScriptedHints::default());
        let script = ScriptedModel::new(clock.clone());
        let guard = Guard::new(clock.clone(), metrics.clone(), hints.clone());
        Self { model: GuardedModel::new(script.clone(), Arc::new(guard)), clock, metrics, hints, script }
    }

    fn failing(failure: ModelFailure) -> Self {
        let world = Self::new();
        world.script.follow(vec![Step::Fail(failure)]);
        world
    }

    /// One call, to its end.
    fn ask(&self) -> Vec<Result<ModelEvent, ModelError>> {
        self.model.answer(prompt()).collect().now_or_never().expect("nothing takes time")
    }

    /// One call that is given up while the model says nothing.
    fn give_up_after(&self, ms: u64) {
        self.script.follow_once(vec![Step::Silence]);
        let mut answer = Box::pin(self.model.answer(prompt()));
        assert!(answer.next().now_or_never().is_none(), "it is silent");
        self.clock.advance(ms);
    }

    fn transitions(&self) -> [u64; 3] {
        ["BreakerOpened", "BreakerHalfOpened", "BreakerClosed"].map(|name| self.metrics.total_of(name, "model"))
    }
}

#[test]
fn a_model_that_is_down_is_left_alone() {
    let world = World::failing(ModelFailure::Unavailable);
    world.ask();
    let until = world.clock.now_ms() + BREAKER_OPEN_MS;
    assert_eq!(world.hints.told(), [(Upstream::Model, until)]);
    world.clock.advance(BREAKER_OPEN_MS - 1);
    assert!(matches!(world.ask()[..], [Err(ModelError::Unavailable(_))]));
    assert_eq!(world.script.asked().len(), 1);
    assert_eq!(world.metrics.total_of("CallsSpared", "model"), 1);
    assert_eq!(world.transitions(), [1, 0, 0]);
}

#[test]
fn one_call_sees_whether_it_is_back() {
    let world = World::failing(ModelFailure::Unavailable);
    world.ask();
    world.clock.advance(BREAKER_OPEN_MS);
    world.script.follow(Step::answer(["Back."], 0));
    let mut probe = Box::pin(world.model.answer(prompt()));
    assert!(matches!(world.ask()[..], [Err(ModelError::Unavailable(_))]), "one at a time");
    assert!(matches!(probe.next().now_or_never(), Some(Some(Ok(ModelEvent::Text(_))))));
    assert_eq!(world.transitions(), [1, 1, 1], "its first word says so");
    assert!(world.ask().iter().all(Result::is_ok));
    assert_eq!(world.script.asked().len(), 3);
}

#[test]
fn a_model_that_is_still_down_is_left_alone_again() {
    let world = World::failing(ModelFailure::Unavailable);
    world.ask();
    world.clock.advance(BREAKER_OPEN_MS);
    world.ask();
    world.clock.advance(BREAKER_OPEN_MS - 1);
    world.ask();
    assert_eq!(world.script.asked().len(), 2);
    assert_eq!(world.transitions(), [2, 1, 0]);
}

#[test]
fn a_model_that_throttles_or_refuses_is_there() {
    for failure in [ModelFailure::Throttled, ModelFailure::Refused] {
        let world = World::failing(failure);
        for asked in 1..=3 {
            world.ask();
            assert_eq!(world.script.asked().len(), asked);
        }
        assert_eq!(world.transitions(), [0, 0, 0]);
    }
}

#[test]
fn a_model_that_breaks_off_after_its_first_word_was_there() {
    let world = World::new();
    world.script.follow(vec![Step::Say("It".into()), Step::Fail(ModelFailure::Unavailable)]);
    world.ask();
    world.ask();
    assert_eq!(world.script.asked().len(), 2);
}

#[test]
fn a_model_that_nobody_waits_for_any_longer_was_down_and_one_that_was_cancelled_was_not() {
    for (waited, opened) in [(MODEL_SILENCE_MS - 1, 0), (MODEL_SILENCE_MS, 1)] {
        let world = World::new();
        world.give_up_after(waited);
        assert_eq!(world.transitions(), [opened, 0, 0], "after {waited} ms");
    }
}

#[test]
fn an_answer_that_is_cancelled_after_its_first_word_says_nothing_against_the_model() {
    let world = World::new();
    world.script.follow(vec![Step::Say("It".into()), Step::Silence]);
    let mut answer = Box::pin(world.model.answer(prompt()));
    assert!(matches!(answer.next().now_or_never(), Some(Some(Ok(ModelEvent::Text(_))))));
    world.clock.advance(MODEL_SILENCE_MS);
    drop(answer);
    assert_eq!(world.transitions(), [0, 0, 0]);
}

#[test]
fn what_several_others_have_found_is_heeded() {
    for (reports, asked) in [(BREAKER_REPORTS_MIN - 1, 1), (BREAKER_REPORTS_MIN, 0)] {
        let world = World::new();
        let open_until = world.clock.now_ms() + BREAKER_OPEN_MS;
        world.hints.set_breaker(Upstream::Model, Hint { reports, open_until });
        world.ask();
        assert_eq!(world.script.asked().len(), asked, "{reports} reports");
    }
}

#[test]
fn it_continues_an_answer_if_the_model_does() {
    let world = World::new();
    for accepts in [true, false] {
        world.script.set_accepts_prefill(accepts);
        assert_eq!(world.model.accepts_prefill(), accepts);
    }
}
