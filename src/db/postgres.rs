//! Opening and migrating a PostgreSQL database.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::{DatabaseError, Status};

/// How long a new connection, or a free one, is waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections for reading: the admin API, `explain`, rebuilding counters. The writer has one of its own.
const READERS: u32 = 4;

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
        // What could fail has not: the connection was only needed for its lock.
        let _ = connection.close().await;
        migrated.map_err(|error| DatabaseError::Migrate(error.to_string()))
    }

    pub(super) async fn try_to_write(&self) -> Result<(), DatabaseError> {
        for trial in super::TRIALS {
            sqlx::query(trial).execute(&self.pool).await.map_err(|error| DatabaseError::ReadOnly(error.to_string()))?;
        }
        Ok(())
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
