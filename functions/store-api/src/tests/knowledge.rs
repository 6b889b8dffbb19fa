//! The index of help articles, over articles of a test's making.

use domain::store::Bilingual;

use crate::knowledge::{KnowledgeIndex, RELEVANCE_MIN};
use crate::seed::Seed;
use crate::table::HelpArticle;

fn article(article_id: &str, title: [&str; 2], keywords: &[&str], body: [&str; 2]) -> HelpArticle {
    let both = |[ja, en]: [&str; 2]| Bilingual { ja: ja.to_owned(), en: en.to_owned() };
    HelpArticle {
        article_id: article_id.to_owned(),
        title: both(title),
        keywords: keywords.iter().map(|&keyword| keyword.to_owned()).collect(),
        body: both(body),
    }
}

fn articles() -> Vec<HelpArticle> {
    let others = (0..30)
        .map(|n| article(&format!("other-{n}"), ["そのほか", "Others"], &["雑多", "various"], ["特になし", "Parcels"]));
    let articles = [
        article(
            "returns",
            ["返品と返金", "Returns and refunds"],
            &["へんぴん", "返したい", "send back"],
            ["到着から14日以内に返品できます。", "Send the parcel to us within two weeks."],
        ),
        article(
            "shipping",
            ["配送と送料", "Shipping fees"],
            &["そうりょう", "postage"],
            ["送料は一律です。", "The parcel arrives in three days, or it can be returned."],
        ),
        article(
            "gifts",
            ["ギフト包装", "Gift wrapping"],
            &["プレゼント", "present"],
            ["リボンをかけます。", "We tie a ribbon around the parcel."],
        ),
    ];
    articles.into_iter().chain(others).collect()
}

#[track_caller]
fn check(question: &str, expected: &[&str]) {
    let articles = articles();
    let found = KnowledgeIndex::new(&articles).find(question);
    let ids: Vec<&str> = found.iter().map(|hit| articles[hit.position].article_id.as_str()).collect();
    assert_eq!(ids, expected, "{question}: {found:?}");
}

#[test]
fn an_article_is_found_in_both_languages_however_it_is_typed() {
    for question in
        ["返品", "返品したいのですが", "返して", "へんぴん", "ヘンピンできますか", "ﾍﾝﾋﾟﾝ", "RETURNS", "send-back"]
    {
        let articles = articles();
        let first = KnowledgeIndex::new(&articles).find(question).first().copied();
        assert_eq!(first.map(|hit| hit.position), Some(0), "{question}");
    }
    check("プレゼント用です", &["gifts"]);
    check("Ｇｉｆｔ　ｗｒａｐ", &["gifts"]);
}

#[test]
fn what_is_in_the_title_counts_more_than_what_is_in_the_body() {
    check("returned", &["returns"]);
}

#[test]
fn a_misspelt_word_is_read_as_the_one_it_is_nearly() {
    for question in ["refnd", "rfeund", "refumd", "reffund"] {
        check(question, &["returns"]);
    }
    check("postgae", &["shipping"]);
    check("rfnd", &[]);
}

#[test]
fn what_every_article_says_tells_nothing() {
    check("parcel", &[]);
}

#[test]
fn a_word_counts_less_in_a_question_about_something_else() {
    check("ribbon", &["gifts"]);
    check("heroine ribbon swordsmanship dragons medieval castle battles princess", &[]);
}

#[test]
fn several_words_of_a_keyword_count_as_one() {
    let keywords = |keyword: &str| {
        let mut articles = articles();
        articles[1].keywords = vec![keyword.to_owned()];
        KnowledgeIndex::new(&articles).find("sunday")[0].score
    };
    assert!(keywords("sunday") > keywords("sunday evening"));
}

#[test]
fn grammar_greetings_and_silence_find_nothing() {
    for question in
        ["", " ", "！？…", "😀", "a", "7", "どうすればいいですか", "教えてください", "what should I do?", "漫画"]
    {
        check(question, &[]);
    }
    assert_eq!(KnowledgeIndex::new(&[]).find("returns"), []);
}

#[test]
fn what_is_found_is_relevant_and_in_order() {
    let articles = Seed::read(0).unwrap().facts.articles;
    let index = KnowledgeIndex::new(&articles);
    for question in ["送料と返品について", "pay with points and a coupon", "コンビニで受け取れますか"]
    {
        let found = index.find(question);
        assert!(!found.is_empty(), "{question}");
        assert!(found.iter().all(|hit| hit.relevance() >= RELEVANCE_MIN), "{question}: {found:?}");
        assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{question}: {found:?}");
        assert!(found.iter().all(|hit| (0.0..=1.0).contains(&hit.share)), "{question}: {found:?}");
        assert_eq!(index.find(question), found);
    }
}
