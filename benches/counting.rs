//! What counting costs: ordinary messages as they come (text never seen before, and text much of which was), and a
//! megabyte of everything that is hard. `docs/decisions/0001-token-counting.md` holds a run's results.
//!
//! The tokenizer remembers pieces that it merged, so timing one text again and again would time its memory. Where it says
//! "new", that memory is emptied before every round by counting enough other text, outside the time taken.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tollgate::tokens::{Encoding, TokenCounter};

#[path = "../src/tokens/hard_texts.rs"]
mod hard_texts;

const ORDINARY: &[(&str, &str)] = &[
    ("English", include_str!("texts/english.txt")),
    ("Korean", include_str!("texts/korean.txt")),
    ("Chinese", include_str!("texts/chinese.txt")),
    ("Rust", include_str!("../src/prices/loader.rs")),
    ("JSON", include_str!("texts/request.json")),
];

const ENCODINGS: [Encoding; 2] = [Encoding::O200kBase, Encoding::Cl100kBase];

fn ordinary(criterion: &mut Criterion) {
    let counter = load();
    for encoding in ENCODINGS {
        let mut group = criterion.benchmark_group(format!("ordinary/{}", encoding.as_str()));
        group.warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(20);
        for (name, text) in ORDINARY {
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_with_input(BenchmarkId::new("seen", name), text, |bencher, text| {
                bencher.iter(|| counter.count(encoding, black_box(text)));
            });
            group.sampling_mode(SamplingMode::Flat);
            group.bench_with_input(BenchmarkId::new("new", name), text, |bencher, text| {
                let others: Vec<&str> = ORDINARY.iter().filter(|(other, _)| other != name).map(|&(_, other)| other).collect();
                bencher.iter_custom(|rounds| time_new(&counter, encoding, text, &others, rounds));
            });
        }
    }
}

fn hard(criterion: &mut Criterion) {
    let counter = load();
    for encoding in ENCODINGS {
        let mut group = criterion.benchmark_group(format!("hard megabyte/{}", encoding.as_str()));
        group.warm_up_time(Duration::from_millis(10)).measurement_time(Duration::from_secs(1)).sample_size(10);
        group.sampling_mode(SamplingMode::Flat);
        for (name, make) in hard_texts::HARD_TEXTS {
            let text = make(1_000_000);
            group.bench_with_input(BenchmarkId::new("new", name), &text, |bencher, text| {
                bencher.iter_custom(|rounds| time_new(&counter, encoding, text, &[], rounds));
            });
        }
    }
}

/// Counts a text that the tokenizer remembers nothing of, after some `others` that bring its tables back into the
/// processor's caches.
fn time_new(counter: &TokenCounter, encoding: Encoding, text: &str, others: &[&str], rounds: u64) -> Duration {
    let enough_to_forget = "\n".repeat(8 << 20);
    let mut taken = Duration::ZERO;
    for _ in 0..rounds {
        counter.count(encoding, &enough_to_forget);
        for other in others {
            counter.count(encoding, other);
        }
        let start = Instant::now();
        black_box(counter.count(encoding, black_box(text)));
        taken += start.elapsed();
    }
    taken
}

fn load() -> TokenCounter {
    match TokenCounter::load() {
        Ok(counter) => counter,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1)
        }
    }
}

criterion_group!(benches, ordinary, hard);
criterion_main!(benches);
