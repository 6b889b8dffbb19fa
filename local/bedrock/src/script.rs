//! Answers a test writes in advance.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::api::StopReason;
use crate::exception::Exception;

/// One answer, step by step. Each text is one delta of the stream. Unless it ends otherwise, it ends with `end_turn`.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub(crate) about: Option<String>,
    pub(crate) refusal: Option<Exception>,
    pub(crate) steps: VecDeque<Step>,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Say(String),
    Pause(Duration),
    Await(Arc<Notify>),
    Hang,
    End(StopReason),
    Fail(Exception),
}

impl Reply {
    /// Says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Refuses the call before any answer begins.
    pub fn refuse(exception: Exception) -> Self {
        Self { refusal: Some(exception), ..Self::default() }
    }

    /// Answers only a call whose last message of the user contains `text`.
    #[must_use]
    pub fn about(mut self, text: impl Into<String>) -> Self {
        self.about = Some(text.into());
        self
    }

    pub(crate) fn fits(&self, question: &str) -> bool {
        self.about.as_deref().is_none_or(|about| question.contains(about))
    }

    /// Says a piece of text.
    #[must_use]
    pub fn say(self, text: impl Into<String>) -> Self {
        self.then(Step::Say(text.into()))
    }

    /// Waits.
    #[must_use]
    pub fn pause(self, duration: Duration) -> Self {
        self.then(Step::Pause(duration))
    }

    /// Waits until `notify` is notified; a notification before that counts.
    #[must_use]
    pub fn until(self, notify: Arc<Notify>) -> Self {
        self.then(Step::Await(notify))
    }

    /// Falls silent until the client gives up.
    #[must_use]
    pub fn hang(self) -> Self {
        self.then(Step::Hang)
    }

    /// Ends for this reason.
    #[must_use]
    pub fn end(self, reason: StopReason) -> Self {
        self.then(Step::End(reason))
    }

    /// Ends with an exception.
    #[must_use]
    pub fn fail(self, exception: Exception) -> Self {
        self.then(Step::Fail(exception))
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }
}
