//! Sign-ins with LibreChat's own accounts on their way through: counted before they are forwarded, judged by what LibreChat
//! answers, and written down without what was typed.
//!
//! Anyone can fail as often as they like, so that failures and refusals are rows by the minute, as refused tokens are.

use pingora_core::{Error, ErrorSource};
use pingora_proxy::Session;
use serde_json::{Value, json};
use uuid::Uuid;

use super::ctx::Ctx;
use super::relay::Reading;
use super::{body, forward, settle};
use crate::app::App;
use crate::error::{LoginRefused, Malformed, Rejection, reference};
use crate::identity::lockouts::{How, LoginName, Subject};
use crate::identity::logins::{Attempt, InTheWay, Left, Tried, all_suspended};
use crate::identity::{Identity, Logins, Org, Suspended, Verified, is_user_id};
use crate::librechat::actions::action;
use crate::librechat::login::{LoginAnswer, Unreadable, named};
use crate::librechat::routes::{LoginStep, names_credentials};
use crate::records::capture::without_long_words;
use crate::records::{AuditRow, Category, Outcome, Severity};
use crate::telemetry::metrics::LoginOutcome;

/// The largest body of a sign-in: LibreChat takes passwords of at most 128 characters.
const MAX_BYTES: usize = 16 * 1024;

/// A sign-in that was let through.
#[derive(Debug)]
pub struct Login {
    step: LoginStep,
    attempt: Attempt,
}

/// Lets a sign-in through, or says why not.
pub async fn admit(app: &App, session: &mut Session, ctx: &mut Ctx, step: LoginStep) -> Result<(), Rejection> {
    let Some(logins) = &app.logins else { return Ok(()) };
    let tried = match read(logins, session, ctx, step).await {
        Ok(tried) => tried,
        Err(rejection) => return Err(refuse(app, session, ctx, &Tried::Nothing, rejection, LoginOutcome::Malformed)),
    };
    if let Some(suspended) = suspended(app, ctx, &tried) {
        let rejection = Rejection::Login(LoginRefused::Suspended(suspended));
        return Err(refuse(app, session, ctx, &tried, rejection, LoginOutcome::Suspended));
    }
    let (refused, outcome) = match logins.begin(tried.clone(), ctx.address, app.clock.now()).await {
        Ok(attempt) => {
            ctx.login = Some(Login { step, attempt });
            return Ok(());
        }
        Err(InTheWay::Locked(subject, until)) if subject.is_shared() => (LoginRefused::Slowed { until }, LoginOutcome::Slowed),
        Err(InTheWay::Locked(_, until)) => (LoginRefused::Locked { until }, LoginOutcome::Locked),
        Err(InTheWay::Busy) => (LoginRefused::Busy, LoginOutcome::Locked),
        Err(InTheWay::Away) => (LoginRefused::Away, LoginOutcome::Away),
    };
    Err(refuse(app, session, ctx, &tried, Rejection::Login(refused), outcome))
}

/// What is tried. LibreChat takes a name and a password from the query too, where the body holds none.
async fn read(logins: &Logins, session: &mut Session, ctx: &mut Ctx, step: LoginStep) -> Result<Tried, Rejection> {
    if session.req_header().uri.query().is_some_and(names_credentials) {
        return Err(Rejection::Malformed(Malformed::Target));
    }
    // A body of no kind is none to LibreChat.
    let is_read = session.req_header().headers.contains_key("content-type");
    if is_read && !session.as_downstream_mut().is_body_empty() {
        body::expect_plain_json(session)?;
    }
    let body = ctx.body.insert(body::read(session, MAX_BYTES).await?);
    if !is_read {
        return Ok(Tried::Nothing);
    }
    let named = named(step, body).map_err(|unreadable| {
        Rejection::Malformed(match unreadable {
            Unreadable::NotJson => Malformed::NotJson,
            Unreadable::Twice => Malformed::Shape,
            Unreadable::NoText(field) => Malformed::Field(field),
        })
    })?;
    Ok(match (named, step) {
        (None, _) => Tried::Nothing,
        (Some(name), LoginStep::Password) => LoginName::of(&name).map_or(Tried::Nothing, Tried::Name),
        (Some(token), LoginStep::SecondFactor) => logins.second_factor_of(&token),
    })
}

/// Whether this person, or their org, is suspended. An org with a host of its own decides there over its own people; whom
/// the directory does not know is of the org that their sign-in would put them into.
fn suspended(app: &App, ctx: &Ctx, tried: &Tried) -> Option<Suspended> {
    let members = Logins::members(&app.directory, tried);
    let is_of_host = |org: &str| ctx.host_org.as_ref().is_some_and(|host| *host.id == *org);
    if members.iter().any(|member| is_of_host(&member.org)) {
        let of_host: Vec<_> = members.into_iter().filter(|member| is_of_host(&member.org)).collect();
        return all_suspended(&app.directory, &of_host);
    }
    if !members.is_empty() {
        return all_suspended(&app.directory, &members);
    }
    let Tried::Name(name) = tried else { return None };
    let settings = &app.config.librechat;
    let by_domain = settings.trust_email_domains.then(|| app.directory.by_email(name.as_str())).flatten();
    let by_default = || settings.default_org.as_deref().and_then(|id| app.directory.by_id(id));
    Suspended::of(by_domain.or_else(by_default).as_deref(), None)
}

