//! What records cost: the journal before a chat goes on, the way from there to PostgreSQL, a month's question, and memory
//! while rows wait. `docs/performance.md` says how to read it. Arguments, if any, name what to run:
//! `memory append shipping query`.

#![expect(clippy::expect_used, reason = "a bench that cannot go on fails")]

mod rows;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::clock::SystemClock;
use tollgate::db::Database;
use tollgate::records::attest::Proof;
use tollgate::records::audit_keys::{AuditFiles, AuditKeys};
use tollgate::records::journal::{self, Note};
use tollgate::records::recorder::Settings;
use tollgate::records::{RecordStore, Recorder, Rows};
use uuid::Uuid;

#[path = "../../tests/it/support/ports.rs"]
mod ports;
#[path = "../../tests/it/support/postgres.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres;

use postgres::Postgres;

/// Everything is measured so often; the best counts, since other work on the machine can only make it worse.
const ROUNDS: usize = 3;

/// Chat starts a second, and for how long.
const STARTS_PER_SECOND: u32 = 500;
const STARTS: u32 = 5_000;

/// Rows that are shipped in one round.
const SHIPPED: u64 = 100_000;

/// Rows that the month's question is asked over, and how many wait when memory is looked at last.
const MANY: u64 = 5_000_000;

/// As PostgreSQL is when nobody sets anything: it waits for the disk.
const AS_INSTALLED: &[&str] = &[];

/// Where no database answers.
const NOWHERE: &str = "postgres://postgres@127.0.0.1:1/nowhere";

/// One thing that is measured.
type Part = fn(&tokio::runtime::Runtime);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let parts: [(&str, Part); 4] = [
        // First, while this process holds nothing else.
        ("memory", |runtime| runtime.block_on(memory())),
        ("append", |runtime| runtime.block_on(append())),
        ("shipping", |runtime| runtime.block_on(shipping())),
        ("query", |_| query()),
    ];
    for (_, run) in parts.into_iter().filter(|(part, _)| wanted(part)) {
        run(&runtime);
    }
}

async fn open(folder: &Path, url: &str, sync: bool) -> Recorder {
    let database = Database::open(url).expect("an address of a database");
    let store: Arc<dyn RecordStore> = database.records();
    let journal = journal::Settings { file: folder.join("journal.db"), or_next: false, max_bytes: 64 << 30, sync };
    // Audit rows are sealed and linked, as everywhere.
    let files = AuditFiles {
        key_file: folder.join("audit.key"),
        signing_key_file: folder.join("audit.pem"),
        checkpoint_file: folder.join("checkpoints.jsonl"),
    };
    let proof = Proof {
        keys: AuditKeys::read_or_make(&files).expect("new keys"),
        members: database.member_keys(),
        checkpoint_file: files.checkpoint_file,
        clock: Arc::new(SystemClock),
    };
    let settings = Settings { proof: Some(proof), ..Settings::with(journal) };
    Recorder::open(store, settings, &tokio::runtime::Handle::current()).await.expect("a journal").0
}

/// What standing in the journal adds to a chat start, while other chats begin and end.
async fn append() {
    for (sync, what) in [(true, "journal_sync = full"), (false, "journal_sync = normal")] {
        let mut best: Option<Vec<Duration>> = None;
        for _ in 0..ROUNDS {
            let folder = tempfile::tempdir().expect("a folder");
            let recorder = open(folder.path(), NOWHERE, sync).await;
            let mut took = starts(&recorder).await;
            took.sort_unstable();
            recorder.close(Duration::ZERO).await;
            if best.as_ref().is_none_or(|best| percentile(&took, 99) < percentile(best, 99)) {
                best = Some(took);
            }
        }
        let best = best.expect("there was a round");
        let [half, most] = [50, 99].map(|percent| percentile(&best, percent).as_secs_f64() * 1000.0);
        println!("append, {STARTS_PER_SECOND} starts/s, {what}: p50 {half:.2} ms, p99 {most:.2} ms");
    }
}

