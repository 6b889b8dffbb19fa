//! What a message names: orders, a title, a volume, an author, a genre, a price.

use std::ops::RangeInclusive;

use super::normal::{is_kanji, mark};
use crate::limits::{ORDERS_NAMED_MAX, PRICE_YEN_MAX, TITLE_CHARS_MAX, VOLUME_MAX};

/// What a message names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entities {
    /// Order numbers as the store writes them, `MC-2026-000123`; the first [`ORDERS_NAMED_MAX`].
    pub order_ids: Vec<String>,
    /// A series: the English title of one that is known, else the words that stand in quotes, at most [`TITLE_CHARS_MAX`]
    /// characters.
    pub title: Option<String>,
    /// A volume's number, at most [`VOLUME_MAX`].
    pub volume: Option<u32>,
    /// The English name of an author who is known.
    pub author: Option<String>,
    /// The key of a genre of the store.
    pub genre: Option<String>,
    /// What a product may cost.
    pub price: Option<PriceRange>,
}

/// From one price to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriceRange {
    /// The least, yen.
    pub min_yen: Option<u32>,
    /// The most, yen; at most [`PRICE_YEN_MAX`].
    pub max_yen: Option<u32>,
}

/// Something recognised in a text, and how long it is, characters.
type Recognised<T> = Option<(T, usize)>;

/// Characters between two words, or parts of a number.
const JOINTS: [char; 13] = ['-', '‐', '‑', '‒', '–', '—', '―', '−', 'ー', '_', '/', '.', ' '];

/// Between the ends of a range.
const TO: [&str; 11] = ["〜", "~", "-", "–", "—", "ー", "から", "より", "to", "and", "&"];

/// After an amount, what makes it the most.
const AT_MOST_AFTER: [&str; 16] = [
    "以下",
    "以内",
    "いか",
    "いない",
    "まで",
    "より安",
    "より下",
    "を切",
    "しない",
    "or less",
    "or under",
    "or below",
    "or cheaper",
    "max",
    "at most",
    "tops",
];

/// After an amount, what makes it the least.
const AT_LEAST_AFTER: [&str; 7] = ["以上", "より高", "から", "or more", "or over", "and up", "+"];

/// After or before an amount, what leaves some room.
const ABOUT: [&str; 10] = ["くらい", "ぐらい", "位", "前後", "程度", "ほど", "around", "about", "roughly", "約"];

/// Before an amount, what makes it the most.
const AT_MOST_BEFORE: [&str; 17] = [
    "under",
    "below",
    "less than",
    "at most",
    "up to",
    "max",
    "maximum",
    "within",
    "cheaper than",
    "no more than",
    "not more than",
    "budget of",
    "budget is",
    "budget",
    "予算",
    "予算は",
    "<",
];

/// Before an amount, what makes it the least.
const AT_LEAST_BEFORE: [&str; 6] = ["over", "above", "more than", "at least", "from", ">"];

/// Behind a number without a unit, what leaves it an amount of money.
const AFTER_AMOUNT: [&str; 12] =
    ["please", "pls", "plz", "each", "total", "in", "for", "and", "or", "if", "per", "that"];

/// Behind a number and a space, words (as they are compared) that make it a count and not a volume's number.
const COUNTED_THINGS: [&str; 12] =
    ["copi", "cop", "book", "volum", "vol", "set", "yen", "chapter", "day", "year", "week", "time"];

/// Behind a number of volumes, what makes it a count and not one volume's number.
const COUNTED: [&str; 15] = [
    "以内",
    "以下",
    "以上",
    "未満",
    "くらい",
    "ぐらい",
    "程度",
    "ほど",
    "前後",
    "分",
    "完結",
    "セット",
    "ずつ",
    "しか",
    "だけ",
];

