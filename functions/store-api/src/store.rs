//! What the store answers: facts from memory, prices, stock and orders from the table.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use domain::ports::{Clock, Unavailable};
use domain::store::{
    self, Article, ArticlePage, Bilingual, OfferPage, Order, OrderPage, OrderStatus, PAGE_ENTRIES_MAX, Price, Product,
    ProductOffer, ProductPage, Promotion, PromotionPage, Recommendation, RecommendationPage, ReviewPage,
};
use tokio::sync::{Mutex, OnceCell};

use crate::catalog::{AgeRating, Series};
use crate::search::Vocabulary;
use crate::seed::{self, Seed};
use crate::shelf::{Item, Shelf};
use crate::table::{HelpArticle, OFFERS_MAX, Offer, PlacedOrder, StoreTable};

/// How long an environment keeps the facts in memory (policy "cache": products 5 minutes).
pub const FACTS_TTL_MS: u64 = 5 * 60 * 1000;

/// Series looked at beyond those that are asked for, because the first volume of some is sold out.
const SPARE_SERIES: usize = 5;

/// The offers of the first volumes, printed and digital, are read at once.
const _: () = assert!((PAGE_ENTRIES_MAX + SPARE_SERIES) * 2 <= OFFERS_MAX);

/// The store of one environment; safe to use by any number of requests at a time.
pub struct Store<T, C> {
    table: T,
    clock: C,
    page_url: String,
    seeded: OnceCell<()>,
    shelf: Mutex<Option<Loaded>>,
}

struct Loaded {
    at_ms: u64,
    shelf: Arc<Shelf>,
}

impl<T: StoreTable, C: Clock> Store<T, C> {
    /// A store over `table` whose pages are under `page_url`, without a slash at its end. Nothing is read yet.
    pub fn new(table: T, clock: C, page_url: String) -> Self {
        Self { table, clock, page_url, seeded: OnceCell::new(), shelf: Mutex::new(None) }
    }

    /// Sees to it that the table has the sample data of this version; asks the table once in the environment's life.
    pub async fn open(&self) -> Result<(), Unavailable> {
        self.seeded
            .get_or_try_init(|| async {
                if self.table.seeded().await?.is_some_and(|digest| digest == seed::digest()) {
                    return Ok(());
                }
                let seed = Seed::read(self.clock.now_ms()).map_err(|error| unavailable("read sample data", error))?;
                self.table.seed(&seed).await?;
                tracing::info!(products = seed.offers.len(), "sample data written");
                Ok(())
            })
            .await
            .copied()
    }

    /// The products that match `question`, best first.
    pub async fn search(&self, question: &str, limit: usize) -> Result<ProductPage, Unavailable> {
        let shelf = self.shelf().await?;
        Ok(ProductPage { products: self.on_sale(&shelf.find_products(question, limit)).await? })
    }

    /// A product, if it is sold.
    pub async fn product(&self, product_id: &str) -> Result<Option<Product>, Unavailable> {
        let shelf = self.shelf().await?;
        let Some(item) = shelf.product(product_id) else { return Ok(None) };
        Ok(self.on_sale(&[item]).await?.pop())
    }

    /// What those of the products cost that are sold.
    pub async fn offers(&self, product_ids: &[&str]) -> Result<OfferPage, Unavailable> {
        let shelf = self.shelf().await?;
        let mut items: Vec<Item<'_>> = product_ids.iter().filter_map(|id| shelf.product(id)).collect();
        items.sort_by(|a, b| a.edition.product_id.cmp(&b.edition.product_id));
        items.dedup_by(|a, b| a.edition.product_id == b.edition.product_id);
        let on_sale = self.on_sale(&items).await?.into_iter();
        let offers = on_sale
            .filter_map(|product| Some(ProductOffer { product_id: product.product_id, offer: product.offer? }))
            .collect();
        Ok(OfferPage { offers })
    }

    /// What is in demand and in stock, for everybody.
    pub async fn trending(&self, limit: usize) -> Result<ProductPage, Unavailable> {
        let shelf = self.shelf().await?;
        let series = shelf.by_popularity().into_iter().filter(|series| series.age_rating != AgeRating::Mature);
        let picks = self.in_stock(&shelf, series.map(|series| (series, ())), limit).await?;
        Ok(ProductPage { products: picks.into_iter().map(|(product, ())| product).collect() })
    }

