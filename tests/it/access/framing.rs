//! Who may show LibreChat's pages in a frame.

use super::{all_of, ask, ask2, two_orgs};
use crate::support::gateway::{Setup, TestGateway};
use crate::support::wire::{HandmadeLibreChat, Http2, Message};

const ACME: &str = r#"frame_ancestors = ["https://app.acme.example", "HTTPS://Portal.acme.example:443"]"#;
const GLOBEX: &str = r#"frame_ancestors = ["https://*.globex.example:8443", "https://app.acme.example"]"#;

fn policies(message: &Message) -> Vec<&str> {
    all_of(message, "content-security-policy")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_word_pages_stay_as_they_are() {
    let gateway = Setup::default().start().await;
    assert_eq!(policies(&ask(&gateway, "GET /", "").await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_an_unknown_org_may_be_framed_by_all_and_a_known_one_by_its_own() {
    let acme = format!("{ACME}\nhosts = [\"acme.chat.example\", \"www.acme.chat.example\"]");
    let gateway = two_orgs(&acme, &format!("{GLOBEX}\n[[orgs]]\nid = \"plain\"\nhosts = [\"plain.chat.example\"]")).start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    let acmes = "frame-ancestors 'self' https://app.acme.example https://portal.acme.example";
    for (host, policy) in [
        ("chat.example", "frame-ancestors 'self' https://*.globex.example:8443 https://app.acme.example"),
        ("acme.chat.example", acmes),
        ("WWW.Acme.Chat.Example:8443", acmes),
        ("plain.chat.example", "frame-ancestors 'self'"),
    ] {
        for path in ["/", "/c/new", "/login", "/share/abc"] {
            let host = format!("Host: {host}\r\n");
            let answer = ask(&gateway, &format!("GET {path}"), &host).await;
            assert_eq!(policies(&answer), [policy], "{path} at {host}");
            assert_eq!(
                policies(&ask2(&mut http2, &format!("GET {path}"), host.trim_end()).await),
                [policy],
                "{path} at {host} over HTTP/2"
            );
        }
    }
    for path in ["/assets/app.js", "/api/config"] {
        assert_eq!(policies(&ask(&gateway, &format!("GET {path}"), "").await), [""; 0], "{path} is no document");
    }
}

/// A LibreChat behind something that says more in the head of its answers: `/0` is answered with the first of these.
async fn saying(heads: &'static [&'static str], setup: Setup) -> (TestGateway, HandmadeLibreChat) {
    let librechat = HandmadeLibreChat::start(move |request, mut wire| async move {
        let head = request.target()[1..].parse().ok().and_then(|number: usize| heads.get(number)).copied().unwrap_or_default();
        wire.send(format!("HTTP/1.1 200 OK\r\n{head}Content-Length: 2\r\n\r\nhi")).await;
        Some(wire)
    })
    .await;
    (setup.set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await, librechat)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_librechat_says_gives_way_and_its_other_rules_stay() {
    const OWN: &str = "frame-ancestors 'self' https://app.acme.example https://portal.acme.example";
    const HEADS: [&str; 6] = [
        "Content-Type: text/html\r\nX-Frame-Options: DENY\r\n",
        "Content-Type: TEXT/HTML;charset=utf-8\r\nx-frame-options: SAMEORIGIN\r\nX-Frame-Options: DENY\r\n",
        "Content-Type: application/xhtml+xml\r\nContent-Security-Policy: frame-ancestors 'none'\r\n",
        "Content-Type: text/html\r\nContent-Security-Policy: default-src 'self'; Frame-Ancestors 'none'; img-src *\r\n",
        "Content-Type: text/html\r\nContent-Security-Policy: script-src 'self'\r\ncontent-security-policy: frame-ancestors x, object-src 'none'\r\n",
        "X-Frame-Options: DENY\r\nETag: \"x\"\r\n",
    ];
    let left: [&[&str]; 6] = [&[], &[], &[], &["default-src 'self'; img-src *"], &["script-src 'self'", "object-src 'none'"], &[]];
    let (gateway, _librechat) = saying(&HEADS, Setup::with(ACME)).await;
    for (number, left) in left.iter().enumerate() {
        let answer = ask(&gateway, &format!("GET /{number}"), "").await;
        assert_eq!(policies(&answer), [left, &[OWN][..]].concat(), "after {:?}", HEADS[number]);
        assert_eq!(all_of(&answer, "x-frame-options"), [""; 0], "after {:?}", HEADS[number]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_gets_looser_elsewhere() {
    const HEADS: [&str; 2] = [
        "Content-Type: text/html\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: frame-ancestors 'none'\r\n",
        "Content-Type: image/png\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: frame-ancestors 'none'\r\n",
    ];
    let (gateway, _librechat) = saying(&HEADS, two_orgs(ACME, "hosts = [\"plain.chat.example\"]")).await;
    let answer = ask(&gateway, "GET /0", "Host: plain.chat.example\r\n").await;
    assert_eq!(policies(&answer), ["frame-ancestors 'none'", "frame-ancestors 'self'"], "an org that says nothing loses nothing");
    assert_eq!(all_of(&answer, "x-frame-options"), ["DENY"]);
    let image = ask(&gateway, "GET /1", "").await;
    assert_eq!((policies(&image), all_of(&image, "x-frame-options")), (vec!["frame-ancestors 'none'"], vec!["DENY"]), "no document");
    let (gateway, _librechat) = saying(&HEADS, Setup::default()).await;
    let page = ask(&gateway, "GET /0", "").await;
    assert_eq!((policies(&page), all_of(&page, "x-frame-options")), (vec!["frame-ancestors 'none'"], vec!["DENY"]), "nobody says anything");
}
