//! Where an order is on its way.

use super::look::{Look, Undecided, has_word};
use super::phrases::Sort;

/// Make a clause that holds under a condition, or of orders in general.
const SUPPOSING: [&str; 25] = [
    "if",
    "when",
    "once",
    "after",
    "before",
    "until",
    "unless",
    "whether",
    "orders",
    "that have",
    "that has",
    "that are",
    "that is",
    "which have",
    "which has",
    "which are",
    "as soon as",
    "any",
    "items",
    "anything",
    "usually",
    "normally",
    "will",
    "can",
    "cannot",
];
/// What the shopper has with the store.
const SUBJECTS: [&str; 18] = [
    "your order",
    "the order",
    "this order",
    "that order",
    "order mc",
    "order #",
    "order number",
    "parcel",
    "package",
    "shipment",
    "preorder",
    "pre-order",
    "your book",
    "your books",
    "your item",
    "your copy",
    "your volume",
    "your delivery",
];
const SUBJECTS_JA: [&str; 9] = ["注文", "商品", "荷物", "お品", "発送", "出荷", "ご購入", "配送", "小包"];

impl Look<'_> {
    /// The state of an order at a place.
    pub(super) fn order_state(&self, at: usize) -> Result<Option<usize>, Undecided> {
        match self.at(at)? {
            'a'..='z' => self.order_state_en(at),
            '発' | '出' | '配' | '輸' | 'お' | '返' | 'キ' | '支' | '到' | '届' | '準' | '処' | '手' | '入' => {
                self.order_state_ja(at)
            }
            _ => Ok(None),
        }
    }

    fn order_state_en(&self, at: usize) -> Result<Option<usize>, Undecided> {
        const AUXILIARIES: [&str; 27] = [
            "has ",
            "have ",
            "had ",
            "been ",
            "is ",
            "was ",
            "are ",
            "were ",
            "already ",
            "just ",
            "not ",
            "yet ",
            "now ",
            "being ",
            "'s ",
            "'ve ",
            "n't ",
            "we ",
            "status: ",
            "currently ",
            "as ",
            "still ",
            "'re ",
            "is: ",
            "order ",
            "parcel ",
            "package ",
        ];
        let mut start = at;
        if self.at(at)? == 'n' {
            start = self.skip(at, &["not yet been ", "not been ", "not yet ", "not "])?;
        }
        let (end, sent) = match self.phrase(start, Sort::Sent)? {
            Some(end) => (end, true),
            None => match self.phrase(start, Sort::State)? {
                Some(end) => (end, false),
                None => return Ok(None),
            },
        };
        let more = self.any(
            end,
            &[" by", " with", " together", " to becom", " to be ", " to get", "?", "\"", " orders", " items"],
        )?;
        let clause = self.clause();
        if more.is_some() || clause.ends_with('"') || has_word(&clause, &SUPPOSING) {
            return Ok(None);
        }
        let spoken_of = has_word(&self.context(), &SUBJECTS);
        let stated = start > at || self.follows(&AUXILIARIES);
        Ok((stated && (sent || spoken_of)).then_some(end))
    }

    fn order_state_ja(&self, at: usize) -> Result<Option<usize>, Undecided> {
        const ENDINGS: [&str; 14] = [
            "です",
            "でした",
            "でござ",
            "で、",
            "でお",
            "となって",
            "となり",
            "になって",
            "になり",
            "のよう",
            "のため",
            "とのこと",
            "と確認",
            "しました",
        ];
        const DONE: [&str; 11] = [
            "しました",
            "いたしました",
            "致しました",
            "されました",
            "されています",
            "されております",
            "が完了しました",
            "完了しました",
            "が完了しています",
            "済みました",
            "を完了しました",
        ];
        if let Some(end) = self.any(
            at,
            &[
                "発送済み",
                "発送済",
                "出荷済み",
                "出荷済",
                "配送済み",
                "お届け済み",
                "配達済み",
                "配達完了",
                "配達中",
                "配送中",
                "輸送中",
                "発送完了",
                "発送準備中",
                "出荷準備中",
                "キャンセル済み",
                "返金済み",
                "返品手続き中",
                "お支払い待ち",
                "支払い待ち",
                "入金待ち",
                "到着済み",
            ],
        )? {
            return Ok(self.closes(end, &ENDINGS)?.then_some(end));
        }
        if let Some(noun) = self.any(at, &["発送", "出荷", "配送", "お届け", "配達", "返金", "キャンセル"])?
            && let Some(end) = self.any(noun, &DONE)?
        {
            return self.told(end);
        }
        let weak = [
            "届いています",
            "届いております",
            "届きました",
            "到着しました",
            "到着しています",
            "到着しており",
            "準備中です",
            "処理中です",
            "手配中です",
            "準備しております",
            "配達に出ています",
        ];
        let Some(end) = self.any(at, &weak)? else { return Ok(None) };
        let sentence = self.sentence();
        match SUBJECTS_JA.iter().any(|subject| sentence.contains(subject)) {
            true => self.told(end),
            false => Ok(None),
        }
    }

    /// What ends here, unless it goes on as a supposition or a question.
    fn told(&self, end: usize) -> Result<Option<usize>, Undecided> {
        Ok((!matches!(self.at(end)?, 'ら' | 'か' | '際')).then_some(end))
    }
}
