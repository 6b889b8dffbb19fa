//! How much of what shoppers ask is answered from the cache, and from which level: a stream of questions as popular as words
//! of a language are, at a sample store that answers at once.
//!
//! `cargo run --release --package store-client --example cache_ratio [redis://HOST:PORT]`; what the Valkey holds is deleted.

use std::collections::HashMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::response::Json;
use domain::breaker::{Hint, Upstream};
use domain::guard::Guard;
use domain::ids::ProductId;
use domain::metrics::{Measure, Metrics};
use domain::ports::{SharedHints, StoreServices as _};
use domain::store::{ArticlePage, OfferPage, ProductOffer, ProductPage, PromotionPage, RecommendationPage, ReviewPage};
use serde_json::{Value, json};
use store_client::{ServiceConfiguration, StoreClient, StoreConfiguration, ValkeyConfiguration};
use testkit::{ManualClock, samples};

/// Turns in a run.
const TURNS: u32 = 10_000;
/// How long they take, ms: half an hour.
const RUN_MS: u64 = 30 * 60 * 1_000;
/// Different questions, and different products.
const KINDS: usize = 10_000;
/// Shoppers, each in a session of their own.
const SHOPPERS: u32 = 2_000;

/// Counts by name and upstream.
#[derive(Clone, Default)]
struct Counts(Arc<std::sync::Mutex<HashMap<(&'static str, &'static str), u64>>>);

impl Metrics for Counts {
    fn record(&self, measure: Measure) {
        let key = (measure.name, measure.dimension.map_or("", |(_, value)| value));
        if let Ok(mut counts) = self.0.lock() {
            *counts.entry(key).or_default() += measure.value;
        }
    }
}

impl Counts {
    fn of(&self, name: &'static str, upstream: &'static str) -> u64 {
        self.0.lock().map_or(0, |counts| counts.get(&(name, upstream)).copied().unwrap_or_default())
    }
}

/// Nobody knows anything.
#[derive(Clone)]
struct NoHints;

impl SharedHints for NoHints {
    fn breaker(&self, _upstream: Upstream) -> Hint {
        Hint::default()
    }

    fn opened(&self, _upstream: Upstream, _until: u64) {}

    fn invalidated_at(&self, _tag: &str) -> u64 {
        0
    }
}

/// The n-th most popular of all is asked for in proportion to 1/n.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(kinds: usize) -> Self {
        let mut sum = 0.0;
        let weights = (1..=u32::try_from(kinds).unwrap_or(u32::MAX)).map(f64::from);
        Self(
            weights
                .map(|rank| {
                    sum += 1.0 / rank;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let at = random.f64() * self.0.last().copied().unwrap_or_default();
        self.0.partition_point(|sum| *sum < at)
    }
}

/// A store that knows everything, and how often it was called.
async fn store() -> Result<(String, Arc<AtomicU64>), Box<dyn Error>> {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let router = Router::new().fallback(move |request: Request| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Json(answer(&request)))
    });
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    #[expect(clippy::disallowed_methods, reason = "ends with the program")]
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, calls))
}

fn answer(request: &Request) -> Value {
    let path = request.uri().path();
    let products = || (1..=5).map(|number| samples::product(&format!("p-{number}"))).collect();
    match path {
        "/catalog/search" => json!(ProductPage { products: products() }),
        "/recommendations" => json!(RecommendationPage { recommendations: vec![samples::recommendation("p-1"); 3] }),
        "/promotions" => json!(PromotionPage { promotions: vec![samples::promotion("autumn"); 3] }),
        "/knowledge/search" => json!(ArticlePage { articles: vec![samples::article("returns"); 2] }),
        "/catalog/offers" => {
            let ids = request.uri().query().unwrap_or_default().trim_start_matches("product_ids=");
            let offer = |id: &str| ProductOffer { product_id: id.to_owned(), offer: samples::offer() };
            json!(OfferPage { offers: ids.split("%2C").map(offer).collect() })
        }
        path => match path.strip_prefix("/catalog/products/") {
            Some(id) => json!(samples::product(id)),
            None => {
                json!(ReviewPage { reviews: vec![samples::review("r-1", "p-1"); 3], average_rating: 5.0, count: 3 })
            }
        },
    }
}

async fn run(environments: usize, valkey: Option<&ValkeyConfiguration>) -> Result<(), Box<dyn Error>> {
    if let Some(valkey) = valkey {
        let mut connection = redis::Client::open(valkey.url.as_str())?.get_multiplexed_async_connection().await?;
        redis::cmd("FLUSHALL").exec_async(&mut connection).await?;
    }
    let (url, calls) = store().await?;
    let service = || ServiceConfiguration { url: url.clone(), timeout_ms: 1_000 };
    let configuration = StoreConfiguration {
        catalog: service(),
        recommendations: service(),
        orders: service(),
        promotions: service(),
        reviews: service(),
        knowledge: service(),
        store_key: "a-service-key".to_owned(),
    };
    let (clock, counts) = (ManualClock::new(), Counts::default());
    let client = || {
        let guard = Arc::new(Guard::new(clock.clone(), counts.clone(), NoHints));
        StoreClient::new(configuration.clone(), valkey.cloned(), guard)
    };
    let clients: Vec<_> = std::iter::repeat_with(client).take(environments).collect();
    let (questions, mut random) = (Zipf::new(KINDS), fastrand::Rng::with_seed(11));
    for _ in 0..TURNS {
        clock.advance(RUN_MS / u64::from(TURNS));
        let Some(client) = random.choice(&clients) else { break };
        let question = format!("question {}", questions.draw(&mut random));
        let product = ProductId::parse(&format!("product-{}", questions.draw(&mut random))).ok_or("no id")?;
        let shopper = random.u32(..SHOPPERS).to_string();
        client.search(&question, 5).await?;
        client.articles(&question, 2).await?;
        client.promotions().await?;
        client.product(&product).await?;
        client.reviews(&product, 3).await?;
        client.recommendations(Some(&shopper), "a-session", 3).await?;
    }
    println!("\n{environments} environments, {} Valkey", if valkey.is_some() { "with" } else { "without" });
    println!("| upstream | look-ups | in process | in Valkey | asked |");
    println!("|---|---:|---:|---:|---:|");
    for upstream in ["catalog", "recommendations", "promotions", "reviews", "knowledge"] {
        let [process, shared, asked] =
            ["CacheHitsInProcess", "CacheHitsShared", "CacheMisses"].map(|name| counts.of(name, upstream));
        let all = process + shared + asked;
        let percent = |part: u64| format!("{:.1} %", part as f64 * 100.0 / all as f64);
        println!("| {upstream} | {all} | {} | {} | {} |", percent(process), percent(shared), percent(asked));
    }
    println!("{} calls of the store, with those for prices", calls.load(Ordering::Relaxed));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1);
    let valkey = url.map(|url| ValkeyConfiguration { url, username: None, password: None });
    println!("{TURNS} turns in {} min, {KINDS} questions and as many products", RUN_MS / 60_000);
    for environments in [1, 20, 200] {
        run(environments, None).await?;
        if valkey.is_some() {
            run(environments, valkey.as_ref()).await?;
        }
    }
    Ok(())
}
