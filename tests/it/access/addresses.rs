//! Where people may come from, and what passes from elsewhere.

use tollgate::records::seal::unseal_rows;
use tollgate::records::{Category, Severity};
use tollgate::scripted::User;

use super::{ask, ask2, bearer, heard, minted, two_orgs};
use crate::support::gateway::{Setup, TestGateway, wait_for};
use crate::support::wire::Http2;

const RANGES: &str = r#"
    addresses = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"]
    role_addresses = { admin = ["10.1.0.0/16", "203.0.113.0/24"] }
"#;

/// What is refused from elsewhere, one route of each kind.
const CLOSED: [&str; 20] = [
    "POST /api/agents/chat/LabAI",
    "POST /api/agents/chat/resume",
    "POST /api/agents/chat/steer",
    "POST /api/assistants/v2/chat",
    "GET /api/agents/chat/stream/abc",
    "POST /api/agents/chat/abort",
    "GET /api/agents/chat/status/abc",
    "POST /api/files",
    "POST /api/files/speech/tts",
    "GET /api/convos",
    "GET /api/messages/abc",
    "GET /api/files/download/a/b",
    "GET /api/share/abc",
    "GET /API/%73hare/abc/files/x",
    "GET /api/user/settings/favorites",
    "DELETE /api/user/delete",
    "GET /api/auth/graph-token",
    "POST /api/auth/2fa/disable",
    "GET /api/admin/users",
    "GET /_tollgate/me",
];

/// What the page needs to draw itself.
const OPEN: [&str; 9] = [
    "GET /",
    "GET /c/new",
    "GET /assets/app.js",
    "GET /api/config",
    "POST /api/auth/refresh",
    "GET /api/user",
    "GET /api/models",
    "GET /api/endpoints",
    "POST /api/auth/logout",
];

