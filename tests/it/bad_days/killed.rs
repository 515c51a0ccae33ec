//! A process that is killed at any moment, under load, and started again.

use std::time::Duration;

use tollgate::db::Database;
use tollgate::scripted::{Options, ScriptedLibreChat};

use super::{CONFIG, Crowd, every_answer_is_charged_once, in_soak};
use crate::support::gateway::Setup;
use crate::support::process::TollgateProcess;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_charges_every_answer_once() {
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { records: "sqlite:rows.db".to_owned(), ..Setup::with(CONFIG) };
    let mut process = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
    let crowd = Crowd::talks(&librechat, &[process.url()]);
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..in_soak(5, 50) {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(30 + (chance >> 33) % 200)).await;
        process.crash_and_restart().await;
    }
    crowd.falls_silent(&librechat).await;
    let database = Database::open(&format!("sqlite:{}", process.folder().join("rows.db").display())).expect("the database");
    every_answer_is_charged_once(&librechat, &*database.records(), &process.url(), || process.log()).await;
}
