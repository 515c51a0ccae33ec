//! `[logins]`: signing in with LibreChat's own accounts.

use std::time::Duration;

use serde::Deserialize;
use serde::de::Deserializer;

use super::errors::Errors;
use super::values::{at_least_one, bounded, minutes, seconds};
use crate::identity::logins::LoginSettings;
use crate::limits::OnFailure;

/// The most failures that may be allowed; more are no protection.
const MOST_FAILURES: usize = 1_000;

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoginsKeys {
    watch: bool,
    #[serde(deserialize_with = "failures")]
    failures: u32,
    #[serde(rename = "window_minutes", deserialize_with = "minutes")]
    window: Duration,
    #[serde(rename = "lock_minutes", deserialize_with = "minutes")]
    lock: Duration,
    #[serde(rename = "max_lock_minutes", deserialize_with = "minutes")]
    max_lock: Duration,
    #[serde(rename = "remember_minutes", deserialize_with = "minutes")]
    remembered: Duration,
    #[serde(deserialize_with = "failures_or_none")]
    address_failures: Option<u32>,
    #[serde(rename = "address_wait_seconds", deserialize_with = "seconds")]
    address_wait: Duration,
    #[serde(rename = "address_max_wait_seconds", deserialize_with = "seconds")]
    address_max_wait: Duration,
    known_place_days: u16,
    on_failure: Option<OnFailure>,
}

fn failures<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    some_failures(at_least_one(deserializer)?)
}

fn failures_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match u64::deserialize(deserializer)? {
        0 => Ok(None),
        number => some_failures(number).map(Some),
    }
}

fn some_failures<E: serde::de::Error>(number: u64) -> Result<u32, E> {
    bounded(number, MOST_FAILURES).and_then(|number| u32::try_from(number).map_err(E::custom))
}

/// Checks the section. Nothing where sign-ins are not watched.
pub(super) fn check(keys: &LoginsKeys, store_on_failure: OnFailure, errors: &mut Errors) -> Option<LoginSettings> {
    if keys.max_lock < keys.lock {
        errors.add("logins.max_lock_minutes", "is less than logins.lock_minutes; at least that long");
    }
    if keys.address_max_wait < keys.address_wait {
        errors.add("logins.address_max_wait_seconds", "is less than logins.address_wait_seconds; at least that long");
    }
    keys.watch.then(|| LoginSettings {
        failures: keys.failures,
        window: keys.window,
        lock: keys.lock,
        max_lock: keys.max_lock,
        remembered: keys.remembered,
        address_failures: keys.address_failures,
        address_wait: keys.address_wait,
        address_max_wait: keys.address_max_wait,
        known_place: Duration::from_hours(24 * u64::from(keys.known_place_days)),
        on_failure: keys.on_failure.unwrap_or(store_on_failure),
    })
}
