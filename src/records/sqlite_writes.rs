//! Writing records to SQLite: each batch is one transaction of its rows and of what they add to the daily sums.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, SqlitePool};

use super::rollup::{MEMBERS_DAILY, MODELS_DAILY, REQUESTS_DAILY, Rollup, TOOLS_DAILY, USAGE_BY_HOUR, USAGE_DAILY};
use super::sql::{self, AUDIT_COLUMNS, SYSTEM_COLUMNS, TOOL_COLUMNS, USAGE_COLUMNS, stored};
use super::{StoredAudit, StoredUsage, SystemRow, ToolRow};

type Written = Result<(), sqlx::Error>;

/// A transaction that began by reading could not go on to write while another one does.
const BEGIN: &str = "BEGIN IMMEDIATE";

pub(super) async fn usage(pool: &SqlitePool, rows: &[StoredUsage]) -> Written {
    let rows = sql::once_each(rows);
    if rows.is_empty() {
        return Ok(());
    }
    let mut transaction = pool.begin_with(BEGIN).await?;
    let new = new_keys(&mut transaction, usage_statement(&rows)).await?;
    let new: Vec<&StoredUsage> = rows.into_iter().filter(|row| new.contains(&held_key(*row))).collect();
    add(&mut transaction, &USAGE_DAILY, new.iter().copied()).await?;
    add(&mut transaction, &MEMBERS_DAILY, new.iter().copied()).await?;
    // Last: other writers wait for lines that so many share until this transaction ends.
    add(&mut transaction, &MODELS_DAILY, new.iter().copied()).await?;
    add(&mut transaction, &USAGE_BY_HOUR, new.into_iter()).await?;
    transaction.commit().await
}

pub(super) async fn audit(pool: &SqlitePool, rows: &[StoredAudit]) -> Written {
    let rows = sql::audit_once_each(rows);
    let rows: Vec<&StoredAudit> = rows.iter().map(AsRef::as_ref).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let mut transaction = pool.begin_with(BEGIN).await?;
    let new = new_keys(&mut transaction, audit_statement(&rows)).await?;
    let (new, known): (Vec<&StoredAudit>, Vec<&StoredAudit>) = rows.into_iter().partition(|row| new.contains(&held_key(*row)));
    let grown = grow(&mut transaction, &known).await?;
    add(&mut transaction, &REQUESTS_DAILY, new.into_iter().chain(&grown)).await?;
    transaction.commit().await
}

pub(super) async fn tools(pool: &SqlitePool, rows: &[ToolRow]) -> Written {
    let rows = sql::once_each(rows);
    if rows.is_empty() {
        return Ok(());
    }
    let mut transaction = pool.begin_with(BEGIN).await?;
    let new = new_keys(&mut transaction, tool_statement(&rows)).await?;
    let new = rows.into_iter().filter(|row| new.contains(&held_key(*row)));
    add(&mut transaction, &TOOLS_DAILY, new).await?;
    transaction.commit().await
}

pub(super) async fn system(pool: &SqlitePool, rows: &[SystemRow]) -> Written {
    let rows = sql::once_each(rows);
    if rows.is_empty() {
        return Ok(());
    }
    system_statement(&rows).build().persistent(false).execute(pool).await.map(|_| ())
}

/// Runs an INSERT that leaves alone what is there, and answers the keys that were not. Batches come in all sizes, so
/// that their statements are not worth keeping prepared.
async fn new_keys(connection: &mut SqliteConnection, mut insert: QueryBuilder<Sqlite>) -> Result<HashSet<(String, String)>, sqlx::Error> {
    let new = insert.build().persistent(false).fetch_all(connection).await?;
    new.iter().map(|row| Ok((row.try_get("id")?, row.try_get("time")?))).collect()
}

fn held_key(row: &impl sql::Keyed) -> (String, String) {
    let (id, time) = row.key();
    (id.to_string(), sortable(time))
}

/// Raises the counts of rows that are there already. Answers those whose count grew, each with what it grew by.
async fn grow(connection: &mut SqliteConnection, known: &[&StoredAudit]) -> Result<Vec<StoredAudit>, sqlx::Error> {
    let mut grown = Vec::new();
    for row in known.iter().filter(|row| row.count > 1) {
        let (id, time) = held_key(*row);
        let had: i64 = sqlx::query_scalar("SELECT count FROM audit_events WHERE id = ? AND time = ?")
            .bind(&id)
            .bind(&time)
            .fetch_one(&mut *connection)
            .await?;
        if stored(row.count) > had {
            sqlx::query("UPDATE audit_events SET count = ? WHERE id = ? AND time = ?")
                .bind(stored(row.count))
                .bind(&id)
                .bind(&time)
                .execute(&mut *connection)
                .await?;
            grown.push(sql::grown_by(row, had));
        }
    }
    Ok(grown)
}

/// Adds rows to their daily sums.
async fn add<'row, R: 'row, const K: usize, const N: usize>(
    connection: &mut SqliteConnection,
    rollup: &Rollup<R, K, N>,
    rows: impl Iterator<Item = &'row R>,
) -> Written {
    let lines = rollup.lines(rows);
    if lines.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::new(format!("INSERT INTO {} ({}) ", rollup.table, rollup.columns()));
    statement.push_values(lines, |mut values, (keys, numbers)| {
        for key in keys {
            values.push_bind(key);
        }
        for number in numbers {
            values.push_bind(number);
        }
    });
    statement.push(rollup.on_conflict());
    statement.build().persistent(false).execute(connection).await.map(|_| ())
}

fn usage_statement(rows: &[&StoredUsage]) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(format!("INSERT INTO usage_events ({USAGE_COLUMNS}) "));
    statement.push_values(rows, |mut values, row| {
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
    statement.push(" ON CONFLICT (id, time) DO NOTHING RETURNING id, time");
    statement
}

fn audit_statement(rows: &[&StoredAudit]) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(format!("INSERT INTO audit_events ({AUDIT_COLUMNS}) "));
    statement.push_values(rows, |mut values, row| {
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
            .push_bind(row.detail.as_ref().map(Value::to_string))
            .push_bind(row.link.as_ref().map(|link| link.writer.to_string()))
            .push_bind(row.link.as_ref().map(|link| stored(link.seq)))
            .push_bind(row.link.as_ref().map(|link| link.previous.as_str()))
            .push_bind(row.link.as_ref().map(|link| link.hash.as_str()));
    });
    statement.push(" ON CONFLICT (id, time) DO NOTHING RETURNING id, time");
    statement
}

fn tool_statement(rows: &[&ToolRow]) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(format!("INSERT INTO tool_calls ({TOOL_COLUMNS}) "));
    statement.push_values(rows, |mut values, row| {
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
    statement.push(" ON CONFLICT (id, time) DO NOTHING RETURNING id, time");
    statement
}

fn system_statement(rows: &[&SystemRow]) -> QueryBuilder<Sqlite> {
    let mut statement = QueryBuilder::new(format!("INSERT INTO system_metrics ({SYSTEM_COLUMNS}) "));
    statement.push_values(rows, |mut values, row| {
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
    statement
}

/// RFC 3339 in UTC with six decimals: text that sorts as time does.
pub(crate) fn sortable(time: Timestamp) -> String {
    format!("{time:.6}")
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
