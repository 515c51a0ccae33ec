//! Gateways as real processes: one is killed, one stalls, one is asked to stop.

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::limits::redis::RedisStore;
use tollgate::limits::{Bucket, Charge, Period, Reserve, Resource, Scope, Store as _, Window};
use tollgate::scripted::User;
use tollgate::scripted::client::Opened;
use tollgate::shared::{Redis, RedisSettings};
use uuid::Uuid;

use super::*;
use crate::support::process::TollgateProcess;

async fn two_processes(site: &Site, folder: &TempDir) -> (TollgateProcess, TollgateProcess) {
    let config = site.setup(QUICK).text(&site.librechat, folder);
    tokio::join!(TollgateProcess::start(&config), TollgateProcess::start(&config))
}

/// A reservation of Ann's whose replica died before it forwarded anything.
async fn leave_one_held(site: &Site) {
    let redis = Redis::new(RedisSettings::new(site.redis.url()), tokio::runtime::Handle::current()).expect("the address is good");
    let period = Period::at(Window::Day, SystemClock.now(), &TimeZone::UTC);
    let scope = Scope::Member { org: "acme".into(), member: User::new("ann@acme.test").id.into() };
    let bucket = Bucket { scope, resource: Resource::Tokens, period };
    let charges = [Charge { bucket, enforce: None, shadow: None, fixed: 5000, per_room_token: 0 }];
    let reserve = Reserve {
        id: Uuid::now_v7(),
        org: "acme",
        charges: &charges,
        room: 0,
        least_room: 0,
        owner: "a replica that is gone",
        lease: Duration::from_secs(1),
        now: SystemClock.now() - SignedDuration::from_secs(5),
        record: "{}",
    };
    RedisStore::new(redis).reserve(&reserve).await.expect("the store answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_left_is_settled_by_the_other() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (mut a, b) = two_processes(&site, &folder).await;
    let [ann_a, ann_b] = [&a, &b].map(|process| site.client(&process.url(), "ann@acme.test"));

    let (watched, created_at) = begin(&ann_a, "One [[tokens=60 delay=50 in=100 out=57]]").await;
    let mut stream = ann_a.listen(&watched, created_at).await.expect("a stream");
    stream.until("on_message_delta").await.expect("its first words");
    begin(&ann_a, "Two [[tokens=60 delay=50 in=200 out=57]]").await;
    site.librechat.hold_answers(true);
    let unanswered = tokio::spawn({
        let ann_a = ann_a.clone();
        async move { ann_a.start(&ChatBody::new("Three [[tokens=200 delay=50 in=300 out=57]]")).await }
    });
    site.librechat.wait_for_runs(3).await.expect("the third arrives");
    wait_for("the third to be written down as forwarded", || async {
        let keys = site.redis.keys();
        let stages = keys.iter().filter(|key| key.contains(":reservation:") && key.contains("{o:"));
        let stages: Vec<String> = stages.map(|key| site.redis.command(&["HGET", key, "stage"])).collect();
        (stages.len() == 3 && stages.iter().all(|stage| stage == "forwarded")).then_some(())
    })
    .await;
    a.kill();
    site.librechat.hold_answers(false);
    let _ = unanswered.await.expect("a task");
    leave_one_held(&site).await;

    let rows = site.rows(3).await;
    let mut charged: Vec<_> = rows.iter().map(|row| (row.input_tokens, row.output_tokens, row.status.as_str())).collect();
    charged.sort_unstable();
    let expected = [(100, 57, "completed"), (200, 57, "completed"), (300, 57, "completed")];
    assert_eq!(charged, expected, "each is followed to its end by the other process:\n{rows:?}\n{}", b.log());
    // On a busy machine an answer may be over when its owner's silence is noticed; then its saved message tells the same.
    let measured = |row: &StoredUsage| ["frames", "message"].contains(&row.usage_source.as_str());
    assert!(rows.iter().all(measured), "by what was really used: {rows:?}");
    site.counters_match(&ann_b, &rows).await;
    let metrics = metrics_at(b.metrics).await;
    assert!(
        (value_of(&metrics, "tollgate_generations_taken_over_total") - 3.0).abs() < 1e-9,
        "what was only held is released, not taken over"
    );
    site.rows(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_a_killed_process_had_written_stand() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (mut a, b) = two_processes(&site, &folder).await;
    begin(&site.client(&a.url(), "ann@acme.test"), "Hello [[tokens=100 delay=50 in=100 out=57]]").await;
    let reservation = wait_for("the run to be written down", || async {
        let keys = site.redis.keys();
        let key = keys.iter().find(|key| key.contains(":reservation:") && key.contains("{o:"))?.clone();
        (site.redis.command::<String>(&["HGET", &key, "stage"]) == "forwarded").then_some(key)
    })
    .await;
    a.kill();
    // It had come as far as its row, and not to the counters.
    let record: Value = serde_json::from_str(&site.redis.command::<String>(&["HGET", &reservation, "record"])).expect("a record");
    let id: Uuid = record["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let time = record["admitted_at"].as_str().and_then(|time| time.parse().ok()).expect("a time");
    let member = record["member"].as_str().expect("a member").into();
    let of = |field: &str| record[field].as_str().expect("a date").to_owned();
    let (org_day, org_month) = (of("org_day"), of("org_month"));
    let row =
        tollgate::records::UsageRow { id, generation_id: id, time, member_id: member, org_day, org_month, ..crate::records::usage(1) };
    site.records.insert_usage(&[row.into()]).await.expect("a row");

    let rows = site.rows(1).await;
    site.counters_match(&site.client(&b.url(), "ann@acme.test"), &rows).await;
    let rows = site.rows(1).await;
    assert_eq!((rows[0].total_tokens, rows[0].messages), (3000, 1), "nothing is charged anew:\n{}", b.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stalled_longer_than_its_lease_does_not_settle_again() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (a, b) = two_processes(&site, &folder).await;
    let [ann_a, ann_b] = [&a, &b].map(|process| site.client(&process.url(), "ann@acme.test"));
    let (conversation, created_at) = begin(&ann_a, "Hello [[tokens=60 delay=40 in=100 out=57]]").await;
    let stream = ann_a.listen(&conversation, created_at).await.expect("a stream");
    begin(&ann_a, "Hello [[tokens=200 delay=40 in=100 out=57]]").await;

    a.pause();
    let rows = site.rows(1).await;
    assert_eq!((rows[0].usage_source.as_str(), rows[0].total_tokens), ("frames", 157), "the other took over and settled:\n{}", b.log());
    // The first is settled, the second still runs. Now the old owner hears the end of the first from its own stream.
    a.resume();
    assert!(stream.all().await.is_ok(), "who listened through it hears the end");
    wait_for("the process to notice that it has lost them", || async {
        let lost = a.log().matches("another replica").count();
        (lost >= 2).then_some(())
    })
    .await;
    let rows = site.rows(2).await;
    assert_eq!(rows[1].total_tokens, 157);
    site.counters_match(&ann_b, &rows).await;
    let settled = [&a, &b].map(|process| process.metrics);
    let [by_a, by_b] = [metrics_at(settled[0]).await, metrics_at(settled[1]).await];
    let messages = r#"tollgate_messages_total{org="acme"}"#;
    assert!(!by_a.contains(messages), "who did not settle does not count:\n{}", a.log());
    assert!((value_of(&by_b, messages) - 2.0).abs() < 1e-9);
    let exchange = ann_a.chat(ORDINARY).await.expect("an answer");
    assert_eq!(exchange.start.status, 200, "and the process goes on as before: {}", exchange.start.text);
    let rows = site.rows(3).await;
    site.counters_match(&ann_a, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_asked_to_stop_leaves_nothing_behind() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (mut a, b) = two_processes(&site, &folder).await;
    let [ann_a, ann_b] = [&a, &b].map(|process| site.client(&process.url(), "ann@acme.test"));
    ann_a.chat(ORDINARY).await.expect("an answer");
    begin(&ann_a, "Hello [[tokens=60 delay=50 in=100 out=57]]").await;
    let status = a.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", a.log());
    let rows = site.rows(2).await;
    assert_eq!(rows[1].usage_source, "frames", "{}", b.log());
    site.counters_match(&ann_b, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_stream_of_a_killed_process_is_settled_by_what_was_saved() {
    let site = Site::speaking(Wire::Direct).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (mut a, b) = two_processes(&site, &folder).await;
    let ann_a = site.client(&a.url(), "ann@acme.test");
    let opened = ann_a.open(&ChatBody::new("Hello [[tokens=500 delay=30]]")).await.expect("an answer");
    let Opened::Stream(mut stream) = opened else { panic!("before 0.8.2 the answer is the stream: {opened:?}") };
    stream.until("on_message_delta").await.expect("its first words");
    wait_for("it to be written down as forwarded", || async {
        let key = site.redis.keys().into_iter().find(|key| key.contains(":reservation:") && key.contains("{o:"))?;
        (site.redis.command::<String>(&["HGET", &key, "stage"]) == "forwarded").then_some(())
    })
    .await;
    a.kill();
    let rows = site.rows(1).await;
    assert_eq!(rows[0].status, "aborted", "LibreChat stops a run whose direct stream is closed: {:?}\n{}", rows[0], b.log());
    assert!(rows[0].total_tokens > 0 && rows[0].messages == 1, "it is never settled at zero: {:?}", rows[0]);
    site.counters_match(&site.client(&b.url(), "ann@acme.test"), &rows).await;
}
