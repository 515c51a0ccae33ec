//! How a body is read before anything is forwarded, and replayed afterwards.
//!
//! Pingora replays at most 64 KiB of a body that was read early, and nothing at all of one that was longer. So its
//! buffer is armed late, when no more than that is still to come: it then holds the tail, asks for it to be sent exactly
//! once per attempt, and the whole body is put in its place.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora_core::{Error, ErrorType};
use pingora_proxy::Session;

use super::ctx::Ctx;
use crate::error::{Malformed, Rejection};

/// What Pingora's buffer holds (`BODY_BUF_LIMIT`).
const REPLAY_LIMIT: usize = 64 * 1024;

/// How long a client may take to send a body that is read whole.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// How long an unread body is drained after a refusal, so that the client can read the answer.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// LibreChat would also read compressed and form-encoded bodies, which its own client never sends. What cannot be read
/// here must not be forwarded.
pub fn expect_plain_json(session: &Session) -> Result<(), Rejection> {
    let headers = &session.req_header().headers;
    let one = |name| {
        let mut values =
            headers.get_all(name).iter().map(|value: &http::HeaderValue| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        (values.next(), values.next().is_some())
    };
    let (content_type, doubled) = one("content-type");
    if doubled || !is_plain_json(&content_type.unwrap_or_default()) {
        return Err(Rejection::UnsupportedMedia);
    }
    match one("content-encoding") {
        (None, _) => Ok(()),
        (Some(encoding), false) if encoding == "identity" => Ok(()),
        _ => Err(Rejection::UnsupportedMedia),
    }
}

/// Whether a `Content-Type` in lower case is JSON in UTF-8. Express decodes other charsets, UTF-7 among them, so that it
/// would read another text than was counted; of several parameters nobody can say which one it takes.
fn is_plain_json(content_type: &str) -> bool {
    let (media, charset) = match content_type.split_once(';') {
        Some((media, parameter)) => (media, parameter.trim()),
        None => (content_type, "charset=utf-8"),
    };
    media.trim() == "application/json" && matches!(charset, "charset=utf-8" | "charset=\"utf-8\"")
}

/// Reads the whole body, at most `limit` bytes of a stated length, or at most 65,536 bytes of an unknown one.
pub async fn read(session: &mut Session, limit: usize) -> Result<Bytes, Rejection> {
    let declared = declared_length(session)?;
    if declared.is_some_and(|length| length > limit) {
        return Err(Rejection::TooLarge { limit: limit as u64 });
    }
    if session.req_header().headers.get("expect").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        // Pingora ends connections that are answered before their body is read; this one will be read.
        session.as_downstream_mut().set_close_on_response_before_downstream_finish(false);
        session.write_continue_response().await.map_err(|_| Rejection::Malformed(Malformed::Truncated))?;
    }
    match tokio::time::timeout(READ_TIMEOUT, read_chunks(session, declared, limit)).await {
        Ok(body) => body,
        Err(_) => Err(Rejection::TooSlow),
    }
}

async fn read_chunks(session: &mut Session, declared: Option<usize>, limit: usize) -> Result<Bytes, Rejection> {
    let mut body = BytesMut::with_capacity(declared.unwrap_or(4096).min(REPLAY_LIMIT));
    loop {
        if declared.is_none_or(|length| length.saturating_sub(body.len()) <= REPLAY_LIMIT) {
            session.enable_retry_buffering();
        }
        let chunk = session.read_request_body().await.map_err(|error| broken(&error))?;
        let Some(chunk) = chunk else { break };
        if body.len() + chunk.len() > limit {
            return Err(Rejection::TooLarge { limit: limit as u64 });
        }
        body.extend_from_slice(&chunk);
        if session.retry_buffer_truncated() {
            return Err(Rejection::LengthRequired);
        }
    }
    if declared.is_some_and(|length| length != body.len()) {
        return Err(Rejection::Malformed(Malformed::Truncated));
    }
    Ok(body.freeze())
}

/// What a body that cannot be read to its end is answered.
pub fn broken(error: &Error) -> Rejection {
    match error.etype() {
        ErrorType::ReadTimedout => Rejection::TooSlow,
        _ => Rejection::Malformed(Malformed::Truncated),
    }
}

fn declared_length(session: &Session) -> Result<Option<usize>, Rejection> {
    let headers = &session.req_header().headers;
    if headers.contains_key("transfer-encoding") {
        return Ok(None);
    }
    let mut lengths = headers.get_all("content-length").iter();
    let Some(first) = lengths.next() else { return Ok(None) };
    let malformed = Rejection::Malformed(Malformed::Header("Content-Length"));
    if lengths.any(|other| other != first) {
        return Err(malformed);
    }
    first.to_str().ok().and_then(|length| length.trim().parse().ok()).map(Some).ok_or(malformed)
}

/// Puts the whole body in the place of the tail that Pingora replays.
///
/// With its body a chat start has left; before, LibreChat cannot have begun anything.
pub fn replay(chunk: &mut Option<Bytes>, end_of_stream: bool, ctx: &Ctx) {
    if let Some(generation) = &ctx.generation {
        generation.forwarded();
    }
    match &ctx.body {
        // Pingora asks once per attempt, with the tail. A retry asks again, so the body is kept.
        Some(body) => *chunk = if chunk.is_some() && !body.is_empty() { Some(body.clone()) } else { None },
        // An HTTP/2 client may end with an empty frame; passing that on would end a chunked body twice (pingora#935).
        None if end_of_stream && chunk.as_ref().is_some_and(Bytes::is_empty) => *chunk = None,
        None => {}
    }
}

/// Reads away what is left of a body after a refusal: over HTTP/2, and for clients that write before they read, the answer
/// would otherwise be lost.
pub async fn drain(session: &mut Session) {
    session.as_downstream_mut().set_total_drain_timeout(Some(DRAIN_TIMEOUT));
    let _ = session.as_downstream_mut().drain_request_body().await;
}
