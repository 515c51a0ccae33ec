//! Keys are made, listed and revoked: by members for themselves, by admins for their org, by operators.

use std::process::Command;

use serde_json::{Value, json};
use tollgate::identity::Member;
use tollgate::records::Category;
use tollgate::scripted::{Options, ScriptedLibreChat};

use super::refusing::change;
use super::{ask, bearer, gets, id_of, key_of, secret, status_at};
use crate::support::gateway::{Setup, TestGateway, wait_for};
use crate::support::process::TollgateProcess;

async fn two_orgs() -> TestGateway {
    let orgs = "domains = [\"acme.test\"]\n[[orgs]]\nid = \"globex\"\ndomains = [\"globex.test\"]\n[api_keys]\nper_member = 3\n";
    Setup { default_org: String::new(), librechat_keys: "trust_email_domains = true".into(), ..Setup::with(orgs) }.start().await
}

async fn list(gateway: &TestGateway, email: &str, query: &str) -> (u16, Vec<Value>) {
    let answer = ask(gateway, &format!("GET /_tollgate/keys{query}"), &bearer(&gateway.token(email)), "").await;
    let mut keys = answer.json()["keys"].as_array().cloned().unwrap_or_default();
    keys.sort_by_key(|key| key["created_at"].to_string());
    (answer.status, keys)
}

