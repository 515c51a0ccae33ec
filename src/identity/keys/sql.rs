//! Keys in an SQLite file and in PostgreSQL: the same statements, since both know `$1` and `RETURNING`.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use uuid::Uuid;

use super::{AgentKey, ApiKey, ApiKeyStore, KeyScopes, WhoseKeys};
use crate::identity::addresses::Networks;
use crate::identity::sql::{NEXT_REVISION, as_text, as_uuid, away};
use crate::records::sql::{Columns, Reader};
use crate::records::{ReadError, postgres, sqlite};

pub(in crate::identity) const KEY_COLUMNS: &str = "id, secret_hash, org_id, member_id, name, ending, scopes, addresses, created_at, \
    created_by, expires_at, last_used_at, revoked_at";

/// Whoever has taken the next revision counts and adds alone.
const ADD: &str = "INSERT INTO api_keys (id, secret_hash, org_id, member_id, name, ending, scopes, addresses, created_at, created_by, \
    expires_at, revision) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 WHERE (SELECT COUNT(*) FROM api_keys \
    WHERE member_id = $4 AND (revoked_at > $13 OR (revoked_at IS NULL AND expires_at > $9))) < $14";

const USED: &str = "UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";

const LEARN: &str = "INSERT INTO agent_keys (key_hash, key_id, owner_id, created_at, revision) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (key_hash) DO UPDATE SET key_id = $2, owner_id = $3, forgotten_at = NULL, revision = $5";

const FORGET: &str = "UPDATE agent_keys SET forgotten_at = $3, revision = $4 WHERE owner_id = $1 AND key_id = $2 AND forgotten_at IS NULL";

const TIDY: [&str; 2] = ["DELETE FROM api_keys WHERE expires_at < $1 OR revoked_at < $1", "DELETE FROM agent_keys WHERE forgotten_at < $1"];

