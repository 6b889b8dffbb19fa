//! Reads the prompt of the chat: what the store knows, and what the shopper asks.

use serde::Deserialize;

use crate::api::{ConverseRequest, Message, Role};

/// The shopper's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locale {
    Ja,
    En,
}

/// What the model is asked.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub locale: Locale,
    pub question: String,
    /// Absent when the prompt brings no store data.
    pub data: Option<StoreData>,
    /// The conversation had an answer before this question.
    pub continues: bool,
}

/// What the store's services know, as the chat writes it into the prompt. Texts are in the shopper's language.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StoreData {
    pub products: Vec<Product>,
    pub recommendations: Vec<Product>,
    pub promotions: Vec<Promotion>,
    pub orders: Vec<Order>,
    pub reviews: Vec<Review>,
    pub articles: Vec<Article>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Product {
    pub id: String,
    pub title_ja: String,
    pub title_en: String,
    pub authors: Vec<String>,
    pub genres: Vec<String>,
    pub summary: String,
    pub volumes_published: u32,
    pub reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Promotion {
    pub title: String,
    pub description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Order {
    pub order_id: String,
    pub items: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Review {
    pub rating: u8,
    pub text: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Article {
    pub title: String,
    pub body: String,
}

impl Prompt {
    /// Reads the last thing the user said. A text in any other form than the chat's is a question without store data.
    pub fn of(request: &ConverseRequest) -> Self {
        let mut asked = request.messages.iter().filter(|message| message.role == Role::User);
        let last = asked.next_back().map(Message::text).unwrap_or_default();
        let continues = asked.next_back().is_some();
        match contract(&last) {
            Some((locale, question, data)) => Self { locale, question, data: Some(data), continues },
            None => Self { locale: locale_of(&last), question: last, data: None, continues },
        }
    }
}

fn contract(text: &str) -> Option<(Locale, String, StoreData)> {
    let (data, rest) = text.trim().strip_prefix("<store_data>")?.split_once("</store_data>")?;
    let (locale, rest) = rest.trim_start().strip_prefix("<question locale=\"")?.split_once("\">")?;
    let question = rest.strip_suffix("</question>")?.trim();
    let locale = match locale {
        "ja" => Locale::Ja,
        "en" => Locale::En,
        _ => return None,
    };
    let question = question.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    Some((locale, question, serde_json::from_str(data).ok()?))
}

/// Japanese has kana or kanji somewhere.
fn locale_of(text: &str) -> Locale {
    let japanese = |c: char| ('\u{3040}'..='\u{30ff}').contains(&c) || ('\u{4e00}'..='\u{9fff}').contains(&c);
    if text.contains(japanese) { Locale::Ja } else { Locale::En }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(messages: serde_json::Value) -> Prompt {
        Prompt::of(&serde_json::from_value(serde_json::json!({ "messages": messages })).unwrap())
    }

    fn user(text: &str) -> serde_json::Value {
        serde_json::json!({ "role": "user", "content": [{ "text": text }] })
    }

    #[test]
    fn reads_data_question_and_locale() {
        let text = concat!(
            "<store_data>\n{\"products\":[{\"id\":\"a-1\",\"title_ja\":\"\\u003cA\\u003e\"}]}\n</store_data>\n",
            "<question locale=\"ja\">\n&lt;A&gt; &amp;amp; B?\n</question>"
        );
        let prompt = prompt(serde_json::json!([user(text)]));
        assert_eq!(prompt.locale, Locale::Ja);
        assert_eq!(prompt.question, "<A> &amp; B?");
        assert_eq!(prompt.data.unwrap().products[0].title_ja, "<A>");
        assert!(!prompt.continues);
    }

    #[test]
    fn another_form_is_a_plain_question() {
        for text in [
            "おすすめは？",
            "<store_data>{}</store_data>おすすめは？",
            "<store_data>{</store_data><question locale=\"ja\">はい</question>",
        ] {
            let prompt = prompt(serde_json::json!([user(text)]));
            assert_eq!((prompt.question.as_str(), prompt.locale, prompt.data.is_none()), (text, Locale::Ja, true));
        }
        assert_eq!(prompt(serde_json::json!([user("What is new?")])).locale, Locale::En);
    }

    #[test]
    fn a_prefilled_answer_is_not_the_question() {
        let answer = serde_json::json!({ "role": "assistant", "content": [{ "text": "Well" }] });
        let first = prompt(serde_json::json!([user("one"), answer]));
        assert_eq!((first.question.as_str(), first.continues), ("one", false));
        let second = prompt(serde_json::json!([user("one"), answer, user("two"), answer]));
        assert_eq!((second.question.as_str(), second.continues), ("two", true));
    }
}