const NUMBER_WORDS: [(&str, u32); 32] = [
    ("one", 1),
    ("two", 2),
    ("three", 3),
    ("four", 4),
    ("five", 5),
    ("six", 6),
    ("seven", 7),
    ("eight", 8),
    ("nine", 9),
    ("ten", 10),
    ("eleven", 11),
    ("twelve", 12),
    ("thirteen", 13),
    ("fourteen", 14),
    ("fifteen", 15),
    ("sixteen", 16),
    ("seventeen", 17),
    ("eighteen", 18),
    ("nineteen", 19),
    ("twenty", 20),
    ("thirty", 30),
    ("first", 1),
    ("second", 2),
    ("third", 3),
    ("fourth", 4),
    ("fifth", 5),
    ("sixth", 6),
    ("seventh", 7),
    ("eighth", 8),
    ("ninth", 9),
    ("tenth", 10),
    ("twelfth", 12),
];

/// Finds what has a form of its own in a [`readable`](super::normal::readable) text, and gives the text with a mark in the
/// place of each.
pub(super) fn recognise(text: &[char]) -> (Entities, Vec<char>) {
    let mut entities = Entities::default();
    let mut marked = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&char) = text.get(at) {
        let starts = at.checked_sub(1).and_then(|at| text.get(at)).is_none_or(|before| !is_ascii_alphanumeric(*before));
        let cursor = Cursor { text, at };
        // What cannot begin anything below is passed over quickly.
        let begins = starts && (is_ascii_alphanumeric(char) || is_numeral(char) || matches!(char, '第' | '#' | '¥'));
        if !begins {
            if entities.title.is_none()
                && let Some(title) = cursor.quoted()
            {
                entities.title = Some(title);
                marked.push(mark::TITLE);
            }
            marked.push(char);
            at += 1;
        } else if let Some((order_id, length)) = cursor.order_id() {
            if entities.order_ids.len() < ORDERS_NAMED_MAX && !entities.order_ids.contains(&order_id) {
                entities.order_ids.push(order_id);
            }
            marked.push(mark::ORDER);
            at += length;
        } else if let Some((volume, length)) = cursor.volume() {
            entities.volume = entities.volume.or(Some(volume));
            marked.push(mark::VOLUME);
            at += length;
        } else if let Some((price, length)) = cursor.price() {
            entities.price = entities.price.or(Some(price));
            marked.push(mark::PRICE);
            at += length;
        } else {
            // The rest of a word or number begins nothing.
            let rest = text.get(at + 1..).unwrap_or_default();
            let same = |other: &char| {
                char.is_ascii_alphabetic() && other.is_ascii_alphabetic()
                    || char.is_ascii_digit() && other.is_ascii_digit()
            };
            let length = 1 + rest.iter().take_while(|other| same(other)).count();
            marked.extend(text.get(at..at + length).unwrap_or_default());
            at += length;
        }
    }
    (entities, marked)
}

/// The volume that stands right behind a title, without a word that says so: "naruto 3".
pub(super) fn bare_volume(after_title: &[char]) -> Option<u32> {
    let cursor = Cursor { text: after_title, at: 0 };
    let cursor = cursor.skip(cursor.spaces());
    let (volume, digits) = cursor.digits()?;
    let next = cursor.skip(digits).char();
    let counts =
        next.is_some_and(|next| is_ascii_alphanumeric(next) || "円冊年歳才人月日時つ話千万枚点個割セ".contains(next));
    let after = cursor.skip(digits);
    let counts = counts || after.skip(after.spaces()).one_of(&COUNTED_THINGS).is_some();
    (!counts && volume <= VOLUME_MAX).then_some(volume)
}

#[derive(Clone, Copy)]
struct Cursor<'a> {
    text: &'a [char],
    at: usize,
}

