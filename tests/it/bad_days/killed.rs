//! A process that is killed at any moment, under load, and started again.

use std::collections::BTreeSet;
use std::time::Duration;

use tollgate::db::Database;
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::scripted::{Options, ScriptedLibreChat};

use super::{CONFIG, Crowd, every_answer_is_charged_once, in_soak};
use crate::support::gateway::{Setup, wait_for};
use crate::support::process::TollgateProcess;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_found_behind_all_that_its_person_began_since() {
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { records: "sqlite:rows.db".to_owned(), ..Setup::with(CONFIG) };
    let mut process = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
    let token = librechat.token("ada@acme.test");
    librechat.hold_answers(true);
    let (url, theirs) = (process.url(), token.clone());
    let asked = tokio::spawn(async move { ChatClient::new(&url, &theirs).start(&ChatBody::new("The lost one [[in=100 out=57]]")).await });
    librechat.wait_for_runs(1).await.expect("LibreChat runs it");
    process.kill();
    asked.await.expect("a task").expect_err("its answer is never heard");
    librechat.hold_answers(false);
    // More than LibreChat is asked for at first.
    let directly = ChatClient::new(&librechat.url(), &token);
    for _ in 0..120 {
        let answer = directly.start(&ChatBody::new("Another [[in=1 out=1]]")).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }
    librechat.wait_for_ended(121).await.expect("all of them end");
    process.crash_and_restart().await;
    let database = Database::open(&format!("sqlite:{}", process.folder().join("rows.db").display())).expect("the database");
    let records = database.records();
    let rows = wait_for("its row", || async { Some(records.usage_rows(10).await.ok()?).filter(|rows| !rows.is_empty()) }).await;
    assert_eq!((rows.len(), rows[0].input_tokens, rows[0].output_tokens, &*rows[0].status), (1, 100, 57, "completed"), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_said_the_same_again_is_not_charged_for_what_was_known_to_run() {
    const HELLO: &str = "Hello [[tokens=40 delay=50 in=100 out=57]]";
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { records: "sqlite:rows.db".to_owned(), ..Setup::with(CONFIG) };
    let mut process = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
    let ada = ChatClient::new(&process.url(), &librechat.token("ada@acme.test"));
    for _ in 0..3 {
        assert_eq!(ada.start(&ChatBody::new(HELLO)).await.expect("an answer").status, 200);
    }
    // It follows them once they stand in the journal with their conversations.
    let follows = || librechat.requests().iter().filter(|request| request.line().starts_with("GET /api/agents/chat/stream/")).count();
    wait_for("the three to be followed", || async { (follows() == 3).then_some(()) }).await;
    librechat.hold_answers(true);
    let lost = tokio::spawn(async move { ada.start(&ChatBody::new(HELLO)).await });
    librechat.wait_for_runs(4).await.expect("LibreChat runs it");
    process.kill();
    lost.await.expect("a task").expect_err("its answer is never heard");
    librechat.hold_answers(false);
    process.crash_and_restart().await;
    let database = Database::open(&format!("sqlite:{}", process.folder().join("rows.db").display())).expect("the database");
    let records = database.records();
    let rows = wait_for("four rows", || async { Some(records.usage_rows(10).await.ok()?).filter(|rows| rows.len() == 4) }).await;
    let conversations: BTreeSet<_> = rows.iter().map(|row| row.conversation_id.clone()).collect();
    let runs: BTreeSet<_> = librechat.runs().into_iter().map(|run| Some(run.conversation_id)).collect();
    assert_eq!(conversations, runs, "each run is charged once:\n{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_charges_every_answer_once() {
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = Setup { records: "sqlite:rows.db".to_owned(), ..Setup::with(CONFIG) };
    let mut process = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
    let crowd = Crowd::talks(&librechat, &[process.url()]);
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let kills = in_soak(5, 50);
    for _ in 0..kills {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(30 + (chance >> 33) % 200)).await;
        process.crash_and_restart().await;
    }
    crowd.falls_silent(&librechat).await;
    let database = Database::open(&format!("sqlite:{}", process.folder().join("rows.db").display())).expect("the database");
    every_answer_is_charged_once(&librechat, &*database.records(), &process.url(), kills, || process.log()).await;
}
