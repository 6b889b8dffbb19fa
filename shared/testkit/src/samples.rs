//! Made-up shoppers, messages and goods, and the events of `events/`.

use std::collections::BTreeMap;
use std::fs;

use domain::ids::{ClientMessageId, ConnectionId, Principal, ProductId, SessionId, SessionKey};
use domain::pages::StorePages;
use domain::ports::ScheduledFollowUp;
use domain::protocol::{FollowUp, MessageSend};
use domain::store::{
    Article, Bilingual, Format, Offer, Order, OrderLine, OrderStatus, Price, Product, Promotion, Recommendation, Review,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{START_MS, StoreData};

/// A key that signs and derives nothing real.
pub fn session_key() -> SessionKey {
    SessionKey::new(&[7; SessionKey::BYTES_MIN]).expect("long enough")
}

/// Where the store's pages are.
pub fn pages() -> StorePages {
    StorePages::new("https://store.example")
}

/// A signed-in shopper.
pub fn shopper(subject: &str) -> Principal {
    Principal::Shopper(subject.to_owned())
}

/// A guest.
pub fn guest(session: &str) -> Principal {
    Principal::Guest(SessionId::parse(session).expect("an id"))
}

/// A connection's name.
pub fn connection(name: &str) -> ConnectionId {
    ConnectionId(name.to_owned())
}

/// The client's name of its message number `number`.
pub fn client_message_id(number: u128) -> ClientMessageId {
    ClientMessageId(Uuid::from_u128(number))
}

/// A message number `number` that opens a conversation.
pub fn message(number: u128, text: &str) -> MessageSend {
    MessageSend {
        client_message_id: client_message_id(number),
        text: text.to_owned(),
        conversation_id: None,
        locale: None,
        context: None,
    }
}

/// A reminder.
pub fn follow_up(id: &str, principal: &Principal, due_at: u64) -> ScheduledFollowUp {
    let message = FollowUp {
        follow_up_id: id.to_owned(),
        kind: "preorder_reminder".to_owned(),
        text: "本日発売です \"<&>\"\n".to_owned(),
        cards: Vec::new(),
    };
    ScheduledFollowUp { follow_up_id: id.to_owned(), principal: principal.clone(), due_at, message }
}

/// A product's id.
pub fn product_id(id: &str) -> ProductId {
    ProductId::parse(id).expect("an id")
}

/// A text that says in which language it is.
pub fn bilingual(text: &str) -> Bilingual {
    Bilingual { ja: format!("{text}（日本語）"), en: text.to_owned() }
}

/// A volume in stock, 528 yen.
pub fn product(id: &str) -> Product {
    Product {
        product_id: id.to_owned(),
        series_id: id.to_owned(),
        title: bilingual(id),
        volume: Some(1),
        authors: vec![bilingual("An Author")],
        publisher: bilingual("A Publisher"),
        genres: vec!["adventure".to_owned()],
        format: Format::Paperback,
        age_rating: "all".to_owned(),
        summary: bilingual("Somebody sets out."),
        volumes_published: 12,
        url: format!("https://store.example/products/{id}"),
        image_url: None,
        offer: Some(offer()),
    }
}

/// 528 yen, three in stock.
pub fn offer() -> Offer {
    Offer { price: Price { amount: 528, currency: "JPY".to_owned() }, stock: 3, as_of: START_MS }
}

/// A recommended product.
pub fn recommendation(id: &str) -> Recommendation {
    Recommendation { product: product(id), reason: bilingual("Readers like you like it.") }
}

/// A shopper's order that is on its way.
pub fn order(id: &str, shopper: &str) -> Order {
    Order {
        order_id: id.to_owned(),
        shopper_id: shopper.to_owned(),
        status: OrderStatus::Shipped,
        placed_at: START_MS,
        eta: Some("2026-11-24".to_owned()),
        carrier: Some("A Carrier".to_owned()),
        items: vec![OrderLine { product_id: "one-1".to_owned(), title: bilingual("one-1"), quantity: 2 }],
        total: Price { amount: 1_056, currency: "JPY".to_owned() },
        url: format!("https://store.example/orders/{id}"),
        as_of: START_MS,
    }
}

/// A campaign.
pub fn promotion(id: &str) -> Promotion {
    Promotion {
        promotion_id: id.to_owned(),
        title: bilingual(id),
        description: bilingual("Every first volume, for everybody."),
        starts_at: START_MS,
        ends_at: START_MS + 86_400_000,
        url: format!("https://store.example/promotions/{id}"),
    }
}

/// A review of a product.
pub fn review(id: &str, product: &str) -> Review {
    Review {
        review_id: id.to_owned(),
        product_id: product.to_owned(),
        rating: 5,
        language: "en".to_owned(),
        text: "I could not put it down.".to_owned(),
        written_at: START_MS,
    }
}

/// A help article.
pub fn article(id: &str) -> Article {
    Article {
        article_id: id.to_owned(),
        title: bilingual(id),
        body: bilingual("Within thirty days, unread."),
        url: format!("https://store.example/help/{id}"),
    }
}

/// Two products that match, one of everything else; the order is aiko's.
pub fn store_data() -> StoreData {
    StoreData {
        found: vec![product("one-1"), product("two-1")],
        catalog: Vec::new(),
        trending: vec![product("haikyu-1")],
        recommendations: vec![recommendation("three-1")],
        orders: vec![order("MC-1", "aiko")],
        promotions: vec![promotion("autumn")],
        reviews: vec![review("one-1-r1", "one-1")],
        articles: vec![article("returns")],
    }
}

/// The sample events of a function, in `events/FUNCTION/NAME.json`, by name.
///
/// # Panics
/// When one cannot be read, or is not of type `T`.
pub fn events<T: DeserializeOwned>(function: &str) -> BTreeMap<String, T> {
    let folder = format!("{}/../../events/{function}", env!("CARGO_MANIFEST_DIR"));
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: std::path::PathBuf| {
        let event = serde_json::from_slice(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), event)
    };
    paths.map(named).collect()
}
