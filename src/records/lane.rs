//! One kind of row on its way from the journal to the database: tried again after pauses while the database is away, and
//! set apart where the database will not have a row.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::chain::chain_of;
use super::store::{BATCH_ROWS, Fault};
use super::{Head, Link, RecordStore, StoredAudit, StoredUsage, SystemRow, ToolRow, WriteError};

/// The first and the longest pause after a failure; pauses double in between, less up to a half by chance, so that
/// replicas do not come back all at once.
const PAUSES: Range<Duration> = Duration::from_millis(100)..Duration::from_secs(10);

/// How often a row may fail alone, while others are written, before it is believed to be at fault itself.
const STRIKES: u32 = 5;

/// So many rows failing alone while none is written: the database is at fault after all.
const LONE_FAILURES: usize = 8;

/// A batch of so many rows or more is written in two halves at once: PostgreSQL works on each with a process of its own.
const HALVED_ROWS: usize = 1000;

/// So many rows are written at once at least, if there are as many.
const LEAST_ROWS: usize = 100;

/// A row on its way.
#[derive(Debug)]
struct Carried<R> {
    row: R,
    note: Note,
}

/// What is remembered of a row beside it.
#[derive(Debug)]
struct Note {
    /// The journal's entry that it is from.
    entry: i64,
    strikes: u32,
}

/// One kind of row, and those of it that are on their way.
#[derive(Debug)]
pub(super) struct Lane<R> {
    rows: Vec<Carried<R>>,
    pub(super) pauses: Pauses,
    most_rows: usize,
    /// How many rows are written at once now: a database that is too slow for many is given fewer.
    now_rows: usize,
}

/// What became of the rows of one round.
#[derive(Debug)]
pub(super) struct Round<R> {
    /// The entries of the rows that the database has or refuses for good; an entry once for each of its rows.
    pub(super) done: Vec<i64>,
    /// How many it has.
    pub(super) written: u64,
    /// The ends of the chains of those.
    pub(super) heads: BTreeMap<String, Head>,
    /// Those it refuses for what they hold, and what it says.
    pub(super) refused: Vec<(R, WriteError)>,
    /// Why rows are left.
    pub(super) problem: Option<WriteError>,
}

/// What differs between the kinds of rows.
#[async_trait]
pub(super) trait Kind: Debug + Sized + Send + Sync + Serialize {
    async fn insert(store: &dyn RecordStore, rows: &[Self]) -> Result<(), WriteError>;

    /// Its chain and its place there, where rows of this kind have any.
    fn place(&self) -> Option<(&str, &Link)> {
        None
    }
}

/// What became of a row in one round of writing.
#[derive(Debug, Clone)]
enum Verdict {
    Written,
    Kept,
    FailedAlone(WriteError),
}

impl<R> Lane<R> {
    pub(super) fn new(batch_rows: usize) -> Self {
        let most_rows = batch_rows.clamp(1, BATCH_ROWS);
        Self { rows: Vec::new(), pauses: Pauses::default(), most_rows, now_rows: most_rows }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn extend(&mut self, entry: i64, rows: Vec<R>) {
        self.rows.extend(rows.into_iter().map(|row| Carried { row, note: Note { entry, strikes: 0 } }));
    }
}

impl<R: Kind> Lane<R> {
    fn adapt(&mut self, problem: Option<&WriteError>) {
        self.now_rows = match problem {
            Some(WriteError { fault: Fault::Away, .. }) => (self.now_rows / 2).max(LEAST_ROWS),
            _ => self.now_rows * 2,
        };
        self.now_rows = self.now_rows.min(self.most_rows);
    }

