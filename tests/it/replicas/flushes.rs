//! Redis loses everything, or a little, and the counters come back from the rows.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::support::gateway::TestGateway;

/// Few enough messages to run out of them.
const THREE_MESSAGES: &str = "
    [[limits]]
    applies_to = 'member'
    messages_per_day = 3
    [generations]
    lease_seconds = 1
    follow_after_ms = 100
    [shutdown]
    grace_seconds = 1
";

fn flush(redis: &RedisServer) {
    redis.command::<()>(&["FLUSHALL"]);
}

/// Waits until so many messages are counted, and none is held.
async fn used_are(client: &ChatClient, used: usize) {
    wait_for(&format!("{used} messages to be counted"), || async {
        let me = client.get("/_tollgate/me").await.ok()?.json();
        (me["limits"][0]["used"] == used && me["limits"][0]["held"] == 0).then_some(())
    })
    .await;
}

/// Chats, and answers the status of the start.
async fn chat(client: &ChatClient) -> u16 {
    client.chat(ORDINARY).await.expect("an answer").start.status.as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_knows_what_was_used_before_it_decides() {
    let site = Site::new().await;
    let ([a, b], _folders) = site.gateways(THREE_MESSAGES);
    for gateway in [&a, &b] {
        assert_eq!(chat(&site.ann(gateway)).await, 200);
        flush(&site.redis);
    }
    site.rows(2).await;
    used_are(&site.ann(&b), 2).await;
    flush(&site.redis);
    assert_eq!(chat(&site.ann(&a)).await, 200, "the third of three");
    flush(&site.redis);
    site.rows(3).await;
    used_are(&site.ann(&b), 3).await;
    flush(&site.redis);
    assert_eq!(chat(&site.ann(&b)).await, 429, "the fourth");
    let metrics = metrics_at(b.metrics).await;
    assert!(value_of(&metrics, r#"tollgate_counters_counted_total{result="ok"}"#) >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_that_cannot_be_restored_follow_on_failure() {
    for (on_failure, status) in [("closed", 503), ("open", 200)] {
        let postgres = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL"));
        let redis = RedisServer::start();
        let store_keys = format!("timeout_ms = 5000\non_failure = '{on_failure}'");
        let setup = Setup { store: redis.url(), records: postgres.database(), store_keys, ..Setup::with(THREE_MESSAGES) };
        let gateway: TestGateway = setup.start().await;
        let ann = gateway.client("ann@acme.test");
        for _ in 0..2 {
            assert_eq!(chat(&ann).await, 200);
        }
        gateway.all_settled().await;
        let server = Arc::clone(&postgres);
        tokio::task::spawn_blocking(move || server.crash()).await.expect("a thread");
        flush(&redis);
        assert_eq!(chat(&ann).await, status, "{on_failure}");
        let server = Arc::clone(&postgres);
        tokio::task::spawn_blocking(move || server.resume()).await.expect("a thread");
        let passed = if status == 200 { 3 } else { 2 };
        gateway.usage_rows(passed).await;
        used_are(&ann, passed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_flushed_under_load_loses_no_count() {
    const MESSAGES: usize = 12;
    let site = Arc::new(Site::new().await);
    let ([a, b], _folders) = site.gateways(QUICK);
    let answered = Arc::new(AtomicUsize::new(0));
    let mut people = tokio::task::JoinSet::new();
    for person in 0..6 {
        let url = format!("http://{}", [&a, &b][person % 2].public);
        let (site, answered) = (Arc::clone(&site), Arc::clone(&answered));
        people.spawn(async move {
            let client = site.client(&url, "ann@acme.test");
            for _ in 0..MESSAGES {
                assert_eq!(chat(&client).await, 200, "no limit is near");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for share in 1..6 {
        wait_for("messages to be answered", || async { (answered.load(Ordering::Relaxed) >= share * 12).then_some(()) }).await;
        flush(&site.redis);
    }
    people.join_all().await;
    let rows = site.rows(6 * MESSAGES).await;
    site.counters_match(&site.ann(&a), &rows).await;
    assert_eq!(rows.iter().map(|row| row.total_tokens).sum::<u64>(), 72 * 157, "what LibreChat served");
    for gateway in [&a, &b] {
        wait_for("nothing to be open", || async { (gateway.app.generations.count_open() == 0).then_some(()) }).await;
    }
    site.counters_match(&site.ann(&b), &rows).await;
}

/// Two gateways that compare counters with rows every second, and limits that are far.
fn compared(site: &Site) -> ([Running; 2], [TempDir; 2]) {
    let setup = site.setup(&QUICK.replace("100_000", "100_000_000").replace("messages_per_day = 100", "messages_per_day = 10_000"));
    let setup = Setup { store_keys: format!("{}\nreconcile_seconds = 1", setup.store_keys), ..setup };
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    (folders.each_ref().map(|folder| setup.gateway(&site.librechat, folder)), folders)
}

/// How many counters of daily tokens were repaired, and how many audit rows tell of any repair.
async fn repairs(site: &Site, gateways: &[Running; 2]) -> (String, usize) {
    let mut repairs = 0.0;
    for gateway in gateways {
        let metrics = metrics_at(gateway.metrics).await;
        repairs += value_of(&metrics, r#"tollgate_counter_repairs_total{resource="tokens",window="day"}"#);
    }
    let told = site.records.audit_rows(10_000).await.expect("readable rows");
    (repairs.to_string(), told.iter().filter(|row| row.action == "counters.repaired").count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_that_are_right_are_left_alone_and_others_repaired() {
    let site = Arc::new(Site::new().await);
    let (gateways, _folders) = compared(&site);
    // For longer than the cut lies ahead, so that settlements count; with pauses, in which counters are compared.
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    let mut people = tokio::task::JoinSet::new();
    for person in 0..4 {
        let client = site.ann(&gateways[person % 2]);
        people.spawn(async move {
            let mut sent = 0;
            while tokio::time::Instant::now() < until {
                assert_eq!(chat(&client).await, 200);
                sent += 1;
            }
            sent
        });
    }
    let mut sent: usize = people.join_all().await.into_iter().sum();
    let ann = site.ann(&gateways[0]);
    let rows = site.rows(sent).await;
    site.counters_match(&ann, &rows).await;
    assert_eq!(repairs(&site, &gateways).await, ("0".to_owned(), 0), "what is under way is no drift");

    // Beside it stands that of the month, which no limit is on, and which therefore is not compared.
    let keys = site.redis.keys();
    let is_of_a_day = |key: &&String| key.contains(":m:") && key.contains(":tokens:") && key.ends_with(&rows[0].org_day);
    let of_ann = keys.iter().find(is_of_a_day).expect("Ann's counter");
    for (done, by) in ["-300", "4000"].into_iter().enumerate() {
        // What nothing was settled to since it was last repaired is not compared.
        assert_eq!(chat(&ann).await, 200);
        sent += 1;
        let rows = site.rows(sent).await;
        site.counters_match(&ann, &rows).await;
        site.redis.command::<i64>(&["HINCRBY", of_ann, "used", by]);
        wait_for("a repair", || async { (repairs(&site, &gateways).await == ((done + 1).to_string(), done + 1)).then_some(()) }).await;
        site.counters_match(&ann, &rows).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_journal_holds_is_counted_when_it_arrives() {
    let site = Site::new().await;
    let (gateways, _folders) = compared(&site);
    let [a, b] = &gateways;
    let sql = |statement: &'static str| {
        let (postgres, database) = (Arc::clone(&site.postgres), site.database.rsplit('/').next().expect("a name").to_owned());
        tokio::task::spawn_blocking(move || postgres.sql(&database, statement))
    };
    assert_eq!(chat(&site.ann(a)).await, 200);
    site.rows(1).await;
    let now = || tollgate::limits::store::made_at(uuid::Uuid::now_v7());
    wait_for("settlements to count again", || async {
        let books = site.redis.keys().into_iter().filter(|key| key.ends_with(":books"));
        let mut cuts = books.map(|books| site.redis.command::<u64>(&["HGET", &books, "cut"]));
        cuts.all(|cut| cut < now()).then_some(())
    })
    .await;
    let held = sql("LOCK TABLE usage_events IN SHARE ROW EXCLUSIVE MODE; SELECT pg_sleep(60)");
    let holder = "FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted AND relation = 'usage_events'::regclass";
    let is_held = format!("SELECT COUNT(*) {holder}").leak() as &str;
    wait_for("the table to be locked", || async { (sql(is_held).await.ok()?.ok()? == "1").then_some(()) }).await;
    assert_eq!(chat(&site.ann(b)).await, 200);
    wait_for("the message to be settled", || async { (b.app.generations.count_open() == 0).then_some(()) }).await;
    flush(&site.redis);
    let me = site.ann(a).get("/_tollgate/me").await.expect("an answer").json();
    assert_eq!(
        (&me["limits"][0]["resource"], &me["limits"][0]["used"]),
        (&"tokens".into(), &157.into()),
        "the second row is in no database yet"
    );
    let release = format!("SELECT pg_cancel_backend(pid) {holder}").leak() as &str;
    sql(release).await.expect("a thread").expect("an answer");
    held.await.expect("a thread").expect_err("it was cancelled");
    let rows = site.rows(2).await;
    site.counters_match(&site.ann(a), &rows).await;
    assert_eq!(repairs(&site, &gateways).await, ("0".to_owned(), 0), "the other gateway counted it by itself");
}
