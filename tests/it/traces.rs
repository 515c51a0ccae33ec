//! Traces of messages, as a collector reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;

use crate::support::gateway::{Setup, TestGateway, value_of, wait_for};

/// What a collector was sent.
#[derive(Default)]
struct Collected {
    bodies: Vec<Bytes>,
    spans: Vec<Span>,
}

async fn collector() -> (String, Arc<Mutex<Collected>>) {
    let collected = Arc::new(Mutex::new(Collected::default()));
    let kept = collected.clone();
    let collect = move |body: Bytes| async move {
        let request = ExportTraceServiceRequest::decode(body.clone()).expect("OTLP");
        let resources = request.resource_spans.into_iter();
        let mut kept = kept.lock();
        kept.spans.extend(resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans));
        kept.bodies.push(body);
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/v1/traces", post(collect))).await });
    (url, collected)
}

async fn gateway(endpoint: &str, config: &str) -> TestGateway {
    Setup::with(&format!("[traces]\nendpoint = '{endpoint}'\n{config}")).start().await
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = span.attributes.iter();
    attributes
        .map(|pair| (pair.key.clone(), pair.value.as_ref().and_then(|value| value.value.as_ref()).map(text).unwrap_or_default()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn spans(collected: &Mutex<Collected>, count: usize) -> Vec<Span> {
    wait_for(&format!("{count} spans"), || async {
        let spans = collected.lock().spans.clone();
        (spans.len() >= count).then_some(spans)
    })
    .await
}

/// What LibreChat heard of traces with its chat starts.
fn heard(gateway: &TestGateway) -> Vec<(Option<String>, Option<String>)> {
    let requests = gateway.librechat.requests();
    let starts = requests.iter().filter(|request| request.method == "POST" && request.path.starts_with("/api/agents/chat/"));
    let header = |name: &str, request: &tollgate::scripted::Received| request.header(name).map(str::to_owned);
    starts.map(|start| (header("traceparent", start), header("tracestate", start))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_a_trace_with_its_numbers_and_nothing_of_its_person() {
    let (url, collected) = collector().await;
    let gateway = gateway(&url, "").await;
    gateway.client("ada@acme.test").chat("Confidential [[tokens=5 delay=20 in=100 cached=40 out=57]]").await.expect("an answer");
    let rows = gateway.usage_rows(1).await;
    let spans = spans(&collected, 5).await;
    let of = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} among {spans:?}"));
    let whole = spans.iter().find(|span| span.parent_span_id.is_empty()).expect("a root");
    assert_eq!((whole.name.as_str(), hex(&whole.trace_id)), ("chat lab-small", rows[0].generation_id.simple().to_string()));
    let mut before = whole.start_time_unix_nano;
    for name in ["admit", "upstream", "stream", "settle"] {
        let span = of(name);
        assert_eq!((&span.trace_id, &span.parent_span_id), (&whole.trace_id, &whole.span_id), "{name}");
        assert!(before <= span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano, "{name} comes in its turn");
        before = span.start_time_unix_nano;
    }
    assert_eq!(of("stream").events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), ["first_token"]);
    assert!(of("stream").end_time_unix_nano - of("stream").start_time_unix_nano > 50_000_000, "five words of 20 ms");
    let said = attributes(whole);
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "labai"),
        ("gen_ai.request.model", "lab-small"),
        ("gen_ai.response.model", "lab-small"),
        ("gen_ai.usage.input_tokens", "100"),
        ("gen_ai.usage.output_tokens", "57"),
        ("gen_ai.usage.cache_read.input_tokens", "40"),
        ("tollgate.org.id", "acme"),
        ("tollgate.status", "completed"),
        ("tollgate.usage_source", "frames"),
    ] {
        assert_eq!(said.get(name).map(String::as_str), Some(value), "{name} of {said:?}");
    }
    let parent = format!("00-{}-{}-01", hex(&whole.trace_id), hex(&of("upstream").span_id));
    assert_eq!(heard(&gateway), [(Some(parent), None)]);
    let raw = collected.lock().bodies.concat();
    let raw = String::from_utf8_lossy(&raw);
    for secret in ["Confidential", "alpha0", "ada", &tollgate::scripted::User::new("ada@acme.test").id, "127.0.0.1\"", "Mozilla"] {
        assert!(!raw.contains(secret), "{secret:?} is nothing for a collector");
    }
    assert!(value_of(&gateway.metrics().await, "tollgate_traces_total{result=\"sent\"}") > 0.5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxys_trace_is_gone_on_with_and_nobody_elses() {
    const THEIRS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (url, collected) = collector().await;
    let trusting = gateway(&url, "sample_percent = 0").await;
    let client = trusting.client("ada@acme.test");
    let theirs = client.clone().header("traceparent", THEIRS).header("tracestate", "vendor=1");
    theirs.chat("Hello [[tokens=2]]").await.expect("an answer");
    client.chat("Hello [[tokens=2]]").await.expect("an answer");
    let spans = spans(&collected, 5).await;
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "4bf92f3577b34da6a3ce929d0e0e4736"));
    assert!(spans.iter().any(|span| hex(&span.parent_span_id) == "00f067aa0ba902b7"), "it hangs on the caller's span");
    trusting.all_settled().await;
    assert_eq!(collected.lock().spans.len(), 5, "none of ours is sampled");
    let [(first, state), (second, _)] = &heard(&trusting)[..] else { panic!("two starts") };
    assert!(first.as_ref().is_some_and(|first| first.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && first != THEIRS), "{first:?}");
    assert_eq!(state.as_deref(), Some("vendor=1"));
    assert!(second.as_ref().is_some_and(|second| second.ends_with("-00")), "LibreChat is told that it is not: {second:?}");

    let wary = Setup::with(&format!("[traces]\nendpoint = '{url}'")).set("TOLLGATE_PUBLIC__TRUSTED_PROXIES", "10.0.0.0/8").start().await;
    let theirs = wary.client("ada@acme.test").header("traceparent", THEIRS).header("tracestate", "vendor=1");
    theirs.chat("Hello [[tokens=2]]").await.expect("an answer");
    let [(replaced, None)] = &heard(&wary)[..] else { panic!("one start, without a state") };
    assert!(replaced.as_ref().is_some_and(|replaced| !replaced.contains("4bf92f35")), "{replaced:?}");
    let others: Vec<_> = wary.librechat.requests().into_iter().filter(|request| request.path.contains("/stream/")).collect();
    assert!(!others.is_empty() && others.iter().all(|request| request.header("traceparent").is_none()), "elsewhere it is struck out");

    let off = Setup::default().start().await;
    off.client("ada@acme.test").header("traceparent", THEIRS).chat("Hello [[tokens=2]]").await.expect("an answer");
    assert_eq!(heard(&off)[0].0.as_deref(), Some(THEIRS), "where nobody traces it passes as it came");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_collector_and_one_that_hangs_hold_nothing_up() {
    let hanging = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let hanging_url = format!("http://{}", hanging.local_addr().expect("an address"));
    for url in ["http://127.0.0.1:1", &hanging_url] {
        let gateway = gateway(url, "").await;
        for _ in 0..3 {
            let exchange = gateway.client("ada@acme.test").chat("Hello [[tokens=2 in=100 out=57]]").await.expect("an answer");
            assert_eq!(exchange.start.status, 200);
        }
        assert!(gateway.usage_rows(3).await.iter().all(|row| row.total_tokens == 157), "everything is charged");
        if url != hanging_url {
            wait_for("it to be counted", || async {
                let metrics = gateway.metrics().await;
                (value_of(&metrics, "tollgate_traces_total{result=\"failed\"}") > 2.5).then_some(())
            })
            .await;
        }
        let (running, _librechat, _folder) = gateway.into_parts();
        assert!(tokio::task::spawn_blocking(move || running.stop()).await.expect("a thread"), "and it stops as ever");
    }
    drop(hanging);
}
