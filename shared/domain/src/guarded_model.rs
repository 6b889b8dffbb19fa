//! The model behind a breaker: while Bedrock is down nobody waits for it.

use std::sync::Arc;

use futures_util::future::{Either, ready};
use futures_util::{Stream, StreamExt as _, stream};

use crate::breaker::{Passage, Upstream};
use crate::guard::Guard;
use crate::limits::MODEL_SILENCE_MS;
use crate::metrics::Metrics;
use crate::ports::{Clock, LanguageModel, ModelError, ModelEvent, SharedHints};
use crate::prompt::Prompt;

/// A [`LanguageModel`] with a breaker, which opens when the model is unavailable after its adapter's retries, or silent. One that
/// refuses or throttles is there.
#[derive(Debug)]
pub struct GuardedModel<M, C, S, H> {
    model: M,
    guard: Arc<Guard<C, S, H>>,
}

impl<M: LanguageModel, C: Clock, S: Metrics, H: SharedHints> GuardedModel<M, C, S, H> {
    /// The model of an environment.
    pub fn new(model: M, guard: Arc<Guard<C, S, H>>) -> Self {
        Self { model, guard }
    }
}

impl<M: LanguageModel, C: Clock, S: Metrics, H: SharedHints> LanguageModel for GuardedModel<M, C, S, H> {
    fn answer(&self, prompt: Prompt) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        let begun = self.guard.clock().now_ms();
        let Some(passage) = self.guard.enter(Upstream::Model) else {
            let open = ModelError::Unavailable("the breaker is open".into());
            return Either::Left(stream::once(ready(Err(open))));
        };
        let mut call = Call { guard: &self.guard, passage: Some(passage), begun };
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
struct Call<'g, C: Clock, S: Metrics, H: SharedHints> {
    guard: &'g Guard<C, S, H>,
    passage: Option<Passage>,
    /// Unix milliseconds.
    begun: u64,
}

impl<C: Clock, S: Metrics, H: SharedHints> Call<'_, C, S, H> {
    fn end(&mut self, answered: bool) {
        let Some(passage) = self.passage.take() else { return };
        if answered {
            self.guard.succeeded(Upstream::Model, passage);
        } else {
            self.guard.failed(Upstream::Model, passage);
        }
    }
}

impl<C: Clock, S: Metrics, H: SharedHints> Drop for Call<'_, C, S, H> {
    /// A model that nobody waited for any longer was silent; one that was cancelled before was not.
    fn drop(&mut self) {
        if self.guard.clock().now_ms() >= self.begun + MODEL_SILENCE_MS {
            self.end(false);
        }
    }
}
