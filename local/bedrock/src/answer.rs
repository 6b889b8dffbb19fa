//! What the stand-in says: a pure function of the prompt.
//!
//! Data is only ever quoted, between marks of its own, and never searched for anything to do. Prices, stock and order
//! states reach the shopper on cards, so the stand-in writes no number but a volume count, a rating and an order's id.

use crate::prompt::{Locale, Order, Product, Prompt, StoreData};
use crate::tokens;

/// An ordinary answer is filled up to the minimum and takes in nothing that would pass the maximum.
const ORDINARY_TOKENS: Length = Length { min: 60, max: 120 };
/// The same for an answer to a question for detail.
const DETAIL_TOKENS: Length = Length { min: 200, max: 600 };
/// Titles in the first sentence.
const TITLES_MAX: usize = 3;
/// Sentences quoted from a help article in an ordinary answer.
const ARTICLE_SENTENCES_MAX: usize = 2;

struct Length {
    min: u64,
    max: u64,
}

/// The whole answer to `prompt`, always the same for the same prompt.
pub(crate) fn answer(prompt: &Prompt) -> String {
    let voice = Voice { locale: prompt.locale };
    let wish = Wish::of(&prompt.question);
    let facts = match &prompt.data {
        Some(data) => voice.facts(data, &wish),
        None => vec![voice.no_data_given()],
    };
    let has_cards = prompt.data.as_ref().is_some_and(StoreData::has_cards);
    voice.compose(prompt.continues, wish.detail, facts, has_cards)
}

/// The answer after `prefill`: the rest of it, or all of it when the prefill begins another answer.
pub(crate) fn continuation(prompt: &Prompt, prefill: &str) -> String {
    let whole = answer(prompt);
    match whole.strip_prefix(prefill) {
        Some(rest) => rest.to_owned(),
        None => whole,
    }
}

impl StoreData {
    /// Products and orders are shown to the shopper as cards.
    fn has_cards(&self) -> bool {
        !(self.products.is_empty() && self.recommendations.is_empty() && self.orders.is_empty())
    }
}

/// What the question is after, by its words.
struct Wish {
    detail: bool,
    help: bool,
    promotions: bool,
    orders: bool,
    reviews: bool,
}

impl Wish {
    fn of(question: &str) -> Self {
        let question = question.to_lowercase();
        let words: String = question.split(|c: char| !c.is_alphanumeric()).flat_map(|word| [" ", word]).collect();
        // English words are found by how they begin: `deal` is not in `ideal`.
        let says = |phrases: &[&str]| {
            phrases.iter().any(|phrase| {
                if phrase.is_ascii() { words.contains(&format!(" {phrase}")) } else { question.contains(phrase) }
            })
        };
        let long = says(&["long"]) && !says(&["how long"]);
        Self {
            detail: long
                || says(&[
                    "詳しく",
                    "くわしく",
                    "もっと",
                    "長く",
                    "in detail",
                    "detailed",
                    "tell me more",
                    "more about",
                    "at length",
                ]),
            help: says(&[
                "返品",
                "返金",
                "交換",
                "配送",
                "送料",
                "届",
                "支払",
                "ギフト",
                "ラッピング",
                "電子",
                "アカウント",
                "キャンセル",
                "ポイント",
                "方法",
                "return",
                "refund",
                "exchange",
                "shipping",
                "deliver",
                "pay",
                "gift",
                "wrap",
                "digital",
                "account",
                "cancel",
                "points",
                "how do",
                "how can",
            ]),
            promotions: says(&[
                "セール",
                "キャンペーン",
                "割引",
                "クーポン",
                "お得",
                "特典",
                "sale",
                "promotion",
                "campaign",
                "discount",
                "coupon",
                "deal",
                "offer",
            ]),
            orders: says(&["注文", "order", "package", "parcel"]),
            reviews: says(&["評判", "評価", "レビュー", "感想", "口コミ", "review", "rating", "opinion"]),
        }
    }
}

/// Says things in one language.
struct Voice {
    locale: Locale,
}

impl Voice {
    fn pick<'a>(&self, ja: &'a str, en: &'a str) -> &'a str {
        match self.locale {
            Locale::Ja => ja,
            Locale::En => en,
        }
    }

    fn opening(&self, continues: bool) -> String {
        let who = self.pick("ローカル環境の代役モデルがお答えします。", "This is the local stand-in model answering.");
        let follows = self.pick("先ほどのお話の続きですね。", "Carrying on from what we talked about before.");
        if continues { self.join(&[who, follows]) } else { who.to_owned() }
    }

