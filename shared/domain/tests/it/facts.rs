//! What the model may not author, taken out of its answers.

use domain::facts::{FactFilter, Facts, Replaced};
use domain::limits::{FACT_CHARS_MAX, FACT_CONTEXT_CHARS};
use domain::protocol::Locale;
use proptest::prelude::*;

/// Answers with facts, which are marked: `[price 1,200円]`.
const FACTS: &[&str] = &[
    // Prices.
    "この本は[price ¥1,200]です。",
    "価格は[price 1200円]です。",
    "価格は[price １，２００円]です。",
    "価格は[price 千二百円]です。",
    "お値段は[price 五百七十二円]になります。",
    "定価は[price 1万2千円]です。",
    "[price 税込1,320円]でお求めいただけます。",
    "[price 1,200円（税込）]です。",
    "[price 1,200円（税込1,320円）]です。",
    "[price 12ドル]ほどです。",
    "[price 500〜600円]くらいです。",
    "[price 数百円]で買えます。",
    "紙は[price 572円]、電子は[again 528円]です。",
    "紙は[price 572円]です。電子は[price 528円]です。",
    "[price ￥５７２]で販売中です。",
    "価格は[price 1200]です。",
    "It costs [price $12.99].",
    "It costs [price $12.99] or so.",
    "It is [price 1,200 yen].",
    "It is [price 1200yen], which is fair.",
    "The price is [price JPY 1200].",
    "The price is [price ¥1,200 (tax included)].",
    "It sells for [price USD 12.99] abroad.",
    "You pay [price 12 dollars] for it.",
    "You pay [price twelve dollars] for it.",
    "You pay [price twelve hundred yen] for it.",
    "A box set is [price 1.2k yen].",
    "A box set is [price 12 thousand yen].",
    "It is between [price $10 and $15].",
    "It is [price $10-15].",
    "The price is [price 1200].",
    "The paperback is [price 572 yen]; the digital one is [again 528 yen].",
    "The paperback is [price 572 yen]. The digital one is [price 528 yen].",
    "The set is [price €45] in Europe.",
    "[price £9.99] is what it costs.",
    "It is now [price 550円]!",
    // Discounts.
    "今なら[discount 30%オフ]です。",
    "今なら[discount ３０％引き]です。",
    "今なら[discount 3割引]です。",
    "今だけ[discount 2割引き]になります。",
    "今だけ[discount 半額]です。",
    "[discount 20%ポイント還元]中です。",
    "It is [discount 30% off] right now.",
    "It is [discount 30 percent off] right now.",
    "It is [discount half price] today.",
    "You get a discount of [discount 25%].",
    "A [discount 25% discount] applies.",
    "You save [discount 15%] on it.",
    // Stock.
    "[stock 在庫あり]です。",
    "こちらは[stock 在庫があります]。",
    "現在[stock 在庫がございます]ので、すぐに発送できます。",
    "[stock 在庫はございません]。",
    "[stock 在庫切れ]です。",
    "現在[stock 在庫切れ]となっております。",
    "[stock 在庫は3冊]です。",
    "[stock 在庫は残りわずか]です。",
    "[stock 在庫を切らして]おります。",
    "[stock 残り3冊]です。",
    "[stock 残り３点]のみです。",
    "[stock あと2冊]です。",
    "[stock 残りわずか]です。",
    "[stock 品切れ]です。",
    "ただいま[stock 品切れ]となっています。",
    "[stock 売り切れました]。",
    "申し訳ございません、[stock 完売しました]。",
    "[stock 在庫が十分にございます]。",
    "It is [stock in stock].",
    "Volume 3 is currently [stock in stock] and ready.",
    "It is [stock out of stock], sorry.",
    "It is [stock out-of-stock], sorry.",
    "Volume 1 is [stock sold out].",
    "It is [stock back in stock].",
    "There are [stock only 3 left].",
    "There are [stock only three copies left].",
    "There are [stock only a few copies left].",
    "We have [stock 12 copies in stock].",
    "We have [stock 5 in stock].",
    "It is [stock no longer in stock].",
    "Stock is [stock running low].",
    "It costs [price $5] and is [again in stock].",
    "[stock 在庫は十分ございます]。",
    "[stock 在庫は十分]です。",
    "現在、[stock 在庫がない]状況です。",
    "[stock 売り切れてしまいました]。",
    "There are [stock 7 left].",
    "If you like pirates, it is [stock in stock].",
    "Good news for you: it is [stock in stock].",
    "As you can see, it is [stock sold out].",
    // Order states.
    "ご注文は[state 発送済み]です。",
    "ご注文は[state 発送されました]。",
    "商品は本日の朝に[state 出荷しました]。",
    "ご注文の商品は現在[state 配達中]です。",
    "お荷物は[state 配送中]となっております。",
    "ご注文は現在[state 準備中です]。",
    "ご注文の品は[state 届いています]。",
    "お荷物は[state 到着しました]。",
    "ご注文は[state キャンセル済み]です。",
    "代金は[state 返金しました]。",
    "ステータスは[state お支払い待ち]です。",
    "Your order has been [state shipped].",
    "Your order has [state shipped].",
    "Your order has [state not yet been shipped].",
    "Your order is [state on its way].",
    "Your order is [state out for delivery].",
    "Your parcel was [state delivered] this morning.",
    "Your package has [state arrived].",
    "Your order was [state cancelled].",
    "The order is [state being packed] now.",
    "It has been [state dispatched].",
    "We [state shipped] your parcel.",
    "Your order MC-2026-000123 for vol. 3 has been [state refunded].",
    "Your order [state shipped] yesterday.",
    "When I look, your order has been [state shipped].",
    "Your order status is: [state processing].",
    // Delivery dates.
    "[date 11月24日]に届きます。",
    "[date 11月24日（火）]にお届けします。",
    "[date 2026年11月24日]に到着予定です。",
    "お届け予定は[date 11月24日]です。",
    "お届け予定日は[date 11/24]です。",
    "ご注文は[date 明日]届きます。",
    "[date 本日]発送されます。",
    "[date 来週]にはお届けできます。",
    "[date 24日]に届く予定です。",
    "[date １１月２４日]に届きます。",
    "[date 11月下旬]に発送予定です。",
    "It will arrive on [date November 24].",
    "It will arrive on [date November 24th, 2026].",
    "Your order should be delivered by [date 24 November].",
    "Your parcel arrives [date tomorrow].",
    "Expected delivery: [date 2026-11-24].",
    "It should be delivered by [date Friday].",
    "Your books will ship [date next week].",
    "They will be delivered on [date 11/24].",
    "It should get to you by [date Monday].",
    "You should receive it by [date November 24].",
    "It will be delivered between [date November 24 and November 26].",
    "Delivery is scheduled for [date Tuesday, November 24].",
];

