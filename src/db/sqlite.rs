//! Opening and migrating an SQLite file.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, SqlitePool};
use tokio::time::Instant;

use super::{DatabaseError, Plan, REMOVED_AT_ONCE, REMOVED_PAUSE, REMOVED_TIMES, Status};
use crate::records::retention::{EventTable, Held, Removed, Retention};
use crate::records::sqlite::sortable;

/// How long a statement waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// How long migrating waits for other processes that migrate.
const MIGRATE_PATIENCE: Duration = Duration::from_secs(30);

/// How long a free connection is waited for.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// One writes, the others read at the same time.
const CONNECTIONS: u32 = 4;

/// An SQLite database.
#[derive(Debug, Clone)]
pub(super) struct Sqlite {
    pub(super) pool: SqlitePool,
    options: SqliteConnectOptions,
    in_memory: bool,
}

impl Sqlite {
    /// With a write-ahead log readers do not wait for the writer; `NORMAL` keeps every commit when the process dies,
    /// and when the machine does loses at most the last ones, never the file.
    pub(super) fn open(url: &str) -> Result<Self, DatabaseError> {
        let options = options(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
        // A database in memory lives and dies with its connection.
        let pool = if in_memory {
            pool.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None)
        } else {
            pool.max_connections(CONNECTIONS)
        };
        Ok(Self { pool: pool.connect_lazy_with(options.clone()), options, in_memory })
    }

    /// sqlx takes no lock to migrate SQLite, so that everything happens within one immediate transaction: whoever comes
    /// second waits, and finds nothing left to do. Two processes that create the file and switch it to its write-ahead
    /// log at once are told "busy" without being made to wait, hence the repetition.
    pub(super) async fn migrate(&self) -> Result<(), DatabaseError> {
        let patience = Instant::now() + MIGRATE_PATIENCE;
        loop {
            match self.migrate_once().await {
                Err(error) if is_busy(&error) && Instant::now() < patience => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(sqlx::Error::Migrate(error)) => return Err(DatabaseError::Migrate(error.to_string())),
                Err(error) => return Err(self.unreachable(&error)),
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn migrate_once(&self) -> Result<(), sqlx::Error> {
        // The pool's only connection where the database lives in it, else one of our own, which says what is wrong.
        if self.in_memory {
            return migrate_on(&mut *self.pool.acquire().await?).await;
        }
        let mut connection = self.options.connect().await?;
        let migrated = migrate_on(&mut connection).await;
        connection.close().await?;
        migrated
    }

    pub(super) async fn try_to_write(&self) -> Result<(), DatabaseError> {
        for trial in super::TRIALS {
            match sqlx::query(trial).execute(&self.pool).await {
                // Another process writes, so that it can be written.
                Err(error) if !is_busy(&error) => {
                    return Err(DatabaseError::ReadOnly(format!("{}: {error}", self.options.get_filename().display())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) async fn status(&self) -> Status {
        let file = self.options.get_filename();
        if !self.in_memory && !file.exists() {
            return Status::Missing(file.to_owned());
        }
        match self.applied().await {
            Ok(applied) => super::pending(&migrator(), &applied),
            Err(error) => Status::Unreachable(format!("{}: {error}", file.display())),
        }
    }

    pub(super) async fn plan(&self) -> Result<Plan, DatabaseError> {
        let applied = match self.status().await {
            Status::Missing(_) => Vec::new(),
            _ => self.applied().await.map_err(|error| self.unreachable(&error))?,
        };
        Ok(Plan { steps: super::pending_steps(&migrator(), &applied), note: None })
    }

    pub(super) async fn retain(&self, retention: &Retention, held: &Held, now: Timestamp) -> Result<Vec<Removed>, DatabaseError> {
        let held = serde_json::to_string(held).map_err(|error| DatabaseError::Retain(error.to_string()))?;
        let mut removed = Vec::new();
        for table in EventTable::ALL {
            let cutoff = sortable(retention.cutoff(table, now));
            let one = self.remove(table, &cutoff, &held).await.map_err(|error| DatabaseError::Retain(error.to_string()))?;
            removed.push(one);
        }
        Ok(removed)
    }

    /// Each round begins where the one before ended, so that rows that are held are passed over once.
    async fn remove(&self, table: EventTable, cutoff: &str, held: &str) -> Result<Removed, sqlx::Error> {
        let name = table.name();
        let not_held = if table.is_of_orgs() { "(org_id IS NULL OR org_id NOT IN (SELECT value FROM json_each(?3)))" } else { "?3 = ?3" };
        let statement = format!(
            "DELETE FROM {name} WHERE rowid IN (SELECT rowid FROM {name} WHERE time >= ?1 AND time < ?2 AND {not_held} \
             ORDER BY time LIMIT {REMOVED_AT_ONCE}) RETURNING time"
        );
        let (mut from, mut count) = (String::new(), 0);
        for _ in 0..REMOVED_TIMES {
            let times: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(statement.as_str())).bind(&from).bind(cutoff).bind(held).fetch_all(&self.pool).await?;
            count += times.len() as u64;
            if times.len() < REMOVED_AT_ONCE {
                return Ok(Removed { table, count, more: false });
            }
            from = times.into_iter().max().unwrap_or_default();
            tokio::time::sleep(REMOVED_PAUSE).await;
        }
        Ok(Removed { table, count, more: true })
    }

    fn unreachable(&self, error: &sqlx::Error) -> DatabaseError {
        DatabaseError::Unreachable(format!("{}: {error}", self.options.get_filename().display()))
    }

    async fn applied(&self) -> Result<Vec<i64>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let tables: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema WHERE name = 'tollgate_migrations'").fetch_one(&mut *connection).await?;
        if tables == 0 {
            return Ok(Vec::new());
        }
        sqlx::query_scalar("SELECT version FROM tollgate_migrations WHERE success").fetch_all(&mut *connection).await
    }
}

/// Whether the URL can be read.
pub(super) fn check_url(url: &str) -> Result<(), DatabaseError> {
    options(url).map(|_| ())
}

fn options(url: &str) -> Result<SqliteConnectOptions, DatabaseError> {
    SqliteConnectOptions::from_str(url).map_err(|error| DatabaseError::BadUrl(error.to_string()))
}

async fn migrate_on(connection: &mut sqlx::SqliteConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    migrator().run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await
}

fn migrator() -> sqlx::migrate::Migrator {
    super::migrator(sqlx::migrate!("migrations/sqlite"))
}

/// Whether another process holds the file's lock: result codes BUSY and LOCKED.
fn is_busy(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => {
            database.code().and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 5 | 6))
        }
        _ => false,
    }
}
