//! A store whose counters come back: whatever it has lost is counted from the usage rows before it decides again.
//!
//! The laws stand with [`super::store`]: which generations are counted by their rows, and why it does no harm when two
//! replicas count at once, or when generations settle meanwhile. Here is who counts when: whoever first finds books lost,
//! once per process, while the others wait for the same answer, though not for ever. What is in this process's journal is
//! brought to the database first; what is in another's is counted when its process finds the loss ([`super::reconcile`]).
//! What cannot be counted because the records are away leaves the store unavailable, and the limits' `on_failure` decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::explain::{buckets_lately_of, months_open_since};
use super::store::{Count, Decision, Holder, Level, Observed, Orphan, Reserve, Settled, Stage, Store, StoreError, Told, first_id, made_at};
use super::{Books, Bucket, Scope};
use crate::clock::SharedClock;
use crate::identity::Directory;
use crate::records::reckoning::Which;
use crate::records::{RecordStore, Recorder, Used};
use crate::telemetry::Metrics;

/// How far the clocks of replicas may be apart that share a store, in milliseconds. The cut lies so far ahead: no generation
/// that was settled before the counters were lost may carry an id from after it, whichever replica made the id.
pub const CLOCKS_DIFFER: u64 = 2_000;

/// How long one count may take. Whoever waits for it has a person waiting.
const COUNT_LIMIT: Duration = Duration::from_secs(5);

/// How long it is said, after a count failed, that the counters are away, before another is tried.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a call is made again after what it needed was restored.
const ATTEMPTS: usize = 4;

/// Another store, whose counters are restored from these records.
#[derive(Debug)]
pub struct RestoringStore {
    pub(super) store: Arc<dyn Store>,
    pub(super) records: Arc<dyn RecordStore>,
    pub(super) recorder: Recorder,
    pub(super) directory: Arc<Directory>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clocks_differ: u64,
    counts: Mutex<HashMap<Books, Arc<Counting>>>,
    restored: Arc<Notify>,
}

/// The counts of some books by this process, one at a time.
#[derive(Debug, Default)]
struct Counting {
    begun: AtomicU64,
    last: tokio::sync::Mutex<Last>,
}

/// How the last counts went.
#[derive(Debug, Default)]
struct Last {
    /// The number of the last that succeeded.
    succeeded: u64,
    failed: Option<(Instant, StoreError)>,
}

impl RestoringStore {
    /// Restores this store from these records. The clocks of those who share the store differ by at most so many
    /// milliseconds: [`CLOCKS_DIFFER`], or none where one process has it to itself.
    pub fn new(
        store: Arc<dyn Store>,
        records: Arc<dyn RecordStore>,
        recorder: Recorder,
        directory: Arc<Directory>,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        clocks_differ: u64,
    ) -> Self {
        Self { store, records, recorder, directory, clock, metrics, clocks_differ, counts: Mutex::default(), restored: Arc::default() }
    }

    /// Told whenever lost counters are there again: what runs should be reserved again soon.
    pub fn restored(&self) -> Arc<Notify> {
        self.restored.clone()
    }

    /// Restores the counters of every org and of everyone, however long that takes.
    pub async fn restore_all(&self) -> Result<(), StoreError> {
        for books in self.all_books() {
            self.count_once(&books).await?;
        }
        Ok(())
    }

    /// Every org's, and everyone's.
    pub(super) fn all_books(&self) -> impl Iterator<Item = Books> + use<> {
        self.directory.orgs().into_iter().map(|org| Books::Org(org.id.clone())).chain([Books::Everyone])
    }

