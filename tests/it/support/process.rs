//! A gateway as a process of its own: what can be killed, stopped in its tracks, and restarted.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tollgate::scripted::client::plain_http;

use tempfile::TempDir;

use super::ports::free_port;

/// How long a process may take to start or to end, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A running `tollgate serve`. Dropping it kills it.
pub struct TollgateProcess {
    child: Child,
    /// The public listener.
    pub public: SocketAddr,
    /// The metrics listener.
    pub metrics: SocketAddr,
    folder: TempDir,
    /// What it is started by, in its folder; itself where there is nothing.
    starter: Vec<String>,
}

impl TollgateProcess {
    /// Starts one with this configuration, which listens on ports 0, and waits until it is ready.
    pub async fn start(config: &str) -> Self {
        Self::start_by(&[], config).await
    }

    /// The same by another program, in its folder, which becomes it with the arguments behind its own.
    pub async fn start_by(starter: &[String], config: &str) -> Self {
        for _ in 0..5 {
            let mut process = Self::spawn(starter, config);
            if process.is_ready().await {
                return process;
            }
        }
        panic!("tollgate did not start on any of five triples of free ports");
    }

    fn spawn(starter: &[String], config: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let [public, admin, metrics] = [(); 3].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let mut config = config.to_owned();
        for address in [public, admin, metrics] {
            config = config.replacen("127.0.0.1:0", &address.to_string(), 1);
        }
        std::fs::write(folder.path().join("tollgate.toml"), config).expect("a configuration file");
        Self { child: run(&folder, starter), public, metrics, folder, starter: starter.to_vec() }
    }

    /// Ends it without a word, and starts it again as it was, in the same folder.
    pub async fn crash_and_restart(&mut self) {
        self.kill();
        self.child = run(&self.folder, &self.starter);
        assert!(self.is_ready().await, "tollgate did not come back:\n{}", self.log());
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Waits until it is ready. False where it ended instead, as it does when a port is taken.
    async fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.child.try_wait().expect("a child can be asked").is_some() {
                assert!(self.log().contains("cannot be listened on"), "tollgate ended:\n{}", self.log());
                return false;
            }
            let answer = plain_http().get(format!("http://{}/readyz", self.metrics)).send().await;
            if answer.is_ok_and(|answer| answer.status() == 200) {
                return true;
            }
            assert!(Instant::now() < deadline, "tollgate was not ready within {PATIENCE:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The public address.
    pub fn url(&self) -> String {
        format!("http://{}", self.public)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Stops it in its tracks: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Asks it to stop, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "tollgate did not stop within {PATIENCE:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(status.is_ok_and(|status| status.success()), "SIG{name} could not be sent to tollgate");
    }
}

impl Drop for TollgateProcess {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(folder: &TempDir, starter: &[String]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log")).expect("a log file");
    let words = [starter, &[env!("CARGO_BIN_EXE_tollgate").to_owned()]].concat();
    Command::new(&words[0])
        .args(&words[1..])
        .args(["serve", "--config"])
        .arg(folder.path().join("tollgate.toml"))
        .current_dir(folder.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("tollgate can be run")
}
