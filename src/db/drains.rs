//! The LibreChats that an operator has drained. Every Tollgate on the same database reads it with its health checks.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::held::{Held, SOON, within};
use super::{Database, Kind};
use crate::records::ReadError;
use crate::records::postgres::timestamptz;
use crate::records::sqlite::sortable;

const READ: &str = "SELECT name FROM drained_upstreams";
const DRAIN: &str = "INSERT INTO drained_upstreams (name, since) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
const UNDRAIN: &str = "DELETE FROM drained_upstreams WHERE name = $1";

impl Database {
    /// The names of the LibreChats that are drained.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn drained_upstreams(&self) -> Result<BTreeSet<String>, ReadError> {
        let names: Vec<String> = match &self.0 {
            Kind::Sqlite(sqlite) => sqlx::query_scalar(READ).fetch_all(&sqlite.pool).await.map_err(away)?,
            Kind::Postgres(postgres) => {
                let mut held = Held::of(&postgres.pool).await.map_err(away)?;
                let names = within(SOON, sqlx::query_scalar(READ).fetch_all(&mut *held)).await.map_err(away)?;
                held.done();
                names
            }
        };
        Ok(names.into_iter().collect())
    }

    /// Drains a LibreChat, whether it was drained before or not.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn drain_upstream(&self, name: &str, now: Timestamp) -> Result<(), ReadError> {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlx::query(DRAIN).bind(name).bind(sortable(now)).execute(&sqlite.pool).await.map(|_| ()),
            Kind::Postgres(postgres) => sqlx::query(DRAIN).bind(name).bind(timestamptz(now)).execute(&postgres.pool).await.map(|_| ()),
        }
        .map_err(away)
    }

    /// Lets a LibreChat take people again.
    ///
    /// # Errors
    ///
    /// Where the database does not answer.
    pub async fn undrain_upstream(&self, name: &str) -> Result<(), ReadError> {
        match &self.0 {
            Kind::Sqlite(sqlite) => sqlx::query(UNDRAIN).bind(name).execute(&sqlite.pool).await.map(|_| ()),
            Kind::Postgres(postgres) => sqlx::query(UNDRAIN).bind(name).execute(&postgres.pool).await.map(|_| ()),
        }
        .map_err(away)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
fn away(error: sqlx::Error) -> ReadError {
    ReadError::Unavailable(error.to_string().into())
}
