//! `cache-invalidator`: heeds the store's events, so that nobody is told what is no longer so, and has the reviews of what is in
//! demand read again once an hour.

use domain::invalidation::{CatalogEvent, EventError, heed};
use domain::ports::{CacheInvalidations, Clock, StoreServices, Unavailable};
use serde_json::Value;

/// Why an event was not heeded. EventBridge sends it again, and at last to the dead letters.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It says nothing.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Nobody could be told.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Heeds one event.
///
/// # Errors
/// When the event is not understood, or the caches or the store do not answer.
pub async fn handle(
    caches: &impl CacheInvalidations,
    store: &impl StoreServices,
    clock: &impl Clock,
    event: &Value,
) -> Result<(), Failure> {
    let event = CatalogEvent::from_event(event)?;
    heed(&event, caches, store, clock).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
