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
    use super::phrases;

    #[test]
    fn phrases_stand_under_their_first_letter() {
        for first in 'a'..='z' {
            assert!(phrases(first).iter().all(|(phrase, _)| phrase.starts_with(first)), "{first}");
        }
    }
}
