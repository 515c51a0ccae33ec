//! Traces of messages, for a collector that speaks OTLP over HTTP: off unless one is named.
//!
//! A generation is a trace: when its books are closed, everything about it is known, and its spans are told in one piece,
//! by whichever replica closed them. So nothing is held while it runs but three instants. Names are those of OpenTelemetry's
//! conventions for generative AI. No prompt, no answer and nothing about a person is told.
//!
//! The queue is bounded, and nobody waits for it: a collector that is slow or dead costs traces, which are counted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::{mpsc, oneshot};

use super::metrics::Metrics;
use crate::config;
use crate::generations::Start;
use crate::generations::generation::Times;
use crate::generations::trace::{Span, Trace};
use crate::records::UsageRow;

/// How many traces wait at most.
const WAITING: usize = 1024;

/// How many go at once.
const AT_ONCE: usize = 64;

/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why traces cannot be sent at all.
#[derive(Debug, thiserror::Error)]
#[error("traces.endpoint: {0}")]
pub struct TracesError(String);

/// Takes traces to the collector.
#[derive(Debug, Clone)]
pub struct Traces {
    queue: mpsc::Sender<Item>,
    sample_percent: u8,
    metrics: Arc<Metrics>,
}

enum Item {
    Trace(Vec<SpanData>),
    /// Answered when everything before it is on its way.
    Flush(oneshot::Sender<()>),
}

/// A generation whose books are closed.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    /// What was known when it was admitted.
    pub start: &'a Start,
    /// How it went on.
    pub times: Times,
    /// When its first word came.
    pub first_token_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// When its books were closed.
    pub settled_at: Timestamp,
    /// What it was charged.
    pub rows: &'a [UsageRow],
}

impl Traces {
    /// Begins to take traces there, on this runtime.
    ///
    /// # Errors
    ///
    /// Where no client can be made for the address.
    pub fn start(
        settings: &config::Traces,
        endpoint: &str,
        replica: &Arc<str>,
        metrics: Arc<Metrics>,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Self, TracesError> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(PATIENCE);
        // The system's certificates are read, and must be there, only where they are needed.
        let client = if endpoint.starts_with("https://") { client } else { client.tls_certs_only([]) };
        let client = client.build().map_err(|error| TracesError(error.to_string()))?;
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_http_client(Http(client)).with_endpoint(url).with_timeout(PATIENCE);
        let mut exporter = exporter.build().map_err(|error| TracesError(error.to_string()))?;
        let resource = Resource::builder_empty().with_service_name("tollgate").with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", replica.to_string()),
        ]);
        exporter.set_resource(&resource.build());
        for result in ["sent", "failed", "dropped"] {
            metrics.traces(result, 0);
        }
        let (queue, waiting) = mpsc::channel(WAITING);
        runtime.spawn(send(waiting, exporter, metrics.clone()));
        Ok(Self { queue, sample_percent: settings.sample_percent, metrics })
    }

    /// How many of a hundred messages are traced that nobody else has decided about.
    pub fn sample_percent(&self) -> u8 {
        self.sample_percent
    }

    /// Tells of a generation, if it is traced. Never waits.
    pub fn tell(&self, settled: Settled<'_>) {
        if let Some(trace) = &settled.start.trace
            && self.queue.try_send(Item::Trace(spans(trace, settled))).is_err()
        {
            self.metrics.traces("dropped", 1);
        }
    }

    /// Waits until what was told is sent, so long at most.
    pub async fn flush(&self, within: Duration) {
        let (sent, is_sent) = oneshot::channel();
        let flushed = async {
            if self.queue.send(Item::Flush(sent)).await.is_ok() {
                let _ = is_sent.await;
            }
        };
        if tokio::time::timeout(within, flushed).await.is_err() {
            tracing::warn!("not every trace could be sent before the stop");
        }
    }
}

async fn send(mut waiting: mpsc::Receiver<Item>, exporter: SpanExporter, metrics: Arc<Metrics>) {
    let mut failing = false;
    let mut items = Vec::new();
    while waiting.recv_many(&mut items, AT_ONCE).await > 0 {
        let (mut traces, mut spans, mut flushed) = (0, Vec::new(), Vec::new());
        for item in items.drain(..) {
            match item {
                Item::Trace(of_one) => {
                    traces += 1;
                    spans.extend(of_one);
                }
                Item::Flush(sent) => flushed.push(sent),
            }
        }
        if traces > 0 {
            let sent = exporter.export(spans).await;
            metrics.traces(if sent.is_ok() { "sent" } else { "failed" }, traces);
            match &sent {
                Err(error) if !failing => tracing::warn!(%error, "traces cannot be sent; they are dropped until they can"),
                Ok(()) if failing => tracing::info!("traces are sent again"),
                _ => {}
            }
            failing = sent.is_err();
        }
        for sent in flushed {
            // Whoever waited may have given up.
            let _ = sent.send(());
        }
    }
}

/// Our own client of HTTP, in the exporter's words. What the collector says beyond its status is not read.
#[derive(Debug)]
struct Http(reqwest::Client);

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let answer = self.0.request(head.method, head.uri.to_string()).headers(head.headers).body(body).send().await?;
        Ok(http::Response::builder().status(answer.status()).body(Bytes::new())?)
    }
}

