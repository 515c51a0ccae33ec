//! The store of a single process: everything in memory, under one lock that is held for microseconds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use uuid::Uuid;

use super::store::{Count, Decision, Holder, Level, Observed, Orphan, Reserve, Settled, Stage, Store, StoreError, Told, made_at};
use super::{Bar, Books, Bucket, Charge, MAX_AMOUNT, Refusal, Scope};

/// How long a counter is remembered after its period ended, for late settlements and for looking back.
const COUNTERS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long a settled id is remembered at least, so that settling again changes nothing; at most twice as long.
const SETTLED_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Counters and reservations of one process. They are gone when it ends, and are counted anew from the usage rows when it
/// starts.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    levels: HashMap<Bucket, Counter>,
    /// How books were counted from usage rows.
    books: HashMap<Books, Account>,
    /// Whether books that were never counted are lost, or begin empty.
    must_be_restored: bool,
    open: HashMap<Uuid, Reservation>,
    settled: HashSet<Uuid>,
    /// Those settled before the last tidying. They are forgotten at the next one.
    settled_before: HashSet<Uuid>,
    tidy_at: Timestamp,
}

/// Whether the rows of a generation that settles were counted since they are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    NotYetCounted,
    Counted,
}

/// One counter.
#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    level: Level,
    /// The part of what is used that rows from before the cut count.
    base: u64,
    /// The number of the count that said so.
    count: u64,
    /// The cut since which something was settled to it.
    cut: Option<u64>,
}

/// How books were counted.
#[derive(Debug, Clone, Copy)]
struct Account {
    cut: u64,
    is_lost: bool,
    count: u64,
    /// How many reservations were settled.
    settled: u64,
}

#[derive(Debug)]
struct Reservation {
    org: String,
    room: u64,
    stage: Stage,
    /// Empty after the lease was let go.
    owner: String,
    fence: u64,
    lease_ends: Timestamp,
    record: String,
    held: Vec<(Bucket, u64)>,
}

impl MemoryStore {
    /// A store whose counters begin empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store whose counters are lost until they are counted from the usage rows.
    pub fn to_be_restored() -> Self {
        Self { state: Mutex::new(State { must_be_restored: true, ..State::default() }) }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Decision, StoreError> {
        let mut state = self.state.lock();
        state.tidy(reserve.now);
        state.reserve(reserve)
    }

    async fn write(&self, _org: &str, id: Uuid, stage: Stage, record: &str) -> Result<(), StoreError> {
        if let Some(reservation) = self.state.lock().open.get_mut(&id) {
            reservation.stage = stage;
            record.clone_into(&mut reservation.record);
        }
        Ok(())
    }

    async fn renew(&self, _org: &str, owner: &str, open: &[(Uuid, u64)], now: Timestamp, lease: Duration) -> Result<Vec<Uuid>, StoreError> {
        let mut state = self.state.lock();
        state.tidy(now);
        let mut lost = Vec::new();
        for (id, fence) in open {
            match state.open.get_mut(id) {
                Some(mine) if mine.owner == owner && mine.fence == *fence => {
                    mine.lease_ends = mine.lease_ends.max(lease_end(now, lease));
                }
                _ => lost.push(*id),
            }
        }
        Ok(lost)
    }

    async fn extend(&self, _org: &str, id: Uuid, to: &[Settled]) -> Result<(), StoreError> {
        self.state.lock().extend(id, to);
        Ok(())
    }

    async fn settle(&self, _org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.state.lock().settle(id, actual, Rows::NotYetCounted)
    }

    async fn settle_counted(&self, _org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.state.lock().settle(id, actual, Rows::Counted)
    }

    async fn begin_count(&self, books: &Books, cut: u64) -> Result<Count, StoreError> {
        let mut state = self.state.lock();
        let account = state.account(books, cut);
        account.count += 1;
        Ok(Count { number: account.count, cut: account.cut, is_lost: account.is_lost })
    }

    async fn count(&self, books: &Books, count: &Count, used: &[(Bucket, u64)]) -> Result<bool, StoreError> {
        Ok(self.state.lock().count(books, count, used))
    }

    async fn observe(&self, books: &Books, buckets: &[Bucket]) -> Result<Observed, StoreError> {
        self.state.lock().observe(books, buckets)
    }

    async fn move_cut(&self, books: &Books, observed: &Observed, cut: u64) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        let now = state.observe(books, &[])?;
        let moves = now.stands_still() && now.is_as(observed);
        if moves {
            state.account(books, 0).cut = cut;
        }
        Ok(moves)
    }

