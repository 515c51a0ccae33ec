//! The one task that writes records: gathers rows into batches, writes a round when one is due, and says how it goes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::lane::Lane;
use super::recorder::{Ledger, Unwritten};
use super::store::Fault;
use super::{RecordStore, StoredAudit, StoredUsage, WriteError};

/// How often a failure that goes on is logged.
const FAILURE_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// How often the queues are looked at while a batch is being gathered.
const GLANCE: Duration = Duration::from_millis(10);

/// The writer.
#[derive(Debug)]
pub(super) struct Writer {
    store: Arc<dyn RecordStore>,
    usage: Lane<StoredUsage>,
    audit: Lane<StoredAudit>,
    closing: watch::Receiver<Option<Instant>>,
    ledger: Arc<Ledger>,
    failure_logged: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        store: Arc<dyn RecordStore>,
        usage: Lane<StoredUsage>,
        audit: Lane<StoredAudit>,
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
    ///
    /// Once there is a row the queues are looked at from time to time and not waited for: otherwise each further row would
    /// wake this task on another thread, which costs the request that brings it more than anything else about the row.
    async fn gather(&mut self) -> bool {
        loop {
            self.usage.fill();
            self.audit.fill();
            self.note_oldest();
            let due = self.due();
            let now = Instant::now();
            if due.is_some_and(|due| due <= now) {
                return true;
            }
            let (usage_room, audit_room) = (self.usage.room(), self.audit.room());
            let empty = due.is_none();
            tokio::select! {
                biased;
                _ = self.closing.changed() => return false,
                () = tokio::time::sleep_until(due.map_or(now, |due| due.min(now + GLANCE))), if !empty => {}
                taken = self.usage.queue.recv_many(&mut self.usage.batch, usage_room), if empty => if taken == 0 { return false },
                taken = self.audit.queue.recv_many(&mut self.audit.batch, audit_room), if empty => if taken == 0 { return false },
            }
        }
    }

    /// When to write: the earlier of the lanes' times.
    fn due(&self) -> Option<Instant> {
        self.usage.due().into_iter().chain(self.audit.due()).min()
    }

    /// One round: a batch of usage rows, then one of audit rows.
    async fn write(&mut self) {
        self.usage.fill();
        self.audit.fill();
        self.write_filled().await;
    }

    /// The same with the batches as they are.
    async fn write_filled(&mut self) {
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
            self.write_filled().await;
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
