//! A whole gateway in front of a scripted LibreChat, entered by its front door.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::clock::{SharedClock, SystemClock};
use tollgate::config::Config;
use tollgate::records::seal::unseal_rows;
use tollgate::records::{StoredAudit, StoredUsage};
use tollgate::scripted::client::{ChatClient, plain_http};
use tollgate::scripted::{Options, User};
use tollgate::scripted::{ScriptedLibreChat, auth};
use tollgate::serve::{self, Running};

/// How long anything that must happen may take: after a long bad day there is more to do.
fn patience() -> Duration {
    Duration::from_secs(if std::env::var_os("TOLLGATE_SOAK").is_some() { 180 } else { 60 })
}

/// A gateway, the LibreChat behind it, and the folder of its database.
pub struct TestGateway {
    pub running: Running,
    pub librechat: ScriptedLibreChat,
    pub folder: TempDir,
}

/// What a gateway is started with; `Setup::default()` has one org and no limits.
pub struct Setup {
    /// More configuration: limits, issuers, and whole sections that are not in [`configuration`].
    pub config: String,
    /// How LibreChat behaves.
    pub librechat: Options,
    /// The gateway's clock.
    pub clock: SharedClock,
    /// `memory:` or a Redis.
    pub store: String,
    /// Where rows go; an SQLite file of its own where empty.
    pub records: String,
    /// The org of everyone whom nothing else puts into one; nobody's where empty.
    pub default_org: String,
    /// More keys of `[librechat]`.
    pub librechat_keys: String,
    /// Where LibreChat is; the scripted one where empty.
    pub upstream: String,
    /// More keys of `[store]`.
    pub store_keys: String,
    /// Settings that lie over all others, as environment variables do.
    pub environment: Vec<(&'static str, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config: String::new(),
            librechat: Options::default(),
            clock: Arc::new(SystemClock),
            store: "memory:".to_owned(),
            records: String::new(),
            default_org: "acme".to_owned(),
            librechat_keys: String::new(),
            upstream: String::new(),
            store_keys: String::new(),
            environment: Vec::new(),
        }
    }
}

impl Setup {
    /// One org, `acme`, with these limits or other sections.
    pub fn with(config: &str) -> Self {
        Self { config: config.to_owned(), ..Self::default() }
    }

    pub async fn start(self) -> TestGateway {
        let librechat = ScriptedLibreChat::start(self.librechat.clone()).await.expect("a free port");
        self.in_front_of(librechat)
    }

    /// The same with a setting that lies over all others: `("TOLLGATE_PUBLIC__LISTEN", "[::1]:0")`.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    pub fn in_front_of(self, librechat: ScriptedLibreChat) -> TestGateway {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let running = self.gateway(&librechat, &folder);
        TestGateway { running, librechat, folder }
    }

    /// Only the gateway: for two in front of one LibreChat.
    pub fn gateway(&self, librechat: &ScriptedLibreChat, folder: &TempDir) -> Running {
        // Without a name it would lie where the tests run.
        let journal = ("TOLLGATE_RECORDS__JOURNAL".to_owned(), folder.path().join("tollgate.journal.db").display().to_string());
        let journal = (!self.records.is_empty()).then_some(journal);
        let environment = self.environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).chain(journal);
        let config = Config::from_text(&self.text(librechat, folder), "test", environment).expect("a good configuration");
        serve::start(config, self.clock.clone()).expect("a gateway")
    }

    /// The whole configuration file.
    pub fn text(&self, librechat: &ScriptedLibreChat, folder: &TempDir) -> String {
        let records =
            if self.records.is_empty() { format!("sqlite:{}", folder.path().join("tollgate.db").display()) } else { self.records.clone() };
        format!(
            r#"
            [public]
            listen = "127.0.0.1:0"
            [admin]
            listen = "127.0.0.1:0"
            [metrics]
            listen = "127.0.0.1:0"
            [runtime]
            threads = 2
            [librechat]
            upstreams = ["{}"]
            jwt_secret = "{}"
            {}
            {}
            [store]
            url = "{}"
            {}
            [records]
            url = "{records}"
            [[orgs]]
            id = "acme"
            name = "Acme"
            {}
            "#,
            if self.upstream.is_empty() { librechat.url() } else { self.upstream.clone() },
            librechat.jwt_secret(),
            if self.default_org.is_empty() { String::new() } else { format!("default_org = \"{}\"", self.default_org) },
            self.librechat_keys,
            self.store,
            self.store_keys,
            self.config,
        )
    }
}

