//! What Tollgate answers itself on the public listener.

use bytes::Bytes;
use pingora_proxy::Session;
use serde_json::json;

use super::ctx::Ctx;
use crate::app::App;
use crate::error::{Answer, Rejection};
use crate::identity::{Org, Verified};
use crate::limits::rules::{Amounts, Who};

/// Answers `GET /_tollgate/me`: who the signed-in person is, and every limit that applies to them.
pub async fn answer(app: &App, session: &Session, ctx: &Ctx) -> Result<Answer, Rejection> {
    let head = session.req_header();
    if !head.uri.path().trim_end_matches('/').eq_ignore_ascii_case("/_tollgate/me") {
        return Err(Rejection::NotFound);
    }
    if !matches!(head.method, http::Method::GET | http::Method::HEAD) {
        return Err(Rejection::MethodNotAllowed { allow: "GET, HEAD" });
    }
    let identity = ctx.identity.as_ref().ok_or(Rejection::Unauthorized)?;
    let limits = match Who::of(identity) {
        Some(who) => app.levels_of(&app.charges(&who, &Amounts::default(), app.clock.now())).await,
        None => Vec::new(),
    };
    let me = json!({
        "user": &*identity.user,
        "name": identity.name.as_deref(),
        "role": &*identity.role,
        "plan": identity.plan.as_deref(),
        "org": identity.org.as_ref().map(|org| json!({"id": &*org.id, "name": &*org.name, "time_zone": org.zone.iana_name()})),
        // Whoever is recorded may know it.
        "capture": identity.org.as_ref().map_or("none", |org| org.capture.as_str()),
        // Whether these refuse nobody for now.
        "observed": identity.org.as_ref().is_some_and(|org| app.directory.is_observed(&org.id)),
        "limits": limits,
    });
    Ok(json_answer(200, &me))
}

/// Answers `GET /api/auth/verify`: that a token is good, and whose it is. An application that embeds LibreChat tries its tokens
/// with it, of people too whom LibreChat has never seen.
pub fn whose(verified: &Verified) -> Answer {
    let organization = |org: &Org, plan: Option<&str>| json!({ "id": &*org.id, "name": &*org.name, "domain": org.domains.first(), "plan_type": plan, "status": org.standing.as_str() });
    let said = match verified {
        Verified::LibreChat(identity) => json!({
            "valid": true,
            "issuer": "librechat",
            "user": { "id": &*identity.user, "email": identity.email.as_deref(), "username": identity.name.as_deref(), "role": &*identity.role },
            "organization": identity.org.as_ref().map(|org| organization(org, identity.plan.as_deref())),
        }),
        Verified::OrgScoped(person) => json!({
            "valid": true,
            "issuer": &*person.issuer,
            "user": {
                "id": person.claims.sub, "email": person.claims.email, "name": person.claims.name, "username": person.claims.username,
                "avatar": person.claims.avatar, "role": &*person.role,
            },
            "organization": organization(&person.org, person.plan.as_deref()),
            "expires_at": person.expires.to_string(),
        }),
    };
    json_answer(200, &said)
}

/// A JSON answer that nobody may cache.
pub fn json_answer(status: u16, body: &serde_json::Value) -> Answer {
    let headers = vec![("Content-Type", "application/json".to_owned()), ("Cache-Control", "no-store".to_owned())];
    Answer { status, headers, body: Bytes::from(body.to_string()) }
}
