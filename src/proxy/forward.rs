//! The second stage: what LibreChat hears. What clients may not say is struck out, and what it should hear is set.

use std::borrow::Cow;
use std::time::Duration;

use http::header::HeaderName;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::ctx::{Ctx, Origin, Traced};
use super::{rewrite, sign_in};
use crate::identity::keys::PREFIX;
use crate::librechat::routes::Route;

/// LibreChat (Node) closes idle connections after 5 s; ours go before.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams may be silent for half an hour: LibreChat sends no heartbeats.
const STREAM_READ_TIMEOUT: Duration = Duration::from_mins(35);

/// Everything else: an upload with text recognition may take minutes.
const READ_TIMEOUT: Duration = Duration::from_mins(10);

/// Sign-ins: less than an attempt is held open for.
const LOGIN_READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Where the request goes.
pub fn peer(ctx: &Ctx) -> Result<Box<HttpPeer>> {
    let Some(address) = ctx.destination.place.as_ref().and_then(|place| place.address().known()) else {
        return Error::e_explain(ErrorType::ConnectNoRoute, "LibreChat's name has no address");
    };
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
    peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT);
    peer.options.idle_timeout = Some(POOL_IDLE_TIMEOUT);
    peer.options.read_timeout = Some(match ctx.route {
        Route::Login(_) => LOGIN_READ_TIMEOUT,
        Route::NewAgentKey => READ_TIMEOUT,
        _ if ctx.route.answer_is_read() => STREAM_READ_TIMEOUT,
        _ => READ_TIMEOUT,
    });
    Ok(Box::new(peer))
}

/// The head that LibreChat is sent.
pub fn prepare(session: &Session, request: &mut RequestHeader, ctx: &Ctx) -> Result<()> {
    let struck: Vec<HeaderName> = request.headers.keys().filter(|name| is_forbidden(name.as_str())).cloned().collect();
    for name in struck {
        request.remove_header(&name);
    }
    request.insert_header("X-Forwarded-For", ctx.address_text())?;
    request.insert_header("X-Forwarded-Proto", if ctx.is_https { "https" } else { "http" })?;
    request.insert_header("X-Request-Id", &*ctx.request_id)?;
    if let Some(tenant) = ctx.org().and_then(|org| org.access.tenant.as_ref()) {
        // Before LibreChat knows whose request it is it reads this, on routes that differ by version; elsewhere it does not.
        request.insert_header("X-Tenant-Id", tenant.header().clone())?;
    }
    trace(request, &ctx.traced)?;
    join_cookies(request)?;
    // What is read is never a tunnel.
    if !session.is_upgrade_req() || ctx.route.answer_is_read() {
        request.remove_header("connection");
        request.remove_header("upgrade");
    }
    if ctx.body.is_some() {
        // The body was read here, so nobody waits to be told to go on.
        request.remove_header("expect");
    }
    if ctx.route.answer_is_read() {
        request.insert_header("Accept-Encoding", "identity")?;
    }
    if ctx.hides.is_some() {
        rewrite::ask(request)?;
    }
    if let Some(token) = &ctx.swapped_token {
        request.insert_header("Authorization", format!("Bearer {token}"))?;
    } else if request.headers.get_all("authorization").iter().any(names_our_key) {
        request.remove_header("authorization");
    }
    Ok(())
}

/// What LibreChat hears of traces (W3C Trace Context).
fn trace(request: &mut RequestHeader, traced: &Traced) -> Result<()> {
    match traced {
        Traced::AsItCame | Traced::Trusted(_) => {}
        Traced::Struck => {
            request.remove_header("traceparent");
            request.remove_header("tracestate");
        }
        Traced::Here(span, origin) => {
            request.insert_header("traceparent", span.as_str())?;
            if *origin == Origin::Here {
                request.remove_header("tracestate");
            }
        }
    }
    Ok(())
}

/// Whether this carries what looks like a key of ours, which is nothing to LibreChat.
fn names_our_key(value: &http::HeaderValue) -> bool {
    value
        .as_bytes()
        .split(u8::is_ascii_whitespace)
        .any(|word| word.get(..PREFIX.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(PREFIX.as_bytes())))
}

/// HTTP/2 clients send their cookies in several headers; HTTP/1.1 knows only one (RFC 9113 8.2.3). The cookie of a session is
/// nothing that LibreChat may know.
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    let is_ours = |cookie: &[u8]| cookie.trim_ascii_start().starts_with(sign_in::COOKIE.as_bytes());
    let lines: Vec<&[u8]> = request.headers.get_all("cookie").iter().map(http::HeaderValue::as_bytes).collect();
    let holds_ours = lines.iter().any(|line| line.split(|byte| *byte == b';').any(is_ours));
    if lines.len() <= 1 && !holds_ours {
        return Ok(());
    }
    let cookies = lines.iter().flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let joined = cookies.filter(|cookie| !cookie.is_empty() && !is_ours(cookie)).collect::<Vec<_>>().join(&b"; "[..]);
    if joined.is_empty() {
        request.remove_header("Cookie");
        return Ok(());
    }
    request.insert_header("Cookie", joined)
}

/// Headers that a client may not say to LibreChat: whose tenant it is, that it is LibreChat itself, where it comes from. A
/// name with underscores is the same to some servers, and so it is here.
fn is_forbidden(name: &str) -> bool {
    if !matches!(name.as_bytes().first(), Some(b'x' | b'f' | b't' | b'k' | b'p')) {
        return false;
    }
    let name = if name.contains('_') { Cow::Owned(name.replace('_', "-")) } else { Cow::Borrowed(name) };
    matches!(
        &*name,
        "x-tenant-id"
            | "x-lc-agent-trigger"
            | "forwarded"
            | "x-real-ip"
            | "x-client-ip"
            | "true-client-ip"
            | "x-cluster-client-ip"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "te"
    ) || name.starts_with("x-forwarded")
        || name.starts_with("x-tollgate-")
}

/// Whether a failed request may have been seen by LibreChat. What went wrong on the client's side says nothing about that.
pub fn may_have_arrived(error: &pingora_core::Error) -> bool {
    use pingora_core::ErrorType::{ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, SocketError};
    let never_connected = matches!(error.etype(), ConnectError | ConnectNoRoute | ConnectRefused | ConnectTimedout | SocketError);
    !(never_connected && matches!(error.esource(), pingora_core::ErrorSource::Upstream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_headers_in_every_spelling() {
        for name in [
            "x-tenant-id",
            "x_tenant_id",
            "x-tenant_id",
            "x-lc-agent-trigger",
            "x-forwarded-for",
            "x-forwarded-host",
            "x_forwarded_proto",
            "forwarded",
        ] {
            assert!(is_forbidden(name), "{name}");
        }
        for name in ["x-librechat-generation-protocol", "authorization", "user-agent", "x-request-id"] {
            assert!(!is_forbidden(name), "{name}");
        }
    }
}
