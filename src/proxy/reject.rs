//! How a rejection is sent: the answer is made in [`crate::error`], here it is only put on the connection.

use bytes::Bytes;
use jiff::tz::TimeZone;
use pingora_core::{Error, ErrorSource, ErrorType};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, Session};

use super::ctx::{Ctx, Refused};
use super::{body, client, origins};
use crate::app::App;
use crate::error::{Answer, AnswerContext, Audience, Malformed, Rejection, reference};
use crate::identity::directory::Language;
use crate::librechat::routes::Route;

/// Answers a request that is not forwarded.
pub async fn send(app: &App, session: &mut Session, ctx: &mut Ctx, rejection: Rejection) {
    let reference = reference(&ctx.counted_by.unwrap_or(ctx.id));
    let answer = rejection.answer(&context(app, session, ctx, &reference));
    let detail = ctx.refused.take().and_then(|refused| refused.detail);
    ctx.refused = Some(Refused { kind: rejection.kind(), reference, detail });
    write(app, session, ctx, answer).await;
}

/// The last event of a stream that is broken off, which says why.
pub fn event(app: &App, session: &Session, ctx: &mut Ctx, rejection: &Rejection) -> Bytes {
    let reference = reference(&ctx.id);
    let event = rejection.event(&context(app, session, ctx, &reference));
    ctx.refused = Some(Refused { kind: rejection.kind(), reference, detail: None });
    event
}

fn context<'a>(app: &App, session: &Session, ctx: &'a Ctx, reference: &'a str) -> AnswerContext<'a> {
    const UTC: &TimeZone = &TimeZone::UTC;
    let org = ctx.identity.as_ref().and_then(|identity| identity.org.as_deref());
    AnswerContext {
        audience: audience(&ctx.route),
        language: language(session, org.and_then(|org| org.language)),
        zone: ctx.zone.as_ref().or(org.map(|org| &org.zone)).unwrap_or(UTC),
        now: app.clock.now(),
        reference,
        request_id: &ctx.request_id,
    }
}

/// The language of a person's answers.
fn language(session: &Session, org: Option<Language>) -> Language {
    let headers = &session.req_header().headers;
    let text = |name| headers.get_all(name).iter().filter_map(|value: &http::HeaderValue| value.to_str().ok());
    let cookie = text("cookie").flat_map(|cookies| cookies.split(';')).find_map(|cookie| cookie.trim().strip_prefix("lang="));
    Language::of(org, cookie, text("accept-language").next())
}

/// Puts an answer of ours on the connection. What is left of the request's body is read away, for a while; the connection
/// then ends, since nobody can say where the next request would begin.
pub async fn write(app: &App, session: &mut Session, ctx: &Ctx, answer: Answer) {
    let unfinished = !session.as_downstream_mut().is_body_done();
    client::part_when_stopping(app, session);
    if write_answer(session, ctx, answer).await.is_err() {
        tracing::debug!(request.id = %ctx.request_id, "the client left before it was answered");
    } else if unfinished {
        body::drain(session).await;
    }
}

async fn write_answer(session: &mut Session, ctx: &Ctx, answer: Answer) -> pingora_core::Result<()> {
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len() + 2))?;
    for (name, value) in answer.headers {
        if name == "Set-Cookie" {
            head.append_header(name, value)?;
        } else {
            head.insert_header(name, value)?;
        }
    }
    if answer.status != 204 {
        head.insert_header("Content-Length", answer.body.len().to_string())?;
    }
    origins::answer(&ctx.cors, &mut head)?;
    head.insert_header("X-Request-Id", &*ctx.request_id)?;
    let no_body = answer.body.is_empty() || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), no_body).await?;
    if !no_body {
        session.write_response_body(Some(answer.body), true).await?;
    }
    Ok(())
}

/// LibreChat could not be reached, or broke off, or the client did.
pub async fn upstream_failed(app: &App, session: &mut Session, ctx: &mut Ctx, error: &Error) -> FailToProxy {
    let is_clients = matches!(error.esource(), ErrorSource::Downstream);
    let rejection = match error.etype() {
        ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed if is_clients => {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        // Pingora strikes out what this header names, and will not let it name where a request comes from.
        ErrorType::InvalidHTTPHeader if is_clients => Rejection::Malformed(Malformed::Header("Connection")),
        _ if is_clients => body::broken(error),
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError => Rejection::UpstreamAway,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Rejection::UpstreamTimeout,
        _ => Rejection::UpstreamBroken,
    };
    if !is_clients {
        tracing::warn!(request.id = %ctx.request_id, route = ctx.route.class(), error = %error, "LibreChat did not answer");
    }
    let status = rejection.status();
    if session.response_written().is_none() {
        // Pingora ends the connection; a client that is not told so may send its next request into nothing.
        session.set_keepalive(None);
        send(app, session, ctx, rejection).await;
    }
    FailToProxy { error_code: status, can_reuse_downstream: false }
}

/// Who reads the answers of a route.
fn audience(route: &Route) -> Audience {
    match route {
        Route::Chat(_) => Audience::Chat,
        Route::AgentApi(_) | Route::AgentApiRead => Audience::AgentApi,
        Route::HandOff => Audience::Application,
        Route::Page | Route::Hidden | Route::Enter => Audience::Page,
        _ => Audience::Api,
    }
}
