//! What orgs are billed by, in SQL that both databases read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::ledger::{Closed, CorrectedLine, Correction, Ledger, Line, PAGE, Place, Rated, Span, Used};
use super::postgres::{PostgresRecords, timestamptz};
use super::rollup::{MEMBERS_DAILY, MODELS_DAILY, Rollup, USAGE_DAILY};
use super::sql::{self, AUDIT_COLUMNS, Columns, USAGE_COLUMNS, stored};
use super::sqlite::{SqliteRecords, sortable};
use super::store::{Fault, MemberDay, Sums, UtcDay};
use super::{ReadError, StoredAudit, StoredUsage, WriteError};

const MONTH: &str = "SELECT member_id, model, org_day, usage_source, price_version, CAST(SUM(messages) AS BIGINT) AS messages, \
    CAST(SUM(input_tokens) AS BIGINT) AS input_tokens, CAST(SUM(output_tokens) AS BIGINT) AS output_tokens, \
    CAST(SUM(cost_nanousd) AS BIGINT) AS cost_nanousd FROM usage_events WHERE org_id = $1 AND org_month = $2 \
    GROUP BY member_id, model, org_day, usage_source, price_version ORDER BY member_id, model, org_day, usage_source, price_version";

const CORRECTED: &str = "SELECT member_id, model, org_day, reason, CAST(SUM(cost_difference_nanousd) AS BIGINT) AS cost_nanousd \
    FROM usage_corrections WHERE org_id = $1 AND org_month = $2 \
    GROUP BY member_id, model, org_day, reason ORDER BY member_id, model, org_day, reason";

const CLOSED: &str = "SELECT org_id, month, closed_at, content, sha256 FROM statements WHERE org_id = $1 ORDER BY month";

const CLOSE: &str = "INSERT INTO statements (org_id, month, closed_at, content, sha256) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (org_id, month) DO NOTHING";

const CORRECT: &str = "INSERT INTO usage_corrections (id, time, usage_id, usage_time, generation_id, org_id, member_id, org_day, \
    org_month, model, cost_difference_nanousd, price_version, reason) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (id) DO NOTHING";

/// The rows of a span behind a place. A row whose org nobody knows is in no org's span. A page asks for times from its place
/// on, so that an index leads to it and no page reads those before it again.
const WHERE: &str = "time >= $1 AND time < $2 AND (org_id = $3 OR $3 IS NULL)";
const BEHIND: &str = "(time > $4 OR (time = $4 AND id > $5)) ORDER BY time, id";

/// Usage rows with what their corrections make of them, for [`rated`].
pub(super) fn rated_rows() -> String {
    format!(
        "SELECT {USAGE_COLUMNS}, CAST(COALESCE((SELECT SUM(cost_difference_nanousd) FROM usage_corrections \
         WHERE usage_id = usage_events.id), 0) AS BIGINT) AS corrected_by, (SELECT COUNT(*) FROM usage_corrections \
         WHERE usage_id = usage_events.id) AS corrections FROM usage_events"
    )
}

fn usage_page() -> String {
    format!("{} WHERE {WHERE} AND {BEHIND} LIMIT {PAGE}", rated_rows())
}

fn audit_page() -> String {
    format!("SELECT {AUDIT_COLUMNS} FROM audit_events WHERE {WHERE} AND {BEHIND} LIMIT {PAGE}")
}

fn count(table: &str) -> String {
    format!("SELECT COUNT(*) AS rows FROM {table} WHERE {WHERE}")
}