    /// Series the shopper does not have yet, by the genres of the orders; what readers rate best for a shopper without orders
    /// and for anybody else. What is for adults only is recommended to shoppers known to be.
    pub async fn recommendations(
        &self,
        shopper_id: Option<&str>,
        limit: usize,
    ) -> Result<RecommendationPage, Unavailable> {
        let shelf = self.shelf().await?;
        let shopper = match shopper_id {
            Some(shopper_id) => self.table.shopper(shopper_id).await?,
            None => Default::default(),
        };
        let taste = Taste::of(&shopper.orders, &shelf);
        let allowed = |series: &Series| {
            (shopper.adult || series.age_rating != AgeRating::Mature)
                && !taste.owned.contains(series.series_id.as_str())
        };
        let reasons: Vec<(&Series, Bilingual)> = if taste.genres.is_empty() {
            shelf.by_rating().into_iter().filter(|(series, _)| allowed(series)).map(|(s, r)| (s, rated(r))).collect()
        } else {
            let mut ranked: Vec<(usize, &Series, Bilingual)> = shelf
                .by_popularity()
                .into_iter()
                .filter(|series| allowed(series))
                .filter_map(|series| {
                    let (score, reason) = taste.reason(series, &shelf)?;
                    Some((score, series, reason))
                })
                .collect();
            ranked.sort_by_key(|&(score, ..)| std::cmp::Reverse(score));
            ranked.into_iter().map(|(_, series, reason)| (series, reason)).collect()
        };
        let picks = self.in_stock(&shelf, reasons.into_iter(), limit).await?;
        let recommendations = picks.into_iter().map(|(product, reason)| Recommendation { product, reason }).collect();
        Ok(RecommendationPage { recommendations })
    }

    /// The shopper's newest orders, newest first.
    pub async fn orders(&self, shopper_id: &str) -> Result<OrderPage, Unavailable> {
        let as_of = self.clock.now_ms();
        let mut placed = self.table.shopper(shopper_id).await?.orders;
        newest_first(&mut placed);
        Ok(OrderPage {
            orders: placed.into_iter().take(PAGE_ENTRIES_MAX).map(|order| self.order_answer(order, as_of)).collect(),
        })
    }

    /// An order, if the shopper placed it.
    pub async fn order(&self, shopper_id: &str, order_id: &str) -> Result<Option<Order>, Unavailable> {
        let as_of = self.clock.now_ms();
        let placed = self.table.order(shopper_id, order_id).await?;
        Ok(placed.map(|order| self.order_answer(order, as_of)))
    }

    /// The campaigns that run now, soonest to end first.
    pub async fn promotions(&self) -> Result<PromotionPage, Unavailable> {
        let now = self.clock.now_ms();
        let shelf = self.shelf().await?;
        let running = shelf.campaigns().iter().filter(|campaign| (campaign.starts_at..campaign.ends_at).contains(&now));
        let mut promotions: Vec<Promotion> = running
            .map(|campaign| Promotion {
                promotion_id: campaign.promotion_id.clone(),
                title: campaign.title.clone(),
                description: campaign.description.clone(),
                starts_at: campaign.starts_at,
                ends_at: campaign.ends_at,
                url: self.page("promotions", &campaign.promotion_id),
            })
            .collect();
        promotions.sort_by(|a, b| (a.ends_at, &a.promotion_id).cmp(&(b.ends_at, &b.promotion_id)));
        promotions.truncate(PAGE_ENTRIES_MAX);
        Ok(PromotionPage { promotions })
    }

    /// The newest reviews of a product, if there is such a product.
    pub async fn reviews(&self, product_id: &str, limit: usize) -> Result<Option<ReviewPage>, Unavailable> {
        let shelf = self.shelf().await?;
        if shelf.product(product_id).is_none() {
            return Ok(None);
        }
        let (tenths, count) = shelf.rating(product_id);
        let reviews = shelf.reviews(product_id).iter().take(limit).cloned().collect();
        Ok(Some(ReviewPage { average_rating: tenths as f32 / 10.0, count, reviews }))
    }

