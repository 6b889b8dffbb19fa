//! The store's data for one question.

use domain::gather::{Gathered, gather};
use domain::ids::{ConversationId, Principal, ProductId};
use domain::intent::Intent;
use domain::limits::{
    CARD_ITEMS_MAX, CARD_TEXT_CHARS_MAX, ENVELOPE_BYTES_MAX, GATHER_DEADLINE_MS, ORDER_CARDS_MAX,
    ORDER_LOOKUPS_PER_MINUTE, PRODUCT_CARDS_MAX, SERVER_FRAME_BYTES_MAX,
};
use domain::ports::Clock as _;
use domain::protocol::{Dependency, Locale, ServerEvent};
use domain::route::Route;
use domain::store::{Offer, Order, OrderStatus, Price, Product, Recommendation};
use testkit::{Fault, InMemory, START_MS, Service, StoreData, samples};

use crate::world::{names, positions};

fn world(data: StoreData) -> InMemory {
    let ports = InMemory::new();
    ports.store.stock(data);
    ports
}

/// A message that is certainly about this, and names nothing.
fn route(intent: Intent) -> Route {
    Route { intent, sure: true, ..Route::of("?", false) }
}

/// A message that names orders.
fn route_naming(orders: &[&str]) -> Route {
    let route = Route::of(&format!("Where is my order {}?", orders.join(", ")), false);
    assert_eq!(route.intent, Intent::OrderTracking);
    assert!(orders.iter().zip(&route.entities.order_ids).all(|(named, found)| named == found), "{orders:?}");
    route
}

fn ask(ports: &InMemory, principal: &Principal, route: &Route, product_id: Option<&ProductId>) -> Gathered {
    let conversation = ConversationId::parse("c-1").unwrap();
    ports.clock.block_on(gather(ports, principal, &conversation, "A question?", route, product_id))
}

/// Aiko looks at a product.
fn ask_about(ports: &InMemory, route: &Route) -> Gathered {
    ask(ports, &samples::shopper("aiko"), route, Some(&samples::product_id("one-1")))
}

/// The services that were asked, in the order of [`Service::ALL`].
fn calls(ports: &InMemory) -> Vec<Service> {
    let calls = ports.store.calls();
    let sorted: Vec<Service> = Service::ALL
        .into_iter()
        .flat_map(|service| calls.iter().copied().filter(move |call| *call == service))
        .collect();
    assert_eq!(sorted.len(), calls.len());
    sorted
}

#[test]
fn every_route_asks_exactly_the_services_it_needs() {
    use Service::{Articles, Orders, Product, Promotions, Recommendations, Reviews, Search, Trending};
    let looks_around = [Search, Recommendations, Trending, Promotions];
    let unsure = |intent| Route { sure: false, ..route(intent) };
    for (route, on_page, asked) in [
        (route(Intent::ProductDiscovery), false, looks_around.to_vec()),
        (route(Intent::Recommendation), false, looks_around.to_vec()),
        (route(Intent::Recommendation), true, vec![Search, Product, Recommendations, Trending, Promotions, Reviews]),
        (unsure(Intent::ProductDiscovery), false, [&looks_around[..], &[Articles]].concat()),
        (route(Intent::ProductQuestion), true, vec![Search, Product, Promotions, Reviews]),
        (route(Intent::ProductQuestion), false, vec![Search, Promotions]),
        (unsure(Intent::ProductQuestion), true, vec![Search, Product, Promotions, Reviews, Articles]),
        (route(Intent::Faq), true, vec![Articles]),
        (route(Intent::CheckoutHelp), true, vec![Articles]),
        (route(Intent::OrderTracking), true, vec![Orders]),
        (route(Intent::ReturnRequest), true, vec![Orders, Articles]),
        (route(Intent::Promotion), true, vec![Promotions]),
        (route(Intent::Escalation), true, vec![]),
        (route(Intent::Chitchat), true, vec![]),
    ] {
        let product_id = on_page.then(|| samples::product_id("one-1"));
        for (principal, has_orders) in [(samples::shopper("aiko"), true), (samples::guest("g"), false)] {
            let ports = world(samples::store_data());
            // Or nothing would have to be asked for in their place.
            ports.store.delay(Recommendations, 1);
            let gathered = ask(&ports, &principal, &route, product_id.as_ref());
            let expected: Vec<Service> =
                asked.iter().copied().filter(|service| has_orders || *service != Orders).collect();
            assert_eq!(calls(&ports), expected, "{principal}, {route:?}");
            assert_eq!(gathered.orders.len(), usize::from(expected.contains(&Orders)));
            assert_eq!(gathered.degraded, []);
        }
    }
    let ports = world(samples::store_data());
    let named = route_naming(&["MC-2026-000001", "MC-2026-000002"]);
    ask(&ports, &samples::shopper("aiko"), &named, None);
    assert_eq!(calls(&ports), [Service::Order, Service::Order], "those that are named, and no others");
}

