//! Which language a person is answered in.

use crate::identity::directory::Language;

impl Language {
    /// The language of a refusal: the org's setting, else the `lang` cookie that LibreChat keeps the person's choice in,
    /// else what their browser asks for (`Accept-Language`), else English. A language that we have no texts in is
    /// passed over.
    pub fn of(org: Option<Self>, lang_cookie: Option<&str>, accept_language: Option<&str>) -> Self {
        org.or_else(|| lang_cookie.and_then(from_cookie)).or_else(|| accept_language.and_then(from_accept_language)).unwrap_or(Self::En)
    }

    /// The code of the language, as in HTML's `lang`.
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ko => "ko",
        }
    }

    /// From a language tag: `ko`, `ko-KR`, `KO_kr`; only the primary language counts.
    fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next()?;
        [Self::En, Self::Ko].into_iter().find(|language| primary.eq_ignore_ascii_case(language.code()))
    }
}

/// The value may stand in quotes, which may be percent-encoded: `ko`, `"ko-KR"`, `%22ko%22`.
fn from_cookie(value: &str) -> Option<Language> {
    let value = value.trim();
    let value = value.strip_prefix("%22").and_then(|rest| rest.strip_suffix("%22")).unwrap_or(value);
    Language::from_tag(value.trim_matches('"'))
}

/// The known language with the highest weight, the first of equals. `*` stands for English.
fn from_accept_language(header: &str) -> Option<Language> {
    let mut best: Option<(u16, Language)> = None;
    for range in header.split(',') {
        let mut parts = range.split(';');
        let tag = parts.next().unwrap_or_default().trim();
        let language = if tag == "*" { Some(Language::En) } else { Language::from_tag(tag) };
        let weight = parts.find_map(|parameter| parameter.trim().strip_prefix("q=")).map_or(Some(1000), thousandths);
        if let (Some(language), Some(weight @ 1..)) = (language, weight)
            && best.is_none_or(|(heaviest, _)| weight > heaviest)
        {
            best = Some((weight, language));
        }
    }
    best.map(|(_, language)| language)
}

/// A weight of RFC 9110 12.4.2 in thousandths: `0`, `1`, `0.8`, `0.875`.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, fraction) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use Language::{En, Ko};

    use super::*;

    #[test]
    fn the_orgs_setting_wins_then_the_cookie_then_the_browser() {
        assert_eq!(Language::of(Some(En), Some("ko"), Some("ko")), En);
        assert_eq!(Language::of(None, Some("ko"), Some("en")), Ko);
        assert_eq!(Language::of(None, None, Some("ko")), Ko);
        assert_eq!(Language::of(None, None, None), En);
    }

    #[test]
    fn the_cookie_is_read_in_every_way_it_is_written() {
        for value in ["ko", "ko-KR", "\"ko\"", "%22ko-KR%22", " KO ", "ko_KR"] {
            assert_eq!(Language::of(None, Some(value), Some("en")), Ko, "cookie {value:?}");
        }
        for value in ["de-DE", "", "\"", "%22", "korean", "%zz"] {
            assert_eq!(Language::of(None, Some(value), Some("ko;q=0.5")), Ko, "cookie {value:?} is passed over");
        }
    }

    #[test]
    fn weights_decide_between_the_languages_a_browser_asks_for() {
        for (header, expected) in [
            ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", Ko),
            ("en;q=0.5, ko;q=0.501", Ko),
            ("de, ko;q=0.1", Ko),
            ("en, ko", En),
            ("ko;q=0, *;q=0.1", En),
            ("ko;q=0", En),
            ("*, ko;q=0.9", En),
            ("ko;q=2", En),
            ("ko;q=", En),
            ("ko;q=0.12345", En),
            (";;;,,,", En),
            ("fr, de", En),
        ] {
            assert_eq!(Language::of(None, None, Some(header)), expected, "Accept-Language: {header}");
        }
    }
}
