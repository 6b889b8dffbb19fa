//! Search in two languages: which documents a question is about.
//!
//! A question is matched as it is typed, with no analysis of its grammar: phrases that name a document (titles, aliases,
//! authors, keywords) are looked for in it, and its telling words are looked for in the documents. Scores are whole numbers
//! and ties are broken by rank and position, so the same question always has the same answer.

use std::collections::{BTreeMap, HashSet};

use domain::store::Format;
use serde::Deserialize;

use crate::text::{Span, Text, is_hiragana, is_kanji, is_katakana, is_word_char};

/// What a word is worth that one document has; one that ten documents have is worth a tenth.
const RARE_WORD_SCORE: usize = 100;

/// What the name of a series' first genre is worth; that of its second half as much, and so on.
pub const GENRE_SCORE: usize = 150;

/// What a phrase is worth, beside its length.
const PHRASE_SCORE: usize = 200;

/// What each character of a phrase adds.
const PHRASE_CHAR_SCORE: usize = 10;

/// Part of a Japanese name is recognised from this length on, characters.
const PART_CHARS_MIN: usize = 4;

/// What follows a noun, and no verb's stem.
const NOUN_PARTICLES: [char; 5] = ['が', 'の', 'を', 'は', 'と'];

/// Below this share of the best score a document is left out, percent.
const SCORE_PERCENT_MIN: usize = 40;

/// Words a search treats specially.
#[derive(Debug, Clone, Deserialize)]
pub struct Vocabulary {
    /// By key.
    pub genres: BTreeMap<String, Genre>,
    /// Say nothing about what is looked for.
    stop_words: HashSet<String>,
}

/// A genre's names.
#[derive(Debug, Clone, Deserialize)]
pub struct Genre {
    /// As it is shown in Japanese; the key is the English name.
    pub ja: String,
    /// What shoppers call it, in both languages.
    words: Vec<String>,
}

impl Vocabulary {
    /// The store's.
    pub fn read() -> Result<Self, serde_json::Error> {
        serde_json::from_str(include_str!("../data/search.json"))
    }

    /// The genres that `text` names; 魔法少女 is not also 魔法.
    pub fn genres_in<'a>(&'a self, text: &Text) -> Vec<&'a str> {
        let words =
            self.genres.iter().flat_map(|(key, genre)| genre.words.iter().map(move |word| (key.as_str(), word)));
        let named: Vec<(&str, Span)> =
            words.filter_map(|(key, word)| Some((key, text.find(&Text::new(word))?))).collect();
        let outdone = |span: Span| named.iter().any(|(_, other)| other.outdoes(span));
        named.iter().filter(|(_, span)| !outdone(*span)).map(|(key, _)| *key).collect()
    }

    /// What is telling in a text: its words of three letters and more, its katakana words, its kanji by twos, and single ones
    /// that a particle marks as nouns.
    fn words(&self, text: &Text) -> HashSet<String> {
        let mut words = HashSet::new();
        let mut runs = runs(text.written()).peekable();
        while let Some(run) = runs.next() {
            let chars: Vec<char> = run.chars().collect();
            match chars.as_slice() {
                [first, ..] if is_word_char(*first) && chars.len() >= 3 && !self.stop_words.contains(run) => {
                    words.insert(stem(run).to_owned());
                }
                [first, _, ..] if is_katakana(*first) => {
                    words.insert(run.to_owned());
                }
                [first, _, ..] if is_kanji(*first) => {
                    words.extend(chars.windows(2).map(|pair| pair.iter().collect::<String>()));
                }
                [only] if is_kanji(*only) && runs.peek().is_some_and(|next| next.starts_with(NOUN_PARTICLES)) => {
                    words.insert(run.to_owned());
                }
                _ => {}
            }
        }
        words.retain(|word| !self.stop_words.contains(word) && !word.chars().all(|char| char.is_ascii_digit()));
        words
    }
}

/// A text in runs of one script.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    let kind = |char: char| (is_word_char(char), is_katakana(char), is_kanji(char), is_hiragana(char));
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|char| kind(char) != kind(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some(run)
    })
}

/// A word without its plural.
fn stem(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(stem) if stem.len() >= 3 && !stem.ends_with('s') => stem,
        _ => word,
    }
}

/// Something that can be found.
#[derive(Debug)]
pub struct Document {
    /// Its names.
    phrases: Vec<Text>,
    /// The words of its texts.
    words: HashSet<String>,
    /// The Japanese of its texts.
    japanese: String,
}

impl Document {
    /// A document that has `names` and says `texts`.
    pub fn new<'a>(
        vocabulary: &Vocabulary,
        names: impl IntoIterator<Item = &'a str>,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut phrases: Vec<Text> = names.into_iter().map(Text::new).collect();
        let in_one_word = phrases.iter().filter_map(Text::in_one_word).collect::<Vec<_>>();
        let mut words: HashSet<String> = phrases.iter().flat_map(|phrase| vocabulary.words(phrase)).collect();
        phrases.extend(in_one_word);
        let mut japanese = String::new();
        for text in texts.into_iter().map(Text::new) {
            words.extend(vocabulary.words(&text));
            japanese.push_str(text.written());
            japanese.push('\n');
        }
        Self { phrases, words, japanese }
    }

    /// The longest name of the document in `text`.
    pub fn named_in(&self, text: &Text) -> Option<Span> {
        let found = self.phrases.iter().filter_map(|phrase| Some((text.find(phrase)?, phrase.chars())));
        found.max_by_key(|&(_, chars)| chars).map(|(span, _)| span)
    }

    /// What the longest part of a name in `text` is worth, if it is more than half of the name, when it is not there as a whole.
    pub fn part_score(&self, vocabulary: &Vocabulary, text: &Text) -> usize {
        let said = vocabulary.words(text);
        let parts = self.phrases.iter().map(|phrase| {
            let shared = shared_chars(phrase.folded(), text.folded());
            let words = vocabulary.words(phrase);
            let known = words.intersection(&said).filter(|word| word.starts_with(is_word_char)).count();
            let by_words = if known * 2 > words.len() { phrase.chars() / 2 } else { 0 };
            let by_chars = if shared >= PART_CHARS_MIN && shared * 2 > phrase.chars() { shared } else { 0 };
            by_chars.max(by_words)
        });
        parts.max().filter(|chars| *chars > 0).map_or(0, |chars| PHRASE_SCORE + PHRASE_CHAR_SCORE * chars)
    }

    fn says(&self, word: &str) -> bool {
        self.words.contains(word) || !word.contains(is_word_char) && self.japanese.contains(word)
    }
}