/// The message, and in it: admitting, LibreChat's answer to its start, the stream, settling.
fn spans(trace: &Trace, settled: Settled<'_>) -> Vec<SpanData> {
    let Settled { start, times, first_token_at, ended_at, settled_at, rows } = settled;
    // An instant that nobody saw is that of the next one that somebody did.
    let running_at = times.running_at.unwrap_or(ended_at).min(ended_at);
    let asked_at = times.asked_at.unwrap_or(start.admitted_at).min(running_at);
    let received_at = received_at(start).min(asked_at);
    let failed = rows.iter().any(|row| row.status == "failed");
    let mut whole = span(trace, start, Span::Message, (received_at, settled_at));
    whole.attributes = attributes(start, rows);
    whole.status = if failed { Status::error("the answer failed") } else { Status::Unset };
    let mut stream = span(trace, start, Span::Stream, (running_at, ended_at));
    if let Some(first) = first_token_at {
        stream.events.events.push(Event::new("first_token", time(first), Vec::new(), 0));
    }
    vec![
        whole,
        span(trace, start, Span::Admit, (received_at, asked_at)),
        span(trace, start, Span::Upstream, (asked_at, running_at)),
        stream,
        span(trace, start, Span::Settle, (ended_at.min(settled_at), settled_at)),
    ]
}

fn span(trace: &Trace, start: &Start, which: Span, (from, until): (Timestamp, Timestamp)) -> SpanData {
    let id = |span: Span| SpanId::from_bytes(trace.span_id(start.id, span).to_be_bytes());
    let trace_id = TraceId::from_bytes(trace.id.into_bytes());
    let parent = match which {
        Span::Message => trace.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
        _ => id(Span::Message),
    };
    SpanData {
        span_context: SpanContext::new(trace_id, id(which), TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: parent,
        parent_span_is_remote: which == Span::Message && trace.parent.is_some(),
        span_kind: match which {
            Span::Message => SpanKind::Server,
            Span::Upstream => SpanKind::Client,
            Span::Admit | Span::Stream | Span::Settle => SpanKind::Internal,
        },
        name: match which {
            Span::Message => format!("chat {}", start.model.as_deref().unwrap_or_default()).trim_end().to_owned().into(),
            other => other.as_str().into(),
        },
        start_time: time(from),
        end_time: time(until),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("tollgate").with_version(env!("CARGO_PKG_VERSION")).build(),
    }
}

/// What the conventions call who serves an endpoint of LibreChat's; others are called as LibreChat calls them.
fn provider(endpoint: &str) -> String {
    match endpoint {
        "azureOpenAI" | "azureAssistants" => "azure.ai.openai".to_owned(),
        "google" => "gcp.gemini".to_owned(),
        "bedrock" => "aws.bedrock".to_owned(),
        "assistants" => "openai".to_owned(),
        other => other.to_ascii_lowercase(),
    }
}

/// What it was, and what it used.
fn attributes(start: &Start, rows: &[UsageRow]) -> Vec<KeyValue> {
    let sum = |of: fn(&UsageRow) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
    let number = |name: &'static str, number: u64| KeyValue::new(name, i64::try_from(number).unwrap_or(i64::MAX));
    let mut attributes = vec![
        KeyValue::new("gen_ai.operation.name", "chat"),
        KeyValue::new("gen_ai.provider.name", provider(&start.endpoint)),
        number("gen_ai.usage.input_tokens", sum(|row| row.input_tokens)),
        number("gen_ai.usage.output_tokens", sum(|row| row.output_tokens)),
        number("gen_ai.usage.cache_read.input_tokens", sum(|row| row.cache_read_tokens)),
        number("gen_ai.usage.cache_creation.input_tokens", sum(|row| row.cache_write_tokens)),
        number("tollgate.cost_nanousd", sum(|row| row.cost_nanousd)),
        KeyValue::new("tollgate.generation.id", start.id.to_string()),
        KeyValue::new("tollgate.org.id", start.org.to_string()),
    ];
    if let Some(model) = &start.model {
        attributes.push(KeyValue::new("gen_ai.request.model", model.clone()));
    }
    if let Some(upstream) = &start.upstream {
        attributes.push(KeyValue::new("tollgate.upstream", upstream.to_string()));
    }
    if let Some(row) = rows.first() {
        attributes.push(KeyValue::new("gen_ai.response.model", row.model.clone()));
        attributes.push(KeyValue::new("tollgate.status", row.status));
        attributes.push(KeyValue::new("tollgate.usage_source", row.usage_source));
        if row.status == "failed" {
            attributes.push(KeyValue::new("error.type", "failed"));
        }
    }
    attributes
}

/// When its request came: its id says so, to the millisecond.
fn received_at(start: &Start) -> Timestamp {
    let at = start.id.get_timestamp().map(|at| at.to_unix());
    let at = at.and_then(|(seconds, nanos)| Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanos).ok()?).ok());
    at.unwrap_or(start.admitted_at).min(start.admitted_at)
}

fn time(at: Timestamp) -> SystemTime {
    at.into()
}
