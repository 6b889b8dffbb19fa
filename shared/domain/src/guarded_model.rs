//! The model behind a breaker: while Bedrock is down nobody waits for it.

use futures_util::future::{Either, ready};
use futures_util::{Stream, StreamExt as _, stream};

use crate::breaker::{Breaker, Passage, Transition, Upstream};
use crate::limits::MODEL_SILENCE_MS;
use crate::metrics::{Measure, Metrics};
use crate::ports::{Clock, LanguageModel, ModelError, ModelEvent, SharedHints};
use crate::prompt::Prompt;

/// A [`LanguageModel`] with a breaker, which opens when the model is unavailable after its adapter's retries, or silent. One that
/// refuses or throttles is there.
#[derive(Debug)]
pub struct GuardedModel<M, C, S, H> {
    model: M,
    clock: C,
    metrics: S,
    hints: H,
    breaker: Breaker,
}

impl<M: LanguageModel, C: Clock, S: Metrics, H: SharedHints> GuardedModel<M, C, S, H> {
    /// The model of an environment, which learns from the others by `hints`.
    pub fn new(model: M, clock: C, metrics: S, hints: H) -> Self {
        Self { model, clock, metrics, hints, breaker: Breaker::default() }
    }

    fn note(&self, transition: Option<Transition>) {
        let Some(transition) = transition else { return };
        tracing::warn!(upstream = Upstream::Model.name(), transition = transition.name(), "a breaker has changed");
        self.metrics.record(Measure::breaker(Upstream::Model, transition));
        if let Transition::Opened { until } = transition {
            self.hints.opened(Upstream::Model, until);
        }
    }
}

impl<M: LanguageModel, C: Clock, S: Metrics, H: SharedHints> LanguageModel for GuardedModel<M, C, S, H> {
    fn answer(&self, prompt: Prompt) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        let now = self.clock.now_ms();
        let (passage, transition) = self.breaker.enter(now, self.hints.breaker(Upstream::Model));
        self.note(transition);
        let Some(passage) = passage else {
            self.metrics.record(Measure::spared_call(Upstream::Model));
            let open = ModelError::Unavailable("the breaker is open".into());
            return Either::Left(stream::once(ready(Err(open))));
        };
        let mut call = Call { guarded: self, passage: Some(passage), begun: now };
        Either::Right(self.model.answer(prompt).inspect(move |event| match event {
            Err(ModelError::Unavailable(_)) => call.end(false),
            Ok(_) | Err(ModelError::Throttled(_) | ModelError::Refused(_)) => call.end(true),
        }))
    }

    fn accepts_prefill(&self) -> bool {
        self.model.accepts_prefill()
    }
}

/// A call that the breaker is to hear of, once.
struct Call<'g, M: LanguageModel, C: Clock, S: Metrics, H: SharedHints> {
    guarded: &'g GuardedModel<M, C, S, H>,
    passage: Option<Passage>,
    begun: u64,
}

impl<M: LanguageModel, C: Clock, S: Metrics, H: SharedHints> Call<'_, M, C, S, H> {
    fn end(&mut self, answered: bool) {
        let Some(passage) = self.passage.take() else { return };
        let (breaker, now) = (&self.guarded.breaker, self.guarded.clock.now_ms());
        let transition = if answered { breaker.succeeded(passage, now) } else { breaker.failed(passage, now) };
        self.guarded.note(transition);
    }
}

impl<M: LanguageModel, C: Clock, S: Metrics, H: SharedHints> Drop for Call<'_, M, C, S, H> {
    /// A model that nobody waited for any longer was silent; one that was cancelled before was not.
    fn drop(&mut self) {
        if self.guarded.clock.now_ms() >= self.begun + MODEL_SILENCE_MS {
            self.end(false);
        }
    }
}
