//! Comparing and rebuilding daily sums, in SQL that both databases read.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};
use uuid::Uuid;

use super::ledger::{PAGE, Rated};
use super::postgres::{PostgresRecords, timestamptz};
use super::rebuild::{Compared, DailySums, Differs, Gathered, Lines, OrgDay, Rebuild, Rebuilding, differences};
use super::rollup::{MEMBERS_DAILY, MODELS_DAILY, REQUESTS_DAILY, Rollup, TOOLS_DAILY, USAGE_BY_HOUR, USAGE_DAILY};
use super::sql::{self, AUDIT_COLUMNS, Columns, Keyed, TOOL_COLUMNS};
use super::sql_ledger::{hyphenated, rated, rated_rows};
use super::sqlite::{SqliteRecords, sortable};
use super::{ReadError, StoredAudit, StoredUsage, ToolRow};

/// The rows of a day behind a place.
const OF_A_DAY: &str = "WHERE time >= $1 AND time < $2 AND org_id = $3 AND org_day = $4 AND (time > $1 OR id > $5) \
    ORDER BY time, id";

/// How rows are read, and what corrections add to their cost.
struct Reading<R, Row> {
    select: String,
    read: fn(&Row) -> Result<(R, i64), ReadError>,
}

fn usage<Row: Columns>() -> Reading<StoredUsage, Row> {
    let read = |row: &Row| rated(row).map(|Rated { row, corrected_by, .. }| (row, corrected_by));
    Reading { select: rated_rows(), read }
}

fn tools<Row: Columns>() -> Reading<ToolRow, Row> {
    Reading { select: format!("SELECT {TOOL_COLUMNS} FROM tool_calls"), read: |row| Ok((sql::tool_row(row)?, 0)) }
}

fn requests<Row: Columns>() -> Reading<StoredAudit, Row> {
    Reading { select: format!("SELECT {AUDIT_COLUMNS} FROM audit_events"), read: |row| Ok((sql::audit_row(row)?, 0)) }
}

/// The same statements on both databases, which hold ids and times, and keep writers out, in their own ways.
macro_rules! rebuild_of {
    ($records:ty, $pool:ident, $day:ident, $connection:ty, $row:ty, $id:path, $time:path, $compare:literal, $rebuild:literal, $lock:expr) => {
        #[async_trait]
        impl Rebuild for $records {
            async fn rebuild(&self, sums: DailySums, day: &OrgDay, how: Rebuilding) -> Result<Compared, ReadError> {
                let begin = if how == Rebuilding::Done { $rebuild } else { $compare };
                let mut all = self.$pool.begin_with(begin).await.map_err(|error| sql::unavailable(&error))?;
                let compared = match sums {
                    DailySums::Usage => $day(&mut all, &USAGE_DAILY, &usage(), day, how).await?,
                    DailySums::Members => $day(&mut all, &MEMBERS_DAILY, &usage(), day, how).await?,
                    DailySums::Models => $day(&mut all, &MODELS_DAILY, &usage(), day, how).await?,
                    DailySums::Hours => $day(&mut all, &USAGE_BY_HOUR, &usage(), day, how).await?,
                    DailySums::Tools => $day(&mut all, &TOOLS_DAILY, &tools(), day, how).await?,
                    DailySums::Requests => $day(&mut all, &REQUESTS_DAILY, &requests(), day, how).await?,
                };
                all.commit().await.map_err(|error| sql::unavailable(&error))?;
                Ok(compared)
            }
        }

        async fn $day<R: Keyed + Send + Sync, const K: usize, const N: usize>(
            connection: &mut $connection,
            rollup: &Rollup<R, K, N>,
            reading: &Reading<R, $row>,
            day: &OrgDay,
            how: Rebuilding,
        ) -> Result<Compared, ReadError> {
            let failed = |error: sqlx::Error| sql::unavailable(&error);
            let lock: Option<&str> = $lock;
            if let Some(mode) = lock.filter(|_| how == Rebuilding::Done) {
                let lock = format!("LOCK TABLE {} IN {mode} MODE", rollup.table);
                sqlx::query(AssertSqlSafe(lock)).execute(&mut *connection).await.map_err(failed)?;
            }
            let mut gathered = Gathered::new();
            let mut after = Some((Uuid::nil(), day.times.start));
            while let Some((id, time)) = after {
                let page = sqlx::query(AssertSqlSafe(format!("{} {OF_A_DAY} LIMIT {PAGE}", reading.select)));
                let page = page.bind($time(time)).bind($time(day.times.end)).bind(&day.org).bind(&day.day);
                let page = page.bind($id(id)).fetch_all(&mut *connection).await.map_err(failed)?;
                let rows = page.iter().map(reading.read).collect::<Result<Vec<_>, _>>()?;
                gathered.add(rollup, &rows);
                after = rows.last().filter(|_| rows.len() == PAGE).map(|(row, _)| row.key());
            }
            let select = format!("SELECT {} FROM {} WHERE org_id = $1 AND org_day = $2", rollup.columns(), rollup.table);
            let held = sqlx::query(AssertSqlSafe(select)).bind(&day.org).bind(&day.day).fetch_all(&mut *connection).await;
            let held: Lines<K, N> = held.map_err(failed)?.iter().map(|row| line(row, rollup)).collect::<Result<_, _>>()?;
            let (rows, should) = (gathered.rows, gathered.lines(rollup));
            let compared = Compared { rows, lines: held.len() as u64, differences: differences(rollup, &held, &should) };
            if how == Rebuilding::Compared || compared.rows_are_gone() {
                return Ok(compared);
            }
            for difference in &compared.differences {
                let unfounded = difference.how == Differs::Unfounded;
                let statement = if unfounded { removal(rollup) } else { replacement(rollup) };
                let mut statement = sqlx::query(AssertSqlSafe(statement));
                for key in &difference.keys {
                    statement = statement.bind(key);
                }
                let numbers = should.iter().find(|(keys, _)| keys[..] == difference.keys[..]).map(|(_, numbers)| numbers);
                for number in numbers.into_iter().flatten() {
                    statement = statement.bind(*number);
                }
                statement.execute(&mut *connection).await.map_err(failed)?;
            }
            Ok(compared)
        }
    };
}

