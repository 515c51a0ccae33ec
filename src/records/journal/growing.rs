//! What the journal takes on the disk beside its file.

use super::*;

/// What is appended in all, and the most that the log may be then.
const APPENDED: u64 = 24 * 1024 * 1024;
const LOG: u64 = APPENDED / 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_begins_anew_though_nobody_ever_pauses() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.db");
    let settings = Settings { file: file.clone(), or_next: false, max_bytes: 1 << 30, sync: false };
    let (journal, _) = Journal::open(&settings, None, None, &Handle::current()).await.unwrap();
    let record = "x".repeat(16 * 1024);
    let appending = tokio::spawn({
        let journal = journal.clone();
        async move {
            // Several at a time, so that the next commit is always there when one ends.
            for _ in 0..APPENDED / (16 * 1024) / 8 {
                let all = (0..8).map(|_| journal.start(Uuid::now_v7(), record.clone()));
                futures_util::future::join_all(all).await.into_iter().for_each(|started| started.unwrap());
            }
        }
    });
    while !appending.is_finished() {
        journal.source().checkpoint().await.unwrap();
        tokio::task::yield_now().await;
    }
    appending.await.unwrap();
    let log = std::fs::metadata(folder.path().join("journal.db-wal")).unwrap().len();
    assert!(log < LOG, "{log} bytes of log after {APPENDED} bytes of entries");
    journal.close_writer().await;
    journal.close().await;
}
