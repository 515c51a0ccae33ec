//! The directory in an SQLite file and in PostgreSQL: the same statements, since both know `$1` and `ON CONFLICT`.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use uuid::Uuid;

use super::observing::Observing;
use super::store::{Changes, DirectoryError, DirectoryStore, PutStanding};
use super::{Joining, Language, Member, Org, Standing};
use crate::db::held::{Held, LONG, SOON, within};
use crate::identity::access::{Access, TenantId};
use crate::identity::addresses::Networks;
use crate::identity::keys::sql::{KEY_COLUMNS, agent_key, key};
use crate::identity::sql::{NEXT_REVISION, as_text, as_uuid};
use crate::records::sql::{Columns, Reader, unavailable};
use crate::records::{Capture, ReadError, postgres, sqlite};

const ORG_COLUMNS: &str = "id, name, domains, plan, time_zone, status, policy, tenant_id, join_by, language, capture, legal_hold, created_at, updated_at, revision";

const MEMBER_COLUMNS: &str =
    "id, org_id, external_id, librechat_id, email, name, role, status, addresses, created_at, updated_at, last_seen, revision";

/// Nothing is written, and no revision made, where an org is as it is to be.
const PUT_ORG: &str = "INSERT INTO orgs (id, name, domains, plan, time_zone, status, policy, tenant_id, join_by, language, capture, \
    legal_hold, created_at, updated_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14) \
    ON CONFLICT (id) DO UPDATE SET name = $2, domains = $3, plan = $4, time_zone = $5, \
    status = CASE WHEN $15 THEN $6 ELSE orgs.status END, policy = $7, tenant_id = $8, join_by = $9, language = $10, capture = $11, \
    legal_hold = $12, updated_at = $13, revision = $14";

const PUT_MEMBER: &str = "INSERT INTO members (id, org_id, external_id, librechat_id, email, name, role, status, created_at, updated_at, \
    last_seen, revision, addresses) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12) \
    ON CONFLICT (id) DO UPDATE SET org_id = $2, external_id = $3, librechat_id = $4, email = $5, name = $6, role = $7, status = $8, \
    updated_at = $9, revision = $11, addresses = $12";

const ADD_MEMBER: &str = "INSERT INTO members (id, org_id, external_id, librechat_id, email, name, role, status, created_at, updated_at, \
    last_seen, revision, addresses) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $11, $12) ON CONFLICT DO NOTHING";

/// What is null here stays as it is, but for the ids, which are compared.
const AMEND_MEMBER: &str = "UPDATE members SET org_id = $5, external_id = $6, librechat_id = $7, email = COALESCE($8, email), \
    name = COALESCE($9, name), role = COALESCE($10, role), updated_at = $11, revision = $12 \
    WHERE id = $1 AND org_id = $2 AND external_id IS NOT DISTINCT FROM $3 AND librechat_id IS NOT DISTINCT FROM $4";

/// What is observed already goes on as it began.
const PUT_OBSERVING: &str = "INSERT INTO observing (org_id, is_on, since, changed_by, revision) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (org_id) DO UPDATE SET is_on = $2, since = $3, changed_by = $4, revision = $5 WHERE observing.is_on <> $2";

const SEEN: &str = "UPDATE members SET last_seen = $2 WHERE id = $1 AND (last_seen IS NULL OR last_seen < $2)";

