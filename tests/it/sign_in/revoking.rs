//! Sessions that end before their time: at once, on every replica, in the middle of an answer too.

use std::time::Duration;

use tollgate::db::Database;
use tollgate::identity::Member;
use tollgate::identity::sessions::WhichSessions;
use tollgate::scripted::ScriptedLibreChat;
use tollgate::scripted::client::ChatBody;
use uuid::Uuid;

use super::*;
use crate::support::postgres::Postgres;
use crate::support::process::TollgateProcess;
use crate::support::redis::RedisServer;

const LONG: &str = "A long one [[tokens=2000 delay=20 in=100 out=2000]]";

/// Two gateways as real processes on one PostgreSQL and one Redis.
struct Site {
    librechat: ScriptedLibreChat,
    config: tempfile::TempDir,
    gateways: [TollgateProcess; 2],
    _redis: RedisServer,
    _postgres: std::sync::Arc<Postgres>,
}

impl Site {
    async fn new() -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.expect("PostgreSQL");
        let (url, redis) = (postgres.database(), RedisServer::start());
        let librechat = ScriptedLibreChat::start(empty_librechat()).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let store_keys = "timeout_ms = 5000".to_owned();
        let setup = Setup { records: url, store: redis.url(), store_keys, ..setup() };
        let text = setup.text(&librechat, &folder);
        std::fs::write(folder.path().join("tollgate.toml"), &text).expect("a file");
        let (one, other) = tokio::join!(TollgateProcess::start(&text), TollgateProcess::start(&text));
        Self { librechat, config: folder, gateways: [one, other], _redis: redis, _postgres: postgres }
    }

    /// Runs the command line on the same configuration: what it said.
    async fn command(&self, arguments: &[&str]) -> String {
        let file = self.config.path().join("tollgate.toml");
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments).arg("--config").arg(file);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_revoked_ends_its_answers_and_tokens_on_every_replica() {
    let site = Site::new().await;
    let [one, other] = [0, 1].map(|gateway: usize| site.gateways[gateway].url());
    let cookie = sign_in(&one, &claims("ann")).await;
    let second = sign_in(&other, &claims("ann")).await;
    let token = refresh(&other, &cookie).await.expect("any replica knows the session");
    let (ann_one, ann_other) = (ChatClient::new(&one, &token), ChatClient::new(&other, &token));
    let started = ann_one.start(&ChatBody::new(LONG)).await.expect("an answer").json();
    let conversation = started["conversationId"].as_str().expect("a conversation").to_owned();
    let mut shown = ann_other.listen(&conversation, started["generationCreatedAt"].as_i64()).await.expect("a stream");
    shown.until("on_message_delta").await.expect("its first words");

    let session = payload(&token)["sid"].as_str().expect("a session").to_owned();
    let listed = site.command(&["session", "list", "--org", "acme"]).await;
    assert!(listed.contains(&session) && listed.contains("ann@acme.test"), "{listed}");
    let said = site.command(&["session", "revoke", "--org", "acme", "--id", &session]).await;
    assert!(said.starts_with("1 session ended"), "{said}");

    let rest = tokio::time::timeout(Duration::from_secs(10), shown.all()).await.expect("the stream ends").expect("frames");
    let last = format!("{:?}", rest.last());
    assert!(last.contains("You were signed out"), "its last frame is the sentence: {last}");
    site.librechat.wait_for_ended(1).await.expect("the run is stopped, too");
    for (base, client) in [(&one, &ann_one), (&other, &ann_other)] {
        wait_for("the token to be refused", || async { (client.get("/api/user").await.ok()?.status == 401).then_some(()) }).await;
        assert_eq!(refresh(base, &cookie).await, None);
        assert!(refresh(base, &second).await.is_some(), "their other session goes on");
    }
    let said = site.command(&["session", "revoke", "--org", "acme", "--member", "ann@acme.test"]).await;
    assert!(said.starts_with("1 session ended"), "{said}");
    assert_eq!(refresh(&one, &second).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_an_orgs_people_are_signed_out_at_once() {
    let gateway = setup().start().await;
    let base = gateway.url();
    let (ann, bob) = (sign_in(&base, &claims("ann")).await, sign_in(&base, &of_org("beta", claims("bob"))).await);
    let app = &gateway.running.app;
    let sessions =
        Database::open(&format!("sqlite:{}", gateway.folder.path().join("tollgate.db").display())).expect("a database").sessions();
    let ended = sessions.revoke(&WhichSessions::OfOrg("acme".into()), app.clock.now()).await.expect("an answer");
    assert_eq!(ended.len(), 1);
    assert_eq!(refresh(&base, &ann).await, None);
    assert!(refresh(&base, &bob).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_counts_at_once_and_a_move_to_another_org_ends_the_session() {
    let gateway = setup().start().await;
    let (base, app) = (gateway.url(), &gateway.running.app);
    let cookie = sign_in(&base, &claims("ann")).await;
    let token = refresh(&base, &cookie).await.expect("a token");
    let me = async || ChatClient::new(&base, &token).get("/_tollgate/me").await.expect("an answer");
    assert_eq!(me().await.json()["role"], "user");
    let change = async |change: &dyn Fn(Member) -> Member| {
        let member = app.directory.by_external_id("acme", "app|ann").expect("a member");
        let changed = change(Member::clone(&member));
        app.orgs_and_members.put_members(&[changed], app.clock.now()).await.expect("a change");
    };
    change(&|member| Member { role: "admin".into(), ..member }).await;
    wait_for("the new role", || async { (me().await.json()["role"] == "admin").then_some(()) }).await;
    change(&|member| Member { org: "beta".into(), ..member }).await;
    wait_for("the old token to be refused", || async { (me().await.status == 401).then_some(()) }).await;
    assert_eq!(refresh(&base, &cookie).await, None, "the session was of the old org");
    // The application says so, too, from now on.
    let cookie = sign_in(&base, &of_org("beta", claims("ann"))).await;
    let token = refresh(&base, &cookie).await.expect("a token");
    assert_eq!((payload(&token)["org"].as_str(), registered(&gateway).len()), (Some("beta"), 2), "with the same account");
    assert_ne!(Uuid::parse_str(payload(&token)["sid"].as_str().expect("a session")).ok(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_looks_on_and_a_move_end_answers_with_a_sentence() {
    let gateway = setup().start().await;
    let (base, app) = (gateway.url(), &gateway.running.app);
    let cookie = sign_in(&base, &claims("ann")).await;
    for (sentence, role, org) in
        [("You can read here, but not send messages", "viewer", "acme"), ("not valid for this organization", "user", "beta")]
    {
        let token = refresh(&base, &cookie).await.expect("a token");
        let ann = ChatClient::new(&base, &token);
        let started = ann.start(&ChatBody::new(LONG)).await.expect("an answer").json();
        let conversation = started["conversationId"].as_str().expect("a conversation").to_owned();
        let mut shown = ann.listen(&conversation, started["generationCreatedAt"].as_i64()).await.expect("a stream");
        shown.until("on_message_delta").await.expect("its first words");
        let member = app.directory.by_external_id("acme", "app|ann").expect("a member");
        let changed = Member { role: role.into(), org: org.into(), ..Member::clone(&member) };
        app.orgs_and_members.put_members(&[changed], app.clock.now()).await.expect("a change");
        let rest = tokio::time::timeout(Duration::from_secs(10), shown.all()).await.expect("the stream ends").expect("frames");
        let last = format!("{:?}", rest.last());
        assert!(last.contains(sentence), "its last frame is the sentence: {last}");
        if let Some(member) = app.directory.by_external_id("acme", "app|ann") {
            let refused = ann.start(&ChatBody::new("Hello [[in=10 out=5]]")).await.expect("an answer");
            assert!(refused.text.contains(sentence), "viewers start nothing: {}", refused.text);
            let user = Member { role: "user".into(), ..Member::clone(&member) };
            app.orgs_and_members.put_members(&[user], app.clock.now()).await.expect("a change");
            wait_for("the old role", || async { (!app.directory.member(member.id)?.is_viewer()).then_some(()) }).await;
        }
    }
    gateway.librechat.wait_for_ended(2).await.expect("the runs are stopped, too");
}
