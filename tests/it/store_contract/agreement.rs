//! Memory and Redis give the same answers to any sequence of calls.

use proptest::prelude::*;
use tollgate::limits::store::{Orphan, Stage};

use super::*;

/// One call. Small numbers stand for ids, owners and counters, so that calls meet each other.
#[derive(Debug, Clone)]
enum Call {
    Reserve { id: usize, owner: usize, charges: Vec<AnyCharge>, room: u64, least_room: u64 },
    Write { id: usize, is_forwarded: bool },
    Renew { owner: usize, fences: Vec<(usize, u64)> },
    Extend { id: usize, to: Vec<(usize, u64)> },
    Settle { id: usize, actual: Vec<(usize, u64)> },
    Release { id: usize },
    HandOver { id: usize },
    Sweep { owner: usize },
    Wait { seconds: u32 },
}

#[derive(Debug, Clone)]
struct AnyCharge {
    bucket: usize,
    enforce: Option<u64>,
    shadow: Option<u64>,
    fixed: u64,
    per_room_token: u64,
}

/// What a store answered.
#[derive(Debug, PartialEq)]
enum Said {
    Nothing,
    Decided(Decision),
    Counted(bool),
    Lost(Vec<Uuid>),
    Swept(Vec<Orphan>),
}

const OWNERS: [&str; 2] = ["replica-1", "replica-2"];
const IDS: usize = 4;
const BUCKETS: usize = 5;

fn buckets() -> [Bucket; BUCKETS] {
    let cost = |scope| Bucket { resource: Resource::Cost, ..tokens(scope) };
    [tokens(member_scope("ann")), cost(member_scope("ann")), tokens(org_scope(ORG)), tokens(Scope::Everyone), cost(Scope::Everyone)]
}

fn charges() -> impl Strategy<Value = Vec<AnyCharge>> {
    let limit = || prop::option::of(prop_oneof![0_u64..300, Just(u64::MAX >> 11)]);
    let charge = (limit(), limit(), 0_u64..60, 0_u64..4);
    let any = prop::collection::vec(charge, BUCKETS);
    (any, prop::sample::subsequence((0..BUCKETS).collect::<Vec<_>>(), 0..=BUCKETS).prop_shuffle()).prop_map(|(any, chosen)| {
        let charge = |(bucket, (enforce, shadow, fixed, per_room_token))| AnyCharge { bucket, enforce, shadow, fixed, per_room_token };
        chosen.into_iter().zip(any).map(charge).collect()
    })
}

fn amounts() -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec((0..BUCKETS, prop_oneof![9 => 0_u64..200, 1 => Just(u64::MAX >> 12)]), 0..5)
}

fn call() -> impl Strategy<Value = Call> {
    let (id, owner) = (0..IDS, 0..OWNERS.len());
    prop_oneof![
        8 => (id.clone(), owner.clone(), charges(), 0_u64..80, 0_u64..40)
            .prop_map(|(id, owner, charges, room, least_room)| Call::Reserve { id, owner, charges, room, least_room }),
        2 => (id.clone(), any::<bool>()).prop_map(|(id, is_forwarded)| Call::Write { id, is_forwarded }),
        2 => (owner.clone(), prop::collection::vec((id.clone(), 1_u64..4), 0..4)).prop_map(|(owner, fences)| Call::Renew { owner, fences }),
        2 => (id.clone(), amounts()).prop_map(|(id, to)| Call::Extend { id, to }),
        2 => (id.clone(), amounts()).prop_map(|(id, actual)| Call::Settle { id, actual }),
        3 => id.clone().prop_map(|id| Call::Release { id }),
        1 => id.prop_map(|id| Call::HandOver { id }),
        3 => owner.prop_map(|owner| Call::Sweep { owner }),
        3 => (1_u32..90).prop_map(|seconds| Call::Wait { seconds }),
    ]
}

/// What the calls are about: the ids that the small numbers stand for, and the time.
struct World {
    ids: [Uuid; IDS],
    buckets: [Bucket; BUCKETS],
    now: Timestamp,
}

