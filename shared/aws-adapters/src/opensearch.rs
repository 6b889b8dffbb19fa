//! Help articles in OpenSearch, found by their words (BM25) and by their meaning (nearest vectors) in one request.
//!
//! A question is embedded by a model of Bedrock. When that fails, the words alone are searched. Requests are signed (SigV4) with
//! the environment's credentials. `docs/knowledge.md` says how an index is made.

mod endpoint;
mod index;

use aws_config::SdkConfig;
use aws_sdk_bedrockruntime::Client;
use aws_sdk_bedrockruntime::primitives::Blob;
use domain::ports::{Clock, Unavailable};
use domain::prompt::cut;
use domain::store::{Article, SEARCH_TEXT_CHARS_MAX};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clients;
use crate::table::unavailable;
use endpoint::Endpoint;
pub use index::{IndexedArticle, OpenSearchIndex};

/// The numbers of a vector: the middle size of Titan Text Embeddings V2, which loses about 1 % of the accuracy of the largest
/// (Bedrock user guide, "Amazon Titan Text Embeddings models").
const VECTOR_DIMENSIONS: usize = 512;

/// A whole answer of OpenSearch to a search, ms. With the embedding before it (400 ms) it is within the turn's time for the store.
const SEARCH_MS: u64 = 900;

/// How many of a question's words an article has to have.
const WORDS_MATCHING_MIN: &str = "30%";

/// How near an article's vector has to be. OpenSearch's score of an inner product is 1 more than it, and of vectors of length 1
/// that is the cosine: 0.35 is about where Titan's vectors stop to have a subject in common.
const VECTOR_SCORE_MIN: f64 = 1.35;

const EMBED: &str = "embed a question";
const SEARCH: &str = "search help articles in OpenSearch";

/// Where the articles are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSearchConfiguration {
    /// The URL of a domain or of a serverless collection, `https://….ap-northeast-1.es.amazonaws.com`.
    pub endpoint: String,
    /// The index, or an alias of it.
    pub index: String,
    /// The search pipeline that brings the scores of words and vectors together.
    pub pipeline: String,
    /// The model that makes the vectors; questions and articles need the same.
    pub embedding_model_id: String,
    /// Where the endpoint is, for signatures.
    pub region: String,
}

impl OpenSearchConfiguration {
    /// The names that are used when nothing else is said.
    pub fn at(endpoint: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            index: "help-articles".to_owned(),
            pipeline: "help-articles-hybrid".to_owned(),
            embedding_model_id: "amazon.titan-embed-text-v2:0".to_owned(),
            region: region.into(),
        }
    }
}

/// The articles of an OpenSearch index.
#[derive(Debug)]
pub struct OpenSearchKnowledge<C> {
    configuration: OpenSearchConfiguration,
    endpoint: Endpoint<C>,
    embeddings: Embeddings,
}

impl<C: Clock> OpenSearchKnowledge<C> {
    /// The index that the configuration names, reached with the environment's credentials. Asks nothing yet.
    pub fn new(configuration: OpenSearchConfiguration, sdk: &SdkConfig, clock: C) -> Self {
        let embeddings = Embeddings::new(clients::bedrock_embedding(sdk), &configuration);
        let endpoint = Endpoint::new(&configuration, sdk, clock, SEARCH_MS);
        Self { configuration, endpoint, embeddings }
    }

    /// Help articles that match a question, best first, `limit` at the most.
    pub async fn articles(&self, query: &str, limit: usize) -> Result<Vec<Article>, Unavailable> {
        let query = cut(query, SEARCH_TEXT_CHARS_MAX);
        let (search, pipeline) = match self.embeddings.vector(query).await {
            Ok(vector) => (hybrid(query, &vector), Some(("search_pipeline", self.configuration.pipeline.as_str()))),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "searching by words alone");
                (words(query), None)
            }
        };
        let body = json!({ "size": limit, "_source": ["article_id", "title", "body", "url"], "query": search });
        let path = [self.configuration.index.as_str(), "_search"];
        let answer = self.endpoint.send(SEARCH, Method::POST, &path, pipeline, &body).await?;
        let answer: SearchAnswer = answer.read(SEARCH)?;
        Ok(answer.hits.hits.into_iter().map(|hit| hit.source).take(limit).collect())
    }
}

/// By words, in the fields of both languages.
fn words(query: &str) -> Value {
    json!({ "multi_match": {
        "query": query,
        "type": "most_fields",
        "fields": ["title.ja^2", "title.en^2", "keywords^2", "body.ja", "body.en"],
        "minimum_should_match": WORDS_MATCHING_MIN,
    } })
}

/// By words and by meaning.
fn hybrid(query: &str, vector: &[f32]) -> Value {
    let near = json!({ "knn": { "embedding": { "vector": vector, "min_score": VECTOR_SCORE_MIN } } });
    json!({ "hybrid": { "queries": [words(query), near] } })
}

#[derive(Deserialize)]
struct SearchAnswer {
    hits: Hits,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_source")]
    source: Article,
}

/// A model that makes vectors of texts.
#[derive(Debug)]
struct Embeddings {
    client: Client,
    model_id: String,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f32>,
}

#[derive(Debug, thiserror::Error)]
#[error("a vector of {0} numbers, not of {VECTOR_DIMENSIONS}")]
struct OtherDimensions(usize);

impl Embeddings {
    fn new(client: Client, configuration: &OpenSearchConfiguration) -> Self {
        Self { client, model_id: configuration.embedding_model_id.clone() }
    }

    /// The vector of a text, of length 1.
    async fn vector(&self, text: &str) -> Result<Vec<f32>, Unavailable> {
        let request = json!({ "inputText": text, "dimensions": VECTOR_DIMENSIONS, "normalize": true });
        let invocation = self.client.invoke_model().model_id(&self.model_id).content_type("application/json");
        let answer = invocation.body(Blob::new(request.to_string())).send().await.map_err(unavailable(EMBED))?;
        let Embedding { embedding } = serde_json::from_slice(answer.body().as_ref()).map_err(unavailable(EMBED))?;
        if embedding.len() == VECTOR_DIMENSIONS {
            Ok(embedding)
        } else {
            Err(unavailable(EMBED)(OtherDimensions(embedding.len())))
        }
    }
}
