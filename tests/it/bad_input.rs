//! Whatever comes, from clients or from LibreChat: a clear error or a faithful pass, never a panic, a hang or a wrong charge.

use std::sync::Arc;

use tollgate::scripted::client::{BROWSER, ChatBody};

use crate::support::gateway::{Setup, TestGateway};
use crate::support::wire::{HandmadeLibreChat, Wire};

const CHAT: &str = "/api/agents/chat/LabAI";

fn head(gateway: &TestGateway, line: &str) -> String {
    let token = gateway.token("ada@acme.test");
    format!("{line} HTTP/1.1\r\nHost: a\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\n")
}

/// The gateway still serves, nothing is open and nothing was charged.
async fn assert_unharmed(gateway: &TestGateway) {
    gateway.all_settled().await;
    let exchange = gateway.client("ada@acme.test").chat("Still there? [[in=10 out=5]]").await.expect("an answer");
    assert!(exchange.last().is_some(), "a chat goes through afterwards");
    let rows = gateway.usage_rows(1).await;
    assert_eq!(rows.len(), 1, "only that chat was charged: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_that_cannot_be_read_is_refused_with_a_sentence() {
    let gateway = Setup::with("[[limits]]\napplies_to = \"member\"\nmessages_per_day = 1").start().await;
    let deep =
        |open: &str, close: &str| format!(r#"{{"text":"x","quotes":{}{}}}"#, open.repeat(100_000), close.repeat(100_000)).into_bytes();
    let bodies: [(&str, Vec<u8>); 20] = [
        ("no JSON", b"text=hello".to_vec()),
        ("half of it", br#"{"text":"hel"#.to_vec()),
        ("more than one", br#"{"text":"a"}{"text":"b"}"#.to_vec()),
        ("a list", br#"["a","b"]"#.to_vec()),
        ("a string", br#""hello""#.to_vec()),
        ("null", b"null".to_vec()),
        ("white space", b"   \r\n".to_vec()),
        ("a number as text", br#"{"text":5}"#.to_vec()),
        ("a list as model", br#"{"text":"a","model":["gpt-4o"]}"#.to_vec()),
        ("an object as conversation", br#"{"text":"a","conversationId":{}}"#.to_vec()),
        ("a prototype", br#"{"text":"a","__proto__":{"model":"gpt-4o"}}"#.to_vec()),
        ("a byte order mark", b"\xef\xbb\xbf{\"text\":\"a\"}".to_vec()),
        ("two models", br#"{"text":"a","model":"lab-small","model":"gpt-4o"}"#.to_vec()),
        ("two spellings of a key", br#"{"model":"lab-small","\u006dodel":"gpt-4o"}"#.to_vec()),
        ("lists in lists", deep("[", "]")),
        ("objects in objects", deep("{\"a\":", "}")),
        ("foreign bytes", b"{\"text\":\"\xff\xfe\"}".to_vec()),
        ("half a character", b"{\"text\":\"\xe2\x82\"}".to_vec()),
        ("UTF-16", "{\"text\":\"a\"}".encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("control characters", b"{\"text\":\"\x00\x01\"}".to_vec()),
    ];
    let mut wire = Wire::connect(gateway.running.public).await;
    for (what, body) in bodies {
        wire.send(
            head(&gateway, &format!("POST {CHAT}")) + &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len()),
        )
        .await;
        wire.send(&body).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        let json = answer.json();
        assert_eq!(json["type"], "google_error", "{what}: {}", answer.text());
        assert!(
            json["info"].as_str().is_some_and(|text| text.contains("could not be read") && !text.contains('{')),
            "{what}: {}",
            answer.text()
        );
        let shape = body.starts_with(b"{")
            && ["as text", "as model", "as conversation", "two ", "prototype"].iter().any(|words| what.contains(words));
        let why = if shape { "wrong type, or stands twice" } else { "not a JSON object" };
        assert!(json["info"].as_str().is_some_and(|text| text.contains(why)), "{what}: {}", answer.text());
    }
    assert!(gateway.librechat.runs().is_empty(), "LibreChat started nothing");
    assert_unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_plain_json_is_a_chat() {
    let gateway = Setup::default().start().await;
    let chat = r#"{"text":"a","endpoint":"LabAI","model":"lab-small"}"#;
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=x\r\n",
        "Content-Type: application/jsonp\r\n",
        "Content-Type: application/json; charset=utf-16\r\n",
        "Content-Type: application/json; charset=utf-7; x=utf-8\r\n",
        "Content-Type: application/json; charset=utf-8; charset=utf-7\r\n",
        "Content-Type: application/json; x=1\r\n",
        "Content-Type: application/json; charset*=utf-8''utf-7\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/json\r\nContent-Encoding: br\r\n",
        "Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Encoding: deflate\r\n",
        "Content-Type: \u{ff}\r\n",
    ] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway, &format!("POST {CHAT}")) + headers + &format!("Content-Length: {}\r\n\r\n{chat}", chat.len())).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.json()["type"].as_str()), (415, Some("google_error")), "{headers:?}: {answer:?}");
    }
    for headers in [
        "Content-Type: application/json",
        "content-type: APPLICATION/JSON ; charset=UTF-8",
        "Content-Type: application/json; charset=\"utf-8\"",
        "Content-Type: application/json\r\nContent-Encoding: identity",
    ] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway, &format!("POST {CHAT}")) + headers + &format!("\r\nContent-Length: {}\r\n\r\n{chat}", chat.len())).await;
        assert_eq!(wire.answer().await.status, 200, "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_id_of_1_mb_is_refused_and_other_names_are_not_kept() {
    let gateway = Setup::default().start().await;
    let client = gateway.client("ada@acme.test");
    let long = "c".repeat(1024 * 1024);
    for id in [long.as_str(), &long[..257]] {
        let answer = client.start(&ChatBody::new("Hi").with("conversationId", id)).await.expect("an answer");
        assert_eq!(answer.status, 400, "LibreChat makes no such id, and it is no new conversation: {}", answer.text);
    }
    let body = ChatBody::new("Hi").with("conversationId", &long[..256]).with("model", &long[..900_000]).with("agent_id", &long[..900_000]);
    let answer = client.start(&body).await.expect("an answer");
    assert_eq!(answer.status, 200, "it passes: {}", &answer.text[..answer.text.len().min(200)]);
    gateway.all_settled().await;
    for row in gateway.audit_rows("chat.started", 1).await {
        let kept = [row.conversation_id, row.model, row.path].into_iter().flatten().map(|text| text.len()).max();
        assert!(kept.is_none_or(|longest| longest <= 1024), "an audit row keeps {kept:?} bytes of it");
    }
    for row in gateway.usage_rows(1).await {
        assert!(row.conversation_id.is_none_or(|id| id.len() <= 1024) && row.model.len() <= 1024, "a usage row keeps it whole");
    }
    let answer = client.get(&format!("/api/agents/chat/stream/{}", "s".repeat(60_000))).await.expect("an answer");
    assert_eq!(answer.status, 404, "a stream of a long name is LibreChat's to refuse");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doubled_credentials_are_refused_where_one_is_needed() {
    let gateway = Setup::default().start().await;
    let other = gateway.token("eve@acme.test");
    for line in ["GET /api/user", &format!("POST {CHAT}"), "GET /api/agents/chat/stream/x"] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway, line) + &format!("Authorization: Bearer {other}\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status, 401, "{line}");
    }
    let heard = gateway.librechat.requests();
    assert!(heard.iter().all(|request| request.path == "/health"), "none of them is passed on: {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_and_many_headers_pass_or_are_refused() {
    let gateway = Setup::default().start().await;
    for (size, expected) in [(20_000, 200), (100_000, 200), (2_000_000, 400)] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway, "GET /api/user") + &format!("X-Large: {}\r\n\r\n", "x".repeat(size))).await;
        let answer = wire.answer().await;
        // One that is cut off in the middle of sending may not see the answer.
        assert!(answer.status == expected || (expected == 400 && answer.status == 0), "{size} bytes: {answer:?}");
    }
    let many: String = (0..300).map(|number| format!("X-Many-{number}: 1\r\n")).collect();
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway, "GET /api/user") + &many + "\r\n").await;
    assert_eq!(wire.answer().await.status, 400, "300 headers");
    assert_unharmed(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_routes_and_methods_are_librechats_to_answer() {
    let gateway = Setup::default().start().await;
    for (line, status) in [
        ("GET /api/nothing", 404),
        ("BREW /api/user", 405),
        ("PROPFIND /api/nothing", 404),
        ("PUT /api/agents/chat/LabAI", 405),
        ("GET /c/%ff%fe", 200),
        ("GET /?%zz&=&&a=%", 200),
        ("GET /\u{e9}\u{ff}", 400),
        ("CONNECT a:443", 405),
        ("GET relative", 400),
        ("GET http://[::1/x", 400),
        ("post /api/agents/chat/LabAI", 415),
    ] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway, line) + "Content-Length: 1\r\n\r\n{").await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, status, "{line}: {answer:?}");
    }
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\r\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense",
    ] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(bytes).await;
        wire.finish().await;
        // HTTP/2 says why before it goes.
        let said = wire.exactly(usize::MAX).await;
        assert!(said.len() < 1000 && !said.starts_with(b"HTTP/1.1 200"), "{bytes:?} is no request: {said:?}");
    }
    assert_unharmed(&gateway).await;
}

