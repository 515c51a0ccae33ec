//! The keys of members in an SQLite file.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, QueryBuilder, Sqlite, SqlitePool};
use uuid::Uuid;

use super::member_keys::{MemberKeys, RowsOf};
use super::seal::MemberKey;
use super::sql::{self, IN_THE_CLEAR};
use super::sqlite::{fault, sortable};
use super::{ReadError, WriteError};

/// The keys in an SQLite file.
#[derive(Debug)]
pub struct SqliteKeys {
    pool: SqlitePool,
}

impl SqliteKeys {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl MemberKeys for SqliteKeys {
    async fn insert_keys(&self, keys: &[MemberKey]) -> Result<(), WriteError> {
        let failed = |error: sqlx::Error| sql::write_error(&error, fault);
        let insert = "INSERT INTO member_keys (key_id, org_id, member_id, key, created_at, destroyed_at) \
             SELECT ?1, ?2, ?3, CASE WHEN erased.at IS NULL THEN ?4 END, ?5, erased.at FROM \
             (SELECT MAX(destroyed_at) AS at FROM member_keys WHERE org_id = ?2 AND member_id = ?3 AND destroyed_at >= ?5) AS erased \
             WHERE TRUE ON CONFLICT DO NOTHING";
        // It is written from its first statement on, so that nothing is read that another one is about to change.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        for key in keys {
            let (key_id, made) = (key.key_id.to_string(), sortable(key.created_at));
            let query = sqlx::query(insert).bind(key_id).bind(&key.org_id).bind(&key.member_id).bind(&key.key).bind(made);
            query.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn keys(&self, ids: &[Uuid]) -> Result<Vec<MemberKey>, ReadError> {
        let select = "SELECT key_id, org_id, member_id, key, created_at FROM member_keys WHERE key IS NOT NULL AND key_id IN (";
        let rows = among(select, ids).build().persistent(false).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::member_key).collect()
    }

    async fn destroyed(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, ReadError> {
        let rows = among("SELECT key_id FROM member_keys WHERE key IS NULL AND key_id IN (", ids).build().fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::key_id).collect()
    }

    async fn rows_of(&self, org: &str, member: &str) -> Result<RowsOf, ReadError> {
        let select = format!(
            "SELECT COUNT(*) AS found, COUNT(*) FILTER (WHERE {IN_THE_CLEAR}) AS in_the_clear FROM audit_events \
             WHERE actor_id = ? AND COALESCE(org_id, '') = ?"
        );
        let row = sqlx::query(AssertSqlSafe(select)).bind(member).bind(org).fetch_one(&self.pool).await;
        sql::rows_of(&row.map_err(|error| sql::unavailable(&error))?)
    }

    async fn destroy(&self, org: &str, member: &str, now: Timestamp) -> Result<u64, WriteError> {
        let update = "UPDATE member_keys SET key = NULL, destroyed_at = ?3 WHERE org_id = ?1 AND member_id = ?2 AND key IS NOT NULL";
        let failed = |error: sqlx::Error| sql::write_error(&error, fault);
        let (now, mark) = (sortable(now), Uuid::new_v4().to_string());
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        // What is replaced is overwritten with zeros, and the log that still holds it is emptied.
        sqlx::query("PRAGMA secure_delete = ON").execute(&mut *connection).await.map_err(failed)?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let destroyed = sqlx::query(update).bind(org).bind(member).bind(&now).execute(&mut *transaction).await.map_err(failed)?;
        if destroyed.rows_affected() == 0 {
            sqlx::query(sql::ERASURE_MARK).bind(mark).bind(org).bind(member).bind(&now).execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut *connection).await.map_err(failed)?;
        Ok(destroyed.rows_affected())
    }
}

/// A select of rows with these ids.
fn among(select: &str, ids: &[Uuid]) -> QueryBuilder<Sqlite> {
    let mut select = QueryBuilder::new(select);
    let mut values = select.separated(", ");
    for id in ids {
        values.push_bind(id.to_string());
    }
    values.push_unseparated(")");
    select
}
