//! Puts help articles into OpenSearch, and makes index and search pipeline if need be:
//!
//!     cargo run -p aws-adapters --example index_articles -- ENDPOINT FILE PAGE_URL
//!
//! FILE is a JSON array like `functions/store-api/data/articles.json`; an article without a `url` gets `PAGE_URL/help/ID`. Region
//! and credentials are those of the environment. May be repeated: articles are replaced by their id.

use std::error::Error;

use aws_adapters::{IndexedArticle, OpenSearchConfiguration, OpenSearchIndex, SystemClock, clients};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, file, page_url] = arguments.as_slice() else {
        return Err("usage: index_articles ENDPOINT FILE PAGE_URL".into());
    };
    let articles = read(&std::fs::read_to_string(file)?, page_url)?;
    let sdk = clients::sdk_config().await;
    let region = sdk.region().ok_or("the environment names no region")?.to_string();
    let index = OpenSearchIndex::new(OpenSearchConfiguration::at(endpoint, region), &sdk, SystemClock);
    index.create().await?;
    for article in &articles {
        index.put_article(article).await?;
        println!("{}", article.article_id);
    }
    Ok(())
}

fn read(json: &str, page_url: &str) -> Result<Vec<IndexedArticle>, serde_json::Error> {
    let mut articles: Vec<Value> = serde_json::from_str(json)?;
    for article in articles.iter_mut().filter_map(Value::as_object_mut) {
        let id = article.get("article_id").and_then(Value::as_str).unwrap_or_default();
        let url = json!(format!("{}/help/{id}", page_url.trim_end_matches('/')));
        article.entry("url").or_insert(url);
    }
    articles.into_iter().map(serde_json::from_value).collect()
}
