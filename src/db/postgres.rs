//! Opening and migrating a PostgreSQL database.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};

use super::readers::{self, Reader, ReaderError};
use super::timescale::{self, Found, Step};
use super::{DatabaseError, Facts, Plan, REMOVED_AT_ONCE, REMOVED_PAUSE, REMOVED_TIMES, Status};
use crate::records::postgres::timestamptz;
use crate::records::retention::{EventTable, Held, Removed, Retention};

/// How long a new connection, or a free one, is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections for reading: the admin API, `explain`, rebuilding counters. The writer has one of its own.
const READERS: u32 = 4;

/// The advisory lock of whoever arranges tables: "Tollgate" in ASCII.
const ARRANGING: i64 = 0x546f_6c6c_6761_7465;

/// The advisory lock of whoever removes old rows.
const RETAINING: i64 = ARRANGING + 1;

/// Where a PostgreSQL database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database's name on it.
    pub database: String,
}

/// A PostgreSQL database.
#[derive(Debug, Clone)]
pub(super) struct Postgres {
    pub(super) pool: PgPool,
    pub(super) options: PgConnectOptions,
}

impl Postgres {
    pub(super) fn open(url: &str) -> Result<Self, DatabaseError> {
        let options = options(url)?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("tollgate"),
        };
        let options = options.disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(CONNECT_TIMEOUT)
            .idle_timeout(Duration::from_mins(5))
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options })
    }

    /// PostgreSQL's advisory lock lets one process migrate at a time. It belongs to the connection, so that the
    /// connection is closed afterwards whatever happened.
    pub(super) async fn migrate(&self) -> Result<(), DatabaseError> {
        let mut connection = self.connect().await.map_err(DatabaseError::Unreachable)?;
        let migrated = migrator().run_direct(None, &mut connection, false).await;
        let arranged = match migrated {
            Ok(()) => arrange(&mut connection).await.map_err(|error| DatabaseError::Migrate(error.to_string())),
            Err(error) => Err(DatabaseError::Migrate(error.to_string())),
        };
        // What could fail has not: the connection was only needed for its locks.
        let _ = connection.close().await;
        arranged
    }

    pub(super) async fn plan(&self, retention: &Retention) -> Result<Plan, DatabaseError> {
        let applied = self.applied().await.map_err(DatabaseError::Unreachable)?;
        let mut steps = super::pending_steps(&migrator(), &applied);
        let mut connection = self.connect().await.map_err(DatabaseError::Unreachable)?;
        let planned = planned(&mut connection, retention).await;
        let _ = connection.close().await;
        let (more, note) = planned.map_err(|error| DatabaseError::Migrate(error.to_string()))?;
        steps.extend(more.into_iter().map(|step| step.says));
        Ok(Plan { steps, note })
    }

    pub(super) async fn keep_to(&self, retention: &Retention, held: &Held) -> Result<(), DatabaseError> {
        let mut connection = self.connect().await.map_err(DatabaseError::Unreachable)?;
        let kept = keep_to(&mut connection, retention, held).await;
        let _ = connection.close().await;
        kept.map(|_| ()).map_err(|error| DatabaseError::Retain(error.to_string()))
    }

    pub(super) async fn retain(&self, retention: &Retention, held: &Held, now: Timestamp) -> Result<Vec<Removed>, DatabaseError> {
        let mut connection = self.connect().await.map_err(DatabaseError::Unreachable)?;
        let removed = retain(&mut connection, retention, held, now).await;
        let _ = connection.close().await;
        removed.map_err(|error| DatabaseError::Retain(error.to_string()))
    }

    pub(super) async fn create_reader(&self, org: &str, role: &str) -> Result<Reader, ReaderError> {
        let mut connection = self.connect().await.map_err(ReaderError::Database)?;
        let created = readers::create(&mut connection, org, role).await;
        let _ = connection.close().await;
        created
    }

    pub(super) async fn renew_reader(&self, org: &str, role: &str) -> Result<Reader, ReaderError> {
        let mut connection = self.connect().await.map_err(ReaderError::Database)?;
        let renewed = readers::renew(&mut connection, org, role).await;
        let _ = connection.close().await;
        renewed
    }

    pub(super) fn address(&self) -> Address {
        let (host, port) = (self.options.get_host().to_owned(), self.options.get_port());
        let database = self.options.get_database().unwrap_or(self.options.get_username()).to_owned();
        Address { host, port, database }
    }

    pub(super) async fn reader_script(&self, org: &str, role: &str) -> Result<String, ReaderError> {
        let mut connection = self.connect().await.map_err(ReaderError::Database)?;
        let script = readers::script(&mut connection, org, role).await;
        let _ = connection.close().await;
        script
    }

    pub(super) async fn try_to_write(&self) -> Result<(), DatabaseError> {
        for trial in super::TRIALS {
            sqlx::query(trial).execute(&self.pool).await.map_err(|error| DatabaseError::ReadOnly(error.to_string()))?;
        }
        Ok(())
    }

    pub(super) async fn facts(&self) -> Result<Facts, String> {
        const ASK: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::BIGINT, current_setting('server_version'), \
            (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')";
        let mut connection = self.connect().await?;
        let asked = sqlx::query_as::<_, (i64, String, Option<String>)>(ASK).fetch_one(&mut connection).await;
        let (time, version, timescale) = asked.map_err(|error| error.to_string())?;
        let time = Timestamp::from_millisecond(time).map_err(|error| error.to_string())?;
        Ok(Facts { time, version, timescale })
    }

    pub(super) async fn status(&self) -> Status {
        match self.applied().await {
            Ok(applied) => super::pending(&migrator(), &applied),
            Err(reason) => Status::Unreachable(reason),
        }
    }

    async fn applied(&self) -> Result<Vec<i64>, String> {
        let mut connection = self.connect().await?;
        let exists: bool = sqlx::query_scalar("SELECT to_regclass('tollgate_migrations') IS NOT NULL")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
        if !exists {
            return Ok(Vec::new());
        }
        sqlx::query_scalar("SELECT version FROM tollgate_migrations WHERE success")
            .fetch_all(&mut connection)
            .await
            .map_err(|error| error.to_string())
    }

    /// A connection of one's own: unlike the pool it says what is wrong instead of timing out.
    async fn connect(&self) -> Result<PgConnection, String> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.options.connect()).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }
}

