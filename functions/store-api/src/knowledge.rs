//! Finds the help articles a question is about: an index in memory, ranked by BM25F (Robertson and Zaragoza, "The Probabilistic
//! Relevance Framework: BM25 and Beyond", 2009).
//!
//! It is built from the articles whenever they are read. What that takes and what it finds is in `docs/knowledge.md`.

use std::collections::BTreeMap;

use domain::store::Bilingual;

use crate::table::HelpArticle;
use crate::terms::{Form, Term, terms};

/// How soon more occurrences of a term add no more: the larger, the later.
const K1: f32 = 1.2;

/// How much the length of a field lessens what is said in it: 0 not at all, 1 in proportion.
const B: f32 = 0.75;

/// What a term in the title counts.
const TITLE_WEIGHT: f32 = 2.0;

/// What a term in the keywords counts.
const KEYWORDS_WEIGHT: f32 = 2.0;

/// What a term in the body counts.
const BODY_WEIGHT: f32 = 1.0;

/// An article is about a question from this relevance on: a rare word that is all of the question reaches it, one among many
/// does not. Chosen by the train split of `tests/data/retrieval.tsv`.
pub const RELEVANCE_MIN: f32 = 1.8;

/// And from this share of the best score on.
const BEST_SHARE_MIN: f32 = 0.5;

/// A word that no article has is compared with those that differ from it in one letter from this length on, characters.
const MISSPELT_CHARS_MIN: usize = 4;

/// What such a word counts.
const MISSPELT_WEIGHT: f32 = 0.9;

/// The articles by their terms.
#[derive(Debug)]
pub struct KnowledgeIndex {
    articles: usize,
    /// The positions of the articles that have a term, and how much each of them says it.
    postings: BTreeMap<String, Vec<(usize, f32)>>,
}

/// An article that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its position among the articles.
    pub position: usize,
    /// How well it fits, compared with others.
    pub score: f32,
    /// How much of what the question tells is in the article: 0 nothing, 1 all.
    pub share: f32,
}

impl Hit {
    /// How certain it is that the article is about the question. The score alone does not say: a long question about something
    /// else collects more of it than a short one about the article.
    pub fn relevance(self) -> f32 {
        self.score * self.share
    }
}

/// A part of an article, and how often it says each term.
struct Field {
    weight: f32,
    counts: BTreeMap<String, f32>,
}

impl Field {
    fn of(article: &HelpArticle) -> [Self; 3] {
        [
            Self::new(TITLE_WEIGHT, whole(&article.title)),
            Self::new(KEYWORDS_WEIGHT, article.keywords.iter().flat_map(|keyword| shared(keyword))),
            Self::new(BODY_WEIGHT, whole(&article.body)),
        ]
    }

    fn new(weight: f32, terms: impl IntoIterator<Item = (Term, f32)>) -> Self {
        let mut counts = BTreeMap::new();
        for (term, count) in terms {
            *counts.entry(term.text).or_default() += count;
        }
        Self { weight, counts }
    }

    fn length(&self) -> f32 {
        self.counts.values().sum()
    }
}

/// The terms of a text, each for itself.
fn whole(text: &Bilingual) -> impl Iterator<Item = (Term, f32)> {
    terms(&text.ja).chain(terms(&text.en)).map(|term| (term, 1.0))
}

/// The terms of a keyword. Several words count as one together: what `pick the day` is about, `pick` is not.
fn shared(keyword: &str) -> impl Iterator<Item = (Term, f32)> {
    let terms: Vec<Term> = terms(keyword).collect();
    let words = terms.iter().filter(|term| term.form == Form::Word).count().max(1);
    terms.into_iter().map(move |term| (term, 1.0 / words as f32))
}

impl KnowledgeIndex {
    /// Reads the articles.
    pub fn new(articles: &[HelpArticle]) -> Self {
        let fields: Vec<[Field; 3]> = articles.iter().map(Field::of).collect();
        let mut mean_lengths = [0.0; 3];
        for article in &fields {
            for (mean_length, field) in mean_lengths.iter_mut().zip(article) {
                *mean_length += field.length() / articles.len() as f32;
            }
        }
        let mut postings: BTreeMap<String, Vec<(usize, f32)>> = BTreeMap::new();
        for (position, fields) in fields.iter().enumerate() {
            let mut said: BTreeMap<&str, f32> = BTreeMap::new();
            for (field, mean_length) in fields.iter().zip(mean_lengths) {
                let share = field.weight / (1.0 - B + B * field.length() / mean_length);
                for (term, count) in &field.counts {
                    *said.entry(term).or_default() += count * share;
                }
            }
            for (term, said) in said {
                postings.entry(term.to_owned()).or_default().push((position, said));
            }
        }
        Self { articles: articles.len(), postings }
    }

