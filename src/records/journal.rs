//! The journal: what happened and is not in the database yet, in an SQLite file beside this process.
//!
//! It is a log. Every entry is one row that is only ever added and removed, and what was appended is on the disk before
//! anyone is told so: a process that is killed, or a machine that loses its power, loses nothing that was promised. A chat
//! start stands here before its request is forwarded; what it cost, its rows and its audit row follow in one step. The
//! shipper (`shipper.rs`) takes rows out of it again once the database has them.
//!
//! An entry about a generation is one of [`Note`]. A generation is open from its `Started` to its `Settled` or `Dismissed`,
//! and its counters are to be settled (again) until it is `Counted`; settling is idempotent, so once too often is harmless.
//! That is all that recovery after a crash has to know.
//!
//! Appending is grouped: one task (`writer.rs`) takes what has come meanwhile, and commits it with one write to the disk.

#[cfg(test)]
mod growing;
mod sqlite;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::RowLog;
use super::chain::ChainKey;
use super::linker::Linker;
use super::rows::Rows;
use super::seal::KeyRing;
pub(super) use sqlite::Source;

/// Entries that may wait for their commit; whoever brings more waits.
const WAITING: usize = 4096;

/// Part of the journal that is kept for what must still be written when it is full: the ends of what is open.
const KEPT_FOR_ENDS: u64 = 10;

/// How many processes may share a folder without giving names to their journals.
const MOST_FILES: u32 = 64;

/// How a journal is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its file. The folder must exist.
    pub file: PathBuf,
    /// Whether the next free name is taken where another process has the file: several Tollgates that nobody gave names to
    /// may share a folder.
    pub or_next: bool,
    /// The most it may take on the disk, in bytes.
    pub max_bytes: u64,
    /// Whether every commit waits until the disk has it. Without, a crash of the machine (not of this process) may lose the
    /// last moments.
    pub sync: bool,
}

/// What audit rows are sealed and linked with on their way into the file.
#[derive(Debug)]
pub struct Linking {
    /// Links.
    pub key: ChainKey,
    /// Seals.
    pub ring: Arc<KeyRing>,
}

/// Why something is not in the journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// It holds as much as it may.
    #[error("the journal is full")]
    Full,
    /// It cannot be written.
    #[error("the journal cannot be written: {0}")]
    Unwritable(Arc<str>),
    /// It is closed.
    #[error("the journal is closed")]
    Closed,
}

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the journal {} is used by another Tollgate; each needs its own (records.journal)", .0.display())]
    InUse(PathBuf),
    /// The file of checkpoints cannot be used.
    #[error("the checkpoints of the audit log, {}: {reason}", .file.display())]
    Checkpoints {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: std::io::Error,
    },
    /// The file cannot be made, locked or read.
    #[error("the journal {}: {reason}", .file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// What is noted of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It was admitted. The text is its record.
    Started,
    /// Its request left for LibreChat. The text is its record, where that has changed.
    Forwarded,
    /// LibreChat runs it. The text is its record, with the conversation.
    Running,
    /// Its books are closed. The text is what its counters are charged.
    Settled,
    /// Its counters were settled.
    Counted,
    /// Nothing came of it, or another replica has it.
    Dismissed,
}

impl Note {
    /// As it stands in the file.
    fn code(self) -> i64 {
        match self {
            Self::Started => 1,
            Self::Forwarded => 2,
            Self::Running => 3,
            Self::Settled => 4,
            Self::Counted => 5,
            Self::Dismissed => 6,
        }
    }
}

/// About what an entry takes besides its body, indexes included.
const ENTRY_BYTES: u64 = 96;

/// The code of an entry that holds rows.
const ROWS: i64 = 0;

/// The code of an entry that says where the chains of audit rows stand, as far as its commit moved them.
const HEADS: i64 = 7;

/// One entry as it stands in the file.
#[derive(Debug)]
struct Entry {
    kind: i64,
    generation: Option<Uuid>,
    /// How many rows it holds.
    rows: u64,
    body: String,
}

/// What is appended together, and what becomes of it when that fails.
#[derive(Debug)]
struct Append {
    /// What is noted of a generation.
    note: Option<(Uuid, Note, String)>,
    /// Where there are any, it must be written.
    rows: Rows,
    /// Whether its audit rows are sealed and linked. They keep their places however often writing is tried.
    linked: bool,
    /// Told when it is on the disk, or why it is not.
    done: Option<oneshot::Sender<Result<(), JournalError>>>,
    /// Whether it is tried again until it is written. Otherwise whoever waits is told.
    must: bool,
}