/// Arranges what migrations cannot, since it depends on what the server has. One process does so at a time.
async fn arrange(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_lock($1)").bind(ARRANGING).execute(&mut *connection).await?;
    if timescale::find(connection).await? == Found::Available
        && let Err(error) = timescale::take(connection, &timescale::install()).await
    {
        tracing::warn!(error = %error, "TimescaleDB is there but cannot be installed in this database; plain tables do as well");
    }
    if timescale::find(connection).await? == Found::Installed {
        for step in timescale::layout_steps(connection, true).await? {
            tracing::info!(step = step.says, "migrating");
            timescale::take(connection, &step).await?;
        }
    }
    for step in readers::steps(connection).await? {
        timescale::take(connection, &step).await?;
    }
    Ok(())
}

/// What [`arrange`] and then [`keep_to`] would do, and why TimescaleDB is not made use of, if so.
async fn planned(connection: &mut PgConnection, retention: &Retention) -> Result<(Vec<Step>, Option<String>), sqlx::Error> {
    let found = timescale::find(connection).await?;
    let installed = found == Found::Installed;
    let mut steps = match found {
        Found::No(why) => return Ok((readers::steps(connection).await?, Some(format!("{why}: plain tables are used, which do as well")))),
        Found::Available => vec![timescale::install()],
        Found::Installed => Vec::new(),
    };
    steps.extend(timescale::layout_steps(connection, installed).await?);
    steps.extend(readers::steps(connection).await?);
    steps.extend(timescale::retention_steps(connection, installed, retention, &Held::new()).await?);
    Ok((steps, None))
}

