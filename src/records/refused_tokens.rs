//! Refused credentials, counted: at most one audit row per address, reason and minute, however many come. Whatever else
//! anyone can be refused for as often as they like is counted here too.
//!
//! The row is answered at first sight, so that it is written at once, and again with the same key and a larger count
//! by [`RefusedTokens::tick`]; the database keeps the larger count.

use std::collections::HashMap;

use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::AuditRow;
use crate::clock::SharedClock;

/// The most keys that are told apart at a time. Whoever comes from further addresses is counted with the others.
const MOST_KEYS: usize = 10_000;

/// The address of the row that counts whoever could not be told apart.
const OTHER: &str = "other";

/// Counts refused credentials.
#[derive(Debug)]
pub struct RefusedTokens {
    /// Made anew by every process, so that two of them never write the same key with different counts.
    process: Uuid,
    clock: SharedClock,
    keys: Mutex<HashMap<Key, Counted>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: Box<str>,
    reason: &'static str,
    /// Whom it is about, where that was proved; empty where nobody is known.
    whom: Box<str>,
    /// Minutes since 1970.
    minute: i64,
}

#[derive(Debug)]
struct Counted {
    /// With the count that was last answered.
    row: AuditRow,
    count: u64,
}

impl RefusedTokens {
    /// `process` is a random id of this process.
    pub fn new(process: Uuid, clock: SharedClock) -> Self {
        Self { process, clock, keys: Mutex::default() }
    }

    /// Counts one refused credential from `address` for `reason`. Answers the row to write if it is the first of its
    /// minute; `row` makes it, and its id, time and count are set here.
    #[must_use = "the row is to be recorded"]
    pub fn count(&self, address: &str, reason: &'static str, row: impl FnOnce() -> AuditRow) -> Option<AuditRow> {
        self.count_of(address, reason, "", |_| row()).1
    }

    /// The same for somebody who is known, so that a row is about one person; `whom` tells people apart. Answers the id of
    /// the row that counts it as well.
    #[must_use = "the row is to be recorded"]
    pub fn count_of(
        &self,
        address: &str,
        reason: &'static str,
        whom: &str,
        row: impl FnOnce(Uuid) -> AuditRow,
    ) -> (Uuid, Option<AuditRow>) {
        let now = self.clock.now();
        let mut key = Key { address: address.into(), reason, whom: whom.into(), minute: minute(now) };
        let mut keys = self.keys.lock();
        let mut folded = false;
        if !keys.contains_key(&key) && keys.len() >= MOST_KEYS {
            (key.address, key.whom) = (OTHER.into(), Box::default());
            folded = true;
        }
        let id = self.id(&key);
        if let Some(counted) = keys.get_mut(&key) {
            counted.count = counted.count.saturating_add(1);
            return (id, None);
        }
        let mut row = AuditRow { id, time: now, count: 1, ..row(id) };
        if folded {
            // It counts many people, of several orgs perhaps, and is about none of them.
            row = AuditRow { org_id: None, org_day: None, actor_id: None, actor_name: None, actor_role: None, detail: None, ..row };
            row.address = Some(OTHER.to_owned());
            row.resource_id = row.resource_id.filter(|_| row.resource_type == Some("route"));
        }
        keys.insert(key, Counted { row: row.clone(), count: 1 });
        (id, Some(row))
    }

    /// The rows whose count has grown since they were last answered, to be written again. Forgets minutes that are
    /// over. Call it every few seconds, and once at the end.
    #[must_use = "the rows are to be recorded"]
    pub fn tick(&self) -> Vec<AuditRow> {
        let current = minute(self.clock.now());
        let mut grown = Vec::new();
        self.keys.lock().retain(|key, counted| {
            if counted.count > counted.row.count {
                counted.row.count = counted.count;
                grown.push(counted.row.clone());
            }
            key.minute == current
        });
        grown
    }

    fn id(&self, key: &Key) -> Uuid {
        let digest = Sha256::new()
            .chain_update(self.process.as_bytes())
            .chain_update(key.minute.to_be_bytes())
            .chain_update(key.reason.as_bytes())
            .chain_update([0])
            .chain_update(key.address.as_bytes())
            .chain_update([0])
            .chain_update(key.whom.as_bytes())
            .finalize();
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(id).into_uuid()
    }
}

