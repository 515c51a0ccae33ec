//! `tollgate check`: whether a configuration is good, and what it amounts to.

use std::fmt::Write as _;

use super::say::say;
use super::{Exit, Source};
use crate::config::{Config, ConfigErrors};

/// `tollgate check`: says whether the configuration is good, and what it amounts to.
pub fn check(source: &Source) -> Exit {
    match source.load() {
        Ok(config) => say(&describe(&config)),
        Err(exit) => exit,
    }
}

/// What is wrong with a configuration, as standard error shows it.
pub fn errors(errors: &ConfigErrors) -> String {
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
    let prices = config.prices.shown();
    let org_names = config.orgs.iter().map(|org| &*org.id).collect::<Vec<_>>().join(", ");
    let lines = [
        "The configuration is good.".to_owned(),
        format!("  listens    public {}, admin {}, metrics {}", public.listen, admin.listen, metrics.listen),
        format!("  LibreChat  {}", librechat.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
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
