//! Reserving: the org's half first, then everyone's.

use redis::Cmd;
use uuid::Uuid;

use super::answers::{Answer, misread};
use super::ending::{End, half_member};
use super::{LOOK_AT_HALF_AFTER, RESERVATION_KEPT, RedisStore, expiry, milliseconds};
use crate::limits::redis_keys::Slot;
use crate::limits::store::{Decision, Reserve, Settled, StoreError};
use crate::limits::{Bar, Books, Charge, MAX_AMOUNT, Refusal};

/// What differs between the two halves of a reservation.
pub(super) struct Half<'a> {
    pub(super) member: &'a str,
    pub(super) lease_ends: u64,
    pub(super) record: &'a str,
    pub(super) room: u64,
    pub(super) has_other: bool,
}

impl RedisStore {
    /// Reserves in one slot.
    pub(super) async fn reserve_in(
        &self,
        books: &Books,
        wish: &Reserve<'_>,
        charges: &[&Charge],
        half: &Half<'_>,
    ) -> Result<Answer, StoreError> {
        let slot = self.of_books(books);
        let mut keys = vec![slot.reservation(wish.id), slot.holds(wish.id), slot.settled(wish.id), slot.open(), slot.books()];
        keys.extend(charges.iter().map(|charge| slot.bucket(&charge.bucket)));
        let fill = |arguments: &mut Cmd| {
            arguments.arg(half.member).arg(half.lease_ends).arg(wish.owner).arg(half.record);
            arguments.arg(half.room).arg(wish.least_room.min(half.room)).arg(RESERVATION_KEPT);
            arguments.arg(u8::from(half.has_other)).arg(u8::from(self.must_be_restored && !charges.is_empty()));
            for charge in charges {
                let limit = |bar: &Option<Bar>| bar.as_ref().map_or_else(String::new, |bar| bar.limit.to_string());
                arguments.arg(limit(&charge.enforce)).arg(limit(&charge.shadow));
                arguments.arg(charge.fixed.min(MAX_AMOUNT)).arg(charge.per_room_token.min(MAX_AMOUNT));
                arguments.arg(expiry(&charge.bucket));
            }
        };
        let answer: Vec<String> = self.redis.run_script(&self.reserve, &keys, fill).await?;
        if answer == ["lost"] {
            return Err(StoreError::Lost(books.clone()));
        }
        Answer::read(&answer, charges, wish.least_room.min(half.room)).ok_or_else(|| misread("reserve"))
    }

    /// Reserves everyone's half after the org's, which is released again where it is refused and lowered where there is less
    /// room.
    pub(super) async fn reserve_everyones(
        &self,
        wish: &Reserve<'_>,
        own: &[&Charge],
        everyones: &[&Charge],
        room: u64,
        mut shadowed: Vec<Refusal>,
    ) -> Result<Decision, StoreError> {
        let books = Books::Org(wish.org.into());
        let half = Half {
            member: &half_member(wish.id, wish.org),
            lease_ends: milliseconds(wish.now, LOOK_AT_HALF_AFTER),
            record: "",
            room,
            has_other: false,
        };
        match self.reserve_in(&Books::Everyone, wish, everyones, &half).await? {
            Answer::Refused(refusal) => {
                let held: Vec<_> = own.iter().map(|charge| Settled { bucket: charge.bucket.clone(), amount: 0 }).collect();
                let held: Vec<_> = held.iter().collect();
                self.end_in(End::Release, &books, wish.id, &wish.id.to_string(), "done", &held).await?;
                Ok(Decision::Refused(refusal))
            }
            Answer::Settled | Answer::Again { .. } => Ok(Decision::Admitted { room, shadowed }),
            Answer::Admitted { room: less, shadowed: more } => {
                if less < room {
                    self.shrink(&self.of_books(&books), wish.id, own, less).await?;
                }
                shadowed.extend(more);
                Ok(Decision::Admitted { room: less, shadowed })
            }
        }
    }

    /// Lowers a fresh reservation to what it holds with less room.
    async fn shrink(&self, slot: &Slot, id: Uuid, charges: &[&Charge], room: u64) -> Result<(), StoreError> {
        let mut keys = vec![slot.reservation(id), slot.holds(id)];
        keys.extend(charges.iter().map(|charge| slot.bucket(&charge.bucket)));
        let fill = |arguments: &mut Cmd| {
            arguments.arg(room);
            for charge in charges {
                arguments.arg(charge.amount(room));
            }
        };
        Ok(self.redis.run_script(&self.shrink, &keys, fill).await?)
    }
}
