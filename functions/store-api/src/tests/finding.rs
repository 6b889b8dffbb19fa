//! Questions as shoppers write them, and what they are to find.

use proptest::prelude::*;
use serde::Deserialize;

use crate::search::Vocabulary;
use crate::seed::Seed;
use crate::shelf::Shelf;
use crate::text::Text;

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

/// However it is typed, it is the same question.
#[test]
fn spelling_does_not_matter() {
    let shelf = shelf();
    for (spellings, product) in [
        (["ワンピース 3巻", "ﾜﾝﾋﾟｰｽ３巻", "わんぴーす第3巻", "ワンピ〜ス #3"], "one-piece-3"),
        (["ONE PIECE vol. 3", "one piece volume 3", "Onepiece Vol.3", "ｏｎｅ　ｐｉｅｃｅ 3"], "one-piece-3"),
        (["ヴィンランド・サガ 2巻", "ヴィンランドサガ2巻", "Vinland Saga 2", "VINLAND SAGA, Vol 2"], "vinland-saga-2"),
    ] {
        for question in spellings {
            assert_eq!(products(&shelf, question).first().map(|(_, id)| id.as_str()), Some(product), "{question}");
        }
    }
}

/// A number belongs to the volume only if it counts volumes.
#[test]
fn only_volume_numbers_pick_volumes() {
    let shelf = shelf();
    for question in
        ["ワンピースを3冊", "全112巻のワンピース", "ワンピース 2024年", "3000円でワンピース", "one piece for my 3 kids"]
    {
        assert_eq!(products(&shelf, question).first().map(|(_, id)| id.as_str()), Some("one-piece-1"), "{question}");
    }
    assert_eq!(
        products(&shelf, "ワンピース 999巻").len(),
        RANK_MAX,
        "a volume that is not sold still finds the series"
    );
}

proptest! {
    /// Every text is a question, with one answer, of bounded length.
    #[test]
    fn any_text_can_be_asked(question in prop_oneof![any::<String>(), "[ぁ-ヶー・々亜-熙a-zA-Z0-9 #!?巻第]{0,60}"]) {
        thread_local!(static SHELF: Shelf = shelf());
        SHELF.with(|shelf| {
            let found = products(shelf, &question);
            prop_assert!(found.len() <= RANK_MAX);
            prop_assert_eq!(&found, &products(shelf, &question));
            prop_assert!(articles(shelf, &question).len() <= RANK_MAX);
            let text = Text::new(&question);
            prop_assert_eq!(text.written().len(), text.folded().len());
            Ok(())
        })?;
    }
}