macro_rules! directory {
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
        impl DirectoryStore for $name {
            async fn changes(&self, after: i64) -> Result<Changes, ReadError> {
                let failed = |error: sqlx::Error| unavailable(&error);
                let mut held = Held::of(&self.pool).await.map_err(failed)?;
                // The revision first: what is changed after it is read now, and once more next time.
                let revision = within(SOON, sqlx::query("SELECT revision FROM directory_revision").fetch_one(&mut *held)).await.map_err(failed)?;
                let revision = Reader { row: &revision, table: "directory_revision" }.number("revision")?;
                if revision == after {
                    held.done();
                    return Ok(Changes { revision, ..Changes::default() });
                }
                let orgs = format!("SELECT {ORG_COLUMNS} FROM orgs WHERE revision > $1");
                let orgs = within(LONG, sqlx::query(AssertSqlSafe(orgs)).bind(after).fetch_all(&mut *held)).await.map_err(failed)?;
                let members = format!("SELECT {MEMBER_COLUMNS} FROM members WHERE revision > $1");
                let members = within(LONG, sqlx::query(AssertSqlSafe(members)).bind(after).fetch_all(&mut *held)).await.map_err(failed)?;
                let revoked = "SELECT id, expires_at FROM sessions WHERE revoked_at IS NOT NULL AND revision > $1";
                let revoked = within(LONG, sqlx::query(revoked).bind(after).fetch_all(&mut *held)).await.map_err(failed)?;
                let keys = format!("SELECT {KEY_COLUMNS} FROM api_keys WHERE revision > $1");
                let keys = within(LONG, sqlx::query(AssertSqlSafe(keys)).bind(after).fetch_all(&mut *held)).await.map_err(failed)?;
                let agent_keys = "SELECT key_hash, key_id, owner_id, forgotten_at FROM agent_keys WHERE revision > $1";
                let agent_keys = within(LONG, sqlx::query(agent_keys).bind(after).fetch_all(&mut *held)).await.map_err(failed)?;
                let observing = "SELECT org_id, is_on, since, changed_by FROM observing WHERE revision > $1";
                let observing = within(LONG, sqlx::query(observing).bind(after).fetch_all(&mut *held)).await.map_err(failed)?;
                held.done();
                Ok(Changes {
                    revision,
                    observing: observing.iter().map(observed).collect::<Result<_, _>>()?,
                    keys: keys.iter().map(key).collect::<Result<_, _>>()?,
                    agent_keys: agent_keys.iter().map(agent_key).collect::<Result<_, _>>()?,
                    revoked: revoked.iter().map(revoked_session).collect::<Result<_, _>>()?,
                    orgs: orgs.iter().map(org).collect::<Result<_, _>>()?,
                    members: members.iter().map(member).collect::<Result<_, _>>()?,
                })
            }

            async fn orgs(&self) -> Result<Vec<Org>, ReadError> {
                let orgs = format!("SELECT {ORG_COLUMNS} FROM orgs ORDER BY id");
                let orgs = sqlx::query(AssertSqlSafe(orgs)).fetch_all(&self.pool).await;
                orgs.map_err(|error| unavailable(&error))?.iter().map(org).collect()
            }

            async fn put_orgs(&self, orgs: &[Org], standing: PutStanding, now: Timestamp) -> Result<(), DirectoryError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(refused)?;
                for org in orgs {
                    let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(refused)?;
                    sqlx::query(PUT_ORG)
                        .bind(&*org.id)
                        .bind(&*org.name)
                        .bind(org.domains.join(","))
                        .bind(org.plan.as_deref())
                        .bind(org.zone.iana_name().unwrap_or("UTC"))
                        .bind(org.standing.as_str())
                        .bind(org.policy.as_deref())
                        .bind(org.access.tenant.as_ref().map(TenantId::as_str))
                        .bind(org.joining.text())
                        .bind(org.language.map(Language::as_str))
                        .bind(org.capture.as_str())
                        .bind(org.legal_hold)
                        .bind($time(now))
                        .bind(revision)
                        .bind(standing == PutStanding::Written)
                        .execute(&mut *transaction)
                        .await
                        .map_err(refused)?;
                }
                transaction.commit().await.map_err(refused)
            }

            async fn put_members(&self, members: &[Member], now: Timestamp) -> Result<(), DirectoryError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(refused)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(refused)?;
                for member in members {
                    bound!(sqlx::query(PUT_MEMBER), member, now, revision, $time, $id).execute(&mut *transaction).await.map_err(refused)?;
                }
                transaction.commit().await.map_err(refused)
            }

            async fn amend_member(&self, known: &Member, told: &Member, now: Timestamp) -> Result<bool, DirectoryError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(refused)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(refused)?;
                let amended = sqlx::query(AMEND_MEMBER)
                    .bind($id(known.id))
                    .bind(&*known.org)
                    .bind(known.external_id.as_deref())
                    .bind(known.librechat_id.as_deref())
                    .bind(&*told.org)
                    .bind(told.external_id.as_deref())
                    .bind(told.librechat_id.as_deref())
                    .bind(told.email.as_deref().filter(|_| told.email != known.email))
                    .bind(told.name.as_deref().filter(|_| told.name != known.name))
                    .bind(Some(&*told.role).filter(|_| told.role != known.role))
                    .bind($time(now))
                    .bind(revision)
                    .execute(&mut *transaction)
                    .await
                    .map_err(refused)?;
                transaction.commit().await.map_err(refused)?;
                Ok(amended.rows_affected() == 1)
            }

            async fn add_member(&self, member: &Member, now: Timestamp) -> Result<(), DirectoryError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(refused)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(refused)?;
                bound!(sqlx::query(ADD_MEMBER), member, now, revision, $time, $id).execute(&mut *transaction).await.map_err(refused)?;
                transaction.commit().await.map_err(refused)
            }

            async fn put_observing(&self, changes: &[Observing]) -> Result<(), DirectoryError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(refused)?;
                let revision: i64 = sqlx::query_scalar(NEXT_REVISION).fetch_one(&mut *transaction).await.map_err(refused)?;
                for Observing { org, is_on, since, changed_by } in changes {
                    let put = sqlx::query(PUT_OBSERVING).bind(&**org).bind(*is_on).bind($time(*since)).bind(&**changed_by).bind(revision);
                    put.execute(&mut *transaction).await.map_err(refused)?;
                }
                transaction.commit().await.map_err(refused)
            }

            async fn seen(&self, members: &[(Uuid, Timestamp)]) -> Result<(), DirectoryError> {
                let mut transaction = self.pool.begin_with($begin).await.map_err(refused)?;
                for (id, time) in members {
                    let update = sqlx::query(SEEN).bind($id(*id)).bind($time(*time));
                    update.execute(&mut *transaction).await.map_err(refused)?;
                }
                transaction.commit().await.map_err(refused)
            }
        }
    };
}

