//! How a message is answered.

use domain::intent::Intent;
use domain::protocol::TurnPath;
use domain::route::Route;

use crate::world::question;

#[test]
fn what_a_message_is_about_decides_how_it_is_answered() {
    use TurnPath::{Llm, Services, Template};
    for (text, about_product, intent, path) in [
        ("Hello!", false, Intent::Chitchat, Template),
        ("こんにちは", true, Intent::Chitchat, Template),
        ("Thank you!", false, Intent::Chitchat, Template),
        ("Where is my order MC-2026-000123?", false, Intent::OrderTracking, Services),
        ("注文した本が届かない", false, Intent::OrderTracking, Services),
        ("I want to RETURN my order", false, Intent::ReturnRequest, Services),
        ("返品したい", true, Intent::ReturnRequest, Services),
        ("Any sale today?", false, Intent::Promotion, Services),
        ("I want to talk to a real person", false, Intent::Escalation, Services),
        ("担当者と話したい", false, Intent::Escalation, Services),
        ("おすすめを教えて", false, Intent::Recommendation, Llm),
        ("A pirate story?", false, Intent::ProductDiscovery, Llm),
        ("海賊の漫画", false, Intent::ProductDiscovery, Llm),
        ("どんな話？", true, Intent::ProductQuestion, Llm),
        ("What should I read next?", false, Intent::Recommendation, Llm),
        ("My card was declined at checkout", false, Intent::CheckoutHelp, Llm),
        ("How much is shipping?", false, Intent::Faq, Llm),
        ("送料はいくら？", false, Intent::Faq, Llm),
    ] {
        let route = Route::of(text, about_product);
        assert_eq!((route.intent, route.path), (intent, path), "{text}");
        assert_eq!(Route::of(text, about_product), route, "the same whenever it is asked for");
    }
}

#[test]
fn the_model_is_asked_when_nobody_can_say_what_a_message_is_about() {
    for (about_product, likely) in [(false, Intent::ProductDiscovery), (true, Intent::ProductQuestion)] {
        let route = Route::of(&question().text, about_product);
        assert_eq!((route.sure, route.intent, route.path), (false, likely, TurnPath::Llm));
        assert!(route.needs_products() && route.needs_articles());
    }
    assert!(Route::of("A pirate story?", false).sure);
}
