//! Text as it is compared, however it was typed: in full or half width, in either kana, with long vowels drawn out, letters
//! doubled, punctuation, emoji and polite endings.

use unicode_normalization::UnicodeNormalization as _;

use super::phrases::{Kind, Phrases};
use crate::limits::TEXT_CHARS_MAX;

/// Parts the clauses of a text.
pub(super) const CLAUSE: char = '。';

/// Stand for what was recognised in a text: characters that no shopper can type, as [`readable`] drops them.
pub mod mark {
    /// An order's number.
    pub const ORDER: char = '\u{e000}';
    /// A volume's number.
    pub const VOLUME: char = '\u{e001}';
    /// An amount of money.
    pub const PRICE: char = '\u{e002}';
    /// A series.
    pub const TITLE: char = '\u{e003}';
    /// An author.
    pub const AUTHOR: char = '\u{e004}';

    /// Whether `char` is one of these.
    pub fn is(char: char) -> bool {
        (ORDER..=AUTHOR).contains(&char)
    }
}

/// How words are written in chats, and what they stand for. As they are after doubled letters have become one.
const WORDS: [(&str, &str); 48] = [
    ("arent", "are not"),
    ("cant", "can not"),
    ("canot", "can not"),
    ("couldnt", "could not"),
    ("didnt", "did not"),
    ("doesnt", "does not"),
    ("dont", "do not"),
    ("dunno", "do not know"),
    ("gimme", "give me"),
    ("gime", "give me"),
    ("gona", "going to"),
    ("gota", "got to"),
    ("hasnt", "has not"),
    ("havent", "have not"),
    ("heres", "here is"),
    ("hows", "how is"),
    ("im", "i am"),
    ("isnt", "is not"),
    ("ive", "i have"),
    ("lemme", "let me"),
    ("leme", "let me"),
    ("lets", "let us"),
    ("pls", "please"),
    ("plz", "please"),
    ("ppl", "people"),
    ("r", "are"),
    ("rec", "recommend"),
    ("reccs", "recommend"),
    ("recs", "recommend"),
    ("recomendation", "recommend"),
    ("recomendations", "recommend"),
    ("shouldnt", "should not"),
    ("smth", "something"),
    ("thats", "that is"),
    ("theres", "there is"),
    ("thx", "thanks"),
    ("tnx", "thanks"),
    ("ty", "thank you"),
    ("u", "you"),
    ("ur", "your"),
    ("wana", "want to"),
    ("wasnt", "was not"),
    ("whats", "what is"),
    ("whens", "when is"),
    ("wheres", "where is"),
    ("whos", "who is"),
    ("wont", "will not"),
    ("youre", "you are"),
];

/// Endings of words that say little, longest first, with the letters that must remain before them.
const SUFFIXES: [(&str, usize); 6] = [("ing", 3), ("ed", 4), ("s", 3), ("e", 4), ("y", 4), ("i", 4)];

/// A text as it was typed, in unified forms and lower case: NFKC, and no character that stands for a [`mark`]. At most
/// [`TEXT_CHARS_MAX`] characters.
pub(super) fn readable(text: &str) -> Vec<char> {
    let chars = text.nfkc().flat_map(char::to_lowercase);
    chars.map(|char| if mark::is(char) { ' ' } else { char }).take(TEXT_CHARS_MAX).collect()
}

/// A text as it is compared; see [`normal`]. Both have the same length.
#[derive(Debug, Clone, Default)]
pub struct Normal {
    /// With katakana as hiragana.
    pub(super) folded: Vec<char>,
    /// With kana as written.
    pub(super) written: Vec<char>,
}

/// The text without what does not change its meaning: width, case, the kind of kana, long vowels, doubled letters, emoji,
/// inflections of English words and polite endings. What ends a clause is `。`. The same for its own result.
pub fn normal(text: &str) -> String {
    let normal = Normal::of(readable(text));
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(&char) = normal.folded.get(at) {
        let polite = Phrases::STORE.at(&normal, at).filter(|found| found.kind == Kind::Polite);
        match polite.map(|found| found.chars).max() {
            Some(chars) => {
                push_clause(&mut out);
                at += chars;
            }
            None if char == CLAUSE => {
                push_clause(&mut out);
                at += 1;
            }
            None => {
                out.push(char);
                at += 1;
            }
        }
    }
    out.trim_matches([CLAUSE, ' ']).to_owned()
}

fn push_clause(out: &mut String) {
    while out.ends_with([CLAUSE, ' ']) {
        out.pop();
    }
    if !out.is_empty() {
        out.push(CLAUSE);
    }
}

impl Normal {
    /// A phrase as it is compared.
    pub fn of_text(text: &str) -> String {
        Self::of(readable(text)).folded.into_iter().collect()
    }

    /// Of characters in unified forms and lower case, or marks.
    pub fn of(chars: impl IntoIterator<Item = char>) -> Self {
        let mut folding = Folding::default();
        for char in chars {
            folding.push(char);
        }
        folding.end_word();
        while folding.out.folded.last() == Some(&CLAUSE) {
            folding.out.pop();
        }
        folding.out
    }

