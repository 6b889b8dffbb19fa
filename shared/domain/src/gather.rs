//! The store's data for one question: asked in parallel under one deadline, told to the model and shown as cards.

use futures_util::future::{Either, OptionFuture, select};
use futures_util::join;

use crate::ids::{ConversationId, Principal, ProductId};
use crate::intent::Intent;
use crate::limits::{
    CARD_ITEMS_MAX, CARD_TEXT_CHARS_MAX, ENVELOPE_BYTES_MAX, GATHER_DEADLINE_MS, GROUNDING_ARTICLES_MAX,
    GROUNDING_PRODUCTS_MAX, GROUNDING_REVIEWS_MAX, ORDER_CARDS_MAX, PRODUCT_CARDS_MAX, SERVER_FRAME_BYTES_MAX,
    SNIPPET_CHARS_MAX,
};
use crate::ports::{Clock, Ports, StoreServices as _, Unavailable};
use crate::prompt::cut;
use crate::protocol::{
    Degraded, Dependency, Locale, OrderCard, OrderCardItem, ProductCard, ServerEvent, Source, degraded_text,
};
use crate::reminder;
use crate::store::{Article, Bilingual, Order, Product, Promotion, Recommendation, Review};

/// What the store said about a question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gathered {
    /// The product on the page, then what the search found.
    pub products: Vec<Product>,
    /// For this shopper, when they ask for some or their search found nothing.
    pub recommendations: Vec<Recommendation>,
    /// Running now.
    pub promotions: Vec<Promotion>,
    /// The shopper's own, newest first; only when the question is about orders.
    pub orders: Vec<Order>,
    /// Orders of theirs that the shopper asks to be reminded of, and will be.
    pub reminders: Vec<Order>,
    /// Of the product on the page.
    pub reviews: Vec<Review>,
    /// That match the question.
    pub articles: Vec<Article>,
    /// What did not answer, of the services a shopper notices.
    pub degraded: Vec<Dependency>,
}

/// Asks every service the question needs, at once. Takes as long as the slowest, [`GATHER_DEADLINE_MS`] at the most;
/// what fails or is late is left out, and named if a shopper would notice.
pub async fn gather<P: Ports>(
    ports: &P,
    principal: &Principal,
    conversation: &ConversationId,
    question: &str,
    intent: Intent,
    product_id: Option<&ProductId>,
) -> Gathered {
    let store = ports.store();
    let clock = ports.clock();
    let deadline = clock.now_ms() + GATHER_DEADLINE_MS;
    let looks_around = matches!(intent, Intent::Recommendation | Intent::ProductDiscovery);
    let wants_reminder = reminder::is_asked_for(question);
    let orders_of = principal.shopper().filter(|_| intent.needs_orders() || wants_reminder);
    let (on_page, found, recommendations, orders, articles, promotions, reviews) = join!(
        OptionFuture::from(product_id.map(|id| in_time(clock, deadline, store.product(id)))),
        in_time(clock, deadline, store.search(question, GROUNDING_PRODUCTS_MAX)),
        OptionFuture::from(looks_around.then(|| {
            // A conversation is what a shopper would call a session: it outlives a connection that drops.
            let call = store.recommendations(principal.shopper(), conversation.as_str(), PRODUCT_CARDS_MAX);
            in_time(clock, deadline, call)
        })),
        OptionFuture::from(orders_of.map(|shopper| in_time(clock, deadline, store.orders(shopper)))),
        in_time(clock, deadline, store.articles(question, GROUNDING_ARTICLES_MAX)),
        in_time(clock, deadline, store.promotions()),
        OptionFuture::from(product_id.map(|id| in_time(clock, deadline, store.reviews(id, GROUNDING_REVIEWS_MAX)))),
    );

    let mut gathered = Gathered::default();
    let mut missing = |dependency: Dependency| {
        if !gathered.degraded.contains(&dependency) {
            gathered.degraded.push(dependency);
        }
    };
    let on_page = on_page.and_then(|answer| {
        answer.unwrap_or_else(|| {
            missing(Dependency::Catalog);
            None
        })
    });
    let mut found = found.unwrap_or_else(|| {
        missing(Dependency::Catalog);
        Vec::new()
    });
    let orders = orders.map_or_else(Vec::new, |answer| {
        answer.unwrap_or_else(|| {
            missing(Dependency::Orders);
            Vec::new()
        })
    });
    let articles = articles.unwrap_or_else(|| {
        missing(Dependency::Knowledge);
        Vec::new()
    });
    if let Some(on_page) = on_page {
        found.retain(|product| product.product_id != on_page.product_id);
        found.insert(0, on_page);
    }
    // Who searched and found is not told of other things, and does not miss them.
    let found_nothing = found.is_empty() && articles.is_empty();
    let wanted = recommendations.filter(|_| intent == Intent::Recommendation || found_nothing);
    let recommendations = wanted.map_or_else(Vec::new, |answer| {
        answer.unwrap_or_else(|| {
            missing(Dependency::Recommendations);
            Vec::new()
        })
    });
    if found.iter().chain(recommendations.iter().map(|item| &item.product)).any(|product| product.offer.is_none()) {
        missing(Dependency::Catalog);
    }
    Gathered {
        products: found,
        recommendations,
        promotions: promotions.unwrap_or_default(),
        reminders: match wants_reminder {
            true => orders.iter().filter(|order| reminder::due_at(order, deadline).is_some()).cloned().collect(),
            false => Vec::new(),
        },
        orders,
        reviews: reviews.flatten().unwrap_or_default(),
        articles,
        ..gathered
    }
}

/// What the service answered; none if it failed or was late, which is logged here.
async fn in_time<T>(
    clock: &impl Clock,
    deadline: u64,
    call: impl Future<Output = Result<T, Unavailable>>,
) -> Option<T> {
    let call = std::pin::pin!(call);
    let alarm = std::pin::pin!(clock.sleep_until(deadline));
    match select(call, alarm).await {
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

impl Gathered {
    /// What the shopper is shown before the answer: notices, cards, sources.
    ///
    /// Orders when the question is about them, else the products found, else recommendations.
    pub fn events(&self, intent: Intent, locale: Locale) -> Vec<ServerEvent> {
        let degraded = self.degraded.iter().map(|dependency| {
            let message = degraded_text(*dependency, locale).to_owned();
            ServerEvent::Degraded(Degraded { dependency: Some(*dependency), step: None, message })
        });
        let orders =
            self.orders.iter().take(ORDER_CARDS_MAX).map(|order| ServerEvent::OrderCard(order_card(order, locale)));
        let products: Vec<ProductCard> = if intent.needs_orders() {
            Vec::new()
        } else if self.products.is_empty() {
            let card = |item: &Recommendation| product_card(&item.product, Some(&item.reason), locale);
            self.recommendations.iter().filter_map(card).collect()
        } else {
            self.products.iter().filter_map(|product| product_card(product, None, locale)).collect()
        };
        let products = products.into_iter().take(PRODUCT_CARDS_MAX).map(ServerEvent::ProductCard);
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
