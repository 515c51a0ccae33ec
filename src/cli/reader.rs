//! `tollgate reader`: roles of the database that see one org only.

use super::say::{complain, say};
use super::{Exit, Source, failed, wait_for};
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Database, Reader, ReaderError};

/// Who is to read what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The org.
    pub org: String,
    /// The role's name; one made of the org's id where none is given.
    pub role: Option<String>,
    /// What is done.
    pub making: Making,
}

/// What is done with the statements that make a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Making {
    /// They are printed, for whoever may run them.
    Printed,
    /// They are run.
    Done,
}

/// `tollgate reader create`: makes a role that reads one org's rows. Doing it again changes nothing.
pub fn create_reader(source: &Source, wanted: &Wanted) -> Exit {
    let config = match source.load_with_orgs() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    if !config.orgs.iter().any(|org| *org.id == *wanted.org) {
        complain(&format_args!("there is no org `{}`", wanted.org));
        return Exit::Configuration;
    }
    wait_for(async move {
        match create(&config, wanted).await {
            Ok(text) => say(&format!("{text}\n")),
            Err(error) => failed(&error),
        }
    })
}

async fn create(config: &Config, wanted: &Wanted) -> Result<String, ReaderError> {
    let database = Database::open(&database_url(&config.records.url)).map_err(|error| ReaderError::Database(error.to_string()))?;
    let made = match wanted.making {
        Making::Printed => database.reader_script(&wanted.org, wanted.role.as_deref()).await,
        Making::Done => database.create_reader(&wanted.org, wanted.role.as_deref()).await.map(|reader| told(&wanted.org, &reader)),
    };
    database.close().await;
    made
}

fn told(org: &str, reader: &Reader) -> String {
    let Reader { role, password } = reader;
    match password {
        Some(password) => {
            format!(
                "The role {role} reads the rows of {org}, in the schema tollgate_reader.\nIts password, which is shown once: {password}"
            )
        }
        None => format!("The role {role} reads the rows of {org}, in the schema tollgate_reader. It was there already."),
    }
}
