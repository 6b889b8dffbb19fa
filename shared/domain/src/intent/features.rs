//! What is telling in a message: its words, runs of characters, and the cues that stand in it together.

use super::entities::{Entities, bare_volume, recognise};
use super::normal::{CLAUSE, Normal, is_kanji, is_word_char, mark, readable};
use super::phrases::{Kind, Phrases};

/// Cues of one message that are looked at in pairs.
const CUES_MAX: usize = 16;

/// What a cue counts, when a word or run of characters counts 1.
const CUE_VALUE: u8 = 2;

/// The longest runs of Japanese characters that are told.
const RUN_CHARS_MAX: usize = 4;

/// Cues that are no phrases, above the numbers of those that are.
const GENRE_CUE: u16 = 0xff00;
const LENGTH_CUE: u16 = 0xff10;
const MARK_CUE: u16 = 0xff20;

/// A message that was read: what it names, and the rest.
#[derive(Debug, Default)]
pub struct Reading {
    /// What it names.
    pub entities: Entities,
    /// The [`Normal`] text with a mark for what it names and without politeness.
    plain: Vec<char>,
    /// The cues in it, each once, in order of their first.
    cues: Vec<u16>,
}

/// Something telling, hashed, and what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feature {
    /// Tells it from others.
    pub hash: u32,
    /// What it counts.
    pub value: u8,
}

impl Reading {
    /// Reads a message; one `about_product` calls that product "this".
    pub fn of(text: &str, about_product: bool, phrases: Phrases<'_>) -> Self {
        let (entities, marked) = recognise(&readable(text));
        let text = Normal::of(marked);
        let mut reading = Self { entities, plain: Vec::with_capacity(text.folded.len()), cues: Vec::new() };
        let (mut series, mut author, mut genre) = (None, None, None);
        let mut at = 0;
        while let Some(&char) = text.folded.get(at) {
            // The longest that stands for itself; cues may overlap it and each other.
            let mut longest = None;
            for found in phrases.at(&text, at) {
                match found.kind {
                    Kind::Cue => reading.add_cue(found.name),
                    Kind::Genre => {
                        if genre.is_none_or(|(_, chars)| chars < found.chars) {
                            genre = Some((found.name, found.chars));
                        }
                        reading.add_cue(GENRE_CUE);
                    }
                    Kind::This if !about_product => {}
                    Kind::Polite | Kind::This | Kind::Series | Kind::SeriesInKatakana | Kind::Author => {
                        if longest.is_none_or(|(_, chars, _)| chars < found.chars) {
                            longest = Some((found.kind, found.chars, found.name));
                        }
                    }
                }
            }
            let Some((kind, chars, name)) = longest else {
                if mark::is(char) {
                    reading.add_mark(char);
                } else {
                    reading.plain.push(char);
                }
                at += 1;
                continue;
            };
            at += chars;
            match kind {
                Kind::Author => {
                    author = author.or(Some(name));
                    reading.add_mark(mark::AUTHOR);
                }
                Kind::Series | Kind::SeriesInKatakana => {
                    series = series.or(Some(name));
                    reading.add_mark(mark::TITLE);
                    let after = text.folded.get(at..).unwrap_or_default();
                    reading.entities.volume = reading.entities.volume.or_else(|| bare_volume(after));
                }
                Kind::This => reading.add_mark(mark::TITLE),
                Kind::Polite | Kind::Cue | Kind::Genre => reading.plain.push(CLAUSE),
            }
        }
        let name = |name: u16| phrases.name(name).map(str::to_owned);
        let title = series.and_then(name);
        reading.entities.title = title.or(reading.entities.title);
        reading.entities.author = author.and_then(name);
        reading.entities.genre = genre.and_then(|(genre, _)| name(genre));
        let length = reading.length();
        reading.add_cue(LENGTH_CUE + length);
        reading
    }

    /// Whether nothing was said but politeness.
    pub fn is_empty(&self) -> bool {
        self.plain.iter().all(|char| *char == CLAUSE || *char == ' ')
    }

    fn add_mark(&mut self, mark: char) {
        self.plain.push(mark);
        let offset = u32::from(mark) - u32::from(mark::ORDER);
        self.add_cue(MARK_CUE + u16::try_from(offset).unwrap_or_default());
    }

    fn add_cue(&mut self, cue: u16) {
        if self.cues.len() < CUES_MAX && !self.cues.contains(&cue) {
            self.cues.push(cue);
        }
    }

    /// How much is said beside what is named: nothing, one word, a few, more, a lot.
    fn length(&self) -> u16 {
        let mut in_word = false;
        let mut halves = 0;
        for &char in &self.plain {
            let is_word = is_word_char(char);
            if is_word && !in_word {
                halves += 2;
            } else if !is_word && char.is_alphanumeric() {
                halves += 1;
            }
            in_word = is_word;
        }
        match halves {
            0 => 0,
            1..=3 => 1,
            4..=8 => 2,
            9..=30 => 3,
            _ => 4,
        }
    }

    /// Calls `tell` with everything telling; the same may come more than once.
    pub fn features(&self, mut tell: impl FnMut(Feature)) {
        let mut last_token = 0;
        let mut at = 0;
        let mut word: Vec<u32> = Vec::with_capacity(32);
        while let Some(&char) = self.plain.get(at) {
            if is_word_char(char) {
                word.clear();
                word.push(u32::from(' '));
                let rest = self.plain.get(at..).unwrap_or_default();
                word.extend(rest.iter().take_while(|char| is_word_char(**char)).map(|char| u32::from(*char)));
                at += word.len() - 1;
                word.push(u32::from(' '));
                let token = hash('w', &word);
                tell(Feature { hash: hash('1', &[token]), value: 1 });
                tell(Feature { hash: hash('2', &[last_token, token]), value: 1 });
                last_token = token;
                for part in word.windows(4) {
                    tell(Feature { hash: hash('l', part), value: 1 });
                }
            } else if char == ' ' {
                at += 1;
            } else {
                let rest = self.plain.get(at..).unwrap_or_default();
                let run = rest.iter().take(RUN_CHARS_MAX).take_while(|char| **char != ' ' && !is_word_char(**char));
                let tells_alone = is_kanji(char) || mark::is(char);
                let mut hashed = begin('j');
                for (position, char) in run.enumerate() {
                    hashed = mix(hashed, u32::from(*char));
                    if position > 0 || tells_alone {
                        tell(Feature { hash: end(hashed), value: 1 });
                    }
                }
                last_token = if mark::is(char) || char == CLAUSE { u32::from(char) } else { 1 };
                at += 1;
            }
        }
        for (position, cue) in self.cues.iter().enumerate() {
            let cue = u32::from(*cue);
            tell(Feature { hash: hash('c', &[cue]), value: CUE_VALUE });
            for other in self.cues.iter().skip(position + 1) {
                let other = u32::from(*other);
                tell(Feature { hash: hash('p', &[cue.min(other), cue.max(other)]), value: 1 });
            }
        }
    }
}

/// FNV-1a of what a feature is and what it is made of.
fn hash(kind: char, parts: &[u32]) -> u32 {
    end(parts.iter().fold(begin(kind), |hash, part| mix(hash, *part)))
}

fn begin(kind: char) -> u32 {
    mix(0x811c_9dc5, u32::from(kind))
}

fn mix(hash: u32, part: u32) -> u32 {
    (hash ^ part).wrapping_mul(0x0100_0193)
}

/// Mixes the upper bits, which choose the bucket.
fn end(hash: u32) -> u32 {
    (hash ^ hash >> 15).wrapping_mul(0x9e37_79b1)
}