    fn closing(&self, has_cards: bool) -> String {
        let cards = self.pick(
            "価格と在庫、ご注文の状況は下のカードでご確認ください。",
            "Prices, availability and order status are on the cards below.",
        );
        let invitation = self.pick(
            "気になることがあれば、続けてお聞かせください。",
            "Just ask if you would like to know anything else.",
        );
        if has_cards { self.join(&[cards, invitation]) } else { invitation.to_owned() }
    }

    fn no_data_given(&self) -> String {
        self.pick(
            "今回はお店のデータを受け取っていないため、作品名を挙げての一般的なご案内以上のことはできません。",
            "I was given no store data this time, so all I can offer is general guidance without naming particular titles.",
        )
        .to_owned()
    }

    fn nothing_found(&self) -> String {
        self.pick(
            "申し訳ありませんが、ご質問に合う情報はお店のデータに見つかりませんでした。",
            "I am sorry, but I found nothing in the store's data that answers your question.",
        )
        .to_owned()
    }

    /// What can be said about the data, most fitting first.
    fn facts(&self, data: &StoreData, wish: &Wish) -> Vec<String> {
        let mut facts = Vec::new();
        let articles = self.articles(data, wish);
        let promotions = self.promotions(data, wish);
        let orders = data.orders.iter().map(|order| self.order(order));
        let (early, late) = if wish.help { (articles, Vec::new()) } else { (Vec::new(), articles) };
        if wish.orders {
            facts.extend(orders.clone());
        }
        facts.extend(early);
        if wish.promotions {
            facts.extend(promotions.iter().cloned());
        }
        facts.extend(self.titles(data));
        if wish.reviews {
            facts.extend(self.reviews(data));
        }
        facts.extend(self.distinct(data).map(|product| self.product(product)).filter(|known| !known.is_empty()));
        let nothing_else = facts.is_empty();
        if wish.detail && !wish.reviews {
            facts.extend(self.reviews(data));
        }
        if nothing_else || wish.detail {
            facts.extend(late);
        }
        if nothing_else && !wish.promotions {
            facts.extend(promotions);
        }
        if nothing_else && !wish.orders {
            facts.extend(orders);
        }
        if facts.is_empty() {
            facts.push(self.nothing_found());
        }
        facts
    }

