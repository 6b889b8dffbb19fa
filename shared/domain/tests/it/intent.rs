//! What messages are about, and what they name.

#[path = "../../examples/train_intents/training.rs"]
mod training;

use domain::intent::model::{CLASSES, INTENTS};
use domain::intent::{Entities, Intent, PriceRange, normal, understand};
use domain::limits::{ORDERS_NAMED_MAX, PRICE_YEN_MAX, TEXT_CHARS_MAX, TITLE_CHARS_MAX, VOLUME_MAX};
use domain::route::Route;
use proptest::prelude::*;

/// The share of utterances for testing that must be understood; what is reached stands in `docs/intents.md`.
const ACCURACY_MIN: f64 = 0.86;

/// What a message is treated as.
fn of_message(text: &str, about_product: bool) -> Intent {
    Route::of(text, about_product).intent
}

fn entities(text: &str) -> Entities {
    understand(text, false).entities
}

fn price(min_yen: Option<u32>, max_yen: Option<u32>) -> Option<PriceRange> {
    Some(PriceRange { min_yen, max_yen })
}

#[test]
fn utterances_nobody_learned_from_are_understood() {
    let utterances = training::utterances().unwrap();
    let tested: Vec<_> = utterances.iter().filter(|utterance| utterance.is_test).collect();
    let right = tested.iter().filter(|utterance| {
        let intent = understand(&utterance.text, false).intent;
        intent == INTENTS.get(utterance.class).copied()
    });
    let accuracy = right.count() as f64 / tested.len() as f64;
    assert!(tested.len() >= 400, "{} utterances are for testing", tested.len());
    assert!(accuracy >= ACCURACY_MIN, "{accuracy:.3} of them are understood");
}

#[test]
fn no_utterance_is_both_learned_from_and_tested() {
    let utterances = training::utterances().unwrap();
    let learned: std::collections::BTreeSet<String> =
        utterances.iter().filter(|utterance| !utterance.is_test).map(|utterance| normal(&utterance.text)).collect();
    let tested = utterances.iter().filter(|utterance| utterance.is_test).map(|utterance| normal(&utterance.text));
    let both: Vec<String> = tested.filter(|text| !text.is_empty() && learned.contains(text)).collect();
    assert!(both.is_empty(), "{both:#?}");
}

#[test]
fn the_committed_tables_are_those_that_are_learned() {
    for (path, bytes) in training::all().unwrap() {
        assert!(
            std::fs::read(&path).unwrap() == bytes,
            "{} is not what the utterances say; run: cargo run --package domain --example train_intents",
            path.display()
        );
    }
}

#[test]
fn plain_wishes_are_understood() {
    for (text, intent) in [
        ("海賊の漫画", Intent::ProductDiscovery),
        ("do you have Naruto vol 3", Intent::ProductDiscovery),
        ("おすすめは？", Intent::Recommendation),
        ("something like Frieren", Intent::Recommendation),
        ("ワンピースって完結してる？", Intent::ProductQuestion),
        ("送料はいくら？", Intent::Faq),
        ("can I pay at a convenience store?", Intent::Faq),
        ("MC-2026-000123 はどうなってますか", Intent::OrderTracking),
        ("I want to RETURN my order", Intent::ReturnRequest),
        ("Any sale today?", Intent::Promotion),
        ("my card was declined", Intent::CheckoutHelp),
        ("担当者と話したい", Intent::Escalation),
        ("ありがとう！", Intent::Chitchat),
    ] {
        assert_eq!(understand(text, false).intent, Some(intent), "{text}");
    }
}

#[test]
fn what_says_too_little_is_unsure() {
    for text in ["", " \n", "。。。", "🙏🙏", "あれ", "asdfgh", "お願いします", "\u{e003}"] {
        assert_eq!(understand(text, false).intent, None, "{text:?}");
    }
}

