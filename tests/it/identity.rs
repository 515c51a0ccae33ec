//! Whose request it is, told at the front door: tokens of both kinds, on every kind of route, and what of them is written down.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tollgate::records::seal::unseal_rows;
use tollgate::records::{Category, Severity};
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::scripted::{Options, Strangers, User, auth};

use crate::support::gateway::{Setup, TestGateway, wait_for};
use crate::support::wire::Wire;

const DASHBOARD: &str = "the-dashboard-signs-with-this-secret";
const OTHER: &str = "the-other-application-signs-with-this";

/// Routes that ask who is there, one of each class.
const ASKING: [(&str, &str); 14] = [
    ("POST", "/api/agents/chat/LabAI"),
    ("POST", "/api/agents/chat/resume"),
    ("POST", "/api/agents/chat/steer"),
    ("POST", "/api/assistants/v2/chat"),
    ("POST", "/api/ask/openAI"),
    ("GET", "/api/agents/chat/stream/abc"),
    ("POST", "/api/agents/chat/abort"),
    ("POST", "/api/files"),
    ("POST", "/api/files/speech/stt"),
    ("POST", "/api/agents/tools/execute_code/call"),
    ("GET", "/api/models"),
    ("GET", "/api/user"),
    ("POST", "/api/auth/logout"),
    ("GET", "/_tollgate/me"),
];

/// Routes that ask nobody.
const PUBLIC: [(&str, &str); 6] = [
    ("GET", "/"),
    ("GET", "/assets/app.js"),
    ("GET", "/api/config"),
    ("POST", "/api/auth/refresh"),
    ("GET", "/api/share/abc"),
    ("GET", "/images/a/b.png"),
];

fn setup() -> Setup {
    let issuer = |name: &str, secret: &str, more: &str| {
        format!(
            "[[issuers]]\nname = \"{name}\"\norgs = [\"acme\"]\nissuer = \"https://{name}.example\"\naudience = \"tollgate\"\nalgorithm = \"HS256\"\nsecret = \"{secret}\"\n{more}\n"
        )
    };
    let issuers = issuer("dashboard", DASHBOARD, "may_name_users = true") + &issuer("other", OTHER, "");
    let orgs = "[[orgs]]\nid = \"globex\"\nname = \"Globex\"\n";
    let librechat = Options {
        strangers: Strangers::Refused,
        users: vec![User::new("ada@acme.test"), User::new("bob@acme.test")],
        ..Options::default()
    };
    Setup { librechat, ..Setup::with(&format!("{orgs}{issuers}")) }
}

fn sign(claims: &Value, secret: &str) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("a token")
}

/// What the dashboard says of Ada.
fn org_scoped(gateway: &TestGateway) -> Value {
    let now = gateway.running.app.clock.now().as_second();
    json!({
        "iss": "https://dashboard.example", "aud": "tollgate", "sub": "person-1", "email": "ada@acme.test", "name": "Ada", "username": "ada", "role": "admin",
        "organization": {"id": "acme", "name": "Acme", "domain": "acme.test", "plan_type": "professional", "librechat_config": {}},
        "librechat_user_id": User::new("ada@acme.test").id, "iat": now, "exp": now + 600
    })
}

fn with(mut claims: Value, key: &str, value: Value) -> Value {
    claims[key] = value;
    claims
}

/// Status and body of a request with this token.
async fn ask(gateway: &TestGateway, (method, path): (&str, &str), token: &str) -> (u16, String) {
    let client = ChatClient::new(&gateway.url(), token);
    let method = method.parse().expect("a method");
    let response = client.request(method, path).header("content-type", "application/json").body("{}").send().await.expect("an answer");
    (response.status().as_u16(), response.text().await.expect("a body"))
}

