//! Starting a run.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::time::sleep;
use uuid::Uuid;

use crate::librechat::chat::is_saved_agent;
use crate::scripted::connection::Handle;
use crate::scripted::directives::{Directives, Refusal, Reset};
use crate::scripted::drive;
use crate::scripted::frames::{self, Lane, NO_PARENT, Turn};
use crate::scripted::json::Object;
use crate::scripted::options::{User, Wire};
use crate::scripted::place::{Place, Started};
use crate::scripted::replay::Replay;
use crate::scripted::run::{Listen, Run, Work};
use crate::scripted::saved;

use super::answer;
use super::control::{protocol, versioned};
use super::person::Browser;

/// `POST /api/agents/chat` and `/api/agents/chat/:endpoint`
pub async fn start(
    State(place): State<Arc<Place>>,
    ConnectInfo(connection): ConnectInfo<Handle>,
    Browser(user): Browser,
    endpoint: Option<Path<String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(&body) else {
        return answer::message(StatusCode::BAD_REQUEST, "Unexpected token in JSON");
    };
    let wire = place.options.wire;
    let body = Start { body, endpoint: endpoint.map(|Path(endpoint)| endpoint) };
    let said = body.body.get("generationProtocolVersion").and_then(Value::as_u64).map(|version| version.to_string());
    let protocol = protocol(&headers, said.as_deref());
    let directives = place.options.defaults.clone().read(body.text("text"));
    if let Some(refusal) = directives.refuse.filter(|refusal| *refusal != Refusal::Model || wire == Wire::Direct) {
        return answer::with_protocol(wire, protocol, refuse(&place, &body, refusal, protocol));
    }
    if directives.reset == Some(Reset::BeforeStart) {
        return reset(&connection);
    }
    if place.owner(body.text("conversationId")).is_some_and(|owner| owner != user.id) {
        return answer::json(StatusCode::FORBIDDEN, &Object::new().put("error", "Unauthorized"));
    }
    let run = match begin(&place, &user, &body, directives, protocol) {
        Ok(run) => run,
        Err(before) => return answer::with_protocol(wire, protocol, again(&place, protocol, &before)),
    };
    let response = if wire == Wire::Direct {
        answer::events(wire, run.listen(Listen::Own, connection.clone()))
    } else {
        answer::with_protocol(wire, protocol, answer::ok(&started(&run)))
    };
    answered(&place, &run.directives, &connection, response).await
}

/// Gives the answer of a start when its time has come, if at all.
pub async fn answered(place: &Place, directives: &Directives, connection: &Handle, response: Response) -> Response {
    if directives.reset == Some(Reset::BeforeAnswer) {
        return reset(connection);
    }
    if !directives.answer_delay.is_zero() {
        sleep(directives.answer_delay).await;
    }
    // The place outlives its connections, so that this cannot fail before the answer is let go.
    let _ = place.held.subscribe().wait_for(|held| !held).await;
    response
}

/// The body of a start.
pub struct Start {
    /// What the client sent.
    pub body: Map<String, Value>,
    /// The endpoint in the path.
    pub endpoint: Option<String>,
}

