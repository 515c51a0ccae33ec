//! Keys that LibreChat makes: whoever made one through here is whoever uses it.

use tollgate::identity::addresses::Networks;
use tollgate::identity::{Member, Standing};

use super::refusing::change;
use super::{ask, bearer, id_of};
use crate::support::gateway::{Setup, TestGateway, wait_for};

const ASKED: &str = r#"{"model":"agent_1","input":"Hello [[tokens=2 in=50 out=5]]"}"#;

async fn made(gateway: &TestGateway, email: &str) -> (String, String) {
    let answer = ask(gateway, "POST /api/api-keys", &bearer(&gateway.token(email)), r#"{"name":"CI"}"#).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let json = answer.json();
    (json["id"].as_str().expect("an id").to_owned(), json["key"].as_str().expect("a key").to_owned())
}

async fn asks(gateway: &TestGateway, key: &str) -> (u16, String) {
    let answer = ask(gateway, "POST /api/agents/v1/responses", &bearer(key), ASKED).await;
    (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_made_through_here_is_its_owners() {
    let setup = Setup::with("domains = [\"acme.test\"]\n[[orgs]]\nid = \"globex\"\ndomains = [\"globex.test\"]\n");
    let setup = Setup { default_org: String::new(), librechat_keys: "trust_email_domains = true\nagent_api = \"refuse\"".into(), ..setup };
    let gateway = setup.start().await;
    assert_eq!(asks(&gateway, "sk-elsewhere").await, (403, "agent_api_off".into()), "nobody knows whose");
    let (id, key) = made(&gateway, "ada@acme.test").await;
    let (_, eves) = made(&gateway, "eve@globex.test").await;
    wait_for("both to be members", || async {
        let known = |email| gateway.running.app.directory.by_librechat_id(&id_of(email));
        known("ada@acme.test").zip(known("eve@globex.test"))
    })
    .await;
    for one in [&key, &eves] {
        assert_eq!(asks(&gateway, one).await, (200, String::new()));
    }
    let rows = gateway.usage_rows(2).await;
    let whose: Vec<_> = rows.iter().map(|row| (row.org_id.to_string(), row.member_id.to_string())).collect();
    assert!(
        whose.contains(&("acme".into(), id_of("ada@acme.test"))) && whose.contains(&("globex".into(), id_of("eve@globex.test"))),
        "{whose:?}"
    );
    let kept = gateway.running.app.records.audit_rows(1000).await.expect("rows");
    assert!(!format!("{kept:?}").contains(&key), "no row holds it");

    change(&gateway, "ada@acme.test", |member| Member { addresses: Networks::from_text("10.0.0.0/8"), ..member }).await;
    assert_eq!(asks(&gateway, &key).await, (403, "address_refused".into()));
    change(&gateway, "ada@acme.test", |member| Member { addresses: None, standing: Standing::Suspended, ..member }).await;
    assert_eq!(asks(&gateway, &key).await, (403, "member_suspended".into()));
    change(&gateway, "ada@acme.test", |member| Member { standing: Standing::Active, ..member }).await;
    assert_eq!(asks(&gateway, &key).await.0, 200);

    let eve = bearer(&gateway.token("eve@globex.test"));
    assert_eq!(ask(&gateway, &format!("DELETE /api/api-keys/{id}"), &eve, "").await.status, 404, "another's");
    assert_eq!(asks(&gateway, &key).await.0, 200, "is not forgotten");
    let ada = bearer(&gateway.token("ada@acme.test"));
    assert_eq!(ask(&gateway, &format!("DELETE /api/api-keys/{id}"), &ada, "").await.status, 204);
    assert_eq!(asks(&gateway, &key).await, (403, "agent_api_off".into()), "what was deleted is nobody's");
    assert_eq!(asks(&gateway, &eves).await.0, 200);
    let database = &gateway.running.app.orgs_and_members;
    wait_for("the database to know", || async {
        let keys = database.changes(-1).await.ok()?.agent_keys;
        (keys.iter().filter(|key| key.forgotten).count() == 1 && keys.len() == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_keys_go_on_as_before_and_librechat_has_the_last_word() {
    let gateway = Setup { librechat_keys: "agent_api = \"default_org\"".into(), ..Setup::default() }.start().await;
    let (_, key) = made(&gateway, "ada@acme.test").await;
    wait_for("her to be a member", || async { gateway.running.app.directory.by_librechat_id(&id_of("ada@acme.test")) }).await;
    assert_eq!(asks(&gateway, "sk-elsewhere").await.0, 200);
    assert_eq!(asks(&gateway, &key).await.0, 200);
    let rows = gateway.usage_rows(2).await;
    let mut whose: Vec<_> = rows.iter().map(|row| row.member_id.to_string()).collect();
    whose.sort_by_key(|member| member.starts_with("key:"));
    assert!(whose[0] == id_of("ada@acme.test") && whose[1].starts_with("key:"), "{whose:?}");
    // Deleted behind our back.
    let direct = tollgate::scripted::client::plain_http();
    let token = gateway.token("ada@acme.test");
    let keys: serde_json::Value = direct
        .get(format!("{}/api/api-keys", gateway.librechat.url()))
        .bearer_auth(&token)
        .send()
        .await
        .expect("an answer")
        .json()
        .await
        .expect("JSON");
    let id = keys["keys"][0]["id"].as_str().expect("an id").to_owned();
    direct.delete(format!("{}/api/api-keys/{id}", gateway.librechat.url())).bearer_auth(&token).send().await.expect("an answer");
    assert_eq!(asks(&gateway, &key).await.0, 401, "LibreChat judges each request");
    let refused = ask(&gateway, "POST /api/api-keys", &bearer(&token), r#"{"name":" "}"#).await;
    assert_eq!(refused.status, 400, "as LibreChat answers");
}
