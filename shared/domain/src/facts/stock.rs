//! Whether there are copies, and how many are left.
//!
//! What is claimed of a product is a fact; what holds of products in general, is asked or is supposed is not: `items in
//! stock leave within two days`, `if it is sold out`, 「在庫切れの商品は」.

use super::look::{Look, Undecided, has_word};
use super::phrases::Sort;

/// Makes a clause that is no claim.
const SUPPOSING: [&str; 18] = [
    "if",
    "whether",
    "when",
    "whenever",
    "once",
    "until",
    "unless",
    "while",
    "before",
    "check",
    "notify",
    "alert",
    "items",
    "products",
    "titles",
    "anything",
    "everything",
    "keep",
];
/// Is described rather than claimed.
const DESCRIBED: [&str; 20] = [
    " item",
    " items",
    " title",
    " titles",
    " product",
    " products",
    " volume",
    " volumes",
    " book",
    " books",
    " alert",
    " alerts",
    " notice",
    " status",
    " label",
    " badge",
    " copies of",
    "\"",
    "?",
    "'",
];

/// How a noun ends a claim.
const NOUN_ENDINGS: [&str; 21] = [
    "です",
    "でした",
    "でして",
    "でござ",
    "で、",
    "でお",
    "となっています",
    "となっており",
    "となっている",
    "となりました",
    "となります",
    "になっています",
    "になっており",
    "になりました",
    "中です",
    "中で、",
    "中のよう",
    "中となって",
    "のよう",
    "のため",
    "とのこと",
];
/// How a noun becomes a claim of its own.
const VERBS: [&str; 11] = [
    "てしまいました",
    "ています",
    "ております",
    "ました",
    "してしまいました",
    "しています",
    "しております",
    "しました",
    "いたしました",
    "致しました",
    "いたしております",
];
/// How a verb that says that something is or is not there ends a claim.
const VERB_ENDINGS: [&str; 11] =
    ["状況です", "状態です", "ので", "ため", "から", "よう", "が、", "し、", "よ", "です", "とのこと"];
const COUNTERS: [&str; 7] = ["冊", "点", "部", "個", "セット", "件", "巻"];

