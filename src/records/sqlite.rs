//! Records in an SQLite file.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row, SqlitePool};
use uuid::Uuid;

use super::sql::{self, AUDIT_COLUMNS, Columns, SYSTEM_COLUMNS, TOOL_COLUMNS, USAGE_COLUMNS};
pub(crate) use super::sqlite_writes::sortable;
use super::store::{Fault, RecordStore, Used};
use super::{ReadError, StoredAudit, StoredUsage, SystemRow, ToolRow, WriteError};
use super::{sql_ledger, sqlite_writes};

const MEMBER_DAYS: &str = "SELECT org_id, member_id, org_day, org_month, SUM(messages) AS messages, \
    SUM(total_tokens >> 32) AS tokens_upper, SUM(total_tokens & 4294967295) AS tokens_lower, \
    SUM(cost_nanousd >> 32) AS cost_upper, SUM(cost_nanousd & 4294967295) AS cost_lower \
    FROM usage_events WHERE time >= ? \
    GROUP BY org_id, member_id, org_day, org_month ORDER BY org_id, member_id, org_day";

const UTC_DAYS: &str = "SELECT substr(time, 1, 10) AS utc_day, SUM(messages) AS messages, \
    SUM(total_tokens >> 32) AS tokens_upper, SUM(total_tokens & 4294967295) AS tokens_lower, \
    SUM(cost_nanousd >> 32) AS cost_upper, SUM(cost_nanousd & 4294967295) AS cost_lower \
    FROM usage_events WHERE time >= ? GROUP BY utc_day ORDER BY utc_day";

const MEMBER_CORRECTIONS: &str = "SELECT org_id, member_id, org_day, org_month, \
    SUM(cost_difference_nanousd >> 32) AS cost_upper, SUM(cost_difference_nanousd & 4294967295) AS cost_lower \
    FROM usage_corrections WHERE usage_time >= ? GROUP BY org_id, member_id, org_day, org_month";

const UTC_CORRECTIONS: &str = "SELECT substr(usage_time, 1, 10) AS utc_day, \
    SUM(cost_difference_nanousd >> 32) AS cost_upper, SUM(cost_difference_nanousd & 4294967295) AS cost_lower \
    FROM usage_corrections WHERE usage_time >= ? GROUP BY utc_day";

/// How many rows one statement writes: it has at most 32,766 parameters.
const ROWS_AT_ONCE: usize = 500;

/// An SQLite file of records.
#[derive(Debug)]
pub struct SqliteRecords {
    pub(super) pool: SqlitePool,
    /// Held while rows are written. Connections that find the file locked sleep and look again; here they wait in a row.
    writing: tokio::sync::Mutex<()>,
}

impl SqliteRecords {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self { pool, writing: tokio::sync::Mutex::new(()) }
    }

    /// The sums of a statement that asks for an instant.
    async fn since(&self, select: &'static str, since: &str) -> Result<Vec<SqliteRow>, ReadError> {
        sqlx::query(select).bind(since).fetch_all(&self.pool).await.map_err(|error| sql::unavailable(&error))
    }
}

#[async_trait]
impl RecordStore for SqliteRecords {
    async fn insert_usage(&self, rows: &[StoredUsage]) -> Result<(), WriteError> {
        let _writing = self.writing.lock().await;
        for some in rows.chunks(ROWS_AT_ONCE) {
            sqlite_writes::usage(&self.pool, some).await.map_err(|error| sql::write_error(&error, fault))?;
        }
        Ok(())
    }

    async fn insert_audit(&self, rows: &[StoredAudit]) -> Result<(), WriteError> {
        let _writing = self.writing.lock().await;
        for some in rows.chunks(ROWS_AT_ONCE) {
            sqlite_writes::audit(&self.pool, some).await.map_err(|error| sql::write_error(&error, fault))?;
        }
        Ok(())
    }

    async fn insert_tools(&self, rows: &[ToolRow]) -> Result<(), WriteError> {
        let _writing = self.writing.lock().await;
        for some in rows.chunks(ROWS_AT_ONCE) {
            sqlite_writes::tools(&self.pool, some).await.map_err(|error| sql::write_error(&error, fault))?;
        }
        Ok(())
    }

    async fn insert_system(&self, rows: &[SystemRow]) -> Result<(), WriteError> {
        let _writing = self.writing.lock().await;
        for some in rows.chunks(ROWS_AT_ONCE) {
            sqlite_writes::system(&self.pool, some).await.map_err(|error| sql::write_error(&error, fault))?;
        }
        Ok(())
    }

