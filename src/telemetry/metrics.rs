//! Every metric of the gateway.
//!
//! Names begin with `tollgate_`, counters end in `_total`, times are seconds. No user, conversation or path becomes a
//! label. Orgs, models, routes, methods and statuses go through [`labels`](super::labels); issuers are those that the
//! configuration names; every other label value is a word in our own source, which the type `&'static str` holds.

mod cost;
mod events;
mod exposition;
mod maker;
mod outcomes;
mod place;

use parking_lot::Mutex;
use prometheus::{Error, Histogram, IntCounter, IntGauge};

use super::labels::{FirstCome, KnownModel, ModelLabels, Pairs};
use crate::generations::charge::{Status, UsageSource};
use crate::limits::reconcile::Drift;
use crate::limits::{Resource, Window};
use crate::records;

use exposition::Exposition;
use maker::{Counters, DollarCounters, Gauges, Histograms, Maker};
pub use outcomes::{LoginOutcome, Outcome};
pub use place::CapUse;
use place::PlaceGauges;

/// How many models have a label of their own.
const MODEL_LABELS: usize = 50;

/// How many pairs of an org and a model stand by themselves. Each is five series.
const PAIR_LABELS: usize = 1_000;

/// How many route classes there may be; the table of routes has far fewer.
const ROUTE_LABELS: usize = 64;

/// What [`Metrics`] must know beforehand.
pub struct MetricsSettings<'a> {
    /// The version that `tollgate_build_info` names.
    pub version: &'a str,
    /// How many orgs have a label of their own; the others share `other`.
    pub org_labels: usize,
    /// The price table's own name of a model; those it does not know share `other`.
    pub known_model: KnownModel,
}

/// All metrics. Cheap to call from the request path: a hash and an atomic addition each.
#[derive(Debug)]
pub struct Metrics {
    exposition: Exposition,
    orgs: FirstCome,
    models: ModelLabels,
    pairs: Pairs,
    routes: FirstCome,
    requests: Counters,
    request_duration: Histograms,
    added_latency: Histogram,
    streams_open: IntGauge,
    decisions: Counters,
    admission_duration: Histogram,
    token_refusals: Counters,
    logins: Counters,
    login_locks: Counters,
    key_fetches: Counters,
    key_age: Gauges,
    keys_usable: Gauges,
    generations_open: IntGauge,
    generations: Counters,
    generations_taken_over: IntCounter,
    time_to_first_token: Histogram,
    messages: Counters,
    tokens: Counters,
    cost: DollarCounters,
    usage_source: Counters,
    estimate_ratio: Histogram,
    unpriced_messages: IntCounter,
    tool_calls: Counters,
    store_up: IntGauge,
    traces: Counters,
    store_operations: Counters,
    store_duration: Histograms,
    counters_counted: Counters,
    counter_drift: Gauges,
    counter_repairs: Counters,
    records_up: IntGauge,
    records_queue: Gauges,
    database_connections: Gauges,
    journal_up: IntGauge,
    journal_full: IntGauge,
    journal_bytes: IntGauge,
    journal_max_bytes: IntGauge,
    journal_oldest: IntGauge,
    starts_unrecorded: IntCounter,
    records_written: Counters,
    records_dropped: Counters,
    log_file_lines: Counters,
    degraded: Gauges,
    place: PlaceGauges,
    /// Held while a counter follows a total that is counted elsewhere.
    following: Mutex<()>,
}

/// Every pair of what limits count and in which window.
fn counted() -> impl Iterator<Item = (Resource, Window)> {
    let windows = |resource| [Window::Day, Window::Month].map(|window| (resource, window));
    [Resource::Tokens, Resource::Messages, Resource::Cost].into_iter().flat_map(windows)
}

