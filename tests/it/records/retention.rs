//! Rows go when they are too old, in small batches, and not while their org is held.

use jiff::{SignedDuration, Timestamp};
use tollgate::records::retention::{EventTable, Held, Retention};
use tollgate::records::{AuditRow, SystemRow, ToolRow, UsageRow};

use super::{Place, audit, noon, stored, system, tool, usage};

pub const RETENTION: Retention = Retention { audit_days: 30, usage_days: 60, tools_days: 60, system_days: 3 };

fn days_ago(days: i64) -> Timestamp {
    noon() - SignedDuration::from_hours(24 * days)
}

/// Rows of today, of 40 and of 90 days ago, of two orgs and of none.
pub async fn fill(place: &Place) {
    let records = place.database.records();
    for (base, days) in [(0, 0), (10, 40), (20, 90)] {
        let time = days_ago(days);
        let blue_usage = UsageRow { time, org_id: "blue".into(), ..usage(base + 2) };
        let blue_audit = AuditRow { time, org_id: Some("blue".into()), ..audit(base + 2) };
        let of_no_org = AuditRow { time, org_id: None, org_day: None, ..audit(base + 3) };
        let blue_tool = ToolRow { time, org_id: "blue".into(), ..tool(base + 2) };
        records.insert_usage(&stored([UsageRow { time, ..usage(base + 1) }, blue_usage])).await.expect("usage rows");
        records.insert_audit(&stored([AuditRow { time, ..audit(base + 1) }, blue_audit, of_no_org])).await.expect("audit rows");
        records.insert_tools(&[ToolRow { time, ..tool(base + 1) }, blue_tool]).await.expect("tool rows");
        records.insert_system(&[SystemRow { time, ..system(base + 1) }]).await.expect("system rows");
    }
}

async fn counts(place: &Place) -> Vec<String> {
    let mut counts = Vec::new();
    for table in EventTable::ALL {
        counts.push(place.sql(&format!("SELECT COUNT(*) FROM {}", table.name())).await);
    }
    counts
}

async fn what_is_too_old_goes(place: Place) {
    fill(&place).await;
    let held = Held::from(["acme".into()]);
    let removed = place.database.retain(&RETENTION, &held, noon()).await.expect("retention");
    assert_eq!(removed.iter().map(|removed| removed.count).collect::<Vec<_>>(), [1, 1, 4, 2], "what is held stays: {removed:?}");
    assert_eq!(counts(&place).await, ["5", "5", "5", "1"]);
    let removed = place.database.retain(&RETENTION, &Held::new(), noon()).await.expect("retention");
    assert_eq!(removed.iter().map(|removed| removed.count).collect::<Vec<_>>(), [1, 1, 2, 0], "what is held no longer goes");
    assert_eq!(counts(&place).await, ["4", "4", "3", "1"]);
    let again = place.database.retain(&RETENTION, &Held::new(), noon()).await.expect("retention");
    assert!(again.iter().all(|removed| removed.count == 0 && !removed.more), "{again:?}");
    assert_eq!(place.sql("SELECT SUM(messages) FROM usage_daily").await, "6", "sums are kept for good");
}

#[tokio::test]
async fn what_is_too_old_goes_from_sqlite() {
    what_is_too_old_goes(Place::sqlite().await).await;
}

#[tokio::test]
async fn what_is_too_old_goes_from_postgres() {
    what_is_too_old_goes(Place::postgres().await).await;
}

async fn many_rows_go_in_batches(place: Place) {
    let records = place.database.records();
    for batch in 0..5_u64 {
        let rows = (batch * 500..batch * 500 + 500).map(|number| {
            let org = if number % 2 == 0 { "acme" } else { "blue" };
            UsageRow { time: days_ago(90) + SignedDuration::from_millis(number.cast_signed() / 3), org_id: org.into(), ..usage(number) }
        });
        records.insert_usage(&stored(rows)).await.expect("usage rows");
    }
    let removed = place.database.retain(&RETENTION, &Held::from(["blue".into()]), noon()).await.expect("retention");
    assert_eq!((removed[0].count, removed[0].more), (1250, false), "rows of one instant are not passed over at the edge of a batch");
    assert_eq!(place.sql("SELECT MIN(org_id) || COUNT(*) FROM usage_events").await, "blue1250");
    let removed = place.database.retain(&RETENTION, &Held::new(), noon()).await.expect("retention");
    assert_eq!(removed[0].count, 1250);
}

#[tokio::test]
async fn many_rows_go_in_batches_from_sqlite() {
    many_rows_go_in_batches(Place::sqlite().await).await;
}

#[tokio::test]
async fn many_rows_go_in_batches_from_postgres() {
    many_rows_go_in_batches(Place::postgres().await).await;
}
