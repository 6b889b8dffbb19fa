//! What the model may not author, on its way out: prices, discounts, stock, order states and delivery dates are taken out
//! of the streamed answer, and the shopper is pointed to the cards, which come from the store's services.
//!
//! The rules ask the model not to state such things, and it is not told them; this is for the answer that does so
//! nevertheless. It knows how Japanese and English usually say them, not every way: an amount with spaces between its
//! digits, a delivery `in three days` or a state that is only hinted at passes. It looks at words and not at what is meant,
//! so a plot may lose a sum that no text of the store names. How the store works may be told, as long as nothing is claimed
//! of a product or an order: `items in stock leave within two days`.
//!
//! What [`Facts::allowing`] found in the store's own texts and the shopper's question passes wherever it is said: the
//! filter does not know whether 440 yen are the postage or a price.
//!
//! A filter reads from left to right and tells everything at once, but for an end that may still become a fact: fewer than
//! [`FACT_CHARS_MAX`](crate::limits::FACT_CHARS_MAX) characters. What it tells does not depend on how the answer was cut.

mod amount;
mod date;
mod look;
mod order;
mod phrases;
mod stock;

use std::collections::BTreeSet;

use self::amount::{Amount, Stated};
use self::look::{END, Look, Undecided, fold};
use crate::limits::FACT_CONTEXT_CHARS;
use crate::protocol::Locale;

/// What the store itself and the shopper have stated, which an answer may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    amounts: BTreeSet<Amount>,
}

impl Facts {
    /// The amounts of money and the discounts in these texts: articles, promotions, what products are about, reviews, and
    /// the shopper's question.
    pub fn allowing(texts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut amounts = BTreeSet::new();
        for text in texts {
            let folded: Vec<char> = text.as_ref().chars().map(fold).collect();
            let mut at = 0;
            while at < folded.len() {
                let found = Look::whole(&folded, at).stated(at).ok().flatten();
                at = match found {
                    Some(stated) => {
                        amounts.extend(stated.amounts.into_iter().flatten());
                        stated.end
                    }
                    None => at + 1,
                };
            }
        }
        Self { amounts }
    }

    fn allow(&self, stated: &Stated) -> bool {
        !stated.vague && stated.amounts.iter().flatten().all(|amount| self.amounts.contains(amount))
    }
}

/// What a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Price,
    Discount,
    Stock,
    OrderState,
    DeliveryDate,
}

/// How many facts of which kind were taken out of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Amounts of money.
    pub prices: u32,
    /// Percentages off.
    pub discounts: u32,
    /// Whether, or how many, copies are there.
    pub stock: u32,
    /// Where an order is on its way.
    pub order_states: u32,
    /// When an order arrives.
    pub delivery_dates: u32,
}

impl Replaced {
    /// Facts of all kinds.
    pub fn total(&self) -> u32 {
        [self.prices, self.discounts, self.stock, self.order_states, self.delivery_dates].iter().sum()
    }

    fn count(&mut self, kind: Kind) {
        let counter = match kind {
            Kind::Price => &mut self.prices,
            Kind::Discount => &mut self.discounts,
            Kind::Stock => &mut self.stock,
            Kind::OrderState => &mut self.order_states,
            Kind::DeliveryDate => &mut self.delivery_dates,
        };
        *counter = counter.saturating_add(1);
    }
}

/// What stands at a place of an answer.
enum Found {
    /// Nothing that matters.
    Nothing,
    /// Something that is told as it is, up to here.
    Harmless(usize),
    /// A fact that ends before here.
    Fact(usize, Kind),
}

/// Takes facts out of an answer while it streams.
///
/// An owner that hands its turn over drops its filter without [`Self::finish`]: what is held back was not told, and the
/// next owner's model says it anew.
#[derive(Debug)]
pub struct FactFilter {
    facts: Facts,
    locale: Locale,
    /// What the model said: the end of what was told, then what is held back.
    said: Vec<char>,
    /// The same as it is compared.
    folded: Vec<char>,
    /// Where what is held back begins.
    at: usize,
    /// Where the last fact ended, unless that is forgotten.
    fact_end: Option<usize>,
    /// Nothing was told since the last fact: another may belong to it.
    in_run: bool,
    replaced: Replaced,
}

impl FactFilter {
    /// A filter for the answer to a question that was asked in this language.
    pub fn new(facts: Facts, locale: Locale) -> Self {
        Self {
            facts,
            locale,
            said: Vec::new(),
            folded: Vec::new(),
            at: 0,
            fact_end: None,
            in_run: false,
            replaced: Replaced::default(),
        }
    }

    /// A filter for the rest of an answer that begins with `told`, which is not told again.
    pub fn after(facts: Facts, locale: Locale, told: &str) -> Self {
        let forgotten = told.chars().count().saturating_sub(FACT_CONTEXT_CHARS);
        let said: Vec<char> = told.chars().skip(forgotten).collect();
        let folded = said.iter().copied().map(fold).collect();
        Self { at: said.len(), said, folded, ..Self::new(facts, locale) }
    }

    /// Takes what the model said, and returns what can be told of it and of what was held back.
    pub fn push(&mut self, text: &str) -> String {
        for character in text.chars() {
            self.said.push(character);
            self.folded.push(fold(character));
        }
        let told = self.tell(text.len(), false);
        self.forget();
        told
    }

