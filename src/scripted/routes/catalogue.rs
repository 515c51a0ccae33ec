//! What there is: configuration, endpoints, models, conversations and messages.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::scripted::json::{Node, Object};
use crate::scripted::place::Place;
use crate::scripted::saved;

use super::answer;
use super::person::{Person, person};

/// Catalogue routes, and what LibreChat has saved.
pub fn routes() -> Router<Arc<Place>> {
    Router::new()
        .route("/api/config", get(config))
        .route("/api/endpoints", get(endpoints))
        .route("/api/models", get(models))
        .route("/api/banner", get(async || StatusCode::OK))
        .route("/api/balance", get(async |Person(_): Person| StatusCode::NO_CONTENT))
        .route("/api/presets", get(nothing))
        .route("/api/tags", get(nothing))
        .route("/api/agents", get(agents))
        .route("/api/roles/{name}", get(role))
        .route("/api/convos", get(convos))
        .route("/api/convos/{id}", get(convo))
        .route("/api/convos/gen_title/{id}", get(title))
        .route("/api/messages/{id}", get(messages))
}

/// The endpoints of the scripted place, in the order of its menu.
fn menu() -> Object {
    let endpoint = |order: u64| Object::new().put("userProvide", false).put("userProvideURL", false).put("order", order);
    let custom = |order: u64, name: &str| endpoint(order).put("type", "custom").put("modelDisplayLabel", name);
    let capabilities = ["execute_code", "file_search", "web_search", "artifacts", "actions", "context", "tools", "chain", "ocr"];
    let agents = Object::new()
        .put("userProvide", false)
        .put("capabilities", capabilities.into_iter().map(Node::from).collect::<Vec<_>>())
        .put("order", 1)
        .put("disableBuilder", false);
    Object::new().put("openAI", endpoint(0)).put("agents", agents).put("LabAI", custom(2, "LabAI")).put("LabUsage", custom(3, "LabUsage"))
}

async fn config(State(place): State<Arc<Place>>, headers: HeaderMap) -> Response {
    let mut config = json!({
        "appTitle": "LibreChat", "serverDomain": "http://localhost:3080", "emailLoginEnabled": true, "registrationEnabled": true,
        "socialLoginEnabled": false, "passwordResetEnabled": false, "openidLoginEnabled": false, "openidAutoRedirect": false,
        "ldap": {"enabled": false}, "socialLogins": [], "turnstile": {}
    });
    if person(&place, &headers).is_ok() {
        config["interface"] = json!({
            "modelSelect": true, "parameters": true, "presets": true, "customWelcome": "A scripted LibreChat", "contextUsage": true,
            "mcpServers": {"use": true, "create": true, "share": false, "public": false}, "agents": {"use": true, "create": true}
        });
        config["balance"] = json!({"enabled": false});
        config["sharedLinksEnabled"] = Value::Bool(true);
        config["helpAndFaqURL"] = Value::from("https://librechat.ai");
        config["modelSpecs"] = json!({"enforce": false, "list": []});
    }
    answer::text(StatusCode::OK, "application/json; charset=utf-8", config.to_string())
}

/// LibreChat sends this JSON as a string, so that it is called HTML.
async fn endpoints(Person(_): Person) -> Response {
    answer::text(StatusCode::OK, "text/html; charset=utf-8", menu().text())
}

async fn models(Person(_): Person) -> Response {
    let list = |models: &[&str]| models.iter().map(|model| Node::from(*model)).collect::<Vec<_>>();
    let lab = ["lab-small", "lab-large", "gpt-4o", "gpt-4o-mini"];
    let models = Object::new()
        .put("openAI", list(&["gpt-4o", "gpt-4o-mini"]))
        .put("google", list(&["gemini-2.5-pro", "gemini-2.5-flash"]))
        .put("anthropic", list(&["claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-4-5"]))
        .put("assistants", list(&["gpt-4o", "gpt-4o-mini"]))
        .put("LabAI", list(&lab))
        .put("LabUsage", list(&lab));
    answer::ok(&models)
}

async fn nothing(Person(_): Person) -> Response {
    list(Vec::new())
}

async fn agents(Person(_): Person) -> Response {
    let agent = Object::new().put("id", "agent_scripted").put("name", "Scripted agent").put("provider", "openAI").put("model", "gpt-4o");
    answer::ok(&Object::new().put("object", "list").put("data", vec![agent]).put("has_more", false))
}

async fn role(Person(_): Person, Path(name): Path<String>) -> Response {
    let allowed = |names: &[&'static str]| names.iter().fold(Object::new(), |object, name| object.put(name, true));
    let permissions = Object::new()
        .put("PROMPTS", allowed(&["USE", "CREATE"]))
        .put("AGENTS", allowed(&["USE", "CREATE"]))
        .put("MCP_SERVERS", allowed(&["USE", "CREATE"]))
        .put("MEMORIES", allowed(&["USE"]))
        .put("MULTI_CONVO", allowed(&["USE"]))
        .put("TEMPORARY_CHAT", allowed(&["USE"]))
        .put("RUN_CODE", allowed(&["USE"]))
        .put("WEB_SEARCH", allowed(&["USE"]))
        .put("FILE_SEARCH", allowed(&["USE"]));
    answer::ok(&Object::new().put("name", name).put("permissions", permissions))
}

#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
    #[serde(rename = "sortDirection")]
    direction: Option<String>,
}

async fn convos(State(place): State<Arc<Place>>, Person(user): Person, page: Result<Query<Page>, QueryRejection>) -> Response {
    let (limit, direction) = page.map_or((None, None), |Query(page)| (page.limit, page.direction));
    let mut convos = place.convos(&user.id);
    if direction.as_deref() == Some("asc") {
        convos.reverse();
    }
    let shown = convos.iter().take(limit.unwrap_or(25)).map(saved::list).collect::<Vec<_>>();
    answer::ok(&Object::new().put("conversations", shown).put("nextCursor", Value::Null))
}

async fn convo(State(place): State<Arc<Place>>, Person(user): Person, Path(id): Path<String>) -> Response {
    match place.convo(&user.id, &id, |convo| saved::show(convo, &convo.title)) {
        Some(convo) => answer::ok(&convo),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// LibreChat keeps this open until there is a title; here it is there at once or not at all.
async fn title(State(place): State<Arc<Place>>, Person(user): Person, Path(id): Path<String>) -> Response {
    match place.convo(&user.id, &id, |convo| convo.title.clone()) {
        Some(title) => answer::ok(&Object::new().put("title", title)),
        None => answer::message(StatusCode::NOT_FOUND, "Title not found or method not implemented for the conversation's endpoint"),
    }
}

async fn messages(State(place): State<Arc<Place>>, Person(user): Person, Path(id): Path<String>) -> Response {
    list(place.convo(&user.id, &id, |convo| convo.messages.iter().map(|message| message.json.clone()).collect()).unwrap_or_default())
}

fn list(list: Vec<Node>) -> Response {
    let text = serde_json::to_string(&Node::List(list)).unwrap_or_default();
    answer::text(StatusCode::OK, "application/json; charset=utf-8", text)
}
