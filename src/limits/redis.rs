//! The store that several replicas share: Redis, with one Lua script per verb.
//!
//! What belongs to one org lies in one slot, and one script decides over all of it at once. Everyone's caps lie in a slot
//! of their own, so a reservation that meets both has two halves. The org's half is reserved first; when everyone's half
//! is refused it is released again, so no cap is ever exceeded, and at worst someone is refused for a moment by amounts
//! that are about to be released. Settling and releasing go the other way round, everyone's half first: whatever is
//! interrupted leaves the org's half open, and the sweep of its lapsed lease finishes both.
//!
//! Leases are measured by the `now` of the replicas, not by Redis's clock, so that one injected clock rules everything.
//! Replicas whose clocks differ take over a little early or late; the fencing number keeps that harmless. Expiries of
//! keys are relative and Redis's own business.
//!
//! Redis may lose everything: what it keeps of each slot's books says whether the counters were counted from the usage rows,
//! and every script that decides or settles looks at it first. It must not lose a little, that is evict
//! (`maxmemory-policy noeviction`): an evicted counter starts again at zero, until it is compared with the rows.

mod answers;
mod ending;
mod reserving;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Cmd;
use uuid::Uuid;

use self::answers::{Answer, misread, observed};
use self::ending::{End, line};
use self::reserving::Half;
use super::redis_keys::{self, Slot};
use super::store::{Count, Decision, Holder, Level, Observed, Orphan, Reserve, SILENT_FOR, Settled, Stage, Store, StoreError, Told};
use super::{Books, Bucket, MAX_AMOUNT, Scope, Window};
use crate::shared::{Redis, Script, SharedError};

/// How long an open reservation is kept, in seconds: longer than any period and its counters.
const RESERVATION_KEPT: u64 = 40 * 86_400;

/// After how long everyone's half of a reservation is looked at by [`RedisStore::release_lone_halves`].
const LOOK_AT_HALF_AFTER: Duration = Duration::from_hours(1);

/// How many reservations one script call touches at most, so that Redis stays responsive to others.
const BATCH: usize = 200;

/// Counters and reservations in Redis.
#[derive(Debug, Clone)]
pub struct RedisStore {
    redis: Redis,
    reserve: Script,
    shrink: Script,
    write: Script,
    renew: Script,
    extend: Script,
    settle: Script,
    release: Script,
    hand_over: Script,
    claim: Script,
    begin_count: Script,
    count: Script,
    observe: Script,
    move_cut: Script,
    self_test: Script,
    /// Whether books that were never counted are lost, or begin empty.
    must_be_restored: bool,
}

impl RedisStore {
    /// A store on this connection, whose counters are lost until they are counted from the usage rows: once for each
    /// Redis, and again whenever it has lost them.
    pub fn to_be_restored(redis: Redis) -> Self {
        Self { must_be_restored: true, ..Self::new(redis) }
    }

    /// A store on this connection, whose counters begin empty.
    pub fn new(redis: Redis) -> Self {
        let script = |text| Script::new(&[include_str!("lua/common.lua"), text]);
        Self {
            redis,
            reserve: script(include_str!("lua/reserve.lua")),
            shrink: script(include_str!("lua/shrink.lua")),
            write: script(include_str!("lua/write.lua")),
            renew: script(include_str!("lua/renew.lua")),
            extend: script(include_str!("lua/extend.lua")),
            settle: script(include_str!("lua/settle.lua")),
            release: script(include_str!("lua/release.lua")),
            hand_over: script(include_str!("lua/hand_over.lua")),
            claim: script(include_str!("lua/claim.lua")),
            begin_count: script(include_str!("lua/begin_count.lua")),
            count: script(include_str!("lua/count.lua")),
            observe: script(include_str!("lua/observe.lua")),
            move_cut: script(include_str!("lua/move_cut.lua")),
            self_test: script(include_str!("lua/self_test.lua")),
            must_be_restored: false,
        }
    }

