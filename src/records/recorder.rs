//! The way rows take from where they are made to the database, off the path of requests: into the journal first, and from
//! there by the shipper. What is in the journal goes to the log files too, where these are wanted.
//!
//! Usage and tool rows are never dropped, and an answer tells when they are in the journal. Audit and system rows never make
//! anyone wait: where there is no room they are dropped, and audit rows are counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::attest::{Attestant, Proof};
use super::chain::Head;
use super::journal::{Journal, JournalError, JournalHealth, Left, Linking, Note, OpenError};
use super::rows::Rows;
use super::seal::KeyRing;
use super::shipper::{self, Shipper};
use super::store::BATCH_ROWS;
use super::{AuditRow, RecordStore, RowLog, StoredAudit, SystemRow, journal, upkeep};
use crate::clock::{SharedClock, SystemClock};

/// How often dropped audit rows are logged, at most.
const DROPS_LOGGED_EVERY: Duration = Duration::from_mins(1);

/// How often audit rows are taken to the journal. Waiting for each would wake a task on another thread, which costs the
/// request that brings it more than anything else about the row.
const GLANCE: Duration = Duration::from_millis(20);

/// How rows are kept and written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The journal.
    pub journal: journal::Settings,
    /// What new chats get when the journal has no room.
    pub when_full: WhenFull,
    /// Writes what is journalled into log files too, where these are wanted.
    pub row_log: Option<RowLog>,
    /// Audit rows that may wait for the journal; more are dropped and counted. A row takes about 1 KB.
    pub audit_room: usize,
    /// The most rows written to the database at once, at most [`BATCH_ROWS`].
    pub batch_rows: usize,
    /// How long a row waits for others to be written with.
    pub linger: Duration,
    /// What audit rows are sealed, linked and witnessed with; they are as they come where there is nothing.
    pub proof: Option<Proof>,
    /// Says when the journal's troubles were.
    pub clock: SharedClock,
}

impl Settings {
    /// The defaults, with this journal.
    pub fn with(journal: journal::Settings) -> Self {
        Self {
            journal,
            when_full: WhenFull::Refuse,
            row_log: None,
            audit_room: 50_000,
            batch_rows: BATCH_ROWS,
            linger: Duration::from_millis(200),
            proof: None,
            clock: Arc::new(SystemClock),
        }
    }
}

/// What happens to new chats when the journal has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// They are refused until there is room: nothing is ever lost.
    Refuse,
    /// They go on unrecorded; what finds no room is lost, and counted.
    Drop,
}

/// Takes rows from anywhere. Cheap to clone; all clones feed the same journal.
#[derive(Debug, Clone)]
pub struct Recorder {
    journal: Journal,
    when_full: WhenFull,
    loose: mpsc::Sender<Loose>,
    /// Tells the gathering of loose rows to end.
    closing: watch::Sender<bool>,
    /// Tells the shipper by when to end, once nothing is written to the journal any more.
    last_shipping: watch::Sender<Option<Instant>>,
    ledger: Arc<Ledger>,
    tasks: Arc<tokio::sync::Mutex<Option<Tasks>>>,
}

/// A row that belongs to no others, and that nobody waits for.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are audit rows")]
enum Loose {
    Audit(StoredAudit),
    System(SystemRow),
}

#[derive(Debug)]
struct Tasks {
    gathering: JoinHandle<()>,
    shipping: JoinHandle<()>,
    upkeep: JoinHandle<()>,
    attesting: Option<(Arc<Attestant>, JoinHandle<()>)>,
}

/// How a recorder does, for metrics and readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The journal.
    pub journal: JournalHealth,
    /// How long the oldest row in the journal has waited for the database, when last looked.
    pub oldest: Option<Duration>,
    /// Audit rows that wait for the journal.
    pub audit_queued: usize,
    /// For how long writing to the database has failed; nothing where the last attempt succeeded.
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
    /// Chats that went on without standing in the journal.
    pub starts_unrecorded: u64,
}

