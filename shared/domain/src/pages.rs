//! Pages of the store that a shopper is sent to when the chat cannot show what is on them.

/// The store's site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePages {
    base_url: String,
}

impl StorePages {
    /// The site below a URL, which ends without a slash.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into() }
    }

    /// The page that searches the catalog.
    pub fn search(&self) -> String {
        format!("{}/search", self.base_url)
    }

    /// The shopper's orders.
    pub fn orders(&self) -> String {
        format!("{}/orders", self.base_url)
    }

    /// Campaigns.
    pub fn promotions(&self) -> String {
        format!("{}/promotions", self.base_url)
    }

    /// How to reach the people of the store.
    pub fn contact(&self) -> String {
        format!("{}/contact", self.base_url)
    }
}
