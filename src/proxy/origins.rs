//! Pages of other origins: which of them may send what changes something, and which may read the answer.
//!
//! A browser adds cookies to whatever page sends a request, so that what changes something, and every upgrade to a websocket,
//! has to come from a page of the place itself, or from an origin that the configuration lists. `Sec-Fetch-Site` says so
//! where browsers send it, `Origin` elsewhere. A Bearer token is nothing that a browser adds by itself, and what carries one
//! needs no other proof. LibreChat lets every page read its answers; here only those may that are listed.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, COOKIE, HOST, HeaderName, HeaderValue, ORIGIN, UPGRADE, VARY,
};
use http::{HeaderMap, Method};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::counted;
use super::ctx::Ctx;
use crate::app::App;
use crate::error::{Answer, Rejection};
use crate::identity::bearer;
use crate::identity::web_origin::{LONGEST_ORIGIN, is_own};
use crate::librechat::routes;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a page of another origin may do; `OPTIONS` is no question of its own.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// What a page of another origin sees of an answer's head besides what every page does.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, X-LibreChat-Generation-Protocol, Content-Disposition",
);

/// For how many seconds a browser may remember a preflight: what the configuration lists may change.
const PREFLIGHT_LASTS: &str = "600";

/// The longest list of header names that a preflight is answered with.
const MOST_ASKED_HEADERS: usize = 1000;

/// Which page may read the answer to a request.
#[derive(Debug, Default)]
pub struct Cors {
    /// Whether answers differ by origin, so that caches must tell them apart.
    varies: bool,
    reader: Option<Reader>,
}

/// A listed origin that asks.
#[derive(Debug)]
struct Reader {
    origin: HeaderValue,
    /// Whether it may read the answers of every org.
    of_all_orgs: bool,
}

/// Sees where a request comes from and which org's host it asks for.
pub fn recognise(app: &App, session: &Session, ctx: &mut Ctx) {
    let head = session.req_header();
    let entrances = app.directory.entrances();
    ctx.host_org = entrances.org_of_host(host(head)).cloned();
    ctx.cors.varies = !app.config.public.cors_origins.is_empty() || entrances.are_read();
    if ctx.cors.varies
        && let Said::One(origin) = said(&head.headers, &ORIGIN)
        && let Some(of_all_orgs) = listed(app, ctx, origin)
        && let Ok(value) = HeaderValue::from_str(origin)
    {
        ctx.cors.reader = Some(Reader { origin: value, of_all_orgs });
    }
}

/// Takes reading away from a page that only other orgs than the person's list.
pub fn narrow(ctx: &mut Ctx) {
    let Some(reader) = ctx.cors.reader.as_ref().filter(|reader| !reader.of_all_orgs) else { return };
    let Some(org) = ctx.identity.as_ref().and_then(|identity| identity.org.as_ref()) else { return };
    if !org.access.cors_origins.iter().any(|listed| listed.as_str().as_bytes() == reader.origin.as_bytes()) {
        ctx.cors.reader = None;
    }
}

/// Whether an origin is listed: by the place for all orgs, or by an org.
fn listed(app: &App, ctx: &Ctx, origin: &str) -> Option<bool> {
    if app.config.public.cors_origins.iter().any(|listed| listed.as_str() == origin) {
        return Some(true);
    }
    let by_org = match &ctx.host_org {
        Some(org) => org.access.cors_origins.iter().any(|listed| listed.as_str() == origin),
        None => app.directory.entrances().are_read_by(origin),
    };
    by_org.then_some(false)
}

/// Whether a browser asks what a page of another origin may send.
pub fn is_preflight(head: &RequestHeader) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(ORIGIN) && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers such a question, which LibreChat never hears.
pub fn preflight(app: &App, session: &Session, ctx: &mut Ctx) -> std::result::Result<Answer, Rejection> {
    if ctx.cors.reader.is_none() {
        return Err(counted::refuse(app, session, ctx, "auth.origin_refused", Rejection::ForeignOrigin));
    }
    let mut headers = vec![("Access-Control-Allow-Methods", METHODS.to_owned()), ("Access-Control-Max-Age", PREFLIGHT_LASTS.to_owned())];
    if let Some(asked) = asked_headers(&session.req_header().headers) {
        headers.push(("Access-Control-Allow-Headers", asked));
    }
    Ok(Answer { status: 204, headers, body: bytes::Bytes::new() })
}

