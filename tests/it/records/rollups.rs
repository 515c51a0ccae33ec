//! Daily sums: what they hold is what the rows hold, however the rows came.

use std::sync::Arc;

use jiff::SignedDuration;
use tollgate::records::{AuditRow, Category, Outcome, RecordStore, StoredUsage, ToolRow, UsageRow};
use uuid::Uuid;

use super::{Place, audit, stored, tool, usage};

macro_rules! on_every_database {
    ($($law:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")] async fn $law() { super::$law(super::Place::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")] async fn $law() { super::$law(super::Place::postgres().await).await; })*
        }
        mod timescale {
            $(#[tokio::test(flavor = "multi_thread")] async fn $law() {
                if let Some(place) = super::Place::timescale().await {
                    super::$law(place).await;
                }
            })*
        }
    };
}

on_every_database! {
    days_hold_what_the_rows_hold,
    two_writers_of_the_same_rows_count_them_once,
    sums_stay_at_the_largest_number,
    counts_that_grow_are_counted_by_what_they_grew,
    names_too_long_for_an_index_are_cut,
    months_and_the_views_of_other_tools,
}

/// The same sums from the rows themselves.
const FROM_ROWS: &str = "SELECT org_id, org_day, org_month, member_id, model, endpoint, SUM(messages), \
    COUNT(CASE WHEN id = generation_id THEN 1 END), COUNT(*), \
    COUNT(CASE WHEN id = generation_id AND status IN ('failed', 'lost') THEN 1 END), SUM(input_tokens), SUM(output_tokens), \
    SUM(cache_read_tokens), SUM(cache_write_tokens), SUM(total_tokens), \
    SUM(CASE WHEN usage_source IN ('context', 'counted') THEN total_tokens ELSE 0 END), SUM(cost_nanousd), \
    COALESCE(SUM(CASE WHEN id = generation_id THEN time_to_first_token_ms END), 0), \
    COUNT(CASE WHEN id = generation_id THEN time_to_first_token_ms END), \
    MIN(CASE WHEN id = generation_id THEN time_to_first_token_ms END), \
    MAX(CASE WHEN id = generation_id THEN time_to_first_token_ms END), \
    COALESCE(SUM(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END), 0), \
    COUNT(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END), \
    MIN(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END), \
    MAX(CASE WHEN id = generation_id AND status = 'completed' THEN duration_ms END) \
    FROM usage_events GROUP BY org_id, org_day, org_month, member_id, model, endpoint";

/// The sums of members from those, which are held against the rows.
const OF_MEMBERS: &str = "SELECT org_id, org_day, org_month, member_id, SUM(messages), SUM(generations), SUM(errors), SUM(input_tokens), \
    SUM(cache_read_tokens), SUM(total_tokens), SUM(estimated_tokens), SUM(cost_nanousd), SUM(first_token_ms_sum), \
    SUM(first_token_count), SUM(response_ms_sum), SUM(response_count) FROM usage_daily GROUP BY org_id, org_day, org_month, member_id";

/// The same of models.
const OF_MODELS: &str = "SELECT org_id, org_day, org_month, model, endpoint, SUM(messages), SUM(generations), SUM(uses), SUM(errors), \
    SUM(total_tokens), SUM(estimated_tokens), SUM(cost_nanousd), SUM(response_ms_sum), SUM(response_count) \
    FROM usage_daily GROUP BY org_id, org_day, org_month, model, endpoint";

/// The hours from the rows themselves.
const HOURS_FROM_ROWS: &str = "SELECT org_id, org_day, org_month, HOUR AS hour, SUM(messages), SUM(total_tokens), \
    COALESCE(SUM(CASE WHEN id = generation_id THEN time_to_first_token_ms END), 0), \
    COUNT(CASE WHEN id = generation_id THEN time_to_first_token_ms END) \
    FROM usage_events GROUP BY org_id, org_day, org_month, HOUR";