impl Cursor<'_> {
    fn char(self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn skip(self, chars: usize) -> Self {
        Self { at: self.at + chars, ..self }
    }

    fn rest(&self) -> &[char] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn before(&self) -> &[char] {
        self.text.get(..self.at).unwrap_or_default()
    }

    /// The length of `word` if it stands here, a Latin one as a whole word.
    fn word(self, word: &str) -> Option<usize> {
        let mut length = 0;
        for char in word.chars() {
            if self.rest().get(length) != Some(&char) {
                return None;
            }
            length += 1;
        }
        let goes_on = word.ends_with(|char: char| char.is_ascii_alphabetic())
            && self.rest().get(length).is_some_and(char::is_ascii_alphabetic);
        (!goes_on).then_some(length)
    }

    fn one_of(self, words: &[&str]) -> Option<usize> {
        words.iter().filter_map(|word| self.word(word)).max()
    }

    fn spaces(self) -> usize {
        self.rest().iter().take(2).take_while(|char| **char == ' ').count()
    }

    /// Whether one of `words` stands before here, with or without a space between.
    fn follows(self, words: &[&str]) -> bool {
        let before = self.before();
        let end = before.iter().rposition(|char| *char != ' ').map_or(0, |last| last + 1);
        words.iter().any(|word| {
            let start = end.checked_sub(word.chars().count());
            let start = start.filter(|start| {
                Cursor { at: *start, ..self }.rest().iter().copied().zip(word.chars()).all(|(a, b)| a == b)
            });
            start.is_some_and(|start| {
                let latin = word.starts_with(|char: char| char.is_ascii_alphabetic());
                let joined = start.checked_sub(1).and_then(|at| before.get(at)).is_some_and(char::is_ascii_alphabetic);
                !(latin && joined)
            })
        })
    }

    /// A title in quotes that open here. What an error says is quoted, too, but is no title.
    fn quoted(self) -> Option<String> {
        let closing = match self.char()? {
            '「' => '」',
            '『' => '』',
            '《' => '》',
            '“' => '”',
            '"' => '"',
            _ => return None,
        };
        let rest = self.rest().get(1..)?;
        let length = rest.iter().take(TITLE_CHARS_MAX + 1).position(|char| *char == closing)?;
        let title: String = rest.get(..length)?.iter().collect();
        let title = title.trim();
        let after = self.skip(length + 2);
        let is_said = after
            .one_of(&["と出", "って出", "と表示", "って表示", "と言", "って言", "というエラー", "エラー", "error"])
            .is_some();
        (title.contains(char::is_alphanumeric) && !is_said).then(|| title.to_owned())
    }

    /// An order's number, as `MC-2026-000123` or with other joints or none.
    fn order_id(self) -> Recognised<String> {
        let mut cursor = self.skip(self.word_start("mc")?);
        cursor = cursor.skip(cursor.joint());
        let year = cursor.exactly(4)?;
        cursor = cursor.skip(4);
        cursor = cursor.skip(cursor.joint());
        let number = cursor.exactly(6)?;
        cursor = cursor.skip(6);
        let ends = cursor.char().is_none_or(|next| !is_ascii_alphanumeric(next));
        ends.then(|| (format!("MC-{year}-{number}"), cursor.at - self.at))
    }

    /// The length of `word` if it stands here, whatever follows it.
    fn word_start(self, word: &str) -> Option<usize> {
        let length = word.chars().count();
        self.rest().iter().copied().take(length).eq(word.chars()).then_some(length)
    }

    fn joint(self) -> usize {
        self.rest().iter().take(2).take_while(|char| JOINTS.contains(char)).count()
    }

    fn exactly(self, digits: usize) -> Option<String> {
        let digits = self.rest().get(..digits)?;
        digits.iter().all(char::is_ascii_digit).then(|| digits.iter().collect())
    }

    /// A number in ASCII digits, with or without commas between thousands.
    fn digits(self) -> Recognised<u32> {
        let mut value: u32 = 0;
        let mut length = 0;
        let rest = self.rest();
        while let Some(&char) = rest.get(length) {
            match char.to_digit(10) {
                Some(digit) => value = value.checked_mul(10)?.checked_add(digit)?,
                None if char == ',' && length > 0 && self.skip(length + 1).exactly(3).is_some() => {}
                None => break,
            }
            length += 1;
        }
        (length > 0).then_some((value, length))
    }

    /// A number: digits, Chinese numerals or both, as in 3千 and 1万5千.
    fn number(self) -> Recognised<u32> {
        let (mut total, mut below, mut length) = (0u32, 0u32, 0);
        let mut digit: Option<u32> = None;
        while let Some(char) = self.skip(length).char() {
            if let Some((value, chars)) = self.skip(length).digits() {
                digit = Some(value);
                length += chars;
                continue;
            }
            match (char, char_digit(char)) {
                (_, Some(value)) => digit = Some(digit.unwrap_or(0).checked_mul(10)?.checked_add(value)?),
                ('十', _) => below = below.checked_add(digit.take().unwrap_or(1).checked_mul(10)?)?,
                ('百', _) => below = below.checked_add(digit.take().unwrap_or(1).checked_mul(100)?)?,
                ('千', _) => below = below.checked_add(digit.take().unwrap_or(1).checked_mul(1_000)?)?,
                ('万', _) => {
                    let tens = below.checked_add(digit.take().unwrap_or(u32::from(below == 0)))?;
                    total = total.checked_add(tens.checked_mul(10_000)?)?;
                    below = 0;
                }
                _ => break,
            }
            length += 1;
        }
        let value = total.checked_add(below)?.checked_add(digit.unwrap_or(0))?;
        (length > 0).then_some((value, length))
    }

    /// A number as English writes it.
    fn spelled(self) -> Recognised<u32> {
        NUMBER_WORDS.iter().find_map(|(word, value)| Some((*value, self.word(word)?)))
    }

    /// A volume: 第3巻, 三巻目, vol. 3, volume three, #3, third volume.
    fn volume(self) -> Recognised<u32> {
        let (volume, length) = self.volume_in_japanese().or_else(|| self.volume_in_english())?;
        (volume <= VOLUME_MAX).then_some((volume, length))
    }

    fn volume_in_japanese(self) -> Recognised<u32> {
        let start = self.skip(usize::from(self.char() == Some('第')));
        let start = start.skip(start.spaces());
        let (volume, digits) = start.number()?;
        let unit = start.skip(digits);
        let unit = unit.skip(unit.spaces());
        let end = unit.skip(unit.one_of(&["巻目", "巻", "かん", "冊目", "カン"])?);
        let after = end.skip(end.spaces());
        let counted = self.follows(&["全", "計", "約", "合計"]) || after.one_of(&COUNTED).is_some();
        (!counted).then_some((volume, end.at - self.at))
    }

    fn volume_in_english(self) -> Recognised<u32> {
        let named = self.one_of(&["volume", "volumes", "vol", "vols", "book", "tome", "bk", "v", "#"]);
        if let Some(word) = named {
            let number = self.skip(word);
            let number = number.skip(number.rest().iter().take_while(|char| matches!(char, ' ' | '.' | '#')).count());
            let (volume, length) = number.digits().or_else(|| number.spelled())?;
            let end = number.skip(length);
            return end.char().is_none_or(|next| !next.is_ascii_alphabetic()).then_some((volume, end.at - self.at));
        }
        let ordinal = self.spelled().filter(|_| self.char().is_some_and(|char| char.is_ascii_alphabetic()));
        let (volume, length) = ordinal.or_else(|| {
            let (volume, digits) = self.digits()?;
            let suffix = self.skip(digits).one_of(&["st", "nd", "rd", "th"])?;
            Some((volume, digits + suffix))
        })?;
        let unit = self.skip(length);
        let unit = unit.skip(unit.spaces());
        let end = unit.skip(unit.one_of(&["volume", "vol", "book", "tankobon"])?);
        Some((volume, end.at - self.at))
    }

    /// An amount in yen, and whether a sign or word says so.
    fn amount(self) -> Recognised<(u32, bool)> {
        let signed = self.one_of(&["¥", "jpy", "yen"]).unwrap_or(0);
        let start = self.skip(signed);
        let start = start.skip(start.spaces());
        let (mut value, digits) = start.number()?;
        let mut end = start.skip(digits);
        if let Some(thousand) = end.word("k") {
            value = value.checked_mul(1_000)?;
            end = end.skip(thousand);
        }
        let spaces = end.spaces();
        let unit = end.skip(spaces).one_of(&["円", "えん", "エン", "yen", "jpy", "¥"]);
        end = end.skip(unit.map_or(0, |unit| spaces + unit));
        let value = value.min(PRICE_YEN_MAX);
        Some(((value, signed > 0 || unit.is_some()), end.at - self.at))
    }

    /// What a product may cost: 1000円以下, 500〜1000円, under 1,000 yen.
    fn price(self) -> Recognised<PriceRange> {
        let ((low, in_yen), length) = self.amount()?;
        let end = self.skip(length);
        if let Some((high, longer)) = end.range_end(in_yen || self.follows(&["between"])) {
            let range: RangeInclusive<u32> = low.min(high)..=low.max(high);
            let price = PriceRange { min_yen: Some(*range.start()), max_yen: Some(*range.end()) };
            return Some((price, length + longer));
        }
        let at_most_before = self.follows(&AT_MOST_BEFORE);
        let after = end.skip(end.spaces());
        let counts = end.char().is_some_and(|next| is_ascii_alphanumeric(next) || is_kanji(next) || next == '%')
            || after.char().is_some_and(|next| next.is_ascii_alphabetic()) && after.one_of(&AFTER_AMOUNT).is_none();
        if !in_yen && (!at_most_before || low < 100 || counts) {
            return None;
        }
        let about = after.one_of(&ABOUT);
        let after = after.skip(about.unwrap_or(0));
        let only = |min_yen, max_yen| PriceRange { min_yen, max_yen };
        let price = if after.word("台").is_some() {
            let mut unit = 1;
            while low / unit >= 10 {
                unit *= 10;
            }
            only(Some(low), Some(low + unit - 1))
        } else if after.one_of(&["未満", "みまん"]).is_some() {
            only(None, Some(low.saturating_sub(1)))
        } else if after.one_of(&AT_MOST_AFTER).is_some() || at_most_before {
            only(None, Some(low))
        } else if after.one_of(&AT_LEAST_AFTER).is_some() || self.follows(&AT_LEAST_BEFORE) {
            only(Some(low), None)
        } else if about.is_some() || self.follows(&ABOUT) {
            only(Some(low - low / 5), Some(low.saturating_add(low / 5)))
        } else {
            only(Some(low), Some(low))
        };
        Some((price, length))
    }

    /// The other end of a range of prices.
    fn range_end(self, in_yen: bool) -> Recognised<u32> {
        let joint = self.skip(self.spaces());
        let joint = joint.skip(joint.one_of(&TO)?);
        let start = joint.skip(joint.spaces());
        let ((high, high_in_yen), length) = start.amount()?;
        let end = start.skip(length);
        let counts = end.char().is_some_and(|next| !high_in_yen && (is_kanji(next) || next.is_ascii_alphabetic()));
        ((in_yen || high_in_yen) && !counts).then_some((high, end.at - self.at))
    }
}

fn is_ascii_alphanumeric(char: char) -> bool {
    char.is_ascii_alphanumeric()
}

/// Whether a Chinese numeral begins a number.
fn is_numeral(char: char) -> bool {
    char_digit(char).is_some() || matches!(char, '十' | '百' | '千' | '万')
}

fn char_digit(char: char) -> Option<u32> {
    "〇一二三四五六七八九".chars().position(|digit| digit == char).and_then(|value| u32::try_from(value).ok())
}