/// A generation that was open when the last process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenGeneration {
    /// Its id.
    pub id: Uuid,
    /// Its newest record.
    pub record: String,
    /// Whether its request is known to have left.
    pub forwarded: bool,
}

/// What a journal holds of the process before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Generations whose books are not closed.
    pub open: Vec<OpenGeneration>,
    /// What counters are charged by generations whose books are closed, and whose counters may not know it.
    pub uncounted: Vec<(Uuid, String)>,
}

/// A journal. Cheap to clone; all clones feed the same writer.
#[derive(Debug, Clone)]
pub struct Journal {
    appends: mpsc::Sender<Append>,
    closing: watch::Sender<bool>,
    state: Arc<State>,
    source: Source,
    writer: Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>,
    id: Uuid,
}

/// What is known of a journal at any moment.
#[derive(Debug)]
pub(super) struct State {
    /// The most bytes it may take.
    max_bytes: u64,
    /// About how many bytes it takes; measured from time to time, and added to in between.
    bytes: AtomicU64,
    /// Rows that wait to be shipped.
    rows: AtomicU64,
    /// Whether the last commit failed.
    failing: AtomicBool,
    trouble: Mutex<Trouble>,
    /// Something was appended that can be shipped.
    pub(super) arrived: tokio::sync::Notify,
    /// Keeps other processes away until it is let go.
    lock: Mutex<Option<File>>,
}

#[derive(Debug, Default)]
struct Trouble {
    since: Option<Instant>,
    last: Option<Arc<str>>,
    logged: Option<Instant>,
}

/// How a journal does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalHealth {
    /// About how many bytes it takes.
    pub bytes: u64,
    /// The most it may take.
    pub max_bytes: u64,
    /// Rows that wait for the database.
    pub rows: u64,
    /// Whether new chats find no room.
    pub full: bool,
    /// For how long it cannot be written.
    pub failing_for: Option<Duration>,
    /// What the last failure said.
    pub last_error: Option<Arc<str>>,
}

impl Journal {
    /// Opens a journal, or makes it. A file that is no journal any more is set aside, loudly, and a new one is made.
    /// Audit rows are sealed and linked with `linking`, where there is any; what is on the disk is copied to `row_log`.
    ///
    /// # Errors
    ///
    /// Where another process has it, or it cannot be used.
    pub async fn open(
        settings: &Settings,
        linking: Option<Linking>,
        row_log: Option<RowLog>,
        runtime: &Handle,
    ) -> Result<(Self, Left), OpenError> {
        let (file, lock) = free_file(settings)?;
        let source = Source::open(&file, settings).await?;
        let unusable = |reason| OpenError::Unusable { file: file.clone(), reason };
        let id = source.identity().await.map_err(unusable)?;
        let left = source.left().await.map_err(unusable)?;
        let heads = source.heads().await.map_err(unusable)?;
        let linker = linking.map(|Linking { key, ring }| Linker::new(key, id, heads, ring));
        let state = Arc::new(State {
            max_bytes: settings.max_bytes,
            bytes: AtomicU64::new(source.bytes().await.map_err(unusable)?),
            rows: AtomicU64::new(source.rows().await.map_err(unusable)?),
            failing: AtomicBool::new(false),
            trouble: Mutex::default(),
            arrived: tokio::sync::Notify::new(),
            lock: Mutex::new(Some(lock)),
        });
        let (appends, waiting) = mpsc::channel(WAITING);
        let (closing, closed) = watch::channel(false);
        let writer = runtime.spawn(writer::run(source.clone(), waiting, closed, state.clone(), linker, row_log));
        let writer = Arc::new(tokio::sync::Mutex::new(Some(writer)));
        Ok((Self { appends, closing, state, source, writer, id }, left))
    }

    /// Who writes it: made with the file, and kept with it.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// A generation is about to be forwarded. Resolves when its record is on the disk.
    ///
    /// # Errors
    ///
    /// Where there is no room for new ones, or it cannot be written; then nothing is there.
    pub async fn start(&self, id: Uuid, record: String) -> Result<(), JournalError> {
        if self.state.is_full() {
            return Err(JournalError::Full);
        }
        // Behind so much that must be written nobody would be told in time that nothing can be.
        if self.state.failing.load(Relaxed) && self.appends.capacity() < WAITING / 2 {
            return Err(JournalError::Unwritable(self.state.trouble.lock().last.clone().unwrap_or_default()));
        }
        self.append(Some((id, Note::Started, record)), Rows::default(), false).await
    }

    /// Notes something of a generation, in time. Waits for room only.
    pub async fn note(&self, id: Uuid, note: Note, record: String) {
        let append = Append { note: Some((id, note, record)), rows: Rows::default(), linked: false, done: None, must: true };
        // A journal that is closed is one whose process ends: the next one finds out for itself.
        let _ = self.appends.send(append).await;
    }

