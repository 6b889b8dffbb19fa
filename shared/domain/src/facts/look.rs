//! A place in an answer, and what can be asked about what stands there.

use super::phrases;
use crate::limits::{FACT_CHARS_MAX, FACT_CONTEXT_CHARS};

/// What comes after the last character.
pub(super) const END: char = '\0';

/// What has been said so far does not tell.
#[derive(Debug)]
pub(super) struct Undecided;

/// An answer as far as it is known, looked at from one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look<'a> {
    chars: &'a [char],
    /// Where a fact may begin.
    pub(super) from: usize,
    /// Where looking ahead ends.
    until: usize,
    ended: bool,
}

impl<'a> Look<'a> {
    pub(super) fn new(chars: &'a [char], from: usize, ended: bool) -> Self {
        Self { chars, from, until: from.saturating_add(FACT_CHARS_MAX), ended }
    }

    /// A text that is known to its end.
    pub(super) fn whole(chars: &'a [char], from: usize) -> Self {
        Self::new(chars, from, true)
    }

    /// A look from another place that ends where this one does.
    pub(super) fn moved(self, from: usize) -> Self {
        Self { from, ..self }
    }

    /// The character at a place; [`END`] where the answer or looking ahead ends.
    pub(super) fn at(&self, at: usize) -> Result<char, Undecided> {
        match self.chars.get(at) {
            _ if at >= self.until => Ok(END),
            Some(character) => Ok(*character),
            None if self.ended => Ok(END),
            None => Err(Undecided),
        }
    }

    /// The character before a place; a space at the beginning.
    pub(super) fn before(&self, at: usize) -> char {
        at.checked_sub(1).and_then(|at| self.chars.get(at)).copied().unwrap_or(' ')
    }

    /// Whether a fact may begin here, quickly: not within a word or a number.
    pub(super) fn may_begin(&self) -> bool {
        let Some(&next) = self.chars.get(self.from) else { return false };
        match next {
            'a'..='z' if self.before(self.from).is_ascii_alphanumeric() => false,
            'a'..='z' => match self.chars.get(self.from..self.from + 3) {
                Some(&[first, second, third]) => phrases::may_begin([first, second, third]),
                Some(_) | None => true,
            },
            '0'..='9' | '$' => true,
            ' '..='~' => false,
            _ => is_first(next),
        }
    }

    /// Where `text` ends if it stands at a place. A space of it is also found as a hyphen.
    pub(super) fn literal(&self, at: usize, text: &str) -> Result<Option<usize>, Undecided> {
        let mut end = at;
        for wanted in text.chars() {
            let found = self.at(end)?;
            if found != wanted && !(wanted == ' ' && found == '-') {
                return Ok(None);
            }
            end += 1;
        }
        Ok(Some(end))
    }