#[test]
fn on_a_products_page_this_is_that_product() {
    for text in ["これ面白い？", "is this good?", "どんな話？", "これ在庫ある？", "how many pages?", "あれ"]
    {
        assert_eq!(of_message(text, true), Intent::ProductQuestion, "{text}");
    }
    for (text, intent) in [
        ("返品したい", Intent::ReturnRequest),
        ("talk to a human", Intent::Escalation),
        ("送料はいくら？", Intent::Faq),
        ("where is my order?", Intent::OrderTracking),
        ("こんにちは", Intent::Chitchat),
    ] {
        assert_eq!(of_message(text, true), intent, "{text}");
    }
    assert_eq!(of_message("あれ", false), Intent::ProductDiscovery);
}

#[test]
fn order_numbers_are_read_however_they_are_typed() {
    for text in [
        "MC-2026-000123",
        "ＭＣ－２０２６－０００１２３ はどこ",
        "mc2026000123",
        "my order mc 2026 000123, please",
        "MC2026-000123は？",
        "注文番号はMC−2026−000123です",
        "mcー2026ー000123",
        "(mc_2026_000123)",
    ] {
        assert_eq!(entities(text).order_ids, ["MC-2026-000123"], "{text}");
    }
    for text in
        ["MC-2026-00012", "MC-2026-0001234", "MC-202-000123", "amc-2026-000123", "MC-2026-00012a", "2026-000123"]
    {
        assert!(entities(text).order_ids.is_empty(), "{text}");
    }
}

#[test]
fn the_first_order_numbers_are_read_each_once() {
    let numbers: Vec<String> = (1..=ORDERS_NAMED_MAX + 1).map(|number| format!("MC-2026-{number:06}")).collect();
    let text = format!("{} {}", numbers[0], numbers.join(" "));
    assert_eq!(entities(&text).order_ids, numbers[..ORDERS_NAMED_MAX]);
}

#[test]
fn volumes_are_read_in_both_languages() {
    for (text, volume) in [
        ("第3巻", Some(3)),
        ("３巻ある？", Some(3)),
        ("第十二巻", Some(12)),
        ("三巻目", Some(3)),
        ("ワンピース 105巻", Some(105)),
        ("10 かん ください", Some(10)),
        ("vol. 3", Some(3)),
        ("Vol.3", Some(3)),
        ("vol3", Some(3)),
        ("volume three", Some(3)),
        ("VOLUME 3", Some(3)),
        ("#3", Some(3)),
        ("the third volume", Some(3)),
        ("2nd vol", Some(2)),
        ("v12", Some(12)),
        ("Naruto 3", Some(3)),
        ("ナルト 3ある？", Some(3)),
        ("全23巻", None),
        ("10巻以内で完結", None),
        ("何巻まで", None),
        ("all volumes", None),
        ("Naruto 3 copies", None),
        ("ナルト 3冊", None),
        ("very 3", None),
    ] {
        assert_eq!(entities(text).volume, volume, "{text}");
    }
    assert_eq!(entities(&format!("{VOLUME_MAX}巻")).volume, Some(VOLUME_MAX));
    assert_eq!(entities(&format!("{}巻", VOLUME_MAX + 1)).volume, None);
    assert_eq!(entities("99999999999999999999巻").volume, None);
}

