//! A model whose answer to a question is always the same, however it gets there.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};

use domain::ports::{Clock as _, LanguageModel, ModelError, ModelEvent};
use domain::prompt::Prompt;
use domain::protocol::{StopReason, Usage};
use futures_util::{Stream, StreamExt as _, stream};
use testkit::ManualClock;

/// How the model breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakdown {
    Throttled,
    Unavailable,
    /// It says nothing any more.
    Silence,
}

/// How the model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mood {
    /// Before each piece, ms.
    pub every_ms: u64,
    /// After so many pieces.
    pub breaks: Option<(usize, Breakdown)>,
}

impl Mood {
    pub const fn well(every_ms: u64) -> Self {
        Self { every_ms, breaks: None }
    }

    pub const fn breaking(every_ms: u64, after: usize, breakdown: Breakdown) -> Self {
        Self { every_ms, breaks: Some((after, breakdown)) }
    }
}

struct State {
    mood: Mood,
    /// For the next answers.
    once: VecDeque<Mood>,
    accepts_prefill: bool,
    pieces: usize,
    asked: Vec<Asked>,
}

/// A prompt, and when it came.
#[derive(Clone)]
pub struct Asked {
    pub at: u64,
    pub prompt: Prompt,
    /// The question in it; none in a request to sum up.
    pub question: Option<String>,
}

/// Clones share everything.
#[derive(Clone)]
pub struct SimulatedModel {
    clock: ManualClock,
    state: Arc<Mutex<State>>,
}

impl SimulatedModel {
    /// A model that is well, answers with `pieces` pieces, and continues no answer.
    pub fn new(clock: ManualClock, pieces: usize) -> Self {
        let state =
            State { mood: Mood::well(100), once: VecDeque::new(), accepts_prefill: false, pieces, asked: Vec::new() };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    pub fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// For one answer, before the lasting mood; several in turn.
    pub fn set_mood_once(&self, mood: Mood) {
        self.state.lock().unwrap().once.push_back(mood);
    }

    /// Forgets the moods for single answers.
    pub fn clear_moods_once(&self) {
        self.state.lock().unwrap().once.clear();
    }

    pub fn set_accepts_prefill(&self, accepts_prefill: bool) {
        self.state.lock().unwrap().accepts_prefill = accepts_prefill;
    }

    pub fn set_pieces(&self, pieces: usize) {
        self.state.lock().unwrap().pieces = pieces;
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// The whole answer to a question.
    pub fn answer_to(&self, question: &str) -> String {
        pieces(question, self.state.lock().unwrap().pieces).concat()
    }

    fn begin(&self, prompt: Prompt) -> Answering {
        let mut state = self.state.lock().unwrap();
        let question = question_in(&prompt).map(str::to_owned);
        let mood = state.once.pop_front().unwrap_or(state.mood);
        let mut to_say: VecDeque<String> = match &question {
            None => VecDeque::from(["Notes.".to_owned()]),
            Some(question) => pieces(question, state.pieces).into(),
        };
        if let Some(prefill) = &prompt.prefill {
            assert!(state.accepts_prefill, "this model continues nothing, but was given {prefill:?}");
            skip(&mut to_say, prefill);
        }
        state.asked.push(Asked { at: self.clock.now_ms(), prompt, question });
        Answering { clock: self.clock.clone(), mood, to_say, said: 0, last_words: VecDeque::new() }
    }
}

fn pieces(question: &str, count: usize) -> Vec<String> {
    (0..count).map(|piece| format!("{question}/{piece} ")).collect()
}

/// The question of a prompt, between the lines of its element.
fn question_in(prompt: &Prompt) -> Option<&str> {
    let text = &prompt.messages.last()?.text;
    let (_, question) = text.split_once("<question locale=\"en\">\n")?;
    question.strip_suffix("\n</question>")
}

/// Leaves what is still to be said after `said`.
fn skip(to_say: &mut VecDeque<String>, said: &str) {
    let whole = to_say.make_contiguous().concat();
    let rest = whole.strip_prefix(said);
    let mut rest = rest.unwrap_or_else(|| panic!("the model is to continue {said:?}, which it never said")).len();
    let mut left = VecDeque::new();
    while let Some(piece) = to_say.pop_back().filter(|_| rest > 0) {
        let kept = piece.len().min(rest);
        left.push_front(piece[piece.len() - kept..].to_owned());
        rest -= kept;
    }
    *to_say = left;
}

struct Answering {
    clock: ManualClock,
    mood: Mood,
    to_say: VecDeque<String>,
    said: usize,
    last_words: VecDeque<ModelEvent>,
}

impl Answering {
    async fn next(&mut self) -> Option<Result<ModelEvent, ModelError>> {
        if let Some((_, breakdown)) = self.mood.breaks.filter(|(after, _)| *after == self.said) {
            self.to_say.clear();
            self.said = usize::MAX;
            match breakdown {
                Breakdown::Throttled => return Some(Err(ModelError::Throttled("a mood".into()))),
                Breakdown::Unavailable => return Some(Err(ModelError::Unavailable("a mood".into()))),
                Breakdown::Silence => pending().await,
            }
        }
        if self.said == usize::MAX {
            return self.last_words.pop_front().map(Ok);
        }
        self.clock.sleep_until(self.clock.now_ms() + self.mood.every_ms).await;
        let Some(piece) = self.to_say.pop_front() else {
            let usage = Usage { input_tokens: 100, output_tokens: self.said as u64 };
            self.said = usize::MAX;
            self.last_words.push_back(ModelEvent::Usage(usage));
            return Some(Ok(ModelEvent::Stopped(StopReason::EndTurn)));
        };
        self.said += 1;
        Some(Ok(ModelEvent::Text(piece)))
    }
}

impl LanguageModel for SimulatedModel {
    fn answer(&self, prompt: Prompt) -> impl Stream<Item = Result<ModelEvent, ModelError>> + Send {
        let model = self.clone();
        stream::once(async move { model.begin(prompt) }).flat_map(|answering| {
            stream::unfold(answering, async |mut answering: Answering| {
                answering.next().await.map(|event| (event, answering))
            })
        })
    }

    fn accepts_prefill(&self) -> bool {
        self.state.lock().unwrap().accepts_prefill
    }
}
