//! A process that is killed at any moment, under load, and started again: every answer that LibreChat gave is charged once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tollgate::db::Database;
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::scripted::{Options, ScriptedLibreChat};

use crate::support::gateway::{Setup, wait_for};
use crate::support::process::TollgateProcess;

/// How often it is killed; `TOLLGATE_SOAK=1` makes it the fifty times of a long run.
fn crashes() -> u64 {
    if std::env::var_os("TOLLGATE_SOAK").is_some() { 50 } else { 5 }
}

const MEMBERS: usize = 4;

/// People who go on talking whatever happens to the gateway.
fn talk(url: &str, librechat: &ScriptedLibreChat, stopped: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<()>> {
    let member = |number: usize| {
        let client = ChatClient::new(url, &librechat.token(&format!("member{number}@acme.test")));
        let stopped = Arc::clone(stopped);
        tokio::spawn(async move {
            let mut said = 0;
            while !stopped.load(Ordering::Relaxed) {
                said += 1;
                let text = format!("Member {number} says {said} [[tokens=3 delay=5 in=100 out=57]]");
                // It may be gone just now.
                let _ = client.start(&ChatBody::new(&text)).await;
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        })
    };
    (0..MEMBERS).map(member).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_it_charges_every_answer_once() {
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[[limits]]\napplies_to = 'member'\ntokens_per_day = 100_000_000\n[generations]\nfollow_after_ms = 100\n";
    let setup = Setup { records: "sqlite:rows.db".to_owned(), ..Setup::with(config) };
    let mut process = TollgateProcess::start(&setup.text(&librechat, &folder)).await;
    let stopped = Arc::new(AtomicBool::new(false));
    let members = talk(&process.url(), &librechat, &stopped);
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..crashes() {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(30 + (chance >> 33) % 200)).await;
        process.crash_and_restart().await;
    }
    stopped.store(true, Ordering::Relaxed);
    for member in members {
        member.await.expect("a member");
    }
    let ran = librechat.runs().len();
    assert!(ran > 10, "there was a load: {ran} answers");
    librechat.wait_for_ended(ran).await.expect("every answer ends");
    every_answer_is_charged_once(&librechat, &process).await;
}

async fn every_answer_is_charged_once(librechat: &ScriptedLibreChat, process: &TollgateProcess) {
    let database = Database::open(&format!("sqlite:{}", process.folder().join("rows.db").display())).expect("the database");
    let records = database.records();
    let runs = librechat.runs();
    let charged = wait_for("every answer to be charged", || async {
        let rows = records.usage_rows(100_000).await.expect("readable rows");
        let mut charged: HashMap<String, Vec<u64>> = HashMap::new();
        for row in rows {
            charged.entry(row.conversation_id.unwrap_or_default()).or_default().push(row.total_tokens);
        }
        runs.iter().all(|run| charged.contains_key(&run.conversation_id)).then_some(charged)
    })
    .await;
    for run in &runs {
        assert_eq!(charged[&run.conversation_id], [157], "one row for {}, with what was used\n{}", run.text, process.log());
    }
    assert_eq!(charged.len(), runs.len(), "and nothing is charged that LibreChat did not answer\n{}", process.log());
    for number in 0..MEMBERS {
        let client = ChatClient::new(&process.url(), &librechat.token(&format!("member{number}@acme.test")));
        let theirs = runs.iter().filter(|run| run.text.starts_with(&format!("Member {number} "))).count() as u64;
        wait_for("the counters to be what the rows say", || async {
            let me = client.get("/_tollgate/me").await.ok()?.json();
            let limit = &me["limits"][0];
            (limit["used"] == theirs * 157 && limit["held"] == 0).then_some(())
        })
        .await;
    }
}