fn minute(now: Timestamp) -> i64 {
    now.as_second().div_euclid(60)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::records::{Category, Outcome, Severity};

    fn refused(address: &str) -> AuditRow {
        AuditRow {
            id: Uuid::nil(),
            time: Timestamp::UNIX_EPOCH,
            category: Category::Security,
            severity: Severity::Warning,
            org_id: None,
            org_day: None,
            actor_id: None,
            actor_name: None,
            actor_role: None,
            action: "auth.token_refused",
            resource_type: None,
            resource_id: None,
            outcome: Outcome::Failure,
            request_id: None,
            method: None,
            path: None,
            query: None,
            status: Some(401),
            duration_ms: None,
            error: None,
            address: Some(address.to_owned()),
            user_agent: None,
            conversation_id: None,
            model: None,
            total_tokens: None,
            cost_nanousd: None,
            count: 0,
            reference: None,
            detail: None,
            link: None,
        }
    }

    fn at(time: &str) -> (Arc<ManualClock>, RefusedTokens) {
        let clock = ManualClock::at(time.parse().unwrap());
        let shared: SharedClock = clock.clone();
        (clock, RefusedTokens::new(Uuid::from_u128(7), shared))
    }

    #[test]
    fn the_first_is_answered_at_once_and_the_rest_as_its_count() {
        let (_, tokens) = at("2026-11-20T10:00:30Z");
        let first = tokens.count("192.0.2.1", "signature", || refused("192.0.2.1")).expect("the first of a minute is a row");
        assert_eq!((first.count, first.time), (1, "2026-11-20T10:00:30Z".parse().unwrap()));
        for _ in 0..41 {
            assert_eq!(
                tokens.count("192.0.2.1", "signature", || refused("192.0.2.1")),
                None,
                "further ones of the minute are only counted"
            );
        }
        let again = tokens.tick();
        assert_eq!(again, vec![AuditRow { count: 42, ..first }], "the same key comes again with the larger count");
        assert_eq!(tokens.tick(), vec![], "nothing has grown since");
    }

    #[test]
    fn address_reason_minute_and_process_tell_rows_apart() {
        let (clock, tokens) = at("2026-11-20T10:00:59Z");
        let other_process = RefusedTokens::new(Uuid::from_u128(8), clock.clone());
        let mut ids = vec![
            tokens.count("192.0.2.1", "signature", || refused("192.0.2.1")).unwrap().id,
            tokens.count("192.0.2.2", "signature", || refused("192.0.2.2")).unwrap().id,
            tokens.count("192.0.2.1", "issuer", || refused("192.0.2.1")).unwrap().id,
            other_process.count("192.0.2.1", "signature", || refused("192.0.2.1")).unwrap().id,
        ];
        clock.set("2026-11-20T10:01:00Z".parse().unwrap());
        ids.push(tokens.count("192.0.2.1", "signature", || refused("192.0.2.1")).unwrap().id);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 5, "five different keys need five different ids");
    }

    #[test]
    fn people_behind_one_address_have_rows_of_their_own() {
        let (_, tokens) = at("2026-11-20T10:00:00Z");
        let count = |whom: &str| tokens.count_of("192.0.2.1", "address", whom, |_| refused("192.0.2.1"));
        let (ann, row) = count("acme/ann");
        assert_eq!(row.map(|row| row.id), Some(ann));
        assert_eq!(count("acme/ann"), (ann, None), "the id of the row that counts her is answered each time");
        let (bob, row) = count("beta/ann");
        assert!(row.is_some() && bob != ann);
    }

    #[test]
    fn a_minute_that_is_over_is_answered_once_more_and_forgotten() {
        let (clock, tokens) = at("2026-11-20T10:00:59Z");
        for _ in 0..3 {
            let _ = tokens.count("192.0.2.1", "signature", || refused("192.0.2.1"));
        }
        clock.set("2026-11-20T10:01:05Z".parse().unwrap());
        assert_eq!(tokens.tick().iter().map(|row| row.count).collect::<Vec<_>>(), [3]);
        assert_eq!(tokens.keys.lock().len(), 0, "a minute that is over takes no memory");
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_counted_as_other() {
        let (_, tokens) = at("2026-11-20T10:00:00Z");
        let mut rows = Vec::new();
        for number in 0..MOST_KEYS + 500 {
            let address = format!("2001:db8::{number:x}");
            rows.extend(tokens.count(&address, "signature", || refused(&address)));
        }
        assert_eq!(rows.len(), MOST_KEYS + 1, "one row for each key, and one for all others");
        assert_eq!(rows.last().unwrap().address.as_deref(), Some(OTHER));
        let grown = tokens.tick();
        assert_eq!(grown.iter().map(|row| row.count).collect::<Vec<_>>(), [500], "the other 500 are counted together");
    }
}
