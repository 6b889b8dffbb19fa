//! The store's data for one question.

use domain::gather::{Gathered, gather};
use domain::ids::{ConversationId, Principal, ProductId};
use domain::intent::{Intent, guess};
use domain::limits::{
    CARD_ITEMS_MAX, CARD_TEXT_CHARS_MAX, ENVELOPE_BYTES_MAX, GATHER_DEADLINE_MS, ORDER_CARDS_MAX, PRODUCT_CARDS_MAX,
    SERVER_FRAME_BYTES_MAX,
};
use domain::ports::Clock as _;
use domain::protocol::{Dependency, Locale, ServerEvent};
use domain::store::{Offer, Price, Product, Recommendation};
use testkit::{InMemory, START_MS, Service, StoreData, samples};

fn world(data: StoreData) -> InMemory {
    let ports = InMemory::new();
    ports.store.stock(data);
    ports
}

fn conversation() -> ConversationId {
    ConversationId::parse("c-1").unwrap()
}

fn ask(ports: &InMemory, principal: &Principal, intent: Intent, product_id: Option<&ProductId>) -> Gathered {
    ports.clock.block_on(gather(ports, principal, &conversation(), "A question?", intent, product_id))
}

/// Aiko looks at a product.
fn ask_about(ports: &InMemory, intent: Intent) -> Gathered {
    ask(ports, &samples::shopper("aiko"), intent, Some(&samples::product_id("one-1")))
}

#[test]
fn services_are_asked_at_once() {
    let data = samples::store_data();
    let everything = Gathered {
        products: data.found.clone(),
        recommendations: data.recommendations.clone(),
        promotions: data.promotions.clone(),
        orders: data.orders.clone(),
        reminders: vec![],
        reviews: data.reviews.clone(),
        articles: data.articles.clone(),
        degraded: vec![],
    };
    for (intent, expected) in [
        (Intent::OrderTracking, Gathered { recommendations: vec![], ..everything.clone() }),
        (Intent::Recommendation, Gathered { orders: vec![], ..everything }),
    ] {
        let ports = world(data.clone());
        for (service, latency_ms) in Service::ALL.into_iter().zip([100, 200, 300, 400, 500, 600, 700]) {
            ports.store.delay(service, latency_ms);
        }
        assert_eq!(ask_about(&ports, intent), expected);
        assert_eq!(ports.clock.now_ms(), START_MS + 700, "the slowest, not the sum");
    }
}

#[test]
fn whoever_is_late_is_left_out() {
    let ports = world(samples::store_data());
    ports.store.delay(Service::Articles, GATHER_DEADLINE_MS - 1);
    ports.store.delay(Service::Recommendations, GATHER_DEADLINE_MS + 1);
    ports.store.delay(Service::Promotions, 60_000);
    let gathered = ask_about(&ports, Intent::Recommendation);
    assert_eq!(ports.clock.now_ms(), START_MS + GATHER_DEADLINE_MS);
    assert_eq!(gathered.articles.len(), 1);
    assert_eq!((gathered.recommendations, gathered.promotions), (vec![], vec![]));
    assert_eq!(gathered.degraded, [Dependency::Recommendations], "nobody notices a missing promotion");
}

#[test]
fn a_failure_is_announced_once_if_a_shopper_would_notice() {
    use Service::{Articles, Orders, Product, Promotions, Recommendations, Reviews, Search};
    for (intent, failing, announced) in [
        (Intent::ProductQuestion, vec![Search], vec![Dependency::Catalog]),
        (Intent::ProductQuestion, vec![Product], vec![Dependency::Catalog]),
        (Intent::ProductQuestion, vec![Search, Product], vec![Dependency::Catalog]),
        (Intent::Recommendation, vec![Recommendations], vec![Dependency::Recommendations]),
        (Intent::ProductDiscovery, vec![Recommendations], vec![]),
        (Intent::OrderTracking, vec![Orders], vec![Dependency::Orders]),
        (Intent::Faq, vec![Articles], vec![Dependency::Knowledge]),
        (Intent::ProductQuestion, vec![Promotions, Reviews], vec![]),
    ] {
        let ports = world(samples::store_data());
        failing.iter().for_each(|service| ports.store.fail(*service));
        let gathered = ask_about(&ports, intent);
        assert_eq!(gathered.degraded, announced, "{intent:?} without {failing:?}");
        let events = gathered.events(intent, Locale::En);
        let notices = events.iter().filter(|event| matches!(event, ServerEvent::Degraded(_)));
        assert_eq!(notices.count(), announced.len());
    }
}

