//! The first stage: whose request is it, where does it go, and may it. Nothing has been forwarded yet.

use std::net::IpAddr;
use std::sync::Arc;

use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::{Ctx, Traced};
use super::{agent_keys, chat, client, keys, keys_made, logins, origins, own, ranges, sign_in};
use crate::app::App;
use crate::error::{Forbidden, Malformed, Rejection};
use crate::generations::trace::Incoming;
use crate::identity::{Identity, LibreChatUser, Member, OrgScoped, TokenError, Verified, bearer, is_user_id};
use crate::librechat::routes::{self, Credential, Route};
use crate::records::{AuditRow, Category, Outcome, Severity};
use crate::telemetry::metrics;

/// What becomes of a request that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It goes on to LibreChat.
    Forward,
    /// Tollgate has answered it.
    Answered,
}

/// Admits a request, or says why not.
pub async fn admit(app: &App, session: &mut Session, ctx: &mut Ctx) -> Result<Admitted, Rejection> {
    recognise(app, session, ctx);
    if ctx.route == Route::Hidden {
        return Err(Rejection::NotFound);
    }
    let head = session.req_header();
    check_target(head)?;
    if origins::is_preflight(head) {
        let answer = origins::preflight(app, session, ctx)?;
        super::reject::write(app, session, ctx, answer).await;
        return Ok(Admitted::Answered);
    }
    origins::check(app, session, ctx)?;
    if ctx.route == Route::Verify && keys::shown(session).is_none() {
        let verified = verify(app, session).await.map_err(|reason| refuse_token(app, session, ctx, reason))?;
        super::reject::write(app, session, ctx, own::whose(&verified)).await;
        return Ok(Admitted::Answered);
    }
    if let Some(answer) = Box::pin(sign_in::answer(app, session, ctx)).await? {
        super::reject::write(app, session, ctx, answer).await;
        return Ok(Admitted::Answered);
    }
    authenticate(app, session, ctx).await?;
    origins::narrow(ctx);
    ranges::check(app, session, ctx)?;
    if let Some(refused) = ctx.identity.as_ref().filter(|_| ctx.route.spends()).and_then(may_not_spend) {
        app.metrics.decision(metrics::Outcome::Policy, None);
        return Err(refused);
    }
    match ctx.route {
        Route::Own => {
            let is_about_keys = keys_made::are_asked_for(session);
            let answer = if is_about_keys {
                Box::pin(keys_made::answer(app, session, ctx)).await?
            } else {
                Box::pin(own::answer(app, session, ctx)).await?
            };
            super::reject::write(app, session, ctx, answer).await;
            Ok(Admitted::Answered)
        }
        Route::Chat(_) | Route::Steer | Route::AgentApi(_) => {
            // In a box, so that requests that start no chat do not pay for the room that this would take.
            Box::pin(chat::admit(app, session, ctx)).await?;
            Ok(Admitted::Forward)
        }
        Route::Login(step) => {
            Box::pin(logins::admit(app, session, ctx, step)).await?;
            Ok(Admitted::Forward)
        }
        Route::Abort => {
            Box::pin(chat::admit_stop(app, session, ctx)).await?;
            Ok(Admitted::Forward)
        }
        _ => Ok(Admitted::Forward),
    }
}

/// Why somebody may not use what costs something, whatever is left of their limits.
fn may_not_spend(identity: &Identity) -> Option<Rejection> {
    if identity.org.is_none() {
        return Some(Rejection::NoOrg);
    }
    if let Some(suspended) = identity.suspended {
        return Some(Rejection::Suspended(suspended));
    }
    identity.is_viewer().then_some(Rejection::Forbidden(Forbidden::Viewer))
}