/// The same statements on both databases, which hold ids and times in their own ways.
macro_rules! ledger_of {
    ($records:ty, $pool:ident, $id:path, $time:path) => {
        #[async_trait]
        impl Ledger for $records {
            async fn month(&self, org: &str, month: &str) -> Result<Vec<Line>, ReadError> {
                let rows = sqlx::query(MONTH).bind(org).bind(month).fetch_all(&self.$pool).await;
                rows.map_err(|error| sql::unavailable(&error))?.iter().map(line).collect()
            }

            async fn corrected(&self, org: &str, month: &str) -> Result<Vec<CorrectedLine>, ReadError> {
                let rows = sqlx::query(CORRECTED).bind(org).bind(month).fetch_all(&self.$pool).await;
                rows.map_err(|error| sql::unavailable(&error))?.iter().map(corrected_line).collect()
            }

            async fn closed(&self, org: &str) -> Result<Vec<Closed>, ReadError> {
                let rows = sqlx::query(CLOSED).bind(org).fetch_all(&self.$pool).await;
                rows.map_err(|error| sql::unavailable(&error))?.iter().map(closed).collect()
            }

            async fn close(&self, closed: &Closed) -> Result<bool, WriteError> {
                let Closed { org_id, month, closed_at, content, sha256 } = closed;
                let insert = sqlx::query(CLOSE).bind(org_id).bind(month).bind($time(*closed_at)).bind(content).bind(sha256);
                let done = insert.execute(&self.$pool).await.map_err(|error| sql::write_error(&error, unclear))?;
                Ok(done.rows_affected() == 1)
            }

            async fn usage_page(&self, span: &Span, after: Place) -> Result<Vec<Rated>, ReadError> {
                let page = sqlx::query(AssertSqlSafe(usage_page())).bind($time(after.time)).bind($time(span.times.end));
                let page = page.bind(&span.org).bind($time(after.time)).bind($id(after.id));
                let rows = page.fetch_all(&self.$pool).await.map_err(|error| sql::unavailable(&error))?;
                rows.iter().map(rated).collect()
            }

            async fn audit_page(&self, span: &Span, after: Place) -> Result<Vec<StoredAudit>, ReadError> {
                let page = sqlx::query(AssertSqlSafe(audit_page())).bind($time(after.time)).bind($time(span.times.end));
                let page = page.bind(&span.org).bind($time(after.time)).bind($id(after.id));
                let rows = page.fetch_all(&self.$pool).await.map_err(|error| sql::unavailable(&error))?;
                rows.iter().map(sql::audit_row).collect()
            }

            async fn count_usage(&self, span: &Span) -> Result<u64, ReadError> {
                let count = sqlx::query(AssertSqlSafe(count("usage_events"))).bind($time(span.times.start)).bind($time(span.times.end));
                let row = count.bind(&span.org).fetch_one(&self.$pool).await.map_err(|error| sql::unavailable(&error))?;
                number(&row, "usage_events", "rows").map(i64::cast_unsigned)
            }

            async fn count_audit(&self, span: &Span) -> Result<u64, ReadError> {
                let count = sqlx::query(AssertSqlSafe(count("audit_events"))).bind($time(span.times.start)).bind($time(span.times.end));
                let row = count.bind(&span.org).fetch_one(&self.$pool).await.map_err(|error| sql::unavailable(&error))?;
                number(&row, "audit_events", "rows").map(i64::cast_unsigned)
            }

            async fn correct(&self, corrections: &[Correction]) -> Result<(), WriteError> {
                let failed = |error: sqlx::Error| sql::write_error(&error, unclear);
                let mut all = self.$pool.begin().await.map_err(failed)?;
                let mut corrected = Vec::new();
                for Correction { id, time, usage, cost_difference_nanousd, price_version, reason } in corrections {
                    let insert = sqlx::query(CORRECT)
                        .bind($id(*id))
                        .bind($time(*time))
                        .bind($id(usage.id))
                        .bind($time(usage.time))
                        .bind($id(usage.generation_id))
                        .bind(&*usage.org_id)
                        .bind(&*usage.member_id)
                        .bind(&usage.org_day)
                        .bind(&usage.org_month)
                        .bind(&usage.model)
                        .bind(stored(*cost_difference_nanousd))
                        .bind(&**price_version)
                        .bind(reason);
                    if insert.execute(&mut *all).await.map_err(failed)?.rows_affected() == 1 {
                        corrected.push((usage, *cost_difference_nanousd));
                    }
                }
                // Table after table, as the writer of the rows takes them.
                let updates = [
                    cost_updates(&USAGE_DAILY, &corrected),
                    cost_updates(&MEMBERS_DAILY, &corrected),
                    cost_updates(&MODELS_DAILY, &corrected),
                ];
                for CostUpdate { statement, difference, keys } in updates.into_iter().flatten() {
                    let update = sqlx::query(AssertSqlSafe(statement)).bind(difference);
                    let update = keys.into_iter().fold(update, |update, key| update.bind(key));
                    update.execute(&mut *all).await.map_err(failed)?;
                }
                all.commit().await.map_err(failed)
            }
        }
    };
}

ledger_of!(PostgresRecords, readers, std::convert::identity, timestamptz);
ledger_of!(SqliteRecords, pool, hyphenated, sortable);

/// What is added to the cost of one line of daily sums.
struct CostUpdate {
    statement: String,
    difference: i64,
    keys: Vec<String>,
}

/// What corrections add to lines, in the order of their keys. Costs of lines are neither negative nor larger than a database
/// holds; lines that are not there belong to rows that are in no sum.
fn cost_updates<const K: usize, const N: usize>(rollup: &Rollup<StoredUsage, K, N>, corrected: &[(&StoredUsage, i64)]) -> Vec<CostUpdate> {
    let mut differences = BTreeMap::new();
    for (usage, difference) in corrected {
        for keys in rollup.lines([*usage]).into_keys() {
            let held: &mut i64 = differences.entry(keys).or_default();
            *held = held.saturating_add(*difference);
        }
    }
    let wheres: Vec<String> = rollup.keys.iter().enumerate().map(|(index, key)| format!("{key} = ${}", index + 2)).collect();
    let update = |difference: i64| {
        let bounded = if difference > 0 {
            "CASE WHEN cost_nanousd > 9223372036854775807 - $1 THEN 9223372036854775807 ELSE cost_nanousd + $1 END"
        } else {
            "CASE WHEN cost_nanousd + $1 < 0 THEN 0 ELSE cost_nanousd + $1 END"
        };
        format!("UPDATE {} SET cost_nanousd = {bounded} WHERE {}", rollup.table, wheres.join(" AND "))
    };
    let updates = differences.into_iter().map(|(keys, difference)| CostUpdate {
        statement: update(difference),
        difference,
        keys: keys.map(Cow::into_owned).to_vec(),
    });
    updates.collect()
}