impl Recorder {
    /// Opens the journal and starts what writes it and empties it, on `runtime`, which must outlive everything that records.
    /// Answers also what the process before left in the journal.
    ///
    /// # Errors
    ///
    /// Where the journal cannot be opened.
    pub async fn open(store: Arc<dyn RecordStore>, settings: Settings, runtime: &Handle) -> Result<(Self, Left), OpenError> {
        let ring = Arc::new(KeyRing::default());
        let linking = settings.proof.as_ref().map(|proof| Linking { key: proof.keys.chain.clone(), ring: ring.clone() });
        let (journal, left) = Journal::open(&settings.journal, linking, settings.row_log.clone(), runtime).await?;
        let (loose, loose_rows) = mpsc::channel(settings.audit_room.max(1));
        let (closing, closing_seen) = watch::channel(false);
        let (last_shipping, last_shipping_seen) = watch::channel(None);
        let ledger = Arc::new(Ledger::default());
        let pace = shipper::Settings { batch_rows: settings.batch_rows.clamp(1, BATCH_ROWS), linger: settings.linger };
        let members = settings.proof.as_ref().map(|proof| proof.members.clone());
        let (source, state) = (journal.source().clone(), journal.state().clone());
        let shipper = Shipper::new(store, members, source, state, pace, last_shipping_seen, ledger.clone());
        let attestant = match settings.proof {
            Some(proof) => Some(Arc::new(Attestant::open(proof, journal.id(), ring, ledger.clone())?)),
            None => None,
        };
        let tasks = Tasks {
            gathering: runtime.spawn(gather(journal.clone(), loose_rows, closing_seen, ledger.clone())),
            shipping: runtime.spawn(shipper.run()),
            upkeep: runtime.spawn(upkeep::run(journal.clone(), ledger.clone(), settings.clock)),
            attesting: attestant.map(|attestant| (attestant.clone(), runtime.spawn(attestant.run()))),
        };
        let tasks = Arc::new(tokio::sync::Mutex::new(Some(tasks)));
        Ok((Self { journal, when_full: settings.when_full, loose, closing, last_shipping, ledger, tasks }, left))
    }

    /// Who writes the journal: made with its file, and kept with it.
    pub fn id(&self) -> Uuid {
        self.journal.id()
    }

    /// A generation is about to be forwarded. Resolves when its record is in the journal, or may be missing there.
    ///
    /// # Errors
    ///
    /// Where it must not be forwarded: the journal takes no more.
    pub async fn start(&self, id: Uuid, record: String) -> Result<(), JournalError> {
        match (self.journal.start(id, record).await, self.when_full) {
            (Err(JournalError::Full | JournalError::Unwritable(_)), WhenFull::Drop) => {
                self.ledger.unrecorded.fetch_add(1, Relaxed);
                Ok(())
            }
            (Err(error @ (JournalError::Full | JournalError::Unwritable(_))), WhenFull::Refuse) => {
                self.ledger.turned_away.fetch_add(1, Relaxed);
                Err(error)
            }
            (started, _) => started,
        }
    }

    /// Notes something of a generation, in time.
    pub async fn note(&self, id: Uuid, note: Note, record: String) {
        self.journal.note(id, note, record).await;
    }

    /// Closes a generation's books: its rows, and what its counters are charged. Resolves when both are in the journal,
    /// however long that takes.
    ///
    /// # Errors
    ///
    /// Only where the recorder is closed before; the rows are in the log then.
    pub async fn settle(&self, id: Uuid, mut rows: Rows, amounts: String) -> Result<(), JournalError> {
        rows.clean();
        if self.when_full == WhenFull::Drop && self.journal.health().failing_for.is_some() {
            self.ledger.lose(&rows);
            return Ok(());
        }
        self.journal.settle(id, rows, amounts).await
    }

    /// Hands over an audit row. Never waits: without room the row is dropped and counted.
    pub fn record_audit(&self, row: AuditRow) {
        if self.loose.try_send(Loose::Audit(row.into())).is_err() {
            self.ledger.drop_audit(1);
        }
    }

    /// Hands over a system row. Never waits: without room the row is dropped; the next one follows soon.
    pub fn record_system(&self, row: SystemRow) {
        let _ = self.loose.try_send(Loose::System(row));
    }

