//! The admin listener and the metrics listener. Both are axum on the long-lived runtime, apart from the public traffic.

pub mod health;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::tz::TimeZone;

use crate::app::App;
use crate::clock::{Clock as _, SystemClock};
use crate::error::{AnswerContext, Audience, Rejection};
use crate::identity::directory::Language;

pub use health::{routes as metrics_routes, starting_routes};

/// The admin API. Its accounts come with it; until then it has nothing to tell anyone.
pub fn routes() -> Router {
    Router::new().fallback(nothing_here)
}

/// Serves a router until the runtime ends.
pub async fn serve(listener: tokio::net::TcpListener, router: Router) {
    serve_until(listener, router, std::future::pending()).await;
}

/// Serves a router until this is over.
pub async fn serve_until(listener: tokio::net::TcpListener, router: Router, over: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(over).await {
        tracing::error!(error = %error, "a listener ended");
    }
}

async fn nothing_here() -> Response {
    problem(&Rejection::NotFound)
}

/// A rejection as RFC 9457 tells it.
fn problem(rejection: &Rejection) -> Response {
    let context = AnswerContext {
        audience: Audience::Admin,
        language: Language::En,
        zone: &TimeZone::UTC,
        now: SystemClock.now(),
        reference: "",
        request_id: "",
    };
    let answer = rejection.answer(&context);
    let headers: HeaderMap = answer
        .headers
        .into_iter()
        .filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?)))
        .collect();
    (StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), headers, answer.body).into_response()
}

/// What handlers share.
pub type Shared = Arc<App>;
