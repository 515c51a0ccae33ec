//! One kind of row on its way through the writer: gathered into batches, tried again after pauses while the database is
//! away, and set apart where the database will not have a row.

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::recorder::{Counts, Ledger, Settings, Ticket};
use super::store::{BATCH_ROWS, Fault};
use super::{RecordStore, StoredAudit, StoredUsage, WriteError};

/// The first and the longest pause after a failure; pauses double in between, less up to a half by chance, so that
/// replicas do not come back all at once.
const PAUSES: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(10);

/// How often a row may fail alone, while others are written, before it is believed to be at fault itself.
const STRIKES: u32 = 5;

/// So many rows failing alone while none is written: the database is at fault after all.
const LONE_FAILURES: usize = 8;

/// A row on its way.
#[derive(Debug)]
pub(super) struct Queued<R> {
    row: R,
    note: Note,
}

/// What is remembered of a row beside it.
#[derive(Debug)]
struct Note {
    since: Instant,
    ticket: Option<Arc<Ticket>>,
    strikes: u32,
}

impl<R> Queued<R> {
    pub(super) fn new(row: R, ticket: Option<Arc<Ticket>>) -> Self {
        Self { row, note: Note { since: Instant::now(), ticket, strikes: 0 } }
    }
}

/// One kind of row: its queue, and the batch being gathered.
#[derive(Debug)]
pub(super) struct Lane<R> {
    pub(super) queue: mpsc::Receiver<Queued<R>>,
    pub(super) batch: Vec<Queued<R>>,
    pub(super) pauses: Pauses,
    batch_rows: usize,
    linger: Duration,
}

/// What differs between the kinds of rows.
#[async_trait]
pub(super) trait Kind: Debug + Sized + Send + Sync {
    async fn insert(store: &dyn RecordStore, rows: &[Self]) -> Result<(), WriteError>;
    fn counts(ledger: &Ledger) -> &Counts;
    fn log_refused(&self, reason: &str);
}

/// What became of a row in one round of writing.
#[derive(Debug, Clone)]
enum Verdict {
    Written,
    Kept,
    FailedAlone(WriteError),
}

impl<R> Lane<R> {
    pub(super) fn new(queue: mpsc::Receiver<Queued<R>>, settings: &Settings) -> Self {
        let batch_rows = settings.batch_rows.clamp(1, BATCH_ROWS);
        Self { queue, batch: Vec::with_capacity(batch_rows), pauses: Pauses::default(), batch_rows, linger: settings.linger }
    }

    pub(super) fn room(&self) -> usize {
        self.batch_rows.saturating_sub(self.batch.len())
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.batch.first().map(|queued| queued.note.since)
    }

    /// When to write: at once with a full batch, else when the oldest row has lingered; never during a pause.
    pub(super) fn due(&self) -> Option<Instant> {
        let oldest = self.oldest()?;
        let due = if self.room() == 0 { oldest } else { oldest + self.linger };
        Some(self.pauses.until.map_or(due, |pause| due.max(pause)))
    }

    /// Takes what is queued without waiting.
    pub(super) fn fill(&mut self) {
        while self.room() > 0 {
            let Ok(queued) = self.queue.try_recv() else { return };
            self.batch.push(queued);
        }
    }

    /// Closes the queue and answers the rows that are left, those whose place is taken and that are about to come
    /// included.
    pub(super) async fn leave(mut self) -> Vec<R> {
        self.queue.close();
        let mut rows: Vec<R> = self.batch.into_iter().map(|queued| queued.row).collect();
        while let Some(queued) = self.queue.recv().await {
            rows.push(queued.row);
        }
        rows
    }
}

