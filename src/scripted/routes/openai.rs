//! The OpenAI-compatible routes of saved agents, for programs with a key.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::scripted::directives::Directives;
use crate::scripted::drive::{rest, word};
use crate::scripted::json::{Node, Object};
use crate::scripted::place::Place;
use crate::scripted::saved;

use super::answer;
use super::compress::Encoding;

/// `/api/agents/v1/*`
pub fn routes() -> Router<Arc<Place>> {
    Router::new()
        .route("/api/agents/v1/chat/completions", post(completions))
        .route("/api/agents/v1/responses", post(responses))
        .route("/api/agents/v1/models", get(models))
}

async fn models(State(place): State<Arc<Place>>, headers: HeaderMap) -> Response {
    if !has_key(&place, &headers) {
        return error(StatusCode::UNAUTHORIZED, "Invalid API key", "invalid_api_key");
    }
    let agent = Object::new().put("id", "agent_scripted").put("object", "model").put("owned_by", "librechat");
    answer::ok(&Object::new().put("object", "list").put("data", vec![agent]))
}

async fn completions(State(place): State<Arc<Place>>, headers: HeaderMap, body: Bytes) -> Response {
    let call = match Call::read(&place, &headers, &body) {
        Ok(call) => call,
        Err((status, message, code)) => return error(status, message, code),
    };
    let id = format!("chatcmpl-{}", place.ids.message().simple());
    let usage = json!({
        "prompt_tokens": call.input, "completion_tokens": call.output, "total_tokens": call.input + call.output,
        "prompt_tokens_details": {"cached_tokens": call.directives.cached}
    });
    let created = place.now().as_second();
    if !call.stream {
        call.work().await;
        let choice = json!({"index": 0, "message": {"role": "assistant", "content": call.text()}, "finish_reason": "stop"});
        let body = Object::new()
            .put("id", id)
            .put("object", "chat.completion")
            .put("created", created)
            .put("model", call.model.clone())
            .put("choices", vec![Node::Value(choice)])
            .put("usage", usage);
        return answer::ok(&body);
    }
    let chunk = |choices: Vec<Node>, usage: Option<Value>| {
        let body = Object::new()
            .put("id", id.clone())
            .put("object", "chat.completion.chunk")
            .put("created", created)
            .put("model", call.model.clone())
            .put("choices", choices)
            .put_some("usage", usage);
        format!("data: {}\n\n", body.text())
    };
    let delta = |word: String| chunk(vec![Node::Value(json!({"index": 0, "delta": {"content": word}, "finish_reason": null}))], None);
    let mut events: Vec<String> = call.words().map(delta).collect();
    events.push(chunk(vec![Node::Value(json!({"index": 0, "delta": {}, "finish_reason": "stop"}))], None));
    events.push(chunk(Vec::new(), Some(usage)));
    events.push("data: [DONE]\n\n".to_owned());
    stream(&headers, &call.directives, events).await
}

async fn responses(State(place): State<Arc<Place>>, headers: HeaderMap, body: Bytes) -> Response {
    let call = match Call::read(&place, &headers, &body) {
        Ok(call) => call,
        Err((status, message, code)) => return error(status, message, code),
    };
    let id = format!("resp_{}", place.ids.message().simple());
    let usage = json!({
        "input_tokens": call.input, "output_tokens": call.output, "total_tokens": call.input + call.output,
        "input_tokens_details": {"cached_tokens": call.directives.cached}, "output_tokens_details": {"reasoning_tokens": call.directives.reasoning}
    });
    let content = json!({"type": "output_text", "text": call.text(), "annotations": []});
    let message = json!({"type": "message", "id": format!("msg_{id}"), "status": "completed", "role": "assistant", "content": [content]});
    let whole = Object::new()
        .put("id", id)
        .put("object", "response")
        .put("created_at", place.now().as_second())
        .put("status", "completed")
        .put("model", call.model.clone())
        .put("output", vec![Node::Value(message)])
        .put("usage", usage);
    if !call.stream {
        call.work().await;
        return answer::ok(&whole);
    }
    let event = |name: &str, body: Object| format!("event: {name}\ndata: {}\n\n", body.text());
    let delta = |word: String| {
        let body = Object::new().put("type", "response.output_text.delta").put("output_index", 0).put("delta", word);
        event("response.output_text.delta", body)
    };
    let mut events: Vec<String> = call.words().map(delta).collect();
    events.push(event("response.completed", Object::new().put("type", "response.completed").put("response", whole)));
    events.push("data: [DONE]\n\n".to_owned());
    stream(&headers, &call.directives, events).await
}

