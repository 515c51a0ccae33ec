//! Signing in through Tollgate, at the front door: what an application asks, what a browser opens, and what LibreChat's page
//! asks about its session.
//!
//! A browser is known by a cookie with the session's secret, and only here: LibreChat's own routes go by the token that
//! `POST /api/auth/refresh` hands out, so that a request cannot be sent as one person and be taken for another's.

use http::Method;
use http::header::{COOKIE as COOKIE_HEADER, HeaderMap};
use pingora_proxy::Session;
use serde_json::{Value, json};

use super::admit::{NoIdentity, refuse_token, verify};
use super::ctx::Ctx;
use super::own::json_answer;
use super::{counted, origins, ranges, settle};
use crate::app::App;
use crate::error::{Answer, CodeRefused, Forbidden, Malformed, Rejection};
use crate::identity::sessions::{HandOff, Secret};
use crate::identity::sign_in::{Entered, SignIn, SignInError, SignedIn};
use crate::identity::web_origin::{OriginUse, WebOrigin, split_port};
use crate::identity::{Identity, Org, OrgScoped, Suspended, TokenError, Verified};
use crate::librechat::client::{CallError, Person};
use crate::librechat::page_config::Hidden;
use crate::librechat::routes::{Route, query_value, without_parameters};

/// The cookie of a session. Its prefix has browsers take it only over TLS, from this host, for all of it (RFC 6265bis 4.1.3.2).
pub const COOKIE: &str = "__Host-tollgate";

/// What stands in it once nobody is signed in any more: who came signed in is shown no login form.
const NOBODY: &str = "-";

/// In how many forms a browser can hold the cookie: apart for each page that frames us, and as our own.
const FORMS: usize = 2;

/// How long that is remembered, in seconds.
const NOBODY_LASTS: i64 = 30 * 24 * 3600;

/// Answers what is asked about signing in. `None` where the request goes on to LibreChat.
pub async fn answer(app: &App, session: &mut Session, ctx: &mut Ctx) -> Result<Option<Answer>, Rejection> {
    let Some(sign_in) = &app.sign_in else {
        return if ctx.route == Route::Enter { Err(Rejection::NotFound) } else { Ok(None) };
    };
    match ctx.route {
        Route::HandOff => hand_off(app, sign_in, session, ctx).await.map(Some),
        Route::Enter => enter(app, sign_in, session, ctx).await.map(Some),
        Route::Refresh => refresh(app, sign_in, session, ctx).await,
        Route::Logout => logout(app, sign_in, session, ctx).await,
        Route::Register if sign_in.settings.makes_accounts => {
            let refused = Rejection::Forbidden(Forbidden::Registration);
            Err(counted::refuse(app, session, ctx, "auth.registration_refused", refused))
        }
        Route::Config if session.req_header().method == Method::GET => {
            let logins = sign_in.settings.hides_login_form || cookie(&session.req_header().headers).is_some();
            ctx.hides = Some(Hidden { logins, registration: sign_in.settings.makes_accounts });
            Ok(None)
        }
        Route::Page if matches!(session.req_header().method, Method::GET | Method::HEAD) => {
            token_in_address(app, sign_in, session, ctx).await
        }
        _ => Ok(None),
    }
}

/// What an error of signing in is to those who asked.
pub fn rejection(error: SignInError) -> Rejection {
    match error {
        SignInError::NotInvited => Rejection::Forbidden(Forbidden::NotInvited),
        SignInError::TooOld => Rejection::TokenTooOld,
        SignInError::Suspended(suspended) => Rejection::Suspended(suspended),
        SignInError::AccountExists => Rejection::Forbidden(Forbidden::AccountExists),
        SignInError::NoAccount => Rejection::Forbidden(Forbidden::NoAccount),
        SignInError::LibreChatAway => Rejection::UpstreamAway,
        SignInError::DatabaseAway => Rejection::IdentityAway,
    }
}

