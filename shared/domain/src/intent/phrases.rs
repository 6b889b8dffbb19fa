//! Phrases that are known: cues of intents, series, authors, genres and polite endings.
//!
//! `data/phrases.bin` is made of the tables beside it by `cargo run -p domain --example train_intents` and is read where it
//! lies: nothing is done at start.

use super::normal::{Normal, is_katakana, is_word_char};

/// Buckets of phrases by their first two characters.
pub const BUCKETS: usize = 4096;

/// Bytes of a phrase's record: where its text begins (u32), its length (u16), its kind, the [`third`] of its text, and what
/// it names (u16).
pub const RECORD_BYTES: usize = 10;

/// What a phrase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Said out of politeness.
    Polite,
    /// Tells what the shopper is after; names the cue.
    Cue,
    /// Names a genre.
    Genre,
    /// Names a series.
    Series,
    /// Names a series when it is in katakana: ナルト is a title, なると is grammar.
    SeriesInKatakana,
    /// Names an author.
    Author,
    /// Points at what the shopper looks at.
    This,
}

impl Kind {
    /// All, at the positions that records name.
    pub const ALL: [Kind; 7] =
        [Kind::Polite, Kind::Cue, Kind::Genre, Kind::Series, Kind::SeriesInKatakana, Kind::Author, Kind::This];
}

/// A phrase that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: Kind,
    /// What it names: a position among the names.
    pub name: u16,
    /// Its length.
    pub chars: usize,
}

/// A table of phrases. First the offsets of the buckets (u16, one more than there are buckets), then the number of names
/// (u16) and where each begins and the last ends (u32), then the number of phrases (u16) and their records by bucket, then all
/// texts. Little-endian; offsets of texts are from where the texts begin.
#[derive(Debug, Clone, Copy)]
pub struct Phrases<'a> {
    bytes: &'a [u8],
}

impl Phrases<'static> {
    /// The committed table.
    pub const STORE: Phrases<'static> = Phrases { bytes: include_bytes!("../../data/phrases.bin") };
}

impl<'a> Phrases<'a> {
    /// A table that was made.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn u16(self, at: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at + 2)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    }

    fn u32(self, at: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at + 4)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    }

    const NAMES: usize = (BUCKETS + 1) * 2;

    fn records(self) -> Option<usize> {
        Some(Self::NAMES + 2 + (self.u16(Self::NAMES)? + 1) * 4)
    }

    /// The text from `start` to `end`.
    fn text(self, start: usize, end: usize) -> Option<&'a str> {
        let records = self.records()?;
        let texts = records + 2 + self.u16(records)? * RECORD_BYTES;
        std::str::from_utf8(self.bytes.get(texts + start..texts + end)?).ok()
    }

    /// A name.
    pub fn name(self, name: u16) -> Option<&'a str> {
        let at = Self::NAMES + 2 + usize::from(name) * 4;
        self.text(self.u32(at)?, self.u32(at + 4)?)
    }

    /// The phrases that begin at `at`, in no particular order.
    pub fn at(self, text: &Normal, at: usize) -> impl Iterator<Item = Found> {
        self.begins(text, at).into_iter().flatten()
    }

    fn begins(self, text: &Normal, at: usize) -> Option<impl Iterator<Item = Found>> {
        let (first, second) = (text.folded.get(at)?, text.folded.get(at + 1)?);
        if is_word_char(*first) && before(&text.folded, at).is_some_and(is_word_char) {
            return None;
        }
        let bucket = bucket(*first, *second);
        let (start, end) = (self.u16(bucket * 2)?, self.u16(bucket * 2 + 2)?);
        let records = if start < end { self.records()? + 2 } else { 0 };
        Some((start..end).filter_map(move |record| self.match_at(records + record * RECORD_BYTES, text, at)))
    }

    fn match_at(self, record: usize, text: &Normal, at: usize) -> Option<Found> {
        let third_here = text.folded.get(at + 2).copied();
        let third_there = *self.bytes.get(record + 7)?;
        if third_there != 0 && third_there != third(third_here) {
            return None;
        }
        let start = self.u32(record)?;
        let phrase = self.text(start, start + self.u16(record + 4)?)?;
        let rest = text.folded.get(at..)?;
        let mut chars = 0;
        for char in phrase.chars() {
            if rest.get(chars) != Some(&char) {
                return None;
            }
            chars += 1;
        }
        let after = rest.get(chars).copied();
        if phrase.ends_with(is_word_char) && after.is_some_and(is_word_char) {
            return None;
        }
        let kind = *Kind::ALL.get(usize::from(*self.bytes.get(record + 6)?))?;
        let name = u16::try_from(self.u16(record + 8)?).ok()?;
        let in_katakana = || {
            let written = text.written.get(at..at + chars).unwrap_or_default();
            let joined = before(&text.written, at).is_some_and(is_katakana)
                || text.written.get(at + chars).copied().is_some_and(is_katakana);
            written.iter().all(|char| is_katakana(*char)) && !joined
        };
        (kind != Kind::SeriesInKatakana || in_katakana()).then_some(Found { kind, name, chars })
    }
}

fn before(chars: &[char], at: usize) -> Option<char> {
    chars.get(at.checked_sub(1)?).copied()
}

/// What is compared first of the third character of a phrase, none or 0 if it has only two.
pub fn third(char: Option<char>) -> u8 {
    char.map_or(0, |char| u32::from(char).to_le_bytes()[0])
}

/// The bucket of phrases that begin with these characters.
pub fn bucket(first: char, second: char) -> usize {
    let mixed = u32::from(first).wrapping_mul(0x9e37_79b1) ^ u32::from(second).wrapping_mul(0x85eb_ca6b);
    usize::try_from(mixed.wrapping_mul(0xc2b2_ae35) >> 20).unwrap_or_default()
}
