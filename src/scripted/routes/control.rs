//! Listening to runs that are at work, and steering them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use crate::scripted::connection::Handle;
use crate::scripted::json::{Node, Object};
use crate::scripted::options::{User, Wire};
use crate::scripted::place::Place;
use crate::scripted::run::{Listen, Run, RunState, Stop};

use super::answer;
use super::person::Browser;

/// The query of a stream, as far as it matters here.
#[derive(Default, Deserialize)]
pub struct Asked {
    resume: Option<String>,
    #[serde(rename = "generationCreatedAt")]
    created_at: Option<String>,
    #[serde(rename = "generationProtocolVersion")]
    protocol: Option<String>,
}

/// `GET /api/agents/chat/stream/:streamId`
pub async fn stream(
    State(place): State<Arc<Place>>,
    ConnectInfo(connection): ConnectInfo<Handle>,
    Browser(user): Browser,
    Path(id): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let asked = asked.map(|Query(asked)| asked).unwrap_or_default();
    let wire = place.options.wire;
    let protocol = protocol(&headers, asked.protocol.as_deref());
    let finish = |response| answer::with_protocol(wire, protocol, response);
    let Some(run) = place.live(&id) else {
        let body = Object::new().put("error", "Stream not found").put("message", "The generation job does not exist or has expired.");
        return finish(answer::json(StatusCode::NOT_FOUND, &versioned(wire, protocol, body)));
    };
    if run.turn.user != user.id {
        return finish(answer::json(StatusCode::FORBIDDEN, &versioned(wire, protocol, Object::new().put("error", "Unauthorized"))));
    }
    if is_other(&run, asked.created_at.as_deref()) {
        let body = Object::new().put("error", "The generation was replaced").put("code", "GENERATION_REPLACED");
        return finish(answer::json(StatusCode::CONFLICT, &versioned(wire, protocol, body)));
    }
    let how = if asked.resume.as_deref() == Some("true") { Listen::Resume } else { Listen::Plain };
    finish(answer::events(wire, run.listen(how, connection)))
}

/// `GET /api/agents/chat/active`
pub async fn active(State(place): State<Arc<Place>>, Browser(user): Browser) -> Response {
    let mut runs = place.all_live();
    runs.retain(|run| run.turn.user == user.id);
    runs.sort_by_key(|run| run.turn.created_at);
    let ids = runs.iter().map(|run| Node::from(run.turn.conversation_id.as_str())).collect::<Vec<_>>();
    answer::ok(&Object::new().put("activeJobIds", ids))
}

/// `GET /api/agents/chat/status/:conversationId`
pub async fn status(State(place): State<Arc<Place>>, Browser(user): Browser, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let wire = place.options.wire;
    let protocol = protocol(&headers, None);
    let finish = |response| answer::with_protocol(wire, protocol, response);
    let Some(run) = place.live(&id) else {
        return finish(answer::ok(&versioned(wire, protocol, Object::new().put("active", false))));
    };
    if run.turn.user != user.id {
        return finish(answer::json(StatusCode::FORBIDDEN, &Object::new().put("error", "Unauthorized")));
    }
    let status = if run.state() == RunState::Paused { "requires_action" } else { "running" };
    let body = versioned(wire, protocol, Object::new().put("active", true))
        .put("streamId", id)
        .put("status", status)
        .put("aggregatedContent", run.content())
        .put("createdAt", run.turn.created_at.as_millisecond())
        .put("resumeState", run.resume_state());
    finish(answer::ok(&body))
}

/// `POST /api/agents/chat/abort`, and that of the assistants
pub async fn abort(State(place): State<Arc<Place>>, Browser(user): Browser, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let wire = place.options.wire;
    let protocol = protocol(&headers, None);
    let finish = |response| answer::with_protocol(wire, protocol, response);
    let Some(run) = named(&place, &user, &body) else {
        let body = Object::new().put("error", "Job not found");
        return finish(answer::json(StatusCode::NOT_FOUND, &versioned(wire, protocol, body)));
    };
    let created_at = body["generationCreatedAt"].as_i64().map(|at| at.to_string());
    if is_other(&run, created_at.as_deref()) {
        return finish(answer::json(StatusCode::CONFLICT, &versioned(wire, protocol, Object::new().put("code", "RUN_REPLACED"))));
    }
    run.stop(Stop::Aborted);
    run.over().await;
    let body = Object::new().put("success", true).put("aborted", run.turn.conversation_id.clone());
    finish(answer::ok(&versioned(wire, protocol, body)))
}

/// `POST /api/agents/chat/resume`
pub async fn resume(State(place): State<Arc<Place>>, Browser(user): Browser, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(run) = named(&place, &user, &body) else {
        return answer::json(StatusCode::NOT_FOUND, &Object::new().put("error", "No paused run was found"));
    };
    if !run.resume() {
        return answer::json(StatusCode::CONFLICT, &Object::new().put("error", "This action was already resolved or has expired"));
    }
    let id = run.turn.conversation_id.clone();
    answer::ok(&Object::new().put("streamId", id.clone()).put("conversationId", id).put("status", "resuming"))
}

/// `POST /api/agents/chat/steer` and `/steer/deliver`: queued, and said back on the stream.
pub async fn steer(State(place): State<Arc<Place>>, Browser(user): Browser, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(run) = named(&place, &user, &body).filter(|run| !run.state().is_over()) else {
        return answer::json(StatusCode::NOT_FOUND, &Object::new().put("code", "NO_ACTIVE_RUN"));
    };
    let id = place.ids.message().to_string();
    run.steer(&id, body["text"].as_str().unwrap_or_default());
    let answer = Object::new().put("steerId", id).put("streamId", run.turn.conversation_id.clone()).put("position", 1);
    answer::json(StatusCode::ACCEPTED, &answer)
}

/// Which generation protocol the client speaks.
pub fn protocol(headers: &HeaderMap, said: Option<&str>) -> u64 {
    let header = headers.get("x-librechat-generation-protocol").and_then(|value| value.to_str().ok());
    if header.or(said) == Some("2") { 2 } else { 1 }
}

/// Adds the protocol version where this LibreChat writes it.
pub fn versioned(wire: Wire, protocol: u64, body: Object) -> Object {
    body.put_some("generationProtocolVersion", (wire == Wire::Resumable).then_some(protocol))
}

/// The run of this person that a body names.
fn named(place: &Place, user: &User, body: &Value) -> Option<Arc<Run>> {
    let id = ["conversationId", "streamId", "abortKey"].iter().find_map(|key| body[*key].as_str())?;
    // An assistant's abort key is the conversation and the message.
    let id = id.split(':').next().unwrap_or(id);
    place.live(id).filter(|run| run.turn.user == user.id)
}

/// Whether someone asks for a run that was here before this one.
fn is_other(run: &Run, created_at: Option<&str>) -> bool {
    run.turn.wire == Wire::Resumable && created_at.is_some_and(|at| at != run.turn.created_at.as_millisecond().to_string())
}
