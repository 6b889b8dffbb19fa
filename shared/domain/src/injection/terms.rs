//! The words that instructions to a model are made of, and where they stand in a text.

use super::normal::is_japanese;

/// What words mean to the rules; a word may mean several things.
pub(super) type Meanings = u64;

/// Declares the meanings as one bit each.
macro_rules! meanings {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[repr(u8)]
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "names of constants")]
        enum Bit { $($name),* }
        $($(#[$doc])* pub(super) const $name: Meanings = 1 << Bit::$name as u8;)*
    };
}

meanings! {
    /// ignore, forget
    OVERRIDE,
    /// previous, above, your
    EARLIER,
    /// all, any
    ALL,
    /// instructions, prompt: what a model has
    ORDERS,
    /// rules, commands: what a model and others have
    LAWS,
    /// everything
    EVERYTHING,
    /// above, before this
    ABOVE,
    /// told, instructed
    TOLD,
    /// print, leak
    REVEAL,
    /// show, what is: what shoppers say too
    ASK,
    /// your, hidden
    OWN,
    /// hidden, system: not only yours
    HIDDEN,
    /// for, about: names what rules are about
    TOPIC,
    /// system prompt
    SECRET,
    /// you are now
    BECOME,
    /// act as
    ACT,
    /// a, the
    ARTICLE,
    /// AI, assistant
    PERSONA,
    /// unrestricted, DAN
    UNBOUND,
    /// developer mode
    MODE,
    /// enable, enter
    ENTER,
    /// from now on
    HENCEFORTH,
    /// answer, respond
    RESPOND,
    /// without
    WITHOUT,
    /// follow, obey
    FOLLOW,
    /// instead
    INSTEAD,
    /// decode
    DECODE,
    /// base64
    CODE,
    /// note to, dear
    ADDRESS,
    /// tell, inform
    TELL,
    /// the customer
    CUSTOMER,
    /// an element of the prompt or a mark of a chat template
    MARK,
    /// `system:` at the beginning of a line
    SYSTEM_LINE,
    /// `human:` there
    HUMAN_LINE,
    /// `assistant:` there
    ASSISTANT_LINE,
    /// you, must, always: how orders begin
    ORDERING,
    /// これまでの
    EARLIER_JA,
    /// 指示
    ORDERS_JA,
    /// 無視して
    IGNORE_TE,
    /// 無視しろ
    IGNORE_JA,
    /// ください, 、
    PLEASE,
    /// と: tells what another said
    QUOTED,
    /// プロンプト
    SECRET_JA,
    /// 表示, 教えて
    REVEAL_JA,
    /// あなたは今から
    BECOME_JA,
    /// 管理者モード
    MODE_JA,
    /// 有効
    ENTER_JA,
    /// 代わりに
    INSTEAD_JA,
    /// 従って
    FOLLOW_JA,
    /// お客様に
    CUSTOMER_JA,
    /// 伝えて
    TELL_JA,
    /// 制限なし
    WITHOUT_JA,
    /// 答えて
    RESPOND_JA,
    /// new
    NEW,
}

/// A word that matters, and where it stands. Words of Latin letters, Japanese characters and other signs count as one each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub(super) meanings: Meanings,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) sentence: usize,
}

