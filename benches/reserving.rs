//! What a decision costs: reserving and releasing over six counters, in memory and in Redis; and choosing the rules.

#![expect(clippy::expect_used, reason = "a bench that cannot go on fails")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::runtime::Runtime;
use tollgate::limits::memory::MemoryStore;
use tollgate::limits::redis::RedisStore;
use tollgate::limits::rules::{Amounts, AppliesTo, LimitRule, Rules, Who};
use tollgate::limits::{Charge, Mode, OnFailure, Reserve, Store};
use tollgate::shared::{Redis, RedisSettings};
use uuid::Uuid;

#[path = "../tests/it/support/ports.rs"]
mod ports;
#[path = "../tests/it/support/redis.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod support;

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().expect("this is an instant")
}

/// Limits on tokens, messages and cost, a day and a month.
fn rules() -> Rules {
    let limits = LimitRule {
        name: "limits[0]".into(),
        applies_to: AppliesTo::Member,
        org: None,
        plan: None,
        role: None,
        member: None,
        tokens_per_day: Some(1 << 50),
        tokens_per_month: Some(1 << 50),
        messages_per_day: Some(1 << 50),
        messages_per_month: Some(1 << 50),
        usd_per_day: Some(1 << 50),
        usd_per_month: Some(1 << 50),
        mode: Mode::Enforce,
        on_failure: OnFailure::Closed,
    };
    Rules::new(vec![limits]).expect("these rules are good")
}

fn charges(rules: &Rules) -> Vec<Charge> {
    let amounts = Amounts { messages: 1, tokens_fixed: 900, tokens_per_room: 1, cost_fixed: 2_000_000, cost_per_room: 10_000 };
    let (org, member, role) = ("acme".into(), "68e3f2c0a1b2c3d4e5f60718".into(), "user".into());
    let zone = TimeZone::get("Asia/Seoul").expect("the time zone database has Seoul");
    let who = Who { org: &org, member: &member, role: &role, plan: None, zone: &zone, org_tokens_per_month: None };
    rules.charges(&who, &amounts, now())
}

async fn reserve_and_release(store: &dyn Store, charges: &[Charge]) {
    let id = Uuid::now_v7();
    let wish = Reserve {
        id,
        org: "acme",
        charges,
        room: 1000,
        least_room: 100,
        owner: "replica-1",
        lease: Duration::from_mins(1),
        now: now(),
        record: "{}",
    };
    black_box(store.reserve(&wish).await.expect("the store answers"));
    store.release("acme", id).await.expect("the store answers");
}

fn reserving(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let rules = rules();
    criterion.bench_function("charges of six limits", |bencher| bencher.iter(|| charges(black_box(&rules))));

    let charges = charges(&rules);
    let memory = MemoryStore::new();
    criterion.bench_function("reserve and release, memory", |bencher| {
        bencher.iter(|| runtime.block_on(reserve_and_release(&memory, &charges)));
    });

    let server = support::RedisServer::start();
    let redis = Redis::new(RedisSettings::new(server.url()), runtime.handle().clone()).expect("the address is good");
    let redis = RedisStore::new(redis);
    criterion.bench_function("reserve and release, Redis", |bencher| {
        bencher.iter(|| runtime.block_on(reserve_and_release(&redis, &charges)));
    });
}

criterion_group!(benches, reserving);
criterion_main!(benches);