/// Chats start at an even rate, and each of them goes on and is settled.
async fn starts(recorder: &Recorder) -> Vec<Duration> {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let per_tick = STARTS_PER_SECOND / 500;
    let mut chats = Vec::new();
    for number in 0..STARTS / per_tick {
        ticks.tick().await;
        for _ in 0..per_tick {
            let recorder = recorder.clone();
            chats.push(tokio::spawn(async move {
                let id = Uuid::now_v7();
                let arrived = Instant::now();
                recorder.start(id, rows::start_record(id)).await.expect("room");
                let took = arrived.elapsed();
                recorder.note(id, Note::Forwarded, String::new()).await;
                recorder.note(id, Note::Running, rows::start_record(id)).await;
                recorder.settle(id, rows::of_a_chat(u64::from(number)), "{}".to_owned()).await.expect("room");
                recorder.note(id, Note::Counted, String::new()).await;
                took
            }));
        }
    }
    futures_util::future::join_all(chats).await.into_iter().map(|took| took.expect("a chat")).collect()
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// Rows that wait in a journal are shipped to PostgreSQL, as fast as that goes.
async fn shipping() {
    let server = Postgres::start_set(AS_INSTALLED);
    for (what, chats) in [("usage rows", false), ("rows as chats leave them", true)] {
        let mut best: f64 = 0.0;
        let mut cost = String::new();
        for round in 0..ROUNDS {
            let url = server.database();
            let database = Database::open(&url).expect("an address of a database");
            database.migrate().await.expect("an empty database");
            let folder = tempfile::tempdir().expect("a folder");
            let recorder = open(folder.path(), NOWHERE, false).await;
            fill(&recorder, SHIPPED, if chats { |number| rows::of_a_chat(number) } else { |number| rows::usage_only(number) }).await;
            let left = recorder.close(Duration::ZERO).await;
            let (cpu, theirs, started) = (cpu_of("self"), cpu_of_server(&server), Instant::now());
            let recorder = open(folder.path(), &url, true).await;
            recorder.shipped().await.expect("PostgreSQL takes them");
            let rate = count(left) / started.elapsed().as_secs_f64();
            let per = |nanos: u64| count(nanos) / 1000.0 / count(left);
            if rate > best {
                best = rate;
                let theirs = cpu_of_server(&server).saturating_sub(theirs);
                cost = format!("{:.1} µs of CPU a row here, {:.1} in PostgreSQL", per(cpu_of("self") - cpu), per(theirs));
            }
            recorder.close(Duration::from_secs(5)).await;
            database.close().await;
            println!("shipping {left} {what}, round {}: {rate:.0} rows/s", round + 1);
        }
        println!("shipping {what}: {best:.0} rows/s; {cost}");
    }
}

/// Puts so many rows into the journal.
async fn fill(recorder: &Recorder, wanted: u64, rows: fn(u64) -> Rows) {
    // Of a database that has not been asked yet nothing is lost by many settling at once.
    let before = recorder.health().journal.rows;
    let mut number = before;
    while recorder.health().journal.rows < wanted {
        let chats = (number..number + 256).map(|number| recorder.settle(Uuid::now_v7(), rows(number), "{}".to_owned()));
        for settled in futures_util::future::join_all(chats).await {
            settled.expect("room");
        }
        number += 256;
    }
}

/// Resident memory while more and more rows wait.
async fn memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let recorder = open(folder.path(), NOWHERE, false).await;
    for waiting in [10_000, MANY / 10, MANY / 5, MANY / 2, MANY] {
        fill(&recorder, waiting, rows::usage_only).await;
        let health = recorder.health().journal;
        println!("memory, {} rows wait in {:.0} MB of journal: {:.1} MB resident", health.rows, megabytes(health.bytes), resident());
    }
    recorder.close(Duration::ZERO).await;
}

/// One org's last 30 days by day, over many rows of many orgs.
fn query() {
    let server = Postgres::start_set(&["fsync=off", "synchronous_commit=off", "max_wal_size=8GB"]);
    let url = server.database();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _within = runtime.enter();
    let database = Database::open(&url).expect("an address of a database");
    runtime.block_on(database.migrate()).expect("an empty database");
    let started = Instant::now();
    for statements in rows::many(MANY) {
        server.sql(&url, &statements).expect("rows are made");
    }
    println!("query: {MANY} usage rows were made in {:.0} s", started.elapsed().as_secs_f64());
    let best = (0..ROUNDS + 2).map(|_| milliseconds_of(&server, &url)).fold(f64::INFINITY, f64::min);
    let lines = server.sql(&url, "SELECT COUNT(*) FROM usage_daily").expect("a count");
    println!("query, one org's last 30 days by day over {lines} lines of usage_daily: {best:.1} ms");
}

/// How long PostgreSQL says that the question took.
fn milliseconds_of(server: &Postgres, url: &str) -> f64 {
    let plan = server.sql(url, &format!("EXPLAIN (ANALYZE, SUMMARY) {}", rows::LAST_30_DAYS)).expect("a plan");
    let line = plan.lines().find_map(|line| line.trim().strip_prefix("Execution Time: ")).expect("PostgreSQL says how long it took");
    line.trim_end_matches(" ms").parse().expect("a number of milliseconds")
}

/// The CPU time of a process so far, in nanoseconds.
fn cpu_of(process: &str) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let nanos = |thread: std::fs::DirEntry| {
        let times = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        times.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.filter_map(nanos).sum()
}

/// The same of the processes of PostgreSQL that serve now.
fn cpu_of_server(server: &Postgres) -> u64 {
    server.children().iter().map(|process| cpu_of(process)).sum()
}

/// This process's resident memory, in MB.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a status names the resident size");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("sizes are numbers") / 1024.0
}

fn megabytes(bytes: u64) -> f64 {
    count(bytes) / 1024.0 / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
fn count(things: u64) -> f64 {
    things as f64
}
