//! What the store's services answer: the JSON contract between the chat and the catalog, recommendations, orders,
//! promotions, reviews and knowledge services.
//!
//! | request | answer |
//! |---|---|
//! | `GET /catalog/search?q=&limit=` | [`ProductPage`], best match first |
//! | `GET /catalog/products/{product_id}` | [`Product`], or 404 |
//! | `GET /catalog/offers?product_ids=A,B` | [`OfferPage`], of those of at most [`OFFERS_MAX`] products that there are |
//! | `GET /recommendations?shopper_id=&limit=` | [`RecommendationPage`]; with `shopper_id` it needs the service key, without it is for anybody |
//! | `GET /trending?limit=` | [`ProductPage`] |
//! | `GET /orders?shopper_id=` | [`OrderPage`], newest first; needs the service key |
//! | `GET /orders/{order_id}?shopper_id=` | [`Order`] of that shopper, or 404; needs the service key |
//! | `GET /promotions` | [`PromotionPage`], those running now |
//! | `GET /products/{product_id}/reviews?limit=` | [`ReviewPage`], newest first |
//! | `GET /knowledge/search?q=&limit=` | [`ArticlePage`], best match first |
//! | `GET /knowledge/articles/{article_id}` | [`Article`], or 404 |
//!
//! `q` has at most [`SEARCH_TEXT_CHARS_MAX`] characters, `limit` is at most [`PAGE_ENTRIES_MAX`] (10 if absent). The service
//! key travels as `authorization: Bearer KEY`. An error answer is `{"message": …}`: 400 malformed, 401 without the key, 404
//! no such thing, 405 not a GET, 503 try again later.

use serde::{Deserialize, Serialize};

/// A search text, Unicode scalar values; a longer question is cut by who asks. Percent-encoded Japanese takes nine bytes
/// a character, and API Gateway allows 10,240 for the request line and headers (HTTP API quotas).
pub const SEARCH_TEXT_CHARS_MAX: usize = 500;

/// Entries on one page, whether or not the request names a limit.
pub const PAGE_ENTRIES_MAX: usize = 40;

/// The same text in both languages of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bilingual {
    /// Japanese.
    pub ja: String,
    /// English.
    pub en: String,
}

/// A price as the store charges it, tax included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Price {
    /// In the currency's smallest unit; yen have no smaller one.
    pub amount: u64,
    /// ISO 4217, `JPY`.
    pub currency: String,
}

/// How a product reaches the shopper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Printed.
    Paperback,
    /// Read in the store's app.
    Digital,
    /// Several volumes in one box.
    BoxSet,
}

/// One thing that can be bought: a volume or a box set of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// For example `one-piece-1`.
    pub product_id: String,
    /// For example `one-piece`.
    pub series_id: String,
    /// With the volume, for example `ONE PIECE 1` and `ONE PIECE, Vol. 1`.
    pub title: Bilingual,
    /// Counted from 1; absent for a box set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<u32>,
    /// Writers and artists.
    pub authors: Vec<Bilingual>,
    /// For example `Shueisha`.
    pub publisher: Bilingual,
    /// Lower case English: `adventure`, `romance`, …
    pub genres: Vec<String>,
    /// How it is delivered.
    pub format: Format,
    /// `all`, `teen` or `mature`.
    pub age_rating: String,
    /// What the series is about, one or two sentences.
    pub summary: Bilingual,
    /// How many volumes the series has so far.
    pub volumes_published: u32,
    /// The product's page.
    pub url: String,
    /// The cover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Its fields stand beside the others. A service always says them; none when the rest is from a cache and the catalog
    /// did not say what the product costs now.
    #[serde(flatten)]
    pub offer: Option<Offer>,
}

/// What a product costs and how many there are: the part of a [`Product`] that is never cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Read when the request was answered.
    pub price: Price,
    /// Read when the request was answered; 0 is sold out.
    pub stock: u32,
    /// When price and stock were read, Unix milliseconds.
    pub as_of: u64,
}

