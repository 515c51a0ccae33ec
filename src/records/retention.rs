//! How long rows are kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

/// For how many days rows are kept, by table. Daily sums are kept for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Rows of `audit_events`.
    pub audit_days: u32,
    /// Rows of `usage_events`.
    pub usage_days: u32,
    /// Rows of `tool_calls`.
    pub tools_days: u32,
    /// Rows of `system_metrics`.
    pub system_days: u32,
}

/// Orgs whose rows are kept whatever their age, since a court or an authority asked for it.
pub type Held = BTreeSet<Arc<str>>;

/// The tables that grow with time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventTable {
    /// What orgs are billed by.
    Usage,
    /// What tools were called.
    Tools,
    /// Who did what.
    Audit,
    /// How the machine did.
    System,
}

impl EventTable {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Usage, Self::Tools, Self::Audit, Self::System];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage_events",
            Self::Tools => "tool_calls",
            Self::Audit => "audit_events",
            Self::System => "system_metrics",
        }
    }

    /// Whether its rows belong to orgs, which a legal hold then keeps.
    pub fn is_of_orgs(self) -> bool {
        self != Self::System
    }
}

impl Retention {
    /// For how many days the rows of a table are kept.
    pub fn days(&self, table: EventTable) -> u32 {
        match table {
            EventTable::Usage => self.usage_days,
            EventTable::Tools => self.tools_days,
            EventTable::Audit => self.audit_days,
            EventTable::System => self.system_days,
        }
    }

    /// Rows of a table from before this instant are not kept.
    pub fn cutoff(&self, table: EventTable, now: Timestamp) -> Timestamp {
        let kept = SignedDuration::from_hours(24 * i64::from(self.days(table)));
        now.checked_sub(kept).unwrap_or(Timestamp::MIN)
    }
}

/// What one round of retention removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Removed {
    /// From which table.
    pub table: EventTable,
    /// How many rows, or chunks of rows where TimescaleDB removes them whole.
    pub count: u64,
    /// Whether there is more: a round is bounded, so that it never holds up the writer for long.
    pub more: bool,
}