macro_rules! keys {
    ($(#[$docs:meta])* $name:ident, $pool:ty, $begin:expr, $time:path, $id:path) => {
        $(#[$docs])*
        #[derive(Debug)]
        pub struct $name {
            pool: $pool,
        }

        impl $name {
            pub(crate) fn new(pool: $pool) -> Self {
                Self { pool }
            }
        }

        #[async_trait]
        impl ApiKeyStore for $name {
            async fn add(&self, hash: &str, key: &ApiKey, most: u32, counted_since: Timestamp) -> Result<bool, ReadError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(away)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(away)?;
                let added = sqlx::query(ADD)
                    .bind($id(key.id))
                    .bind(hash)
                    .bind(&*key.org)
                    .bind($id(key.member))
                    .bind(&*key.name)
                    .bind(&*key.ending)
                    .bind(key.scopes.text())
                    .bind(key.addresses.as_ref().map(Networks::text))
                    .bind($time(key.created))
                    .bind(&*key.created_by)
                    .bind($time(key.expires))
                    .bind(revision)
                    .bind($time(counted_since))
                    .bind(i64::from(most))
                    .execute(&mut *transaction)
                    .await
                    .map_err(away)?;
                let is_added = added.rows_affected() > 0;
                // Where nothing changed there is no revision that others would have to look at.
                if is_added { transaction.commit().await } else { transaction.rollback().await }.map_err(away)?;
                Ok(is_added)
            }

            async fn keys(&self, whose: &WhoseKeys) -> Result<Vec<ApiKey>, ReadError> {
                let of_member = if matches!(whose, WhoseKeys::OfMember(..)) { " AND member_id = $2" } else { "" };
                let select = format!("SELECT {KEY_COLUMNS} FROM api_keys WHERE org_id = $1{of_member} AND revoked_at IS NULL ORDER BY created_at, id");
                let select = sqlx::query(AssertSqlSafe(select));
                let select = match whose {
                    WhoseKeys::OfMember(org, member) => select.bind(&**org).bind($id(*member)),
                    WhoseKeys::OfOrg(org) => select.bind(&**org),
                };
                let rows = select.fetch_all(&self.pool).await.map_err(away)?;
                rows.iter().map(|row| key(row).map(|(_, key)| key)).collect()
            }

            async fn revoke(&self, whose: &WhoseKeys, id: Uuid, now: Timestamp) -> Result<Option<ApiKey>, ReadError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(away)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(away)?;
                let of_member = if matches!(whose, WhoseKeys::OfMember(..)) { " AND member_id = $5" } else { "" };
                let revoke = format!(
                    "UPDATE api_keys SET revoked_at = $1, revision = $2 WHERE id = $3 AND org_id = $4{of_member} AND revoked_at IS NULL \
                     RETURNING {KEY_COLUMNS}"
                );
                let revoke = sqlx::query(AssertSqlSafe(revoke)).bind($time(now)).bind(revision).bind($id(id));
                let revoke = match whose {
                    WhoseKeys::OfMember(org, member) => revoke.bind(&**org).bind($id(*member)),
                    WhoseKeys::OfOrg(org) => revoke.bind(&**org),
                };
                let revoked = revoke.fetch_optional(&mut *transaction).await.map_err(away)?;
                if revoked.is_some() { transaction.commit().await } else { transaction.rollback().await }.map_err(away)?;
                revoked.as_ref().map(|row| key(row).map(|(_, key)| key)).transpose()
            }

            async fn used(&self, uses: &[(Uuid, Timestamp)]) -> Result<(), ReadError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(away)?;
                for (id, time) in uses {
                    let update = sqlx::query(USED).bind($id(*id)).bind($time(*time));
                    update.execute(&mut *transaction).await.map_err(away)?;
                }
                transaction.commit().await.map_err(away)
            }

            async fn learn(&self, key: &AgentKey, now: Timestamp) -> Result<(), ReadError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(away)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(away)?;
                let learn = sqlx::query(LEARN).bind(&*key.hash).bind(&*key.id).bind(&*key.owner).bind($time(now)).bind(revision);
                learn.execute(&mut *transaction).await.map_err(away)?;
                transaction.commit().await.map_err(away)
            }

            async fn forget(&self, owner: &str, id: &str, now: Timestamp) -> Result<(), ReadError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(away)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(away)?;
                let forget = sqlx::query(FORGET).bind(owner).bind(id).bind($time(now)).bind(revision);
                let forgotten = forget.execute(&mut *transaction).await.map_err(away)?;
                if forgotten.rows_affected() > 0 { transaction.commit().await } else { transaction.rollback().await }.map_err(away)
            }

            async fn tidy(&self, before: Timestamp) -> Result<(), ReadError> {
                for delete in TIDY {
                    sqlx::query(delete).bind($time(before)).execute(&self.pool).await.map_err(away)?;
                }
                Ok(())
            }
        }
    };
}

keys! {
    /// Keys in an SQLite file.
    SqliteApiKeys, SqlitePool, "BEGIN IMMEDIATE", sqlite::sortable, as_text
}

keys! {
    /// Keys in PostgreSQL.
    PostgresApiKeys, PgPool, "BEGIN", postgres::timestamptz, as_uuid
}

/// A key, and the hash that it is kept under.
pub(in crate::identity) fn key(row: &impl Columns) -> Result<(String, ApiKey), ReadError> {
    let row = Reader { row, table: "api_keys" };
    let key = ApiKey {
        id: row.uuid("id")?,
        org: row.text("org_id")?.into(),
        member: row.uuid("member_id")?,
        name: row.text("name")?.into(),
        ending: row.text("ending")?.into(),
        scopes: row.word("scopes", KeyScopes::from_text)?,
        addresses: row.word_if_any("addresses", Networks::from_text)?,
        created: row.time("created_at")?,
        created_by: row.text("created_by")?.into(),
        expires: row.time("expires_at")?,
        last_used: row.time_if_any("last_used_at")?,
        revoked: row.time_if_any("revoked_at")?,
    };
    Ok((row.text("secret_hash")?, key))
}

/// A key that LibreChat made.
pub(in crate::identity) fn agent_key(row: &impl Columns) -> Result<AgentKey, ReadError> {
    let row = Reader { row, table: "agent_keys" };
    Ok(AgentKey {
        hash: row.text("key_hash")?.into(),
        id: row.text("key_id")?.into(),
        owner: row.text("owner_id")?.into(),
        forgotten: row.time_if_any("forgotten_at")?.is_some(),
    })
}