impl<R: Kind> Lane<R> {
    /// Writes the batch, unless it is empty or paused. What the database took and what it refuses for good leave the
    /// lane; the rest stays, and the reason is answered.
    pub(super) async fn write(
        &mut self,
        store: &dyn RecordStore,
        ledger: &Ledger,
        closing: &watch::Receiver<Option<Instant>>,
    ) -> Result<(), WriteError> {
        if self.batch.is_empty() || self.pauses.until.is_some_and(|pause| Instant::now() < pause) {
            return Ok(());
        }
        let (rows, notes): (Vec<R>, Vec<Note>) = self.batch.drain(..).map(|queued| (queued.row, queued.note)).unzip();
        let (verdicts, mut problem) = write_in_parts(store, &rows, closing).await;
        let others_written = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Written));
        let counts = R::counts(ledger);
        for ((row, mut note), verdict) in rows.into_iter().zip(notes).zip(verdicts) {
            match verdict {
                Verdict::Written => {
                    counts.written.fetch_add(1, Relaxed);
                    counts.queued.fetch_sub(1, Relaxed);
                    note.ticket.iter().for_each(|ticket| ticket.written());
                }
                Verdict::FailedAlone(error) if error.fault == Fault::Row || note.strikes >= STRIKES => {
                    counts.refused.fetch_add(1, Relaxed);
                    counts.queued.fetch_sub(1, Relaxed);
                    row.log_refused(&error.message);
                    note.ticket.iter().for_each(|ticket| ticket.refused(Arc::clone(&error.message)));
                }
                Verdict::FailedAlone(error) => {
                    note.strikes += u32::from(others_written);
                    problem.get_or_insert(error);
                    self.batch.push(Queued { row, note });
                }
                Verdict::Kept => self.batch.push(Queued { row, note }),
            }
        }
        match problem {
            None => {
                self.pauses.end();
                Ok(())
            }
            Some(error) => {
                self.pauses.lengthen(Instant::now());
                Err(error)
            }
        }
    }
}

/// Writes rows together; where that fails for another reason than the database being away, in halves down to single
/// rows, so that one bad row does not hold up the others. Answers each row's verdict and why the database is away.
async fn write_in_parts<R: Kind>(
    store: &dyn RecordStore,
    rows: &[R],
    closing: &watch::Receiver<Option<Instant>>,
) -> (Vec<Verdict>, Option<WriteError>) {
    let mut verdicts = vec![Verdict::Kept; rows.len()];
    let mut unclear_alone = 0;
    let mut written = false;
    let mut parts = Vec::from([Range { start: 0, end: rows.len() }]);
    while let Some(part) = parts.pop() {
        let attempt = tokio::select! {
            inserted = R::insert(store, &rows[part.clone()]) => inserted,
            () = deadline(closing.clone()) => Err(WriteError { fault: Fault::Away, message: "the deadline of closing is over".into() }),
        };
        match attempt {
            Ok(()) => {
                written = true;
                verdicts[part].fill(Verdict::Written);
            }
            Err(error) if error.fault == Fault::Away => return (verdicts, Some(error)),
            Err(error) if part.len() == 1 => {
                unclear_alone += usize::from(error.fault == Fault::Unclear);
                if unclear_alone >= LONE_FAILURES && !written {
                    return (vec![Verdict::Kept; rows.len()], Some(error));
                }
                verdicts[part.start] = Verdict::FailedAlone(error);
            }
            Err(_) => {
                let middle = part.start + part.len() / 2;
                parts.push(middle..part.end);
                parts.push(part.start..middle);
            }
        }
    }
    (verdicts, None)
}

/// Resolves when the recorder is being closed and its deadline is over.
async fn deadline(mut closing: watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = *closing.borrow_and_update();
        if let Some(deadline) = deadline {
            return tokio::time::sleep_until(deadline).await;
        }
        if closing.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

#[async_trait]
impl Kind for StoredUsage {
    async fn insert(store: &dyn RecordStore, rows: &[Self]) -> Result<(), WriteError> {
        store.insert_usage(rows).await
    }

    fn counts(ledger: &Ledger) -> &Counts {
        &ledger.usage
    }

    /// The whole row, since somebody is billed by it; it holds ids and numbers only.
    fn log_refused(&self, reason: &str) {
        tracing::error!(error = reason, records.row = ?self, "a usage row is refused by the database and stands only here");
    }
}

#[async_trait]
impl Kind for StoredAudit {
    async fn insert(store: &dyn RecordStore, rows: &[Self]) -> Result<(), WriteError> {
        store.insert_audit(rows).await
    }

    fn counts(ledger: &Ledger) -> &Counts {
        &ledger.audit
    }

    fn log_refused(&self, reason: &str) {
        tracing::error!(error = reason, records.id = %self.id, records.time = %self.time, records.action = self.action, "an audit row is refused by the database and lost");
    }
}

/// The pauses between attempts that fail.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    pub(super) until: Option<Instant>,
    pub(super) failures: u32,
    chance: RandomState,
}

impl Pauses {
    fn end(&mut self) {
        self.until = None;
        self.failures = 0;
    }

    fn lengthen(&mut self, now: Instant) {
        let whole = PAUSES.start.saturating_mul(1 << self.failures.min(16)).min(PAUSES.end);
        let less = u32::try_from(self.chance.hash_one(self.failures) % 512).unwrap_or_default();
        self.until = Some(now + whole - whole * less / 1024);
        self.failures = self.failures.saturating_add(1);
    }
}