    /// Tries whether Redis runs scripts, may write, and keeps amounts exact: for start-up and `tollgate check --live`.
    /// Some managed offerings forbid scripts, and some of them only on some nodes.
    pub async fn self_test(&self) -> Result<(), StoreError> {
        let keys = [format!("{}:{{self-test}}", self.redis.prefix())];
        let answer: String = self.redis.run_script(&self.self_test, &keys, |_| {}).await?;
        if answer == MAX_AMOUNT.to_string() {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!("scripts miscount: {answer} instead of {MAX_AMOUNT}").into()))
    }

    fn of_org(&self, org: &str) -> Slot {
        Slot::of_org(self.redis.prefix(), org)
    }

    fn of_everyone(&self) -> Slot {
        Slot::of_everyone(self.redis.prefix())
    }

    fn of_books(&self, books: &Books) -> Slot {
        match books {
            Books::Org(org) => self.of_org(org),
            Books::Everyone => self.of_everyone(),
        }
    }

    /// Takes over those of these reservations that are still lapsed.
    async fn claim(&self, slot: &Slot, ids: &[Uuid], owner: &str, now: u64, lease_ends: u64) -> Result<Vec<Orphan>, StoreError> {
        let mut keys = vec![slot.open()];
        keys.extend(ids.iter().map(|id| slot.reservation(*id)));
        let fill = |arguments: &mut Cmd| {
            arguments.arg(now).arg(owner).arg(lease_ends);
            for id in ids {
                arguments.arg(id.to_string());
            }
        };
        let taken: Vec<(usize, String, u64, String)> = self.redis.run_script(&self.claim, &keys, fill).await?;
        let orphans = taken.into_iter().map(|(index, stage, fence, record)| {
            let id = *ids.get(index.checked_sub(1)?)?;
            Some(Orphan { id, stage: stage_of(&stage), fence, record })
        });
        orphans.collect::<Option<_>>().ok_or_else(|| misread("claim"))
    }

    /// The members of a sorted set up to a score, at most [`BATCH`].
    async fn up_to(&self, key: &str, score: u64) -> Result<Vec<String>, StoreError> {
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(key).arg("-inf").arg(score).arg("LIMIT").arg(0).arg(BATCH);
        Ok(self.redis.run(command).await?)
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn reserve(&self, wish: &Reserve<'_>) -> Result<Decision, StoreError> {
        let (everyones, own): (Vec<_>, Vec<_>) = wish.charges.iter().partition(|charge| charge.bucket.scope == Scope::Everyone);
        let books = Books::Org(wish.org.into());
        let half = Half {
            member: &wish.id.to_string(),
            lease_ends: milliseconds(wish.now, wish.lease),
            record: wish.record,
            room: wish.room.min(MAX_AMOUNT),
            has_other: !everyones.is_empty(),
        };
        let (room, shadowed, is_fresh) = match self.reserve_in(&books, wish, &own, &half).await? {
            Answer::Settled => return Ok(Decision::Admitted { room: wish.room, shadowed: Vec::new() }),
            Answer::Refused(refusal) => return Ok(Decision::Refused(refusal)),
            // An earlier call may have been interrupted before it came to everyone's half.
            Answer::Again { room, has_other } if !has_other => return Ok(Decision::Admitted { room, shadowed: Vec::new() }),
            Answer::Again { room, .. } => (room, Vec::new(), false),
            Answer::Admitted { room, shadowed } => (room, shadowed, true),
        };
        if everyones.is_empty() {
            return Ok(Decision::Admitted { room, shadowed });
        }
        let decision = self.reserve_everyones(wish, &own, &everyones, room, shadowed).await;
        // Whoever restores what is lost reserves again, and finds this half.
        let is_given_up = matches!(&decision, Err(error) if !matches!(error, StoreError::Lost(_)));
        if is_given_up && is_fresh {
            // Nobody will settle it. Without this its amounts would be held until the lease lapses.
            let (store, org, id) = (self.clone(), wish.org.to_owned(), wish.id);
            tokio::spawn(async move {
                if let Err(error) = store.end(End::Release, &org, id, &[]).await {
                    tracing::debug!(generation.id = %id, error = %error, "half a reservation is left to the sweep");
                }
            });
        }
        decision
    }

    async fn write(&self, org: &str, id: Uuid, stage: Stage, record: &str) -> Result<(), StoreError> {
        let stage = match stage {
            Stage::Held => "held",
            Stage::Forwarded => "forwarded",
        };
        let fill = |arguments: &mut Cmd| {
            arguments.arg(stage).arg(record);
        };
        Ok(self.redis.run_script(&self.write, &[self.of_org(org).reservation(id)], fill).await?)
    }

    async fn renew(&self, org: &str, owner: &str, open: &[(Uuid, u64)], now: Timestamp, lease: Duration) -> Result<Vec<Uuid>, StoreError> {
        let slot = self.of_org(org);
        let mut lost = Vec::new();
        for batch in open.chunks(BATCH) {
            let mut keys = vec![slot.open()];
            keys.extend(batch.iter().map(|(id, _)| slot.reservation(*id)));
            let fill = |arguments: &mut Cmd| {
                arguments.arg(owner).arg(milliseconds(now, lease));
                for (id, fence) in batch {
                    arguments.arg(id.to_string()).arg(*fence);
                }
            };
            let indices: Vec<usize> = self.redis.run_script(&self.renew, &keys, fill).await?;
            lost.extend(indices.iter().filter_map(|index| batch.get(index.checked_sub(1)?)).map(|(id, _)| *id));
        }
        Ok(lost)
    }

    async fn extend(&self, org: &str, id: Uuid, to: &[Settled]) -> Result<(), StoreError> {
        let (everyones, own): (Vec<_>, Vec<_>) = to.iter().partition(|settled| settled.bucket.scope == Scope::Everyone);
        for (slot, to) in [(self.of_everyone(), everyones), (self.of_org(org), own)] {
            if to.is_empty() {
                continue;
            }
            let lines: Vec<_> = to.iter().map(|settled| line(&slot, settled)).collect();
            let mut keys = vec![slot.holds(id)];
            keys.extend(lines.iter().map(|line| line.bucket.clone()));
            let fill = |arguments: &mut Cmd| {
                for line in &lines {
                    arguments.arg(line.amount).arg(line.expiry);
                }
            };
            self.redis.run_script::<()>(&self.extend, &keys, fill).await?;
        }
        Ok(())
    }

    async fn settle(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.end(End::Settle, org, id, actual).await
    }

    async fn settle_counted(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        self.end(End::SettleCounted, org, id, actual).await
    }

    async fn begin_count(&self, books: &Books, cut: u64) -> Result<Count, StoreError> {
        let fill = |arguments: &mut Cmd| {
            arguments.arg(cut);
        };
        let (number, cut, is_lost): (u64, u64, u8) =
            self.redis.run_script(&self.begin_count, &[self.of_books(books).books()], fill).await?;
        Ok(Count { number, cut, is_lost: is_lost == 1 })
    }

    /// Books that are lost stand still until the last batch says that they are there again; of others each counter is
    /// right by itself.
    async fn count(&self, books: &Books, count: &Count, used: &[(Bucket, u64)]) -> Result<bool, StoreError> {
        let slot = self.of_books(books);
        let batches = used.len().div_ceil(BATCH).max(1);
        for index in 0..batches {
            let batch = used.chunks(BATCH).nth(index).unwrap_or_default();
            let mut keys = vec![slot.books()];
            keys.extend(batch.iter().map(|(bucket, _)| slot.bucket(bucket)));
            let fill = |arguments: &mut Cmd| {
                arguments.arg(count.number).arg(count.cut).arg(u8::from(index + 1 == batches));
                for (bucket, base) in batch {
                    arguments.arg((*base).min(MAX_AMOUNT)).arg(expiry(bucket));
                }
            };
            if !self.redis.run_script::<bool>(&self.count, &keys, fill).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn observe(&self, books: &Books, buckets: &[Bucket]) -> Result<Observed, StoreError> {
        let slot = self.of_books(books);
        let mut keys = vec![slot.books(), slot.open()];
        keys.extend(buckets.iter().map(|bucket| slot.bucket(bucket)));
        let fill = |arguments: &mut Cmd| {
            arguments.arg(u8::from(self.must_be_restored));
        };
        let answer: Vec<String> = self.redis.run_script(&self.observe, &keys, fill).await?;
        if answer == ["lost"] {
            return Err(StoreError::Lost(books.clone()));
        }
        observed(&answer, buckets.len()).ok_or_else(|| misread("observe"))
    }

    async fn move_cut(&self, books: &Books, observed: &Observed, cut: u64) -> Result<bool, StoreError> {
        let slot = self.of_books(books);
        let fill = |arguments: &mut Cmd| {
            arguments.arg(observed.cut).arg(observed.settled).arg(cut);
        };
        Ok(self.redis.run_script(&self.move_cut, &[slot.books(), slot.open()], fill).await?)
    }

    async fn tell_shipped(&self, replica: &str, at: u64) -> Result<Told, StoreError> {
        let key = self.of_everyone().shipped();
        let mut all = redis::pipe();
        all.cmd("ZADD").arg(&key).arg(at).arg(replica);
        all.cmd("ZREMRANGEBYSCORE").arg(&key).arg("-inf").arg(at.saturating_sub(SILENT_FOR)).ignore();
        all.cmd("EXPIRE").arg(&key).arg(SILENT_FOR / 1000).ignore();
        all.cmd("ZRANGE").arg(&key).arg(0).arg(0).arg("WITHSCORES");
        let ask = |mut connection| async move { all.query_async(&mut connection).await };
        let (added, least): (u64, Vec<(String, u64)>) = self.redis.call(ask).await?;
        Ok(Told { by_all: least.first().map_or(0, |(_, at)| *at), was_known: added == 0 })
    }

    async fn release(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        self.end(End::Release, org, id, &[]).await.map(|_| ())
    }

    async fn holder(&self, org: &str, id: Uuid) -> Result<Option<Holder>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.of_org(org).reservation(id)).arg("owner").arg("stage");
        let (owner, stage): (Option<String>, Option<String>) = self.redis.run(command).await?;
        Ok(owner.map(|owner| Holder { owner, stage: stage_of(stage.as_deref().unwrap_or_default()) }))
    }

    async fn hand_over(&self, org: &str, id: Uuid) -> Result<(), StoreError> {
        let slot = self.of_org(org);
        let fill = |arguments: &mut Cmd| {
            arguments.arg(id.to_string());
        };
        Ok(self.redis.run_script(&self.hand_over, &[slot.reservation(id), slot.open()], fill).await?)
    }

    async fn peek(&self, buckets: &[Bucket]) -> Result<Vec<Level>, StoreError> {
        let mut all = redis::pipe();
        let mut books = BTreeSet::new();
        if self.must_be_restored {
            books.extend(buckets.iter().map(|bucket| bucket.scope.books()));
        }
        for books in &books {
            all.cmd("HMGET").arg(self.of_books(books).books()).arg("cut").arg("count");
        }
        for bucket in buckets {
            all.cmd("HMGET").arg(redis_keys::bucket(self.redis.prefix(), bucket)).arg("used").arg("held");
        }
        if buckets.is_empty() {
            return Ok(Vec::new());
        }
        let ask = |mut connection| async move { all.query_async(&mut connection).await };
        let mut levels: Vec<(Option<u64>, Option<u64>)> = self.redis.call(ask).await?;
        let accounts = levels.drain(..books.len());
        if let Some((lost, _)) = books.iter().zip(accounts).find(|(_, (cut, _))| cut.is_none()) {
            return Err(StoreError::Lost(lost.clone()));
        }
        Ok(levels.into_iter().map(|(used, held)| Level { used: used.unwrap_or(0), held: held.unwrap_or(0) }).collect())
    }

    async fn sweep(&self, org: &str, owner: &str, now: Timestamp, lease: Duration) -> Result<Vec<Orphan>, StoreError> {
        self.release_lone_halves(now).await?;
        let slot = self.of_org(org);
        let (from, until) = (milliseconds(now, Duration::ZERO), milliseconds(now, lease));
        let mut orphans = Vec::new();
        loop {
            let taken = async {
                let lapsed = self.up_to(&slot.open(), from).await?;
                let ids: Vec<Uuid> = lapsed.iter().filter_map(|id| id.parse().ok()).collect();
                if ids.is_empty() { Ok(Vec::new()) } else { self.claim(&slot, &ids, owner, from, until).await }
            };
            match taken.await {
                Ok(taken) => {
                    // A short batch was the last. Without a lease the same ones would lapse again and again.
                    let is_last = taken.len() < BATCH || until <= from;
                    orphans.extend(taken);
                    if is_last {
                        return Ok(orphans);
                    }
                }
                // What was taken before is this owner's now, and would be nobody's if the answer were an error.
                Err(why) if orphans.is_empty() => return Err(why),
                Err(_) => return Ok(orphans),
            }
        }
    }

    async fn healthy(&self) -> bool {
        self.self_test().await.is_ok()
    }
}

/// How long a new counter is kept, in seconds: its period and a week, for late settlements and for looking back.
fn expiry(bucket: &Bucket) -> u64 {
    match bucket.period.window {
        Window::Day => (2 + 7) * 86_400,
        Window::Month => (31 + 7) * 86_400,
    }
}

fn stage_of(stage: &str) -> Stage {
    if stage == "forwarded" { Stage::Forwarded } else { Stage::Held }
}

/// `now + more` in milliseconds since 1970.
fn milliseconds(now: Timestamp, more: Duration) -> u64 {
    let at = now.saturating_add(more).unwrap_or(Timestamp::MAX).as_millisecond();
    u64::try_from(at).unwrap_or(0)
}

impl From<SharedError> for StoreError {
    fn from(why: SharedError) -> Self {
        Self::Unavailable(why.to_string().into())
    }
}
