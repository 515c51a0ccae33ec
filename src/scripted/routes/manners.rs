//! What LibreChat does to every request and answer: here also remembering them.

use std::sync::Arc;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::scripted::ids::hex;
use crate::scripted::place::Place;

use super::compress::Encoding;

/// LibreChat's limit of JSON bodies, in bytes.
const MAX_JSON: usize = 3 * 1024 * 1024;
/// Below this many bytes nothing is compressed.
const MIN_COMPRESSED: usize = 1024;

/// Remembers the request. Uploads are measured while they are read, all other bodies are read first.
pub async fn record(State(place): State<Arc<Place>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let (tally, body) = place.requests.take(&parts, body);
    place.stir();
    let streams = parts.uri.path().starts_with("/api/files");
    parts.extensions.insert(tally);
    if streams {
        return next.run(Request::from_parts(parts, body)).await;
    }
    match to_bytes(body, MAX_JSON).await {
        Ok(bytes) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "An unknown error occurred.").into_response(),
    }
}

/// Adds the headers Express adds: entity tags, answers to conditional requests, compression.
pub async fn apply(request: Request, next: Next) -> Response {
    let (method, asked) = (request.method().clone(), request.headers().clone());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("x-robots-tag", HeaderValue::from_static("noindex"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let is_whole = response.body().size_hint().exact().is_some();
    let transforms = !has(response.headers(), &CACHE_CONTROL, "no-transform") && !response.headers().contains_key(CONTENT_ENCODING);
    if !is_whole || !transforms || response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    whole(&method, &asked, response).await
}

/// An answer whose body is known as a whole.
async fn whole(method: &Method, asked: &HeaderMap, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let tag = format!("W/\"{:x}-{}\"", bytes.len(), hex(&Sha256::digest(&bytes)[..13]));
    let fresh = asked.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()) == Some(tag.as_str());
    if let Ok(tag) = HeaderValue::try_from(tag) {
        parts.headers.insert(ETAG, tag);
    }
    if fresh && *method == Method::GET && parts.status == StatusCode::OK {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_TYPE);
        parts.headers.remove(CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    if parts.headers.contains_key(CONTENT_TYPE) {
        parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    let encoding = Encoding::accepted(asked).filter(|_| bytes.len() >= MIN_COMPRESSED);
    let compressed = encoding.and_then(|encoding| Some((encoding, encoding.compress(&bytes).ok()?)));
    match compressed {
        Some((encoding, smaller)) => {
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
            parts.headers.remove(CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(smaller))
        }
        None => Response::from_parts(parts, Body::from(bytes)),
    }
}

fn has(headers: &HeaderMap, name: &axum::http::HeaderName, word: &str) -> bool {
    headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains(word))
}
