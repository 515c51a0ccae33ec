//! What is there on TimescaleDB only. The laws of records run on it too; see `laws.rs` and `rollups.rs`.

use jiff::SignedDuration;
use tollgate::db::{Database, Plan};
use tollgate::records::UsageRow;
use tollgate::records::retention::{EventTable, Held, Removed, Retention};

use super::{Place, noon, stored, usage};
use crate::support::postgres::Postgres;

const KEPT: Retention = Retention { audit_days: 365, usage_days: 730, tools_days: 730, system_days: 30 };

#[tokio::test]
async fn migrating_shows_what_it_does_and_does_it_once() {
    let Some(server) = tokio::task::spawn_blocking(Postgres::timescale).await.unwrap() else { return };
    let url = server.database();
    let database = Database::open(&url).unwrap();
    let says = database.plan(&KEPT).await.expect("a plan").steps.join("\n");
    for step in
        ["migration 1", "migration 2", "install the extension", "usage_events a hypertable", "compress chunks", "usage_hourly", "30 days"]
    {
        assert!(says.contains(step), "the plan lacks {step:?}:\n{says}");
    }
    let extensions = server.sql(&url, "SELECT COUNT(*) FROM pg_extension WHERE extname = 'timescaledb'");
    assert_eq!(extensions.unwrap(), "0", "a plan changes nothing");
    database.migrate().await.expect("migrating");
    database.keep_to(&KEPT, &Held::new()).await.expect("retention policies");
    assert_eq!(database.plan(&KEPT).await.expect("a plan"), Plan::default(), "the second time there is nothing to do");
    let hypertables = "SELECT string_agg(hypertable_name, ' ' ORDER BY hypertable_name) FROM timescaledb_information.hypertables \
        WHERE compression_enabled";
    assert_eq!(server.sql(&url, hypertables).unwrap(), "audit_events system_metrics tool_calls usage_events");
}

#[tokio::test]
async fn policies_follow_the_configuration_and_what_is_held() {
    let Some(place) = Place::timescale().await else { return };
    let policies = "SELECT string_agg(hypertable_name || ' ' || (config->>'drop_after'), ', ' ORDER BY hypertable_name) \
        FROM timescaledb_information.jobs WHERE proc_name = 'policy_retention' AND hypertable_schema = 'public'";
    place.database.keep_to(&KEPT, &Held::new()).await.expect("retention policies");
    assert_eq!(place.sql(policies).await, "system_metrics 30 days, tool_calls 730 days, usage_events 730 days");
    let shorter = Retention { usage_days: 90, ..KEPT };
    assert_eq!(place.database.plan(&shorter).await.expect("a plan").steps, ["drop chunks of usage_events after 90 days"]);
    place.database.keep_to(&shorter, &Held::from(["acme".into()])).await.expect("retention policies");
    assert_eq!(place.sql(policies).await, "system_metrics 30 days", "while an org is held no chunk of its rows is dropped");
    place.database.keep_to(&shorter, &Held::new()).await.expect("retention policies");
    assert_eq!(place.sql(policies).await, "system_metrics 30 days, tool_calls 730 days, usage_events 90 days");
}

#[tokio::test]
async fn plain_tables_become_hypertables_with_their_rows() {
    let Some(server) = tokio::task::spawn_blocking(Postgres::timescale).await.unwrap() else { return };
    let url = server.database();
    let migrations =
        [include_str!("../../../migrations/postgres/0001_records.sql"), include_str!("../../../migrations/postgres/0002_rollups.sql")];
    for migration in migrations {
        server.sql(&url, migration).expect("tables as plain PostgreSQL has them");
    }
    let rows = "INSERT INTO usage_events SELECT gen_random_uuid(), '2026-01-01Z'::TIMESTAMPTZ + n * INTERVAL '1 hour', gen_random_uuid(), \
        'acme', 'ada', '2026-01-01', '2026-01', 'openAI', 'gpt-5', NULL, NULL, 1, 1, 1, 0, 0, 2, 3, '', 'frames', 0, 'completed', \
        NULL, 5, '' FROM generate_series(1, 2000) AS n";
    server.sql(&url, rows).expect("rows that are there already");
    let hours = "SELECT string_agg(usage_hourly::TEXT, ' ' ORDER BY hour) FROM usage_hourly";
    let columns = "SELECT string_agg(column_name || data_type, ' ' ORDER BY ordinal_position) FROM information_schema.columns \
        WHERE table_name = 'usage_hourly'";
    let (before, columns_before) = (server.sql(&url, hours).unwrap(), server.sql(&url, columns).unwrap());
    Database::open(&url).unwrap().migrate().await.expect("migrating");
    assert_eq!(server.sql(&url, "SELECT COUNT(*) FROM usage_events").unwrap(), "2000");
    assert_eq!(server.sql(&url, "SELECT COUNT(*) > 10 FROM show_chunks('usage_events')").unwrap(), "t");
    assert_eq!(server.sql(&url, columns).unwrap(), columns_before, "the aggregate has the view's columns");
    assert_eq!(server.sql(&url, hours).unwrap(), before, "and says what the view said");
}

