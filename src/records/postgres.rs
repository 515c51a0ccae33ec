//! Records in PostgreSQL.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, PgPool, Row};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

pub(crate) use super::postgres_writes::timestamptz;
use super::sql::{self, AUDIT_COLUMNS, Columns, SYSTEM_COLUMNS, TOOL_COLUMNS, USAGE_COLUMNS};
use super::store::{Fault, RecordStore, Used};
use super::{ReadError, StoredAudit, StoredUsage, SystemRow, ToolRow, WriteError};
use super::{postgres_writes, sql_ledger};

/// How long the writer's connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one batch may take. A server that stalls is otherwise noticed only when TCP gives up, after minutes.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// How many batches are written at once, at most.
const WRITTEN_AT_ONCE: usize = 4;

const MEMBER_DAYS: &str = "SELECT org_id, member_id, org_day, org_month, SUM(messages)::BIGINT AS messages, \
    SUM(total_tokens >> 32)::BIGINT AS tokens_upper, SUM(total_tokens & 4294967295)::BIGINT AS tokens_lower, \
    SUM(cost_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_events WHERE time >= $1 \
    GROUP BY org_id, member_id, org_day, org_month ORDER BY org_id, member_id, org_day";

const UTC_DAYS: &str = "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS utc_day, SUM(messages)::BIGINT AS messages, \
    SUM(total_tokens >> 32)::BIGINT AS tokens_upper, SUM(total_tokens & 4294967295)::BIGINT AS tokens_lower, \
    SUM(cost_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_events WHERE time >= $1 GROUP BY utc_day ORDER BY utc_day";

const MEMBER_CORRECTIONS: &str = "SELECT org_id, member_id, org_day, org_month, \
    SUM(cost_difference_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_difference_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_corrections WHERE usage_time >= $1 GROUP BY org_id, member_id, org_day, org_month";

const UTC_CORRECTIONS: &str = "SELECT to_char(usage_time AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS utc_day, \
    SUM(cost_difference_nanousd >> 32)::BIGINT AS cost_upper, SUM(cost_difference_nanousd & 4294967295)::BIGINT AS cost_lower \
    FROM usage_corrections WHERE usage_time >= $1 GROUP BY utc_day";

/// A PostgreSQL database of records.
#[derive(Debug)]
pub struct PostgresRecords {
    pub(super) readers: PgPool,
    options: PgConnectOptions,
    writers: Writers,
}

/// Connections of the writers' own. Each is taken out while it is used: one whose statement is given up half way does not
/// come back, and a new one is made in its place.
#[derive(Debug)]
struct Writers {
    idle: Mutex<Vec<PgConnection>>,
    at_once: Semaphore,
}

impl PostgresRecords {
    pub(crate) fn new(readers: PgPool, options: PgConnectOptions) -> Self {
        Self { readers, options, writers: Writers { idle: Mutex::default(), at_once: Semaphore::new(WRITTEN_AT_ONCE) } }
    }

    /// The sums of a statement that asks for an instant.
    async fn since(&self, select: &'static str, since: DateTime<Utc>) -> Result<Vec<PgRow>, ReadError> {
        sqlx::query(select).bind(since).fetch_all(&self.readers).await.map_err(|error| sql::unavailable(&error))
    }

    /// A connection for writing.
    async fn writer(&self) -> Result<Writer<'_>, WriteError> {
        let permit = self.writers.at_once.acquire().await;
        let permit = permit.map_err(|_| WriteError { fault: Fault::Away, message: "writing is over".into() })?;
        let idle = self.writers.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => match tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect()).await {
                Ok(connected) => connected.map_err(|error| away(&error))?,
                Err(_) => return Err(sql::too_slow("connecting", CONNECT_TIMEOUT)),
            },
        };
        Ok(Writer { home: &self.writers, connection, _permit: permit })
    }
}

