//! The store's data for one question: asked in parallel under one deadline, told to the model and shown as cards.
//!
//! Only what the question's route needs is asked for. What is nice to have, campaigns and reviews, is never waited for: it is
//! taken if it is there when the rest is.

use std::borrow::Cow;
use std::future::pending;
use std::pin::pin;

use futures_util::future::{Either, OptionFuture, join_all, select};
use futures_util::join;

use crate::bucket::{self, PerMinute};
use crate::ids::{ConversationId, Principal, ProductId};
use crate::injection::without_instructions;
use crate::intent::Intent;
use crate::limits::{
    CARD_ITEMS_MAX, CARD_TEXT_CHARS_MAX, ENVELOPE_BYTES_MAX, GATHER_DEADLINE_MS, GROUNDING_ARTICLES_MAX,
    GROUNDING_PRODUCTS_MAX, GROUNDING_REVIEWS_MAX, ORDER_CARDS_MAX, ORDER_LOOKUPS_PER_MINUTE, PRODUCT_CARDS_MAX,
    SERVER_FRAME_BYTES_MAX, SNIPPET_CHARS_MAX,
};
use crate::pages::StorePages;
use crate::ports::{BucketKey, Clock, Ports, StoreServices as _, TokenBuckets as _, Unavailable};
use crate::prompt::cut;
use crate::protocol::{
    Degraded, Dependency, Locale, OrderCard, OrderCardItem, ProductCard, ServerEvent, Source, degraded_text,
};
use crate::reminder;
use crate::route::Route;
use crate::store::{Article, Bilingual, Order, Product, Promotion, Recommendation, Review};

/// What the store said about a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gathered {
    /// The product on the page, then what the search found.
    pub products: Vec<Product>,
    /// For this shopper, when they ask for some or their search found nothing.
    pub recommendations: Vec<Recommendation>,
    /// What sells best, in place of recommendations that could not be had.
    pub trending: Vec<Product>,
    /// Running now.
    pub promotions: Vec<Promotion>,
    /// The shopper's own, newest first, or those they name; only when the question is about orders.
    pub orders: Vec<Order>,
    /// What the shopper named and has not ordered.
    pub unknown_orders: Vec<String>,
    /// The shopper has named too many orders lately.
    pub too_many_lookups: bool,
    /// Orders of theirs that the shopper asks to be reminded of, and will be.
    pub reminders: Vec<Order>,
    /// Of the product on the page.
    pub reviews: Vec<Review>,
    /// That match the question.
    pub articles: Vec<Article>,
    /// What did not answer, of the services a shopper notices.
    pub degraded: Vec<Dependency>,
    /// Campaigns were asked for and did not answer.
    pub promotions_missing: bool,
}

