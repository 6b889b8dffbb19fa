//! Answers in fixed words: small talk, and what the store's services say without a model.

use crate::gather::Gathered;
use crate::ids::Principal;
use crate::intent::Intent;
use crate::limits::{GROUNDING_PROMOTIONS_MAX, GROUNDING_TEXT_CHARS_MAX};
use crate::pages::StorePages;
use crate::prompt::cut;
use crate::protocol::Locale;
use crate::route::Route;

/// What is known when an answer in fixed words is made.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What was asked.
    pub question: &'a str,
    /// Who asks.
    pub principal: &'a Principal,
    /// The language of the answer.
    pub locale: Locale,
    /// What the store said.
    pub gathered: &'a Gathered,
    /// Where to look for more.
    pub pages: &'a StorePages,
    /// Whether the people of the store were told of the conversation.
    pub escalated: bool,
}

impl Known<'_> {
    fn say(&self, ja: impl Into<String>, en: impl Into<String>) -> String {
        match self.locale {
            Locale::Ja => ja.into(),
            Locale::En => en.into(),
        }
    }
}

/// The answer to a question that needs no model.
pub fn answer(route: &Route, known: &Known<'_>) -> String {
    match route.intent {
        Intent::Chitchat => small_talk(known),
        Intent::OrderTracking | Intent::ReturnRequest if known.principal.shopper().is_none() => sign_in(known),
        Intent::OrderTracking => orders(route, known),
        Intent::ReturnRequest => returns(known),
        Intent::Promotion => promotions(known),
        Intent::Escalation => escalation(known),
        Intent::ProductDiscovery
        | Intent::Recommendation
        | Intent::ProductQuestion
        | Intent::Faq
        | Intent::CheckoutHelp => what_was_found(known),
    }
}

/// What is said in place of the model's answer when there is no room for one: the cards and sources speak.
pub fn what_was_found(known: &Known<'_>) -> String {
    if let Some(article) = known.gathered.articles.first() {
        return cut(article.body.in_locale(known.locale), GROUNDING_TEXT_CHARS_MAX).to_owned();
    }
    if known.gathered.products.is_empty() {
        return known.say("こちらの作品はいかがでしょうか。", "How about these?");
    }
    known.say(
        "こちらの商品が見つかりました。詳しくはカードをご覧ください。",
        "This is what we found. Please see the cards.",
    )
}

const THANKS: [&str; 9] = ["ありがと", "有難", "サンキュ", "助かり", "助かった", "どうも", "thank", "thx", "cheers"];
const FAREWELLS: [&str; 8] =
    ["さようなら", "さよなら", "バイバイ", "またね", "おやすみ", "bye", "good night", "see you"];
const WHO: [&str; 10] =
    ["あなたは", "君は", "きみは", "だれ", "誰", "ロボット", "人間", "who are you", "are you a", "what can you"];

fn small_talk(known: &Known<'_>) -> String {
    let question = known.question.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| question.contains(word));
    if says(&THANKS) {
        known.say(
            "どういたしまして。ほかにも気になる作品があれば、いつでもどうぞ。",
            "You are welcome. Just ask if there is anything else you would like to read.",
        )
    } else if says(&FAREWELLS) {
        known.say("ご利用ありがとうございました。またお待ちしています。", "Thank you for stopping by. See you soon!")
    } else if says(&WHO) {
        known.say(
            "この漫画ストアのAIアシスタントです。作品探しやご注文の確認、返品、キャンペーンのご案内をお手伝いします。",
            "I am the AI assistant of this manga store. I can help you find manga, check your orders, return items and spot \
             promotions.",
        )
    } else {
        known.say(
            "こんにちは！どんな漫画をお探しですか。ご注文の確認もお手伝いできます。",
            "Hello! What kind of manga are you looking for? I can check your orders, too.",
        )
    }
}

fn sign_in(known: &Known<'_>) -> String {
    known.say(
        "ご注文を確認するにはログインが必要です。ログインしてから、もう一度お尋ねください。",
        "Please sign in to see your orders, then ask me again.",
    )
}

