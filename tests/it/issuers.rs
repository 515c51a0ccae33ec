//! Issuers that publish their keys, at the front door: signing in, keys that change, issuers that are down, and floods.

mod presets;
#[path = "../../src/identity/tokens/publisher.rs"]
pub mod publisher;
#[path = "../../src/identity/tokens/signer.rs"]
pub mod signer;

use serde_json::{Value, json};
use tollgate::records::{Category, Severity};
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::scripted::{Options, Strangers, User};

use self::publisher::{Publisher, Says};
use self::signer::{Signer, key_set};
use crate::support::gateway::{Setup, TestGateway, value_of, wait_for};

const ISSUER: &str = "https://id.example/realms/acme";

/// A gateway whose people come with the tokens of a Keycloak that publishes its keys there.
fn setup(publisher: &Publisher) -> Setup {
    let librechat = Options { strangers: Strangers::Refused, users: vec![User::new("ada@acme.test")], ..Options::default() };
    let issuer = format!(
        "[[issuers]]\nname = 'keycloak'\npreset = 'keycloak'\norgs = ['acme']\nissuer = '{ISSUER}'\naudience = 'tollgate'\n\
         algorithms = ['EdDSA', 'ES256']\njwks_url = '{}'\nroles = {{ 'chat-admins' = 'admin' }}\nmay_name_users = true\n",
        publisher.url
    );
    Setup { librechat, ..Setup::with(&issuer) }
}

/// What the Keycloak says of Ada.
fn ada(gateway: &TestGateway) -> Value {
    let now = gateway.running.app.clock.now().as_second();
    json!({
        "exp": now + 300, "iat": now, "jti": "d58f5dc8-fd8f-462b-8a19-716f8f83985b", "iss": ISSUER, "aud": ["tollgate", "account"],
        "sub": "36fa0f91-f94d-4a0c-afed-6b7d952e47da", "typ": "Bearer", "azp": "app", "sid": "2a88c258-f73a-4103-b862-e1fbd8f4e04e",
        "realm_access": {"roles": ["offline_access", "chat-admins"]}, "scope": "openid email profile", "email_verified": true,
        "name": "Ada Lovelace", "preferred_username": "ada", "email": "ada@acme.test", "organization": ["acme"],
        "librechat_user_id": User::new("ada@acme.test").id,
    })
}

