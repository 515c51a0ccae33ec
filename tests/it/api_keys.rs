//! API keys of members at the front door, and whose the keys of LibreChat's own are.

mod agent_keys;
mod chatting;
mod keeping;
mod making;
mod refusing;
mod replicas;

use serde_json::{Value, json};
use tollgate::scripted::client::{BROWSER, plain_http};
use tollgate::scripted::{ScriptedLibreChat, User};

use crate::support::gateway::TestGateway;
use crate::support::wire::{Message, Wire};

/// Asks with this `Authorization`, over a connection of its own. What is posted is this JSON.
async fn ask(gateway: &TestGateway, line: &str, headers: &str, body: &str) -> Message {
    let method = line.split(' ').next().unwrap_or_default();
    let framing =
        if body.is_empty() { String::new() } else { format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()) };
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(format!("{line} HTTP/1.1\r\nHost: chat.example\r\nUser-Agent: {BROWSER}\r\n{framing}{headers}\r\n{body}")).await;
    wire.answer_to(method).await
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// What starts a chat.
const CHAT: &str = r#"{"text":"Hello [[tokens=2]]","endpoint":"LabAI","model":"lab-small"}"#;

/// Makes a key for a person, as they would.
async fn key_of(gateway: &TestGateway, email: &str, wanted: Value) -> Value {
    let mut body = json!({ "name": "CI", "scopes": ["chat", "read", "usage"] });
    for (field, value) in wanted.as_object().into_iter().flatten() {
        body[field] = value.clone();
    }
    let answer = ask(gateway, "POST /_tollgate/keys", &bearer(&gateway.token(email)), &body.to_string()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

/// The secret of a key.
fn secret(key: &Value) -> String {
    key["key"].as_str().expect("a key is shown once").to_owned()
}

/// A LibreChat id.
fn id_of(email: &str) -> String {
    User::new(email).id
}

/// The statuses that a secret gets for a chat and for reading.
async fn gets(gateway: &TestGateway, secret: &str) -> (u16, u16) {
    let chat = ask(gateway, "POST /api/agents/chat/LabAI", &bearer(secret), CHAT).await;
    let read = ask(gateway, "GET /api/convos", &bearer(secret), "").await;
    (chat.status, read.status)
}

/// Whether LibreChat ever heard of this text.
fn heard(librechat: &ScriptedLibreChat, text: &str) -> bool {
    librechat.requests().iter().any(|request| format!("{request:?}").contains(text))
}

/// What a URL answers to this token, through any gateway.
async fn status_at(url: &str, path: &str, token: &str) -> u16 {
    let request = plain_http().get(format!("{url}{path}")).bearer_auth(token).header("User-Agent", BROWSER);
    request.send().await.expect("an answer").status().as_u16()
}
