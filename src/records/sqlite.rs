//! Records in an SQLite file.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite, SqlitePool};
use uuid::Uuid;

use super::sql::{self, AUDIT_COLUMNS, Columns, SYSTEM_COLUMNS, TOOL_COLUMNS, USAGE_COLUMNS, stored};
use super::store::{Fault, RecordStore, Used};
use super::{ReadError, StoredAudit, StoredUsage, SystemRow, ToolRow, WriteError};

const MEMBER_DAYS: &str = "SELECT org_id, member_id, org_day, org_month, SUM(messages) AS messages, \
    SUM(total_tokens >> 32) AS tokens_upper, SUM(total_tokens & 4294967295) AS tokens_lower, \
    SUM(cost_nanousd >> 32) AS cost_upper, SUM(cost_nanousd & 4294967295) AS cost_lower \
    FROM usage_events WHERE time >= ? \
    GROUP BY org_id, member_id, org_day, org_month ORDER BY org_id, member_id, org_day";

const UTC_DAYS: &str = "SELECT substr(time, 1, 10) AS utc_day, SUM(messages) AS messages, \
    SUM(total_tokens >> 32) AS tokens_upper, SUM(total_tokens & 4294967295) AS tokens_lower, \
    SUM(cost_nanousd >> 32) AS cost_upper, SUM(cost_nanousd & 4294967295) AS cost_lower \
    FROM usage_events WHERE time >= ? GROUP BY utc_day ORDER BY utc_day";

/// An SQLite file of records.
#[derive(Debug)]
pub struct SqliteRecords {
    pool: SqlitePool,
}

impl SqliteRecords {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    /// Batches come in all sizes, so that their statements are not worth keeping prepared.
    async fn write(&self, mut statement: QueryBuilder<Sqlite>) -> Result<(), WriteError> {
        let written = statement.build().persistent(false).execute(&self.pool).await;
        written.map(|_| ()).map_err(|error| sql::write_error(&error, fault))
    }
}

