//! The database of records: opening, migrating and asking after it. What is read and written stands in
//! [`crate::records`].
//!
//! Migrations are embedded and only ever add, so that a database which a newer Tollgate has migrated still serves an
//! older one during a rolling upgrade.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::Migrator;

use crate::identity::directory::store::DirectoryStore;
use crate::identity::directory::{PostgresDirectory, SqliteDirectory};
use crate::identity::keys::{ApiKeyStore, PostgresApiKeys, SqliteApiKeys};
use crate::identity::sessions::{PostgresSessions, SessionStore, SqliteSessions};
use crate::records::RecordStore;
use crate::records::chains::AuditChains;
use crate::records::ledger::Ledger;
use crate::records::member_keys::MemberKeys;
use crate::records::postgres::PostgresRecords;
use crate::records::postgres_chains::PostgresChains;
use crate::records::postgres_keys::PostgresKeys;
use crate::records::rebuild::Rebuild;
use crate::records::retention::{Held, Removed, Retention};
use crate::records::sqlite::SqliteRecords;
use crate::records::sqlite_chains::SqliteChains;
use crate::records::sqlite_keys::SqliteKeys;

mod drains;
pub(crate) mod held;
mod postgres;
mod readers;
mod sqlite;
mod timescale;

pub use postgres::Address;
pub use readers::{Reader, ReaderError};

use postgres::Postgres;
use sqlite::Sqlite;

/// Where migrations are noted. A name of its own, since other programs that use sqlx may share the database.
const MIGRATIONS_TABLE: &str = "tollgate_migrations";

/// Inserts nothing, and needs all that inserting rows needs.
const TRIALS: [&str; 2] =
    ["INSERT INTO usage_events SELECT * FROM usage_events WHERE false", "INSERT INTO audit_events SELECT * FROM audit_events WHERE false"];
/// How many rows retention removes at once, so that the writer waits a moment at most.
const REMOVED_AT_ONCE: usize = 1000;

/// How many times in one round, for each table.
const REMOVED_TIMES: usize = 200;

/// The pause in between, which is the writer's.
const REMOVED_PAUSE: Duration = Duration::from_millis(20);

/// How long PostgreSQL may take to let go of its connections.
const CLOSED_IN: Duration = Duration::from_secs(2);

/// The database that `[records] url` names.
#[derive(Debug, Clone)]
pub struct Database(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// Why a database cannot be opened or migrated.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL names no database we know.
    #[error("`{0}:` is no records database: write sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE")]
    UnknownScheme(String),
    /// The URL has the right beginning, but the rest of it is wrong.
    #[error("the URL of the records database is wrong: {0}")]
    BadUrl(String),
    /// It cannot be reached.
    #[error("the records database cannot be reached: {0}")]
    Unreachable(String),
    /// It can be read, but takes no rows.
    #[error("the records database cannot be written: {0}")]
    ReadOnly(String),
    /// A migration failed, or one that was applied is not the one we carry.
    #[error("the records database cannot be migrated: {0}")]
    Migrate(String),
    /// Old rows could not be removed.
    #[error("old rows cannot be removed from the records database: {0}")]
    Retain(String),
}

/// Whether this is the URL of a database, without connecting to it.
///
/// # Errors
///
/// [`DatabaseError::UnknownScheme`] and [`DatabaseError::BadUrl`].
pub fn check_url(url: &str) -> Result<(), DatabaseError> {
    match url.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => sqlite::check_url(url),
        Some("postgres" | "postgresql") => postgres::check_url(url),
        scheme => Err(DatabaseError::UnknownScheme(scheme.unwrap_or_default().to_owned())),
    }
}

/// How a database stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It answers and holds everything we need.
    Ready,
    /// It answers; so many migrations are not applied. `tollgate serve` applies them.
    NotMigrated {
        /// How many.
        pending: usize,
    },
    /// This SQLite file does not exist yet. `tollgate serve` creates it.
    Missing(PathBuf),
    /// It does not answer, and why.
    Unreachable(String),
}

/// What a database server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What its clock says.
    pub time: Timestamp,
    /// Its version, such as `16.4`.
    pub version: String,
    /// The version of TimescaleDB, where it is there.
    pub timescale: Option<String>,
}