/// Whether there is a key that was made here: every one but those that were deleted, and those that say themselves that they
/// are invented.
fn has_key(place: &Place, headers: &HeaderMap) -> bool {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
    bearer.is_some_and(|key| key.starts_with("sk-") && !key.starts_with("sk-invented") && !place.is_deleted(key))
}

/// What was asked.
struct Call {
    model: String,
    stream: bool,
    directives: Directives,
    input: u64,
    output: u64,
}

impl Call {
    /// Reads a request, or gives its refusal.
    fn read(place: &Place, headers: &HeaderMap, body: &[u8]) -> Result<Self, (StatusCode, &'static str, &'static str)> {
        if !has_key(place, headers) {
            return Err((StatusCode::UNAUTHORIZED, "Invalid API key", "invalid_api_key"));
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Err((StatusCode::BAD_REQUEST, "The body is no JSON", "invalid_request_error"));
        };
        let said = body["input"].as_str().map(str::to_owned).or_else(|| last_message(&body)).unwrap_or_default();
        let directives = place.options.defaults.clone().read(&said);
        // Without usage from the provider LibreChat says zero.
        let told = |given: Option<u64>, derived: u64| if directives.usage { given.unwrap_or(derived) } else { 0 };
        Ok(Self {
            model: body["model"].as_str().unwrap_or("agent_scripted").to_owned(),
            stream: body["stream"].as_bool().unwrap_or(false),
            input: told(directives.input, directives.context.unwrap_or_else(|| saved::estimate(&said))),
            output: told(directives.output, directives.tokens + directives.reasoning),
            directives,
        })
    }

    fn words(&self) -> impl Iterator<Item = String> {
        (0..self.directives.tokens).map(|number| word("text", number))
    }

    fn text(&self) -> String {
        self.words().collect()
    }

    /// Takes the time the words take.
    async fn work(&self) {
        rest(self.directives.first + self.directives.delay.saturating_mul(u32::try_from(self.directives.tokens).unwrap_or(u32::MAX))).await;
    }
}

/// The text of the last message, whichever of the two shapes it has.
fn last_message(body: &Value) -> Option<String> {
    let message = body["messages"].as_array().or_else(|| body["input"].as_array())?.last()?;
    let content = &message["content"];
    content.as_str().or_else(|| content[0]["text"].as_str()).map(str::to_owned)
}

/// Events as they come; to a client that accepts compression all at once, as LibreChat does by its middleware.
async fn stream(headers: &HeaderMap, directives: &Directives, events: Vec<String>) -> Response {
    let delay = directives.delay;
    rest(directives.first).await;
    let (body, encoding) = match Encoding::accepted(headers) {
        Some(encoding) => {
            rest(delay.saturating_mul(u32::try_from(events.len()).unwrap_or(u32::MAX))).await;
            let compressed = encoding.compress(events.concat().as_bytes()).map(Bytes::from);
            (Body::from_stream(futures_util::stream::iter([compressed])), Some(encoding))
        }
        None => (live(events, delay), None),
    };
    let mut response = answer::text(StatusCode::OK, "text/event-stream", body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(encoding) = encoding {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
    }
    response
}

fn live(events: Vec<String>, delay: Duration) -> Body {
    Body::from_stream(futures_util::stream::unfold(events.into_iter(), move |mut events| async move {
        let event = events.next()?;
        rest(delay).await;
        Some((Ok::<_, std::io::Error>(event), events))
    }))
}

fn error(status: StatusCode, message: &str, code: &str) -> Response {
    let error = Object::new().put("message", message).put("type", "invalid_request_error").put("param", Value::Null).put("code", code);
    answer::json(status, &Object::new().put("error", error))
}
