//! The commands behind `main`: one function each, from plain arguments to how the process ends.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::config::{Config, ConfigErrors};
use crate::serve::{self, StartError};
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

/// Whether the demo goes on after its conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoEnd {
    /// It stays up until it is interrupted.
    StayUp,
    /// It ends, and fails if anything was not as it should be.
    Once,
}

/// `tollgate serve`: runs until SIGTERM or SIGINT.
pub fn serve(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Exit {
    let config = match load(file, environment) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(error) = log::install(config.log.format, config.log.level.as_str()) {
        return failed(&error);
    }
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let running = match serve::start(config, Arc::new(SystemClock)) {
        Ok(running) => running,
        Err(StartError::Build(error)) if error.is_configuration() => {
            eprintln!("tollgate: {error}");
            return Exit::Configuration;
        }
        Err(error) => return failed(&error),
    };
    running.wait_for_signal();
    if running.stop() { Exit::Success } else { Exit::Failure }
}

fn failed(error: &dyn std::error::Error) -> Exit {
    eprintln!("tollgate: {error}");
    Exit::Failure
}

/// `tollgate check`: says whether the configuration is good, and what it amounts to.
pub fn check(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Exit {
    match load(file, environment) {
        Ok(config) => {
            print!("{}", describe(&config));
            Exit::Success
        }
        Err(exit) => exit,
    }
}

/// `tollgate check --live`: also tries LibreChat (as the user with this id, if given), the store and the database.
pub fn check_live(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>, user: Option<&str>) -> Exit {
    let _ = user;
    match check(file, environment) {
        Exit::Success => not_available("check --live"),
        exit => exit,
    }
}

/// `tollgate demo`: Tollgate in front of a scripted LibreChat, with a short conversation.
#[cfg(feature = "demo")]
pub fn demo(end: DemoEnd) -> Exit {
    crate::demo::run(end)
}

/// `tollgate limits explain`: every limit that applies to a member, why, and what is left of it.
pub fn explain_limits(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>, org: &str, member: &str) -> Exit {
    let _ = (org, member);
    match load(file, environment) {
        Ok(_config) => not_available("limits explain"),
        Err(exit) => exit,
    }
}

/// `tollgate explain`: the whole decision behind the reference of a refusal.
pub fn explain(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>, reference: &str) -> Exit {
    let _ = reference;
    match load(file, environment) {
        Ok(_config) => not_available("explain"),
        Err(exit) => exit,
    }
}

/// `tollgate migrate`: brings the database of the records up to date.
pub fn migrate(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Exit {
    match load(file, environment) {
        Ok(_config) => not_available("migrate"),
        Err(exit) => exit,
    }
}

/// The configuration, or why not on standard error.
fn load(file: Option<&Path>, environment: impl Iterator<Item = (String, String)>) -> Result<Config, Exit> {
    Config::load(file, environment).map_err(|errors| {
        eprint!("{}", complain(&errors));
        Exit::Configuration
    })
}

fn not_available(command: &str) -> Exit {
    eprintln!("tollgate: {command} is not available in this build step");
    Exit::Failure
}

/// What is wrong with a configuration, as standard error shows it.
pub fn complain(errors: &ConfigErrors) -> String {
    let count = errors.iter().count();
    let mut text = format!("tollgate: the configuration has {count} {}:\n", if count == 1 { "error" } else { "errors" });
    for error in errors.iter() {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {error}");
    }
    text
}

/// What a good configuration amounts to, and what in it is probably not meant. Shows no secret.
pub fn describe(config: &Config) -> String {
    let Config { public, admin, metrics, librechat, store, records, .. } = config;
    let prices = config.prices.file.as_ref().map_or_else(|| "built in".to_owned(), |file| file.display().to_string());
    let org_names = config.orgs.iter().map(|org| &*org.id).collect::<Vec<_>>().join(", ");
    let lines = [
        "The configuration is good.".to_owned(),
        format!("  listens    public {}, admin {}, metrics {}", public.listen, admin.listen, metrics.listen),
        format!("  LibreChat  {}", librechat.upstream),
        format!("  store      {}", store.url),
        format!("  records    {}", records.url),
        format!("  prices     {prices}"),
        format!("  orgs       {}{}{org_names}", config.orgs.len(), if org_names.is_empty() { "" } else { ": " }),
        format!("  issuers    {}", config.issuers.len()),
        format!("  limits     {}", config.limits.len()),
    ];
    let warnings = config.warnings.iter().map(|warning| format!("Warning: {warning}"));
    lines.into_iter().chain(warnings).map(|line| line + "\n").collect()
}