/// Counts this refusal. Its person is shown the reference of the row that counts it.
fn refuse(app: &App, session: &Session, ctx: &mut Ctx, tried: &Tried, rejection: Rejection, outcome: LoginOutcome) -> Rejection {
    app.metrics.login(outcome);
    let status = rejection.status();
    let category = if status >= 500 { Category::Auth } else { Category::Security };
    let row = AuditRow { category, severity: severity(status), status: Some(status), ..row_of(app, session, ctx, tried) };
    let id = count(app, ctx, rejection.kind(), row);
    ctx.counted_by = Some(id);
    rejection
}

/// Tells what became of a sign-in that was let through.
pub async fn end(app: &App, session: &Session, error: Option<&Error>, ctx: &mut Ctx) {
    let (Some(Login { step, attempt }), Some(logins)) = (ctx.login.take(), &app.logins) else { return };
    let answer = match std::mem::take(&mut ctx.reading) {
        Reading::Login(reader) => reader.finish(step),
        _ => unanswered(error, ctx),
    };
    let how = match &answer {
        LoginAnswer::SignedIn(_) => How::Succeeded,
        LoginAnswer::Wrong(_) => How::Failed,
        LoginAnswer::CodeAsked | LoginAnswer::NotJudged(_) => How::GivenBack,
    };
    let identity = identity(app, &answer).await;
    let email = identity.as_ref().and_then(|identity| identity.email.as_deref());
    // While the store is away nothing can be told; the attempt then ends by itself.
    let left = logins.end(&attempt, how, email, app.clock.now()).await.unwrap_or_default();
    note(app, session, ctx, &attempt, &answer, identity, &left);
    for (subject, until) in left.locked {
        app.metrics.login_locked(subject.kind());
        let row = locked(app, session, ctx, &attempt.tried, &subject, until);
        app.recorder.record_audit(row);
    }
}

/// A sign-in that LibreChat did not answer. Whoever leaves before they are answered has guessed all the same.
fn unanswered(error: Option<&Error>, ctx: &Ctx) -> LoginAnswer {
    let is_clients = |error: &Error| matches!(error.esource(), ErrorSource::Downstream) && forward::may_have_arrived(error);
    if error.is_some_and(is_clients) {
        return LoginAnswer::Wrong("client_left");
    }
    LoginAnswer::NotJudged(ctx.refused.as_ref().map_or("no_answer", |refused| refused.kind))
}

/// Who signed in, by the token that LibreChat gave them.
async fn identity(app: &App, answer: &LoginAnswer) -> Option<Identity> {
    let LoginAnswer::SignedIn(token) = answer else { return None };
    let Ok(Verified::LibreChat(identity)) = app.verifier.verify_or_ask(token, app.clock.now()).await else { return None };
    if is_user_id(&identity.user) {
        let org = identity.org.as_deref();
        app.arrivals.seen(&app.directory, org, &identity.user, identity.name.as_ref(), identity.email.as_deref());
    }
    Some(identity)
}

/// Writes down what LibreChat made of a sign-in.
fn note(app: &App, session: &Session, ctx: &mut Ctx, attempt: &Attempt, answer: &LoginAnswer, who: Option<Identity>, left: &Left) {
    let status = session.response_written().map_or(0, |head| head.status.as_u16());
    let row = AuditRow { status: (status > 0).then_some(status), ..row_of(app, session, ctx, &attempt.tried) };
    let row = AuditRow { detail: (!attempt.is_counted).then(|| json!({ "counted": false })), ..row };
    let id = match *answer {
        LoginAnswer::SignedIn(_) | LoginAnswer::CodeAsked => {
            let asked = *answer == LoginAnswer::CodeAsked;
            app.metrics.login(if asked { LoginOutcome::CodeAsked } else { LoginOutcome::SignedIn });
            let detail = if asked { Some(json!({ "second_factor": "asked" })) } else { row.detail.clone() };
            let row = AuditRow { id: ctx.id, detail, outcome: Outcome::Success, ..row };
            let severity = if left.is_new_place_after_lock { Severity::Critical } else { Severity::Info };
            let row = AuditRow { action: named_action(session, ctx, false), category: Category::Auth, severity, ..row };
            app.recorder.record_audit(signed_in(ctx, row, who, left));
            ctx.id
        }
        LoginAnswer::Wrong(why) => {
            app.metrics.login(LoginOutcome::Failed);
            count(app, ctx, why, row)
        }
        LoginAnswer::NotJudged(why) => {
            app.metrics.login(LoginOutcome::NotJudged);
            let row = AuditRow { category: Category::Auth, severity: severity(status), ..row };
            match &ctx.refused {
                // Its person was shown the reference of their own request.
                Some(refused) => {
                    let (error, reference) = (Some(why.to_owned()), Some(refused.reference.clone()));
                    app.recorder.record_audit(AuditRow { id: ctx.id, error, reference, ..row });
                    ctx.id
                }
                None => count(app, ctx, why, row),
            }
        }
    };
    ctx.counted_by = Some(id);
}

