//! What a browser holds of its session.

use http::header::{COOKIE as COOKIE_HEADER, HeaderMap};

use crate::identity::sessions::Secret;
use crate::librechat::cookies::OF_SIGNED_IN;

/// The cookie of a session. Its prefix has browsers take it only over TLS, from this host, for all of it (RFC 6265bis 4.1.3.2).
pub const COOKIE: &str = "__Host-tollgate";

/// What stands in it once nobody is signed in any more: who came signed in is shown no login form.
const NOBODY: &str = "-";

/// How long that is remembered, in seconds.
const NOBODY_LASTS: i64 = 30 * 24 * 3600;

/// A header of an answer.
type Header = (&'static str, String);

/// In which form a browser holds a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As our own page's.
    Own,
    /// Apart for each page of another origin that frames us, which gets it only so (CHIPS).
    Framed,
}

impl Form {
    const ALL: [Self; 2] = [Self::Own, Self::Framed];

    fn attributes(self) -> &'static str {
        match self {
            Self::Own => "SameSite=Lax",
            Self::Framed => "SameSite=None; Partitioned",
        }
    }
}

/// What the session's cookie holds. A browser keeps one for pages that frame us and another for our own, and may send both: what
/// is said in one form does not replace what was in the other.
#[derive(Debug)]
pub enum Cookie {
    /// One or two secrets, which may be anybody's and over.
    Sessions(Vec<Secret>),
    /// That nobody is signed in any more.
    Nobody,
    /// Something that we never wrote.
    Unreadable,
}

/// The cookie that came with a request.
pub fn cookie(headers: &HeaderMap) -> Option<Cookie> {
    let cookies = headers.get_all(COOKIE_HEADER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let values = cookies.filter_map(|cookie| cookie.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="));
    let values: Vec<&[u8]> = values.take(Form::ALL.len() + 1).collect();
    if values.is_empty() {
        return None;
    }
    let said = values.iter().filter(|value| **value != NOBODY.as_bytes());
    let secrets: Option<Vec<Secret>> = said.map(|value| Secret::shown(std::str::from_utf8(value).ok()?)).collect();
    Some(match secrets {
        Some(secrets) if secrets.is_empty() => Cookie::Nobody,
        Some(secrets) if values.len() <= Form::ALL.len() => Cookie::Sessions(secrets),
        _ => Cookie::Unreadable,
    })
}

/// What a browser is told that somebody enters with: their session in this form, and nothing of whoever was signed in before, in
/// our way or in LibreChat's own.
pub fn entered(secret: &Secret, seconds: i64, form: Form) -> Vec<Header> {
    let others = Form::ALL.into_iter().filter(|other| *other != form).map(|other| set(COOKIE, "", 0, other));
    std::iter::once(set(COOKIE, secret.expose(), seconds, form)).chain(others).chain(forgotten()).collect()
}

/// What a browser is told that nobody is signed in with any more.
pub fn left() -> Vec<Header> {
    Form::ALL.map(|form| set(COOKIE, NOBODY, NOBODY_LASTS, form)).into_iter().chain(forgotten()).collect()
}

/// What a browser is told whose person has signed in with LibreChat's own account: our session is not theirs.
pub fn given_way() -> Vec<Header> {
    Form::ALL.map(|form| set(COOKIE, "", 0, form)).into()
}

/// LibreChat's own cookies, gone.
fn forgotten() -> impl Iterator<Item = Header> {
    // Without `Secure`: a place without TLS must be able to say it, too.
    OF_SIGNED_IN.into_iter().map(|name| ("Set-Cookie", format!("{name}=; Path=/; Max-Age=0; HttpOnly")))
}

fn set(name: &str, value: &str, seconds: i64, form: Form) -> Header {
    ("Set-Cookie", format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; {}", form.attributes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cookie_is_read_and_no_other() {
        let secret = Secret::make().unwrap();
        let read = |lines: &[String]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE_HEADER, line.parse().unwrap());
            }
            match cookie(&headers) {
                None => "none",
                Some(Cookie::Sessions(secrets)) => ["none", "session", "two"][secrets.len()],
                Some(Cookie::Nobody) => "nobody",
                Some(Cookie::Unreadable) => "unreadable",
            }
        };
        let ours = format!("{COOKIE}={}", secret.expose());
        assert_eq!(read(&[]), "none");
        assert_eq!(read(&["refreshToken=x".into()]), "none");
        assert_eq!(read(&[format!("a=b; {ours}; c=d")]), "session");
        assert_eq!(read(&["a=b".into(), ours.clone()]), "session");
        assert_eq!(read(&[format!("x{ours}")]), "none");
        assert_eq!(read(&[format!("{COOKIE}=-")]), "nobody");
        assert_eq!(read(&[format!("{COOKIE}=x")]), "unreadable");
        assert_eq!(read(&[format!("{ours}; {COOKIE}=-")]), "session", "signed in again after signing out in the other form");
        assert_eq!(read(&[format!("{COOKIE}=-; {COOKIE}=-")]), "nobody");
        assert_eq!(read(&[format!("{ours}; {ours}")]), "two");
        assert_eq!(read(&[format!("{ours}; {ours}; {ours}")]), "unreadable", "one of them is not ours");
    }

    #[test]
    fn whoever_enters_leaves_nothing_of_others() {
        let secret = Secret::make().unwrap();
        let ours: Vec<String> = entered(&secret, 60, Form::Own).into_iter().map(|(_, value)| value).collect();
        assert_eq!(ours[1], format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=None; Partitioned"));
        assert_eq!(ours[0], format!("{COOKIE}={}; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Lax", secret.expose()));
        assert!(ours.contains(&"refreshToken=; Path=/; Max-Age=0; HttpOnly".to_owned()), "{ours:?}");
        assert_eq!((ours.len(), left().len(), given_way().len()), (8, 8, 2));
    }
}
