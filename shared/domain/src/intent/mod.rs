//! What a message is about, and what it names.
//!
//! [`understand`] is a function of the message alone: no network, no clock, nothing to load. Lines between the intents:
//!
//! | intent | is | and is not |
//! |---|---|---|
//! | [`ProductDiscovery`](Intent::ProductDiscovery) | looking for products by title, author, genre, trait, price or format; "do you have X"; a bare title or genre | the choice left to us |
//! | [`Recommendation`](Intent::Recommendation) | the choice left to us: おすすめ, "what next", "something like X", gift ideas | a search by trait |
//! | [`ProductQuestion`](Intent::ProductQuestion) | about a given product or series: plot, ending, number and order of volumes, age rating, editions, reviews, its price or stock | whether the store sells it |
//! | [`Faq`](Intent::Faq) | how the store works: shipping fees and times, points, account, gift wrapping, ebook app, receipts, which payments there are | the shopper's own order; trouble while paying |
//! | [`OrderTracking`](Intent::OrderTracking) | the shopper's own order: state, arrival, contents, change of its address, reminders of it | its invoice, its cancellation |
//! | [`ReturnRequest`](Intent::ReturnRequest) | sending back, refunds, exchange, damaged, wrong or missing items, cancelling a placed order | |
//! | [`Promotion`](Intent::Promotion) | sales, discounts, coupons, campaigns, freebies | a coupon that is not accepted |
//! | [`CheckoutHelp`](Intent::CheckoutHelp) | a problem or question in the act of paying: card declined, cart, coupon not accepted, address before paying | which payments there are in general |
//! | [`Escalation`](Intent::Escalation) | a person, a phone call, a manager, a complaint to be passed on | |
//! | [`Chitchat`](Intent::Chitchat) | greetings, thanks, jokes, who are you | anything with a wish of the store |
//! | none | gibberish, other tasks, two equal wishes, too little to tell | |

mod entities;
pub mod features;
pub mod model;
mod normal;
pub mod phrases;

use serde::{Deserialize, Serialize};

pub use self::entities::{Entities, PriceRange};
use self::features::Reading;
use self::model::{CLASSES, INTENTS, Model, Scores};
pub use self::normal::{Normal, normal};
use self::phrases::Phrases;

/// Below this confidence a message is unsure; set where it gives the most right answers on the utterances for training.
const CONFIDENCE_MIN: f32 = 0.3;

/// On a product's page a message is this many times as likely a question about the product as elsewhere.
const PRODUCT_PAGE_ODDS: f32 = 3.0;

/// What a shopper wants of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    /// To find a product.
    ProductDiscovery,
    /// To be recommended one.
    Recommendation,
    /// To know something about one.
    ProductQuestion,
    /// To know how the store works.
    Faq,
    /// To know where an order is.
    OrderTracking,
    /// To send something back.
    ReturnRequest,
    /// To know what is on offer.
    Promotion,
    /// Help with paying.
    CheckoutHelp,
    /// A person.
    Escalation,
    /// To talk.
    Chitchat,
}

impl Intent {
    /// As it is on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProductDiscovery => "product_discovery",
            Self::Recommendation => "recommendation",
            Self::ProductQuestion => "product_question",
            Self::Faq => "faq",
            Self::OrderTracking => "order_tracking",
            Self::ReturnRequest => "return_request",
            Self::Promotion => "promotion",
            Self::CheckoutHelp => "checkout_help",
            Self::Escalation => "escalation",
            Self::Chitchat => "chitchat",
        }
    }
}

/// What was understood of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Understanding {
    /// What the shopper wants; none when that is unsure.
    pub intent: Option<Intent>,
    /// How likely that is right, from 0 to 1.
    pub confidence: f32,
    /// What the message names.
    pub entities: Entities,
}

/// Understands a message. `about_product`: it was written on a product's page, so that "this" is that product. Of a text that
/// is too long, the first [`TEXT_CHARS_MAX`](crate::limits::TEXT_CHARS_MAX) characters are read.
pub fn understand(text: &str, about_product: bool) -> Understanding {
    let reading = Reading::of(text, about_product, Phrases::STORE);
    if reading.is_empty() {
        return Understanding { intent: None, confidence: 1.0, entities: reading.entities };
    }
    let likelihoods = Model::STORE.likelihoods(&reading);
    let (intent, confidence) = decide(likelihoods, about_product);
    Understanding { intent, confidence, entities: reading.entities }
}

/// The intent that is likely enough, if any is.
pub fn decide(mut likelihoods: Scores, about_product: bool) -> (Option<Intent>, f32) {
    if about_product {
        let question = INTENTS.iter().position(|intent| *intent == Intent::ProductQuestion);
        if let Some(likelihood) = question.and_then(|at| likelihoods.get_mut(at)) {
            *likelihood *= PRODUCT_PAGE_ODDS;
        }
        let sum: f32 = likelihoods.iter().sum();
        likelihoods.iter_mut().for_each(|likelihood| *likelihood /= sum);
    }
    let mut best = (CLASSES, 0.0);
    for (class, likelihood) in likelihoods.into_iter().enumerate() {
        if likelihood > best.1 {
            best = (class, likelihood);
        }
    }
    let (class, confidence) = best;
    (INTENTS.get(class).copied().filter(|_| confidence >= CONFIDENCE_MIN), confidence)
}
