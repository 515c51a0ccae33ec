//! Where limits are observed: for a while, by `tollgate observe`, they refuse nobody. Who somebody is, and whether they may
//! come in at all, is never a matter of observing.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

/// What stands for every org.
pub const EVERYWHERE: &str = "";

/// The limits of an org, or of every org, are observed or are enforced again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observing {
    /// The org's id, or [`EVERYWHERE`].
    pub org: Arc<str>,
    /// Whether they are observed from now on.
    pub is_on: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Who said so.
    pub changed_by: Arc<str>,
}

/// One place that is observed, as answers show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// The org's id; nothing where it is every org.
    pub org: Option<Arc<str>>,
    /// Since when.
    pub since: Timestamp,
    /// By whom.
    pub by: Arc<str>,
}

/// Everything that is observed right now.
#[derive(Debug, Default)]
pub(super) struct Observations(BTreeMap<Arc<str>, Observing>);

impl Observations {
    pub(super) fn covers(&self, org: &str) -> bool {
        !self.0.is_empty() && (self.0.contains_key(EVERYWHERE) || self.0.contains_key(org))
    }

    pub(super) fn list(&self) -> Vec<Observed> {
        let org = |org: &Arc<str>| (**org != *EVERYWHERE).then(|| org.clone());
        self.0.values().map(|on| Observed { org: org(&on.org), since: on.since, by: on.changed_by.clone() }).collect()
    }

    /// Takes in a change, and writes it to the log where it is one.
    pub(super) fn put(&mut self, change: Observing) {
        let (org, by) = (change.org.clone(), change.changed_by.clone());
        let of = if *org == *EVERYWHERE { "every org" } else { &*org };
        if change.is_on {
            if self.0.insert(org.clone(), change).is_none() {
                tracing::warn!(org = of, by = &*by, "limits are observed: they are decided and written down, and refuse nobody");
            }
        } else if self.0.remove(&org).is_some() {
            tracing::warn!(org = of, by = &*by, "limits are enforced again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(org: &str, is_on: bool) -> Observing {
        Observing { org: org.into(), is_on, since: Timestamp::UNIX_EPOCH, changed_by: "ann".into() }
    }

    #[test]
    fn an_org_is_covered_by_its_own_observation_and_by_that_of_every_org() {
        let mut observations = Observations::default();
        let covers = |observations: &Observations| ["acme", "beta"].map(|org| observations.covers(org));
        assert_eq!(covers(&observations), [false, false]);
        observations.put(change("acme", true));
        assert_eq!(covers(&observations), [true, false]);
        observations.put(change(EVERYWHERE, true));
        assert_eq!(covers(&observations), [true, true]);
        let orgs: Vec<_> = observations.list().into_iter().map(|observed| observed.org).collect();
        assert_eq!(orgs, [None, Some("acme".into())]);
        observations.put(change(EVERYWHERE, false));
        assert_eq!(covers(&observations), [true, false]);
        observations.put(change("acme", false));
        assert_eq!(covers(&observations), [false, false]);
    }
}
