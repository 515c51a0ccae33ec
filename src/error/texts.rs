//! From a rejection to sentences: the language is chosen and foreign text is made harmless here.

use super::facts::Opening;
use super::{AnswerContext, Rejection, english, korean};
use crate::identity::directory::Language;
use crate::limits::Refusal;

/// The longest foreign name that is shown, in characters.
const LONGEST_NAME: usize = 80;

/// The sentences of a rejection with its reference at their end, without a brace.
pub(super) fn sentences(rejection: &Rejection, context: &AnswerContext<'_>) -> String {
    let (said, label) = match context.language {
        Language::En => (english::say(rejection, context), "Reference"),
        Language::Ko => (korean::say(rejection, context), "참조 번호"),
    };
    let reference = clean(context.reference);
    let whole = if reference.is_empty() { said } else { format!("{said} {label}: {reference}") };
    without_braces(&whole)
}

/// The words of a page around its sentences: its title and what it calls the request's id.
pub(super) fn page_words(language: Language) -> (&'static str, &'static str) {
    match language {
        Language::En => ("This cannot be shown right now", "Request"),
        Language::Ko => ("지금은 표시할 수 없습니다", "요청"),
    }
}

/// When the limit of this refusal opens again, for the person of this context.
pub(super) fn opening(refusal: &Refusal, context: &AnswerContext<'_>) -> Opening {
    Opening::of(refusal.resets_at(), context.now, context.zone)
}

/// Foreign text as it may stand in a sentence: on one line, without braces and invisible or direction-changing
/// characters, and not longer than a name should be.
pub(super) fn clean(foreign: &str) -> String {
    let mut kept = foreign
        .chars()
        .map(|letter| match letter {
            '"' => '\'',
            space if space.is_whitespace() => ' ',
            other => other,
        })
        .filter(|letter| !letter.is_control() && !is_invisible(*letter))
        .take(LONGEST_NAME + 1)
        .collect::<String>();
    if let Some((cut, _)) = kept.char_indices().nth(LONGEST_NAME) {
        kept.truncate(cut);
        kept.push('…');
    }
    without_braces(kept.trim())
}

fn without_braces(text: &str) -> String {
    text.replace('{', "(").replace('}', ")")
}

/// Characters that show nothing, or turn the direction of what follows them.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A size in the unit it is a whole number of: `3 MB`, `64 KB`, `1,000 bytes`.
pub(super) fn size(bytes: u64, bytes_word: &str) -> String {
    let whole = |unit: u64| (bytes >= unit && bytes.is_multiple_of(unit)).then(|| super::amounts::thousands(u128::from(bytes / unit)));
    if let Some(megabytes) = whole(1 << 20) {
        format!("{megabytes} MB")
    } else if let Some(kilobytes) = whole(1 << 10) {
        format!("{kilobytes} KB")
    } else {
        format!("{}{bytes_word}", super::amounts::thousands(u128::from(bytes)))
    }
}