fn from(address: &str, token: &str) -> String {
    format!("X-Forwarded-For: {address}\r\nAuthorization: Bearer {token}\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_true_address_decides() {
    let gateway = two_orgs(RANGES, "").start().await;
    let direct = two_orgs(RANGES, "").set("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "10.0.0.0/8").start().await;
    let user = minted(&gateway, "ann@acme.test", "acme", "user");
    let admin = minted(&gateway, "ada@acme.test", "acme", "admin");
    for (address, as_user, as_admin) in [
        ("10.9.9.9", 200, 403),
        ("10.1.9.9", 200, 200),
        ("::ffff:10.1.9.9", 200, 200),
        ("[::ffff:10.1.9.9]:443", 200, 200),
        ("192.0.2.7", 200, 403),
        ("192.0.2.8", 403, 403),
        ("203.0.113.5", 403, 403),
        ("198.51.100.200", 200, 403),
        ("198.51.101.0", 403, 403),
        ("2001:db8::1", 200, 403),
        ("2001:DB8:0:0::1", 200, 403),
        ("2001:db9::1", 403, 403),
        ("::10.1.9.9", 403, 403),
        // What somebody claims before the address that a proxy saw.
        ("10.1.1.1, 203.0.113.5", 403, 403),
        ("203.0.113.5, 10.1.1.1", 200, 200),
        ("nonsense", 403, 403),
        ("", 403, 403),
    ] {
        for (token, expected) in [(&user, as_user), (&admin, as_admin)] {
            let answer = ask(&gateway, "GET /api/convos", &from(address, token)).await;
            let passed = if answer.status == 403 { 403 } else { 200 };
            assert_eq!(passed, expected, "from {address:?}: {answer:?}");
            let answer = ask(&direct, "GET /api/convos", &from(address, token)).await;
            assert_eq!(answer.status, 403, "nobody believes a client that says it comes from {address:?}");
        }
    }
    for sneaky in
        ["X_Forwarded_For: 10.1.1.1", "X-Real-IP: 10.1.1.1", "Forwarded: for=10.1.1.1", "X-Client-IP: 10.1.1.1", "True-Client-IP: 10.1.1.1"]
    {
        let answer = ask(&gateway, "GET /api/convos", &format!("{}{sneaky}\r\n", from("203.0.113.5", &user))).await;
        assert_eq!(answer.status, 403, "{sneaky}");
    }
    for email in ["bob@globex.test", "carl@nowhere.test"] {
        let answer = ask(&gateway, "GET /api/convos", &from("203.0.113.5", &gateway.token(email))).await;
        assert_ne!(answer.status, 403, "{email} is of no org with such a rule");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_elsewhere_the_page_loads_and_nothing_of_the_org_is_read() {
    let gateway = two_orgs(RANGES, "").start().await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    let outside = from("203.0.113.5", &gateway.token("ann@acme.test"));
    gateway.librechat.forget_requests();
    for line in CLOSED {
        for (answer, http) in [(ask(&gateway, line, &outside).await, "1.1"), (ask2(&mut http2, line, outside.trim_end()).await, "2")] {
            assert_eq!(answer.status, 403, "{line} over HTTP/{http}: {answer:?}");
            let json = answer.json();
            let sentence = json["info"].as_str().or(json["message"].as_str()).unwrap_or_else(|| panic!("{line}: {json}"));
            assert!(sentence.starts_with("Your organization does not allow access from this network."), "{line}: {sentence}");
            assert!(sentence.contains("Reference: ") && !sentence.contains("203.0.113"), "{line}: {sentence}");
        }
    }
    assert_eq!(heard(&gateway), [""; 0], "LibreChat hears nothing of it");
    for line in OPEN {
        let answer = ask(&gateway, line, &outside).await;
        assert!(answer.status < 300, "{line}: {answer:?}");
    }
    let korean = ask(&gateway, "POST /api/agents/chat/LabAI", &format!("{outside}Accept-Language: ko\r\n")).await;
    assert!(korean.json()["info"].as_str().is_some_and(|text| text.contains("네트워크")), "{}", korean.text());
    assert_eq!(ask(&gateway, "GET /api/share/abc", "X-Forwarded-For: 203.0.113.5\r\n").await.status, 404, "a public share is public");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_follow_the_org_that_they_are_counted_to() {
    let gateway = Setup { librechat_keys: "agent_api = \"default_org\"".into(), ..Setup::with(RANGES) }.start().await;
    let key = "Authorization: Bearer sk-key\r\n";
    for line in ["GET /api/agents/v1/models", "POST /api/agents/v1/chat/completions", "POST /api/agents/v1/responses"] {
        let answer = ask(&gateway, line, &format!("X-Forwarded-For: 203.0.113.5\r\n{key}")).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (403, Some("address_refused")), "{line}: {}", answer.text());
    }
    assert_eq!(ask(&gateway, "GET /api/agents/v1/models", &format!("X-Forwarded-For: 10.0.0.1\r\n{key}")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_from_elsewhere_is_one_row_a_minute_for_each_person() {
    let gateway = two_orgs(RANGES, "addresses = [\"10.0.0.0/8\"]").start().await;
    let mut references = Vec::new();
    for (email, times) in [("ann@acme.test", 30), ("bob@globex.test", 3)] {
        for _ in 0..times {
            let answer = ask(&gateway, "GET /api/convos?x=1", &from("203.0.113.5", &gateway.token(email))).await;
            let text = answer.json()["message"].as_str().expect("a sentence").to_owned();
            references.push(text.rsplit_once("Reference: ").expect("a reference").1.to_owned());
        }
    }
    for (email, org, times) in [("ann@acme.test", "acme", 30), ("bob@globex.test", "globex", 3)] {
        let rows = counted(&gateway, "auth.address_refused", org, times).await;
        assert!(rows.len() <= 2, "a minute may have passed in between: {rows:?}");
        let row = &rows[0];
        let (id, now) = (User::new(email).id, (row.category, row.severity, row.status, row.error.as_deref()));
        assert_eq!(now, (Category::Security, Severity::Warning, Some(403), Some("address_refused")));
        assert_eq!((row.actor_id.as_deref(), row.address.as_deref()), (Some(id.as_str()), Some("203.0.113.5")));
        assert_eq!((row.path.as_deref(), row.query.as_deref()), (Some("/api/convos"), None));
        assert!(references.contains(row.reference.as_ref().expect("a reference")), "a person can be told why by it");
    }
    references.dedup();
    assert!(references.len() <= 4, "every refusal of a row shows that row's reference: {references:?}");
    let others = gateway.running.app.records.audit_rows(1000).await.expect("rows");
    assert!(others.iter().all(|row| row.status != Some(403) || row.action == "auth.address_refused"), "no row for each request");
}

/// Rows of this action and org, once their counts come to this.
async fn counted(gateway: &TestGateway, action: &str, org: &str, times: u64) -> Vec<tollgate::records::StoredAudit> {
    wait_for(&format!("{times} counted as {action}"), || async {
        let mut rows = gateway.running.app.records.audit_rows(1000).await.expect("rows");
        unseal_rows(&*gateway.running.app.member_keys, &mut rows).await.expect("the keys of members");
        rows.retain(|row| row.action == action && row.org_id.as_deref() == Some(org));
        (rows.iter().map(|row| row.count).sum::<u64>() == times).then_some(rows)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_client_without_a_proxy() {
    let setup = |ranges: &str| Setup::with(ranges).set("TOLLGATE_PUBLIC__LISTEN", "[::1]:0");
    let inside = setup("addresses = [\"::1\"]").start().await;
    let outside = setup("addresses = [\"127.0.0.0/8\", \"::/128\"]").start().await;
    assert_ne!(ask(&inside, "GET /api/convos", &bearer(&inside, "ann@acme.test")).await.status, 403);
    assert_eq!(ask(&outside, "GET /api/convos", &bearer(&outside, "ann@acme.test")).await.status, 403);
}
