//! A PostgreSQL server of the tests' own: its own data directory, a free port, stopped when the last test lets go of it.

#![expect(clippy::expect_used, clippy::panic, reason = "a test whose server does not start fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::ports::free_port;

/// How long a server may take to start or stop. It takes well under a second on an idle machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Quick to start, small, and careless about a loss of power, which tests do not cause.
const QUICK: &[&str] = &["fsync=off", "shared_buffers=16MB"];

/// What stands for NULL in [`Postgres::answers`].
pub const NULL: &str = "\u{2205}";

/// A running server. Dropping it stops it and removes its data.
pub struct Postgres {
    programs: PathBuf,
    /// The system user that the server runs as: nobody of their own where tests do not run as root.
    user: Option<User>,
    folder: TempDir,
    port: u16,
    /// What is loaded at its start.
    preloaded: &'static str,
    /// Settings beyond those of every server.
    settings: &'static [&'static str],
    process: Mutex<Option<Process>>,
    databases: AtomicU32,
}

impl Postgres {
    /// The server that all tests of this process share, started by the first that asks.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start());
        *shared = Arc::downgrade(&started);
        started
    }

    /// A server with TimescaleDB that all tests of this process share; nothing, and a word on standard error, where there
    /// is no TimescaleDB.
    pub fn timescale() -> Option<Arc<Self>> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        if !Self::has_timescale() {
            return None;
        }
        let mut shared = SHARED.lock();
        if let Some(running) = shared.upgrade() {
            return Some(running);
        }
        let started = Arc::new(Self::start_with("timescaledb", QUICK));
        *shared = Arc::downgrade(&started);
        Some(started)
    }

    /// A server with what TimescaleDB offers under the Apache licence alone, for one test; as [`Self::timescale`] where there
    /// is no TimescaleDB.
    pub fn timescale_under_apache() -> Option<Self> {
        const APACHE: &[&str] = &["fsync=off", "shared_buffers=16MB", "timescaledb.license=apache"];
        Self::has_timescale().then(|| Self::start_with("timescaledb", APACHE))
    }

    fn has_timescale() -> bool {
        let available = Self::shared().sql("postgres", "SELECT COUNT(*) FROM pg_available_extensions WHERE name = 'timescaledb'");
        let is_there = available.as_deref() == Ok("1");
        if !is_there {
            eprintln!("SKIPPED: TimescaleDB is not installed beside PostgreSQL, so that this test did not run");
        }
        is_there
    }

    /// A server for one test alone, which may stop and start it.
    pub fn start() -> Self {
        Self::start_set(QUICK)
    }

    /// A server for one test alone with these settings beside PostgreSQL's own.
    pub fn start_set(settings: &'static [&'static str]) -> Self {
        Self::start_with("", settings)
    }

    /// A server for one test alone that loads this at its start.
    pub fn start_with(preloaded: &'static str, settings: &'static [&'static str]) -> Self {
        let programs = programs();
        let user = User::to_run_as();
        let folder = tempfile::Builder::new().prefix("tollgate-postgres-").tempdir().expect("a folder for PostgreSQL");
        if let Some(user) = &user {
            std::os::unix::fs::chown(folder.path(), Some(user.uid), Some(user.gid)).expect("giving the folder to PostgreSQL's user");
        }
        let (process, databases) = (Mutex::new(None), AtomicU32::new(0));
        let server = Self { programs, user, folder, port: free_port(), preloaded, settings, process, databases };
        server.init();
        server.resume();
        server
    }

    /// The URL of a new, empty database on it.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let created = self.sql("postgres", &format!("CREATE DATABASE {name}"));
        assert!(created.is_ok(), "creating a database on the test's PostgreSQL: {created:?}");
        self.url(&name)
    }

    /// Runs a statement with `psql`, apart from the code under test, and answers what it prints.
    pub fn sql(&self, database: &str, statement: &str) -> Result<String, String> {
        let output = self.psql("postgres", database, statement);
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// Runs statements as somebody else, who may also write, and answers everything that is said, also what goes wrong.
    pub fn said_to(&self, role: &str, database: &str, statements: &str) -> String {
        let output = self.psql(role, database, statements);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// What somebody else is answered, as CSV with a line of names; NULL stands as [`NULL`]. A wrong password is an error where
    /// the server asks for one.
    pub fn answers(&self, role: &str, password: &str, database: &str, statement: &str) -> Result<String, String> {
        let database = database.rsplit('/').next().unwrap_or(database);
        let output = Command::new(self.programs.join("psql"))
            .args(["-h", "127.0.0.1", "-U", role, "-d", database, "-qX", "--csv", "-P", &format!("null={NULL}"), "-v", "ON_ERROR_STOP=1"])
            .args(["-p", &self.port.to_string(), "-w", "-c", statement])
            .env("PGPASSWORD", password)
            .stdin(Stdio::null())
            .output()
            .expect("running psql");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    fn psql(&self, role: &str, database: &str, statements: &str) -> std::process::Output {
        let database = database.rsplit('/').next().unwrap_or(database);
        Command::new(self.programs.join("psql"))
            .args(["-h", "127.0.0.1", "-U", role, "-d", database, "-AtqX", "-v", "ON_ERROR_STOP=1", "-c", statements])
            .args(["-p", &self.port.to_string()])
            .env("PGOPTIONS", "-c default_transaction_read_only=off")
            .stdin(Stdio::null())
            .output()
            .expect("running psql")
    }

    /// Stops it as a crash would: connections are cut, nothing is said.
    pub fn crash(&self) {
        if let Some(process) = self.process.lock().take() {
            process.end("QUIT");
        }
    }

    /// Stops it in its tracks, with all its processes: connections stay open, nothing is answered.
    pub fn stall(&self) {
        self.signal_all("STOP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal_all("CONT");
    }

    /// The first process first, so that it makes no others meanwhile.
    fn signal_all(&self, signal: &str) {
        let Some(id) = self.process.lock().as_ref().map(|process| process.id) else { return };
        send(signal, &[id.to_string()]);
        send(signal, &self.children());
    }

    /// The ids of the processes that serve its connections, and of its own helpers.
    pub fn children(&self) -> Vec<String> {
        self.process.lock().as_ref().map(|process| children_of(process.id)).unwrap_or_default()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again, on the same port and data.
    pub fn resume(&self) {
        for _ in 0..5 {
            let process = Process::start(&self.command("postgres", self.arguments()));
            if self.wait_until_it_answers(&process) {
                *self.process.lock() = Some(process);
                return;
            }
            process.end("QUIT");
        }
        panic!("PostgreSQL did not start; its log:\n{}", std::fs::read_to_string(self.log()).unwrap_or_default());
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    fn init(&self) {
        let arguments = ["-D", &self.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"].map(str::to_owned);
        let mut command = self.command("initdb", arguments.to_vec()).build();
        let output = command.stdin(Stdio::null()).output().expect("running initdb");
        assert!(output.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }

    fn arguments(&self) -> Vec<String> {
        let port = self.port.to_string();
        let folder = self.folder.path().display().to_string();
        let settings = [&["listen_addresses=127.0.0.1", "max_connections=100"], self.settings].concat();
        let mut arguments = ["-D", &self.data(), "-p", &port, "-k", &folder].map(str::to_owned).to_vec();
        if !self.preloaded.is_empty() {
            arguments.extend(["-c".to_owned(), format!("shared_preload_libraries={}", self.preloaded)]);
            arguments.extend(["-c", "timescaledb.telemetry_level=off", "-c", "max_worker_processes=40"].map(str::to_owned));
        }
        arguments.extend(settings.iter().flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]));
        arguments
    }

    /// A program of PostgreSQL's as its user; it is stopped with this process, even if that is killed.
    fn command(&self, program: &str, arguments: Vec<String>) -> Launch {
        let mut words = vec!["setpriv".to_owned(), "--pdeathsig=QUIT".to_owned()];
        if let Some(user) = &self.user {
            words.extend([format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--clear-groups".to_owned()]);
        }
        words.extend(["--".to_owned(), self.programs.join(program).display().to_string()]);
        words.extend(arguments);
        Launch { words, folder: self.folder.path().to_owned(), log: self.log() }
    }

    fn wait_until_it_answers(&self, process: &Process) -> bool {
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience && process.is_running() {
            if self.sql("postgres", "SELECT 1").is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A test may have left it stalled.
            self.go_on();
        }
        if let Some(process) = self.process.get_mut().take() {
            process.end("QUIT");
        }
    }
}

fn children_of(id: u32) -> Vec<String> {
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("PostgreSQL's processes");
    children.split_whitespace().map(str::to_owned).collect()
}

fn send(signal: &str, processes: &[String]) {
    // One that has just ended is no trouble.
    let _ = Command::new("kill").arg(format!("-{signal}")).args(processes).stderr(Stdio::null()).status();
}

/// A command line that can be started more than once.
struct Launch {
    words: Vec<String>,
    folder: PathBuf,
    log: PathBuf,
}

impl Launch {
    fn build(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).current_dir(&self.folder);
        command
    }
}

/// A process and the thread that started it. The kernel's "stop with your parent" means the thread, which therefore
/// lives as long as the process.
struct Process {
    id: u32,
    ended: mpsc::Receiver<()>,
}

impl Process {
    fn start(launch: &Launch) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(&launch.log).expect("PostgreSQL's log");
        let mut command = launch.build();
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("PostgreSQL's log")).stderr(log);
        let (started, starting) = mpsc::channel();
        let (ending, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let mut child: Child = command.spawn().expect("starting PostgreSQL with setpriv (util-linux)");
            started.send(child.id()).expect("the test waits for this");
            let _ = child.wait();
            let _ = ending.send(());
        });
        Self { id: starting.recv().expect("PostgreSQL's process id"), ended }
    }

    fn is_running(&self) -> bool {
        matches!(self.ended.try_recv(), Err(mpsc::TryRecvError::Empty))
    }

    fn end(self, signal: &str) {
        if !self.is_running() {
            return;
        }
        let _ = Command::new("kill").args([format!("-{signal}"), self.id.to_string()]).status();
        assert!(self.ended.recv_timeout(PATIENCE).is_ok() || std::thread::panicking(), "PostgreSQL did not stop on SIG{signal}");
    }
}

/// A system user.
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// `initdb` refuses root: as root, the package's own user takes its place.
    fn to_run_as() -> Option<Self> {
        if Self::number(&["-u"]) != Some(0) {
            return None;
        }
        let found = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some(Self { uid: Self::number(&["-u", name])?, gid: Self::number(&["-g", name])? }));
        Some(found.expect("an unprivileged user to run PostgreSQL as; `make test` installs it with one"))
    }

    fn number(arguments: &[&str]) -> Option<u32> {
        let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    }
}

/// The folder of PostgreSQL's programs; the newest version where there are several.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists())
        .collect();
    found.sort_unstable();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| Path::new(folder).join("initdb").exists())
    };
    found
        .pop()
        .map(|(_, programs)| programs)
        .or_else(on_path)
        .expect("PostgreSQL is not installed: no initdb in /usr/lib/postgresql/*/bin or on PATH. `make test` installs it (Debian package postgresql)")
}
