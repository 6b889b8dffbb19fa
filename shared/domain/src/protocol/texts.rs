//! The words a shopper reads, in both languages.

use super::{Dependency, ErrorCode, Locale};

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

/// What a shopper is told when a part of the store does not answer.
pub fn degraded_text(dependency: Dependency, locale: Locale) -> &'static str {
    let (ja, en) = match dependency {
        Dependency::Catalog => ("ただいま商品情報を確認できません。", "We cannot look up products right now."),
        Dependency::Recommendations => {
            ("ただいまおすすめを表示できません。", "We cannot show recommendations right now.")
        }
        Dependency::Orders => (
            "ただいまご注文を確認できません。注文履歴のページをご覧ください。",
            "We cannot look up orders right now. Please see your order page.",
        ),
        Dependency::Knowledge => {
            ("ただいまヘルプ記事を参照できません。", "We cannot consult the help articles right now.")
        }
    };
    match locale {
        Locale::Ja => ja,
        Locale::En => en,
    }
}