macro_rules! bound {
    ($query:expr, $member:expr, $now:expr, $revision:expr, $time:path, $id:path) => {
        $query
            .bind($id($member.id))
            .bind(&*$member.org)
            .bind($member.external_id.as_deref())
            .bind($member.librechat_id.as_deref())
            .bind($member.email.as_deref())
            .bind($member.name.as_deref())
            .bind(&*$member.role)
            .bind($member.standing.as_str())
            .bind($time($now))
            .bind($member.last_seen.map($time))
            .bind($revision)
            .bind($member.addresses.as_ref().map(Networks::text))
    };
}

directory! {
    /// The directory in an SQLite file.
    SqliteDirectory, SqlitePool, "BEGIN IMMEDIATE", sqlite::sortable, as_text
}

directory! {
    /// The directory in PostgreSQL.
    PostgresDirectory, PgPool, "BEGIN", postgres::timestamptz, as_uuid
}

fn org(row: &impl Columns) -> Result<Org, ReadError> {
    let row = Reader { row, table: "orgs" };
    let words = |text: Option<String>| text.map(Arc::from);
    Ok(Org {
        id: row.text("id")?.into(),
        name: row.text("name")?.into(),
        domains: row.text("domains")?.split(',').filter(|domain| !domain.is_empty()).map(str::to_owned).collect(),
        zone: row.word("time_zone", |name| TimeZone::get(name).ok())?,
        plan: words(row.text_if_any("plan")?),
        language: row.text_if_any("language")?.as_deref().and_then(Language::from_word),
        capture: row.word("capture", Capture::from_word)?,
        legal_hold: row.flag("legal_hold")?,
        standing: row.word("status", Standing::from_word)?,
        joining: row.word("join_by", Joining::from_text)?,
        policy: words(row.text_if_any("policy")?),
        access: Access { tenant: row.text_if_any("tenant_id")?.and_then(|tenant| TenantId::read(&tenant).ok()), ..Access::default() },
    })
}

fn member(row: &impl Columns) -> Result<Member, ReadError> {
    let row = Reader { row, table: "members" };
    let words = |text: Option<String>| text.map(Arc::from);
    Ok(Member {
        id: row.uuid("id")?,
        org: row.text("org_id")?.into(),
        external_id: words(row.text_if_any("external_id")?),
        librechat_id: words(row.text_if_any("librechat_id")?),
        email: words(row.text_if_any("email")?),
        name: words(row.text_if_any("name")?),
        role: row.text("role")?.into(),
        standing: row.word("status", Standing::from_word)?,
        addresses: row.word_if_any("addresses", Networks::from_text)?,
        last_seen: row.time_if_any("last_seen")?,
    })
}

fn observed(row: &impl Columns) -> Result<Observing, ReadError> {
    let row = Reader { row, table: "observing" };
    Ok(Observing {
        org: row.text("org_id")?.into(),
        is_on: row.flag("is_on")?,
        since: row.time("since")?,
        changed_by: row.text("changed_by")?.into(),
    })
}

fn revoked_session(row: &impl Columns) -> Result<(Uuid, Timestamp), ReadError> {
    let row = Reader { row, table: "sessions" };
    Ok((row.uuid("id")?, row.time("expires_at")?))
}

/// An error is somebody else's id, or the database's.
#[expect(clippy::needless_pass_by_value, reason = "it is what errors are mapped with")]
fn refused(error: sqlx::Error) -> DirectoryError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => DirectoryError::Taken,
        _ => DirectoryError::Away(error.to_string()),
    }
}
