//! What the store keeps, and what it asks of the table that keeps it.

use std::collections::HashMap;

use domain::ports::Unavailable;
use domain::store::{Bilingual, OrderLine, OrderStatus, Review};
use serde::{Deserialize, Serialize};

use crate::catalog::Series;
use crate::seed::Seed;

/// What changes from minute to minute about a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Which product.
    pub product_id: String,
    /// Yen, tax included.
    pub price_jpy: u64,
    /// 0 is sold out.
    pub stock: u32,
}

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// For example `first-volumes`.
    pub promotion_id: String,
    /// Its name.
    pub title: Bilingual,
    /// What it gives, and to whom.
    pub description: Bilingual,
    /// Unix milliseconds, inclusive.
    pub starts_at: u64,
    /// Unix milliseconds, exclusive.
    pub ends_at: u64,
}

/// A help article and the words that lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelpArticle {
    /// For example `returns`.
    pub article_id: String,
    /// Its heading.
    pub title: Bilingual,
    /// Words and phrases of both languages.
    pub keywords: Vec<String>,
    /// Plain text.
    pub body: Bilingual,
}

/// An order as it was placed, and where it is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedOrder {
    /// For example `MC-2026-000123`.
    pub order_id: String,
    /// Who placed it.
    pub shopper_id: String,
    /// Where it is on its way.
    pub status: OrderStatus,
    /// Unix milliseconds.
    pub placed_at: u64,
    /// The day it should arrive, in Japan: `2026-11-24`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<String>,
    /// Who carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<String>,
    /// What was bought.
    pub items: Vec<OrderLine>,
    /// Yen, shipping included.
    pub total_jpy: u64,
}

/// What is known of a shopper.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shopper {
    /// Verified to be of age.
    pub adult: bool,
    /// In no particular order.
    pub orders: Vec<PlacedOrder>,
}

/// Everything that may be kept in memory for a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// All series.
    pub series: Vec<Series>,
    /// All reviews.
    pub reviews: Vec<Review>,
    /// All campaigns, whether they run or not.
    pub campaigns: Vec<Campaign>,
    /// All help articles.
    pub articles: Vec<HelpArticle>,
}

/// The store's table. Every answer shows all writes that were acknowledged before it was asked for.
pub trait StoreTable: Send + Sync {
    /// The digest of the sample data that was written last, if all of it was.
    fn seeded(&self) -> impl Future<Output = Result<Option<String>, Unavailable>> + Send;

    /// Writes the sample data, each item replacing its predecessor, and only then its digest. May run several times at
    /// once and be repeated after a failure.
    fn seed(&self, seed: &Seed) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// All series, reviews, campaigns and articles.
    fn facts(&self) -> impl Future<Output = Result<Facts, Unavailable>> + Send;

    /// Price and stock of the products, at most [`OFFERS_MAX`] of them, by product. A product that is not sold any more is absent.
    fn offers(&self, product_ids: &[&str]) -> impl Future<Output = Result<HashMap<String, Offer>, Unavailable>> + Send;

    /// A shopper; nothing is known of one who is not in the table.
    fn shopper(&self, shopper_id: &str) -> impl Future<Output = Result<Shopper, Unavailable>> + Send;

    /// An order, if that shopper placed it.
    fn order(
        &self,
        shopper_id: &str,
        order_id: &str,
    ) -> impl Future<Output = Result<Option<PlacedOrder>, Unavailable>> + Send;
}

/// Products in one request for offers: the keys a BatchGetItem takes.
pub const OFFERS_MAX: usize = 100;