    /// The articles a question is about, best first; those that fit alike in their order.
    pub fn find(&self, question: &str) -> Vec<Hit> {
        let mut hits = self.rank(question);
        let best = hits.first().map_or(0.0, |hit| hit.score);
        hits.retain(|hit| hit.relevance() >= RELEVANCE_MIN && hit.score >= best * BEST_SHARE_MIN);
        hits
    }

    /// How many different terms the articles have.
    pub fn terms(&self) -> usize {
        self.postings.len()
    }

    /// Every article that has a term of the question, best first.
    fn rank(&self, question: &str) -> Vec<Hit> {
        let asked: BTreeMap<String, Form> = terms(question).map(|Term { text, form }| (text, form)).collect();
        let mut whole = 0.0;
        let mut hits: BTreeMap<usize, Hit> = BTreeMap::new();
        for (term, form) in &asked {
            let matching = self.matching(term, *form);
            if matching.is_empty() {
                whole += missing_weight(*form) * self.rarity(0);
            }
            for &(postings, weight) in &matching {
                let told = weight * self.rarity(postings.len());
                whole += told / matching.len() as f32;
                for &(position, said) in postings {
                    let hit = hits.entry(position).or_insert(Hit { position, score: 0.0, share: 0.0 });
                    hit.score += told * said * (K1 + 1.0) / (said + K1);
                    hit.share += told;
                }
            }
        }
        let mut hits: Vec<Hit> =
            hits.into_values().map(|hit| Hit { share: (hit.share / whole).min(1.0), ..hit }).collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.position.cmp(&b.position)));
        hits
    }

    /// Who has the term, or a word it may be a misspelling of, and what that counts.
    fn matching(&self, term: &str, form: Form) -> Vec<(&[(usize, f32)], f32)> {
        if let Some(postings) = self.postings.get(term) {
            return vec![(postings, weight(form))];
        }
        let letter = term.chars().next().filter(|_| form == Form::Word && term.chars().count() >= MISSPELT_CHARS_MIN);
        let Some(letter) = letter else { return Vec::new() };
        let alike = self.postings.range(letter.to_string()..).take_while(|(known, _)| known.starts_with(letter));
        let alike = alike.filter(|(known, _)| is_one_edit(term, known));
        alike.map(|(_, postings)| (postings.as_slice(), MISSPELT_WEIGHT)).collect()
    }

    /// The inverse document frequency of a term that so many articles have.
    fn rarity(&self, having: usize) -> f32 {
        let (all, having) = (self.articles as f32, having as f32);
        (1.0 + (all - having + 0.5) / (having + 0.5)).ln()
    }
}

/// What a term counts by its form: a run of Japanese has more terms than it has words.
fn weight(form: Form) -> f32 {
    match form {
        Form::Word | Form::KanjiPair | Form::Katakana => 1.0,
        Form::Kanji | Form::Inflected => 0.5,
        Form::KanaTriple => 0.4,
    }
}

/// What a term counts that no article has. Triples of kana mostly are grammar, and a run of katakana may be a word that the
/// articles write otherwise: its triples tell.
fn missing_weight(form: Form) -> f32 {
    match form {
        Form::KanaTriple => 0.0,
        Form::Katakana => 0.4,
        Form::Word | Form::KanjiPair | Form::Kanji | Form::Inflected => weight(form),
    }
}

/// Whether one word becomes the other by adding, dropping or changing one letter, or by swapping two neighbours.
fn is_one_edit(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let alike = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let (Some(a), Some(b)) = (a.get(alike..), b.get(alike..)) else { return false };
    match (a, b) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) if a == b => true,
        (a, [_, b @ ..]) if a == b => true,
        ([a1, a2, a @ ..], [b1, b2, b @ ..]) => a1 == b2 && a2 == b1 && a == b,
        _more => false,
    }
}
