//! What Tollgate answers itself on the public listener.

use bytes::Bytes;
use pingora_proxy::Session;
use serde_json::json;

use super::ctx::Ctx;
use crate::app::App;
use crate::error::{Answer, Rejection};
use crate::limits::rules::Who;

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
        Some(who) => app.levels_of(&app.rules.applies(&who, app.clock.now())).await,
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
        "limits": limits,
    });
    Ok(json_answer(200, &me))
}

/// A JSON answer that nobody may cache.
fn json_answer(status: u16, body: &serde_json::Value) -> Answer {
    let headers = vec![("Content-Type", "application/json".to_owned()), ("Cache-Control", "no-store".to_owned())];
    Answer { status, headers, body: Bytes::from(body.to_string()) }
}
