//! The contract of a store of counters and reservations.
//!
//! Every verb is idempotent by the reservation's id. A store never lets `used + held` of a bucket pass its enforced
//! limit by reserving; settling to the truth may.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Bucket, Charge, Refusal};

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

/// Why a store gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is too slow, or its circuit is open.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
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

    /// Takes back what is held and forgets the reservation. A settled one stays settled.
    async fn release(&self, org: &str, id: Uuid) -> Result<(), StoreError>;

    /// Lets go of a lease, so that the next sweep of another replica takes the generation over at once.
    async fn hand_over(&self, org: &str, id: Uuid) -> Result<(), StoreError>;

    /// What these buckets hold now, in their order.
    async fn peek(&self, buckets: &[Bucket]) -> Result<Vec<Level>, StoreError>;

    /// Takes over open reservations of `org` whose lease has lapsed.
    async fn sweep(&self, org: &str, owner: &str, now: Timestamp, lease: Duration) -> Result<Vec<Orphan>, StoreError>;

    /// Whether the store can decide right now; used for readiness.
    async fn healthy(&self) -> bool;
}
