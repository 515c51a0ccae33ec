//! What verifying the audit log asks of a database: its chains, row after row, and where retention cut them off.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::chain::Head;
use super::checkpoint::Anchor;
use super::{ReadError, StoredAudit, WriteError};

/// A chain: the rows of one org that one writer linked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainId {
    /// The org; empty for rows without one.
    pub org: String,
    /// The writer.
    pub writer: Uuid,
}

/// Where reading of a chain goes on: after the row with this number, id and time. A number alone would pass over a row
/// that was doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Its number.
    pub seq: u64,
    /// Its id.
    pub id: Uuid,
    /// Its time.
    pub time: Timestamp,
}

impl Spot {
    /// Before the row with this number.
    pub fn before(seq: u64) -> Self {
        Self { seq, id: Uuid::nil(), time: Timestamp::UNIX_EPOCH }
    }
}

/// A span of time, from its first instant up to the one that is no longer part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first instant; from the beginning where there is none.
    pub from: Option<Timestamp>,
    /// The first instant after it; to the end where there is none.
    pub to: Option<Timestamp>,
}

impl Span {
    /// Its first instant that a database can hold.
    pub fn start(&self) -> Timestamp {
        self.from.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// The first instant after it that a database can hold: the last day that can be written with four digits.
    pub fn end(&self) -> Timestamp {
        const LATEST: i64 = 253_402_207_200;
        self.to.unwrap_or_else(|| Timestamp::from_second(LATEST).unwrap_or(Timestamp::MAX))
    }
}

/// The chains of a database.
#[async_trait]
pub trait AuditChains: std::fmt::Debug + Send + Sync {
    /// The chain after this one, in the database's own order; the first where none is given.
    async fn next_chain(&self, after: Option<&ChainId>) -> Result<Option<ChainId>, ReadError>;

    /// Rows of a chain in its order, from after `spot` up to the number `last`, at most `limit`.
    async fn rows(&self, chain: &ChainId, spot: Spot, last: u64, limit: u32) -> Result<Vec<StoredAudit>, ReadError>;

    /// The first and the last number of a chain's rows within a span of time.
    async fn numbers(&self, chain: &ChainId, span: &Span) -> Result<Option<(u64, u64)>, ReadError>;

    /// The last row of a chain, by its number, among those before a time.
    async fn last_before(&self, chain: &ChainId, time: Timestamp) -> Result<Option<Head>, ReadError>;

    /// The time of the earliest row that has a link.
    async fn first_linked(&self) -> Result<Option<Timestamp>, ReadError>;

    /// How many rows within a span have no whole link; of one org, or of all.
    async fn count_unlinked(&self, org: Option<&str>, span: &Span) -> Result<u64, ReadError>;

    /// The first of them.
    async fn first_unlinked(&self, org: Option<&str>, span: &Span) -> Result<Option<StoredAudit>, ReadError>;

    /// Where retention cut a chain off, the latest first.
    async fn anchors(&self, chain: &ChainId) -> Result<Vec<Anchor>, ReadError>;

    /// Writes an anchor; one that is there already stays. Retention calls it before it removes the rows.
    async fn insert_anchor(&self, anchor: &Anchor) -> Result<(), WriteError>;
}
