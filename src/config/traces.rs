//! `[traces]`: traces of messages, for a collector.

use http::Uri;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::errors::Errors;

/// Traces of messages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The collector's address, without a path of OTLP's; there are no traces without one.
    pub endpoint: Option<String>,
    /// How many of a hundred messages are traced that nobody else has decided about.
    #[serde(deserialize_with = "percent")]
    pub sample_percent: u8,
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = u64::deserialize(deserializer)?;
    u8::try_from(number).ok().filter(|number| *number <= 100).ok_or_else(|| D::Error::custom(format!("{number} is not from 0 to 100")))
}

/// Checks the section. Errors do not repeat the address, which may hold a password.
pub(super) fn check(traces: &Traces, errors: &mut Errors) {
    let Some(endpoint) = &traces.endpoint else { return };
    let uri = endpoint.parse::<Uri>().ok();
    let is_http = uri.as_ref().and_then(Uri::scheme_str).is_some_and(|scheme| matches!(scheme, "http" | "https"));
    let names_host = uri.as_ref().and_then(Uri::authority).is_some_and(|authority| !authority.as_str().contains('@'));
    let is_bare = uri.as_ref().is_some_and(|uri| uri.query().is_none() && !uri.path().ends_with("/v1/traces"));
    if !(is_http && names_host && is_bare) {
        let what = "no address of a collector; allowed: http://host:port or https://host:port, without user, password and /v1/traces";
        errors.add("traces.endpoint", what);
    }
}
