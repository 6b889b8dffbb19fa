//! The English words that facts begin with, by their first letter: most words of an answer are none of them.

use super::look::{Look, Undecided};

/// What words are said of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// one, twelve, hundred
    Number,
    /// in stock, sold out
    Stock,
    /// shipped: said of hardly anything but an order
    Sent,
    /// delivered, on its way: said of many things
    State,
    /// tomorrow, Friday
    Day,
    /// November
    Month,
}

/// What words have to begin with for a look at them to be worth it: the phrases below, and the numerals, currencies and
/// words like `only` that amounts and numbers of copies begin with. In order.
const BEGINNINGS: [[u8; 3]; 81] = [
    *b"a c", *b"a f", *b"alm", *b"apr", *b"are", *b"arr", *b"aug", *b"awa", *b"bac", *b"bei", *b"can", *b"con",
    *b"dec", *b"del", *b"dis", *b"eig", *b"ele", *b"eur", *b"feb", *b"fif", *b"fiv", *b"for", *b"fou", *b"fri",
    *b"gbp", *b"hal", *b"hun", *b"in ", *b"isn", *b"jan", *b"jpy", *b"jul", *b"jun", *b"jus", *b"lef", *b"lim",
    *b"low", *b"mar", *b"may", *b"mon", *b"nea", *b"nex", *b"nin", *b"no ", *b"not", *b"nov", *b"oct", *b"on ",
    *b"one", *b"onl", *b"out", *b"pac", *b"pen", *b"pre", *b"pro", *b"rea", *b"ref", *b"ret", *b"run", *b"sat",
    *b"sep", *b"sev", *b"shi", *b"six", *b"sol", *b"sun", *b"ten", *b"thi", *b"tho", *b"thr", *b"thu", *b"tod",
    *b"tom", *b"ton", *b"tue", *b"twe", *b"two", *b"us$", *b"usd", *b"wed", *b"wit",
];

/// Whether a word that begins with these characters may begin a fact.
pub(super) fn may_begin(word: [char; 3]) -> bool {
    let letter = |character: char| match character {
        '-' => b' ',
        character => u8::try_from(character).unwrap_or(b' '),
    };
    BEGINNINGS.binary_search(&word.map(letter)).is_ok()
}

fn phrases(first: char) -> &'static [(&'static str, Sort)] {
    use Sort::{Day, Month, Number, Sent, State, Stock};
    match first {
        'a' => &[
            ("aren't in stock", Stock),
            ("almost sold out", Stock),
            ("awaiting payment", Sent),
            ("awaiting shipment", Sent),
            ("arrived", State),
            ("april", Month),
            ("august", Month),
            ("apr", Month),
            ("aug", Month),
        ],
        'b' => &[
            ("back in stock", Stock),
            ("backordered", Stock),
            ("being processed", State),
            ("being prepared", State),
            ("being packed", State),
            ("being shipped", State),
        ],
        'c' => &[("cancelled", State), ("canceled", State), ("confirmed", State)],
        'd' => &[("dispatched", Sent), ("delivered", State), ("december", Month)],
        'e' => &[("eight", Number), ("eleven", Number), ("eighteen", Number), ("eighty", Number)],
        'f' => &[
            ("four", Number),
            ("five", Number),
            ("fourteen", Number),
            ("fifteen", Number),
            ("forty", Number),
            ("fifty", Number),
            ("friday", Day),
            ("february", Month),
            ("feb", Month),
        ],
        'h' => &[("hundred", Number)],
        'i' => &[("in stock", Stock), ("isn't in stock", Stock), ("isn't sold out", Stock), ("in transit", State)],
        'j' => &[("january", Month), ("june", Month), ("july", Month), ("jan", Month), ("jun", Month), ("jul", Month)],
        'l' => &[
            ("low in stock", Stock),
            ("low on stock", Stock),
            ("low stock", Stock),
            ("limited stock", Stock),
            ("left our warehouse", Sent),
        ],
        'm' => &[("monday", Day), ("march", Month), ("may", Month), ("mar", Month)],
        'n' => &[
            ("nine", Number),
            ("nineteen", Number),
            ("ninety", Number),
            ("not in stock", Stock),
            ("no longer in stock", Stock),
            ("not out of stock", Stock),
            ("not sold out", Stock),
            ("nearly sold out", Stock),
            ("next week", Day),
            ("next month", Day),
            ("november", Month),
            ("nov", Month),
        ],
        'o' => &[
            ("one", Number),
            ("out of stock", Stock),
            ("out for delivery", Sent),
            ("on its way", State),
            ("on the way", State),
            ("on their way", State),
            ("october", Month),
            ("oct", Month),
        ],
        'p' => &[
            ("pending payment", Sent),
            ("processing", State),
            ("packed", State),
            ("preparing for shipment", State),
            ("preordered", State),
        ],
        'r' => &[("running low", Stock), ("ready for pickup", Sent), ("refunded", State), ("returned", State)],
        's' => &[
            ("six", Number),
            ("seven", Number),
            ("sixteen", Number),
            ("seventeen", Number),
            ("sixty", Number),
            ("seventy", Number),
            ("sold out", Stock),
            ("shipped", Sent),
            ("saturday", Day),
            ("sunday", Day),
            ("september", Month),
            ("sept", Month),
            ("sep", Month),
        ],
        't' => &[
            ("two", Number),
            ("three", Number),
            ("ten", Number),
            ("twelve", Number),
            ("thirteen", Number),
            ("twenty", Number),
            ("thirty", Number),
            ("thousand", Number),
            ("tomorrow", Day),
            ("today", Day),
            ("tonight", Day),
            ("tuesday", Day),
            ("thursday", Day),
            ("this weekend", Day),
            ("this week", Day),
            ("this afternoon", Day),
            ("this evening", Day),
        ],
        'w' => &[("with the carrier", Sent), ("wednesday", Day)],
        _ => &[],
    }
}

impl Look<'_> {
    /// Where the first phrase of a sort that stands at a place ends.
    pub(super) fn phrase(&self, at: usize, sort: Sort) -> Result<Option<usize>, Undecided> {
        for (phrase, _) in phrases(self.at(at)?).iter().filter(|(_, found)| *found == sort) {
            if let Some(end) = self.any_word(at, &[phrase])? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::{BEGINNINGS, may_begin, phrases};

    #[test]
    fn phrases_stand_under_their_first_letter() {
        for first in 'a'..='z' {
            assert!(phrases(first).iter().all(|(phrase, _)| phrase.starts_with(first)), "{first}");
        }
    }

    #[test]
    fn phrases_are_looked_for() {
        assert!(BEGINNINGS.is_sorted());
        for (phrase, _) in ('a'..='z').flat_map(phrases) {
            let mut letters = phrase.chars();
            assert!(may_begin([(); 3].map(|()| letters.next().unwrap())), "{phrase}");
        }
    }
}
