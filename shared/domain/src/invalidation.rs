//! What the store's events say of cached answers.

use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use crate::ids::ProductId;
use crate::limits::{
    GROUNDING_REVIEWS_MAX, PRODUCTS_PER_EVENT_MAX, REVIEW_REFRESHES_AT_ONCE_MAX, REVIEW_REFRESHES_MAX,
};
use crate::ports::{CacheInvalidations, Clock, StoreServices, Unavailable};
use crate::store::tags;

/// Something in the store is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogEvent {
    /// Details of these products.
    ProductsChanged(Vec<ProductId>),
    /// Which products there are, and which are in demand.
    SelectionChanged,
    /// Campaigns.
    PromotionsChanged,
    /// Reviews of these products.
    ReviewsChanged(Vec<ProductId>),
    /// Nothing has: it is time to read the reviews of what is in demand again.
    RefreshReviews,
}

/// Why an event says nothing.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not an event that is known here.
    #[error("the event's source or detail-type is not known")]
    Unknown,
    /// The detail is not as it should be.
    #[error("the event's detail is malformed")]
    Malformed(#[from] serde_json::Error),
    /// It names too many products.
    #[error("the event names more than {PRODUCTS_PER_EVENT_MAX} products")]
    TooMany,
}

/// What EventBridge delivers, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Delivered {
    source: String,
    #[serde(rename = "detail-type")]
    detail_type: String,
    #[serde(default)]
    detail: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct Products {
    product_ids: Vec<ProductId>,
}

impl CatalogEvent {
    /// Reads an event as EventBridge delivers it. Its rule decides whose events come here.
    ///
    /// # Errors
    /// When it is not one of those in `docs/caching.md`.
    pub fn from_event(event: &serde_json::Value) -> Result<Self, EventError> {
        let Delivered { source, detail_type, detail } = Delivered::deserialize(event)?;
        let products = || -> Result<Vec<ProductId>, EventError> {
            let Products { product_ids } = serde_json::from_value(detail)?;
            match product_ids.len() <= PRODUCTS_PER_EVENT_MAX {
                true => Ok(product_ids),
                false => Err(EventError::TooMany),
            }
        };
        Ok(match (source.as_str(), detail_type.as_str()) {
            ("aws.events", "Scheduled Event") => Self::RefreshReviews,
            (_, "products.changed") => Self::ProductsChanged(products()?),
            (_, "selection.changed") => Self::SelectionChanged,
            (_, "promotions.changed") => Self::PromotionsChanged,
            (_, "reviews.changed") => Self::ReviewsChanged(products()?),
            _other => return Err(EventError::Unknown),
        })
    }

    /// The tags that are out of date.
    fn tags(&self) -> Vec<String> {
        match self {
            Self::ProductsChanged(products) => products.iter().map(|id| tags::product(id.as_str())).collect(),
            Self::SelectionChanged => vec![tags::SELECTION.to_owned()],
            Self::PromotionsChanged => vec![tags::PROMOTIONS.to_owned()],
            Self::ReviewsChanged(products) => products.iter().map(|id| tags::reviews(id.as_str())).collect(),
            Self::RefreshReviews => Vec::new(),
        }
    }
}

/// Declares out of date what an event speaks of; reads the reviews of what is in demand again when it is time. Doing so twice
/// changes nothing.
///
/// # Errors
/// When nobody could be told, or the store does not answer: the event must come again.
pub async fn heed(
    event: &CatalogEvent,
    caches: &impl CacheInvalidations,
    store: &impl StoreServices,
    clock: &impl Clock,
) -> Result<(), Unavailable> {
    if *event != CatalogEvent::RefreshReviews {
        return caches.invalidate(&event.tags(), clock.now_ms()).await;
    }
    let trending = store.trending(REVIEW_REFRESHES_MAX).await?;
    let tags: Vec<String> = trending.iter().map(|product| tags::reviews(&product.product_id)).collect();
    caches.invalidate(&tags, clock.now_ms()).await?;
    let ids: Vec<ProductId> = trending.iter().filter_map(|product| ProductId::parse(&product.product_id)).collect();
    let reading = stream::iter(ids).map(|id| async move { store.reviews(&id, GROUNDING_REVIEWS_MAX).await });
    let read: Vec<_> = reading.buffer_unordered(REVIEW_REFRESHES_AT_ONCE_MAX).collect().await;
    let failed = read.iter().filter(|reviews| reviews.is_err()).count();
    tracing::info!(read = read.len() - failed, failed, "reviews were read again");
    Ok(())
}
