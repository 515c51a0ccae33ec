//! `tollgate migrate`: brings the database of the records up to date.

use super::{Exit, Source, failed, wait_for};
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Database, DatabaseError, Status};

/// `tollgate migrate`: says what is pending, and does it. Doing it again changes nothing.
pub fn migrate(source: &Source) -> Exit {
    match source.load_without_secret() {
        Ok(config) => wait_for(async move {
            match migrate_database(&config).await {
                Ok(()) => Exit::Success,
                Err(error) => failed(&error),
            }
        }),
        Err(exit) => exit,
    }
}

async fn migrate_database(config: &Config) -> Result<(), DatabaseError> {
    let database = Database::open(&database_url(&config.records.url))?;
    let place = &config.records.url;
    match database.status().await {
        Status::Ready => {
            println!("{place}: up to date, nothing to do.");
            database.close().await;
            return Ok(());
        }
        Status::Unreachable(reason) => return Err(DatabaseError::Unreachable(reason)),
        Status::Missing(_) => println!("{place}: does not exist yet."),
        Status::NotMigrated { pending: 1 } => println!("{place}: 1 migration is not applied yet."),
        Status::NotMigrated { pending } => println!("{place}: {pending} migrations are not applied yet."),
    }
    let migrated = database.migrate().await;
    database.close().await;
    migrated?;
    println!("{place}: migrated.");
    Ok(())
}
