//! `tollgate observe`: limits refuse nobody for a while, on every replica, over restarts; identity goes on being judged.

use std::process::Command;

use serde_json::Value;
use tollgate::db::Database;
use tollgate::identity::directory::observing::{EVERYWHERE, Observing};
use tollgate::records::StoredAudit;
use tollgate::scripted::client::{ChatBody, ChatClient, plain_http};
use tollgate::scripted::{Options, ScriptedLibreChat, User};

use crate::records::{Place, noon};
use crate::support::gateway::{Setup, metrics_at, value_of, wait_for};
use crate::support::postgres::Postgres;
use crate::support::process::TollgateProcess;
use crate::support::redis::RedisServer;

/// Once a day, and only for models that have a price.
const STRICT: &str = "[[limits]]\napplies_to = 'member'\nmessages_per_day = 1\n[prices]\nunknown_model = 'reject'\n\
                      [generations]\nfollow_after_ms = 100\n";

const HELLO: &str = "Hello [[tokens=3 in=10 out=5]]";

struct Site {
    librechat: ScriptedLibreChat,
    database: Database,
    replicas: [TollgateProcess; 2],
    _redis: RedisServer,
    _postgres: std::sync::Arc<Postgres>,
}

impl Site {
    async fn new() -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.expect("PostgreSQL");
        let (url, redis) = (postgres.database(), RedisServer::start());
        let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
        let store_keys = "timeout_ms = 5000".to_owned();
        let setup = Setup { records: url.clone(), store: redis.url(), store_keys, ..Setup::with(STRICT) };
        let text = setup.text(&librechat, &tempfile::tempdir().expect("a folder"));
        let (one, other) = tokio::join!(TollgateProcess::start(&text), TollgateProcess::start(&text));
        let database = Database::open(&url).expect("the database");
        Self { librechat, database, replicas: [one, other], _redis: redis, _postgres: postgres }
    }

    fn client(&self, replica: usize, email: &str) -> ChatClient {
        ChatClient::new(&self.replicas[replica].url(), &self.librechat.token(email))
    }

    /// What a chat through a replica is answered with.
    async fn status(&self, replica: usize, email: &str) -> u16 {
        let body = ChatBody::new(HELLO).with("model", "gpt-5-mini");
        self.client(replica, email).start(&body).await.expect("an answer").status.as_u16()
    }

    /// Waits until both replicas answer a chat of this person so.
    async fn both_answer(&self, email: &str, status: u16) {
        for replica in [0, 1] {
            wait_for(&format!("replica {replica} to answer {status}"), || async {
                (self.status(replica, email).await == status).then_some(())
            })
            .await;
        }
    }

    /// Runs the program beside the first replica.
    fn tollgate(&self, arguments: &[&str]) -> String {
        let folder = self.replicas[0].folder();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments).args(["--config", "tollgate.toml"]).current_dir(folder).env_clear();
        let ran = command.output().expect("the program starts");
        let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "tollgate {arguments:?} ended with {:?}:\n{said}", ran.status);
        said
    }

    /// The mode of the only limit that a member meets, as `limits explain` tells it, and what is left of it.
    fn explained(&self, email: &str) -> (String, u64) {
        let member = User::new(email).id;
        let told: Value =
            serde_json::from_str(&self.tollgate(&["limits", "explain", "--org", "acme", "--member", &member, "--json"])).expect("JSON");
        let limit = &told["limits"][0];
        (limit["mode"].as_str().expect("a mode").to_owned(), limit["left"].as_u64().expect("an amount"))
    }

    async fn readiness(&self, replica: usize) -> Value {
        let address = format!("http://{}/readyz", self.replicas[replica].metrics);
        let answer = plain_http().get(address).send().await.expect("an answer");
        serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
    }

    async fn audited(&self, action: &str) -> Vec<StoredAudit> {
        let rows = self.database.records().audit_rows(10_000).await.expect("readable rows");
        rows.into_iter().filter(|row| row.action == action).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_refuse_nobody_on_any_replica_until_they_are_enforced_again() {
    let mut site = Site::new().await;
    assert_eq!(site.status(0, "ann@acme.test").await, 200);
    site.both_answer("ann@acme.test", 429).await;
    assert_eq!(site.explained("ann@acme.test"), ("enforce".to_owned(), 0));

    let said = site.tollgate(&["observe", "on"]);
    assert!(said.contains("every org") && said.contains("refuse nobody"), "{said}");
    site.both_answer("ann@acme.test", 200).await;
    let me = site.client(1, "ann@acme.test").get("/_tollgate/me").await.expect("an answer").json();
    assert_eq!((&me["observed"], &me["limits"][0]["mode"]), (&true.into(), &"shadow".into()), "{me}");
    assert_eq!(site.explained("ann@acme.test"), ("shadow".to_owned(), 0), "what would have been refused is let through");
    assert_eq!(site.readiness(1).await["observing"][0]["by"], "command line");
    let metrics = wait_for("the metric", || async {
        let metrics = metrics_at(site.replicas[1].metrics).await;
        (value_of(&metrics, r#"tollgate_observing{scope="everyone"}"#) > 0.5).then_some(metrics)
    })
    .await;
    let shadow = r#"tollgate_decisions_total{decision="shadow_refused",resource="messages",scope="member",window="day"}"#;
    assert!(value_of(&metrics, shadow) > 0.5, "what would have been refused is counted");
    let unpriced = ChatBody::new(HELLO).with("model", "nobodys-model");
    assert_eq!(site.client(0, "ann@acme.test").start(&unpriced).await.expect("an answer").status, 200, "a model without a price passes");

    // Who somebody is, and whether they may come in, is judged as before.
    site.tollgate(&["org", "suspend", "--org", "acme"]);
    site.both_answer("ann@acme.test", 403).await;
    site.tollgate(&["org", "resume", "--org", "acme"]);
    site.both_answer("ann@acme.test", 200).await;

    site.replicas[1].crash_and_restart().await;
    assert_eq!(site.status(1, "ann@acme.test").await, 200, "a restart does not end it");

    assert!(site.tollgate(&["observe", "list"]).contains("every org"));
    site.tollgate(&["observe", "off"]);
    site.both_answer("ann@acme.test", 429).await;
    assert_eq!(site.explained("ann@acme.test").0, "enforce");
    assert!(site.tollgate(&["observe", "list"]).contains("enforced everywhere"));
    let (on, off) = (site.audited("limits.observed").await, site.audited("limits.enforced").await);
    let told = |row: &StoredAudit| (row.category.as_str(), row.severity.as_str(), row.actor_name.as_deref() == Some("command line"));
    assert_eq!(on.iter().map(told).collect::<Vec<_>>(), [("ADMIN", "WARNING", true)]);
    assert_eq!(off.iter().map(told).collect::<Vec<_>>(), [("ADMIN", "INFO", true)]);
    let log = site.replicas[0].log();
    assert!(log.contains("limits are observed") && log.contains("limits are enforced again"), "{log}");

    // One org by itself, which the end of all observing ends too.
    site.tollgate(&["observe", "on", "--org", "acme"]);
    site.both_answer("ann@acme.test", 200).await;
    assert_eq!(site.explained("ann@acme.test").0, "shadow");
    site.tollgate(&["observe", "off"]);
    site.both_answer("ann@acme.test", 429).await;
}

#[tokio::test]
async fn what_is_observed_is_kept_on_both_databases_alike() {
    for place in [Place::sqlite().await, Place::postgres().await] {
        let store = place.database.directory();
        let change = |org: &str, is_on: bool| Observing { org: org.into(), is_on, since: noon(), changed_by: "ann".into() };
        let before = store.changes(-1).await.expect("changes").revision;
        store.put_observing(&[change(EVERYWHERE, true), change("acme", true)]).await.expect("a change");
        let mut told = store.changes(before).await.expect("changes");
        told.observing.sort_by(|one, other| one.org.cmp(&other.org));
        assert_eq!(told.observing, [change(EVERYWHERE, true), change("acme", true)]);
        let later = Observing { since: noon() + jiff::SignedDuration::from_hours(1), ..change("acme", true) };
        store.put_observing(&[later, change(EVERYWHERE, false)]).await.expect("a change");
        let told = store.changes(told.revision).await.expect("changes");
        assert_eq!(told.observing, [change(EVERYWHERE, false)], "what is on already goes on as it began");
    }
}