/// Fails where a daily sum of usage is not what the rows add up to, or one of the two has lines that the other has not.
async fn assert_days_hold_what_the_rows_hold(place: &Place) {
    let hour = if place.url.starts_with("sqlite:") {
        "substr(time, 1, 13) || ':00:00.000000Z'"
    } else {
        "to_char(date_trunc('hour', time, 'UTC') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    };
    let hours = HOURS_FROM_ROWS.replace("HOUR", hour);
    for (table, should) in
        [("usage_daily", FROM_ROWS), ("members_daily", OF_MEMBERS), ("models_daily", OF_MODELS), ("usage_by_hour", &hours)]
    {
        let lines = place.sql(&format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(
            lines,
            place.sql(&format!("SELECT COUNT(*) FROM ({should}) AS sums")).await,
            "as many lines of {table} as the rows have"
        );
        let differing = place.sql(&format!("SELECT COUNT(*) FROM (SELECT * FROM {table} EXCEPT {should}) AS differing")).await;
        assert_eq!(differing, "0", "lines of {table} that are not what the rows add up to");
    }
}

/// Rows of several orgs, members, models and days, of every status and source, some of a generation's second model.
fn mixed(number: u64) -> UsageRow {
    let index = usize::try_from(number).unwrap();
    let pick = |of: usize, shift: usize| (index / shift) % of;
    let day = 18 + pick(3, 7);
    let second = number % 5 == 4;
    UsageRow {
        org_id: ["acme", "blue"][pick(2, 3)].into(),
        member_id: ["ada", "bob", "eve"][pick(3, 1)].into(),
        model: ["gpt-5", "claude", ""][pick(3, 2)].to_owned(),
        org_day: format!("2026-11-{day}"),
        time: usage(number).time + SignedDuration::from_mins(i64::try_from(number % 200).unwrap()),
        generation_id: if second { Uuid::from_u128(1) } else { usage(number).id },
        messages: u32::from(!second),
        status: ["completed", "failed", "lost", "aborted"][pick(4, 1)],
        usage_source: ["frames", "counted", "context"][pick(3, 1)],
        time_to_first_token_ms: (!number.is_multiple_of(3)).then_some(100 + number),
        duration_ms: 1000 + number * 7 % 900,
        input_tokens: number,
        total_tokens: number + 90,
        cost_nanousd: number * 1000,
        ..usage(number)
    }
}

async fn days_hold_what_the_rows_hold(place: Place) {
    let records = place.database.records();
    let rows: Vec<StoredUsage> = stored((0..900).map(mixed));
    // Batches overlap, as they do where a writer does not know what arrived; the last is wholly there already.
    for batch in [&rows[0..400], &rows[300..800], &rows[500..900], &rows[0..400]] {
        records.insert_usage(batch).await.expect("usage rows");
        assert_days_hold_what_the_rows_hold(&place).await;
    }
    let tools: Vec<ToolRow> = (0..100)
        .map(|number| ToolRow {
            outcome: if number % 4 == 0 { Outcome::Failure } else { Outcome::Success },
            duration_ms: (number % 10 != 0).then_some(number),
            mcp_server: (number % 2 == 0).then(|| "library".to_owned()),
            ..tool(number)
        })
        .collect();
    for batch in [&tools[0..60], &tools[40..100]] {
        records.insert_tools(batch).await.expect("tool rows");
    }
    let sums = "SELECT MAX(org_id || ' ' || tool || ' ' || calls || ' ' || failures || ' ' || duration_ms_sum || ' ' || duration_count \
        || ' ' || duration_ms_min || ' ' || duration_ms_max) FROM tools_daily WHERE mcp_server = ";
    assert_eq!(place.sql(&format!("{sums}'library'")).await, "acme search 50 25 2000 40 2 98");
    assert_eq!(place.sql(&format!("{sums}''")).await, "acme search 50 0 2500 50 1 99");
}

async fn two_writers_of_the_same_rows_count_them_once(place: Place) {
    let rows: Arc<Vec<StoredUsage>> = Arc::new(stored((0..2000).map(mixed)));
    let writers: Vec<_> = (0..3_usize)
        .map(|writer| {
            // Each a store of its own, and so a connection of its own.
            let (records, rows) = (place.database.records(), Arc::clone(&rows));
            tokio::spawn(async move {
                let mut batches: Vec<&[StoredUsage]> = rows.chunks(250).collect();
                batches.rotate_left(writer);
                for batch in batches {
                    write_in_the_end(&*records, batch).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    assert_eq!(place.sql("SELECT COUNT(*) FROM usage_events").await, "2000");
    assert_days_hold_what_the_rows_hold(&place).await;
}

/// SQLite may say "busy" to writers that come together; nothing else may go wrong, a deadlock least of all.
async fn write_in_the_end(records: &dyn RecordStore, batch: &[StoredUsage]) {
    while let Err(error) = records.insert_usage(batch).await {
        assert!(error.message.contains("locked"), "{error}");
    }
}

async fn sums_stay_at_the_largest_number(place: Place) {
    let records = place.database.records();
    let huge = |number| UsageRow { total_tokens: u64::MAX, cost_nanousd: i64::MAX.unsigned_abs(), ..usage(number) };
    records.insert_usage(&stored([huge(1), huge(2)])).await.expect("huge numbers in one batch");
    records.insert_usage(&stored([huge(3), usage(4)])).await.expect("and more in the next");
    let day = place.sql("SELECT total_tokens || ' ' || cost_nanousd || ' ' || messages FROM usage_daily").await;
    assert_eq!(day, format!("{max} {max} 4", max = i64::MAX));
    let day = place.sql("SELECT total_tokens || ' ' || cost_nanousd || ' ' || messages FROM members_daily").await;
    assert_eq!(day, format!("{max} {max} 4", max = i64::MAX));
    assert_eq!(place.sql("SELECT total_tokens || ' ' || messages FROM usage_by_hour").await, format!("{} 4", i64::MAX));
}

async fn counts_that_grow_are_counted_by_what_they_grew(place: Place) {
    let records = place.database.records();
    let counted = |count| AuditRow { count, ..audit(1) };
    let fine = AuditRow { outcome: Outcome::Success, ..audit(2) };
    let not_a_request = AuditRow { method: None, ..audit(3) };
    let signed_in = AuditRow { category: Category::Auth, ..audit(4) };
    let of_no_org = AuditRow { org_id: None, org_day: None, ..audit(5) };
    let of_nobody = AuditRow { actor_id: None, ..audit(6) };
    records.insert_audit(&stored([counted(1), fine, not_a_request, signed_in, of_no_org, of_nobody])).await.expect("audit rows");
    for count in [5, 3, 9, 9] {
        records.insert_audit(&stored([counted(count), audit(7)])).await.expect("a count that may have grown");
    }
    let day = "SELECT api_calls || ' ' || errors || ' ' || org_month FROM requests_daily WHERE member_id = ";
    assert_eq!(place.sql(&format!("{day}'ada'")).await, "11 10 2026-11", "nine, the one that was fine, and the one beside the growing");
    assert_eq!(place.sql(&format!("{day}''")).await, "1 1 2026-11");
    assert_eq!(place.sql("SELECT SUM(api_calls) FROM requests_daily").await, "12");
}

async fn names_too_long_for_an_index_are_cut(place: Place) {
    let records = place.database.records();
    // Random letters: what compresses would fit.
    let long: String = (0..8000_u64)
        .map(|n| char::from(b'a' + u8::try_from(n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 7 & 15).expect("four bits")))
        .collect();
    let row = UsageRow {
        org_id: long[..1024].into(),
        member_id: long[1024..2048].into(),
        model: long.clone(),
        endpoint: format!("{}{long}", "가".repeat(3)),
        ..usage(1)
    };
    records.insert_usage(&stored([row])).await.expect("a usage row is never lost for what is made of it");
    assert_eq!(place.sql("SELECT length(model) FROM usage_daily").await, "256");
}

async fn months_and_the_views_of_other_tools(place: Place) {
    let records = place.database.records();
    let october = UsageRow { org_day: "2026-10-31".to_owned(), org_month: "2026-10".to_owned(), ..usage(1) };
    let later = UsageRow { model: "claude".to_owned(), conversation_id: Some("conversation-2".to_owned()), ..usage(3) };
    let of_no_conversation = UsageRow { conversation_id: None, org_day: "2026-11-21".to_owned(), ..usage(4) };
    records.insert_usage(&stored([october, usage(2), later, of_no_conversation])).await.expect("usage rows");
    let months = "SELECT messages || ' ' || total_tokens || ' ' || response_ms_sum || ' ' || response_count FROM usage_monthly \
        WHERE model = 'gpt-5' AND org_month = ";
    assert_eq!(place.sql(&format!("{months}'2026-11'")).await, "2 6000 4000 2");
    assert_eq!(place.sql(&format!("{months}'2026-10'")).await, "1 3000 2000 1");
    let session = "SELECT user_id || ' ' || organization_id || ' ' || model_used || ' ' || messages || ' ' || tokens FROM chat_sessions \
        WHERE librechat_session_id = 'conversation-2' AND first_seen < last_seen";
    assert_eq!(place.sql(session).await, "ada acme claude 2 6000");
    assert_eq!(place.sql("SELECT COUNT(*) FROM chat_sessions").await, "2");
    let metrics = "SELECT organization_id || ' ' || user_id || ' ' || tokens_used || ' ' || message_count FROM usage_metrics \
        WHERE date = '2026-11-20' AND cost_usd > 0.009 AND cost_usd < 0.0091";
    assert_eq!(place.sql(metrics).await, "acme ada 6000 2");
    let hours = "SELECT SUM(messages) || ' ' || COUNT(*) FROM usage_hourly";
    assert_eq!(place.sql(hours).await, "4 2", "two models in one hour");
}

#[tokio::test]
async fn sqlite_rows_that_are_there_already_are_added_by_migrating() {
    let before = include_str!("../../../migrations/sqlite/0001_records.sql");
    rows_that_are_there_already_are_added(Place::empty_sqlite(), before).await;
}

#[tokio::test]
async fn postgres_rows_that_are_there_already_are_added_by_migrating() {
    let before = include_str!("../../../migrations/postgres/0001_records.sql");
    rows_that_are_there_already_are_added(Place::empty_postgres().await, before).await;
}

async fn rows_that_are_there_already_are_added(place: Place, before: &str) {
    place.script(before).await;
    let rows = (0..60_u64).map(|number| {
        let row = mixed(number);
        format!(
            "INSERT INTO usage_events (id, time, generation_id, org_id, member_id, org_day, org_month, endpoint, model, messages, \
             input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, total_tokens, cost_nanousd, price_version, usage_source, \
             estimate_tokens, status, time_to_first_token_ms, duration_ms, request_id) VALUES ('{}', '{:.6}', '{}', '{}', '{}', '{}', '{}', \
             '{}', '{}', {}, {}, {}, {}, {}, {}, {}, '', '{}', 0, '{}', {}, {}, '');",
            row.id,
            row.time,
            row.generation_id,
            row.org_id,
            row.member_id,
            row.org_day,
            row.org_month,
            row.endpoint,
            row.model,
            row.messages,
            row.input_tokens,
            row.output_tokens,
            row.cache_read_tokens,
            row.cache_write_tokens,
            row.total_tokens,
            row.cost_nanousd,
            row.usage_source,
            row.status,
            row.time_to_first_token_ms.map_or("NULL".to_owned(), |milliseconds| milliseconds.to_string()),
            row.duration_ms,
        )
    });
    let rows: Vec<String> = rows.collect();
    place.script(&rows.join("\n")).await;
    place.database.migrate().await.expect("migrating what is there already");
    assert_days_hold_what_the_rows_hold(&place).await;
    place.database.records().insert_usage(&stored((50..90).map(mixed))).await.expect("and more, some of them there");
    assert_days_hold_what_the_rows_hold(&place).await;
}
