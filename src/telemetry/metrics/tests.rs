//! The names are an interface, and no input makes the number of series grow without bound.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::date;
use uuid::Uuid;

use super::*;
use crate::identity::KeySetHealth;
use crate::limits::{Bucket, Period, Scope};
use crate::records::journal::JournalHealth;
use crate::records::{Health, UsageRow};
use crate::telemetry::system::SystemSample;
use crate::telemetry::system::pressure::{Level, Part};

/// Every model of a family, under its own name.
fn known(model: &str) -> Option<String> {
    model.starts_with("gpt-").then(|| model.to_owned())
}

fn metrics(org_labels: usize) -> Metrics {
    Metrics::new(MetricsSettings { version: "1.2.3", org_labels, known_model: Box::new(known) }).unwrap()
}

fn row(org: &str, model: &str) -> UsageRow {
    UsageRow {
        id: Uuid::nil(),
        time: Timestamp::UNIX_EPOCH,
        generation_id: Uuid::nil(),
        org_id: Arc::from(org),
        member_id: Arc::from("65f0c0ffee0000000000beef"),
        org_day: "2026-11-20".to_owned(),
        org_month: "2026-11".to_owned(),
        endpoint: "openAI".to_owned(),
        model: model.to_owned(),
        agent_id: None,
        conversation_id: None,
        messages: 1,
        input_tokens: 100,
        output_tokens: 20,
        cache_read_tokens: 60,
        cache_write_tokens: 10,
        total_tokens: 120,
        cost_nanousd: 1_250_000,
        price_version: Arc::from("1"),
        usage_source: "frames",
        estimate_tokens: 1_000,
        status: "completed",
        time_to_first_token_ms: Some(300),
        duration_ms: 900,
        request_id: Arc::from("r1"),
    }
}

fn bucket() -> Bucket {
    let period = Period { window: Window::Day, first_day: date(2026, 11, 20), ends: Timestamp::UNIX_EPOCH };
    Bucket { scope: Scope::Org { org: "acme".into() }, resource: Resource::Cost, period }
}

/// Every method once, so that every metric shows.
fn touch_everything(metrics: &Metrics) {
    let moment = Duration::from_millis(3);
    metrics.request("chat_start", "POST", 200, moment);
    metrics.added_latency(moment);
    metrics.stream_opened();
    metrics.stream_closed();
    metrics.decision(Outcome::Admitted, None);
    metrics.decision(Outcome::ShadowRefused, Some(&bucket()));
    metrics.admission(moment);
    metrics.token_refused("expired");
    metrics.login(LoginOutcome::SignedIn);
    metrics.login_locked("name");
    metrics.key_set("idp", &KeySetHealth { good: 2, failed: 1, keys: 3, age: Some(moment), degraded: true });
    metrics.generation_opened();
    metrics.generation_opened();
    metrics.generation_left();
    metrics.generation_settled("completed", Some(moment));
    metrics.generation_taken_over();
    metrics.usage(&row("acme", "gpt-4o"));
    metrics.estimate(1_200, 1_000);
    metrics.estimate(1, 0);
    metrics.unpriced_message();
    metrics.tool_call(records::Outcome::Failure);
    metrics.store_up(true);
    metrics.traces("sent", 1);
    metrics.store_operation("reserve", "ok", moment);
    metrics.records(&health());
    metrics.database_connections(1, 3);
    metrics.log_file_lines("dropped", 2);
    metrics.caps_used(&[cap("acme", 0.5)]);
    metrics.generation_oldest(moment);
    metrics.upstream_up("librechat:3080", true);
    metrics.observing(true, 2);
    metrics.certificate_expires(Timestamp::UNIX_EPOCH);
    metrics.system(&SystemSample::default());
    metrics.system_levels([(Part::Cpu, Level::Normal), (Part::Memory, Level::Critical)]);
    metrics.degraded("store", false);
}

fn cap(org: &str, ratio: f64) -> CapUse<'_> {
    CapUse { org, resource: Resource::Tokens, window: Window::Month, ratio }
}

fn health() -> Health {
    let journal = JournalHealth { bytes: 4096, max_bytes: 1 << 20, rows: 3, full: false, failing_for: None, last_error: None };
    Health {
        journal,
        oldest: None,
        audit_queued: 0,
        failing_for: None,
        last_error: None,
        usage_written: 2,
        audit_written: 0,
        usage_refused: 0,
        audit_refused: 0,
        audit_dropped: 1,
        starts_unrecorded: 0,
    }
}

