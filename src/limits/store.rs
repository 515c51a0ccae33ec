//! The contract of a store of counters and reservations.
//!
//! Every verb is idempotent by the reservation's id. A store never lets `used + held` of a bucket pass its enforced
//! limit by reserving; settling to the truth may.
//!
//! # Books that are lost, and the cut
//!
//! A store may lose its counters: memory with its process, Redis with a restart, a flush, a failover to an empty
//! replica. It then answers [`StoreError::Lost`] and decides nothing until they are counted anew from the usage rows
//! ([`Store::begin_count`], [`Store::count`]; [`super::restoring`] does it). Generations settle meanwhile, whose rows may
//! or may not have been read. What counts each of them once is the **cut**, an instant that is fixed when the books are
//! found lost:
//!
//! > A generation is counted by its rows where its id was made before the cut, else by its settlement.
//!
//! Both halves are idempotent: rows are counted by adding all of them up again, settlements by their id. It does not
//! matter who counts when, which clock made the id, or in which order things arrive; each id lies on one side.
//! A generation from before the cut that settles later is told so ([`StoreError::CountedByRows`]); its rows are brought to
//! the database, are counted once more, and only then what it holds is given back ([`Store::settle_counted`]).
//!
//! Counters that are wrong for any other reason come right in the same way: the cut is moved ([`Store::move_cut`]) and the
//! rows are counted.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Books, Bucket, Charge, Refusal};

/// A request to reserve.
#[derive(Debug, Clone)]
pub struct Reserve<'a> {
    /// The reservation's id, which is also the generation's and the usage row's.
    pub id: Uuid,
    /// The org whose slot the reservation lives in.
    pub org: &'a str,
    /// What it would add to each bucket: each bucket once, of `org` or of everyone. May be empty: the reservation then
    /// only records who owns the generation.
    pub charges: &'a [Charge],
    /// The room for the answer that is wanted, in tokens.
    pub room: u64,
    /// The least room worth admitting with, in tokens; at most `room`.
    pub least_room: u64,
    /// The replica that asks, and will own the generation.
    pub owner: &'a str,
    /// How long the owner may stay silent before another may take the generation over.
    pub lease: Duration,
    /// Now.
    pub now: Timestamp,
    /// What another replica must know to take over; opaque to the store.
    pub record: &'a str,
}

/// What a store decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Everything fits; the charges are held.
    Admitted {
        /// The room for the answer that was reserved: `least_room..=room`.
        room: u64,
        /// Shadow limits that would have refused.
        shadowed: Vec<Refusal>,
    },
    /// Nothing is held; this limit is in the way.
    Refused(Box<Refusal>),
}

/// What a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Level {
    /// Settled use.
    pub used: u64,
    /// Held by reservations that are not settled.
    pub held: u64,
}

/// What one bucket is charged in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The counter: the one that was reserved, also when its period is over.
    pub bucket: Bucket,
    /// What was really used, in the resource's unit.
    pub amount: u64,
}

/// Whether a reservation's request has left for LibreChat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not forwarded yet: may be released.
    Held,
    /// Forwarded: must be settled, never at zero unasked.
    Forwarded,
}

/// A reservation whose owner fell silent, now owned by the replica that swept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its id.
    pub id: Uuid,
    /// Whether its request was forwarded.
    pub stage: Stage,
    /// The fencing number of the new lease.
    pub fence: u64,
    /// The record as last written.
    pub record: String,
}

/// Who has an open reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The replica; empty where its lease was let go.
    pub owner: String,
    /// Whether its request was forwarded, as far as the store was told.
    pub stage: Stage,
}

/// Why a store gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is too slow, or its circuit is open.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// These counters are lost and must be counted anew. Nothing was done to them.
    #[error("the store has lost the counters of {0}")]
    Lost(Books),
    /// The generation is from before the cut: its rows count it, and not its settlement. Nothing was done.
    #[error("the generation is counted by its rows")]
    CountedByRows,
}

/// A count of the usage rows that goes on. What the database has when it begins is in it: rows are read after that, never
/// before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Later counts have larger numbers.
    pub number: u64,
    /// Rows of generations are counted whose ids were made before it, in milliseconds since 1970; see [`made_at`].
    pub cut: u64,
    /// Whether the books were lost.
    pub is_lost: bool,
}

/// How some books stand at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    /// The cut.
    pub cut: u64,
    /// How many reservations were ever settled. Where it is the same again, with the same cut, nothing was in between.
    pub settled: u64,
    /// How many reservations are open.
    pub open: u64,
    /// What is used of the buckets that were asked for, in that order; nothing where nothing was settled to one since the
    /// cut. No limit may stand on such a counter, and then it need not be what its rows add up to.
    pub used: Vec<Option<u64>>,
}

impl Observed {
    /// Whether nothing is open.
    pub fn stands_still(&self) -> bool {
        self.open == 0
    }

