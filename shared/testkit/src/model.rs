//! A model that says what a test tells it to.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};

use domain::ports::{Clock as _, LanguageModel, ModelError, ModelEvent};
use domain::prompt::Prompt;
use domain::protocol::{StopReason, Usage};
use futures_util::{Stream, StreamExt as _, stream};

use crate::ManualClock;

/// How a model breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFailure {
    /// [`ModelError::Throttled`].
    Throttled,
    /// [`ModelError::Unavailable`].
    Unavailable,
    /// [`ModelError::Refused`].
    Refused,
}

/// One step of a scripted answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Takes its time, ms.
    Wait(u64),
    /// Says a piece of text.
    Say(String),
    /// Says why it stops.
    Stop(StopReason),
    /// Says what it cost.
    Count(Usage),
    /// Breaks off.
    Fail(ModelFailure),
    /// Says nothing any more, and does not end either.
    Silence,
}

impl Step {
    /// An answer of `pieces`, each after `every_ms`, that ends well and costs 100 tokens and one for each piece.
    pub fn answer<S: Into<String>>(pieces: impl IntoIterator<Item = S>, every_ms: u64) -> Vec<Self> {
        let mut steps: Vec<Self> =
            pieces.into_iter().flat_map(|piece| [Self::Wait(every_ms), Self::Say(piece.into())]).collect();
        let output_tokens = steps.len() as u64 / 2;
        steps.push(Self::Stop(StopReason::EndTurn));
        steps.push(Self::Count(Usage { input_tokens: 100, output_tokens }));
        steps
    }
}

#[derive(Debug, Default)]
struct Record {
    script: Vec<Step>,
    /// For the next answers, before the script.
    once: VecDeque<Vec<Step>>,
    accepts_prefill: bool,
    asked: Vec<(u64, Prompt)>,
    cancelled: usize,
}

/// A [`LanguageModel`] that follows a script. Clones share it.
#[derive(Debug, Clone)]
pub struct ScriptedModel {
    clock: ManualClock,
    record: Arc<Mutex<Record>>,
}

impl ScriptedModel {
    /// A model that says one short sentence at once, and does not continue what it is given the beginning of.
    pub fn new(clock: ManualClock) -> Self {
        let model = Self { clock, record: Arc::default() };
        model.follow(Step::answer(["Here you are."], 0));
        model
    }

    /// Answers like this from now on.
    pub fn follow(&self, script: Vec<Step>) {
        self.record.lock().unwrap().script = script;
    }

    /// Gives one answer like this, before it answers as it is told to by [`Self::follow`]. Several are given in turn.
    pub fn follow_once(&self, script: Vec<Step>) {
        self.record.lock().unwrap().once.push_back(script);
    }

    /// Whether it continues an answer that it is given the beginning of. If a script's text begins so, it says only the
    /// rest, without waiting for what it need not say.
    pub fn set_accepts_prefill(&self, accepts_prefill: bool) {
        self.record.lock().unwrap().accepts_prefill = accepts_prefill;
    }

    /// What it was asked, and when, Unix milliseconds.
    pub fn asked(&self) -> Vec<(u64, Prompt)> {
        self.record.lock().unwrap().asked.clone()
    }

    /// How many of its answers nobody heard to the end.
    pub fn cancelled(&self) -> usize {
        self.record.lock().unwrap().cancelled
    }

    fn begin(self, prompt: Prompt) -> Answering {
        let now_ms = self.clock.now_ms();
        let steps = {
            let mut record = self.record.lock().unwrap();
            let script = record.once.pop_front().unwrap_or_else(|| record.script.clone());
            let steps = match &prompt.prefill {
                Some(prefill) if record.accepts_prefill => rest(script, prefill),
                _ => script,
            };
            record.asked.push((now_ms, prompt));
            steps.into()
        };
        Answering { model: self, steps, ended: false }
    }
}

impl LanguageModel for ScriptedModel {
    fn answer(&self, prompt: Prompt) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        let model = self.clone();
        stream::once(async move { model.begin(prompt) }).flat_map(|answering| {
            stream::unfold(
                answering,
                |mut answering| async move { answering.next().await.map(|event| (event, answering)) },
            )
        })
    }

    fn accepts_prefill(&self) -> bool {
        self.record.lock().unwrap().accepts_prefill
    }
}

/// What is left of a script after its text up to `said`; all of it, if its text does not begin so.
fn rest(script: Vec<Step>, said: &str) -> Vec<Step> {
    let mut unsaid = said;
    let mut steps = script.iter().cloned();
    while !unsaid.is_empty() {
        match steps.next() {
            Some(Step::Wait(_)) => {}
            Some(Step::Say(text)) => {
                if let Some(left) = unsaid.strip_prefix(&text) {
                    unsaid = left;
                } else if let Some(left) = text.strip_prefix(unsaid) {
                    return std::iter::once(Step::Say(left.to_owned())).chain(steps).collect();
                } else {
                    return script;
                }
            }
            Some(Step::Stop(_) | Step::Count(_) | Step::Fail(_) | Step::Silence) | None => return script,
        }
    }
    steps.collect()
}

struct Answering {
    model: ScriptedModel,
    steps: VecDeque<Step>,
    ended: bool,
}

impl Answering {
    async fn next(&mut self) -> Option<Result<ModelEvent, ModelError>> {
        loop {
            match self.steps.pop_front() {
                Some(Step::Wait(ms)) => self.model.clock.sleep_until(self.model.clock.now_ms() + ms).await,
                Some(Step::Say(text)) => return Some(Ok(ModelEvent::Text(text))),
                Some(Step::Stop(reason)) => return Some(Ok(ModelEvent::Stopped(reason))),
                Some(Step::Count(usage)) => return Some(Ok(ModelEvent::Usage(usage))),
                Some(Step::Silence) => pending().await,
                Some(Step::Fail(failure)) => {
                    self.steps.clear();
                    self.ended = true;
                    let source = "the script says so".into();
                    return Some(Err(match failure {
                        ModelFailure::Throttled => ModelError::Throttled(source),
                        ModelFailure::Unavailable => ModelError::Unavailable(source),
                        ModelFailure::Refused => ModelError::Refused(source),
                    }));
                }
                None => {
                    self.ended = true;
                    return None;
                }
            }
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.ended {
            self.model.record.lock().unwrap().cancelled += 1;
        }
    }
}
