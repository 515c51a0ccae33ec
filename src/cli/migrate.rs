//! `tollgate migrate`: brings the database of the records up to date.

use super::{Exit, Source, failed, wait_for};
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Database, DatabaseError, Status};
use crate::records::retention::Held;

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migration {
    /// What there is to do is shown only.
    Shown,
    /// It is shown and done.
    Done,
}

/// `tollgate migrate`: says what there is to do, and does it. Doing it again changes nothing.
pub fn migrate(source: &Source, migration: Migration) -> Exit {
    match source.load_without_secret() {
        Ok(config) => wait_for(async move {
            match migrate_database(&config, migration).await {
                Ok(()) => Exit::Success,
                Err(error) => failed(&error),
            }
        }),
        Err(exit) => exit,
    }
}

async fn migrate_database(config: &Config, migration: Migration) -> Result<(), DatabaseError> {
    let database = Database::open(&database_url(&config.records.url))?;
    let migrated = show_and_migrate(config, &database, migration).await;
    database.close().await;
    migrated
}

async fn show_and_migrate(config: &Config, database: &Database, migration: Migration) -> Result<(), DatabaseError> {
    let (place, retention) = (&config.records.url, &config.records.retention);
    let status = database.status().await;
    match &status {
        Status::Ready => {}
        Status::Unreachable(reason) => return Err(DatabaseError::Unreachable(reason.clone())),
        Status::Missing(_) => println!("{place}: does not exist yet."),
        Status::NotMigrated { pending: 1 } => println!("{place}: 1 migration is not applied yet."),
        Status::NotMigrated { pending } => println!("{place}: {pending} migrations are not applied yet."),
    }
    let plan = database.plan(retention).await?;
    plan.note.iter().for_each(|note| println!("{place}: {note}."));
    if plan.steps.is_empty() && status == Status::Ready {
        println!("{place}: up to date, nothing to do.");
        return Ok(());
    }
    plan.steps.iter().for_each(|step| println!("  - {step}"));
    if migration == Migration::Shown {
        println!("{place}: nothing was changed.");
        return Ok(());
    }
    database.migrate().await?;
    database.keep_to(retention, &Held::new()).await?;
    println!("{place}: migrated.");
    Ok(())
}
