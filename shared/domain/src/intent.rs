//! What a message is about.

use serde::{Deserialize, Serialize};

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

/// Words that tell an intent, more telling ones first.
const WORDS: [(Intent, &[&str]); 7] = [
    (Intent::Escalation, &["オペレーター", "担当者", "human agent", "talk to a person", "real person"]),
    (Intent::ReturnRequest, &["返品", "返金", "交換したい", "return", "refund"]),
    (
        Intent::OrderTracking,
        &["注文", "配送状況", "届かない", "いつ届", "追跡", "my order", "track", "delivery status", "shipped"],
    ),
    (Intent::Promotion, &["セール", "キャンペーン", "クーポン", "割引", "sale", "coupon", "discount", "promotion"]),
    (Intent::CheckoutHelp, &["支払", "決済", "payment", "checkout", "pay with"]),
    (Intent::Recommendation, &["おすすめ", "オススメ", "お薦め", "recommend", "suggest"]),
    (Intent::Faq, &["送料", "ラッピング", "ポイント", "会員", "shipping", "gift wrap", "points", "account"]),
];

/// What a message tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Understanding {
    /// What it is about; none when nobody can say.
    pub intent: Option<Intent>,
    /// What it names.
    pub entities: Entities,
}

/// What a message names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entities {
    /// Orders.
    pub order_ids: Vec<String>,
}

/// What a message is about.
pub fn understand(text: &str, about_product: bool) -> Understanding {
    let text = text.to_lowercase();
    let told = WORDS.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
    let intent = told.map(|(intent, _)| *intent).or(about_product.then_some(Intent::ProductQuestion));
    let ids =
        text.split(|char: char| !char.is_ascii_alphanumeric() && char != '-').filter(|word| word.starts_with("mc-"));
    Understanding { intent, entities: Entities { order_ids: ids.map(str::to_uppercase).collect() } }
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
