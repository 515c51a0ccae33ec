//! The way rows take from where they are made to the database, off the path of requests: bounded queues, one writer.
//!
//! Usage rows are never dropped: handing them over waits for room, and an [`Ack`] tells when they are durable. Audit
//! rows never make anyone wait: where there is no room they are dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::lane::{Lane, Queued};
use super::store::BATCH_ROWS;
use super::writer::Writer;
use super::{AuditRow, RecordStore, StoredAudit, StoredUsage, UsageRow, clean};

/// How often dropped audit rows are logged, at most.
const DROPS_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// How much a recorder holds while the database is away or slow, and how it writes.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Usage rows that may wait; whoever brings more waits with them. A row takes about 1 KB.
    pub usage_room: usize,
    /// Audit rows that may wait; more are dropped and counted. A row takes about 1 KB.
    pub audit_room: usize,
    /// The most rows written at once, at most [`BATCH_ROWS`].
    pub batch_rows: usize,
    /// How long a row waits for others to be written with.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { usage_room: 10_000, audit_room: 20_000, batch_rows: BATCH_ROWS, linger: Duration::from_millis(200) }
    }
}

/// Takes rows from anywhere. Cheap to clone; all clones feed the same writer.
#[derive(Debug, Clone)]
pub struct Recorder {
    usage: mpsc::Sender<Queued<StoredUsage>>,
    audit: mpsc::Sender<Queued<StoredAudit>>,
    closing: watch::Sender<Option<Instant>>,
    ledger: Arc<Ledger>,
    writer: Arc<tokio::sync::Mutex<Option<JoinHandle<Unwritten>>>>,
}

/// The promise that usage rows become durable.
#[derive(Debug)]
#[must_use = "the rows are durable only once this resolves"]
pub struct Ack(oneshot::Receiver<Result<(), RecordError>>);

/// Why usage rows are not in the database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The recorder was closed before they could be written; [`Recorder::close`] answered those it held.
    #[error("the recorder is closed")]
    Closed,
    /// The database refuses a row for what it holds, whenever it is tried. The row is in the log.
    #[error("the database refuses the row: {0}")]
    Refused(Arc<str>),
}

/// What could not be written before the deadline of closing.
#[derive(Debug, Default)]
pub struct Unwritten {
    /// Usage rows, oldest first. They may be in the database all the same, if only the answer was missing; writing
    /// them again is harmless.
    pub usage: Vec<StoredUsage>,
    /// Audit rows, oldest first.
    pub audit: Vec<StoredAudit>,
}

/// How a recorder does, for metrics and readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Usage rows handed over and not yet durable.
    pub usage_queued: usize,
    /// Audit rows handed over and not yet durable.
    pub audit_queued: usize,
    /// Whether usage rows have to wait for room.
    pub usage_full: bool,
    /// How long the oldest row that the writer holds has waited.
    pub oldest: Option<Duration>,
    /// For how long writing has failed; nothing where the last attempt succeeded.
    pub failing_for: Option<Duration>,
    /// What the last failure said, also when it is over.
    pub last_error: Option<Arc<str>>,
    /// Usage rows written since the start.
    pub usage_written: u64,
    /// Audit rows written since the start.
    pub audit_written: u64,
    /// Usage rows that the database refused for what they hold.
    pub usage_refused: u64,
    /// Audit rows that the database refused for what they hold.
    pub audit_refused: u64,
    /// Audit rows dropped because there was no room, or the recorder was closed.
    pub audit_dropped: u64,
}

impl Recorder {
    /// Starts the writer on `runtime`, which must outlive everything that records.
    pub fn start(store: Arc<dyn RecordStore>, settings: Settings, runtime: &Handle) -> Self {
        let (usage, usage_queue) = mpsc::channel(settings.usage_room.max(1));
        let (audit, audit_queue) = mpsc::channel(settings.audit_room.max(1));
        let (closing, closing_seen) = watch::channel(None);
        let ledger = Arc::new(Ledger::default());
        let (usage_lane, audit_lane) = (Lane::new(usage_queue, &settings), Lane::new(audit_queue, &settings));
        let writer = Writer::new(store, usage_lane, audit_lane, closing_seen, Arc::clone(&ledger));
        let writer = runtime.spawn(writer.run());
        Self { usage, audit, closing, ledger, writer: Arc::new(tokio::sync::Mutex::new(Some(writer))) }
    }

