//! Refusals that anyone can bring about as often as they like: written down once a minute with their count, as refused
//! tokens are, so that a flood of them is one row.

use pingora_proxy::Session;
use serde_json::{Value, json};

use super::ctx::Ctx;
use super::settle;
use crate::app::App;
use crate::error::{Rejection, reference};
use crate::records::{AuditRow, Category, Outcome, Severity};

/// Counts this refusal. Its person is shown the reference of the row that counts it.
pub fn refuse(app: &App, session: &Session, ctx: &mut Ctx, action: &'static str, rejection: Rejection) -> Rejection {
    let identity = ctx.identity.as_ref();
    let org = identity.and_then(|identity| identity.org.as_ref());
    let key = ctx.key.as_ref().map(|key| key.id.to_string());
    let named_key = key.as_deref().unwrap_or_default();
    let whom = identity.map(|identity| format!("{}/{}/{named_key}", org.map_or("", |org| &*org.id), identity.user)).unwrap_or_default();
    let address = ctx.address_text();
    let (id, row) = app.refused_tokens.count_of(&address, rejection.kind(), &whom, |id| AuditRow {
        id,
        time: ctx.received_at,
        category: Category::Security,
        severity: Severity::Warning,
        org_id: org.map(|org| org.id.clone()),
        org_day: org.map(|org| org.day(ctx.received_at)),
        actor_id: identity.map(|identity| identity.user.clone()),
        actor_name: identity.and_then(|identity| identity.name.clone()),
        actor_role: identity.map(|identity| identity.role.clone()),
        action,
        resource_type: Some("route"),
        resource_id: Some(ctx.route.class().to_owned()),
        outcome: Outcome::Failure,
        request_id: Some(ctx.request_id.clone()),
        method: Some(session.req_header().method.as_str().to_owned()),
        path: Some(settle::path(session)),
        query: None,
        status: Some(rejection.status()),
        duration_ms: None,
        error: Some(rejection.kind().to_owned()),
        address: Some(address.clone()),
        user_agent: settle::user_agent(session),
        conversation_id: None,
        model: None,
        total_tokens: None,
        cost_nanousd: None,
        count: 1,
        reference: Some(reference(&id)),
        detail: detail(&rejection, key.as_deref()),
        link: None,
    });
    if let Some(row) = row {
        app.recorder.record_audit(row);
    }
    ctx.counted_by = Some(id);
    rejection
}

/// What a row says besides: whose list of addresses was in the way, which key it was.
fn detail(rejection: &Rejection, key: Option<&str>) -> Option<Value> {
    match (rejection, key) {
        (Rejection::Elsewhere(closing), None) => Some(json!({ "closed_by": closing.as_str() })),
        (Rejection::Elsewhere(closing), Some(key)) => Some(json!({ "closed_by": closing.as_str(), "api_key": key })),
        (_, key) => key.map(|key| json!({ "api_key": key })),
    }
}
