//! How a message is answered: with fixed words, from the store's services, or by the model.

use crate::injection::is_attack;
use crate::intent::{Entities, Intent, understand};
use crate::protocol::TurnPath;
use crate::reminder;

/// What a message is about, and how it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What it is about; when nobody can say, what it most likely is.
    pub intent: Intent,
    /// Whether that is more than a guess.
    pub sure: bool,
    /// How it is answered.
    pub path: TurnPath,
    /// What it names.
    pub entities: Entities,
    /// The shopper asks to be reminded of a pre-order.
    pub wants_reminder: bool,
    /// The message is an attack on the model, which is not asked; it counts as talk.
    pub blocked: bool,
}

impl Route {
    /// The route of a message; the same whenever it is asked for. When nobody can say what a message is about, the model is
    /// asked.
    pub fn of(text: &str, about_product: bool) -> Self {
        if is_attack(text) {
            let (intent, path) = (Intent::Chitchat, TurnPath::Template);
            let entities = Entities::default();
            return Self { intent, sure: true, path, entities, wants_reminder: false, blocked: true };
        }
        let understood = understand(text, about_product);
        let likely = if about_product { Intent::ProductQuestion } else { Intent::ProductDiscovery };
        let wants_reminder = reminder::is_asked_for(text);
        let intent = match wants_reminder {
            true => Intent::OrderTracking,
            false => understood.intent.unwrap_or(likely),
        };
        let sure = wants_reminder || understood.intent.is_some();
        let path = match intent {
            Intent::Chitchat => TurnPath::Template,
            Intent::OrderTracking | Intent::ReturnRequest | Intent::Promotion | Intent::Escalation => {
                TurnPath::Services
            }
            Intent::ProductDiscovery
            | Intent::Recommendation
            | Intent::ProductQuestion
            | Intent::Faq
            | Intent::CheckoutHelp => TurnPath::Llm,
        };
        Self { intent, sure, path, entities: understood.entities, wants_reminder, blocked: false }
    }

    /// Whether products are looked for.
    pub fn needs_products(&self) -> bool {
        matches!(self.intent, Intent::ProductDiscovery | Intent::Recommendation | Intent::ProductQuestion)
    }

    /// Whether there is something to recommend if nothing is found, or in any case.
    pub fn needs_recommendations(&self) -> bool {
        matches!(self.intent, Intent::ProductDiscovery | Intent::Recommendation)
    }

    /// Whether the shopper's own orders belong into the answer.
    pub fn needs_orders(&self) -> bool {
        matches!(self.intent, Intent::OrderTracking | Intent::ReturnRequest)
    }

    /// Whether help articles are looked for.
    pub fn needs_articles(&self) -> bool {
        matches!(self.intent, Intent::Faq | Intent::CheckoutHelp | Intent::ReturnRequest) || !self.sure
    }

    /// Whether campaigns are what the question is about.
    pub fn needs_promotions(&self) -> bool {
        self.intent == Intent::Promotion
    }
}
