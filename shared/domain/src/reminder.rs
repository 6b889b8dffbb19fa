//! Reminders of pre-orders: asked for in a message, sent on the day the order should arrive.

use time::Date;
use time::format_description::well_known::Iso8601;

use crate::gather::order_card;
use crate::ids::{Principal, TurnId, digest};
use crate::ports::ScheduledFollowUp;
use crate::protocol::{FollowUp, Locale, ServerEvent};
use crate::store::{Order, OrderStatus};

/// What asks for a reminder, in a message.
const WORDS: [&str; 6] = ["remind me", "reminder", "notify me", "リマインド", "知らせて", "通知して"];

/// What clients know a reminder's follow-up message by.
const KIND: &str = "preorder_reminder";

/// Whether a message asks for a reminder.
pub fn is_asked_for(text: &str) -> bool {
    let text = text.to_lowercase();
    WORDS.iter().any(|word| text.contains(word))
}

/// When a shopper is reminded of an order: at nine in the morning in Japan on the day it should arrive, Unix milliseconds;
/// none for an order that is no pre-order, has no day yet, or whose day has come.
pub fn due_at(order: &Order, now: u64) -> Option<u64> {
    if order.status != OrderStatus::Preordered {
        return None;
    }
    let day = Date::parse(order.eta.as_deref()?, &Iso8601::DATE).ok()?;
    // Nine in Japan is midnight in UTC.
    let seconds = u64::try_from(day.midnight().assume_utc().unix_timestamp()).ok()?;
    Some(seconds * 1_000).filter(|due_at| *due_at > now)
}

/// The reminder of an order that a turn asked for; the same whenever it is made from the same turn and order.
pub fn of_order(
    turn_id: &TurnId,
    principal: &Principal,
    order: &Order,
    locale: Locale,
    now: u64,
) -> Option<ScheduledFollowUp> {
    let due_at = due_at(order, now)?;
    let follow_up_id = digest(&["reminder", turn_id.as_str(), &order.order_id]);
    let text = match locale {
        Locale::Ja => format!("ご予約の商品(注文番号 {})は、本日お届けの予定です。", order.order_id),
        Locale::En => format!("Your pre-order {} is expected to arrive today.", order.order_id),
    };
    let cards = vec![ServerEvent::OrderCard(order_card(order, locale))];
    Some(ScheduledFollowUp {
        message: FollowUp { follow_up_id: follow_up_id.clone(), kind: KIND.to_owned(), text, cards },
        follow_up_id,
        principal: principal.clone(),
        due_at,
    })
}
