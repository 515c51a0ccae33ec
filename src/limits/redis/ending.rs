//! Settling and releasing: everyone's half first, then the org's.

use std::time::Duration;

use jiff::Timestamp;
use redis::Cmd;
use uuid::Uuid;

use super::answers::{Ended, misread};
use super::{LOOK_AT_HALF_AFTER, RESERVATION_KEPT, RedisStore, expiry, milliseconds};
use crate::limits::redis_keys::Slot;
use crate::limits::store::{Settled, StoreError, made_at};
use crate::limits::{Books, MAX_AMOUNT, Scope};

/// How long a settled id is remembered, in seconds, so that settling again changes nothing: as long as a reservation,
/// since whoever owned it may wake up as late.
const SETTLED_KEPT: u64 = RESERVATION_KEPT;

/// How often a script may ask for more keys. Reservations do not change the set of their buckets, so one repetition is
/// enough unless one is made in that very moment.
const ATTEMPTS: usize = 4;

/// What ends a reservation.
#[derive(Clone, Copy)]
pub(super) enum End {
    Settle,
    /// Its rows were counted since they are durable.
    SettleCounted,
    Release,
}

/// One bucket's part of a script call.
pub(super) struct Line {
    pub(super) bucket: String,
    pub(super) amount: u64,
    pub(super) expiry: u64,
}

impl RedisStore {
    /// Settles or releases both halves of a reservation. Answers whether this call was the one that counted.
    pub(super) async fn end(&self, end: End, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError> {
        let (everyones, own): (Vec<_>, Vec<_>) = actual.iter().partition(|settled| settled.bucket.scope == Scope::Everyone);
        let books = Books::Org(org.into());
        let member = id.to_string();
        let before = if everyones.is_empty() { "ask" } else { "first" };
        match self.end_in(end, &books, id, &member, before, &own).await? {
            Ended::Counted(counted) => Ok(counted),
            Ended::EveryoneFirst => {
                self.end_in(end, &Books::Everyone, id, &half_member(id, org), "done", &everyones).await?;
                match self.end_in(end, &books, id, &member, "done", &own).await? {
                    Ended::Counted(counted) => Ok(counted),
                    Ended::EveryoneFirst => Err(misread("settle")),
                }
            }
        }
    }

    /// Settles or releases in one slot. A reservation knows which buckets it holds, but scripts must be given every key
    /// that they touch: where some are missing the script names them, does nothing, and is called again.
    pub(super) async fn end_in(
        &self,
        end: End,
        books: &Books,
        id: Uuid,
        member: &str,
        other: &str,
        actual: &[&Settled],
    ) -> Result<Ended, StoreError> {
        let slot = self.of_books(books);
        let mut lines: Vec<_> = actual.iter().map(|settled| line(&slot, settled)).collect();
        // What adds to no counter does not care how they were counted.
        let (is_counted, must_be_restored) =
            (lines.is_empty() || matches!(end, End::SettleCounted), self.must_be_restored && !lines.is_empty());
        let (script, mut fixed) = match end {
            End::Settle | End::SettleCounted => {
                (&self.settle, vec![slot.reservation(id), slot.holds(id), slot.settled(id), slot.open(), slot.books()])
            }
            End::Release => (&self.release, vec![slot.reservation(id), slot.holds(id), slot.open()]),
        };
        let fixed_len = fixed.len();
        for _ in 0..ATTEMPTS {
            fixed.truncate(fixed_len);
            fixed.extend(lines.iter().map(|line| line.bucket.clone()));
            let fill = |arguments: &mut Cmd| match end {
                End::Release => {
                    arguments.arg(member).arg(other);
                }
                End::Settle | End::SettleCounted => {
                    arguments.arg(member).arg(SETTLED_KEPT).arg(other);
                    arguments.arg(made_at(id)).arg(u8::from(is_counted)).arg(u8::from(must_be_restored));
                    for line in &lines {
                        arguments.arg(line.amount).arg(line.expiry);
                    }
                }
            };
            let answer: Vec<String> = self.redis.run_script(script, &fixed, fill).await?;
            match answer.split_first() {
                Some((word, _)) if word == "counted" || word == "released" => return Ok(Ended::Counted(true)),
                Some((word, _)) if word == "already" => return Ok(Ended::Counted(false)),
                Some((word, _)) if word == "everyone" => return Ok(Ended::EveryoneFirst),
                Some((word, _)) if word == "lost" => return Err(StoreError::Lost(books.clone())),
                Some((word, _)) if word == "by rows" => return Err(StoreError::CountedByRows),
                Some((word, buckets)) if word == "buckets" => {
                    lines.extend(buckets.iter().map(|bucket| Line { bucket: bucket.clone(), amount: 0, expiry: 0 }));
                }
                _ => return Err(misread("settle")),
            }
        }
        Err(StoreError::Unavailable("the reservation changes faster than it can be ended".into()))
    }

    /// Releases halves in everyone's slot whose other half is gone.
    ///
    /// They come from requests that Redis carried out long after their caller had given them up: it had stopped for a
    /// while, the caller had released the org's half, and then it read what was still in its socket.
    pub(super) async fn release_lone_halves(&self, now: Timestamp) -> Result<(), StoreError> {
        let slot = self.of_everyone();
        for half in self.up_to(&slot.open(), milliseconds(now, Duration::ZERO)).await? {
            let Some((id, org)) = half.split_once(' ').and_then(|(id, org)| Some((id.parse().ok()?, org))) else { continue };
            let mut is_open = redis::cmd("EXISTS");
            is_open.arg(self.of_org(org).reservation(id));
            if self.redis.run::<bool>(is_open).await? {
                let mut look_later = redis::cmd("ZADD");
                look_later.arg(slot.open()).arg("XX").arg(milliseconds(now, LOOK_AT_HALF_AFTER)).arg(&half);
                self.redis.run::<()>(look_later).await?;
            } else {
                self.end_in(End::Release, &Books::Everyone, id, &half, "done", &[]).await?;
            }
        }
        Ok(())
    }
}

pub(super) fn line(slot: &Slot, settled: &Settled) -> Line {
    Line { bucket: slot.bucket(&settled.bucket), amount: settled.amount.min(MAX_AMOUNT), expiry: expiry(&settled.bucket) }
}

/// The name of everyone's half among those that are open: its other half is found by the org.
pub(super) fn half_member(id: Uuid, org: &str) -> String {
    format!("{id} {org}")
}
