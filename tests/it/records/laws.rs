//! What holds on every database.

use std::time::Duration;

use futures_util::StreamExt as _;
use tollgate::records::store::{MemberDay, Sums, UtcDay};
use tollgate::records::{AuditRow, Outcome, ReadError, StoredAudit, StoredUsage, SystemRow, ToolRow, UsageRow};
use uuid::Uuid;

use super::{Place, audit, noon, recorder, settle, stored, system, tool, usage};

/// Runs every law on both databases.
macro_rules! on_every_database {
    ($($law:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $law() { super::$law(super::Place::sqlite().await).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $law() { super::$law(super::Place::postgres().await).await; })*
        }
        mod timescale {
            $(#[tokio::test] async fn $law() {
                if let Some(place) = super::Place::timescale().await {
                    super::$law(place).await;
                }
            })*
        }
    };
}

on_every_database! {
    rows_come_back_as_they_were_written,
    tool_and_system_rows_come_back_as_they_were_written,
    writing_twice_is_writing_once,
    the_larger_count_stays,
    numbers_beyond_the_databases_are_clamped_and_sums_saturate,
    sums_follow_the_orgs_calendar_and_utc,
    decisions_are_found_by_reference,
    a_generations_models_come_together,
    the_newest_rows_come_first,
    hostile_text_is_stored_cleaned,
    a_row_that_cannot_be_read_is_named,
    twenty_thousand_rows_pass_through_the_recorder,
}

async fn rows_come_back_as_they_were_written(place: Place) {
    let records = place.database.records();
    let bare_usage = UsageRow { agent_id: None, conversation_id: None, time_to_first_token_ms: None, ..usage(2) };
    let full_usage = UsageRow { agent_id: Some("agent_1".to_owned()), ..usage(1) };
    let bare_audit = AuditRow { org_id: None, actor_id: None, detail: None, reference: None, status: None, ..audit(2) };
    let full_audit = AuditRow { total_tokens: Some(1), cost_nanousd: Some(2), query: Some("a=b".to_owned()), ..audit(1) };
    records.insert_usage(&stored([full_usage.clone(), bare_usage.clone()])).await.expect("usage rows");
    records.insert_audit(&stored([full_audit.clone(), bare_audit.clone()])).await.expect("audit rows");
    assert_eq!(records.usage_rows(10).await.expect("reading"), stored::<_, StoredUsage>([bare_usage, full_usage]));
    assert_eq!(records.audit_rows(10).await.expect("reading"), stored::<_, StoredAudit>([bare_audit, full_audit]));
    records.insert_usage(&[]).await.expect("no rows are no trouble");
    records.insert_audit(&[]).await.expect("no rows are no trouble");
}

async fn tool_and_system_rows_come_back_as_they_were_written(place: Place) {
    let records = place.database.records();
    let failed = ToolRow { outcome: Outcome::Failure, error: Some("Error: no such book".to_owned()), ..tool(1) };
    let bare = ToolRow { mcp_server: None, conversation_id: None, duration_ms: None, ..tool(2) };
    let huge = SystemRow { memory_total_bytes: u64::MAX, load_1m: f64::NAN, ..system(2) }.cleaned();
    for _ in 0..2 {
        records.insert_tools(&[bare.clone(), failed.clone(), bare.clone()]).await.expect("tool rows");
        records.insert_system(&[system(1), huge.clone()]).await.expect("system rows");
    }
    records.insert_tools(&[]).await.expect("no rows are no trouble");
    records.insert_system(&[]).await.expect("no rows are no trouble");
    assert_eq!(records.tool_rows(10).await.expect("reading"), [bare, failed]);
    let clamped = SystemRow { memory_total_bytes: i64::MAX.unsigned_abs(), load_1m: 0.0, ..system(2) };
    assert_eq!(records.system_rows(10).await.expect("reading"), [clamped, system(1)]);
}

