//! The data files fit together.

use std::collections::{BTreeSet, HashMap, HashSet};

use domain::store::{Bilingual, Format, OrderStatus};
use testkit::START_MS;

use crate::catalog::{AgeRating, Edition, Series};
use crate::search::Vocabulary;
use crate::seed::Seed;

fn seed() -> Seed {
    Seed::read(START_MS).unwrap()
}

fn editions(seed: &Seed) -> HashMap<String, (&Series, Edition)> {
    let editions = seed.facts.series.iter().flat_map(|series| series.editions().map(move |edition| (series, edition)));
    editions.map(|(series, edition)| (edition.product_id.clone(), (series, edition))).collect()
}

fn is_japanese(text: &str) -> bool {
    text.chars().any(|char| char > '\u{3000}')
}

#[track_caller]
fn check_sentences(text: &Bilingual) {
    assert!(is_japanese(&text.ja) && !is_japanese(&text.en) && text.en.len() > 10, "{text:?}");
}

#[test]
fn there_is_enough_of_everything() {
    let seed = seed();
    assert!(seed.facts.series.len() >= 60);
    assert!(seed.offers.len() >= 300);
    assert!(seed.facts.reviews.len() >= 80);
    assert!(seed.facts.articles.len() >= 40);
    for format in [Format::Paperback, Format::Digital, Format::BoxSet] {
        assert!(editions(&seed).values().filter(|(_, edition)| edition.format == format).count() >= 20, "{format:?}");
    }
    for rating in [AgeRating::All, AgeRating::Teen, AgeRating::Mature] {
        assert!(seed.facts.series.iter().filter(|series| series.age_rating == rating).count() >= 10, "{rating:?}");
    }
}

#[test]
fn ids_are_unique_and_fit_in_a_path() {
    let seed = seed();
    let facts = &seed.facts;
    let series: Vec<&str> = facts.series.iter().map(|one| one.series_id.as_str()).collect();
    let products: Vec<&str> = seed.offers.iter().map(|one| one.product_id.as_str()).collect();
    let reviews: Vec<&str> = facts.reviews.iter().map(|one| one.review_id.as_str()).collect();
    let campaigns: Vec<&str> = facts.campaigns.iter().map(|one| one.promotion_id.as_str()).collect();
    let articles: Vec<&str> = facts.articles.iter().map(|one| one.article_id.as_str()).collect();
    let orders: Vec<&str> = seed.orders.iter().map(|one| one.order_id.as_str()).collect();
    for ids in [series, products, reviews, campaigns, articles, orders] {
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        for id in ids {
            assert!(id.chars().all(|char| char.is_ascii_alphanumeric() || char == '-'), "{id}");
        }
    }
}

#[test]
fn every_series_is_described_in_both_languages() {
    let vocabulary = Vocabulary::read().unwrap();
    for series in seed().facts.series {
        let id = &series.series_id;
        assert!(!series.title.ja.is_empty() && !series.title.en.is_empty(), "{id}");
        assert!(!series.publisher.ja.is_empty() && !series.publisher.en.is_empty(), "{id}");
        assert!(!series.authors.is_empty(), "{id}");
        assert!(series.authors.iter().all(|author| !author.ja.is_empty() && !is_japanese(&author.en)), "{id}");
        check_sentences(&series.summary);
        assert!(!series.genres.is_empty(), "{id}");
        for genre in &series.genres {
            assert!(vocabulary.genres.contains_key(genre), "{id}: {genre}");
        }
    }
}

#[test]
fn what_is_sold_has_been_published_and_has_a_price() {
    let seed = seed();
    for (id, (series, edition)) in editions(&seed) {
        assert!(edition.volume.is_none_or(|volume| (1..=series.volumes_published).contains(&volume)), "{id}");
        assert_eq!(edition.volume.is_none(), edition.format == Format::BoxSet, "{id}");
    }
    for offer in &seed.offers {
        assert!(offer.price_jpy > 0, "{offer:?}");
    }
    assert!(seed.offers.iter().any(|offer| offer.stock == 0));
    assert!(seed.offers.iter().filter(|offer| offer.stock > 0).count() > seed.offers.len() / 2);
}

