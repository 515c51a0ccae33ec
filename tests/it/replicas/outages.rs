//! Redis or the database stalls, dies and comes back.

use std::time::Instant;
use tollgate::scripted::client::plain_http;

use super::*;
use crate::support::gateway::TestGateway;

/// One gateway on this Redis, which waits half a second for it.
async fn gateway(redis: &RedisServer, on_failure: &str) -> TestGateway {
    let store_keys = format!("timeout_ms = 500\non_failure = '{on_failure}'");
    Setup { store: redis.url(), store_keys, ..Setup::with(QUICK) }.start().await
}

async fn readiness(gateway: &TestGateway) -> (u16, Value) {
    let answer = plain_http().get(format!("http://{}/readyz", gateway.running.metrics)).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn until_ready(gateway: &TestGateway) {
    wait_for("nothing to be degraded", || async {
        (readiness(gateway).await.1["degraded"] == Value::from(Vec::<Value>::new())).then_some(())
    })
    .await;
}

/// Sends ordinary messages until one is answered.
async fn until_answered(client: &ChatClient) {
    wait_for("a chat to be let through again", || async {
        let exchange = client.chat(ORDINARY).await.expect("an answer");
        (exchange.start.status == 200).then_some(())
    })
    .await;
}

/// Waits until the counters say this, and nothing is held.
async fn until_counted(client: &ChatClient, tokens: u64, messages: u64) {
    wait_for(&format!("{tokens} tokens and {messages} messages on the counters"), || async {
        let me = client.get("/_tollgate/me").await.ok()?.json();
        let limits = me["limits"].as_array()?;
        let is = |resource: &str, used: u64| limits.iter().any(|l| l["resource"] == resource && l["used"] == used && l["held"] == 0);
        (is("tokens", tokens) && is("messages", messages)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_redis_closes_chats_and_nothing_else() {
    let redis = RedisServer::start();
    let gateway = gateway(&redis, "closed").await;
    let ann = gateway.client("ann@acme.test");
    until_ready(&gateway).await;
    let (conversation, created_at) = begin(&ann, "Hello [[tokens=40 delay=50 in=100 out=57]]").await;
    let mut stream = ann.listen(&conversation, created_at).await.expect("a stream");
    stream.until("on_message_delta").await.expect("its first words");

    redis.pause();
    for _ in 0..8 {
        let before = Instant::now();
        let answer = ann.start(&ChatBody::new(ORDINARY)).await.expect("an answer");
        assert!(before.elapsed() < Duration::from_secs(4), "it is refused in time, not after {:?}", before.elapsed());
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
        let body = answer.json();
        assert!(body["code"].is_null() && body["info"].as_str().is_some_and(|told| told.contains("Limits cannot be checked")), "{body}");
    }
    assert_eq!(ann.get("/api/user").await.expect("an answer").status, 200, "everything else passes");
    assert_eq!(ann.get("/api/models").await.expect("an answer").status, 200, "everything else passes");
    let frames = stream.all().await.expect("a stream");
    assert!(frames.iter().any(|frame| frame.kind() == "final"), "a running answer is heard to its end");
    let (status, said) = readiness(&gateway).await;
    assert_eq!((status, &said["degraded"]), (503, &serde_json::json!(["store"])), "every chat would be refused: {said}");
    let metrics = gateway.metrics().await;
    assert!(value_of(&metrics, "tollgate_store_up").abs() < 1e-9);
    assert!((value_of(&metrics, r#"tollgate_degraded{component="store"}"#) - 1.0).abs() < 1e-9);
    assert!(value_of(&metrics, r#"tollgate_store_operations_total{result="error",verb="reserve"}"#) >= 1.0);
    let degraded = r#"tollgate_decisions_total{decision="degraded_refused",resource="none",scope="none",window="none"}"#;
    assert!((value_of(&metrics, degraded) - 8.0).abs() < 1e-9);
    let me = ann.get("/_tollgate/me").await.expect("an answer");
    assert!(me.status == 200 && me.json()["limits"][0]["used"].is_null(), "limits are shown, their use is unknown: {}", me.text);

    redis.resume();
    until_answered(&ann).await;
    until_ready(&gateway).await;
    // Redis carried out some refused reservations after all; they are given back once their leases lapse.
    until_counted(&ann, 2 * 157, 2).await;
    assert_eq!(gateway.usage_rows(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_redis_lets_chats_pass_and_charges_them_later_where_limits_are_open() {
    let redis = RedisServer::start();
    let gateway = gateway(&redis, "open").await;
    let ann = gateway.client("ann@acme.test");
    until_ready(&gateway).await;
    redis.pause();
    let exchange = ann.chat(ORDINARY).await.expect("an answer");
    assert_eq!(exchange.start.status, 200, "it passes: {}", exchange.start.text);
    // One that outlives the outage and several leases after it, although the store never heard of it.
    begin(&ann, "Hello [[tokens=100 delay=50 in=200 out=57]]").await;
    let (status, said) = readiness(&gateway).await;
    assert_eq!((status, &said["degraded"]), (200, &serde_json::json!(["store"])), "chats pass: {said}");
    assert_eq!(gateway.usage_rows(1).await.len(), 1, "the row does not wait for the store");
    let degraded = r#"tollgate_decisions_total{decision="degraded_admitted",resource="none",scope="none",window="none"}"#;
    assert!((value_of(&gateway.metrics().await, degraded) - 2.0).abs() < 1e-9);
    redis.resume();
    until_ready(&gateway).await;
    assert_eq!(gateway.usage_rows(2).await[1].total_tokens, 257);
    until_counted(&ann, 157 + 257, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_forgot_everything_is_told_again_what_runs() {
    let mut redis = RedisServer::start();
    let gateway = gateway(&redis, "closed").await;
    let ann = gateway.client("ann@acme.test");
    until_ready(&gateway).await;
    begin(&ann, "Hello [[tokens=120 delay=50 in=100 out=57]]").await;
    gateway.librechat.wait_for_runs(1).await.expect("it runs");
    redis.replace();
    wait_for("the running answer to be reserved again", || async {
        let me = ann.get("/_tollgate/me").await.ok()?.json();
        me["limits"][0]["held"].as_u64().filter(|held| *held > 0)
    })
    .await;
    assert_eq!(gateway.usage_rows(1).await[0].usage_source, "frames");
    until_counted(&ann, 157, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_not_there_at_the_start_is_used_once_it_is() {
    let mut redis = RedisServer::start();
    redis.kill();
    let gateway = gateway(&redis, "closed").await;
    let ann = gateway.client("ann@acme.test");
    assert_eq!(ann.start(&ChatBody::new(ORDINARY)).await.expect("an answer").status, 503);
    assert_eq!(ann.get("/api/user").await.expect("an answer").status, 200);
    redis.replace();
    until_answered(&ann).await;
    until_counted(&ann, 157, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_loses_no_usage_row() {
    let postgres = Arc::new(tokio::task::spawn_blocking(Postgres::start).await.expect("PostgreSQL"));
    let gateway = Setup { records: postgres.database(), ..Setup::with(QUICK) }.start().await;
    let ann = gateway.client("ann@acme.test");
    until_ready(&gateway).await;
    ann.chat(ORDINARY).await.expect("an answer");
    assert_eq!(gateway.usage_rows(1).await[0].total_tokens, 157);

    let server = Arc::clone(&postgres);
    tokio::task::spawn_blocking(move || server.crash()).await.expect("a thread");
    for _ in 0..3 {
        let exchange = ann.chat(ORDINARY).await.expect("an answer");
        assert_eq!(exchange.start.status, 200, "chats go on: {}", exchange.start.text);
    }
    wait_for("the outage to be noticed", || async {
        let (status, said) = readiness(&gateway).await;
        (status == 200 && said["degraded"] == serde_json::json!(["records"])).then_some(())
    })
    .await;
    let metrics = gateway.metrics().await;
    assert!(value_of(&metrics, "tollgate_records_up").abs() < 1e-9);
    assert!(value_of(&metrics, r#"tollgate_records_queue_rows{kind="journal"}"#) >= 1.0);
    // What is in the journal is as good as written.
    until_counted(&ann, 4 * 157, 4).await;

    let server = Arc::clone(&postgres);
    tokio::task::spawn_blocking(move || server.resume()).await.expect("a thread");
    gateway.all_settled().await;
    assert_eq!(gateway.usage_rows(4).await.len(), 4, "no row is lost, none is there twice");
    until_counted(&ann, 4 * 157, 4).await;
    until_ready(&gateway).await;
    let metrics = gateway.metrics().await;
    for _ in 0..2 {
        // Scraping twice counts nothing twice.
        assert!((value_of(&gateway.metrics().await, r#"tollgate_records_written_total{kind="usage"}"#) - 4.0).abs() < 1e-9);
    }
    assert!(value_of(&metrics, r#"tollgate_records_dropped_total{kind="usage"}"#).abs() < 1e-9);
}
