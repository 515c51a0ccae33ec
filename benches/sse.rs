//! What reading an answer's stream costs: 2,000 events of text as LibreChat sends them, event by event and in chunks of
//! a TCP segment; only parsed, read for what they mean, and read with the text counted at the end.

#![expect(clippy::expect_used, reason = "a bench that cannot go on fails")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use tollgate::generations::reader::StreamReader;
use tollgate::sse::EventReader;
use tollgate::tokens::{Encoding, TokenCounter};

/// Events of text in the stream.
const EVENTS: usize = 2_000;

/// A TCP segment on Ethernet.
const SEGMENT: usize = 1_448;

/// A stream in the shapes of LibreChat 0.8.8, one chunk an event.
fn stream() -> Vec<Vec<u8>> {
    let words = [
        "The",
        " answer",
        " to",
        " your",
        " question",
        ",",
        " as",
        " far",
        " as",
        " it",
        " is",
        " known",
        ".",
        "\\n\\n",
        " 한국어",
        " \\\"yes\\\"",
    ];
    let event = |data: &str| format!("event: message\ndata: {data}\n\n").into_bytes();
    let delta = |nth: usize| {
        let word = words[nth % words.len()];
        event(&format!(
            r#"{{"event":"on_message_delta","data":{{"id":"step_0123456789abcdefghijklmn","delta":{{"content":[{{"type":"text","text":"{word}"}}]}}}}}}"#
        ))
    };
    let created = event(r#"{"created":true,"message":{"messageId":"m1","conversationId":"c1"},"streamId":"c1"}"#);
    let step =
        event(r#"{"event":"on_run_step","data":{"id":"step_0123456789abcdefghijklmn","runId":"m2","index":0,"type":"message_creation"}}"#);
    let usage = event(
        r#"{"event":"on_token_usage","data":{"input_tokens":900,"output_tokens":2000,"total_tokens":2900,"runId":"m2","seq":1,"model":"gpt-4o"}}"#,
    );
    let last =
        event(r#"{"final":true,"conversation":{"conversationId":"c1"},"responseMessage":{"messageId":"m2","text":"","model":"gpt-4o"}}"#);
    [created, step].into_iter().chain((0..EVENTS).map(delta)).chain([usage, last]).collect()
}

fn reading(criterion: &mut Criterion) {
    let events = stream();
    let whole = events.concat();
    let segments: Vec<Vec<u8>> = whole.chunks(SEGMENT).map(<[u8]>::to_vec).collect();
    let counter = TokenCounter::load().expect("the encodings are part of the program");

    let mut group = criterion.benchmark_group("a stream of 2,000 events");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, chunks) in [("event by event", &events), ("by TCP segment", &segments)] {
        group.bench_function(format!("parsed, {name}"), |bencher| {
            bencher.iter(|| {
                let (mut reader, mut seen) = (EventReader::default(), 0);
                for chunk in chunks {
                    reader.push(black_box(chunk), &mut |event| seen += event.data.len());
                }
                seen
            });
        });
        group.bench_function(format!("read, {name}"), |bencher| {
            bencher.iter(|| {
                let mut reader = StreamReader::default();
                for chunk in chunks {
                    black_box(reader.push(black_box(chunk), Timestamp::UNIX_EPOCH));
                }
                reader.close(Timestamp::UNIX_EPOCH);
                reader
            });
        });
    }
    group.bench_function("read event by event, and its text counted at the end", |bencher| {
        bencher.iter(|| {
            let mut reader = StreamReader::default();
            for chunk in &events {
                reader.push(black_box(chunk), Timestamp::UNIX_EPOCH);
            }
            reader.close(Timestamp::UNIX_EPOCH);
            let texts = reader.seen().transcript.by_agent();
            texts.map(|(_, text)| counter.count(Encoding::O200kBase, text)).sum::<u64>()
        });
    });
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