#[test]
fn who_searched_and_found_is_recommended_nothing_else() {
    let aiko = samples::shopper("aiko");
    let known = samples::store_data();
    let nothing_found = StoreData { found: vec![], articles: vec![], ..known.clone() };
    for (data, intent, recommended) in [
        (&known, Intent::ProductDiscovery, 0),
        (&nothing_found, Intent::ProductDiscovery, 1),
        (&known, Intent::Recommendation, 1),
        (&nothing_found, Intent::Faq, 0),
    ] {
        let gathered = ask(&world(data.clone()), &aiko, intent, None);
        assert_eq!(gathered.recommendations.len(), recommended, "{intent:?}");
    }
}

#[test]
fn orders_are_asked_for_when_somebody_asks_about_their_own() {
    let (aiko, guest) = (samples::shopper("aiko"), samples::guest("g"));
    for (principal, intent, asks) in [
        (&aiko, Intent::OrderTracking, true),
        (&aiko, Intent::ReturnRequest, true),
        (&aiko, Intent::ProductDiscovery, false),
        (&aiko, Intent::Faq, false),
        (&guest, Intent::OrderTracking, false),
    ] {
        let ports = world(samples::store_data());
        let gathered = ask(&ports, principal, intent, None);
        assert_eq!(ports.store.calls().contains(&Service::Orders), asks, "{principal} {intent:?}");
        assert_eq!(gathered.orders.len(), usize::from(asks));
    }
    let ports = world(samples::store_data());
    assert_eq!(ask(&ports, &samples::shopper("ben"), Intent::OrderTracking, None).orders, []);
}

#[test]
fn the_product_on_the_page_comes_first_and_once() {
    let mut data = samples::store_data();
    data.catalog = vec![samples::product("page-1")];
    let ids = |gathered: &Gathered| -> Vec<String> {
        gathered.products.iter().map(|product| product.product_id.clone()).collect()
    };
    let aiko = samples::shopper("aiko");
    let on_page = |id| ask(&world(data.clone()), &aiko, Intent::ProductQuestion, Some(&samples::product_id(id)));
    assert_eq!(ids(&on_page("page-1")), ["page-1", "one-1", "two-1"]);
    assert_eq!(ids(&on_page("two-1")), ["two-1", "one-1"]);
    assert_eq!(ids(&on_page("unknown")), ["one-1", "two-1"]);
    assert_eq!(on_page("unknown").degraded, [], "no such product is an answer");
    let ports = world(data.clone());
    ask(&ports, &aiko, Intent::ProductQuestion, None);
    assert!(!ports.store.calls().contains(&Service::Product) && !ports.store.calls().contains(&Service::Reviews));
}

/// The types of what is shown.
fn shown(gathered: &Gathered, intent: Intent) -> Vec<String> {
    let kind = |event: &ServerEvent| serde_json::to_value(event).unwrap()["type"].as_str().unwrap().to_owned();
    gathered.events(intent, Locale::En).iter().map(kind).collect()
}

#[test]
fn cards_follow_the_question() {
    let orders = ask_about(&world(samples::store_data()), Intent::OrderTracking);
    assert_eq!(shown(&orders, Intent::OrderTracking), ["card.order", "source"]);
    let found = ask_about(&world(samples::store_data()), Intent::Recommendation);
    assert_eq!(shown(&found, Intent::Recommendation), ["card.product", "card.product", "source"]);
    let nothing_found = Gathered { products: vec![], ..found };
    assert_eq!(shown(&nothing_found, Intent::Recommendation), ["card.product", "source"]);
    let events = nothing_found.events(Intent::Recommendation, Locale::Ja);
    let ServerEvent::ProductCard(card) = &events[0] else { panic!("a product") };
    assert_eq!(card.reason.as_deref(), Some("Readers like you like it.（日本語）"));
}

#[test]
fn a_card_too_large_for_a_frame_is_left_out() {
    let shown_with = |url_bytes: usize| {
        let mut product = samples::product("one-piece-1");
        product.url = "u".repeat(url_bytes);
        let gathered = Gathered { products: vec![product], ..Gathered::default() };
        gathered.events(Intent::ProductDiscovery, Locale::En)
    };
    let room = SERVER_FRAME_BYTES_MAX - ENVELOPE_BYTES_MAX;
    let rest = serde_json::to_string(&shown_with(0)).unwrap().len() - "[]".len();
    assert_eq!(shown_with(room - rest).len(), 1);
    assert_eq!(shown_with(room - rest + 1).len(), 0);
}