#[test]
fn services_are_asked_at_once() {
    let data = samples::store_data();
    let everything = Gathered {
        products: data.found.clone(),
        recommendations: data.recommendations.clone(),
        promotions: data.promotions.clone(),
        orders: data.orders.clone(),
        reviews: data.reviews.clone(),
        articles: data.articles.clone(),
        ..Gathered::default()
    };
    let latencies = [
        (Service::Search, 150),
        (Service::Product, 100),
        (Service::Recommendations, 200),
        (Service::Trending, 180),
        (Service::Orders, 250),
        (Service::Promotions, 60),
        (Service::Reviews, 90),
        (Service::Articles, 300),
    ];
    for (route, slowest_ms, expected) in [
        (
            Route { sure: false, ..route(Intent::Recommendation) },
            300,
            Gathered { orders: vec![], ..everything.clone() },
        ),
        (
            Route { sure: false, ..route(Intent::ProductQuestion) },
            300,
            Gathered { orders: vec![], recommendations: vec![], ..everything.clone() },
        ),
        (route(Intent::Recommendation), 200, Gathered { orders: vec![], articles: vec![], ..everything.clone() }),
        (
            route(Intent::ReturnRequest),
            300,
            Gathered { orders: data.orders.clone(), articles: data.articles.clone(), ..Gathered::default() },
        ),
        (route(Intent::Promotion), 60, Gathered { promotions: data.promotions.clone(), ..Gathered::default() }),
    ] {
        let ports = world(data.clone());
        latencies.iter().for_each(|(service, latency_ms)| ports.store.delay(*service, *latency_ms));
        assert_eq!(ask_about(&ports, &route), expected, "{route:?}");
        assert_eq!(ports.clock.now_ms(), START_MS + slowest_ms, "the slowest, not the sum: {route:?}");
    }
}

#[test]
fn what_is_nice_to_have_is_taken_if_it_is_there_and_never_waited_for() {
    let slowest_ms = 200;
    for (nice_ms, is_taken) in [(0, true), (slowest_ms, true), (slowest_ms + 1, false), (60_000, false)] {
        for (service, other) in [(Service::Promotions, Service::Reviews), (Service::Reviews, Service::Promotions)] {
            let ports = world(samples::store_data());
            ports.store.delay(Service::Search, slowest_ms);
            ports.store.delay(service, nice_ms);
            let gathered = ask_about(&ports, &route(Intent::ProductQuestion));
            assert_eq!(ports.clock.now_ms(), START_MS + slowest_ms);
            let taken = |of| match of {
                Service::Promotions => gathered.promotions.len() == 1,
                _ => gathered.reviews.len() == 1,
            };
            assert_eq!((taken(service), taken(other)), (is_taken, true), "{service:?} after {nice_ms} ms");
            assert_eq!((gathered.degraded.len(), gathered.promotions_missing), (0, false), "nobody notices");
        }
    }
    let ports = world(samples::store_data());
    ports.store.delay(Service::Promotions, 60_000);
    ports.store.delay(Service::Reviews, 60_000);
    ask_about(&ports, &route(Intent::Recommendation));
    assert_eq!(ports.clock.now_ms(), START_MS, "not a millisecond");
}

