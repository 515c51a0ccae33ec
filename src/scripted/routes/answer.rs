//! Shapes of answers that several routes give.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::scripted::json::Object;
use crate::scripted::options::Wire;

/// The header that says which generation protocol an answer speaks.
const PROTOCOL: HeaderName = HeaderName::from_static("x-librechat-generation-protocol");

/// JSON.
pub fn json(status: StatusCode, body: &Object) -> Response {
    text(status, "application/json; charset=utf-8", body.text())
}

/// JSON with status 200.
pub fn ok(body: &Object) -> Response {
    json(StatusCode::OK, body)
}

/// `{"message": ...}`, LibreChat's usual way to fail.
pub fn message(status: StatusCode, message: &str) -> Response {
    json(status, &Object::new().put("message", message))
}

/// Any text.
pub fn text(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, content_type)], body.into()).into_response()
}

/// A stream of events.
pub fn events(wire: Wire, body: Body) -> Response {
    let mut response = text(StatusCode::OK, "text/event-stream", body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if wire != Wire::Direct {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
    }
    response
}

/// Says which generation protocol the answer speaks, where this LibreChat does.
pub fn with_protocol(wire: Wire, protocol: u64, mut response: Response) -> Response {
    if wire == Wire::Resumable {
        response.headers_mut().insert(PROTOCOL, HeaderValue::from(protocol));
    }
    response
}