impl TestGateway {
    /// The public address.
    pub fn url(&self) -> String {
        format!("http://{}", self.running.public)
    }

    /// A chat client of a person, through the gateway.
    pub fn client(&self, email: &str) -> ChatClient {
        ChatClient::new(&self.url(), &self.token(email))
    }

    /// A LibreChat token of a person.
    pub fn token(&self, email: &str) -> String {
        auth::mint(self.librechat.jwt_secret(), &User::new(email), self.running.app.clock.now()).expect("a token")
    }

    /// Usage rows, oldest first, once there are at least `count`.
    pub async fn usage_rows(&self, count: usize) -> Vec<StoredUsage> {
        wait_for(&format!("{count} usage rows"), || async {
            let mut rows = self.running.app.records.usage_rows(10_000).await.expect("readable rows");
            rows.reverse();
            (rows.len() >= count).then_some(rows)
        })
        .await
    }

    /// Audit rows of an action, oldest first, once there are at least `count`.
    pub async fn audit_rows(&self, action: &str, count: usize) -> Vec<StoredAudit> {
        wait_for(&format!("{count} audit rows of {action}"), || async {
            let mut rows = self.running.app.records.audit_rows(10_000).await.expect("readable rows");
            rows.retain(|row| row.action == action);
            unseal_rows(&*self.running.app.member_keys, &mut rows).await.expect("the keys of members");
            rows.reverse();
            (rows.len() >= count).then_some(rows)
        })
        .await
    }

    /// Waits until no generation is open, and every row is in the database.
    pub async fn all_settled(&self) {
        let app = &self.running.app;
        wait_for("all generations to be settled", || async { (app.generations.count_open() == 0).then_some(()) }).await;
        wait_for("every row to be in the database", || async { (app.recorder.health().journal.rows == 0).then_some(()) }).await;
    }

    /// Everything on `/metrics`.
    pub async fn metrics(&self) -> String {
        metrics_at(self.running.metrics).await
    }

    /// What it is made of, to be stopped one after the other.
    pub fn into_parts(self) -> (Running, ScriptedLibreChat, TempDir) {
        (self.running, self.librechat, self.folder)
    }

    /// The folder of its database.
    pub fn folder(&self) -> &TempDir {
        &self.folder
    }
}

/// Asks until there is an answer, for at most [`patience`].
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, ask: impl Fn() -> F) -> T {
    let ask = || async { ask().await.ok_or("nothing") };
    wait_or_show(what, ask).await
}

/// Asks until it goes well, for at most [`patience`]; then says what it was the last time.
pub async fn wait_or_show<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(what: &str, ask: impl Fn() -> F) -> T {
    let deadline = tokio::time::Instant::now() + patience();
    loop {
        let last = match ask().await {
            Ok(answer) => return answer,
            Err(last) => last,
        };
        assert!(tokio::time::Instant::now() < deadline, "waited {} s for {what}; the last was {last}", patience().as_secs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything on `/metrics` of this listener.
pub async fn metrics_at(listener: std::net::SocketAddr) -> String {
    let answer = plain_http().get(format!("http://{listener}/metrics")).send().await.expect("the metrics listener answers");
    answer.text().await.expect("metrics are text")
}

/// The value of a series, written as Prometheus writes it: `tollgate_streams_open`, `tollgate_messages_total{org="acme"}`.
#[track_caller]
pub fn value_of(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = line.unwrap_or_else(|| panic!("there is no {series} among\n{metrics}"));
    value.parse().unwrap_or_else(|why| panic!("{series} is {value}, which is no number: {why}"))
}