    async fn tell_shipped(&self, _replica: &str, at: u64) -> Result<Told, StoreError> {
        Ok(Told { by_all: at, was_known: true })
    }

    async fn release(&self, _org: &str, id: Uuid) -> Result<(), StoreError> {
        self.state.lock().take_back(id);
        Ok(())
    }

    async fn holder(&self, _org: &str, id: Uuid) -> Result<Option<Holder>, StoreError> {
        let state = self.state.lock();
        Ok(state.open.get(&id).map(|reservation| Holder { owner: reservation.owner.clone(), stage: reservation.stage }))
    }

    async fn hand_over(&self, _org: &str, id: Uuid) -> Result<(), StoreError> {
        if let Some(reservation) = self.state.lock().open.get_mut(&id) {
            reservation.owner.clear();
            reservation.lease_ends = Timestamp::UNIX_EPOCH;
        }
        Ok(())
    }

    async fn peek(&self, buckets: &[Bucket]) -> Result<Vec<Level>, StoreError> {
        let state = self.state.lock();
        state.none_is_lost(buckets.iter())?;
        Ok(buckets.iter().map(|bucket| state.level(bucket)).collect())
    }

    async fn sweep(&self, org: &str, owner: &str, now: Timestamp, lease: Duration) -> Result<Vec<Orphan>, StoreError> {
        let mut state = self.state.lock();
        state.tidy(now);
        let mut orphans = Vec::new();
        for (id, reservation) in &mut state.open {
            if reservation.org != org || reservation.lease_ends > now {
                continue;
            }
            let lapsed_at = reservation.lease_ends;
            reservation.fence += 1;
            owner.clone_into(&mut reservation.owner);
            reservation.lease_ends = lease_end(now, lease);
            let Reservation { stage, fence, ref record, .. } = *reservation;
            orphans.push((lapsed_at, Orphan { id: *id, stage, fence, record: record.clone() }));
        }
        orphans.sort_by_key(|(lapsed_at, orphan)| (*lapsed_at, orphan.id));
        Ok(orphans.into_iter().map(|(_, orphan)| orphan).collect())
    }

    async fn healthy(&self) -> bool {
        true
    }
}

impl State {
    fn level(&self, bucket: &Bucket) -> Level {
        self.levels.get(bucket).map(|counter| counter.level).unwrap_or_default()
    }

    /// The cut of these books; nothing while they are lost.
    fn cut(&self, books: &Books) -> Option<u64> {
        match self.books.get(books) {
            Some(account) => (!account.is_lost).then_some(account.cut),
            None => (!self.must_be_restored).then_some(0),
        }
    }

