//! The last stage: the request is over. What it leaves behind is told to its generation, written down and measured.

use pingora_core::{Error, ErrorSource};
use pingora_proxy::Session;
use serde_json::Value;

use super::ctx::Ctx;
use super::relay::{Reading, StreamOfGeneration, tell_direct};
use crate::app::App;
use crate::config::Audit;
use crate::generations::{End, Generation, Observation, Phase};
use crate::librechat::actions::action;
use crate::librechat::routes::{ChatRoute, Route};
use crate::records::capture::{CAPTURED, without_long_words};
use crate::records::{AuditRow, Category, Outcome, Severity};

/// Ends a request, however it went.
pub fn settle(app: &App, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
    let client_left = error.is_some_and(|error| matches!(error.esource(), ErrorSource::Downstream));
    end_reading(app, ctx, client_left);
    if let Some(generation) = &ctx.generation {
        leave(generation, &ctx.route, error);
    }
    let status = session.response_written().map_or(0, |head| head.status.as_u16());
    let elapsed = ctx.received.elapsed();
    app.metrics.request(ctx.route.class(), session.req_header().method.as_str(), status, elapsed);
    if let Some(admitted_in) = ctx.admitted_in {
        app.metrics.added_latency(admitted_in);
    }
    if is_audited(app, session, ctx, status) {
        app.recorder.record_audit(audit_row(session, ctx, status, error));
    }
}

/// What was read of the answer is complete now, or will never be.
fn end_reading(app: &App, ctx: &mut Ctx, client_left: bool) {
    let now = app.clock.now();
    match std::mem::take(&mut ctx.reading) {
        // What is said to a running answer was taken with the head of its answer.
        Reading::Start(_) if ctx.route == Route::Steer => {
            if let Some(generation) = &ctx.generation {
                generation.closed(End::Completed, now);
            }
        }
        // A start's JSON that broke off is an answer that was not seen.
        Reading::Nothing | Reading::Start(_) | Reading::Login(_) | Reading::Config(_) | Reading::NewKey(_) => {}
        Reading::Direct(mut reader, watch) => {
            reader.close(now);
            tell_direct(app, watch.generation(), reader.seen());
            app.generations.tell_at_end(watch.generation(), watch.generation().created_at(), reader.seen());
            // LibreChat stops a run when the client of its direct stream leaves.
            watch.generation().closed(if client_left || reader.seen().created { End::Aborted } else { End::Failed }, now);
        }
        Reading::Stream(stream) => end_stream(app, ctx, *stream),
        Reading::Api(reader) => {
            if let Some(generation) = &ctx.generation {
                app.generations.tell(generation, &seen_of_api(&reader.finish(), now));
            }
        }
    }
}

fn end_stream(app: &App, ctx: &Ctx, mut stream: StreamOfGeneration) {
    stream.reader.close(app.clock.now());
    if let Some(watch) = &stream.watch {
        app.generations.tell_at_end(watch.generation(), stream.created_at, stream.reader.seen());
    } else if let Some(identity) = &ctx.identity
        && let Some(org) = &identity.org
    {
        let (whose, run) = ((org.id.clone(), identity.user.clone()), (stream.conversation_id, stream.created_at));
        app.generations.tell_owner(whose, run, stream.owner, stream.reader.seen().clone());
    }
}

fn seen_of_api(answer: &crate::librechat::openai::ApiAnswer, now: jiff::Timestamp) -> Observation {
    let mut seen = Observation { created: true, reported: answer.usage, ended_at: Some(now), ..Observation::default() };
    seen.end = Some(match (answer.failed, answer.complete) {
        (true, _) => End::Failed,
        (false, true) => End::Completed,
        (false, false) => End::Aborted,
    });
    seen.transcript.append("", &answer.text);
    seen
}

/// The request leaves its generation. One that was forwarded and not answered is never let go.
fn leave(generation: &Generation, route: &Route, error: Option<&Error>) {
    let never_arrived = error.is_some_and(|error| !super::forward::may_have_arrived(error));
    match (generation.phase(), route) {
        (Phase::Admitted, _) => generation.dismiss(),
        (Phase::Asked, _) if never_arrived => generation.dismiss(),
        (Phase::Asked, Route::Chat(ChatRoute::Agents { .. } | ChatRoute::Resume)) => generation.answer_unseen(),
        (Phase::Asked, _) => generation.give_up(),
        _ => {}
    }
}

/// `audit = "actions"` leaves out successful GETs of pages, assets and catalogues.
fn is_audited(app: &App, session: &Session, ctx: &Ctx, status: u16) -> bool {
    let refused_token =
        ctx.identity.is_none() && ctx.refused.as_ref().is_some_and(|refused| matches!(refused.kind, "unauthorized" | "foreign_org"));
    if refused_token || ctx.counted_by.is_some() {
        // Counted and written by minute.
        return false;
    }
    let reads = matches!(session.req_header().method, http::Method::GET | http::Method::HEAD | http::Method::OPTIONS);
    let ordinary = reads && status < 400 && matches!(ctx.route, Route::Page | Route::PublicApi | Route::Config | Route::Catalogue);
    app.config.records.audit == Audit::All || !ordinary
}

