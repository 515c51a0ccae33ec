//! The cookies by which LibreChat knows a browser.

/// What says that somebody is signed in with an account of LibreChat's own, at this path and without a domain each.
pub const OF_SIGNED_IN: [&str; 6] =
    ["refreshToken", "token_provider", "openid_user_id", "openid_access_token", "openid_id_token", "connect.sid"];

/// Whether LibreChat says with this `Set-Cookie` that somebody is signed in: as it answers a sign-in of whatever kind.
pub fn signs_in(set_cookie: &[u8]) -> bool {
    let value = set_cookie.strip_prefix(OF_SIGNED_IN[0].as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
    value.is_some_and(|value| !matches!(value.first(), None | Some(b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_signs_in() {
        for (cookie, expected) in [
            ("refreshToken=ey.a.b; Path=/; HttpOnly", true),
            ("refreshToken=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", false),
            ("refreshToken=", false),
            ("refreshTokens=x", false),
            ("token_provider=librechat; Path=/", false),
        ] {
            assert_eq!(signs_in(cookie.as_bytes()), expected, "{cookie}");
        }
    }
}