fn signed_in(ctx: &Ctx, row: AuditRow, who: Option<Identity>, left: &Left) -> AuditRow {
    let Some(who) = who else { return row };
    let after_lock = left.is_new_place_after_lock.then(|| json!({ "new_place_after_lock": true }));
    AuditRow {
        org_id: who.org.as_ref().map(|org| org.id.clone()),
        org_day: who.org.as_ref().map(|org| org.day(ctx.received_at)),
        actor_id: Some(who.user.clone()),
        actor_name: who.name,
        actor_role: Some(who.role),
        resource_type: Some("member"),
        resource_id: Some(who.user.to_string()),
        detail: after_lock.or(row.detail),
        ..row
    }
}

/// Counts a failure in the row of its minute; the id of that.
fn count(app: &App, ctx: &Ctx, why: &'static str, row: AuditRow) -> Uuid {
    let whom = format!("{} {}", row.action, row.resource_id.as_deref().unwrap_or_default());
    let (id, row) = app.refused_tokens.count_of(&ctx.address_text(), why, &whom, |id| AuditRow {
        id,
        error: Some(why.to_owned()),
        reference: Some(reference(&id)),
        ..row
    });
    if let Some(row) = row {
        app.recorder.record_audit(row);
    }
    id
}

/// A failed sign-in, as far as it is the same whatever failed.
fn row_of(app: &App, session: &Session, ctx: &Ctx, tried: &Tried) -> AuditRow {
    let org = org_of(app, tried);
    let (resource_type, resource_id) = match tried {
        Tried::Name(name) => ("login_name", app.names.hash(name.as_str())),
        Tried::SecondFactor(user) => ("member", user.to_string()),
        Tried::Nothing => ("route", ctx.route.class().to_owned()),
    };
    AuditRow {
        org_day: org.as_ref().map(|org| org.day(ctx.received_at)),
        org_id: org.map(|org| org.id.clone()),
        resource_type: Some(resource_type),
        resource_id: Some(resource_id),
        outcome: Outcome::Failure,
        request_id: Some(ctx.request_id.clone()),
        method: Some(session.req_header().method.as_str().to_owned()),
        path: Some(settle::path(session)),
        duration_ms: u64::try_from(ctx.received.elapsed().as_millis()).ok(),
        address: Some(ctx.address_text()),
        user_agent: settle::user_agent(session).map(|agent| without_long_words(&agent)),
        ..AuditRow::plain(ctx.received_at, Category::Security, Severity::Warning, named_action(session, ctx, true))
    }
}

/// The row of a lock. Whose it is stands there as in the rows of the failures.
fn locked(app: &App, session: &Session, ctx: &Ctx, tried: &Tried, subject: &Subject, until: jiff::Timestamp) -> AuditRow {
    let (row, locks_many) = (row_of(app, session, ctx, tried), subject.is_shared());
    let detail: Value = json!({ "locked": subject.kind(), "until": until.to_string() });
    AuditRow {
        id: Uuid::now_v7(),
        action: "auth.locked",
        outcome: Outcome::Success,
        org_id: row.org_id.clone().filter(|_| !locks_many),
        org_day: row.org_day.clone().filter(|_| !locks_many),
        resource_type: if locks_many { Some("address") } else { row.resource_type },
        resource_id: if locks_many { row.address.clone() } else { row.resource_id.clone() },
        duration_ms: None,
        detail: Some(detail),
        ..row
    }
}

fn named_action(session: &Session, ctx: &Ctx, failed: bool) -> &'static str {
    let head = session.req_header();
    action(&ctx.route, head.method.as_str(), head.uri.path(), failed)
}

/// The org of whom a sign-in is for, where the directory knows one.
fn org_of(app: &App, tried: &Tried) -> Option<std::sync::Arc<Org>> {
    let members = Logins::members(&app.directory, tried);
    let (first, others) = members.split_first()?;
    others.iter().all(|other| other.org == first.org).then(|| app.directory.by_id(&first.org)).flatten()
}

fn severity(status: u16) -> Severity {
    if status >= 500 { Severity::Error } else { Severity::Warning }
}
