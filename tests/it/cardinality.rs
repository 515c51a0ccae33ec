//! Whatever comes, `/metrics` is what Prometheus reads, and stays under a fixed size: 2,000 paths, methods, members and refused
//! tokens by the front door, and 10,000 orgs, models and routes, of which each would need a chat or a route of its own, straight at
//! the metrics of the Tollgate that runs.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use tollgate::records::UsageRow;
use tollgate::scripted::client::plain_http;
use tollgate::scripted::{User, auth};
use uuid::Uuid;

use crate::records::usage;
use crate::support::gateway::{Setup, value_of};

/// The bound of docs/performance.md, which is also the alert's.
const MOST_SERIES: usize = 10_000;

const MOST_BYTES: usize = 1_000_000;

/// How many come by the front door, and how many are told to the metrics.
const VISITORS: u64 = 2_000;
const STRANGERS: u64 = 10_000;

fn series(metrics: &str) -> usize {
    metrics.lines().filter(|line| !line.starts_with('#')).count()
}

fn stranger(number: u64) -> Uuid {
    Uuid::from_u128(u128::from(number) * 0x9e37_79b9_7f4a_7c15_f39c)
}

/// Whether Prometheus' own checker has nothing against this text. It takes some words in names for types; what limits count is
/// called counters here.
#[track_caller]
fn assert_promtool_takes(metrics: &str) {
    let mut checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool can be run; `make test` installs it (Debian package prometheus)");
    checker.stdin.take().expect("its input").write_all(metrics.as_bytes()).expect("it reads");
    let said = checker.wait_with_output().expect("it ends").stderr;
    let said = String::from_utf8_lossy(&said);
    let against: Vec<&str> = said.lines().filter(|line| !line.is_empty() && !line.ends_with("should not include type 'counter'")).collect();
    assert!(against.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_of_everything_leave_the_series_under_their_bound() {
    let gateway = Setup::default().set("TOLLGATE_RECORDS__AUDIT", "actions").start().await;
    let app = &gateway.running.app;
    let before = series(&gateway.metrics().await);

    let (client, now) = (plain_http(), app.clock.now());
    let requests = futures_util::stream::iter(0..VISITORS).map(|number| {
        let stranger = stranger(number);
        let method = match number % 25 {
            0 => http::Method::from_bytes(format!("M{number}").as_bytes()).expect("a method"),
            1 => http::Method::PUT,
            _ => http::Method::GET,
        };
        let token = if number % 4 == 0 {
            format!("no.token.{stranger}")
        } else {
            auth::mint(gateway.librechat.jwt_secret(), &User::new(&format!("{stranger}@acme.test")), now).expect("a token")
        };
        // Some that nobody knows, some that look like LibreChat's own.
        let path = if number % 2 == 0 { format!("/{stranger}") } else { format!("/api/{stranger}/{number}") };
        client.request(method, format!("{}{path}", gateway.url())).bearer_auth(token).send()
    });
    let answered = requests.buffer_unordered(32).filter(|answer| std::future::ready(answer.is_ok())).count().await;
    assert!(answered as u64 > VISITORS / 2, "the front door was tried: {answered} answers");

    app.metrics.usage(&UsageRow { org_id: "a \"sly\" \\\n{org} é".into(), ..usage(0) });
    for number in 0..STRANGERS {
        let stranger = stranger(number).to_string();
        app.metrics.request(&stranger, &stranger, u16::try_from(number % 1_000).unwrap_or(0), Duration::ZERO);
        app.metrics.usage(&UsageRow { org_id: stranger.as_str().into(), model: stranger.clone(), ..usage(number) });
        app.metrics.usage(&UsageRow {
            org_id: format!("org-{}", number % 100).into(),
            model: format!("gpt-4o-{stranger}"),
            ..usage(number)
        });
    }
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"{org="a \"sly\" \\\n{org} é"}"#), "what labels may not hold is escaped");
    assert_promtool_takes(&metrics);
    let (after, bytes) = (series(&metrics), metrics.len());
    assert!(after < MOST_SERIES && bytes < MOST_BYTES, "{after} series, {bytes} bytes; {before} series before");
    let told = value_of(&gateway.metrics().await, "tollgate_metrics_series");
    assert!((told - f64::from(u32::try_from(after).expect("few"))).abs() < 100.0, "{told} is what was shown: {after}");
}