    /// The help articles that match `question`, best first.
    pub async fn articles(&self, question: &str, limit: usize) -> Result<ArticlePage, Unavailable> {
        let shelf = self.shelf().await?;
        let found = shelf.find_articles(question).take(limit);
        Ok(ArticlePage { articles: found.map(|article| self.article_answer(article)).collect() })
    }

    /// A help article.
    pub async fn article(&self, article_id: &str) -> Result<Option<Article>, Unavailable> {
        let shelf = self.shelf().await?;
        Ok(shelf.article(article_id).map(|article| self.article_answer(article)))
    }

    /// The facts, read again when they are older than [`FACTS_TTL_MS`]. One request reads, the others wait for it; when
    /// it fails, the old ones are still better than none.
    async fn shelf(&self) -> Result<Arc<Shelf>, Unavailable> {
        let mut loaded = self.shelf.lock().await;
        let now = self.clock.now_ms();
        let (fresh, old) = match loaded.as_ref() {
            Some(loaded) => (now.saturating_sub(loaded.at_ms) < FACTS_TTL_MS, Some(Arc::clone(&loaded.shelf))),
            None => (false, None),
        };
        match (fresh, old) {
            (true, Some(shelf)) => Ok(shelf),
            (_, old) => match (self.load().await, old) {
                (Ok(shelf), _) => {
                    let shelf = Arc::new(shelf);
                    *loaded = Some(Loaded { at_ms: now, shelf: Arc::clone(&shelf) });
                    Ok(shelf)
                }
                (Err(error), Some(shelf)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "facts not refreshed");
                    Ok(shelf)
                }
                (Err(error), None) => Err(error),
            },
        }
    }

    async fn load(&self) -> Result<Shelf, Unavailable> {
        let vocabulary = Vocabulary::read().map_err(|error| unavailable("read search vocabulary", error))?;
        Ok(Shelf::new(vocabulary, self.table.facts().await?))
    }

    /// The items with price and stock read now; those that are not sold any more are left out.
    async fn on_sale(&self, items: &[Item<'_>]) -> Result<Vec<Product>, Unavailable> {
        let as_of = self.clock.now_ms();
        let ids: Vec<&str> = items.iter().map(|item| item.edition.product_id.as_str()).collect();
        let offers = if ids.is_empty() { HashMap::new() } else { self.table.offers(&ids).await? };
        let on_sale = items.iter().filter_map(|item| Some((item, offers.get(&item.edition.product_id)?)));
        Ok(on_sale.map(|(item, offer)| self.product_answer(item, offer, as_of)).collect())
    }

    /// The first volume of each series, in the first form that is in stock; series that are sold out are passed over.
    async fn in_stock<'a, R>(
        &self,
        shelf: &Shelf,
        series: impl Iterator<Item = (&'a Series, R)>,
        limit: usize,
    ) -> Result<Vec<(Product, R)>, Unavailable> {
        let series: Vec<(&Series, R)> = series.take(limit + SPARE_SERIES).collect();
        let items: Vec<Item<'_>> =
            series.iter().flat_map(|(series, _)| shelf.first_volumes(&series.series_id)).collect();
        let mut first: HashMap<String, Product> = HashMap::new();
        let is_in_stock = |product: &Product| product.offer.as_ref().is_some_and(|offer| offer.stock > 0);
        for product in self.on_sale(&items).await?.into_iter().filter(is_in_stock) {
            first.entry(product.series_id.clone()).or_insert(product);
        }
        let picks = series.into_iter().filter_map(|(series, with)| Some((first.remove(&series.series_id)?, with)));
        Ok(picks.take(limit).collect())
    }

    fn product_answer(&self, item: &Item<'_>, offer: &Offer, as_of: u64) -> Product {
        let Item { series, edition } = *item;
        Product {
            product_id: edition.product_id.clone(),
            series_id: series.series_id.clone(),
            title: edition.title.clone(),
            volume: edition.volume,
            authors: series.authors.clone(),
            publisher: series.publisher.clone(),
            genres: series.genres.clone(),
            format: edition.format,
            age_rating: series.age_rating.as_str().to_owned(),
            summary: series.summary.clone(),
            volumes_published: series.volumes_published,
            url: self.page("products", &edition.product_id),
            image_url: None,
            offer: Some(store::Offer { price: yen(offer.price_jpy), stock: offer.stock, as_of }),
        }
    }

    fn order_answer(&self, order: PlacedOrder, as_of: u64) -> Order {
        Order {
            url: self.page("orders", &order.order_id),
            order_id: order.order_id,
            shopper_id: order.shopper_id,
            status: order.status,
            placed_at: order.placed_at,
            eta: order.eta,
            carrier: order.carrier,
            items: order.items,
            total: yen(order.total_jpy),
            as_of,
        }
    }

    fn article_answer(&self, article: &HelpArticle) -> Article {
        Article {
            article_id: article.article_id.clone(),
            title: article.title.clone(),
            body: article.body.clone(),
            url: self.page("help", &article.article_id),
        }
    }

    fn page(&self, kind: &str, id: &str) -> String {
        format!("{}/{kind}/{id}", self.page_url)
    }
}