/// Answers without facts, and what looks like them.
const HARMLESS: &[&str] = &[
    "3巻まで読みました。",
    "第3巻は2019年に刊行されました。",
    "全23巻で完結しています。",
    "『3月のライオン』は羽海野チカさんの作品です。",
    "『20世紀少年』と『七つの大罪』はいかがでしょうか。",
    "『千と千尋』や『百姓貴族』もおすすめです。",
    "一番人気の作品です。",
    "一冊ずつ読むのがおすすめです。",
    "三人の少年が出会います。",
    "18歳以上の方が対象です。",
    "評価は5点満点で4.5点です。",
    "読者の9割が満足しています。",
    "100%おすすめできます。",
    "物語の3割は回想です。",
    "百円玉を拾った少年の話です。",
    "千円札の謎を追います。",
    "一円を笑う者は一円に泣く、という話です。",
    "They arrive on the island today.",
    "Ships sail on Friday.",
    "Over 100 million copies in print.",
    "A dollar-store romance.",
    "「完売」の文字が印象的です。",
    "配達中の事故で異世界に転生します。",
    "12月24日に新刊が発売予定です。",
    "Has your order shipped? See the card.",
    "関東一円が舞台です。",
    "円卓の騎士が登場します。",
    "5円盤が飛びます。",
    "500円以下の送料はありません。",
    "送料は一律440円です。",
    "3,980円以上のご注文は送料無料です。",
    "３，９８０円以上で送料が無料になります。",
    "まとめ買いで10%引きになります。",
    "1割引のフェアがあります。",
    "ギフト包装は330円です。",
    "100円ごとに1ポイント貯まります。",
    "価格はカードをご覧ください。",
    "価格と在庫、ご注文の状況は下のカードでご確認ください。",
    "在庫はカードでご確認ください。",
    "在庫状況はカードに表示されます。",
    "在庫があるかどうかはカードでわかります。",
    "在庫がありましたらすぐに発送します。",
    "在庫のある商品は通常1〜2営業日で発送し、発送から1〜3日でお届けします。",
    "在庫切れの商品は、「入荷を知らせる」を登録できます。",
    "在庫がない場合は全額を返金します。",
    "品切れの場合はお知らせします。",
    "売り切れる前にどうぞ。",
    "即日完売した同人誌が題材です。",
    "残り3巻で完結します。",
    "残り3冊を読むのが楽しみですね。",
    "あと2冊で読み終わります。",
    "残りわずかな時間を描きます。",
    "「発送済み」の注文は取り消せません。",
    "発送済みの場合は返品をお申し込みください。",
    "商品が発送されましたら、メールでお知らせします。",
    "発送後は配送会社の追跡ページをご覧ください。",
    "荷物が届きましたら、ご確認ください。",
    "主人公に手紙が届きました。",
    "援軍が到着しました。",
    "『君に届け』は青春の物語です。",
    "11月24日に発売されました。",
    "11月24日は主人公の誕生日です。",
    "今日の気分に合う一冊です。",
    "明日、敵が到着します。",
    "到着から14日以内であれば返品できます。",
    "お届け予定日を3日過ぎても届かないときは、サポートへご連絡ください。",
    "お届けは7〜14日が目安です。",
    "紙の本は42の国と地域へ発送しています。",
    "発売前の商品は発売日の前日まで予約できます。",
    "返金は5営業日以内に行います。",
    "週末は10時から18時まで受け付けています。",
    "お支払い方法はカードとコンビニ払いです。",
    "キャンセルは注文履歴からできます。",
    "Vol. 3 is the best one.",
    "Volumes 1 to 23 are out.",
    "The series has 23 volumes and 206 chapters.",
    "It began in 1997 and ended in 2014.",
    "It is rated 4.5 out of 5.",
    "For readers of 13 and over.",
    "One Piece is a tale of pirates.",
    "Two brothers and one secret.",
    "Six of the seven deadly sins.",
    "The hundred-year-old curse returns.",
    "99% of readers loved it.",
    "It is 100% recommended.",
    "Shipping is a flat 440 yen.",
    "Orders of ¥3,980 or more ship for free.",
    "10% off when you buy two or more first volumes.",
    "You save 10% with the fair.",
    "Gift wrapping is 330 yen per parcel.",
    "A million-dollar idea drives the plot.",
    "Six million dollar heroes.",
    "My two cents: start with volume 1.",
    "Prices are on the cards.",
    "See the card for the price and stock.",
    "Prices, availability and order status are on the cards below.",
    "Check the card to see whether it is in stock.",
    "If it is in stock, it leaves within two days.",
    "Items in stock leave our warehouse within 1 to 2 business days and arrive 1 to 3 days later.",
    "For items out of stock, press \"Notify me\".",
    "We e-mail you when it is back in stock.",
    "Press \"Notify me\" on out of stock items.",
    "The first printing sold out in a week.",
    "The stockpile of swords grows.",
    "Only three volumes left to read.",
    "He has only one arm left.",
    "The 3 survivors left the island.",
    "23 volumes available in English.",
    "Only two left alive.",
    "Orders already shipped cannot be cancelled.",
    "Once your order has been shipped, you get a tracking number.",
    "If your order was cancelled, you get a refund.",
    "You can cancel until the order is shipped.",
    "The hero is on his way to the capital.",
    "It is on its way to becoming a classic.",
    "Fans have shipped by the thousands.",
    "The package is a mystery in chapter 2.",
    "The letter is delivered by an owl.",
    "The final volume was released on November 24.",
    "Returns are accepted within 14 days of arrival.",
    "If a parcel is more than 3 days late, please contact support.",
    "It takes place on a Friday in May.",
    "Today I can suggest three titles.",
    "The story may start slowly.",
    "Allow 7 to 14 days.",
    "Messages are answered from 10:00 to 18:00.",
    "You can register up to 5 devices.",
    "Your order's state is on the card.",
];

