//! The store's facts, arranged to be found: what an environment holds in memory for a while.

use std::collections::HashMap;

use domain::store::Review;

use crate::catalog::{Edition, Series};
use crate::knowledge::KnowledgeIndex;
use crate::search::{self, Document, GENRE_SCORE, Vocabulary, Wanted, WantedVolume};
use crate::table::{Campaign, Facts, HelpArticle};
use crate::text::{Span, Text, is_word_char};

/// A series is found by its words alone from this score on: a word that four others have too.
const SERIES_SCORE_MIN: usize = 20;

/// An author's name of a single Latin word is looked for from this length on: `ONE` and `HERO` are words too.
const LATIN_NAME_CHARS_MIN: usize = 5;

/// An author's name is looked for from this length on.
const NAME_CHARS_MIN: usize = 3;

/// Everything about a product but price and stock.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// What it is one of.
    pub series: &'a Series,
    /// What it is.
    pub edition: &'a Edition,
}

struct Shelved {
    series: Series,
    editions: Vec<Edition>,
    /// Tenths of the mean rating, and how many ratings there are; of all its products.
    rating: (u32, u32),
}

/// The arranged facts.
pub struct Shelf {
    vocabulary: Vocabulary,
    series: Vec<Shelved>,
    titles: Vec<Document>,
    authors: Vec<Document>,
    articles: Vec<HelpArticle>,
    knowledge: KnowledgeIndex,
    campaigns: Vec<Campaign>,
    /// By product, newest first.
    reviews: HashMap<String, Vec<Review>>,
    /// Series and edition, by product.
    products: HashMap<String, (usize, usize)>,
}

impl Shelf {
    /// Arranges the facts.
    pub fn new(vocabulary: Vocabulary, facts: Facts) -> Self {
        let mut reviews: HashMap<String, Vec<Review>> = HashMap::new();
        for review in facts.reviews {
            reviews.entry(review.product_id.clone()).or_default().push(review);
        }
        for of_product in reviews.values_mut() {
            of_product.sort_by(|a, b| (b.written_at, &b.review_id).cmp(&(a.written_at, &a.review_id)));
        }
        let titles = facts.series.iter().map(|series| title_document(&vocabulary, series)).collect();
        let authors = facts.series.iter().map(|series| author_document(&vocabulary, series)).collect();
        let knowledge = KnowledgeIndex::new(&facts.articles);
        let mut products = HashMap::new();
        let mut shelved = Vec::with_capacity(facts.series.len());
        for (position, series) in facts.series.into_iter().enumerate() {
            let editions: Vec<Edition> = series.editions().collect();
            let ids = editions.iter().enumerate().map(|(at, edition)| (edition.product_id.clone(), (position, at)));
            products.extend(ids);
            let rating = mean_tenths(editions.iter().filter_map(|edition| reviews.get(&edition.product_id)).flatten());
            shelved.push(Shelved { series, editions, rating });
        }
        Self {
            vocabulary,
            series: shelved,
            titles,
            authors,
            articles: facts.articles,
            knowledge,
            campaigns: facts.campaigns,
            reviews,
            products,
        }
    }

