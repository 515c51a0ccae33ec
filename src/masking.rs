//! Takes secrets out of text that others wrote, before any of it is kept: passwords, tokens, cookies and keys. It would
//! rather hide an innocent identifier than show a secret, and it reads the text once.

/// What stands where a secret was.
pub const MASK: &str = "***";

/// Words from this length on that mix letters and digits are taken for random: keys, hashes, session ids.
const RANDOM_LENGTH: usize = 20;

/// How much of a long text is looked at, in bytes, for a result that is much shorter.
const LOOKED_AT: usize = 4096;

/// What secrets are called, in lower case and without `-` and `_`. A name that ends in one of them is one too.
const NAMES: [&str; 15] = [
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "signature",
    "session",
];

/// How a value says that the secret is the next word.
const SCHEMES: [&str; 3] = ["bearer", "basic", "digest"];

/// What keys begin with that their makers marked as such.
const PREFIXES: [&str; 13] = ["tgk_", "sk-", "pk-", "rk-", "sk_", "pk_", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "xoxp-"];

/// The first `most` characters of a text on one line, without its secrets.
pub fn beginning(text: &str, most: usize) -> String {
    let head = if text.len() > LOOKED_AT {
        let head = &text[..text.floor_char_boundary(LOOKED_AT)];
        // A word that was cut in two would not be known for what it is.
        head.rfind(char::is_whitespace).map_or("", |end| &head[..end])
    } else {
        text
    };
    let line: String = head.split(|letter: char| letter.is_whitespace() || letter.is_control()).filter(|word| !word.is_empty()).fold(
        String::with_capacity(head.len()),
        |mut line, word| {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            line
        },
    );
    masked(&line).chars().take(most).collect()
}

/// The text without its secrets.
pub fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut next = Next::Anything;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = &rest[..rest.find(|letter| !in_word(letter)).unwrap_or(rest.len())];
        let (shown, read, then) = if let Some(end) = userinfo(rest) {
            ("://***", end, Next::Anything)
        } else if matches!(next, Next::Value | Next::Secret) && leads_in(first) {
            (&rest[..first.len_utf8()], first.len_utf8(), next)
        } else if is_scheme(word) && (next == Next::Value || rest[word.len()..].starts_with(' ')) {
            (word, word.len(), Next::Secret)
        } else if matches!(next, Next::Value | Next::Secret) {
            (MASK, value(rest, masked.chars().next_back()), Next::Anything)
        } else if word.starts_with("eyJ") {
            // A token of three parts, of which the last is the signature.
            (MASK, rest.find(|letter| !in_word(letter) && letter != '.').unwrap_or(rest.len()), Next::Anything)
        } else if word.is_empty() {
            let then = match (next, first) {
                (Next::Separator, ':' | '=') => Next::Value,
                (Next::Separator, '"' | '\'' | ' ' | '\\') => Next::Separator,
                _ => Next::Anything,
            };
            (&rest[..first.len_utf8()], first.len_utf8(), then)
        } else {
            let then = if is_name(word) { Next::Separator } else { Next::Anything };
            (if looks_secret(word) { MASK } else { word }, word.len(), then)
        };
        masked.push_str(shown);
        next = then;
        rest = &rest[read..];
    }
    masked
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Anything,
    /// The name of a secret was read: a value follows if `:` or `=` does.
    Separator,
    /// The value of a name.
    Value,
    /// The secret behind its scheme.
    Secret,
}

/// How far the value at the beginning of `rest` goes: to the quote that closes the one before it, or to where no value
/// goes on.
fn value(rest: &str, before: Option<char>) -> usize {
    match before.filter(|sign| matches!(sign, '"' | '\'')) {
        Some(quote) => {
            let end = rest.find(quote).unwrap_or(rest.len());
            end - usize::from(rest[..end].ends_with('\\'))
        }
        None => rest.find(ends_value).unwrap_or(rest.len()),
    }
    .max(rest.chars().next().map_or(0, char::len_utf8))
}

fn is_scheme(word: &str) -> bool {
    SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// What stands between a name and its value.
fn leads_in(sign: char) -> bool {
    sign.is_whitespace() || matches!(sign, ':' | '=' | '"' | '\'' | '\\' | '(' | '[' | '{')
}

fn in_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '+')
}