    /// The rest, when the answer has ended, and what was replaced in all.
    pub fn finish(mut self) -> (String, Replaced) {
        let told = self.tell(0, true);
        (told, self.replaced)
    }

    /// What is held back: characters.
    pub fn held_chars(&self) -> usize {
        self.said.len() - self.at
    }

    fn tell(&mut self, bytes: usize, ended: bool) -> String {
        let mut told = String::with_capacity(bytes);
        while let Some(&next) = self.said.get(self.at) {
            let look = Look::new(&self.folded, self.at, ended);
            if self.in_run {
                match self.facts.next_of_run(look) {
                    Err(Undecided) => break,
                    Ok(Some((end, kind))) => self.pass_fact(end, kind),
                    Ok(None) => self.in_run = false,
                }
                continue;
            }
            match if look.may_begin() { self.facts.find(look) } else { Ok(Found::Nothing) } {
                Err(Undecided) => break,
                Ok(Found::Nothing) => {
                    told.push(next);
                    self.at += 1;
                }
                Ok(Found::Harmless(end)) => {
                    told.extend(self.said.get(self.at..end).unwrap_or_default());
                    self.at = end;
                }
                Ok(Found::Fact(end, kind)) => {
                    let again = self.fact_end.is_some_and(|fact_end| fact_end > look.sentence_start());
                    told.push_str(pointer(kind, self.locale, again));
                    self.pass_fact(end, kind);
                }
            }
        }
        told
    }

    fn pass_fact(&mut self, end: usize, kind: Kind) {
        self.replaced.count(kind);
        self.at = end;
        self.fact_end = Some(end);
        self.in_run = true;
    }

    /// Lets go of what no later decision looks back at.
    fn forget(&mut self) {
        if self.at > 2 * FACT_CONTEXT_CHARS {
            let forgotten = self.at - FACT_CONTEXT_CHARS;
            self.said.drain(..forgotten);
            self.folded.drain(..forgotten);
            self.at -= forgotten;
            self.fact_end = self.fact_end.and_then(|end| end.checked_sub(forgotten));
        }
    }
}

/// What is told instead of a fact; shorter where its sentence has said so already.
fn pointer(kind: Kind, locale: Locale, again: bool) -> &'static str {
    match (locale, kind) {
        (Locale::Ja, Kind::Discount) => "（割引は各ページをご覧ください）",
        (Locale::En, Kind::Discount) => "(see the page for discounts)",
        (Locale::Ja, _) if again => "（カード参照）",
        (Locale::En, _) if again => "(see the card)",
        (Locale::Ja, Kind::Price) => "（価格はカードをご覧ください）",
        (Locale::En, Kind::Price) => "(see the card for the price)",
        (Locale::Ja, Kind::Stock) => "（在庫はカードをご覧ください）",
        (Locale::En, Kind::Stock) => "(see the card for stock)",
        (Locale::Ja, Kind::OrderState) => "（状況はカードをご覧ください）",
        (Locale::En, Kind::OrderState) => "(see the card for its status)",
        (Locale::Ja, Kind::DeliveryDate) => "（お届け日はカードをご覧ください）",
        (Locale::En, Kind::DeliveryDate) => "(see the card for the date)",
    }
}

/// What may stand between two facts that are one: a price and the price with tax.
const JOINTS: [&str; 16] =
    [" or ", " and ", " to ", " - ", ", ", "、", ",", " (", "(", "/", "・", "~", "-", "と", "か", " "];

impl Facts {
    /// What stands where `look` looks.
    fn find(&self, look: Look<'_>) -> Result<Found, Undecided> {
        let at = look.from;
        let next = look.at(at)?;
        if let Some(stated) = look.stated(at)? {
            return Ok(match self.allow(&stated) {
                true => Found::Harmless(stated.end),
                false => Found::Fact(stated.end, stated.kind),
            });
        }
        if let Some(end) = look.stock(at)? {
            return Ok(Found::Fact(end, Kind::Stock));
        }
        if let Some(end) = look.delivery_date(at)? {
            return Ok(Found::Fact(end, Kind::DeliveryDate));
        }
        if let Some(end) = look.order_state(at)? {
            return Ok(Found::Fact(end, Kind::OrderState));
        }
        // A number is told whole: a part of one is not what it looks like.
        match next.is_ascii_digit() {
            true => Ok(look.number(at)?.map_or(Found::Nothing, |number| Found::Harmless(number.end))),
            false => Ok(Found::Nothing),
        }
    }

    /// The fact that follows another with no more than a joint between them.
    fn next_of_run(&self, look: Look<'_>) -> Result<Option<(usize, Kind)>, Undecided> {
        let at = look.any(look.from, &JOINTS)?.unwrap_or(look.from);
        match if look.at(at)? == END { Found::Nothing } else { self.find(look.moved(at))? } {
            Found::Fact(end, kind) => {
                let opened = at > look.from && look.at(at - 1)? == '(';
                Ok(Some((if opened && look.at(end)? == ')' { end + 1 } else { end }, kind)))
            }
            Found::Harmless(_) | Found::Nothing => Ok(None),
        }
    }
}