/// The words that begin with a character, in the normal form, and what they mean.
fn words(first: char) -> &'static [(&'static str, Meanings)] {
    match first {
        'a' => &[
            ("a", ARTICLE),
            ("above", EARLIER | ABOVE),
            ("about", TOPIC),
            ("act as", ACT),
            ("act like", ACT),
            ("activate", ENTER),
            ("ai", PERSONA),
            ("all", ALL | EVERYTHING),
            ("always", ORDERING),
            ("as dan", MARK),
            ("an", ARTICLE),
            ("answer", RESPOND | ORDERING),
            ("any", ALL),
            ("assistant", PERSONA),
            ("assistant:", ASSISTANT_LINE),
            ("attention", ADDRESS),
        ],
        'b' => &[
            ("base64", CODE),
            ("before this", ABOVE),
            ("behave as", ACT),
            ("behave like", ACT),
            ("bot", PERSONA),
            ("bypass", OVERRIDE),
        ],
        'c' => &[
            ("chatbot", PERSONA),
            ("chatgpt", PERSONA),
            ("circumvent", OVERRIDE),
            ("claude", PERSONA),
            ("command", LAWS),
            ("commands", LAWS),
            ("comply", FOLLOW),
            ("confidential", OWN | HIDDEN),
            ("configuration", ORDERS),
            ("constraints", LAWS),
            ("content policy", ORDERS),
            ("copy", REVEAL),
            ("customer", CUSTOMER),
            ("customers", CUSTOMER),
        ],
        'd' => &[
            ("dan", UNBOUND),
            ("dear", ADDRESS),
            ("debug mode", MODE),
            ("decode", DECODE),
            ("developer", OWN | HIDDEN | EARLIER),
            ("developer mode", MODE),
            ("developer message", SECRET),
            ("directions", LAWS),
            ("directive", ORDERS),
            ("directives", ORDERS),
            ("disable", OVERRIDE),
            ("discard", OVERRIDE),
            ("disclose", REVEAL),
            ("display", REVEAL),
            ("disregard", OVERRIDE),
            ("do anything now", UNBOUND),
            ("do not", ORDERING),
            ("do not follow", OVERRIDE),
            ("do not obey", OVERRIDE),
            ("don't follow", OVERRIDE),
            ("don't obey", OVERRIDE),
            ("dump", REVEAL),
        ],
        'e' => &[
            ("earlier", EARLIER | ABOVE),
            ("echo", REVEAL),
            ("enable", ENTER),
            ("end of system prompt", MARK),
            ("enter", ENTER),
            ("erase", OVERRIDE),
            ("every", ALL),
            ("everything", EVERYTHING),
            ("execute", FOLLOW),
            ("existing", EARLIER),
            ("expose", REVEAL),
        ],
        'f' => &[
            ("filters", LAWS),
            ("follow", FOLLOW),
            ("following", NEW),
            ("for", TOPIC),
            ("forget", OVERRIDE),
            ("former", EARLIER),
            ("from now on", HENCEFORTH),
            ("from this point on", HENCEFORTH),
        ],
        'g' => &[("give me", ASK), ("guardrails", ORDERS), ("guidelines", ORDERS)],
        'h' => &[("hidden", OWN | HIDDEN), ("human:", HUMAN_LINE), ("henceforth", HENCEFORTH)],
        'i' => &[
            ("ignore", OVERRIDE | ORDERING),
            ("ignoring", OVERRIDE),
            ("inform", TELL),
            ("initial", OWN | HIDDEN | EARLIER),
            ("instead", INSTEAD),
            ("instruction", ORDERS | ADDRESS),
            ("instructions", ORDERS | ADDRESS),
            ("instructed", TOLD),
            ("internal", OWN | HIDDEN),
            ("if you are", ADDRESS),
        ],
        'j' => &[("jailbroken", UNBOUND), ("jailbreak mode", MODE)],
        'l' => &[
            ("language model", PERSONA),
            ("leak", REVEAL),
            ("limitations", LAWS),
            ("list", ASK),
            ("llm", PERSONA),
            ("llms", PERSONA),
        ],
        'm' => &[("message to", ADDRESS), ("my", NEW), ("must", ORDERING)],
        'n' => &[
            ("neglect", OVERRIDE),
            ("never", ORDERING),
            ("new", NEW | ORDERING),
            ("no longer bound", UNBOUND),
            ("no", WITHOUT),
            ("note to", ADDRESS),
            ("note for", ADDRESS),
        ],
        'o' => &[
            ("obey", FOLLOW),
            ("on", TOPIC),
            ("of", TOPIC),
            ("only", NEW),
            ("orders", LAWS),
            ("original", OWN | EARLIER | HIDDEN),
            ("output", REVEAL | RESPOND),
            ("override", OVERRIDE),
            ("overwrite", OVERRIDE),
        ],
        'p' => &[
            ("paste", REVEAL),
            ("persona", PERSONA),
            ("preceding", EARLIER),
            ("pretend", ACT),
            ("previous", EARLIER),
            ("previously", TOLD),
            ("print", REVEAL),
            ("prior", EARLIER | ABOVE),
            ("programming", ORDERS),
            ("prompt", ORDERS),
            ("prompts", ORDERS),
        ],
        'r' => &[
            ("recite", REVEAL),
            ("recommend only", TELL),
            ("regarding", TOPIC),
            ("repeat", REVEAL),
            ("reply", RESPOND),
            ("respond", RESPOND | ORDERING),
            ("restrictions", LAWS),
            ("reveal", REVEAL),
            ("roleplay as", ACT),
            ("role play as", ACT),
            ("rot13", CODE),
            ("rules", LAWS),
            ("run", FOLLOW),
        ],
        's' => &[
            ("safeguards", ORDERS),
            ("safety", EARLIER),
            ("secret", OWN | HIDDEN),
            ("share", ASK),
            ("shopper", CUSTOMER),
            ("shoppers", CUSTOMER),
            ("show", ASK),
            ("simulate", RESPOND),
            ("so far", TOLD),
            ("stop following", OVERRIDE),
            ("stop obeying", OVERRIDE),
            ("summarize", ASK),
            ("switch to", ENTER),
            ("system", OWN | HIDDEN | EARLIER),
            ("system:", SYSTEM_LINE),
            ("system message", SECRET),
            ("system prompt", SECRET),
            ("system prompts", SECRET),
            ("system instructions", SECRET),
        ],
        't' => &[
            ("tell", ASK | TELL),
            ("the", ARTICLE),
            ("text", EVERYTHING),
            ("the user", ORDERING),
            ("these", ALL | NEW),
            ("those", ALL),
            ("told", TOLD),
            ("training", LAWS),
            ("translate", ASK),
        ],
        'u' => &[
            ("unfiltered", UNBOUND),
            ("unrestricted", UNBOUND),
            ("uncensored", UNBOUND),
            ("updated", NEW),
            ("user", CUSTOMER),
            ("users", CUSTOMER),
            ("user:", HUMAN_LINE),
        ],
        'v' => &[("verbatim", REVEAL)],
        'w' => &[
            ("what", EVERYTHING | ASK),
            ("what's", ASK),
            ("were you given", TOLD),
            ("without", WITHOUT),
            ("words", EVERYTHING),
            ("write out", REVEAL),
        ],
        'y' => &[
            ("you", ORDERING),
            ("you are dan", MARK),
            ("you are now", BECOME),
            ("you were given", TOLD),
            ("you're now", BECOME),
            ("you are no longer", BECOME),
            ("you will now", BECOME),
            ("you must now", BECOME),
            ("your", EARLIER | OWN | ORDERING),
            ("your new role", BECOME),
        ],
        '<' => &[
            ("<|im_start|>", MARK),
            ("<|im_end|>", MARK),
            ("<|system|>", MARK),
            ("<|user|>", MARK),
            ("<|assistant|>", MARK),
            ("<|endoftext|>", MARK),
            ("<|eot_id|>", MARK),
            ("<|start_header_id|>", MARK),
            ("<|end_of_turn|>", MARK),
            ("<<sys>>", MARK),
            ("<</sys>>", MARK),
            ("<store_data", MARK),
            ("</store_data", MARK),
            ("<question", MARK),
            ("</question", MARK),
            ("<conversation", MARK),
            ("</conversation", MARK),
            ("</shopper", MARK),
            ("<shopper>", MARK),
            ("</assistant", MARK),
            ("<assistant>", MARK),
            ("<system>", MARK),
            ("</system", MARK),
            ("<instructions>", MARK),
            ("</instructions", MARK),
            ("<admin>", MARK),
        ],
        '&' => &[("&lt;/store_data", MARK), ("&lt;/question", MARK), ("&lt;/conversation", MARK), ("&lt;|im_", MARK)],
        '\\' => &[("\\u003c/store_data", MARK), ("\\u003c/question", MARK), ("\\u003c/conversation", MARK)],
        '[' => &[
            ("[inst]", MARK),
            ("[/inst]", MARK),
            ("[system]", MARK),
            ("[system message]", MARK),
            ("[system prompt]", MARK),
            ("[assistant]", MARK),
            ("[developer]", MARK),
        ],
        '#' => &[
            ("### system", MARK),
            ("###system", MARK),
            ("### instruction", MARK),
            ("### human", MARK),
            ("### user", MARK),
            ("### assistant", MARK),
            ("### response", MARK),
            ("## system:", MARK),
            ("# system:", MARK),
        ],
        '、' | '。' | ',' | '!' | '.' | '\n' | ':' => &[("", PLEASE)],
        'こ' => &[
            ("これまで", EARLIER_JA),
            ("これより", HENCEFORTH),
            ("これからあなたは", BECOME_JA),
            ("これよりあなたは", BECOME_JA),
        ],
        '今' => &[
            ("今まで", EARLIER_JA),
            ("今からあなたは", BECOME_JA),
            ("今から君は", BECOME_JA),
            ("今からお前は", BECOME_JA),
            ("今後あなたは", BECOME_JA),
            ("今すぐ", PLEASE),
        ],
        'い' => &[("いままで", EARLIER_JA), ("いただ", PLEASE)],
        '以' => &[("以前", EARLIER_JA), ("以上の", EARLIER_JA), ("以下", PLEASE | NEW)],
        '上' => &[
            ("上記", EARLIER_JA),
            ("上の", EARLIER_JA),
            ("上書きして", IGNORE_TE),
            ("上書きしろ", IGNORE_JA),
            ("上書きせよ", IGNORE_JA),
        ],
        '前' => &[("前の", EARLIER_JA), ("前述の", EARLIER_JA)],
        '先' => &[("先ほど", EARLIER_JA), ("先程", EARLIER_JA)],
        'さ' => &[("さっき", EARLIER_JA)],
        'す' => &[("すべて", EARLIER_JA | PLEASE)],
        '全' => &[("全て", EARLIER_JA | PLEASE), ("全部", EARLIER_JA | PLEASE), ("全文", REVEAL_JA)],
        'あ' => &[
            ("あなたの", EARLIER_JA | PLEASE),
            ("あなたに与えられた", EARLIER_JA),
            ("あなたはdan", MARK),
            ("あなたへの", EARLIER_JA),
            ("あなたは今から", BECOME_JA),
            ("あなたはこれから", BECOME_JA),
            ("あなたは今後", BECOME_JA),
            ("あなたはもう", BECOME_JA),
            ("あなたは", PLEASE),
        ],
        '君' => &[("君の", EARLIER_JA), ("君は今から", BECOME_JA), ("君はこれから", BECOME_JA)],
        'お' => {
            &[("お前の", EARLIER_JA), ("お前は今から", BECOME_JA), ("お客様", CUSTOMER_JA), ("お客さま", CUSTOMER_JA)]
        }
        'シ' => &[
            ("システムの", EARLIER_JA | PLEASE),
            ("システム上の", EARLIER_JA),
            ("システムプロンプト", SECRET_JA | SECRET | PLEASE | ORDERS_JA),
            ("システムメッセージ", SECRET_JA | SECRET),
            ("システム指示", SECRET_JA | SECRET | ORDERS_JA),
        ],
        '元' => &[("元の", EARLIER_JA)],
        '最' => &[("最初の", EARLIER_JA)],
        '与' => &[("与えられた", EARLIER_JA)],
        '既' => &[("既存の", EARLIER_JA)],
        '従' => &[
            ("従来の", EARLIER_JA),
            ("従わないで", IGNORE_TE),
            ("従わなくて", IGNORE_TE),
            ("従うな", IGNORE_JA),
            ("従って", FOLLOW_JA),
            ("従い", FOLLOW_JA),
            ("従え", FOLLOW_JA),
        ],
        '直' => &[("直前の", EARLIER_JA)],
        '過' => &[("過去の", EARLIER_JA)],
        '開' => &[("開発者の", EARLIER_JA), ("開発者モード", MODE_JA), ("開示", REVEAL_JA)],
        '運' => &[("運営の", EARLIER_JA)],
        '内' => {
            &[("内部の", EARLIER_JA), ("内部指示", SECRET_JA), ("内部ルール", SECRET_JA), ("内部プロンプト", SECRET_JA)]
        }
        '初' => &[("初期プロンプト", SECRET_JA), ("初期指示", SECRET_JA), ("初期設定の指示", SECRET_JA)],
        '隠' => &[("隠された指示", SECRET_JA), ("隠しプロンプト", SECRET_JA)],
        '秘' => &[("秘密の指示", SECRET_JA), ("秘密", PLEASE)],
        '指' => &[("指示", ORDERS_JA), ("指令", ORDERS_JA)],
        '命' => &[("命令", ORDERS_JA)],
        'ル' => &[("ルール", ORDERS_JA)],
        'プ' => &[("プロンプト", ORDERS_JA | SECRET_JA | PLEASE)],
        '制' => {
            &[("制約", ORDERS_JA), ("制限", ORDERS_JA | PLEASE), ("制限なし", WITHOUT_JA), ("制限無し", WITHOUT_JA)]
        }
        '設' => &[("設定", ORDERS_JA)],
        '規' => &[("規則", ORDERS_JA), ("規約", ORDERS_JA)],
        'ガ' => &[("ガイドライン", ORDERS_JA)],
        'イ' => &[("インストラクション", ORDERS_JA)],
        '無' => &[
            ("無視して", IGNORE_TE),
            ("無視で", IGNORE_TE),
            ("無視しろ", IGNORE_JA),
            ("無視せよ", IGNORE_JA),
            ("無視しなさい", IGNORE_JA),
            ("無視すること", IGNORE_JA),
            ("無視するように", IGNORE_JA),
            ("無視し、", IGNORE_JA),
            ("無効にして", IGNORE_TE),
            ("無効にしろ", IGNORE_JA),
            ("無効化して", IGNORE_TE),
            ("無効化し、", IGNORE_JA),
            ("無効です", IGNORE_JA),
            ("無効とし", IGNORE_JA),
            ("無制限モード", MODE_JA),
        ],
        '忘' => &[("忘れて", IGNORE_TE), ("忘れろ", IGNORE_JA), ("忘れなさい", IGNORE_JA)],
        '破' => &[("破棄して", IGNORE_TE), ("破棄し、", IGNORE_JA), ("破棄せよ", IGNORE_JA), ("破って", IGNORE_TE)],
        'リ' => &[("リセットして", IGNORE_TE), ("リセットし、", IGNORE_JA)],
        '解' => &[("解除して", IGNORE_TE | ENTER_JA), ("解除し、", IGNORE_JA)],
        '捨' => &[("捨てて", IGNORE_TE), ("捨てろ", IGNORE_JA)],
        '撤' => &[("撤回して", IGNORE_TE)],
        'く' => &[("ください", PLEASE), ("くれ", PLEASE)],
        '下' => &[("下さい", PLEASE)],
        'ほ' => &[("ほしい", PLEASE)],
        '欲' => &[("欲しい", PLEASE)],
        '次' => &[("次の", PLEASE | NEW)],
        '新' => &[("新しい", PLEASE | NEW), ("新たな", PLEASE | NEW)],
        '代' => &[("代わりに", PLEASE | INSTEAD_JA)],
        'か' => &[("かわりに", PLEASE | INSTEAD_JA)],
        '私' => &[("私の", PLEASE | NEW), ("私に", PLEASE)],
        '自' => &[("自由に", PLEASE)],
        'と' => &[
            ("と", QUOTED),
            ("として答え", RESPOND_JA),
            ("として振る舞", RESPOND_JA),
            ("として回答", RESPOND_JA),
            ("として行動", RESPOND_JA),
        ],
        '表' => &[("表示", REVEAL_JA)],
        '見' => &[("見せて", REVEAL_JA), ("見せろ", REVEAL_JA)],
        '出' => &[("出力", REVEAL_JA), ("出して", REVEAL_JA)],
        '公' => &[("公開して", REVEAL_JA)],
        '漏' => &[("漏らし", REVEAL_JA)],
        '復' => &[("復唱", REVEAL_JA)],
        '繰' => &[("繰り返し", REVEAL_JA), ("繰り返せ", REVEAL_JA)],
        '書' => &[("書き出", REVEAL_JA)],
        '要' => &[("要約して", REVEAL_JA)],
        '翻' => &[("翻訳して", REVEAL_JA)],
        '貼' => &[("貼り付け", REVEAL_JA)],
        '吐' => &[("吐き出", REVEAL_JA), ("吐け", REVEAL_JA)],
        '教' => &[("教えて", REVEAL_JA), ("教えろ", REVEAL_JA)],
        '答' => {
            &[("答えて", REVEAL_JA | RESPOND_JA | TELL_JA), ("答えろ", REVEAL_JA | RESPOND_JA), ("答え", RESPOND_JA)]
        }
        '回' => &[("回答して", RESPOND_JA | TELL_JA), ("回答し", RESPOND_JA), ("回答せよ", RESPOND_JA)],
        '管' => &[("管理者モード", MODE_JA), ("管理者です", PERSONA), ("管理者として", MODE_JA)],
        'デ' => &[("デバッグモード", MODE_JA), ("デコード", DECODE)],
        'ジ' => &[("ジェイルブレイク", MODE_JA)],
        '脱' => &[("脱獄モード", MODE_JA)],
        '何' => &[("何です", REVEAL_JA)],
        '有' => &[("有効", ENTER_JA)],
        'オ' => &[("オンに", ENTER_JA)],
        '入' => &[("入って", ENTER_JA), ("入れ", ENTER_JA)],
        '起' => &[("起動", ENTER_JA)],
        '切' => &[("切り替え", ENTER_JA)],
        '移' => &[("移行", ENTER_JA)],
        'ア' => &[("アシスタント", PERSONA)],
        'ボ' => &[("ボット", PERSONA)],
        'チ' => &[("チャットボット", PERSONA)],
        '海' => &[("海賊です", PERSONA)],
        'な' => &[("なりき", RESPOND_JA)],
        'フ' => &[("フィルターなし", WITHOUT_JA), ("フィルタなし", WITHOUT_JA)],
        '言' => &[("言語モデル", PERSONA), ("言って", TELL_JA), ("言え", TELL_JA)],
        '顧' => &[("顧客", CUSTOMER_JA)],
        'ユ' => &[("ユーザー", CUSTOMER_JA)],
        '購' => &[("購入者", CUSTOMER_JA)],
        '伝' => &[("伝えて", TELL_JA), ("伝えろ", TELL_JA), ("伝えなさい", TELL_JA)],
        '案' => &[("案内して", TELL_JA), ("案内せよ", TELL_JA)],
        '勧' => &[("勧めて", TELL_JA), ("勧めろ", TELL_JA)],
        '推' => &[("推薦して", TELL_JA), ("推薦せよ", TELL_JA)],
        '実' => &[("実行", FOLLOW_JA)],
        'へ' => &[
            ("への指示", ADDRESS),
            ("への命令", ADDRESS),
            ("への伝言", ADDRESS),
            ("へ:", ADDRESS),
            ("へ。", ADDRESS),
            ("へ、", ADDRESS),
        ],
        _ => &[],
    }
}

