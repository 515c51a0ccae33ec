//! `tollgate grafana provision`: an org's own Grafana organization, with a data source that sees this org and no other.
//!
//! Three files are written, which Grafana reads when it starts: the data source, the dashboards, and, readable by its owner
//! alone, the password that the data source names the file of. Nobody need ever see it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::say::{complain, say};
use super::{Exit, Source, failed, wait_for};
use crate::app::database_url;
use crate::config::Config;
use crate::db::{Address, Database, Reader, ReaderError};

/// What is to be written, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvisionAsked {
    /// The org.
    pub org: String,
    /// The number of the organization in Grafana, which is there already.
    pub grafana_org: u32,
    /// The reader's name; one made of the org's id where none is given.
    pub role: Option<String>,
    /// Grafana's provisioning folder, as it is reached from here.
    pub folder: PathBuf,
    /// The same folder, as Grafana sees it.
    pub seen_as: String,
    /// The folder of the dashboards for orgs, as Grafana sees it.
    pub dashboards: String,
    /// The database as Grafana reaches it, `host:port`; where it is for Tollgate when left out.
    pub database: Option<String>,
    /// Grafana's `sslmode`.
    pub ssl_mode: String,
    /// What becomes of a password that the reader has.
    pub password: Password,
}

/// What becomes of a reader's password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Password {
    /// It stays, and must be in its file.
    Kept,
    /// It is another one from now on.
    New,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, thiserror::Error)]
enum ProvisionError {
    #[error(transparent)]
    Reader(#[from] ReaderError),
    #[error("{path}: {error}")]
    File { path: PathBuf, error: io::Error },
    #[error("the role {role} is there, and its password is not in {path}: --new-password gives it another")]
    PasswordIsElsewhere { role: String, path: PathBuf },
    #[error("{0} provisions Grafana's organization {1} for another org, and each needs its own")]
    Taken(PathBuf, u32),
    #[error("the id of the org cannot be part of a file's name")]
    OddId,
}

/// `tollgate grafana provision`. Doing it again changes nothing.
pub fn provision_grafana(source: &Source, asked: &ProvisionAsked) -> Exit {
    let config = match source.load_with_orgs() {
        Ok((config, _)) => config,
        Err(exit) => return exit,
    };
    let Some(org) = config.orgs.iter().find(|org| *org.id == *asked.org) else {
        complain(&format_args!("there is no org `{}`", asked.org));
        return Exit::Configuration;
    };
    let name = org.name.to_string();
    wait_for(async {
        match provision(&config, &name, asked).await {
            Ok(text) => say(&text),
            Err(error) => failed(&error),
        }
    })
}

async fn provision(config: &Config, name: &str, asked: &ProvisionAsked) -> Result<String, ProvisionError> {
    let files = Files::of(asked)?;
    files.nobody_else_has_this_organization(asked)?;
    let database = Database::open(&database_url(&config.records.url)).map_err(|error| ReaderError::Database(error.to_string()))?;
    let address = database.address().ok_or(ReaderError::NoRoles)?;
    let made = reader(&database, asked, &files).await;
    database.close().await;
    let reader = made?;
    for (path, text) in [(&files.source, source_of(name, asked, &reader.role, &address)), (&files.dashboards, provider_of(asked))] {
        write(path, &text, 0o644)?;
    }
    Ok(told(&files, asked, &reader))
}

/// The reader, whose password stands in its file afterwards.
async fn reader(database: &Database, asked: &ProvisionAsked, files: &Files) -> Result<Reader, ProvisionError> {
    let (org, role) = (asked.org.as_str(), asked.role.as_deref());
    let reader = match asked.password {
        Password::Kept => database.create_reader(org, role).await?,
        Password::New => database.renew_reader(org, role).await?,
    };
    match &reader.password {
        Some(password) => write(&files.password, &format!("{password}\n"), 0o600)?,
        None if !files.password.exists() => {
            return Err(ProvisionError::PasswordIsElsewhere { role: reader.role, path: files.password.clone() });
        }
        None => {}
    }
    Ok(reader)
}

/// What is written, by org.
struct Files {
    source: PathBuf,
    dashboards: PathBuf,
    password: PathBuf,
}

impl Files {
    fn of(asked: &ProvisionAsked) -> Result<Self, ProvisionError> {
        // Ids of the configuration are so anyway; the directory may hold others.
        if !asked.org.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) {
            return Err(ProvisionError::OddId);
        }
        let file = |folder: &str, ending: &str| asked.folder.join(folder).join(format!("org-{}.{ending}", asked.org));
        Ok(Self { source: file("datasources", "yml"), dashboards: file("dashboards", "yml"), password: file("secrets", "password") })
    }