/// `GET` and `POST /api/librechat/auth`: an application vouches for a person. It calls from wherever it runs, so that where the
/// org's people may come from is asked when one of them comes.
async fn hand_off(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Answer, Rejection> {
    let method = session.req_header().method.clone();
    if !matches!(method, Method::GET | Method::POST) {
        return Err(Rejection::MethodNotAllowed { allow: "GET, POST" });
    }
    let person = match verify(app, session).await {
        Ok(Verified::OrgScoped(person)) => person,
        Ok(Verified::LibreChat(_)) => return Err(Rejection::Forbidden(Forbidden::Route)),
        Err(reason) => return Err(refuse_token(app, session, ctx, reason)),
    };
    let arrived = welcome(sign_in, &person, ctx).await?;
    origins::narrow(ctx);
    if method == Method::GET {
        let base = public_base(sign_in, session, ctx, &person.org)?;
        let code = sign_in.hand_off(&person, &arrived).await.map_err(rejection)?;
        let url = format!("{base}/_tollgate/enter?code={}", code.expose());
        return Ok(json_answer(200, &json!({ "url": url, "organization": organization(&person) })));
    }
    let signed_in = sign_in.begin_plainly(&person, arrived).await.map_err(rejection)?;
    ctx.detail = Some(json!({ "session": signed_in.session.id }));
    let user = &signed_in.arrived.user;
    let told = json!({
        "token": sign_in.token(&signed_in),
        "user": {
            "id": user.id, "external_id": person.claims.sub, "email": user.email, "name": person.claims.name,
            "username": person.claims.username.as_ref().or(user.username.as_ref()), "avatar": person.claims.avatar,
            "role": &*signed_in.arrived.member.role, "organization": organization(&person),
        },
    });
    Ok(json_answer(200, &told))
}

async fn welcome(sign_in: &SignIn, person: &OrgScoped, ctx: &mut Ctx) -> Result<crate::identity::sign_in::Arrived, Rejection> {
    // Whoever is refused is written down as well as can be.
    let anonymous = Identity { session: None, ..person.identity_as("".into(), None) };
    ctx.identity = Some(anonymous);
    let arrived = sign_in.welcome(person).await.map_err(rejection)?;
    ctx.identity = Some(person.identity_as(arrived.user.id.as_str().into(), Some(&arrived.member)));
    Ok(arrived)
}

fn organization(person: &OrgScoped) -> Value {
    let org = &person.org;
    json!({
        "id": &*org.id, "name": &*org.name, "domain": org.domains.first(), "plan_type": person.plan.as_deref(),
        "librechat_config": person.librechat_config,
    })
}

/// Where people of this org come in from outside, without a slash at its end.
fn public_base(sign_in: &SignIn, session: &Session, ctx: &Ctx, org: &Org) -> Result<String, Rejection> {
    let scheme = if ctx.is_https { "https" } else { "http" };
    let asked = || format!("{scheme}://{}", origins::host(session.req_header()));
    let base = sign_in.settings.public_url.clone().unwrap_or_else(asked);
    let base = WebOrigin::read(&base, OriginUse::Reads).map_err(|_| Rejection::Malformed(Malformed::Header("Host")))?;
    let (scheme, authority) = base.as_str().split_once("://").unwrap_or_default();
    let (host, port) = split_port(authority);
    // What is an org's own host is no other's, and nobody of it comes in elsewhere.
    let own = org.access.hosts.first().filter(|_| org.access.hosts.iter().all(|own| **own != *host));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok(own.map_or_else(|| base.as_str().to_owned(), |own| format!("{scheme}://{own}{port}")))
}

/// `GET /_tollgate/enter?code=...`: a browser opens a code.
async fn enter(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Answer, Rejection> {
    let head = session.req_header();
    if head.method != Method::GET {
        // Whoever only looks whether the address is there must not use the code up.
        return Err(Rejection::MethodNotAllowed { allow: "GET" });
    }
    let code = head.uri.query().and_then(|query| query_value(query, "code")).and_then(|code| Secret::shown(&code));
    let entered = match &code {
        Some(code) => sign_in.enter(code, ctx.host_org.as_ref().map(|org| &*org.id)).await.map_err(rejection)?,
        None => Entered::Unknown,
    };
    let (why, whose) = match entered {
        Entered::In(signed_in, secret) => return opened(app, sign_in, session, ctx, *signed_in, &secret, "/").await,
        Entered::Again(hand_off) => (CodeRefused::Used, Some(hand_off)),
        Entered::Late(hand_off) => (CodeRefused::Late, Some(hand_off)),
        Entered::Foreign(hand_off) => (CodeRefused::Foreign, Some(hand_off)),
        Entered::Unknown => (CodeRefused::Unknown, None),
    };
    // Whoever shows a code that was somebody's is not that person; whose it was is for the org to read.
    ctx.detail = whose.map(|HandOff { org, member, .. }| json!({ "code_of": { "org": &*org, "member": member } }));
    Err(counted::refuse(app, session, ctx, "auth.code_refused", Rejection::Code(why)))
}

/// Gives a browser its session, and sends it to the clean address.
async fn opened(
    app: &App,
    sign_in: &SignIn,
    session: &Session,
    ctx: &mut Ctx,
    signed_in: SignedIn,
    secret: &Secret,
    to: &str,
) -> Result<Answer, Rejection> {
    let identity = identity_of(app, &signed_in);
    ctx.detail = Some(json!({ "session": signed_in.session.id }));
    let framed = identity.org.as_ref().is_some_and(|org| org.access.framing.is_open());
    ctx.identity = Some(identity);
    if let Err(refused) = ranges::check(app, session, ctx) {
        sign_in.revoke(signed_in.session.id).await.map_err(rejection)?;
        return Err(refused);
    }
    leave_other(sign_in, session, &signed_in).await?;
    let seconds = signed_in.session.expires.as_second().saturating_sub(signed_in.session.started.as_second());
    let headers = vec![
        ("Location", to.to_owned()),
        ("Set-Cookie", set_cookie(secret.expose(), seconds, framed)),
        ("Cache-Control", "no-store".to_owned()),
        ("Referrer-Policy", "no-referrer".to_owned()),
    ];
    Ok(Answer { status: 302, headers, body: bytes::Bytes::new() })
}

/// Ends the session of somebody else that the browser had until now.
async fn leave_other(sign_in: &SignIn, session: &Session, signed_in: &SignedIn) -> Result<(), Rejection> {
    let Some(Cookie::Sessions(before)) = cookie(&session.req_header().headers) else { return Ok(()) };
    for secret in before {
        if let Ok(Some(before)) = sign_in.signed_in(&secret).await
            && before.session.member != signed_in.session.member
        {
            sign_in.revoke(before.session.id).await.map_err(rejection)?;
        }
    }
    Ok(())
}

/// Who is signed in with one of these secrets; nobody where two people are.
async fn the_one(sign_in: &SignIn, secrets: &[Secret]) -> Result<Option<SignedIn>, Rejection> {
    let mut found: Option<SignedIn> = None;
    for secret in secrets {
        let Some(signed_in) = sign_in.signed_in(secret).await.map_err(rejection)? else { continue };
        if found.is_some() {
            return Ok(None);
        }
        found = Some(signed_in);
    }
    Ok(found)
}

/// `?token=...&org=...` on a page: exchanged, and gone from the address at once.
async fn token_in_address(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Option<Answer>, Rejection> {
    let uri = session.req_header().uri.clone();
    let parameter = |name| uri.query().and_then(|query| query_value(query, name));
    // LibreChat's own pages take a token too, of another kind and for no org.
    let (Some(token), Some(org)) = (parameter("token"), parameter("org")) else { return Ok(None) };
    ctx.route = Route::Enter;
    if session.req_header().method != Method::GET {
        return Err(Rejection::MethodNotAllowed { allow: "GET" });
    }
    if !sign_in.settings.token_in_url {
        return Err(Rejection::Forbidden(Forbidden::TokenInAddress));
    }
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
    let to = clean_address(uri.path(), uri.query().unwrap_or_default());
    opened(app, sign_in, session, ctx, signed_in, &secret, &to).await.map(Some)
}

/// The address without the token. What a browser could take for another host's address becomes the start page.
fn clean_address(path: &str, query: &str) -> String {
    let begins_a_host = path.get(1..2).is_some_and(|second| matches!(second, "/" | "\\"));
    let path = if path.starts_with('/') && !begins_a_host { path } else { "/" };
    match without_parameters(query, &["token", "org"]) {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// `POST /api/auth/refresh`: LibreChat's page asks for a token, with each load and every 15 minutes. The cookie says whose.
async fn refresh(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Option<Answer>, Rejection> {
    let secrets = match cookie(&session.req_header().headers) {
        Some(Cookie::Sessions(secrets)) => secrets,
        Some(Cookie::Unreadable) => return Ok(Some(nobody())),
        Some(Cookie::Nobody) | None => return Ok(None),
    };
    let Some(signed_in) = the_one(sign_in, &secrets).await? else { return Ok(Some(nobody())) };
    let identity = identity_of(app, &signed_in);
    let person = Person {
        user: identity.user.clone(),
        org: signed_in.session.org.clone(),
        address: ctx.address_text(),
        user_agent: settle::user_agent(session).unwrap_or_default(),
    };
    ctx.identity = Some(identity);
    origins::narrow(ctx);
    ranges::check(app, session, ctx)?;
    match app.librechat.document(&person).await {
        Ok(user) => Ok(Some(json_answer(200, &json!({ "token": sign_in.token(&signed_in), "user": user })))),
        Err(CallError::Status(401 | 404)) => {
            // The account is gone; the next time they come they get another.
            app.accounts.forget(&person.user);
            Ok(Some(nobody()))
        }
        Err(error) => {
            tracing::warn!(request.id = %ctx.request_id, %error, "LibreChat could not be asked who is signed in");
            Err(Rejection::UpstreamAway)
        }
    }
}

/// `POST /api/auth/logout`.
async fn logout(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Option<Answer>, Rejection> {
    let of_cookie = match cookie(&session.req_header().headers) {
        Some(Cookie::Sessions(secrets)) => the_one(sign_in, &secrets).await?,
        _ => None,
    };
    let of_token = match verify(app, session).await {
        Ok(Verified::LibreChat(identity)) => Some(identity),
        _ => None,
    };
    let sessions = match (of_cookie, of_token) {
        (Some(signed_in), Some(identity)) if *identity.user != *signed_in.arrived.user.id => {
            ctx.identity = Some(identity);
            return Err(Rejection::Forbidden(Forbidden::OtherPerson));
        }
        (Some(signed_in), of_token) => {
            let also = of_token.and_then(|identity| identity.session);
            ctx.identity = Some(identity_of(app, &signed_in));
            [Some(signed_in.session.id), also.filter(|also| *also != signed_in.session.id)]
        }
        (None, Some(identity)) if identity.session.is_some() => {
            let of_token = identity.session;
            ctx.identity = Some(identity);
            [of_token, None]
        }
        _ => return Ok(None),
    };
    for id in sessions.into_iter().flatten() {
        sign_in.revoke(id).await.map_err(rejection)?;
    }
    let mut answer = json_answer(200, &json!({ "message": "Logout successful" }));
    answer.headers.push(("Set-Cookie", set_cookie(NOBODY, NOBODY_LASTS, true)));
    Ok(Some(answer))
}

/// As LibreChat answers a browser in which nobody is signed in: its page then shows the way in.
fn nobody() -> Answer {
    let headers = vec![
        ("Content-Type", "text/html; charset=utf-8".to_owned()),
        ("Cache-Control", "no-store".to_owned()),
        ("Set-Cookie", set_cookie(NOBODY, NOBODY_LASTS, true)),
    ];
    Answer { status: 200, headers, body: bytes::Bytes::from_static(b"Refresh token not provided") }
}

fn identity_of(app: &App, SignedIn { session, arrived }: &SignedIn) -> Identity {
    let (member, user) = (&arrived.member, &arrived.user);
    let org = app.directory.by_id(&session.org);
    Identity {
        suspended: Suspended::of(org.as_deref(), Some(member)),
        plan: session.plan.clone().or_else(|| org.as_ref().and_then(|org| org.plan.clone())),
        org,
        user: user.id.as_str().into(),
        name: user.username.as_deref().map(Into::into).or_else(|| member.name.clone()),
        role: member.role.clone(),
        org_tokens_per_month: session.org_tokens_per_month,
        email: Some(user.email.as_str().into()),
        session: Some(session.id),
    }
}

/// What the session's cookie holds. A browser keeps one for pages that frame us and another for our own, and may send both: what
/// is said in one form does not replace what was in the other.
enum Cookie {
    /// One or two secrets, which may be anybody's and over.
    Sessions(Vec<Secret>),
    /// That nobody is signed in any more.
    Nobody,
    /// Something that we never wrote.
    Unreadable,
}

fn cookie(headers: &HeaderMap) -> Option<Cookie> {
    let cookies = headers.get_all(COOKIE_HEADER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    let values = cookies.filter_map(|cookie| cookie.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"="));
    let values: Vec<&[u8]> = values.take(FORMS + 1).collect();
    if values.is_empty() {
        return None;
    }
    let said = values.iter().filter(|value| **value != NOBODY.as_bytes());
    let secrets: Option<Vec<Secret>> = said.map(|value| Secret::shown(std::str::from_utf8(value).ok()?)).collect();
    Some(match secrets {
        Some(secrets) if secrets.is_empty() => Cookie::Nobody,
        Some(secrets) if values.len() <= FORMS => Cookie::Sessions(secrets),
        _ => Cookie::Unreadable,
    })
}

/// A page of another origin that frames LibreChat gets it its cookie only so, kept apart for each such page (CHIPS).
fn set_cookie(value: &str, seconds: i64, framed: bool) -> String {
    let site = if framed { "SameSite=None; Partitioned" } else { "SameSite=Lax" };
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; {site}")
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
            ("/c/x", "%74oken=t&%6frg=o&token=u", "/c/x"),
        ] {
            assert_eq!(clean_address(path, query), clean, "{path}?{query}");
        }
    }

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
}