    /// Hands over the usage rows of one generation. Waits for room; once it returns the rows are on their way, and
    /// the answer resolves when all of them are durable, however long the database is away.
    pub async fn record_usage(&self, rows: Vec<UsageRow>) -> Ack {
        let (ticket, ack) = Ticket::of(rows.len());
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let wanted = rows.len().min(self.usage.max_capacity());
            let Ok(room) = self.usage.reserve_many(wanted).await else {
                ticket.closed();
                break;
            };
            self.ledger.usage.queued.fetch_add(wanted, Relaxed);
            for (place, row) in room.zip(rows.by_ref()) {
                let mut row = StoredUsage::from(row);
                clean::usage(&mut row);
                place.send(Queued::new(row, Some(Arc::clone(&ticket))));
            }
        }
        ack
    }

    /// Hands over an audit row. Never waits: without room the row is dropped and counted.
    pub fn record_audit(&self, row: AuditRow) {
        let Ok(place) = self.audit.try_reserve() else {
            self.ledger.drop_audit();
            return;
        };
        let mut row = StoredAudit::from(row);
        clean::audit(&mut row);
        self.ledger.audit.queued.fetch_add(1, Relaxed);
        place.send(Queued::new(row, None));
    }

    /// How it does right now.
    pub fn health(&self) -> Health {
        let Ledger { usage, audit, trouble, .. } = &*self.ledger;
        let trouble = trouble.lock();
        let oldest = [*usage.oldest.lock(), *audit.oldest.lock()].into_iter().flatten().min();
        Health {
            usage_queued: usage.queued.load(Relaxed),
            audit_queued: audit.queued.load(Relaxed),
            usage_full: self.usage.capacity() == 0,
            oldest: oldest.map(|since| since.elapsed()),
            failing_for: trouble.since.map(|since| since.elapsed()),
            last_error: trouble.last.clone(),
            usage_written: usage.written.load(Relaxed),
            audit_written: audit.written.load(Relaxed),
            usage_refused: usage.refused.load(Relaxed),
            audit_refused: audit.refused.load(Relaxed),
            audit_dropped: self.ledger.dropped.load(Relaxed),
        }
    }

    /// Writes what is queued, usage rows first, and stops the writer; what is left after `deadline` is answered. Every
    /// clone is closed with it. Closing again answers nothing.
    pub async fn close(&self, deadline: Duration) -> Unwritten {
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            *closing = closing.or(Some(Instant::now() + deadline));
            first
        });
        let Some(writer) = self.writer.lock().await.take() else {
            return Unwritten::default();
        };
        let unwritten = writer.await.unwrap_or_else(|error| {
            tracing::error!(error = %error, "the writer of records ended before it was closed");
            Unwritten::default()
        });
        self.ledger.log_drops(Instant::now());
        unwritten
    }
}

impl Ack {
    /// Waits until the rows are durable.
    pub async fn durable(self) -> Result<(), RecordError> {
        self.0.await.unwrap_or(Err(RecordError::Closed))
    }
}

/// What one call of `record_usage` waits for. Shared by its rows.
#[derive(Debug)]
pub(super) struct Ticket {
    missing: AtomicUsize,
    answer: Mutex<Option<oneshot::Sender<Result<(), RecordError>>>>,
}

impl Ticket {
    fn of(rows: usize) -> (Arc<Self>, Ack) {
        let (answer, ack) = oneshot::channel();
        let ticket = Self { missing: AtomicUsize::new(rows), answer: Mutex::new(Some(answer)) };
        if rows == 0 {
            ticket.answer(Ok(()));
        }
        (Arc::new(ticket), Ack(ack))
    }

    /// One of its rows is durable.
    pub(super) fn written(&self) {
        if self.missing.fetch_sub(1, Relaxed) == 1 {
            self.answer(Ok(()));
        }
    }

    /// One of its rows will never be.
    pub(super) fn refused(&self, reason: Arc<str>) {
        self.answer(Err(RecordError::Refused(reason)));
    }

    /// Some of its rows were not even taken.
    fn closed(&self) {
        self.answer(Err(RecordError::Closed));
    }

    fn answer(&self, answer: Result<(), RecordError>) {
        if let Some(waiting) = self.answer.lock().take() {
            // Nobody has to wait for the answer.
            let _ = waiting.send(answer);
        }
    }
}

/// What the recorder and its writer count together.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) usage: Counts,
    pub(super) audit: Counts,
    pub(super) trouble: Mutex<Trouble>,
    dropped: AtomicU64,
    drops_logged: Mutex<DropsLogged>,
}

/// The counts of one kind of row.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) queued: AtomicUsize,
    pub(super) written: AtomicU64,
    pub(super) refused: AtomicU64,
    /// When the oldest row in the writer's hands was queued.
    pub(super) oldest: Mutex<Option<Instant>>,
}

/// How writing fails.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Since when, without a success in between.
    pub(super) since: Option<Instant>,
    /// What the last failure said.
    pub(super) last: Option<Arc<str>>,
}

#[derive(Debug, Default)]
struct DropsLogged {
    at: Option<Instant>,
    drops: u64,
}

impl Ledger {
    fn drop_audit(&self) {
        self.dropped.fetch_add(1, Relaxed);
        let now = Instant::now();
        if self.drops_logged.lock().at.is_none_or(|at| now.duration_since(at) >= DROPS_LOGGED_EVERY) {
            self.log_drops(now);
        }
    }

    /// Says how many audit rows were dropped since it last said so.
    fn log_drops(&self, now: Instant) {
        let mut logged = self.drops_logged.lock();
        let dropped = self.dropped.load(Relaxed);
        if dropped > logged.drops {
            tracing::error!(
                records.dropped = dropped - logged.drops,
                records.dropped_total = dropped,
                "audit rows were dropped: their queue was full, or the recorder closed"
            );
            *logged = DropsLogged { at: Some(now), drops: dropped };
        }
    }
}
