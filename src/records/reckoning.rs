//! What usage rows add up to, for the counters of [`crate::limits`].

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::ReadError;
use super::store::{MemberDay, UtcDay};

/// Which generations are added up.
#[derive(Debug, Clone, Copy)]
pub struct Which {
    /// Those admitted then or later. Choose it no later than the beginning of every calendar month that is open anywhere:
    /// days before the first whole one are cut.
    pub since: Timestamp,
    /// Those with lesser ids, at the cost that corrections make of them.
    pub before: Uuid,
}

/// Sums of usage rows.
#[async_trait]
pub trait Reckoning {
    /// What the members of an org used, by member and day of the org, in that order.
    async fn used_by_org(&self, org: &str, which: Which) -> Result<Vec<MemberDay>, ReadError>;

    /// What everyone used, by UTC day, in order.
    async fn used_by_everyone(&self, which: Which) -> Result<Vec<UtcDay>, ReadError>;
}
