//! Days and months of the org's calendar, with the clock in our hands.

use std::sync::Arc;

use jiff::Timestamp;
use tollgate::clock::{Clock as _, ManualClock};

use super::*;

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|why| panic!("{text} is no instant: {why}"))
}

/// A gateway in this zone whose members may send one message a day, at this time.
async fn gateway_in(zone: &str, now: &str, limits: &str) -> (TestGateway, Arc<ManualClock>) {
    let clock = ManualClock::at(instant(now));
    let here = Setup {
        clock: clock.clone(),
        librechat: Options { clock: clock.clone(), ..patient() },
        ..setup(&format!("time_zone = '{zone}'\n{limits}{HUNDRED}"))
    };
    (here.start().await, clock)
}

const ONE_A_DAY: &str = "[[limits]]\napplies_to = 'member'\nmessages_per_day = 1\n";

/// A person's client, with a token of this very moment.
fn ann(gateway: &TestGateway) -> ChatClient {
    gateway.client("ann@acme.test")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_ends_at_midnight_in_the_orgs_zone() {
    let limits = format!("{ONE_A_DAY}[[limits]]\napplies_to = 'org'\ntokens_per_month = 100_000\n");
    let (gateway, clock) = gateway_in("Asia/Seoul", "2026-11-30T14:59:00Z", &limits).await;
    answered(&gateway, &ann(&gateway), ORDINARY).await;
    let (answer, told) = refused(&gateway, &ann(&gateway), "Again").await;
    assert!(header(&answer, "RateLimit-Reset").abs_diff(60) <= 1, "midnight in Seoul is a minute away: {:?}", answer.headers);
    assert!(told.contains("today at 15:00 (UTC)"), "the person's own zone, as their browser names it: {told}");
    let before = me(&ann(&gateway)).await;
    assert_eq!(before["limits"][1]["resets_at"], "2026-11-30T15:00:00Z", "{before}");

    clock.set(instant("2026-11-30T15:00:00Z"));
    answered(&gateway, &ann(&gateway), ORDINARY).await;
    refused(&gateway, &ann(&gateway), "Again").await;
    let after = me(&ann(&gateway)).await;
    let periods: Vec<_> = after["limits"].as_array().expect("a list").iter().map(|limit| (&limit["period"], &limit["used"])).collect();
    assert_eq!(periods, [(&"2026-12".into(), &157.into()), (&"2026-12-01".into(), &1.into())], "a new day and a new month: {after}");
    let rows = gateway.usage_rows(2).await;
    let days: Vec<_> = rows.iter().map(|row| (row.org_day.as_str(), row.org_month.as_str())).collect();
    assert_eq!(days, [("2026-11-30", "2026-11"), ("2026-12-01", "2026-12")], "the rows carry the org's calendar");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_of_23_and_25_hours_are_one_day_each() {
    for (zone, begins, last, ends, hours) in [
        ("America/New_York", "2026-03-08T05:00:00Z", "2026-03-09T03:59:59Z", "2026-03-09T04:00:00Z", 23),
        ("America/New_York", "2026-11-01T04:00:00Z", "2026-11-02T04:59:59Z", "2026-11-02T05:00:00Z", 25),
        ("Europe/Berlin", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z", 25),
    ] {
        let (gateway, clock) = gateway_in(zone, begins, ONE_A_DAY).await;
        answered(&gateway, &ann(&gateway), ORDINARY).await;
        let (answer, _) = refused(&gateway, &ann(&gateway), "Again").await;
        let reset = header(&answer, "RateLimit-Reset");
        assert_eq!(reset, hours * 3600, "this day in {zone} has {hours} hours");
        clock.set(instant(last));
        refused(&gateway, &ann(&gateway), "Again").await;
        clock.set(instant(ends));
        answered(&gateway, &ann(&gateway), ORDINARY).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settlement_after_midnight_goes_to_the_day_that_reserved() {
    let limits = "[[limits]]\napplies_to = 'member'\ntokens_per_day = 1000\n[[limits]]\napplies_to = 'everyone'\ntokens_per_day = 1000\n";
    let (gateway, clock) = gateway_in("Asia/Seoul", "2026-11-20T14:59:59Z", limits).await;
    gateway.librechat.hold_answers(true);
    let client = ann(&gateway);
    let start = tokio::spawn(async move { client.start(&ChatBody::new(ORDINARY)).await });
    gateway.librechat.wait_for_runs(1).await.expect("it is let through");
    clock.set(instant("2026-11-21T00:00:01Z"));
    gateway.librechat.hold_answers(false);
    start.await.expect("a task").expect("an answer");
    gateway.all_settled().await;
    let today = me(&ann(&gateway)).await;
    let used: Vec<_> = today["limits"].as_array().expect("a list").iter().map(|limit| &limit["used"]).collect();
    assert_eq!(used, [&Value::from(0), &Value::from(0)], "nothing is charged to the new day: {today}");
    clock.set(instant("2026-11-20T14:59:59Z"));
    let yesterday = me(&ann(&gateway)).await;
    for limit in yesterday["limits"].as_array().expect("a list") {
        assert_eq!((&limit["used"], &limit["held"]), (&157.into(), &0.into()), "the day that reserved is charged: {yesterday}");
    }
    let row = gateway.usage_rows(1).await.remove(0);
    assert_eq!((row.org_day.as_str(), row.time), ("2026-11-20", clock.now()));
}
