//! Numbers, amounts of money and discounts.

use super::Kind;
use super::look::{Look, Undecided};
use super::phrases::Sort;

/// What a text states, to compare with what another states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Amount {
    /// Hundredths of a currency.
    Money(Currency, u64),
    /// Hundredths of a per cent.
    Discount(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Currency {
    Yen,
    Dollar,
    Euro,
    Pound,
}

/// An amount, or from one to another.
#[derive(Debug)]
pub(super) struct Stated {
    pub(super) end: usize,
    pub(super) kind: Kind,
    pub(super) amounts: [Option<Amount>; 2],
    /// Hundreds of yen: nobody else can have said the same.
    pub(super) vague: bool,
}

/// A number in any way of writing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    pub(super) end: usize,
    hundredths: u64,
    vague: bool,
}

const NUMBER_WORDS: [(&str, u64); 29] = [
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
    ("forty", 40),
    ("fifty", 50),
    ("sixty", 60),
    ("seventy", 70),
    ("eighty", 80),
    ("ninety", 90),
    ("hundred", 100),
    ("thousand", 1_000),
];

/// A number while it is read: what is complete, the part below the next 万 or thousand, and its last digits.
#[derive(Default)]
struct Reading {
    total: u64,
    section: u64,
    digits: Option<u64>,
}

impl Reading {
    fn times(&mut self, unit: u64) {
        self.section = self.section.saturating_add(self.digits.take().unwrap_or(100).saturating_mul(unit));
    }

    fn times_all(&mut self, unit: u64) {
        let below = self.section.saturating_add(self.digits.take().unwrap_or(0));
        self.total = self.total.saturating_add(if below == 0 { 100 } else { below }.saturating_mul(unit));
        self.section = 0;
    }

    fn hundredths(&self) -> u64 {
        self.total.saturating_add(self.section).saturating_add(self.digits.unwrap_or(0))
    }
}