async fn delete(gateway: &TestGateway, email: &str, id: &str) -> u16 {
    ask(gateway, &format!("DELETE /_tollgate/keys/{id}"), &bearer(&gateway.token(email)), "").await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_look_after_their_own_keys_and_admins_after_the_orgs() {
    let gateway = two_orgs().await;
    assert_eq!(list(&gateway, "ada@acme.test", "").await, (200, vec![]));
    let ada = key_of(&gateway, "ada@acme.test", json!({ "name": "노트북", "addresses": ["127.0.0.0/8"] })).await;
    let bob = key_of(&gateway, "bob@acme.test", json!({})).await;
    let eve = key_of(&gateway, "eve@globex.test", json!({})).await;
    let id = |key: &Value| key["id"].as_str().expect("an id").to_owned();
    assert!(secret(&ada).ends_with(ada["ending"].as_str().expect("an ending")));

    let (_, theirs) = list(&gateway, "ada@acme.test", "").await;
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    let one = &theirs[0];
    assert_eq!(
        (one["name"].as_str(), one["member"].as_str(), &one["addresses"]),
        (Some("노트북"), Some(&*id_of("ada@acme.test")), &json!(["127.0.0.0/8"]))
    );
    assert!(one["key"].is_null() && !one.to_string().contains("tgk_"), "it is shown once: {one}");

    for query in ["?all=true", &format!("?member={}", id_of("bob@acme.test"))] {
        assert_eq!(list(&gateway, "ada@acme.test", query).await.0, 403, "{query} is for admins");
    }
    for (email, key) in
        [("ada@acme.test", id(&bob)), ("eve@globex.test", id(&ada)), ("ada@acme.test", "x".into()), ("ada@acme.test", "../me".into())]
    {
        assert_eq!(delete(&gateway, email, &key).await, 404, "{email} {key}");
    }
    change(&gateway, "ada@acme.test", |member| Member { role: "admin".into(), ..member }).await;
    assert_eq!(list(&gateway, "ada@acme.test", "?all=true").await.1.len(), 2, "of her org");
    assert_eq!(list(&gateway, "ada@acme.test", &format!("?member={}", id_of("bob@acme.test"))).await.1.len(), 1);
    assert_eq!(list(&gateway, "ada@acme.test", &format!("?member={}", id_of("eve@globex.test"))).await.0, 404);
    assert_eq!(list(&gateway, "ada@acme.test", "?all=true&org=globex").await.0, 400);
    assert_eq!(delete(&gateway, "ada@acme.test", &id(&eve)).await, 404, "another org's is not there");
    assert_eq!(gets(&gateway, &secret(&eve)).await.1, 200);
    assert_eq!(delete(&gateway, "ada@acme.test", &id(&bob)).await, 204);
    assert_eq!(gets(&gateway, &secret(&bob)).await, (401, 401), "at once");
    assert_eq!(delete(&gateway, "ada@acme.test", &id(&bob)).await, 404, "once");

    let made = gateway.audit_rows("api_key.created", 3).await;
    let of_ada = made.iter().find(|row| row.resource_id.as_deref() == Some(&*id(&ada))).expect("a row");
    assert_eq!((of_ada.category, of_ada.org_id.as_deref(), of_ada.status), (Category::Admin, Some("acme"), Some(201)));
    let revoked = &gateway.audit_rows("api_key.revoked", 1).await[0];
    assert_eq!(revoked.actor_id.as_deref(), Some(&*id_of("ada@acme.test")));
    let detail = revoked.detail.as_ref().expect("whose it was");
    assert_eq!(detail["member"].as_str(), Some(&*id_of("bob@acme.test")), "{detail}");
    let written = wait_for("the refusal", || async {
        let rows = gateway.running.app.records.audit_rows(1000).await.ok()?;
        rows.iter().any(|row| row.error.as_deref() == Some("key_revoked")).then_some(rows)
    })
    .await;
    assert!(!format!("{written:?}").contains("tgk_"), "no row holds a key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_key_is_not_made() {
    let gateway = two_orgs().await;
    let token = bearer(&gateway.token("ada@acme.test"));
    let post = async |headers: &str, body: &str| ask(&gateway, "POST /_tollgate/keys", headers, body).await.status;
    let good = r#"{"name":"CI","scopes":["read"]}"#;
    for (body, expected) in [
        ("{}", 400),
        ("null", 400),
        (r#"{"name":"CI","scopes":["read"],"role":"admin"}"#, 400),
        (r#"{"name":"CI","scopes":["read"],"expires_at":"9999-12-31T00:00:00Z"}"#, 400),
        (&format!(r#"{{"name":"{}","scopes":["read"]}}"#, "x".repeat(101)), 400),
        (&format!(r#"{{"name":"{}","scopes":["read"]}}"#, "x".repeat(70_000)), 413),
    ] {
        assert_eq!(post(&token, body).await, expected, "{body:.60}");
    }
    assert_eq!(post("", good).await, 401, "nobody");
    assert_eq!(post(&bearer(&gateway.token("carl@nowhere.test")), good).await, 403, "of no org");
    assert_eq!(post("Origin: https://evil.example\r\nCookie: refreshToken=x\r\n", good).await, 403, "a page of another site");
    for line in ["PUT /_tollgate/keys", "GET /_tollgate/keys/x", "PATCH /_tollgate/keys/x", "DELETE /_tollgate/keys"] {
        assert_eq!(ask(&gateway, line, &token, "").await.status, 405, "{line}");
    }
    key_of(&gateway, "ada@acme.test", json!({})).await;
    change(&gateway, "ada@acme.test", |member| Member { role: "viewer".into(), ..member }).await;
    assert_eq!(post(&token, r#"{"name":"CI","scopes":["read","chat"]}"#).await, 403, "viewers do not chat");
    for expected in [201, 201, 409] {
        assert_eq!(post(&token, good).await, expected, "three in all");
    }
    let (_, keys) = list(&gateway, "ada@acme.test", "").await;
    assert_eq!(delete(&gateway, "ada@acme.test", keys[0]["id"].as_str().expect("an id")).await, 204);
    assert_eq!(post(&token, good).await, 409, "those revoked today are counted");
}

/// A gateway as a process, and what operators type beside it.
struct Beside {
    process: TollgateProcess,
    _librechat: ScriptedLibreChat,
}

impl Beside {
    /// One in which Ada has an account, and Ned has none.
    async fn new() -> Self {
        let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let setup = Setup { records: "sqlite:rows.db".to_owned(), ..Setup::default() };
        let place = Self { process: TollgateProcess::start(&setup.text(&librechat, &folder)).await, _librechat: librechat };
        let ada = id_of("ada@acme.test");
        let members = format!("org,librechat_id,email,addresses\nacme,{ada},ada@acme.test,127.0.0.0/8;10.0.0.0/8\nacme,,ned@acme.test,\n");
        std::fs::write(place.process.folder().join("members.csv"), members).expect("a file");
        place.says("member import members.csv --apply", 0, "2 members new");
        place
    }

    /// Runs a command, and looks for a text in what it says.
    #[track_caller]
    fn says(&self, command: &str, status: i32, text: &str) -> String {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        program.args(command.split(' ')).args(["--config", "tollgate.toml"]).current_dir(self.process.folder()).env_clear();
        let output = program.output().expect("the program starts");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.code() == Some(status) && said.contains(text), "{command}: {:?}\n{said}", output.status);
        said
    }

    async fn until_answered(&self, token: &str, status: u16) {
        let url = self.process.url();
        wait_for(&format!("the running gateway to answer {status}"), || async {
            (status_at(&url, "/api/convos", token).await == status).then_some(())
        })
        .await;
    }
}

const CREATE: &str = "key create --org acme --name CI --member";
const OF_ADA: &str = "--org acme --member ada@acme.test";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_make_list_and_revoke_keys() {
    let place = Beside::new().await;
    for (command, status, text) in [
        ("ada@acme.test --scopes everything", 64, "names no scopes"),
        ("ada@acme.test --scopes read --address-ranges 10.1.0.0/8", 64, "write 10.0.0.0/8"),
        ("ada@acme.test --scopes read --expires-days 366", 1, "1 to 365"),
        ("ada@acme.test --scopes read --expires-days 0", 1, "1 to 365"),
        ("ned@acme.test --scopes read", 1, "no account in LibreChat"),
        ("eve@acme.test --scopes read", 1, "has no member"),
    ] {
        place.says(&format!("{CREATE} {command}"), status, text);
    }
    let made = "ada@acme.test --scopes read,usage --expires-days 7 --address-ranges 127.0.0.0/8 --json";
    let key: Value = serde_json::from_str(&place.says(&format!("{CREATE} {made}"), 0, "tgk_")).expect("JSON");
    let (id, secret) = (key["id"].as_str().expect("an id").to_owned(), secret(&key));
    assert_eq!(status_at(&place.process.url(), "/api/convos", &secret).await, 200, "the running gateway knows it at once");
    for command in ["key list --org acme", "key list --org acme --member ada@acme.test --json"] {
        let said = place.says(command, 0, &id);
        assert!(said.contains("usage") && !said.contains("tgk_"), "{said}");
    }
    place.says("key list --org acme --member ned@acme.test", 0, "No keys.");
    place.says("key revoke nonsense --org acme", 64, "no id of a key");
    place.says(&format!("key revoke {id} --org acme"), 0, "is revoked");
    place.until_answered(&secret, 401).await;
    place.says(&format!("key revoke {id} --org acme"), 1, "has no key");
    place.says("audit verify", 0, "The audit log is what was written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_say_where_a_member_may_come_from() {
    let place = Beside::new().await;
    place.says("member list --org acme", 0, "10.0.0.0/8 127.0.0.0/8");
    let key: Value = serde_json::from_str(&place.says(&format!("{CREATE} ada@acme.test --scopes read --json"), 0, "tgk_")).expect("JSON");
    let secret = secret(&key);
    place.until_answered(&secret, 200).await;
    place.says(&format!("member ranges 10.0.0.0/8 {OF_ADA}"), 0, "only from 10.0.0.0/8");
    place.until_answered(&secret, 403).await;
    place.says(&format!("member ranges anywhere {OF_ADA}"), 0, "from anywhere");
    place.until_answered(&secret, 200).await;
    place.says(&format!("member ranges 10.1.0.0/8 {OF_ADA}"), 64, "write 10.0.0.0/8");
    place.says("member import members.csv", 0, "addresses - -> 10.0.0.0/8;127.0.0.0/8");
    std::fs::write(place.process.folder().join("odd.csv"), "org,email,addresses\nacme,ada@acme.test,10.1.0.0/8\n").expect("a file");
    place.says("member import odd.csv", 1, "line 2: \"10.1.0.0/8\"");
}
