//! `tollgate usage rebuild`, after rows were put right by hand, and while gateways write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use tollgate::records::{AuditRow, ToolRow, UsageRow};

use super::{Place, Ran};
use crate::records::{self, audit, stored, tool, usage};

const DAY: &str = "2025-09-20";

fn beside(database: &records::Place, kept: &str) -> Place {
    let retention = format!("[records.retention]\nusage_days = {kept}\ntools_days = {kept}\naudit_days = {kept}");
    let place = Place::new(&format!(
        "[records]\nurl = '{}'\n{retention}\n[prices]\nfile = 'prices.toml'\n[[orgs]]\nid = 'acme'\ntime_zone = 'Asia/Seoul'\n[[orgs]]\nid = 'other'\n",
        database.url
    ));
    place.write("prices.toml", "version = 'put-right'\n[default]\ninput = 1.00\noutput = 2.00\n");
    place
}

fn run(place: &Place, words: &str) -> Ran {
    place.run_with(&words.split(' ').collect::<Vec<_>>(), &[])
}

fn row(number: u64) -> UsageRow {
    UsageRow {
        time: "2025-09-20T12:00:00Z".parse().expect("an instant"),
        org_day: DAY.to_owned(),
        org_month: "2025-09".to_owned(),
        member_id: if number.is_multiple_of(3) { "bob" } else { "ada" }.into(),
        time_to_first_token_ms: number.is_multiple_of(2).then_some(number),
        ..usage(number)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_are_made_anew_from_rows_on_sqlite() {
    sums_are_made_anew_from_rows(records::Place::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_are_made_anew_from_rows_on_postgres() {
    sums_are_made_anew_from_rows(records::Place::postgres().await).await;
}

async fn sums_are_made_anew_from_rows(database: records::Place) {
    let (place, records) = (beside(&database, "3650"), database.database.records());
    let gone = UsageRow { org_id: "other".into(), ..row(9001) };
    // More than a page of rows, all of one instant.
    let rows: Vec<UsageRow> = (1..=600).map(row).collect();
    for rows in rows.chunks(300) {
        records.insert_usage(&stored(rows.iter().cloned())).await.expect("usage rows");
    }
    records.insert_usage(&stored([gone])).await.expect("a usage row");
    let tools =
        [1, 2].map(|number| ToolRow { time: row(1).time, org_day: DAY.to_owned(), org_month: "2025-09".to_owned(), ..tool(number) });
    records.insert_tools(&tools).await.expect("tool rows");
    let requests = [1, 2].map(|number| AuditRow { time: row(1).time, org_day: Some(DAY.to_owned()), ..audit(number) });
    records.insert_audit(&stored(requests)).await.expect("audit rows");
    let acme = format!("usage rebuild --org acme --from {DAY} --to {DAY}");
    run(&place, &format!("{acme} --dry-run")).expect(0, &["acme: 0 lines would be rebuilt"]);
    run(&place, &format!("usage reprice --org acme --from {DAY} --to {DAY}")).expect(0, &["600 of 600 usage rows corrected"]);
    run(&place, &format!("{acme} --dry-run")).expect(0, &["acme: 0 lines would be rebuilt"]);

    database.sql(&format!("UPDATE usage_events SET input_tokens = 10 WHERE id = '{}'", row(1).id)).await;
    database.sql("UPDATE usage_daily SET member_id = 'ghost' WHERE member_id = 'bob'").await;
    database.sql("UPDATE members_daily SET errors = 9 WHERE member_id = 'bob'").await;
    database.sql("UPDATE models_daily SET uses = 9").await;
    database.sql("UPDATE usage_by_hour SET messages = 7 WHERE org_id = 'acme'").await;
    database.sql("UPDATE tools_daily SET calls = 7").await;
    database.sql("DELETE FROM requests_daily").await;
    database.sql("DELETE FROM usage_events WHERE org_id = 'other'").await;
    let told = run(&place, &format!("{acme} --dry-run"));
    told.expect(
        0,
        &[
            "usage_daily ada / gpt-5 / openAI: input_tokens 1164000, rows say 1161100\n",
            "usage_daily ghost / gpt-5 / openAI: has no rows",
            "usage_daily bob / gpt-5 / openAI: is missing",
            "members_daily ada: input_tokens 1164000, rows say 1161100\n",
            "members_daily bob: errors 9, rows say 0\n",
            "models_daily gpt-5 / openAI: uses 9, rows say 600",
            "usage_by_hour 2025-09-20T12:00:00.000000Z: messages 7, rows say 600",
            "calls 7, rows say 2",
            "requests_daily ada: is missing",
            "acme: 9 lines would be rebuilt",
        ],
    );
    run(&beside(&database, "1"), &acme).expect(0, &["usage_daily: left alone, retention takes rows", "acme: 0 lines rebuilt"]);
    run(&place, &acme).expect(0, &["has no rows", "acme: 9 lines rebuilt"]);
    run(&place, &acme).expect(0, &["acme: 0 lines rebuilt"]);
    run(&place, &format!("usage rebuild --from 2025-09-19 --to {DAY}"))
        .expect(0, &["acme: 0 lines", "other 2025-09-20 usage_daily: left alone, its rows are gone", "other: 0 lines"]);
    assert_eq!(database.sql("SELECT SUM(messages) FROM usage_daily WHERE org_id = 'other'").await, "1", "what is left of them stays");
    run(&place, &format!("usage rebuild --org acme --from {DAY} --to yesterday")).expect(64, &["is no day"]);
    let noted = |action: &str| format!("SELECT COUNT(*) FROM audit_events WHERE action = '{action}' AND org_id = 'acme'");
    assert_eq!(database.sql(&noted("usage.compared")).await, "3");
    assert_eq!(database.sql(&noted("usage.rebuilt")).await, "4");

    while_a_writer_is_at_work(&database, &place, &acme).await;
}

/// However writing and rebuilding meet, every row is counted once in the end.
async fn while_a_writer_is_at_work(database: &records::Place, place: &Place, rebuild: &str) {
    let (records, done) = (database.database.records(), Arc::new(AtomicBool::new(false)));
    let writer = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            // Each at a time of its own, so that pages of rows that become ever more stay cheap to find.
            let later =
                |number: u64| UsageRow { time: row(number).time + SignedDuration::from_micros(number.cast_signed()), ..row(number) };
            let mut number = 10_000;
            while !done.load(Ordering::SeqCst) {
                let batch = stored((number..number + 20).map(later));
                while let Err(error) = records.insert_usage(&batch).await {
                    assert!(error.message.contains("locked"), "{error}");
                }
                number += 20;
                // A day that grows faster than it is read would be read for ever longer.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            number - 10_000
        }
    });
    for _ in 0..4 {
        database.sql("UPDATE usage_daily SET messages = messages + 1000, input_tokens = 0 WHERE org_id = 'acme'").await;
        run(place, rebuild).expect(0, &["usage_daily ada / gpt-5 / openAI: messages", "acme: 2 lines rebuilt"]);
    }
    done.store(true, Ordering::SeqCst);
    let written = writer.await.expect("the writer");
    assert!(written > 0);
    run(place, &format!("{rebuild} --dry-run")).expect(0, &["acme: 0 lines would be rebuilt"]);
    let messages = database.sql("SELECT CAST(SUM(messages) AS BIGINT) FROM usage_daily WHERE org_id = 'acme'").await;
    assert_eq!(messages, (600 + written).to_string());
}