impl Look<'_> {
    /// The number at a place: 1,200, 千二百, 1万2千, twelve hundred, 1.2k.
    pub(super) fn number(&self, at: usize) -> Result<Option<Number>, Undecided> {
        let first = self.at(at)?;
        if first.is_ascii_alphabetic() { self.spelled_number(at) } else { self.written_number(at) }
    }

    fn written_number(&self, at: usize) -> Result<Option<Number>, Undecided> {
        let mut reading = Reading::default();
        let mut vague = false;
        let mut end = at;
        loop {
            let next = self.at(end)?;
            match next {
                '0'..='9' => {
                    let (after, hundredths) = self.digits(end)?;
                    reading.digits = Some(hundredths);
                    end = after;
                    continue;
                }
                '十' => reading.times(10),
                '百' => reading.times(100),
                '千' => reading.times(1_000),
                '万' => reading.times_all(10_000),
                '億' => reading.times_all(100_000_000),
                '数' | '何' => vague = true,
                _ => match kanji_digit(next) {
                    Some(digit) => {
                        let before = reading.digits.unwrap_or(0);
                        reading.digits = Some(before.saturating_mul(10).saturating_add(digit * 100));
                    }
                    None => break,
                },
            }
            end += 1;
        }
        if end == at {
            return Ok(None);
        }
        let mut number = Number { end, hundredths: reading.hundredths(), vague };
        for (word, times) in [("k", 1_000), (" thousand", 1_000), (" million", 1_000_000), (" billion", 1_000_000_000)]
        {
            if let Some(end) = self.any_word(end, &[word])? {
                number = Number { end, hundredths: number.hundredths.saturating_mul(times), ..number };
            }
        }
        Ok(Some(number))
    }

    /// A run of digits with separators between them, hundredths.
    fn digits(&self, at: usize) -> Result<(usize, u64), Undecided> {
        let mut value = 0_u64;
        let mut decimals = None;
        let mut end = at;
        loop {
            let next = self.at(end)?;
            match next.to_digit(10) {
                Some(digit) => match &mut decimals {
                    None => value = value.saturating_mul(10).saturating_add(u64::from(digit) * 100),
                    Some(worth) => {
                        *worth /= 10;
                        value = value.saturating_add(u64::from(digit) * *worth);
                    }
                },
                None if matches!(next, ',' | '.') && self.at(end + 1)?.is_ascii_digit() => {
                    if next == '.' {
                        decimals = Some(100);
                    }
                }
                None => return Ok((end, value)),
            }
            end += 1;
        }
    }

    fn spelled_number(&self, at: usize) -> Result<Option<Number>, Undecided> {
        let mut reading = Reading::default();
        let mut end = None;
        let mut next = at;
        while let Some((after, value)) = self.number_word(next)? {
            match value {
                100 => {
                    let digits = reading.digits.take().unwrap_or(100);
                    reading.digits = Some(digits.saturating_mul(100));
                }
                1_000 => reading.times_all(1_000),
                value => reading.digits = Some(reading.digits.unwrap_or(0).saturating_add(value * 100)),
            }
            end = Some(after);
            next = self.skip(after, &[" and ", " "])?;
        }
        Ok(end.map(|end| Number { end, hundredths: reading.hundredths(), vague: false }))
    }

    fn number_word(&self, at: usize) -> Result<Option<(usize, u64)>, Undecided> {
        let Some(end) = self.phrase(at, Sort::Number)? else { return Ok(None) };
        for (word, value) in NUMBER_WORDS {
            if self.literal(at, word)? == Some(end) {
                return Ok(Some((end, value)));
            }
        }
        Ok(None)
    }

    /// The amount of money or the discount at a place.
    pub(super) fn stated(&self, at: usize) -> Result<Option<Stated>, Undecided> {
        let next = self.at(at)?;
        match next {
            '半' => return self.half(at, &["半額"]),
            'h' => {
                if let Some(half) = self.half(at, &["half price", "half off"])? {
                    return Ok(Some(half));
                }
            }
            _ => {}
        }
        let taxed =
            if next == '税' { self.any(at, &["税込み", "税込", "税抜き", "税抜", "税別"])? } else { None };
        let start = match taxed {
            Some(end) => self.skip(end, &["で", "価格", ":", " "])?,
            None => at,
        };
        let (start, sign) = self.sign(start)?;
        let Some(number) = self.number(start)? else { return Ok(None) };
        let mut last = number;
        if let Some(other) = self.any(number.end, &["~", "-", " - ", " to ", "から"])? {
            let (other, _) = self.sign(other)?;
            last = self.number(other)?.unwrap_or(number);
        }
        let numbers = [number, last];
        if let Some(stated) = self.money(sign, &numbers, at)? {
            return Ok(Some(stated));
        }
        match sign {
            // The number before a hyphen may have the unit: 500-page, 12円-style.
            None if last.end != number.end => match self.money(None, &[number, number], at)? {
                Some(stated) => Ok(Some(stated)),
                None => self.discount(&numbers),
            },
            None => self.discount(&numbers),
            Some(_) => Ok(None),
        }
    }

    fn half(&self, at: usize, words: &[&str]) -> Result<Option<Stated>, Undecided> {
        let end = self.any(at, words)?;
        Ok(end.map(|end| Stated {
            end,
            kind: Kind::Discount,
            amounts: [Some(Amount::Discount(5_000)), None],
            vague: false,
        }))
    }

    /// The currency that stands before an amount, and where the amount begins.
    fn sign(&self, at: usize) -> Result<(usize, Option<Currency>), Undecided> {
        const SIGNS: [(&[&str], Currency); 4] = [
            (&["¥", "jpy"], Currency::Yen),
            (&["$", "us$", "usd"], Currency::Dollar),
            (&["€", "eur"], Currency::Euro),
            (&["£", "gbp"], Currency::Pound),
        ];
        if !matches!(self.at(at)?, '¥' | '$' | '€' | '£' | 'j' | 'u' | 'e' | 'g') {
            return Ok((at, None));
        }
        for (signs, currency) in SIGNS {
            if let Some(end) = self.any(at, signs)? {
                return Ok((self.skip(end, &[" "])?, Some(currency)));
            }
        }
        Ok((at, None))
    }

    /// What the numbers are with the unit after the last of them.
    fn money(&self, sign: Option<Currency>, numbers: &[Number; 2], at: usize) -> Result<Option<Stated>, Undecided> {
        let [first, last] = numbers;
        let spaced = self.skip(last.end, &[" "])?;
        let unit = match self.unit(spaced)? {
            Some((end, currency)) => Some((end, currency)),
            None => match sign {
                Some(currency) => Some((last.end, currency)),
                None if first.end == last.end && self.is_bare_price(at, first)? => Some((last.end, Currency::Yen)),
                None => None,
            },
        };
        let Some((end, currency)) = unit else { return Ok(None) };
        // 関東一円 is a region, and 一円を笑う者 a saying.
        if last.end == at + 1 && self.at(at)? == '一' {
            return Ok(None);
        }
        let end = self
            .skip(end, &["(税込)", "(税込み)", "(税抜)", "(税抜き)", "(税別)", "(tax included)", " (tax included)"])?;
        let amount = |number: &Number| Some(Amount::Money(currency, number.hundredths));
        let amounts = [amount(first), amount(last)];
        Ok(Some(Stated { end, kind: Kind::Price, amounts, vague: first.vague || last.vague }))
    }

    fn unit(&self, at: usize) -> Result<Option<(usize, Currency)>, Undecided> {
        const WORDS: [(&[&str], Currency); 3] = [
            (&["yen", "jpy"], Currency::Yen),
            (&["dollars", "dollar", "bucks", "usd"], Currency::Dollar),
            (&["euros", "euro", "eur"], Currency::Euro),
        ];
        match self.at(at)? {
            // 円盤, 円卓 and the like are no money.
            '円' => {
                let more =
                    matches!(self.at(at + 1)?, '盤' | '玉' | '札' | '卓' | '形' | '環' | '陣' | '周' | '筒' | '柱');
                return Ok((!more).then_some((at + 1, Currency::Yen)));
            }
            '¥' => return Ok(Some((at + 1, Currency::Yen))),
            '€' => return Ok(Some((at + 1, Currency::Euro))),
            'ド' | 'ユ' => {
                for (text, currency) in [("ドル", Currency::Dollar), ("ユーロ", Currency::Euro)] {
                    if let Some(end) = self.literal(at, text)? {
                        return Ok((!is_katakana(self.at(end)?)).then_some((end, currency)));
                    }
                }
            }
            'y' | 'j' | 'd' | 'b' | 'u' | 'e' => {
                for (words, currency) in WORDS {
                    if let Some(end) = self.any_word(at, words)? {
                        return Ok(Some((end, currency)));
                    }
                }
            }
            _ => {}
        }
        Ok(None)
    }

    /// Whether a number without a unit is a price by what was said before it.
    fn is_bare_price(&self, at: usize, number: &Number) -> Result<bool, Undecided> {
        const BEFORE: [&str; 17] = [
            "costs ",
            "cost ",
            "costs about ",
            "costs only ",
            "price is ",
            "price: ",
            "priced at ",
            "prices start at ",
            "sells for ",
            "価格は",
            "価格:",
            "値段は",
            "お値段は",
            "定価",
            "定価は",
            "税込",
            "税込価格は",
        ];
        if number.hundredths < 10_000 || self.from != at {
            return Ok(false);
        }
        let closes = self.closes(number.end, &["で", "に", "と"])? && self.at(number.end)? != ' ';
        Ok(closes && self.follows(&BEFORE))
    }

    /// The discount that the numbers are by what stands around them.
    fn discount(&self, numbers: &[Number; 2]) -> Result<Option<Stated>, Undecided> {
        const AFTER: [&str; 21] = [
            " off",
            "off",
            " discount",
            " cheaper",
            " less than the list",
            " back in points",
            " points back",
            "オフ",
            " オフ",
            "引き",
            "引",
            "割引",
            "の割引",
            "安く",
            "安い",
            "還元",
            "ポイント還元",
            "のポイント還元",
            "ディスカウント",
            "お得",
            "お安く",
        ];
        const BEFORE: [&str; 8] = [
            "discount of ",
            "save ",
            "save up to ",
            "saves you ",
            "reduced by ",
            "marked down by ",
            "割引率は",
            "discounted by ",
        ];
        let [first, last] = numbers;
        let spaced = self.skip(last.end, &[" "])?;
        let (unit, times) = match self.at(spaced)? {
            '%' => (Some(spaced + 1), 1),
            'p' => (self.any_word(spaced, &["percent", "per cent"])?, 1),
            'パ' => (self.literal(spaced, "パーセント")?, 1),
            '割' => (Some(spaced + 1), 10),
            _ => (None, 1),
        };
        let Some(unit) = unit else { return Ok(None) };
        let end = match self.any(unit, &AFTER)? {
            Some(end) => end,
            None => match times == 1 && self.follows(&BEFORE) {
                true => unit,
                false => return Ok(None),
            },
        };
        let amount = |number: &Number| Some(Amount::Discount(number.hundredths.saturating_mul(times)));
        let vague = first.vague || last.vague;
        Ok(Some(Stated { end, kind: Kind::Discount, amounts: [amount(first), amount(last)], vague }))
    }
}

fn kanji_digit(character: char) -> Option<u64> {
    let at = "〇一二三四五六七八九".chars().position(|digit| digit == character);
    at.or((character == '零').then_some(0)).and_then(|at| u64::try_from(at).ok())
}

fn is_katakana(character: char) -> bool {
    ('ァ'..='ヿ').contains(&character) && character != '・'
}