async fn writing_twice_is_writing_once(place: Place) {
    let records = place.database.records();
    // Beyond microseconds a time is cut, the same way every time.
    let precise = UsageRow { time: "2026-11-20T12:00:00.123456789Z".parse().unwrap(), ..usage(1) };
    let rows = [precise.clone(), usage(2), usage(2)];
    for _ in 0..3 {
        records.insert_usage(&stored(rows.clone())).await.expect("writing usage rows again");
    }
    let changed = UsageRow { total_tokens: 1, ..precise };
    records.insert_usage(&stored([changed, usage(3)])).await.expect("a key that is there beside one that is not");
    let read = records.usage_rows(10).await.expect("reading");
    assert_eq!(read.len(), 3, "two keys, written many times, and a third are three rows");
    assert!(read.iter().all(|row| row.total_tokens == 3000), "a row that is there stays as it is: {read:?}");
}

async fn the_larger_count_stays(place: Place) {
    let records = place.database.records();
    let counted = |count| AuditRow { count, ..audit(1) };
    records.insert_audit(&stored([counted(5)])).await.expect("the first");
    records.insert_audit(&stored([counted(3)])).await.expect("a smaller one, late");
    assert_eq!(records.audit_rows(10).await.expect("reading")[0].count, 5, "a smaller count changes nothing");
    records.insert_audit(&stored([counted(7), audit(2), counted(42), counted(9)])).await.expect("one key several times in a batch");
    let read = records.audit_rows(10).await.expect("reading");
    assert_eq!(read, stored::<_, StoredAudit>([audit(2), counted(42)]));
}

async fn numbers_beyond_the_databases_are_clamped_and_sums_saturate(place: Place) {
    let records = place.database.records();
    let huge = |number| UsageRow { total_tokens: u64::MAX, cost_nanousd: i64::MAX.unsigned_abs(), messages: u32::MAX, ..usage(number) };
    records.insert_usage(&stored([huge(1), huge(2), huge(3)])).await.expect("huge numbers");
    let read = records.usage_rows(1).await.expect("reading");
    assert_eq!(read[0].total_tokens, i64::MAX.unsigned_abs(), "what no BIGINT holds is stored as the largest");
    let used = records.used_since(noon()).await.expect("sums beyond a BIGINT");
    let sums = Sums { total_tokens: u64::MAX, cost_nanousd: u64::MAX, messages: 3 * u64::from(u32::MAX) };
    assert_eq!(used.everyone, [UtcDay { day: "2026-11-20".to_owned(), sums }]);
}

async fn sums_follow_the_orgs_calendar_and_utc(place: Place) {
    let records = place.database.records();
    let row = |number, org: &str, member: &str, time: &str, day: &str| UsageRow {
        org_id: org.into(),
        member_id: member.into(),
        time: time.parse().unwrap(),
        org_day: day.to_owned(),
        org_month: day[..7].to_owned(),
        total_tokens: 10,
        messages: 1,
        cost_nanousd: 100,
        ..usage(number)
    };
    let further_model = UsageRow { messages: 0, model: "other".to_owned(), ..row(5, "acme", "ada", "2026-11-01T00:30:00Z", "2026-11-01") };
    records
        .insert_usage(&stored([
            row(1, "acme", "ada", "2026-10-31T14:59:59.999999Z", "2026-10-31"),
            // In Seoul November begins at 15:00 UTC.
            row(2, "acme", "ada", "2026-10-31T15:00:00Z", "2026-11-01"),
            row(3, "acme", "bob", "2026-11-01T00:00:00Z", "2026-11-01"),
            row(4, "blue", "ada", "2026-11-02T00:00:00Z", "2026-11-02"),
            further_model,
        ]))
        .await
        .expect("usage rows");
    let used = records.used_since("2026-10-31T15:00:00Z".parse().unwrap()).await.expect("sums");
    let sums = |tokens, messages| Sums { total_tokens: tokens, messages, cost_nanousd: tokens * 10 };
    let member = |org: &str, member: &str, day: &str, sums| MemberDay {
        org_id: org.into(),
        member_id: member.into(),
        org_day: day.to_owned(),
        org_month: day[..7].to_owned(),
        sums,
    };
    assert_eq!(
        used.members,
        [
            member("acme", "ada", "2026-11-01", sums(20, 1)),
            member("acme", "bob", "2026-11-01", sums(10, 1)),
            member("blue", "ada", "2026-11-02", sums(10, 1)),
        ],
        "a member's use is by the day in the org's calendar, and of one org only"
    );
    let utc = |day: &str, sums| UtcDay { day: day.to_owned(), sums };
    assert_eq!(
        used.everyone,
        [utc("2026-10-31", sums(10, 1)), utc("2026-11-01", sums(20, 1)), utc("2026-11-02", sums(10, 1))],
        "everyone's use is by the UTC day of admission"
    );
}

