//! Who asks: the access token, and whether it is a browser that shows it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::scripted::auth;
use crate::scripted::frames;
use crate::scripted::json::Object;
use crate::scripted::options::{Agents, User, Wire};
use crate::scripted::place::Place;

use super::answer;

/// The person of a valid access token; anyone else is answered 401.
pub struct Person(pub User);

impl FromRequestParts<Arc<Place>> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, place: &Arc<Place>) -> Result<Self, Response> {
        person(place, &parts.headers).map(Self).map_err(|message| refused(place.options.wire, message))
    }
}

/// The person of a valid access token, in a browser. LibreChat answers other programs 200 and an error event.
pub struct Browser(pub User);

impl FromRequestParts<Arc<Place>> for Browser {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, place: &Arc<Place>) -> Result<Self, Response> {
        let Person(user) = Person::from_request_parts(parts, place).await?;
        let agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if place.options.agents == Agents::Any || agent.starts_with("Mozilla/5.0") {
            return Ok(Self(user));
        }
        let mut response = frames::error(&Object::new().put("message", "Illegal request")).into_response();
        response.headers_mut().remove(CONTENT_TYPE);
        Err(response)
    }
}

/// The person of the request's access token, or the message of the 401.
pub fn person(place: &Place, headers: &HeaderMap) -> Result<User, &'static str> {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    let claims = auth::verify(&place.options.jwt_secret, token.ok_or("No auth token")?.trim(), place.now())?;
    place.user_of(&claims).ok_or("Unauthorized")
}

fn refused(wire: Wire, message: &str) -> Response {
    match wire {
        Wire::Direct => (StatusCode::UNAUTHORIZED, "Unauthorized").into_response(),
        _ => answer::message(StatusCode::UNAUTHORIZED, message),
    }
}