#[test]
fn the_names_types_and_labels_stay_as_they_are() {
    let metrics = metrics(10);
    touch_everything(&metrics);
    let names: Vec<String> = metrics
        .exposition()
        .lines()
        .filter(|line| !line.contains("_bucket{") || line.contains("le=\"+Inf\""))
        .map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').map_or(line, |(series, _)| series) }.to_owned())
        .collect();
    insta::assert_snapshot!("names", names.join("\n"));
}

#[track_caller]
fn assert_line(exposition: &str, expected: &str) {
    assert!(exposition.lines().any(|line| line == expected), "no line {expected:?} in\n{exposition}");
}

#[test]
fn usage_adds_up_and_money_is_shown_in_dollars() {
    let metrics = metrics(10);
    metrics.usage(&row("acme", "gpt-4o"));
    metrics.usage(&row("acme", "gpt-4o"));
    let shown = metrics.exposition();
    assert_line(&shown, r#"tollgate_tokens_total{kind="input",model="gpt-4o",org="acme"} 60"#);
    assert_line(&shown, r#"tollgate_tokens_total{kind="output",model="gpt-4o",org="acme"} 40"#);
    assert_line(&shown, r#"tollgate_tokens_total{kind="cache_read",model="gpt-4o",org="acme"} 120"#);
    assert_line(&shown, r#"tollgate_tokens_total{kind="cache_write",model="gpt-4o",org="acme"} 20"#);
    assert_line(&shown, r#"tollgate_cost_usd_total{model="gpt-4o",org="acme"} 0.0025"#);
    assert_line(&shown, r#"tollgate_messages_total{org="acme"} 2"#);
    assert_line(&shown, r#"tollgate_usage_source_total{source="frames"} 2"#);
}

#[test]
fn a_decision_names_the_limit_that_decided() {
    let metrics = metrics(10);
    metrics.decision(Outcome::Refused, Some(&bucket()));
    metrics.decision(Outcome::Admitted, None);
    let shown = metrics.exposition();
    assert_line(&shown, r#"tollgate_decisions_total{decision="refused",resource="cost",scope="org",window="day"} 1"#);
    assert_line(&shown, r#"tollgate_decisions_total{decision="admitted",resource="none",scope="none",window="none"} 1"#);
}

#[test]
fn caps_are_shown_as_long_as_they_are_there_and_the_fullest_of_those_that_share_a_label() {
    let metrics = metrics(1);
    metrics.caps_used(&[cap("acme", 0.5), cap("globex", 0.2), cap("initech", 0.9), cap("umbrella", 0.1)]);
    let shown = metrics.exposition();
    assert_line(&shown, r#"tollgate_limit_used_ratio{org="acme",resource="tokens",window="month"} 0.5"#);
    assert_line(&shown, r#"tollgate_limit_used_ratio{org="other",resource="tokens",window="month"} 0.9"#);
    metrics.caps_used(&[cap("globex", 0.0)]);
    let shown = metrics.exposition();
    assert_line(&shown, r#"tollgate_limit_used_ratio{org="other",resource="tokens",window="month"} 0"#);
    assert!(!shown.contains(r#"tollgate_limit_used_ratio{org="acme""#), "a cap that is gone is shown no more");
}

#[test]
fn a_certificate_is_shown_where_there_is_one() {
    let metrics = metrics(1);
    assert!(!metrics.exposition().contains("tollgate_tls_certificate_expiry_timestamp_seconds"));
    metrics.certificate_expires(Timestamp::from_second(1_800_000_000).unwrap());
    assert_line(&metrics.exposition(), "tollgate_tls_certificate_expiry_timestamp_seconds 1800000000");
}

#[test]
fn ten_thousand_of_anything_stay_under_a_fixed_number_of_series() {
    let series_after = |strangers: u32| {
        let metrics = metrics(100);
        touch_everything(&metrics);
        for number in 0..strangers {
            let stranger = Uuid::from_u128(u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c);
            let status = u16::try_from(number % 1_000).unwrap();
            metrics.request(&format!("/{stranger}"), &format!("M{number}"), status, Duration::ZERO);
            metrics.usage(&row(&stranger.to_string(), &format!("gpt-{stranger}")));
            metrics.usage(&row(&stranger.to_string(), &format!("{stranger}\"\n}}")));
            metrics.usage(&row(&format!("org-{}", number % 100), &format!("gpt-{}", number / 100)));
            metrics.caps_used(&[cap(&stranger.to_string(), 0.5)]);
        }
        metrics.exposition().lines().filter(|line| !line.starts_with('#')).count()
    };
    let (first, second) = (series_after(10_000), series_after(20_000));
    assert_eq!(first, second, "the number of series must not depend on how many strangers came");
    // What orgs and models can make of it is 1,000 pairs and each org's other, five series each, and its messages.
    assert!(first < 10_000, "{first} series");
}
