//! The day an order arrives. Other days, of a release or in a story, may be told: a day is a delivery date by what is said
//! before it or, in Japanese, right after it.

use super::look::{Look, Undecided, has_word};
use super::phrases::Sort;

const DAYS_JA: [&str; 13] = [
    "明日",
    "明後日",
    "あさって",
    "本日",
    "今日",
    "今夜",
    "今週末",
    "今週",
    "来週末",
    "来週",
    "今月",
    "来月",
    "数日中",
];

/// What may stand between a day and its verb.
const PARTICLES_JA: [&str; 22] = [
    "中に",
    "中",
    "の午前中",
    "の午後",
    "の夕方",
    "の夜",
    "午前中",
    "午後",
    "頃",
    "ごろ",
    "までに",
    "以降",
    "には",
    "にも",
    "に",
    "は",
    "の予定で",
    "あたり",
    "上旬",
    "中旬",
    "下旬",
    "、",
];
/// What follows a day of delivery.
const VERBS_JA: [&str; 29] = [
    "届きます",
    "届く予定",
    "届く見込",
    "届くと",
    "届くはず",
    "届く。",
    "届くでしょう",
    "お届けし",
    "お届けでき",
    "お届けの",
    "お届け予定",
    "お届けで",
    "お届けい",
    "届けられ",
    "到着予定",
    "到着する予定",
    "到着する見込",
    "到着の予定",
    "到着します",
    "配達予定",
    "配達され",
    "配達し",
    "配達の予定",
    "発送予定",
    "発送され",
    "発送し",
    "出荷予定",
    "出荷され",
    "着きます",
];
/// How far before a day it may be said that it is one of delivery.
const BEFORE_CHARS: usize = 16;
/// What precedes one.
const BEFORE_JA: [&str; 16] = [
    "お届け予定",
    "到着予定",
    "配達予定",
    "配送予定",
    "発送予定",
    "出荷予定",
    "お届け日",
    "お届けは",
    "お届けが",
    "到着は",
    "到着日",
    "発送日",
    "配達日",
    "届くのは",
    "配達は",
    "発送は",
];

