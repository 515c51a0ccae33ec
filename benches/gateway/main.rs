//! What Tollgate costs, beside no proxy and beside a bare Pingora proxy, in one run: `make bench`. How it is made and how
//! to read it: `docs/performance.md`.
//!
//! This process is the clients and the LibreChat behind the proxies, so that an event can carry the time at which it was
//! sent. The proxies are processes of their own. Arguments, if any, name what to run: `cpu latency streams memory`.

#![expect(clippy::expect_used, clippy::panic, reason = "a bench that cannot go on fails")]

mod children;
mod load;
mod report;
mod requests;
mod upstream;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use children::Proxy;
use load::{Connection, Requests, closed_loop, count, follow_all, open_loop};
use report::{Cost, Report};
use requests::{SECRET, Wishes};
use tollgate::clock::{Clock as _, SystemClock};
use upstream::{Script, Then, Upstream};

#[path = "../../tests/it/support/ports.rs"]
mod ports;
#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres;
#[path = "../../tests/it/support/redis.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod redis;

/// How often everything is measured, in turns.
const ROUNDS: usize = 5;

/// Clients at once where CPU time is measured.
const CLIENTS: usize = 16;

/// Requests in one measurement. Fewer than the audit queue holds, so that none of their rows is dropped.
const REQUESTS: usize = 6_000;

/// Chat starts in one measurement.
const CHATS: usize = 2_000;

/// How long requests arrive where latency is measured.
const ARRIVALS: Duration = Duration::from_secs(1);

/// Open streams where memory is measured, as far as the limit of open files allows.
const OPEN_STREAMS: usize = 2_000;

/// The core that the proxies run on, and the one for everything else.
const CORES: [usize; 2] = [0, 1];

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Asset,
    List,
    Chat,
}

/// Who is asked.
struct Target {
    name: &'static str,
    address: SocketAddr,
    proxy: Option<Proxy>,
}

struct Bench {
    upstream: Upstream,
    wishes: Wishes,
    targets: Vec<Target>,
    report: Report,
}

fn main() {
    let arguments: Vec<String> = std::env::args().filter(|argument| argument != "--bench").collect();
    if children::play(&arguments) {
        return;
    }
    let pinned = pin();
    let redis = redis::RedisServer::start();
    let postgres = postgres::Postgres::start();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let upstream = Upstream::start().await;
        let alone = configuration(&upstream, "memory:", &format!("sqlite:{}", folder.path().join("rows.db").display()));
        let shared = configuration(&upstream, &redis.url(), &postgres.database());
        let start = |name, role, argument: &str| {
            let proxy = Proxy::start(role, argument, pinned.then_some(CORES[0]));
            Target { name, address: proxy.address, proxy: Some(proxy) }
        };
        let tollgate = |name, file: &str, config: &str| {
            let file = folder.path().join(file);
            std::fs::write(&file, config).expect("the folder can be written to");
            start(name, children::TOLLGATE, &file.display().to_string())
        };
        let targets = vec![
            Target { name: "no proxy", address: upstream.address, proxy: None },
            start("bare Pingora", children::BARE, &upstream.address.to_string()),
            tollgate("Tollgate, memory + SQLite", "alone.toml", &alone),
            tollgate("Tollgate, Redis + PostgreSQL", "shared.toml", &shared),
        ];
        let wishes = Wishes::new(SystemClock.now());
        let mut bench = Bench { upstream, wishes, targets, report: Report::new(pinned) };
        let wanted = |part: &str| arguments.len() < 2 || arguments[1..].iter().any(|argument| argument == part);
        if wanted("memory") {
            bench.idle_memory().await;
        }
        if wanted("cpu") || wanted("latency") {
            bench.costs().await;
        }
        if wanted("latency") {
            bench.latencies().await;
        }
        if wanted("streams") {
            bench.streams().await;
        }
        if wanted("memory") {
            bench.stream_memory().await;
        }
    });
}

