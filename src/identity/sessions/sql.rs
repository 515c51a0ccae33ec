//! Codes and sessions in an SQLite file and in PostgreSQL: the same statements, since both know `$1` and `RETURNING`.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

use super::{HandOff, Redeemed, Session, SessionStore, WhichSessions};
use crate::db::held::{Held, SOON, within};
use crate::identity::sql::{NEXT_REVISION, as_text, as_uuid, away};
use crate::records::sql::{Columns, Reader};
use crate::records::{ReadError, postgres, sqlite};

const ADD_HAND_OFF: &str = "INSERT INTO hand_offs (code_hash, org_id, member_id, plan, org_tokens_per_month, made_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// Of several at once the database lets one through: the others find it redeemed.
const REDEEM: &str = "UPDATE hand_offs SET redeemed_at = $2 WHERE code_hash = $1 AND redeemed_at IS NULL AND expires_at > $2 \
    RETURNING code_hash";

const HAND_OFF: &str = "SELECT org_id, member_id, plan, org_tokens_per_month, expires_at, redeemed_at FROM hand_offs WHERE code_hash = $1";

const START: &str = "INSERT INTO sessions (id, secret_hash, org_id, member_id, plan, org_tokens_per_month, started_at, expires_at, revision) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)";

const SESSION_COLUMNS: &str = "id, org_id, member_id, plan, org_tokens_per_month, started_at, expires_at";

macro_rules! sessions {
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
        impl SessionStore for $name {
            async fn add_hand_off(&self, code_hash: &str, hand_off: &HandOff, now: Timestamp) -> Result<(), ReadError> {
                sqlx::query(ADD_HAND_OFF)
                    .bind(code_hash)
                    .bind(&*hand_off.org)
                    .bind($id(hand_off.member))
                    .bind(hand_off.plan.as_deref())
                    .bind(hand_off.org_tokens_per_month.map(stored))
                    .bind($time(now))
                    .bind($time(hand_off.expires))
                    .execute(&self.pool)
                    .await
                    .map_err(away)?;
                Ok(())
            }

            async fn redeem(&self, code_hash: &str, now: Timestamp) -> Result<Redeemed, ReadError> {
                // Looked at first: whoever invents codes writes nothing.
                let mut held = Held::of(&self.pool).await.map_err(away)?;
                let found = within(SOON, sqlx::query(HAND_OFF).bind(code_hash).fetch_optional(&mut *held)).await.map_err(away)?;
                held.done();
                let Some(row) = found else { return Ok(Redeemed::Unknown) };
                let was_opened = Reader { row: &row, table: "hand_offs" }.time_if_any("redeemed_at")?.is_some();
                let found = hand_off(&row)?;
                if was_opened {
                    return Ok(Redeemed::Again(found));
                }
                if found.expires <= now {
                    return Ok(Redeemed::Late(found));
                }
                let opened = sqlx::query(REDEEM).bind(code_hash).bind($time(now)).fetch_optional(&self.pool).await.map_err(away)?;
                Ok(if opened.is_some() { Redeemed::Opens(found) } else { Redeemed::Again(found) })
            }

            async fn start(&self, secret_hash: &str, session: &Session) -> Result<(), ReadError> {
                sqlx::query(START)
                    .bind($id(session.id))
                    .bind(secret_hash)
                    .bind(&*session.org)
                    .bind($id(session.member))
                    .bind(session.plan.as_deref())
                    .bind(session.org_tokens_per_month.map(stored))
                    .bind($time(session.started))
                    .bind($time(session.expires))
                    .execute(&self.pool)
                    .await
                    .map_err(away)?;
                Ok(())
            }

            async fn session(&self, secret_hash: &str, now: Timestamp) -> Result<Option<Session>, ReadError> {
                let select = format!(
                    "SELECT {SESSION_COLUMNS} FROM sessions WHERE secret_hash = $1 AND revoked_at IS NULL AND expires_at > $2"
                );
                let select = sqlx::query(AssertSqlSafe(select)).bind(secret_hash).bind($time(now));
                let mut held = Held::of(&self.pool).await.map_err(away)?;
                let found = within(SOON, select.fetch_optional(&mut *held)).await.map_err(away)?;
                held.done();
                found.as_ref().map(session).transpose()
            }

            async fn list(&self, which: &WhichSessions, now: Timestamp) -> Result<Vec<Session>, ReadError> {
                let select = format!(
                    "SELECT {SESSION_COLUMNS} FROM sessions WHERE {} = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY started_at, id",
                    which.column(),
                );
                let select = sqlx::query(AssertSqlSafe(select));
                let select = match which {
                    WhichSessions::One(id) | WhichSessions::OfMember(id) => select.bind($id(*id)),
                    WhichSessions::OfOrg(org) => select.bind(&**org),
                };
                select.bind($time(now)).fetch_all(&self.pool).await.map_err(away)?.iter().map(session).collect()
            }

            async fn revoke(&self, which: &WhichSessions, now: Timestamp) -> Result<Vec<Session>, ReadError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(away)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(away)?;
                let revoke = format!(
                    "UPDATE sessions SET revoked_at = $1, revision = $2 WHERE {} = $3 AND revoked_at IS NULL AND expires_at > $1 \
                     RETURNING {SESSION_COLUMNS}",
                    which.column(),
                );
                let revoke = sqlx::query(AssertSqlSafe(revoke)).bind($time(now)).bind(revision);
                let revoke = match which {
                    WhichSessions::One(id) | WhichSessions::OfMember(id) => revoke.bind($id(*id)),
                    WhichSessions::OfOrg(org) => revoke.bind(&**org),
                };
                let revoked = revoke.fetch_all(&mut *transaction).await.map_err(away)?;
                transaction.commit().await.map_err(away)?;
                revoked.iter().map(session).collect()
            }

            async fn tidy(&self, before: Timestamp) -> Result<(), ReadError> {
                for table in ["hand_offs", "sessions"] {
                    let delete = format!("DELETE FROM {table} WHERE expires_at < $1");
                    sqlx::query(AssertSqlSafe(delete)).bind($time(before)).execute(&self.pool).await.map_err(away)?;
                }
                Ok(())
            }
        }
    };
}

sessions! {
    /// Codes and sessions in an SQLite file.
    SqliteSessions, SqlitePool, "BEGIN IMMEDIATE", sqlite::sortable, as_text
}

sessions! {
    /// Codes and sessions in PostgreSQL.
    PostgresSessions, PgPool, "BEGIN", postgres::timestamptz, as_uuid
}

impl WhichSessions {
    fn column(&self) -> &'static str {
        match self {
            Self::One(_) => "id",
            Self::OfMember(_) => "member_id",
            Self::OfOrg(_) => "org_id",
        }
    }
}

fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn hand_off(row: &impl Columns) -> Result<HandOff, ReadError> {
    let row = Reader { row, table: "hand_offs" };
    Ok(HandOff {
        org: row.text("org_id")?.into(),
        member: row.uuid("member_id")?,
        plan: row.text_if_any("plan")?.map(Into::into),
        org_tokens_per_month: row.number_if_any("org_tokens_per_month")?,
        expires: row.time("expires_at")?,
    })
}

fn session(row: &impl Columns) -> Result<Session, ReadError> {
    let row = Reader { row, table: "sessions" };
    Ok(Session {
        id: row.uuid("id")?,
        org: row.text("org_id")?.into(),
        member: row.uuid("member_id")?,
        plan: row.text_if_any("plan")?.map(Into::into),
        org_tokens_per_month: row.number_if_any("org_tokens_per_month")?,
        started: row.time("started_at")?,
        expires: row.time("expires_at")?,
    })
}