impl World {
    async fn ask(&self, store: &dyn Store, call: &Call) -> Result<Said, tollgate::limits::StoreError> {
        let all = |amounts: &[(usize, u64)]| -> Vec<_> {
            amounts.iter().map(|(bucket, amount)| settled(&self.buckets[*bucket], *amount)).collect()
        };
        Ok(match call {
            Call::Reserve { id, owner, charges, room, least_room } => {
                let charges: Vec<_> = charges.iter().map(|charge| self.charge(charge)).collect();
                let wish =
                    Reserve { owner: OWNERS[*owner], room: *room, least_room: *least_room, now: self.now, ..wish(self.ids[*id], &charges) };
                Said::Decided(store.reserve(&wish).await?)
            }
            Call::Write { id, is_forwarded } => {
                let stage = if *is_forwarded { Stage::Forwarded } else { Stage::Held };
                store.write(ORG, self.ids[*id], stage, "as written").await?;
                Said::Nothing
            }
            Call::Renew { owner, fences } => {
                let open: Vec<_> = fences.iter().map(|(id, fence)| (self.ids[*id], *fence)).collect();
                Said::Lost(store.renew(ORG, OWNERS[*owner], &open, self.now, LEASE).await?)
            }
            Call::Extend { id, to } => {
                store.extend(ORG, self.ids[*id], &all(to)).await?;
                Said::Nothing
            }
            Call::Settle { id, actual } => Said::Counted(store.settle(ORG, self.ids[*id], &all(actual)).await?),
            Call::Release { id } => {
                store.release(ORG, self.ids[*id]).await?;
                Said::Nothing
            }
            Call::HandOver { id } => {
                store.hand_over(ORG, self.ids[*id]).await?;
                Said::Nothing
            }
            Call::Sweep { owner } => Said::Swept(store.sweep(ORG, OWNERS[*owner], self.now, LEASE).await?),
            Call::Wait { .. } => Said::Nothing,
        })
    }

    fn charge(&self, charge: &AnyCharge) -> Charge {
        let AnyCharge { bucket, enforce, shadow, fixed, per_room_token } = *charge;
        Charge { bucket: self.buckets[bucket].clone(), enforce: enforce.map(bar), shadow: shadow.map(bar), fixed, per_room_token }
    }
}

#[test]
fn memory_and_redis_agree() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let server = RedisServer::start();
    let redis = runtime.block_on(async { redis_store(&server) });
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(calls in prop::collection::vec(call(), 1..50))| {
        server.command::<()>(&["FLUSHALL"]);
        let memory = MemoryStore::new();
        let mut world = World { ids: std::array::from_fn(|_| fresh()), buckets: buckets(), now: noon() };
        runtime.block_on(async {
            for (i, call) in calls.iter().enumerate() {
                if let Call::Wait { seconds } = call {
                    world.now += Duration::from_secs((*seconds).into());
                }
                let in_memory = world.ask(&memory, call).await.expect("memory answers");
                let in_redis = world.ask(&redis, call).await.expect("Redis answers");
                prop_assert_eq!(&in_memory, &in_redis, "memory (left) and Redis disagree on call {}: {:?}", i, call);
                let in_memory = memory.peek(&world.buckets).await.expect("memory answers");
                let in_redis = redis.peek(&world.buckets).await.expect("Redis answers");
                prop_assert_eq!(in_memory, in_redis, "memory (left) and Redis count differently after call {}: {:?}", i, call);
            }
            // At the end everything that is held is given back, to the last token.
            for id in world.ids {
                memory.release(ORG, id).await.expect("memory answers");
                redis.release(ORG, id).await.expect("Redis answers");
            }
            for store in [&memory as &dyn Store, &redis] {
                let levels = store.peek(&world.buckets).await.expect("the store answers");
                prop_assert!(levels.iter().all(|level| level.held == 0), "something is held by nobody: {:?}", levels);
            }
            Ok(())
        })?;
    });
}
