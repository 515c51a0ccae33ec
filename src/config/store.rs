//! `[store]`: where counters and reservations live.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::errors::Errors;
use super::secret::{Secret, resolve};
use super::urls::{host_of, server_of};
use super::values::{milliseconds, seconds_or_zero};
use crate::limits::OnFailure;

/// Where counters and reservations live.
#[derive(Debug, Clone)]
pub struct Store {
    /// Which store.
    pub url: StoreUrl,
    /// What happens to a chat when it does not answer, for limits that do not say it themselves.
    pub on_failure: OnFailure,
    /// How long connecting to it, and each answer of it, may take.
    pub timeout: Duration,
    /// How often counters are compared with the usage rows; never where it is zero.
    pub reconcile_every: Duration,
    /// What its keys begin with, so that several places can share one Redis. Holds no braces.
    pub prefix: String,
}

/// Which store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process; for exactly one Tollgate.
    Memory,
    /// `redis://[user[:password]@]host[:port][/database]`; for any number of Tollgates.
    Redis(Secret),
}

impl fmt::Display for StoreUrl {
    /// Without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Redis(url) => write!(f, "Redis at {}", host_of(url.expose())),
        }
    }
}

/// The section as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreKeys {
    url: Option<Secret>,
    url_file: Option<PathBuf>,
    pub(super) on_failure: OnFailure,
    #[serde(rename = "timeout_ms", deserialize_with = "milliseconds")]
    timeout: Duration,
    #[serde(rename = "reconcile_seconds", deserialize_with = "seconds_or_zero")]
    reconcile_every: Duration,
    prefix: String,
}

const ALLOWED: &str = "allowed: memory: or redis://[user[:password]@]host[:port][/database]";

/// Checks the section.
pub(super) fn check(keys: StoreKeys, errors: &mut Errors) -> Option<Store> {
    let fits =
        (1..=64).contains(&keys.prefix.len()) && keys.prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    if !fits {
        errors.add("store.prefix", "does not fit in keys; allowed: 1 to 64 letters, digits, dots, colons, underscores and hyphens");
    }
    let url = resolve("store.url", keys.url, keys.url_file, errors)?;
    let url = read_url(url).map_err(|message| errors.add("store.url", message)).ok()?;
    Some(Store { url, on_failure: keys.on_failure, timeout: keys.timeout, reconcile_every: keys.reconcile_every, prefix: keys.prefix })
}

/// Errors do not repeat the text, which may hold a password.
fn read_url(url: Secret) -> Result<StoreUrl, String> {
    let text = url.expose();
    if text == "memory:" {
        return Ok(StoreUrl::Memory);
    }
    if text.starts_with("rediss://") {
        return Err(format!("rediss:// is not possible, since this build has no TLS towards Redis; {ALLOWED}"));
    }
    let Some(rest) = text.strip_prefix("redis://") else {
        return Err(format!("is no address of a store; {ALLOWED}"));
    };
    let server = server_of(rest).map_err(|wrong| format!("{wrong}; {ALLOWED}"))?;
    let path = server.rest.split('?').next().unwrap_or_default().trim_start_matches('/');
    if !path.is_empty() && path.parse::<u32>().is_err() {
        return Err(format!("the database is not a number; {ALLOWED}"));
    }
    crate::shared::check_url(text).map_err(|error| format!("{error}; {ALLOWED}"))?;
    Ok(StoreUrl::Redis(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_stores() {
        assert_eq!(read_url(Secret::new("memory:")), Ok(StoreUrl::Memory));
        for (url, shown) in [
            ("redis://localhost", "Redis at localhost"),
            ("redis://:hunter2@[::1]:6379/0", "Redis at [::1]:6379"),
            ("redis://me:hunter2@redis:6379/", "Redis at redis:6379"),
        ] {
            let read = read_url(Secret::new(url)).expect(url);
            assert_eq!(read.to_string(), shown);
            assert_eq!(read, StoreUrl::Redis(Secret::new(url)));
        }
    }

    #[test]
    fn what_is_no_address_of_a_store() {
        for url in [
            "",
            "memory",
            "redis://",
            "redis://:hunter2@",
            "redis://host:port",
            "redis://:hunter2@host:70000/0",
            "redis://host/x",
            "rediss://hunter2@host",
            "http://hunter2",
        ] {
            let error = read_url(Secret::new(url)).expect_err(url);
            assert!(!error.contains("hunter2"), "the error of {url:?} shows a password: {error}");
            assert_eq!(error.contains("the port"), url.contains("host:"), "{url:?}: {error}");
        }
    }
}
