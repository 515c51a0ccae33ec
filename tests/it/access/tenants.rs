//! LibreChat hears of a tenant from Tollgate alone.

use parking_lot::Mutex;
use std::sync::Arc;

use super::{ask2, minted, two_orgs};
use crate::support::gateway::{Setup, TestGateway};
use crate::support::wire::{HandmadeLibreChat, Http2, Message, Wire};

type Heard = Arc<Mutex<Vec<Message>>>;

/// A gateway before a LibreChat that keeps every request as it came.
async fn start(setup: Setup) -> (TestGateway, HandmadeLibreChat, Heard) {
    let heard = Heard::default();
    let keeping = heard.clone();
    let librechat = HandmadeLibreChat::start(move |request, mut wire| {
        keeping.lock().push(request);
        async move {
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"data\":[]}").await;
            Some(wire)
        }
    })
    .await;
    let gateway = setup.set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await;
    (gateway, librechat, heard)
}

/// Whatever could be read as the header, in all that was heard.
fn tenants(heard: &Heard) -> Vec<Vec<String>> {
    let spelled = |name: &str| name.trim().replace(['_', '.', ' '], "-") == "x-tenant-id";
    let of = |message: &Message| message.headers.iter().filter(|(name, _)| spelled(name)).map(|(_, value)| value.clone()).collect();
    heard.lock().iter().map(of).collect()
}

const SPELLINGS: [&str; 14] = [
    "X-Tenant-Id: evil\r\n",
    "x-tenant-id:evil\r\n",
    "X-TENANT-ID:   evil   \r\n",
    "x_tenant_id: evil\r\n",
    "X-Tenant_Id: evil\r\n",
    "X_TENANT-ID: evil\r\n",
    "X-Tenant-Id: evil\r\nX-Tenant-Id: acme\r\nx_tenant_id: evil\r\n",
    "X-Tenant-Id:\r\n",
    "X-Tenant-Id: __SYSTEM__\r\n",
    "X-Tenant-Id : evil\r\n",
    "X-Custom: a\r\n X-Tenant-Id: evil\r\n",
    " X-Tenant-Id: evil\r\n",
    "Connection: X-Tenant-Id\r\nX-Tenant-Id: evil\r\n",
    "Connection: upgrade, x-tenant-id\r\nUpgrade: websocket\r\nX-Tenant-Id: evil\r\n",
];

const ROUTES: [&str; 7] = [
    "GET /api/config",
    "POST /api/auth/login",
    "POST /API/Auth/refresh/",
    "GET /oauth/openid",
    "GET /api/share/abc",
    "POST /api/admin/oauth/exchange",
    "GET /c/new",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_names_a_tenant_in_any_spelling() {
    let (gateway, _librechat, heard) = start(Setup::with("tenant_id = \"acme-1\"\nhosts = [\"acme.example\"]")).await;
    for (host, expected) in [("chat.example", &[][..]), ("acme.example", &["acme-1".to_owned()][..])] {
        for spelling in SPELLINGS {
            for route in ROUTES {
                let mut wire = Wire::connect(gateway.running.public).await;
                let length = if route.starts_with("POST") { "Content-Length: 0\r\n" } else { "" };
                wire.send(format!("{route} HTTP/1.1\r\nHost: {host}\r\n{length}{spelling}\r\n")).await;
                let status = wire.answer().await.status;
                for tenants in tenants(&heard) {
                    assert_eq!(tenants, expected, "{route} at {host} with {spelling:?}, answered {status}");
                }
                // What is no header at all may be refused; everything else arrives without it.
                let malformed = spelling.starts_with(' ') || spelling.contains("\n ") || spelling.contains("Id :");
                assert!(malformed || !heard.lock().is_empty(), "{route} with {spelling:?} never arrived: {status}");
                heard.lock().clear();
            }
        }
        // What comes behind a body is no header.
        let mut wire = Wire::connect(gateway.running.public).await;
        wire.send(format!("POST /api/auth/login HTTP/1.1\r\nHost: {host}\r\nTrailer: X-Tenant-Id\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\nX-Tenant-Id: evil\r\n\r\n")).await;
        wire.answer().await;
        assert!(tenants(&heard).iter().all(|tenants| tenants == expected), "{:?}", tenants(&heard));
        heard.lock().clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_names_a_tenant_over_http2() {
    let (gateway, _librechat, heard) = start(Setup::with("tenant_id = \"acme-1\"\nhosts = [\"acme.example\"]")).await;
    let mut http2 = Http2::connect(gateway.running.public).await;
    for (host, expected) in [("chat.example", &[][..]), ("ACME.example:8443", &["acme-1".to_owned()][..])] {
        for spelling in ["x-tenant-id: evil", "x_tenant_id: evil", "x-tenant_id: evil", "x-tenant-id: evil\nx-tenant-id: acme-2"] {
            for route in ROUTES {
                let answer = ask2(&mut http2, route, &format!("host: {host}\n{spelling}")).await;
                assert_eq!(answer.status, 200, "{route} with {spelling:?}: {answer:?}");
                assert_eq!(tenants(&heard), [expected], "{route} at {host} with {spelling:?}");
                heard.lock().clear();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tenant_is_the_persons_before_the_hosts() {
    let acme = "tenant_id = \"acme-1\"\nhosts = [\"acme.example\"]";
    let (gateway, _librechat, heard) = start(two_orgs(acme, "tenant_id = \"globex_1\"\n[[orgs]]\nid = \"plain\"")).await;
    let token = |email: &str| gateway.token(email);
    for (host, token, expected) in [
        ("chat.example", String::new(), None),
        ("acme.example", String::new(), Some("acme-1")),
        ("acme.example.", String::new(), None),
        ("evil-acme.example", String::new(), None),
        ("chat.example", token("ann@acme.test"), Some("acme-1")),
        ("chat.example", token("bob@globex.test"), Some("globex_1")),
        ("acme.example", token("bob@globex.test"), Some("globex_1")),
        ("acme.example", token("carl@nowhere.test"), Some("acme-1")),
        ("chat.example", token("carl@nowhere.test"), None),
        ("chat.example", minted(&gateway, "dora@x.test", "plain", "user"), None),
        ("chat.example", "forged".to_owned(), None),
    ] {
        let mut wire = Wire::connect(gateway.running.public).await;
        let token = if token.is_empty() { token } else { format!("Authorization: Bearer {token}\r\n") };
        wire.send(format!("GET /api/config HTTP/1.1\r\nHost: {host}\r\n{token}\r\n")).await;
        assert_eq!(wire.answer().await.status, 200);
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(tenants(&heard), [expected], "{token:?} at {host}");
        heard.lock().clear();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_confirmed_in_the_tenant_that_it_is_counted_to() {
    let setup = Setup { librechat_keys: "agent_api = \"default_org\"".into(), ..Setup::with("tenant_id = \"acme-1\"") };
    let (gateway, _librechat, heard) = start(setup).await;
    let mut wire = Wire::connect(gateway.running.public).await;
    wire.send("GET /api/agents/v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sk-key\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(tenants(&heard), [["acme-1"], ["acme-1"]], "it is asked for once, and the request passes");
}
