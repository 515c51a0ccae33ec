//! The page and what it needs before anyone is known.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::scripted::options::Wire;
use crate::scripted::place::Place;

use super::answer;

const PAGE: &str = "<!DOCTYPE html>\n<html lang=\"en-US\">\n  <head>\n    <meta charset=\"utf-8\" />\n    <base href=\"/\" />\n    <title>LibreChat</title>\n    \
    <script type=\"module\" crossorigin src=\"./assets/app.js\"></script>\n  </head>\n  <body>\n    <div id=\"root\">A scripted LibreChat</div>\n  </body>\n</html>\n";

/// As LibreChat's own client the page asks for a token as it loads, shows whose it is or the way in, and asks with the token
/// from then on. A page that frames it tells it what to say, and is told what came of it.
const SCRIPT: &str = include_str!("page.js");

/// The page, its assets, probes and metrics. What is under `/api` and unknown is 404, before 0.8.2 the page.
pub fn routes(wire: Wire) -> Router<Arc<Place>> {
    let router = Router::new()
        .route("/", get(page))
        .route("/assets/app.js", get(script))
        .route("/health", get(health))
        .route("/livez", get(health))
        .route("/readyz", get(health))
        .route("/metrics", get(metrics))
        .fallback(page);
    if wire == Wire::Direct {
        router
    } else {
        router.route("/api/{*rest}", axum::routing::any(unknown)).method_not_allowed_fallback(unknown)
    }
}

async fn page() -> Response {
    let mut response = answer::text(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    response.headers_mut().insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    response
}

/// What the page does, and some kilobytes more that compress like code.
async fn script() -> impl IntoResponse {
    let lines = (0..200).map(|line| format!("export const scripted{line} = () => 'line {line} of a scripted page';\n"));
    let script = SCRIPT.to_owned() + &lines.collect::<String>();
    ([(CONTENT_TYPE, "application/javascript; charset=utf-8"), (CACHE_CONTROL, "public, max-age=172800")], script)
}

async fn health() -> Response {
    answer::text(StatusCode::OK, "text/html; charset=utf-8", "OK")
}

/// LibreChat keeps these behind a secret; here they are open, so that a test can prove they are never reached.
async fn metrics() -> Response {
    answer::text(StatusCode::OK, "text/plain; version=0.0.4", "# HELP generation_jobs_total Runs.\ngeneration_jobs_total 42\n")
}

async fn unknown() -> Response {
    answer::message(StatusCode::NOT_FOUND, "Endpoint not found")
}