const STORE: &[&str] = &[
    "国内の送料は一律440円で、3,980円以上のご注文は無料です。",
    "Domestic shipping is a flat 440 yen and free for orders of 3,980 yen or more.",
    "We gift-wrap paperbacks and box sets for 330 yen per parcel.",
    "You earn 1 point per 100 yen spent.",
    "第1巻を2冊以上まとめて買うと10%引きです。",
    "500円以下の漫画はありますか",
];

fn locale(text: &str) -> Locale {
    if text.chars().any(|character| character > '\u{2e80}' && !('\u{ff00}'..'\u{ffef}').contains(&character)) {
        Locale::Ja
    } else {
        Locale::En
    }
}

fn filter(locale: Locale) -> FactFilter {
    FactFilter::new(Facts::allowing(STORE.iter().copied()), locale)
}

fn told(locale: Locale, pieces: impl IntoIterator<Item = impl AsRef<str>>) -> (String, Replaced) {
    let mut filter = filter(locale);
    let mut told: String = pieces.into_iter().map(|piece| filter.push(piece.as_ref())).collect();
    let (rest, replaced) = filter.finish();
    told.push_str(&rest);
    (told, replaced)
}

/// The answer of a marked one, what is to be told of it, and how many facts of each kind are in it: at least one.
fn unmark(marked: &str) -> (String, String) {
    let (mut said, mut wanted) = (String::new(), String::new());
    let mut rest = marked;
    let locale = locale(marked);
    while let Some((before, after)) = rest.split_once('[') {
        let (fact, after) = after.split_once(']').unwrap();
        let (kind, fact) = fact.split_once(' ').unwrap();
        said.push_str(before);
        said.push_str(fact);
        wanted.push_str(before);
        wanted.push_str(match (kind, locale) {
            ("price", Locale::Ja) => "（価格はカードをご覧ください）",
            ("discount", Locale::Ja) => "（割引は各ページをご覧ください）",
            ("stock", Locale::Ja) => "（在庫はカードをご覧ください）",
            ("state", Locale::Ja) => "（状況はカードをご覧ください）",
            ("date", Locale::Ja) => "（お届け日はカードをご覧ください）",
            ("again", Locale::Ja) => "（カード参照）",
            ("price", Locale::En) => "(see the card for the price)",
            ("discount", Locale::En) => "(see the page for discounts)",
            ("stock", Locale::En) => "(see the card for stock)",
            ("state", Locale::En) => "(see the card for its status)",
            ("date", Locale::En) => "(see the card for the date)",
            ("again", Locale::En) => "(see the card)",
            _ => panic!("no such kind: {kind}"),
        });
        rest = after;
    }
    said.push_str(rest);
    wanted.push_str(rest);
    (said, wanted)
}