    /// Of two data sources of one organization with one uid the later would win, and show its org to the other's admins.
    fn nobody_else_has_this_organization(&self, asked: &ProvisionAsked) -> Result<(), ProvisionError> {
        let wanted = format!("    orgId: {}", asked.grafana_org);
        for entry in fs::read_dir(asked.folder.join("datasources")).into_iter().flatten().flatten() {
            let path = entry.path();
            let text = fs::read_to_string(&path).unwrap_or_default();
            if path != self.source && text.lines().any(|line| line == wanted) {
                return Err(ProvisionError::Taken(path, asked.grafana_org));
            }
        }
        Ok(())
    }
}

/// The data source. Its uid is the one that the dashboards name: an organization has uids of its own.
fn source_of(name: &str, asked: &ProvisionAsked, role: &str, address: &Address) -> String {
    let at = asked.database.clone().unwrap_or_else(|| format!("{}:{}", address.host, address.port));
    format!(
        "# Made by `tollgate grafana provision --org {org}`: what admins of this org see, by a role that reads this org alone.\n\
         apiVersion: 1\n\
         datasources:\n  \
           - name: {name}\n    \
             uid: timescaledb\n    \
             orgId: {number}\n    \
             type: postgres\n    \
             access: proxy\n    \
             url: {at}\n    \
             user: {role}\n    \
             isDefault: true\n    \
             editable: false\n    \
             jsonData:\n      \
               database: {database}\n      \
               sslmode: {ssl_mode}\n      \
               postgresVersion: 1600\n      \
               timescaledb: false\n      \
               maxOpenConns: 8\n    \
             secureJsonData:\n      \
               password: $__file{{{seen_as}/secrets/org-{org}.password}}\n",
        org = asked.org,
        name = quoted(&format!("Tollgate {name}")),
        number = asked.grafana_org,
        at = quoted(&at),
        role = quoted(role),
        database = quoted(&address.database),
        ssl_mode = quoted(&asked.ssl_mode),
        seen_as = asked.seen_as.trim_end_matches('/'),
    )
}

fn provider_of(asked: &ProvisionAsked) -> String {
    format!(
        "# Made by `tollgate grafana provision --org {org}`: the dashboards that admins of this org see.\n\
         apiVersion: 1\n\
         providers:\n  \
           - name: tollgate-{org}\n    \
             orgId: {number}\n    \
             folder: Tollgate\n    \
             type: file\n    \
             allowUiUpdates: false\n    \
             updateIntervalSeconds: 30\n    \
             options:\n      \
               path: {path}\n",
        org = asked.org,
        number = asked.grafana_org,
        path = quoted(&asked.dashboards),
    )
}

/// As YAML, and past Grafana, which takes what follows a dollar for a variable.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''").replace('$', "$$").replace(['\n', '\r'], " "))
}

/// Writes a file with these rights. It has its name once it is whole.
fn write(path: &Path, text: &str, rights: u32) -> Result<(), ProvisionError> {
    let failed = |error| ProvisionError::File { path: path.to_owned(), error };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(rights).open(&draft).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path)).map_err(failed)
}

fn told(files: &Files, asked: &ProvisionAsked, reader: &Reader) -> String {
    format!(
        "{}\n{}\n{}\nThe role {} reads the rows of {} alone. Its password is in the last of these files, for its owner alone, who must be\n\
         the user that Grafana runs as (in the official image 472). Grafana reads all three when it starts, and does not start\n\
         where it cannot, or has no organization {}.\n",
        files.source.display(),
        files.dashboards.display(),
        files.password.display(),
        reader.role,
        asked.org,
        asked.grafana_org
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_org_is_read_as_yaml_or_as_a_variable() {
        assert_eq!(quoted("O'Neil: \"a\" # $HOME"), "'O''Neil: \"a\" # $$HOME'");
        assert_eq!(quoted("a\nb: c"), "'a b: c'");
    }
}