/// The length of the longest run of Japanese that both texts have, characters.
fn shared_chars(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut longest = 0;
    let mut lengths = vec![0; b.len()];
    for left in a.chars() {
        let mut diagonal = 0;
        for (length, &right) in lengths.iter_mut().zip(&b) {
            let here = if left == right && !is_word_char(left) { diagonal + 1 } else { 0 };
            diagonal = std::mem::replace(length, here);
            longest = longest.max(here);
        }
    }
    longest
}

/// What each document is worth for `question` by the words they have in common, in the documents' order.
pub fn word_scores(vocabulary: &Vocabulary, documents: &[Document], question: &Text) -> Vec<usize> {
    let mut scores = vec![0; documents.len()];
    for word in vocabulary.words(question) {
        let saying: Vec<bool> = documents.iter().map(|document| document.says(&word)).collect();
        let count = saying.iter().filter(|says| **says).count();
        for (score, _) in scores.iter_mut().zip(&saying).filter(|(_, says)| **says) {
            *score += RARE_WORD_SCORE / count;
        }
    }
    scores
}

/// The positions of what scored at least `score_min` and not much less than the best, best first; equals by `rank`,
/// highest first, then by position.
pub fn best(scores: &[usize], score_min: usize, rank: impl Fn(usize) -> u32) -> Vec<usize> {
    let top = scores.iter().copied().max().unwrap_or_default();
    let score_min = score_min.max(top * SCORE_PERCENT_MIN / 100).max(1);
    let mut found: Vec<(usize, usize)> =
        scores.iter().copied().enumerate().filter(|&(_, score)| score >= score_min).collect();
    found.sort_by_key(|&(position, score)| (std::cmp::Reverse((score, rank(position))), position));
    found.into_iter().map(|(position, _)| position).collect()
}

/// Which of a series' products a question asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The volume.
    pub volume: Option<WantedVolume>,
    /// The form.
    pub format: Option<Format>,
}

/// Which volume a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedVolume {
    /// By number.
    Number(u32),
    /// The one that came out last.
    Newest,
}

/// After a bare number: it counts something else than volumes.
const COUNTERS: [char; 11] = ['冊', '円', '年', '月', '日', '話', '人', '回', '歳', '才', '部'];

const NEWEST: [&str; 9] = [
    "最新刊",
    "最新巻",
    "最終巻",
    "latest volume",
    "newest volume",
    "last volume",
    "final volume",
    "latest one",
    "newest one",
];
const DIGITAL: [&str; 7] = ["電子", "デジタル", "digital", "ebook", "e book", "ebooks", "kindle"];
const BOX_SET: [&str; 8] = ["ボックス", "セット", "全巻", "box set", "boxset", "box sets", "complete set", "full set"];
const PAPERBACK: [&str; 4] = ["紙の本", "紙版", "paperback", "print edition"];

/// Reads the wanted volume and form from a question in which a title stands at `title`, if one does.
pub fn wanted(question: &Text, title: Option<Span>) -> Wanted {
    let names = |words: &[&str]| words.iter().any(|word| question.find(&Text::new(word)).is_some());
    let format = if names(&DIGITAL) {
        Some(Format::Digital)
    } else if names(&BOX_SET) {
        Some(Format::BoxSet)
    } else if names(&PAPERBACK) {
        Some(Format::Paperback)
    } else {
        None
    };
    let number = match title {
        Some(span) => {
            let (before, after) = question.around(span);
            leading_number(after).or_else(|| volume_number(after)).or_else(|| volume_number(before))
        }
        None => volume_number(question.written()),
    };
    let newest = names(&NEWEST).then_some(WantedVolume::Newest);
    Wanted { volume: number.map(WantedVolume::Number).or(newest), format }
}

/// The number right after a title, unless it counts something else.
fn leading_number(text: &str) -> Option<u32> {
    let text = text.trim_start();
    let (number, after) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    if after.trim_start().starts_with(COUNTERS) { None } else { number.parse().ok() }
}

/// The first number that is said to be a volume's.
fn volume_number(text: &str) -> Option<u32> {
    let mut rest = text;
    let mut before = String::new();
    while let Some(start) = rest.find(|char: char| char.is_ascii_digit()) {
        let (skipped, found) = rest.split_at(start);
        let (number, after) = found.split_at(found.find(|char: char| !char.is_ascii_digit()).unwrap_or(found.len()));
        before.push_str(skipped);
        let lead = before.trim_end();
        let marked = ["vol", "volume", "第"].iter().any(|mark| lead.ends_with(mark));
        if (marked || after.trim_start().starts_with('巻')) && !lead.ends_with('全') {
            return number.parse().ok();
        }
        before.push_str(number);
        rest = after;
    }
    None
}
