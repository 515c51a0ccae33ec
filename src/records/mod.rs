//! What is written down: usage rows that orgs are billed by, and audit rows that say who did what.
//!
//! Producers hand rows to a [`Recorder`]; its one writer takes them in batches to the [`RecordStore`], which is an
//! SQLite file or a PostgreSQL database (see [`crate::db::Database`]).

pub mod audit;
pub mod usage;

pub mod recorder;
pub mod refused_tokens;
pub mod store;

mod clean;
mod lane;
mod writer;

mod sql;

pub mod postgres;
pub mod sqlite;

pub use audit::{AuditRow, Category, Outcome, Severity, StoredAudit};
pub use recorder::{Ack, Health, RecordError, Recorder, Settings, Unwritten};
pub use store::{ReadError, RecordStore, Used, WriteError};
pub use usage::{StoredUsage, UsageRow};
