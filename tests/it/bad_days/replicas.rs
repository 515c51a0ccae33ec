//! Two gateways on one database and one Redis, one of which is killed again and again.

use std::sync::Arc;
use std::time::Duration;

use tollgate::db::Database;
use tollgate::scripted::{Options, ScriptedLibreChat};

use super::{CONFIG, Crowd, every_answer_is_charged_once, in_soak, some_more};
use crate::support::gateway::Setup;
use crate::support::postgres::Postgres;
use crate::support::process::TollgateProcess;
use crate::support::redis::RedisServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_is_killed_and_every_answer_is_charged_once() {
    let server = tokio::task::spawn_blocking(Postgres::shared).await.expect("PostgreSQL");
    let (url, redis) = (server.database(), Arc::new(RedisServer::start()));
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let store_keys = "timeout_ms = 5000".to_owned();
    let setup = Setup { records: url.clone(), store: redis.url(), store_keys, ..Setup::with(CONFIG) };
    let text = setup.text(&librechat, &folder);
    let (mut one, other) = tokio::join!(TollgateProcess::start(&text), TollgateProcess::start(&text));
    let crowd = Crowd::talks(&librechat, &[one.url(), other.url()]);
    for round in 0..in_soak(3, 30) {
        some_more(&librechat, 10).await;
        tokio::time::sleep(Duration::from_millis(round * 17 % 100)).await;
        one.crash_and_restart().await;
    }
    some_more(&librechat, 10).await;
    crowd.falls_silent(&librechat).await;
    let database = Database::open(&url).expect("the database");
    let logs = || format!("{}\n---- the other:\n{}", one.log(), other.log());
    every_answer_is_charged_once(&librechat, &*database.records(), &other.url(), logs).await;
    let sum = |table: &str| server.sql(&url, &format!("SELECT SUM(total_tokens), SUM(messages) FROM {table}")).expect("sums");
    assert_eq!(sum("usage_events"), sum("usage_daily"), "the sums by day are those of the rows");
}