    /// Whether nothing was settled between one and the other.
    pub fn is_as(&self, other: &Self) -> bool {
        (self.cut, self.settled) == (other.cut, other.settled)
    }
}

/// Up to when the replicas have told that the database has what was in their journals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The least of all that told in the last hour, in milliseconds since 1970.
    pub by_all: u64,
    /// Whether the store knew of the replica before. If not, it may have lost everything since that told last.
    pub was_known: bool,
}

/// How long a replica may be silent before its journal is waited for no more, in milliseconds.
pub(super) const SILENT_FOR: u64 = 60 * 60 * 1000;

/// When an id was made, in milliseconds since 1970: the first 48 bits of a UUID version 7. Of any other id they are just
/// as good a place to cut.
pub fn made_at(id: Uuid) -> u64 {
    u64::try_from(id.as_u128() >> 80).unwrap_or(u64::MAX)
}

/// The least id that was made at `milliseconds` since 1970 or later.
pub fn first_id(milliseconds: u64) -> Uuid {
    Uuid::from_u128(u128::from(milliseconds.min((1 << 48) - 1)) << 80)
}

/// Counters and reservations. See the module's text for the laws.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync {
    /// All or nothing over every charge. Where the whole `room` does not fit, it shrinks down to `least_room`
    /// before anyone is refused. A refusal names the first charge in the way, the org's before everyone's. A second
    /// call with the same id changes nothing and admits again, without telling of shadow limits again.
    async fn reserve(&self, reserve: &Reserve<'_>) -> Result<Decision, StoreError>;

    /// Replaces the record and stage of an open reservation; nothing where it is not open.
    async fn write(&self, org: &str, id: Uuid, stage: Stage, record: &str) -> Result<(), StoreError>;

    /// Renews the leases of these open reservations until `now + lease`, each with the fencing number it was taken
    /// with (a fresh reservation's is 1). Answers those that are no longer this owner's.
    async fn renew(&self, org: &str, owner: &str, open: &[(Uuid, u64)], now: Timestamp, lease: Duration) -> Result<Vec<Uuid>, StoreError>;

    /// Raises what an open reservation holds to at least these amounts; never lowers it. Buckets that it was not
    /// reserved over are left alone.
    async fn extend(&self, org: &str, id: Uuid, to: &[Settled]) -> Result<(), StoreError>;

    /// Takes back what is held and adds what was used, once per id, whether or not the reservation still exists.
    /// Answers whether this call was the one that counted.
    async fn settle(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError>;

    /// The same after the rows of a generation were counted: where it is from before the cut, what it holds is taken back
    /// and nothing is added.
    async fn settle_counted(&self, org: &str, id: Uuid, actual: &[Settled]) -> Result<bool, StoreError>;

    /// Begins to count rows anew. Of books that are lost `cut` becomes the cut, unless another count has begun before.
    async fn begin_count(&self, books: &Books, cut: u64) -> Result<Count, StoreError>;

    /// Ends a count: `used` is what rows from before the cut say, bucket by bucket, each once and all in these books.
    /// Books that were lost are there again. What a later count has said of a bucket stands. Answers false, and does
    /// nothing, where the books have another cut by now.
    async fn count(&self, books: &Books, count: &Count, used: &[(Bucket, u64)]) -> Result<bool, StoreError>;

    /// How these books and buckets, all in these books, stand.
    async fn observe(&self, books: &Books, buckets: &[Bucket]) -> Result<Observed, StoreError>;

    /// Moves the cut to a later one, where nothing is open and nothing was settled since the books were observed. Answers
    /// whether it did. No id may have been settled that was made at the new cut or later.
    async fn move_cut(&self, books: &Books, observed: &Observed, cut: u64) -> Result<bool, StoreError>;

    /// Tells that the database has every row that was in a replica's journal at an instant, in milliseconds since 1970.
    async fn tell_shipped(&self, replica: &str, at: u64) -> Result<Told, StoreError>;

    /// Takes back what is held and forgets the reservation. A settled one stays settled.
    async fn release(&self, org: &str, id: Uuid) -> Result<(), StoreError>;

    /// Who has an open reservation; nobody where it is settled, released or lost.
    async fn holder(&self, org: &str, id: Uuid) -> Result<Option<Holder>, StoreError>;

    /// Lets go of a lease, so that the next sweep of another replica takes the generation over at once.
    async fn hand_over(&self, org: &str, id: Uuid) -> Result<(), StoreError>;

    /// What these buckets hold now, in their order.
    async fn peek(&self, buckets: &[Bucket]) -> Result<Vec<Level>, StoreError>;

    /// Takes over open reservations of `org` whose lease has lapsed.
    async fn sweep(&self, org: &str, owner: &str, now: Timestamp, lease: Duration) -> Result<Vec<Orphan>, StoreError>;

    /// Whether the store can decide right now; used for readiness.
    async fn healthy(&self) -> bool;
}
