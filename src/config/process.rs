//! `[log]`, `[runtime]`, `[shutdown]` and `[insecure]`: the process itself.

use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::errors::Errors;
use super::values::{at_least_one, bounded, seconds_or_zero};
use crate::records::row_log::PersonalFields;
use crate::telemetry::log::Format;
use crate::telemetry::log_files;

/// The log, on standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// The least important lines that are written.
    pub level: LogLevel,
    /// Files that rows are written to as well.
    pub files: LogFiles,
}

/// Files that rows are written to as lines, besides the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFiles {
    /// The folder they are in; there are none without one.
    pub folder: Option<PathBuf>,
    /// Whose days they are.
    #[serde(deserialize_with = "time_zone")]
    pub time_zone: TimeZone,
    /// How many are kept.
    #[serde(deserialize_with = "files")]
    pub keep: usize,
    /// How personal fields of audit rows stand there.
    pub personal_fields: PersonalFields,
    /// Whether the process's own log goes there too.
    pub process: bool,
}

impl LogFiles {
    /// What writes them, where they are wanted.
    pub fn settings(&self) -> Option<log_files::Settings> {
        let folder = self.folder.clone()?;
        Some(log_files::Settings { folder, zone: self.time_zone.clone(), keep: self.keep })
    }
}

/// Checks what only the folder itself can tell.
pub(super) fn check(log: &Log, errors: &mut Errors) {
    if let Some(folder) = log.files.folder.as_ref().filter(|folder| !folder.is_dir()) {
        errors.add("log.files.folder", format!("{} is no folder; make it, or name another", folder.display()));
    }
}

fn time_zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    TimeZone::get(&name).ok().filter(|zone| !zone.is_unknown()).ok_or_else(|| {
        D::Error::custom(format!("\"{name}\" is no time zone; allowed: IANA names such as Asia/Seoul, Europe/Berlin or UTC"))
    })
}

fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(at_least_one(deserializer)?, 10_000)
}

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Someone must look.
    Error,
    /// Something is not as it should be.
    Warn,
    /// What happened.
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The same, as [`crate::telemetry::log::install`] takes it.
    pub fn level(self) -> tracing::Level {
        match self {
            Self::Error => tracing::Level::ERROR,
            Self::Warn => tracing::Level::WARN,
            Self::Info => tracing::Level::INFO,
            Self::Debug => tracing::Level::DEBUG,
            Self::Trace => tracing::Level::TRACE,
        }
    }
}

/// Threads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Threads that proxy; 0 takes one for each core.
    #[serde(deserialize_with = "threads")]
    pub threads: usize,
}

/// Stopping.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long running streams may go on after SIGTERM.
    #[serde(rename = "grace_seconds", deserialize_with = "seconds_or_zero")]
    pub grace: Duration,
}

/// Switches that give up a protection; all off by default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Insecure {
    /// Accept signing secrets of fewer than 16 bytes.
    pub short_secrets: bool,
    /// Fetch issuers' keys over plain http, also from other machines.
    pub keys_over_http: bool,
    /// Sign people in by a token in the address.
    pub token_in_url: bool,
}

fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(u64::deserialize(deserializer)?, 1024)
}