    async fn used_since(&self, since: Timestamp) -> Result<Used, ReadError> {
        let since = sortable(since);
        let members = self.since(MEMBER_DAYS, &since).await?.iter().map(sql::member_day).collect::<Result<_, _>>()?;
        let everyone = self.since(UTC_DAYS, &since).await?.iter().map(sql::utc_day).collect::<Result<_, _>>()?;
        Ok(Used {
            members: sql_ledger::correct_members(members, &self.since(MEMBER_CORRECTIONS, &since).await?)?,
            everyone: sql_ledger::correct_days(everyone, &self.since(UTC_CORRECTIONS, &since).await?)?,
        })
    }

    async fn decision(&self, reference: &str) -> Result<Option<StoredAudit>, ReadError> {
        let select = format!("SELECT {AUDIT_COLUMNS} FROM audit_events WHERE reference = ? ORDER BY time DESC LIMIT 1");
        let row = sqlx::query(AssertSqlSafe(select)).bind(reference).fetch_optional(&self.pool).await;
        row.map_err(|error| sql::unavailable(&error))?.as_ref().map(sql::audit_row).transpose()
    }

    async fn usage_of(&self, generation_id: Uuid) -> Result<Vec<StoredUsage>, ReadError> {
        let select = format!("SELECT {USAGE_COLUMNS} FROM usage_events WHERE generation_id = ? ORDER BY id <> generation_id, id");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(generation_id.to_string()).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::usage_row).collect()
    }

    async fn usage_rows(&self, limit: u32) -> Result<Vec<StoredUsage>, ReadError> {
        let select = format!("SELECT {USAGE_COLUMNS} FROM usage_events ORDER BY time DESC, id DESC LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::usage_row).collect()
    }

    async fn audit_rows(&self, limit: u32) -> Result<Vec<StoredAudit>, ReadError> {
        let select = format!("SELECT {AUDIT_COLUMNS} FROM audit_events ORDER BY time DESC, id DESC LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::audit_row).collect()
    }

    async fn tool_rows(&self, limit: u32) -> Result<Vec<ToolRow>, ReadError> {
        let select = format!("SELECT {TOOL_COLUMNS} FROM tool_calls ORDER BY time DESC, id DESC LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::tool_row).collect()
    }

    async fn system_rows(&self, limit: u32) -> Result<Vec<SystemRow>, ReadError> {
        let select = format!("SELECT {SYSTEM_COLUMNS} FROM system_metrics ORDER BY time DESC, id DESC LIMIT ?");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::system_row).collect()
    }
}

impl Columns for SqliteRow {
    fn text(&self, column: &str) -> Result<Option<String>, String> {
        self.try_get(column).map_err(|error| error.to_string())
    }

    fn number(&self, column: &str) -> Result<Option<i64>, String> {
        self.try_get(column).map_err(|error| error.to_string())
    }

    fn float(&self, column: &str) -> Result<Option<f64>, String> {
        self.try_get(column).map_err(|error| error.to_string())
    }

    fn uuid(&self, column: &str) -> Result<Option<Uuid>, String> {
        self.text(column)?.map(|text| text.parse().map_err(|error| format!("{text:?}: {error}"))).transpose()
    }

    fn time(&self, column: &str) -> Result<Option<Timestamp>, String> {
        self.text(column)?.map(|text| text.parse().map_err(|error| format!("{text:?}: {error}"))).transpose()
    }

    fn flag(&self, column: &str) -> Result<Option<bool>, String> {
        self.try_get(column).map_err(|error| error.to_string())
    }

    fn json(&self, column: &str) -> Result<Option<Value>, String> {
        self.text(column)?.map(|text| serde_json::from_str(&text).map_err(|error| error.to_string())).transpose()
    }
}

/// Whose fault a result code is; the lower eight bits are the primary code (SQLite manual, "Result and Error Codes").
pub(super) fn fault(code: &str) -> Fault {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // TOOBIG, CONSTRAINT, MISMATCH, RANGE.
        Ok(18 | 19 | 20 | 25) => Fault::Row,
        // ERROR, INTERNAL, MISUSE and what is no number.
        Ok(1 | 2 | 21) | Err(_) => Fault::Unclear,
        // PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, ...
        Ok(_) => Fault::Away,
    }
}
