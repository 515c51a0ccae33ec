//! Whether a Tollgate with this configuration runs here, and is well.

use std::time::Duration;

use serde::Deserialize;

use super::finding::Finding;
use crate::config::Config;
use crate::serve::reachable;

#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    reason: Option<String>,
    #[serde(default)]
    degraded: Vec<String>,
    #[serde(default)]
    observing: Vec<serde_json::Value>,
}

/// What its readiness says.
pub(super) async fn found(config: &Config) -> Finding {
    let id = "tollgate.ready";
    let place = reachable(config.metrics.listen);
    let asked = async {
        let client = super::address::client().ok()?;
        let answer = client.get(format!("http://{place}/readyz")).timeout(Duration::from_secs(5)).send().await.ok()?;
        serde_json::from_slice::<Readiness>(&answer.bytes().await.ok()?).ok()
    };
    let Some(readiness) = asked.await else { return Finding::skipped(id, format!("no Tollgate runs with its metrics at {place}")) };
    if !readiness.ready {
        let reason = readiness.reason.unwrap_or_default();
        return Finding::fail(id, format!("the Tollgate that runs here is not ready: {reason}"), "");
    }
    if !readiness.degraded.is_empty() {
        let said = format!("the Tollgate that runs here does without: {}", readiness.degraded.join(", "));
        return Finding::warn(id, said, "see the log of Tollgate");
    }
    if !readiness.observing.is_empty() {
        return Finding::warn(id, "limits are observed, and refuse nobody", "tollgate observe off");
    }
    Finding::ok(id, "the Tollgate that runs here is well")
}
