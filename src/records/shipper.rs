//! The one task that takes rows from the journal to the database: in batches, in the order they were written, for as long as
//! the database is away, and each at least once; the database takes each only once.
//!
//! It holds about two batches in memory, however many rows wait: one is written while the next is read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ahead::{Ahead, read_ahead};
use super::journal::{Source, State};
use super::lane::{Kind, Lane, Round, deadline};
use super::member_keys::MemberKeys;
use super::recorder::{Counts, Ledger};
use super::seal::MemberKey;
use super::store::{BATCH_ROWS, Fault};
use super::{RecordStore, StoredAudit, StoredUsage, SystemRow, ToolRow, WriteError};

/// How often a failure that goes on is logged.
const FAILURE_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// How long nothing is done when nothing arrives.
const IDLE: Duration = Duration::from_secs(1);

/// The pause after the journal could not be read.
const JOURNAL_PAUSE: Duration = Duration::from_secs(1);

/// How rows are taken to the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) batch_rows: usize,
    pub(super) linger: Duration,
}

/// A lane for each kind of row.
#[derive(Debug)]
struct Lanes {
    usage: Lane<StoredUsage>,
    tools: Lane<ToolRow>,
    audit: Lane<StoredAudit>,
    system: Lane<SystemRow>,
}

/// The shipper.
#[derive(Debug)]
pub(super) struct Shipper {
    store: Arc<dyn RecordStore>,
    /// Where keys go, where rows are sealed.
    members: Option<Arc<dyn MemberKeys>>,
    source: Source,
    journal: Arc<State>,
    settings: Settings,
    /// Keys that audit rows on their way are sealed with, and that the database may not have.
    keys: Vec<MemberKey>,
    lanes: Lanes,
    /// Entries that were read, and how many of their rows are still on their way.
    entries: BTreeMap<i64, u64>,
    /// Entries whose rows are all where they belong.
    finished: Vec<i64>,
    read_to: i64,
    /// The entries that come next are being read.
    reading: Option<JoinHandle<Result<Ahead, String>>>,
    /// Whether everything was read when last looked.
    at_end: bool,
    closing: watch::Receiver<Option<Instant>>,
    ledger: Arc<Ledger>,
    failure_logged: Option<Instant>,
}

impl Shipper {
    pub(super) fn new(
        store: Arc<dyn RecordStore>,
        members: Option<Arc<dyn MemberKeys>>,
        source: Source,
        journal: Arc<State>,
        settings: Settings,
        closing: watch::Receiver<Option<Instant>>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let rows = settings.batch_rows;
        Self {
            store,
            members,
            source,
            journal,
            settings,
            keys: Vec::new(),
            lanes: Lanes { usage: Lane::new(rows), tools: Lane::new(rows), audit: Lane::new(rows), system: Lane::new(rows) },
            entries: BTreeMap::new(),
            finished: Vec::new(),
            read_to: 0,
            reading: None,
            at_end: true,
            closing,
            ledger,
            failure_logged: None,
        }
    }

    /// Ships until it is closed; then what is left, until the deadline of closing.
    pub(super) async fn run(mut self) {
        while self.closing.borrow().is_none() {
            self.wait().await;
            while self.round().await {}
        }
        self.drain().await;
    }

    /// Waits until something has arrived and lingered, or may be tried again.
    async fn wait(&mut self) {
        let retry = self.retry_at();
        let (journal, linger) = (self.journal.clone(), self.settings.linger);
        let arrived = async move {
            journal.arrived.notified().await;
            tokio::time::sleep(linger).await;
        };
        tokio::select! {
            _ = self.closing.changed() => {}
            () = arrived, if retry.is_none() => {}
            () = tokio::time::sleep_until(retry.unwrap_or_else(|| Instant::now() + IDLE)) => {}
        }
    }

    /// When what failed may be tried again.
    fn retry_at(&self) -> Option<Instant> {
        let Lanes { usage, tools, audit, system } = &self.lanes;
        [usage.pauses.until, tools.pauses.until, audit.pauses.until, system.pauses.until].into_iter().flatten().min()
    }

    fn carried(&self) -> usize {
        let Lanes { usage, tools, audit, system } = &self.lanes;
        usage.len() + tools.len() + audit.len() + system.len()
    }

    /// One round: reads what is next, writes a batch of each kind. Answers whether it is worth going on at once.
    async fn round(&mut self) -> bool {
        if let Err(reason) = self.fill().await {
            tracing::error!(error = reason, "the journal cannot be read");
            tokio::time::sleep(JOURNAL_PAUSE).await;
            return false;
        }
        let keys = self.write_keys().await;
        let (store, closing, lanes) = (&*self.store, &self.closing, &mut self.lanes);
        let billed = async { (lanes.usage.write(store, closing).await, lanes.tools.write(store, closing).await) };
        let watched = async {
            let audit = match &keys {
                Ok(()) => Some(lanes.audit.write(store, closing).await),
                Err(_) => None,
            };
            (audit, lanes.system.write(store, closing).await)
        };
        let ((usage, tools), (audit, system)) = tokio::join!(billed, watched);
        let usage = self.account(usage, |ledger| &ledger.usage).await;
        let tools = self.account(tools, |ledger| &ledger.tools).await;
        let audit = match audit {
            Some(audit) => self.account(audit, |ledger| &ledger.audit).await,
            None => keys.err(),
        };
        let system = self.account(system, |ledger| &ledger.system).await;
        self.forget_finished().await;
        let failing = self.retry_at().is_some();
        match usage.or(tools).or(audit).or(system) {
            Some(error) => self.failed(&error),
            None if !failing => self.recovered(),
            None => {}
        }
        !failing && (self.carried() > 0 || !self.at_end)
    }

