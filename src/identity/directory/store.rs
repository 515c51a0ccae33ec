//! Where the directory is kept.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::observing::Observing;
use super::{Member, Org};
use crate::identity::keys::{AgentKey, ApiKey};
use crate::records::ReadError;

/// What changed since a revision.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The number of the last change.
    pub revision: i64,
    /// Orgs that are new or changed.
    pub orgs: Vec<Org>,
    /// Members who are new or changed.
    pub members: Vec<Member>,
    /// Sessions that were revoked and would not be over by themselves yet.
    pub revoked: Vec<(Uuid, Timestamp)>,
    /// API keys that are new or revoked, with the hashes that they are kept under.
    pub keys: Vec<(String, ApiKey)>,
    /// Keys that LibreChat made or deleted.
    pub agent_keys: Vec<AgentKey>,
    /// Limits that are observed, or enforced again.
    pub observing: Vec<Observing>,
}

/// Why the directory cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// Another member has the LibreChat id, or the org has another member with the external id.
    #[error("somebody else has this LibreChat id, or this external id in the org")]
    Taken,
    /// The database does not answer.
    #[error("the directory cannot be written: {0}")]
    Away(String),
}

/// Keeps orgs and members, and numbers every change. Two implementations run, and one suite of laws runs on both.
#[async_trait]
pub trait DirectoryStore: std::fmt::Debug + Send + Sync {
    /// Everything that changed after this revision; all of it after a negative one.
    async fn changes(&self, after: i64) -> Result<Changes, ReadError>;

    /// Every org.
    async fn orgs(&self) -> Result<Vec<Org>, ReadError>;

    /// Orgs as they are to be, whether they are there or not. Their standing is left as it is, unless `with_standing`.
    async fn put_orgs(&self, orgs: &[Org], standing: PutStanding, now: Timestamp) -> Result<(), DirectoryError>;

    /// Members as they are to be, by their ids, all or none.
    async fn put_members(&self, members: &[Member], now: Timestamp) -> Result<(), DirectoryError>;

    /// What is learned of a member: where `told` differs from `known` in its org, ids, e-mail address, name or role, that is
    /// written. Nothing else is, so that a suspension, a role or ranges that somebody writes meanwhile stay. `false`, and nothing
    /// written, where the member's org or ids are no longer those of `known`.
    async fn amend_member(&self, known: &Member, told: &Member, now: Timestamp) -> Result<bool, DirectoryError>;

    /// A member who was seen for the first time; nothing where somebody has their LibreChat id or external id by now.
    async fn add_member(&self, member: &Member, now: Timestamp) -> Result<(), DirectoryError>;

    /// Limits that are observed, or enforced again, from now on.
    async fn put_observing(&self, changes: &[Observing]) -> Result<(), DirectoryError>;

    /// When members were last seen. This is no change that others have to know of.
    async fn seen(&self, members: &[(Uuid, Timestamp)]) -> Result<(), DirectoryError>;
}

/// Whether an org's standing is written, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutStanding {
    /// It is.
    Written,
    /// It stays as it is: whoever names an org in the configuration does not mean to let a suspended one go on.
    Kept,
}
