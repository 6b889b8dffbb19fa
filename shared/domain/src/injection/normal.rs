//! A text as a person sees it.

use unicode_normalization::char::{compose, decompose_compatible, is_combining_mark};

/// The text in lower case, with one form of each letter, one space where there are several and none between Japanese
/// characters, and nothing that is not seen. Tag characters, which hide ASCII from people, are shown.
pub(super) fn normalise(text: &str) -> Vec<char> {
    let mut normal = Vec::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => push_space(&mut normal, '\n'),
            ' ' | '\t' | '\r' | '\u{3000}' => push_space(&mut normal, ' '),
            '!'..='~' => push(&mut normal, character.to_ascii_lowercase()),
            '、' | '。' | 'ぁ'..='ゖ' | 'ァ'..='ヿ' | '一'..='\u{9fff}' => push(&mut normal, character),
            // One of these may stand for eighteen letters, none of which matters.
            '\u{fb50}'..='\u{fdff}' => normal.push(character),
            _ if is_invisible(character) => {}
            '\u{e0020}'..='\u{e007e}' => {
                let hidden = u32::from(character).checked_sub(0xe0000).and_then(char::from_u32);
                match hidden {
                    Some(' ') | None => push_space(&mut normal, ' '),
                    Some(hidden) => push(&mut normal, hidden.to_ascii_lowercase()),
                }
            }
            _ => decompose_compatible(character, |part| {
                for part in part.to_lowercase() {
                    push_part(&mut normal, part);
                }
            }),
        }
    }
    normal
}

/// A part of a character: an accent is left out, a voicing mark joins its kana.
fn push_part(normal: &mut Vec<char>, part: char) {
    match part {
        '\u{3099}' | '\u{309a}' => {
            if let Some(last) = normal.last_mut() {
                *last = compose(*last, part).unwrap_or(*last);
            }
        }
        _ if is_combining_mark(part) => {}
        _ if part.is_whitespace() => push_space(normal, ' '),
        _ => push(normal, latin(part)),
    }
}

fn push(normal: &mut Vec<char>, character: char) {
    if is_japanese(character)
        && let [.., before, ' '] = normal.as_slice()
        && is_japanese(*before)
    {
        normal.pop();
    }
    normal.push(character);
}

/// A space, unless there is one or it stands in a tag. A new line outlasts other space.
fn push_space(normal: &mut Vec<char>, space: char) {
    match normal.last() {
        None | Some('\n' | '<' | '/' | '|') => {}
        Some(' ') if space == ' ' => {}
        Some(' ') => {
            normal.pop();
            normal.push(space);
        }
        Some(_) => normal.push(space),
    }
}

pub(super) fn is_japanese(character: char) -> bool {
    ('\u{3041}'..='\u{9fff}').contains(&character)
}

fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'
            | '\u{1160}'
            | '\u{180b}'..='\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{e0001}'
            | '\u{e007f}'
            | '\u{e0100}'..='\u{e01ef}'
    )
}

/// The Latin letter that a Cyrillic or Greek one looks like.
fn latin(character: char) -> char {
    match character {
        'а' | 'α' => 'a',
        'в' | 'ь' => 'b',
        'с' | 'ϲ' => 'c',
        'ԁ' => 'd',
        'е' | 'ε' => 'e',
        'ɡ' => 'g',
        'һ' | 'н' => 'h',
        'і' | 'ι' | 'ı' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'ӏ' | 'ł' => 'l',
        'м' => 'm',
        'ո' | 'п' | 'η' => 'n',
        'о' | 'ο' | 'ø' => 'o',
        'р' | 'ρ' => 'p',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' | 'ս' => 'u',
        'ν' | 'ѵ' => 'v',
        'ѡ' | 'ԝ' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        '〈' | '‹' | '＜' => '<',
        '〉' | '›' | '＞' => '>',
        _ => character,
    }
}