async fn decisions_are_found_by_reference(place: Place) {
    let records = place.database.records();
    let twin = AuditRow { reference: Some("REF-1".to_owned()), ..audit(3) };
    records.insert_audit(&stored([audit(1), audit(2), twin.clone()])).await.expect("audit rows");
    assert_eq!(records.decision("REF-2").await.expect("reading"), Some(audit(2).into()));
    assert_eq!(records.decision("REF-1").await.expect("reading"), Some(twin.into()), "the newest of two");
    for unknown in ["", "REF-9", "' OR 1 = 1 --", "REF-%"] {
        assert_eq!(records.decision(unknown).await.expect("reading"), None, "{unknown:?} is nobody's reference");
    }
}

async fn a_generations_models_come_together(place: Place) {
    let records = place.database.records();
    let generation_id = usage(9).generation_id;
    let second = UsageRow { id: Uuid::from_u128(1), generation_id, model: "second".to_owned(), messages: 0, ..usage(9) };
    records.insert_usage(&stored([second.clone(), usage(8), usage(9)])).await.expect("usage rows");
    assert_eq!(
        records.usage_of(generation_id).await.expect("reading"),
        stored::<_, StoredUsage>([usage(9), second]),
        "the first model's row comes first, whatever the ids"
    );
    assert_eq!(records.usage_of(Uuid::from_u128(77)).await.expect("reading"), []);
}

async fn the_newest_rows_come_first(place: Place) {
    let records = place.database.records();
    records.insert_usage(&stored([3, 1, 5, 2, 4].map(usage))).await.expect("usage rows");
    let newest: Vec<StoredUsage> = stored([5, 4, 3].map(usage));
    assert_eq!(records.usage_rows(3).await.expect("reading"), newest);
    assert_eq!(records.usage_rows(0).await.expect("reading"), []);
}

