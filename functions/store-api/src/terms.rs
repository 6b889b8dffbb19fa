//! What texts are compared by: words where there are spaces between them, pairs and triples of characters where there are none.
//!
//! | of | terms | for example |
//! |---|---|---|
//! | Latin words | the word without its ending | `returned` → `return` |
//! | kanji | each, and each two neighbours | `送料` → `送`, `料`, `送料` |
//! | kanji before hiragana | both | `届く` → `届く` |
//! | katakana | each run | `カード払い` → `カド` |
//! | kana | each three neighbours, as hiragana | `へんぴん` → `へんぴ`, `んぴん` |
//!
//! To part Japanese into words would take a dictionary of several megabytes. Pairs and triples find as much in short texts,
//! and know every new word.

use std::collections::HashSet;
use std::sync::LazyLock;

use crate::text::{Text, is_hiragana, is_kanji, is_katakana, is_word_char};

/// With so many digits a word is a number: `r18` is none, `mc2026` is.
const DIGITS_MAX: usize = 3;

/// What remains of a word without its ending, characters.
const STEM_CHARS_MIN: usize = 3;

/// What tells nothing: grammar, and what is said of every book. Latin words as they are written, of Japanese the terms.
static STOPPED: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let words = include_str!("../data/stop_words.txt").split_whitespace().map(Text::new);
    words
        .flat_map(|word| japanese(&word).map(|term| term.text).chain([word.written().to_owned()]).collect::<Vec<_>>())
        .collect()
});

/// How telling a term is by its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A Latin word.
    Word,
    /// Two kanji.
    KanjiPair,
    /// One kanji: what `返品` and `返す` have in common.
    Kanji,
    /// A kanji and the hiragana after it: verbs and adjectives.
    Inflected,
    /// A run of katakana, which mostly is one word.
    Katakana,
    /// Three kana, in hiragana whatever they were written in.
    KanaTriple,
}

/// A term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// As it is compared.
    pub text: String,
    /// What it is.
    pub form: Form,
}

/// The terms of a text, in no particular order, each as often as the text has it.
pub fn terms(text: &str) -> impl Iterator<Item = Term> {
    let parts = text.split(|char: char| char.is_whitespace() || "。、！？「」（）・…".contains(char));
    parts.flat_map(|part| {
        let text = Text::new(part);
        let told = japanese(&text).filter(|term| !STOPPED.contains(&term.text));
        told.chain(words(&text)).collect::<Vec<_>>()
    })
}

/// What is written without spaces.
fn japanese(text: &Text) -> impl Iterator<Item = Term> {
    let kanji = runs(text.written(), is_kanji);
    let kanji = kanji.flat_map(|run| neighbours(run, 1, Form::Kanji).chain(neighbours(run, 2, Form::KanjiPair)));
    let katakana = runs(text.written(), is_katakana).map(|run| Term { text: run.to_owned(), form: Form::Katakana });
    // A few katakana have no hiragana and stay what they are.
    let kana = runs(text.folded(), |char| is_hiragana(char) || is_katakana(char));
    kanji
        .chain(inflected(text.written()))
        .chain(katakana)
        .chain(kana.flat_map(|run| neighbours(run, 3, Form::KanaTriple)))
}

/// What is written in words. `pre-order` is also `preorder`, and `e-mail` is `email`.
fn words(text: &Text) -> impl Iterator<Item = Term> {
    runs(text.written(), |char| is_word_char(char) || char == ' ').flat_map(|run| {
        let joined = run.contains(' ').then(|| run.replace(' ', ""));
        run.split(' ').filter_map(word).chain(joined.as_deref().and_then(word)).collect::<Vec<_>>()
    })
}

/// The longest pieces of which every character is of one kind.
fn runs(text: &str, of_kind: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |char| !of_kind(char)).filter(|run| !run.is_empty())
}

/// Each kanji with the hiragana after it.
fn inflected(text: &str) -> impl Iterator<Item = Term> {
    let pairs = text.chars().zip(text.chars().skip(1));
    let pairs = pairs.filter(|&(first, second)| is_kanji(first) && is_hiragana(second));
    pairs.map(|(first, second)| Term { text: [first, second].iter().collect(), form: Form::Inflected })
}

fn neighbours(run: &str, count: usize, form: Form) -> impl Iterator<Item = Term> {
    let chars: Vec<char> = run.chars().collect();
    let texts: Vec<String> = chars.windows(count).map(|chars| chars.iter().collect()).collect();
    texts.into_iter().map(move |text| Term { text, form })
}

/// A word as a term. Single letters are none, nor are numbers: they count volumes, name years and orders.
fn word(word: &str) -> Option<Term> {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let tells = word.chars().nth(1).is_some() && digits < DIGITS_MAX.min(word.len()) && !STOPPED.contains(word);
    tells.then(|| Term { text: stem(word), form: Form::Word })
}

/// A word without the endings English puts on it: `deliveries`, `delivered`, `delivery` and `deliver` are one. What remains need
/// not be a word.
fn stem(word: &str) -> String {
    let mut stem = word;
    for endings in [&["ies", "es", "s"][..], &["ments", "ment", "ings", "ing", "ed"], &["e", "y"]] {
        let mut shorter = endings.iter().filter_map(|ending| stem.strip_suffix(ending));
        stem = shorter.find(|shorter| shorter.chars().count() >= STEM_CHARS_MIN).unwrap_or(stem);
    }
    let mut chars = stem.chars().rev();
    match (chars.next(), chars.next()) {
        (Some(last), Some(before)) if last == before && !last.is_ascii_digit() => {
            stem.strip_suffix(last).unwrap_or(stem).to_owned()
        }
        _ => stem.to_owned(),
    }
}