    /// Writes the oldest rows, a batch of them, unless there are none or a failure is too fresh. What the database took and
    /// what it refuses for good leave the lane.
    pub(super) async fn write(&mut self, store: &dyn RecordStore, closing: &watch::Receiver<Option<Instant>>) -> Round<R> {
        let mut round = Round { done: Vec::new(), written: 0, heads: BTreeMap::new(), refused: Vec::new(), problem: None };
        if self.rows.is_empty() || self.pauses.is_on() {
            return round;
        }
        let batch = self.now_rows.min(self.rows.len());
        let (rows, notes): (Vec<R>, Vec<Note>) = self.rows.drain(..batch).map(|carried| (carried.row, carried.note)).unzip();
        let (verdicts, problem) = write_side_by_side(store, &rows, closing).await;
        self.adapt(problem.as_ref());
        round.problem = problem;
        let others_written = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Written));
        let mut kept = Vec::new();
        for ((row, mut note), verdict) in rows.into_iter().zip(notes).zip(verdicts) {
            match verdict {
                Verdict::Written => {
                    round.written += 1;
                    round.done.push(note.entry);
                    round.reach(&row);
                }
                Verdict::FailedAlone(error) if error.fault == Fault::Row || note.strikes >= STRIKES => {
                    round.done.push(note.entry);
                    round.refused.push((row, error));
                }
                Verdict::FailedAlone(error) => {
                    note.strikes += u32::from(others_written);
                    round.problem.get_or_insert(error);
                    kept.push(Carried { row, note });
                }
                Verdict::Kept => kept.push(Carried { row, note }),
            }
        }
        if others_written {
            // What fails alone must not hold up what came after it.
            self.rows.append(&mut kept);
        } else {
            self.rows.splice(..0, kept);
        }
        match &round.problem {
            None => self.pauses.end(),
            Some(_) => self.pauses.lengthen(Instant::now()),
        }
        round
    }
}

impl<R: Kind> Round<R> {
    /// The database has this row.
    fn reach(&mut self, row: &R) {
        let Some((chain, link)) = row.place() else { return };
        match self.heads.get_mut(chain) {
            Some(head) if head.seq >= link.seq => {}
            Some(head) => *head = Head::of(link),
            None => drop(self.heads.insert(chain.to_owned(), Head::of(link))),
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

/// Writes rows, a large batch in two halves.
async fn write_side_by_side<R: Kind>(
    store: &dyn RecordStore,
    rows: &[R],
    closing: &watch::Receiver<Option<Instant>>,
) -> (Vec<Verdict>, Option<WriteError>) {
    if rows.len() < HALVED_ROWS {
        return write_in_parts(store, rows, closing).await;
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    let ((mut verdicts, problem), (others, other)) =
        tokio::join!(write_in_parts(store, first, closing), write_in_parts(store, second, closing));
    verdicts.extend(others);
    (verdicts, problem.or(other))
}

/// Resolves when the recorder is being closed and its deadline is over.
pub(super) async fn deadline(mut closing: watch::Receiver<Option<Instant>>) {
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
}

#[async_trait]
impl Kind for StoredAudit {
    async fn insert(store: &dyn RecordStore, rows: &[Self]) -> Result<(), WriteError> {
        store.insert_audit(rows).await
    }

    fn place(&self) -> Option<(&str, &Link)> {
        self.link.as_ref().map(|link| (chain_of(self), link))
    }
}

#[async_trait]
impl Kind for ToolRow {
    async fn insert(store: &dyn RecordStore, rows: &[Self]) -> Result<(), WriteError> {
        store.insert_tools(rows).await
    }
}

#[async_trait]
impl Kind for SystemRow {
    async fn insert(store: &dyn RecordStore, rows: &[Self]) -> Result<(), WriteError> {
        store.insert_system(rows).await
    }
}

/// The pauses between attempts that fail.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    pub(super) until: Option<Instant>,
    failures: u32,
    chance: RandomState,
}

impl Pauses {
    /// Whether it is too early to try again.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some_and(|pause| Instant::now() < pause)
    }

    fn end(&mut self) {
        self.until = None;
        self.failures = 0;
    }

    pub(super) fn lengthen(&mut self, now: Instant) {
        let whole = PAUSES.start.saturating_mul(1 << self.failures.min(16)).min(PAUSES.end);
        let less = u32::try_from(self.chance.hash_one(self.failures) % 512).unwrap_or_default();
        self.until = Some(now + whole - whole * less / 1024);
        self.failures = self.failures.saturating_add(1);
    }
}