/// The offer of one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductOffer {
    /// Of which product.
    pub product_id: String,
    /// Its fields stand beside the id.
    #[serde(flatten)]
    pub offer: Offer,
}

/// Offers, in no particular order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferPage {
    /// In no particular order.
    pub offers: Vec<ProductOffer>,
}

/// Products whose offers are asked for at once.
pub const OFFERS_MAX: usize = 40;

/// What a cached answer is about: the store's events declare tags out of date.
pub mod tags {
    /// Campaigns.
    pub const PROMOTIONS: &str = "promotions";

    /// Which products a search finds, what sells best, and what is recommended.
    pub const SELECTION: &str = "selection";

    /// The details of a product.
    pub fn product(product_id: &str) -> String {
        format!("product:{product_id}")
    }

    /// The reviews of a product.
    pub fn reviews(product_id: &str) -> String {
        format!("reviews:{product_id}")
    }
}

/// Products, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductPage {
    /// Best first.
    pub products: Vec<Product>,
}

/// A product and why it is recommended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recommendation {
    /// What is recommended.
    pub product: Product,
    /// Why, to be shown to the shopper.
    pub reason: Bilingual,
}

/// Recommendations, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecommendationPage {
    /// Best first.
    pub recommendations: Vec<Recommendation>,
}

/// Where an order is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
    /// Placed, not yet paid.
    PendingPayment,
    /// Paid, not yet packed.
    Processing,
    /// Waits for a release day.
    Preordered,
    /// Handed to the carrier.
    Shipped,
    /// On the van today.
    OutForDelivery,
    /// With the shopper.
    Delivered,
    /// Cancelled before it was shipped.
    Cancelled,
    /// The shopper asked to send it back.
    ReturnRequested,
    /// Back, and the money too.
    Refunded,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// What was bought.
    pub product_id: String,
    /// Its title when it was bought.
    pub title: Bilingual,
    /// How many.
    pub quantity: u32,
}

/// A shopper's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// For example `MC-2026-000123`.
    pub order_id: String,
    /// Who placed it.
    pub shopper_id: String,
    /// Where it is on its way.
    pub status: OrderStatus,
    /// Unix milliseconds.
    pub placed_at: u64,
    /// The day it should arrive, `2026-11-24`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// Who carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// What was bought.
    pub items: Vec<OrderLine>,
    /// What was paid, shipping included.
    pub total: Price,
    /// The order's page.
    pub url: String,
    /// When the state was read, Unix milliseconds.
    pub as_of: u64,
}

/// A shopper's orders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderPage {
    /// Newest first.
    pub orders: Vec<Order>,
}

/// A campaign that runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// For example `autumn-first-volumes`.
    pub promotion_id: String,
    /// Its name.
    pub title: Bilingual,
    /// What it gives, and to whom.
    pub description: Bilingual,
    /// Unix milliseconds.
    pub starts_at: u64,
    /// Unix milliseconds.
    pub ends_at: u64,
    /// The campaign's page.
    pub url: String,
}

/// The campaigns that run now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionPage {
    /// Soonest to end first.
    pub promotions: Vec<Promotion>,
}

/// What a reader wrote about a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// For example `one-piece-1-r2`.
    pub review_id: String,
    /// What it is about.
    pub product_id: String,
    /// 1 to 5.
    pub rating: u8,
    /// The language it is written in, `ja` or `en`.
    pub language: String,
    /// As the reader wrote it.
    pub text: String,
    /// Unix milliseconds.
    pub written_at: u64,
}

/// A product's reviews.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReviewPage {
    /// Mean rating of all reviews, one decimal; 0 without reviews.
    pub average_rating: f32,
    /// How many reviews there are in all.
    pub count: u32,
    /// Newest first.
    pub reviews: Vec<Review>,
}

/// A help article.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Article {
    /// For example `returns`.
    pub article_id: String,
    /// Its heading.
    pub title: Bilingual,
    /// Plain text.
    pub body: Bilingual,
    /// Where it can be read.
    pub url: String,
}

/// Help articles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArticlePage {
    /// Best match first.
    pub articles: Vec<Article>,
}
