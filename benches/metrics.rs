//! What `/metrics` costs with 200 orgs that use five models each: its series, its size, and how long it takes to write.
//! Budget: 20 ms and 1 MB.

#![expect(clippy::expect_used, reason = "a bench that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tollgate::limits::{Resource, Window};
use tollgate::records::UsageRow;
use tollgate::telemetry::metrics::CapUse;
use tollgate::telemetry::{Metrics, MetricsSettings};
use uuid::Uuid;

const ORGS: usize = 200;
const MODELS: usize = 5;
const ROUNDS: usize = 50;

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
        input_tokens: 100_000,
        output_tokens: 20_000,
        cache_read_tokens: 60_000,
        cache_write_tokens: 10_000,
        total_tokens: 120_000,
        cost_nanousd: 1_250_000_000,
        price_version: Arc::from("1"),
        usage_source: "frames",
        estimate_tokens: 1_000,
        status: "completed",
        time_to_first_token_ms: Some(300),
        duration_ms: 900,
        request_id: Arc::from("r1"),
    }
}

/// Everything that grows with orgs, models and traffic.
fn filled() -> Metrics {
    let known_model = Box::new(|model: &str| Some(model.to_owned()));
    let metrics = Metrics::new(MetricsSettings { version: "1.2.3", org_labels: ORGS, known_model }).expect("metrics");
    let orgs: Vec<String> = (0..ORGS).map(|number| format!("organisation-{number}")).collect();
    for org in &orgs {
        for number in 0..MODELS {
            metrics.usage(&row(org, &format!("a-provider-model-{number}-2026")));
        }
    }
    let each = |org| {
        let limits =
            [Resource::Tokens, Resource::Messages, Resource::Cost].map(|resource| [(resource, Window::Day), (resource, Window::Month)]);
        limits.into_iter().flatten().map(move |(resource, window)| CapUse { org, resource, window, ratio: 0.618_033_988_75 })
    };
    metrics.caps_used(&orgs.iter().flat_map(|org| each(org.as_str())).collect::<Vec<_>>());
    for route in 0..40 {
        for method in ["GET", "POST", "HEAD", "PUT", "DELETE"] {
            for status in [200, 201, 304, 401, 403, 404, 429, 502] {
                metrics.request(&format!("route_{route}"), method, status, Duration::from_millis(7));
            }
        }
    }
    metrics
}

fn main() {
    let metrics = filled();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            std::hint::black_box(metrics.exposition());
            began.elapsed()
        })
        .collect();
    times.sort();
    let text = metrics.exposition();
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "/metrics with {ORGS} orgs of {MODELS} models each: {series} series, {} KB; least {:.1} ms, median {:.1} ms of {ROUNDS}",
        text.len() / 1000,
        times[0].as_secs_f64() * 1e3,
        times[ROUNDS / 2].as_secs_f64() * 1e3,
    );
}
