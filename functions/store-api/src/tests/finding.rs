//! Questions as shoppers write them, and what they are to find.

use serde::Deserialize;

use crate::search::Vocabulary;
use crate::seed::Seed;
use crate::shelf::Shelf;

/// How far down an answer may stand to count as found.
const RANK_MAX: usize = 3;

/// Of all questions at least so many have to be answered, percent.
const FOUND_PERCENT_MIN: usize = 98;

#[derive(Deserialize)]
struct Questions {
    catalog: Vec<(String, String)>,
    knowledge: Vec<(String, String)>,
    no_product: Vec<String>,
    no_article: Vec<String>,
}

fn questions() -> Questions {
    serde_json::from_str(include_str!("questions.json")).unwrap()
}

fn shelf() -> Shelf {
    Shelf::new(Vocabulary::read().unwrap(), Seed::read(0).unwrap().facts)
}

fn products(shelf: &Shelf, question: &str) -> Vec<(String, String)> {
    let found = shelf.find_products(question, RANK_MAX);
    found.into_iter().map(|item| (item.series.series_id.clone(), item.edition.product_id.clone())).collect()
}

fn articles(shelf: &Shelf, question: &str) -> Vec<String> {
    shelf.find_articles(question).take(RANK_MAX).map(|article| article.article_id.clone()).collect()
}

fn has_genre(shelf: &Shelf, product_id: &str, genre: &str) -> bool {
    shelf.product(product_id).unwrap().series.genres.iter().any(|of_series| of_series == genre)
}

#[test]
fn questions_find_what_they_are_about() {
    let shelf = shelf();
    let questions = questions();
    let asked = questions.catalog.len() + questions.knowledge.len();
    assert!(asked >= 60);
    let mut missed = Vec::new();
    for (question, expected) in &questions.catalog {
        let found = products(&shelf, question);
        let right = match expected.strip_prefix("genre:") {
            Some(genre) => !found.is_empty() && found.iter().all(|(_, product)| has_genre(&shelf, product, genre)),
            None => found.iter().any(|(series, product)| series == expected || product == expected),
        };
        if !right {
            missed.push(format!("{question}: {expected} is not in {found:?}"));
        }
    }
    for (question, expected) in &questions.knowledge {
        let found = articles(&shelf, question);
        if !found.contains(expected) {
            missed.push(format!("{question}: {expected} is not in {found:?}"));
        }
    }
    let found = asked - missed.len();
    println!("{found} of {asked}:\n{}", missed.join("\n"));
    assert!(found * 100 >= asked * FOUND_PERCENT_MIN, "{found} of {asked}:\n{}", missed.join("\n"));
}

#[test]
fn what_the_store_does_not_have_is_not_found() {
    let shelf = shelf();
    let questions = questions();
    for question in &questions.no_product {
        assert_eq!(products(&shelf, question), [], "{question}");
    }
    for question in &questions.no_article {
        assert_eq!(articles(&shelf, question), [] as [String; 0], "{question}");
    }
}