fn ends_value(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '"' | '\'' | ',' | ';' | '&' | ')' | '}' | ']' | '<' | '>')
}

fn is_name(word: &str) -> bool {
    let word: String = word.chars().filter(|letter| !matches!(letter, '-' | '_')).map(|letter| letter.to_ascii_lowercase()).collect();
    NAMES.iter().any(|name| word.ends_with(name))
}

fn looks_secret(word: &str) -> bool {
    let marked = PREFIXES.iter().any(|prefix| word.len() > prefix.len() + 4 && word.starts_with(prefix));
    let made = ["AKIA", "ASIA", "AIza"].iter().any(|prefix| word.len() >= 12 && word.starts_with(prefix));
    let random = word.len() >= RANDOM_LENGTH
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && word.bytes().any(|byte| byte.is_ascii_alphabetic());
    marked || made || random
}

/// Where `://user:password` ends that `rest` begins with: before the `@`.
fn userinfo(rest: &str) -> Option<usize> {
    let host = rest.strip_prefix("://")?;
    let end = host.find(|letter: char| letter == '/' || ends_value(letter)).unwrap_or(host.len());
    host[..end].rfind('@').map(|at| "://".len() + at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_hidden_and_the_rest_stays() {
        for (text, shown) in [
            ("Error: 401 Unauthorized, try again in 20 seconds", "Error: 401 Unauthorized, try again in 20 seconds"),
            ("Error: Incorrect API key provided: sk-proj-abcd1234", "Error: Incorrect API key provided: ***"),
            ("Authorization: Bearer abc.def/gh== refused", "Authorization: Bearer *** refused"),
            ("sent Basic dXNlcjpwYXNz to host", "sent Basic *** to host"),
            (r#"{"password":"hun ter2","user":"ada"}"#, r#"{"password":"***","user":"ada"}"#),
            (r#"{\"api_key\": \"hunter2\"}"#, r#"{\"api_key\": \"***\"}"#),
            ("GET /x?access_token=a.b&page=2 failed", "GET /x?access_token=***&page=2 failed"),
            ("postgres://me:hunter2@db:5432/x is away", "postgres://***@db:5432/x is away"),
            ("https://example.com/search?q=cheese", "https://example.com/search?q=cheese"),
            ("jwt eyJhbGciOi.eyJpZCI6IjY1.sig", "jwt ***"),
            ("AWS AKIAIOSFODNN7EXAMPLE", "AWS ***"),
            ("commit 0123456789abcdef0123456789abcdef01234567", "commit ***"),
            ("the token limit of 4096 tokens was reached", "the token limit of 4096 tokens was reached"),
            ("invalid password", "invalid password"),
            ("X-Api-Key=$ecret!; rest", "X-Api-Key=***; rest"),
            ("Cookie: connect.sid=s%3Aabc; lang=en", "Cookie: ***; lang=en"),
            ("password=비밀번호 틀림", "password=*** 틀림"),
            ("토큰: 비밀번호가 틀렸습니다", "토큰: 비밀번호가 틀렸습니다"),
        ] {
            assert_eq!(masked(text), shown, "{text}");
        }
    }

    #[test]
    fn the_beginning_is_one_line_and_holds_no_half_secret() {
        assert_eq!(beginning("Error:\n\n  no such\tfile\0here", 200), "Error: no such file here");
        assert_eq!(beginning("가나다라", 2), "가나");
        let long = format!("{} tail", "x1".repeat(LOOKED_AT));
        assert_eq!(beginning(&long, 200), "", "a word without an end is nothing to show");
        let long = format!("Error: {}", "word ".repeat(LOOKED_AT));
        assert_eq!(beginning(&long, 9), "Error: wo");
        assert_eq!(beginning(&format!("Error: password={} end", "a".repeat(300)), 200), "Error: password=*** end");
    }

    proptest! {
        #[test]
        fn any_text_can_be_masked(text in "\\PC{0,80}", most in 0_usize..50) {
            prop_assert!(beginning(&text, most).chars().count() <= most);
        }

        #[test]
        fn a_named_secret_never_shows(before in "[a-z :=]{0,20}", secret in "[A-Z]{6,12}", quote in "[\"']?", after in "[ ,;&\"']") {
            let text = format!("{before} api_key={quote}{secret}{after}");
            prop_assert!(!masked(&text).contains(&secret), "{}", masked(&text));
        }
    }
}
