//! A key that is made or revoked through one replica is so through every other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tollgate::scripted::{Options, ScriptedLibreChat};

use super::{ask, bearer, key_of, secret, status_at};
use crate::support::gateway::{Setup, TestGateway, wait_for};
use crate::support::postgres::Postgres;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_know_of_a_key_at_once_and_of_its_end_within_a_second() {
    let postgres = tokio::task::spawn_blocking(Postgres::shared).await.expect("PostgreSQL");
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let setup = Setup { records: postgres.database(), ..Setup::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let other = setup.gateway(&librechat, &folder);
    let one: TestGateway = setup.in_front_of(librechat);
    let through_other = format!("http://{}", other.public);
    for _ in 0..3 {
        let key = key_of(&one, "ada@acme.test", json!({})).await;
        assert_eq!(status_at(&through_other, "/api/convos", &secret(&key)).await, 200, "the other has never seen it");
        let id = key["id"].as_str().expect("an id");
        let revoked = ask(&one, &format!("DELETE /_tollgate/keys/{id}"), &bearer(&one.token("ada@acme.test")), "").await;
        assert_eq!(revoked.status, 204);
        assert_eq!(status_at(&one.url(), "/api/convos", &secret(&key)).await, 401);
        let ended = wait_for("the other to hear of it", || async {
            (status_at(&through_other, "/api/convos", &secret(&key)).await == 401).then_some(())
        });
        tokio::time::timeout(Duration::from_secs(5), ended).await.expect("soon");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_known_keys_go_on_and_nobody_judges_others() {
    let server = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL"));
    let gateway = Setup { records: server.database(), ..Setup::default() }.start().await;
    let key = secret(&key_of(&gateway, "ada@acme.test", json!({})).await);
    let invented = format!("tgk_{}", "A".repeat(43));
    assert_eq!(status_at(&gateway.url(), "/api/convos", &invented).await, 401);
    let crashed = server.clone();
    tokio::task::spawn_blocking(move || crashed.crash()).await.expect("an outage");
    assert_eq!(status_at(&gateway.url(), "/api/convos", &key).await, 200);
    let answer = ask(&gateway, "GET /api/convos", &bearer(&invented), "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("60")), "{}", answer.text());
    let made = ask(&gateway, "POST /_tollgate/keys", &bearer(&gateway.token("ada@acme.test")), r#"{"name":"a","scopes":["read"]}"#).await;
    assert_eq!(made.status, 503, "{}", made.text());
    let agent_key = ask(&gateway, "POST /api/api-keys", &bearer(&gateway.token("ada@acme.test")), r#"{"name":"CI"}"#).await.json();
    let agent_key = agent_key["key"].as_str().expect("a key").to_owned();
    assert_eq!(status_at(&gateway.url(), "/api/agents/v1/models", &agent_key).await, 200, "whose it is is known here");
    let resumed = server.clone();
    tokio::task::spawn_blocking(move || resumed.resume()).await.expect("the end of the outage");
    wait_for("the invented key to be nobody's again", || async {
        (status_at(&gateway.url(), "/api/convos", &invented).await == 401).then_some(())
    })
    .await;
    wait_for("the database to know whose LibreChat's key is", || async {
        let changes = gateway.running.app.orgs_and_members.changes(-1).await.ok()?;
        (changes.agent_keys.len() == 1).then_some(())
    })
    .await;
}
