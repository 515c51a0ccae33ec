//! What lies beside chat starts and costs less is exactly that, on every version of LibreChat, and nothing else is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tollgate::generations::Phase;
use tollgate::scripted::client::{BROWSER, ChatBody, ChatClient};
use tollgate::scripted::{Options, Wire as ChatWire};

use crate::support::gateway::{Setup, TestGateway, wait_for};
use crate::support::wire::{HandmadeLibreChat, Message, Wire};

const CHAT: &str = r#"{"text":"Hello [[tokens=20]]","endpoint":"LabAI","model":"lab-small"}"#;

fn direct() -> Setup {
    Setup { librechat: Options { wire: ChatWire::Direct, ..Options::default() }, ..Setup::default() }
}

async fn post(gateway: &TestGateway, path: &str, headers: &str, body: &[u8]) -> Message {
    let token = gateway.token("ada@acme.test");
    let mut wire = Wire::connect(gateway.running.public).await;
    let length = body.len();
    wire.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n{headers}\r\n")).await;
    wire.send(body).await;
    wire.answer().await
}

async fn post_json(gateway: &TestGateway, path: &str, body: &str) -> Message {
    post(gateway, path, "Content-Type: application/json\r\n", body.as_bytes()).await
}

/// What the one thing was that was charged.
async fn charged(gateway: &TestGateway) -> (u32, u64) {
    gateway.all_settled().await;
    let rows = gateway.usage_rows(1).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    (rows[0].messages, rows[0].output_tokens)
}

