//! Writing records to PostgreSQL: each batch is one transaction of its rows and of what they add to the daily sums.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row};
use uuid::Uuid;

use super::rollup::{MEMBERS_DAILY, MODELS_DAILY, REQUESTS_DAILY, Rollup, TOOLS_DAILY, USAGE_BY_HOUR, USAGE_DAILY};
use super::sql::{self, AUDIT_COLUMNS, SYSTEM_COLUMNS, TOOL_COLUMNS, USAGE_COLUMNS, stored};
use super::{StoredAudit, StoredUsage, SystemRow, ToolRow};

type Written = Result<(), sqlx::Error>;

pub(super) async fn usage(connection: &mut PgConnection, rows: &[StoredUsage]) -> Written {
    let rows = sql::once_each(rows);
    let mut transaction = connection.begin().await?;
    let new = new_keys(&mut transaction, usage_statement(&rows)).await?;
    let new: Vec<&StoredUsage> = rows.into_iter().filter(|row| new.contains(&sql::key(*row))).collect();
    add(&mut transaction, &USAGE_DAILY, new.iter().copied()).await?;
    add(&mut transaction, &MEMBERS_DAILY, new.iter().copied()).await?;
    // Last: other writers wait for lines that so many share until this transaction ends.
    add(&mut transaction, &MODELS_DAILY, new.iter().copied()).await?;
    add(&mut transaction, &USAGE_BY_HOUR, new.into_iter()).await?;
    transaction.commit().await
}

pub(super) async fn audit(connection: &mut PgConnection, rows: &[StoredAudit]) -> Written {
    let rows = sql::audit_once_each(rows);
    let rows: Vec<&StoredAudit> = rows.iter().map(AsRef::as_ref).collect();
    let mut transaction = connection.begin().await?;
    let new = new_keys(&mut transaction, audit_statement(&rows)).await?;
    let (new, known): (Vec<&StoredAudit>, Vec<&StoredAudit>) = rows.into_iter().partition(|row| new.contains(&sql::key(*row)));
    let grown = grow(&mut transaction, &known).await?;
    add(&mut transaction, &REQUESTS_DAILY, new.into_iter().chain(&grown)).await?;
    transaction.commit().await
}

pub(super) async fn tools(connection: &mut PgConnection, rows: &[ToolRow]) -> Written {
    let rows = sql::once_each(rows);
    let mut transaction = connection.begin().await?;
    let new = new_keys(&mut transaction, tool_statement(&rows)).await?;
    let new = rows.into_iter().filter(|row| new.contains(&sql::key(*row)));
    add(&mut transaction, &TOOLS_DAILY, new).await?;
    transaction.commit().await
}

pub(super) async fn system(connection: &mut PgConnection, rows: &[SystemRow]) -> Written {
    system_statement(&sql::once_each(rows)).execute(connection).await.map(|_| ())
}

/// Runs an INSERT that leaves alone what is there, and answers the keys that were not.
async fn new_keys(connection: &mut PgConnection, insert: Query<'_, Postgres, PgArguments>) -> Result<HashSet<(Uuid, i64)>, sqlx::Error> {
    insert.fetch_all(connection).await?.iter().map(key_of).collect()
}

fn key_of(row: &PgRow) -> Result<(Uuid, i64), sqlx::Error> {
    let time: DateTime<Utc> = row.try_get("time")?;
    Ok((row.try_get("id")?, time.timestamp_micros()))
}

/// Raises the counts of rows that are there already. Answers those whose count grew, each with what it grew by.
async fn grow(connection: &mut PgConnection, known: &[&StoredAudit]) -> Result<Vec<StoredAudit>, sqlx::Error> {
    let counted: Vec<&StoredAudit> = known.iter().copied().filter(|row| row.count > 1).collect();
    if counted.is_empty() {
        return Ok(Vec::new());
    }
    let before = sqlx::query(
        "WITH given AS (SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::BIGINT[]) AS given (id, time, count)), \
         held AS (SELECT id, time, audit_events.count AS had FROM audit_events JOIN given USING (id, time) \
            WHERE given.count > audit_events.count ORDER BY id, time FOR UPDATE OF audit_events) \
         UPDATE audit_events SET count = given.count FROM held JOIN given USING (id, time) \
         WHERE audit_events.id = held.id AND audit_events.time = held.time \
         RETURNING audit_events.id, audit_events.time, held.had",
    )
    .bind(column(&counted, |row| row.id))
    .bind(column(&counted, |row| timestamptz(row.time)))
    .bind(column(&counted, |row| stored(row.count)))
    .fetch_all(connection)
    .await?;
    let mut grown = Vec::new();
    for held in &before {
        let (key, had): (_, i64) = (key_of(held)?, held.try_get("had")?);
        grown.extend(counted.iter().filter(|row| sql::key(**row) == key).map(|row| sql::grown_by(row, had)));
    }
    Ok(grown)
}

