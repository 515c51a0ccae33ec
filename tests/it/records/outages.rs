//! Databases that go away under load: nobody waits for them, and no row is lost or doubled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tollgate::db::Database;
use tollgate::records::{RecordStore, Recorder};

use super::{Place, audit, eventually, recorder, settle, usage};
use crate::support::postgres::Postgres;

/// Members who chat: each brings a usage row and an audit row, and waits until it is charged.
struct Load {
    recorder: Recorder,
    stopped: Arc<AtomicBool>,
    charged: Arc<AtomicU64>,
    members: Vec<tokio::task::JoinHandle<u64>>,
}

impl Load {
    fn start(recorder: &Recorder) -> Self {
        let (stopped, charged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let members = (0..50_u64)
            .map(|member| {
                let (recorder, stopped, charged) = (recorder.clone(), Arc::clone(&stopped), Arc::clone(&charged));
                tokio::spawn(async move {
                    let mut chats = 0;
                    while !stopped.load(Ordering::Relaxed) {
                        let number = member * 1_000_000 + chats;
                        recorder.record_audit(audit(number));
                        settle(&recorder, (0..4).map(|model| usage(4 * number + model))).await;
                        // People think before they write.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        charged.fetch_add(4, Ordering::Relaxed);
                        chats += 1;
                    }
                    chats
                })
            })
            .collect();
        Self { recorder: recorder.clone(), stopped, charged, members }
    }

    fn charged(&self) -> u64 {
        self.charged.load(Ordering::Relaxed)
    }

    async fn some_more(&self) {
        let before = self.charged();
        eventually("usage rows are written", || self.charged() > before + 400).await;
    }

    /// The database is away: rows wait in the journal, and nobody notices.
    async fn wait_for_it(&self) {
        eventually("the recorder notices", || self.recorder.health().failing_for.is_some()).await;
        self.some_more().await;
        let health = self.recorder.health();
        assert!(health.last_error.is_some() && health.journal.rows > 400, "an outage shows in the health: {health:?}");
        eventually("its age shows", || self.recorder.health().oldest.is_some()).await;
    }

    /// Lets the members finish and the recorder close, and compares what is there with what was said to be.
    async fn finish(self, records: &Arc<dyn RecordStore>) {
        self.stopped.store(true, Ordering::Relaxed);
        let mut chats = 0;
        for member in self.members {
            chats += member.await.expect("a member");
        }
        let left = self.recorder.close(Duration::from_secs(30)).await;
        assert_eq!(left, 0, "everything is written at the end");
        let health = self.recorder.health();
        assert_eq!(health.failing_for, None, "the outage is over: {health:?}");
        assert_eq!((health.usage_refused, health.audit_dropped), (0, 0), "nothing is refused or dropped");
        let read = records.usage_rows(u32::MAX).await.expect("reading");
        assert_eq!(read.len() as u64, 4 * chats, "no usage row is lost, none is there twice");
        let audit_rows = records.audit_rows(u32::MAX).await.expect("reading").len() as u64;
        assert_eq!(audit_rows, chats, "every audit row is there once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_crashes_twice_under_load() {
    let server = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.unwrap());
    let database = Database::open(&server.database()).unwrap();
    database.migrate().await.unwrap();
    let records = database.records();
    let folder = tempfile::tempdir().expect("a folder for the journal");
    let recorder = recorder(&records, &folder).await;
    let load = Load::start(&recorder);
    load.some_more().await;
    // Crashes flush nothing that is not in PostgreSQL's own log: this also shows that "durable" is so.
    restart(&server, || ()).await;
    load.some_more().await;
    let crashed = Arc::clone(&server);
    tokio::task::spawn_blocking(move || crashed.crash()).await.unwrap();
    load.wait_for_it().await;
    let resumed = Arc::clone(&server);
    tokio::task::spawn_blocking(move || resumed.resume()).await.unwrap();
    load.some_more().await;
    load.finish(&records).await;
}

async fn restart(server: &Arc<Postgres>, between: impl FnOnce() + Send + 'static) {
    let server = Arc::clone(server);
    let restarted = tokio::task::spawn_blocking(move || {
        server.crash();
        between();
        server.resume();
    });
    restarted.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_is_locked_by_another_under_load() {
    use sqlx::{ConnectOptions, Connection};
    let place = Place::sqlite().await;
    let records = place.database.records();
    let folder = tempfile::tempdir().expect("a folder for the journal");
    let recorder = recorder(&records, &folder).await;
    let load = Load::start(&recorder);
    load.some_more().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.file()).busy_timeout(Duration::from_secs(30));
    let mut other = options.connect().await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    load.wait_for_it().await;
    lock.rollback().await.unwrap();
    load.some_more().await;
    load.finish(&records).await;
}