const STARTED: &str = r#"{"streamId":"c1","conversationId":"c1","generationCreatedAt":1795198786673,"status":"started"}"#;

fn json_answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A LibreChat that starts every chat, and whose streams are this.
async fn streaming(stream: Vec<u8>) -> HandmadeLibreChat {
    let stream = Arc::new(stream);
    HandmadeLibreChat::start(move |request, mut wire| {
        let stream = stream.clone();
        async move {
            match request.target() {
                CHAT => wire.send(json_answer(STARTED)).await,
                target if target.starts_with("/api/agents/chat/stream/") && !target.contains("resume") => {
                    wire.send(&*stream).await;
                    return None;
                }
                target if target.starts_with("/api/agents/chat/status/") => wire.send(json_answer(r#"{"active":false}"#)).await,
                target if target.starts_with("/api/messages/") => wire.send(json_answer("[]")).await,
                _ => wire.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await,
            }
            Some(wire)
        }
    })
    .await
}

async fn chat_and_read(gateway: &TestGateway) -> crate::support::wire::Message {
    let mut wire = Wire::connect(gateway.running.public).await;
    let chat = r#"{"text":"a","endpoint":"LabAI","model":"lab-small"}"#;
    wire.send(
        head(gateway, &format!("POST {CHAT}")) + &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{chat}", chat.len()),
    )
    .await;
    assert_eq!(wire.answer().await.json()["status"], "started");
    wire.send(head(gateway, "GET /api/agents/chat/stream/c1?generationCreatedAt=1795198786673") + "\r\n").await;
    wire.answer().await
}

const USAGE: &str = r#"{"event":"on_token_usage","data":{"input_tokens":100,"output_tokens":57,"total_tokens":157,"model":"lab-small","provider":"LabAI","runId":"r1","seq":1}}"#;

fn stream_head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {length}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_10_mb_and_other_oddities_in_a_stream_pass_and_what_follows_is_read() {
    let mut events = b"event: message\ndata: {\"created\":true,\"message\":{\"conversationId\":\"c1\"},\"streamId\":\"c1\"}\n\n".to_vec();
    events.extend_from_slice(b"data: {\"x\":\"");
    events.resize(events.len() + 10 * 1024 * 1024, b'y');
    events.extend_from_slice(b"\"}\n\ndata: \xff\xfe\n\ndata: {broken\n\nnonsense\n:\n\ndata\n\n\0\0\n\nevent: message\rdata: 7\r\r");
    events.extend(format!("event: message\r\ndata: {USAGE}\r\n\r\n").bytes());
    events.extend_from_slice(b"data: {\"final\":true,\"conversation\":{\"conversationId\":\"c1\"},\"responseMessage\":{\"messageId\":\"r1\",\"text\":\"hi\"}}\n\n");
    let mut answer = stream_head(events.len()).into_bytes();
    answer.extend_from_slice(&events);
    let librechat = streaming(answer).await;
    let gateway = Setup::default().set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await;
    let stream = chat_and_read(&gateway).await;
    assert!(stream.complete && stream.body == events, "the stream passes byte for byte");
    let row = gateway.usage_rows(1).await.remove(0);
    assert_eq!((row.input_tokens, row.output_tokens, row.usage_source.as_str(), row.status.as_str()), (100, 57, "frames", "completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_off_ends_in_the_same_way_for_the_client() {
    let events = format!("event: message\ndata: {USAGE}\n\nevent: message\ndata: {{\"event\":\"on_mess");
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{events}\r\n",
        events.len()
    );
    let check = async |answer: String| {
        let librechat = streaming(answer.into_bytes()).await;
        let setup = Setup::with("[generations]\nfollow_after_ms = 50").set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url());
        let gateway = setup.start().await;
        let stream = chat_and_read(&gateway).await;
        assert_eq!(stream.text(), events, "what came passes");
        assert!(!stream.complete, "the client can tell that it is not all");
        let row = gateway.usage_rows(1).await.remove(0);
        assert_eq!((row.input_tokens, row.output_tokens), (100, 57), "what was measured is charged");
    };
    tokio::join!(check(chunked), check(stream_head(events.len() + 100) + &events));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_cannot_be_made_a_tunnel() {
    let gateway = Setup::default().start().await;
    let chat = r#"{"text":"a [[in=10 out=5]]","endpoint":"LabAI","model":"lab-small"}"#;
    for upgrade in ["websocket", "h2c", "TLS/1.0"] {
        let mut wire = Wire::connect(gateway.running.public).await;
        let headers = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Type: application/json\r\n"
        );
        wire.send(head(&gateway, &format!("POST {CHAT}")) + &headers + &format!("Content-Length: {}\r\n\r\n{chat}", chat.len())).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("started")), "{upgrade}: {answer:?}");
    }
    let heard = gateway.librechat.requests();
    assert!(heard.iter().all(|request| request.header("upgrade").is_none()), "{heard:?}");
    assert_eq!(gateway.usage_rows(3).await.len(), 3, "each is charged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_none_become_a_clear_error() {
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 2000 What\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
        "",
    ] {
        let librechat = HandmadeLibreChat::start(move |_, mut wire| async move {
            wire.send(answer).await;
            None
        })
        .await;
        let gateway =
            Setup::with("[generations]\ngive_up_after_minutes = 1").set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await;
        for (line, body) in [("GET /api/user", ""), ("GET /", ""), ("POST /api/agents/chat/LabAI", r#"{"text":"a"}"#)] {
            let mut wire = Wire::connect(gateway.running.public).await;
            wire.send(head(&gateway, line) + &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
                .await;
            let got = wire.answer().await;
            assert_eq!(got.status, 502, "{line} answered {answer:?}: {got:?}");
            assert!(got.header("x-request-id").is_some() && got.header("retry-after").is_some(), "{got:?}");
        }
    }
}
