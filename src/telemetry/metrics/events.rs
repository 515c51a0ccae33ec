//! What the other rooms tell: each thing that happens, and each total that is counted elsewhere.

use std::time::Duration;

use prometheus::IntCounter;

use super::{LoginOutcome, Metrics, Outcome, counted};
use crate::identity::KeySetHealth;
use crate::limits::Bucket;
use crate::limits::reconcile::Drift;
use crate::records::{self, Health, UsageRow};
use crate::telemetry::labels;

impl Metrics {
    /// A request on the public listener came to its end. `route` is the route's class, never its path.
    pub fn request(&self, route: &str, method: &str, status: u16, duration: Duration) {
        let route = self.routes.label(route);
        self.requests.with_label_values(&[route, labels::method(method), labels::status(status)]).inc();
        self.request_duration.with_label_values(&[route]).observe(duration.as_secs_f64());
    }

    /// What the gateway added to one request, LibreChat's own time aside.
    pub fn added_latency(&self, added: Duration) {
        self.added_latency.observe(added.as_secs_f64());
    }

    /// A client began to read a stream.
    pub fn stream_opened(&self) {
        self.streams_open.inc();
    }

    /// A client no longer reads a stream.
    pub fn stream_closed(&self) {
        self.streams_open.dec();
    }

    /// A chat start was decided. `bucket` is the limit that decided, where one did.
    pub fn decision(&self, outcome: Outcome, bucket: Option<&Bucket>) {
        let words = bucket.map_or(["none"; 3], |bucket| [bucket.scope.as_str(), bucket.resource.as_str(), bucket.period.window.as_str()]);
        self.decisions.with_label_values(&[outcome.as_str(), words[0], words[1], words[2]]).inc();
    }

    /// How long a chat start took from the end of its body until it was forwarded or refused.
    pub fn admission(&self, duration: Duration) {
        self.admission_duration.observe(duration.as_secs_f64());
    }

    /// A credential was refused.
    pub fn token_refused(&self, reason: &'static str) {
        self.token_refusals.with_label_values(&[reason]).inc();
    }

    /// A sign-in with LibreChat's own accounts came to its end.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Failed sign-ins locked something: the word of its kind.
    pub fn login_locked(&self, kind: &'static str) {
        self.login_locks.with_label_values(&[kind]).inc();
    }

