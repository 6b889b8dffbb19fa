//! What the stand-in calls a token: a word with the space before it, or two characters of Japanese or of marks.

use crate::api::StopReason;

/// A longer word is several tokens.
const WORD_CHARS_MAX: usize = 16;
/// Characters that are not part of a word.
const OTHER_CHARS_MAX: usize = 2;
/// CJK and everything after it in Unicode is written without spaces.
const FIRST_CJK_CHAR: char = '\u{2E80}';

/// The tokens of `text`, in order: together they are the text, and each counts as one.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (token, after) = rest.split_at(first_token_bytes(rest));
        rest = after;
        (!token.is_empty()).then_some(token)
    })
}

/// How many tokens `text` is.
pub(crate) fn count(text: &str) -> u64 {
    split(text).map(|_| 1).sum()
}

/// `text` as it is said under the limits of a request, and why it ends there.
pub(crate) fn limited(text: &str, max_tokens: Option<usize>, stop_sequences: &[String]) -> (Vec<String>, StopReason) {
    let stop =
        stop_sequences.iter().filter(|sequence| !sequence.is_empty()).filter_map(|sequence| text.find(sequence)).min();
    let (text, reason) = match stop.and_then(|at| text.get(..at)) {
        Some(before) => (before, StopReason::StopSequence),
        None => (text, StopReason::EndTurn),
    };
    let mut tokens: Vec<String> = split(text).map(str::to_owned).collect();
    match max_tokens {
        Some(max) if tokens.len() > max => {
            tokens.truncate(max);
            (tokens, StopReason::MaxTokens)
        }
        Some(_) | None => (tokens, reason),
    }
}

fn first_token_bytes(text: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() && c < FIRST_CJK_CHAR;
    let space = text.len() - text.trim_start().len();
    let visible = text.trim_start();
    let starts_with_word = visible.starts_with(is_word);
    let chars_max = if starts_with_word { WORD_CHARS_MAX } else { OTHER_CHARS_MAX };
    let length: usize = visible
        .chars()
        .take(chars_max)
        .take_while(|c| !c.is_whitespace() && is_word(*c) == starts_with_word)
        .map(char::len_utf8)
        .sum();
    space + length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_pairs_of_characters() {
        let tokens: Vec<&str> = split("Hello, big\n\nworld。漫画の話 ").collect();
        assert_eq!(tokens, ["Hello", ",", " big", "\n\nworld", "。漫", "画の", "話", " "]);
    }

    #[test]
    fn a_word_at_the_limit_and_one_beyond() {
        assert_eq!(count(&"a".repeat(WORD_CHARS_MAX)), 1);
        assert_eq!(count(&"a".repeat(WORD_CHARS_MAX + 1)), 2);
    }

    #[test]
    fn limits_end_the_text() {
        let said = |max, stop: &[&str]| {
            let stop: Vec<String> = stop.iter().map(|s| (*s).to_owned()).collect();
            let (tokens, reason) = limited("one two three", max, &stop);
            (tokens.concat(), reason)
        };
        assert_eq!(said(None, &[]), ("one two three".to_owned(), StopReason::EndTurn));
        assert_eq!(said(Some(3), &[]), ("one two three".to_owned(), StopReason::EndTurn));
        assert_eq!(said(Some(2), &[]), ("one two".to_owned(), StopReason::MaxTokens));
        assert_eq!(said(Some(2), &[" three", ""]), ("one two".to_owned(), StopReason::StopSequence));
        assert_eq!(said(Some(1), &[" three", "two"]), ("one".to_owned(), StopReason::MaxTokens));
    }

    proptest! {
        #[test]
        fn tokens_are_the_text_and_each_is_one(text in "(\\PC|[ \n]|[a-z]{10,20}|[ぁ-ん]{1,3}){0,20}") {
            prop_assert_eq!(split(&text).collect::<String>(), text.clone());
            for token in split(&text) {
                prop_assert_eq!(count(token), 1);
            }
        }
    }
}