    /// Products, then recommendations that are not among them.
    fn distinct<'a>(&self, data: &'a StoreData) -> impl Iterator<Item = &'a Product> + use<'a> {
        let recommended = data.recommendations.iter();
        let new = recommended.filter(|product| data.products.iter().all(|known| known.id != product.id));
        data.products.iter().chain(new)
    }

    fn title(&self, product: &Product) -> String {
        let (wanted, other) = match self.locale {
            Locale::Ja => (&product.title_ja, &product.title_en),
            Locale::En => (&product.title_en, &product.title_ja),
        };
        self.quoted(if wanted.trim().is_empty() { other } else { wanted })
    }

    fn titles(&self, data: &StoreData) -> Option<String> {
        let titles: Vec<String> = self.distinct(data).take(TITLES_MAX).map(|product| self.title(product)).collect();
        if titles.is_empty() {
            return None;
        }
        let titles = self.list(titles.iter().map(String::as_str));
        Some(match self.locale {
            Locale::Ja => format!("ご質問に合いそうなのは、{titles}です。"),
            Locale::En => format!("Here is what fits your question: {titles}."),
        })
    }

    /// Empty when nothing but the title is known.
    fn product(&self, product: &Product) -> String {
        let title = self.title(product);
        let authors = self.list(product.authors.iter().map(String::as_str));
        let genres = self.list(product.genres.iter().map(|genre| self.genre(genre)));
        let volumes = product.volumes_published;
        let known = [
            (!authors.is_empty()).then(|| match self.locale {
                Locale::Ja => format!("作者は{authors}"),
                Locale::En => format!("it is by {authors}"),
            }),
            (!genres.is_empty()).then(|| match self.locale {
                Locale::Ja => format!("ジャンルは{genres}"),
                Locale::En => format!("its genres are {genres}"),
            }),
            (volumes > 0).then(|| match self.locale {
                Locale::Ja => format!("既刊は{volumes}巻"),
                Locale::En => format!("volumes so far: {volumes}"),
            }),
        ];
        let known: Vec<String> = known.into_iter().flatten().collect();
        let about = match (self.locale, known.is_empty()) {
            (Locale::Ja | Locale::En, true) => String::new(),
            (Locale::Ja, false) => format!("{title}について、{}です。", known.join("、")),
            (Locale::En, false) => format!("About {title}: {}.", known.join("; ")),
        };
        let summary = self.sentence(&product.summary);
        let reason = match self.sentence(product.reason.as_deref().unwrap_or_default()) {
            reason if reason.is_empty() => reason,
            reason => self.pick("おすすめの理由：", "Why it is recommended: ").to_owned() + &reason,
        };
        self.join(&[about, summary, reason])
    }

    fn genre<'a>(&self, genre: &'a str) -> &'a str {
        match self.locale {
            Locale::Ja => GENRES_JA.iter().find(|(en, _)| *en == genre).map_or(genre, |(_, ja)| *ja),
            Locale::En => genre,
        }
    }

    fn articles(&self, data: &StoreData, wish: &Wish) -> Vec<String> {
        let sentences_max = if wish.detail { usize::MAX } else { ARTICLE_SENTENCES_MAX };
        let articles = data.articles.iter();
        articles
            .map(|article| {
                let title = self.quoted(&article.title);
                let heading = match self.locale {
                    Locale::Ja => format!("{title}のご案内です。"),
                    Locale::En => format!("Our help page {title} says:"),
                };
                let sentences = sentences(&article.body).take(sentences_max).map(|text| self.sentence(text));
                let parts: Vec<String> = std::iter::once(heading).chain(sentences).collect();
                self.join(&parts)
            })
            .collect()
    }

    fn promotions(&self, data: &StoreData, wish: &Wish) -> Vec<String> {
        if data.promotions.is_empty() && wish.promotions {
            let none = self.pick(
                "いまご案内できるキャンペーンは、お店のデータに見つかりませんでした。",
                "I found no promotion in the store's data right now.",
            );
            return vec![none.to_owned()];
        }
        let promotions = data.promotions.iter();
        promotions
            .map(|promotion| {
                let title = self.quoted(&promotion.title);
                let running = match self.locale {
                    Locale::Ja => format!("開催中のキャンペーンは{title}です。"),
                    Locale::En => format!("A promotion running now is {title}."),
                };
                self.join(&[running, self.sentence(&promotion.description)])
            })
            .collect()
    }

    fn order(&self, order: &Order) -> String {
        let id = self.quoted(&order.order_id);
        let titles: Vec<String> = order.items.iter().map(|title| self.quoted(title)).collect();
        let items = self.list(titles.iter().map(String::as_str));
        match (self.locale, items.is_empty()) {
            (Locale::Ja, true) => format!("ご注文{id}がございます。"),
            (Locale::Ja, false) => format!("ご注文{id}の内容は、{items}です。"),
            (Locale::En, true) => format!("There is your order {id}."),
            (Locale::En, false) => format!("Your order {id} is for {items}."),
        }
    }

    fn reviews(&self, data: &StoreData) -> Vec<String> {
        let reviews = data.reviews.iter();
        reviews
            .map(|review| {
                let (rating, text) = (review.rating, self.quoted(&review.text));
                match self.locale {
                    Locale::Ja => format!("読者の評価は5点満点で{rating}点、感想は{text}とのことです。"),
                    Locale::En => format!("A reader gave it {rating} out of 5 and wrote {text}."),
                }
            })
            .collect()
    }

    /// Opening, the facts that fit, advice up to the minimum, closing. The first fact is always in.
    fn compose(&self, continues: bool, detail: bool, facts: Vec<String>, has_cards: bool) -> String {
        let length = if detail { DETAIL_TOKENS } else { ORDINARY_TOKENS };
        let closing = self.closing(has_cards);
        let mut parts = vec![self.opening(continues)];
        let mut said = tokens::count(&closing) + parts.iter().map(|part| tokens::count(part)).sum::<u64>();
        let mut facts = facts.into_iter();
        if let Some(first) = facts.next() {
            said += tokens::count(&first);
            parts.push(first);
        }
        for fact in facts {
            let more = tokens::count(&fact);
            if said + more <= length.max {
                said += more;
                parts.push(fact);
            }
        }
        for advice in match self.locale {
            Locale::Ja => ADVICE_JA,
            Locale::En => ADVICE_EN,
        } {
            if said >= length.min {
                break;
            }
            said += tokens::count(advice);
            parts.push((*advice).to_owned());
        }
        parts.push(closing);
        if detail { parts.join("\n\n") } else { self.join(&parts) }
    }

    /// Sentences, one after the other.
    fn join(&self, sentences: &[impl AsRef<str>]) -> String {
        let said: Vec<&str> = sentences.iter().map(AsRef::as_ref).filter(|sentence| !sentence.is_empty()).collect();
        said.join(self.pick("", " "))
    }

    fn list<'a>(&self, items: impl Iterator<Item = &'a str>) -> String {
        let items: Vec<String> = items.map(one_line).filter(|item| !item.is_empty()).collect();
        items.join(self.pick("、", ", "))
    }

    fn quoted(&self, text: &str) -> String {
        let text = one_line(text);
        match self.locale {
            Locale::Ja => format!("「{text}」"),
            Locale::En => format!("“{text}”"),
        }
    }

    /// A text of the store as a sentence that has an end.
    fn sentence(&self, text: &str) -> String {
        let text = one_line(text);
        if text.is_empty() || text.ends_with(['。', '！', '？', '.', '!', '?']) {
            return text;
        }
        text + self.pick("。", ".")
    }
}

fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The sentences of a text, with their ends.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let ends = rest.char_indices().find_map(|(at, c)| {
            let after = at + c.len_utf8();
            let follows = rest.get(after..)?;
            let ends = match c {
                '。' | '！' | '？' | '\n' => true,
                '.' | '!' | '?' => follows.starts_with(char::is_whitespace),
                _ => false,
            };
            ends.then_some(after)
        });
        let (sentence, after) = rest.split_at(ends.unwrap_or(rest.len()));
        rest = after;
        (!sentence.is_empty()).then_some(sentence)
    })
    .filter(|sentence| !sentence.trim().is_empty())
}

/// The genres of the store in Japanese.
const GENRES_JA: &[(&str, &str)] = &[
    ("action", "アクション"),
    ("adventure", "冒険"),
    ("comedy", "コメディ"),
    ("crime", "犯罪"),
    ("dark fantasy", "ダークファンタジー"),
    ("drama", "ドラマ"),
    ("family", "家族"),
    ("fantasy", "ファンタジー"),
    ("historical", "歴史"),
    ("horror", "ホラー"),
    ("music", "音楽"),
    ("mystery", "ミステリー"),
    ("psychological", "心理"),
    ("romance", "恋愛"),
    ("school", "学園"),
    ("science fiction", "SF"),
    ("slice of life", "日常"),
    ("sports", "スポーツ"),
    ("supernatural", "超自然"),
    ("thriller", "サスペンス"),
];

/// True of any manga and any store: fills an answer that the data leaves short.
const ADVICE_JA: &[&str] = &[
    "好きなジャンルや最近読んで面白かった作品を教えていただけると、より合うものをお探しできます。",
    "長いシリーズが気になる方は、まず第一巻を読んで絵柄やテンポが合うかを確かめるのが安心です。",
    "短い時間で一つの物語を読み切りたいときは、巻数の少ない完結作品から選ぶと、気軽に最後まで楽しめます。",
    "プレゼントをお考えでしたら、贈る相手の年齢や普段の趣味をお知らせください。好みに近い作品を一緒に考えられます。",
    "同じ作者の別の作品や、同じ雑誌に載っていた作品をたどっていくと、思いがけないお気に入りに出会えることもあります。",
    "紙の本は手元に並べる楽しみがあり、電子版は外出先でもすぐに続きを開けるという良さがありますので、読む場所に合わせてお選びください。",
    "前に読むのをやめてしまった作品でも、どの場面まで覚えているかを教えていただければ、続きを探すお手伝いができます。",
    "作品の雰囲気を言葉にするのが難しいときは、静かに読みたい、思い切り笑いたい、といった気分だけでも手がかりになります。",
];

