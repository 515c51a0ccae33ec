//! What only a store over a network can get wrong.

use std::time::Instant;

use super::*;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store as impatient as in production, or nearly.
fn impatient(server: &RedisServer) -> (Redis, RedisStore) {
    let mut settings = RedisSettings::new(server.url());
    settings.failures_to_open = 3;
    settings.open_for = Duration::from_millis(100);
    let redis = Redis::new(settings, tokio::runtime::Handle::current()).expect("the address is good");
    (redis.clone(), RedisStore::new(redis))
}

/// Asks again and again until the store answers.
async fn until_it_answers(store: &RedisStore) {
    let start = Instant::now();
    while !store.healthy().await {
        assert!(start.elapsed() < PATIENCE, "the store did not recover within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until the circuit is open.
async fn until_it_is_given_up(redis: &Redis, store: &RedisStore) {
    let start = Instant::now();
    while redis.is_available() {
        assert!(start.elapsed() < PATIENCE, "the circuit did not open within {PATIENCE:?}");
        store.peek(&[tokens(org_scope(ORG))]).await.expect_err("nothing answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_admit_as_many_as_one() {
    let server = RedisServer::start();
    let stores = [Arc::new(redis_store(&server)), Arc::new(redis_store(&server))];
    let charges = [charge(tokens(member_scope("ann")), 5_000, 130), charge(tokens(Scope::Everyone), 6_000, 130)];
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let (store, charges) = (stores[i % 2].clone(), charges.clone());
        tasks.spawn(async move { matches!(reserve(&*store, &wish(fresh(), &charges)).await, Decision::Admitted { .. }) });
    }
    let admitted = tasks.join_all().await.into_iter().filter(|is_admitted| *is_admitted).count();
    assert_eq!(admitted, 38, "5000 tokens have room for 38 times 130");
    let swept = stores[1].sweep(ORG, "replica-2", noon() + LEASE, LEASE).await.expect("the store answers");
    assert_eq!(swept.len(), 38, "one can take over everything from the other");
    for orphan in swept {
        stores[1].release(ORG, orphan.id).await.expect("the store answers");
    }
    for charge in &charges {
        assert_eq!(level(&*stores[0], &charge.bucket).await, used_held(0, 0), "all is given back");
    }
    assert_eq!(server.keys(), [] as [&str; 0], "nothing is left behind");
}

#[tokio::test]
async fn more_orphans_than_one_script_call_takes() {
    let server = RedisServer::start();
    let store = redis_store(&server);
    let mut open = Vec::new();
    for _ in 0..450 {
        let id = fresh();
        admit(&store, &wish(id, &[])).await;
        open.push((id, 1));
    }
    let at = noon() + LEASE / 2;
    assert!(store.renew(ORG, "replica-1", &open, at, LEASE).await.expect("the store answers").is_empty(), "all are renewed");
    let swept = store.sweep(ORG, "replica-2", at + LEASE, LEASE).await.expect("the store answers");
    assert_eq!(swept.len(), 450);
    let lost = store.renew(ORG, "replica-1", &open, at, LEASE).await.expect("the store answers");
    assert_eq!(lost.len(), 450);
}

#[tokio::test]
async fn scripts_that_were_flushed_are_sent_again() {
    let server = RedisServer::start();
    let store = redis_store(&server);
    store.self_test().await.expect("this Redis runs scripts");
    let (id, ann) = (fresh(), tokens(member_scope("ann")));
    for flush in [false, true] {
        let forget = || {
            if flush {
                server.command::<()>(&["SCRIPT", "FLUSH"]);
            }
        };
        forget();
        admit(&store, &wish(id, &[charge(ann.clone(), 1000, 60)])).await;
        forget();
        store.extend(ORG, id, &[settled(&ann, 61)]).await.expect("the store answers");
        forget();
        store.release(ORG, id).await.expect("the store answers");
        assert_eq!(level(&store, &ann).await, used_held(0, 0));
    }
    store.self_test().await.expect("this Redis still runs scripts");
}

#[tokio::test]
async fn every_key_expires() {
    let server = RedisServer::start();
    let store = redis_store(&server);
    let month = Bucket { period: Period::at(Window::Month, noon(), &TimeZone::UTC), ..tokens(Scope::Everyone) };
    let charges = [charge(tokens(member_scope("ann")), 1000, 60), charge(month.clone(), 1000, 60)];
    let (open, ended) = (fresh(), fresh());
    admit(&store, &wish(open, &charges)).await;
    admit(&store, &wish(ended, &charges)).await;
    store.settle(ORG, ended, &[settled(&month, 5)]).await.expect("the store answers");
    store.settle(ORG, fresh(), &[settled(&tokens(member_scope("bob")), 5)]).await.expect("the store answers");
    let keys = server.keys();
    assert!(keys.len() >= 9, "there should be counters, reservations, holds, indexes and markers: {keys:?}");
    for key in keys {
        let redis_says: i64 = server.command(&["TTL", &key]);
        assert!((1..=40 * 86_400).contains(&redis_says), "{key} expires in {redis_says} s");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_costs_no_time_and_is_used_again() {
    let server = RedisServer::start();
    let (redis, store) = impatient(&server);
    let store = Arc::new(store);
    until_it_answers(&store).await;

    server.pause();
    let start = Instant::now();
    let why = store.reserve(&wish(fresh(), &[])).await.expect_err("nothing answers");
    assert!(start.elapsed() < Duration::from_secs(2), "100 ms were allowed, it took {:?}", start.elapsed());
    assert!(why.to_string().contains("unavailable"), "{why}");
    until_it_is_given_up(&redis, &store).await;
    let start = Instant::now();
    for _ in 0..200 {
        store.peek(&[tokens(org_scope(ORG))]).await.expect_err("nothing answers");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "200 calls waited 100 ms each, although only probes should");

    server.resume();
    until_it_answers(&store).await;
    assert!(redis.is_available(), "the circuit is closed again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hanging_redis_carries_out_late_is_swept() {
    let server = RedisServer::start();
    let (_, hasty) = impatient(&server);
    until_it_answers(&hasty).await;
    let store = redis_store(&server);
    let buckets = [tokens(org_scope(ORG)), tokens(Scope::Everyone)];
    let charges = buckets.clone().map(|bucket| charge(bucket, 1000, 60));
    let known = fresh();
    admit(&store, &wish(known, &charges)).await; // From here on Redis knows the script.
    store.release(ORG, known).await.expect("the store answers");

    server.pause();
    let late = fresh();
    hasty.reserve(&wish(late, &charges)).await.expect_err("nothing answers");
    server.resume();

    let start = Instant::now();
    let orphan = loop {
        assert!(start.elapsed() < PATIENCE, "the late reservation was not carried out within {PATIENCE:?}");
        let swept = store.sweep(ORG, "replica-2", noon() + LEASE, LEASE).await.expect("the store answers");
        if let [orphan] = &swept[..] {
            break orphan.id;
        }
    };
    assert_eq!(orphan, late);
    assert_eq!(level(&store, &buckets[0]).await, used_held(0, 60), "its caller had gone when it was carried out");
    store.release(ORG, orphan).await.expect("the store answers");
    let levels = store.peek(&buckets).await.expect("the store answers");
    assert_eq!(levels, [used_held(0, 0); 2], "now it is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_finds_all_that_a_script_touches_in_one_slot() {
    let server = RedisServer::start_cluster();
    let store: AnyStore = Arc::new(redis_store(&server));
    macro_rules! each {
        ($($law:ident)*) => {
            $(server.command::<()>(&["FLUSHALL"]);
            laws::$law(store.clone()).await;)*
        };
    }
    each! {
        it_is_all_or_nothing
        reserving_twice_is_reserving_once
        settling_counts_once
        settling_frees_what_it_does_not_mention
        a_released_id_may_be_reserved_anew
        extending_raises_and_never_lowers
        the_room_shrinks_to_what_everyone_has_left
        caps_of_everyone_hold_across_orgs
        a_lapsed_lease_is_taken_over_once
        a_lease_that_was_let_go_is_taken_over_at_once
        strange_names_do_not_mix
    }
    store.healthy().await.then_some(()).expect("the self-test passes");
}

#[tokio::test]
async fn a_half_that_lost_its_other_half_is_released() {
    let server = RedisServer::start();
    let store = redis_store(&server);
    let everyone = tokens(Scope::Everyone);
    let (whole, lone) = (fresh(), fresh());
    for id in [whole, lone] {
        admit(&store, &wish(id, &[charge(everyone.clone(), 1000, 60)])).await;
    }
    // As if the org's half had been released before Redis came to read the request for everyone's.
    server.command::<()>(&["DEL", &format!("tollgate:{{o:{ORG}}}:reservation:{lone}")]);
    server.command::<()>(&["ZREM", &format!("tollgate:{{o:{ORG}}}:open"), &lone.to_string()]);
    let much_later = noon() + LEASE * 600;
    store.renew(ORG, "replica-1", &[(whole, 1)], much_later, LEASE).await.expect("the store answers");
    for _ in 0..2 {
        assert_eq!(store.sweep("any-org", "replica-2", much_later, LEASE).await.expect("the store answers"), []);
        assert_eq!(level(&store, &everyone).await, used_held(0, 60), "the whole one is kept, the lone half is given back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_replaced_is_used_again() {
    let mut server = RedisServer::start();
    let (redis, store) = impatient(&server);
    until_it_answers(&store).await;
    server.kill();
    until_it_is_given_up(&redis, &store).await;
    server.replace();
    until_it_answers(&store).await;
    assert!(redis.is_available(), "the circuit is closed again");
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_named_without_its_password() {
    let mut server = RedisServer::start();
    server.kill();
    let url = server.url().replace("redis://", "redis://user:hunter2@");
    let redis = Redis::new(RedisSettings::new(url), tokio::runtime::Handle::current()).expect("the address is good");
    let why = RedisStore::new(redis.clone()).self_test().await.expect_err("nothing is there").to_string();
    assert!(why.contains(redis.address()) && redis.address().starts_with("127.0.0.1:"), "it should say where: {why}");
    let printed = format!("{why} {redis:?} {:?}", RedisSettings::new("redis://user:hunter2@redis"));
    assert!(!printed.contains("hunter2"), "the password is shown: {printed}");
}

#[tokio::test]
async fn a_command_that_is_refused_does_not_open_the_circuit() {
    let server = RedisServer::start();
    let redis = connection(&server);
    let store = RedisStore::new(redis.clone());
    server.command::<()>(&["SET", "tollgate:{o:acme}:tokens:2026-11-20", "not a counter"]);
    for _ in 0..20 {
        store.peek(&[tokens(org_scope(ORG))]).await.expect_err("this is no counter");
    }
    assert!(redis.is_available(), "one broken key must not stop everyone");
    admit(&store, &wish(fresh(), &[charge(tokens(member_scope("ann")), 1000, 60)])).await;
}

#[tokio::test]
async fn values_and_hashes_are_kept_for_their_time() {
    let server = RedisServer::start();
    let redis = connection(&server);
    redis.ping().await.expect("Redis answers");
    assert_eq!(redis.get("k").await.expect("Redis answers"), None);
    redis.put("k", "v", Duration::from_mins(1)).await.expect("Redis answers");
    assert_eq!(redis.get("k").await.expect("Redis answers").as_deref(), Some("v"));
    assert_eq!(redis.fields("h").await.expect("Redis answers"), [] as [&str; 0]);
    for (field, value) in [("one", "a"), ("other", "b"), ("one", "c")] {
        redis.put_field("h", field, value, Duration::from_mins(1)).await.expect("Redis answers");
    }
    let mut fields = redis.fields("h").await.expect("Redis answers");
    fields.sort_unstable();
    assert_eq!(fields, ["b", "c"]);
    for key in ["k", "h"] {
        let ttl: i64 = server.command(&["PTTL", key]);
        assert!((1..=60_000).contains(&ttl), "{key} expires in {ttl} ms");
        assert!(redis.delete(key).await.expect("Redis answers"), "{key} was there");
        assert!(!redis.delete(key).await.expect("Redis answers"), "{key} is gone");
    }
}

#[tokio::test]
async fn half_a_reservation_is_given_back_where_the_other_half_fails() {
    let server = RedisServer::start();
    let store = redis_store(&server);
    let (ann, everyones) = (tokens(member_scope("ann")), tokens(Scope::Everyone));
    let charges = [charge(ann.clone(), 1000, 60), charge(everyones.clone(), 1000, 60)];
    let id = fresh();
    admit(&store, &wish(id, &charges)).await;
    store.release(ORG, id).await.expect("the store answers");
    // Something else lies where everyone's counter should be.
    let key = redis_keys_of_everyone(&server, &store, &charges[1]).await;
    server.command::<()>(&["SET", &key, "x"]);
    store.reserve(&wish(fresh(), &charges)).await.expect_err("everyone's half cannot be reserved");
    let start = Instant::now();
    while level(&store, &ann).await != used_held(0, 0) {
        assert!(start.elapsed() < PATIENCE, "the org's half stays held");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The key of everyone's counter, found by reserving.
async fn redis_keys_of_everyone(server: &RedisServer, store: &RedisStore, charge: &Charge) -> String {
    let id = fresh();
    admit(store, &wish(id, std::slice::from_ref(charge))).await;
    let is_counter = |key: &String| key.contains("{everyone}") && server.command::<String>(&["TYPE", key]) == "hash";
    let key = server.keys().into_iter().find(|key| is_counter(key) && server.command::<bool>(&["HEXISTS", key, "held"]));
    store.release(ORG, id).await.expect("the store answers");
    key.expect("everyone's counter")
}
