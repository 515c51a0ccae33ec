//! The contract of a database of records.
//!
//! Writing is idempotent: a row's key is `id, time`, both made once where the row is made, so that a writer that does
//! not know whether a batch arrived writes it again.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::StoredAudit;
use super::reckoning::Reckoning;
use super::system::SystemRow;
use super::tool::ToolRow;
use super::usage::StoredUsage;

/// The most rows that one call of [`RecordStore`] writes. Rows of a large batch share the lines of the daily sums that they
/// are added to, and a commit.
pub const BATCH_ROWS: usize = 8000;

/// Whose fault a failed write is. It decides whether the rows are tried again, or apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The database's: it cannot be reached, is full, starting, locked, read-only. Trying again later is the cure.
    Away,
    /// A row's: the database says that a value cannot be stored. The same row will fail again.
    Row,
    /// It does not say. The row is at fault if others can be written while it fails.
    Unclear,
}

/// Why rows were not written. None of the call's rows were.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct WriteError {
    /// Whose fault it is.
    pub fault: Fault,
    /// What the database or its driver said.
    pub message: Arc<str>,
}

/// Why nothing could be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The database gave no answer.
    #[error("the records database gave no answer: {0}")]
    Unavailable(Arc<str>),
    /// A row is there, but a value of it cannot be understood.
    #[error("table {table}, row {row}: column {column} cannot be read: {reason}")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key, as far as it can be read.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Sums of settled use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sums {
    /// Tokens charged.
    pub total_tokens: u64,
    /// Accepted messages.
    pub messages: u64,
    /// Cost in nano-dollars.
    pub cost_nanousd: u64,
}

/// What one member used on one day of their org.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDay {
    /// The org.
    pub org_id: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// The day in the org's calendar, `2026-11-20`.
    pub org_day: String,
    /// The month in the org's calendar, `2026-11`.
    pub org_month: String,
    /// What was used.
    pub sums: Sums,
}

/// What everyone used on one UTC day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UtcDay {
    /// The day, `2026-11-20`.
    pub day: String,
    /// What was used.
    pub sums: Sums,
}

/// Settled use, from which counters are rebuilt. Months are the sums of their days.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Used {
    /// By org, member and day of the org, in that order. Their sum over members is the org's.
    pub members: Vec<MemberDay>,
    /// Of everyone by UTC day, in order.
    pub everyone: Vec<UtcDay>,
}

/// A database of records. See the module's text for the law of writing.
#[async_trait]
pub trait RecordStore: Reckoning + std::fmt::Debug + Send + Sync {
    /// Writes usage rows, all or none, at most [`BATCH_ROWS`]; those that are there already stay as they are. Once it
    /// answers Ok they are durable. Numbers above 2^63 - 1 are stored as 2^63 - 1.
    async fn insert_usage(&self, rows: &[StoredUsage]) -> Result<(), WriteError>;

    /// Writes audit rows, all or none, at most [`BATCH_ROWS`]; of those that are there already only `count` changes,
    /// to the larger one.
    async fn insert_audit(&self, rows: &[StoredAudit]) -> Result<(), WriteError>;

    /// Writes tool rows, all or none, at most [`BATCH_ROWS`]; those that are there already stay as they are.
    async fn insert_tools(&self, rows: &[ToolRow]) -> Result<(), WriteError>;

    /// Writes system rows, all or none, at most [`BATCH_ROWS`]; those that are there already stay as they are.
    async fn insert_system(&self, rows: &[SystemRow]) -> Result<(), WriteError>;

    /// Settled use of generations admitted at `since` or later. Choose `since` no later than the beginning of every
    /// calendar month that is open anywhere: days before the first whole one are cut.
    async fn used_since(&self, since: Timestamp) -> Result<Used, ReadError>;

    /// The newest audit row with this reference.
    async fn decision(&self, reference: &str) -> Result<Option<StoredAudit>, ReadError>;

    /// The usage rows of one generation, the first model's first.
    async fn usage_of(&self, generation_id: Uuid) -> Result<Vec<StoredUsage>, ReadError>;

    /// The newest usage rows, newest first, at most `limit`.
    async fn usage_rows(&self, limit: u32) -> Result<Vec<StoredUsage>, ReadError>;

    /// The newest audit rows, newest first, at most `limit`.
    async fn audit_rows(&self, limit: u32) -> Result<Vec<StoredAudit>, ReadError>;

    /// The newest tool rows, newest first, at most `limit`.
    async fn tool_rows(&self, limit: u32) -> Result<Vec<ToolRow>, ReadError>;

    /// The newest system rows, newest first, at most `limit`.
    async fn system_rows(&self, limit: u32) -> Result<Vec<SystemRow>, ReadError>;
}
