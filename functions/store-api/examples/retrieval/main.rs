//! What the index of help articles finds and what it takes: `cargo run --release -p store-api --example retrieval`. With
//! `misses` it also names the questions of the train split that it does not answer.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a tool of ours over data of ours: a panic says what is wrong with it"
)]

mod measure;

use std::hint::black_box;
use std::time::{Duration, Instant};

use store_api::knowledge::KnowledgeIndex;
use store_api::seed::Seed;

/// Repetitions of what is timed.
const ROUNDS: u32 = 20;

fn main() {
    let articles = Seed::read(0).expect("the data files fit together").facts.articles;
    let index = KnowledgeIndex::new(&articles);
    println!("| split | language | questions | recall@1 | recall@2 | MRR | off topic | of them answered |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|");
    for split in ["train", "test"] {
        for locale in ["ja", "en"] {
            let measured = measure::measure(&index, &articles, split, locale);
            println!(
                "| {split} | {locale} | {} | {:.1} % | {:.1} % | {:.3} | {} | {:.1} % |",
                measured.asked,
                measured.recall_at_1,
                measured.recall_at_2,
                measured.reciprocal_rank / 100.0,
                measured.off_topic,
                measured.false_positives,
            );
        }
    }
    let first = time(1, || KnowledgeIndex::new(&articles));
    let build = time(ROUNDS, || KnowledgeIndex::new(&articles));
    let questions = measure::questions();
    let asking = time(ROUNDS, || questions.iter().map(|question| index.find(question.text).len()).sum::<usize>());
    println!("\n{} articles, {} terms", articles.len(), index.terms());
    println!("index built in {:.1} ms ({:.1} ms the first time)", millis(build), millis(first));
    println!("a question answered in {:.0} µs", millis(asking) * 1_000.0 / questions.len() as f64);
    if std::env::args().nth(1).as_deref() == Some("misses") {
        for question in questions.iter().filter(|question| question.split == "train") {
            let found = index.find(question.text);
            let ids: Vec<&str> = found.iter().map(|hit| articles[hit.position].article_id.as_str()).take(2).collect();
            if ids.first().is_some_and(|id| !question.answers.contains(id))
                || ids.is_empty() != question.answers.is_empty()
            {
                println!("{}: {:?}, found {ids:?}", question.text, question.answers);
            }
        }
    }
}

fn time<T>(rounds: u32, work: impl Fn() -> T) -> Duration {
    let start = Instant::now();
    for _round in 0..rounds {
        black_box(work());
    }
    start.elapsed() / rounds
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
