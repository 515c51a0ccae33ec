//! Counters compared with the rows they should add up to, and repaired.
//!
//! Two moving things can only be compared where neither moves. So books are compared while nothing of them is open, and a
//! difference is only believed when it is there again after a while in which nothing was settled ([`Observed::is_as`]) and
//! every replica has told that the database has what was in its journal when it was first seen. Whatever is on the counters
//! has its row in the database by then, so that nothing of the difference is under way.
//!
//! It is repaired by moving the cut (see [`super::store`]) ahead of every id, which the store does only if the books still
//! stand as they were observed, and by counting the rows. A generation that none of this knew of, because it was let through
//! without a reservation, is from before the new cut and so is counted by its row. Books that never stand still are never
//! compared.
//!
//! Only counters are compared that have rows, and to which something was settled since the cut: no limit may stand on others.
//!
//! The same telling finds losses. A replica that the store does not know any more has rows in its journal, perhaps, that
//! were settled before the store lost everything, and that another replica could not count when it restored the books. They
//! are counted once they are in the database.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::explain::buckets_of;
use super::restoring::RestoringStore;
use super::store::{Observed, StoreError, made_at};
use super::{Books, Bucket, Resource, Scope, Window};
use crate::records::{AuditRow, Category, Severity};

/// How often it is told what was shipped.
const EVERY: Duration = Duration::from_secs(1);

/// How long bringing the journal to the database may hold that up.
const SHIPPING_LIMIT: Duration = Duration::from_secs(10);

/// How long a difference is there at least before it is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(2);

/// How long it is waited for the replicas to tell. After that, books are compared anew.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many counters are looked at in one call.
const LOOKED_AT_ONCE: usize = 200;

/// By how much counters were off in all, in each resource's unit, and how many, by what they count in which window.
pub type Drift = BTreeMap<(Resource, Window), (u64, u64)>;

/// Counters of some books that are not what their rows add up to.
#[derive(Debug)]
struct Difference {
    books: Books,
    observed: Observed,
    wrong: HashSet<Wrong>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wrong {
    bucket: Bucket,
    used: u64,
    rows: u64,
}

/// Differences that are not believed yet.
#[derive(Debug)]
struct Seen {
    /// In milliseconds since 1970.
    at: u64,
    since: Instant,
    differences: Vec<Difference>,
}

/// What one process does about its store's counters.
#[derive(Debug)]
pub struct Reconciler {
    counters: Arc<RestoringStore>,
    replica: Arc<str>,
    /// How often books are compared; never where it is zero.
    every: Duration,
    compared: Instant,
    seen: Option<Seen>,
    /// When what was in the journal was last known to be in the database, in milliseconds since 1970.
    shipped: Option<u64>,
    /// Whether rows may be in the database that whoever restored the books could not count.
    owes_a_count: bool,
}

impl Reconciler {
    /// Compares at this interval; never where it is zero.
    pub fn new(counters: Arc<RestoringStore>, replica: Arc<str>, every: Duration) -> Self {
        Self { counters, replica, every, compared: Instant::now(), seen: None, shipped: None, owes_a_count: false }
    }

