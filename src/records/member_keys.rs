//! Where the keys of members are kept, and destroyed.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::seal::MemberKey;
use super::{ReadError, WriteError};

/// Audit rows of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowsOf {
    /// All of them.
    pub all: u64,
    /// Those that hold something of the person that is not sealed: from before rows were.
    pub in_the_clear: u64,
}

/// The keys in a database.
#[async_trait]
pub trait MemberKeys: std::fmt::Debug + Send + Sync {
    /// Keeps keys, at most 500; one that is there already, or was destroyed, stays so, and one that was made before its member
    /// was erased, and waited in a journal since, is kept as a destroyed one. To be done before the rows that they seal are
    /// written.
    async fn insert_keys(&self, keys: &[MemberKey]) -> Result<(), WriteError>;

    /// Those of these keys that are there, at most 500.
    async fn keys(&self, ids: &[Uuid]) -> Result<Vec<MemberKey>, ReadError>;

    /// Those of these keys that were destroyed, at most 500.
    async fn destroyed(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, ReadError>;

    /// The audit rows that name a member as their actor.
    async fn rows_of(&self, org: &str, member: &str) -> Result<RowsOf, ReadError>;

    /// Destroys every key of a member, also in what the database keeps of replaced rows, and those that are still on their way
    /// to it; how many there were.
    async fn destroy(&self, org: &str, member: &str, now: Timestamp) -> Result<u64, WriteError>;
}
