//! `/metrics` after ordinary traffic: everything an operator watches is there, with values that make sense.

use tollgate::clock::ManualClock;
use tollgate::scripted::client::ChatBody;

use crate::support::gateway::{Setup, value_of, wait_for};

#[track_caller]
fn assert_value(metrics: &str, series: &str, expected: f64) {
    let value = value_of(metrics, series);
    assert!((value - expected).abs() < 1e-9, "{series} is {value}, not {expected}");
}

#[track_caller]
fn assert_between(metrics: &str, series: &str, least: f64, most: f64) {
    let value = value_of(metrics, series);
    assert!((least..=most).contains(&value), "{series} is {value}, not within {least} and {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_is_measured() {
    let config = "[[limits]]\napplies_to = 'member'\nmessages_per_day = 3\n[[limits]]\napplies_to = 'org'\ntokens_per_day = 1\nmode = 'shadow'\n\
                  [generations]\nfollow_after_ms = 100\n";
    let gateway = Setup::with(config).start().await;
    let ann = gateway.client("ann@acme.test");
    // However a model is spelled, its label is the price table's name.
    for (text, model) in [
        ("One [[tokens=5 first=60 in=100 out=50 cached=60]]", "gpt-5-mini"),
        ("Two [[tokens=5 in=100 out=50]]", "openai/GPT-5-mini-2025-08-07"),
    ] {
        ann.exchange(&ChatBody::new(text).with("model", model)).await.expect("an answer");
    }
    ann.chat("Three [[tokens=5 usage=off context=40]]").await.expect("an answer");
    gateway.all_settled().await;
    assert_eq!(ann.chat("Four").await.expect("an answer").start.status, 429);
    assert_eq!(gateway.client("ann@acme.test").header("x", "y").get("/api/user").await.expect("an answer").status, 200);
    let stranger = tollgate::scripted::client::ChatClient::new(&gateway.url(), "no.token.atall");
    assert_eq!(stranger.get("/api/user").await.expect("an answer").status, 401);
    let metrics = wait_for("every request to be over", || async {
        let metrics = gateway.metrics().await;
        let starts = r#"tollgate_requests_total{code="429",method="POST",route="chat"} 1"#;
        (metrics.contains(starts) && value_of(&metrics, "tollgate_streams_open") < 0.5).then_some(metrics)
    })
    .await;

    assert_value(&metrics, r#"tollgate_requests_total{code="200",method="POST",route="chat"}"#, 3.0);
    assert_value(&metrics, r#"tollgate_decisions_total{decision="admitted",resource="none",scope="none",window="none"}"#, 3.0);
    assert_value(&metrics, r#"tollgate_decisions_total{decision="refused",resource="messages",scope="member",window="day"}"#, 1.0);
    assert_value(&metrics, r#"tollgate_decisions_total{decision="shadow_refused",resource="tokens",scope="org",window="day"}"#, 3.0);
    assert_value(&metrics, r#"tollgate_decisions_total{decision="refused",resource="cost",scope="everyone",window="month"}"#, 0.0);
    assert_value(&metrics, "tollgate_admission_duration_seconds_count", 4.0);
    assert_between(&metrics, "tollgate_admission_duration_seconds_sum", 0.000_01, 4.0);
    assert_between(&metrics, "tollgate_added_latency_seconds_count", 7.0, 9.0);
    assert_between(&metrics, "tollgate_added_latency_seconds_sum", 0.000_01, 9.0);

    assert_charges(&metrics);
    assert_health(&metrics);
    assert_value(&metrics, &format!(r#"tollgate_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION")), 1.0);
    let refused = metrics.lines().find(|line| line.starts_with("tollgate_token_refusals_total{"));
    assert!(refused.is_some_and(|line| line.ends_with(" 1")), "a refused token is counted: {refused:?}");
    for private in ["ann", "/api/", &tollgate::scripted::User::new("ann@acme.test").id] {
        assert!(!metrics.contains(private), "{private} must not be on a label");
    }
}

/// What was charged, and how the answers went.
#[track_caller]
fn assert_charges(metrics: &str) {
    assert_value(metrics, r#"tollgate_tokens_total{kind="input",model="gpt-5-mini",org="acme"}"#, 140.0);
    assert_value(metrics, r#"tollgate_tokens_total{kind="cache_read",model="gpt-5-mini",org="acme"}"#, 60.0);
    assert_value(metrics, r#"tollgate_tokens_total{kind="output",model="gpt-5-mini",org="acme"}"#, 100.0);
    // 140 at $0.25, 60 at $0.025, 100 at $2 for a million.
    assert_value(metrics, r#"tollgate_cost_usd_total{model="gpt-5-mini",org="acme"}"#, 0.000_236_5);
    assert_value(metrics, r#"tollgate_messages_total{org="acme"}"#, 3.0);
    assert_between(metrics, r#"tollgate_tokens_total{kind="input",model="other",org="acme"}"#, 40.0, 41.0);
    assert_value(metrics, "tollgate_unpriced_messages_total", 1.0);

    assert_value(metrics, r#"tollgate_usage_source_total{source="frames"}"#, 2.0);
    assert_value(metrics, r#"tollgate_usage_source_total{source="context"}"#, 1.0);
    assert_value(metrics, r#"tollgate_usage_source_total{source="counted"}"#, 0.0);
    assert_value(metrics, r#"tollgate_generations_total{status="completed"}"#, 3.0);
    assert_value(metrics, r#"tollgate_generations_total{status="failed"}"#, 0.0);
    assert_value(metrics, "tollgate_generations_open", 0.0);
    assert_value(metrics, "tollgate_generations_taken_over_total", 0.0);
    assert_value(metrics, "tollgate_estimate_ratio_count", 3.0);
    assert_between(metrics, "tollgate_estimate_ratio_sum", 0.01, 1.0);
    assert_value(metrics, "tollgate_time_to_first_token_seconds_count", 3.0);
    assert_between(metrics, "tollgate_time_to_first_token_seconds_sum", 0.06, 20.0);
}

/// The store, the records and LibreChat are well.
#[track_caller]
fn assert_health(metrics: &str) {
    let upstream = metrics.lines().find(|line| line.starts_with("tollgate_upstream_up{upstream=\"127.0.0.1:"));
    assert!(upstream.is_some_and(|line| line.ends_with(" 1")), "LibreChat is up: {upstream:?}");
    assert_value(metrics, "tollgate_generation_oldest_seconds", 0.0);
    for system in ["tollgate_system_cpu_ratio", "tollgate_system_memory_ratio", "tollgate_system_disk_ratio"] {
        assert_between(metrics, system, 0.0, 1.0);
    }
    assert_value(metrics, "tollgate_store_up", 1.0);
    assert_value(metrics, r#"tollgate_store_operations_total{result="ok",verb="reserve"}"#, 3.0);
    assert_value(metrics, r#"tollgate_store_operations_total{result="refused",verb="reserve"}"#, 1.0);
    assert_value(metrics, r#"tollgate_store_operations_total{result="ok",verb="settle"}"#, 3.0);
    assert_value(metrics, r#"tollgate_store_operations_total{result="error",verb="settle"}"#, 0.0);
    assert_value(metrics, r#"tollgate_store_operation_duration_seconds_count{verb="reserve"}"#, 4.0);
    assert_value(metrics, "tollgate_records_up", 1.0);
    assert_value(metrics, r#"tollgate_records_dropped_total{kind="usage"}"#, 0.0);
    assert_value(metrics, r#"tollgate_records_written_total{kind="usage"}"#, 3.0);
    for component in ["store", "records", "librechat"] {
        assert_value(metrics, &format!(r#"tollgate_degraded{{component="{component}"}}"#), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_use_of_an_orgs_caps_is_shown_until_their_period_ends() {
    let clock = ManualClock::at("2026-11-20T10:00:00Z".parse().expect("an instant"));
    let config = "[[limits]]\napplies_to = 'org'\ntokens_per_day = 40_000\nmessages_per_month = 4\n\
                  [[limits]]\napplies_to = 'org'\nusd_per_day = '1'\nmode = 'shadow'\n\
                  [[limits]]\napplies_to = 'member'\nmessages_per_day = 2\n";
    let librechat = tollgate::scripted::Options { clock: clock.clone(), ..Default::default() };
    let gateway = Setup { clock: clock.clone(), librechat, ..Setup::with(config) }.start().await;
    let answer = gateway.client("ann@acme.test").chat("One [[tokens=5 in=9000 out=1000]]").await.expect("an answer");
    assert_eq!(answer.start.status, 200, "{answer:?}");
    gateway.all_settled().await;
    let (day, month) = (
        r#"tollgate_limit_used_ratio{org="acme",resource="tokens",window="day"}"#,
        r#"tollgate_limit_used_ratio{org="acme",resource="messages",window="month"}"#,
    );
    let metrics = wait_for("the use to be shown", || async {
        let metrics = gateway.metrics().await;
        metrics.contains(&format!("{day} 0.25")).then_some(metrics)
    })
    .await;
    assert_value(&metrics, month, 0.25);
    assert_eq!(metrics.matches("tollgate_limit_used_ratio{").count(), 2, "caps that are enforced, and nothing else:\n{metrics}");
    clock.set("2026-11-21T10:00:00Z".parse().expect("an instant"));
    let app = &gateway.running.app;
    app.caps.show(&app.counters, &app.rules).await;
    let metrics = gateway.metrics().await;
    assert_value(&metrics, day, 0.0);
    assert_value(&metrics, month, 0.25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_answers_and_streams_are_counted_while_they_last() {
    let gateway = Setup::default().start().await;
    let ann = gateway.client("ann@acme.test");
    let answer = ann.start(&ChatBody::new("Hello [[tokens=30 delay=50]]")).await.expect("an answer");
    let (stream_id, created_at) =
        (answer.json()["streamId"].as_str().expect("a stream").to_owned(), answer.json()["generationCreatedAt"].as_i64());
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = ann.listen(&stream_id, created_at).await.expect("a stream");
        stream.next().await.expect("a frame");
        streams.push(stream);
    }
    let metrics = gateway.metrics().await;
    assert_value(&metrics, "tollgate_generations_open", 1.0);
    assert_between(&metrics, "tollgate_generation_oldest_seconds", 0.0, 60.0);
    assert_value(&metrics, "tollgate_streams_open", 2.0);
    for stream in streams {
        stream.all().await.expect("the end of the stream");
    }
    gateway.all_settled().await;
    wait_for("the gauges to fall to zero", || async {
        let metrics = gateway.metrics().await;
        (value_of(&metrics, "tollgate_generations_open") + value_of(&metrics, "tollgate_streams_open") < 0.5).then_some(())
    })
    .await;
}