impl Metrics {
    /// Registers everything. Fails only where two metrics had the same name.
    #[expect(clippy::too_many_lines, reason = "one after the other, every metric with its name and what it tells")]
    pub fn new(settings: MetricsSettings<'_>) -> Result<Self, Error> {
        let mut maker = Maker::default();
        maker.process()?;
        maker.gauges("build_info", "1, with the version that runs.", &["version"])?.with_label_values(&[settings.version]).set(1);
        let metrics = Self {
            orgs: FirstCome::new(settings.org_labels),
            models: ModelLabels::new(settings.known_model, MODEL_LABELS),
            pairs: Pairs::new(PAIR_LABELS),
            routes: FirstCome::new(ROUTE_LABELS),
            requests: maker.counters("requests_total", "Requests on the public listener.", &["route", "method", "code"])?,
            request_duration: maker.histograms(
                "request_duration_seconds",
                "From a request's head to the end of its answer; of a stream, its whole life.",
                &["route"],
                REQUEST_BUCKETS,
            )?,
            added_latency: maker.histogram(
                "added_latency_seconds",
                "What the gateway adds to a request, LibreChat's time aside.",
                OWN_BUCKETS,
            )?,
            streams_open: maker.gauge("streams_open", "Streams that clients read right now.")?,
            decisions: maker.counters(
                "decisions_total",
                "Decisions on chat starts, and for refusals the limit that decided; shadow refusals let pass.",
                &["decision", "scope", "resource", "window"],
            )?,
            admission_duration: maker.histogram(
                "admission_duration_seconds",
                "From the end of a chat start's body to its forwarding or refusal.",
                OWN_BUCKETS,
            )?,
            token_refusals: maker.counters("token_refusals_total", "Credentials that were refused.", &["reason"])?,
            logins: maker.counters("logins_total", "Sign-ins with LibreChat's own accounts, by what became of them.", &["outcome"])?,
            login_locks: maker.counters(
                "login_locks_total",
                "Times that failed sign-ins locked a name, a second factor or an address.",
                &["locked"],
            )?,
            key_fetches: maker.counters(
                "issuer_key_fetches_total",
                "Times the keys of an issuer were fetched, or could not be (error).",
                &["issuer", "result"],
            )?,
            key_age: maker.gauges("issuer_keys_age_seconds", "How long ago the keys of an issuer were last fetched.", &["issuer"])?,
            keys_usable: maker.gauges("issuer_keys", "Keys of an issuer that can be used.", &["issuer"])?,
            generations_open: maker.gauge("generations_open", "Generations that this process owns and has not settled.")?,
            generations: maker.counters("generations_total", "Settled generations by how they ended.", &["status"])?,
            generations_taken_over: maker
                .counter("generations_taken_over_total", "Generations taken over from a replica that fell silent.")?,
            time_to_first_token: maker.histogram(
                "time_to_first_token_seconds",
                "From admission to the first piece of the answer.",
                FIRST_TOKEN_BUCKETS,
            )?,
            messages: maker.counters("messages_total", "Messages charged.", &["org"])?,
            tokens: maker.counters(
                "tokens_total",
                "Tokens charged; the kinds add up to the total, so input is what was neither read from nor written to a cache.",
                &["org", "model", "kind"],
            )?,
            cost: maker.dollars("cost_usd_total", "Dollars charged.", &["org", "model"])?,
            usage_source: maker.counters("usage_source_total", "Usage rows by where their numbers come from.", &["source"])?,
            estimate_ratio: maker.histogram("estimate_ratio", "Tokens charged over tokens estimated at the start.", RATIO_BUCKETS)?,
            unpriced_messages: maker.counter("unpriced_messages_total", "Messages to a model that the price table does not know.")?,
            tool_calls: maker.counters("tool_calls_total", "Tools that settled generations called, by how they ended.", &["outcome"])?,
            store_up: maker.gauge("store_up", "Whether the store of counters answers.")?,
            traces: maker.counters("traces_total", "Traces of messages: sent, failed, or dropped since others waited.", &["result"])?,
            store_operations: maker.counters("store_operations_total", "Calls to the store of counters.", &["verb", "result"])?,
            store_duration: maker.histograms("store_operation_duration_seconds", "Time of a call to the store.", &["verb"], OWN_BUCKETS)?,
            counters_counted: maker.counters(
                "counters_counted_total",
                "Times that counters were counted from the usage rows, because they were lost or rows came late.",
                &["result"],
            )?,
            counter_drift: maker.gauges(
                "counter_drift",
                "How far counters were from their usage rows at the last comparison, in each resource's unit (cost in nano-dollars).",
                &["resource", "window"],
            )?,
            counter_repairs: maker.counters(
                "counter_repairs_total",
                "Counters that were not what their usage rows add up to, and were repaired.",
                &["resource", "window"],
            )?,
            records_up: maker.gauge("records_up", "Whether the database of records takes rows.")?,
            records_queue: maker.gauges(
                "records_queue_rows",
                "Rows that wait: of audit for the journal, in the journal for the database.",
                &["kind"],
            )?,
            database_connections: maker.gauges(
                "database_connections",
                "Connections to the database that questions are asked on, by whether they are asked right now.",
                &["state"],
            )?,
            journal_up: maker.gauge("journal_up", "Whether the journal can be written.")?,
            journal_full: maker.gauge("journal_full", "Whether new chats find no room in the journal.")?,
            journal_bytes: maker.gauge("journal_bytes", "What the journal takes.")?,
            journal_max_bytes: maker.gauge("journal_max_bytes", "The most the journal may take.")?,
            journal_oldest: maker.gauge("journal_oldest_seconds", "How long the oldest row in the journal has waited for the database.")?,
            starts_unrecorded: maker.counter("unrecorded_starts_total", "Chats that went on without standing in the journal.")?,
            records_written: maker.counters("records_written_total", "Rows written.", &["kind"])?,
            records_dropped: maker.counters(
                "records_dropped_total",
                "Rows lost: the queue was full, or the database refuses them.",
                &["kind"],
            )?,
            log_file_lines: maker.counters(
                "log_file_lines_total",
                "Lines for the log files: written, dropped because too many waited, or failed on the way to the disk.",
                &["result"],
            )?,
            degraded: maker.gauges("degraded", "1 for each part that does not work as it should.", &["component"])?,
            place: PlaceGauges::new(&mut maker)?,
            exposition: maker.exposition,
            following: Mutex::new(()),
        };
        metrics.begin_at_zero();
        Ok(metrics)
    }