/// The words that matter in a text of the normal form, in their order.
pub(super) fn find(normal: &[char]) -> Vec<Term> {
    let mut terms = Vec::new();
    let (mut token, mut sentence, mut at) = (0, 0, 0);
    while let Some(rest) = normal.get(at..).filter(|rest| !rest.is_empty()) {
        let length = token_chars(rest);
        let line_start = at == 0 || normal.get(at - 1) == Some(&'\n');
        let first = rest.first().copied().unwrap_or(' ');
        if first == ' ' {
            at += 1;
            continue;
        }
        let mut note = |written: &[char]| {
            for (word, meanings) in words(written.first().copied().unwrap_or(first)) {
                if let Some(tokens) = tokens_of(written, word) {
                    let is_line = meanings & (SYSTEM_LINE | HUMAN_LINE | ASSISTANT_LINE) != 0;
                    if !is_line || line_start {
                        terms.push(Term { meanings: *meanings, start: token, end: token + tokens, sentence });
                    }
                }
            }
        };
        note(rest);
        let word = rest.get(..length).unwrap_or_default();
        if first.is_ascii_alphanumeric() && word.iter().any(|character| !character.is_ascii_alphabetic()) {
            if is_code(word) {
                terms.push(Term { meanings: CODE, start: token, end: token + 1, sentence });
            } else if let Some(plain) = without_figures(word) {
                note(&plain);
            }
        } else if is_code(word) {
            terms.push(Term { meanings: CODE, start: token, end: token + 1, sentence });
        }
        token += 1;
        at += length;
        let next = normal.get(at);
        let ends = match first {
            '。' | '!' | '?' => true,
            '.' => next.is_none_or(|next| matches!(next, ' ' | '\n')),
            '\n' => next == Some(&'\n'),
            _ => false,
        };
        sentence += usize::from(ends);
    }
    // A text ends as a sentence does.
    terms.push(Term { meanings: PLEASE, start: token, end: token + 1, sentence });
    terms
}

