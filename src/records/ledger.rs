//! What orgs are billed by: rows added up by month, corrected, closed, and read in order.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ReadError, StoredAudit, StoredUsage, WriteError};

/// How many rows are read or written at once.
pub const PAGE: usize = 500;

/// What a member used of a model on a day, of one usage source and at one version of the prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The member.
    pub member_id: String,
    /// The model.
    pub model: String,
    /// The day in the org's calendar.
    pub org_day: String,
    /// Where the numbers come from.
    pub usage_source: String,
    /// The version of the price table.
    pub price_version: String,
    /// What was used.
    pub used: Used,
}

/// Amounts that were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Used {
    /// Accepted messages.
    pub messages: i64,
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Cost in nano-dollars.
    pub cost_nanousd: i64,
}

/// A difference in the cost of a usage row that was rated anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// Its id, the same whoever corrects the row from the same cost to the same cost.
    pub id: Uuid,
    /// When it was made.
    pub time: Timestamp,
    /// The usage row.
    pub usage: StoredUsage,
    /// What is added to its cost, in nano-dollars.
    pub cost_difference_nanousd: i64,
    /// The version of the price table that it was rated with.
    pub price_version: Arc<str>,
    /// Why, for people.
    pub reason: String,
}

/// Corrections of one reason added up, of a member, a model and a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectedLine {
    /// The member.
    pub member_id: String,
    /// The model.
    pub model: String,
    /// The day in the org's calendar.
    pub org_day: String,
    /// Why.
    pub reason: String,
    /// What is added to the cost, in nano-dollars.
    pub cost_difference_nanousd: i64,
}

/// A month that is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The org.
    pub org_id: String,
    /// The month in the org's calendar, `2026-11`.
    pub month: String,
    /// When it was closed.
    pub closed_at: Timestamp,
    /// The statement, as JSON.
    pub content: String,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
}

/// Rows of an org, or of every org and of none, in a span of time.
#[derive(Debug, Clone)]
pub struct Span {
    /// The org.
    pub org: Option<String>,
    /// From when on, and up to when.
    pub times: Range<Timestamp>,
}

/// Where a page ended: the next begins behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The last row's time.
    pub time: Timestamp,
    /// The last row's id.
    pub id: Uuid,
}

impl Place {
    /// In front of every row of a span.
    pub fn before(span: &Span) -> Self {
        Self { time: span.times.start, id: Uuid::nil() }
    }
}

/// A usage row, and how it was corrected so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rated {
    /// The row.
    pub row: StoredUsage,
    /// What its corrections add to its cost, in nano-dollars.
    pub corrected_by: i64,
    /// How many there are.
    pub corrections: i64,
}

/// A database of what orgs are billed by.
#[async_trait]
pub trait Ledger: Debug + Send + Sync {
    /// What was used in a month of an org.
    async fn month(&self, org: &str, month: &str) -> Result<Vec<Line>, ReadError>;

    /// What was corrected of a month of an org, whenever that was.
    async fn corrected(&self, org: &str, month: &str) -> Result<Vec<CorrectedLine>, ReadError>;

    /// The closed months of an org, the oldest first.
    async fn closed(&self, org: &str) -> Result<Vec<Closed>, ReadError>;

    /// Closes a month, unless it is closed. Answers whether this call did.
    async fn close(&self, closed: &Closed) -> Result<bool, WriteError>;

    /// The next usage rows of a span behind a place, in the order of time and id, at most [`PAGE`].
    async fn usage_page(&self, span: &Span, after: Place) -> Result<Vec<Rated>, ReadError>;

    /// The next audit rows of a span behind a place, in the order of time and id, at most [`PAGE`].
    async fn audit_page(&self, span: &Span, after: Place) -> Result<Vec<StoredAudit>, ReadError>;

    /// How many usage rows a span has.
    async fn count_usage(&self, span: &Span) -> Result<u64, ReadError>;

    /// How many audit rows a span has.
    async fn count_audit(&self, span: &Span) -> Result<u64, ReadError>;

    /// Writes corrections, all or none; those that are there already stay as they are.
    async fn correct(&self, corrections: &[Correction]) -> Result<(), WriteError>;
}