    /// Where the first of `texts` that stands at a place ends.
    pub(super) fn any(&self, at: usize, texts: &[&str]) -> Result<Option<usize>, Undecided> {
        let first = self.at(at)?;
        for text in texts.iter().filter(|text| text.starts_with([first, ' '])) {
            if let Some(end) = self.literal(at, text)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// The same for English, where a word ends with its last letter.
    pub(super) fn any_word(&self, at: usize, words: &[&str]) -> Result<Option<usize>, Undecided> {
        let first = self.at(at)?;
        for word in words.iter().filter(|word| word.starts_with([first, ' '])) {
            if let Some(end) = self.literal(at, word)?
                && !self.at(end)?.is_ascii_alphanumeric()
            {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// After one of `texts` if any stands at a place, else the place.
    pub(super) fn skip(&self, at: usize, texts: &[&str]) -> Result<usize, Undecided> {
        Ok(self.any(at, texts)?.unwrap_or(at))
    }

    /// Whether a claim in Japanese ends here: with a full stop, or as one of `endings` goes on.
    pub(super) fn closes(&self, at: usize, endings: &[&str]) -> Result<bool, Undecided> {
        Ok(matches!(self.at(at)?, END | '。' | '、' | '!' | '.' | ',' | '\n' | ')' | ' ')
            || self.any(at, endings)?.is_some())
    }

    /// Where the sentence begins that is going on, [`FACT_CONTEXT_CHARS`] back at the most.
    pub(super) fn sentence_start(&self) -> usize {
        let earliest = self.from.saturating_sub(FACT_CONTEXT_CHARS);
        let back = self.chars.get(earliest..self.from).unwrap_or_default();
        let ends = |(at, character): &(usize, &char)| match character {
            '。' | '!' | '?' | '\n' => true,
            '.' => {
                back.get(at + 1).is_none_or(|next| *next == ' ')
                    && !is_abbreviation(back.get(..*at).unwrap_or_default())
            }
            _ => false,
        };
        back.iter().enumerate().rev().find(ends).map_or(earliest, |(at, _)| earliest + at + 1)
    }

    /// The sentence so far.
    pub(super) fn sentence(&self) -> String {
        self.between(self.sentence_start())
    }

    /// The sentence so far, from its last comma or colon on.
    pub(super) fn clause(&self) -> String {
        let mut sentence = self.sentence();
        let start = sentence.rfind([',', ';', ':']).map_or(0, |at| at + 1);
        sentence.split_off(start)
    }

    /// The end of the sentence so far.
    pub(super) fn tail(&self, chars: usize) -> String {
        self.between(self.from.saturating_sub(chars).max(self.sentence_start()))
    }

    /// Whether the sentence so far ends with one of `texts`.
    pub(super) fn follows(&self, texts: &[&str]) -> bool {
        const CHARS_MAX: usize = 18;
        let tail = self.tail(CHARS_MAX);
        texts.iter().any(|text| tail.ends_with(text))
    }

    /// The sentence so far and what was before it, [`FACT_CONTEXT_CHARS`] in all.
    pub(super) fn context(&self) -> String {
        self.between(self.from.saturating_sub(FACT_CONTEXT_CHARS))
    }

    fn between(&self, start: usize) -> String {
        self.chars.get(start..self.from).unwrap_or_default().iter().collect()
    }
}

/// Whether facts begin with it, of what is not ASCII.
fn is_first(character: char) -> bool {
    matches!(
        character,
        '¥' | '€'
            | '£'
            | '半'
            | '税'
            | '〇'
            | '零'
            | '一'
            | '二'
            | '三'
            | '四'
            | '五'
            | '六'
            | '七'
            | '八'
            | '九'
            | '十'
            | '百'
            | '千'
            | '万'
            | '億'
            | '数'
            | '何'
            | '在'
            | '品'
            | '売'
            | '完'
            | '欠'
            | '入'
            | '残'
            | 'あ'
            | 'ラ'
            | '明'
            | '本'
            | '今'
            | '来'
            | '発'
            | '出'
            | '配'
            | '輸'
            | 'お'
            | '返'
            | 'キ'
            | '支'
            | '到'
            | '届'
            | '準'
            | '処'
            | '手'
    )
}

/// Whether a dot after this ends no sentence.
fn is_abbreviation(before: &[char]) -> bool {
    ["vol", "vols", "no", "mr", "mrs", "ms", "dr", "nov", "dec", "jan", "feb", "aug", "sep", "sept", "oct"].iter().any(
        |short| {
            let start = before.len().checked_sub(short.len());
            start.is_some_and(|start| {
                before.iter().skip(start).copied().eq(short.chars())
                    && start
                        .checked_sub(1)
                        .and_then(|at| before.get(at))
                        .is_none_or(|left| !left.is_ascii_alphanumeric())
            })
        },
    )
}

/// Whether one of `words` is in an English text as a word of its own.
pub(super) fn has_word(text: &str, words: &[&str]) -> bool {
    let inside = |at: Option<u8>| at.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let bytes = text.as_bytes();
    words.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            !inside(at.checked_sub(1).and_then(|at| bytes.get(at)).copied())
                && !inside(bytes.get(at + word.len()).copied())
        })
    })
}

/// A character as it is compared: narrow, in lower case, one of each kind of dash, space and quote.
pub(super) fn fold(character: char) -> char {
    let narrow = match character {
        '\u{ff01}'..='\u{ff5e}' => {
            u32::from(character).checked_sub(0xfee0).and_then(char::from_u32).unwrap_or(character)
        }
        '\u{a0}' | '\u{2002}'..='\u{200a}' | '\u{202f}' | '\u{3000}' | '\t' => ' ',
        '\u{ffe5}' => '¥',
        '〜' => '~',
        '‐'..='―' | '−' => '-',
        '’' | '‘' => '\'',
        '“' | '”' => '"',
        '、' | '。' => return character,
        _ => character,
    };
    narrow.to_ascii_lowercase()
}
