//! A program chats as the member whose key it has, and as nobody else.

use serde_json::json;
use tollgate::records::{Category, Severity};
use tollgate::scripted::client::ChatClient;

use super::{ask, bearer, gets, heard, id_of, key_of, secret};
use crate::support::gateway::{Setup, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_chats_as_its_member() {
    let gateway = Setup::with("plan = \"pro\"").start().await;
    let key = key_of(&gateway, "ada@acme.test", json!({})).await;
    let program = ChatClient::new(&gateway.url(), &secret(&key));
    let exchange = program.chat("Hello [[tokens=3 in=100 out=20]]").await.expect("a chat");
    assert!(!exchange.frames.is_empty(), "it follows its answer");
    assert_eq!(program.get("/api/convos").await.expect("an answer").status, 200);

    let rows = gateway.usage_rows(1).await;
    assert_eq!((&*rows[0].org_id, &*rows[0].member_id), ("acme", &*id_of("ada@acme.test")), "{rows:?}");
    let started = &gateway.audit_rows("chat.started", 1).await[0];
    assert_eq!(started.actor_id.as_deref(), Some(&*id_of("ada@acme.test")));
    assert_eq!(started.detail.as_ref().and_then(|detail| detail["api_key"].as_str()), key["id"].as_str(), "the row says which key");

    let me = ask(&gateway, "GET /_tollgate/me", &bearer(&secret(&key)), "").await.json();
    assert_eq!((me["user"].as_str(), me["plan"].as_str()), (Some(&*id_of("ada@acme.test")), Some("pro")), "{me}");
    assert!(!heard(&gateway.librechat, "tgk_"), "LibreChat never sees the key");
    wait_for("the last use to be written down", || async {
        let keys = ask(&gateway, "GET /_tollgate/keys", &bearer(&gateway.token("ada@acme.test")), "").await.json();
        keys["keys"][0]["last_used_at"].as_str().map(|_| ())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_does_what_its_scopes_say() {
    let gateway = Setup::default().start().await;
    for (scope, chat, read, usage) in [("chat", 200, 200, 403), ("read", 403, 200, 403), ("usage", 403, 403, 200)] {
        let key = secret(&key_of(&gateway, "ada@acme.test", json!({ "scopes": [scope] })).await);
        assert_eq!(gets(&gateway, &key).await, (chat, read), "{scope}");
        let me = ask(&gateway, "GET /_tollgate/me", &bearer(&key), "").await;
        assert_eq!(me.status, usage, "{scope}: {}", me.text());
        let needed = if scope == "usage" { "\"read\"" } else { "\"usage\"" };
        let refused = if scope == "usage" { ask(&gateway, "GET /api/convos", &bearer(&key), "").await } else { me };
        assert!(refused.json()["message"].as_str().is_some_and(|said| said.contains(needed)), "{scope}: {}", refused.text());
    }
    let rows = gateway.audit_rows("auth.key_refused", 3).await;
    assert_eq!(rows.len(), 3, "one for each key");
    for row in &rows {
        assert!(row.detail.as_ref().is_some_and(|detail| detail["api_key"].is_string()), "it says which: {row:?}");
        let who = (row.org_id.as_deref(), row.actor_id.as_deref(), row.error.as_deref(), row.category, row.severity);
        assert_eq!(who, (Some("acme"), Some(&*id_of("ada@acme.test")), Some("key_scope"), Category::Security, Severity::Warning));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_reaches_what_is_not_a_programs() {
    let gateway = Setup::default().start().await;
    let key = secret(&key_of(&gateway, "ada@acme.test", json!({})).await);
    gateway.librechat.forget_requests();
    for line in [
        "POST /api/auth/refresh",
        "GET /api/auth/verify",
        "POST /api/auth/login",
        "POST /api/auth/logout",
        "GET /api/auth/graph-token",
        "GET /api/admin/users",
        "GET /API/%61dmin/users",
        "GET /api/x/../admin/users",
        "GET /api/api-keys",
        "POST /api/api-keys",
        "DELETE /api/api-keys/6b008f411deed07a2f49c1c8",
        "PUT /api/keys",
        "DELETE /api/user/delete",
        "DELETE /api/convos/all",
        "POST /api/files",
        "POST /api/files/speech/tts",
        "GET /_tollgate/keys",
        "GET /_tollgate/keys?all=true",
        "POST /_tollgate/keys",
        "DELETE /_tollgate/keys/0199d3f0-0000-7000-8000-000000000001",
        "OPTIONS /api/convos",
    ] {
        let body = if line.starts_with("POST") { r#"{"name":"more","scopes":["chat"]}"# } else { "" };
        let answer = ask(&gateway, line, &bearer(&key), body).await;
        assert_eq!(answer.status, 403, "{line}: {}", answer.text());
        assert!(answer.text().contains("API keys cannot be used for this."), "{line}: {}", answer.text());
    }
    for line in ["GET /api/agents/v1/models", "POST /api/agents/v1/chat/completions"] {
        let answer = ask(&gateway, line, &bearer(&key), if line.starts_with("POST") { "{}" } else { "" }).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (403, Some("key_of_tollgate")), "{line}: {}", answer.text());
    }
    assert!(gateway.librechat.requests().iter().all(|request| request.path == "/health"), "LibreChat hears nothing of it");
    let refused = gateway.audit_rows("auth.key_refused", 2).await;
    assert!(refused.iter().any(|row| row.error.as_deref() == Some("key_of_tollgate")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_looks_like_a_key_never_goes_on_to_librechat() {
    let gateway = Setup::default().start().await;
    let key = secret(&key_of(&gateway, "ada@acme.test", json!({})).await);
    gateway.librechat.forget_requests();
    let upper = key.to_uppercase();
    for headers in [
        format!("Authorization: Basic {key}\r\n"),
        format!("{}{}", bearer(&key), bearer(&key)),
        format!("Authorization: Bearer {key} {key}\r\n"),
        bearer(&upper),
    ] {
        let page = ask(&gateway, "GET /", &headers, "").await;
        assert_eq!(page.status, 200, "the page needs nobody: {headers}");
        let read = ask(&gateway, "GET /api/convos", &headers, "").await;
        assert_eq!(read.status, 401, "{headers}");
    }
    let heard_any = |text: &str| heard(&gateway.librechat, text);
    assert!(!heard_any(&key) && !heard_any(&upper) && !heard_any("tgk_"), "{:?}", gateway.librechat.requests());
}