#[test]
fn prices_are_read_in_both_languages() {
    for (text, range) in [
        ("1000円以下", price(None, Some(1_000))),
        ("１，０００円以内の漫画", price(None, Some(1_000))),
        ("千円以内", price(None, Some(1_000))),
        ("3千円まで", price(None, Some(3_000))),
        ("1万5千円以下", price(None, Some(15_000))),
        ("二万円以下", price(None, Some(20_000))),
        ("500円未満", price(None, Some(499))),
        ("500〜1000円", price(Some(500), Some(1_000))),
        ("500円から1000円", price(Some(500), Some(1_000))),
        ("1000円〜500円", price(Some(500), Some(1_000))),
        ("under 1,000 yen", price(None, Some(1_000))),
        ("less than ¥800", price(None, Some(800))),
        ("at most 700 yen", price(None, Some(700))),
        ("between 500 and 1000 yen", price(Some(500), Some(1_000))),
        ("500-1000 yen", price(Some(500), Some(1_000))),
        ("800 yen or less", price(None, Some(800))),
        ("under 1000", price(None, Some(1_000))),
        ("5k yen budget", price(Some(5_000), Some(5_000))),
        ("予算は3000円", price(None, Some(3_000))),
        ("2000円以上", price(Some(2_000), None)),
        ("more than 2000 yen", price(Some(2_000), None)),
        ("no more than 2000 yen", price(None, Some(2_000))),
        ("500円台", price(Some(500), Some(599))),
        ("1000円くらい", price(Some(800), Some(1_200))),
        ("1000円くらいまで", price(None, Some(1_000))),
        ("about 1000 yen", price(Some(800), Some(1_200))),
        ("¥500", price(Some(500), Some(500))),
        ("￥５００", price(Some(500), Some(500))),
        ("円", None),
        ("1000", None),
        ("under 10 volumes", None),
        ("under 100 chapters", None),
        ("10%オフ", None),
        ("一番安い", None),
    ] {
        assert_eq!(entities(text).price, range, "{text}");
    }
    for yen in [u64::from(PRICE_YEN_MAX), u64::from(PRICE_YEN_MAX) + 1] {
        assert_eq!(entities(&format!("{yen}円以下")).price, price(None, Some(PRICE_YEN_MAX)), "{yen}");
    }
    assert_eq!(entities("99999999999999999999円以下").price, None);
}

#[test]
fn titles_authors_and_genres_are_read() {
    let title = |text: &str| entities(text).title;
    for (text, expected) in [
        ("ワンピースの3巻", Some("One Piece")),
        ("ﾜﾝﾋﾟｰｽある?", Some("One Piece")),
        ("わんぴーす", Some("One Piece")),
        ("ONE PIECE", Some("One Piece")),
        ("onepiece", Some("One Piece")),
        ("ナルト", Some("Naruto")),
        ("発売になると嬉しい", None),
        ("shingeki no kyojin", Some("Attack on Titan")),
        ("とんがり帽子のアトリエ", Some("Witch Hat Atelier")),
        ("「知らない本」はありますか", Some("知らない本")),
        ("『チェンソーマン』ある？", Some("Chainsaw Man")),
        ("do you have \"An Unknown Book\"", Some("an unknown book")),
        ("「カードが無効です」と出ます", None),
        ("漫画ある？", None),
    ] {
        assert_eq!(title(text).as_deref(), expected, "{text}");
    }
    let quoted = |length: usize| title(&format!("「{}」", "本".repeat(length)));
    assert_eq!(quoted(TITLE_CHARS_MAX), Some("本".repeat(TITLE_CHARS_MAX)));
    assert_eq!(quoted(TITLE_CHARS_MAX + 1), None);
    for (text, expected) in [
        ("鳥山明の作品", Some("Akira Toriyama")),
        ("manga by Naoki Urasawa", Some("Naoki Urasawa")),
        ("Oda Eiichiro", Some("Eiichiro Oda")),
        ("作者は誰", None),
    ] {
        assert_eq!(entities(text).author.as_deref(), expected, "{text}");
    }
    for (text, expected) in [
        ("魔法少女もの", Some("magical girl")),
        ("異世界もの探してる", Some("fantasy")),
        ("ｽﾎﾟｰﾂ漫画", Some("sports")),
        ("Slice-of-life please", Some("slice of life")),
        ("漫画", None),
    ] {
        assert_eq!(entities(text).genre.as_deref(), expected, "{text}");
    }
}