    /// Tells and compares, for ever.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.round().await {
                tracing::debug!(error = %error, "counters cannot be looked after right now");
            }
        }
    }

    async fn round(&mut self) -> Result<(), StoreError> {
        let told = self.tell().await?;
        if let Some(seen) = self.seen.take() {
            let all_told = told > seen.at.saturating_add(self.counters.clocks_differ);
            if all_told && seen.since.elapsed() >= BELIEVED_AFTER {
                self.believe(seen.differences).await;
            } else if seen.since.elapsed() < PATIENCE {
                self.seen = Some(seen);
            }
        } else if !self.every.is_zero() && self.compared.elapsed() >= self.every {
            self.compared = Instant::now();
            let at = made_at(Uuid::now_v7());
            let differences = self.compare_all().await;
            if differences.is_empty() {
                self.counters.metrics.counters_compared(&Drift::new());
            } else {
                self.seen = Some(Seen { at, since: self.compared, differences });
            }
        }
        Ok(())
    }

    /// Tells up to when what was in this journal is in the database. Answers up to when every replica has told.
    async fn tell(&mut self) -> Result<u64, StoreError> {
        let at = made_at(Uuid::now_v7());
        match self.ship().await {
            Ok(()) => self.shipped = Some(at),
            Err(error) if self.shipped.is_none() => return Err(error),
            // What was told before is told again: that this replica is there, and behind.
            Err(error) => tracing::debug!(error = %error, "the journal is not shipped yet"),
        }
        let told = self.counters.store.tell_shipped(&self.replica, self.shipped.unwrap_or(at)).await?;
        self.owes_a_count |= !told.was_known;
        if self.owes_a_count {
            self.ship().await?;
            for books in self.counters.all_books() {
                match self.counters.store.observe(&books, &[]).await {
                    // Whoever counts them will find every row.
                    Err(StoreError::Lost(_)) => {}
                    Err(error) => return Err(error),
                    Ok(_) => self.counters.count_rows(&books).await?,
                }
            }
            self.owes_a_count = false;
        }
        Ok(told.by_all)
    }

    async fn ship(&self) -> Result<(), StoreError> {
        match tokio::time::timeout(SHIPPING_LIMIT, self.counters.recorder.shipped()).await {
            Ok(shipped) => shipped.map_err(StoreError::Unavailable),
            Err(_) => Err(StoreError::Unavailable("the database is behind the journal".into())),
        }
    }

    async fn compare_all(&self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for books in self.counters.all_books() {
            match self.compare(&books).await {
                Ok(difference) => differences.extend(difference),
                Err(error) => tracing::debug!(counters = %books, error = %error, "counters could not be compared with the usage rows"),
            }
        }
        differences
    }

    /// What is not as the rows say; nothing where something moves.
    async fn compare(&self, books: &Books) -> Result<Option<Difference>, StoreError> {
        let RestoringStore { store, directory, clock, .. } = &*self.counters;
        let observed = store.observe(books, &[]).await?;
        if !observed.stands_still() {
            return Ok(None);
        }
        let now = clock.now();
        let rows = buckets_of(&self.counters.used(books, now, Uuid::max()).await?, directory, now);
        let mut wrong = HashSet::new();
        for some in rows.chunks(LOOKED_AT_ONCE) {
            let buckets: Vec<Bucket> = some.iter().map(|(bucket, _)| bucket.clone()).collect();
            let here = store.observe(books, &buckets).await?;
            if !here.stands_still() || !here.is_as(&observed) {
                return Ok(None);
            }
            for ((bucket, rows), used) in some.iter().zip(here.used) {
                wrong.extend(used.filter(|used| used != rows).map(|used| Wrong { bucket: bucket.clone(), used, rows: *rows }));
            }
        }
        Ok((!wrong.is_empty()).then(|| Difference { books: books.clone(), observed, wrong }))
    }

    /// Repairs what is still the same.
    async fn believe(&self, differences: Vec<Difference>) {
        let mut drift = Drift::new();
        for difference in differences {
            match self.repair(&difference).await {
                Ok(repaired) => {
                    for Wrong { bucket, used, rows } in repaired {
                        let (off, counters) = drift.entry((bucket.resource, bucket.period.window)).or_default();
                        *off = off.saturating_add(used.abs_diff(rows));
                        *counters += 1;
                    }
                }
                Err(error) => tracing::warn!(counters = %difference.books, error = %error, "counters are wrong and could not be repaired"),
            }
        }
        self.counters.metrics.counters_compared(&drift);
    }

    /// Answers what was wrong and is repaired.
    async fn repair(&self, before: &Difference) -> Result<Vec<Wrong>, StoreError> {
        let books = &before.books;
        let Some(again) = self.compare(books).await?.filter(|again| again.observed.is_as(&before.observed)) else { return Ok(Vec::new()) };
        let wrong: Vec<Wrong> = again.wrong.intersection(&before.wrong).cloned().collect();
        let cut = self.counters.ahead().max(again.observed.cut + 1);
        if wrong.is_empty() || !self.counters.store.move_cut(books, &again.observed, cut).await? {
            return Ok(Vec::new());
        }
        self.counters.count_rows(books).await?;
        let now = self.counters.clock.now();
        for wrong in &wrong {
            tracing::warn!(
                counters = %books, scope = wrong.bucket.scope.as_str(), resource = wrong.bucket.resource.as_str(),
                period = wrong.bucket.period.key(), used = wrong.used, rows = wrong.rows,
                "a counter was not what its usage rows add up to, and is repaired"
            );
            self.counters.recorder.record_audit(self.audit_row(books, wrong, now));
        }
        Ok(wrong)
    }

    fn audit_row(&self, books: &Books, wrong: &Wrong, now: Timestamp) -> AuditRow {
        let org = match books {
            Books::Org(org) => self.counters.directory.by_id(org),
            Books::Everyone => None,
        };
        let Bucket { scope, resource, period } = &wrong.bucket;
        let member = match scope {
            Scope::Member { member, .. } => Some(member),
            Scope::Org { .. } | Scope::Everyone => None,
        };
        AuditRow {
            org_id: org.as_ref().map(|org| org.id.clone()),
            org_day: org.as_ref().map(|org| org.day(now)),
            actor_name: Some("tollgate".into()),
            resource_type: Some("counter"),
            resource_id: Some(format!("{} {} {}", scope.as_str(), resource.as_str(), period.key())),
            detail: Some(json!({ "member": member, "used": wrong.used, "rows": wrong.rows })),
            ..AuditRow::plain(now, Category::System, Severity::Warning, "counters.repaired")
        }
    }
}
