//! Where the store's services and Valkey are.

use std::fmt;

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfiguration {
    /// Base URL, with or without a slash at the end; it may have a path.
    pub url: String,
    /// An attempt, its answer read to the end, takes this long at most, ms. With its retries a call never takes longer than
    /// [`SERVICE_CALL_MS`](domain::limits::SERVICE_CALL_MS).
    pub timeout_ms: u64,
}

/// The store's services.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreConfiguration {
    /// Product search, look-up, prices, stock, and what is trending.
    pub catalog: ServiceConfiguration,
    /// Recommendations.
    pub recommendations: ServiceConfiguration,
    /// Orders.
    pub orders: ServiceConfiguration,
    /// Promotions.
    pub promotions: ServiceConfiguration,
    /// Reviews.
    pub reviews: ServiceConfiguration,
    /// Help articles.
    pub knowledge: ServiceConfiguration,
    /// Shows the services that it is the chat that asks.
    pub store_key: String,
}

/// The second level of the cache.
#[derive(Clone, PartialEq, Eq)]
pub struct ValkeyConfiguration {
    /// `redis://HOST:PORT`, or `rediss://HOST:PORT` for TLS.
    pub url: String,
    /// Who logs in; with a password alone it is the default user.
    pub username: Option<String>,
    /// With what.
    pub password: Option<String>,
}

/// Without the key.
impl fmt::Debug for StoreConfiguration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StoreConfiguration")
            .field("catalog", &self.catalog)
            .field("recommendations", &self.recommendations)
            .field("orders", &self.orders)
            .field("promotions", &self.promotions)
            .field("reviews", &self.reviews)
            .field("knowledge", &self.knowledge)
            .finish_non_exhaustive()
    }
}

/// Without the password, which may stand in the URL too.
impl fmt::Debug for ValkeyConfiguration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ValkeyConfiguration").finish_non_exhaustive()
    }
}