/// How many characters belong to the first token.
fn token_chars(rest: &[char]) -> usize {
    let is_inner =
        |character: &&char| character.is_ascii_alphanumeric() || matches!(character, '\'' | '@' | '$' | '+' | '=');
    match rest.first() {
        Some(first) if first.is_ascii_alphanumeric() || matches!(first, '@' | '$') => {
            rest.iter().take_while(is_inner).count().max(1)
        }
        _ => 1,
    }
}

/// How many tokens `word` is, if the text begins with it and, in English, ends it there.
fn tokens_of(text: &[char], word: &str) -> Option<usize> {
    let mut length = 0;
    let mut tokens = 1;
    for wanted in word.chars() {
        let found = *text.get(length)?;
        if found != wanted && !(wanted == ' ' && found == '\n') {
            return None;
        }
        tokens += usize::from(wanted == ' ' || is_japanese(wanted) && length > 0);
        length += 1;
    }
    let ends_word = word.ends_with(|last: char| last.is_ascii_alphanumeric());
    (!ends_word || !text.get(length).is_some_and(char::is_ascii_alphanumeric)).then_some(tokens)
}

/// The word with letters for the figures that stand for them: `1gn0re`.
fn without_figures(word: &[char]) -> Option<Vec<char>> {
    if !word.iter().any(char::is_ascii_alphabetic) {
        return None;
    }
    let letter = |character: &char| match character {
        '0' => 'o',
        '1' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => *other,
    };
    Some(word.iter().map(letter).collect())
}