    /// Waits until everything that is in the journal now is in the database, as far as the database takes it.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn shipped(&self) -> Result<(), Arc<str>> {
        while self.journal.state().rows_waiting() > 0 {
            if self.ledger.trouble.lock().since.is_some() {
                return Err(self.ledger.trouble.lock().last.clone().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// How it does right now.
    pub fn health(&self) -> Health {
        let Ledger { usage, audit, trouble, .. } = &*self.ledger;
        let trouble = trouble.lock();
        Health {
            journal: self.journal.health(),
            oldest: *self.ledger.oldest.lock(),
            audit_queued: self.loose.max_capacity() - self.loose.capacity(),
            failing_for: trouble.since.map(|since| since.elapsed()),
            last_error: trouble.last.clone(),
            usage_written: usage.written.load(Relaxed),
            audit_written: audit.written.load(Relaxed),
            usage_refused: usage.refused.load(Relaxed),
            audit_refused: audit.refused.load(Relaxed),
            audit_dropped: self.ledger.dropped.load(Relaxed),
            starts_unrecorded: self.ledger.unrecorded.load(Relaxed),
        }
    }

    /// Takes everything to the journal, and until `deadline` from there to the database. Answers how many rows are left in
    /// the journal, for the next process to ship. Every clone is closed with it; closing again does nothing.
    pub async fn close(&self, deadline: Duration) -> u64 {
        let Some(tasks) = self.tasks.lock().await.take() else { return self.journal.state().rows_waiting() };
        let deadline = Instant::now() + deadline;
        self.closing.send_replace(true);
        ended("gathering loose rows", tasks.gathering.await);
        self.journal.close_writer().await;
        self.last_shipping.send_replace(Some(deadline));
        ended("shipping", tasks.shipping.await);
        tasks.upkeep.abort();
        let _ = tasks.upkeep.await;
        if let Some((attestant, attesting)) = tasks.attesting {
            attesting.abort();
            let _ = attesting.await;
            attestant.attest().await;
        }
        self.journal.close().await;
        self.ledger.log_drops(Instant::now());
        self.journal.state().rows_waiting()
    }
}

fn ended(what: &str, how: Result<(), tokio::task::JoinError>) {
    if let Err(error) = how {
        tracing::error!(error = %error, task = what, "a task of the records ended before it was closed");
    }
}

/// Takes loose rows to the journal, many at once.
async fn gather(journal: Journal, mut rows: mpsc::Receiver<Loose>, mut closing: watch::Receiver<bool>, ledger: Arc<Ledger>) {
    let mut closed = false;
    loop {
        let mut loose = Vec::new();
        tokio::select! {
            biased;
            taken = rows.recv_many(&mut loose, BATCH_ROWS) => if taken == 0 { return },
            _ = closing.changed(), if !closed => {
                closed = true;
                // Whoever has a place in the queue still gets it.
                rows.close();
                continue;
            }
        }
        if !closed && loose.len() < BATCH_ROWS {
            tokio::time::sleep(GLANCE).await;
            while loose.len() < BATCH_ROWS
                && let Ok(row) = rows.try_recv()
            {
                loose.push(row);
            }
        }
        let mut rows = Rows::default();
        for row in loose {
            match row {
                Loose::Audit(row) => rows.audit.push(row),
                Loose::System(row) => rows.system.push(row),
            }
        }
        let audit = rows.audit.len() as u64;
        if journal.state().is_full() {
            ledger.drop_audit(audit);
            continue;
        }
        rows.clean();
        if journal.rows(rows).await.is_err() {
            ledger.drop_audit(audit);
        }
    }
}

/// What the recorder and its tasks count together.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) usage: Counts,
    pub(super) tools: Counts,
    pub(super) audit: Counts,
    pub(super) system: Counts,
    pub(super) trouble: Mutex<Trouble>,
    pub(super) oldest: Mutex<Option<Duration>>,
    /// The ends of chains of audit rows that the database has, as far as they moved since the start.
    pub(super) heads: Mutex<BTreeMap<String, Head>>,
    dropped: AtomicU64,
    unrecorded: AtomicU64,
    turned_away: AtomicU64,
    lost: AtomicU64,
    drops_logged: Mutex<DropsLogged>,
}

/// What found no room in the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Chat starts that were refused.
    pub(super) turned_away: u64,
    /// Chat starts that went on unrecorded.
    pub(super) unrecorded: u64,
    /// Usage rows that are lost.
    pub(super) usage_rows: u64,
    /// Audit rows that are lost.
    pub(super) audit_rows: u64,
}

/// The counts of one kind of row.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// How writing to the database fails.
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
    /// The database has rows up to these.
    pub(super) fn reached(&self, heads: BTreeMap<String, Head>) {
        let mut known = self.heads.lock();
        for (org, head) in heads {
            if known.get(&org).is_none_or(|known| known.seq < head.seq) {
                known.insert(org, head);
            }
        }
    }

    /// What found no room in the journal since the start.
    pub(super) fn losses(&self) -> Losses {
        Losses {
            turned_away: self.turned_away.load(Relaxed),
            unrecorded: self.unrecorded.load(Relaxed),
            usage_rows: self.lost.load(Relaxed),
            audit_rows: self.dropped.load(Relaxed),
        }
    }

    fn drop_audit(&self, rows: u64) {
        if rows == 0 {
            return;
        }
        self.dropped.fetch_add(rows, Relaxed);
        let now = Instant::now();
        if self.drops_logged.lock().at.is_none_or(|at| now.duration_since(at) >= DROPS_LOGGED_EVERY) {
            self.log_drops(now);
        }
    }

    fn lose(&self, rows: &Rows) {
        rows.log_lost("found no room in the journal");
        self.lost.fetch_add(rows.usage.len() as u64, Relaxed);
        self.usage.refused.fetch_add(rows.usage.len() as u64, Relaxed);
        self.drop_audit(rows.audit.len() as u64);
    }

    /// Says how many audit rows were dropped since it last said so.
    fn log_drops(&self, now: Instant) {
        let mut logged = self.drops_logged.lock();
        let dropped = self.dropped.load(Relaxed);
        if dropped > logged.drops {
            tracing::error!(
                records.dropped = dropped - logged.drops,
                records.dropped_total = dropped,
                "audit rows were dropped: there was no room for them, or the recorder closed"
            );
            *logged = DropsLogged { at: Some(now), drops: dropped };
        }
    }
}
