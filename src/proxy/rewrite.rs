//! The one answer of LibreChat's that is changed on its way: `GET /api/config`, which is held back until it is whole.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, TRANSFER_ENCODING};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};

use super::ctx::Ctx;
use super::relay::Reading;
use crate::librechat::page_config::{Hidden, MAX_BYTES, without};

/// An answer that is held back.
#[derive(Debug)]
pub struct HeldBack {
    hidden: Hidden,
    body: Vec<u8>,
}

/// Asks LibreChat for the whole of it, uncompressed.
pub fn ask(request: &mut RequestHeader) -> Result<()> {
    request.remove_header(&IF_NONE_MATCH);
    request.remove_header(&IF_MODIFIED_SINCE);
    request.insert_header("Accept-Encoding", "identity")
}

/// Holds an answer back that is a configuration.
pub fn head(response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
    let Some(hidden) = ctx.hides else { return Ok(()) };
    let is_json = response.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if response.status != 200 || !is_json {
        return Ok(());
    }
    response.remove_header(&ETAG);
    response.remove_header(&CONTENT_LENGTH);
    response.insert_header(TRANSFER_ENCODING, "chunked")?;
    // It differs from browser to browser.
    response.insert_header("Cache-Control", "no-store")?;
    ctx.reading = Reading::Config(HeldBack { hidden, body: Vec::new() });
    Ok(())
}

/// Takes a chunk in, and gives out the whole at its end. What is too large, or no configuration, passes as it came.
pub fn chunk(chunk: &mut Option<Bytes>, end_of_stream: bool, ctx: &mut Ctx) {
    let Reading::Config(HeldBack { hidden, body }) = &mut ctx.reading else { return };
    if let Some(chunk) = chunk.take() {
        body.extend_from_slice(&chunk);
    }
    if body.len() > MAX_BYTES || end_of_stream {
        let came = std::mem::take(body);
        let shown = if end_of_stream { without(&came, *hidden) } else { None };
        *chunk = Some(Bytes::from(shown.unwrap_or(came)));
        ctx.reading = Reading::Nothing;
    }
}
