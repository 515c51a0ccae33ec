//! The bearer token of a request, read so that nobody behind us can read another one.
//!
//! LibreChat finds its token with a loose pattern: two words anywhere in the header. Only what both sides must read alike
//! is taken here: one header, one scheme, one or more spaces, one token of the characters that RFC 6750 2.1 allows.

use http::HeaderValue;

use super::TokenError;

/// The token of a request's `Authorization` headers, or `None` when there is none or its scheme is not `Bearer`.
///
/// # Errors
///
/// [`TokenError::BadShape`] when there are several such headers, or the scheme is `Bearer` and what follows is not one token.
pub fn bearer<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Result<Option<&'a str>, TokenError> {
    let mut values = values.into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(TokenError::BadShape);
    }
    let value = value.as_bytes();
    let end_of_scheme = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end_of_scheme);
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        return Ok(None);
    }
    let token = std::str::from_utf8(rest).map_err(|_| TokenError::BadShape)?.trim_matches(' ');
    if token.is_empty() || !token.bytes().all(is_token_byte) {
        return Err(TokenError::BadShape);
    }
    Ok(Some(token))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(texts: &[&str]) -> Vec<HeaderValue> {
        texts.iter().map(|text| HeaderValue::from_bytes(text.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn one_token_is_found_whatever_the_case_of_the_scheme() {
        for text in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", "Bearer a.b.c "] {
            assert_eq!(bearer(&values(&[text])), Ok(Some("a.b.c")), "{text:?} holds one token");
        }
        assert_eq!(bearer(&values(&["Bearer sk-abc_DEF=="])), Ok(Some("sk-abc_DEF==")));
    }

    #[test]
    fn no_header_and_other_schemes_hold_no_token() {
        assert_eq!(bearer(&values(&[])), Ok(None));
        for text in ["Basic YTpi", "", "Bearera.b.c", "a.b.c", "\u{a0}Bearer a.b.c", "Bearer\ta.b.c"] {
            assert_eq!(bearer(&values(&[text])), Ok(None), "{text:?} is not the Bearer scheme");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in ["Bearer", "Bearer ", "Bearer a.b.c d.e.f", "Bearer a.b.c, Bearer d.e.f", "Bearer \ta.b.c", "Bearer a.b.ç"] {
            assert_eq!(bearer(&values(&[text])), Err(TokenError::BadShape), "{text:?} must be refused");
        }
        assert_eq!(bearer(&values(&["Bearer a.b.c", "Bearer a.b.c"])), Err(TokenError::BadShape), "two headers must be refused");
        assert_eq!(bearer(&values(&["Basic YTpi", "Bearer a.b.c"])), Err(TokenError::BadShape), "two headers must be refused");
    }
}
