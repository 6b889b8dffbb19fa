//! What the index finds of the questions in `tests/data/retrieval.tsv`, those included that were kept from who made it.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../examples/retrieval/measure.rs"]
mod measure;

use measure::{Measured, measure};
use store_api::knowledge::KnowledgeIndex;
use store_api::seed::Seed;

/// Percentages that hold: a change of articles, terms or weights that costs more than a few questions is seen here.
struct Floor {
    recall_at_1: f64,
    recall_at_2: f64,
    reciprocal_rank: f64,
    false_positives: f64,
}

fn check(split: &str, locale: &str, floor: Floor) {
    let articles = Seed::read(0).expect("the data files fit together").facts.articles;
    let index = KnowledgeIndex::new(&articles);
    let measured: Measured = measure(&index, &articles, split, locale);
    assert!(measured.asked >= 80 && measured.off_topic >= 50, "{measured:?}");
    assert!(measured.recall_at_1 >= floor.recall_at_1, "{measured:?}");
    assert!(measured.recall_at_2 >= floor.recall_at_2, "{measured:?}");
    assert!(measured.reciprocal_rank >= floor.reciprocal_rank, "{measured:?}");
    assert!(measured.false_positives <= floor.false_positives, "{measured:?}");
}

#[test]
fn japanese_questions_find_their_articles() {
    check("train", "ja", Floor { recall_at_1: 86.0, recall_at_2: 88.0, reciprocal_rank: 87.0, false_positives: 18.0 });
    check("test", "ja", Floor { recall_at_1: 85.0, recall_at_2: 87.0, reciprocal_rank: 86.0, false_positives: 18.0 });
}

#[test]
fn english_questions_find_their_articles() {
    check("train", "en", Floor { recall_at_1: 86.0, recall_at_2: 88.0, reciprocal_rank: 87.0, false_positives: 22.0 });
    check("test", "en", Floor { recall_at_1: 72.0, recall_at_2: 77.0, reciprocal_rank: 75.0, false_positives: 18.0 });
}

#[test]
fn questions_name_articles_that_exist() {
    let articles = Seed::read(0).expect("the data files fit together").facts.articles;
    for question in measure::questions() {
        for id in &question.answers {
            assert!(articles.iter().any(|article| article.article_id == *id), "{question:?}");
        }
        assert!(["ja", "en"].contains(&question.locale) && ["train", "test"].contains(&question.split), "{question:?}");
    }
}
