//! Pages of other origins: which may send what changes something, and which may read the answer.

use tollgate::records::Category;

use super::{all_of, ask, ask2, bearer, heard, two_orgs};
use crate::support::gateway::{Setup, TestGateway};
use crate::support::wire::{HandmadeLibreChat, Http2, Message, Wire};

const PLACE: &str = "https://app.example,capacitor://localhost";
const COOKIE: &str = "Cookie: refreshToken=x\r\n";

fn setup() -> Setup {
    let acme = r#"cors_origins = ["https://app.acme.example"]"#;
    let globex = "cors_origins = [\"https://app.globex.example\"]\nhosts = [\"globex.chat.example\"]";
    two_orgs(acme, globex).set("TOLLGATE_PUBLIC__CORS_ORIGINS", PLACE)
}

/// What changes something, and carries no token.
const CHANGING: [&str; 4] = ["POST /api/auth/refresh", "POST /api/auth/login", "DELETE /api/convos", "POST /"];

/// Whether it was refused for where it came from.
fn is_refused(answer: &Message) -> bool {
    answer.status == 403 && answer.text().contains("page of another site")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_something_comes_from_a_page_of_the_place_or_a_listed_one() {
    let gateway = setup().start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    let token = bearer(&gateway, "ann@acme.test");
    for (headers, passes) in [
        // Pages of the place itself.
        ("Origin: https://chat.example\r\n", true),
        ("Origin: http://chat.example\r\n", true),
        ("Origin: https://chat.example:8443\r\nHost: chat.example:8443\r\n", true),
        ("Origin: https://chat.example\r\nHost: chat.example:443\r\n", true),
        ("Sec-Fetch-Site: same-origin\r\n", true),
        ("Sec-Fetch-Site: same-origin\r\nOrigin: https://chat.example\r\nHost: tollgate.internal:8080\r\n", true),
        ("Sec-Fetch-Site: same-origin\r\nOrigin: null\r\n", true),
        ("Sec-Fetch-Site: none\r\n", true),
        // Listed ones.
        ("Origin: https://app.example\r\n", true),
        ("Origin: capacitor://localhost\r\n", true),
        ("Origin: https://app.acme.example\r\nSec-Fetch-Site: cross-site\r\n", true),
        ("Origin: https://app.globex.example\r\nSec-Fetch-Site: same-site\r\nHost: globex.chat.example\r\n", true),
        // All others.
        ("Origin: https://evil.example\r\n", false),
        ("Origin: https://chat.example.evil.example\r\n", false),
        ("Origin: https://evil.example\r\nHost: chat.example\r\nX-Forwarded-Host: evil.example\r\n", false),
        ("Origin: https://chat.example:8443\r\n", false),
        ("Origin: https://sub.chat.example\r\nSec-Fetch-Site: same-site\r\n", false),
        ("Origin: https://chat.example\r\nSec-Fetch-Site: cross-site\r\n", false),
        ("Origin: http://chat.example\r\nX-Forwarded-Proto: https\r\n", false),
        ("Origin: https://app.acme.example\r\nHost: globex.chat.example\r\n", false),
        ("Origin: http://app.example\r\n", false),
        ("Origin: https://app.example.evil.example\r\n", false),
        ("Origin: https://app.example/\r\n", false),
        ("Origin: null\r\n", false),
        ("Origin: \r\n", false),
        ("Origin: file://\r\n", false),
        ("Origin: https://app.example, https://chat.example\r\n", false),
        ("Origin: https://chat.example\r\nOrigin: https://evil.example\r\n", false),
        ("Sec-Fetch-Site: cross-site\r\n", false),
        ("Sec-Fetch-Site: same-site\r\n", false),
        ("Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n", false),
        ("Sec-Fetch-Site: Same-Origin\r\n", false),
        // Programs, which say nothing. One with a cookie could be a browser.
        ("Cookie:\r\n", false),
        ("", false),
    ] {
        for line in CHANGING {
            for cookie in ["", COOKIE] {
                // Without a cookie a program needs to say nothing.
                let passes = passes || headers.is_empty() && cookie.is_empty();
                let headers = format!("{headers}{cookie}");
                gateway.librechat.forget_requests();
                let answer = ask(&gateway, line, &headers).await;
                assert_eq!(is_refused(&answer), !passes, "{line} with {headers:?}: {answer:?}");
                assert!(passes || heard(&gateway).is_empty(), "{line} with {headers:?} reached LibreChat");
                let answer = ask2(&mut http2, line, headers.trim_end()).await;
                assert_eq!(is_refused(&answer), !passes, "{line} over HTTP/2 with {headers:?}: {answer:?}");
            }
        }
        let with_token = ask(&gateway, "POST /api/convos/update", &format!("{headers}{COOKIE}{token}")).await;
        assert!(!is_refused(&with_token), "no browser adds a token by itself, {headers:?}: {with_token:?}");
        for line in ["GET /", "GET /api/config", "HEAD /", "GET /images/a/b.png", "OPTIONS /api/user"] {
            assert!(!is_refused(&ask(&gateway, line, &format!("{headers}{COOKIE}")).await), "{line} with {headers:?} changes nothing");
        }
    }
    let row = gateway.audit_rows("auth.origin_refused", 1).await.remove(0);
    assert_eq!((row.category, row.error.as_deref(), row.status), (Category::Security, Some("origin_refused"), Some(403)));
    assert!(gateway.audit_rows("auth.origin_refused", 1).await.len() <= 3, "they are counted by the minute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_credentials_are_no_tokens() {
    let gateway = setup().start().await;
    for credential in ["Basic YTpi", "Bearer", "Bearer a, Bearer b", "Digest x", ""] {
        let headers = format!("Origin: https://evil.example\r\n{COOKIE}Authorization: {credential}\r\n");
        assert!(is_refused(&ask(&gateway, "POST /api/auth/refresh", &headers).await), "a browser may add {credential:?} by itself");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sign_ins_come_back_from_elsewhere() {
    let gateway = setup().start().await;
    let elsewhere = format!("Origin: https://appleid.apple.com\r\nSec-Fetch-Site: cross-site\r\n{COOKIE}");
    for origin in [elsewhere.as_str(), "Origin: null\r\nSec-Fetch-Site: cross-site\r\n"] {
        for (line, passes) in [
            ("POST /oauth/apple/callback", true),
            ("POST /oauth/saml/callback", true),
            ("POST /OAuth/SAML/callback/", true),
            ("POST /api/admin/oauth/saml/callback", true),
            ("POST /api/admin/oauth/apple/callback?x=1", true),
            ("GET /oauth/openid/callback?code=1", true),
            ("GET /share/abc", true),
            ("GET /images/a/b.png", true),
            ("POST /oauth/saml/logout", false),
            ("POST /oauth/x/y/callback", false),
            ("POST /oauth/%61pple/callback", false),
            ("POST /oauth//apple/callback", false),
            ("PUT /oauth/apple/callback", false),
            ("POST /api/admin/oauth/exchange", false),
            ("POST /api/auth/oauth/apple/callback", false),
            ("POST /callback", false),
        ] {
            let answer = ask(&gateway, line, origin).await;
            assert_eq!(is_refused(&answer), !passes, "{line} with {origin:?}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_opened_by_pages_of_the_place_only() {
    let gateway = setup().start().await;
    let token = bearer(&gateway, "ann@acme.test");
    for (headers, passes) in [
        ("", true),
        ("Origin: https://chat.example\r\n", true),
        ("Origin: https://app.example\r\n", true),
        ("Origin: https://evil.example\r\n", false),
        ("Origin: null\r\n", false),
        ("Sec-Fetch-Site: cross-site\r\n", false),
        (COOKIE, false),
        (&format!("Origin: https://evil.example\r\n{token}"), false),
    ] {
        for protocol in ["websocket", "WebSocket", "h2c, websocket"] {
            let mut wire = Wire::connect(gateway.running.public).await;
            wire.send(format!("GET /ws-echo HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n")).await;
            let status = wire.head().await.status;
            assert_eq!(status != 403, passes, "{protocol} with {headers:?}: {status}");
        }
    }
}

/// Who may read an answer, and that it says so to caches.
fn readers(message: &Message) -> Vec<&str> {
    assert_eq!(all_of(message, "access-control-allow-credentials"), [""; 0], "no page of another origin needs cookies");
    all_of(message, "access-control-allow-origin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_listed_pages_read_answers() {
    let gateway = setup().start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    let (ann, bob, nobody) = (bearer(&gateway, "ann@acme.test"), bearer(&gateway, "bob@globex.test"), String::new());
    // Answers of LibreChat and of ours, good and bad. Some are the same for everyone, and the last ones are a person's.
    let all = [
        "GET /",
        "GET /assets/app.js",
        "GET /metrics",
        "POST /api/agents/v1/responses",
        "GET /api/config",
        "GET /api/user",
        "GET /_tollgate/me",
    ];
    let personal = &all[4..];
    for (origin, person, host, reads, lines) in [
        ("https://app.example", &ann, "chat.example", true, &all[..]),
        ("https://app.example", &bob, "globex.chat.example", true, &all),
        ("capacitor://localhost", &ann, "chat.example", true, &all),
        ("https://app.acme.example", &ann, "chat.example", true, &all),
        ("https://app.acme.example", &bob, "chat.example", false, personal),
        ("https://app.globex.example", &bob, "chat.example", true, &all),
        ("https://app.globex.example", &ann, "chat.example", false, personal),
        ("https://app.acme.example", &nobody, "chat.example", true, &all),
        ("https://app.acme.example", &nobody, "globex.chat.example", false, &all),
        ("https://evil.example", &ann, "chat.example", false, &all),
        ("https://chat.example", &ann, "chat.example", false, &all),
        ("HTTPS://app.example", &ann, "chat.example", false, &all),
        ("null", &ann, "chat.example", false, &all),
    ] {
        let headers = format!("Host: {host}\r\nOrigin: {origin}\r\n{person}");
        for line in lines {
            for answer in [ask(&gateway, line, &headers).await, ask2(&mut http2, line, headers.trim_end()).await] {
                let expected: &[&str] = if reads { &[origin] } else { &[] };
                assert_eq!(readers(&answer), expected, "{line} for {origin} at {host}: {answer:?}");
                assert!(all_of(&answer, "vary").contains(&"Origin"), "{line}: caches tell origins apart: {answer:?}");
                assert_eq!(answer.header("access-control-expose-headers").is_some(), reads, "{line}");
            }
        }
    }
    let answer = ask(&gateway, "GET /api/user", &ann).await;
    assert_eq!(readers(&answer), [""; 0], "nobody else asks");
    assert!(all_of(&answer, "vary").contains(&"Origin"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_librechat_lets_everyone_read_stays_its_own() {
    let librechat = HandmadeLibreChat::start(|request, mut wire| async move {
        let origin = request.header("origin").unwrap_or("*").to_owned();
        wire.send(format!("HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: {origin}\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: *\r\nContent-Length: 2\r\n\r\nhi")).await;
        Some(wire)
    })
    .await;
    for (setup, vary) in [(setup(), vec!["Origin"]), (Setup::default(), vec![])] {
        let gateway = setup.set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await;
        for headers in ["", "Origin: https://evil.example\r\n", "Origin: null\r\n"] {
            let answer = ask(&gateway, "GET /assets/app.js", headers).await;
            assert_eq!((answer.status, all_of(&answer, "access-control-allow-origin")), (200, vec![]), "with {headers:?}");
            assert_eq!(all_of(&answer, "vary"), vary);
        }
    }
    let gateway = setup().set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await;
    assert_eq!(readers(&ask(&gateway, "GET /", "Origin: https://app.example\r\n").await), ["https://app.example"]);
}

async fn preflight(gateway: &TestGateway, path: &str, origin: &str, more: &str) -> Message {
    let headers = format!("Origin: {origin}\r\nAccess-Control-Request-Method: POST\r\n{more}");
    ask(gateway, &format!("OPTIONS {path}"), &headers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preflights_are_answered_without_librechat() {
    let gateway = setup().start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    gateway.librechat.forget_requests();
    let asked = "Access-Control-Request-Headers: authorization,content-type\r\n";
    for path in
        ["/api/agents/chat/LabAI", "/api/user", "/api/config", "/_tollgate/me", "/api/agents/v1/responses", "/", "/api/librechat/auth"]
    {
        for origin in ["https://app.example", "https://app.acme.example", "https://app.globex.example"] {
            let answer = preflight(&gateway, path, origin, asked).await;
            assert_eq!((answer.status, readers(&answer)), (204, vec![origin]), "{path} for {origin}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-methods"), Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
            assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,content-type"));
            assert_eq!((answer.header("access-control-max-age"), answer.header("content-length")), (Some("600"), None));
            assert!(all_of(&answer, "vary").contains(&"Origin"), "{answer:?}");
        }
        for origin in ["https://evil.example", "null", "https://app.example.evil.example", "*"] {
            let answer = preflight(&gateway, path, origin, asked).await;
            assert_eq!((answer.status, readers(&answer)), (403, vec![]), "{path} for {origin}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-headers"), None);
        }
    }
    for odd in ["authorization\u{7f}", "a b", "x\"y", ""] {
        let answer = preflight(&gateway, "/api/user", "https://app.example", &format!("Access-Control-Request-Headers: {odd}\r\n")).await;
        assert!(matches!(answer.status, 204 | 400), "{odd:?}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-headers"), None, "{odd:?}");
    }
    let headers = "Origin: https://app.example\r\nAccess-Control-Request-Method: PATCH";
    assert_eq!(ask2(&mut http2, "OPTIONS /api/user", headers).await.status, 204);
    assert_eq!(heard(&gateway), [""; 0], "LibreChat is not asked");
    ask(&gateway, "OPTIONS /api/user", "Origin: https://evil.example\r\n").await;
    assert_eq!(heard(&gateway), ["OPTIONS /api/user"], "what is no preflight passes");
    let closed = Setup::default().start().await;
    assert_eq!(preflight(&closed, "/api/user", "https://app.example", "").await.status, 403, "where nobody is listed nobody may");
}