/// A writers' connection while it is used. Whoever gives up half way takes it with them.
struct Writer<'store> {
    home: &'store Writers,
    connection: PgConnection,
    _permit: SemaphorePermit<'store>,
}

impl Writer<'_> {
    /// Puts the connection back, unless the database is away: then it, and those that lie idle, are not worth keeping.
    fn leave(self, written: Result<(), WriteError>) -> Result<(), WriteError> {
        let mut idle = self.home.idle.lock();
        if matches!(written, Err(WriteError { fault: Fault::Away, .. })) {
            idle.clear();
        } else {
            idle.push(self.connection);
        }
        written
    }
}

async fn in_time(write: impl Future<Output = Result<(), sqlx::Error>>) -> Result<(), WriteError> {
    match tokio::time::timeout(WRITE_TIMEOUT, write).await {
        Ok(written) => written.map_err(|error| sql::write_error(&error, fault)),
        Err(_) => Err(sql::too_slow("writing a batch", WRITE_TIMEOUT)),
    }
}

#[async_trait]
impl RecordStore for PostgresRecords {
    async fn insert_usage(&self, rows: &[StoredUsage]) -> Result<(), WriteError> {
        let mut writer = self.writer().await?;
        let written = in_time(postgres_writes::usage(&mut writer.connection, rows)).await;
        writer.leave(written)
    }

    async fn insert_audit(&self, rows: &[StoredAudit]) -> Result<(), WriteError> {
        let mut writer = self.writer().await?;
        let written = in_time(postgres_writes::audit(&mut writer.connection, rows)).await;
        writer.leave(written)
    }

    async fn insert_tools(&self, rows: &[ToolRow]) -> Result<(), WriteError> {
        let mut writer = self.writer().await?;
        let written = in_time(postgres_writes::tools(&mut writer.connection, rows)).await;
        writer.leave(written)
    }

    async fn insert_system(&self, rows: &[SystemRow]) -> Result<(), WriteError> {
        let mut writer = self.writer().await?;
        let written = in_time(postgres_writes::system(&mut writer.connection, rows)).await;
        writer.leave(written)
    }

    async fn used_since(&self, since: Timestamp) -> Result<Used, ReadError> {
        let since = timestamptz(since);
        let members = self.since(MEMBER_DAYS, since).await?.iter().map(sql::member_day).collect::<Result<_, _>>()?;
        let everyone = self.since(UTC_DAYS, since).await?.iter().map(sql::utc_day).collect::<Result<_, _>>()?;
        Ok(Used {
            members: sql_ledger::correct_members(members, &self.since(MEMBER_CORRECTIONS, since).await?)?,
            everyone: sql_ledger::correct_days(everyone, &self.since(UTC_CORRECTIONS, since).await?)?,
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

    fn flag(&self, column: &str) -> Result<Option<bool>, String> {
        self.try_get(column).map_err(|error| error.to_string())
    }

    fn json(&self, column: &str) -> Result<Option<Value>, String> {
        let json: Option<Json<Value>> = self.try_get(column).map_err(|error| error.to_string())?;
        Ok(json.map(|json| json.0))
    }
}

/// Whatever is said while connecting, no row is at fault.
fn away(error: &sqlx::Error) -> WriteError {
    WriteError { fault: Fault::Away, ..sql::write_error(error, fault) }
}

/// Whose fault an SQLSTATE is, by its class (PostgreSQL manual, appendix A).
pub(super) fn fault(code: &str) -> Fault {
    match code.get(..2) {
        // Data exceptions, violated constraints, values over a limit of the program.
        Some("22" | "23" | "54") => Fault::Row,
        // Syntax or access rules (a missing table or right, but also a function's refusal), internal errors, the unknown.
        None | Some("21" | "42" | "XX" | "P0" | "38" | "39") => Fault::Unclear,
        // Connections, sign-in, read-only, deadlocks, resources, shutdown, statements that a pooler forgot.
        Some(_) => Fault::Away,
    }
}
