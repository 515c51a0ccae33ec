//! The store of a single process: everything in memory, under one lock that is held for microseconds.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use uuid::Uuid;

use super::store::{Decision, Level, Orphan, Reserve, Settled, Stage, Store, StoreError};
use super::{Bar, Bucket, Charge, MAX_AMOUNT, Refusal, Scope};

/// How long a counter is remembered after its period ended, for late settlements and for looking back.
const COUNTERS_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long a settled id is remembered at least, so that settling again changes nothing; at most twice as long.
const SETTLED_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// Counters and reservations of one process. They are gone when it ends; [`MemoryStore::load`] brings the use of the
/// current periods back from the usage rows.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    levels: HashMap<Bucket, Level>,
    open: HashMap<Uuid, Reservation>,
    settled: HashSet<Uuid>,
    /// Those settled before the last tidying. They are forgotten at the next one.
    settled_before: HashSet<Uuid>,
    tidy_at: Timestamp,
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
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds settled use to counters, in each resource's unit: what the usage rows of the current periods say, at start.
    pub fn load(&self, levels: Vec<(Bucket, u64)>) {
        let mut state = self.state.lock();
        for (bucket, used) in levels {
            state.add_used(&bucket, used);
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Decision, StoreError> {
        let mut state = self.state.lock();
        state.tidy(reserve.now);
        Ok(state.reserve(reserve))
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
        let mut state = self.state.lock();
        if state.is_settled(id) {
            return Ok(false);
        }
        state.take_back(id);
        state.settled.insert(id);
        for Settled { bucket, amount } in actual {
            state.add_used(bucket, *amount);
        }
        Ok(true)
    }

    async fn release(&self, _org: &str, id: Uuid) -> Result<(), StoreError> {
        self.state.lock().take_back(id);
        Ok(())
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
        self.levels.get(bucket).copied().unwrap_or_default()
    }

    fn is_settled(&self, id: Uuid) -> bool {
        self.settled.contains(&id) || self.settled_before.contains(&id)
    }

    fn reserve(&mut self, reserve: &Reserve<'_>) -> Decision {
        if self.is_settled(reserve.id) {
            return Decision::Admitted { room: reserve.room, shadowed: Vec::new() };
        }
        if let Some(before) = self.open.get(&reserve.id) {
            return Decision::Admitted { room: before.room, shadowed: Vec::new() };
        }
        let least_room = reserve.least_room.min(reserve.room);
        let mut room = reserve.room;
        for charge in in_order(reserve.charges) {
            let Some(bar) = &charge.enforce else { continue };
            let level = self.level(&charge.bucket);
            match room_left(charge, bar, level) {
                Some(left) if left >= least_room => room = room.min(left),
                _ => return Decision::Refused(Box::new(refusal(charge, bar, level, least_room))),
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
        Decision::Admitted { room, shadowed }
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
            if let Some(level) = self.levels.get_mut(&bucket) {
                level.held = level.held.saturating_sub(amount);
            }
        }
    }

    /// Holds as much of `amount` as a counter can count, and answers how much that is.
    fn add_held(&mut self, bucket: &Bucket, amount: u64) -> u64 {
        let level = self.levels.entry(bucket.clone()).or_default();
        let amount = amount.min(MAX_AMOUNT - level.held);
        level.held += amount;
        amount
    }

    fn add_used(&mut self, bucket: &Bucket, amount: u64) {
        let level = self.levels.entry(bucket.clone()).or_default();
        level.used = level.used.saturating_add(amount).min(MAX_AMOUNT);
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
    async fn use_of_before_the_start_is_counted() {
        let (store, bucket) = (MemoryStore::new(), day(noon()));
        store.load(vec![(bucket.clone(), 5), (bucket.clone(), 2)]);
        assert_eq!(store.peek(&[bucket]).await.expect("memory answers"), [Level { used: 7, held: 0 }]);
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