    /// How the published keys of an issuer do.
    pub fn key_set(&self, issuer: &str, health: &KeySetHealth) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.follow(&self.key_fetches.with_label_values(&[issuer, "ok"]), health.good);
        self.follow(&self.key_fetches.with_label_values(&[issuer, "error"]), health.failed);
        self.keys_usable.with_label_values(&[issuer]).set(gauge(health.keys as u64));
        if let Some(age) = health.age {
            self.key_age.with_label_values(&[issuer]).set(gauge(age.as_secs()));
        }
    }

    /// A generation became ours: admitted here, or taken over.
    pub fn generation_opened(&self) {
        self.generations_open.inc();
    }

    /// A generation is no longer ours: settled, released, or owned by another replica.
    pub fn generation_left(&self) {
        self.generations_open.dec();
    }

    /// A generation was settled by us.
    pub fn generation_settled(&self, status: &'static str, time_to_first_token: Option<Duration>) {
        self.generations.with_label_values(&[status]).inc();
        if let Some(time) = time_to_first_token {
            self.time_to_first_token.observe(time.as_secs_f64());
        }
    }

    /// A generation was taken over from a replica that fell silent.
    pub fn generation_taken_over(&self) {
        self.generations_taken_over.inc();
    }

    /// A usage row was charged: its tokens, cost, messages and source.
    pub fn usage(&self, row: &UsageRow) {
        let (org, model) = (self.orgs.label(&row.org_id), self.models.label(&row.model));
        let model = self.pairs.model(org, &model);
        let plain_input = row.input_tokens.saturating_sub(row.cache_read_tokens).saturating_sub(row.cache_write_tokens);
        for (kind, tokens) in [
            ("input", plain_input),
            ("output", row.output_tokens),
            ("cache_read", row.cache_read_tokens),
            ("cache_write", row.cache_write_tokens),
        ] {
            if tokens > 0 {
                self.tokens.with_label_values(&[org, model, kind]).inc_by(tokens);
            }
        }
        self.cost.with_label_values(&[org, model]).add_nanos(row.cost_nanousd);
        self.messages.with_label_values(&[org]).inc_by(u64::from(row.messages));
        self.usage_source.with_label_values(&[row.usage_source]).inc();
    }

    /// What a generation was charged against what was estimated at its start, both in tokens.
    pub fn estimate(&self, charged: u64, estimated: u64) {
        if estimated > 0 {
            #[expect(clippy::cast_precision_loss, reason = "a ratio for a histogram, never used to charge")]
            self.estimate_ratio.observe(charged as f64 / estimated as f64);
        }
    }

    /// A message went to a model that the price table does not know.
    pub fn unpriced_message(&self) {
        self.unpriced_messages.inc();
    }

    /// A generation that was settled called a tool.
    pub fn tool_call(&self, outcome: records::Outcome) {
        self.tool_calls.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Whether the store of counters answers.
    pub fn store_up(&self, up: bool) {
        self.store_up.set(i64::from(up));
    }

    /// So many traces were sent, failed, or dropped.
    pub fn traces(&self, result: &'static str, count: u64) {
        self.traces.with_label_values(&[result]).inc_by(count);
    }

    /// Lets the series of a verb of the store begin at zero.
    pub fn store_verb(&self, verb: &'static str) {
        for result in ["ok", "error"] {
            let _ = self.store_operations.with_label_values(&[verb, result]);
        }
    }

    /// A call to the store ended: its verb, how (`ok`, `refused`, `error`), and how long it took.
    pub fn store_operation(&self, verb: &'static str, result: &'static str, duration: Duration) {
        self.store_operations.with_label_values(&[verb, result]).inc();
        self.store_duration.with_label_values(&[verb]).observe(duration.as_secs_f64());
    }

    /// Counters were counted from the usage rows, or could not be.
    pub fn counters_counted(&self, succeeded: bool) {
        self.counters_counted.with_label_values(&[if succeeded { "ok" } else { "error" }]).inc();
    }

    /// Counters were compared with their usage rows. `drift` says by how much they were off in all, and how many were.
    pub fn counters_compared(&self, drift: &Drift) {
        for (resource, window) in counted() {
            let labels = [resource.as_str(), window.as_str()];
            let (off, counters) = drift.get(&(resource, window)).copied().unwrap_or_default();
            self.counter_drift.with_label_values(&labels).set(i64::try_from(off).unwrap_or(i64::MAX));
            self.counter_repairs.with_label_values(&labels).inc_by(counters);
        }
    }

    /// How the way of rows to the database does.
    pub fn records(&self, health: &Health) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let journal = &health.journal;
        self.records_up.set(i64::from(health.failing_for.is_none()));
        self.records_queue.with_label_values(&["journal"]).set(gauge(journal.rows));
        self.records_queue.with_label_values(&["audit"]).set(gauge(health.audit_queued as u64));
        self.journal_up.set(i64::from(journal.failing_for.is_none()));
        self.journal_full.set(i64::from(journal.full));
        self.journal_bytes.set(gauge(journal.bytes));
        self.journal_max_bytes.set(gauge(journal.max_bytes));
        self.journal_oldest.set(gauge(health.oldest.unwrap_or_default().as_secs()));
        self.follow(&self.starts_unrecorded, health.starts_unrecorded);
        self.follow(&self.records_written.with_label_values(&["usage"]), health.usage_written);
        self.follow(&self.records_written.with_label_values(&["audit"]), health.audit_written);
        self.follow(&self.records_dropped.with_label_values(&["usage"]), health.usage_refused);
        self.follow(&self.records_dropped.with_label_values(&["audit"]), health.audit_dropped + health.audit_refused);
    }

    /// How many connections to the database there are to ask questions on.
    pub fn database_connections(&self, used: usize, idle: usize) {
        for (state, connections) in [("used", used), ("idle", idle)] {
            self.database_connections.with_label_values(&[state]).set(i64::try_from(connections).unwrap_or(i64::MAX));
        }
    }

    /// So many lines for the log files were written, dropped or failed since the start.
    pub fn log_file_lines(&self, result: &'static str, lines_in_all: u64) {
        self.follow(&self.log_file_lines.with_label_values(&[result]), lines_in_all);
    }

    /// Raises a counter to a total that is counted elsewhere. Several may tell of it at once, and late.
    fn follow(&self, counter: &IntCounter, total: u64) {
        let _alone = self.following.lock();
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// Whether a part does not work as it should; readiness lists the same parts.
    pub fn degraded(&self, component: &'static str, is: bool) {
        self.degraded.with_label_values(&[component]).set(i64::from(is));
    }
}
