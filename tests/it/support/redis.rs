//! A redis-server of a test's own: on a free port, in a folder of its own, gone when dropped.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::ports::free_port;

/// How long a server may take to answer its first `PING`, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running redis-server.
pub struct RedisServer {
    child: Child,
    port: u16,
    dir: TempDir,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts a server on a free port and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(Vec::new)
    }

    /// Starts a Redis Cluster of this one server, which is strict about keys lying in one slot.
    pub fn start_cluster() -> Self {
        let server = Self::start_with(|| {
            let options = ["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()];
            options.map(str::to_owned).to_vec()
        });
        server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
        let deadline = Instant::now() + START_LIMIT;
        while !server.command::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
            assert!(Instant::now() < deadline, "the cluster was not ready within {START_LIMIT:?}");
            sleep(Duration::from_millis(50));
        }
        server
    }

    /// Starts a server that knows no scripts, as some managed offerings are.
    pub fn start_without_scripts() -> Self {
        Self::start_with(|| ["--rename-command", "EVAL", "NOEVAL", "--rename-command", "EVALSHA", "NOEVALSHA"].map(str::to_owned).to_vec())
    }

    fn start_with(options: impl Fn() -> Vec<String>) -> Self {
        // Between finding a free port and using it somebody else may take it; then the next one is tried.
        for _ in 0..5 {
            let dir = TempDir::new().expect("a temporary folder can be made");
            let (port, options) = (free_port(), options());
            let mut server = Self { child: spawn(port, &dir, &options), port, dir, options };
            if server.answers() {
                return server;
            }
        }
        panic!("redis-server did not start on any of five free ports");
    }

    /// Waits until the server answers. False where it ended instead, as it does when its port is taken.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if self.child.try_wait().expect("a child can be asked whether it runs").is_some() {
                return false;
            }
            if self.try_command::<String>(&["PING"]).is_ok() {
                return true;
            }
            assert!(Instant::now() < deadline, "redis-server on port {} did not answer within {START_LIMIT:?}", self.port);
            sleep(Duration::from_millis(10));
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Runs a command on a connection of its own and answers what it said.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).unwrap_or_else(|why| panic!("{words:?} failed: {why}"))
    }

    fn try_command<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut connection = redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(5))?;
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.query(&mut connection)
    }

    /// Every key there is, in order.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.command(&["KEYS", "*"]);
        keys.sort();
        keys
    }

    /// Stops it in its tracks: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(status.is_ok_and(|status| status.success()), "SIG{name} could not be sent to redis-server");
    }

    /// Kills it and starts an empty one on the same port.
    pub fn replace(&mut self) {
        self.kill();
        self.child = spawn(self.port, &self.dir, &self.options);
        assert!(self.answers(), "redis-server did not start again on port {}", self.port);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &TempDir, options: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]).arg(dir.path());
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|why| panic!("redis-server cannot be run ({why}); `make test` installs it"))
}
