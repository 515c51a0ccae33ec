//! The names of what the Redis store keeps.
//!
//! Everything of one org carries the same hash tag, `{o:ORG}`, and so lies in one slot of a Redis Cluster, where one
//! script can reach all of it. Everyone's counters have a tag that no org can have, `{everyone}`.

use uuid::Uuid;

use crate::limits::{Bucket, Scope};
use crate::shared::keys::escaped;

/// The slot that an org's or everyone's keys lie in.
#[derive(Debug)]
pub(super) struct Slot {
    prefix: String,
}

impl Slot {
    /// An org's, of the place whose keys begin with `place`.
    pub(super) fn of_org(place: &str, org: &str) -> Self {
        Self { prefix: format!("{place}:{{o:{}}}", escaped(org)) }
    }

    /// Everyone's, of the place whose keys begin with `place`.
    pub(super) fn of_everyone(place: &str) -> Self {
        Self { prefix: format!("{place}:{{everyone}}") }
    }

    /// A reservation: hash of its room, stage, owner, fence, lease, record.
    pub(super) fn reservation(&self, id: Uuid) -> String {
        format!("{}:reservation:{id}", self.prefix)
    }

    /// What a reservation holds: hash of bucket to amount.
    pub(super) fn holds(&self, id: Uuid) -> String {
        format!("{}:holds:{id}", self.prefix)
    }

    /// There where a reservation was settled.
    pub(super) fn settled(&self, id: Uuid) -> String {
        format!("{}:settled:{id}", self.prefix)
    }

    /// Open reservations: sorted set by the end of their lease.
    pub(super) fn open(&self) -> String {
        format!("{}:open", self.prefix)
    }

    /// How the counters of this slot were counted from usage rows: hash of cut, proposed, count, and of how many
    /// reservations were settled.
    pub(super) fn books(&self) -> String {
        format!("{}:books", self.prefix)
    }

    /// Up to when replicas told that their journals are shipped: sorted set by that instant, in ms.
    pub(super) fn shipped(&self) -> String {
        format!("{}:shipped", self.prefix)
    }

    /// A counter of this slot: hash of used, held, base, count, cut.
    pub(super) fn bucket(&self, bucket: &Bucket) -> String {
        let (resource, period) = (bucket.resource.as_str(), bucket.period.key());
        match &bucket.scope {
            Scope::Member { member, .. } => format!("{}:m:{}:{resource}:{period}", self.prefix, escaped(member)),
            Scope::Org { .. } | Scope::Everyone => format!("{}:{resource}:{period}", self.prefix),
        }
    }
}

/// The key of a counter, in the slot it belongs to, of the place whose keys begin with `place`.
pub(super) fn bucket(place: &str, bucket: &Bucket) -> String {
    let slot = match &bucket.scope {
        Scope::Member { org, .. } | Scope::Org { org } => Slot::of_org(place, org),
        Scope::Everyone => Slot::of_everyone(place),
    };
    slot.bucket(bucket)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{Period, Resource, Window};

    fn key(scope: Scope, window: Window) -> String {
        let period = Period::at(window, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        bucket("tollgate", &Bucket { scope, resource: Resource::Tokens, period })
    }

    /// What Redis Cluster hashes: from the first `{` to the next `}`.
    fn hash_tag(key: &str) -> &str {
        let (_, rest) = key.split_once('{').expect("every key has a tag");
        rest.split_once('}').expect("every tag ends").0
    }

    #[test]
    fn keys_read_well() {
        let (org, member): (std::sync::Arc<str>, _) = ("acme".into(), "68e3f2c0a1b2c3d4e5f60718".into());
        assert_eq!(
            key(Scope::Member { org: org.clone(), member }, Window::Day),
            "tollgate:{o:acme}:m:68e3f2c0a1b2c3d4e5f60718:tokens:1970-01-01"
        );
        assert_eq!(key(Scope::Org { org }, Window::Month), "tollgate:{o:acme}:tokens:1970-01");
        assert_eq!(key(Scope::Everyone, Window::Day), "tollgate:{everyone}:tokens:1970-01-01");
    }

    #[test]
    fn no_org_can_be_everyone() {
        for org in ["everyone", "o:everyone", "}everyone", "everyone}", "{everyone}", "o:x}:y{everyone", ""] {
            let key = key(Scope::Org { org: org.into() }, Window::Day);
            assert!(hash_tag(&key).starts_with("o:"), "{org:?} got the tag {:?}", hash_tag(&key));
            assert_eq!(hash_tag(&key), hash_tag(&Slot::of_org("tollgate", org).open()), "{org:?} is spread over slots");
        }
    }

    proptest! {
        #[test]
        fn different_scopes_have_different_keys(scopes in prop::collection::vec((".{0,3}", "[a:{}%]{0,3}"), 2..20)) {
            let mut seen = HashMap::new();
            for (org, member) in scopes {
                let (org, member): (std::sync::Arc<str>, std::sync::Arc<str>) = (org.into(), member.into());
                for scope in [Scope::Member { org: org.clone(), member }, Scope::Org { org }, Scope::Everyone] {
                    let key = key(scope.clone(), Window::Day);
                    let other = seen.entry(key).or_insert_with(|| scope.clone());
                    prop_assert_eq!(other, &scope, "two scopes share a key");
                }
            }
        }
    }
}
