//! LibreChat's routes, as far as they are scripted.

mod account;
mod answer;
mod assistants;
mod catalogue;
mod chat;
mod compress;
mod control;
mod files;
mod keys;
mod manners;
mod openai;
mod page;
mod person;
mod upgrade;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::json::Object;
use super::options::Wire;
use super::place::Place;

/// Every route.
pub fn router(place: Arc<Place>) -> Router {
    let wire = place.options.wire;
    Router::new()
        .merge(page::routes(wire))
        .merge(account::routes())
        .merge(catalogue::routes())
        .merge(chat_routes(wire))
        .merge(openai::routes())
        .merge(keys::routes())
        .merge(files::routes())
        .route("/ws-echo", get(upgrade::echo))
        // What is recorded is bounded there, at LibreChat's own limit.
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(middleware::from_fn(manners::apply))
        .layer(middleware::from_fn_with_state(Arc::clone(&place), manners::record))
        .with_state(place)
}

fn chat_routes(wire: Wire) -> Router<Arc<Place>> {
    let router = Router::new()
        .route("/api/agents/chat", post(chat::start))
        .route("/api/agents/chat/{endpoint}", post(chat::start))
        .route("/api/assistants/{version}/chat", post(assistants::start))
        .route("/api/assistants/{version}/chat/abort", post(control::abort));
    if wire == Wire::Direct {
        // Before 0.8.2 there is nothing to control: a run ends with its connection, and `abort` is one more endpoint.
        return router.route("/api/agents/chat/active", get(nothing));
    }
    router
        .route("/api/agents/chat/stream/{id}", get(control::stream))
        .route("/api/agents/chat/active", get(control::active))
        .route("/api/agents/chat/status/{id}", get(control::status))
        .route("/api/agents/chat/abort", post(control::abort))
        .route("/api/agents/chat/resume", post(control::resume))
        .route("/api/agents/chat/steer", post(control::steer))
        .route("/api/agents/chat/steer/deliver", post(control::steer))
}

async fn nothing() -> Response {
    answer::json(StatusCode::NOT_FOUND, &Object::new().put("message", "Endpoint not found")).into_response()
}