/// Sums by member at the cost that corrections make of them.
pub(super) fn correct_members(mut days: Vec<MemberDay>, corrections: &[impl Columns]) -> Result<Vec<MemberDay>, ReadError> {
    let differences = differences(corrections, ["org_id", "member_id", "org_day", "org_month"])?;
    for day in &mut days {
        let key = [day.org_id.to_string(), day.member_id.to_string(), day.org_day.clone(), day.org_month.clone()];
        correct_sums(&mut day.sums, differences.get(&key));
    }
    Ok(days)
}

/// Sums by day at the cost that corrections make of them.
pub(super) fn correct_days(mut days: Vec<UtcDay>, corrections: &[impl Columns]) -> Result<Vec<UtcDay>, ReadError> {
    let differences = differences(corrections, ["utc_day"])?;
    for day in &mut days {
        correct_sums(&mut day.sums, differences.get(std::array::from_ref(&day.day)));
    }
    Ok(days)
}

fn correct_sums(sums: &mut Sums, difference: Option<&i128>) {
    let cost = i128::from(sums.cost_nanousd) + difference.copied().unwrap_or_default();
    sums.cost_nanousd = u64::try_from(cost.max(0)).unwrap_or(u64::MAX);
}

/// Differences come in two halves, as [`Sums`] do; the upper one has the sign.
fn differences<const KEYS: usize>(rows: &[impl Columns], keys: [&'static str; KEYS]) -> Result<BTreeMap<[String; KEYS], i128>, ReadError> {
    let table = "usage_corrections";
    let mut differences = BTreeMap::new();
    for row in rows {
        let mut whose = keys.map(|_| String::new());
        for (part, key) in whose.iter_mut().zip(keys) {
            *part = text(row, table, key)?;
        }
        let (upper, lower) = (number(row, table, "cost_upper")?, number(row, table, "cost_lower")?);
        differences.insert(whose, (i128::from(upper) << 32) + i128::from(lower));
    }
    Ok(differences)
}

/// An id as SQLite holds it.
pub(super) fn hyphenated(id: Uuid) -> String {
    id.to_string()
}

/// These are written by people at a terminal, who see the error and try again.
fn unclear(_code: &str) -> Fault {
    Fault::Unclear
}

fn line(row: &impl Columns) -> Result<Line, ReadError> {
    let table = "usage_events";
    Ok(Line {
        member_id: text(row, table, "member_id")?,
        model: text(row, table, "model")?,
        org_day: text(row, table, "org_day")?,
        usage_source: text(row, table, "usage_source")?,
        price_version: text(row, table, "price_version")?,
        used: Used {
            messages: number(row, table, "messages")?,
            input_tokens: number(row, table, "input_tokens")?,
            output_tokens: number(row, table, "output_tokens")?,
            cost_nanousd: number(row, table, "cost_nanousd")?,
        },
    })
}

fn corrected_line(row: &impl Columns) -> Result<CorrectedLine, ReadError> {
    let table = "usage_corrections";
    Ok(CorrectedLine {
        member_id: text(row, table, "member_id")?,
        model: text(row, table, "model")?,
        org_day: text(row, table, "org_day")?,
        reason: text(row, table, "reason")?,
        cost_difference_nanousd: number(row, table, "cost_nanousd")?,
    })
}

fn closed(row: &impl Columns) -> Result<Closed, ReadError> {
    let table = "statements";
    Ok(Closed {
        org_id: text(row, table, "org_id")?,
        month: text(row, table, "month")?,
        closed_at: required(table, "closed_at", row.time("closed_at"))?,
        content: text(row, table, "content")?,
        sha256: text(row, table, "sha256")?,
    })
}

pub(super) fn rated(row: &impl Columns) -> Result<Rated, ReadError> {
    let table = "usage_corrections";
    Ok(Rated {
        row: sql::usage_row(row)?,
        corrected_by: number(row, table, "corrected_by")?,
        corrections: number(row, table, "corrections")?,
    })
}

fn text(row: &impl Columns, table: &'static str, column: &'static str) -> Result<String, ReadError> {
    required(table, column, row.text(column))
}

fn number(row: &impl Columns, table: &'static str, column: &'static str) -> Result<i64, ReadError> {
    required(table, column, row.number(column))
}

fn required<T>(table: &'static str, column: &'static str, read: Result<Option<T>, String>) -> Result<T, ReadError> {
    let unreadable = |reason| ReadError::Unreadable { table, column, row: "of a sum".to_owned(), reason };
    read.map_err(unreadable)?.ok_or_else(|| unreadable("it is NULL".to_owned()))
}
