//! What texts are compared by.

use crate::terms::{Form, terms};

#[track_caller]
fn check(text: &str, expected: &[(&str, Form)]) {
    let found: Vec<(String, Form)> = terms(text).map(|term| (term.text, term.form)).collect();
    let found: Vec<(&str, Form)> = found.iter().map(|(text, form)| (text.as_str(), *form)).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn japanese_is_read_by_pairs_and_triples() {
    check("送料", &[("送", Form::Kanji), ("料", Form::Kanji), ("送料", Form::KanjiPair)]);
    check("へんぴん", &[("へんぴ", Form::KanaTriple), ("んぴん", Form::KanaTriple)]);
    check("カード払い", &[("払", Form::Kanji), ("払い", Form::Inflected), ("カド", Form::Katakana)]);
    check("ｷﾞﾌﾄ", &[("ギフト", Form::Katakana), ("ぎふと", Form::KanaTriple)]);
}

#[test]
fn nothing_reaches_across_punctuation() {
    check("送。料", &[("送", Form::Kanji), ("料", Form::Kanji)]);
}

#[test]
fn words_lose_their_endings() {
    for words in
        ["return returns returned returning", "delivery deliveries deliver delivered", "charge charged charges"]
    {
        let stems: Vec<String> = terms(words).map(|term| term.text).collect();
        assert!(stems.windows(2).all(|pair| pair[0] == pair[1]), "{stems:?}");
    }
    check("cash", &[("cash", Form::Word)]);
}

#[test]
fn a_hyphen_parts_and_joins() {
    let found: Vec<String> = terms("pre-order").map(|term| term.text).collect();
    assert_eq!(found, ["pre", "order", "preorder"]);
    check("e-mail", &[("mail", Form::Word), ("email", Form::Word)]);
}

#[test]
fn numbers_and_grammar_are_no_terms() {
    check("3巻 100 MC-2026-000123 のですが do you have it", &[("mc", Form::Word)]);
    check("R18", &[("r18", Form::Word)]);
}
