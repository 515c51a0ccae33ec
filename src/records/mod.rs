//! What is written down: usage rows that orgs are billed by, audit rows that say who did what, tool rows that say what was
//! called on the way, and system rows that say how the machine did.
//!
//! Producers hand rows to a [`Recorder`]. They stand in the [`journal`] first, which survives this process; the shipper
//! takes them from there in batches to the [`RecordStore`], an SQLite file or a PostgreSQL database (see
//! [`crate::db::Database`]).

pub mod audit;
pub mod rows;
pub mod system;
pub mod tool;
pub mod usage;

mod ahead;
pub mod anchoring;
pub mod attest;
pub mod audit_keys;
pub mod capture;
pub mod chain;
pub mod chains;
pub mod checkpoint;
pub mod ecs;
pub mod linker;
pub mod member_keys;
pub mod name_key;
pub mod seal;
pub mod signing;
pub mod verify;
pub mod witnesses;

pub mod reckoning;
pub mod recorder;
pub mod refused_tokens;
pub mod row_log;

pub mod journal;

mod lane;
mod shipper;
mod upkeep;

pub mod ledger;
pub mod rebuild;
pub mod retention;
pub mod statement;
pub mod store;

mod clean;
mod rollup;
pub(crate) mod sql;
mod sql_ledger;
mod sql_rebuild;

pub mod postgres;
pub mod postgres_chains;
pub mod postgres_keys;
mod postgres_reckoning;
mod postgres_writes;
pub mod sqlite;
pub mod sqlite_chains;
pub mod sqlite_keys;
mod sqlite_reckoning;
mod sqlite_writes;

pub use audit::{AuditRow, Category, Outcome, Severity, StoredAudit};
pub use capture::{Capture, Redactor};
pub use chain::{ChainKey, Head, Link};
pub use ecs::audit_row_as_ecs;
pub use name_key::NameKey;
pub use recorder::{Health, Recorder};
pub use row_log::RowLog;
pub use rows::Rows;
pub use store::{ReadError, RecordStore, Sums, Used, WriteError};
pub use system::SystemRow;
pub use tool::ToolRow;
pub use usage::{StoredUsage, UsageRow};