    fn push(&mut self, written: char, folded: char) {
        self.written.push(written);
        self.folded.push(folded);
    }

    fn pop(&mut self) {
        self.written.pop();
        self.folded.pop();
    }
}

#[derive(Default)]
struct Folding {
    out: Normal,
    /// The word that is being read.
    word: String,
    /// Something that is no letter came after the last.
    gap: bool,
    /// The last character stands for three and more of it.
    collapsed: bool,
}

impl Folding {
    fn push(&mut self, char: char) {
        match char {
            '\'' | '’' | '‘' | '`' | 'ʼ' => {}
            '。' | '!' | '?' | '、' | '\n' | ';' | '…' => {
                self.end_word();
                self.gap = false;
                if self.out.folded.last().is_some_and(|last| *last != CLAUSE) {
                    self.put(CLAUSE);
                }
            }
            'ー' | '〜' | '~' | '―' if self.after_kana() => {}
            _ if is_word_char(char) => {
                if self.gap {
                    self.end_word();
                }
                self.gap = false;
                if char.is_ascii_digit() || !self.word.ends_with(char) {
                    self.word.push(char);
                }
            }
            _ if char != 'ー' && (is_japanese(char) || mark::is(char) || char.is_alphanumeric()) => {
                self.end_word();
                self.gap = false;
                self.put(char);
            }
            _ => self.gap = true,
        }
    }

    fn after_kana(&self) -> bool {
        !self.gap && self.word.is_empty() && self.out.folded.last().is_some_and(|last| is_hiragana(*last))
    }

    /// Puts one character that is not of a word.
    fn put(&mut self, written: char) {
        let folded = hiragana(written);
        let last = self.out.folded.last().copied();
        if last.is_some_and(|last| prolongs(last, folded)) {
            return;
        }
        let same = last == Some(folded);
        if self.collapsed && same {
            return;
        }
        let before = self.out.folded.len().checked_sub(2).and_then(|at| self.out.folded.get(at));
        self.collapsed = same && before == Some(&folded);
        if self.collapsed {
            self.out.pop();
        } else {
            self.out.push(written, folded);
        }
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        let meant = meant(&word).or_else(|| meant(stem(&word))).unwrap_or(&word);
        for word in meant.split(' ') {
            if self.out.folded.last().is_some_and(|last| is_word_char(*last)) {
                self.out.push(' ', ' ');
            }
            for char in stem(word).chars() {
                // The long forms above have doubled letters.
                if char.is_ascii_digit() || self.out.folded.last() != Some(&char) {
                    self.out.push(char, char);
                }
            }
        }
        self.collapsed = false;
    }
}

/// What a word of chats stands for.
fn meant(word: &str) -> Option<&'static str> {
    let at = WORDS.binary_search_by_key(&word, |(short, _)| short).ok()?;
    WORDS.get(at).map(|(_, meant)| *meant)
}

/// A word without its endings.
fn stem(word: &str) -> &str {
    let mut stem = word;
    if !stem.is_ascii() || stem.contains(|char: char| char.is_ascii_digit()) {
        return stem;
    }
    while let Some(shorter) = SUFFIXES.iter().find_map(|(suffix, kept)| {
        let shorter = stem.strip_suffix(suffix)?;
        let keeps_s = *suffix == "s" && shorter.ends_with(['u', 'i']);
        (shorter.len() >= *kept && !keeps_s).then_some(shorter)
    }) {
        stem = shorter;
    }
    stem
}

/// Whether `next` only draws out the vowel of `last`: とう and と are often one word, ねぇ and ね always.
fn prolongs(last: char, next: char) -> bool {
    let rows = match next {
        'う' => "おこそとのほもよろごぞどぼぽょうくすつぬふむゆるぐずづぶぷゅ",
        'ぁ' => "あかさたなはまやらわがざだばぱゃ",
        'ぃ' => "いきしちにひみりぎじぢびぴ",
        'ぅ' => "うくすつぬむゆるぐずづぶぷゅ",
        'ぇ' => "えけせてねへめれげぜでべぺ",
        'ぉ' => "おこそとのほもよろごぞどぼぽょ",
        _ => return false,
    };
    rows.contains(last)
}

/// Latin letters and digits, and those of other scripts that are written in words with spaces between them.
pub fn is_word_char(char: char) -> bool {
    char < '\u{2e80}' && char.is_alphanumeric()
}

/// Katakana, with its iteration marks.
pub(super) fn is_katakana(char: char) -> bool {
    ('\u{30a1}'..='\u{30fe}').contains(&char)
}

pub(super) fn is_hiragana(char: char) -> bool {
    ('\u{3041}'..='\u{309f}').contains(&char)
}

pub(super) fn is_kanji(char: char) -> bool {
    char == '々' || ('\u{3400}'..='\u{9fff}').contains(&char)
}

/// The greater part of Japanese letters, quickly.
fn is_japanese(char: char) -> bool {
    matches!(char, 'ぁ'..='ゖ' | 'ァ'..='ヺ') || is_kanji(char)
}

fn hiragana(char: char) -> char {
    match char {
        'ァ'..='ヶ' => char::from_u32(u32::from(char) - 0x60).unwrap_or(char),
        _ => char,
    }
}
