//! The sample store, asked directly over HTTP.

use domain::store::{Product, ProductPage};
use serde::de::DeserializeOwned;

use crate::stack::Running;

pub async fn product(stack: &Running, product_id: &str) -> Product {
    read(stack, &format!("/catalog/products/{product_id}")).await
}

pub async fn search(stack: &Running, query: &str) -> Vec<Product> {
    let page: ProductPage = read(stack, &format!("/catalog/search?q={query}&limit=20")).await;
    page.products
}

async fn read<T: DeserializeOwned>(stack: &Running, path_and_query: &str) -> T {
    let url = format!("{}{path_and_query}", stack.output("StoreUrl"));
    let answer = reqwest::get(&url).await.and_then(reqwest::Response::error_for_status);
    answer.expect("the store answers").json().await.unwrap_or_else(|error| panic!("{url}: {error}"))
}