// A writer that has added to the sums is waited for, and its rows are seen; one that has not yet waits, and its rows are not
// seen: it adds them afterwards. Each statement must see what was written before it, hence the isolation.
rebuild_of!(
    PostgresRecords,
    readers,
    postgres_day,
    PgConnection,
    PgRow,
    std::convert::identity,
    timestamptz,
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    "BEGIN ISOLATION LEVEL READ COMMITTED",
    Some("SHARE ROW EXCLUSIVE")
);
// One writes at a time, from the beginning of its transaction on.
rebuild_of!(SqliteRecords, pool, sqlite_day, SqliteConnection, SqliteRow, hyphenated, sortable, "BEGIN DEFERRED", "BEGIN IMMEDIATE", None);

fn line<R, const K: usize, const N: usize>(
    row: &impl Columns,
    rollup: &Rollup<R, K, N>,
) -> Result<([String; K], [Option<i64>; N]), ReadError> {
    let table = rollup.table;
    let unreadable = |column, reason| ReadError::Unreadable { table, column, row: "of a sum".to_owned(), reason };
    let (mut keys, mut numbers) = ([const { String::new() }; K], [None; N]);
    for (key, column) in keys.iter_mut().zip(rollup.keys) {
        *key = row.text(column).map_err(|reason| unreadable(column, reason))?.unwrap_or_default();
    }
    for (number, (column, _)) in numbers.iter_mut().zip(rollup.numbers) {
        *number = row.number(column).map_err(|reason| unreadable(column, reason))?;
    }
    Ok((keys, numbers))
}

/// Puts a line where there is none, or another one.
fn replacement<R, const K: usize, const N: usize>(rollup: &Rollup<R, K, N>) -> String {
    let values: Vec<String> = (1..=K + N).map(|number| format!("${number}")).collect();
    let replaced: Vec<String> = rollup.numbers.iter().map(|(column, _)| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
        rollup.table,
        rollup.columns(),
        values.join(", "),
        rollup.keys.join(", "),
        replaced.join(", ")
    )
}

fn removal<R, const K: usize, const N: usize>(rollup: &Rollup<R, K, N>) -> String {
    let keys: Vec<String> = rollup.keys.iter().enumerate().map(|(index, key)| format!("{key} = ${}", index + 1)).collect();
    format!("DELETE FROM {} WHERE {}", rollup.table, keys.join(" AND "))
}
