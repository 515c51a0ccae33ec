//! The keys of members in PostgreSQL.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::member_keys::{MemberKeys, RowsOf};
use super::postgres::{fault, timestamptz};
use super::seal::MemberKey;
use super::sql::{self, IN_THE_CLEAR};
use super::{ReadError, WriteError};

/// The keys in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresKeys {
    pool: PgPool,
}

impl PostgresKeys {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

/// A key that arrives while its member is erased is either seen by the erasure or sees it.
const ONE_AT_A_TIME: &str = "LOCK TABLE member_keys IN SHARE ROW EXCLUSIVE MODE";

#[async_trait]
impl MemberKeys for PostgresKeys {
    async fn insert_keys(&self, keys: &[MemberKey]) -> Result<(), WriteError> {
        let failed = |error: sqlx::Error| sql::write_error(&error, fault);
        let insert = "INSERT INTO member_keys (key_id, org_id, member_id, key, created_at, destroyed_at) \
             SELECT made.key_id, made.org_id, made.member_id, CASE WHEN erased.at IS NULL THEN made.key END, made.created_at, erased.at \
             FROM UNNEST($1::UUID[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TIMESTAMPTZ[]) \
                 AS made (key_id, org_id, member_id, key, created_at) \
             CROSS JOIN LATERAL (SELECT MAX(destroyed_at) AS at FROM member_keys AS known \
                 WHERE known.org_id = made.org_id AND known.member_id = made.member_id AND known.destroyed_at >= made.created_at) AS erased \
             ON CONFLICT DO NOTHING";
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query(ONE_AT_A_TIME).execute(&mut *transaction).await.map_err(failed)?;
        sqlx::query(insert)
            .bind(keys.iter().map(|key| key.key_id).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.org_id.as_str()).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.member_id.as_str()).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| key.key.as_str()).collect::<Vec<_>>())
            .bind(keys.iter().map(|key| timestamptz(key.created_at)).collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn keys(&self, ids: &[Uuid]) -> Result<Vec<MemberKey>, ReadError> {
        let select = "SELECT key_id, org_id, member_id, key, created_at FROM member_keys WHERE key_id = ANY($1) AND key IS NOT NULL";
        let rows = sqlx::query(select).bind(ids).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::member_key).collect()
    }

    async fn destroyed(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, ReadError> {
        let select = "SELECT key_id FROM member_keys WHERE key_id = ANY($1) AND key IS NULL";
        sqlx::query_scalar(select).bind(ids).fetch_all(&self.pool).await.map_err(|error| sql::unavailable(&error))
    }

    async fn rows_of(&self, org: &str, member: &str) -> Result<RowsOf, ReadError> {
        let select = format!(
            "SELECT COUNT(*) AS found, COUNT(*) FILTER (WHERE {IN_THE_CLEAR}) AS in_the_clear FROM audit_events \
             WHERE actor_id = $1 AND COALESCE(org_id, '') = $2"
        );
        let row = sqlx::query(AssertSqlSafe(select)).bind(member).bind(org).fetch_one(&self.pool).await;
        sql::rows_of(&row.map_err(|error| sql::unavailable(&error))?)
    }

    async fn destroy(&self, org: &str, member: &str, now: Timestamp) -> Result<u64, WriteError> {
        let update = "UPDATE member_keys SET key = NULL, destroyed_at = $3 WHERE org_id = $1 AND member_id = $2 AND key IS NOT NULL";
        let failed = |error: sqlx::Error| sql::write_error(&error, fault);
        let now = timestamptz(now);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        sqlx::query(ONE_AT_A_TIME).execute(&mut *transaction).await.map_err(failed)?;
        let destroyed = sqlx::query(update).bind(org).bind(member).bind(now).execute(&mut *transaction).await.map_err(failed)?;
        if destroyed.rows_affected() == 0 {
            let mark = sqlx::query(sql::ERASURE_MARK).bind(Uuid::new_v4()).bind(org).bind(member).bind(now);
            mark.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        // An update leaves the old row behind until it is vacuumed.
        sqlx::query("VACUUM member_keys").execute(&self.pool).await.map_err(failed)?;
        Ok(destroyed.rows_affected())
    }
}