/// Base64 and the like: no word is so long.
fn is_code(word: &[char]) -> bool {
    const CODE_CHARS_MIN: usize = 24;
    word.len() >= CODE_CHARS_MIN
}

/// Whether a text spells words of an instruction letter by letter: `i g n o r e`, `i.g.n.o.r.e`.
pub(super) fn is_spelled_out(normal: &[char]) -> bool {
    const WORDS: [&str; 12] = [
        "ignore",
        "disregard",
        "forget",
        "override",
        "reveal",
        "previous",
        "instruction",
        "system",
        "prompt",
        "rules",
        "above",
        "bypass",
    ];
    const LETTERS_MIN: usize = 8;
    let letter = |at: usize| normal.get(at).filter(|character| character.is_ascii_alphabetic());
    let mut at = 0;
    while at < normal.len() {
        let mut spelled = String::new();
        // Letters stand alone with up to two signs between them.
        while let Some(found) = letter(at)
            && letter(at + 1).is_none()
        {
            spelled.push(*found);
            at += 1;
            let gap = (0..3).take_while(|more| letter(at + more).is_none() && at + more < normal.len()).count();
            at += gap;
        }
        if spelled.len() >= LETTERS_MIN && WORDS.iter().filter(|word| spelled.contains(**word)).count() >= 2 {
            return true;
        }
        // On to the next letter that follows none.
        while letter(at).is_some() {
            at += 1;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_stand_under_their_first_character() {
        for first in '\0'..='\u{9fff}' {
            for (word, _) in words(first) {
                assert!(word.is_empty() || word.starts_with(first), "{word} under {first}");
            }
        }
    }
}