#[test]
fn spellings_of_the_same_are_the_same() {
    for (one, other) in [
        ("ｵｽｽﾒﾊ?", "おすすめは？"),
        ("ＨＥＬＬＯ", "hello"),
        ("ありがとーーー", "ありがとう"),
        ("ありがとぉ", "ありがと"),
        ("すごーーーい！！！", "すごい"),
        ("返品できますでしょうか", "返品でき"),
        ("返品お願いします🙏", "返品"),
        ("What's up?", "what is up"),
        ("dont", "do not"),
        ("recomend", "recommend"),
        ("volumes", "volume"),
        ("shipped", "shipping"),
        ("ワンピース の 3巻", "わんぴーすの3巻"),
        ("pls help", "help please"),
        ("helpppp", "help"),
    ] {
        assert_eq!(normal(one), normal(other), "{one} and {other}");
    }
    assert_ne!(normal("返品"), normal("返金"));
    assert_ne!(normal("1000"), normal("100"));
}

#[test]
fn text_beyond_the_limit_is_not_read() {
    let filler = |chars: usize| "あ、".repeat(chars / 2);
    let number = " MC-2026-000123";
    let within = format!("{}{number}", filler(TEXT_CHARS_MAX - number.len() - 1));
    assert_eq!(entities(&within).order_ids.len(), 1);
    let beyond = format!("{}{number}", filler(TEXT_CHARS_MAX));
    assert_eq!(entities(&beyond).order_ids.len(), 0);
}

#[test]
fn every_class_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<String> = (0..CLASSES).map(training::class_name).collect();
    assert_eq!(names.len(), CLASSES);
}

fn in_full_width(text: &str) -> String {
    let wide = |char: char| match char {
        '!'..='~' => char::from_u32(u32::from(char) + 0xfee0).unwrap(),
        _ => char,
    };
    text.chars().map(wide).collect()
}

fn in_katakana(text: &str) -> String {
    let katakana = |char: char| match char {
        'ぁ'..='ゖ' => char::from_u32(u32::from(char) + 0x60).unwrap(),
        _ => char,
    };
    text.chars().map(katakana).collect()
}

/// Texts like those that shoppers write, and stranger ones.
fn texts() -> impl Strategy<Value = String> {
    let words = [
        "返品",
        "ください",
        "おすすめ",
        "ー",
        "〜",
        "う",
        "shipping",
        "what's",
        "u",
        "「",
        "」",
        "円",
        "巻",
        "第",
        "MC-2026-",
        "000123",
        "3",
        "千",
        "、",
        " ",
        "ワンピース",
        "classes",
        "ed",
        "です",
    ];
    prop_oneof![
        any::<String>(),
        "[ぁ-んァ-ヶーa-z0-9 、。!?'~〜]{0,40}",
        prop::collection::vec(prop::sample::select(words.to_vec()), 0..20).prop_map(|words| words.concat()),
    ]
}

proptest! {
    #[test]
    fn any_text_is_understood_the_same_each_time(text in texts(), about_product: bool) {
        let once = understand(&text, about_product);
        prop_assert!((0.0..=1.0).contains(&once.confidence), "{}", once.confidence);
        prop_assert!(once.entities.order_ids.len() <= ORDERS_NAMED_MAX);
        prop_assert!(once.entities.title.as_ref().is_none_or(|title| title.chars().count() <= TITLE_CHARS_MAX));
        prop_assert!(once.entities.volume.is_none_or(|volume| volume <= VOLUME_MAX));
        prop_assert_eq!(understand(&text, about_product), once);
    }

    #[test]
    fn what_is_normal_stays_as_it_is(text in texts()) {
        let once = normal(&text);
        prop_assert_eq!(normal(&once), once);
    }

    #[test]
    fn width_case_and_kana_make_no_difference(text in "[a-zぁ-ん0-9漢字 、!]{0,30}") {
        let expected = normal(&text);
        prop_assert_eq!(normal(&in_full_width(&text)), &*expected);
        prop_assert_eq!(normal(&text.to_uppercase()), &*expected);
        prop_assert_eq!(normal(&in_katakana(&text)), &*expected);
    }
}