#[test]
fn whoever_is_late_is_left_out() {
    for (latency_ms, is_kept) in [(GATHER_DEADLINE_MS, true), (GATHER_DEADLINE_MS + 1, false), (60_000, false)] {
        for (service, intent, announced) in [
            (Service::Search, Intent::ProductQuestion, Dependency::Catalog),
            (Service::Product, Intent::ProductQuestion, Dependency::Catalog),
            (Service::Recommendations, Intent::Recommendation, Dependency::Recommendations),
            (Service::Articles, Intent::Faq, Dependency::Knowledge),
            (Service::Orders, Intent::OrderTracking, Dependency::Orders),
        ] {
            let ports = world(samples::store_data());
            ports.store.delay(service, latency_ms);
            let gathered = ask_about(&ports, &route(intent));
            assert_eq!(ports.clock.now_ms(), START_MS + GATHER_DEADLINE_MS);
            let announced = if is_kept { vec![] } else { vec![announced] };
            assert_eq!(gathered.degraded, announced, "{service:?} after {latency_ms} ms");
        }
    }
}

#[test]
fn a_failure_is_announced_once_if_a_shopper_would_notice() {
    use Service::{Articles, Orders, Product, Promotions, Recommendations, Reviews, Search, Trending};
    for (intent, failing, announced) in [
        (Intent::ProductQuestion, vec![Search], vec![Dependency::Catalog]),
        (Intent::ProductQuestion, vec![Product], vec![Dependency::Catalog]),
        (Intent::ProductQuestion, vec![Search, Product], vec![Dependency::Catalog]),
        (Intent::ProductQuestion, vec![Promotions, Reviews], vec![]),
        (Intent::Recommendation, vec![Recommendations], vec![Dependency::Recommendations]),
        (Intent::Recommendation, vec![Recommendations, Trending], vec![Dependency::Recommendations]),
        (Intent::Recommendation, vec![Trending], vec![]),
        (Intent::Recommendation, vec![Search, Recommendations], vec![Dependency::Catalog, Dependency::Recommendations]),
        (Intent::ProductDiscovery, vec![Recommendations], vec![]),
        (Intent::OrderTracking, vec![Orders], vec![Dependency::Orders]),
        (Intent::ReturnRequest, vec![Orders, Articles], vec![Dependency::Orders, Dependency::Knowledge]),
        (Intent::Faq, vec![Articles], vec![Dependency::Knowledge]),
        (Intent::Promotion, vec![Promotions], vec![]),
        (Intent::Chitchat, Service::ALL.to_vec(), vec![]),
    ] {
        let ports = world(samples::store_data());
        failing.iter().for_each(|service| ports.store.fail(*service));
        let gathered = ask_about(&ports, &route(intent));
        assert_eq!(gathered.degraded, announced, "{intent:?} without {failing:?}");
        assert_eq!(gathered.promotions_missing, intent == Intent::Promotion, "it has words of its own");
        let events = gathered.events(&samples::pages(), Locale::En);
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
        let gathered = ask(&world(data.clone()), &aiko, &route(intent), None);
        assert_eq!((gathered.recommendations.len(), gathered.trending.len()), (recommended, 0), "{intent:?}");
    }
}