    /// Lets those series begin at zero whose labels are known beforehand: a rate misses the first step of a series that
    /// begins with it.
    fn begin_at_zero(&self) {
        for decision in [Outcome::Admitted, Outcome::Policy, Outcome::DegradedAdmitted, Outcome::DegradedRefused] {
            let _ = self.decisions.with_label_values(&[decision.as_str(), "none", "none", "none"]);
        }
        for decision in [Outcome::Refused, Outcome::ShadowRefused] {
            for scope in ["member", "org", "everyone"] {
                for (resource, window) in counted() {
                    let _ = self.decisions.with_label_values(&[decision.as_str(), scope, resource.as_str(), window.as_str()]);
                }
            }
        }
        for status in Status::ALL {
            let _ = self.generations.with_label_values(&[status.as_str()]);
        }
        for source in UsageSource::ALL {
            let _ = self.usage_source.with_label_values(&[source.as_str()]);
        }
        for outcome in [records::Outcome::Success, records::Outcome::Failure, records::Outcome::Unknown] {
            let _ = self.tool_calls.with_label_values(&[outcome.as_str()]);
        }
        for outcome in LoginOutcome::ALL {
            let _ = self.logins.with_label_values(&[outcome.as_str()]);
        }
        for locked in ["name", "name_at", "second_factor", "address"] {
            let _ = self.login_locks.with_label_values(&[locked]);
        }
        for result in ["written", "dropped", "failed"] {
            let _ = self.log_file_lines.with_label_values(&[result]);
        }
        for result in ["ok", "error"] {
            let _ = self.counters_counted.with_label_values(&[result]);
        }
        self.counters_compared(&Drift::new());
        for kind in ["usage", "audit"] {
            let _ = self.records_written.with_label_values(&[kind]);
            let _ = self.records_dropped.with_label_values(&[kind]);
        }
    }

    /// Everything in Prometheus' text format, version 0.0.4 (`text/plain; version=0.0.4`). `tollgate_metrics_series` is how
    /// many series were shown the last time.
    pub fn exposition(&self) -> String {
        let text = self.exposition.text();
        self.place.shown(text.lines().filter(|line| !line.starts_with('#')).count());
        text
    }
}

/// Work of ours, from 50 µs to a second.
const OWN_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.006_4, 0.012_8, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Requests live from a millisecond to the half hour that a stream may be silent.
const REQUEST_BUCKETS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// As OpenTelemetry's `gen_ai.server.time_to_first_token`, without its finest and with longer ones for models that think.
const FIRST_TOKEN_BUCKETS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0];

/// 1 is a perfect estimate.
const RATIO_BUCKETS: &[f64] = &[0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0, 100.0];

#[cfg(test)]
mod tests;