/// What migrating would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// One sentence for each thing to do, in order.
    pub steps: Vec<String>,
    /// Why the database is taken for less than it could be, if so.
    pub note: Option<String>,
}

impl Database {
    /// Reads the URL: `sqlite:PATH` or `postgres://...`. Connects to nothing and creates nothing yet.
    ///
    /// Must be called within a tokio runtime, which the connections then live on.
    pub fn open(url: &str) -> Result<Self, DatabaseError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Sqlite::open(url).map(Kind::Sqlite).map(Self),
            Some("postgres" | "postgresql") => Postgres::open(url).map(Kind::Postgres).map(Self),
            scheme => Err(DatabaseError::UnknownScheme(scheme.unwrap_or_default().to_owned())),
        }
    }

    /// Creates an SQLite file that is missing, and applies the migrations that are. Several processes may do so at
    /// the same time; doing so again changes nothing.
    pub async fn migrate(&self) -> Result<(), DatabaseError> {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlite.migrate().await,
            Kind::Postgres(postgres) => postgres.migrate().await,
        }
    }

    /// Whether it takes rows, tried without leaving any: a file that may only be read, a server that only follows another
    /// and a user without the right to insert say so.
    pub async fn try_to_write(&self) -> Result<(), DatabaseError> {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlite.try_to_write().await,
            Kind::Postgres(postgres) => postgres.try_to_write().await,
        }
    }

    /// What [`Self::migrate`] and then [`Self::keep_to`] would do, without changing anything.
    pub async fn plan(&self, retention: &Retention) -> Result<Plan, DatabaseError> {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlite.plan().await,
            Kind::Postgres(postgres) => postgres.plan(retention).await,
        }
    }

    /// Tells the database itself for how long rows are kept, where it removes old ones by itself (TimescaleDB). Removes
    /// nothing now.
    pub async fn keep_to(&self, retention: &Retention, held: &Held) -> Result<(), DatabaseError> {
        match &self.0 {
            Kind::Sqlite(_) => Ok(()),
            Kind::Postgres(postgres) => postgres.keep_to(retention, held).await,
        }
    }

    /// One round of removing rows that are too old, oldest first, except those of the orgs that are held. Call it from
    /// time to time, again soon where there is more, and at once when an org comes to be held. Where several processes
    /// do so on one PostgreSQL, one of them does the work.
    pub async fn retain(&self, retention: &Retention, held: &Held, now: Timestamp) -> Result<Vec<Removed>, DatabaseError> {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlite.retain(retention, held, now).await,
            Kind::Postgres(postgres) => postgres.retain(retention, held, now).await,
        }
    }

    /// Makes a role that reads the rows of this org and no other's; where it is there already, gives it what it lacks.
    pub async fn create_reader(&self, org: &str, role: Option<&str>) -> Result<Reader, ReaderError> {
        let role = role.map_or_else(|| readers::role_of(org), str::to_owned);
        match &self.0 {
            Kind::Sqlite(_) => Err(ReaderError::NoRoles),
            Kind::Postgres(postgres) => postgres.create_reader(org, &role).await,
        }
    }

    /// The same, and gives it another password than it had.
    pub async fn renew_reader(&self, org: &str, role: Option<&str>) -> Result<Reader, ReaderError> {
        let role = role.map_or_else(|| readers::role_of(org), str::to_owned);
        match &self.0 {
            Kind::Sqlite(_) => Err(ReaderError::NoRoles),
            Kind::Postgres(postgres) => postgres.renew_reader(org, &role).await,
        }
    }

    /// How many connections there are to ask questions on: those in use, and those that wait for one. Rows are written on others.
    pub fn connections(&self) -> (usize, usize) {
        let (all, idle) = match &self.0 {
            Kind::Sqlite(sqlite) => (sqlite.pool.size() as usize, sqlite.pool.num_idle()),
            Kind::Postgres(postgres) => (postgres.pool.size() as usize, postgres.pool.num_idle()),
        };
        (all.saturating_sub(idle), idle)
    }

    /// Where it is, for others who connect to it too; nowhere where it is a file.
    pub fn address(&self) -> Option<Address> {
        match &self.0 {
            Kind::Sqlite(_) => None,
            Kind::Postgres(postgres) => Some(postgres.address()),
        }
    }

    /// The same as statements, for whoever may run them.
    pub async fn reader_script(&self, org: &str, role: Option<&str>) -> Result<String, ReaderError> {
        let role = role.map_or_else(|| readers::role_of(org), str::to_owned);
        match &self.0 {
            Kind::Sqlite(_) => Err(ReaderError::NoRoles),
            Kind::Postgres(postgres) => postgres.reader_script(org, &role).await,
        }
    }

    /// What the server says of itself; nothing where there is none, or where it does not answer.
    pub async fn facts(&self) -> Option<Facts> {
        match &self.0 {
            Kind::Sqlite(_) => None,
            Kind::Postgres(postgres) => postgres.facts().await.ok(),
        }
    }

    /// Whether it can be reached and is migrated, without changing anything.
    pub async fn status(&self) -> Status {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlite.status().await,
            Kind::Postgres(postgres) => postgres.status().await,
        }
    }

    /// What reads and writes its rows.
    pub fn records(&self) -> Arc<dyn RecordStore> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteRecords::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresRecords::new(postgres.pool.clone(), postgres.options.clone())),
        }
    }

    /// What reads and corrects what orgs are billed by.
    pub fn ledger(&self) -> Arc<dyn Ledger> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteRecords::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresRecords::new(postgres.pool.clone(), postgres.options.clone())),
        }
    }

    /// What makes daily sums anew.
    pub fn rebuilder(&self) -> Arc<dyn Rebuild> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteRecords::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresRecords::new(postgres.pool.clone(), postgres.options.clone())),
        }
    }

    /// What reads the chains of its audit rows.
    pub fn chains(&self) -> Arc<dyn AuditChains> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteChains::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresChains::new(postgres.pool.clone())),
        }
    }

    /// Codes and sessions of people who are signed in through Tollgate.
    pub fn sessions(&self) -> Arc<dyn SessionStore> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteSessions::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresSessions::new(postgres.pool.clone())),
        }
    }

    /// API keys of members, and whose the keys of LibreChat's are.
    pub fn api_keys(&self) -> Arc<dyn ApiKeyStore> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteApiKeys::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresApiKeys::new(postgres.pool.clone())),
        }
    }

    /// Where orgs and members are.
    pub fn directory(&self) -> Arc<dyn DirectoryStore> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteDirectory::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresDirectory::new(postgres.pool.clone())),
        }
    }

    /// Where the keys of members are.
    pub fn member_keys(&self) -> Arc<dyn MemberKeys> {
        match &self.0 {
            Kind::Sqlite(sqlite) => Arc::new(SqliteKeys::new(sqlite.pool.clone())),
            Kind::Postgres(postgres) => Arc::new(PostgresKeys::new(postgres.pool.clone())),
        }
    }

    /// Closes its connections, so that an SQLite file is left whole and without its log. Writers must be closed first.
    /// A server that says nothing any more is not waited for: nothing is left to be written there.
    pub async fn close(&self) {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlite.pool.close().await,
            Kind::Postgres(postgres) => _ = tokio::time::timeout(CLOSED_IN, postgres.pool.close()).await,
        }
    }
}

/// Our way of migrating, with these migrations.
fn migrator(embedded: Migrator) -> Migrator {
    Migrator { table_name: MIGRATIONS_TABLE.into(), ignore_missing: true, ..embedded }
}

/// The migrations that are not among those applied, for people.
fn pending_steps(migrator: &Migrator, applied: &[i64]) -> Vec<String> {
    let pending = migrator.iter().filter(|migration| !applied.contains(&migration.version));
    pending.map(|migration| format!("apply migration {}: {}", migration.version, migration.description)).collect()
}

/// How many migrations are not among those applied.
fn pending(migrator: &Migrator, applied: &[i64]) -> Status {
    match migrator.iter().filter(|migration| !applied.contains(&migration.version)).count() {
        0 => Status::Ready,
        pending => Status::NotMigrated { pending },
    }
}
