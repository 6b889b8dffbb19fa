//! Instructions to the model that hide in texts: in a shopper's message, or in what the store's services answer.
//!
//! A text is read as a person would see it (`normal`), the words that matter are picked out of it (`terms`), and rules
//! say which of them, in which order and how close to each other, are an instruction (`rules`). `Ignore` is none,
//! `ignore the previous instructions` is one.
//!
//! This recognises the attacks that are copied from page to page, in Japanese and English and with the usual disguises. It
//! cannot recognise one that is phrased anew, told in another language or spread over several messages. It is one layer:
//! the escaping of store data keeps a text from leaving its element, the rules tell the model to take nothing in it as an
//! instruction, and Bedrock's guardrail looks at what goes in and comes out.

mod normal;
mod rules;
mod terms;

use std::borrow::Cow;

/// How much a text looks like it instructs the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    /// As ordinary texts do.
    None,
    /// It speaks to a model or about its instructions. A shopper may do that; in the store's data it is out of place.
    Possible,
    /// It asks to set the rules aside or to tell them, or pretends to be somebody else's turn to speak.
    Likely,
}

/// How much `text` looks like it instructs the model. Linear in its length.
pub fn suspicion(text: &str) -> Suspicion {
    let normal = normal::normalise(text);
    let terms = terms::find(&normal);
    let spelled_out = if terms::is_spelled_out(&normal) { Suspicion::Likely } else { Suspicion::None };
    rules::judge(&terms).max(spelled_out)
}

/// Whether a shopper's message is an attack on the model, rather than a question that speaks of rules or systems.
pub fn is_attack(message: &str) -> bool {
    suspicion(message) == Suspicion::Likely
}

/// A text of the store without the sentences that carry instructions. Owned if any was left out; empty if what is wrong
/// with it cannot be told from the rest.
pub fn without_instructions(text: &str) -> Cow<'_, str> {
    if suspicion(text) == Suspicion::None {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut dropped = false;
    for sentence in sentences(text) {
        dropped = suspicion(sentence) > Suspicion::None || dropped && goes_on(sentence);
        if !dropped {
            kept.push_str(sentence);
        }
    }
    if suspicion(&kept) > Suspicion::None {
        kept.clear();
    }
    Cow::Owned(kept)
}

/// Whether a sentence goes on with the instruction before it.
fn goes_on(sentence: &str) -> bool {
    const WORDS: [&str; 12] = [
        "instead",
        "then ",
        "now ",
        "and ",
        "also",
        "after that",
        "代わりに",
        "そして",
        "次に",
        "また",
        "その後",
        "さらに",
    ];
    let normal = normal::normalise(sentence);
    let start: String = normal.iter().skip_while(|character| !character.is_alphanumeric()).take(12).collect();
    WORDS.iter().any(|word| start.starts_with(word))
}

/// The sentences of a text, each with its end and the space after it.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (sentence, after) = rest.split_at(sentence_bytes(rest));
        rest = after;
        Some(sentence)
    })
}

fn sentence_bytes(text: &str) -> usize {
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let next = characters.peek().map(|(_, next)| *next);
        let ends = match character {
            '。' | '！' | '？' | '!' | '?' => true,
            '.' | '．' => next.is_none_or(char::is_whitespace),
            '\n' => next == Some('\n'),
            _ => false,
        };
        if ends {
            let end = at + character.len_utf8();
            let space = text.get(end..).map_or(0, |after| after.len() - after.trim_start().len());
            return end + space;
        }
    }
    text.len()
}
