//! `tollgate migrate`: brings the database of the records up to date.

use super::say::say;
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
        Ok((config, _)) => wait_for(async move {
            match migrate_database(&config, migration).await {
                Ok(said) => said,
                Err(error) => failed(&error),
            }
        }),
        Err(exit) => exit,
    }
}

async fn migrate_database(config: &Config, migration: Migration) -> Result<Exit, DatabaseError> {
    let database = Database::open(&database_url(&config.records.url))?;
    let migrated = show_and_migrate(config, &database, migration).await;
    database.close().await;
    migrated
}

async fn show_and_migrate(config: &Config, database: &Database, migration: Migration) -> Result<Exit, DatabaseError> {
    let (place, retention) = (&config.records.url, &config.records.retention);
    let status = database.status().await;
    let standing = match &status {
        Status::Ready => String::new(),
        Status::Unreachable(reason) => return Err(DatabaseError::Unreachable(reason.clone())),
        Status::Missing(_) => format!("{place}: does not exist yet.\n"),
        Status::NotMigrated { pending: 1 } => format!("{place}: 1 migration is not applied yet.\n"),
        Status::NotMigrated { pending } => format!("{place}: {pending} migrations are not applied yet.\n"),
    };
    let plan = database.plan(retention).await?;
    let note = plan.note.iter().map(|note| format!("{place}: {note}.\n")).collect::<String>();
    if plan.steps.is_empty() && status == Status::Ready {
        return Ok(say(&format!("{note}{place}: up to date, nothing to do.\n")));
    }
    let steps = plan.steps.iter().map(|step| format!("  - {step}\n")).collect::<String>();
    // Whether anyone reads it or not, what was begun is done.
    let said = say(&format!("{standing}{note}{steps}"));
    if migration == Migration::Shown {
        return Ok(said.and(say(&format!("{place}: nothing was changed.\n"))));
    }
    database.migrate().await?;
    database.keep_to(retention, &Held::new()).await?;
    Ok(said.and(say(&format!("{place}: migrated.\n"))))
}