/// What a shopper's orders say about the shopper.
struct Taste<'a> {
    owned: HashSet<&'a str>,
    /// How often each genre was bought, and the series it was bought in last.
    genres: HashMap<&'a str, (usize, &'a Series)>,
}

impl<'a> Taste<'a> {
    fn of(orders: &[PlacedOrder], shelf: &'a Shelf) -> Self {
        let mut kept: Vec<PlacedOrder> = orders.iter().filter(|order| is_kept(order.status)).cloned().collect();
        newest_first(&mut kept);
        let mut taste = Self { owned: HashSet::new(), genres: HashMap::new() };
        let items = kept.iter().flat_map(|order| &order.items);
        for series in items.filter_map(|line| shelf.product(&line.product_id)).map(|item| item.series) {
            if taste.owned.insert(&series.series_id) {
                for genre in &series.genres {
                    taste.genres.entry(genre).or_insert((0, series)).0 += 1;
                }
            }
        }
        taste
    }

    /// How well a series fits, and why; none when no genre does. Counts are squared: a genre that is bought again and again
    /// says more than several that were tried once.
    fn reason(&self, series: &Series, shelf: &Shelf) -> Option<(usize, Bilingual)> {
        let shared = || series.genres.iter().filter_map(|genre| Some((genre, self.genres.get(genre.as_str())?)));
        let score = shared().map(|(_, (bought, _))| bought * bought).sum();
        let (genre, (_, because)) = shared().max_by_key(|(genre, (bought, _))| (*bought, std::cmp::Reverse(*genre)))?;
        let reason = Bilingual {
            ja: format!("ご注文の『{}』と同じ「{}」の作品です。", because.title.ja, shelf.genre_ja(genre)),
            en: format!("You ordered {}; this is {genre} too.", because.title.en),
        };
        Some((score, reason))
    }
}

/// Whether the shopper has, or will have, what was ordered.
fn is_kept(status: OrderStatus) -> bool {
    match status {
        OrderStatus::PendingPayment
        | OrderStatus::Processing
        | OrderStatus::Preordered
        | OrderStatus::Shipped
        | OrderStatus::OutForDelivery
        | OrderStatus::Delivered => true,
        OrderStatus::Cancelled | OrderStatus::ReturnRequested | OrderStatus::Refunded => false,
    }
}

fn newest_first(orders: &mut [PlacedOrder]) {
    orders.sort_by(|a, b| (b.placed_at, &b.order_id).cmp(&(a.placed_at, &a.order_id)));
}

fn rated(tenths: u32) -> Bilingual {
    let (whole, tenth) = (tenths / 10, tenths % 10);
    Bilingual {
        ja: format!("スタッフのおすすめです。読者の評価は5点中{whole}.{tenth}点。"),
        en: format!("A staff pick: readers rate it {whole}.{tenth} of 5."),
    }
}

fn yen(amount: u64) -> Price {
    Price { amount, currency: "JPY".to_owned() }
}

fn unavailable(operation: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Unavailable {
    Unavailable { operation, source: Box::new(source) }
}