/// Adds rows to their daily sums.
async fn add<'row, R: 'row, const K: usize, const N: usize>(
    connection: &mut PgConnection,
    rollup: &Rollup<R, K, N>,
    rows: impl Iterator<Item = &'row R>,
) -> Written {
    let lines = rollup.lines(rows);
    if lines.is_empty() {
        return Ok(());
    }
    let arrays: Vec<String> =
        (1..=K + N).map(|number| if number <= K { format!("${number}::TEXT[]") } else { format!("${number}::BIGINT[]") }).collect();
    let statement =
        format!("INSERT INTO {} ({}) SELECT * FROM UNNEST({}){}", rollup.table, rollup.columns(), arrays.join(", "), rollup.on_conflict());
    let mut statement = sqlx::query(AssertSqlSafe(statement));
    for index in 0..K {
        statement = statement.bind(lines.keys().map(|keys| &*keys[index]).collect::<Vec<&str>>());
    }
    for index in 0..N {
        statement = statement.bind(lines.values().map(|numbers| numbers[index]).collect::<Vec<Option<i64>>>());
    }
    statement.execute(connection).await.map(|_| ())
}

fn usage_statement<'rows>(rows: &[&'rows StoredUsage]) -> Query<'rows, Postgres, PgArguments> {
    let statement = format!(
        "INSERT INTO usage_events ({USAGE_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::UUID[], \
         $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::BIGINT[], \
         $13::BIGINT[], $14::BIGINT[], $15::BIGINT[], $16::BIGINT[], $17::BIGINT[], $18::BIGINT[], $19::TEXT[], $20::TEXT[], \
         $21::BIGINT[], $22::TEXT[], $23::BIGINT[], $24::BIGINT[], $25::TEXT[]) ON CONFLICT (id, time) DO NOTHING RETURNING id, time"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| timestamptz(row.time)))
        .bind(column(rows, |row| row.generation_id))
        .bind(column(rows, |row| &*row.org_id))
        .bind(column(rows, |row| &*row.member_id))
        .bind(column(rows, |row| row.org_day.as_str()))
        .bind(column(rows, |row| row.org_month.as_str()))
        .bind(column(rows, |row| row.endpoint.as_str()))
        .bind(column(rows, |row| row.model.as_str()))
        .bind(column(rows, |row| row.agent_id.as_deref()))
        .bind(column(rows, |row| row.conversation_id.as_deref()))
        .bind(column(rows, |row| stored(row.messages)))
        .bind(column(rows, |row| stored(row.input_tokens)))
        .bind(column(rows, |row| stored(row.output_tokens)))
        .bind(column(rows, |row| stored(row.cache_read_tokens)))
        .bind(column(rows, |row| stored(row.cache_write_tokens)))
        .bind(column(rows, |row| stored(row.total_tokens)))
        .bind(column(rows, |row| stored(row.cost_nanousd)))
        .bind(column(rows, |row| &*row.price_version))
        .bind(column(rows, |row| row.usage_source.as_str()))
        .bind(column(rows, |row| stored(row.estimate_tokens)))
        .bind(column(rows, |row| row.status.as_str()))
        .bind(column(rows, |row| row.time_to_first_token_ms.map(stored)))
        .bind(column(rows, |row| stored(row.duration_ms)))
        .bind(column(rows, |row| &*row.request_id))
}

fn audit_statement<'rows>(rows: &[&'rows StoredAudit]) -> Query<'rows, Postgres, PgArguments> {
    let statement = format!(
        "INSERT INTO audit_events ({AUDIT_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::TEXT[], $13::TEXT[], $14::TEXT[], $15::TEXT[], $16::TEXT[], $17::TEXT[], $18::BIGINT[], $19::BIGINT[], $20::TEXT[], $21::TEXT[], $22::TEXT[], $23::TEXT[], $24::TEXT[], $25::BIGINT[], $26::BIGINT[], $27::BIGINT[], $28::TEXT[], $29::JSONB[], $30::UUID[], $31::BIGINT[], $32::TEXT[], $33::TEXT[]) \
         ON CONFLICT (id, time) DO NOTHING RETURNING id, time"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| timestamptz(row.time)))
        .bind(column(rows, |row| row.category.as_str()))
        .bind(column(rows, |row| row.severity.as_str()))
        .bind(column(rows, |row| row.org_id.as_deref()))
        .bind(column(rows, |row| row.org_day.as_deref()))
        .bind(column(rows, |row| row.actor_id.as_deref()))
        .bind(column(rows, |row| row.actor_name.as_deref()))
        .bind(column(rows, |row| row.actor_role.as_deref()))
        .bind(column(rows, |row| row.action.as_str()))
        .bind(column(rows, |row| row.resource_type.as_deref()))
        .bind(column(rows, |row| row.resource_id.as_deref()))
        .bind(column(rows, |row| row.outcome.as_str()))
        .bind(column(rows, |row| row.request_id.as_deref()))
        .bind(column(rows, |row| row.method.as_deref()))
        .bind(column(rows, |row| row.path.as_deref()))
        .bind(column(rows, |row| row.query.as_deref()))
        .bind(column(rows, |row| row.status.map(stored)))
        .bind(column(rows, |row| row.duration_ms.map(stored)))
        .bind(column(rows, |row| row.error.as_deref()))
        .bind(column(rows, |row| row.address.as_deref()))
        .bind(column(rows, |row| row.user_agent.as_deref()))
        .bind(column(rows, |row| row.conversation_id.as_deref()))
        .bind(column(rows, |row| row.model.as_deref()))
        .bind(column(rows, |row| row.total_tokens.map(stored)))
        .bind(column(rows, |row| row.cost_nanousd.map(stored)))
        .bind(column(rows, |row| stored(row.count)))
        .bind(column(rows, |row| row.reference.as_deref()))
        .bind(column(rows, |row| row.detail.as_ref().map(Json)))
        .bind(column(rows, |row| row.link.as_ref().map(|link| link.writer)))
        .bind(column(rows, |row| row.link.as_ref().map(|link| stored(link.seq))))
        .bind(column(rows, |row| row.link.as_ref().map(|link| link.previous.as_str())))
        .bind(column(rows, |row| row.link.as_ref().map(|link| link.hash.as_str())))
}