/// Keeps this process, and the servers it starts, off the proxies' core. Answers whether there are two to share.
fn pin() -> bool {
    let pin = |core: usize| {
        let mut command = std::process::Command::new("taskset");
        command.args(["-cp", &core.to_string(), &std::process::id().to_string()]).stdout(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    CORES.into_iter().all(pin)
}

fn configuration(upstream: &Upstream, store: &str, records: &str) -> String {
    let upstream = upstream.address;
    format!(
        r#"
        [public]
        listen = "127.0.0.1:0"
        [admin]
        listen = "127.0.0.1:0"
        [metrics]
        listen = "127.0.0.1:0"
        [librechat]
        upstreams = ["http://{upstream}"]
        jwt_secret = "{SECRET}"
        default_org = "acme"
        [store]
        url = "{store}"
        timeout_ms = 5000
        [records]
        url = "{records}"
        [generations]
        follow_after_ms = 60000
        [runtime]
        threads = 1
        [[orgs]]
        id = "acme"
        time_zone = "Asia/Seoul"
        [[limits]]
        applies_to = "member"
        tokens_per_day = 1_000_000_000
        tokens_per_month = 1_000_000_000
        messages_per_day = 1_000_000
        messages_per_month = 1_000_000
        usd_per_day = 100_000
        usd_per_month = 100_000
        [[limits]]
        applies_to = "org"
        tokens_per_month = 1_000_000_000_000
        "#
    )
}

impl Target {
    fn is_tollgate(&self) -> bool {
        self.name.starts_with("Tollgate")
    }
}

/// Measures what a proxy does until it is at rest again.
async fn cost_of<T>(proxy: Option<&mut Proxy>, requests: usize, open: u64, work: impl Future<Output = T>) -> (Cost, T) {
    let Some(proxy) = proxy else { return (Cost::default(), work.await) };
    let dropped = proxy.rest(u64::MAX).await.dropped;
    let before = proxy.cpu();
    let result = work.await;
    let rested = proxy.rest(open).await;
    assert_eq!(rested.dropped, dropped, "rows were dropped, so the figure would be too good");
    (Cost::new(&before.until(&proxy.cpu()), requests), result)
}

impl Bench {
    fn request(&self, ask: Ask, nth: usize) -> Rc<[u8]> {
        match ask {
            Ask::Asset => self.wishes.asset(nth),
            Ask::List => self.wishes.list(nth),
            Ask::Chat => self.wishes.chat(nth),
        }
    }

    /// CPU time of each kind of request, and how many a second were answered.
    async fn costs(&mut self) {
        for _ in 0..ROUNDS {
            for target in 0..self.targets.len() {
                for (ask, what) in [(Ask::Asset, "asset"), (Ask::List, "authenticated GET")] {
                    let (name, address) = (self.targets[target].name, self.targets[target].address);
                    let mut proxy = self.targets[target].proxy.take();
                    let (cost, rate) = cost_of(proxy.as_mut(), REQUESTS, 0, self.ask_all(ask, address)).await;
                    self.targets[target].proxy = proxy;
                    self.report.cost(what, name, cost);
                    self.report.rate(what, rate);
                }
                self.cost_of_chats(target).await;
            }
        }
        self.report.print_costs();
    }

    async fn ask_all(&self, ask: Ask, address: SocketAddr) -> f64 {
        let requests = Requests { count: REQUESTS, bytes: &|nth| self.request(ask, nth), answered: &|_, _| {} };
        closed_loop(address, CLIENTS, &requests).await
    }

    /// Chat starts first, and then, apart from them, their streams, which end at once and settle them.
    async fn cost_of_chats(&mut self, target: usize) {
        self.upstream.play(Script { events: 0, pace: Duration::ZERO, then: Then::End });
        let (name, address) = (self.targets[target].name, self.targets[target].address);
        let mut proxy = self.targets[target].proxy.take();
        let (cost, (rate, streams)) = cost_of(proxy.as_mut(), CHATS, u64::MAX, self.start_chats(address, CHATS)).await;
        self.report.cost("chat start", name, cost);
        self.report.rate("chat start", rate);
        let follow = follow_all(address, CLIENTS, &streams, self.upstream.epoch, &|_, _| {});
        let (cost, ()) = cost_of(proxy.as_mut(), CHATS, 0, follow).await;
        self.report.cost("its stream and settling", name, cost);
        self.targets[target].proxy = proxy;
    }

    /// Starts so many chats; answers how many a second, and the requests for their streams.
    async fn start_chats(&self, address: SocketAddr, chats: usize) -> (f64, Vec<Rc<[u8]>>) {
        let streams = RefCell::new(Vec::with_capacity(chats));
        let answered = |nth, body: &[u8]| streams.borrow_mut().push(self.wishes.stream(nth, body));
        let rate =
            closed_loop(address, CLIENTS, &Requests { count: chats, bytes: &|nth| self.wishes.chat(nth), answered: &answered }).await;
        (rate, streams.into_inner())
    }

    /// How long requests take while they arrive at half the rate that the slowest can answer.
    async fn latencies(&mut self) {
        self.upstream.play(Script { events: 0, pace: Duration::ZERO, then: Then::End });
        for (ask, what) in [(Ask::Asset, "asset"), (Ask::List, "authenticated GET"), (Ask::Chat, "chat start")] {
            let rate = self.report.slowest(what) / 2.0;
            for _ in 0..ROUNDS {
                for target in 0..self.targets.len() {
                    let took = self.latency(target, ask, rate).await;
                    self.report.latency(what, self.targets[target].name, took);
                }
            }
            self.report.print_latencies(what, rate);
        }
    }

    async fn latency(&mut self, target: usize, ask: Ask, rate: f64) -> Vec<Duration> {
        let address = self.targets[target].address;
        let streams = RefCell::new(Vec::new());
        let answered = |nth, body: &[u8]| {
            if ask == Ask::Chat {
                streams.borrow_mut().push(self.wishes.stream(nth, body));
            }
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of requests")]
        let requests = (rate * ARRIVALS.as_secs_f64()) as usize;
        let took = open_loop(address, rate, &Requests { count: requests, bytes: &|nth| self.request(ask, nth), answered: &answered }).await;
        follow_all(address, CLIENTS, &streams.take(), self.upstream.epoch, &|_, _| {}).await;
        if let Some(proxy) = &mut self.targets[target].proxy {
            proxy.rest(0).await;
        }
        took
    }

    /// What an event costs on its way, and how late it comes.
    async fn streams(&mut self) {
        let paced = Script { events: 1_000, pace: Duration::from_millis(2), then: Then::End };
        let burst = Script { events: 2_000, pace: Duration::ZERO, then: Then::End };
        let first = Script { events: 1, pace: Duration::from_millis(1), then: Then::End };
        for _ in 0..ROUNDS {
            for target in 0..self.targets.len() {
                self.stream(target, "event, one at a time", paced, 32, 32).await;
                self.stream(target, "event, in bursts", burst, 16, 4).await;
                self.stream(target, "first token", first, 400, 4).await;
            }
        }
        self.report.print_streams(&["event, one at a time", "event, in bursts"], &["first token", "event, one at a time"]);
    }

    async fn stream(&mut self, target: usize, what: &'static str, script: Script, streams: usize, at_once: usize) {
        let (name, address) = (self.targets[target].name, self.targets[target].address);
        let mut proxy = self.targets[target].proxy.take();
        let (_, requests) = self.start_chats(address, streams).await;
        self.upstream.play(script);
        let late = RefCell::new(Vec::new());
        let heard = |_, delay| late.borrow_mut().push(delay);
        let follow = follow_all(address, at_once, &requests, self.upstream.epoch, &heard);
        let (cost, ()) = cost_of(proxy.as_mut(), streams * script.events, 0, follow).await;
        self.report.cost(what, name, cost);
        self.report.latency(what, name, late.take());
        self.targets[target].proxy = proxy;
    }

    async fn idle_memory(&mut self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!("\nResident when idle, all encodings loaded:");
        for target in &self.targets {
            if let Some(proxy) = &target.proxy {
                println!("  {}: {:.1} MB", target.name, megabytes(proxy.resident()));
            }
        }
    }

    /// What an open stream takes, of an answer of which 50 events have come.
    async fn stream_memory(&mut self) {
        let script = Script { events: 50, pace: Duration::from_millis(1), then: Then::Hold };
        let streams = OPEN_STREAMS.min(open_files().saturating_sub(500) / 2);
        println!("\nMemory of {streams} open streams, their generations included:");
        for target in 1..self.targets.len() {
            let (name, address) = (self.targets[target].name, self.targets[target].address);
            let mut proxy = self.targets[target].proxy.take().expect("every target but the first is a proxy");
            let work = proxy.rest(0).await;
            let before = proxy.resident();
            self.upstream.play(script);
            let (_, requests) = self.start_chats(address, streams).await;
            let mut open = Vec::with_capacity(streams);
            for batch in requests.chunks(100) {
                let follow = batch.iter().map(async |request| {
                    let mut connection = Connection::to(address).await;
                    connection.follow(request, self.upstream.epoch, script.events, |_| {}).await;
                    connection
                });
                open.extend(futures_util::future::join_all(follow).await);
            }
            let open_generations = proxy.work().open;
            assert!(!self.targets[target].is_tollgate() || open_generations >= count_u64(streams), "{work:?}");
            let grown = proxy.resident().saturating_sub(before);
            let each = megabytes(grown) * 1024.0 / count(streams);
            println!("  {name}: {:.1} MB, {each:.1} KB each, {:.0} MB for 10,000", megabytes(grown), each * 10_000.0 / 1024.0);
        }
    }
}

fn count_u64(things: usize) -> u64 {
    things as u64
}

/// The soft limit of open files.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1024)
}

#[expect(clippy::cast_precision_loss, reason = "sizes of memory are far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
