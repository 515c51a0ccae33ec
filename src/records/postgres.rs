//! Records in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jiff::Timestamp;
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool, Postgres, Row};
use uuid::Uuid;

use super::sql::{self, AUDIT_COLUMNS, Columns, SYSTEM_COLUMNS, TOOL_COLUMNS, USAGE_COLUMNS, stored};
use super::store::{Fault, RecordStore, Used};
use super::{ReadError, StoredAudit, StoredUsage, SystemRow, ToolRow, WriteError};

/// How long the writer's connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one batch may take. A server that stalls is otherwise noticed only when TCP gives up, after minutes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

const MEMBER_DAYS: &str = "SELECT org_id, member_id, org_day, org_month, SUM(messages)::BIGINT AS messages, \
    SUM(total_tokens >> 32)::BIGINT AS tokens_upper, SUM(total_tokens & 4294967295)::BIGINT AS tokens_lower, \
    SUM(cost_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_events WHERE time >= $1 \
    GROUP BY org_id, member_id, org_day, org_month ORDER BY org_id, member_id, org_day";

const UTC_DAYS: &str = "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS utc_day, SUM(messages)::BIGINT AS messages, \
    SUM(total_tokens >> 32)::BIGINT AS tokens_upper, SUM(total_tokens & 4294967295)::BIGINT AS tokens_lower, \
    SUM(cost_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_events WHERE time >= $1 GROUP BY utc_day ORDER BY utc_day";

/// A PostgreSQL database of records.
#[derive(Debug)]
pub struct PostgresRecords {
    readers: PgPool,
    options: PgConnectOptions,
    /// The writer's own connection. It is taken out while it is used: a statement that is given up half way leaves it
    /// empty, and the next one connects anew.
    writer: tokio::sync::Mutex<Option<PgConnection>>,
}

impl PostgresRecords {
    pub(crate) fn new(readers: PgPool, options: PgConnectOptions) -> Self {
        Self { readers, options, writer: tokio::sync::Mutex::new(None) }
    }

    async fn write(&self, statement: Query<'_, Postgres, PgArguments>) -> Result<(), WriteError> {
        let mut writer = self.writer.lock().await;
        let mut connection = match writer.take() {
            Some(connection) => connection,
            None => match tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect()).await {
                Ok(connected) => connected.map_err(|error| away(&error))?,
                Err(_) => return Err(sql::too_slow("connecting", CONNECT_TIMEOUT)),
            },
        };
        let written = match tokio::time::timeout(WRITE_TIMEOUT, statement.execute(&mut connection)).await {
            Ok(written) => written.map_err(|error| sql::write_error(&error, fault)),
            Err(_) => return Err(sql::too_slow("writing a batch", WRITE_TIMEOUT)),
        };
        // After "away" the connection is not worth keeping.
        if !matches!(written, Err(WriteError { fault: Fault::Away, .. })) {
            *writer = Some(connection);
        }
        written.map(|_| ())
    }
}

