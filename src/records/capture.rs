//! What of a prompt is written down, where an org asks for it at all, and what of anything never is.
//!
//! Secrets (passwords, tokens, cookies, keys) are struck out in every mode: patterns find what looks like one, or stands
//! behind a word that says so. `redacted` also strikes out e-mail addresses, phone and card numbers. Patterns are not
//! proof against whoever wants a secret of their own to be kept; they err towards striking out too much.

use std::borrow::Cow;

use regex::{Captures, Regex};
use serde::Deserialize;
use serde_json::{Value, json};

/// What of its members' prompts an org wants in its audit rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Nothing.
    #[default]
    None,
    /// The text without secrets and without what tells a person by: e-mail addresses, phone and card numbers.
    Redacted,
    /// The text without secrets.
    Full,
}

impl Capture {
    /// As it stands in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Redacted => "redacted",
            Self::Full => "full",
        }
    }

    /// The same, read.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::None, Self::Redacted, Self::Full].into_iter().find(|capture| capture.as_str() == word)
    }
}

/// Where it stands in a row's detail.
pub const CAPTURED: &str = "captured";

/// The longest captured text, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// What stands where something was struck out.
const STRUCK: &str = "***";

/// A run of letters and digits this long is taken for a key or a token. Ids of LibreChat are shorter, or have hyphens.
const LONGEST_WORD: usize = 32;

/// Patterns of secrets. What is in the group `s`, or all of it where there is none, is struck out.
const SECRETS: &[&str] = &[
    // Private keys, whole or cut off.
    r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY( BLOCK)?-----.*?(-----END [A-Z ]*PRIVATE KEY( BLOCK)?-----|\z)",
    // Headers and the words of tokens.
    r#"(?i)\b(?:authorization|proxy-authorization|x-api-key|api-key|cookie|set-cookie)["']?\s*[:=]\s*(?P<s>[^\r\n]+)"#,
    r"(?i)\b(?:bearer|basic)\s+(?P<s>[A-Za-z0-9._~+/=-]{6,})",
    // JSON web tokens.
    r"\beyJ[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,4}",
    // Keys by the letters that their makers put in front.
    r"\b(?:sk|pk|rk|ak|whsec|tvly|gsk|xai|pplx|r8|hf|fk|npm|glpat|dop_v1|shpat|sq0atp|AC|SK)[-_][A-Za-z0-9_-]{8,}",
    r"\b(?:ghp|gho|ghu|ghs|ghr|github_pat|xox[a-z])[-_][A-Za-z0-9_-]{8,}",
    r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}",
    r"\bAIza[A-Za-z0-9_-]{20,}",
    r"\bya29\.[A-Za-z0-9_-]{10,}",
    // Passwords in addresses.
    r"(?i)\b[a-z][a-z0-9+.-]*://[^\s/@:]*:(?P<s>[^\s/@]+)@",
];

/// Behind a word that says what comes: `password: x`, `"api_key":"x"`, `token=x`, `my password is x`, in quotes or without.
const NAMED_SECRET: &str = r#"(?ix)
    (?: (?: pass(?:word|wd|phrase|code) | passwort | kennwort | mot\s+de\s+passe | contrase[nñ]a | 비밀번호 | 패스워드 | 암호 | パスワード | 密码
          | secret | token | api[\s_-]?key | access[\s_-]?key | private[\s_-]?key | credentials? | session[\s_-]?id ) [\w-]*
      | (?:\b|_) (?: pass | pwd | otp | pin ) \b )
    ["'`*]* \s* (?: [:=：＝]+ >? | \bis\b | \bist\b | 은 | 는 ) \s*
    (?: "(?P<d>[^"]*)" | '(?P<q>[^']*)' | `(?P<b>[^`]*)` | (?P<s>[^\s,;&"'`]+) )"#;

/// Patterns of what tells a person by.
const PERSONAL: &[&str] = &[
    // E-mail addresses, in any script.
    r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)+",
    // Phone numbers that begin with a plus.
    r"\+\d[\d\s().-]{6,}\d",
];

/// Digits in groups, or behind a zero, as phone numbers have them.
const GROUPS: &str = r"\(?\b\d{2,5}\)?[\s.-]\d{2,5}(?:[\s.-]\d{2,5}){1,3}\b|\b0\d{8,11}\b";

/// Digits in groups, as cards have them.
const CARD: &str = r"\b\d(?:[ -]?\d){11,18}\b";

/// Strikes out what must not be written down.
#[derive(Debug)]
pub struct Redactor {
    secrets: Vec<Regex>,
    named: Regex,
    personal: Vec<Regex>,
    groups: Regex,
    card: Regex,
}

