//! `?token=...&org=...` in the address of a page, for applications that cannot do otherwise.

use std::borrow::Cow;

use http::Method;
use pingora_proxy::Session;

use super::super::admit::{NoIdentity, refuse_token};
use super::super::ctx::Ctx;
use super::{opened, rejection, welcome};
use crate::app::App;
use crate::error::{Answer, Forbidden, Malformed, Rejection};
use crate::identity::sign_in::SignIn;
use crate::identity::{TokenError, Verified};
use crate::librechat::routes::{Route, query_value, query_values, without_parameters};

/// `?token=...&org=...` on a page: exchanged, and gone from the address at once.
pub async fn exchange(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Option<Answer>, Rejection> {
    let uri = session.req_header().uri.clone();
    let query = uri.query().unwrap_or_default();
    let Some(token) = token(query) else { return Ok(None) };
    let org = query_value(query, "org");
    // LibreChat's own pages take a token too, of another kind and for no org.
    if org.is_none() && !is_jwt(&token) {
        return Ok(None);
    }
    ctx.route = Route::Enter;
    if session.req_header().method != Method::GET {
        return Err(Rejection::MethodNotAllowed { allow: "GET" });
    }
    if !sign_in.settings.token_in_url {
        return Err(Rejection::Forbidden(Forbidden::TokenInAddress));
    }
    let org = org.ok_or(Rejection::Malformed(Malformed::Field("org")))?;
    let verified = app.verifier.verify_or_ask(&token, app.clock.now()).await;
    let person = match verified {
        Ok(Verified::OrgScoped(person)) if *person.org.id == *org => person,
        Ok(Verified::OrgScoped(_)) => return Err(refuse_token(app, session, ctx, NoIdentity::Refused(TokenError::ForeignOrg))),
        Ok(Verified::LibreChat(_)) => return Err(Rejection::Forbidden(Forbidden::Route)),
        Err(error) => return Err(refuse_token(app, session, ctx, NoIdentity::Refused(error))),
    };
    if ctx.host_org.as_ref().is_some_and(|host| host.id != person.org.id) {
        return Err(refuse_token(app, session, ctx, NoIdentity::Refused(TokenError::ForeignOrg)));
    }
    let arrived = welcome(sign_in, &person, ctx).await?;
    let (signed_in, secret) = sign_in.begin_in_browser(&person, arrived).await.map_err(rejection)?;
    let to = clean_address(uri.path(), query);
    opened(app, sign_in, session, ctx, signed_in, &secret, &to).await.map(Some)
}

/// The address without the token. What a browser could take for another host's address becomes the start page.
fn clean_address(path: &str, query: &str) -> String {
    let begins_a_host = path.get(1..2).is_some_and(|second| matches!(second, "/" | "\\"));
    let path = if path.starts_with('/') && !begins_a_host { path } else { "/" };
    match without_parameters(query, |name| is_token(name) || name == "org") {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// The token that an address holds, in whatever spelling: the one that looks like an application's, if one does.
fn token(query: &str) -> Option<Cow<'_, str>> {
    let mut tokens = query_values(query).filter(|(name, _)| is_token(name)).map(|(_, token)| token);
    let first = tokens.next()?;
    Some(if is_jwt(&first) { first } else { tokens.find(|token| is_jwt(token)).unwrap_or(first) })
}

/// Whether a parameter is the token, or a part of it for programs that make lists and objects of parameters.
fn is_token(name: &str) -> bool {
    name == "token" || name.starts_with("token[")
}

/// Whether this has the shape of a signed JSON object: three parts, the first of which begins with a brace in base64url.
fn is_jwt(token: &str) -> bool {
    let parts: Vec<&str> = token.trim().split('.').collect();
    let is_part =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='));
    parts.len() == 3 && parts.iter().all(is_part) && (parts[0].starts_with("ey") || parts[0].starts_with("ew"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clean_address_leads_elsewhere() {
        for (path, query, clean) in [
            ("/", "token=a.b.c&org=acme", "/"),
            ("/c/new", "a=1&token=a.b.c&b=%20&org=acme", "/c/new?a=1&b=%20"),
            ("//evil.test/x", "token=t&org=o", "/"),
            ("/\\evil.test", "token=t&org=o", "/"),
            ("*", "token=t&org=o", "/"),
            ("/c/x", "%74oken=t&%6frg=o&token=u&token%5B%5D=v", "/c/x"),
        ] {
            assert_eq!(clean_address(path, query), clean, "{path}?{query}");
        }
    }

    #[test]
    fn an_applications_token_is_found_however_it_is_spelled() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln";
        for query in [
            format!("token={jwt}"),
            format!("a=1&%74oken={jwt}"),
            format!("token=0123abc&token={jwt}"),
            format!("token[]={jwt}"),
            format!("token%5Bx%5D={jwt}"),
            format!("token={}", jwt.replace('.', "%2E")),
        ] {
            assert!(token(&query).is_some_and(|token| is_jwt(&token)), "{query}");
        }
        for query in ["", "tokens=a", "org=acme", "a=token"] {
            assert_eq!(token(query), None, "{query}");
        }
        for own in ["9f8e7d", "a.b.c", "eyJ.a", "eyJ..a", "eyJ.a.b.c", "eyJ.a b.c"] {
            assert!(!is_jwt(own), "{own}");
        }
    }
}
