//! `[log]`, `[runtime]`, `[shutdown]` and `[insecure]`: the process itself.

use std::time::Duration;

use crate::telemetry::log::Format;
use serde::Deserialize;
use serde::de::Deserializer;

use super::values::{bounded, seconds_or_zero};

/// The log, on standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// The least important lines that are written.
    pub level: LogLevel,
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
}

fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    bounded(u64::deserialize(deserializer)?, 1024)
}
