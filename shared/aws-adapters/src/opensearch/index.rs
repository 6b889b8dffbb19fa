//! Making an index of help articles.

use aws_config::SdkConfig;
use domain::ports::{Clock, Unavailable};
use domain::store::Bilingual;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::endpoint::{Answer, Endpoint};
use super::{Embeddings, OpenSearchConfiguration, VECTOR_DIMENSIONS};
use crate::clients;

/// A whole answer of OpenSearch to a change, ms.
const CHANGE_MS: u64 = 10_000;

/// What words count for in the score, and what meaning counts for. Both scores are from 0 to 1 by then.
const WORDS_WEIGHT: f64 = 0.4;
const MEANING_WEIGHT: f64 = 0.6;

const CREATE: &str = "create an OpenSearch index";
const PIPELINE: &str = "create a search pipeline";
const PUT: &str = "index an article";

/// A help article as it is indexed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedArticle {
    /// For example `returns`.
    pub article_id: String,
    /// Its heading.
    pub title: Bilingual,
    /// Words and phrases that lead to it, of both languages.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// Plain text.
    pub body: Bilingual,
    /// Where it can be read.
    pub url: String,
}

impl IndexedArticle {
    /// Articles from a JSON array. One without a `url` gets `PAGE_URL/help/ID`.
    pub fn read_all(json: &str, page_url: &str) -> Result<Vec<Self>, serde_json::Error> {
        let mut articles: Vec<Value> = serde_json::from_str(json)?;
        for article in articles.iter_mut().filter_map(Value::as_object_mut) {
            let id = article.get("article_id").and_then(Value::as_str).unwrap_or_default();
            let url = json!(format!("{}/help/{id}", page_url.trim_end_matches('/')));
            article.entry("url").or_insert(url);
        }
        articles.into_iter().map(serde_json::from_value).collect()
    }

    /// What its vector is made of.
    fn text(&self) -> String {
        [&self.title.ja, &self.body.ja, &self.title.en, &self.body.en].map(String::as_str).join("\n")
    }
}

/// An index that is being made or brought up to date.
#[derive(Debug)]
pub struct OpenSearchIndex<C> {
    configuration: OpenSearchConfiguration,
    endpoint: Endpoint<C>,
    embeddings: Embeddings,
}

impl<C: Clock> OpenSearchIndex<C> {
    /// The index that the configuration names, reached with the environment's credentials. Asks nothing yet.
    pub fn new(configuration: OpenSearchConfiguration, sdk: &SdkConfig, clock: C) -> Self {
        let embeddings = Embeddings::new(clients::bedrock_runtime(sdk), &configuration);
        let endpoint = Endpoint::new(&configuration, sdk, clock, CHANGE_MS);
        Self { configuration, endpoint, embeddings }
    }

    /// Creates the index unless there is one, and the search pipeline, which replaces one of the same name.
    pub async fn create(&self) -> Result<(), Unavailable> {
        let answer = self.put(CREATE, &[&self.configuration.index], &mapping()).await?;
        if !answer.failed_with("resource_already_exists_exception") {
            let _acknowledged: Value = answer.read(CREATE)?;
        }
        let answer = self.put(PIPELINE, &["_search", "pipeline", &self.configuration.pipeline], &pipeline()).await?;
        let _acknowledged: Value = answer.read(PIPELINE)?;
        Ok(())
    }

    /// Puts an article into the index with its vector; one with the same id is replaced.
    pub async fn put_article(&self, article: &IndexedArticle) -> Result<(), Unavailable> {
        let mut document = json!(article);
        if let Some(fields) = document.as_object_mut() {
            fields.insert("embedding".to_owned(), json!(self.embeddings.vector(&article.text()).await?));
        }
        let answer = self.put(PUT, &[&self.configuration.index, "_doc", &article.article_id], &document).await?;
        let _acknowledged: Value = answer.read(PUT)?;
        Ok(())
    }

    async fn put(&self, operation: &'static str, path: &[&str], body: &Value) -> Result<Answer, Unavailable> {
        self.endpoint.send(operation, Method::PUT, path, None, body).await
    }
}

/// Japanese by pairs of characters (`cjk`), which every OpenSearch has built in; the vectors have length 1, so their inner
/// product is the cosine.
fn mapping() -> Value {
    let both = || {
        json!({ "properties": {
            "ja": { "type": "text", "analyzer": "cjk" },
            "en": { "type": "text", "analyzer": "english" },
        } })
    };
    json!({
        "settings": { "index": { "knn": true } },
        "mappings": { "dynamic": "strict", "properties": {
            "article_id": { "type": "keyword" },
            "title": both(),
            "keywords": { "type": "text", "analyzer": "cjk" },
            "body": both(),
            "url": { "type": "keyword", "index": false },
            "embedding": {
                "type": "knn_vector",
                "dimension": VECTOR_DIMENSIONS,
                "method": { "name": "hnsw", "engine": "faiss", "space_type": "innerproduct" },
            },
        } },
    })
}

/// Brings the scores of both searches to 0 to 1 and adds them.
fn pipeline() -> Value {
    json!({
        "description": "Words and meaning of help articles",
        "phase_results_processors": [{ "normalization-processor": {
            "normalization": { "technique": "min_max" },
            "combination": {
                "technique": "arithmetic_mean",
                "parameters": { "weights": [WORDS_WEIGHT, MEANING_WEIGHT] },
            },
        } }],
    })
}