/// Answers whether TimescaleDB removes old chunks of its own accord.
async fn keep_to(connection: &mut PgConnection, retention: &Retention, held: &Held) -> Result<bool, sqlx::Error> {
    if timescale::find(connection).await? != Found::Installed || !timescale::layout_steps(connection, true).await?.is_empty() {
        return Ok(false);
    }
    for step in timescale::retention_steps(connection, true, retention, held).await? {
        tracing::info!(step = step.says, "retention");
        timescale::take(connection, &step).await?;
    }
    Ok(true)
}

async fn retain(connection: &mut PgConnection, retention: &Retention, held: &Held, now: Timestamp) -> Result<Vec<Removed>, sqlx::Error> {
    let alone: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(RETAINING).fetch_one(&mut *connection).await?;
    if !alone {
        return Ok(Vec::new());
    }
    let chunks = keep_to(connection, retention, held).await?;
    let mut removed = Vec::new();
    for table in EventTable::ALL {
        let cutoff = timestamptz(retention.cutoff(table, now));
        let whole_chunks = chunks && (held.is_empty() || !table.is_of_orgs());
        let one = match table {
            EventTable::Audit if whole_chunks => drop_chunks(connection, table, cutoff).await?,
            _ if whole_chunks => continue,
            _ => remove(connection, table, cutoff, held).await?,
        };
        removed.push(one);
    }
    Ok(removed)
}

async fn drop_chunks(connection: &mut PgConnection, table: EventTable, cutoff: DateTime<Utc>) -> Result<Removed, sqlx::Error> {
    let dropped = sqlx::query("SELECT drop_chunks($1::REGCLASS, older_than => $2)").bind(table.name()).bind(cutoff);
    Ok(Removed { table, count: dropped.fetch_all(connection).await?.len() as u64, more: false })
}

/// Each round begins where the one before ended, so that rows that are held are passed over once.
async fn remove(connection: &mut PgConnection, table: EventTable, cutoff: DateTime<Utc>, held: &Held) -> Result<Removed, sqlx::Error> {
    let name = table.name();
    let not_held = if table.is_of_orgs() { "(org_id IS NULL OR org_id <> ALL($3))" } else { "$3::TEXT[] IS NOT NULL" };
    let statement = format!(
        "WITH old AS (SELECT id, time FROM {name} WHERE time >= COALESCE($1, '-infinity') AND time < $2 AND {not_held} \
            ORDER BY time LIMIT {REMOVED_AT_ONCE}), \
         gone AS (DELETE FROM {name} USING old WHERE {name}.id = old.id AND {name}.time = old.time RETURNING {name}.time) \
         SELECT COUNT(*), MAX(time) FROM gone"
    );
    let held: Vec<&str> = held.iter().map(AsRef::as_ref).collect();
    let (mut from, mut count) = (None::<DateTime<Utc>>, 0);
    for _ in 0..REMOVED_TIMES {
        let round = sqlx::query_as(AssertSqlSafe(statement.as_str())).bind(from).bind(cutoff).bind(&held);
        let (gone, latest): (i64, Option<DateTime<Utc>>) = round.fetch_one(&mut *connection).await?;
        let gone = usize::try_from(gone).unwrap_or_default();
        count += gone as u64;
        if gone < REMOVED_AT_ONCE {
            return Ok(Removed { table, count, more: false });
        }
        from = latest;
        tokio::time::sleep(REMOVED_PAUSE).await;
    }
    Ok(Removed { table, count, more: true })
}

/// Whether the URL can be read.
pub(super) fn check_url(url: &str) -> Result<(), DatabaseError> {
    options(url).map(|_| ())
}

fn options(url: &str) -> Result<PgConnectOptions, DatabaseError> {
    PgConnectOptions::from_str(url).map_err(|error| DatabaseError::BadUrl(error.to_string()))
}

fn migrator() -> sqlx::migrate::Migrator {
    super::migrator(sqlx::migrate!("migrations/postgres"))
}