fn audit_row(session: &Session, ctx: &mut Ctx, status: u16, error: Option<&Error>) -> AuditRow {
    let head = session.req_header();
    let identity = ctx.identity.as_ref();
    let org = identity.and_then(|identity| identity.org.as_ref());
    let failed = status >= 400 || status == 0;
    let (category, severity) = match status {
        401 | 403 => (Category::Security, Severity::Warning),
        500.. => (category(&ctx.route), Severity::Error),
        400..=499 | 0 => (category(&ctx.route), Severity::Warning),
        _ => (category(&ctx.route), Severity::Info),
    };
    let refused = ctx.refused.take();
    AuditRow {
        id: ctx.id,
        time: ctx.received_at,
        category,
        severity,
        org_id: org.map(|org| org.id.clone()),
        org_day: org.map(|org| org.day(ctx.received_at)),
        // Whoever is refused before they have an account has no id.
        actor_id: identity.map(|identity| identity.user.clone()).filter(|user| !user.is_empty()),
        actor_name: identity.and_then(|identity| identity.name.clone()),
        actor_role: identity.map(|identity| identity.role.clone()),
        action: action(&ctx.route, head.method.as_str(), head.uri.path(), failed),
        resource_type: Some("route"),
        resource_id: Some(ctx.route.class().to_owned()),
        outcome: if failed { Outcome::Failure } else { Outcome::Success },
        request_id: Some(ctx.request_id.clone()),
        method: Some(head.method.as_str().to_owned()),
        path: Some(path(session)),
        query: head.uri.query().map(redacted),
        status: (status > 0).then_some(status),
        duration_ms: u64::try_from(ctx.received.elapsed().as_millis()).ok(),
        error: refused.as_ref().map(|refused| refused.kind.to_owned()).or_else(|| error.map(|error| error.etype().as_str().to_owned())),
        address: Some(ctx.address_text()),
        user_agent: user_agent(session).map(|agent| without_long_words(&agent)),
        conversation_id: ctx.asks.conversation_id.take(),
        model: ctx.asks.model.take(),
        total_tokens: None,
        cost_nanousd: None,
        count: 1,
        reference: refused.as_ref().map(|refused| refused.reference.clone()),
        detail: with_key(detail(refused.and_then(|refused| refused.detail).or_else(|| ctx.detail.take()), ctx.asks.captured.take()), ctx),
        link: None,
    }
}

/// The whole decision, and what of the prompt is written down.
fn detail(decision: Option<Value>, captured: Option<Value>) -> Option<Value> {
    let Some(captured) = captured else { return decision };
    let mut detail = match decision {
        Some(Value::Object(decision)) => decision,
        // A decision is always an object.
        _ => serde_json::Map::new(),
    };
    detail.insert(CAPTURED.to_owned(), captured);
    Some(Value::Object(detail))
}

/// Which API key it came with, if it did.
fn with_key(detail: Option<Value>, ctx: &Ctx) -> Option<Value> {
    let Some(key) = &ctx.key else { return detail };
    let mut detail = detail.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    if let Some(detail) = detail.as_object_mut() {
        detail.insert("api_key".to_owned(), key.id.to_string().into());
    }
    Some(detail)
}

fn category(route: &Route) -> Category {
    match route {
        Route::Auth | Route::Login(_) | Route::HandOff | Route::Enter | Route::Logout | Route::Refresh | Route::Register => Category::Auth,
        _ => Category::Api,
    }
}

/// The path as it is written down: never longer than any real one, and without what looks like a key or a token.
pub fn path(session: &Session) -> String {
    without_long_words(&crate::librechat::chat::bounded(session.req_header().uri.path()))
}

/// The client's user agent, bounded.
pub fn user_agent(session: &Session) -> Option<String> {
    let value = session.req_header().headers.get("user-agent")?;
    Some(crate::librechat::chat::bounded(&String::from_utf8_lossy(value.as_bytes())))
}

/// A query without the values of anything that could be a secret, whether its name says so, in whatever spelling, or
/// its looks.
fn redacted(query: &str) -> String {
    const SECRETS: [&str; 14] =
        ["token", "code", "key", "secret", "pass", "pwd", "state", "session", "auth", "sig", "jwt", "cookie", "cred", "otp"];
    let pairs = query.split(['&', ';']).map(|pair| match pair.split_once('=') {
        Some((name, _)) => {
            // A value may be an address with a query of its own, whose names count as well.
            let plain = crate::librechat::routes::decode(pair).to_ascii_lowercase();
            let names = plain.rsplit_once('=').map_or(&*plain, |(names, _)| names);
            let is_secret = SECRETS.iter().any(|secret| names.contains(secret)) || pair.contains("eyJ");
            if is_secret { format!("{name}=***") } else { pair.to_owned() }
        }
        None => pair.to_owned(),
    });
    without_long_words(&crate::librechat::chat::bounded(&pairs.collect::<Vec<_>>().join("&")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_queries_are_struck_out() {
        assert_eq!(redacted("a=1&access_token=xyz&CODE=7&b"), "a=1&access_token=***&CODE=***&b");
        assert_eq!(redacted("%70assword=HUNTER2;to%6ben=HUNTER2&x=1"), "%70assword=***&to%6ben=***&x=1");
        assert_eq!(redacted("next=/a?jwt=HUNTER2&to=%2Fa%3Fjwt%3DHUNTER2"), "next=***&to=***");
        assert_eq!(redacted("q=0123456789abcdef0123456789abcdef"), "q=***");
        assert_eq!(redacted("q=eyJhbGciOiJIUzI1NiJ9.e30.x"), "q=***");
    }
}