#[async_trait]
impl RecordStore for PostgresRecords {
    async fn insert_usage(&self, rows: &[StoredUsage]) -> Result<(), WriteError> {
        let rows = sql::ordered(rows, |row| (row.id, row.time));
        let statement = format!(
            "INSERT INTO usage_events ({USAGE_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::UUID[], \
             $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::BIGINT[], \
             $13::BIGINT[], $14::BIGINT[], $15::BIGINT[], $16::BIGINT[], $17::BIGINT[], $18::BIGINT[], $19::TEXT[], $20::TEXT[], \
             $21::BIGINT[], $22::TEXT[], $23::BIGINT[], $24::BIGINT[], $25::TEXT[]) ON CONFLICT (id, time) DO NOTHING"
        );
        let statement = sqlx::query(AssertSqlSafe(statement))
            .bind(column(&rows, |row| row.id))
            .bind(column(&rows, |row| timestamptz(row.time)))
            .bind(column(&rows, |row| row.generation_id))
            .bind(column(&rows, |row| &*row.org_id))
            .bind(column(&rows, |row| &*row.member_id))
            .bind(column(&rows, |row| row.org_day.as_str()))
            .bind(column(&rows, |row| row.org_month.as_str()))
            .bind(column(&rows, |row| row.endpoint.as_str()))
            .bind(column(&rows, |row| row.model.as_str()))
            .bind(column(&rows, |row| row.agent_id.as_deref()))
            .bind(column(&rows, |row| row.conversation_id.as_deref()))
            .bind(column(&rows, |row| stored(row.messages)))
            .bind(column(&rows, |row| stored(row.input_tokens)))
            .bind(column(&rows, |row| stored(row.output_tokens)))
            .bind(column(&rows, |row| stored(row.cache_read_tokens)))
            .bind(column(&rows, |row| stored(row.cache_write_tokens)))
            .bind(column(&rows, |row| stored(row.total_tokens)))
            .bind(column(&rows, |row| stored(row.cost_nanousd)))
            .bind(column(&rows, |row| &*row.price_version))
            .bind(column(&rows, |row| row.usage_source.as_str()))
            .bind(column(&rows, |row| stored(row.estimate_tokens)))
            .bind(column(&rows, |row| row.status.as_str()))
            .bind(column(&rows, |row| row.time_to_first_token_ms.map(stored)))
            .bind(column(&rows, |row| stored(row.duration_ms)))
            .bind(column(&rows, |row| &*row.request_id));
        self.write(statement).await
    }

    async fn insert_audit(&self, rows: &[StoredAudit]) -> Result<(), WriteError> {
        let rows = sql::once_each(rows);
        let statement = format!(
            "INSERT INTO audit_events ({AUDIT_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::TEXT[], $13::TEXT[], $14::TEXT[], $15::TEXT[], $16::TEXT[], $17::TEXT[], $18::BIGINT[], $19::BIGINT[], $20::TEXT[], $21::TEXT[], $22::TEXT[], $23::TEXT[], $24::TEXT[], $25::BIGINT[], $26::BIGINT[], $27::BIGINT[], $28::TEXT[], $29::JSONB[]) \
             ON CONFLICT (id, time) DO UPDATE SET count = EXCLUDED.count WHERE EXCLUDED.count > audit_events.count"
        );
        let statement = sqlx::query(AssertSqlSafe(statement))
            .bind(column(&rows, |row| row.id))
            .bind(column(&rows, |row| timestamptz(row.time)))
            .bind(column(&rows, |row| row.category.as_str()))
            .bind(column(&rows, |row| row.severity.as_str()))
            .bind(column(&rows, |row| row.org_id.as_deref()))
            .bind(column(&rows, |row| row.org_day.as_deref()))
            .bind(column(&rows, |row| row.actor_id.as_deref()))
            .bind(column(&rows, |row| row.actor_name.as_deref()))
            .bind(column(&rows, |row| row.actor_role.as_deref()))
            .bind(column(&rows, |row| row.action.as_str()))
            .bind(column(&rows, |row| row.resource_type.as_deref()))
            .bind(column(&rows, |row| row.resource_id.as_deref()))
            .bind(column(&rows, |row| row.outcome.as_str()))
            .bind(column(&rows, |row| row.request_id.as_deref()))
            .bind(column(&rows, |row| row.method.as_deref()))
            .bind(column(&rows, |row| row.path.as_deref()))
            .bind(column(&rows, |row| row.query.as_deref()))
            .bind(column(&rows, |row| row.status.map(stored)))
            .bind(column(&rows, |row| row.duration_ms.map(stored)))
            .bind(column(&rows, |row| row.error.as_deref()))
            .bind(column(&rows, |row| row.address.as_deref()))
            .bind(column(&rows, |row| row.user_agent.as_deref()))
            .bind(column(&rows, |row| row.conversation_id.as_deref()))
            .bind(column(&rows, |row| row.model.as_deref()))
            .bind(column(&rows, |row| row.total_tokens.map(stored)))
            .bind(column(&rows, |row| row.cost_nanousd.map(stored)))
            .bind(column(&rows, |row| stored(row.count)))
            .bind(column(&rows, |row| row.reference.as_deref()))
            .bind(column(&rows, |row| row.detail.as_ref().map(Json)));
        self.write(statement).await
    }