#[test]
fn what_sells_best_stands_in_for_recommendations_that_cannot_be_had() {
    let aiko = samples::shopper("aiko");
    let nothing_found = StoreData { found: vec![], ..samples::store_data() };
    for is_late in [false, true] {
        for (data, intent, trending) in [
            (samples::store_data(), Intent::Recommendation, 1),
            (nothing_found.clone(), Intent::ProductDiscovery, 1),
            (samples::store_data(), Intent::ProductDiscovery, 0),
        ] {
            let ports = world(data);
            match is_late {
                false => ports.store.fail(Service::Recommendations),
                true => ports.store.delay(Service::Recommendations, 60_000),
            }
            let gathered = ask(&ports, &aiko, &route(intent), None);
            assert_eq!((gathered.recommendations.len(), gathered.trending.len()), (0, trending), "{intent:?}");
            let announced = if trending == 0 { vec![] } else { vec![Dependency::Recommendations] };
            assert_eq!(gathered.degraded, announced);
        }
    }
    let ports = world(nothing_found);
    ports.store.fail(Service::Recommendations);
    let gathered = ask(&ports, &aiko, &route(Intent::Recommendation), None);
    assert_eq!(shown(&gathered), ["degraded", "card.product"]);
    let events = gathered.events(&samples::pages(), Locale::En);
    let ServerEvent::ProductCard(card) = &events[1] else { panic!("a product") };
    assert_eq!((card.product_id.as_str(), &card.reason), ("haikyu-1", &None), "nobody says it is picked for them");
}

#[test]
fn the_stand_in_for_recommendations_that_came_is_not_waited_for() {
    for (recommendations_ms, trending_ms, ends_ms) in
        [(0, 60_000, 0), (200, 60_000, 200), (200, 100, 200), (200, 200, 200)]
    {
        let ports = world(samples::store_data());
        ports.store.delay(Service::Recommendations, recommendations_ms);
        ports.store.delay(Service::Trending, trending_ms);
        let gathered = ask(&ports, &samples::shopper("aiko"), &route(Intent::Recommendation), None);
        assert_eq!((gathered.recommendations.len(), gathered.trending.len()), (1, 0));
        assert_eq!(ports.clock.now_ms(), START_MS + ends_ms);
    }
    for trending_ms in [100, 300] {
        let ports = world(samples::store_data());
        ports.store.delay(Service::Recommendations, 200);
        ports.store.fail(Service::Recommendations);
        ports.store.delay(Service::Trending, trending_ms);
        let gathered = ask(&ports, &samples::shopper("aiko"), &route(Intent::Recommendation), None);
        assert_eq!(gathered.trending.len(), 1);
        assert_eq!(ports.clock.now_ms(), START_MS + trending_ms.max(200), "it was asked for at once");
    }
}

/// A world in which aiko has one order and ben another.
fn two_shoppers() -> InMemory {
    let orders = vec![samples::order("MC-2026-000001", "aiko"), samples::order("MC-2026-000002", "ben")];
    world(StoreData { orders, ..samples::store_data() })
}

fn order_ids(orders: &[Order]) -> Vec<&str> {
    orders.iter().map(|order| order.order_id.as_str()).collect()
}

#[test]
fn an_order_of_somebody_else_reads_as_one_that_there_is_not() {
    let aiko = samples::shopper("aiko");
    for tells_others in [false, true] {
        let ask_for = |id: &str| {
            let ports = two_shoppers();
            if tells_others {
                ports.store.tell_orders_of_others();
            }
            ask(&ports, &aiko, &route_naming(&["MC-2026-000001", id]), None)
        };
        let (theirs, nobodys) = (ask_for("MC-2026-000002"), ask_for("MC-2026-999999"));
        assert_eq!(order_ids(&theirs.orders), ["MC-2026-000001"]);
        assert_eq!(theirs.unknown_orders, ["MC-2026-000002"]);
        assert_eq!(theirs, Gathered { unknown_orders: theirs.unknown_orders.clone(), ..nobodys });
    }
}

#[test]
fn nobody_is_shown_an_order_of_somebody_else_whatever_the_service_lists() {
    let ports = two_shoppers();
    ports.store.tell_orders_of_others();
    let gathered = ask(&ports, &samples::shopper("aiko"), &route(Intent::OrderTracking), None);
    assert_eq!(order_ids(&gathered.orders), ["MC-2026-000001"]);
}

