//! What is written down: usage rows that orgs are billed by, and audit rows that say who did what.
//!
//! Producers hand rows to a recorder; one writer takes them in batches to the [`sqlite`] or [`postgres`] database.

pub mod audit;
pub mod postgres;
pub mod recorder;
pub mod refused_tokens;
pub mod sqlite;
pub mod usage;

pub use audit::{AuditRow, Category, Outcome, Severity};

pub use usage::UsageRow;
