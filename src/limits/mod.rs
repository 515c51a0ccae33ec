//! How much of what may be used in which window by whom.
//!
//! [`rules`] finds the limits that apply to a person, [`period`] the calendar window they are in, and a [`Store`]
//! decides and reserves over all of them at once. Two stores exist, [`memory`] for one process and [`redis`] for
//! several; one contract suite runs on both. [`restoring`] brings counters back that a store has lost, [`reconcile`]
//! compares them with the usage rows, [`metered`] counts and times the calls of either, [`caps`] shows how full they are.

pub mod caps;
pub mod explain;
pub mod memory;
pub mod metered;
pub mod period;
pub mod reconcile;
pub mod redis;
mod redis_keys;
pub mod restoring;
pub mod rules;
pub mod store;

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use period::Period;
pub use store::{Count, Decision, Level, Orphan, Reserve, Settled, Store, StoreError};

/// The largest limit and amount: Redis scripts compute in doubles, which are exact up to here (2^53 - 1).
pub const MAX_AMOUNT: u64 = (1 << 53) - 1;

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Resource {
    /// Tokens charged: input including cached, output including reasoning.
    Tokens,
    /// Accepted chat starts.
    Messages,
    /// Money, in nano-dollars.
    Cost,
}

impl Resource {
    /// The word used in keys, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Messages => "messages",
            Self::Cost => "cost",
        }
    }
}

/// The calendar window of a limit, in the org's time zone (UTC for everyone's caps).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Window {
    /// A calendar day; 23 or 25 hours long twice a year in many zones.
    Day,
    /// A calendar month.
    Month,
}

impl Window {
    /// The word used in keys, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// Whose use is added up.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// One member of one org: an allowance.
    Member {
        /// The org's id.
        org: Arc<str>,
        /// The member's id.
        member: Arc<str>,
    },
    /// All of one org: a cap.
    Org {
        /// The org's id.
        org: Arc<str>,
    },
    /// Everyone behind this gateway: a cap, in UTC.
    Everyone,
}

impl Scope {
    /// The word used in metrics and answers: `member`, `org` or `everyone`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Member { .. } => "member",
            Self::Org { .. } => "org",
            Self::Everyone => "everyone",
        }
    }

    /// The books that its counters are in.
    pub fn books(&self) -> Books {
        match self {
            Self::Member { org, .. } | Self::Org { org } => Books::Org(org.clone()),
            Self::Everyone => Books::Everyone,
        }
    }
}

/// Counters that a store keeps, loses and gets back together: an org's with those of its members, or everyone's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Books {
    /// Those of an org and its members.
    Org(Arc<str>),
    /// Those of everyone.
    Everyone,
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Org(org) => write!(f, "org {org}"),
            Self::Everyone => f.write_str("everyone"),
        }
    }
}

/// Whether a limit refuses, or only records that it would have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Refuse what does not fit.
    Enforce,
    /// Decide, record, let pass.
    Shadow,
}

/// What happens to a request when the store cannot answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Refuse with 503.
    Closed,
    /// Let pass.
    Open,
}

/// One counter: whose, of what, in which period. The period is part of its key, so nothing ever has to be reset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bucket {
    /// Whose use is added up.
    pub scope: Scope,
    /// What is counted.
    pub resource: Resource,
    /// The calendar period.
    pub period: Period,
}

/// A limit as it applies to one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// At most so much, in the resource's unit. At most [`MAX_AMOUNT`].
    pub limit: u64,
    /// What happens when the store is away.
    pub on_failure: OnFailure,
    /// Which rule this comes from and why it is this one, for people: `limits[2]: member of org acme`.
    pub why: Arc<str>,
}

/// What a message would add to one bucket, and what stands in its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charge {
    /// The counter.
    pub bucket: Bucket,
    /// The tightest enforced limit on it.
    pub enforce: Option<Bar>,
    /// The tightest shadow limit on it.
    pub shadow: Option<Bar>,
    /// What the message adds whatever its answer is, in the resource's unit.
    pub fixed: u64,
    /// What each token of room for the answer adds, in the resource's unit.
    pub per_room_token: u64,
}

impl Charge {
    /// What this charge holds with `room` tokens of room for the answer.
    pub fn amount(&self, room: u64) -> u64 {
        self.fixed.saturating_add(self.per_room_token.saturating_mul(room)).min(MAX_AMOUNT)
    }
}

/// Which limit did not fit, and by how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The counter in the way.
    pub bucket: Bucket,
    /// The limit on it.
    pub bar: Bar,
    /// Settled use.
    pub used: u64,
    /// Held by answers still running.
    pub held: u64,
    /// The least this message needs.
    pub needs: u64,
}

impl Refusal {
    /// When the counter starts anew.
    pub fn resets_at(&self) -> Timestamp {
        self.bucket.period.ends
    }
}
