//! Makes audit rows ready to be kept: seals what tells a person by, then links the row to its chain. The journal's one
//! writer owns the linker, and calls it for each row in the order in which it appends them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::Arc;

use jiff::Timestamp;
use lru::LruCache;
use uuid::Uuid;

use super::chain::{ChainKey, Head, chain_of};
use super::seal::{Found, KeyRing, MemberKey, SealError, person_of, seal, strike};
use super::{AuditRow, Link, StoredAudit};

/// How many linked rows are remembered, to know one that comes again with a larger count. Those come within two minutes.
const REMEMBERED: usize = 100_000;

/// Seals and links.
#[derive(Debug)]
pub struct Linker {
    key: ChainKey,
    writer: Uuid,
    heads: BTreeMap<String, Head>,
    ring: Arc<KeyRing>,
    linked: LruCache<(Uuid, i64), ()>,
    /// The chains that moved since what was prepared last is durable.
    moved: BTreeSet<String>,
}

impl Linker {
    /// The linker of one journal. `heads` is where the journal's chains stand: nothing for a new journal, which has a new
    /// `writer`, else the link of the last row of each org that the journal knows to be durable.
    pub fn new(key: ChainKey, writer: Uuid, heads: BTreeMap<String, Head>, ring: Arc<KeyRing>) -> Self {
        let linked = LruCache::new(NonZeroUsize::new(REMEMBERED).unwrap_or(NonZeroUsize::MIN));
        Self { key, writer, heads, ring, linked, moved: BTreeSet::new() }
    }

    /// Seals a row and links it. The row must be clean. A key that is answered was made for this row, and must be kept in
    /// the same transaction as the row.
    ///
    /// A row that comes again with a larger count is sealed and not linked: only its count will be taken from it.
    pub fn prepare<Word: AsRef<str>>(&mut self, row: &mut AuditRow<Word>, now: Timestamp) -> Result<Option<Arc<MemberKey>>, SealError> {
        let mut made = None;
        if let Some((org, member)) = person_of(row) {
            let found = self.ring.key_of(org, member, now)?;
            seal(row, found.key())?;
            if let Found::Made(key) = found {
                made = Some(key);
            }
        }
        self.place(row);
        Ok(made)
    }

    /// The same, at the row's own time; what cannot be sealed is struck out rather than written down in the clear.
    pub fn prepare_or_strike(&mut self, row: &mut StoredAudit) -> Option<Arc<MemberKey>> {
        let time = row.time;
        self.prepare(row, time).unwrap_or_else(|error| {
            tracing::error!(error = %error, records.id = %row.id, "an audit row cannot be sealed, and loses what would have been");
            strike(row);
            self.place(row);
            None
        })
    }

    /// Links a row to its chain, unless it came before.
    fn place<Word: AsRef<str>>(&mut self, row: &mut AuditRow<Word>) {
        let id = (row.id, row.time.as_microsecond());
        row.link = match self.linked.get(&id) {
            Some(()) => None,
            None => Some(self.link(row)),
        };
        if row.link.is_some() {
            self.linked.put(id, ());
        }
    }

    fn link<Word: AsRef<str>>(&mut self, row: &AuditRow<Word>) -> Link {
        let org = chain_of(row);
        let head = self.heads.get(org);
        if !self.moved.contains(org) {
            self.moved.insert(org.to_owned());
        }
        let (link, next) = self.key.link(self.writer, org, &head.cloned().unwrap_or_default(), row);
        self.heads.insert(org.to_owned(), next);
        link
    }

    /// The rows that were prepared since the last call are durable.
    pub fn keep(&mut self) {
        self.moved.clear();
    }

    /// Where the chains stand that moved since the last call of [`Linker::keep`], to be kept with their rows. A checkpoint
    /// speaks of rows that are in the database, which may be fewer.
    pub fn moved(&self) -> BTreeMap<&str, &Head> {
        self.moved.iter().filter_map(|org| Some((org.as_str(), self.heads.get(org)?))).collect()
    }

    /// What rows are sealed with.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::chain::tests::{WRITER, key, row};
    use crate::records::seal::keys_of;

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn linker() -> Linker {
        Linker::new(key(), WRITER, BTreeMap::new(), Arc::default())
    }

    fn prepared(linker: &mut Linker, mut row: StoredAudit) -> (StoredAudit, bool) {
        let made = linker.prepare(&mut row, now()).expect("a row");
        (row, made.is_some())
    }

    #[test]
    fn rows_are_sealed_then_linked_by_org() {
        let mut linker = linker();
        let (first, made) = prepared(&mut linker, row(1));
        assert!(made, "the first row of a person makes their key");
        let (second, made) = prepared(&mut linker, row(2));
        assert!(!made);
        let (other, _) = prepared(&mut linker, StoredAudit { org_id: None, actor_id: None, ..row(3) });
        assert_eq!(keys_of(&first).next(), keys_of(&second).next(), "one person, one key");
        assert_eq!(other.address.as_deref(), Some("192.0.2.1"), "nobody's row has no key");
        let head = key().follow(WRITER, "acme", &Head::default(), &first).expect("the first");
        let head = key().follow(WRITER, "acme", &head, &second).expect("the second");
        assert_eq!(linker.moved().get("acme"), Some(&&head));
        assert!(key().follow(WRITER, "", &Head::default(), &other).is_ok(), "a chain for each org");
    }

    #[test]
    fn a_row_that_comes_again_takes_no_place_in_the_chain() {
        let mut linker = linker();
        prepared(&mut linker, row(1));
        let (again, _) = prepared(&mut linker, StoredAudit { count: 42, ..row(1) });
        assert_eq!(again.link, None);
        let (next, _) = prepared(&mut linker, row(2));
        assert_eq!(next.link.map(|link| link.seq), Some(2));
    }

    #[test]
    fn what_moved_is_told_until_it_is_kept() {
        let mut linker = linker();
        prepared(&mut linker, row(1));
        linker.keep();
        assert!(linker.moved().is_empty());
        prepared(&mut linker, StoredAudit { org_id: Some("blue".into()), ..row(2) });
        let moved = |linker: &Linker| linker.moved().into_iter().map(|(org, head)| (org.to_owned(), head.seq)).collect::<Vec<_>>();
        assert_eq!(moved(&linker), [("blue".to_owned(), 1)]);
        prepared(&mut linker, row(3));
        assert_eq!(moved(&linker), [("acme".to_owned(), 2), ("blue".to_owned(), 1)], "a commit that failed is told once more");
    }
}
