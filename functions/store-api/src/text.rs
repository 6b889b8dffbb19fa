//! Text as it is compared: Japanese and English, however it was typed.

use unicode_normalization::UnicodeNormalization as _;

/// A text made of kana only and shorter than this is compared as it was written, katakana with katakana: `ナルト` is a
/// title, `なると` is grammar.
const KANA_FOLDED_CHARS_MIN: usize = 5;

/// A text prepared for comparison. Compatibility forms are unified, case and long vowel marks are gone, punctuation
/// and spaces remain as one space where they part words, and nowhere else. `#3` becomes `第3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// With the script as written.
    written: String,
    /// With katakana as hiragana, at the same positions.
    folded: String,
}

/// Where a phrase stands in a [`Text`], bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub start: usize,
    /// One after the last.
    pub end: usize,
}

impl Span {
    /// Whether `other` lies within and is shorter.
    pub fn outdoes(self, other: Span) -> bool {
        self.start <= other.start && other.end <= self.end && self.length() > other.length()
    }

    fn length(self) -> usize {
        self.end - self.start
    }
}

impl Text {
    /// Prepares a text.
    pub fn new(raw: &str) -> Self {
        let mut written = String::with_capacity(raw.len());
        let mut gap = false;
        for char in raw.nfkc().flat_map(char::to_lowercase) {
            match char {
                'ー' | '〜' | '~' | '\'' | '’' => {}
                '#' => written.push('第'),
                _ if char.is_alphanumeric() => {
                    if gap && is_word_char(char) && written.ends_with(is_word_char) {
                        written.push(' ');
                    }
                    written.push(char);
                    gap = false;
                }
                _ => gap = true,
            }
        }
        let folded = written.chars().map(hiragana).collect();
        Self { written, folded }
    }

    /// With the script as written.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// With katakana as hiragana.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Characters.
    pub fn chars(&self) -> usize {
        self.folded.chars().count()
    }

    /// Whether the text has nothing but kana, and little of it.
    fn is_short_kana(&self) -> bool {
        self.chars() < KANA_FOLDED_CHARS_MIN && self.written.chars().all(|char| is_hiragana(char) || is_katakana(char))
    }

    /// The text without its spaces, if it has any: `onepiece`.
    pub fn in_one_word(&self) -> Option<Text> {
        let joined = |text: &str| text.replace(' ', "");
        self.written.contains(' ').then(|| Self { written: joined(&self.written), folded: joined(&self.folded) })
    }

    /// Where `phrase` first stands in this text as words of its own.
    pub fn find(&self, phrase: &Text) -> Option<Span> {
        if phrase.folded.is_empty() {
            return None;
        }
        if self.folded == phrase.folded {
            return Some(Span { start: 0, end: self.folded.len() });
        }
        let (haystack, needle) =
            if phrase.is_short_kana() { (&self.written, &phrase.written) } else { (&self.folded, &phrase.folded) };
        let mut spans =
            haystack.match_indices(needle.as_str()).map(|(start, _)| Span { start, end: start + needle.len() });
        spans.find(|span| {
            let before = haystack.get(..span.start).and_then(|text| text.chars().next_back());
            let after = haystack.get(span.end..).and_then(|text| text.chars().next());
            !joined(before, needle.chars().next(), phrase) && !joined(needle.chars().next_back(), after, phrase)
        })
    }

    /// The text without what is in `span`: what stands before it, and what stands after it.
    pub fn around(&self, span: Span) -> (&str, &str) {
        (self.written.get(..span.start).unwrap_or_default(), self.written.get(span.end..).unwrap_or_default())
    }
}

/// Whether two neighbours belong to one word, so that a phrase that ends between them is only a part of it.
fn joined(left: Option<char>, right: Option<char>, phrase: &Text) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return false };
    let digits = left.is_ascii_digit() && right.is_ascii_digit();
    let letters = is_word_char(left) && is_word_char(right) && left.is_ascii_digit() == right.is_ascii_digit();
    digits || letters || phrase.is_short_kana() && is_katakana(left) && is_katakana(right)
}

/// Latin letters and digits: what is written in words with spaces between them.
pub fn is_word_char(char: char) -> bool {
    char.is_alphanumeric() && char < '\u{2e80}'
}

/// Katakana, with its iteration and combining marks.
pub fn is_katakana(char: char) -> bool {
    ('\u{30a1}'..='\u{30fe}').contains(&char)
}

/// Hiragana.
pub fn is_hiragana(char: char) -> bool {
    ('\u{3041}'..='\u{309f}').contains(&char)
}

/// Chinese characters and their iteration mark.
pub fn is_kanji(char: char) -> bool {
    char == '々' || ('\u{3400}'..='\u{9fff}').contains(&char) || ('\u{20000}'..='\u{3ffff}').contains(&char)
}

fn hiragana(char: char) -> char {
    match char {
        'ァ'..='ヶ' => char::from_u32(u32::from(char) - 0x60).unwrap_or(char),
        _ => char,
    }
}