#[tokio::test]
async fn old_chunks_are_compressed_and_dropped_and_late_rows_still_come_in() {
    let Some(place) = Place::timescale().await else { return };
    let records = place.database.records();
    super::retention::fill(&place).await;
    let compress =
        "SELECT COUNT(compress_chunk(chunk)) FROM show_chunks('usage_events', older_than => '2026-11-01Z'::TIMESTAMPTZ) AS chunk";
    assert_eq!(place.sql(compress).await, "2");
    let late = UsageRow { time: noon() - SignedDuration::from_hours(24 * 40), ..usage(99) };
    let known = UsageRow { time: late.time, ..usage(11) };
    for _ in 0..2 {
        records.insert_usage(&stored([late.clone(), known.clone()])).await.expect("rows of a compressed chunk");
    }
    assert_eq!(place.sql("SELECT COUNT(*) FROM usage_events").await, "7", "one is new, the other is there already");
    assert_eq!(place.sql("SELECT SUM(uses) FROM usage_daily").await, "7");

    let told = |removed: Vec<Removed>| removed.iter().map(|removed| (removed.table, removed.count)).collect::<Vec<_>>();
    let removed = place.database.retain(&super::retention::RETENTION, &Held::from(["acme".into()]), noon()).await.expect("retention");
    assert_eq!(
        told(removed),
        [(EventTable::Usage, 1), (EventTable::Tools, 1), (EventTable::Audit, 4)],
        "in batches while an org is held, out of compressed chunks too"
    );
    let removed = place.database.retain(&super::retention::RETENTION, &Held::new(), noon()).await.expect("retention");
    assert_eq!(told(removed), [(EventTable::Audit, 2)], "then by the chunk, those of other tables by their policies");
    assert_eq!(place.sql("SELECT COUNT(*) FROM audit_events").await, "3");
}

#[tokio::test]
async fn without_its_community_licence_it_counts_as_plain_postgresql() {
    let Some(server) = tokio::task::spawn_blocking(Postgres::timescale_under_apache).await.unwrap() else { return };
    // Brought in by hand or not: Tollgate makes no use of it.
    for by_hand in [false, true] {
        let url = server.database();
        if by_hand {
            server.sql(&url, "CREATE EXTENSION timescaledb").expect("the extension");
        }
        let database = Database::open(&url).unwrap();
        let plan = database.plan(&KEPT).await.expect("a plan");
        assert!(plan.note.as_deref().is_some_and(|note| note.contains("without its Community licence")), "{plan:?}");
        assert!(!plan.steps.iter().any(|step| step.contains("hypertable") || step.contains("extension")), "{plan:?}");
        database.migrate().await.expect("migrating");
        database.keep_to(&KEPT, &Held::new()).await.expect("nothing to tell it");
        assert_eq!(database.plan(&KEPT).await.expect("a plan").steps, Vec::<String>::new());
        let old = UsageRow { time: noon() - SignedDuration::from_hours(24 * 800), ..usage(1) };
        database.records().insert_usage(&stored([old, usage(2)])).await.expect("usage rows");
        assert_eq!(server.sql(&url, "SELECT SUM(messages) FROM usage_hourly").as_deref(), Ok("2"), "a view");
        let removed = database.retain(&KEPT, &Held::new(), noon()).await.expect("retention");
        assert!(removed.contains(&Removed { table: EventTable::Usage, count: 1, more: false }), "row by row: {removed:?}");
        database.close().await;
    }
}
