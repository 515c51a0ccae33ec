//! How full the caps of orgs are, for metrics: read from the store every so often, by no request.
//!
//! An enforced cap is shown, a shadow one is not: nobody has to be told that something is nearly used up that stops nobody.
//! A period is part of its counter's key, so that a new day or month begins at nothing by itself. Of an org whose counters
//! are lost nothing is shown until its next chat has them counted anew, and while the store is away what was last seen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::restoring::RestoringStore;
use super::rules::{Rules, Who};
use super::store::{Level, StoreError};
use super::{Charge, Scope};
use crate::telemetry::metrics::CapUse;

/// How often they are read: one call to the store for each org that has a cap.
pub const EVERY: Duration = Duration::from_secs(5);

/// Shows how full the caps of orgs are.
#[derive(Debug, Default)]
pub struct Caps {
    /// Caps that sign-in tokens carry, by org, as they were last seen.
    by_token: Mutex<HashMap<Arc<str>, u64>>,
}

impl Caps {
    /// Remembers the cap that a person's token carries for their org.
    pub fn carried_by_token(&self, who: &Who<'_>) {
        if let Some(cap) = who.org_tokens_per_month {
            self.by_token.lock().insert(who.org.clone(), cap);
        }
    }

    /// Reads how full every cap is, and shows it.
    pub async fn show(&self, counters: &RestoringStore, rules: &Rules) {
        let orgs = counters.directory.orgs();
        let mut shown = Vec::new();
        for org in &orgs {
            let caps = self.of(&org.id, rules, counters, org.plan.as_ref(), &org.zone);
            if caps.is_empty() {
                continue;
            }
            let buckets: Vec<_> = caps.iter().map(|(charge, _)| charge.bucket.clone()).collect();
            // Straight from the store: what is lost is not counted anew for a metric's sake.
            match counters.store.peek(&buckets).await {
                Ok(levels) => shown.extend(caps.iter().zip(levels).map(|((charge, limit), level)| CapUse {
                    org: &org.id,
                    resource: charge.bucket.resource,
                    window: charge.bucket.period.window,
                    ratio: ratio(level, *limit),
                })),
                Err(StoreError::Lost(_)) => {}
                Err(error) => {
                    tracing::debug!(error = %error, "how full caps are cannot be read right now");
                    return;
                }
            }
        }
        counters.metrics.caps_used(&shown);
    }

    /// The enforced caps of one org with their limits.
    fn of(
        &self,
        org: &Arc<str>,
        rules: &Rules,
        counters: &RestoringStore,
        plan: Option<&Arc<str>>,
        zone: &jiff::tz::TimeZone,
    ) -> Vec<(Charge, u64)> {
        let (nobody, user) = (Arc::from(""), Arc::from("user"));
        let org_tokens_per_month = self.by_token.lock().get(org).copied();
        let who = Who { org, member: &nobody, role: &user, plan, zone, org_tokens_per_month };
        let charges = rules.applies(&who, counters.clock.now()).into_iter();
        let caps = charges.filter(|charge| matches!(charge.bucket.scope, Scope::Org { .. }));
        caps.filter_map(|charge| charge.enforce.as_ref().map(|bar| bar.limit).map(|limit| (charge, limit))).collect()
    }
}

/// Use over the limit. What may not be used at all is used up.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people, never used to decide")]
fn ratio(level: Level, limit: u64) -> f64 {
    if limit == 0 { 1.0 } else { level.used as f64 / limit as f64 }
}