fn claims_of(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).expect("a token");
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64")).expect("claims")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_does_not_hold_is_401_wherever_one_is_needed() {
    let gateway = setup().start().await;
    let now = gateway.running.app.clock.now();
    let secret = gateway.librechat.jwt_secret().to_owned();
    let ada = json!({"id": User::new("ada@acme.test").id, "username": "ada", "provider": "local", "email": "ada@acme.test", "iat": now.as_second(), "exp": now.as_second() + 900});
    let header = |alg: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{alg}\",\"typ\":\"JWT\"}}"))
    };
    let genuine = sign(&ada, &secret);
    let (_, rest) = genuine.split_once('.').expect("a token");
    let (payload, signature) = rest.split_once('.').expect("a token");
    let hs512 = encode(&Header::new(Algorithm::HS512), &ada, &EncodingKey::from_secret(secret.as_bytes())).expect("a token");
    for (what, token) in [
        ("none", String::new()),
        ("nonsense", "abc".into()),
        ("a wrong signature", sign(&ada, "another-secret-of-somebody-else")),
        ("no algorithm", format!("{}.{payload}.", header("none"))),
        ("no algorithm, signed", format!("{}.{payload}.{signature}", header("none"))),
        ("another algorithm", hs512),
        ("an expired one", sign(&with(ada.clone(), "exp", json!(now.as_second() - 120)), &secret)),
        ("a foreign issuer", sign(&with(ada.clone(), "iss", json!("https://evil.example")), &secret)),
        ("a refresh token", sign(&with(ada.clone(), "sessionId", json!("x")), &secret)),
        ("an agents' trigger", sign(&with(ada.clone(), "scope", json!("agent_trigger")), &secret)),
        ("no id", sign(&with(ada.clone(), "id", json!("ada")), &secret)),
        ("an org-scoped one under LibreChat's secret", sign(&org_scoped(&gateway), &secret)),
        ("an org-scoped one of another issuer", sign(&org_scoped(&gateway), OTHER)),
        ("another audience", sign(&with(org_scoped(&gateway), "aud", json!("elsewhere")), DASHBOARD)),
        ("LibreChat's claims under the dashboard's secret", sign(&ada, DASHBOARD)),
    ] {
        for route in ASKING {
            let (status, body) = ask(&gateway, route, &token).await;
            assert_eq!((status, body.as_str()), (401, r#"{"message":"Unauthorized"}"#), "{what} on {route:?}");
        }
    }
    let heard: Vec<_> = gateway.librechat.requests().into_iter().filter(|request| request.path != "/health").collect();
    assert!(heard.is_empty(), "LibreChat heard {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn public_routes_pass_with_any_token_as_it_came() {
    let gateway = setup().start().await;
    for token in ["", "nonsense", &sign(&json!({"id": "x"}), "another-secret"), &sign(&org_scoped(&gateway), OTHER)] {
        for route in PUBLIC {
            gateway.librechat.forget_requests();
            let (status, _) = ask(&gateway, route, token).await;
            assert!(status == 200 || status == 404, "{route:?} with {token:?}: {status}");
            let request = gateway.librechat.wait_for_request(&format!("{} {}", route.0, route.1)).await.expect("it arrives");
            let expected = (!token.is_empty()).then(|| format!("Bearer {token}"));
            assert_eq!(request.header("authorization"), expected.as_deref(), "{route:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_tokens_are_written_once_a_minute_with_their_count() {
    let gateway = setup().set("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "127.0.0.1/32").start().await;
    let now = gateway.running.app.clock.now();
    let forged = gateway.token("ada@acme.test") + "x";
    let expired = auth::Claims { exp: now.as_second() - 120, ..auth::Claims::of(&User::new("ada@acme.test"), now) }
        .sign(gateway.librechat.jwt_secret())
        .expect("a token");
    for (token, address, times) in [(&forged, "203.0.113.1", 40), (&forged, "203.0.113.2", 1), (&expired, "203.0.113.1", 7)] {
        let mut wire = Wire::connect(gateway.running.public).await;
        for _ in 0..times {
            wire.send(format!(
                "GET /api/user?token=secret HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
            ))
            .await;
            assert_eq!(wire.answer().await.status, 401);
        }
    }
    // A minute may have passed in between: then its rows add up.
    let total = async |action: &str, address: &str, expected: u64| {
        wait_for(&format!("{expected} counted as {action} from {address}"), || async {
            let mut rows = gateway.running.app.records.audit_rows(1000).await.expect("rows");
            unseal_rows(&*gateway.running.app.member_keys, &mut rows).await.expect("the keys of members");
            rows.retain(|row| row.action == action && row.address.as_deref() == Some(address));
            (rows.iter().map(|row| row.count).sum::<u64>() == expected).then_some(rows)
        })
        .await
    };
    let rows = total("auth.token_refused", "203.0.113.1", 40).await;
    assert!(rows.len() <= 2, "at most one row a minute: {}", rows.len());
    let row = &rows[0];
    assert_eq!(
        (row.category, row.severity, row.error.as_deref(), row.status),
        (Category::Security, Severity::Warning, Some("signature"), Some(401))
    );
    assert_eq!((row.actor_id.as_deref(), row.query.as_deref()), (None, None), "nothing of a forged token is believed, and no secret kept");
    total("auth.token_refused", "203.0.113.2", 1).await;
    let rows = total("auth.token_expired", "203.0.113.1", 7).await;
    let row = &rows[0];
    assert_eq!((row.category, row.severity, row.error.as_deref()), (Category::Auth, Severity::Info, Some("expired")));
    assert_eq!(row.actor_id.as_deref(), Some(User::new("ada@acme.test").id.as_str()), "whose it was is proved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_of_an_embedding_application_goes_on_as_their_librechat_account() {
    let gateway = setup().start().await;
    let token = sign(&org_scoped(&gateway), DASHBOARD);
    let client = ChatClient::new(&gateway.url(), &token);
    assert_eq!(client.get("/api/user").await.expect("an answer").json()["email"], "ada@acme.test");
    let exchange = client.chat("Hello [[in=10 out=5]]").await.expect("an answer");
    assert!(exchange.last().is_some(), "{:?}", exchange.start);
    let row = gateway.usage_rows(1).await.remove(0);
    assert_eq!((&*row.org_id, &*row.member_id), ("acme", User::new("ada@acme.test").id.as_str()));

    let heard: Vec<_> = gateway.librechat.requests().into_iter().filter(|request| request.path != "/health").collect();
    let looked_up = heard
        .iter()
        .filter(|request| request.header("user-agent").is_some_and(|agent| agent.contains("Mozilla")) && request.path == "/api/user")
        .count();
    assert_eq!(looked_up, 2, "the account is looked up once, besides the person's own request");
    for request in heard {
        let heard = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).expect("a token");
        assert_ne!(heard, token, "{}: LibreChat never sees the application's token", request.path);
        let claims = claims_of(heard);
        assert_eq!(claims["id"], User::new("ada@acme.test").id, "{}", request.path);
        if request.path.starts_with("/api/agents/chat/LabAI") {
            assert_eq!(
                (&claims["email"], &claims["org"], &claims["role"], &claims["iss"]),
                (&json!("ada@acme.test"), &json!("acme"), &json!("admin"), &json!("tollgate"))
            );
            assert!(claims["exp"].as_i64() <= org_scoped(&gateway)["exp"].as_i64(), "it does not outlive the application's token");
        }
    }
    let me = client.get("/_tollgate/me").await.expect("an answer").json();
    assert_eq!((&me["org"]["id"], &me["role"], &me["plan"]), (&json!("acme"), &json!("admin"), &json!("professional")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_of_an_embedding_application_is_known_on_routes_that_anyone_may_call() {
    let gateway = setup().start().await;
    let token = sign(&org_scoped(&gateway), DASHBOARD);
    for route in [("GET", "/api/config"), ("GET", "/api/share/abc"), ("POST", "/api/share/abc"), ("DELETE", "/api/share/abc")] {
        gateway.librechat.forget_requests();
        ask(&gateway, route, &token).await;
        let request = gateway.librechat.wait_for_request(&format!("{} {}", route.0, route.1)).await.expect("it arrives");
        let heard = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).expect("a token");
        assert_eq!(claims_of(heard)["id"], User::new("ada@acme.test").id, "{route:?}: LibreChat knows this token");
    }
    let nobody = sign(&with(org_scoped(&gateway), "librechat_user_id", json!(null)), DASHBOARD);
    gateway.librechat.forget_requests();
    ask(&gateway, ("GET", "/api/config"), &nobody).await;
    let request = gateway.librechat.wait_for_request("GET /api/config").await.expect("it arrives");
    assert_eq!(request.header("authorization"), Some(format!("Bearer {nobody}").as_str()), "one without an account passes as it came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_cannot_open_other_peoples_accounts_or_orgs() {
    let gateway = setup().start().await;
    let bob = json!(User::new("bob@acme.test").id);
    let globex = json!({"id": "globex", "name": "Globex"});
    let other = |claims: Value| with(claims, "iss", json!("https://other.example"));
    for (what, token, status) in [
        ("another's account", sign(&with(org_scoped(&gateway), "librechat_user_id", bob.clone()), DASHBOARD), 403),
        ("an unknown account", sign(&with(org_scoped(&gateway), "librechat_user_id", json!("0123456789abcdef01234567")), DASHBOARD), 403),
        ("no account", sign(&with(org_scoped(&gateway), "librechat_user_id", Value::Null), DASHBOARD), 403),
        ("an account that is none", sign(&with(org_scoped(&gateway), "librechat_user_id", json!("../admin")), DASHBOARD), 401),
        ("an issuer that may not name users", sign(&other(org_scoped(&gateway)), OTHER), 403),
        ("a foreign org", sign(&with(org_scoped(&gateway), "organization", globex), DASHBOARD), 403),
        ("an unknown org", sign(&with(org_scoped(&gateway), "organization", json!({"id": "nowhere"})), DASHBOARD), 403),
    ] {
        for route in ASKING {
            let (got, body) = ask(&gateway, route, &token).await;
            assert_eq!(got, status, "{what} on {route:?}: {body}");
            let shown: Value = serde_json::from_str(&body).expect("JSON");
            let text = shown["info"].as_str().or(shown["message"].as_str()).expect("a sentence");
            assert!(!text.contains('{') && !text.contains("bob") && !text.contains("globex"), "{what}: {text}");
        }
    }
    let passed: Vec<_> =
        gateway.librechat.requests().into_iter().filter(|request| request.path != "/health" && request.path != "/api/user").collect();
    assert!(passed.is_empty(), "LibreChat heard {passed:?}");
    let row = gateway.audit_rows("auth.token_refused", 1).await.remove(0);
    assert_eq!((row.category, row.severity), (Category::Security, Severity::Warning));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_cannot_be_confirmed_while_librechat_is_away() {
    let gateway = setup().start().await;
    let token = sign(&org_scoped(&gateway), DASHBOARD);
    gateway.librechat.set_down(true);
    let answer = ChatClient::new(&gateway.url(), &token).start(&ChatBody::new("Hi")).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.headers.get("retry-after").is_some()), (503, true), "{}", answer.text);
    gateway.librechat.set_down(false);
    wait_for("the account to be confirmed", || async {
        let answer = ChatClient::new(&gateway.url(), &token).get("/api/user").await.expect("an answer");
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_without_an_org_can_look_but_not_spend() {
    let gateway = Setup { default_org: String::new(), ..Setup::default() }.start().await;
    let token = gateway.token("stray@nowhere.test");
    for route in [
        ("GET", "/"),
        ("GET", "/api/user"),
        ("GET", "/api/models"),
        ("GET", "/api/config"),
        ("POST", "/api/auth/refresh"),
        ("GET", "/api/convos"),
        ("GET", "/_tollgate/me"),
    ] {
        assert_eq!(ask(&gateway, route, &token).await.0, 200, "{route:?}");
    }
    for route in [
        ("POST", "/api/agents/chat/LabAI"),
        ("POST", "/api/agents/chat/steer"),
        ("POST", "/api/assistants/v2/chat"),
        ("POST", "/api/files"),
        ("POST", "/api/files/speech/tts"),
        ("POST", "/api/agents/tools/x/call"),
    ] {
        let (status, body) = ask(&gateway, route, &token).await;
        assert_eq!(status, 403, "{route:?}: {body}");
        assert!(body.contains("does not belong to an organization"), "{route:?}: {body}");
    }
    assert!(gateway.librechat.runs().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agents_api_is_refused_unless_it_is_switched_on() {
    let off = Setup::default().start().await;
    for route in [("POST", "/api/agents/v1/chat/completions"), ("POST", "/api/agents/v1/responses"), ("GET", "/api/agents/v1/models")] {
        for token in ["", "sk-abc", &off.token("ada@acme.test")] {
            let (status, body) = ask(&off, route, token).await;
            let body: Value = serde_json::from_str(&body).expect("JSON");
            assert_eq!((status, body["error"]["code"].as_str()), (403, Some("agent_api_off")), "{route:?}: {body}");
        }
    }
    assert!(off.librechat.requests().iter().all(|request| request.path == "/health"));
    let on = Setup { librechat_keys: "agent_api = \"default_org\"".to_owned(), ..Setup::default() }.start().await;
    let (status, body) = ask(&on, ("POST", "/api/agents/v1/chat/completions"), "").await;
    assert_eq!((status, body.contains("invalid_api_key")), (401, true), "{body}");
    assert_eq!(ask(&on, ("GET", "/api/agents/v1/models"), "sk-abc").await.0, on_direct(&on).await);
}

/// What LibreChat itself answers about its models.
async fn on_direct(gateway: &TestGateway) -> u16 {
    ChatClient::new(&gateway.librechat.url(), "sk-abc").get("/api/agents/v1/models").await.expect("an answer").status.as_u16()
}