/// The status of `GET /_tollgate/me` with this token, and the answer.
async fn me(gateway: &TestGateway, token: &str) -> (u16, Value) {
    let answer = ChatClient::new(&gateway.url(), token).get("/_tollgate/me").await.expect("an answer");
    (answer.status.as_u16(), serde_json::from_str(&answer.text).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_chat_with_their_issuers_tokens_while_its_keys_change() {
    let (old, new) = (Signer::new("EdDSA", "old"), Signer::new("ES256", "new"));
    let publisher = Publisher::start(Says::Keys(key_set(&[&old]))).await;
    let gateway = setup(&publisher).start().await;
    let claims = ada(&gateway);
    let client = ChatClient::new(&gateway.url(), &old.sign(&claims));
    let (status, said) = me(&gateway, &old.sign(&claims)).await;
    assert_eq!((status, &said["org"]["id"], &said["role"]), (200, &json!("acme"), &json!("admin")), "{said}");
    assert!(client.chat("Hello [[in=10 out=5]]").await.expect("an answer").last().is_some());
    let row = gateway.usage_rows(1).await.remove(0);
    assert_eq!((&*row.org_id, &*row.member_id), ("acme", User::new("ada@acme.test").id.as_str()));

    publisher.say(Says::Keys(key_set(&[&new, &old])));
    assert_eq!(me(&gateway, &new.sign(&claims)).await.0, 200, "a new key is asked for when it is first seen");
    assert_eq!(me(&gateway, &old.sign(&claims)).await.0, 200, "and the old one is good as long as it is published");

    // The issuer goes down: what is known goes on, and nobody makes us ask for what is not.
    publisher.say(Says::Status(503));
    let asked = publisher.asked();
    let strangers: Vec<_> = (0..20).map(|index| Signer::new("EdDSA", &format!("stranger-{index}")).sign(&claims)).collect();
    for token in &strangers {
        assert_eq!(me(&gateway, token).await.0, 401);
    }
    assert_eq!(publisher.asked(), asked, "unknown keys are asked for once in half a minute");
    assert_eq!(me(&gateway, &new.sign(&claims)).await.0, 200);

    let metrics = gateway.metrics().await;
    assert!((value_of(&metrics, r#"tollgate_issuer_keys{issuer="keycloak"}"#) - 2.0).abs() < 1e-9);
    assert!((value_of(&metrics, r#"tollgate_issuer_key_fetches_total{issuer="keycloak",result="ok"}"#) - 2.0).abs() < 1e-9);
    assert!(value_of(&metrics, r#"tollgate_issuer_keys_age_seconds{issuer="keycloak"}"#) < 60.0);
    assert!((value_of(&metrics, r#"tollgate_token_refusals_total{reason="unknown_kid"}"#) - 20.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_is_down_at_the_start_stops_nothing_and_is_believed_later() {
    let signer = Signer::new("ES256", "k");
    let publisher = Publisher::start(Says::Status(502)).await;
    let gateway = setup(&publisher).start().await;
    let token = signer.sign(&ada(&gateway));
    assert_eq!(me(&gateway, &gateway.token("ada@acme.test")).await.0, 200, "LibreChat's own tokens do not need it");
    let answer = ChatClient::new(&gateway.url(), &token).start(&ChatBody::new("Hi")).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), answer.headers.get("retry-after").is_some()), (503, true), "{}", answer.text);
    assert!(answer.text.contains("Your sign-in cannot be checked right now"), "{}", answer.text);
    let row = gateway.audit_rows("auth.token_refused", 1).await.remove(0);
    assert_eq!((row.category, row.severity, row.error.as_deref()), (Category::Auth, Severity::Warning, Some("keys_away")));

    let readiness = format!("http://{}/readyz", gateway.running.metrics);
    let ready: Value =
        tollgate::scripted::client::plain_http().get(&readiness).send().await.expect("an answer").json().await.expect("JSON");
    assert!(ready["degraded"].as_array().is_some_and(|parts| parts.contains(&json!("issuers"))), "{ready}");
    assert_ne!(ready["reason"], json!("the issuer does not answer"), "others may chat");

    publisher.say(Says::Keys(key_set(&[&signer])));
    wait_for("the keys to be fetched again", || async { (me(&gateway, &token).await.0 == 200).then_some(()) }).await;
    assert!((value_of(&gateway.metrics().await, r#"tollgate_degraded{component="issuers"}"#)).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_tokens_are_a_bare_401_and_reach_nobody() {
    let signer = Signer::new("EdDSA", "k");
    let publisher = Publisher::start(Says::Keys(key_set(&[&signer]))).await;
    let gateway = setup(&publisher).start().await;
    let claims = ada(&gateway);
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        signer.sign(&claims)
    };
    let now = gateway.running.app.clock.now().as_second();
    assert_eq!(me(&gateway, &signer.sign(&claims)).await.0, 200);
    gateway.librechat.forget_requests();
    for (what, token, status) in [
        ("an ID token", with("typ", json!("ID")), 401),
        ("another audience", with("aud", json!("account")), 401),
        ("an address that is not verified", with("email_verified", json!(false)), 401),
        ("an organization and an org", with("org", json!("acme")), 401),
        ("two orgs", with("organization", json!(["acme", "globex"])), 401),
        ("a foreign org", with("organization", json!(["globex"])), 403),
        ("a clock five minutes ahead", with("iat", json!(now + 300)), 401),
        ("a clock five minutes behind", with("exp", json!(now - 300)), 401),
        ("a stranger's key under a known name", Signer::new("EdDSA", "k").sign(&claims), 401),
        ("no algorithm", signer.forge(r#"{"alg":"none","kid":"k"}"#, &claims.to_string()), 401),
    ] {
        for route in ["/_tollgate/me", "/api/user", "/api/models"] {
            let answer = ChatClient::new(&gateway.url(), &token).get(route).await.expect("an answer");
            assert_eq!(answer.status.as_u16(), status, "{what} on {route}: {}", answer.text);
            assert!(status != 401 || answer.text == r#"{"message":"Unauthorized"}"#, "{what}: {}", answer.text);
        }
    }
    let heard: Vec<_> = gateway.librechat.requests().into_iter().filter(|request| request.path != "/health").collect();
    assert!(heard.is_empty(), "LibreChat heard {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_a_token_is_can_be_asked_before_anybody_signs_in() {
    let signer = Signer::new("EdDSA", "one");
    let publisher = Publisher::start(Says::Keys(key_set(&[&signer]))).await;
    let gateway = setup(&publisher).start().await;
    let asked = async |token: &str| {
        let answer = ChatClient::new(&gateway.url(), token).get("/api/auth/verify").await.expect("an answer");
        (answer.status.as_u16(), serde_json::from_str::<Value>(&answer.text).unwrap_or_default())
    };
    let mut stranger = ada(&gateway);
    stranger["librechat_user_id"].take();
    let (status, said) = asked(&signer.sign(&stranger)).await;
    assert_eq!((status, &said["valid"], &said["issuer"]), (200, &json!(true), &json!("keycloak")), "{said}");
    assert_eq!((&said["user"]["email"], &said["user"]["role"]), (&json!("ada@acme.test"), &json!("admin")), "{said}");
    assert_eq!(said["organization"]["id"], "acme", "{said}");

    let (status, said) = asked(&gateway.librechat.token("ada@acme.test")).await;
    assert_eq!((status, &said["issuer"], &said["organization"]["id"]), (200, &json!("librechat"), &json!("acme")), "{said}");

    let (status, said) = asked(&Signer::new("EdDSA", "one").sign(&stranger)).await;
    assert_eq!((status, said["valid"].is_null()), (401, true), "another key under the same name: {said}");
    assert!(gateway.librechat.requests().iter().all(|request| !request.path.contains("auth/verify")), "LibreChat does not hear of it");
}
