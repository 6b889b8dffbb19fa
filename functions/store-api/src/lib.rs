//! A sample store behind an HTTP API: catalog, recommendations, orders, promotions, reviews and help articles, as
//! [`domain::store`] describes them. It stands in for a store's real services.

pub mod catalog;
pub mod dynamodb;
pub mod http;
pub mod knowledge;
pub mod search;
pub mod seed;
pub mod shelf;
pub mod store;
pub mod table;
pub mod terms;
#[cfg(test)]
mod tests;
pub mod text;

pub use http::router;
