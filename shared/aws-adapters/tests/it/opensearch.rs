//! `OpenSearchKnowledge` and `OpenSearchIndex` against a server that is OpenSearch and Bedrock in one.

use std::future::ready;

use aws_adapters::{IndexedArticle, OpenSearchConfiguration, OpenSearchIndex, OpenSearchKnowledge};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_bedrockruntime::config::{Credentials, SharedCredentialsProvider};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use domain::store::{Article, SEARCH_TEXT_CHARS_MAX};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testkit::{ManualClock, samples};

use crate::fake::{Fake, Request, nobody};
use crate::{environment, failure, within};

const QUESTION: &str = "返品 & \"refund\"?";
const DIMENSIONS: usize = 512;

fn knowledge(url: &str) -> OpenSearchKnowledge<ManualClock> {
    let configuration = OpenSearchConfiguration::at(url, "ap-northeast-1");
    OpenSearchKnowledge::new(configuration, &environment(url), ManualClock::new())
}

fn is_embedding(request: &Request) -> bool {
    request.target.starts_with("/model/")
}

fn embedding(numbers: usize) -> Response {
    json!({ "embedding": vec![0.5; numbers], "inputTextTokenCount": 7 }).to_string().into_response()
}

/// What OpenSearch answers to a search.
fn hits(articles: &[Article]) -> Value {
    let hit = |article: &Article| {
        let mut source = json!(article);
        source["keywords"] = json!(["not asked for"]);
        json!({ "_index": "help-articles", "_id": article.article_id, "_score": 0.7, "_source": source })
    };
    json!({
        "took": 12,
        "timed_out": false,
        "_shards": { "total": 1, "successful": 1, "skipped": 0, "failed": 0 },
        "hits": {
            "total": { "value": articles.len(), "relation": "eq" },
            "max_score": 0.7,
            "hits": articles.iter().map(hit).collect::<Vec<_>>(),
        },
    })
}

fn found() -> Vec<Article> {
    vec![samples::article("returns"), samples::article("shipping")]
}

/// Bedrock answers with a vector, OpenSearch with `answer`.
async fn opensearch(status: StatusCode, answer: impl Into<String>) -> Fake {
    let answer = answer.into();
    Fake::start(move |request| {
        ready(Some(if is_embedding(&request) {
            embedding(DIMENSIONS)
        } else {
            (status, answer.clone()).into_response()
        }))
    })
    .await
}

fn searches(server: &Fake) -> Vec<Request> {
    server.requests().into_iter().filter(|request| !is_embedding(request)).collect()
}

