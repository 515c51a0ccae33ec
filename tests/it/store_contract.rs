//! The laws of [`tollgate::limits::Store`]: one function per law, run on the memory store and on a real Redis.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

mod agreement;
mod laws;
mod redis;
mod restoring;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tollgate::limits::memory::MemoryStore;
use tollgate::limits::redis::RedisStore;
use tollgate::limits::{
    Bar, Bucket, Charge, Decision, Level, OnFailure, Period, Refusal, Reserve, Resource, Scope, Settled, Store, Window,
};
use tollgate::shared::{Redis, RedisSettings};
use uuid::Uuid;

use crate::support::redis::RedisServer;

/// The org of most laws.
const ORG: &str = "acme";

/// How long leases last in these laws.
const LEASE: Duration = Duration::from_mins(1);

/// An ordinary instant.
fn noon() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("this is an instant")
}

/// An id of its own.
fn fresh() -> Uuid {
    Uuid::now_v7()
}

/// A connection to this server, patient enough for a busy machine.
fn connection(server: &RedisServer) -> Redis {
    let mut settings = RedisSettings::new(server.url());
    settings.connect_timeout = Duration::from_secs(10);
    settings.response_timeout = Duration::from_secs(10);
    Redis::new(settings, tokio::runtime::Handle::current()).expect("the address is good")
}

fn redis_store(server: &RedisServer) -> RedisStore {
    RedisStore::new(connection(server))
}

fn org_scope(org: &str) -> Scope {
    Scope::Org { org: org.into() }
}

fn member_scope(member: &str) -> Scope {
    Scope::Member { org: ORG.into(), member: member.into() }
}

/// A counter of tokens of the day that `now` falls in, in UTC.
fn tokens_on(now: Timestamp, scope: Scope) -> Bucket {
    Bucket { scope, resource: Resource::Tokens, period: Period::at(Window::Day, now, &TimeZone::UTC) }
}

/// Today's counter of tokens.
fn tokens(scope: Scope) -> Bucket {
    tokens_on(noon(), scope)
}

fn bar(limit: u64) -> Bar {
    Bar { limit, on_failure: OnFailure::Closed, why: "limits[0]: any member".into() }
}

/// A charge of `fixed` against an enforced limit.
fn charge(bucket: Bucket, limit: u64, fixed: u64) -> Charge {
    Charge { bucket, enforce: Some(bar(limit)), shadow: None, fixed, per_room_token: 0 }
}

fn settled(bucket: &Bucket, amount: u64) -> Settled {
    Settled { bucket: bucket.clone(), amount }
}

/// A wish of `ORG` without room for an answer.
fn wish(id: Uuid, charges: &[Charge]) -> Reserve<'_> {
    Reserve { id, org: ORG, charges, room: 0, least_room: 0, owner: "replica-1", lease: LEASE, now: noon(), record: "as reserved" }
}

/// Reserves, and expects that the store answers.
async fn reserve(store: &dyn Store, wish: &Reserve<'_>) -> Decision {
    store.reserve(wish).await.expect("the store answers")
}

/// Reserves, and expects to be admitted. Answers the room.
async fn admit(store: &dyn Store, wish: &Reserve<'_>) -> u64 {
    match reserve(store, wish).await {
        Decision::Admitted { room, .. } => room,
        Decision::Refused(refusal) => panic!("this should fit, but {refusal:?} is in the way"),
    }
}

/// Reserves, and expects to be refused.
async fn refuse(store: &dyn Store, wish: &Reserve<'_>) -> Refusal {
    match reserve(store, wish).await {
        Decision::Refused(refusal) => *refusal,
        admitted @ Decision::Admitted { .. } => panic!("this should not fit, but was {admitted:?}"),
    }
}

async fn level(store: &dyn Store, bucket: &Bucket) -> Level {
    let levels = store.peek(std::slice::from_ref(bucket)).await.expect("the store answers");
    levels[0]
}

fn used_held(used: u64, held: u64) -> Level {
    Level { used, held }
}

/// Runs each law on each store.
macro_rules! on_both_stores {
    ($($law:ident)*) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                super::laws::$law(std::sync::Arc::new(super::MemoryStore::new())).await;
            })*
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let server = super::RedisServer::start();
                super::laws::$law(std::sync::Arc::new(super::redis_store(&server))).await;
            })*
        }
    };
}

on_both_stores! {
    of_200_at_once_exactly_as_many_are_admitted_as_fit
    it_is_all_or_nothing
    a_refusal_names_the_first_limit_in_the_way
    everyones_limits_come_last
    a_limit_of_zero_allows_nothing
    reserving_twice_is_reserving_once
    settling_counts_once
    settling_what_was_released_or_never_reserved_counts_once
    settling_frees_what_it_does_not_mention
    releasing_what_was_settled_changes_nothing
    a_released_id_may_be_reserved_anew
    a_settlement_after_midnight_goes_to_the_day_that_reserved
    the_truth_may_exceed_the_limit
    extending_raises_and_never_lowers
    the_room_shrinks_before_anyone_is_refused
    the_room_shrinks_to_what_everyone_has_left
    shadow_limits_only_tell
    caps_of_everyone_hold_across_orgs
    amounts_are_exact_near_the_largest
    amounts_beyond_the_largest_stay_within_it
    a_lapsed_lease_is_taken_over_once
    a_renewed_lease_is_not_taken_over
    a_lease_that_was_let_go_is_taken_over_at_once
    what_is_ended_is_not_swept
    a_reservation_without_charges_is_swept_like_any_other
    strange_names_do_not_mix
}

/// What every law takes.
type AnyStore = Arc<dyn Store>;
