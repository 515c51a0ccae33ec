//! A real Prometheus of a test's own: it asks some Tollgates, runs the project's rules, and is gone when dropped.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tollgate::scripted::client::plain_http;

/// How long a server may take to start, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often it asks.
pub const SCRAPE: Duration = Duration::from_millis(250);

/// A running Prometheus.
pub struct Prometheus {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that asks these listeners, and waits until it is ready.
    pub async fn asking(metrics: &[SocketAddr]) -> Self {
        for _ in 0..5 {
            let mut server = Self::spawn(metrics);
            if server.is_ready().await {
                return server;
            }
        }
        panic!("prometheus did not start on any of five free ports");
    }

    fn spawn(metrics: &[SocketAddr]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("prometheus/rules/*.yml");
        let config = format!(
            "global: {{scrape_interval: {0}ms, scrape_timeout: {0}ms, evaluation_interval: 500ms}}\nrule_files: [\"{1}\"]\n\
             scrape_configs:\n  - job_name: tollgate\n    static_configs: [{{targets: {2:?}}}]\n",
            SCRAPE.as_millis(),
            rules.display(),
            metrics.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).expect("a configuration file");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log file");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus can be run; `make test` installs it (Debian package prometheus)");
        Self { child, url: format!("http://{address}"), _folder: folder }
    }

    /// Waits until it is ready. False where it ended instead, as it does when its port is taken.
    async fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.child.try_wait().expect("a child can be asked").is_some() {
                return false;
            }
            let answer = plain_http().get(format!("{}/-/ready", self.url)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return true;
            }
            assert!(Instant::now() < deadline, "prometheus was not ready within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks one of `query`, `query_range` and `series`, and answers its data, or what is wrong with the question.
    pub async fn ask(&self, what: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let answer = plain_http().get(format!("{}/api/v1/{what}", self.url)).query(parameters).send().await;
        let answer: Value = answer.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        if answer["status"] == "success" { Ok(answer["data"]["result"].clone()) } else { Err(answer["error"].to_string()) }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