#[tokio::test]
async fn a_question_is_searched_by_words_and_by_meaning() {
    let server = opensearch(StatusCode::OK, hits(&found()).to_string()).await;
    assert_eq!(knowledge(&server.url).articles(QUESTION, 2).await.unwrap(), found());
    let [embedded, searched] = server.requests().try_into().unwrap();
    assert_eq!(embedded.target, "/model/amazon.titan-embed-text-v2%3A0/invoke");
    assert_eq!(embedded.json(), json!({ "inputText": QUESTION, "dimensions": DIMENSIONS, "normalize": true }));
    assert_eq!(searched.target, "/help-articles/_search?search_pipeline=help-articles-hybrid");
    let body = searched.json();
    assert_eq!(body["size"], 2);
    assert_eq!(body["_source"], json!(["article_id", "title", "body", "url"]));
    let [words, meaning] = body["query"]["hybrid"]["queries"].as_array().unwrap().as_slice() else { panic!("{body}") };
    assert_eq!(words["multi_match"]["query"], QUESTION);
    for field in ["title.ja^2", "title.en^2", "body.ja", "body.en"] {
        assert!(words["multi_match"]["fields"].as_array().unwrap().contains(&json!(field)), "{field}");
    }
    assert_eq!(meaning["knn"]["embedding"]["vector"], json!(vec![0.5; DIMENSIONS]));
    assert_eq!(meaning["knn"]["embedding"]["min_score"], 1.35);
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signature by the book: "Signature Version 4 signing process", step by step.
fn signature(request: &Request, query: &str, path: &str, signed: &str) -> String {
    let date = request.header("x-amz-date").unwrap();
    let day = &date[..8];
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", request.header(name).unwrap().trim())).collect();
    let digest = hex(&Sha256::digest(&request.body));
    let canonical = format!("POST\n{path}\n{query}\n{headers}\n{signed}\n{digest}");
    let scope = format!("{day}/ap-northeast-1/es/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = hmac(b"AWS4secret", day);
    for part in ["ap-northeast-1", "es", "aws4_request"] {
        key = hmac(&key, part);
    }
    hex(&hmac(&key, &text))
}

#[tokio::test]
async fn a_search_is_signed_with_the_environments_credentials() {
    let server = opensearch(StatusCode::OK, hits(&[]).to_string()).await;
    let credentials = Credentials::new("id", "secret", Some("a-session".to_owned()), None, "test");
    let sdk: SdkConfig = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(&server.url)
        .build();
    let configuration = OpenSearchConfiguration::at(&server.url, "ap-northeast-1");
    let knowledge = OpenSearchKnowledge::new(configuration, &sdk, ManualClock::new());
    assert_eq!(knowledge.articles(QUESTION, 2).await.unwrap(), []);
    let [search] = searches(&server).try_into().unwrap();
    assert_eq!(search.header("x-amz-date"), Some("20261121T000000Z"));
    assert_eq!(search.header("x-amz-security-token"), Some("a-session"));
    assert_eq!(search.header("x-amz-content-sha256"), Some(hex(&Sha256::digest(&search.body)).as_str()));
    let signed = "content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token";
    let signature = signature(&search, "search_pipeline=help-articles-hybrid", "/help-articles/_search", signed);
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=id/20261121/ap-northeast-1/es/aws4_request, SignedHeaders={signed}, \
         Signature={signature}"
    );
    assert_eq!(search.header("authorization"), Some(expected.as_str()));
}

/// Words alone are searched when the embedding fails in any way.
async fn check_words_alone(embed: impl Fn() -> Option<Response> + Clone + Send + Sync + 'static) {
    let answer = hits(&found()).to_string();
    let server = Fake::start(move |request| {
        ready(if is_embedding(&request) { embed() } else { Some(answer.clone().into_response()) })
    })
    .await;
    assert_eq!(within(knowledge(&server.url).articles(QUESTION, 2)).await.unwrap(), found());
    let [search] = searches(&server).try_into().unwrap();
    assert_eq!(search.target, "/help-articles/_search");
    assert_eq!(search.json()["query"]["multi_match"]["query"], QUESTION);
    assert_eq!(server.requests().len(), 2, "the turn has no time for a second attempt");
}

#[tokio::test]
async fn without_a_vector_words_are_searched_alone() {
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::FORBIDDEN, StatusCode::INTERNAL_SERVER_ERROR] {
        check_words_alone(move || Some((status, "{}").into_response())).await;
    }
    check_words_alone(|| None).await;
    check_words_alone(|| Some("<html>".into_response())).await;
    check_words_alone(|| Some(embedding(DIMENSIONS - 1))).await;
    check_words_alone(|| Some(embedding(DIMENSIONS + 1))).await;
}

#[tokio::test]
async fn a_slow_embedding_is_not_waited_for() {
    let answer = hits(&found()).to_string();
    let server = Fake::start(move |request| {
        let answer = answer.clone();
        async move { if is_embedding(&request) { std::future::pending().await } else { Some(answer.into_response()) } }
    })
    .await;
    assert_eq!(within(knowledge(&server.url).articles(QUESTION, 2)).await.unwrap(), found());
}

#[tokio::test]
async fn what_opensearch_refuses_or_garbles_is_unavailable() {
    let refusal = r#"{"error":{"type":"security_exception","reason":"返品"},"status":403}"#;
    let huge = json!({ "hits": { "hits": [] }, "padding": "x".repeat(512 * 1024) }).to_string();
    for (status, answer) in [
        (StatusCode::FORBIDDEN, refusal),
        (StatusCode::TOO_MANY_REQUESTS, refusal),
        (StatusCode::NOT_FOUND, refusal),
        (StatusCode::BAD_GATEWAY, ""),
        (StatusCode::INTERNAL_SERVER_ERROR, "<html>"),
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, ""),
        (StatusCode::OK, r#"{"hits":{"hits":[{"_source":{"title":"no article"}}]}}"#),
        (StatusCode::OK, huge.as_str()),
    ] {
        let server = opensearch(status, answer).await;
        let error = failure(within(knowledge(&server.url).articles(QUESTION, 2)).await);
        assert_eq!(error.operation, "search help articles in OpenSearch");
        assert!(!error.to_string().contains("返品"), "{error}");
        assert_eq!(searches(&server).len(), 1);
    }
}

#[tokio::test]
async fn an_endpoint_out_of_reach_or_silent_is_unavailable() {
    failure(within(knowledge(&nobody().await).articles(QUESTION, 2)).await);
    failure(within(knowledge("not a URL").articles(QUESTION, 2)).await);
    let silent = Fake::start(|request| async move {
        if is_embedding(&request) { Some(embedding(DIMENSIONS)) } else { std::future::pending().await }
    })
    .await;
    failure(within(knowledge(&silent.url).articles(QUESTION, 2)).await);
}