#[async_trait]
impl RecordStore for SqliteRecords {
    async fn insert_usage(&self, rows: &[StoredUsage]) -> Result<(), WriteError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut statement = QueryBuilder::new(format!("INSERT INTO usage_events ({USAGE_COLUMNS}) "));
        statement.push_values(sql::ordered(rows, |row| (row.id, row.time)), |mut values, row| {
            values
                .push_bind(row.id.to_string())
                .push_bind(sortable(row.time))
                .push_bind(row.generation_id.to_string())
                .push_bind(&*row.org_id)
                .push_bind(&*row.member_id)
                .push_bind(row.org_day.as_str())
                .push_bind(row.org_month.as_str())
                .push_bind(row.endpoint.as_str())
                .push_bind(row.model.as_str())
                .push_bind(row.agent_id.as_deref())
                .push_bind(row.conversation_id.as_deref())
                .push_bind(stored(row.messages))
                .push_bind(stored(row.input_tokens))
                .push_bind(stored(row.output_tokens))
                .push_bind(stored(row.cache_read_tokens))
                .push_bind(stored(row.cache_write_tokens))
                .push_bind(stored(row.total_tokens))
                .push_bind(stored(row.cost_nanousd))
                .push_bind(&*row.price_version)
                .push_bind(row.usage_source.as_str())
                .push_bind(stored(row.estimate_tokens))
                .push_bind(row.status.as_str())
                .push_bind(row.time_to_first_token_ms.map(stored))
                .push_bind(stored(row.duration_ms))
                .push_bind(&*row.request_id);
        });
        statement.push(" ON CONFLICT (id, time) DO NOTHING");
        self.write(statement).await
    }

    async fn insert_audit(&self, rows: &[StoredAudit]) -> Result<(), WriteError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut statement = QueryBuilder::new(format!("INSERT INTO audit_events ({AUDIT_COLUMNS}) "));
        statement.push_values(sql::once_each(rows), |mut values, row| {
            values
                .push_bind(row.id.to_string())
                .push_bind(sortable(row.time))
                .push_bind(row.category.as_str())
                .push_bind(row.severity.as_str())
                .push_bind(row.org_id.as_deref())
                .push_bind(row.org_day.as_deref())
                .push_bind(row.actor_id.as_deref())
                .push_bind(row.actor_name.as_deref())
                .push_bind(row.actor_role.as_deref())
                .push_bind(row.action.as_str())
                .push_bind(row.resource_type.as_deref())
                .push_bind(row.resource_id.as_deref())
                .push_bind(row.outcome.as_str())
                .push_bind(row.request_id.as_deref())
                .push_bind(row.method.as_deref())
                .push_bind(row.path.as_deref())
                .push_bind(row.query.as_deref())
                .push_bind(row.status.map(stored))
                .push_bind(row.duration_ms.map(stored))
                .push_bind(row.error.as_deref())
                .push_bind(row.address.as_deref())
                .push_bind(row.user_agent.as_deref())
                .push_bind(row.conversation_id.as_deref())
                .push_bind(row.model.as_deref())
                .push_bind(row.total_tokens.map(stored))
                .push_bind(row.cost_nanousd.map(stored))
                .push_bind(stored(row.count))
                .push_bind(row.reference.as_deref())
                .push_bind(row.detail.as_ref().map(Value::to_string));
        });
        statement.push(" ON CONFLICT (id, time) DO UPDATE SET count = excluded.count WHERE excluded.count > audit_events.count");
        self.write(statement).await
    }

    async fn insert_tools(&self, rows: &[ToolRow]) -> Result<(), WriteError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut statement = QueryBuilder::new(format!("INSERT INTO tool_calls ({TOOL_COLUMNS}) "));
        statement.push_values(sql::ordered(rows, |row| (row.id, row.time)), |mut values, row| {
            values
                .push_bind(row.id.to_string())
                .push_bind(sortable(row.time))
                .push_bind(row.generation_id.to_string())
                .push_bind(&*row.org_id)
                .push_bind(&*row.member_id)
                .push_bind(row.org_day.as_str())
                .push_bind(row.org_month.as_str())
                .push_bind(row.conversation_id.as_deref())
                .push_bind(row.tool.as_str())
                .push_bind(row.mcp_server.as_deref())
                .push_bind(row.outcome.as_str())
                .push_bind(row.duration_ms.map(stored))
                .push_bind(row.error.as_deref());
        });
        statement.push(" ON CONFLICT (id, time) DO NOTHING");
        self.write(statement).await
    }

    async fn insert_system(&self, rows: &[SystemRow]) -> Result<(), WriteError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut statement = QueryBuilder::new(format!("INSERT INTO system_metrics ({SYSTEM_COLUMNS}) "));
        statement.push_values(sql::ordered(rows, |row| (row.id, row.time)), |mut values, row| {
            values
                .push_bind(row.id.to_string())
                .push_bind(sortable(row.time))
                .push_bind(&*row.server)
                .push_bind(row.cpu_percent)
                .push_bind(row.load_1m)
                .push_bind(row.load_5m)
                .push_bind(row.load_15m)
                .push_bind(stored(row.memory_used_bytes))
                .push_bind(stored(row.memory_total_bytes))
                .push_bind(stored(row.swap_used_bytes))
                .push_bind(stored(row.disk_used_bytes))
                .push_bind(stored(row.disk_total_bytes))
                .push_bind(stored(row.disk_read_bytes))
                .push_bind(stored(row.disk_written_bytes))
                .push_bind(stored(row.network_received_bytes))
                .push_bind(stored(row.network_sent_bytes))
                .push_bind(row.process_cpu_percent)
                .push_bind(stored(row.process_memory_bytes))
                .push_bind(stored(row.process_open_files))
                .push_bind(stored(row.process_threads));
        });
        statement.push(" ON CONFLICT (id, time) DO NOTHING");
        self.write(statement).await
    }

    async fn used_since(&self, since: Timestamp) -> Result<Used, ReadError> {
        let since = sortable(since);
        let members = sqlx::query(MEMBER_DAYS).bind(&since).fetch_all(&self.pool).await.map_err(|error| sql::unavailable(&error))?;
        let everyone = sqlx::query(UTC_DAYS).bind(&since).fetch_all(&self.pool).await.map_err(|error| sql::unavailable(&error))?;
        Ok(Used {
            members: members.iter().map(sql::member_day).collect::<Result<_, _>>()?,
            everyone: everyone.iter().map(sql::utc_day).collect::<Result<_, _>>()?,
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

    fn json(&self, column: &str) -> Result<Option<Value>, String> {
        self.text(column)?.map(|text| serde_json::from_str(&text).map_err(|error| error.to_string())).transpose()
    }
}

/// RFC 3339 in UTC with six decimals: text that sorts as time does.
fn sortable(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Whose fault a result code is; the lower eight bits are the primary code (SQLite manual, "Result and Error Codes").
fn fault(code: &str) -> Fault {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // TOOBIG, CONSTRAINT, MISMATCH, RANGE.
        Ok(18 | 19 | 20 | 25) => Fault::Row,
        // ERROR, INTERNAL, MISUSE and what is no number.
        Ok(1 | 2 | 21) | Err(_) => Fault::Unclear,
        // PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, ...
        Ok(_) => Fault::Away,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_wide_as_each_other_and_cut_to_the_microsecond() {
        let late: Timestamp = "2026-11-20T10:00:00.123456999Z".parse().unwrap();
        let whole: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        assert_eq!(sortable(late), "2026-11-20T10:00:00.123456Z");
        assert_eq!(sortable(whole), "2026-11-20T10:00:00.000000Z");
    }
}