impl Redactor {
    /// Builds the patterns once. They are linear in the text, whatever it is.
    pub fn new() -> Result<Self, regex::Error> {
        let all = |patterns: &[&str]| patterns.iter().map(|pattern| Regex::new(pattern)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            secrets: all(SECRETS)?,
            named: Regex::new(NAMED_SECRET)?,
            personal: all(PERSONAL)?,
            groups: Regex::new(GROUPS)?,
            card: Regex::new(CARD)?,
        })
    }

    /// What of a prompt an audit row holds.
    pub fn captured(&self, capture: Capture, prompt: &str) -> Option<Value> {
        if capture == Capture::None || prompt.is_empty() {
            return None;
        }
        let (text, cut) = bounded(prompt);
        let mut text = self.without_secrets(text);
        if capture == Capture::Redacted {
            text = self.without_personal(&text);
        }
        Some(json!({ "mode": capture.as_str(), "prompt": text, "cut": cut }))
    }

    /// The text without secrets.
    pub fn without_secrets(&self, text: &str) -> String {
        let mut text = Cow::Owned::<str>(without_invisible(text));
        for pattern in &self.secrets {
            text = Cow::Owned(strike(pattern, &text).into_owned());
        }
        text = Cow::Owned(strike(&self.named, &text).into_owned());
        without_long_words(&text)
    }

    fn without_personal(&self, text: &str) -> String {
        let mut text = strike_if(&self.card, text, |_, found| is_card(found));
        for pattern in &self.personal {
            text = strike(pattern, &text).into_owned();
        }
        strike_if(&self.groups, &text, is_phone)
    }
}

/// The groups of a match that hold what is to be struck out; all of it where there are none.
fn strike<'text>(pattern: &Regex, text: &'text str) -> Cow<'text, str> {
    pattern.replace_all(text, |found: &Captures<'_>| {
        let whole = found.get(0).map_or("", |whole| whole.as_str());
        let group = ["s", "d", "q", "b"].iter().find_map(|name| found.name(name));
        let (Some(group), Some(start)) = (group, found.get(0).map(|whole| whole.start())) else { return STRUCK.to_owned() };
        format!("{}{STRUCK}{}", &whole[..group.start() - start], &whole[group.end() - start..])
    })
}

/// Strikes out the matches of which `is_it` says so, by what stands before them and themselves.
fn strike_if(pattern: &Regex, text: &str, is_it: impl Fn(&str, &str) -> bool) -> String {
    let replaced = pattern.replace_all(text, |found: &Captures<'_>| {
        let (start, found) = found.get(0).map_or((0, ""), |found| (found.start(), found.as_str()));
        if is_it(&text[..start], found) { STRUCK.to_owned() } else { found.to_owned() }
    });
    replaced.into_owned()
}

/// Letters that nobody sees part words that a pattern looks for.
fn without_invisible(text: &str) -> String {
    let is_invisible = |letter: char| matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    text.chars().filter(|letter| !is_invisible(*letter)).collect()
}

/// Runs of letters and digits that are longer than any word and hold both are keys, tokens or hashes.
pub fn without_long_words(text: &str) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '_');
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        kept.push_str(&rest[..start]);
        let word = &rest[start..];
        let end = word.find(|letter| !is_part(letter)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        let mixed = word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic());
        kept.push_str(if word.len() >= LONGEST_WORD && mixed { STRUCK } else { word });
        rest = after;
    }
    kept.push_str(rest);
    kept
}

/// Whether groups of digits are a phone number: of nine to fifteen digits (ITU-T E.164), and no part of an id.
fn is_phone(before: &str, text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (9..=15).contains(&digits) && !before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '-')
}

/// Whether digits are a card's number, by the check digit that all of them have (ISO/IEC 7812-1).
fn is_card(text: &str) -> bool {
    let digits = text.chars().rev().filter_map(|digit| digit.to_digit(10));
    let sum: u32 = digits.enumerate().map(|(index, digit)| if index % 2 == 0 { digit } else { digit * 2 / 10 + digit * 2 % 10 }).sum();
    sum.is_multiple_of(10)
}

