//! Bad days, with real servers and people who go on talking: databases that stop or stall, processes that are killed, disks
//! that are full. Each time the rows equal what LibreChat answered, none is there twice, the counters equal the rows, and the
//! gateway goes on answering.
//!
//! `make soak` runs them for as long as such days last; `make test` runs the same for moments.

mod database;
mod disk;
mod killed;
mod replicas;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tollgate::records::RecordStore;
use tollgate::scripted::ScriptedLibreChat;
use tollgate::scripted::client::{ChatBody, ChatClient};

use crate::support::gateway::wait_for;

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

/// Every answer that LibreChat gave has its one row, with what it cost; nothing else has one; the sums of the days and the
/// counters, asked at `gateway`, are what the rows say. `log` is for people who look why not.
async fn every_answer_is_charged_once(librechat: &ScriptedLibreChat, records: &dyn RecordStore, gateway: &str, log: impl Fn() -> String) {
    let runs = librechat.runs();
    let charged = wait_for("every answer to be charged", || async {
        let rows = records.usage_rows(1_000_000).await.ok()?;
        let mut charged: HashMap<String, Vec<u64>> = HashMap::new();
        for row in rows {
            charged.entry(row.conversation_id.unwrap_or_default()).or_default().push(row.total_tokens);
        }
        runs.iter().all(|run| charged.contains_key(&run.conversation_id)).then_some(charged)
    })
    .await;
    for run in &runs {
        assert_eq!(charged[&run.conversation_id], [TOKENS], "one row for {}, with what was used\n{}", run.text, log());
    }
    assert_eq!(charged.len(), runs.len(), "and nothing is charged that LibreChat did not answer\n{}", log());
    for number in 0..MEMBERS {
        let client = ChatClient::new(gateway, &librechat.token(&format!("member{number}@acme.test")));
        let theirs = runs.iter().filter(|run| run.text.starts_with(&format!("Member {number} "))).count() as u64;
        wait_for("the counters to be what the rows say", || async {
            let me = client.get("/_tollgate/me").await.ok()?.json();
            let limit = &me["limits"][0];
            (limit["used"] == theirs * TOKENS && limit["held"] == 0).then_some(())
        })
        .await;
    }
}
