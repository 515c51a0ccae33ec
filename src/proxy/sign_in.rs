//! Signing in through Tollgate, at the front door: what an application asks, what a browser opens, and what LibreChat's page
//! asks about its session.
//!
//! A browser is known by a cookie with the session's secret, and only here: LibreChat's own routes go by the token that
//! `POST /api/auth/refresh` hands out, so that a request cannot be sent as one person and be taken for another's.

mod address;
mod cookies;

use http::Method;
use http::header::SET_COOKIE;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;
use serde_json::{Value, json};
use uuid::Uuid;

use super::admit::{refuse_token, verify};
use super::ctx::Ctx;
use super::own::json_answer;
use super::{counted, origins, ranges, settle};
use crate::app::App;
use crate::error::{Answer, CodeRefused, Forbidden, Malformed, Rejection};
use crate::identity::sessions::{HandOff, Secret, Session as SessionOf};
use crate::identity::sign_in::{Entered, SignIn, SignInError, SignedIn};
use crate::identity::web_origin::{OriginUse, WebOrigin, split_port};
use crate::identity::{Identity, LibreChatUser, Member, Org, OrgScoped, Suspended, Verified};
use crate::librechat;
use crate::librechat::client::{CallError, Person};
use crate::librechat::page_config::Hidden;
use crate::librechat::routes::{Route, query_value};
pub use cookies::COOKIE;
use cookies::{Cookie, Form, cookie};

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
            address::exchange(app, sign_in, session, ctx).await
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
        SignInError::Changed | SignInError::DatabaseAway => Rejection::IdentityAway,
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
    let identity = identity_of_signed_in(app, &signed_in);
    ctx.detail = Some(json!({ "session": signed_in.session.id }));
    let framed = identity.org.as_ref().is_some_and(|org| org.access.framing.is_open());
    let form = if framed { Form::Framed } else { Form::Own };
    ctx.identity = Some(identity);
    if let Err(refused) = ranges::check(app, session, ctx) {
        sign_in.revoke(signed_in.session.id).await.map_err(rejection)?;
        return Err(refused);
    }
    leave_other(sign_in, session, &signed_in).await?;
    let seconds = signed_in.session.expires.as_second().saturating_sub(signed_in.session.started.as_second());
    let mut headers =
        vec![("Location", to.to_owned()), ("Cache-Control", "no-store".to_owned()), ("Referrer-Policy", "no-referrer".to_owned())];
    headers.extend(cookies::entered(secret, seconds, form));
    Ok(Answer { status: 302, headers, body: bytes::Bytes::new() })
}