    /// A product.
    pub fn product(&self, product_id: &str) -> Option<Item<'_>> {
        let &(series, edition) = self.products.get(product_id)?;
        let shelved = self.series.get(series)?;
        Some(Item { series: &shelved.series, edition: shelved.editions.get(edition)? })
    }

    /// A product's reviews, newest first.
    pub fn reviews(&self, product_id: &str) -> &[Review] {
        self.reviews.get(product_id).map_or(&[], Vec::as_slice)
    }

    /// A product's mean rating in tenths, rounded, and its number of reviews.
    pub fn rating(&self, product_id: &str) -> (u32, u32) {
        mean_tenths(self.reviews(product_id))
    }

    /// All campaigns.
    pub fn campaigns(&self) -> &[Campaign] {
        &self.campaigns
    }

    /// A help article.
    pub fn article(&self, article_id: &str) -> Option<&HelpArticle> {
        self.articles.iter().find(|article| article.article_id == article_id)
    }

    /// The articles a question is about, best first.
    pub fn find_articles(&self, question: &str) -> impl Iterator<Item = &HelpArticle> {
        self.knowledge.find(question).into_iter().filter_map(|hit| self.articles.get(hit.position))
    }

    /// The products a question is about, best first, `limit` at the most. A title or an author named in it decides; otherwise
    /// genres, parts of titles and what the series are about, with one product for each series.
    pub fn find_products(&self, question: &str, limit: usize) -> Vec<Item<'_>> {
        let question = Text::new(question);
        let by_title = named(&self.titles, &question);
        let by_author = named(&self.authors, &question);
        let titles = by_title.iter().filter(|(_, title)| !outdone(*title, &by_title) && !outdone(*title, &by_author));
        let mut titles: Vec<(usize, Span)> = titles.copied().collect();
        if !titles.is_empty() {
            titles.sort_by_key(|&(position, span)| (span.start, self.disfavour(position), position));
            let wanted: Vec<Vec<Item<'_>>> = titles
                .iter()
                .filter_map(|&(position, span)| {
                    Some(wanted_of(self.series.get(position)?, search::wanted(&question, Some(span))))
                })
                .collect();
            return in_turns(&wanted, limit);
        }
        let wanted = search::wanted(&question, None);
        let positions = if by_author.is_empty() {
            search::best(&self.topic_scores(&question), SERIES_SCORE_MIN, |position| self.popularity(position))
        } else {
            let mut positions: Vec<usize> = by_author.iter().map(|&(position, _)| position).collect();
            positions.sort_by_key(|&position| (self.disfavour(position), position));
            positions
        };
        let series = positions.into_iter().filter_map(|position| self.series.get(position));
        series.filter_map(|shelved| wanted_of(shelved, wanted).first().copied()).take(limit).collect()
    }

    fn topic_scores(&self, question: &Text) -> Vec<usize> {
        let asked = self.vocabulary.genres_in(question);
        let mut scores = search::word_scores(&self.vocabulary, &self.titles, question);
        for ((score, shelved), title) in scores.iter_mut().zip(&self.series).zip(&self.titles) {
            let genres = shelved.series.genres.iter().enumerate();
            let shared = genres.filter(|(_, genre)| asked.contains(&genre.as_str()));
            *score += shared.map(|(position, _)| GENRE_SCORE / (position + 1)).sum::<usize>();
            *score += title.part_score(&self.vocabulary, question);
        }
        scores
    }

    fn popularity(&self, position: usize) -> u32 {
        self.series.get(position).map_or(0, |shelved| shelved.series.popularity)
    }

    fn disfavour(&self, position: usize) -> std::cmp::Reverse<u32> {
        std::cmp::Reverse(self.popularity(position))
    }

    /// All series, the most in demand first.
    pub fn by_popularity(&self) -> Vec<&Series> {
        let mut series: Vec<&Series> = self.series.iter().map(|shelved| &shelved.series).collect();
        series.sort_by_key(|series| (std::cmp::Reverse(series.popularity), &series.series_id));
        series
    }

    /// The series readers rated, best mean rating first, with the rating in tenths.
    pub fn by_rating(&self) -> Vec<(&Series, u32)> {
        let rated = self.series.iter().filter(|shelved| shelved.rating.1 > 0);
        let mut series: Vec<(&Series, u32)> = rated.map(|shelved| (&shelved.series, shelved.rating.0)).collect();
        series.sort_by_key(|(series, rating)| {
            (std::cmp::Reverse((*rating, series.popularity)), series.series_id.as_str())
        });
        series
    }

    /// The first volume of a series in the forms it is sold in, paperback first.
    pub fn first_volumes(&self, series_id: &str) -> Vec<Item<'_>> {
        let shelved = self.series.iter().find(|shelved| shelved.series.series_id == series_id);
        shelved.map_or_else(Vec::new, |shelved| {
            wanted_of(shelved, Wanted { volume: Some(WantedVolume::Number(1)), format: None })
        })
    }

    /// A genre's name in Japanese; its key when it has none.
    pub fn genre_ja<'a>(&'a self, genre: &'a str) -> &'a str {
        self.vocabulary.genres.get(genre).map_or(genre, |genre| &genre.ja)
    }
}

