//! Bodies of chat starts arrive byte for byte at every size, or are refused in a way that leaves the connection in order.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tollgate::scripted::client::BROWSER;

use crate::support::gateway::{Setup, TestGateway};
use crate::support::wire::{Http2, Message, Wire};

const CHAT: &str = "/api/agents/chat/LabAI";
const LIMIT: usize = 3 * 1024 * 1024;

/// A chat start of exactly this many bytes, as far as that can be; what is no chat is white space.
fn chat_of(bytes: usize) -> Vec<u8> {
    let mut body = br#"{"text":"A long story","endpoint":"LabAI","model":"lab-small","filler":""#.to_vec();
    if bytes < body.len() + 2 {
        return b"{}"
            .repeat(usize::from(bytes >= 2))
            .into_iter()
            .chain(std::iter::repeat_n(b' ', bytes.saturating_sub(2)))
            .take(bytes)
            .collect();
    }
    // Not the same byte everywhere, so that a piece in the wrong place is seen.
    let filling = (0_u32..).map(|n| b'a' + u8::try_from(n.wrapping_mul(2_654_435_761) >> 24).unwrap_or_default() % 26);
    body.extend(filling.take(bytes - body.len() - 2));
    body.extend_from_slice(b"\"}");
    body
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn head(gateway: &TestGateway) -> String {
    let token = gateway.token("ada@acme.test");
    format!(
        "POST {CHAT} HTTP/1.1\r\nHost: a\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    )
}

fn head2(gateway: &TestGateway) -> http::request::Builder {
    let token = gateway.token("ada@acme.test");
    let request = http::Request::post(format!("http://a{CHAT}")).header("user-agent", BROWSER);
    request.header("authorization", format!("Bearer {token}")).header("content-type", "application/json")
}

/// Asserts that LibreChat got exactly this body, once.
fn assert_arrived(gateway: &TestGateway, body: &[u8], what: &str) {
    let arrived: Vec<_> = gateway.librechat.requests().into_iter().filter(|request| request.path == CHAT).collect();
    assert_eq!(arrived.len(), 1, "{what}: LibreChat got the start once");
    assert_eq!((arrived[0].body_len, arrived[0].body_complete), (body.len() as u64, true), "{what}: the whole body arrived");
    assert_eq!(arrived[0].body_sha256, sha256(body), "{what}: the body is another one");
    gateway.librechat.forget_requests();
}

fn assert_nothing_arrived(gateway: &TestGateway, what: &str) {
    assert!(gateway.librechat.requests().iter().all(|request| request.path != CHAT), "{what}: LibreChat must hear nothing of it");
}

/// The connection ends in order, or the next request on it is served.
async fn assert_in_order(gateway: &TestGateway, wire: &mut Wire, answer: &Message, what: &str) {
    if answer.header("connection") == Some("close") {
        assert!(wire.is_closed().await, "{what}: the connection ends in order");
        return;
    }
    wire.send(format!("GET /api/user HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", gateway.token("ada@acme.test"))).await;
    let next = wire.answer().await;
    assert_eq!((next.status, next.json()["email"].as_str()), (200, Some("ada@acme.test")), "{what}: the connection goes on: {next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_known_length_arrive_byte_for_byte() {
    let gateway = Setup::default().start().await;
    let mut wire = Wire::connect(gateway.running.public).await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    for bytes in [0, 2, 100, 16_384, 65_535, 65_536, 65_537, 131_072, 300_000, LIMIT] {
        let body = chat_of(bytes);
        assert_eq!(body.len(), bytes, "the test's own body");
        wire.send(head(&gateway) + &format!("Content-Length: {bytes}\r\n\r\n")).await;
        wire.send(&body).await;
        // What no body at all means is LibreChat's to say.
        let status = if bytes == 0 { 400 } else { 200 };
        let answer = wire.answer().await;
        assert_eq!(answer.status, status, "{bytes} bytes: {}", answer.text());
        assert_arrived(&gateway, &body, &format!("{bytes} bytes"));

        let frames: Vec<_> = body.chunks(16_384).map(Bytes::copy_from_slice).collect();
        let request = head2(&gateway).header("content-length", bytes).body(()).expect("a request");
        let answer = http2.send(request, &frames).await;
        assert_eq!(answer.status, status, "{bytes} bytes over HTTP/2: {}", answer.text());
        assert_arrived(&gateway, &body, &format!("{bytes} bytes over HTTP/2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_unknown_length_pass_up_to_65536_bytes() {
    let gateway = Setup::default().start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    for (bytes, chunk, status) in [
        (2, 1, 200),
        (10_000, 1, 200),
        (10_000, 4093, 200),
        (65_535, 16_383, 200),
        (65_536, 65_536, 200),
        (65_536, 7919, 200),
        (65_537, 65_537, 411),
        (65_537, 8191, 411),
        (300_000, 16_384, 411),
        (LIMIT, 65_535, 411),
    ] {
        let what = format!("{bytes} bytes in chunks of {chunk}");
        let body = chat_of(bytes);
        let mut chunked: Vec<u8> = Vec::new();
        for piece in body.chunks(chunk) {
            chunked.extend(format!("{:X};name=value\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
        }
        chunked.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway) + "Transfer-Encoding: chunked\r\n\r\n").await;
        wire.send(&chunked).await;
        let answer = wire.answer().await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_in_order(&gateway, &mut wire, &answer, &what).await;

        let check = |what: &str| if status == 200 { assert_arrived(&gateway, &body, what) } else { assert_nothing_arrived(&gateway, what) };
        check(&what);
        let mut frames: Vec<_> = body.chunks(chunk.clamp(100, 16_384)).map(Bytes::copy_from_slice).collect();
        if bytes % 2 == 0 {
            frames.push(Bytes::new());
        }
        let answer = http2.send(head2(&gateway).body(()).expect("a request"), &frames).await;
        assert_eq!(answer.status, status, "{what} over HTTP/2: {}", answer.text());
        check(&format!("{what} over HTTP/2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_refused_with_a_sentence() {
    let gateway = Setup::default().start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    let body = chat_of(LIMIT + 1);
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway) + &format!("Content-Length: {}\r\n\r\n", body.len())).await;
    wire.send(&body).await;
    let answer = wire.answer().await;
    assert_eq!(answer.status, 413, "{answer:?}");
    assert!(answer.json()["info"].as_str().is_some_and(|text| text.contains("3 MB")), "{}", answer.text());
    assert_in_order(&gateway, &mut wire, &answer, "too large").await;
    let frames: Vec<_> = body.chunks(16_384).map(Bytes::copy_from_slice).collect();
    let answer = http2.send(head2(&gateway).header("content-length", body.len()).body(()).expect("a request"), &frames).await;
    assert_eq!(answer.status, 413, "over HTTP/2: {answer:?}");
    assert_nothing_arrived(&gateway, "too large");
    // A length that nobody could mean.
    for length in ["99999999999999", "18446744073709551615"] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway) + &format!("Content-Length: {length}\r\n\r\n{{}}")).await;
        assert_eq!(wire.answer().await.status, 413, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_sender_is_waited_for() {
    let gateway = Setup::default().start().await;
    let body = chat_of(70_000);
    let mut wire = Wire::connect(gateway.running.public).await;
    let head = head(&gateway) + &format!("Content-Length: {}\r\n\r\n", body.len());
    for piece in head.as_bytes().chunks(40).chain(body.chunks(3511)) {
        wire.send(piece).await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(wire.answer().await.status, 200);
    assert_arrived(&gateway, &body, "in many pieces");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_served_in_their_order_and_each_charged() {
    let gateway = Setup::default().start().await;
    let user =
        |id: u8| format!("GET /api/user?{id} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", gateway.token("ada@acme.test"));
    let bodies = [chat_of(500), chat_of(70_000)];
    let mut everything = Vec::new();
    for body in &bodies {
        everything.extend((head(&gateway) + &format!("Content-Length: {}\r\n\r\n", body.len())).bytes());
        everything.extend(body);
        everything.extend(user(1).bytes());
    }
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(&everything).await;
    for _ in &bodies {
        let answer = wire.answer().await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("started")), "{answer:?}");
        assert_eq!(wire.answer().await.json()["email"], "ada@acme.test");
    }
    let arrived: Vec<_> =
        gateway.librechat.requests().into_iter().filter(|request| request.path == CHAT).map(|request| request.body_sha256).collect();
    assert_eq!(arrived, bodies.map(|body| sha256(&body)), "bodies do not run into each other");
    assert_eq!(gateway.usage_rows(2).await.len(), 2, "each is one generation");
}

/// A byte of a next request while the answer is waited for must not make the chat free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_comes_too_early_does_not_hide_the_one_before() {
    let gateway = Setup::default().start().await;
    gateway.librechat.hold_answers(true);
    let body = chat_of(500);
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway) + &format!("Content-Length: {}\r\n\r\n", body.len())).await;
    wire.send(&body).await;
    gateway.librechat.wait_for_runs(1).await.expect("LibreChat runs it");
    wire.send(format!("GET /api/user HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\r\n", gateway.token("ada@acme.test"))).await;
    gateway.librechat.hold_answers(false);
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("started")), "{answer:?}");
    assert_eq!(wire.answer().await.json()["email"], "ada@acme.test", "the early request is answered after it");
    assert_eq!(gateway.usage_rows(1).await.len(), 1, "what LibreChat ran is charged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_shorter_than_declared_is_never_forwarded() {
    let gateway = Setup::default().start().await;
    for (declared, sent) in [(200, 100), (200, 0), (300_000, 299_999)] {
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(head(&gateway) + &format!("Content-Length: {declared}\r\n\r\n")).await;
        wire.send(&chat_of(sent)).await;
        wire.finish().await;
        let answer = wire.answer().await;
        assert!(answer.status == 400 || answer.status == 0, "{sent} of {declared} bytes: {answer:?}");
    }
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway) + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n").await;
    wire.finish().await;
    let answer = wire.answer().await;
    assert!(answer.status == 400 || answer.status == 0, "a chunked body without an end: {answer:?}");
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway) + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 400, "a chunk without a size");
    // HTTP/2 with a length that is not kept.
    let mut http2 = Http2::connect(gateway.running.public).await;
    for declared in [10, 5000] {
        let answer =
            http2.send(head2(&gateway).header("content-length", declared).body(()).expect("a request"), &[Bytes::from(chat_of(500))]).await;
        assert!(answer.status == 400 || answer.status == 0, "500 bytes declared as {declared} over HTTP/2: {answer:?}");
    }
    assert_nothing_arrived(&gateway, "short");
    gateway.all_settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_that_can_be_read_in_two_ways_is_refused() {
    let gateway = Setup::default().start().await;
    let body = String::from_utf8(chat_of(80)).expect("text");
    for framing in [
        "Content-Length: 80\r\nContent-Length: 79\r\n",
        "Content-Length: 80, 79\r\n",
        "Content-Length: -80\r\n",
        "Content-Length: +80\r\n",
        "Content-Length: 0x50\r\n",
        "Content-Length: 8 0\r\n",
        "Content-Length: eighty\r\n",
        "Content-Length:\r\n",
        "Content-Length: 999999999999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
    ] {
        for path in [CHAT, "/api/files", "/api/convos/update"] {
            let mut wire = Wire::connect(gateway.running.public).await;
            wire.send(head(&gateway).replace(CHAT, path) + framing + "\r\n" + &body).await;
            let answer = wire.answer().await;
            assert_eq!(answer.status, 400, "{path} {framing:?}: {answer:?}");
        }
    }
    // RFC 9112 6.3: chunked wins, and the connection ends.
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(
        head(&gateway)
            + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n50\r\n"
            + &body
            + "\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
    )
    .await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{answer:?}");
    assert!(wire.is_closed().await);
    assert_arrived(&gateway, body.as_bytes(), "chunked and a length");
    assert!(gateway.librechat.requests().iter().all(|request| request.path != "/evil"), "what follows is no request");
    // Twice the same is one.
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send(head(&gateway) + "Content-Length: 80\r\nContent-Length: 80\r\n\r\n" + &body).await;
    assert_eq!(wire.answer().await.status, 200);
    assert_arrived(&gateway, body.as_bytes(), "the same length twice");
}
