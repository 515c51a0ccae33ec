//! The recorder in front of a database that does as it is told.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use tollgate::records::store::{BATCH_ROWS, Fault};
use tollgate::records::{
    ReadError, RecordError, RecordStore, Recorder, Settings, StoredAudit, StoredUsage, SystemRow, ToolRow, UsageRow, Used, WriteError,
};
use uuid::Uuid;

use super::{audit, eventually, usage};

/// Remembers what it takes, and fails as told.
#[derive(Debug, Default)]
struct Scripted {
    away: Mutex<bool>,
    stalled: Mutex<bool>,
    /// Whether a write is held up by that.
    stuck: Mutex<bool>,
    /// Rows of this model are not taken.
    bad: Mutex<Option<(&'static str, Fault)>>,
    taken: Mutex<Vec<Taken>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Taken {
    Usage(Vec<Uuid>),
    Audit(Vec<Uuid>),
}

impl Scripted {
    async fn fail(&self, models: impl Iterator<Item = &str> + Send) -> Result<(), WriteError> {
        let models: Vec<String> = models.map(str::to_owned).collect();
        while *self.stalled.lock() {
            *self.stuck.lock() = true;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let fault = match *self.bad.lock() {
            _ if *self.away.lock() => Fault::Away,
            Some((bad, fault)) if models.iter().any(|model| model == bad) => fault,
            _ => return Ok(()),
        };
        Err(WriteError { fault, message: "as the test says".into() })
    }

    fn usage_rows(&self) -> usize {
        self.taken.lock().iter().map(|taken| if let Taken::Usage(rows) = taken { rows.len() } else { 0 }).sum()
    }
}

#[async_trait]
impl RecordStore for Scripted {
    async fn insert_usage(&self, rows: &[StoredUsage]) -> Result<(), WriteError> {
        assert!(rows.len() <= BATCH_ROWS, "a batch of {} rows", rows.len());
        self.fail(rows.iter().map(|row| row.model.as_str())).await?;
        self.taken.lock().push(Taken::Usage(rows.iter().map(|row| row.id).collect()));
        Ok(())
    }

    async fn insert_audit(&self, rows: &[StoredAudit]) -> Result<(), WriteError> {
        assert!(rows.len() <= BATCH_ROWS, "a batch of {} rows", rows.len());
        self.fail(rows.iter().filter_map(|row| row.model.as_deref())).await?;
        self.taken.lock().push(Taken::Audit(rows.iter().map(|row| row.id).collect()));
        Ok(())
    }

    async fn insert_tools(&self, _: &[ToolRow]) -> Result<(), WriteError> {
        Ok(())
    }

    async fn insert_system(&self, _: &[SystemRow]) -> Result<(), WriteError> {
        Ok(())
    }

    async fn used_since(&self, _: Timestamp) -> Result<Used, ReadError> {
        Ok(Used::default())
    }

    async fn decision(&self, _: &str) -> Result<Option<StoredAudit>, ReadError> {
        Ok(None)
    }

    async fn usage_of(&self, _: Uuid) -> Result<Vec<StoredUsage>, ReadError> {
        Ok(Vec::new())
    }

    async fn usage_rows(&self, _: u32) -> Result<Vec<StoredUsage>, ReadError> {
        Ok(Vec::new())
    }

    async fn audit_rows(&self, _: u32) -> Result<Vec<StoredAudit>, ReadError> {
        Ok(Vec::new())
    }

    async fn tool_rows(&self, _: u32) -> Result<Vec<ToolRow>, ReadError> {
        Ok(Vec::new())
    }

    async fn system_rows(&self, _: u32) -> Result<Vec<SystemRow>, ReadError> {
        Ok(Vec::new())
    }
}

fn start(settings: Settings) -> (Arc<Scripted>, Recorder) {
    let store = Arc::new(Scripted::default());
    let recorder = Recorder::start(store.clone(), settings, &tokio::runtime::Handle::current());
    (store, recorder)
}

#[tokio::test]
async fn a_bad_row_is_set_apart_and_the_others_are_written() {
    let (store, recorder) = start(Settings::default());
    *store.bad.lock() = Some(("poison", Fault::Row));
    let rows: Vec<UsageRow> = (0..400).map(usage).collect();
    let good = recorder.record_usage(rows).await;
    let bad = recorder.record_usage(vec![UsageRow { model: "poison".to_owned(), ..usage(400) }, usage(401)]).await;
    good.durable().await.expect("rows beside a bad one");
    assert_eq!(bad.durable().await, Err(RecordError::Refused("as the test says".into())));
    eventually("the bad row's companion is written", || store.usage_rows() == 401).await;
    let health = recorder.health();
    assert_eq!((health.usage_written, health.usage_refused, health.usage_queued), (401, 1, 0));
    assert_eq!(health.failing_for, None, "one bad row is no outage");
}

#[tokio::test]
async fn a_row_that_keeps_failing_alone_for_no_clear_reason_is_given_up_in_the_end() {
    let (store, recorder) = start(Settings::default());
    *store.bad.lock() = Some(("odd", Fault::Unclear));
    let odd = recorder.record_usage(vec![UsageRow { model: "odd".to_owned(), ..usage(0) }]).await;
    let odd = tokio::spawn(odd.durable());
    let mut number = 1;
    while !odd.is_finished() {
        recorder.record_usage(vec![usage(number)]).await.durable().await.expect("others are written all along");
        number += 1;
        assert!(number < 100, "it fails alone again and again, and still blocks");
    }
    assert!(matches!(odd.await.unwrap(), Err(RecordError::Refused(_))));
    assert!(number > 5, "not at its first failure: {number}");
}

#[tokio::test]
async fn when_every_row_fails_the_database_is_at_fault_and_no_row_is_given_up() {
    let (store, recorder) = start(Settings::default());
    *store.bad.lock() = Some(("gpt-5", Fault::Unclear));
    let ack = recorder.record_usage((0..100).map(usage).collect()).await;
    eventually("it is tried", || recorder.health().failing_for.is_some()).await;
    *store.bad.lock() = None;
    ack.durable().await.expect("all are written once the table is there again");
    assert_eq!(recorder.health().usage_refused, 0);
}

#[tokio::test]
async fn usage_rows_wait_for_room_and_audit_rows_do_not() {
    let (store, recorder) = start(Settings { usage_room: 10, audit_room: 10, ..Settings::default() });
    *store.stalled.lock() = true;
    let first = recorder.record_usage(vec![usage(0)]).await;
    eventually("the writer is held up with the first row", || *store.stuck.lock()).await;
    // Behind it the queues fill.
    let waiting = tokio::spawn({
        let recorder = recorder.clone();
        async move { recorder.record_usage((1..1500).map(usage).collect()).await.durable().await }
    });
    eventually("usage rows have to wait", || recorder.health().usage_full).await;
    for number in 0..1000 {
        recorder.record_audit(audit(number));
    }
    let health = recorder.health();
    assert_eq!(health.audit_dropped, 990, "what finds no room is dropped and counted: {health:?}");
    assert!(!waiting.is_finished(), "usage rows wait");
    *store.stalled.lock() = false;
    first.durable().await.expect("the first rows");
    waiting.await.unwrap().expect("the rows that waited");
    let left = recorder.close(Duration::from_secs(10)).await;
    assert_eq!((left.usage.len(), left.audit.len()), (0, 0));
    let health = recorder.health();
    assert_eq!((health.usage_written, health.audit_written + health.audit_dropped), (1500, 1000));
}

#[tokio::test]
async fn closing_writes_what_is_left_usage_rows_first() {
    let (store, recorder) = start(Settings::default());
    *store.stalled.lock() = true;
    recorder.record_audit(audit(0));
    eventually("the writer is busy", || recorder.health().oldest.is_some()).await;
    let ack = recorder.record_usage((0..1200).map(usage).collect()).await;
    for number in 1..700 {
        recorder.record_audit(audit(number));
    }
    let closing = tokio::spawn({
        let recorder = recorder.clone();
        async move { recorder.close(Duration::from_secs(30)).await }
    });
    *store.stalled.lock() = false;
    let left = closing.await.unwrap();
    assert_eq!((left.usage.len(), left.audit.len()), (0, 0));
    ack.durable().await.expect("written while closing");
    let health = recorder.health();
    assert_eq!((health.usage_written, health.audit_written), (1200, 700));
    assert!(matches!(recorder.record_usage(vec![usage(5000)]).await.durable().await, Err(RecordError::Closed)));
    recorder.record_audit(audit(5000));
    assert_eq!(recorder.health().audit_dropped, 1, "after closing a row is dropped, and counted");
}

#[tokio::test]
async fn closing_answers_what_could_not_be_written() {
    for stalled in [false, true] {
        let (store, recorder) = start(Settings::default());
        *store.away.lock() = !stalled;
        *store.stalled.lock() = stalled;
        let ack = recorder.record_usage((0..700).map(usage).collect()).await;
        for number in 0..30 {
            recorder.record_audit(audit(number));
        }
        let begun = tokio::time::Instant::now();
        let left = recorder.close(Duration::from_millis(300)).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "the deadline holds, whatever the database does: {:?}", begun.elapsed());
        assert_eq!(
            left.usage,
            super::stored::<_, StoredUsage>((0..700).map(usage)),
            "every row that is not durable is answered, oldest first"
        );
        assert_eq!(left.audit.len(), 30);
        assert_eq!(ack.durable().await, Err(RecordError::Closed));
        assert!(recorder.close(Duration::ZERO).await.usage.is_empty(), "closing again answers nothing");
    }
}