    /// Closes a generation's books: its rows, and what its counters are charged, in one step. Resolves when both are on
    /// the disk, however long that takes.
    ///
    /// # Errors
    ///
    /// Only where the journal is closed before.
    pub async fn settle(&self, id: Uuid, rows: Rows, amounts: String) -> Result<(), JournalError> {
        self.append(Some((id, Note::Settled, amounts)), rows, true).await
    }

    /// Appends rows, however long that takes.
    ///
    /// # Errors
    ///
    /// Only where the journal is closed before.
    pub async fn rows(&self, rows: Rows) -> Result<(), JournalError> {
        self.append(None, rows, true).await
    }

    async fn append(&self, note: Option<(Uuid, Note, String)>, rows: Rows, must: bool) -> Result<(), JournalError> {
        let (done, written) = oneshot::channel();
        let append = Append { note, rows, linked: false, done: Some(done), must };
        self.appends.send(append).await.map_err(|_| JournalError::Closed)?;
        written.await.unwrap_or(Err(JournalError::Closed))
    }

    /// What ships its rows.
    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// What is known of it.
    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// How it does right now.
    pub fn health(&self) -> JournalHealth {
        let trouble = self.state.trouble.lock();
        JournalHealth {
            bytes: self.state.bytes.load(Relaxed),
            max_bytes: self.state.max_bytes,
            rows: self.state.rows.load(Relaxed),
            full: self.state.is_full(),
            failing_for: trouble.since.map(|since| since.elapsed()),
            last_error: trouble.last.clone(),
        }
    }

    /// Writes what waits, and stops the writer. What comes later is refused.
    pub async fn close_writer(&self) {
        self.closing.send_replace(true);
        if let Some(writer) = self.writer.lock().await.take()
            && let Err(error) = writer.await
        {
            tracing::error!(error = %error, "the journal's writer ended before it was closed");
        }
    }

    /// Closes the file, after [`Journal::close_writer`] and when nothing is shipped any more.
    pub async fn close(&self) {
        self.source.close().await;
        if let Some(lock) = self.state.lock.lock().take() {
            // Said, since a child process that is just being started may still have the file open.
            let _ = lock.unlock();
        }
    }
}

impl State {
    /// Whether there is no room for what need not be.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Relaxed) >= self.max_bytes - self.max_bytes / KEPT_FOR_ENDS
    }

    /// These entries are on the disk.
    fn appended(&self, entries: &[Entry]) {
        let bytes: u64 = entries.iter().map(|entry| entry.body.len() as u64 + ENTRY_BYTES).sum();
        let rows: u64 = entries.iter().map(|entry| entry.rows).sum();
        self.bytes.fetch_add(bytes, Relaxed);
        if rows > 0 {
            self.rows.fetch_add(rows, Relaxed);
            self.arrived.notify_one();
        }
    }

    /// Rows left the journal.
    pub(super) fn shipped(&self, rows: u64) {
        self.rows.fetch_sub(rows, Relaxed);
    }

    /// It was measured.
    pub(super) fn measured(&self, bytes: u64) {
        self.bytes.store(bytes, Relaxed);
    }

    /// Rows that wait to be shipped.
    pub(super) fn rows_waiting(&self) -> u64 {
        self.rows.load(Relaxed)
    }
}

/// The journal's file, or the next one that no other process has, and the lock on it.
fn free_file(settings: &Settings) -> Result<(PathBuf, File), OpenError> {
    let mut file = settings.file.clone();
    for number in 2..=MOST_FILES {
        match lock(&file) {
            Err(OpenError::InUse(_)) if settings.or_next => file = numbered(&settings.file, number),
            locked => return locked.map(|lock| (file, lock)),
        }
    }
    Err(OpenError::InUse(file))
}

/// `tollgate.journal.db` is followed by `tollgate.journal.2.db`.
fn numbered(file: &Path, number: u32) -> PathBuf {
    let ending = file.extension().map_or_else(|| number.to_string(), |ending| format!("{number}.{}", ending.display()));
    file.with_extension(ending)
}

/// Keeps the journal for this process. The lock is on a file of its own: SQLite's locks on the journal itself would be lost
/// with ours.
fn lock(journal: &Path) -> Result<File, OpenError> {
    let mut file = journal.as_os_str().to_owned();
    file.push(".lock");
    let unusable = |error: std::io::Error| OpenError::Unusable { file: journal.to_owned(), reason: error.to_string() };
    let lock = File::options().create(true).truncate(false).write(true).open(&file).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(journal.to_owned())),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}
