//! `tollgate migrate`: brings the database of the records up to date.

use super::say::say;
use super::{Exit, Source, failed, wait_for};
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Database, DatabaseError, Status};

/// `tollgate migrate`: says what is pending, and does it. Doing it again changes nothing.
pub fn migrate(source: &Source) -> Exit {
    match source.load_without_secret() {
        Ok((config, _)) => wait_for(async move {
            match migrate_database(&config).await {
                Ok(said) => said,
                Err(error) => failed(&error),
            }
        }),
        Err(exit) => exit,
    }
}

async fn migrate_database(config: &Config) -> Result<Exit, DatabaseError> {
    let database = Database::open(&database_url(&config.records.url))?;
    let place = &config.records.url;
    // Whether anyone reads it or not, what was begun is done.
    let said = match database.status().await {
        Status::Ready => {
            database.close().await;
            return Ok(say(&format!("{place}: up to date, nothing to do.\n")));
        }
        Status::Unreachable(reason) => return Err(DatabaseError::Unreachable(reason)),
        Status::Missing(_) => say(&format!("{place}: does not exist yet.\n")),
        Status::NotMigrated { pending: 1 } => say(&format!("{place}: 1 migration is not applied yet.\n")),
        Status::NotMigrated { pending } => say(&format!("{place}: {pending} migrations are not applied yet.\n")),
    };
    let migrated = database.migrate().await;
    database.close().await;
    migrated?;
    Ok(said.and(say(&format!("{place}: migrated.\n"))))
}