fn tool_statement<'rows>(rows: &[&'rows ToolRow]) -> Query<'rows, Postgres, PgArguments> {
    let statement = format!(
        "INSERT INTO tool_calls ({TOOL_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::UUID[], $4::TEXT[], $5::TEXT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[], $12::BIGINT[], $13::TEXT[]) \
         ON CONFLICT (id, time) DO NOTHING RETURNING id, time"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| timestamptz(row.time)))
        .bind(column(rows, |row| row.generation_id))
        .bind(column(rows, |row| &*row.org_id))
        .bind(column(rows, |row| &*row.member_id))
        .bind(column(rows, |row| row.org_day.as_str()))
        .bind(column(rows, |row| row.org_month.as_str()))
        .bind(column(rows, |row| row.conversation_id.as_deref()))
        .bind(column(rows, |row| row.tool.as_str()))
        .bind(column(rows, |row| row.mcp_server.as_deref()))
        .bind(column(rows, |row| row.outcome.as_str()))
        .bind(column(rows, |row| row.duration_ms.map(stored)))
        .bind(column(rows, |row| row.error.as_deref()))
}

fn system_statement<'rows>(rows: &[&'rows SystemRow]) -> Query<'rows, Postgres, PgArguments> {
    let statement = format!(
        "INSERT INTO system_metrics ({SYSTEM_COLUMNS}) SELECT * FROM UNNEST($1::UUID[], $2::TIMESTAMPTZ[], $3::TEXT[], $4::DOUBLE PRECISION[], $5::DOUBLE PRECISION[], $6::DOUBLE PRECISION[], $7::DOUBLE PRECISION[], $8::BIGINT[], $9::BIGINT[], $10::BIGINT[], $11::BIGINT[], $12::BIGINT[], $13::BIGINT[], $14::BIGINT[], $15::BIGINT[], $16::BIGINT[], $17::DOUBLE PRECISION[], $18::BIGINT[], $19::BIGINT[], $20::BIGINT[]) \
         ON CONFLICT (id, time) DO NOTHING"
    );
    sqlx::query(AssertSqlSafe(statement))
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| timestamptz(row.time)))
        .bind(column(rows, |row| &*row.server))
        .bind(column(rows, |row| row.cpu_percent))
        .bind(column(rows, |row| row.load_1m))
        .bind(column(rows, |row| row.load_5m))
        .bind(column(rows, |row| row.load_15m))
        .bind(column(rows, |row| stored(row.memory_used_bytes)))
        .bind(column(rows, |row| stored(row.memory_total_bytes)))
        .bind(column(rows, |row| stored(row.swap_used_bytes)))
        .bind(column(rows, |row| stored(row.disk_used_bytes)))
        .bind(column(rows, |row| stored(row.disk_total_bytes)))
        .bind(column(rows, |row| stored(row.disk_read_bytes)))
        .bind(column(rows, |row| stored(row.disk_written_bytes)))
        .bind(column(rows, |row| stored(row.network_received_bytes)))
        .bind(column(rows, |row| stored(row.network_sent_bytes)))
        .bind(column(rows, |row| row.process_cpu_percent))
        .bind(column(rows, |row| stored(row.process_memory_bytes)))
        .bind(column(rows, |row| stored(row.process_open_files)))
        .bind(column(rows, |row| stored(row.process_threads)))
}

/// One column of a batch, for UNNEST.
fn column<'rows, R, T>(rows: &[&'rows R], value: impl Fn(&'rows R) -> T) -> Vec<T> {
    rows.iter().map(|row| value(row)).collect()
}

/// PostgreSQL keeps microseconds. Every instant of jiff's is one of chrono's.
pub(crate) fn timestamptz(time: Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(time.as_microsecond()).unwrap_or_default()
}
