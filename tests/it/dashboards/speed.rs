//! How long panels take where much is stored. Run by hand, alone on a machine:
//! `cargo test --features demo --test it dashboards::speed -- --ignored --nocapture`.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::db::Database;

use super::asked::Asker;
use super::filled::{History, fill};
use super::grafana::{View, dashboards, list, text};
use crate::support::postgres::Postgres;
use crate::support::prometheus::SCRAPE;

/// As PostgreSQL is when nobody sets anything, but for what only making the rows waits for.
const SETTINGS: &[&str] = &["fsync=off", "synchronous_commit=off", "max_wal_size=8GB"];

/// Five million answers of 5,000 people in 60 days, as many audit rows, and 30 days of two machines.
const MUCH: History = History { rows: 6_600_000, orgs: 20, members: 5_000, days: 60, system: (5, 518_400) };

#[tokio::test]
#[ignore = "a measurement, of some minutes"]
async fn how_long_panels_take() {
    let server = if std::env::var_os("ON_TIMESCALE").is_some() {
        Postgres::start_with("timescaledb", SETTINGS)
    } else {
        Postgres::start_set(SETTINGS)
    };
    let database = server.database();
    let opened = Database::open(&database).expect("a database");
    opened.migrate().await.expect("tables");
    let started = Instant::now();
    fill(&server, &database, &MUCH);
    if std::env::var_os("ON_TIMESCALE").is_some() {
        server.sql(&database, "CALL refresh_continuous_aggregate('usage_hourly', NULL, NULL)").expect("hours");
    }
    let counts = "SELECT format('%s usage rows, %s lines of usage_daily, %s tool calls, %s audit rows, %s system rows', (SELECT COUNT(*) FROM usage_events), \
        (SELECT COUNT(*) FROM usage_daily), (SELECT COUNT(*) FROM tool_calls), (SELECT COUNT(*) FROM audit_events), (SELECT COUNT(*) FROM system_metrics))";
    println!("{} were made in {:.0} s", server.sql(&database, counts).expect("counts"), started.elapsed().as_secs_f64());
    opened.create_reader("org-0", Some("reader_of_org_0")).await.expect("a reader");
    for (folder, role) in [("operators", "postgres"), ("orgs", "reader_of_org_0")] {
        let asker = Asker { server: &server, database: database.clone(), role: role.to_owned(), password: String::new(), prometheus: None };
        let mut took = Vec::new();
        for dashboard in dashboards(folder) {
            let to: Timestamp = SystemClock.now();
            let view = View {
                from: to - range(text(&dashboard.json["time"], "from")),
                to,
                interval: std::time::Duration::from_mins(10),
                scrape: SCRAPE,
                chosen: [].into(),
                timescale: false,
            };
            if list(&dashboard.json, "panels")
                .iter()
                .all(|panel| text(&panel["datasource"], "uid") == "prometheus" || text(panel, "type") == "row")
            {
                continue;
            }
            let view = asker.choose(&dashboard, &view, &[("org", "org-0"), ("member", "member-0")]).await;
            for panel in dashboard.panels() {
                for target in panel.targets().iter().filter(|target| target["rawSql"].is_string()) {
                    let question = view.sql(text(target, "rawSql"));
                    // The best of three: other work on the machine can only make it worse.
                    let milliseconds = (0..3).map(|_| {
                        let begun = Instant::now();
                        asker.sql(&question).unwrap_or_else(|error| panic!("{}: {error}", panel.name()));
                        begun.elapsed().as_secs_f64() * 1000.0
                    });
                    took.push((milliseconds.fold(f64::INFINITY, f64::min), panel.name()));
                }
            }
        }
        took.sort_by(|one, other| other.0.total_cmp(&one.0));
        let half = took[took.len() / 2].0;
        println!(
            "{folder}: {} questions, half of them under {half:.0} ms, psql's own start of about 20 ms included; the slowest:",
            took.len()
        );
        took.iter().take(15).for_each(|(milliseconds, name)| println!("  {milliseconds:6.0} ms  {name}"));
    }
}

/// `now-30d`.
pub fn range(since: &str) -> SignedDuration {
    let (number, unit) = since.trim_start_matches("now-").split_at(since.len() - "now-".len() - 1);
    let hours = if unit == "d" { 24 } else { 1 };
    SignedDuration::from_hours(number.parse::<i64>().expect("a number") * hours)
}