    /// Writes the keys that audit rows need, before those rows.
    async fn write_keys(&mut self) -> Result<(), WriteError> {
        let Some(members) = self.members.clone().filter(|_| !self.lanes.audit.pauses.is_on()) else { return Ok(()) };
        while !self.keys.is_empty() {
            let some = &self.keys[..self.keys.len().min(BATCH_ROWS)];
            let written = tokio::select! {
                written = members.insert_keys(some) => written,
                () = deadline(self.closing.clone()) => Err(WriteError { fault: Fault::Away, message: "the deadline of closing is over".into() }),
            };
            if let Err(error) = written {
                self.lanes.audit.pauses.lengthen(Instant::now());
                return Err(error);
            }
            let some = some.len();
            self.keys.drain(..some);
        }
        Ok(())
    }

    /// Takes entries until there is a batch, and begins to read those after it.
    async fn fill(&mut self) -> Result<(), String> {
        while self.carried() < self.settings.batch_rows {
            let reading = self.reading.take().unwrap_or_else(|| self.read_on());
            let ahead = reading.await.map_err(|error| error.to_string())??;
            self.at_end = ahead.entries.is_empty();
            if self.at_end {
                return Ok(());
            }
            for entry in ahead.entries {
                self.read_to = entry.seq;
                match entry.read {
                    Ok(rows) => {
                        self.entries.insert(entry.seq, entry.rows);
                        self.keys.extend(rows.keys);
                        self.lanes.usage.extend(entry.seq, rows.usage);
                        self.lanes.tools.extend(entry.seq, rows.tools);
                        self.lanes.audit.extend(entry.seq, rows.audit);
                        self.lanes.system.extend(entry.seq, rows.system);
                    }
                    Err((body, error)) => {
                        tracing::error!(error, records.rows = entry.rows, "an entry of the journal cannot be read and is set apart in it");
                        self.source.refuse(&body, &error).await?;
                        self.finished.push(entry.seq);
                    }
                }
            }
            self.reading = (!ahead.is_last).then(|| self.read_on());
        }
        Ok(())
    }

    fn read_on(&self) -> JoinHandle<Result<Ahead, String>> {
        tokio::spawn(read_ahead(self.source.clone(), self.read_to, self.settings.batch_rows))
    }

    /// Accounts for a round's rows. Answers why some are left.
    async fn account<R: Kind>(&mut self, round: Round<R>, counts: fn(&Ledger) -> &Counts) -> Option<WriteError> {
        let counts = counts(&self.ledger);
        counts.written.fetch_add(round.written, Relaxed);
        counts.refused.fetch_add(round.refused.len() as u64, Relaxed);
        self.ledger.reached(round.heads);
        for (row, error) in &round.refused {
            let row = serde_json::to_string(row).unwrap_or_default();
            tracing::error!(error = &*error.message, records.row = row, "a row is refused by the database and set apart in the journal");
            if let Err(reason) = self.source.refuse(&row, &error.message).await {
                tracing::error!(error = reason, "a refused row could not be set apart");
            }
        }
        for entry in round.done {
            if let Some(left) = self.entries.get_mut(&entry) {
                *left = left.saturating_sub(1);
            }
        }
        round.problem
    }

    /// Takes entries out of the journal whose rows are where they belong.
    async fn forget_finished(&mut self) {
        let done: Vec<i64> = self.entries.iter().filter(|(_, left)| **left == 0).map(|(entry, _)| *entry).collect();
        for entry in done {
            self.entries.remove(&entry);
            self.finished.push(entry);
        }
        if self.finished.is_empty() {
            return;
        }
        match self.source.remove(&self.finished).await {
            Ok(rows) => {
                self.journal.shipped(rows);
                self.finished.clear();
            }
            // They are written once more by the next process, which changes nothing.
            Err(reason) => tracing::warn!(error = reason, "shipped rows could not be taken out of the journal yet"),
        }
    }

    /// After closing began: everything that is left, until the deadline.
    async fn drain(&mut self) {
        self.lanes.usage.pauses.until = None;
        self.lanes.tools.pauses.until = None;
        self.lanes.audit.pauses.until = None;
        self.lanes.system.pauses.until = None;
        loop {
            let deadline = self.closing.borrow().unwrap_or_else(Instant::now);
            if self.round().await && Instant::now() < deadline {
                continue;
            }
            if Instant::now() >= deadline || self.at_end && self.carried() == 0 {
                return;
            }
            tokio::time::sleep_until(self.retry_at().unwrap_or_else(Instant::now).min(deadline)).await;
        }
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
                records.waiting = self.journal.rows_waiting(),
                "records cannot be written to the database and are kept in the journal"
            );
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