/// The text as far as it is kept, and whether it was cut. It is cut between words: half a secret looks like none.
fn bounded(text: &str) -> (&str, bool) {
    if text.len() <= MOST_BYTES {
        return (text, false);
    }
    let text = &text[..text.floor_char_boundary(MOST_BYTES)];
    (&text[..text.rfind(char::is_whitespace).unwrap_or_default()], true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::new().expect("the patterns are good")
    }

    fn prompt(capture: Capture, text: &str) -> String {
        let captured = redactor().captured(capture, text).expect("something is captured");
        captured["prompt"].as_str().expect("a text").to_owned()
    }

    #[test]
    fn nothing_is_captured_unless_asked_for() {
        assert_eq!(redactor().captured(Capture::None, "Hello"), None);
        assert_eq!(Capture::default(), Capture::None);
        assert_eq!(prompt(Capture::Full, "Hello, 안녕 🦀"), "Hello, 안녕 🦀");
    }

    /// Each holds `HUNTER2` or another secret, which no mode may keep.
    #[test]
    fn secrets_are_struck_out_in_every_mode() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjY2ZjAifQ.c2lnbmF0dXJl";
        let key = "-----BEGIN RSA PRIVATE KEY-----\nHUNTER2\n-----END RSA PRIVATE KEY-----";
        for text in [
            "password: HUNTER2",
            "PASSWORD=HUNTER2&x=1",
            "my password is HUNTER2",
            "{\"password\":\"HUNTER2\"}",
            "{\"apiKey\": \"HUNTER2\", \"a\": 1}",
            "{'client_secret' : 'HUNTER2'}",
            "db_password = \"HUNTER2 with spaces\"",
            "OPENAI_API_KEY=HUNTER2",
            "export SECRET_TOKEN='HUNTER2'",
            "**password**: HUNTER2",
            "pass\u{200b}word: HUNTER2",
            "passwort: HUNTER2",
            "비밀번호: HUNTER2",
            "비밀번호는 HUNTER2",
            "mot de passe : HUNTER2",
            "contraseña=HUNTER2",
            "password：HUNTER2",
            "Authorization: Bearer HUNTER2",
            "curl -H 'authorization: Basic HUNTER2HUNTER2'",
            "Cookie: refreshToken=HUNTER2; other=HUNTER2",
            "set-cookie: a=HUNTER2; Path=/",
            "x-api-key: HUNTER2",
            "postgres://me:HUNTER2@db/x",
            "token=HUNTER2",
            "session_id=HUNTER2",
            key,
            "-----BEGIN PRIVATE KEY-----\nHUNTER2 and then it breaks off",
            "sk-HUNTER2-abcdefgh",
            "ghp_HUNTER2abcdefgh",
            "xoxb-HUNTER2-abcdefgh",
            "AKIAHUNTER2ABCDEF0",
            "use Bearer HUNTER2xyz now",
            "abcdefHUNTER2abcdef0123456789abcdef01",
            jwt,
            &format!("look: {jwt}, and {jwt}."),
        ] {
            for capture in [Capture::Full, Capture::Redacted] {
                let kept = prompt(capture, text);
                assert!(
                    !kept.contains("HUNTER2") && !kept.contains("eyJ") && !kept.contains("c2ln"),
                    "{capture:?} keeps {kept:?} of {text:?}"
                );
                assert!(kept.contains(STRUCK), "{kept:?}");
            }
        }
    }

    #[test]
    fn what_tells_a_person_by_is_struck_out_where_that_is_asked_for() {
        for text in [
            "ada@example.org",
            "write to Ada.Lovelace+x@mail.example.co.kr!",
            "가나@예시.한국",
            "+82 10-1234-5678",
            "010-1234-5678",
            "01012345678",
            "(030) 1234 5678",
            "4111 1111 1111 1111",
            "5500-0000-0000-0004",
            "378282246310005",
        ] {
            let kept = prompt(Capture::Redacted, text);
            let digits = kept.chars().filter(char::is_ascii_digit).count();
            assert!(kept.contains(STRUCK) && !kept.contains('@') && digits < 4, "{kept:?} of {text:?}");
            assert_eq!(prompt(Capture::Full, text), text, "full keeps it");
        }
    }

    #[test]
    fn ordinary_text_stays() {
        for text in [
            "What is 12345 times 6789?",
            "In 2026 we sold 1,234,567 units.",
            "Refactor src/main.rs:120 and version 1.2.3",
            "conversation 0193a0b0-0000-7000-8000-000000000001",
            "The tokenizer counts 42",
            "Donaudampfschifffahrtsgesellschaftskapitänsmütze",
        ] {
            assert_eq!(prompt(Capture::Redacted, text), text);
        }
    }

    #[test]
    fn long_text_is_cut_between_words() {
        let text = format!("{} sk-HUNTER2HUNTER2", "word ".repeat(MOST_BYTES / 5 - 1));
        let captured = redactor().captured(Capture::Full, &format!("{text}{text}")).expect("something is captured");
        assert_eq!(captured["cut"], true);
        let kept = captured["prompt"].as_str().expect("a text");
        assert!(kept.len() <= MOST_BYTES && !kept.contains("sk-") && !kept.contains("HUNTER"), "{}", &kept[kept.len() - 40..]);
        let one = redactor().captured(Capture::Full, &"x1".repeat(MOST_BYTES)).expect("something is captured");
        assert_eq!(one["prompt"], "", "one word without end is no word");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_stands_behind_a_word_is_gone(before in "\\PC{0,40}", secret in "[A-Za-z0-9]{6,20}", after in "\\PC{0,40}") {
            let kept = prompt(Capture::Full, &format!("{before} password={secret} {after}"));
            let elsewhere = format!("{before}{after}").contains(&secret);
            prop_assert!(elsewhere || !kept.contains(&secret), "{kept:?} keeps {secret}");
        }
    }
}
