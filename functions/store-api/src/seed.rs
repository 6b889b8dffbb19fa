//! The sample store's data: read from the files in `data/`, dated from the day it is written.
//!
//! Titles, authors and publishers are facts; the numbers of volumes are those of mid 2025. Prices, stock, popularity,
//! shoppers and reviews are made up.
//!
//! The table is written when the digest in its marker is not that of these files, and then as a whole: prices and
//! stock an operator changed stay until the files change. What left the files stays in the table.

use std::collections::HashMap;

use domain::store::{Bilingual, Format, OrderLine, OrderStatus, Review};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use crate::catalog::Series;
use crate::table::{Campaign, Facts, HelpArticle, Offer, PlacedOrder};

const SERIES: &str = include_str!("../data/series.json");
const REVIEWS: &str = include_str!("../data/reviews.json");
const PROMOTIONS: &str = include_str!("../data/promotions.json");
const ARTICLES: &str = include_str!("../data/articles.json");
const SHOPPERS: &str = include_str!("../data/shoppers.json");

/// Raised when the same files become other items, so that tables are written anew.
const ITEMS_VERSION: &str = "1";

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Japan's clocks are nine hours ahead of UTC, all year.
const JAPAN_OFFSET_MS: u64 = 9 * 60 * 60 * 1000;

/// Shipping of an order with something printed in it, yen (help article `shipping`).
const SHIPPING_JPY: u64 = 440;

/// From here on shipping is free, yen (help article `shipping`).
const SHIPPING_FREE_FROM_JPY: u64 = 3_980;

/// A sample shopper, without orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleShopper {
    /// The subject of the shopper's token.
    pub shopper_id: String,
    /// Verified to be of age.
    pub adult: bool,
}

/// All that is written to an empty table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// Of the files it was made from.
    pub digest: String,
    /// Series, reviews, campaigns, articles.
    pub facts: Facts,
    /// One for each product.
    pub offers: Vec<Offer>,
    /// The shoppers.
    pub shoppers: Vec<SampleShopper>,
    /// Their orders.
    pub orders: Vec<PlacedOrder>,
}

/// A data file that does not fit together.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Not the JSON that is expected.
    #[error("a data file cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// An order names something that is not sold.
    #[error("order {order_id} has the unknown product {product_id}")]
    UnknownProduct {
        /// The order.
        order_id: String,
        /// What it names.
        product_id: String,
    },
}

#[derive(Deserialize)]
struct ReviewLine {
    review_id: String,
    product_id: String,
    rating: u8,
    language: String,
    days_ago: u64,
    text: String,
}

#[derive(Deserialize)]
struct CampaignLine {
    promotion_id: String,
    title: Bilingual,
    description: Bilingual,
    starts_in_days: i64,
    ends_in_days: i64,
}

#[derive(Deserialize)]
struct ShopperLine {
    shopper_id: String,
    adult: bool,
    orders: Vec<OrderEntry>,
}

#[derive(Deserialize)]
struct OrderEntry {
    order_id: String,
    status: OrderStatus,
    placed_days_ago: u64,
    eta_in_days: Option<i64>,
    carrier: Option<String>,
    items: Vec<ItemEntry>,
}

#[derive(Deserialize)]
struct ItemEntry {
    product_id: String,
    quantity: u32,
}

/// What an order needs to know of a product.
struct Sold {
    title: Bilingual,
    price_jpy: u64,
    printed: bool,
}