#[test]
fn prices_follow_from_the_paperback() {
    let seed = seed();
    let series = seed.facts.series.iter().find(|series| series.series_id == "demon-slayer").unwrap();
    let price = |product: &str| seed.offers.iter().find(|offer| offer.product_id == product).unwrap().price_jpy;
    assert_eq!(price("demon-slayer-1"), series.price_jpy);
    assert_eq!(price("demon-slayer-1-digital"), series.price_jpy * 9 / 10);
    assert_eq!(price("demon-slayer-box"), series.price_jpy * 23);
}

#[test]
fn both_shoppers_have_orders_and_together_in_every_state() {
    let seed = seed();
    let shoppers: Vec<&str> = seed.shoppers.iter().map(|shopper| shopper.shopper_id.as_str()).collect();
    assert_eq!(shoppers, ["aiko", "ben"]);
    let states = |shopper: &str| {
        let orders = seed.orders.iter().filter(|order| order.shopper_id == shopper);
        orders.map(|order| format!("{:?}", order.status)).collect::<BTreeSet<_>>()
    };
    assert!(states("aiko").len() >= 4 && states("ben").len() >= 4);
    let all = [
        OrderStatus::PendingPayment,
        OrderStatus::Processing,
        OrderStatus::Preordered,
        OrderStatus::Shipped,
        OrderStatus::OutForDelivery,
        OrderStatus::Delivered,
        OrderStatus::Cancelled,
        OrderStatus::ReturnRequested,
        OrderStatus::Refunded,
    ];
    let together: BTreeSet<String> = states("aiko").union(&states("ben")).cloned().collect();
    assert_eq!(together, all.map(|status| format!("{status:?}")).into());
}

#[test]
fn orders_and_reviews_are_about_products_of_the_store() {
    let seed = seed();
    let editions = editions(&seed);
    for order in &seed.orders {
        assert!(order.total_jpy > 0 && !order.items.is_empty());
        assert!(order.placed_at <= START_MS, "{}", order.order_id);
        for line in &order.items {
            assert_eq!(line.title, editions[&line.product_id].1.title, "{}", order.order_id);
            assert!(line.quantity > 0);
        }
    }
    for review in &seed.facts.reviews {
        assert!(editions.contains_key(&review.product_id), "{}", review.review_id);
        assert!((1..=5).contains(&review.rating) && review.written_at <= START_MS, "{}", review.review_id);
        assert_eq!(review.language == "ja", is_japanese(&review.text), "{}", review.review_id);
        assert!(["ja", "en"].contains(&review.language.as_str()));
    }
    assert_eq!(seed.facts.reviews.iter().map(|review| review.rating).collect::<BTreeSet<_>>().len(), 5);
}

#[test]
fn campaigns_and_articles_are_in_both_languages() {
    let facts = seed().facts;
    for campaign in &facts.campaigns {
        check_sentences(&campaign.description);
        assert!(is_japanese(&campaign.title.ja) && !is_japanese(&campaign.title.en));
        assert!(campaign.starts_at < campaign.ends_at, "{}", campaign.promotion_id);
    }
    let year_ms = 365 * 24 * 60 * 60 * 1000;
    let always = |from: u64, to: u64| from <= START_MS - year_ms && to >= START_MS + year_ms;
    assert!(facts.campaigns.iter().any(|campaign| always(campaign.starts_at, campaign.ends_at)));
    for article in &facts.articles {
        check_sentences(&article.body);
        assert!(is_japanese(&article.title.ja) && !is_japanese(&article.title.en));
        assert!(article.keywords.iter().any(|word| is_japanese(word)), "{}", article.article_id);
        assert!(article.keywords.iter().any(|word| !is_japanese(word)), "{}", article.article_id);
    }
}

/// An order's day is the day in Japan: at 15:00 UTC tomorrow begins there.
#[test]
fn days_begin_at_midnight_in_japan() {
    let hour_ms = 60 * 60 * 1000;
    let eta = |now_ms: u64| {
        let orders = Seed::read(now_ms).unwrap().orders;
        orders.into_iter().find(|order| order.status == OrderStatus::OutForDelivery).unwrap().eta
    };
    assert_eq!(eta(START_MS + 15 * hour_ms - 1).unwrap(), "2026-11-21");
    assert_eq!(eta(START_MS + 15 * hour_ms).unwrap(), "2026-11-22");
    assert_eq!(Seed::read(START_MS).unwrap(), Seed::read(START_MS + 15 * hour_ms - 1).unwrap());
}
