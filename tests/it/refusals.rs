//! How a refusal looks on each kind of route, in English and Korean, and what is never refused.

use serde_json::Value;
use tollgate::scripted::client::{BROWSER, ChatBody};

use crate::support::gateway::{Setup, TestGateway, wait_for};
use crate::support::wire::{HandmadeLibreChat, Message, Wire};

const CHAT: &str = "/api/agents/chat/LabAI";
const BODY: &str = r#"{"text":"Hello","endpoint":"LabAI","model":"lab-small"}"#;
const ONE_MESSAGE: &str = "time_zone = \"Asia/Seoul\"\n[[limits]]\napplies_to = \"member\"\nmessages_per_day = 1\n";

async fn ask(gateway: &TestGateway, line: &str, headers: &str) -> Message {
    let token = if line.contains("/agents/v1/") { "sk-key".to_owned() } else { gateway.token("ada@acme.test") };
    let body = if line.starts_with("POST") { BODY } else { "" };
    let mut wire = Wire::connect(gateway.running.public).await;
    let (kind, length) = ("Content-Type: application/json", body.len());
    wire.send(format!("{line} HTTP/1.1\r\nHost: a\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\n{kind}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")).await;
    wire.answer_to(line.split(' ').next().unwrap_or_default()).await
}

/// The sentence of a refused chat, after checking that every version of LibreChat's client would show just that.
fn sentence(answer: &Message) -> String {
    let json = answer.json();
    let text = json["info"].as_str().unwrap_or_else(|| panic!("no sentence in {}", answer.text())).to_owned();
    assert_eq!(json["type"], "google_error");
    let inner: Value = serde_json::from_str(json["text"].as_str().expect("text")).expect("JSON in text");
    assert_eq!((&inner["type"], inner["info"].as_str()), (&json["type"], Some(text.as_str())));
    assert_eq!((json["message"].as_str(), json["error"]["message"].as_str()), (Some(text.as_str()), Some(text.as_str())));
    assert_eq!((json["error"]["type"].as_str(), json.get("code")), (Some("rate_limit_error"), None), "a code would be shown instead");
    assert!(!text.contains(['{', '}']), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_told_in_the_persons_language_with_its_numbers() {
    let gateway = Setup::with(ONE_MESSAGE).start().await;
    gateway.client("ada@acme.test").chat("Hello").await.expect("an answer");
    gateway.all_settled().await;
    for (headers, language) in [
        ("", "en"),
        ("Accept-Language: ko-KR,ko;q=0.9,en;q=0.8\r\n", "ko"),
        ("Accept-Language: ko\r\nCookie: a=b; lang=en; c=d\r\n", "en"),
        ("Accept-Language: en\r\nCookie: a=b\r\nCookie: lang=ko-KR\r\n", "ko"),
        ("Accept-Language: fr, de;q=0.5\r\n", "en"),
    ] {
        let answer = ask(&gateway, &format!("POST {CHAT}"), headers).await;
        assert_eq!(answer.status, 429, "{headers:?}");
        let text = sentence(&answer);
        if language == "en" {
            assert!(text.starts_with("Your daily message limit") && text.contains("1 of 1 message used"), "{text}");
            assert!(text.contains("Asia/Seoul") && text.contains("Reference: "), "{text}");
        } else {
            assert!(text.contains("메시지") && text.contains("참조 번호: "), "{text}");
        }
        assert_eq!((answer.header("ratelimit-limit"), answer.header("ratelimit-remaining")), (Some("1"), Some("0")));
        let seconds: u64 = answer.header("ratelimit-reset").and_then(|seconds| seconds.parse().ok()).expect("seconds");
        assert!((1..=86_400).contains(&seconds), "a day ends within a day: {seconds}");
        assert_eq!(answer.header("retry-after"), answer.header("ratelimit-reset"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("connection"), Some("keep-alive"), "its body was read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_orgs_language_comes_before_the_persons() {
    let gateway = Setup::with(&format!("language = \"ko\"\n{ONE_MESSAGE}")).start().await;
    ask(&gateway, &format!("POST {CHAT}"), "").await;
    let answer = ask(&gateway, &format!("POST {CHAT}"), "Accept-Language: en\r\nCookie: lang=en\r\n").await;
    assert!(sentence(&answer).contains("참조 번호"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_finds_the_decision_by_its_reference() {
    let gateway = Setup::with(ONE_MESSAGE).start().await;
    ask(&gateway, &format!("POST {CHAT}"), "").await;
    let answer = ask(&gateway, &format!("POST {CHAT}"), "").await;
    let text = sentence(&answer);
    let (_, reference) = text.rsplit_once("Reference: ").expect("a reference");
    let row = gateway.audit_rows("chat.refused", 1).await.remove(0);
    assert_eq!((row.reference.as_deref(), row.error.as_deref(), row.status), (Some(reference), Some("limit"), Some(429)));
    assert_eq!(row.request_id.as_deref(), answer.header("x-request-id"));
    let detail = row.detail.expect("the whole decision");
    assert_eq!(
        (&detail["refused_by"]["limit"], &detail["refused_by"]["used"].as_u64().map(|used| used <= 1)),
        (&Value::from(1), &Some(true)),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_route_is_refused_in_its_own_shape() {
    let keys = "agent_api = \"default_org\"".to_owned();
    let gateway = Setup { librechat_keys: keys, ..Setup::with("[[limits]]\napplies_to = \"org\"\nmessages_per_day = 1\n") }.start().await;
    assert_eq!(ask(&gateway, &format!("POST {CHAT}"), "").await.status, 200);
    for path in
        [CHAT, "/api/agents/chat", "/api/agents/chat/resume", "/api/assistants/v2/chat", "/api/ask/openAI", "/API//Agents/chat/LabAI/"]
    {
        let answer = ask(&gateway, &format!("POST {path}"), "").await;
        assert_eq!(answer.status, 429, "{path}: {}", answer.text());
        assert!(sentence(&answer).contains("organization"), "{path}");
    }
    let answer = ask(&gateway, "POST /api/agents/chat/steer", "").await;
    assert_eq!((answer.status, answer.json().as_object().map(serde_json::Map::len)), (429, Some(1)), "{}", answer.text());
    assert!(answer.json()["message"].is_string());
    let answer = ask(&gateway, "POST /api/agents/v1/chat/completions", "").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (429, Some("rate_limit_exceeded")), "{}", answer.text());
    let answer = ask(&gateway, "GET /metrics", "Accept-Language: ko\r\n").await;
    assert!(answer.status == 404 && answer.text().contains("<html lang=\"ko\">"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_page_needs_is_never_refused_for_a_limit() {
    let gateway = Setup::with(ONE_MESSAGE).start().await;
    let client = gateway.client("ada@acme.test");
    let started = client.start(&ChatBody::new("Hi [[tokens=40 delay=20]]")).await.expect("an answer").json();
    assert_eq!(ask(&gateway, &format!("POST {CHAT}"), "").await.status, 429);
    for line in ["POST /api/auth/refresh", "GET /api/user", "GET /api/models", "GET /api/agents/chat/active", "GET /", "POST /api/files"] {
        assert_eq!(ask(&gateway, line, "").await.status, 200, "{line}");
    }
    let id = started["conversationId"].as_str().expect("a conversation");
    let frames = client.stream(id, started["generationCreatedAt"].as_i64()).await.expect("a stream");
    assert!(frames.iter().any(|frame| frame.kind() == "final"), "the running answer is heard to its end");
    let stopped = client.abort(id, None).await.expect("an answer");
    assert_eq!(stopped.status, 404, "stopping reaches LibreChat, where the run is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_librechat_is_away_everyone_is_told_to_try_again() {
    let librechat = HandmadeLibreChat::start(|_, wire| async move { Some(wire) }).await;
    let (address, url) = (librechat.address, librechat.url());
    let gateway = Setup::with(ONE_MESSAGE).set("TOLLGATE_LIBRECHAT__UPSTREAMS", &url).start().await;
    drop(librechat);
    // The listener is gone once connections are refused.
    wait_for("LibreChat to be gone", || async { tokio::net::TcpStream::connect(address).await.is_err().then_some(()) }).await;
    for _ in 0..3 {
        let answer = ask(&gateway, &format!("POST {CHAT}"), "").await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("60")), "{answer:?}");
        assert!(sentence(&answer).contains("try again in a minute"), "{}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "nobody sends a next request into a connection that is ended");
        // The one message is given back a moment after the answer.
        gateway.all_settled().await;
    }
    let answer = ask(&gateway, "GET /", "Accept-Language: ko\r\n").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("60")));
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) && answer.text().contains("lang=\"ko\""));
    let answer = ask(&gateway, "GET /api/user", "").await;
    assert_eq!((answer.status, answer.json()["message"].is_string()), (503, true), "{}", answer.text());
    gateway.all_settled().await;
    assert!(
        gateway.running.app.records.usage_rows(10).await.expect("rows").is_empty(),
        "nothing is charged, and the one message is not used up"
    );

    let listener = tokio::net::TcpListener::bind(address).await.expect("the same port");
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 8192]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nback").await;
        }
    });
    assert_eq!(ask(&gateway, "GET /", "").await.text(), "back", "LibreChat is back at once");
    assert_eq!(ask(&gateway, &format!("POST {CHAT}"), "").await.text(), "back", "and the message that was refused may be sent");
}