/// Ends the session of somebody else that the browser had until now.
async fn leave_other(sign_in: &SignIn, session: &Session, signed_in: &SignedIn) -> Result<(), Rejection> {
    let Some(Cookie::Sessions(before)) = cookie(&session.req_header().headers) else { return Ok(()) };
    for secret in before {
        if let Ok(Some(before)) = sign_in.session(&secret).await
            && before.member != signed_in.session.member
        {
            sign_in.revoke(before.id).await.map_err(rejection)?;
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

/// `POST /api/auth/refresh`: LibreChat's page asks for a token, with each load and every 15 minutes. The cookie says whose.
async fn refresh(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Option<Answer>, Rejection> {
    let secrets = match cookie(&session.req_header().headers) {
        Some(Cookie::Sessions(secrets)) => secrets,
        Some(Cookie::Unreadable) => return Ok(Some(nobody())),
        Some(Cookie::Nobody) | None => return Ok(None),
    };
    let Some(signed_in) = the_one(sign_in, &secrets).await? else { return Ok(Some(nobody())) };
    let identity = identity_of_signed_in(app, &signed_in);
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

/// `POST /api/auth/logout`. Nobody but the database is asked: whoever leaves can, whatever is away.
async fn logout(app: &App, sign_in: &SignIn, session: &Session, ctx: &mut Ctx) -> Result<Option<Answer>, Rejection> {
    let mut ending = sessions_of_cookie(sign_in, session).await?;
    let of_token = match verify(app, session).await {
        Ok(Verified::LibreChat(identity)) => Some(identity),
        _ => None,
    };
    if let Some(identity) = of_token {
        let is_theirs =
            |of: &SessionOf| app.directory.member(of.member).is_some_and(|member| member.librechat_id.as_ref() == Some(&identity.user));
        let of_others = !ending.is_empty() && !ending.iter().any(is_theirs);
        ending.retain(is_theirs);
        let also = identity.session;
        ctx.identity = Some(identity);
        if of_others {
            return Err(Rejection::Forbidden(Forbidden::OtherPerson));
        }
        end(sign_in, ending.iter().map(|of| of.id).chain(also)).await?;
        return Ok((!ending.is_empty() || also.is_some()).then(signed_out));
    }
    if let Some(of) = ending.first() {
        ctx.identity = app.directory.member(of.member).map(|member| identity_of(app, of, &member, None));
    }
    end(sign_in, ending.iter().map(|of| of.id)).await?;
    Ok((!ending.is_empty()).then(signed_out))
}

async fn end(sign_in: &SignIn, sessions: impl Iterator<Item = Uuid>) -> Result<(), Rejection> {
    for id in sessions {
        sign_in.revoke(id).await.map_err(rejection)?;
    }
    Ok(())
}

/// The sessions whose secrets a request's cookie holds, as far as they are not over.
async fn sessions_of_cookie(sign_in: &SignIn, session: &Session) -> Result<Vec<SessionOf>, Rejection> {
    let mut sessions = Vec::new();
    if let Some(Cookie::Sessions(secrets)) = cookie(&session.req_header().headers) {
        for secret in secrets {
            sessions.extend(sign_in.session(&secret).await.map_err(rejection)?);
        }
    }
    Ok(sessions)
}

fn signed_out() -> Answer {
    let mut answer = json_answer(200, &json!({ "message": "Logout successful" }));
    answer.headers.extend(cookies::left());
    answer
}

/// Whether somebody signs in with LibreChat's own account, by this answer, in a browser that came here signed in.
pub fn gives_way(app: &App, session: &Session, response: &ResponseHeader) -> bool {
    let signs_in = || response.headers.get_all(SET_COOKIE).iter().any(|set| librechat::cookies::signs_in(set.as_bytes()));
    app.sign_in.is_some() && signs_in() && cookie(&session.req_header().headers).is_some()
}

/// Whoever signs in with LibreChat's own account, however that is done, is not taken for the one whose session the browser had.
pub async fn give_way(app: &App, session: &Session, response: &mut ResponseHeader) {
    let Some(sign_in) = &app.sign_in else { return };
    for (name, value) in cookies::given_way() {
        if let Err(error) = response.append_header(name, value) {
            tracing::error!(%error, "a cookie could not be taken back");
        }
    }
    // The browser holds it no longer; where the database is away it ends by itself.
    let ended = match sessions_of_cookie(sign_in, session).await {
        Ok(sessions) => end(sign_in, sessions.iter().map(|of| of.id)).await,
        Err(error) => Err(error),
    };
    if ended.is_err() {
        tracing::warn!("the session could not be ended of a browser in which somebody else signed in");
    }
}

/// As LibreChat answers a browser in which nobody is signed in: its page then shows the way in.
fn nobody() -> Answer {
    let mut headers = vec![("Content-Type", "text/html; charset=utf-8".to_owned()), ("Cache-Control", "no-store".to_owned())];
    headers.extend(cookies::left());
    Answer { status: 200, headers, body: bytes::Bytes::from_static(b"Refresh token not provided") }
}

/// Whose a session is, by their account where LibreChat was asked.
fn identity_of(app: &App, session: &SessionOf, member: &Member, user: Option<&LibreChatUser>) -> Identity {
    let org = app.directory.by_id(&session.org);
    let known_as = || member.librechat_id.clone().unwrap_or_default();
    Identity {
        suspended: Suspended::of(org.as_deref(), Some(member)),
        plan: session.plan.clone().or_else(|| org.as_ref().and_then(|org| org.plan.clone())),
        org,
        user: user.map_or_else(known_as, |user| user.id.as_str().into()),
        name: user.and_then(|user| user.username.as_deref()).map(Into::into).or_else(|| member.name.clone()),
        role: member.role.clone(),
        org_tokens_per_month: session.org_tokens_per_month,
        email: user.map(|user| user.email.as_str().into()).or_else(|| member.email.clone()),
        session: Some(session.id),
    }
}

fn identity_of_signed_in(app: &App, SignedIn { session, arrived }: &SignedIn) -> Identity {
    identity_of(app, session, &arrived.member, Some(&arrived.user))
}
