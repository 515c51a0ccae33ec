//! The commands behind `main`: one function each, from plain arguments to how the process ends.
//!
//! What a command was asked for goes to standard output; what went wrong to standard error.

mod audit;
mod check;
mod columns;
mod directory;
mod doctor;
mod explain;
mod export;
mod grafana;
mod import;
mod keys;
mod ledger;
mod limits;
mod live;
mod lockouts;
mod logins;
mod member;
mod migrate;
mod noted;
mod observe;
mod parquet_file;
mod progress;
mod reader;
mod rebuild;
mod reprice;
mod say;
mod session;
mod spreadsheet;
mod statement;
mod table;
mod upstream;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

pub use audit::{AuditAsked, audit_public_key, verify_audit};
pub use check::{check, describe, errors};
pub use directory::{Change, MembersOf, change_member, change_org, list_members, list_orgs};
pub use doctor::{DoctorAsked, doctor};
pub use explain::explain;
pub use export::{ExportAsked, ExportFormat, Exported, export};
pub use grafana::{Password, ProvisionAsked, provision_grafana};
pub use import::{ImportAsked, import_members, import_orgs};
pub use keys::{KeyAsked, create_key, list_keys, revoke_key};
pub use limits::{Asked, explain_limits};
pub use live::check_live;
pub use lockouts::{list_lockouts, open_lockout};
pub use logins::member_logins;
pub use member::erase_member;
pub use migrate::{Migration, migrate};
pub use observe::{Observation, list_observed, observe};
pub use reader::{Making, Wanted, create_reader};
pub use rebuild::{RebuildAsked, rebuild};
pub use reprice::{RepriceAsked, reprice};
pub(crate) use say::complain;
pub use session::{SessionsOf, list_sessions, revoke_sessions};
pub use statement::{StatementAsked, StatementFormat, statement};
pub use upstream::{drain_upstream, list_upstreams, undrain_upstream};

use crate::clock::SystemClock;
use crate::config::{Config, ConfigErrors};
use crate::serve::{self, Signals, StartError};
use crate::telemetry::log;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything is as it should be: status 0.
    Success,
    /// Something went wrong, which was said on standard error: status 1.
    Failure,
    /// The command line or the configuration is wrong: status 64, which is `EX_USAGE` of `sysexits.h`.
    Configuration,
}

impl Exit {
    /// The status of two things of which both were done: the first that is not a success.
    fn and(self, other: Self) -> Self {
        if self == Self::Success { other } else { self }
    }

    /// The status of the process.
    pub fn status(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Configuration => 64,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

/// How a command shows what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object, for programs.
    Json,
}

/// Where the configuration comes from. Not to be printed: the environment holds secrets.
#[derive(Clone, Default)]
pub struct Source {
    /// The file; without one the built-in defaults and the environment apply.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
}

impl Source {
    /// The configuration, or why not on standard error.
    fn load(&self) -> Result<Config, Exit> {
        self.read().map_err(|errors| {
            say::complain_aloud(&check::errors(&errors));
            Exit::Configuration
        })
    }

    /// The configuration for a command that can do without LibreChat's secret and that of accounts: where nothing but those is
    /// missing, stand-ins take their place that sign nothing LibreChat or a running Tollgate would accept.
    fn load_without_secret(&self) -> Result<(Config, SecretIs), Exit> {
        match self.read() {
            Err(errors) if !errors.missing_secrets().is_empty() => {
                let missing = errors.missing_secrets();
                let variable = |path: &&str| format!("TOLLGATE_{}", path.to_uppercase().replace('.', "__"));
                let stand_ins = missing.iter().map(|path| (variable(path), uuid::Uuid::new_v4().to_string()));
                let environment = self.environment.iter().cloned().chain(stand_ins).collect();
                let secret = if missing.contains(&"librechat.jwt_secret") { SecretIs::Missing } else { SecretIs::Given };
                Ok((Self { file: self.file.clone(), environment }.load()?, secret))
            }
            _ => Ok((self.load()?, SecretIs::Given)),
        }
    }

    /// The same, with the orgs that only the directory knows, for commands that name one. Where the database is away, those of
    /// the configuration are all there are, and whatever needs the database says so itself.
    fn load_with_orgs(&self) -> Result<(Config, SecretIs), Exit> {
        let (mut config, secret) = self.load_without_secret()?;
        let mut orgs = Vec::new();
        wait_for(async {
            if let Ok(opened) = ledger::Opened::open(&config).await {
                orgs = opened.directory().orgs().await.unwrap_or_default();
                opened.close().await;
            }
            Exit::Success
        });
        for org in orgs {
            if config.orgs.iter().all(|configured| configured.id != org.id) {
                config.orgs.push(org);
            }
        }
        Ok((config, secret))
    }

    fn read(&self) -> Result<Config, ConfigErrors> {
        Config::load(self.file.as_deref(), self.environment.iter().cloned())
    }
}

/// Whether LibreChat's secret is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SecretIs {
    Given,
    /// A stand-in took its place.
    Missing,
}

/// Whether the demo goes on after its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoEnd {
    /// It stays up until it is interrupted.
    StayUp,
    /// It ends, and fails if anything was not as it should be.
    Once,
}

/// `tollgate serve`: runs until SIGTERM or SIGINT.
pub fn serve(source: &Source) -> Exit {
    let config = match source.load() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let log = match log::install(config.log.format, config.log.level.level()) {
        Ok(log) => log,
        Err(error) => return failed(&error),
    };
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    log_configuration(source, &config);
    let running = match serve::start_unless_stopped(config, Arc::new(SystemClock), &signals) {
        Ok(running) => running,
        Err(error @ StartError::Stopped) => {
            tracing::info!("{error}");
            return Exit::Success;
        }
        Err(StartError::Build(error)) if error.is_configuration() => return misconfigured(&error),
        Err(error) => return failed(&error),
    };
    if let Some(rows) = running.app.row_log.as_ref().filter(|_| running.app.config.log.files.process) {
        log.send_to(rows.files().clone());
    }
    let first = wait_for(async {
        signals.nth(1).await;
        Exit::Success
    });
    if running.stop_or_hurry(&signals) { first } else { Exit::Failure }
}

/// What it is started with, so that the log alone tells it. Shows no password.
fn log_configuration(source: &Source, config: &Config) {
    tracing::info!(
        config.file = source.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string()),
        store = %config.store.url,
        records = %config.records.url,
        prices = config.prices.shown(),
        orgs = config.orgs.len(),
        limits = config.limits.len(),
        issuers = config.issuers.len(),
        "starting"
    );
}

/// `tollgate demo`: Tollgate in front of a scripted LibreChat, with a short conversation.
#[cfg(feature = "demo")]
pub fn demo(end: DemoEnd) -> Exit {
    crate::demo::run(end)
}

fn failed(error: &dyn std::fmt::Display) -> Exit {
    complain(error);
    Exit::Failure
}

fn misconfigured(error: &dyn std::fmt::Display) -> Exit {
    complain(error);
    Exit::Configuration
}

/// Runs what waits for others.
fn wait_for(command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => failed(&format_args!("the runtime cannot be started: {error}")),
    }
}
