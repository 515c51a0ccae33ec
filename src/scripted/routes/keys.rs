//! Keys for the OpenAI-compatible API: `packages/api/src/apiKeys/handlers.ts`, since 0.8.3.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::Value;

use crate::scripted::json::{Node, Object};
use crate::scripted::place::{Key, Place};

use super::answer;
use super::person::Person;

/// So many of a key's first characters are shown later.
const PREFIX: usize = 8;

/// `/api/api-keys`
pub fn routes() -> Router<Arc<Place>> {
    Router::new().route("/api/api-keys", get(list).post(create)).route("/api/api-keys/{id}", get(one).delete(delete))
}

async fn create(State(place): State<Arc<Place>>, Person(user): Person, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(name) = body["name"].as_str().map(str::trim).filter(|name| !name.is_empty()) else {
        return error(StatusCode::BAD_REQUEST, "API key name is required");
    };
    let parts = [place.ids.message(), place.ids.message()].map(|part| part.simple().to_string());
    let key = Key {
        id: place.ids.document(),
        user: user.id,
        name: name.to_owned(),
        secret: format!("sk-{}", parts.concat()),
        created_at: place.now(),
        deleted: false,
    };
    let shown = Object::new().put("id", key.id.clone()).put("name", key.name.clone()).put("key", key.secret.clone());
    let shown = shown.put("keyPrefix", prefix(&key)).put("createdAt", key.created_at.to_string());
    place.add_key(key);
    answer::json(StatusCode::CREATED, &shown)
}

async fn list(State(place): State<Arc<Place>>, Person(user): Person) -> Response {
    let keys: Vec<Object> = place.keys(&user.id).iter().map(show).collect();
    answer::ok(&Object::new().put("keys", keys))
}

async fn one(State(place): State<Arc<Place>>, Person(user): Person, Path(id): Path<String>) -> Response {
    match place.keys(&user.id).iter().find(|key| key.id == id) {
        Some(key) => answer::ok(&show(key)),
        None => error(StatusCode::NOT_FOUND, "API key not found"),
    }
}

async fn delete(State(place): State<Arc<Place>>, Person(user): Person, Path(id): Path<String>) -> Response {
    if place.delete_key(&user.id, &id) { StatusCode::NO_CONTENT.into_response() } else { error(StatusCode::NOT_FOUND, "API key not found") }
}

fn show(key: &Key) -> Object {
    let shown = Object::new().put("id", key.id.clone()).put("name", key.name.clone()).put("keyPrefix", prefix(key));
    shown.put("createdAt", key.created_at.to_string()).put("expiresAt", Node::Value(Value::Null))
}

fn prefix(key: &Key) -> String {
    key.secret.chars().take(PREFIX).collect()
}

fn error(status: StatusCode, message: &str) -> Response {
    answer::json(status, &Object::new().put("error", message))
}
