//! `[system]`: how the machine is watched.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::errors::Errors;
use super::values::{bounded, seconds_or_zero};
use crate::telemetry::system::pressure::Thresholds;

/// How the machine is watched.
#[derive(Debug, Clone)]
pub struct System {
    /// What rows call this machine; its own name when left out.
    pub server: Option<Arc<str>>,
    /// Where warnings begin.
    pub thresholds: Thresholds,
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemKeys {
    server: Option<Arc<str>>,
    #[serde(deserialize_with = "percent")]
    cpu_warning_percent: u8,
    #[serde(deserialize_with = "percent")]
    cpu_critical_percent: u8,
    #[serde(deserialize_with = "percent")]
    memory_warning_percent: u8,
    #[serde(deserialize_with = "percent")]
    memory_critical_percent: u8,
    #[serde(deserialize_with = "percent")]
    hysteresis_points: u8,
    #[serde(rename = "sustained_seconds", deserialize_with = "seconds_or_zero")]
    sustained: Duration,
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = bounded(u64::deserialize(deserializer)?, 100)?;
    u8::try_from(number).map_err(serde::de::Error::custom)
}

/// The longest name of a server, in bytes.
const LONGEST_NAME: usize = 100;

/// Checks what the keys have to do with each other.
pub(super) fn check(keys: SystemKeys, errors: &mut Errors) -> System {
    let name_is_good = |name: &str| !name.trim().is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control);
    if keys.server.as_deref().is_some_and(|name| !name_is_good(name)) {
        errors.add("system.server", format!("not empty, at most {LONGEST_NAME} bytes, and without control characters"));
    }
    for (part, warning, critical) in [
        ("cpu", keys.cpu_warning_percent, keys.cpu_critical_percent),
        ("memory", keys.memory_warning_percent, keys.memory_critical_percent),
    ] {
        if warning > critical {
            errors.add(format!("system.{part}_warning_percent"), format!("{warning} is above {part}_critical_percent = {critical}"));
        }
        if warning < keys.hysteresis_points {
            let points = keys.hysteresis_points;
            errors.add("system.hysteresis_points", format!("{points} is more than {part}_warning_percent = {warning}: it would never end"));
        }
    }
    System {
        server: keys.server,
        thresholds: Thresholds {
            cpu_warning_percent: keys.cpu_warning_percent,
            cpu_critical_percent: keys.cpu_critical_percent,
            memory_warning_percent: keys.memory_warning_percent,
            memory_critical_percent: keys.memory_critical_percent,
            hysteresis_points: keys.hysteresis_points,
            sustained: keys.sustained,
        },
    }
}
