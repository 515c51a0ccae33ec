//! Everything of LibreChat passes untouched and unbuffered, over HTTP/1.1 and HTTP/2, and LibreChat hears what it should.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, mpsc};
use tollgate::scripted::client::BROWSER;

use crate::support::gateway::{Setup, TestGateway, wait_for};
use crate::support::wire::{HandmadeLibreChat, Http2, Message, Wire};

/// A request head with a person's token, ready for more headers and the empty line.
fn head(gateway: &TestGateway, line: &str) -> String {
    let token = gateway.token("ada@acme.test");
    format!("{line} HTTP/1.1\r\nHost: chat.example\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\n")
}

/// The same request over HTTP/2.
fn head2(gateway: &TestGateway, method: &str, path: &str) -> http::request::Builder {
    let token = gateway.token("ada@acme.test");
    let request = http::Request::builder().version(http::Version::HTTP_2).method(method).uri(format!("http://chat.example{path}"));
    request.header("user-agent", BROWSER).header("authorization", format!("Bearer {token}"))
}

/// What LibreChat's own middle box may change, left out: everything else must be the same.
fn comparable(message: &Message) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let ours = ["access-control-allow-origin", "date", "connection", "keep-alive", "x-request-id", "transfer-encoding"];
    let mut headers: Vec<_> = message.headers.iter().filter(|(name, _)| !ours.contains(&name.as_str())).cloned().collect();
    headers.sort();
    (message.status, headers, message.body.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_assets_and_api_pass_byte_for_byte() {
    let gateway = Setup::default().start().await;
    let mut direct = Wire::connect(gateway.librechat.addr()).await;
    let mut through = Wire::connect(gateway.running.public).await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    let tag = {
        direct.send(head(&gateway, "GET /assets/app.js") + "\r\n").await;
        direct.answer().await.header("etag").expect("an entity tag").to_owned()
    };
    let conditional = format!("If-None-Match: {tag}\r\n");
    for (path, more) in [
        ("/", ""),
        ("/c/new?x=1", ""),
        ("/assets/app.js", ""),
        ("/assets/app.js", "Accept-Encoding: gzip\r\n"),
        ("/assets/app.js", "Accept-Encoding: br, gzip\r\n"),
        ("/assets/app.js", &conditional),
        ("/api/config", "Accept-Encoding: gzip\r\n"),
        ("/api/models", ""),
        ("/api/endpoints", ""),
        ("/api/user", ""),
        ("/api/unknown", ""),
        ("/health", ""),
    ] {
        let request = format!("{}{more}\r\n", head(&gateway, &format!("GET {path}")));
        direct.send(&request).await;
        through.send(&request).await;
        let (expected, got) = (direct.answer().await, through.answer().await);
        assert_eq!(comparable(&got), comparable(&expected), "GET {path} {more:?} differs through the gateway");
        assert!(got.header("x-request-id").is_some_and(|id| id.len() == 36), "GET {path} is answered without a request id");
        let mut request = head2(&gateway, "GET", path);
        if let Some((name, value)) = more.trim().split_once(": ") {
            request = request.header(name, value);
        }
        let got = http2.send(request.body(()).expect("a request"), &[]).await;
        assert_eq!(comparable(&got), comparable(&expected), "GET {path} {more:?} over HTTP/2 differs through the gateway");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_a_body_leaves_the_connection_usable() {
    let gateway = Setup::default().start().await;
    let mut wire = Wire::connect(gateway.running.public).await;
    for (method, path, status) in
        [("HEAD", "/assets/app.js", 200), ("HEAD", "/api/user", 200), ("GET", "/api/balance", 204), ("OPTIONS", "/api/user", 405)]
    {
        wire.send(head(&gateway, &format!("{method} {path}")) + "\r\n").await;
        let answer = wire.answer_to(method).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{method} {path}: {answer:?}");
    }
    wire.send("HEAD /api/user HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(wire.answer_to("HEAD").await.status, 401, "our own answers to HEAD have no body either");
    wire.send(head(&gateway, "GET /api/user") + "\r\n").await;
    assert_eq!(wire.answer().await.json()["email"], "ada@acme.test", "the connection goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_arrive_while_they_are_sent() {
    let gateway = Setup::default().start().await;
    let half = vec![b'u'; 10 * 1024 * 1024];
    let digest = Sha256::new().chain_update(&half).chain_update(&half).finalize();
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    for framing in ["length", "chunked"] {
        gateway.librechat.forget_requests();
        let mut wire = Wire::connect(gateway.running.public).await;
        let chunked = framing == "chunked";
        let (declared, before, after, end) = if chunked {
            ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n", half.len()), "\r\n", "0\r\n\r\n")
        } else {
            (format!("Content-Length: {}", 2 * half.len()), String::new(), "", "")
        };
        wire.send(head(&gateway, "POST /api/files") + "Content-Type: multipart/form-data; boundary=x\r\n" + &declared + "\r\n\r\n").await;
        wire.send(&before).await;
        wire.send(&half).await;
        wire.send(after).await;
        wait_for("half of the upload to arrive before the rest is sent", || async {
            let arrived = gateway.librechat.requests().iter().find(|request| request.path == "/api/files")?.body_len;
            (arrived == half.len() as u64).then_some(())
        })
        .await;
        wire.send(&before).await;
        wire.send(&half).await;
        wire.send(format!("{after}{end}")).await;
        let answer = wire.answer().await;
        assert_eq!(answer.json()["sha256"], digest, "{framing}: {} {}", answer.status, answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_over_http2_of_known_and_unknown_length_arrive_whole() {
    let gateway = Setup::default().start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    let piece = Bytes::from(vec![b'h'; 16 * 1024]);
    let mut frames = vec![piece.clone(); 64];
    let request = head2(&gateway, "POST", "/api/files").header("content-length", 64 * 16 * 1024).body(()).expect("a request");
    let answer = http2.send(request, &frames).await;
    assert_eq!(answer.json()["bytes"], 64 * 16 * 1024, "{answer:?}");
    // The empty frame at the end must not end the body twice: the next request takes the same upstream connection.
    frames.push(Bytes::new());
    for _ in 0..3 {
        let answer = http2.send(head2(&gateway, "POST", "/api/files").body(()).expect("a request"), &frames).await;
        assert_eq!(answer.json()["bytes"], 64 * 16 * 1024, "{answer:?}");
        let answer = http2.send(head2(&gateway, "GET", "/api/user").body(()).expect("a request"), &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_and_events_pass_as_they_come() {
    // The next piece is written only when the one before has been received.
    let received = Arc::new(Notify::new());
    let heard = received.clone();
    let librechat = HandmadeLibreChat::start(move |request, mut wire| {
        let heard = heard.clone();
        async move {
            let (kind, filling) = if request.target().contains("stream") { ("text/event-stream", 40) } else { ("image/png", 1024 * 1024) };
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
            for number in 0..10 {
                let piece = format!("{}piece {number}\n\n", ".".repeat(filling));
                wire.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
                heard.notified().await;
            }
            wire.send("0\r\n\r\n").await;
            Some(wire)
        }
    })
    .await;
    let gateway = Setup::default().set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await;
    for path in ["/images/a/b.png", "/api/agents/chat/stream/abc", "/api/files/download/x/y?stream"] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway, &format!("GET {path}")) + "\r\n").await;
        let answer = wire.head().await;
        assert_eq!((answer.status, answer.header("content-length")), (200, None), "{path}: {answer:?}");
        for number in 0..10 {
            wire.until(&format!("piece {number}\n\n")).await;
            received.notify_one();
        }
        wire.until("0\r\n\r\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_passes_both_ways() {
    let gateway = Setup::default().start().await;
    let request = head(&gateway, "GET /ws-echo")
        + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // Where LibreChat answers before Pingora has seen the end of the empty request, the tunnel ends at once
    // (cloudflare/pingora#946); a client connects again, as it would after any lost connection.
    for _ in 0..20 {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(&request).await;
        let answer = wire.head().await;
        assert_eq!((answer.status, answer.header("upgrade")), (101, Some("websocket")), "{answer:?}");
        wire.send("hello").await;
        if wire.exactly(5).await.is_empty() {
            continue;
        }
        for number in 0..50_u8 {
            let frame = vec![number; 1 + usize::from(number) * 97];
            wire.send(&frame).await;
            assert_eq!(wire.exactly(frame.len()).await, frame, "frame {number} comes back as it was sent");
        }
        wire.finish().await;
        assert!(wire.is_closed().await, "the end of one side ends the other");
        return;
    }
    panic!("no tunnel lasted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue_is_answered_at_once() {
    let gateway = Setup::default().start().await;
    let chat = r#"{"text":"Hi","endpoint":"LabAI","model":"lab-small"}"#;
    let started = std::time::Instant::now();
    for (path, kind, body) in [("/api/agents/chat/LabAI", "application/json", chat), ("/api/files", "text/plain", "a file")] {
        let mut wire = Wire::connect(gateway.running.public).await;
        let length = body.len();
        wire.send(
            head(&gateway, &format!("POST {path}"))
                + &format!("Content-Type: {kind}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"),
        )
        .await;
        let interim = wire.head().await;
        assert_eq!(interim.status, 100, "{path}: {interim:?}");
        wire.send(body).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        if answer.header("connection") != Some("close") {
            wire.send(head(&gateway, "GET /api/user") + "\r\n").await;
            assert_eq!(wire.answer().await.status, 200, "the connection goes on after {path}");
        }
        // Whoever is refused must not have to send the body, and what comes next must not be taken for it.
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        ))
        .await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")), "{path}: {answer:?}");
        wire.finish().await;
        assert!(wire.is_closed().await, "a client that left is not waited for");
    }
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waits for a body that will not come: {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_clients_that_are_still_sending() {
    let gateway = Setup::default().start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    for path in ["/api/agents/chat/LabAI", "/api/files", "/api/convos/update"] {
        let mut wire = Wire::connect(gateway.running.public).await;
        let body = Bytes::from(vec![b'x'; 300_000]);
        wire.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        wire.send(&body).await;
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.text().as_str()), (401, r#"{"message":"Unauthorized"}"#), "{path}");
        assert_eq!(answer.header("connection"), Some("close"), "{path}: the connection ends where a body was left");
        assert!(wire.is_closed().await, "{path}: it ends in order");
        let request = http::Request::post(format!("http://a{path}")).body(()).expect("a request");
        let frames: Vec<_> = body.chunks(16_000).map(Bytes::copy_from_slice).collect();
        let answer = http2.send(request, &frames).await;
        assert_eq!(answer.status, 401, "{path} over HTTP/2: the answer reaches a client that is still sending");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_librechat_closed_is_not_used_again() {
    let (closed, mut closing) = mpsc::unbounded_channel();
    let librechat = HandmadeLibreChat::start(move |_, mut wire| {
        let closed = closed.clone();
        async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            drop(wire);
            let _ = closed.send(());
            None
        }
    })
    .await;
    let gateway = Setup::default().set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await;
    let mut wire = Wire::connect(gateway.running.public).await;
    for number in 0..20 {
        let line = if number % 2 == 0 { "GET /api/user" } else { "DELETE /api/keys/x" };
        wire.send(head(&gateway, line) + "\r\n").await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200, "request {number}: {answer:?}");
        closing.recv().await.expect("LibreChat closes every connection");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_are_closed_before_librechat_would() {
    let gateway = Setup::default().start().await;
    let client = gateway.client("ada@acme.test");
    let used = std::time::Instant::now();
    let answers = futures_util::future::join_all((0..8).map(|_| client.get("/api/user"))).await;
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 200)));
    wait_for("the pool to let go", || async { (gateway.librechat.open_connections() <= 1).then_some(()) }).await;
    assert!(used.elapsed() < Duration::from_millis(4900), "LibreChat closes at 5 s, the pool let go after {:?}", used.elapsed());
}

/// The request of this path as LibreChat heard it.
fn heard(gateway: &TestGateway, path: &str) -> tollgate::scripted::Received {
    gateway.librechat.requests().into_iter().rfind(|request| request.path == path).unwrap_or_else(|| panic!("{path} never arrived"))
}

fn all_of<'a>(request: &'a tollgate::scripted::Received, name: &str) -> Vec<&'a str> {
    request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechat_hears_one_true_address() {
    let trusted = Setup::default().set("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "127.0.0.0/8,10.0.0.0/8").start().await;
    let untrusted = Setup::default().set("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "10.0.0.0/8").start().await;
    for (said, expected) in [
        ("", "127.0.0.1"),
        ("X-Forwarded-For: 203.0.113.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.1.2.3\r\n", "203.0.113.7"),
        ("X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 203.0.113.7\r\nX_Forwarded_For: 7.7.7.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: [2001:db8::7]:443\r\n", "2001:db8::7"),
        ("X-Forwarded-For: 2001:DB8:0::8\r\n", "2001:db8::8"),
        ("X-Forwarded-For: ::ffff:203.0.113.9\r\n", "203.0.113.9"),
        ("X-Forwarded-For: \u{ff}\u{fe}, 203.0.113.7\r\n", "203.0.113.7"),
        ("X-Forwarded-For: nobody\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n", "127.0.0.1"),
    ] {
        for (gateway, expected) in [(&trusted, expected), (&untrusted, "127.0.0.1")] {
            gateway.librechat.forget_requests();
            let mut wire = Wire::connect(gateway.running.public).await;
            wire.send(head(gateway, "GET /api/user") + said + "\r\n").await;
            assert_eq!(wire.answer().await.status, 200);
            let request = heard(gateway, "/api/user");
            assert_eq!(all_of(&request, "x-forwarded-for"), [expected], "after {said:?}");
            for name in ["forwarded", "x-real-ip", "x_forwarded_for"] {
                assert_eq!(all_of(&request, name), [""; 0], "{name} after {said:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechat_hears_an_ipv6_client() {
    let gateway = Setup::default().set("TOLLGATE_PUBLIC__LISTEN", "[::1]:0").start().await;
    assert_eq!(gateway.client("ada@acme.test").get("/api/user").await.expect("an answer").status, 200);
    assert_eq!(all_of(&heard(&gateway, "/api/user"), "x-forwarded-for"), ["::1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechat_hears_the_scheme_that_a_trusted_proxy_says() {
    let trusted = Setup::default().start().await;
    let untrusted = Setup::default().set("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "10.0.0.0/8").start().await;
    for (said, expected) in [
        ("", "http"),
        ("X-Forwarded-Proto: https\r\n", "https"),
        ("X-Forwarded-Proto: HTTPS, http\r\n", "https"),
        ("X-Forwarded-Proto: gopher\r\n", "http"),
    ] {
        for (gateway, expected) in [(&trusted, expected), (&untrusted, "http")] {
            let mut wire = Wire::connect(gateway.running.public).await;
            wire.send(head(gateway, "GET /api/user") + said + "\r\n").await;
            assert_eq!(wire.answer().await.status, 200);
            assert_eq!(all_of(&heard(gateway, "/api/user"), "x-forwarded-proto"), [expected], "after {said:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechat_hears_nothing_that_clients_may_not_say() {
    let gateway = Setup::default().start().await;
    let mut wire = Wire::connect(gateway.running.public).await;
    let forbidden = [
        "X-Tenant-Id",
        "x_tenant_id",
        "X-LC-Agent-Trigger",
        "x_lc_agent_trigger",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Prefix",
        "x-forwarded_user",
        "X-Tollgate-Org",
        "True-Client-IP",
        "Proxy-Authorization",
        "Keep-Alive",
    ];
    let kept = ["X-LibreChat-Generation-Protocol", "Accept-Language", "Cookie", "Origin", "Referer", "X-Custom"];
    let said: String = forbidden.iter().chain(&kept).map(|name| format!("{name}: 1\r\n")).collect();
    wire.send(head(&gateway, "GET /api/user") + &said + "X-Request-Id: mine\r\n\r\n").await;
    let answer = wire.answer().await;
    let request = heard(&gateway, "/api/user");
    for name in forbidden {
        assert_eq!(all_of(&request, &name.to_ascii_lowercase()), [""; 0], "{name} must not reach LibreChat");
    }
    for name in kept {
        assert_eq!(all_of(&request, &name.to_ascii_lowercase()), ["1"], "{name} must reach LibreChat");
    }
    let id = answer.header("x-request-id").expect("a request id");
    assert_eq!(all_of(&request, "x-request-id"), [id], "LibreChat's log can be joined with ours");
    assert_eq!(all_of(&request, "user-agent"), [BROWSER]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechat_hears_the_host_that_the_client_asked_for() {
    let gateway = Setup::default().start().await;
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway, "GET /api/user").replace("chat.example", "Chat.Example:8443") + "\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(all_of(&heard(&gateway, "/api/user"), "host"), ["Chat.Example:8443"]);
    let mut http2 = Http2::connect(gateway.running.public).await;
    let request =
        head2(&gateway, "GET", "/api/user").header("cookie", "a=1").header("cookie", "refreshToken=b").body(()).expect("a request");
    assert_eq!(http2.send(request, &[]).await.status, 200);
    let request = heard(&gateway, "/api/user");
    assert_eq!(all_of(&request, "host"), ["chat.example"], "from :authority");
    assert_eq!(all_of(&request, "cookie"), ["a=1; refreshToken=b"], "one header, as RFC 9113 8.2.3 wants it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_read_come_uncompressed_and_others_as_asked() {
    let gateway = Setup::default().start().await;
    let client = gateway.client("ada@acme.test").header("Accept-Encoding", "gzip, br");
    let exchange = client.chat("Hello").await.expect("an answer");
    assert!(exchange.last().is_some());
    client.get("/api/models").await.expect("an answer");
    for request in gateway.librechat.requests() {
        let expected = match request.path.as_str() {
            "/api/models" => "gzip, br",
            path if path.starts_with("/api/agents/chat/") => "identity",
            _ => continue,
        };
        assert_eq!(all_of(&request, "accept-encoding"), [expected], "{}", request.path);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn librechats_metrics_are_reached_in_no_spelling() {
    let gateway = Setup::default().start().await;
    for target in [
        "/metrics",
        "/metrics/",
        "/METRICS",
        "/Metrics?x=1",
        "//metrics",
        "/./metrics",
        "/x/../metrics",
        "/%6detrics",
        "/%6D%65trics",
        "/metrics/x",
        "/%2e/metrics",
        "/x/%2e%2e/metrics",
        "/%2fmetrics",
        "/metrics%2f",
        "\\metrics",
        "/x\\..\\metrics",
        "http://chat.example/metrics",
        "http://chat.example//metrics",
        "/metrics#x",
        "/metrics;x",
        "/metrics%00",
        "/metrics%20",
    ] {
        for method in ["GET", "POST", "HEAD", "OPTIONS"] {
            let mut wire = Wire::connect(gateway.running.public).await;
            wire.send(head(&gateway, &format!("{method} {target}")) + "Connection: close\r\nContent-Length: 0\r\n\r\n").await;
            let answer = wire.answer_to(method).await;
            assert!(!answer.text().contains("generation_jobs_total"), "{method} {target} shows LibreChat's metrics");
        }
    }
    let mut http2 = Http2::connect(gateway.running.public).await;
    for path in ["/metrics", "//metrics", "/x/../metrics", "/%6detrics"] {
        let answer = http2.send(head2(&gateway, "GET", path).body(()).expect("a request"), &[]).await;
        assert!(!answer.text().contains("generation_jobs_total"), "{path} over HTTP/2 shows LibreChat's metrics");
    }
    let reached: Vec<_> =
        gateway.librechat.requests().into_iter().map(|request| request.path).filter(|path| path.contains("etrics")).collect();
    // What is no way to write that path for anyone passes as any other path does.
    assert!(reached.iter().all(|path| ["/metrics;x", "/metrics%00", "/metrics%20"].contains(&path.as_str())), "{reached:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_has_its_own_request_id() {
    let gateway = Setup::default().start().await;
    let mut ids = Vec::new();
    let mut ask = async |request: String| {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(request + "Connection: close\r\n\r\n").await;
        let answer = wire.answer().await;
        ids.push(answer.header("x-request-id").unwrap_or_else(|| panic!("an answer without a request id: {answer:?}")).to_owned());
        answer.status
    };
    let json = "Content-Type: application/json\r\nContent-Length: 5\r\n";
    assert_eq!(ask(head(&gateway, "GET /")).await, 200);
    assert_eq!(ask(head(&gateway, "GET /api/user")).await, 200);
    assert_eq!(ask("GET /api/user HTTP/1.1\r\nHost: a\r\n".into()).await, 401);
    assert_eq!(ask(head(&gateway, "GET /metrics")).await, 404);
    assert_eq!(ask(head(&gateway, "GET /_tollgate/me")).await, 200);
    assert_eq!(ask(head(&gateway, "GET /_tollgate/nothing")).await, 404);
    assert_eq!(ask(head(&gateway, "POST /api/agents/v1/responses") + json).await, 403);
    gateway.librechat.set_down(true);
    assert!(ask(head(&gateway, "GET /api/user")).await >= 502, "connections are reset as they come");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "no two requests share an id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_shorter_than_http2_begins_are_answered() {
    let gateway = Setup::default().start().await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "OPTIONS / HTTP/1.0\r\n\r\n", "HEAD / HTTP/1.0\r\n\r\n"] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(request).await;
        let method = request.split(' ').next().unwrap_or_default();
        assert_ne!(wire.answer_to(method).await.status, 0, "{request:?}");
    }
    // In pieces, and a method that begins as HTTP/2 does.
    for pieces in [["G", "ET / HTTP/1.1\r\nHost: a\r\n\r\n"], ["PR", "I / HTTP/1.1\r\nHost: a\r\n\r\n"]] {
        let mut wire = Wire::connect(gateway.running.public).await;
        for piece in pieces {
            wire.send(piece).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_ne!(wire.answer().await.status, 0, "{pieces:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_proxy_may_do_is_refused_by_name() {
    let gateway = Setup::default().start().await;
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send("CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("allow").is_some()), (405, true), "{answer:?}");
    assert!(answer.header("x-request-id").is_some(), "{answer:?}");
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway, "GET /api/user") + "Connection: keep-alive, X-Forwarded-For\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.text().contains("Connection") && answer.header("x-request-id").is_some(), "{answer:?}");
}