    /// Counts the rows of these books anew, unless a count succeeds that begins after this call did.
    pub(super) async fn count_rows(&self, books: &Books) -> Result<(), StoreError> {
        let counting = Arc::clone(self.counts.lock().entry(books.clone()).or_default());
        let asked = counting.begun.load(Ordering::SeqCst);
        let too_slow = |what: &str| StoreError::Unavailable(format!("{what} within {} s", COUNT_LIMIT.as_secs()).into());
        let mut last = timeout(COUNT_LIMIT, counting.last.lock()).await.map_err(|_| too_slow("the counters were not restored"))?;
        if last.succeeded > asked {
            return Ok(());
        }
        if let Some((at, error)) = last.failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            tracing::debug!(error = %error, failed_ms = at.elapsed().as_millis(), "counters could not be restored a moment ago");
            return Err(error.clone());
        }
        let number = counting.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let counted = match timeout(COUNT_LIMIT, self.count_once(books)).await {
            Ok(counted) => counted,
            Err(_) => Err(too_slow("the usage rows were not counted")),
        };
        self.metrics.counters_counted(counted.is_ok());
        match &counted {
            Ok(()) => *last = Last { succeeded: number, failed: None },
            Err(error) => {
                tracing::warn!(counters = %books, error = %error, "counters could not be counted from the usage rows");
                last.failed = Some((Instant::now(), error.clone()));
            }
        }
        counted
    }

    async fn count_once(&self, books: &Books) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let count = self.begin_count_of_all(books).await?;
            let now = self.clock.now();
            let levels = buckets_lately_of(&self.used(books, now, first_id(count.cut)).await?, &self.directory, now);
            if self.store.count(books, &count, &levels).await? {
                if count.is_lost {
                    tracing::info!(counters = %books, restored = levels.len(), "lost counters are restored from the usage rows");
                    self.restored.notify_one();
                }
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the counters change faster than the usage rows are counted".into()))
    }

    /// Begins a count that finds every row which was in the journal when this was called, and every one that is from before
    /// the books were lost.
    ///
    /// The cut is fixed first, so that nothing is settled behind its back while the journal is brought to the database. The
    /// number is taken last: a count with a later one, by whichever replica, begins to read after these rows were there.
    async fn begin_count_of_all(&self, books: &Books) -> Result<Count, StoreError> {
        for _ in 0..ATTEMPTS {
            let found = self.store.begin_count(books, self.ahead()).await?;
            self.recorder.shipped().await.map_err(StoreError::Unavailable)?;
            let count = self.store.begin_count(books, self.ahead()).await?;
            if count.cut == found.cut {
                return Ok(count);
            }
        }
        Err(StoreError::Unavailable("the store loses its counters faster than the journal is shipped".into()))
    }

    /// An instant from which on no id has been made yet, whichever replica makes it.
    pub(super) fn ahead(&self) -> u64 {
        made_at(Uuid::now_v7()).saturating_add(self.clocks_differ + 1)
    }

    /// What rows of generations with lesser ids say was used of these books.
    pub(super) async fn used(&self, books: &Books, now: Timestamp, before: Uuid) -> Result<Used, StoreError> {
        let which = Which { since: months_open_since(now), before };
        let used = match books {
            Books::Org(org) => self.records.used_by_org(org, which).await.map(|members| Used { members, everyone: Vec::new() }),
            Books::Everyone => self.records.used_by_everyone(which).await.map(|everyone| Used { members: Vec::new(), everyone }),
        };
        used.map_err(|error| StoreError::Unavailable(error.to_string().into()))
    }

    /// Makes a call, and again after what it found lost was restored.
    async fn restoring<T, Answer>(&self, call: impl Fn() -> Answer + Send + Sync) -> Result<T, StoreError>
    where
        Answer: Future<Output = Result<T, StoreError>> + Send,
        T: Send,
    {
        for _ in 0..ATTEMPTS {
            match call().await {
                Err(StoreError::Lost(books)) => self.count_rows(&books).await?,
                answer => return answer,
            }
        }
        Err(StoreError::Unavailable("the store loses its counters faster than they are restored".into()))
    }

    /// Settles a generation that its rows count: once these were brought to the database and counted, what it holds goes back.
    async fn settle_by_rows(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.count_rows(&Books::Org(org.into())).await?;
        if actual.iter().any(|settled| settled.bucket.scope == Scope::Everyone) {
            self.count_rows(&Books::Everyone).await?;
        }
        self.settle_counted(org, id, actual).await
    }
}

#[async_trait]
impl Store for RestoringStore {
    async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Decision, StoreError> {
        let decision = self.restoring(|| self.store.reserve(reserve)).await;
        if decision.is_err()
            && reserve.charges.iter().any(|charge| charge.bucket.scope == Scope::Everyone)
            && let Err(error) = self.store.release(reserve.org, reserve.id).await
        {
            // The half that was reserved while the other's counters were lost.
            tracing::debug!(generation.id = %reserve.id, error = %error, "half a reservation is left to the sweep");
        }
        decision
    }

    async fn settle(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        match self.restoring(|| self.store.settle(org, id, actual)).await {
            Err(StoreError::CountedByRows) => self.settle_by_rows(org, id, actual).await,
            answer => answer,
        }
    }

    async fn settle_counted(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.restoring(|| self.store.settle_counted(org, id, actual)).await
    }

    async fn peek(&self, buckets: &[Bucket]) -> Result<Vec<Level>, StoreError> {
        self.restoring(|| self.store.peek(buckets)).await
    }

    async fn write(&self, org: &str, id: Uuid, stage: Stage, record: &str) -> Result<(), StoreError> {
        self.store.write(org, id, stage, record).await
    }

    async fn renew(&self, org: &str, owner: &str, open: &[(Uuid, u64)], now: Timestamp, lease: Duration) -> Result<Vec<Uuid>, StoreError> {
        self.store.renew(org, owner, open, now, lease).await
    }

    async fn extend(&self, org: &str, id: Uuid, to: &[Settled]) -> Result<(), StoreError> {
        self.store.extend(org, id, to).await
    }

    async fn release(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        self.store.release(org, id).await
    }

    async fn holder(&self, org: &str, id: Uuid) -> Result<Option<Holder>, StoreError> {
        self.store.holder(org, id).await
    }

    async fn hand_over(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        self.store.hand_over(org, id).await
    }

    async fn sweep(&self, org: &str, owner: &str, now: Timestamp, lease: Duration) -> Result<Vec<Orphan>, StoreError> {
        self.store.sweep(org, owner, now, lease).await
    }

    async fn begin_count(&self, books: &Books, cut: u64) -> Result<Count, StoreError> {
        self.store.begin_count(books, cut).await
    }

    async fn count(&self, books: &Books, count: &Count, used: &[(Bucket, u64)]) -> Result<bool, StoreError> {
        self.store.count(books, count, used).await
    }

    async fn observe(&self, books: &Books, buckets: &[Bucket]) -> Result<Observed, StoreError> {
        self.store.observe(books, buckets).await
    }

    async fn move_cut(&self, books: &Books, observed: &Observed, cut: u64) -> Result<bool, StoreError> {
        self.store.move_cut(books, observed, cut).await
    }

    async fn tell_shipped(&self, replica: &str, at: u64) -> Result<Told, StoreError> {
        self.store.tell_shipped(replica, at).await
    }

    async fn healthy(&self) -> bool {
        self.store.healthy().await
    }
}