    async fn insert_tools(&self, rows: &[ToolRow]) -> Result<(), WriteError> {
        let rows = sql::ordered(rows, |row| (row.id, row.time));
        let statement = format!(
            "INSERT INTO tool_calls ({TOOL_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::UUID[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::BIGINT[], $13::TEXT[]) \
             ON CONFLICT (id, time) DO NOTHING"
        );
        let statement = sqlx::query(AssertSqlSafe(statement))
            .bind(column(&rows, |row| row.id))
            .bind(column(&rows, |row| timestamptz(row.time)))
            .bind(column(&rows, |row| row.generation_id))
            .bind(column(&rows, |row| &*row.org_id))
            .bind(column(&rows, |row| &*row.member_id))
            .bind(column(&rows, |row| row.org_day.as_str()))
            .bind(column(&rows, |row| row.org_month.as_str()))
            .bind(column(&rows, |row| row.conversation_id.as_deref()))
            .bind(column(&rows, |row| row.tool.as_str()))
            .bind(column(&rows, |row| row.mcp_server.as_deref()))
            .bind(column(&rows, |row| row.outcome.as_str()))
            .bind(column(&rows, |row| row.duration_ms.map(stored)))
            .bind(column(&rows, |row| row.error.as_deref()));
        self.write(statement).await
    }

    async fn insert_system(&self, rows: &[SystemRow]) -> Result<(), WriteError> {
        let rows = sql::ordered(rows, |row| (row.id, row.time));
        let statement = format!(
            "INSERT INTO system_metrics ({SYSTEM_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::TEXT[], $4::DOUBLE PRECISION[], $5::DOUBLE PRECISION[], $6::DOUBLE PRECISION[], $7::DOUBLE PRECISION[], $8::BIGINT[], $9::BIGINT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[], $14::BIGINT[], $15::BIGINT[], $16::BIGINT[], $17::DOUBLE PRECISION[], $18::BIGINT[], $19::BIGINT[], $20::BIGINT[]) \
             ON CONFLICT (id, time) DO NOTHING"
        );
        let statement = sqlx::query(AssertSqlSafe(statement))
            .bind(column(&rows, |row| row.id))
            .bind(column(&rows, |row| timestamptz(row.time)))
            .bind(column(&rows, |row| &*row.server))
            .bind(column(&rows, |row| row.cpu_percent))
            .bind(column(&rows, |row| row.load_1m))
            .bind(column(&rows, |row| row.load_5m))
            .bind(column(&rows, |row| row.load_15m))
            .bind(column(&rows, |row| stored(row.memory_used_bytes)))
            .bind(column(&rows, |row| stored(row.memory_total_bytes)))
            .bind(column(&rows, |row| stored(row.swap_used_bytes)))
            .bind(column(&rows, |row| stored(row.disk_used_bytes)))
            .bind(column(&rows, |row| stored(row.disk_total_bytes)))
            .bind(column(&rows, |row| stored(row.disk_read_bytes)))
            .bind(column(&rows, |row| stored(row.disk_written_bytes)))
            .bind(column(&rows, |row| stored(row.network_received_bytes)))
            .bind(column(&rows, |row| stored(row.network_sent_bytes)))
            .bind(column(&rows, |row| row.process_cpu_percent))
            .bind(column(&rows, |row| stored(row.process_memory_bytes)))
            .bind(column(&rows, |row| stored(row.process_open_files)))
            .bind(column(&rows, |row| stored(row.process_threads)));
        self.write(statement).await
    }

    async fn used_since(&self, since: Timestamp) -> Result<Used, ReadError> {
        let since = timestamptz(since);
        let members = sqlx::query(MEMBER_DAYS).bind(since).fetch_all(&self.readers).await.map_err(|error| sql::unavailable(&error))?;
        let everyone = sqlx::query(UTC_DAYS).bind(since).fetch_all(&self.readers).await.map_err(|error| sql::unavailable(&error))?;
        Ok(Used {
            members: members.iter().map(sql::member_day).collect::<Result<_, _>>()?,
            everyone: everyone.iter().map(sql::utc_day).collect::<Result<_, _>>()?,
        })
    }

