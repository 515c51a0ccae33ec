//! The disk of the journal is full: what that means for chats is as configured, it is said loudly, and it ends by itself.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tollgate::db::Database;
use tollgate::records::{RecordStore, Severity, StoredAudit};
use tollgate::scripted::client::{Answer, ChatBody, ChatClient};
use tollgate::scripted::{Options, ScriptedLibreChat};

use super::{CONFIG, Crowd, every_answer_is_charged_once, in_soak, some_more};
use crate::support::gateway::{Setup, metrics_at, value_of, wait_for};
use crate::support::process::TollgateProcess;

/// Becomes its arguments, in a folder whose `small` is a disk of its own: of 8 MB, and nobody else's.
const ON_A_SMALL_DISK: &str = "mkdir -p small && mount -t tmpfs -o size=8m none small && exec \"$@\"";

/// How a disk of one's own is had, by root or with user namespaces; nothing, and a word on standard error, where neither is
/// allowed.
fn starter() -> Option<Vec<String>> {
    let ways: [&[&str]; 2] = [&["unshare", "--mount"], &["unshare", "--user", "--map-root-user", "--mount"]];
    let works = |way: &&[&str]| {
        let tried = Command::new(way[0]).args(&way[1..]).args(["sh", "-c", "mount -t tmpfs -o size=1m none /tmp"]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let Some(way) = ways.into_iter().find(works) else {
        eprintln!("SKIPPED: this place may not mount a small disk (unshare, mount), so that this test did not run");
        return None;
    };
    Some(way.iter().chain(&["sh", "-c", ON_A_SMALL_DISK, "sh"]).map(|word| (*word).to_owned()).collect())
}

struct Place {
    librechat: ScriptedLibreChat,
    process: TollgateProcess,
    records: Arc<dyn RecordStore>,
    ballast: PathBuf,
}

impl Place {
    async fn new(starter: &[String], when_full: &str) -> Self {
        let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        // The other keys of `[records]` follow the first.
        let records = format!("sqlite:rows.db\"\njournal = \"small/journal.db\"\nwhen_full = \"{when_full}");
        let setup = Setup { records, ..Setup::with(CONFIG) };
        let process = TollgateProcess::start_by(starter, &setup.text(&librechat, &folder)).await;
        let database = Database::open(&format!("sqlite:{}", process.folder().join("rows.db").display())).expect("the database");
        // As that process sees its disk.
        let ballast = PathBuf::from(format!("/proc/{}/root{}/small/ballast", process.id(), process.folder().display()));
        Self { librechat, process, records: database.records(), ballast }
    }

    fn fill_the_disk(&self) {
        let mut ballast = std::fs::File::create(&self.ballast).expect("a file on the small disk");
        while ballast.write_all(&[b'x'; 4096]).is_ok() {}
    }

    async fn start(&self) -> Answer {
        let ada = ChatClient::new(&self.process.url(), &self.librechat.token("ada@acme.test"));
        ada.start(&ChatBody::new("Is there room? [[tokens=3 delay=5 in=100 out=57]]")).await.expect("an answer")
    }

    async fn metric(&self, name: &str) -> f64 {
        value_of(&metrics_at(self.process.metrics).await, name)
    }

    async fn is_ready(&self) -> bool {
        reqwest::get(format!("http://{}/readyz", self.process.metrics)).await.is_ok_and(|answer| answer.status() == 200)
    }

    /// The audit rows of this action, once there is one.
    async fn said(&self, action: &str) -> StoredAudit {
        wait_for(&format!("a row of {action}\n{}", self.process.log()), || async {
            let rows = self.records.audit_rows(100_000).await.ok()?;
            rows.into_iter().find(|row| row.action == action)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_chats_until_there_is_room() {
    let Some(starter) = starter() else { return };
    let place = Place::new(&starter, "refuse").await;
    let crowd = Crowd::talks(&place.librechat, &[place.process.url()]);
    for _ in 0..in_soak(1, 10) {
        some_more(&place.librechat, 20).await;
        place.fill_the_disk();
        let refused = wait_for("chats to be refused", || async {
            let answer = place.start().await;
            (answer.status != 200).then_some(answer)
        })
        .await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.text.contains("Messages cannot be recorded right now"), "whoever is refused reads why: {refused:?}");
        wait_for("readiness to say so", || async { (!place.is_ready().await).then_some(()) }).await;
        assert!(place.metric("tollgate_journal_up").await < 0.5, "and a metric");
        assert!(place.process.log().contains("the journal cannot be written"), "and the log");
        std::fs::remove_file(&place.ballast).expect("room again");
        wait_for("chats to go on", || async { (place.start().await.status == 200 && place.is_ready().await).then_some(()) }).await;
    }
    crowd.falls_silent(&place.librechat).await;
    let full = place.said("journal.full").await;
    assert_eq!((full.severity, full.outcome.as_str()), (Severity::Critical, "failure"), "{full:?}");
    let room = place.said("journal.has_room").await;
    let detail = room.detail.expect("what it cost");
    assert!(detail["starts_refused"].as_u64() > Some(0) && detail["usage_rows_lost"] == 0, "{detail}");
    every_answer_is_charged_once(&place.librechat, &*place.records, &place.process.url(), || place.process.log()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_lets_chats_go_on_unrecorded_where_that_is_wanted() {
    let Some(starter) = starter() else { return };
    let place = Place::new(&starter, "drop").await;
    assert_eq!(place.start().await.status, 200);
    place.fill_the_disk();
    wait_for("chats to go on unrecorded", || async {
        assert_eq!(place.start().await.status, 200, "nobody is refused");
        (place.metric("tollgate_unrecorded_starts_total").await > 1.0).then_some(())
    })
    .await;
    assert!(place.is_ready().await, "it goes on");
    std::fs::remove_file(&place.ballast).expect("room again");
    let room = place.said("journal.has_room").await;
    assert_eq!(room.severity, Severity::Critical, "what was lost is said loudly: {room:?}");
    assert!(room.detail.expect("what it cost")["starts_unrecorded"].as_u64() > Some(1));
    let unrecorded = place.metric("tollgate_unrecorded_starts_total").await;
    assert_eq!(place.start().await.status, 200);
    assert!((place.metric("tollgate_unrecorded_starts_total").await - unrecorded).abs() < 0.5, "and what comes now is recorded again");
}