/// Asks every service the question needs, at once. Takes as long as the slowest, [`GATHER_DEADLINE_MS`] at the most;
/// what fails or is late is left out, and named if a shopper would notice.
pub async fn gather<P: Ports>(
    ports: &P,
    principal: &Principal,
    conversation: &ConversationId,
    question: &str,
    route: &Route,
    product_id: Option<&ProductId>,
) -> Gathered {
    let store = ports.store();
    let clock = ports.clock();
    let deadline = Deadline { clock, at: clock.now_ms() + GATHER_DEADLINE_MS };
    let looks_around = route.needs_recommendations();
    let needs_products = route.needs_products();
    let page = product_id.filter(|_| needs_products);
    let shopper = principal.shopper().filter(|_| route.needs_orders());

    let (mut promotions, mut reviews) = (None, None);
    let needed = async {
        join!(
            OptionFuture::from(page.map(|id| deadline.keep(store.product(id)))),
            OptionFuture::from(needs_products.then(|| deadline.keep(store.search(question, GROUNDING_PRODUCTS_MAX)))),
            OptionFuture::from(looks_around.then(|| {
                // A conversation is what a shopper would call a session: it outlives a connection that drops.
                let session = conversation.as_str();
                let recommended = deadline.keep(store.recommendations(principal.shopper(), session, PRODUCT_CARDS_MAX));
                // At the same time: when there are no recommendations it is too late to ask.
                or_else(recommended, deadline.keep(store.trending(PRODUCT_CARDS_MAX)))
            })),
            OptionFuture::from(shopper.map(|shopper| deadline.keep(orders(
                ports,
                principal,
                shopper,
                &route.entities.order_ids
            )))),
            OptionFuture::from(
                route.needs_articles().then(|| deadline.keep(store.articles(question, GROUNDING_ARTICLES_MAX)))
            ),
            OptionFuture::from(route.needs_promotions().then(|| deadline.keep(store.promotions()))),
        )
    };
    let nice_to_have = async {
        join!(
            async {
                if needs_products {
                    promotions = deadline.keep(store.promotions()).await;
                }
            },
            async {
                if let Some(id) = page {
                    reviews = deadline.keep(store.reviews(id, GROUNDING_REVIEWS_MAX)).await;
                }
            },
        );
        pending::<()>().await;
    };
    // What is nice to have goes first, so that what is there at once is taken, and never holds the rest up.
    let answers = match select(pin!(nice_to_have), pin!(needed)).await {
        Either::Right((answers, _)) => answers,
        Either::Left(((), needed)) => needed.await,
    };
    let (on_page, found, recommended, orders, articles, wanted_promotions) = answers;

    let mut degraded = Vec::new();
    let mut missing = |dependency: Dependency| {
        if !degraded.contains(&dependency) {
            degraded.push(dependency);
        }
    };
    let on_page = on_page.and_then(|answer| {
        answer.unwrap_or_else(|| {
            missing(Dependency::Catalog);
            None
        })
    });
    let mut products = found.map_or_else(Vec::new, |answer| {
        answer.unwrap_or_else(|| {
            missing(Dependency::Catalog);
            Vec::new()
        })
    });
    let orders = orders.map_or_else(Orders::default, |answer| {
        answer.unwrap_or_else(|| {
            missing(Dependency::Orders);
            Orders::default()
        })
    });
    let articles = articles.map_or_else(Vec::new, |answer| {
        answer.unwrap_or_else(|| {
            missing(Dependency::Knowledge);
            Vec::new()
        })
    });
    if let Some(on_page) = on_page {
        products.retain(|product| product.product_id != on_page.product_id);
        products.insert(0, on_page);
    }
    // Who searched and found is not told of other things, and does not miss them.
    let wants_others = route.intent == Intent::Recommendation || (products.is_empty() && articles.is_empty());
    let (recommendations, trending) = match recommended.filter(|_| wants_others) {
        None => (Vec::new(), Vec::new()),
        Some(Ok(recommendations)) => (recommendations, Vec::new()),
        Some(Err(trending)) => {
            missing(Dependency::Recommendations);
            (Vec::new(), trending.unwrap_or_default())
        }
    };
    let recommended = recommendations.iter().map(|item| &item.product);
    if products.iter().chain(recommended).chain(&trending).any(|product| product.offer.is_none()) {
        missing(Dependency::Catalog);
    }
    Gathered {
        products,
        recommendations,
        trending,
        promotions_missing: matches!(wanted_promotions, Some(None)),
        promotions: wanted_promotions.flatten().or(promotions).unwrap_or_default(),
        reminders: match route.wants_reminder {
            true => {
                orders.known.iter().filter(|order| reminder::due_at(order, deadline.at).is_some()).cloned().collect()
            }
            false => Vec::new(),
        },
        orders: orders.known,
        unknown_orders: orders.unknown,
        too_many_lookups: orders.too_many,
        reviews: reviews.unwrap_or_default(),
        articles,
        degraded,
    }
}

#[derive(Default)]
struct Orders {
    known: Vec<Order>,
    unknown: Vec<String>,
    too_many: bool,
}

/// A shopper's orders, or those of the named that are theirs. Who names many is made to wait: ids are not to be guessed.
async fn orders<P: Ports>(
    ports: &P,
    principal: &Principal,
    shopper: &str,
    named: &[String],
) -> Result<Orders, Unavailable> {
    // Whatever the service says: nobody sees an order of somebody else.
    let is_theirs = |order: &Order| order.shopper_id == shopper;
    if named.is_empty() {
        let mut known = ports.store().orders(shopper).await?;
        known.retain(is_theirs);
        return Ok(Orders { known, ..Orders::default() });
    }
    let key = BucketKey::OrderLookups(principal.clone());
    let full_at = ports.buckets().full_at(&key).await?;
    let (now, limit) = (ports.clock().now_ms(), PerMinute(ORDER_LOOKUPS_PER_MINUTE));
    if bucket::take(ports.buckets(), ports.nonces(), &key, limit, full_at, now).await?.is_err() {
        return Ok(Orders { too_many: true, ..Orders::default() });
    }
    let look_up = |id: &String| {
        let id = id.clone();
        async move { (ports.store().order(shopper, &id).await, id) }
    };
    let mut orders = Orders::default();
    for (order, id) in join_all(named.iter().take(ORDER_CARDS_MAX).map(look_up)).await {
        match order? {
            Some(order) if is_theirs(&order) => orders.known.push(order),
            Some(_) | None => orders.unknown.push(id),
        }
    }
    Ok(orders)
}

/// What is wanted, or else what stands in for it. Both are asked at once; the latter is waited for if the former is not to be
/// had.
async fn or_else<T, E>(wanted: impl Future<Output = Option<T>>, stand_in: impl Future<Output = E>) -> Result<T, E> {
    match select(pin!(wanted), pin!(stand_in)).await {
        Either::Left((Some(wanted), _)) => Ok(wanted),
        Either::Left((None, stand_in)) => Err(stand_in.await),
        Either::Right((stand_in, wanted)) => wanted.await.ok_or(stand_in),
    }
}

/// When a turn goes on without what the store has not said yet.
struct Deadline<'c, C> {
    clock: &'c C,
    /// Unix milliseconds.
    at: u64,
}

