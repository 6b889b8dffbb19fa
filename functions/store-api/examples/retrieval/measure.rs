//! What the index finds of the questions in `tests/data/retrieval.tsv`.

use store_api::knowledge::KnowledgeIndex;
use store_api::table::HelpArticle;

const QUESTIONS: &str = include_str!("../../../../tests/data/retrieval.tsv");

/// Articles a question is answered from (limit `GROUNDING_ARTICLES_MAX` of the chat).
const SOURCES: usize = 2;

/// A question and the articles that answer it, any of them; none when it is not about the store.
#[derive(Debug, Clone)]
pub struct Question {
    /// `train` if keywords and weights were chosen by it, `test` if not.
    pub split: &'static str,
    /// `ja` or `en`.
    pub locale: &'static str,
    /// As a shopper wrote it.
    pub text: &'static str,
    /// The ids of articles that answer it.
    pub answers: Vec<&'static str>,
}

/// All questions.
pub fn questions() -> Vec<Question> {
    let fields = |line: &'static str| -> [&'static str; 4] {
        let fields: Vec<&str> = line.split('\t').collect();
        fields.try_into().expect("a line has four fields")
    };
    let question = |[split, locale, answers, text]: [&'static str; 4]| Question {
        split,
        locale,
        text,
        answers: answers.split(',').filter(|id| *id != "-").collect(),
    };
    QUESTIONS.lines().skip(1).map(fields).map(question).collect()
}

/// Shares of the questions of one kind, in percent.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Questions that an article answers.
    pub asked: usize,
    /// Of them, found first.
    pub recall_at_1: f64,
    /// Of them, found among the sources.
    pub recall_at_2: f64,
    /// The mean of 1/rank, in percent.
    pub reciprocal_rank: f64,
    /// Questions that are not about the store.
    pub off_topic: usize,
    /// Of them, those for which an article was found nevertheless.
    pub false_positives: f64,
}

/// Asks the index the questions of a split and a language.
pub fn measure(index: &KnowledgeIndex, articles: &[HelpArticle], split: &str, locale: &str) -> Measured {
    let asked = questions().into_iter().filter(|question| question.split == split && question.locale == locale);
    let (about, off_topic): (Vec<Question>, Vec<Question>) = asked.partition(|question| !question.answers.is_empty());
    let ranks: Vec<Option<usize>> = about.iter().map(|question| rank(index, articles, question)).collect();
    let found = |within: usize| ranks.iter().flatten().filter(|rank| **rank <= within).count();
    let share = |count: usize, of: usize| count as f64 * 100.0 / of as f64;
    let reciprocals: f64 = ranks.iter().flatten().map(|rank| 1.0 / *rank as f64).sum();
    let wrong = off_topic.iter().filter(|question| !index.find(question.text).is_empty()).count();
    Measured {
        asked: about.len(),
        recall_at_1: share(found(1), about.len()),
        recall_at_2: share(found(SOURCES), about.len()),
        reciprocal_rank: reciprocals * 100.0 / about.len() as f64,
        off_topic: off_topic.len(),
        false_positives: share(wrong, off_topic.len()),
    }
}

/// How far down the first article stands that answers the question, counted from 1.
fn rank(index: &KnowledgeIndex, articles: &[HelpArticle], question: &Question) -> Option<usize> {
    let mut found = index.find(question.text).into_iter().map(|hit| articles[hit.position].article_id.as_str());
    found.position(|id| question.answers.contains(&id)).map(|position| position + 1)
}