#[test]
fn orders_are_named_so_often_a_minute() {
    let ports = two_shoppers();
    let (aiko, named) = (samples::shopper("aiko"), route_naming(&["MC-2026-000001", "MC-2026-000003"]));
    for _ in 0..ORDER_LOOKUPS_PER_MINUTE {
        let gathered = ask(&ports, &aiko, &named, None);
        assert!(!gathered.too_many_lookups && order_ids(&gathered.orders) == ["MC-2026-000001"]);
    }
    let asked = ports.store.calls().len();
    let one_more = ask(&ports, &aiko, &named, None);
    assert_eq!(one_more, Gathered { too_many_lookups: true, ..Gathered::default() });
    assert_eq!(ports.store.calls().len(), asked, "the service is not asked");
    assert_eq!(ask(&ports, &aiko, &route(Intent::OrderTracking), None).orders.len(), 1, "a list gives nothing away");
    assert!(!ask(&ports, &samples::shopper("ben"), &named, None).too_many_lookups, "everybody has their own");

    ports.clock.advance(60_000 / u64::from(ORDER_LOOKUPS_PER_MINUTE) - 1);
    assert!(ask(&ports, &aiko, &named, None).too_many_lookups);
    ports.clock.advance(1);
    assert!(!ask(&ports, &aiko, &named, None).too_many_lookups);
}

#[test]
fn a_limit_that_does_not_answer_is_an_order_service_that_does_not() {
    for effect in ["buckets.full_at", "buckets.take"] {
        let ports = two_shoppers();
        let named = route_naming(&["MC-2026-000001"]);
        ask(&ports, &samples::shopper("aiko"), &named, None);
        let at = positions(&names(&ports), effect)[0];
        let ports = two_shoppers();
        ports.faults.plan(at, Fault::FailBefore);
        let gathered = ask(&ports, &samples::shopper("aiko"), &named, None);
        assert_eq!((gathered.orders.len(), gathered.degraded), (0, vec![Dependency::Orders]), "{effect}");
        assert_eq!(ports.store.calls(), [], "no order is looked up without a token");
    }
}

#[test]
fn as_many_named_orders_are_looked_up_as_there_are_cards() {
    let ids: Vec<String> = (0..=ORDER_CARDS_MAX).map(|number| format!("MC-2026-{number:06}")).collect();
    for (named, asked) in [(ORDER_CARDS_MAX, ORDER_CARDS_MAX), (ORDER_CARDS_MAX + 1, ORDER_CARDS_MAX)] {
        let ports = world(StoreData {
            orders: ids.iter().map(|id| samples::order(id, "aiko")).collect(),
            ..samples::store_data()
        });
        let named: Vec<&str> = ids.iter().take(named).map(String::as_str).collect();
        let gathered = ask(&ports, &samples::shopper("aiko"), &route_naming(&named), None);
        assert_eq!(order_ids(&gathered.orders), named[..asked]);
        assert_eq!(ports.store.calls().len(), asked);
    }
}

#[test]
fn reminders_are_of_preorders_and_for_who_asks_for_them() {
    let preorder = Order { status: OrderStatus::Preordered, ..samples::order("MC-2", "aiko") };
    let data = StoreData { orders: vec![samples::order("MC-1", "aiko"), preorder], ..samples::store_data() };
    let aiko = samples::shopper("aiko");
    let asks = Route::of("Please remind me when it arrives.", false);
    let reminded = ask(&world(data.clone()), &aiko, &asks, None);
    assert_eq!((order_ids(&reminded.reminders), reminded.orders.len()), (vec!["MC-2"], 2));
    let does_not_ask = ask(&world(data), &aiko, &route(Intent::OrderTracking), None);
    assert_eq!((does_not_ask.reminders.len(), does_not_ask.orders.len()), (0, 2));
}

#[test]
fn the_product_on_the_page_comes_first_and_once() {
    let mut data = samples::store_data();
    data.catalog = vec![samples::product("page-1")];
    let ids = |gathered: &Gathered| -> Vec<String> {
        gathered.products.iter().map(|product| product.product_id.clone()).collect()
    };
    let aiko = samples::shopper("aiko");
    let about = route(Intent::ProductQuestion);
    let on_page = |id| ask(&world(data.clone()), &aiko, &about, Some(&samples::product_id(id)));
    assert_eq!(ids(&on_page("page-1")), ["page-1", "one-1", "two-1"]);
    assert_eq!(ids(&on_page("two-1")), ["two-1", "one-1"]);
    assert_eq!(ids(&on_page("unknown")), ["one-1", "two-1"]);
    assert_eq!(on_page("unknown").degraded, [], "no such product is an answer");
}