/// The same in English.
const ADVICE_EN: &[&str] = &[
    "If you tell me which genres you like, or a title you enjoyed lately, I can look for something closer to your taste.",
    "When a long series makes you hesitate, reading just the first volume is a good way to see whether its art and pace suit you.",
    "For a story you can finish in a weekend, a completed series with only a few volumes is usually the most comfortable choice.",
    "If you are looking for a present, let me know the age and the hobbies of the person it is for, and we can narrow it down together.",
    "Following an author from one work to the next, or a magazine from one series to another, often leads to an unexpected favourite.",
    "Printed books are a pleasure to keep on a shelf, while digital editions open anywhere, so think of where you do most of your reading.",
    "Even if you stopped reading a series years ago, tell me the last scene you remember and I can help you find the place to start again.",
    "And when the mood is hard to describe, a few plain words such as quiet, funny or thrilling are already enough for me to begin with.",
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The texts that look like prices: digits before 円, or after ¥.
    fn prices(text: &str) -> Vec<String> {
        let chars: Vec<char> = text.chars().collect();
        let mut prices = Vec::new();
        let mut at = 0;
        while at < chars.len() {
            let digits = chars[at..].iter().take_while(|c| c.is_numeric()).count();
            let before = at.checked_sub(1).map(|before| chars[before]);
            let after = chars.get(at + digits);
            if digits > 0 && (matches!(before, Some('¥' | '￥')) || after == Some(&'円')) {
                let from = if matches!(before, Some('¥' | '￥')) { at - 1 } else { at };
                let to = if after == Some(&'円') { at + digits + 1 } else { at + digits };
                prices.push(chars[from..to].iter().collect());
            }
            at += digits.max(1);
        }
        prices
    }

    #[test]
    fn prices_are_seen() {
        assert_eq!(prices("全3巻 500円 ¥1,200 ￥５円 円5 5¥"), ["500円", "¥1", "￥５円"]);
    }

    /// Texts of a store that would like to be read as prices.
    fn text() -> impl Strategy<Value = String> {
        "([0-9]{1,3}|円|¥|。|\\. |[ \n]|[ぁ-ん]{1,4}|[a-z]{1,6}|「|\\PC){0,12}"
    }

    fn product() -> impl Strategy<Value = Value> {
        (text(), text(), prop::collection::vec(text(), 0..3), prop::collection::vec(text(), 0..3), text(), any::<u32>(), text()).prop_map(
            |(id, title, authors, genres, summary, volumes_published, reason)| {
                json!({ "id": id, "title_ja": title, "title_en": title, "authors": authors, "genres": genres, "summary": summary,
                    "volumes_published": volumes_published, "reason": reason })
            },
        )
    }

    fn data() -> impl Strategy<Value = Value> {
        let list = |item: BoxedStrategy<Value>| prop::collection::vec(item, 0..4);
        let promotion =
            (text(), text()).prop_map(|(title, description)| json!({ "title": title, "description": description }));
        let order = (text(), prop::collection::vec(text(), 0..3))
            .prop_map(|(id, items)| json!({ "order_id": id, "items": items }));
        let review = (any::<u8>(), text()).prop_map(|(rating, text)| json!({ "rating": rating, "text": text }));
        let article = (text(), text()).prop_map(|(title, body)| json!({ "title": title, "body": body }));
        (
            list(product().boxed()),
            list(product().boxed()),
            list(promotion.boxed()),
            list(order.boxed()),
            list(review.boxed()),
            list(article.boxed()),
        )
            .prop_map(|(products, recommendations, promotions, orders, reviews, articles)| {
                json!({ "products": products, "recommendations": recommendations, "promotions": promotions, "orders": orders,
                    "reviews": reviews, "articles": articles })
            })
    }

    /// Every text in the data.
    fn texts(data: &Value) -> Vec<&str> {
        match data {
            Value::String(text) => vec![text],
            Value::Array(items) => items.iter().flat_map(texts).collect(),
            Value::Object(fields) => fields.values().flat_map(texts).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn no_price_is_made_up(
            data in prop::option::of(data()),
            question in "(¥|[0-9]{1,3}|円|詳しく|long|返品|sale|注文|review|\\PC){0,6}",
            ja in any::<bool>(),
            continues in any::<bool>(),
        ) {
            let locale = if ja { Locale::Ja } else { Locale::En };
            let known = data.clone().unwrap_or_default();
            let data = data.map(|data| serde_json::from_value(data).unwrap());
            let said = answer(&Prompt { locale, question, data, continues });
            for price in prices(&said) {
                prop_assert!(texts(&known).iter().any(|text| text.contains(&price)), "{} in: {}", price, said);
            }
        }

        #[test]
        fn sentences_are_the_text(text in text()) {
            let kept: String = sentences(&text).collect();
            let visible = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(visible(&kept), visible(&text));
        }
    }
}