impl Start {
    /// A text of the body, or nothing.
    pub fn text(&self, key: &str) -> &str {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn some(&self, key: &str) -> Option<String> {
        Some(self.text(key)).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    fn endpoint(&self) -> String {
        self.some("endpoint").or_else(|| self.endpoint.clone()).unwrap_or_else(|| "agents".to_owned())
    }

    /// The conversation that goes on, if one does.
    fn conversation(&self) -> Option<String> {
        Uuid::try_parse(self.text("conversationId")).ok().map(|id| id.to_string())
    }
}

/// Begins the run, or gives the one that this very request began before.
fn begin(place: &Arc<Place>, user: &User, body: &Start, directives: Directives, protocol: u64) -> Result<Arc<Run>, Started> {
    let created_at = rounded(place.now());
    let request = body.some("clientRequestId").filter(|_| place.options.wire == Wire::Resumable);
    let fresh = || Started { conversation_id: body.conversation().unwrap_or_else(|| place.ids.conversation().to_string()), created_at };
    let mut started = match &request {
        Some(request) => place.start_once(&user.id, request, fresh)?,
        None => fresh(),
    };
    let replay = place.next_replay();
    if let Some(recorded) = replay.as_ref().and_then(|replay| replay_start(replay, created_at)) {
        started = recorded;
        if let Some(request) = &request {
            place.remember_start(&user.id, request, started.clone());
        }
    }
    let turn = turn(place, user, body, &directives, &started, protocol);
    let directives = as_asked(directives);
    let run = Run::new(turn, directives, replay.map_or(Work::Chat, Work::Replay));
    launch(place, &run);
    Ok(run)
}

/// What a run answers that no client request id stands for.
pub fn new_turn(place: &Place, user: &User, body: &Start, directives: &Directives) -> Turn {
    let conversation_id = body.conversation().unwrap_or_else(|| place.ids.conversation().to_string());
    turn(place, user, body, directives, &Started { conversation_id, created_at: rounded(place.now()) }, 1)
}

/// Puts a run to work.
pub fn launch(place: &Arc<Place>, run: &Arc<Run>) {
    saved::open(place, &run.turn);
    place.begin(run);
    tokio::spawn(drive::drive(Arc::clone(place), Arc::clone(run)));
}

/// A model that is not available is told on the stream; on the direct wire it was refused before.
fn as_asked(directives: Directives) -> Directives {
    match directives.refuse {
        Some(Refusal::Model) => Directives { error: Some("illegal_model_request".to_owned()), ..directives },
        _ => directives,
    }
}

/// The ids a recording was answered with.
fn replay_start(replay: &Replay, now: Timestamp) -> Option<Started> {
    let conversation_id = replay.conversation()?;
    let recorded = replay.start.as_ref().and_then(|start| start["generationCreatedAt"].as_i64());
    let created_at = recorded.and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or(now);
    Some(Started { conversation_id, created_at })
}

fn turn(place: &Place, user: &User, body: &Start, directives: &Directives, started: &Started, protocol: u64) -> Turn {
    let known = place.convo(&user.id, &started.conversation_id, |convo| (convo.messages.len() as u64, convo.tokens));
    let (messages, tokens) = known.unwrap_or_default();
    // An edited answer goes on from the message that was saved, whatever the body says.
    let text = if body.body.contains_key("editedContent") { "What was saved before" } else { body.text("text") }.to_owned();
    let text_tokens = saved::estimate(&text);
    let regenerated = body.body.get("isRegenerate").and_then(Value::as_bool).unwrap_or(false);
    let message_id = body.some("overrideParentMessageId").filter(|_| regenerated).unwrap_or_else(|| place.ids.message().to_string());
    let endpoint = body.endpoint();
    Turn {
        wire: place.options.wire,
        protocol,
        conversation_id: started.conversation_id.clone(),
        created_at: started.created_at,
        user: user.id.clone(),
        sender: body.some("modelDisplayLabel").unwrap_or_else(|| endpoint.clone()),
        endpoint_type: body.some("endpointType"),
        lanes: lanes(body, &endpoint, directives),
        endpoint,
        text,
        parent_id: body.some("parentMessageId").unwrap_or_else(|| NO_PARENT.to_owned()),
        message_id,
        response_id: body.some("responseMessageId").unwrap_or_else(|| place.ids.message().to_string()),
        message_count: messages + 1,
        text_tokens,
        prompt_tokens: tokens.saturating_add(text_tokens),
        title: known.is_none().then(|| format!("Scripted title {:04}", place.ids.number())),
    }
}

/// The models of a run: that of `addedConvo` first, as LibreChat starts them.
fn lanes(body: &Start, endpoint: &str, directives: &Directives) -> Vec<Lane> {
    let behind_agent = || directives.model.clone().unwrap_or_else(|| "gpt-4o".to_owned());
    let saved = body.some("agent_id").filter(|id| endpoint == "agents" && is_saved_agent(id));
    // A saved agent's model is its own, whatever the body says.
    let model = body.some("model").filter(|_| saved.is_none()).unwrap_or_else(behind_agent);
    let agent_id = saved.unwrap_or_else(|| plain_agent(endpoint, &model, body.some("modelDisplayLabel").as_deref()));
    let main = Lane { agent_id, model, endpoint: endpoint.to_owned() };
    let added = body.body.get("addedConvo").and_then(Value::as_object).map(|added| {
        let text = |key: &str| added.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let endpoint = text("endpoint").unwrap_or(endpoint);
        let model = text("model").map_or_else(behind_agent, str::to_owned);
        let label = text("modelDisplayLabel").or_else(|| text("endpointType").map(|_| endpoint));
        let agent_id = text("agent_id").map_or_else(|| plain_agent(endpoint, &model, label), str::to_owned);
        Lane { agent_id: format!("{agent_id}____1"), model, endpoint: endpoint.to_owned() }
    });
    added.into_iter().chain([main]).collect()
}

/// How frames name an agent that is only a model.
fn plain_agent(endpoint: &str, model: &str, label: Option<&str>) -> String {
    label.map_or_else(|| format!("{endpoint}__{model}"), |label| format!("{endpoint}__{model}___{label}"))
}

/// What a start is answered.
fn started(run: &Run) -> Object {
    if let Work::Replay(Replay { start: Some(Value::Object(start)), .. }) = &run.work {
        return ["streamId", "conversationId", "generationCreatedAt", "status", "generationProtocolVersion"]
            .into_iter()
            .fold(Object::new(), |object, key| object.put_some(key, start.get(key).cloned()));
    }
    let turn = &run.turn;
    let created_at = (turn.wire == Wire::Resumable).then_some(turn.created_at.as_millisecond());
    let body = Object::new()
        .put("streamId", turn.conversation_id.clone())
        .put("conversationId", turn.conversation_id.clone())
        .put_some("generationCreatedAt", created_at)
        .put("status", "started");
    versioned(turn.wire, turn.protocol, body)
}

/// What the same request is answered the second time.
fn again(place: &Place, protocol: u64, before: &Started) -> Response {
    let wire = place.options.wire;
    let created_at = before.created_at.as_millisecond();
    let live = place.live(&before.conversation_id).is_some_and(|run| run.turn.created_at == before.created_at);
    let body = Object::new()
        .put_some("streamId", live.then(|| before.conversation_id.clone()))
        .put("conversationId", before.conversation_id.clone())
        .put("generationCreatedAt", created_at)
        .put("status", if live { "resumed" } else { "settled" });
    answer::ok(&versioned(wire, protocol, body))
}

fn refuse(place: &Place, body: &Start, refusal: Refusal, protocol: u64) -> Response {
    let wire = place.options.wire;
    match refusal {
        Refusal::MessageLimit => message_limit(place, body),
        Refusal::Concurrent => {
            let body = Object::new().put("type", "concurrent").put("limit", 1).put("pendingRequests", 1).put("score", 1);
            answer::json(StatusCode::TOO_MANY_REQUESTS, &versioned(wire, protocol, body))
        }
        Refusal::Ban => {
            answer::message(StatusCode::FORBIDDEN, "Your account has been temporarily banned due to violations of our service.")
        }
        Refusal::NotReady => {
            let mut response = answer::json(StatusCode::SERVICE_UNAVAILABLE, &Object::new().put("code", "SERVER_NOT_READY"));
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Refusal::Model => {
            let text = format!("{{ \"type\": \"illegal_model_request\", \"info\": \"{}|{}\" }}", body.endpoint(), body.text("model"));
            let parent = body.some("parentMessageId").unwrap_or_else(|| NO_PARENT.to_owned());
            let frame = Object::new()
                .put("messageId", place.ids.message().to_string())
                .put("parentMessageId", parent)
                .put("unfinished", false)
                .put("error", true)
                .put("final", true)
                .put("text", text)
                .put("isCreatedByUser", false)
                .put("model", body.text("model"));
            answer::events(wire, Body::from(frames::error(&frame)))
        }
    }
}

/// LibreChat's message limit: 200, no content type, and two events.
fn message_limit(place: &Place, body: &Start) -> Response {
    let conversation = body.conversation().unwrap_or_else(|| place.ids.conversation().to_string());
    let message = body.some("messageId").unwrap_or_else(|| place.ids.message().to_string());
    let said = Object::new()
        .put("sender", "User")
        .put("messageId", message.clone())
        .put("parentMessageId", body.some("parentMessageId").unwrap_or_else(|| NO_PARENT.to_owned()))
        .put("conversationId", conversation.clone())
        .put("isCreatedByUser", true)
        .put("text", body.text("text"));
    let limit = Object::new().put("type", "message_limit").put("max", "3").put("limiter", "user").put("windowInMinutes", 1);
    let refused = frames::refused_message(&place.ids.message().to_string(), &message, &conversation, limit.text());
    let created = frames::message(&Object::new().put("message", said).put("created", true));
    let stream = futures_util::stream::iter([created, frames::error(&refused)].map(Ok::<_, std::io::Error>));
    let mut response = Body::from_stream(stream).into_response();
    response.headers_mut().remove(CONTENT_TYPE);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("58"));
    for (name, value) in [("x-ratelimit-limit", "3"), ("x-ratelimit-remaining", "0")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Resets the connection; the answer is never written.
fn reset(connection: &Handle) -> Response {
    connection.reset();
    StatusCode::OK.into_response()
}

/// To whole milliseconds, as JavaScript keeps time.
fn rounded(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}
