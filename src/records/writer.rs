//! The one task that writes records: gathers rows into batches, writes them, tries again while the database is away,
//! and sets apart rows that the database will not have.

use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::recorder::{Counts, Ledger, Ticket, Unwritten};
use super::store::{BATCH_ROWS, Fault};
use super::{AuditRow, RecordStore, UsageRow, WriteError};

/// How long a row waits for others to be written with.
const LINGER: Duration = Duration::from_millis(200);

/// The first and the longest pause after a failure; pauses double in between, less up to a half by chance, so that
/// replicas do not come back all at once.
const PAUSES: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(10);

/// How often a failure that goes on is logged.
const FAILURE_LOGGED_EVERY: Duration = Duration::from_mins(1);

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
    queue: mpsc::Receiver<Queued<R>>,
    batch: Vec<Queued<R>>,
    pauses: Pauses,
}

/// What differs between the kinds of rows.
#[async_trait]
trait Kind: Debug + Sized + Send + Sync {
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

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<dyn RecordStore>,
    usage: Lane<UsageRow>,
    audit: Lane<AuditRow>,
    closing: watch::Receiver<Option<Instant>>,
    ledger: Arc<Ledger>,
    failure_logged: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn RecordStore>,
        usage: Lane<UsageRow>,
        audit: Lane<AuditRow>,
        closing: watch::Receiver<Option<Instant>>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self { store, usage, audit, closing, ledger, failure_logged: None }
    }

    /// Writes until it is closed and nothing is left, or the deadline of closing is over; answers what is left.
    pub(super) async fn run(mut self) -> Unwritten {
        while self.gather().await {
            self.write().await;
        }
        self.drain().await;
        Unwritten { usage: self.usage.leave().await, audit: self.audit.leave().await }
    }

    /// Gathers rows until a batch is due. Answers false when the recorder is being closed.
    async fn gather(&mut self) -> bool {
        loop {
            let due = self.due();
            let waiting = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let (usage_room, audit_room) = (self.usage.room(), self.audit.room());
            tokio::select! {
                biased;
                _ = self.closing.changed() => return false,
                () = waiting => return true,
                taken = self.usage.queue.recv_many(&mut self.usage.batch, usage_room), if usage_room > 0 => if taken == 0 { return false },
                taken = self.audit.queue.recv_many(&mut self.audit.batch, audit_room), if audit_room > 0 => if taken == 0 { return false },
            }
            self.note_oldest();
        }
    }

    /// When to write: the earlier of the lanes' times.
    fn due(&self) -> Option<Instant> {
        self.usage.due().into_iter().chain(self.audit.due()).min()
    }

    /// One round: a batch of usage rows, then one of audit rows.
    async fn write(&mut self) {
        let usage = self.usage.write(&*self.store, &self.ledger, &self.closing).await;
        if let Err(WriteError { fault: Fault::Away, .. }) = usage {
            self.audit.pauses.until = self.usage.pauses.until;
        }
        let audit = self.audit.write(&*self.store, &self.ledger, &self.closing).await;
        self.note_oldest();
        if let Err(error) = usage.and(audit) {
            self.failed(&error);
        } else if self.usage.pauses.failures == 0 && self.audit.pauses.failures == 0 {
            self.recovered();
        }
    }

    /// After closing began: everything that is queued, usage rows first, until the deadline. Whoever waits for room
    /// still gets it.
    async fn drain(&mut self) {
        let deadline = *self.closing.borrow();
        self.usage.pauses.until = None;
        self.audit.pauses.until = None;
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            self.usage.fill();
            // Audit rows take their turn when no usage row is left that could be written now.
            if self.usage.batch.is_empty() || self.usage.pauses.until.is_some() {
                self.audit.fill();
            }
            if self.usage.batch.is_empty() && self.audit.batch.is_empty() {
                return;
            }
            self.write().await;
            let now = Instant::now();
            let next = self.due_without_lingering().map_or(now, |next| deadline.map_or(next, |deadline| next.min(deadline)));
            tokio::time::sleep_until(next).await;
        }
    }

    /// When the first lane that holds rows may be written again.
    fn due_without_lingering(&self) -> Option<Instant> {
        let usage = (!self.usage.batch.is_empty()).then_some(self.usage.pauses.until);
        let audit = (!self.audit.batch.is_empty()).then_some(self.audit.pauses.until);
        // A lane without a pause comes first: nothing is earlier than any instant.
        usage.into_iter().chain(audit).min().flatten()
    }

    fn recovered(&mut self) {
        let since = self.ledger.trouble.lock().since.take();
        if let Some(since) = since {
            self.failure_logged = None;
            tracing::info!(records.failing_ms = millis(since.elapsed()), "records are being written again");
        }
    }

    fn failed(&mut self, error: &WriteError) {
        let now = Instant::now();
        let since = {
            let mut trouble = self.ledger.trouble.lock();
            trouble.last = Some(Arc::clone(&error.message));
            *trouble.since.get_or_insert(now)
        };
        if self.failure_logged.is_none_or(|logged| now.duration_since(logged) >= FAILURE_LOGGED_EVERY) {
            self.failure_logged = Some(now);
            tracing::error!(
                error = %error,
                records.failing_ms = millis(now.duration_since(since)),
                records.usage_queued = self.ledger.usage.queued.load(Relaxed),
                records.audit_queued = self.ledger.audit.queued.load(Relaxed),
                "records cannot be written and are kept for later"
            );
        }
    }

    fn note_oldest(&self) {
        *self.ledger.usage.oldest.lock() = self.usage.oldest();
        *self.ledger.audit.oldest.lock() = self.audit.oldest();
    }
}

impl<R> Lane<R> {
    pub(super) fn new(queue: mpsc::Receiver<Queued<R>>) -> Self {
        Self { queue, batch: Vec::with_capacity(BATCH_ROWS), pauses: Pauses::default() }
    }

    fn room(&self) -> usize {
        BATCH_ROWS.saturating_sub(self.batch.len())
    }

    fn oldest(&self) -> Option<Instant> {
        self.batch.first().map(|queued| queued.note.since)
    }

    /// When to write: at once with a full batch, else when the oldest row has lingered; never during a pause.
    fn due(&self) -> Option<Instant> {
        let oldest = self.oldest()?;
        let due = if self.room() == 0 { oldest } else { oldest + LINGER };
        Some(self.pauses.until.map_or(due, |pause| due.max(pause)))
    }

    /// Takes what is queued without waiting.
    fn fill(&mut self) {
        while self.room() > 0 {
            let Ok(queued) = self.queue.try_recv() else { return };
            self.batch.push(queued);
        }
    }

    /// Closes the queue and answers the rows that are left, those whose place is taken and that are about to come
    /// included.
    async fn leave(mut self) -> Vec<R> {
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
    async fn write(
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
    let mut parts = vec![0..rows.len()];
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
impl Kind for UsageRow {
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
impl Kind for AuditRow {
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
struct Pauses {
    until: Option<Instant>,
    failures: u32,
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