#[test]
fn a_card_says_what_the_store_says() {
    let mut product = samples::product("one-1");
    let price = Price { amount: 1_234, currency: "JPY".to_owned() };
    product.offer = Some(Offer { price: price.clone(), stock: 0, as_of: START_MS + 5 });
    let gathered = Gathered { products: vec![product.clone()], ..Gathered::default() };
    let events = gathered.events(Intent::ProductDiscovery, Locale::Ja);
    let ServerEvent::ProductCard(card) = &events[0] else { panic!("a product") };
    assert_eq!((&card.price, card.in_stock, card.as_of), (&price, false, START_MS + 5));
    assert_eq!(
        (card.title.as_str(), card.authors.as_slice()),
        ("one-1（日本語）", ["An Author（日本語）".to_owned()].as_slice())
    );
    product.offer = Some(Offer { stock: 1, ..samples::offer() });
    let gathered = Gathered { products: vec![product], ..Gathered::default() };
    let events = gathered.events(Intent::ProductDiscovery, Locale::En);
    let ServerEvent::ProductCard(card) = &events[0] else { panic!("a product") };
    assert!(card.in_stock);
    assert_eq!(card.title, "one-1");
}

#[test]
fn a_product_whose_price_nobody_knows_is_talked_about_without_a_card() {
    let priceless = Product { offer: None, ..samples::product("one-1") };
    let mut data = samples::store_data();
    data.found = vec![priceless.clone(), samples::product("two-1")];
    let gathered = ask(&world(data.clone()), &samples::guest("g"), Intent::ProductDiscovery, None);
    assert_eq!(gathered.products, data.found);
    assert_eq!(gathered.degraded, [Dependency::Catalog]);
    let events = gathered.events(Intent::ProductDiscovery, Locale::En);
    let cards: Vec<_> = events
        .iter()
        .filter_map(
            |event| if let ServerEvent::ProductCard(card) = event { Some(card.product_id.as_str()) } else { None },
        )
        .collect();
    assert_eq!(cards, ["two-1"]);
    data.recommendations = vec![Recommendation { product: priceless, ..samples::recommendation("one-1") }];
    data.found = vec![];
    let gathered = ask(&world(data), &samples::guest("g"), Intent::Recommendation, None);
    assert_eq!((gathered.recommendations.len(), gathered.degraded.as_slice()), (1, [Dependency::Catalog].as_slice()));
    assert!(!shown(&gathered, Intent::Recommendation).contains(&"card.product".to_owned()));
}

#[test]
fn cards_are_cut_to_their_limits() {
    let mut product = samples::product("one-1");
    product.title.en = "本".repeat(CARD_TEXT_CHARS_MAX + 1);
    let mut order = samples::order("MC-1", "aiko");
    order.items = vec![order.items[0].clone(); CARD_ITEMS_MAX + 1];
    let gathered = Gathered {
        products: vec![product; PRODUCT_CARDS_MAX + 1],
        orders: vec![order; ORDER_CARDS_MAX + 1],
        ..Gathered::default()
    };
    let events = gathered.events(Intent::ProductDiscovery, Locale::En);
    let products: Vec<_> = events
        .iter()
        .filter_map(|event| if let ServerEvent::ProductCard(card) = event { Some(card) } else { None })
        .collect();
    let orders: Vec<_> = events
        .iter()
        .filter_map(|event| if let ServerEvent::OrderCard(card) = event { Some(card) } else { None })
        .collect();
    assert_eq!((products.len(), orders.len()), (PRODUCT_CARDS_MAX, ORDER_CARDS_MAX));
    assert_eq!(products[0].title.chars().count(), CARD_TEXT_CHARS_MAX);
    assert_eq!(orders[0].items.len(), CARD_ITEMS_MAX);
}

#[test]
fn words_tell_what_a_shopper_wants() {
    for (text, about_product, intent) in [
        ("Where is my order?", false, Intent::OrderTracking),
        ("注文した本が届かない", false, Intent::OrderTracking),
        ("I want to RETURN my order", false, Intent::ReturnRequest),
        ("返品したいです", true, Intent::ReturnRequest),
        ("おすすめを教えて", false, Intent::Recommendation),
        ("担当者と話したい", false, Intent::Escalation),
        ("送料はいくら？", false, Intent::Faq),
        ("Any sale today?", false, Intent::Promotion),
        ("どんな話？", true, Intent::ProductQuestion),
        ("海賊の漫画", false, Intent::ProductDiscovery),
    ] {
        assert_eq!(guess(text, about_product), intent, "{text}");
    }
}
