//! The proxies under test, each a process of its own: this program, started again in another role. What a process costs
//! is read from `/proc`, by thread, in nanoseconds.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_proxy::{ProxyHttp, Session};
use tollgate::clock::SystemClock;
use tollgate::config::Config;

/// How long a proxy may take to start, and to come to rest after a load.
const PATIENCE: Duration = Duration::from_mins(1);

/// The first argument of this program in the role of the bare proxy.
pub const BARE: &str = "bare-proxy";

/// The first argument of this program in the role of Tollgate.
pub const TOLLGATE: &str = "tollgate-serve";

/// A proxy that runs.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What a proxy still has to do, and what it has written.
#[derive(Debug, Default, Clone, Copy)]
pub struct Work {
    /// Rows that wait to be written.
    pub queued: u64,
    /// Generations whose books are open.
    pub open: u64,
    /// Audit and usage rows written since the start.
    pub written: u64,
    /// Audit rows that were dropped.
    pub dropped: u64,
}

impl Proxy {
    /// Starts this program in a role, on one core where `core` names one.
    pub fn start(role: &str, argument: &str, core: Option<usize>) -> Self {
        let program = std::env::current_exe().expect("a program knows where it is");
        let mut command = if let Some(core) = core {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args([role, argument]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started again");
        let questions = child.stdin.take().expect("its standard input is a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("the child says where it listens");
        let address = line.trim().parse().unwrap_or_else(|_| panic!("{role} did not start; it said {line:?}"));
        Self { address, child, questions, answers }
    }

    /// What it still has to do.
    pub fn work(&mut self) -> Work {
        self.questions.write_all(b"work\n").expect("the child listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the child answers");
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [queued, open, written, dropped] = numbers[..] else { panic!("a child answered {line:?}") };
        Work { queued, open, written, dropped }
    }

    /// Waits until every row is written and no more than `open` generations are open.
    pub async fn rest(&mut self, open: u64) -> Work {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let work = self.work();
            if work.queued == 0 && work.open <= open {
                return work;
            }
            assert!(Instant::now() < deadline, "a proxy did not come to rest: {work:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The CPU time of each of its threads so far, in nanoseconds, by thread id.
    pub fn cpu(&self) -> Cpu {
        let folder = format!("/proc/{}/task", self.child.id());
        let threads = std::fs::read_dir(folder).expect("a running process has threads").flatten();
        let read = |thread: std::fs::DirEntry| {
            let name = std::fs::read_to_string(thread.path().join("comm")).ok()?;
            let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let nanos = times.split_whitespace().next()?.parse().ok()?;
            Some((thread.file_name().into_string().ok()?, (name.trim().to_owned(), nanos)))
        };
        Cpu(threads.filter_map(read).collect())
    }

    /// Its resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a status names the resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("sizes are numbers") * 1024
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may be gone already; there is nobody to tell either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time of a process, by thread.
pub struct Cpu(HashMap<String, (String, u64)>);

impl Cpu {
    /// What was used since, in nanoseconds, by name of thread.
    pub fn until(&self, later: &Self) -> BTreeMap<String, u64> {
        let mut used = BTreeMap::new();
        for (id, (name, nanos)) in &later.0 {
            let before = self.0.get(id).map_or(0, |(_, nanos)| *nanos);
            *used.entry(name.clone()).or_default() += nanos.saturating_sub(before);
        }
        used
    }
}

/// Plays a role, if these are the arguments of one. It ends with its parent: when the pipe from it is closed.
pub fn play(arguments: &[String]) -> bool {
    match arguments {
        [_, role, upstream] if role == BARE => bare(upstream),
        [_, role, config] if role == TOLLGATE => tollgate(Path::new(config)),
        _ => return false,
    }
    true
}

/// Answers the parent's questions until it is gone.
fn answer(work: impl Fn() -> Work) {
    for _question in std::io::stdin().lines().map_while(Result::ok) {
        let Work { queued, open, written, dropped } = work();
        println!("{queued} {open} {written} {dropped}");
    }
}

fn tollgate(file: &Path) {
    let config = Config::load(Some(file), std::iter::empty()).expect("the bench's configuration is good");
    let running = tollgate::serve::start(config, Arc::new(SystemClock)).expect("the gateway starts");
    println!("{}", running.public);
    answer(|| {
        let health = running.app.recorder.health();
        Work {
            queued: health.journal.rows + health.audit_queued as u64,
            open: running.app.generations.count_open() as u64,
            written: health.usage_written + health.audit_written,
            dropped: health.audit_dropped,
        }
    });
    running.stop();
}

/// A Pingora proxy that does nothing but pass on.
struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora_core::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

fn bare(upstream: &str) {
    let upstream = upstream.parse().expect("the parent gives an address");
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("loopback has free ports");
    std::thread::spawn(move || {
        let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 512, ..ServerConf::default() };
        let mut server = Server::new_with_opt_and_conf(None, conf);
        server.bootstrap();
        let mut service = pingora_proxy::http_proxy_service(&server.configuration, Bare { upstream });
        service.add_tcp(&address.to_string());
        server.add_service(service);
        server.run_forever();
    });
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "the bare proxy does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{address}");
    answer(Work::default);
    std::process::exit(0);
}