#[tokio::test]
async fn a_long_question_is_cut_and_a_long_answer_too() {
    let server = opensearch(StatusCode::OK, hits(&found()).to_string()).await;
    let question = "あ".repeat(SEARCH_TEXT_CHARS_MAX + 1);
    assert_eq!(knowledge(&server.url).articles(&question, 1).await.unwrap(), found()[..1]);
    let [embedded, searched] = server.requests().try_into().unwrap();
    let cut = "あ".repeat(SEARCH_TEXT_CHARS_MAX);
    assert_eq!(embedded.json()["inputText"], cut);
    assert_eq!(searched.json()["query"]["hybrid"]["queries"][0]["multi_match"]["query"], cut);
}

fn index(url: &str) -> OpenSearchIndex<ManualClock> {
    let configuration = OpenSearchConfiguration::at(url, "ap-northeast-1");
    OpenSearchIndex::new(configuration, &environment(url), ManualClock::new())
}

fn indexed(id: &str) -> IndexedArticle {
    let Article { article_id, title, body, url } = samples::article(id);
    IndexedArticle { article_id, title, keywords: vec!["返品".to_owned()], body, url }
}

#[tokio::test]
async fn an_index_is_created_with_its_pipeline_and_filled() {
    let server = opensearch(StatusCode::CREATED, r#"{"acknowledged":true}"#).await;
    let index = index(&server.url);
    index.create().await.unwrap();
    index.put_article(&indexed("returns")).await.unwrap();
    let [created, pipeline, embedded, put] = server.requests().try_into().unwrap();
    assert_eq!(created.target, "/help-articles");
    let fields = created.json()["mappings"]["properties"].clone();
    assert_eq!(fields["embedding"]["dimension"], DIMENSIONS);
    assert_eq!(pipeline.target, "/_search/pipeline/help-articles-hybrid");
    let processors = pipeline.json()["phase_results_processors"].clone();
    assert_eq!(processors[0]["normalization-processor"]["normalization"]["technique"], "min_max");
    assert!(embedded.json()["inputText"].as_str().unwrap().contains(&indexed("returns").body.ja));
    assert_eq!(put.target, "/help-articles/_doc/returns");
    let mut expected = json!(indexed("returns"));
    expected["embedding"] = json!(vec![0.5; DIMENSIONS]);
    assert_eq!(put.json(), expected);
    let written: Vec<&String> = expected.as_object().unwrap().keys().collect();
    let mapped: Vec<&String> = fields.as_object().unwrap().keys().collect();
    assert_eq!(written, mapped, "the mapping is strict");
    for request in [&created, &pipeline, &put] {
        assert!(request.header("authorization").unwrap().starts_with("AWS4-HMAC-SHA256 Credential=id/"));
    }
}

#[test]
fn the_sample_stores_articles_can_be_indexed() {
    let file = include_str!("../../../../functions/store-api/data/articles.json");
    let articles = IndexedArticle::read_all(file, "https://store.example/").unwrap();
    let returns = articles.iter().find(|article| article.article_id == "returns").unwrap();
    assert_eq!(returns.url, "https://store.example/help/returns");
    assert!(returns.keywords.contains(&"返品".to_owned()));
    let own = json!([{ "article_id": "a", "title": { "ja": "あ", "en": "a" }, "body": { "ja": "い", "en": "b" }, "url": "u" }]);
    assert_eq!(IndexedArticle::read_all(&own.to_string(), "https://store.example").unwrap()[0].url, "u");
    for malformed in ["", "{}", "[{}]", "[1]"] {
        IndexedArticle::read_all(malformed, "https://store.example").unwrap_err();
    }
}

#[tokio::test]
async fn an_index_that_exists_is_kept() {
    let exists = r#"{"error":{"type":"resource_already_exists_exception","reason":"…"},"status":400}"#;
    let server = Fake::start(move |request| {
        ready(Some(match request.target.as_str() {
            "/help-articles" => (StatusCode::BAD_REQUEST, exists).into_response(),
            _pipeline => r#"{"acknowledged":true}"#.into_response(),
        }))
    })
    .await;
    index(&server.url).create().await.unwrap();
    assert_eq!(server.requests().len(), 2);
    for (status, answer) in [
        (StatusCode::BAD_REQUEST, r#"{"error":{"type":"mapper_parsing_exception"},"status":400}"#),
        (StatusCode::FORBIDDEN, "{}"),
    ] {
        let refusing = opensearch(status, answer).await;
        failure(index(&refusing.url).create().await);
        failure(index(&refusing.url).put_article(&indexed("returns")).await);
    }
}

#[tokio::test]
async fn an_article_without_a_vector_is_not_indexed() {
    let server = Fake::start(|request| {
        let answer =
            if is_embedding(&request) { (StatusCode::FORBIDDEN, "{}").into_response() } else { "{}".into_response() };
        ready(Some(answer))
    })
    .await;
    failure(within(index(&server.url).put_article(&indexed("returns"))).await);
    assert_eq!(searches(&server).len(), 0);
}