fn title_document(vocabulary: &Vocabulary, series: &Series) -> Document {
    let names =
        [series.title.ja.as_str(), &series.title.en].into_iter().chain(series.aliases.iter().map(String::as_str));
    Document::new(vocabulary, names, [series.summary.ja.as_str(), &series.summary.en])
}

fn author_document(vocabulary: &Vocabulary, series: &Series) -> Document {
    let names = series.authors.iter().flat_map(|author| names_of(&author.ja).into_iter().chain(names_of(&author.en)));
    let names: Vec<String> = names.collect();
    Document::new(vocabulary, names.iter().map(String::as_str), [])
}

/// The ways to say an author's name: in full, Latin ones also in Japanese order and by the family name, Japanese ones also
/// by the family name with 先生.
fn names_of(author: &str) -> Vec<String> {
    let words: Vec<&str> = author.split_whitespace().collect();
    let latin = author.chars().next().is_some_and(is_word_char);
    let mut names = vec![author.to_owned()];
    match words.as_slice() {
        [given, family] if latin => names.extend([format!("{family} {given}"), (*family).to_owned()]),
        _ if !latin => {
            let chars: Vec<char> = author.chars().collect();
            names.extend((2..chars.len()).filter_map(|n| Some(chars.get(..n)?.iter().collect::<String>() + "先生")));
        }
        _ => {}
    }
    let long_enough = |name: &String| {
        let chars = name.chars().count();
        chars >= NAME_CHARS_MIN
            && (name.contains(' ') || !name.starts_with(is_word_char) || chars >= LATIN_NAME_CHARS_MIN)
    };
    names.retain(long_enough);
    names
}

fn named(documents: &[Document], question: &Text) -> Vec<(usize, Span)> {
    let found = documents.iter().enumerate();
    found.filter_map(|(position, document)| Some((position, document.named_in(question)?))).collect()
}

fn outdone(span: Span, by: &[(usize, Span)]) -> bool {
    by.iter().any(|&(_, other)| other.outdoes(span))
}

/// What is wanted of a series; all of it when that is not sold.
fn wanted_of(shelved: &Shelved, wanted: Wanted) -> Vec<Item<'_>> {
    let volume = wanted.volume.map(|volume| match volume {
        WantedVolume::Number(number) => number,
        WantedVolume::Newest => shelved.series.volumes_published,
    });
    let items = || shelved.editions.iter().map(|edition| Item { series: &shelved.series, edition });
    let of_volume = |item: &Item<'_>| volume.is_none() || item.edition.volume == volume;
    let of_format = |item: &Item<'_>| wanted.format.is_none_or(|format| item.edition.format == format);
    let both: Vec<Item<'_>> = items().filter(|item| of_volume(item) && of_format(item)).collect();
    if !both.is_empty() {
        return both;
    }
    let either: Vec<Item<'_>> = items()
        .filter(|item| volume.is_some() && of_volume(item) || wanted.format.is_some() && of_format(item))
        .collect();
    if either.is_empty() { items().collect() } else { either }
}

/// The first of each list, then the second of each, and so on.
fn in_turns<'a>(lists: &[Vec<Item<'a>>], limit: usize) -> Vec<Item<'a>> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or_default();
    (0..longest).flat_map(|turn| lists.iter().filter_map(move |list| list.get(turn).copied())).take(limit).collect()
}

fn mean_tenths<'a>(reviews: impl IntoIterator<Item = &'a Review>) -> (u32, u32) {
    let (mut sum, mut count) = (0, 0);
    for review in reviews {
        sum += u32::from(review.rating);
        count += 1;
    }
    ((sum * 20 + count).checked_div(count * 2).unwrap_or_default(), count)
}
