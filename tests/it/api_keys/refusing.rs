//! Keys that prove nobody, or not here and now.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::json;
use tollgate::clock::{ManualClock, SharedClock};
use tollgate::identity::addresses::Networks;
use tollgate::identity::directory::store::PutStanding;
use tollgate::identity::{Member, Org, Standing};
use tollgate::records::StoredAudit;
use tollgate::scripted::Options;

use super::{CHAT, ask, bearer, gets, id_of, key_of, secret};
use crate::support::gateway::{Setup, TestGateway, wait_for};

/// Changes a member, at once.
pub async fn change(gateway: &TestGateway, email: &str, to: impl FnOnce(Member) -> Member) {
    let app = &gateway.running.app;
    let member = wait_for("the member", || async { app.directory.by_librechat_id(&id_of(email)) }).await;
    app.orgs_and_members.put_members(&[to((*member).clone())], app.clock.now()).await.expect("a change");
    assert!(app.refresh_directory().await);
}

/// The row that says why a key was refused.
async fn why(gateway: &TestGateway, error: &str) -> StoredAudit {
    wait_for(&format!("a row of {error}"), || async {
        gateway.audit_rows("auth.key_refused", 0).await.into_iter().find(|row| row.error.as_deref() == Some(error))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_keys_are_nobodys_and_one_row_a_minute() {
    let gateway = Setup::default().start().await;
    let key = secret(&key_of(&gateway, "ada@acme.test", json!({})).await);
    let swapped: String =
        key.chars().map(|letter| if letter.is_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }).collect();
    let swapped = format!("tgk_{}", &swapped[4..]);
    let odd = [
        "tgk_".to_owned(),
        "tgk_x".to_owned(),
        swapped,
        format!("{key}A"),
        key[..46].to_owned(),
        format!("tgk_{}", "A".repeat(43)),
        format!("tgk_{}", "A".repeat(6000)),
    ];
    for invented in &odd {
        assert_eq!(gets(&gateway, invented).await, (401, 401), "{invented}");
    }
    let asking = (0..200).map(|number| {
        let invented = format!("tgk_{number:042}A");
        let gateway = &gateway;
        async move { gets(gateway, &invented).await }
    });
    assert!(futures_util::future::join_all(asking).await.iter().all(|statuses| *statuses == (401, 401)));
    assert_eq!(gets(&gateway, &key).await, (200, 200), "a good one is as good as before");
    let row = why(&gateway, "unknown_key").await;
    assert_eq!((row.org_id, row.actor_id, row.status), (None, None, Some(401)));
    let rows = gateway.audit_rows("auth.key_refused", 1).await;
    assert!(rows.len() <= 3, "one for each minute: {}", rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_ends() {
    let clock: Arc<ManualClock> = ManualClock::at("2026-11-20T10:00:00Z".parse().expect("a time"));
    let shared: SharedClock = clock.clone();
    let setup = Setup { clock: shared.clone(), librechat: Options { clock: shared, ..Options::default() }, ..Setup::default() };
    let gateway = setup.start().await;
    let key = key_of(&gateway, "ada@acme.test", json!({ "expires_at": "2026-11-20T11:00:00Z" })).await;
    let unlimited = key_of(&gateway, "ada@acme.test", json!({})).await;
    assert_eq!(unlimited["expires_at"], "2027-11-20T10:00:00Z", "nothing lasts for ever");
    assert_eq!(gets(&gateway, &secret(&key)).await, (200, 200));
    clock.set("2026-11-20T10:59:59Z".parse::<jiff::Timestamp>().expect("a time"));
    assert_eq!(gets(&gateway, &secret(&key)).await.1, 200);
    clock.set("2026-11-20T11:00:00Z".parse::<jiff::Timestamp>().expect("a time"));
    assert_eq!(gets(&gateway, &secret(&key)).await, (401, 401));
    let row = why(&gateway, "key_expired").await;
    assert_eq!((row.org_id.as_deref(), row.actor_id.as_deref()), (Some("acme"), Some(&*id_of("ada@acme.test"))), "whose it was is known");
    assert_eq!(row.resource_id.as_deref(), key["id"].as_str());
    assert_eq!(gets(&gateway, &secret(&unlimited)).await.1, 200);
    clock.set("2027-11-28T10:00:00Z".parse::<jiff::Timestamp>().expect("a time") + SignedDuration::from_hours(24));
    gateway.running.app.tidy_keys().await;
    assert_eq!(gets(&gateway, &secret(&key)).await, (401, 401), "and after it was forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_worth_what_its_member_is() {
    let setup = Setup {
        default_org: String::new(),
        librechat_keys: "trust_email_domains = true".into(),
        ..Setup::with("domains = [\"acme.test\"]\n[[orgs]]\nid = \"globex\"\ndomains = [\"globex.test\"]\n")
    };
    let gateway = setup.start().await;
    let key = secret(&key_of(&gateway, "ada@acme.test", json!({})).await);
    assert_eq!(gets(&gateway, &key).await, (200, 200));
    change(&gateway, "ada@acme.test", |member| Member { standing: Standing::Suspended, ..member }).await;
    assert_eq!(gets(&gateway, &key).await, (403, 200), "a suspended member reads");
    let said = ask(&gateway, "POST /api/agents/chat/LabAI", &bearer(&key), CHAT).await.text();
    assert!(said.contains("Your account is suspended here"), "{said}");
    let made = ask(&gateway, "POST /_tollgate/keys", &bearer(&gateway.token("ada@acme.test")), r#"{"name":"a","scopes":["read"]}"#).await;
    assert_eq!(made.status, 403, "and makes no keys: {}", made.text());
    change(&gateway, "ada@acme.test", |member| Member { standing: Standing::Active, role: "viewer".into(), ..member }).await;
    assert_eq!(gets(&gateway, &key).await, (403, 200), "a viewer's key does not chat");
    change(&gateway, "ada@acme.test", |member| Member { role: "user".into(), ..member }).await;

    let app = &gateway.running.app;
    let org = Org { standing: Standing::Suspended, ..(*app.directory.by_id("acme").expect("acme")).clone() };
    app.orgs_and_members.put_orgs(std::slice::from_ref(&org), PutStanding::Written, app.clock.now()).await.expect("a change");
    assert!(app.refresh_directory().await);
    assert_eq!(gets(&gateway, &key).await, (403, 200), "nor does a suspended org's");
    let org = Org { standing: Standing::Active, ..org };
    app.orgs_and_members.put_orgs(&[org], PutStanding::Written, app.clock.now()).await.expect("a change");
    change(&gateway, "ada@acme.test", |member| Member { org: "globex".into(), ..member }).await;
    assert_eq!(gets(&gateway, &key).await, (401, 401), "who is of another org has another org's keys");
    assert_eq!(why(&gateway, "key_moved").await.org_id.as_deref(), Some("acme"));
    change(&gateway, "ada@acme.test", |member| Member { org: "acme".into(), librechat_id: None, external_id: Some("x".into()), ..member })
        .await;
    assert_eq!(gets(&gateway, &key).await, (403, 403), "to LibreChat a program comes as somebody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_list_of_addresses_must_hold() {
    let setup = Setup::with("addresses = [\"10.0.0.0/8\", \"2001:db8::/32\"]").set("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "127.0.0.1/32");
    let gateway = setup.start().await;
    let inside = "X-Forwarded-For: 10.1.1.1\r\n";
    let body = r#"{"name":"CI","scopes":["chat","read"],"addresses":["10.1.0.0/16","2001:db8:1::/48","203.0.113.0/24"]}"#;
    let token = bearer(&gateway.token("ada@acme.test"));
    let made = ask(&gateway, "POST /_tollgate/keys", &format!("{inside}{token}"), body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = secret(&made.json());
    let get = async |address: &str, auth: &str| {
        let answer = ask(&gateway, "GET /api/convos", &format!("X-Forwarded-For: {address}\r\n{auth}"), "").await;
        (answer.status, answer.json()["message"].as_str().unwrap_or_default().split('.').next().unwrap_or_default().to_owned())
    };
    let (of_org, of_account, of_key) = (
        "Your organization does not allow access from this network",
        "Your account may not be used from this network",
        "This API key may not be used from this network",
    );
    for (address, expected) in [
        ("10.1.2.3", ""),
        ("::ffff:10.1.2.3", ""),
        ("2001:db8:1::9", ""),
        ("10.2.0.1", of_key),
        ("2001:db8:2::9", of_key),
        ("203.0.113.5", of_org),
        ("10.1.1.1, 10.2.0.1", of_key),
    ] {
        let (status, said) = get(address, &bearer(&key)).await;
        assert_eq!((status, said.as_str()), (if expected.is_empty() { 200 } else { 403 }, expected), "from {address}");
    }
    let page = ask(&gateway, "GET /api/models", &format!("X-Forwarded-For: 10.2.0.1\r\n{}", bearer(&key)), "").await;
    assert_eq!(page.status, 403, "a program has no page to draw");
    assert_eq!(get("10.2.0.1", &token).await.0, 200, "the key's list is the key's alone");

    change(&gateway, "ada@acme.test", |member| Member { addresses: Networks::from_text("10.1.2.0/24"), ..member }).await;
    for (address, auth, expected) in [
        ("10.1.2.3", bearer(&key), ""),
        ("10.1.3.3", bearer(&key), of_account),
        ("10.1.2.3", token.clone(), ""),
        ("10.2.0.1", token.clone(), of_account),
        ("203.0.113.5", token.clone(), of_org),
        ("10.2.0.1", bearer(&gateway.token("bob@acme.test")), ""),
    ] {
        let (status, said) = get(address, &auth).await;
        assert_eq!((status, said.as_str()), (if expected.is_empty() { 200 } else { 403 }, expected), "from {address}");
    }
    let models = ask(&gateway, "GET /api/models", &format!("X-Forwarded-For: 10.2.0.1\r\n{token}"), "").await;
    assert_eq!(models.status, 200, "the page of a person loads");
    wait_for("rows that say whose list it was", || async {
        let rows = gateway.audit_rows("auth.address_refused", 1).await;
        let closed_by = |whose: &str| rows.iter().any(|row| row.detail.as_ref().is_some_and(|detail| detail["closed_by"] == whose));
        (closed_by("key") && closed_by("account") && closed_by("org")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_are_no_keys_none_is_good() {
    let gateway = Setup::default().start().await;
    let key = secret(&key_of(&gateway, "ada@acme.test", json!({})).await);
    let folder = gateway.folder();
    let without = Setup::default().set("TOLLGATE_API_KEYS__ENABLED", "false").gateway(&gateway.librechat, folder);
    let status = async |path: &str, token: &str| super::status_at(&format!("http://{}", without.public), path, token).await;
    assert_eq!(status("/api/convos", &key).await, 401);
    assert_eq!(status("/_tollgate/keys", &gateway.token("ada@acme.test")).await, 404);
    assert_eq!(status("/_tollgate/me", &gateway.token("ada@acme.test")).await, 200);
}