impl Look<'_> {
    /// The day at a place, if an order arrives on it.
    pub(super) fn delivery_date(&self, at: usize) -> Result<Option<usize>, Undecided> {
        let next = self.at(at)?;
        match next {
            '0'..='9' => {
                if let Some(end) = self.date_ja(at)? {
                    return self.delivered_ja(end);
                }
                match self.date_in_figures(at)? {
                    Some(end) if self.arrives() => Ok(Some(end)),
                    Some(end) => self.delivered_ja(end),
                    None => Ok(None),
                }
            }
            'a'..='z' => {
                let day = match self.phrase(at, Sort::Day)? {
                    Some(end) if self.at(end)? != '\'' => Some(end),
                    Some(_) => None,
                    None => self.month_first(at)?,
                };
                Ok(day.filter(|_| self.arrives()))
            }
            '明' | 'あ' | '本' | '今' | '来' | '数' => match self.any(at, &DAYS_JA)? {
                Some(end) => self.delivered_ja(end),
                None => Ok(None),
            },
            _ => Ok(None),
        }
    }

    /// 2026年11月24日(火), 11月下旬, 24日に.
    fn date_ja(&self, at: usize) -> Result<Option<usize>, Undecided> {
        let mut start = at;
        if let Some(end) = self.figures(start, 4)?
            && self.at(end)? == '年'
        {
            start = end + 1;
        }
        let Some(end) = self.figures(start, 2)? else { return Ok(None) };
        let end = match self.at(end)? {
            '月' => match self.figures(end + 1, 2)? {
                Some(day) if self.at(day)? == '日' => day + 1,
                Some(_) => return Ok(None),
                None => match self.any(end + 1, &["上旬", "中旬", "下旬", "末", "頃", "初め"])? {
                    Some(end) => end,
                    None => return Ok(None),
                },
            },
            // In three days is how long it takes, not when.
            '日' if start == at
                && self.before(at) != '~'
                && matches!(self.at(end + 1)?, 'に' | 'の' | '頃' | '(' | 'で') =>
            {
                end + 1
            }
            _ => return Ok(None),
        };
        let weekday = self.skip(end, &["("])?;
        if weekday > end && matches!(self.at(weekday)?, '月' | '火' | '水' | '木' | '金' | '土' | '日') {
            return Ok(Some(self.any(weekday + 1, &["曜日)", "曜)", ")"])?.unwrap_or(weekday + 1)));
        }
        Ok(Some(end))
    }

    /// 2026-11-24, 11/24, 24 November.
    fn date_in_figures(&self, at: usize) -> Result<Option<usize>, Undecided> {
        if let Some(year) = self.figures(at, 4)? {
            let separator = self.at(year)?;
            return match (separator == '-' || separator == '/')
                .then(|| self.figures(year + 1, 2))
                .transpose()?
                .flatten()
            {
                Some(month) if self.at(month)? == separator => self.figures(month + 1, 2),
                Some(_) | None => Ok(None),
            };
        }
        let Some(end) = self.figures(at, 2)? else { return Ok(None) };
        if self.at(end)? == '/' {
            return self.figures(end + 1, 2);
        }
        let ordinal = self.any_word(end, &["st", "nd", "rd", "th"])?;
        let end = ordinal.unwrap_or(end);
        let month = self.skip(end, &[" of ", " "])?;
        match self.phrase(month, Sort::Month)? {
            Some(month) => Ok(Some(month)),
            None => Ok(ordinal),
        }
    }

    /// November 24th, 2026.
    fn month_first(&self, at: usize) -> Result<Option<usize>, Undecided> {
        let Some(end) = self.phrase(at, Sort::Month)? else { return Ok(None) };
        let day = self.skip(end, &[". ", " "])?;
        let Some(end) = self.figures(day, 2)? else { return Ok(None) };
        let end = self.any_word(end, &["st", "nd", "rd", "th"])?.unwrap_or(end);
        let year = self.skip(end, &[", ", " "])?;
        Ok(self.figures(year, 4)?.or(Some(end)))
    }

    /// The end of a run of digits, of four or else of one or two.
    fn figures(&self, at: usize, digits: usize) -> Result<Option<usize>, Undecided> {
        let mut end = at;
        while end <= at + digits && self.at(end)?.is_ascii_digit() {
            end += 1;
        }
        let found = end - at;
        Ok((if digits == 4 { found == 4 } else { (1..=digits).contains(&found) }).then_some(end))
    }

    /// The end of the day that ends here, if something is delivered on it.
    fn delivered_ja(&self, end: usize) -> Result<Option<usize>, Undecided> {
        let mut verb = end;
        for _ in 0..3 {
            verb = self.skip(verb, &PARTICLES_JA)?;
        }
        if self.any(verb, &VERBS_JA)?.is_some() {
            return Ok(Some(end));
        }
        if !self.closes(end, &["で", "に", "頃", "ごろ", "の予", "から", "とな", "以降", "まで", "と"])?
        {
            return Ok(None);
        }
        let tail = self.tail(BEFORE_CHARS);
        Ok(BEFORE_JA.iter().any(|before| tail.contains(before)).then_some(end))
    }

    /// Whether the sentence so far says that something arrives.
    fn arrives(&self) -> bool {
        const VERBS: [&str; 21] = [
            "arrive",
            "arrives",
            "arriving",
            "arrived",
            "deliver",
            "delivered",
            "delivery",
            "deliver it",
            "ship",
            "ships",
            "shipped",
            "shipping",
            "dispatched",
            "reach you",
            "be there",
            "be with you",
            "get to you",
            "get it",
            "receive it",
            "eta",
            "be here",
        ];
        const SUBJECTS: [&str; 20] = [
            "order", "parcel", "package", "shipment", "delivery", "it", "book", "books", "volume", "volumes", "copy",
            "copies", "item", "items", "set", "your", "should", "will", "ll", "expected",
        ];
        const RELEASES: [&str; 5] = ["release", "released", "releases", "published", "published in"];
        let sentence = self.sentence();
        let Some(verb) = VERBS.iter().filter_map(|verb| sentence.rfind(verb)).max() else { return false };
        let (before, after) = (sentence.get(..verb).unwrap_or_default(), sentence.get(verb..).unwrap_or_default());
        after.chars().count() <= 40
            && has_word(after, &VERBS)
            && !has_word(after, &RELEASES)
            && (has_word(before, &SUBJECTS)
                || before.trim().is_empty() && after.starts_with("arriv")
                || after.starts_with("delivery")
                || after.starts_with("eta"))
    }
}
