//! Puts help articles into OpenSearch, and makes index and search pipeline if need be:
//!
//!     cargo run -p aws-adapters --example index_articles -- ENDPOINT FILE PAGE_URL
//!
//! FILE is a JSON array like `functions/store-api/data/articles.json`; an article without a `url` gets `PAGE_URL/help/ID`. Region
//! and credentials are those of the environment. May be repeated: articles are replaced by their id.

use std::error::Error;

use aws_adapters::{IndexedArticle, OpenSearchConfiguration, OpenSearchIndex, SystemClock, clients};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, file, page_url] = arguments.as_slice() else {
        return Err("usage: index_articles ENDPOINT FILE PAGE_URL".into());
    };
    let articles = IndexedArticle::read_all(&std::fs::read_to_string(file)?, page_url)?;
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
