//! `docs/data-model.md`: its queries run, and it leaves out no column.

use tollgate::records::AuditRow;

use super::{Place, audit, stored, system, tool, usage};

const PAGE: &str = include_str!("../../../docs/data-model.md");

async fn fill(place: &Place) {
    let records = place.database.records();
    records.insert_usage(&stored((0..20).map(usage))).await.expect("usage rows");
    records.insert_tools(&[tool(1), tool(2)]).await.expect("tool rows");
    records.insert_audit(&stored([audit(1), AuditRow { method: None, ..audit(2) }])).await.expect("audit rows");
    records.insert_system(&[system(1)]).await.expect("system rows");
}

/// Every query answers something, but for the last, which looks for what should not be.
async fn every_query_runs(place: Place) {
    fill(&place).await;
    let queries: Vec<&str> = PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(queries.len() > 10, "the page has questions: {}", queries.len());
    for (index, query) in queries.iter().enumerate() {
        let query = query.trim().trim_end_matches(';');
        let lines: usize = place.sql(&format!("SELECT COUNT(*) FROM ({query}) AS answer")).await.parse().expect("a number");
        assert_eq!(lines == 0, index + 1 == queries.len(), "{lines} lines from:\n{query}");
    }
}

#[tokio::test]
async fn every_query_runs_on_sqlite() {
    every_query_runs(Place::sqlite().await).await;
}

#[tokio::test]
async fn every_query_runs_on_postgres() {
    every_query_runs(Place::postgres().await).await;
}

#[tokio::test]
async fn every_query_runs_on_timescale() {
    if let Some(place) = Place::timescale().await {
        every_query_runs(place).await;
    }
}

#[tokio::test]
async fn no_column_is_left_out() {
    let place = Place::postgres().await;
    let columns = "SELECT string_agg(table_name || '.' || column_name, ' ') FROM information_schema.columns \
        WHERE table_schema = 'public' AND table_name <> 'tollgate_migrations'";
    let columns = place.sql(columns).await;
    assert!(columns.contains("usage_events.id"), "{columns}");
    for column in columns.split(' ') {
        let (table, name) = column.split_once('.').expect("a table and a column");
        let section = PAGE.split(&format!("### {table}\n")).nth(1).unwrap_or_else(|| panic!("the page has no section {table}"));
        let section = section.split("\n##").next().unwrap_or_default();
        assert!(section.contains(&format!("`{name}`")), "the section of {table} does not name its column {name}");
    }
}
