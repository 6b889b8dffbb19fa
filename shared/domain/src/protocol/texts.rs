//! The words a shopper reads, in both languages.

use super::{BrownOutStep, Dependency, ErrorCode, Locale};
use crate::pages::StorePages;

/// What an error says to the shopper. Fixed words: nothing of the cause shows.
pub fn error_text(code: ErrorCode, locale: Locale) -> &'static str {
    let (ja, en) = match code {
        ErrorCode::InvalidFrame => ("送信内容を読み取れませんでした。", "We could not read what was sent."),
        ErrorCode::PayloadTooLarge => (
            "文章が長すぎます。短くしてもう一度お送りください。",
            "The text is too long. Please shorten it and send it again.",
        ),
        ErrorCode::UnknownAction => ("この操作には対応していません。", "This action is not supported."),
        ErrorCode::RateLimited => {
            ("メッセージの間隔が短すぎます。少し待ってからお送りください。", "Too many messages. Please wait a moment.")
        }
        ErrorCode::ConversationBusy => (
            "前のご質問にお答えしています。少しお待ちください。",
            "We are still answering your last question. Please wait a moment.",
        ),
        ErrorCode::IdempotencyMismatch => {
            ("同じ番号で別のメッセージが送られました。", "A different message was already sent under this id.")
        }
        ErrorCode::NotFound => ("見つかりませんでした。", "We could not find that."),
        ErrorCode::Forbidden => (
            "この会話は長さの上限に達しました。新しい会話を始めてください。",
            "This conversation has reached its length. Please start a new one.",
        ),
        ErrorCode::WrongRegion => ("別の地域に接続し直してください。", "Please connect to your home region."),
        ErrorCode::SessionExpired => {
            ("セッションの有効期限が切れました。接続し直してください。", "Your session has expired. Please reconnect.")
        }
        ErrorCode::Unavailable => (
            "ただいまお答えできません。しばらくしてからもう一度お試しください。",
            "We cannot answer right now. Please try again shortly.",
        ),
        ErrorCode::Internal => {
            ("エラーが発生しました。もう一度お試しください。", "Something went wrong on our side. Please try again.")
        }
    };
    match locale {
        Locale::Ja => ja,
        Locale::En => en,
    }
}

/// What a shopper is told when a turn is queued.
pub fn queued_text(locale: Locale) -> &'static str {
    match locale {
        Locale::Ja => "お答えに時間がかかっています。こちらか、次にお越しの際にお届けします。",
        Locale::En => "This takes longer than usual. The answer will follow, here or on your next visit.",
    }
}

/// What a shopper is told when a part of the store does not answer, and where else to look.
pub fn degraded_text(dependency: Dependency, pages: &StorePages, locale: Locale) -> String {
    match (dependency, locale) {
        (Dependency::Catalog, Locale::Ja) => {
            format!("申し訳ありません、ただいま商品情報を確認できません。こちらで検索できます: {}", pages.search())
        }
        (Dependency::Catalog, Locale::En) => {
            format!("Sorry, we cannot look up products right now. You can search here: {}", pages.search())
        }
        (Dependency::Recommendations, Locale::Ja) => {
            "ただいまおすすめを選べないため、人気の作品をご案内します。".to_owned()
        }
        (Dependency::Recommendations, Locale::En) => {
            "We cannot pick recommendations right now, so here is what is popular.".to_owned()
        }
        (Dependency::Orders, Locale::Ja) => {
            format!("ただいまご注文を確認できません。注文履歴のページをご覧ください: {}", pages.orders())
        }
        (Dependency::Orders, Locale::En) => {
            format!("We cannot look up orders right now. Please see your order page: {}", pages.orders())
        }
        (Dependency::Knowledge, Locale::Ja) => "ただいまヘルプ記事を参照できません。".to_owned(),
        (Dependency::Knowledge, Locale::En) => "We cannot consult the help articles right now.".to_owned(),
    }
}

/// What a shopper is told when an answer is smaller than usual.
pub fn brown_out_text(step: BrownOutStep, locale: Locale) -> &'static str {
    let (ja, en) = match step {
        BrownOutStep::ShorterAnswer => {
            ("混み合っているため、短くお答えします。", "We are very busy, so this answer is shorter than usual.")
        }
        BrownOutStep::CheaperModel => (
            "混み合っているため、いつもより簡単にお答えします。",
            "We are very busy, so this answer is simpler than usual.",
        ),
        BrownOutStep::Template => (
            "混み合っているため、見つかった情報だけをお見せします。",
            "We are very busy, so here is just what we found.",
        ),
        BrownOutStep::Queued => return queued_text(locale),
    };
    match locale {
        Locale::Ja => ja,
        Locale::En => en,
    }
}

/// What a shopper is told in place of an answer that a guardrail blocked.
pub fn blocked_text(locale: Locale) -> &'static str {
    match locale {
        Locale::Ja => "申し訳ありませんが、その内容にはお答えできません。漫画やご注文についてのご質問をどうぞ。",
        Locale::En => "Sorry, I cannot help with that. Please ask me about manga or your orders.",
    }
}