/// The digest of the data files: what the table's marker is compared with.
pub fn digest() -> String {
    let mut hash = Sha256::new();
    for part in [ITEMS_VERSION, SERIES, REVIEWS, PROMOTIONS, ARTICLES, SHOPPERS] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Seed {
    /// Reads the data files. Days in them count from midnight in Japan before `now_ms` (Unix milliseconds), so that
    /// all environments that seed on one day write the same.
    pub fn read(now_ms: u64) -> Result<Self, SeedError> {
        let today_ms = ((now_ms + JAPAN_OFFSET_MS) / DAY_MS * DAY_MS).saturating_sub(JAPAN_OFFSET_MS);
        let series: Vec<Series> = serde_json::from_str(SERIES)?;
        let mut offers = Vec::new();
        let mut sold = HashMap::new();
        for one in &series {
            for edition in one.editions() {
                let price_jpy = one.price_jpy_of(edition.format);
                offers.push(Offer { product_id: edition.product_id.clone(), price_jpy, stock: edition.sample_stock() });
                let printed = edition.format != Format::Digital;
                sold.insert(edition.product_id, Sold { title: edition.title, price_jpy, printed });
            }
        }
        let mut shoppers = Vec::new();
        let mut orders = Vec::new();
        for ShopperLine { shopper_id, adult, orders: entries } in serde_json::from_str::<Vec<_>>(SHOPPERS)? {
            for entry in entries {
                orders.push(placed(entry, &shopper_id, today_ms, &sold)?);
            }
            shoppers.push(SampleShopper { shopper_id, adult });
        }
        Ok(Self {
            digest: digest(),
            facts: Facts {
                series,
                reviews: reviews(today_ms)?,
                campaigns: campaigns(today_ms)?,
                articles: serde_json::from_str::<Vec<HelpArticle>>(ARTICLES)?,
            },
            offers,
            shoppers,
            orders,
        })
    }
}

fn placed(
    entry: OrderEntry,
    shopper_id: &str,
    today_ms: u64,
    sold: &HashMap<String, Sold>,
) -> Result<PlacedOrder, SeedError> {
    let mut items = Vec::with_capacity(entry.items.len());
    let mut total_jpy = 0;
    let mut printed = false;
    for ItemEntry { product_id, quantity } in entry.items {
        let Some(product) = sold.get(&product_id) else {
            return Err(SeedError::UnknownProduct { order_id: entry.order_id, product_id });
        };
        total_jpy += product.price_jpy * u64::from(quantity);
        printed |= product.printed;
        items.push(OrderLine { product_id, title: product.title.clone(), quantity });
    }
    if printed && total_jpy < SHIPPING_FREE_FROM_JPY {
        total_jpy += SHIPPING_JPY;
    }
    Ok(PlacedOrder {
        order_id: entry.order_id,
        shopper_id: shopper_id.to_owned(),
        status: entry.status,
        placed_at: today_ms.saturating_sub(entry.placed_days_ago * DAY_MS),
        eta: entry.eta_in_days.and_then(|days| date_in_japan(shifted(today_ms, days))),
        carrier: entry.carrier,
        items,
        total_jpy,
    })
}

fn reviews(today_ms: u64) -> Result<Vec<Review>, SeedError> {
    let lines: Vec<ReviewLine> = serde_json::from_str(REVIEWS)?;
    Ok(lines
        .into_iter()
        .map(|line| Review {
            review_id: line.review_id,
            product_id: line.product_id,
            rating: line.rating,
            language: line.language,
            text: line.text,
            written_at: today_ms.saturating_sub(line.days_ago * DAY_MS),
        })
        .collect())
}

fn campaigns(today_ms: u64) -> Result<Vec<Campaign>, SeedError> {
    let lines: Vec<CampaignLine> = serde_json::from_str(PROMOTIONS)?;
    Ok(lines
        .into_iter()
        .map(|line| Campaign {
            promotion_id: line.promotion_id,
            title: line.title,
            description: line.description,
            starts_at: shifted(today_ms, line.starts_in_days),
            ends_at: shifted(today_ms, line.ends_in_days),
        })
        .collect())
}

fn shifted(at_ms: u64, days: i64) -> u64 {
    at_ms.saturating_add_signed(days.saturating_mul(DAY_MS.cast_signed()))
}

/// `2026-11-24`; none after the year 9999.
fn date_in_japan(at_ms: u64) -> Option<String> {
    let seconds = i64::try_from((at_ms + JAPAN_OFFSET_MS) / 1000).ok()?;
    Some(OffsetDateTime::from_unix_timestamp(seconds).ok()?.date().to_string())
}