    async fn decision(&self, reference: &str) -> Result<Option<StoredAudit>, ReadError> {
        let select = format!("SELECT {AUDIT_COLUMNS} FROM audit_events WHERE reference = $1 ORDER BY time DESC LIMIT 1");
        let row = sqlx::query(AssertSqlSafe(select)).bind(reference).fetch_optional(&self.readers).await;
        row.map_err(|error| sql::unavailable(&error))?.as_ref().map(sql::audit_row).transpose()
    }

    async fn usage_of(&self, generation_id: Uuid) -> Result<Vec<StoredUsage>, ReadError> {
        let select = format!("SELECT {USAGE_COLUMNS} FROM usage_events WHERE generation_id = $1 ORDER BY id <> generation_id, id");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(generation_id).fetch_all(&self.readers).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::usage_row).collect()
    }

    async fn usage_rows(&self, limit: u32) -> Result<Vec<StoredUsage>, ReadError> {
        let select = format!("SELECT {USAGE_COLUMNS} FROM usage_events ORDER BY time DESC, id DESC LIMIT $1");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.readers).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::usage_row).collect()
    }

    async fn audit_rows(&self, limit: u32) -> Result<Vec<StoredAudit>, ReadError> {
        let select = format!("SELECT {AUDIT_COLUMNS} FROM audit_events ORDER BY time DESC, id DESC LIMIT $1");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.readers).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::audit_row).collect()
    }

    async fn tool_rows(&self, limit: u32) -> Result<Vec<ToolRow>, ReadError> {
        let select = format!("SELECT {TOOL_COLUMNS} FROM tool_calls ORDER BY time DESC, id DESC LIMIT $1");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.readers).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::tool_row).collect()
    }

    async fn system_rows(&self, limit: u32) -> Result<Vec<SystemRow>, ReadError> {
        let select = format!("SELECT {SYSTEM_COLUMNS} FROM system_metrics ORDER BY time DESC, id DESC LIMIT $1");
        let rows = sqlx::query(AssertSqlSafe(select)).bind(i64::from(limit)).fetch_all(&self.readers).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::system_row).collect()
    }
}

impl Columns for PgRow {
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
        self.try_get(column).map_err(|error| error.to_string())
    }

    fn time(&self, column: &str) -> Result<Option<Timestamp>, String> {
        let time: Option<DateTime<Utc>> = self.try_get(column).map_err(|error| error.to_string())?;
        time.map(|time| Timestamp::from_microsecond(time.timestamp_micros()).map_err(|error| error.to_string())).transpose()
    }

    fn json(&self, column: &str) -> Result<Option<Value>, String> {
        let json: Option<Json<Value>> = self.try_get(column).map_err(|error| error.to_string())?;
        Ok(json.map(|json| json.0))
    }
}

/// One column of a batch, for UNNEST.
fn column<'rows, R, T>(rows: &[&'rows R], value: impl Fn(&'rows R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// PostgreSQL keeps microseconds. Every instant of jiff's is one of chrono's.
fn timestamptz(time: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.as_microsecond()).unwrap_or_default()
}

/// Whatever is said while connecting, no row is at fault.
fn away(error: &sqlx::Error) -> WriteError {
    WriteError { fault: Fault::Away, ..sql::write_error(error, fault) }
}

/// Whose fault an SQLSTATE is, by its class (PostgreSQL manual, appendix A).
fn fault(code: &str) -> Fault {
    match code.get(..2) {
        // Data exceptions, violated constraints, values over a limit of the program.
        Some("22" | "23" | "54") => Fault::Row,
        // Syntax or access rules (a missing table or right, but also a function's refusal), internal errors, the unknown.
        None | Some("21" | "42" | "XX" | "P0" | "38" | "39") => Fault::Unclear,
        // Connections, sign-in, read-only, deadlocks, resources, shutdown, statements that a pooler forgot.
        Some(_) => Fault::Away,
    }
}
