//! Bad days, with real servers and people who go on talking: databases that stop or stall, processes that are killed, disks
//! that are full. Each time the rows equal what LibreChat answered, none is there twice, the counters equal the rows, and the
//! gateway goes on answering.
//!
//! `make soak` runs them for as long as such days last; `make test` runs the same for moments.

mod database;
mod disk;
mod killed;
mod replicas;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tollgate::records::RecordStore;
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::scripted::{ScriptedLibreChat, User};

use crate::support::gateway::{wait_for, wait_or_show};

/// What every answer costs.
const TOKENS: u64 = 157;

const MEMBERS: usize = 4;

/// Everything that happens here happens quickly, and everyone has room.
const CONFIG: &str = "
    [[limits]]
    applies_to = 'member'
    tokens_per_day = 100_000_000
    [generations]
    lease_seconds = 1
    follow_after_ms = 100
";

/// One of two values: for `make test`, and for `make soak`.
fn in_soak<T>(short: T, long: T) -> T {
    if std::env::var_os("TOLLGATE_SOAK").is_some() { long } else { short }
}

/// How long an outage lasts.
fn outage() -> Duration {
    in_soak(Duration::from_secs(3), Duration::from_mins(1))
}

/// People who go on talking, whatever happens to the gateways that they take turns with.
struct Crowd {
    stopped: Arc<AtomicBool>,
    members: Vec<JoinHandle<()>>,
}

impl Crowd {
    fn talks(librechat: &ScriptedLibreChat, gateways: &[String]) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let member = |number: usize| {
            let token = librechat.token(&format!("member{number}@acme.test"));
            let clients: Vec<ChatClient> = gateways.iter().map(|url| ChatClient::new(url, &token)).collect();
            let stopped = Arc::clone(&stopped);
            tokio::spawn(async move {
                for (said, client) in clients.iter().cycle().enumerate() {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    let text = format!("Member {number} says {said} [[tokens=3 delay=5 in=100 out=57]]");
                    // It may be gone just now.
                    let _ = client.start(&ChatBody::new(&text)).await;
                    tokio::time::sleep(Duration::from_millis(15)).await;
                }
            })
        };
        Self { members: (0..MEMBERS).map(member).collect(), stopped }
    }

    /// Nobody talks any more, and every answer has ended.
    async fn falls_silent(self, librechat: &ScriptedLibreChat) {
        self.stopped.store(true, Ordering::Relaxed);
        for member in self.members {
            member.await.expect("a member");
        }
        let ran = librechat.runs().len();
        assert!(ran > 10, "there was a load: {ran} answers");
        librechat.wait_for_ended(ran).await.expect("every answer ends");
    }
}

/// Waits until LibreChat has been asked so much more.
async fn some_more(librechat: &ScriptedLibreChat, answers: usize) {
    let before = librechat.runs().len();
    wait_for("people to be answered", || async { (librechat.runs().len() >= before + answers).then_some(()) }).await;
}

/// Every answer that LibreChat gave has its one row, with what it cost; nothing else has one; the counters, asked at
/// `gateway`, are what the rows say. `log` is for people who look why not.
///
/// A start whose replica was killed between "forwarded" and the first byte never arrived, which nobody can tell from
/// outside: it is charged its estimate (docs/decisions/0004), in a row without a conversation. `kills` is how often that may
/// have been.
async fn every_answer_is_charged_once(
    librechat: &ScriptedLibreChat,
    records: &dyn RecordStore,
    gateway: &str,
    kills: usize,
    log: impl Fn() -> String,
) {
    let runs = librechat.runs();
    let rows = wait_or_show("every answer to be charged", || async {
        let rows = records.usage_rows(1_000_000).await.map_err(|error| error.to_string())?;
        let charged: HashSet<&str> = rows.iter().filter_map(|row| row.conversation_id.as_deref()).collect();
        let missing: Vec<_> = runs.iter().filter(|run| !charged.contains(&*run.conversation_id)).collect();
        let nowhere: Vec<_> = rows.iter().filter(|row| row.conversation_id.is_none()).collect();
        if missing.is_empty() { Ok(rows.clone()) } else { Err(format!("missing: {missing:?}\nof no conversation: {nowhere:?}\n{}", log())) }
    })
    .await;
    let mut charged: HashMap<&str, Vec<u64>> = HashMap::new();
    for row in &rows {
        charged.entry(row.conversation_id.as_deref().unwrap_or_default()).or_default().push(row.total_tokens);
    }
    let unseen = charged.remove("").unwrap_or_default().len();
    assert!(unseen <= kills * MEMBERS, "{unseen} starts are charged that never arrived, after {kills} kills\n{}", log());
    for run in &runs {
        assert_eq!(charged[&*run.conversation_id], [TOKENS], "one row for {}, with what was used\n{}", run.text, log());
    }
    assert_eq!(charged.len(), runs.len(), "and nothing is charged that LibreChat did not answer\n{}", log());
    for number in 0..MEMBERS {
        let email = format!("member{number}@acme.test");
        let (client, id) = (ChatClient::new(gateway, &librechat.token(&email)), User::new(&email).id);
        wait_for("the counters to be what the rows say", || async {
            let rows = records.usage_rows(1_000_000).await.ok()?;
            let theirs: u64 = rows.iter().filter(|row| *row.member_id == *id).map(|row| row.total_tokens).sum();
            let me = client.get("/_tollgate/me").await.ok()?.json();
            let limit = &me["limits"][0];
            (limit["used"] == theirs && limit["held"] == 0).then_some(())
        })
        .await;
    }
}