impl Look<'_> {
    /// The claim about stock at a place.
    pub(super) fn stock(&self, at: usize) -> Result<Option<usize>, Undecided> {
        match self.at(at)? {
            '在' => self.stock_ja(at),
            '品' | '売' | '完' | '欠' | '入' => {
                let noun =
                    self.any(at, &["品切れ", "品切", "売り切れ", "売切れ", "売切", "完売", "欠品", "入荷待ち"])?;
                // The verb belongs to it.
                let claim = match noun {
                    Some(end) => Some(self.skip(end, &VERBS)?),
                    None => None,
                };
                match claim == noun {
                    true => self.claimed(noun, &NOUN_ENDINGS),
                    false => Ok(claim),
                }
            }
            '残' | 'あ' | 'ラ' => self.remaining_ja(at),
            'a'..='z' | '0'..='9' => self.stock_en(at),
            _ => Ok(None),
        }
    }

    /// What ends here, if it is a claim.
    fn claimed(&self, end: Option<usize>, endings: &[&str]) -> Result<Option<usize>, Undecided> {
        let Some(end) = end else { return Ok(None) };
        Ok(self.closes(end, endings)?.then_some(end))
    }

    fn stock_ja(&self, at: usize) -> Result<Option<usize>, Undecided> {
        let Some(noun) = self.literal(at, "在庫")? else { return Ok(None) };
        let mut end = self.skip(noun, &["数は", "状況は", "は", "が", "も", "を", ":", "数:"])?;
        for _ in 0..2 {
            end = self.skip(
                end,
                &[
                    "、",
                    " ",
                    "現在",
                    "ただいま",
                    "まだ",
                    "すでに",
                    "十分に",
                    "十分",
                    "豊富に",
                    "たくさん",
                    "残り",
                    "あと",
                    "約",
                    "ちょうど",
                    "今",
                    "わずか",
                ],
            )?;
        }
        if let Some(number) = self.number(end)? {
            let counted = self.any(number.end, &COUNTERS)?;
            return Ok(counted);
        }
        if let Some(end) =
            self.any(end, &["あります", "ございます", "ありません", "ございません", "あるようです", "ないようです"])?
        {
            // A question, or a supposition.
            let asked = matches!(self.at(end)?, 'か');
            return Ok((!asked).then_some(end));
        }
        if let Some(end) = self.any(end, &["切らして", "確認できました"])? {
            return Ok(Some(end));
        }
        if let Some(end) = self.any(end, &["ある", "ない", "有る", "無い"])? {
            return self.claimed(Some(end), &VERB_ENDINGS);
        }
        if let Some(end) = self.any(end, &["あり", "有り", "有", "なし", "無し", "切れ", "限り"])? {
            return self.claimed(Some(end), &NOUN_ENDINGS);
        }
        if let Some(end) =
            self.any(end, &["わずか", "僅か", "僅少", "残りわずか", "残り少な", "十分", "豊富", "たっぷり", "少な"])?
        {
            return self.claimed(Some(end), &[NOUN_ENDINGS.as_slice(), &["にご", "にあ", "く", "めで"]].concat());
        }
        // 在庫、わずか: the adverb was the claim.
        match end > noun && matches!(self.before(end), 'か' | '分') {
            true => self.claimed(Some(end), &NOUN_ENDINGS),
            false => Ok(None),
        }
    }

    /// 残り3冊, あと2点, 残りわずか.
    fn remaining_ja(&self, at: usize) -> Result<Option<usize>, Undecided> {
        const ENDINGS: [&str; 12] =
            ["です", "でした", "でござ", "で、", "のみ", "だけ", "となって", "とな", "しか", "ほど", "あり", "ござ"];
        let Some(end) = self.any(at, &["残り", "あと", "ラスト", "残部"])? else { return Ok(None) };
        let end = self.skip(end, &["は", "わずか", "約", "、", " "])?;
        if let Some(number) = self.number(end)? {
            // Volumes remain to be read, copies to be sold.
            let counted = self.any(number.end, &["冊", "点", "部", "個", "セット"])?;
            return self.claimed(counted, &ENDINGS);
        }
        let few = match self.before(end) {
            'か' => Some(end),
            _ => self.any(end, &["僅か", "少な", "僅少"])?,
        };
        self.claimed(few, &[NOUN_ENDINGS.as_slice(), &["とな"]].concat())
    }

    fn stock_en(&self, at: usize) -> Result<Option<usize>, Undecided> {
        if let Some(end) = self.phrase(at, Sort::Stock)? {
            let described = self.any(end, &DESCRIBED)?.is_some();
            let predicate = self.at(at)? != 's'
                || self.follows(&[
                    "is ",
                    "are ",
                    "'s ",
                    "'re ",
                    "was ",
                    "has ",
                    "have ",
                    "been ",
                    "now ",
                    "currently ",
                    "already ",
                    "completely ",
                    "temporarily ",
                    "unfortunately ",
                    "both ",
                ]);
            let clause = self.clause();
            let supposed = has_word(&clause, &SUPPOSING) || clause.ends_with(['"', '\'']);
            return Ok((predicate && !described && !supposed).then_some(end));
        }
        let only = self.any_word(at, &["only", "just"])?;
        let number = match only {
            Some(end) => self.skip(end, &[" "])?,
            None => at,
        };
        let few = match only {
            Some(_) => self.any_word(number, &["a few", "a couple"])?,
            None => None,
        };
        let counted = match few {
            Some(few) => Some(few),
            None => self.number(number)?.map(|number| number.end),
        };
        let Some(counted) = counted else { return Ok(None) };
        if !matches!(self.at(counted)?, ' ' | '-') {
            return Ok(None);
        }
        let mut noun = self.any_word(
            counted,
            &[
                " copies",
                " copy",
                " units",
                " unit",
                " items",
                " item",
                " pieces",
                " of them",
                " of these",
                " of those",
            ],
        )?;
        if noun.is_none() && only.is_some() {
            noun = self.any_word(counted, &[" volumes", " volume", " sets", " set", " books", " book"])?;
        }
        let left = noun.unwrap_or(counted);
        if let Some(end) = self.any_word(
            left,
            &[" left in stock", " remaining in stock", " in stock", " left in our warehouse", " in our warehouse"],
        )? {
            return Ok(Some(end));
        }
        if only.is_none() && noun.is_none() && !self.follows(&["there are ", "there is ", "we have "]) {
            return Ok(None);
        }
        match self
            .any_word(left, &[" left", " remaining", " remain", " available", " are left", " is left", " to go"])?
        {
            Some(end) => {
                let story = self.any(
                    end,
                    &[
                        " to",
                        " until",
                        " before",
                        " in the s",
                        " alive",
                        " standing",
                        " behind",
                        " hand",
                        " in this",
                        " as ",
                        " digital",
                        " in english",
                        " in japanese",
                    ],
                )?;
                Ok(story.is_none().then_some(end))
            }
            None => Ok(None),
        }
    }
}