impl<C: Clock> Deadline<'_, C> {
    /// What the service answered; none if it failed or was late, which is logged here.
    async fn keep<T>(&self, call: impl Future<Output = Result<T, Unavailable>>) -> Option<T> {
        match select(pin!(call), pin!(self.clock.sleep_until(self.at))).await {
            Either::Left((Ok(answer), _)) => Some(answer),
            Either::Left((Err(error), _)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "store service failed");
                None
            }
            Either::Right(((), _)) => {
                tracing::warn!(deadline_ms = GATHER_DEADLINE_MS, "store service was late");
                None
            }
        }
    }
}

impl Gathered {
    /// Whether there is anything to show.
    pub fn is_empty(&self) -> bool {
        self.products.is_empty()
            && self.recommendations.is_empty()
            && self.trending.is_empty()
            && self.orders.is_empty()
            && self.articles.is_empty()
    }

    /// What the store itself says in words, amounts and all: an answer may repeat it. Not what the model is not told because
    /// it looks like an instruction.
    pub fn stated_by_the_store(&self, locale: Locale) -> impl Iterator<Item = Cow<'_, str>> {
        let articles = self.articles.iter().map(move |article| article.body.in_locale(locale));
        let promotions = self
            .promotions
            .iter()
            .flat_map(move |promotion| [promotion.title.in_locale(locale), promotion.description.in_locale(locale)]);
        let products = self.products.iter().map(move |product| product.summary.in_locale(locale));
        articles.chain(promotions).chain(products).map(without_instructions)
    }

    /// What the shopper is shown before the answer: notices, cards, sources.
    ///
    /// Orders when the question is about them, else the products found, else recommendations, else what sells best.
    pub fn events(&self, pages: &StorePages, locale: Locale) -> Vec<ServerEvent> {
        let degraded = self.degraded.iter().map(|dependency| {
            let message = degraded_text(*dependency, pages, locale);
            ServerEvent::Degraded(Degraded { dependency: Some(*dependency), step: None, message })
        });
        let orders =
            self.orders.iter().take(ORDER_CARDS_MAX).map(|order| ServerEvent::OrderCard(order_card(order, locale)));
        let found = self.products.iter().map(|product| (product, None));
        let recommended = self.recommendations.iter().map(|item| (&item.product, Some(&item.reason)));
        let trending = self.trending.iter().map(|product| (product, None));
        let mut products: Vec<(&Product, Option<&Bilingual>)> = found.collect();
        if products.is_empty() {
            products = recommended.collect();
        }
        if products.is_empty() {
            products = trending.collect();
        }
        let cards = products.into_iter().filter_map(|(product, reason)| product_card(product, reason, locale));
        let products = cards.take(PRODUCT_CARDS_MAX).map(ServerEvent::ProductCard);
        let sources = self.articles.iter().take(GROUNDING_ARTICLES_MAX).map(|article| {
            ServerEvent::Source(Source {
                id: article.article_id.clone(),
                title: shown(&article.title, locale),
                url: Some(article.url.clone()),
                snippet: Some(cut(article.body.in_locale(locale), SNIPPET_CHARS_MAX).to_owned()),
            })
        });
        degraded.chain(orders).chain(products).chain(sources).filter(fits_frame).collect()
    }
}

/// Whether a client can be sent this: a store may name a hundred authors.
fn fits_frame(event: &ServerEvent) -> bool {
    let bytes = serde_json::to_string(event).map_or(usize::MAX, |json| json.len());
    let fits = bytes <= SERVER_FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX;
    if !fits {
        tracing::warn!(bytes, "the store's data is too large for a frame and was left out");
    }
    fits
}

fn shown(text: &Bilingual, locale: Locale) -> String {
    cut(text.in_locale(locale), CARD_TEXT_CHARS_MAX).to_owned()
}

/// The card of a product; none without its price.
fn product_card(product: &Product, reason: Option<&Bilingual>, locale: Locale) -> Option<ProductCard> {
    let offer = product.offer.as_ref()?;
    Some(ProductCard {
        product_id: product.product_id.clone(),
        title: shown(&product.title, locale),
        volume: product.volume,
        authors: product.authors.iter().map(|author| shown(author, locale)).collect(),
        price: offer.price.clone(),
        in_stock: offer.stock > 0,
        url: product.url.clone(),
        image_url: product.image_url.clone(),
        reason: reason.map(|reason| shown(reason, locale)),
        as_of: offer.as_of,
    })
}

/// The card of an order.
pub(crate) fn order_card(order: &Order, locale: Locale) -> OrderCard {
    let item = |line: &crate::store::OrderLine| OrderCardItem {
        product_id: line.product_id.clone(),
        title: shown(&line.title, locale),
        quantity: line.quantity,
    };
    OrderCard {
        order_id: order.order_id.clone(),
        status: order.status,
        eta: order.eta.clone(),
        carrier: order.carrier.clone(),
        items: order.items.iter().take(CARD_ITEMS_MAX).map(item).collect(),
        url: order.url.clone(),
        as_of: order.as_of,
    }
}
