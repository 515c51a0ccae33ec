//! Gathers what was measured and prints it as tables that can stand in `docs/performance.md`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::count;

/// CPU time of one request or event, in microseconds.
#[derive(Debug, Default, Clone)]
pub struct Cost {
    all: f64,
    by_thread: BTreeMap<String, f64>,
}

impl Cost {
    /// The nanoseconds that threads used for so many requests.
    pub fn new(nanos: &BTreeMap<String, u64>, requests: usize) -> Self {
        let each = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6 / count(requests);
        let by_thread: BTreeMap<String, f64> = nanos.iter().map(|(name, nanos)| (name.clone(), each(*nanos))).collect();
        Self { all: by_thread.values().sum(), by_thread }
    }
}

/// By what was asked and who was asked, in the order of the first measurement.
type Table<T> = Vec<((&'static str, &'static str), Vec<T>)>;

/// Everything measured.
#[derive(Debug)]
pub struct Report {
    costs: Table<Cost>,
    rates: BTreeMap<&'static str, f64>,
    latencies: Table<Vec<Duration>>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(pinned: bool) -> Self {
        if pinned {
            println!("Proxies with one worker thread on one core; clients, upstream, Redis and PostgreSQL on another.");
        } else {
            println!("Nothing is pinned to a core (`taskset` or a second core is missing): read the ratios with care.");
        }
        Self { costs: Vec::new(), rates: BTreeMap::new(), latencies: Vec::new() }
    }

    /// Adds a round's CPU time.
    pub fn cost(&mut self, what: &'static str, who: &'static str, cost: Cost) {
        add(&mut self.costs, what, who, cost);
    }

    /// Adds how many requests a second were answered.
    pub fn rate(&mut self, what: &'static str, rate: f64) {
        let slowest = self.rates.entry(what).or_insert(rate);
        *slowest = slowest.min(rate);
    }

    /// How many requests a second the slowest answered.
    pub fn slowest(&self, what: &str) -> f64 {
        self.rates.get(what).copied().unwrap_or(1_000.0)
    }

    /// Adds a round's latencies.
    pub fn latency(&mut self, what: &'static str, who: &'static str, took: Vec<Duration>) {
        add(&mut self.latencies, what, who, took);
    }

    /// The rounds' CPU times, the least first. Whoever else uses the machine can only add to them.
    fn rounds(&self, what: &str, who: &str) -> Vec<&Cost> {
        let found = self.costs.iter().find(|((asked, by), _)| *asked == what && *by == who);
        let mut rounds: Vec<&Cost> = found.map(|(_, rounds)| rounds.iter().collect()).unwrap_or_default();
        rounds.sort_by(|one, other| one.all.total_cmp(&other.all));
        rounds
    }

    fn print_cost(&self, what: &str) {
        let bare = self.rounds(what, "bare Pingora").first().map_or(f64::NAN, |cost| cost.all);
        for ((asked, who), _) in &self.costs {
            let rounds = self.rounds(what, who);
            let Some(cost) = rounds.first().filter(|cost| *asked == what && cost.all > 0.0) else { continue };
            let median = rounds[rounds.len() / 2].all;
            let threads: Vec<String> =
                cost.by_thread.iter().filter(|(_, micros)| **micros > 0.05).map(|(name, micros)| format!("{name} {micros:.1}")).collect();
            let threads = threads.join(", ");
            println!("| {what} | {who} | {:.2} | {median:.2} | {:.2} | {:+.2} | {threads} |", cost.all, cost.all / bare, cost.all - bare);
        }
    }

    /// The table of CPU time per request.
    pub fn print_costs(&self) {
        println!("\nCPU time of the proxy per request, {} clients:\n", super::CLIENTS);
        println!("| request | through | µs, least | median | × bare | over bare | by thread |\n|---|---|---|---|---|---|---|");
        for what in ["asset", "authenticated GET", "chat start", "its stream and settling"] {
            self.print_cost(what);
        }
    }

    /// The table of latencies of one kind of request.
    pub fn print_latencies(&self, what: &str, rate: f64) {
        println!("\nLatency of {what} at {rate:.0} a second (medians of the rounds):\n");
        self.print_delays(what);
    }

    fn print_delays(&self, what: &str) {
        println!("| {what} | p50 ms | p99 ms | added p50 | added p99 |\n|---|---|---|---|---|");
        let mut direct = None;
        for ((asked, who), rounds) in &self.latencies {
            if *asked != what {
                continue;
            }
            let [p50, p99] = [50, 99].map(|percent| {
                let mut rounds: Vec<f64> = rounds.iter().map(|round| percentile(round, percent)).collect();
                rounds.sort_by(f64::total_cmp);
                rounds[rounds.len() / 2]
            });
            let (from50, from99) = *direct.get_or_insert((p50, p99));
            println!("| {who} | {p50:.3} | {p99:.3} | {:+.3} | {:+.3} |", p50 - from50, p99 - from99);
        }
    }

    /// The tables of streams: CPU time per event, and how late events are.
    pub fn print_streams(&self, costs: &[&str], delays: &[&str]) {
        println!("\nCPU time of the proxy per event of a stream:\n");
        println!("| stream | through | µs, least | median | × bare | over bare | by thread |\n|---|---|---|---|---|---|---|");
        for what in costs {
            self.print_cost(what);
        }
        for what in delays {
            println!("\nFrom LibreChat's write to the client's read:\n");
            self.print_delays(what);
        }
    }
}

fn add<T>(table: &mut Table<T>, what: &'static str, who: &'static str, value: T) {
    if let Some((_, rounds)) = table.iter_mut().find(|(key, _)| *key == (what, who)) {
        rounds.push(value);
    } else {
        table.push(((what, who), vec![value]));
    }
}

/// A percentile, in milliseconds; 0 of nothing.
fn percentile(durations: &[Duration], percent: usize) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or(0.0, |duration| duration.as_secs_f64() * 1e3)
}