async fn assert_nothing_charged(gateway: &TestGateway) {
    gateway.all_settled().await;
    let rows = gateway.running.app.records.usage_rows(10).await.expect("rows");
    assert!(rows.is_empty(), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_escaped_letter_makes_no_chat_free() {
    let gateway = Setup::default().start().await;
    for word in ["%61bort", "abor%74", "%73teer", "steer%2Fdeliver", "x%2f..%2fabort", "\u{a0}abort"] {
        let answer = post_json(&gateway, &format!("/api/agents/chat/{word}"), CHAT).await;
        let charged = gateway.running.app.generations.count_open() > 0;
        assert!(answer.status == 400 || charged, "{word}: {answer:?}");
    }
    assert_nothing_charged(&gateway).await;
    assert!(gateway.librechat.runs().is_empty());
    for word in ["%72esume", "LabA%49"] {
        assert_eq!(post_json(&gateway, &format!("/api/agents/chat/{word}"), CHAT).await.status, 200, "{word}");
    }
    gateway.all_settled().await;
    let rows = gateway.usage_rows(2).await;
    assert!(rows.iter().all(|row| row.messages == 1 && row.output_tokens > 0 && row.endpoint == "LabAI"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_0_8_2_a_chat_under_the_name_of_a_stop_is_a_chat() {
    let gateway = direct().start().await;
    let answer = post_json(&gateway, "/api/agents/chat/abort", CHAT).await;
    assert_eq!((answer.status, answer.complete), (200, true));
    let (messages, output) = charged(&gateway).await;
    assert!(messages == 1 && output > 0, "{messages} messages, {output} tokens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_0_8_2_a_stop_never_brings_an_answer() {
    let gateway = direct().start().await;
    for stop in ["{}", r#"{"conversationId":"c","endpoint":"LabAI"}"#] {
        let answer = post_json(&gateway, "/api/agents/chat/abort", stop).await;
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(!answer.text().contains("created"), "{}", answer.text());
    }
    assert_nothing_charged(&gateway).await;
    let ended = || async { gateway.librechat.runs().iter().all(|run| run.state.is_over()).then_some(()) };
    wait_for("LibreChat to stop what it began", ended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_with_anything_else_in_it_is_limited_like_a_chat() {
    let gateway = Setup::with("[[limits]]\napplies_to = \"member\"\nmessages_per_day = 0").start().await;
    let stop = json!({"conversationId": "c", "generationCreatedAt": 1, "generationProtocolVersion": 2}).to_string();
    assert_eq!(post_json(&gateway, "/api/agents/chat/abort", &stop).await.status, 404, "LibreChat knows no such run");
    let arrived = gateway.librechat.wait_for_request("POST /api/agents/chat/abort").await.expect("it arrives");
    assert_eq!(arrived.body, stop.as_bytes());
    assert_eq!(post_json(&gateway, "/api/agents/chat/abort", CHAT).await.status, 429);
    assert_eq!(post_json(&gateway, "/api/agents/chat/abort", r#"{"conversationId":"c","conversationId":"d"}"#).await.status, 400);
    let form = post(&gateway, "/api/agents/chat/abort", "Content-Type: application/x-www-form-urlencoded\r\n", b"text=hello").await;
    assert_eq!(form.status, 415, "LibreChat would read it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_0_8_8_a_chat_under_the_name_of_a_steer_is_a_chat() {
    let gateway = direct().start().await;
    assert_eq!(post_json(&gateway, "/api/agents/chat/steer", CHAT).await.status, 200);
    let (messages, output) = charged(&gateway).await;
    assert!(messages == 1 && output > 0, "{messages} messages, {output} tokens");

    let librechat = HandmadeLibreChat::start(|_, mut wire| async move {
        let body = r#"{"streamId":"c-1","conversationId":"c-1","status":"started"}"#;
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        Some(wire)
    })
    .await;
    let gateway = Setup { upstream: librechat.url(), ..Setup::default() }.start().await;
    assert_eq!(post_json(&gateway, "/api/agents/chat/steer", CHAT).await.status, 200);
    let open = gateway.running.app.generations.all_open();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].phase(), open[0].conversation_id().as_deref()), (Phase::Running, Some("c-1")));
    assert!(open[0].start().room > 0, "room for the answer was reserved");
    open[0].give_up();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_0_8_8_a_chat_under_the_name_of_a_resume_closes_no_other() {
    let runs = AtomicI64::new(0);
    let librechat = HandmadeLibreChat::start(move |_, mut wire| {
        let created_at = runs.fetch_add(1, Ordering::Relaxed);
        async move {
            let body = format!(r#"{{"streamId":"c-1","conversationId":"c-1","generationCreatedAt":{created_at},"status":"started"}}"#);
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
            Some(wire)
        }
    })
    .await;
    let gateway = Setup { upstream: librechat.url(), ..Setup::default() }.start().await;
    assert_eq!(post_json(&gateway, "/api/agents/chat/LabAI", CHAT).await.status, 200);
    let first = gateway.running.app.generations.all_open().remove(0);
    let body = r#"{"conversationId":"c-1","model":["x"],"model":"lab-large","text":"Hello"}"#;
    assert_eq!(post_json(&gateway, "/api/agents/chat/resume", body).await.status, 200);
    assert_eq!(first.phase(), Phase::Running, "it runs on");
    let open = gateway.running.app.generations.all_open();
    let second = open.iter().find(|open| open.start().id != first.start().id).expect("another one");
    assert_eq!((second.phase(), second.start().model.as_deref()), (Phase::Running, Some("lab-large")));
    assert!(second.start().input_estimate > 0, "what it says is counted");
    for generation in &open {
        generation.give_up();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invented_key_reserves_nothing() {
    let limits = "[[limits]]\napplies_to = \"org\"\nmessages_per_day = 1\n";
    let keys = "agent_api = \"default_org\"".to_owned();
    let gateway = Setup { librechat_keys: keys, ..Setup::with(limits) }.start().await;
    let ask = async |key: &str| {
        let body = json!({"model": "agent_x", "messages": [{"role": "user", "content": "Hi [[in=9 out=3]]"}], "max_tokens": 1_000_000});
        ChatClient::new(&gateway.url(), key).post("/api/agents/v1/chat/completions", &body).await.expect("an answer")
    };
    for key in ["sk-invented-1", "sk-invented-2", "sk-invented-1", "invented", &gateway.token("ada@acme.test")] {
        let answer = ask(key).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")), "{key}");
    }
    let heard = || gateway.librechat.requests().into_iter().filter(|request| request.path == "/api/agents/v1/models").count();
    assert_eq!(heard(), 2, "each is asked about once");
    assert_eq!(ask("sk-mine").await.status, 200, "the org's one message is still there");
    assert_eq!(ask("sk-mine").await.status, 429);
    assert_eq!(heard(), 3);
    wait_for("the refused keys to be written down", || async {
        let rows = gateway.running.app.records.audit_rows(100).await.expect("rows");
        rows.iter().any(|row| row.error.as_deref() == Some("unknown_key") && row.action == "auth.token_refused").then_some(())
    })
    .await;
    let preflight = ChatClient::new(&gateway.url(), "").request(http::Method::OPTIONS, "/api/agents/v1/chat/completions");
    let preflight = preflight.send().await.expect("an answer").status().as_u16();
    assert!(!matches!(preflight, 401 | 403), "a preflight carries no key: {preflight}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_sent_chat_does_not_hold_the_stop() {
    let gateway = Setup::with("[shutdown]\ngrace_seconds = 30").start().await;
    let token = gateway.token("ada@acme.test");
    let mut wire = Wire::connect(gateway.running.public).await;
    let head = format!(
        "POST /api/agents/chat/LabAI HTTP/1.1\r\nHost: a\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    );
    wire.send(head + r#"{"text":"#).await;
    wait_for("the chat to be read", || async { gateway.metrics().await.contains("tollgate").then_some(()) }).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (running, librechat, _folder) = gateway.into_parts();
    let since = std::time::Instant::now();
    let stopping = tokio::task::spawn_blocking(move || running.stop());
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("SERVER_NOT_READY")), "{answer:?}");
    let shown: Value = serde_json::from_str(answer.json()["text"].as_str().expect("a text for older clients")).expect("JSON");
    assert!(shown["info"].as_str().is_some_and(|text| text.contains("restarting")), "{shown}");
    assert!(stopping.await.expect("a stop"), "everything was written");
    assert!(since.elapsed() < Duration::from_secs(10), "it took {:?}", since.elapsed());
    assert!(librechat.runs().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_character_is_counted_and_passed_on() {
    let gateway = Setup::default().start().await;
    let body = r#"{"text":"a \ud83d b","endpoint":"LabAI","model":"lab-small"}"#;
    // The scripted LibreChat is no JavaScript, and cannot read it.
    let answer = post_json(&gateway, "/api/agents/chat/LabAI", body).await;
    assert_ne!(answer.json()["type"], "google_error", "Tollgate can: {}", answer.text());
    let arrived = gateway.librechat.wait_for_request("POST /api/agents/chat/LabAI").await.expect("it arrives");
    assert_eq!(arrived.body, body.as_bytes(), "byte for byte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_is_the_one_that_librechat_goes_by() {
    let gateway = Setup::default().start().await;
    let body = ChatBody::new("Hello [[tokens=2]]").json().to_string();
    assert_eq!(post_json(&gateway, "/api/agents/chat/something-else", &body).await.status, 200);
    gateway.all_settled().await;
    assert_eq!(gateway.usage_rows(1).await[0].endpoint, "LabAI");
}
