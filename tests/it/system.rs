//! How the machine is watched: every second in memory, every five in the records, and told of when it runs short.

use serde_json::Value;
use tollgate::scripted::client::plain_http;

use crate::support::gateway::{Setup, value_of, wait_for};

/// Every machine uses more than none of its memory, and no machine all of it.
const SHORT_OF_MEMORY: &str = "[system]\nserver = 'gate-1'\nmemory_warning_percent = 0\nmemory_critical_percent = 100\n\
                               cpu_warning_percent = 100\ncpu_critical_percent = 100\nhysteresis_points = 0\nsustained_seconds = 1\n";

async fn told(gateway: std::net::SocketAddr, path: &str) -> Value {
    let answer = plain_http().get(format!("http://{gateway}{path}")).send().await.expect("an answer");
    serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_written_down_under_its_name_and_told_of_when_it_runs_short() {
    let gateway = Setup::with(SHORT_OF_MEMORY).start().await;
    let beside = Setup::default().gateway(&gateway.librechat, &tempfile::tempdir().expect("a folder"));
    let metrics = gateway.running.metrics;

    let crossings = wait_for("the machine to be told of", || async {
        // The tests themselves may keep every core busy.
        let mut rows = gateway.audit_rows("system.level_changed", 0).await;
        rows.retain(|row| row.detail.as_ref().is_some_and(|detail| detail["resource"] == "memory"));
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    let (crossing, detail) = (&crossings[0], crossings[0].detail.as_ref().expect("a detail"));
    assert_eq!((crossing.category.as_str(), crossing.severity.as_str()), ("SYSTEM", "WARNING"), "{crossing:?}");
    assert_eq!((crossing.resource_id.as_deref(), &detail["to"]), (Some("gate-1"), &"warning".into()));
    let readiness = told(metrics, "/readyz").await;
    assert_eq!(
        (&readiness["ready"], &readiness["system"]["memory"]),
        (&true.into(), &"warning".into()),
        "it serves all the same: {readiness}"
    );
    let shown = gateway.metrics().await;
    assert!((value_of(&shown, r#"tollgate_system_level{resource="memory"}"#) - 1.0).abs() < 1e-9);
    assert!((0.001..1.0).contains(&value_of(&shown, "tollgate_system_memory_ratio")));

    let rows = wait_for("two rows of the machine", || async {
        let rows = gateway.running.app.records.system_rows(10).await.expect("readable rows");
        (rows.len() >= 2).then_some(rows)
    })
    .await;
    for row in &rows {
        assert_eq!(&*row.server, "gate-1");
        assert!(row.memory_used_bytes > 0 && row.memory_used_bytes < row.memory_total_bytes && row.process_memory_bytes > 0, "{row:?}");
        assert!((0.0..=100.0).contains(&row.cpu_percent) && row.process_threads > 0 && row.process_open_files > 0, "{row:?}");
    }
    let apart = rows[0].time.duration_since(rows[1].time).as_secs_f64();
    assert!(apart > 4.0, "five looks are one row, and these are {apart} s apart");

    let machine = told(metrics, "/system").await;
    let samples = machine["samples"].as_array().expect("samples");
    assert!(samples.len() >= 10, "one a second: {machine}");
    let names = [machine["server"].clone(), told(beside.metrics, "/system").await["server"].clone()];
    let port = format!(":{}", beside.metrics.port());
    assert!(names[0] == "gate-1" && names[1].as_str().is_some_and(|name| name.ends_with(&port)), "each has a name of its own: {names:?}");
    assert_eq!(crossings.len(), 1, "one crossing, one row: {crossings:?}");
    drop(beside);
}