/// Refuses what names no path, or one that could be read in two ways.
fn check_target(head: &RequestHeader) -> Result<(), Rejection> {
    if head.method == http::Method::CONNECT {
        return Err(Rejection::MethodNotAllowed { allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" });
    }
    // A path, a whole URL, or the asterisk of `OPTIONS *`: any other target names a host and no path.
    let target = head.raw_path();
    let names_a_path = target.starts_with(b"/") || target == b"*" || target.windows(3).any(|three| three == b"://");
    if !names_a_path || routes::is_ambiguous(head.method.as_str(), head.uri.path()) {
        return Err(Rejection::Malformed(Malformed::Target));
    }
    Ok(())
}

/// What can be told from the head alone.
fn recognise(app: &App, session: &Session, ctx: &mut Ctx) {
    let head = session.req_header();
    ctx.route = Route::of(head.method.as_str(), head.uri.path());
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
    let trusted = &app.config.public.trusted_proxies;
    // Foreign bytes in front must not hide the address that a trusted proxy wrote behind them.
    let forwarded_for: Vec<_> =
        head.headers.get_all("x-forwarded-for").iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let peer_is_trusted = peer.is_some_and(|peer: IpAddr| client::is_trusted(client::canonical(peer), trusted));
    ctx.address = peer.map(|peer| client::true_address(peer, forwarded_for.iter().map(|value| &**value), trusted));
    let proto = head.headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    // Of a chain of proxies the first says how the client came.
    let proto = proto.and_then(|chain| chain.split(',').next());
    ctx.is_https = match proto.filter(|_| peer_is_trusted) {
        Some(proto) => proto.trim().eq_ignore_ascii_case("https"),
        None => session.digest().is_some_and(|connection| connection.ssl_digest.is_some()),
    };
    if app.traces.is_some() {
        let said = head.headers.get("traceparent").and_then(|value| value.to_str().ok());
        ctx.traced = if peer_is_trusted { Traced::Trusted(said.and_then(Incoming::read)) } else { Traced::Struck };
    }
    origins::recognise(app, session, ctx);
}

async fn authenticate(app: &App, session: &Session, ctx: &mut Ctx) -> Result<(), Rejection> {
    if let Some(shown) = keys::shown(session) {
        return Box::pin(keys::authenticate(app, session, ctx, &shown)).await;
    }
    let head = session.req_header();
    let identity = match ctx.route.credential(head.method.as_str()) {
        Credential::None => return Ok(()),
        Credential::Optional => {
            ctx.identity = identity_if_any(app, session, ctx).await;
            return Ok(());
        }
        Credential::AgentKey => agent_keys::identity(app, session, ctx).await?,
        Credential::Required => match verify(app, session).await {
            Ok(Verified::LibreChat(identity)) => identity,
            Ok(Verified::OrgScoped(person)) => Box::pin(swap(app, &person, ctx)).await?,
            Err(reason) => return Err(refuse_token(app, session, ctx, reason)),
        },
    };
    if is_user_id(&identity.user) {
        app.arrivals.seen(&app.directory, identity.org.as_deref(), &identity.user, identity.name.as_ref(), identity.email.as_deref());
    }
    ctx.identity = Some(identity);
    Ok(())
}

/// Whose request it is on a route that anyone may call. A token that does not hold passes on as it came.
async fn identity_if_any(app: &App, session: &Session, ctx: &mut Ctx) -> Option<Identity> {
    match verify(app, session).await.ok()? {
        Verified::LibreChat(identity) => Some(identity),
        Verified::OrgScoped(person) => Box::pin(swap(app, &person, ctx)).await.ok(),
    }
}

/// Why a request carries no identity: its token's error, that it has none, or a key that is nobody's.
pub(super) enum NoIdentity {
    /// There is no token.
    Missing,
    /// Its token does not hold.
    Refused(TokenError),
    /// Its key is nobody's.
    UnknownKey,
}

/// Whose token a request carries.
pub(super) async fn verify(app: &App, session: &Session) -> Result<Verified, NoIdentity> {
    let token = bearer(session.req_header().headers.get_all("authorization")).map_err(NoIdentity::Refused)?;
    app.verifier.verify_or_ask(token.ok_or(NoIdentity::Missing)?, app.clock.now()).await.map_err(NoIdentity::Refused)
}

/// A person whom an embedding application vouches for goes on as the LibreChat user that they are.
async fn swap(app: &App, person: &OrgScoped, ctx: &mut Ctx) -> Result<Identity, Rejection> {
    let (user, member) = match &app.sign_in {
        Some(sign_in) => {
            let arrived = sign_in.arrived(person).await.map_err(sign_in::rejection)?;
            (arrived.user, Some(arrived.member))
        }
        None => named(app, person).await?,
    };
    let identity = person.identity_as(Arc::from(user.id.as_str()), member.as_deref());
    ctx.role_is_tokens = person.names_role;
    ctx.swapped_token = Some(app.minter.mint_swapped(&user, &identity, person.expires, app.clock.now()));
    Ok(identity)
}

/// The LibreChat user that the application names. Where the org takes only the invited, they are in its directory.
async fn named(app: &App, person: &OrgScoped) -> Result<(LibreChatUser, Option<Arc<Member>>), Rejection> {
    let Some(user_id) = &person.librechat_user_id else { return Err(Rejection::Forbidden(Forbidden::NoAccount)) };
    let user = app.accounts.confirmed(user_id, &person.claims.email).await.map_err(|error| sign_in::rejection(error.into()))?;
    let by_account = app.directory.by_librechat_id(&user.id).filter(|member| !member.org.is_empty());
    if by_account.as_ref().is_some_and(|member| member.org != person.org.id) {
        return Err(Rejection::Forbidden(Forbidden::AccountExists));
    }
    // Whoever is known by either is held to what the directory says of them.
    let member = by_account.or_else(|| app.directory.by_external_id(&person.org.id, &person.claims.sub));
    if member.is_none() && !person.org.joining.by_token {
        return Err(Rejection::Forbidden(Forbidden::NotInvited));
    }
    Ok((user, member))
}

/// Refuses a token: the answer says nothing that would help an attacker, the audit row says why.
pub(super) fn refuse_token(app: &App, session: &Session, ctx: &Ctx, why: NoIdentity) -> Rejection {
    let (reason, rejection) = match &why {
        NoIdentity::Missing => ("missing", Rejection::Unauthorized),
        NoIdentity::UnknownKey => ("unknown_key", Rejection::Unauthorized),
        NoIdentity::Refused(TokenError::ForeignOrg) => (TokenError::ForeignOrg.reason(), Rejection::ForeignOrg),
        NoIdentity::Refused(error @ TokenError::KeysAway { .. }) => (error.reason(), Rejection::IssuerAway),
        NoIdentity::Refused(error) => (error.reason(), Rejection::Unauthorized),
    };
    app.metrics.token_refused(reason);
    let address = ctx.address_text();
    let whose = match why {
        NoIdentity::Refused(TokenError::Expired { whose }) => whose,
        _ => None,
    };
    let expired = reason == "expired";
    let nobodys_fault = expired || rejection == Rejection::IssuerAway;
    let row = app.refused_tokens.count(&address, reason, || AuditRow {
        id: ctx.id,
        time: ctx.received_at,
        category: if nobodys_fault { Category::Auth } else { Category::Security },
        severity: if expired { Severity::Info } else { Severity::Warning },
        org_id: whose.as_ref().and_then(|whose| whose.org.clone()),
        org_day: whose.as_ref().and_then(|whose| app.directory.day_of(whose.org.as_deref()?, ctx.received_at)),
        actor_id: whose.as_ref().and_then(|whose| whose.user.clone()),
        actor_name: whose.as_ref().and_then(|whose| whose.name.clone()),
        actor_role: whose.as_ref().map(|whose| whose.role.clone()),
        action: if expired { "auth.token_expired" } else { "auth.token_refused" },
        resource_type: Some("route"),
        resource_id: Some(ctx.route.class().to_owned()),
        outcome: Outcome::Failure,
        request_id: Some(ctx.request_id.clone()),
        method: Some(session.req_header().method.as_str().to_owned()),
        path: Some(super::settle::path(session)),
        query: None,
        status: Some(rejection.status()),
        duration_ms: None,
        error: Some(reason.to_owned()),
        address: Some(address.clone()),
        user_agent: super::settle::user_agent(session),
        conversation_id: None,
        model: None,
        total_tokens: None,
        cost_nanousd: None,
        count: 1,
        reference: None,
        detail: None,
        link: None,
    });
    if let Some(row) = row {
        app.recorder.record_audit(row);
    }
    rejection
}