fn orders(route: &Route, known: &Known<'_>) -> String {
    let gathered = known.gathered;
    if let Some(problem) = no_orders(known) {
        return problem;
    }
    if route.wants_reminder {
        return match gathered.reminders.is_empty() {
            true => known.say(
                "お届け日が決まっているご予約が見つからないため、お知らせを設定できませんでした。",
                "There is no pre-order with a delivery day, so I could not set a reminder.",
            ),
            false => known.say(
                "承知しました。お届け予定日の朝に、こちらでお知らせします。",
                "All right. We will remind you here on the morning it should arrive.",
            ),
        };
    }
    let mut text =
        known.say("ご注文の状況はカードのとおりです。", "Here is how your order stands: please see the card.");
    if !gathered.unknown_orders.is_empty() {
        text.push('\n');
        text.push_str(&not_found(known));
    }
    text
}

/// Why there is nothing to say about orders, if there is not.
fn no_orders(known: &Known<'_>) -> Option<String> {
    let gathered = known.gathered;
    if gathered.too_many_lookups {
        return Some(known.say(
            "注文番号のお問い合わせが続いています。少し時間をおいてからお試しください。",
            "That were many order numbers in a short time. Please try again in a minute.",
        ));
    }
    if !gathered.orders.is_empty() {
        return None;
    }
    Some(if gathered.degraded.contains(&crate::protocol::Dependency::Orders) {
        known.say(
            format!("申し訳ありません。注文履歴のページでご確認ください: {}", known.pages.orders()),
            format!("Sorry about that. Your order page has the details: {}", known.pages.orders()),
        )
    } else if gathered.unknown_orders.is_empty() {
        known.say("ご注文が見つかりませんでした。", "There are no orders in your account yet.")
    } else {
        not_found(known)
    })
}

fn not_found(known: &Known<'_>) -> String {
    let ids = known.gathered.unknown_orders.join(", ");
    known.say(
        format!("{ids} というご注文は見つかりませんでした。番号をお確かめください。"),
        format!("There is no order {ids} in your account. Please check the number."),
    )
}

fn returns(known: &Known<'_>) -> String {
    let gathered = known.gathered;
    let steps = match gathered.articles.first() {
        Some(article) => cut(article.body.in_locale(known.locale), GROUNDING_TEXT_CHARS_MAX).to_owned(),
        None => known.say(
            format!("返品は注文履歴のページからお申し込みいただけます: {}", known.pages.orders()),
            format!("You can request a return on your order page: {}", known.pages.orders()),
        ),
    };
    match no_orders(known) {
        Some(problem) => format!("{steps}\n{problem}"),
        None => {
            let which = known.say("対象のご注文はこちらでしょうか。", "Is it one of these orders?");
            format!("{steps}\n{which}")
        }
    }
}

fn promotions(known: &Known<'_>) -> String {
    let running = &known.gathered.promotions;
    if known.gathered.promotions_missing {
        return known.say(
            format!("キャンペーンはこちらのページでご確認いただけます: {}", known.pages.promotions()),
            format!("You can find our promotions on this page: {}", known.pages.promotions()),
        );
    }
    if running.is_empty() {
        return known.say("ただいま開催中のキャンペーンはありません。", "There is no promotion running right now.");
    }
    let mut text = known.say("開催中のキャンペーンです。", "These promotions are running now:");
    for promotion in running.iter().take(GROUNDING_PROMOTIONS_MAX) {
        let (title, description) =
            (promotion.title.in_locale(known.locale), promotion.description.in_locale(known.locale));
        let description = cut(description, GROUNDING_TEXT_CHARS_MAX);
        text.push_str(&known.say(format!("\n・{title}：{description}"), format!("\n- {title}: {description}")));
    }
    text
}

fn escalation(known: &Known<'_>) -> String {
    match known.escalated {
        true => known.say(
            "担当者におつなぎしました。この会話を確認のうえ、担当者からご連絡します。",
            "I have passed this conversation on to our staff. A person will get back to you.",
        ),
        false => known.say(
            format!(
                "申し訳ありません、ただいま担当者におつなぎできません。こちらからお問い合わせください: {}",
                known.pages.contact()
            ),
            format!("Sorry, I cannot reach our staff right now. Please contact us here: {}", known.pages.contact()),
        ),
    }
}
