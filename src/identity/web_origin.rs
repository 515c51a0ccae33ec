//! Origins of web pages, as configuration names them and as browsers send them (RFC 6454).

use std::borrow::Borrow;
use std::fmt;

/// The most bytes of an origin that is looked at: a host name has at most 253.
pub const LONGEST_ORIGIN: usize = 300;

/// An origin such as `https://app.example` or `http://localhost:3000`, written as browsers write it: in lower case, without
/// the port that its scheme has anyway, without a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WebOrigin(Box<str>);

/// What a list of origins is for, which decides what may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginUse {
    /// Who may show pages in a frame: `http` and `https`, and every host below one with `*.`.
    Frames,
    /// Who may read answers: any scheme, as of applications that are no web pages, and single hosts.
    Reads,
}

impl WebOrigin {
    /// Reads an origin, or says what is wrong with it.
    pub fn read(written: &str, used: OriginUse) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("\"{written}\" {why}"));
        let text = written.trim().to_ascii_lowercase();
        let Some((scheme, authority)) = text.split_once("://") else {
            return wrong("is no origin; allowed: such as https://app.example or http://localhost:3000");
        };
        let is_web = matches!(scheme, "http" | "https");
        let fits = scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if !fits || (used == OriginUse::Frames && !is_web) {
            return wrong("does not begin with https:// or http://");
        }
        if authority.contains(['/', '?', '#', '@']) {
            return wrong("has a path or a user; an origin ends with its host or port");
        }
        let (host, port) = split_port(authority);
        let bare = if used == OriginUse::Frames { host.strip_prefix("*.").unwrap_or(host) } else { host };
        if !is_host(bare) || text.len() > LONGEST_ORIGIN {
            return wrong("names no host; allowed: a name in ASCII (international ones as xn--), or an address");
        }
        let Some(port) = port else { return Ok(Self(text.into())) };
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        match (scheme, port.parse::<u16>()) {
            ("http", Ok(80)) | ("https", Ok(443)) if digits => Ok(Self(format!("{scheme}://{host}").into())),
            (_, Ok(number)) if digits && number > 0 => Ok(Self(format!("{scheme}://{host}:{number}").into())),
            _ => wrong("has a port that is no number up to 65535"),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for WebOrigin {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WebOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether this origin, as a browser sent it, is the page's own: one that came from the host that is asked. How it came is
/// not always known behind what ends TLS, so that the scheme counts only where that is.
pub fn is_own(origin: &str, host: &str, over_tls: bool) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let usual_port = match scheme {
        "https" => ":443",
        "http" if !over_tls => ":80",
        _ => return false,
    };
    let host = host.strip_suffix(usual_port).unwrap_or(host);
    !host.is_empty() && authority.eq_ignore_ascii_case(host)
}

/// Whether this may be a host: a name in ASCII, an IPv4 address, or an IPv6 one in brackets.
pub fn is_host(text: &str) -> bool {
    if let Some(address) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Host and port of an authority.
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address stand within its brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(written: &str, used: OriginUse) -> Option<String> {
        WebOrigin::read(written, used).ok().map(|origin| origin.to_string())
    }

    #[test]
    fn origins_are_written_as_browsers_write_them() {
        for (written, expected) in [
            ("https://app.example", "https://app.example"),
            (" HTTPS://App.Example:443 ", "https://app.example"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://localhost:80", "https://localhost:80"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://192.0.2.1", "https://192.0.2.1"),
        ] {
            for used in [OriginUse::Frames, OriginUse::Reads] {
                assert_eq!(read(written, used).as_deref(), Some(expected), "{written}");
            }
        }
        assert_eq!(read("https://*.app.example", OriginUse::Frames).as_deref(), Some("https://*.app.example"));
        assert_eq!(read("capacitor://localhost", OriginUse::Reads).as_deref(), Some("capacitor://localhost"));
        assert_eq!(read("chrome-extension://abcdef", OriginUse::Reads).as_deref(), Some("chrome-extension://abcdef"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for written in [
            "",
            "*",
            "null",
            "'self'",
            "'none'",
            "app.example",
            "https:",
            "https://",
            "https://*",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?x",
            "https://ann@app.example",
            "https://app.example:0",
            "https://app.example:99999",
            "https://app.example:",
            "https://app.example:*",
            "https://app.example:+443",
            "https://app example",
            "https://app.example; script-src *",
            "https://app.example https://evil.example",
            "https://app.example,https://evil.example",
            "https://app.example\r\nX: y",
            "https://\u{e4}pp.example",
            "https://app..example",
            "https://a.*.example",
            "https://-app.example",
            "javascript://alert(1)",
            "1a://app.example",
        ] {
            for used in [OriginUse::Frames, OriginUse::Reads] {
                assert_eq!(read(written, used), None, "{written:?} for {used:?}");
            }
        }
        assert_eq!(read("capacitor://localhost", OriginUse::Frames), None, "no page frames from there");
        assert_eq!(read("https://*.app.example", OriginUse::Reads), None, "answers are for single hosts");
    }

    #[test]
    fn a_page_of_ones_own() {
        for (origin, host) in [
            ("https://chat.example", "chat.example"),
            ("https://chat.example", "Chat.Example:443"),
            ("http://chat.example", "chat.example:80"),
            ("http://chat.example:8080", "chat.example:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_own(origin, host, false), "{origin} at {host}");
        }
        for (origin, host) in [
            ("null", "null"),
            ("", ""),
            ("https://", ""),
            ("https://chat.example", ""),
            ("https://chat.example", "chat.example:80"),
            ("https://chat.example:8443", "chat.example"),
            ("https://chat.example.evil.example", "chat.example"),
            ("https://evil.example", "chat.example"),
            ("https://chat.example@evil.example", "chat.example"),
            ("ftp://chat.example", "chat.example"),
            ("https://chat.example/", "chat.example"),
            ("chat.example", "chat.example"),
        ] {
            assert!(!is_own(origin, host, false), "{origin} at {host}");
        }
        assert!(!is_own("http://chat.example", "chat.example", true), "a page without TLS may be anyone's");
        assert!(is_own("https://chat.example", "chat.example", true));
    }
}