async fn hostile_text_is_stored_cleaned(place: Place) {
    let records = place.database.records();
    let folder = tempfile::tempdir().expect("a folder for the journal");
    let recorder = recorder(&records, &folder).await;
    // Random letters: text that compresses would fit in an index that it is too long for.
    let long: String = (0..100_000_u64)
        .map(|n| char::from(b'a' + u8::try_from(n.wrapping_mul(n).wrapping_mul(2_654_435_761) >> 7 & 15).unwrap()))
        .collect();
    let hostile = UsageRow {
        org_id: format!("o{long}").into(),
        member_id: format!("m\0{long}").into(),
        conversation_id: Some(format!("🦀{}", "가".repeat(1_000_000))),
        model: "'; DROP TABLE usage_events; --\0\u{202e}\u{fffd}".to_owned(),
        endpoint: "👩‍👩‍👧‍👦".repeat(10_000),
        ..usage(1)
    };
    let hostile_audit = AuditRow {
        actor_id: Some(long.as_str().into()),
        conversation_id: Some(long.clone()),
        reference: Some("REF\0-1".to_owned()),
        error: Some("\0".repeat(100_000)),
        user_agent: Some(long.clone()),
        detail: Some(serde_json::json!({ "a\0": "b\0c", "deep": [{ "\0": null }] })),
        ..audit(1)
    };
    let huge_detail = AuditRow { detail: Some(serde_json::json!([long, long, long])), ..audit(2) };
    recorder.record_audit(hostile_audit);
    recorder.record_audit(huge_detail);
    settle(&recorder, [hostile, usage(2)]).await;
    assert_eq!(recorder.close(Duration::from_secs(30)).await, 0, "hostile text is no reason to lose a charge");
    let health = recorder.health();
    assert_eq!((health.usage_refused, health.audit_refused), (0, 0), "no row is refused: {:?}", health.last_error);
    let read = records.usage_of(usage(1).id).await.expect("reading").pop().expect("the hostile row");
    assert_eq!(read.model, "'; DROP TABLE usage_events; --\u{202e}\u{fffd}");
    assert!(read.member_id.starts_with('m') && !read.member_id.contains('\0') && read.member_id.len() <= 1024, "{:?}", read.member_id);
    let conversation = read.conversation_id.expect("its conversation");
    assert!(conversation.starts_with("🦀가") && conversation.ends_with('…') && conversation.len() <= 1024, "{} bytes", conversation.len());
    assert!(read.endpoint.len() <= 8192, "{} bytes", read.endpoint.len());
    let decision = records.decision("REF-1").await.expect("reading").expect("the hostile audit row");
    assert_eq!(decision.error.as_deref(), Some(""));
    assert_eq!(decision.detail, Some(serde_json::json!({ "a": "bc", "deep": [{ "": null }] })));
    let omitted = records.decision("REF-2").await.expect("reading").expect("the row with the huge detail");
    assert_eq!(omitted.detail.expect("a detail")["bytes"], 300_010);
}

async fn a_row_that_cannot_be_read_is_named(place: Place) {
    let records = place.database.records();
    records.insert_audit(&stored([audit(1)])).await.expect("an audit row");
    records.insert_usage(&stored([usage(1)])).await.expect("a usage row");
    place.sql("UPDATE audit_events SET severity = 'LOUD'").await;
    place.sql("UPDATE usage_events SET messages = -1").await;
    let error = records.audit_rows(1).await.expect_err("LOUD is no severity");
    let ReadError::Unreadable { table: "audit_events", column: "severity", row, .. } = &error else { panic!("{error}") };
    assert_eq!(*row, audit(1).id.to_string());
    let error = records.usage_of(usage(1).id).await.expect_err("-1 is no number of messages");
    assert_eq!(
        error.to_string(),
        format!(
            "table usage_events, row {}: column messages cannot be read: -1: out of range integral type conversion attempted",
            usage(1).id
        )
    );
}

async fn twenty_thousand_rows_pass_through_the_recorder(place: Place) {
    let records = place.database.records();
    let folder = tempfile::tempdir().expect("a folder for the journal");
    let recorder = recorder(&records, &folder).await;
    let settled = futures_util::stream::iter(0..10_000).for_each_concurrent(500, |number| {
        let recorder = &recorder;
        async move {
            recorder.record_audit(audit(number));
            settle(recorder, [usage(2 * number), usage(2 * number + 1)]).await;
        }
    });
    settled.await;
    recorder.shipped().await.expect("the database takes them");
    assert_eq!(place.sql("SELECT COUNT(*) FROM usage_events").await, "20000", "shipped means there for anyone to see");
    assert_eq!(recorder.close(Duration::from_secs(30)).await, 0);
    let health = recorder.health();
    assert_eq!((health.usage_written, health.audit_written, health.audit_dropped), (20_000, 10_000, 0));
    assert_eq!((health.journal.rows, health.audit_queued), (0, 0), "at the end nothing is left in a queue");
    assert_eq!(place.sql("SELECT COUNT(*) FROM audit_events").await, "10000");
    let used = records.used_since(noon()).await.expect("sums");
    assert_eq!(used.members[0].sums.total_tokens, 20_000 * 3000);
}