    /// Whether the books that these counters are in are all there.
    fn none_is_lost<'a>(&self, buckets: impl Iterator<Item = &'a Bucket>) -> Result<(), StoreError> {
        if self.must_be_restored {
            for bucket in buckets {
                let books = bucket.scope.books();
                self.cut(&books).ok_or(StoreError::Lost(books))?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, id: Uuid, actual: &[Settled], rows: Rows) -> Result<bool, StoreError> {
        if self.is_settled(id) {
            return Ok(false);
        }
        self.none_is_lost(actual.iter().map(|settled| &settled.bucket))?;
        let by_rows = |bucket: &Bucket| self.cut(&bucket.scope.books()).is_some_and(|cut| made_at(id) < cut);
        let (counted, added): (Vec<_>, Vec<_>) = actual.iter().partition(|settled| by_rows(&settled.bucket));
        if rows == Rows::NotYetCounted && !counted.is_empty() {
            return Err(StoreError::CountedByRows);
        }
        self.take_back(id);
        self.settled.insert(id);
        for Settled { bucket, .. } in actual.iter().filter(|settled| settled.amount > 0) {
            self.bear_cut(bucket);
        }
        for Settled { bucket, amount } in added {
            self.add_used(bucket, *amount);
        }
        let books: BTreeSet<_> = actual.iter().map(|settled| settled.bucket.scope.books()).collect();
        for books in books {
            self.account(&books, 0).settled += 1;
        }
        Ok(true)
    }

    fn account(&mut self, books: &Books, cut: u64) -> &mut Account {
        let is_lost = self.must_be_restored;
        let fresh = Account { cut: if is_lost { cut } else { 0 }, is_lost, count: 0, settled: 0 };
        self.books.entry(books.clone()).or_insert(fresh)
    }

    fn observe(&self, books: &Books, buckets: &[Bucket]) -> Result<Observed, StoreError> {
        let cut = self.cut(books).ok_or_else(|| StoreError::Lost(books.clone()))?;
        let settled = self.books.get(books).map_or(0, |account| account.settled);
        let used = |bucket: &Bucket| self.levels.get(bucket).filter(|counter| counter.cut == Some(cut)).map(|counter| counter.level.used);
        let is_in = |reservation: &&Reservation| match books {
            Books::Org(org) => *reservation.org == **org,
            Books::Everyone => reservation.held.iter().any(|(bucket, _)| bucket.scope == Scope::Everyone),
        };
        let open = self.open.values().filter(is_in).count() as u64;
        Ok(Observed { cut, settled, open, used: buckets.iter().map(used).collect() })
    }

    fn count(&mut self, books: &Books, count: &Count, used: &[(Bucket, u64)]) -> bool {
        let Some(account) = self.books.get_mut(books).filter(|account| account.cut == count.cut) else { return false };
        account.is_lost = false;
        for (bucket, base) in used {
            let counter = self.levels.entry(bucket.clone()).or_default();
            if counter.count < count.number {
                let settled = if counter.cut == Some(count.cut) { counter.level.used.saturating_sub(counter.base) } else { 0 };
                counter.base = (*base).min(MAX_AMOUNT);
                counter.level.used = settled.saturating_add(counter.base).min(MAX_AMOUNT);
                counter.count = count.number;
            }
        }
        true
    }

    fn is_settled(&self, id: Uuid) -> bool {
        self.settled.contains(&id) || self.settled_before.contains(&id)
    }

    fn reserve(&mut self, reserve: &Reserve<'_>) -> Result<Decision, StoreError> {
        if self.is_settled(reserve.id) {
            return Ok(Decision::Admitted { room: reserve.room, shadowed: Vec::new() });
        }
        if let Some(before) = self.open.get(&reserve.id) {
            return Ok(Decision::Admitted { room: before.room, shadowed: Vec::new() });
        }
        self.none_is_lost(in_order(reserve.charges).map(|charge| &charge.bucket))?;
        let least_room = reserve.least_room.min(reserve.room);
        let mut room = reserve.room;
        for charge in in_order(reserve.charges) {
            let Some(bar) = &charge.enforce else { continue };
            let level = self.level(&charge.bucket);
            match room_left(charge, bar, level) {
                Some(left) if left >= least_room => room = room.min(left),
                _ => return Ok(Decision::Refused(Box::new(refusal(charge, bar, level, least_room)))),
            }
        }
        let shadowed = in_order(reserve.charges).filter_map(|charge| {
            let bar = charge.shadow.as_ref()?;
            let level = self.level(&charge.bucket);
            let fits = room_left(charge, bar, level).is_some_and(|left| left >= least_room);
            (!fits).then(|| refusal(charge, bar, level, least_room))
        });
        let shadowed = shadowed.collect();

        let mut held = Vec::with_capacity(reserve.charges.len());
        for charge in reserve.charges {
            let amount = self.add_held(&charge.bucket, charge.amount(room));
            held.push((charge.bucket.clone(), amount));
        }
        let reservation = Reservation {
            org: reserve.org.to_owned(),
            room,
            stage: Stage::Held,
            owner: reserve.owner.to_owned(),
            fence: 1,
            lease_ends: lease_end(reserve.now, reserve.lease),
            record: reserve.record.to_owned(),
            held,
        };
        self.open.insert(reserve.id, reservation);
        Ok(Decision::Admitted { room, shadowed })
    }

    fn extend(&mut self, id: Uuid, to: &[Settled]) {
        let Some(mut reservation) = self.open.remove(&id) else { return };
        for Settled { bucket, amount } in to {
            let holds = reservation.held.iter_mut().find(|(held, _)| held == bucket);
            if let Some((_, holds)) = holds {
                *holds += self.add_held(bucket, amount.saturating_sub(*holds));
            }
        }
        self.open.insert(id, reservation);
    }

    /// Forgets a reservation and takes back what it holds.
    fn take_back(&mut self, id: Uuid) {
        let Some(reservation) = self.open.remove(&id) else { return };
        for (bucket, amount) in reservation.held {
            if let Some(Counter { level, .. }) = self.levels.get_mut(&bucket) {
                level.held = level.held.saturating_sub(amount);
            }
        }
    }

    /// Holds as much of `amount` as a counter can count, and answers how much that is.
    fn add_held(&mut self, bucket: &Bucket, amount: u64) -> u64 {
        let Counter { level, .. } = self.levels.entry(bucket.clone()).or_default();
        let amount = amount.min(MAX_AMOUNT - level.held);
        level.held += amount;
        amount
    }

    /// Something is settled to this counter. If it is the first since the cut, all it holds is its base.
    fn bear_cut(&mut self, bucket: &Bucket) {
        let cut = self.cut(&bucket.scope.books());
        let counter = self.levels.entry(bucket.clone()).or_default();
        if counter.cut != cut {
            (counter.base, counter.cut) = (counter.level.used, cut);
        }
    }

    fn add_used(&mut self, bucket: &Bucket, amount: u64) {
        let Counter { level, .. } = self.levels.entry(bucket.clone()).or_default();
        level.used += amount.min(MAX_AMOUNT - level.used);
    }

    /// Forgets, once a day, what nobody will ask for again, so that memory is bounded.
    fn tidy(&mut self, now: Timestamp) {
        if now < self.tidy_at {
            return;
        }
        self.tidy_at = now.saturating_add(SETTLED_KEPT).unwrap_or(Timestamp::MAX);
        self.settled_before = std::mem::take(&mut self.settled);
        self.levels.retain(|bucket, _| now.duration_since(bucket.period.ends) < COUNTERS_KEPT);
    }
}

/// The org's charges before everyone's: the order in which a store of several slots decides.
fn in_order(charges: &[Charge]) -> impl Iterator<Item = &Charge> {
    let everyones = |charge: &&Charge| charge.bucket.scope == Scope::Everyone;
    charges.iter().filter(move |charge| !everyones(charge)).chain(charges.iter().filter(everyones))
}

/// How many tokens of room a limit leaves, or `None` where not even the fixed part fits.
fn room_left(charge: &Charge, bar: &Bar, level: Level) -> Option<u64> {
    let taken = level.used.saturating_add(level.held).saturating_add(charge.fixed);
    let left = bar.limit.checked_sub(taken)?;
    Some(left.checked_div(charge.per_room_token).unwrap_or(u64::MAX))
}

fn refusal(charge: &Charge, bar: &Bar, level: Level, least_room: u64) -> Refusal {
    let needs = charge.amount(least_room);
    Refusal { bucket: charge.bucket.clone(), bar: bar.clone(), used: level.used, held: level.held, needs }
}

fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    now.saturating_add(lease).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::limits::{Period, Resource, Window};

    const LEASE: Duration = Duration::from_mins(1);

    fn day(now: Timestamp) -> Bucket {
        Bucket { scope: Scope::Everyone, resource: Resource::Messages, period: Period::at(Window::Day, now, &TimeZone::UTC) }
    }

    fn noon() -> Timestamp {
        "2026-11-20T12:00:00Z".parse().expect("this is an instant")
    }

    #[tokio::test]
    async fn what_is_old_is_forgotten_and_not_earlier() {
        let store = MemoryStore::new();
        let early = Uuid::now_v7();
        assert!(store.settle("acme", early, &[]).await.expect("memory answers"), "before the store has heard of the time");
        for hour in 0..24 * 60 {
            let now = noon() + SignedDuration::from_hours(hour);
            let (id, bucket) = (Uuid::now_v7(), day(now));
            store.sweep("acme", "replica-1", now, LEASE).await.expect("memory answers");
            let actual = [Settled { bucket: bucket.clone(), amount: 1 }];
            assert!(store.settle("acme", id, &actual).await.expect("memory answers"));
            if hour < 23 {
                assert!(!store.settle("acme", early, &[]).await.expect("memory answers"), "forgotten after {hour} hours");
            }
            let state = store.state.lock();
            assert!(state.settled.len() + state.settled_before.len() <= 50, "settled ids pile up");
            assert!(state.levels.len() <= 10, "counters pile up");
            assert!(state.levels.contains_key(&bucket), "the counter of today is there");
        }
    }
}