/// The names of headers that a page wants to send, where they are names.
fn asked_headers(headers: &HeaderMap) -> Option<String> {
    let Said::One(asked) = said(headers, &ACCESS_CONTROL_REQUEST_HEADERS) else { return None };
    let is_name = |name: &str| HeaderName::from_bytes(name.trim().as_bytes()).is_ok();
    (asked.len() <= MOST_ASKED_HEADERS && asked.split(',').all(is_name)).then(|| asked.to_owned())
}

/// Refuses what a page of another origin may not send.
pub fn check(app: &App, session: &Session, ctx: &mut Ctx) -> std::result::Result<(), Rejection> {
    let head = session.req_header();
    let only_reads = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
    let upgrades = is_websocket(head);
    if only_reads && !upgrades {
        return Ok(());
    }
    let carries_token = || matches!(bearer(head.headers.get_all(AUTHORIZATION)), Ok(Some(_)));
    let comes_back = || head.method == Method::POST && routes::is_called_back(head.uri.path());
    if (!upgrades && carries_token()) || !is_foreign(app, head, ctx) || (!upgrades && comes_back()) {
        return Ok(());
    }
    Err(counted::refuse(app, session, ctx, "auth.origin_refused", Rejection::ForeignOrigin))
}

fn is_websocket(head: &RequestHeader) -> bool {
    let protocols = head.headers.get_all(UPGRADE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    protocols.map(<[u8]>::trim_ascii).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Whether a page of another origin sent this, or one of which nobody can say which it is.
fn is_foreign(app: &App, head: &RequestHeader, ctx: &Ctx) -> bool {
    let site = said(&head.headers, &SEC_FETCH_SITE);
    if matches!(site, Said::One("same-origin" | "none")) {
        return false;
    }
    match said(&head.headers, &ORIGIN) {
        Said::One(origin) => {
            let own = matches!(site, Said::Nothing) && is_own(origin, host(head), ctx.is_https);
            !own && listed(app, ctx, origin).is_none()
        }
        Said::Unclear => true,
        // Every browser says where it comes from when it changes something, so that this is a program. One that is known by
        // a cookie could be a browser all the same.
        Said::Nothing => !matches!(site, Said::Nothing) || head.headers.contains_key(COOKIE),
    }
}

/// What a header says.
enum Said<'a> {
    Nothing,
    One(&'a str),
    /// It stands there several times, or holds what no such header does.
    Unclear,
}

fn said<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Said<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Said::Nothing,
        (Some(value), None) if *name != ORIGIN || value.len() <= LONGEST_ORIGIN => value.to_str().map_or(Said::Unclear, Said::One),
        _ => Said::Unclear,
    }
}

/// The host that was asked for, with its port where one was named: of HTTP/2 `:authority`.
pub fn host(head: &RequestHeader) -> &str {
    let named = head.uri.authority().map(http::uri::Authority::as_str);
    named.or_else(|| head.headers.get(HOST)?.to_str().ok()).unwrap_or_default()
}

/// Lets pages read an answer as the configuration says, whatever LibreChat says. Without this one header no page of another
/// origin reads anything, whichever others there are. Cookies are of no use to such a page: its requests carry tokens.
pub fn answer(cors: &Cors, head: &mut ResponseHeader) -> Result<()> {
    head.remove_header(&ACCESS_CONTROL_ALLOW_ORIGIN);
    if cors.varies {
        head.append_header(VARY, HeaderValue::from_static("Origin"))?;
    }
    if let Some(reader) = &cors.reader {
        head.remove_header(&ACCESS_CONTROL_ALLOW_CREDENTIALS);
        head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, reader.origin.clone())?;
        head.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
    }
    Ok(())
}
