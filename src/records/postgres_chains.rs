//! The chains of audit rows in PostgreSQL.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgPool, Row};

use super::chain::Head;
use super::chains::{AuditChains, ChainId, Span, Spot};
use super::checkpoint::Anchor;
use super::postgres::{fault, timestamptz};
use super::sql::{self, AUDIT_COLUMNS, stored};
use super::{ReadError, StoredAudit, WriteError};

const FIRST_CHAIN: &str = "SELECT COALESCE(org_id, '') AS org, chain_writer FROM audit_events WHERE chain_writer IS NOT NULL \
    ORDER BY COALESCE(org_id, ''), chain_writer LIMIT 1";

const NEXT_WRITER: &str = "SELECT COALESCE(org_id, '') AS org, chain_writer FROM audit_events \
    WHERE COALESCE(org_id, '') = $1 AND chain_writer > $2 ORDER BY chain_writer LIMIT 1";

const NEXT_ORG: &str = "SELECT COALESCE(org_id, '') AS org, chain_writer FROM audit_events \
    WHERE COALESCE(org_id, '') > $1 AND chain_writer IS NOT NULL ORDER BY COALESCE(org_id, ''), chain_writer LIMIT 1";

/// A row whose link is not whole.
const UNLINKED: &str = "(chain_writer IS NULL OR chain_seq IS NULL OR chain_previous IS NULL OR chain_hash IS NULL) \
    AND time >= $1 AND time < $2 AND ($3::TEXT IS NULL OR COALESCE(org_id, '') = $3)";

/// The chains of a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresChains {
    pool: PgPool,
}

impl PostgresChains {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl AuditChains for PostgresChains {
    async fn next_chain(&self, after: Option<&ChainId>) -> Result<Option<ChainId>, ReadError> {
        // Steps along the index, so that the table is not read for the names of its chains.
        let found = match after {
            None => sqlx::query(FIRST_CHAIN).fetch_optional(&self.pool).await,
            Some(chain) => {
                let same_org = sqlx::query(NEXT_WRITER).bind(&chain.org).bind(chain.writer).fetch_optional(&self.pool).await;
                match same_org {
                    Ok(None) => sqlx::query(NEXT_ORG).bind(&chain.org).fetch_optional(&self.pool).await,
                    found => found,
                }
            }
        };
        found.map_err(|error| sql::unavailable(&error))?.map(|row| sql::chain_id(&row)).transpose()
    }

    async fn rows(&self, chain: &ChainId, spot: Spot, last: u64, limit: u32) -> Result<Vec<StoredAudit>, ReadError> {
        let select = format!(
            "SELECT {AUDIT_COLUMNS} FROM audit_events WHERE COALESCE(org_id, '') = $1 AND chain_writer = $2 AND chain_seq >= $3 \
             AND chain_seq <= $4 AND (chain_seq, id, time) > ($3, $5, $6) ORDER BY chain_seq, id, time LIMIT $7"
        );
        let rows = sqlx::query(AssertSqlSafe(select))
            .bind(&chain.org)
            .bind(chain.writer)
            .bind(stored(spot.seq))
            .bind(stored(last))
            .bind(spot.id)
            .bind(timestamptz(spot.time))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::audit_row).collect()
    }

    async fn numbers(&self, chain: &ChainId, span: &Span) -> Result<Option<(u64, u64)>, ReadError> {
        let select = "SELECT MIN(chain_seq) AS first, MAX(chain_seq) AS last FROM audit_events \
             WHERE COALESCE(org_id, '') = $1 AND chain_writer = $2 AND time >= $3 AND time < $4";
        let row = sqlx::query(select)
            .bind(&chain.org)
            .bind(chain.writer)
            .bind(timestamptz(span.start()))
            .bind(timestamptz(span.end()))
            .fetch_one(&self.pool)
            .await;
        sql::numbers(&row.map_err(|error| sql::unavailable(&error))?)
    }

    async fn last_before(&self, chain: &ChainId, time: Timestamp) -> Result<Option<Head>, ReadError> {
        let select = "SELECT chain_seq, chain_hash FROM audit_events \
             WHERE COALESCE(org_id, '') = $1 AND chain_writer = $2 AND time < $3 ORDER BY chain_seq DESC LIMIT 1";
        let row = sqlx::query(select).bind(&chain.org).bind(chain.writer).bind(timestamptz(time)).fetch_optional(&self.pool).await;
        row.map_err(|error| sql::unavailable(&error))?.map(|row| sql::head(&row)).transpose()
    }

    async fn first_linked(&self) -> Result<Option<Timestamp>, ReadError> {
        let select = "SELECT time FROM audit_events WHERE chain_writer IS NOT NULL ORDER BY time LIMIT 1";
        let row = sqlx::query(select).fetch_optional(&self.pool).await.map_err(|error| sql::unavailable(&error))?;
        row.map(|row| sql::time(&row)).transpose()
    }

    async fn count_unlinked(&self, org: Option<&str>, span: &Span) -> Result<u64, ReadError> {
        let select = format!("SELECT COUNT(*) AS unlinked FROM audit_events WHERE {UNLINKED}");
        let row = sqlx::query(AssertSqlSafe(select))
            .bind(timestamptz(span.start()))
            .bind(timestamptz(span.end()))
            .bind(org)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| sql::unavailable(&error))?;
        let count: i64 = row.try_get("unlinked").map_err(|error| sql::unavailable(&error))?;
        Ok(count.unsigned_abs())
    }

    async fn first_unlinked(&self, org: Option<&str>, span: &Span) -> Result<Option<StoredAudit>, ReadError> {
        let select = format!("SELECT {AUDIT_COLUMNS} FROM audit_events WHERE {UNLINKED} ORDER BY time, id LIMIT 1");
        let row = sqlx::query(AssertSqlSafe(select))
            .bind(timestamptz(span.start()))
            .bind(timestamptz(span.end()))
            .bind(org)
            .fetch_optional(&self.pool)
            .await;
        row.map_err(|error| sql::unavailable(&error))?.as_ref().map(sql::audit_row).transpose()
    }

    async fn anchors(&self, chain: &ChainId) -> Result<Vec<Anchor>, ReadError> {
        let select = "SELECT org_id, chain_writer, chain_seq, chain_hash, time, signature FROM audit_anchors \
             WHERE org_id = $1 AND chain_writer = $2 ORDER BY chain_seq DESC, signature";
        let rows = sqlx::query(select).bind(&chain.org).bind(chain.writer).fetch_all(&self.pool).await;
        rows.map_err(|error| sql::unavailable(&error))?.iter().map(sql::anchor).collect()
    }

    async fn insert_anchor(&self, anchor: &Anchor) -> Result<(), WriteError> {
        let insert = "INSERT INTO audit_anchors (org_id, chain_writer, chain_seq, chain_hash, time, signature) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let written = sqlx::query(insert)
            .bind(&anchor.chain.org)
            .bind(anchor.chain.writer)
            .bind(stored(anchor.head.seq))
            .bind(&anchor.head.hash)
            .bind::<DateTime<Utc>>(timestamptz(anchor.time))
            .bind(&anchor.signature)
            .execute(&self.pool)
            .await;
        written.map(|_| ()).map_err(|error| sql::write_error(&error, fault))
    }
}
