//! Whether LibreChat asks its providers what an answer used: what it does not ask, Tollgate has to estimate.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::SignedDuration;
use serde_yaml::Value;

use super::finding::Finding;
use crate::app::database_url;
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::db::{Database, Status};

/// So many of the newest usage rows are looked at.
const LOOKED_AT: u32 = 10_000;

/// Of an endpoint with fewer rows nothing is said.
const LEAST_ROWS: usize = 5;

/// Above this share of estimates, in percent, an endpoint does not ask.
const MOST_ESTIMATED: usize = 20;

pub(super) fn read(file: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("--librechat-yaml {}: {error}", file.display()))?;
    serde_yaml::from_str(&text).map_err(|error| format!("--librechat-yaml {}: {error}", file.display()))
}

/// Whether every custom endpoint is told to ask.
pub(super) fn asked_for(yaml: &Value) -> Finding {
    let id = "yaml.stream_usage";
    let custom = yaml.get("endpoints").and_then(|endpoints| endpoints.get("custom")).and_then(Value::as_sequence);
    let name = |endpoint: &Value| endpoint.get("name").and_then(Value::as_str).unwrap_or("without a name").to_owned();
    let asks = |endpoint: &Value| {
        let set = endpoint.get("addParams").and_then(|params| params.get("streamUsage"));
        set.and_then(Value::as_bool) == Some(true)
    };
    let endpoints: Vec<&Value> = custom.into_iter().flatten().collect();
    let silent: Vec<String> = endpoints.iter().filter(|endpoint| !asks(endpoint)).map(|endpoint| name(endpoint)).collect();
    if silent.is_empty() {
        return Finding::ok(id, format!("every custom endpoint asks what an answer used ({})", endpoints.len()));
    }
    let said = format!("LibreChat does not ask these custom endpoints what an answer used, so that it is estimated: {}", silent.join(", "));
    Finding::warn(id, said, "addParams: {streamUsage: true} of each in librechat.yaml (LibreChat 0.8.6 and later)")
}

/// Which endpoints were charged by estimates in the last day.
pub(super) async fn estimated(config: &Config) -> Finding {
    let id = "records.stream_usage";
    let Ok(database) = Database::open(&database_url(&config.records.url)) else {
        return Finding::skipped(id, "the database cannot be opened");
    };
    if database.status().await != Status::Ready {
        return Finding::skipped(id, "the database has no rows yet");
    }
    let rows = database.records().usage_rows(LOOKED_AT).await;
    database.close().await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => return Finding::fail(id, error.to_string(), ""),
    };
    let yesterday = SystemClock.now() - SignedDuration::from_hours(24);
    let mut by_endpoint: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.time > yesterday) {
        let (estimated, all) = by_endpoint.entry(&row.endpoint).or_default();
        *estimated += usize::from(matches!(row.usage_source.as_str(), "context" | "counted"));
        *all += 1;
    }
    let silent: Vec<String> = by_endpoint
        .iter()
        .filter(|(_, (estimated, all))| *all >= LEAST_ROWS && estimated * 100 > all * MOST_ESTIMATED)
        .map(|(endpoint, (estimated, all))| format!("{endpoint} ({estimated} of {all})"))
        .collect();
    let all: usize = by_endpoint.values().map(|(_, all)| all).sum();
    if silent.is_empty() {
        return Finding::ok(id, format!("of {all} usage rows of the last day no endpoint's are mostly estimates"));
    }
    Finding::warn(
        id,
        format!("many answers of the last day were charged by estimates: {}", silent.join(", ")),
        "addParams: {streamUsage: true} of these endpoints in librechat.yaml, and LibreChat 0.8.7 or later",
    )
}