#[test]
fn facts_are_replaced_by_where_to_find_them() {
    let wrong: Vec<String> = FACTS
        .iter()
        .filter_map(|marked| {
            let (said, wanted) = unmark(marked);
            let (got, _) = told(locale(marked), [&said]);
            (got != wanted).then(|| format!("{said}\n  told   {got}\n  wanted {wanted}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), FACTS.len(), wrong.join("\n"));
}

#[test]
fn what_only_looks_like_facts_is_told_as_it_is() {
    let wrong: Vec<String> = HARMLESS
        .iter()
        .filter_map(|said| {
            let (got, replaced) = told(locale(said), [said]);
            (got != **said || replaced != Replaced::default()).then(|| format!("{said}\n  told {got}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), HARMLESS.len(), wrong.join("\n"));
}

#[test]
fn what_the_sample_store_says_may_be_repeated() {
    let data = [
        include_str!("../../../../functions/store-api/data/articles.json"),
        include_str!("../../../../functions/store-api/data/promotions.json"),
        include_str!("../../../../functions/store-api/data/series.json"),
        include_str!("../../../../functions/store-api/data/reviews.json"),
    ];
    for file in data {
        let entries: Vec<serde_json::Value> = serde_json::from_str(file).unwrap();
        for entry in entries {
            for field in ["title", "body", "description", "summary", "text"] {
                let texts = [&entry[field], &entry[field]["ja"], &entry[field]["en"]];
                for text in texts.into_iter().filter_map(serde_json::Value::as_str) {
                    let mut filter = FactFilter::new(Facts::allowing([text]), locale(text));
                    let told = filter.push(text) + &filter.finish().0;
                    assert_eq!(told, text);
                }
            }
        }
    }
}

#[test]
fn facts_are_counted_by_kind() {
    let (_, replaced) = told(
        Locale::En,
        ["It is $5 or $6, 30% off and in stock. Your order has shipped and will be delivered on May 3."],
    );
    let wanted = Replaced { prices: 2, discounts: 1, stock: 1, order_states: 1, delivery_dates: 1 };
    assert_eq!(replaced, wanted);
    assert_eq!(replaced.total(), 6);
}

#[test]
fn what_cannot_become_a_fact_is_told_at_once() {
    for word in ["Sure", "Here you go", "はい、", "こちらは", "「", "One Piece was", "、発表", "I "] {
        let mut filter = filter(locale(word));
        assert_eq!(filter.push(word), word);
    }
    // And what may is told as soon as it cannot.
    let mut filter = filter(Locale::En);
    assert_eq!(filter.push("about 12"), "about ");
    assert_eq!(filter.push("00"), "");
    assert_eq!(filter.push(" v"), "1200 v");
    assert_eq!(filter.push("olumes sol"), "olumes ");
    assert_eq!(filter.push("e"), "sole");
}

#[test]
fn a_number_is_held_back_up_to_the_limit() {
    let digits = |count: usize| "7".repeat(count);
    let mut longest = filter(Locale::Ja);
    assert_eq!(longest.push(&digits(FACT_CHARS_MAX - 1)), "");
    assert_eq!(longest.held_chars(), FACT_CHARS_MAX - 1);
    assert_eq!(longest.push("円"), "（価格はカードをご覧ください）");
    let mut longer = filter(Locale::Ja);
    assert_eq!(longer.push(&digits(FACT_CHARS_MAX)), digits(FACT_CHARS_MAX));
    assert_eq!(longer.held_chars(), 0);
}

#[test]
fn what_is_further_back_than_the_limit_tells_nothing() {
    let said = |between: usize| format!("your order{}. it was delivered.", "x".repeat(between));
    // A space stands before the subject, and what is looked back at ends before `delivered`.
    let most = FACT_CONTEXT_CHARS - said(0).len() + "delivered.".len();
    let near = format!(" {}", said(0).replacen("order.", &format!("order {}.", "x".repeat(most - 1)), 1));
    let far = format!(" {}", said(0).replacen("order.", &format!("order {}.", "x".repeat(most)), 1));
    assert_eq!(told(Locale::En, [&near]).1.order_states, 1);
    assert_eq!(told(Locale::En, [&far]).1.order_states, 0);
}

#[test]
fn a_later_owner_goes_on_where_the_answer_was_cut() {
    for (before, rest, wanted) in [
        ("Your order has been ", "shipped.", "(see the card for its status)."),
        ("If it is ", "in stock, it is sent.", "in stock, it is sent."),
        ("It costs 12", "00 yen.", "(see the card for the price)."),
        ("It is vol", "ume 3.", "ume 3."),
        ("It is only sw", "in stock", "in stock"),
    ] {
        let mut filter = FactFilter::after(Facts::default(), Locale::En, before);
        assert_eq!(filter.push(rest) + &filter.finish().0, wanted);
    }
}

/// A piece of an answer: a sentence, a part of one, or anything.
fn piece() -> impl Strategy<Value = String> {
    let sentences: Vec<String> =
        FACTS.iter().map(|marked| unmark(marked).0).chain(HARMLESS.iter().map(|said| (*said).to_owned())).collect();
    let words = vec![
        "1,2",
        "00",
        "円",
        " yen",
        "税込",
        "在庫",
        "あり",
        "in ",
        "stock",
        "only ",
        "sold ",
        "out",
        "has ",
        "been ",
        "shipped",
        "11月",
        "24日",
        "に",
        "届きます",
        "30",
        "%",
        " off",
        "引き",
        "残り",
        "冊",
        "です",
        "。",
        "、",
        ". ",
        " or ",
        "(",
        ")",
        "¥",
        "$",
        "twelve ",
        "hundred ",
        "your order ",
        "一",
        "万",
        "．",
        "９",
        "if ",
    ];
    prop_oneof![
        3 => prop::sample::select(sentences),
        6 => prop::sample::select(words).prop_map(str::to_owned),
        1 => ".{0,6}",
    ]
}

proptest! {
    #[test]
    fn what_is_told_does_not_depend_on_the_cuts(
        pieces in prop::collection::vec(piece(), 0..12),
        cuts in prop::collection::vec(1..9_usize, 1..20),
        locale in prop::sample::select(vec![Locale::Ja, Locale::En]),
    ) {
        let said = pieces.concat();
        let (whole, counted) = told(locale, [&said]);
        let mut filter = filter(locale);
        let mut piecewise = String::new();
        let mut characters = said.chars().peekable();
        for length in cuts.iter().cycle() {
            let piece: String = characters.by_ref().take(*length).collect();
            piecewise.push_str(&filter.push(&piece));
            prop_assert!(filter.held_chars() < FACT_CHARS_MAX);
            if characters.peek().is_none() {
                break;
            }
        }
        let (rest, replaced) = filter.finish();
        piecewise.push_str(&rest);
        prop_assert_eq!(&piecewise, &whole);
        prop_assert_eq!(replaced, counted);
        if replaced.total() == 0 {
            prop_assert_eq!(whole, said);
        }
    }

    #[test]
    fn nothing_but_facts_is_lost(pieces in prop::collection::vec(piece(), 0..12)) {
        let said = pieces.concat();
        let (told, _) = told(Locale::En, [&said]);
        let mut left = said.chars();
        let without: String = ["(see the card for the price)", "(see the page for discounts)", "(see the card for stock)",
            "(see the card for its status)", "(see the card for the date)", "(see the card)"]
            .iter().fold(told, |told, pointer| told.replace(pointer, ""));
        for character in without.chars() {
            prop_assert!(left.any(|said| said == character), "{:?} is not in {:?}", without, said);
        }
    }

    #[test]
    fn an_answer_without_facts_may_be_taken_over_anywhere(
        sentences in prop::collection::vec(prop::sample::select(HARMLESS), 1..6),
        at in any::<prop::sample::Index>(),
    ) {
        let said = sentences.join(" ");
        let locale = locale(&said);
        let places: Vec<usize> = said.char_indices().map(|(at, _)| at).collect();
        let (before, after) = said.split_at(places[at.index(places.len())]);
        let mut first = filter(locale);
        let told = first.push(before);
        let held = &before[told.len()..];
        let mut second = FactFilter::after(Facts::allowing(STORE.iter().copied()), locale, &told);
        let rest = second.push(held) + &second.push(after) + &second.finish().0;
        prop_assert_eq!(told + &rest, said);
    }
}
