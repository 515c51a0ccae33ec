//! Daily sums compared with the rows they are of, and made anew from them: for after rows were put right by hand.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;

use async_trait::async_trait;
use jiff::Timestamp;

use super::ReadError;
use super::retention::EventTable;
use super::rollup::Rollup;

/// A table of daily sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DailySums {
    /// What members used of models.
    Usage,
    /// What members used of all models together.
    Members,
    /// What was used of models by all members together.
    Models,
    /// What orgs used, by the hour.
    Hours,
    /// What tools their messages called.
    Tools,
    /// Their requests.
    Requests,
}

impl DailySums {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Usage, Self::Members, Self::Models, Self::Hours, Self::Tools, Self::Requests];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage_daily",
            Self::Members => "members_daily",
            Self::Models => "models_daily",
            Self::Hours => "usage_by_hour",
            Self::Tools => "tools_daily",
            Self::Requests => "requests_daily",
        }
    }

    /// The rows that it is of.
    pub fn rows(self) -> EventTable {
        match self {
            Self::Usage | Self::Members | Self::Models | Self::Hours => EventTable::Usage,
            Self::Tools => EventTable::Tools,
            Self::Requests => EventTable::Audit,
        }
    }
}

/// A day of an org.
#[derive(Debug, Clone)]
pub struct OrgDay {
    /// The org.
    pub org: String,
    /// The day, `2026-11-20`.
    pub day: String,
    /// When its rows may be from: generously, since the org's time zone may have been another when they were written.
    pub times: Range<Timestamp>,
}

/// Whether sums are only compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilding {
    /// What differs is answered.
    Compared,
    /// It is made what it should be, too.
    Done,
}

/// How the sums of a day stand to its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// How many rows the day has.
    pub rows: u64,
    /// How many lines its sums have.
    pub lines: u64,
    /// The lines that are not what the rows add up to.
    pub differences: Vec<Difference>,
}

impl Compared {
    /// Sums whose rows are gone are the only thing left of a day: nothing is made of them.
    pub fn rows_are_gone(&self) -> bool {
        self.rows == 0 && self.lines > 0
    }
}

/// A line of sums that is not what the rows add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What the line is of.
    pub keys: Vec<String>,
    /// How it differs.
    pub how: Differs,
}

/// How a line differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Differs {
    /// It is not there.
    Missing,
    /// No row belongs to it.
    Unfounded,
    /// Numbers of it are wrong: column, what is there, what should be.
    Wrong(Vec<(&'static str, Option<i64>, Option<i64>)>),
}

/// What compares and rebuilds daily sums.
#[async_trait]
pub trait Rebuild: Debug + Send + Sync {
    /// Compares the sums of a day with its rows, in one transaction. To rebuild them writers of these sums are kept waiting for
    /// as long as the day's rows take to read, so that what they write is counted once: in the rows that are read, or by
    /// themselves afterwards. Lines that are right are not touched, and none where all rows are gone.
    async fn rebuild(&self, sums: DailySums, day: &OrgDay, how: Rebuilding) -> Result<Compared, ReadError>;
}

/// Lines of sums, by their keys.
pub(super) type Lines<const K: usize, const N: usize> = BTreeMap<[String; K], [Option<i64>; N]>;

/// What the rows of a day add up to.
pub(super) struct Gathered<const K: usize, const N: usize> {
    pub(super) rows: u64,
    lines: Lines<K, N>,
    /// What corrections add to the cost of lines.
    corrections: BTreeMap<[String; K], i128>,
}

impl<const K: usize, const N: usize> Gathered<K, N> {
    pub(super) fn new() -> Self {
        Self { rows: 0, lines: Lines::new(), corrections: BTreeMap::new() }
    }

    /// Takes in some rows, each with what corrections add to its cost.
    pub(super) fn add<R>(&mut self, rollup: &Rollup<R, K, N>, rows: &[(R, i64)]) {
        self.rows += rows.len() as u64;
        for (keys, numbers) in rollup.lines(rows.iter().map(|(row, _)| row)) {
            let held = self.lines.entry(keys.map(Cow::into_owned)).or_insert([None; N]);
            rollup.merge(held, numbers);
        }
        for (row, corrected_by) in rows.iter().filter(|(_, corrected_by)| *corrected_by != 0) {
            for keys in rollup.lines([row]).into_keys() {
                *self.corrections.entry(keys.map(Cow::into_owned)).or_default() += i128::from(*corrected_by);
            }
        }
    }

    /// The lines that there should be. Costs are neither negative nor larger than a database holds.
    pub(super) fn lines<R>(mut self, rollup: &Rollup<R, K, N>) -> Lines<K, N> {
        let cost = rollup.numbers.iter().position(|(column, _)| *column == "cost_nanousd");
        for (keys, difference) in &self.corrections {
            let line = cost.zip(self.lines.get_mut(keys));
            if let Some(held) = line.and_then(|(cost, line)| line.get_mut(cost)) {
                let corrected = i128::from(held.unwrap_or_default()) + difference;
                *held = Some(i64::try_from(corrected.max(0)).unwrap_or(i64::MAX));
            }
        }
        self.lines
    }
}

/// What is different between the lines that are there and those that should be.
pub(super) fn differences<R, const K: usize, const N: usize>(
    rollup: &Rollup<R, K, N>,
    held: &Lines<K, N>,
    should: &Lines<K, N>,
) -> Vec<Difference> {
    let unfounded = held.keys().filter(|keys| !should.contains_key(*keys)).map(|keys| (keys, Differs::Unfounded));
    let others = should.iter().filter_map(|(keys, should)| match held.get(keys) {
        None => Some((keys, Differs::Missing)),
        Some(held) if held == should => None,
        Some(held) => {
            let numbers = rollup.numbers.iter().zip(held.iter().zip(should));
            let wrong = numbers.filter(|(_, (held, should))| held != should).map(|((column, _), (held, should))| (*column, *held, *should));
            Some((keys, Differs::Wrong(wrong.collect())))
        }
    });
    unfounded.chain(others).map(|(keys, how)| Difference { keys: keys.to_vec(), how }).collect()
}
