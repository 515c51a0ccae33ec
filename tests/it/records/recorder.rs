//! The recorder in front of a database that does as it is told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use tempfile::TempDir;
use tollgate::records::journal::{self, JournalError, Left, Note, OpenError, OpenGeneration};
use tollgate::records::reckoning::{Reckoning, Which};
use tollgate::records::recorder::{Settings, WhenFull};
use tollgate::records::store::{BATCH_ROWS, Fault, MemberDay, UtcDay};
use tollgate::records::{ReadError, RecordStore, Recorder, Rows, StoredAudit, StoredUsage, SystemRow, ToolRow, UsageRow, Used, WriteError};
use uuid::Uuid;

use super::{audit, eventually, settle, usage};

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
impl Reckoning for Scripted {
    async fn used_by_org(&self, _: &str, _: Which) -> Result<Vec<MemberDay>, ReadError> {
        Ok(Vec::new())
    }

    async fn used_by_everyone(&self, _: Which) -> Result<Vec<UtcDay>, ReadError> {
        Ok(Vec::new())
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

struct Place {
    store: Arc<Scripted>,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { store: Arc::new(Scripted::default()), folder: tempfile::tempdir().expect("a folder for the journal") }
    }

    fn settings(&self) -> Settings {
        Settings::with(journal::Settings { file: self.file(), or_next: false, max_bytes: 64 << 20, sync: false })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("journal.db")
    }

    async fn open(&self) -> Recorder {
        self.open_with(self.settings()).await.0
    }

    async fn open_with(&self, settings: Settings) -> (Recorder, Left) {
        Recorder::open(self.store.clone(), settings, &tokio::runtime::Handle::current()).await.expect("a journal")
    }
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_bad_row_is_set_apart_and_the_others_are_written() {
    let place = Place::new();
    let recorder = place.open().await;
    *place.store.bad.lock() = Some(("poison", Fault::Row));
    settle(&recorder, (0..400).map(usage)).await;
    settle(&recorder, [UsageRow { model: "poison".to_owned(), ..usage(400) }, usage(401)]).await;
    eventually("all but the bad one are written", || place.store.usage_rows() == 401).await;
    assert_eq!(recorder.close(SOON).await, 0);
    let health = recorder.health();
    assert_eq!((health.usage_written, health.usage_refused, health.journal.rows), (401, 1, 0));
    assert_eq!(health.failing_for, None, "one bad row is no outage");
    let kept = super::sqlite(&place.file(), "SELECT reason || ' ' || row FROM refused").await;
    assert!(kept.starts_with("as the test says {") && kept.contains("poison"), "the row and the reason are kept: {kept}");
}

#[tokio::test]
async fn a_row_that_keeps_failing_alone_for_no_clear_reason_is_given_up_in_the_end() {
    let place = Place::new();
    let recorder = place.open().await;
    *place.store.bad.lock() = Some(("odd", Fault::Unclear));
    settle(&recorder, [UsageRow { model: "odd".to_owned(), ..usage(0) }]).await;
    let mut number = 1;
    while recorder.health().usage_refused == 0 {
        settle(&recorder, [usage(number)]).await;
        eventually("others are written all along", || place.store.usage_rows() as u64 == number).await;
        number += 1;
        assert!(number < 100, "it fails alone again and again, and still blocks");
    }
    assert!(number > 5, "not at its first failure: {number}");
}

#[tokio::test]
async fn when_every_row_fails_the_database_is_at_fault_and_no_row_is_given_up() {
    let place = Place::new();
    let recorder = place.open().await;
    *place.store.bad.lock() = Some(("gpt-5", Fault::Unclear));
    settle(&recorder, (0..100).map(usage)).await;
    eventually("it is tried", || recorder.health().failing_for.is_some()).await;
    *place.store.bad.lock() = None;
    eventually("all are written once the table is there again", || place.store.usage_rows() == 100).await;
    assert_eq!(recorder.health().usage_refused, 0);
}

#[tokio::test]
async fn nobody_waits_for_a_database_that_stalls() {
    let place = Place::new();
    let recorder = place.open().await;
    *place.store.stalled.lock() = true;
    for number in 0..20 {
        settle(&recorder, (100 * number..100 * number + 100).map(usage)).await;
        recorder.record_audit(audit(number));
    }
    eventually("everything waits in the journal", || recorder.health().journal.rows == 2020).await;
    *place.store.stalled.lock() = false;
    eventually("everything is written", || recorder.health().journal.rows == 0).await;
    assert_eq!(place.store.usage_rows(), 2000);
    assert_eq!(recorder.health().audit_written, 20);
}

#[tokio::test]
async fn what_closing_cannot_write_is_written_by_the_next_process() {
    for stalled in [false, true] {
        let place = Place::new();
        let recorder = place.open().await;
        *place.store.away.lock() = !stalled;
        *place.store.stalled.lock() = stalled;
        settle(&recorder, (0..700).map(usage)).await;
        for number in 0..30 {
            recorder.record_audit(audit(number));
        }
        let begun = tokio::time::Instant::now();
        let left = recorder.close(Duration::from_millis(300)).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "the deadline holds, whatever the database does: {:?}", begun.elapsed());
        assert_eq!(left, 730, "every row that is not in the database is still in the journal");
        recorder.record_audit(audit(5000));
        assert_eq!(recorder.health().audit_dropped, 1, "after closing a row is dropped, and counted");
        *place.store.away.lock() = false;
        *place.store.stalled.lock() = false;
        let next = place.open().await;
        eventually("the next one writes them", || next.health().journal.rows == 0).await;
        assert_eq!((next.health().usage_written, next.health().audit_written), (700, 30));
        assert_eq!(next.close(SOON).await, 0);
    }
}

#[tokio::test]
async fn what_is_open_and_what_is_not_counted_is_known_after_a_crash() {
    let place = Place::new();
    let (first, left) = place.open_with(place.settings()).await;
    assert_eq!(left, Left::default(), "a new journal is empty");
    let [sent, unsent, running, over, dismissed] = [(); 5].map(|()| Uuid::now_v7());
    for id in [sent, unsent, running, over, dismissed] {
        first.start(id, format!("start of {id}")).await.expect("room");
    }
    first.note(sent, Note::Forwarded, String::new()).await;
    first.note(running, Note::Forwarded, String::new()).await;
    first.note(running, Note::Running, "it runs".to_owned()).await;
    first.note(dismissed, Note::Dismissed, String::new()).await;
    let rows = Rows { usage: vec![usage(1).into()], ..Rows::default() };
    first.settle(over, rows, "amounts".to_owned()).await.expect("room");
    let id = first.id();
    // Whoever is killed closes nothing.
    let crashed = Place { store: place.store.clone(), folder: copy_of(&place.folder) };
    let (second, left) = crashed.open_with(crashed.settings()).await;
    let open = |id: Uuid, record: String, forwarded| OpenGeneration { id, record, forwarded };
    let expected = [
        open(sent, format!("start of {sent}"), true),
        open(unsent, format!("start of {unsent}"), false),
        open(running, "it runs".to_owned(), true),
    ];
    assert_eq!(left, Left { open: expected.to_vec(), uncounted: vec![(over, "amounts".to_owned())] });
    assert_eq!(second.id(), id, "a journal keeps its name");
    for id in [sent, unsent, running] {
        second.note(id, Note::Dismissed, String::new()).await;
    }
    second.note(over, Note::Counted, String::new()).await;
    second.close(SOON).await;
    let (third, left) = crashed.open_with(crashed.settings()).await;
    assert_eq!(left, Left::default(), "what is over is forgotten");
    third.close(SOON).await;
    first.close(SOON).await;
}

#[tokio::test]
async fn a_journal_belongs_to_one_process() {
    let place = Place::new();
    let first = place.open().await;
    let runtime = tokio::runtime::Handle::current();
    let error = Recorder::open(place.store.clone(), place.settings(), &runtime).await.expect_err("it is in use");
    assert!(matches!(error, OpenError::InUse(_)) && error.to_string().contains("records.journal"), "{error}");
    let mut unnamed = place.settings();
    unnamed.journal.or_next = true;
    let (second, _) = place.open_with(unnamed).await;
    assert!(place.folder.path().join("journal.2.db").exists(), "the next name is taken where nobody gave one");
    assert_ne!(first.id(), second.id());
    first.close(SOON).await;
    second.close(SOON).await;
    place.open().await.close(SOON).await;
}

#[tokio::test]
async fn a_full_journal_refuses_new_chats_and_takes_what_was_begun() {
    for when_full in [WhenFull::Refuse, WhenFull::Drop] {
        let place = Place::new();
        *place.store.away.lock() = true;
        let mut settings = Settings { when_full, ..place.settings() };
        settings.journal.max_bytes = 1 << 20;
        let (recorder, _) = place.open_with(settings).await;
        let begun = Uuid::now_v7();
        recorder.start(begun, "begun in time".to_owned()).await.expect("room");
        let mut started = 0;
        while !recorder.health().journal.full {
            recorder.start(Uuid::now_v7(), "x".repeat(10_000)).await.expect("room");
            started += 1;
            assert!(started < 200, "a megabyte holds no more than a hundred of these");
        }
        let refused = recorder.start(Uuid::now_v7(), "too late".to_owned()).await;
        let rows = Rows { usage: vec![usage(1).into()], ..Rows::default() };
        recorder.settle(begun, rows, "{}".to_owned()).await.expect("what was begun is always taken");
        recorder.record_audit(audit(1));
        eventually("an audit row finds no room", || recorder.health().audit_dropped == 1).await;
        match when_full {
            WhenFull::Refuse => assert_eq!(refused, Err(JournalError::Full)),
            WhenFull::Drop => {
                assert_eq!(refused, Ok(()), "chats go on");
                assert_eq!(recorder.health().starts_unrecorded, 1, "and are counted");
            }
        }
        let size = std::fs::metadata(place.file()).expect("a file").len();
        assert!(size <= 1 << 20, "the file takes {size} bytes");
        *place.store.away.lock() = false;
        eventually("what it holds is written", || place.store.usage_rows() == 1).await;
        recorder.close(SOON).await;
    }
}

#[tokio::test]
async fn a_journal_cut_off_in_the_middle_of_a_write_keeps_what_was_whole() {
    let place = Place::new();
    *place.store.away.lock() = true;
    let recorder = place.open().await;
    let mut sizes = Vec::new();
    let log = place.folder.path().join("journal.db-wal");
    for number in 0..20 {
        settle(&recorder, [usage(number)]).await;
        sizes.push(std::fs::metadata(&log).expect("a log").len());
    }
    // The log was begun anew by the last look after it, or not at all: both are the same here.
    let crashed = Place { store: Arc::new(Scripted::default()), folder: copy_of(&place.folder) };
    let copied = crashed.folder.path().join("journal.db-wal");
    let whole = std::fs::metadata(&copied).expect("a log").len();
    std::fs::File::options().write(true).open(&copied).expect("the log").set_len(whole.saturating_sub(700)).expect("cut off");
    let (next, _) = crashed.open_with(crashed.settings()).await;
    eventually("what was whole is written", || next.health().journal.rows == 0).await;
    let written = crashed.store.usage_rows();
    assert!((19..=20).contains(&written), "at most the last write is gone: {written} of 20, log sizes {sizes:?}");
    next.close(SOON).await;
    recorder.close(Duration::ZERO).await;
}

#[tokio::test]
async fn a_journal_that_is_none_is_set_aside() {
    let place = Place::new();
    std::fs::write(place.file(), "this is no database, whatever else it may be".repeat(100)).expect("a file");
    let recorder = place.open().await;
    settle(&recorder, [usage(1)]).await;
    eventually("a new one serves", || place.store.usage_rows() == 1).await;
    assert!(place.folder.path().join("journal.db.broken-1").exists(), "the old one is kept");
    recorder.close(SOON).await;
}

/// The folder as a process finds it whose predecessor was killed now.
fn copy_of(folder: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(folder.path()).expect("a folder").map(|file| file.expect("a file")) {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
    }
    copy
}