/// The types of what is shown.
fn shown(gathered: &Gathered) -> Vec<String> {
    let kind = |event: &ServerEvent| serde_json::to_value(event).unwrap()["type"].as_str().unwrap().to_owned();
    gathered.events(&samples::pages(), Locale::En).iter().map(kind).collect()
}

#[test]
fn cards_follow_the_question() {
    let orders = ask_about(&world(samples::store_data()), &route(Intent::ReturnRequest));
    assert_eq!(shown(&orders), ["card.order", "source"]);
    let unsure = Route { sure: false, ..route(Intent::Recommendation) };
    let found = ask_about(&world(samples::store_data()), &unsure);
    assert_eq!(shown(&found), ["card.product", "card.product", "source"]);
    let nothing_found = Gathered { products: vec![], ..found };
    assert_eq!(shown(&nothing_found), ["card.product", "source"]);
    let events = nothing_found.events(&samples::pages(), Locale::Ja);
    let ServerEvent::ProductCard(card) = &events[0] else { panic!("a product") };
    assert_eq!(card.reason.as_deref(), Some("Readers like you like it.（日本語）"));
}

#[test]
fn a_card_too_large_for_a_frame_is_left_out() {
    let shown_with = |url_bytes: usize| {
        let mut product = samples::product("one-piece-1");
        product.url = "u".repeat(url_bytes);
        let gathered = Gathered { products: vec![product], ..Gathered::default() };
        gathered.events(&samples::pages(), Locale::En)
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
    let events = gathered.events(&samples::pages(), Locale::Ja);
    let ServerEvent::ProductCard(card) = &events[0] else { panic!("a product") };
    assert_eq!((&card.price, card.in_stock, card.as_of), (&price, false, START_MS + 5));
    assert_eq!(
        (card.title.as_str(), card.authors.as_slice()),
        ("one-1（日本語）", ["An Author（日本語）".to_owned()].as_slice())
    );
    product.offer = Some(Offer { stock: 1, ..samples::offer() });
    let gathered = Gathered { products: vec![product], ..Gathered::default() };
    let events = gathered.events(&samples::pages(), Locale::En);
    let ServerEvent::ProductCard(card) = &events[0] else { panic!("a product") };
    assert!(card.in_stock);
    assert_eq!(card.title, "one-1");
}

#[test]
fn a_product_whose_price_nobody_knows_is_talked_about_without_a_card() {
    let priceless = Product { offer: None, ..samples::product("one-1") };
    let mut data = samples::store_data();
    data.found = vec![priceless.clone(), samples::product("two-1")];
    let gathered = ask(&world(data.clone()), &samples::guest("g"), &route(Intent::ProductDiscovery), None);
    assert_eq!(gathered.products, data.found);
    assert_eq!(gathered.degraded, [Dependency::Catalog]);
    let events = gathered.events(&samples::pages(), Locale::En);
    let cards: Vec<_> = events
        .iter()
        .filter_map(
            |event| if let ServerEvent::ProductCard(card) = event { Some(card.product_id.as_str()) } else { None },
        )
        .collect();
    assert_eq!(cards, ["two-1"]);
    data.recommendations = vec![Recommendation { product: priceless, ..samples::recommendation("one-1") }];
    data.found = vec![];
    let gathered = ask(&world(data), &samples::guest("g"), &route(Intent::Recommendation), None);
    assert_eq!((gathered.recommendations.len(), gathered.degraded.as_slice()), (1, [Dependency::Catalog].as_slice()));
    assert!(!shown(&gathered).contains(&"card.product".to_owned()));
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
    let events = gathered.events(&samples::pages(), Locale::En);
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
