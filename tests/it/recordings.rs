//! Every recorded chat passes through the gateway byte for byte, and is charged what stands in the tables here.
//!
//! Prompts, provider usage, sources and statuses in the tables are worked out from the recordings by hand; how many tokens a
//! text has was taken from our own counter, which property tests hold against tiktoken's. A prompt is, in order of trust, `input_tokens` of
//! `on_token_usage`, `prePruneContextTokens + instructionTokens` of the last `on_context_usage`, or the larger of
//! `promptTokens` and the tokens of the text that was sent. An answer is `output_tokens`, or the tokens of the text that
//! came back. Tokens of texts are those of `o200k_base`.

use std::collections::HashMap;
use std::path::Path;
use tollgate::scripted::client::plain_http;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tollgate::clock::ManualClock;
use tollgate::scripted::Options;

use crate::support::gateway::{Setup, TestGateway};
use crate::support::recorded::{Recording, Repeater, load, shared_folder};

/// What becomes of a recorded chat.
struct Chat {
    /// The recording of its start.
    start: &'static str,
    /// The streams that the client opens, one after the other.
    streams: &'static [&'static str],
    charged: Charged,
}

/// What stands in its usage rows.
enum Charged {
    /// Nothing: no generation came of it.
    Nothing,
    /// Rows of different sources.
    Mixed(&'static str, &'static [(&'static str, u64, u64, u32, &'static str)]),
    /// Source, status, and for each model its name, input, output and messages.
    Rows(&'static str, &'static str, &'static [(&'static str, u64, u64, u32)]),
}

use Charged::{Mixed, Nothing, Rows};

const fn chat(start: &'static str, streams: &'static [&'static str], charged: Charged) -> Chat {
    Chat { start, streams, charged }
}

/// LibreChat 0.8.8-rc1: the answer comes on a stream of its own.
const DETACHED: &[Chat] = &[
    // No usage frames: LibreChat's count of the prompt, and the words that came back.
    chat("A28-chat-new-start", &["A29-chat-new-stream"], Rows("context", "completed", &[("lab-small", 14, 28, 1)])),
    chat("A31-chat-followup-start", &["A32-chat-followup-stream"], Rows("context", "completed", &[("lab-small", 28, 24, 1)])),
    chat("A33-chat-followup2-start", &["A34-chat-followup2-stream"], Rows("context", "completed", &[("lab-small", 67, 19, 1)])),
    chat("A35-chat-regenerate-start", &["A36-chat-regenerate-stream"], Rows("context", "completed", &[("lab-small", 11, 19, 1)])),
    chat("A37-chat-edit-resubmit-start", &["A38-chat-edit-resubmit-stream"], Rows("context", "completed", &[("lab-small", 30, 15, 1)])),
    chat("A43-chat-openai-start", &["A44-chat-openai-stream"], Rows("frames", "completed", &[("gpt-4o-mini", 23, 9, 1)])),
    chat("A45-chat-agents-endpoint-start", &["A46-chat-agents-endpoint-stream"], Rows("context", "completed", &[("lab-small", 14, 11, 1)])),
    // Four thoughts and five words.
    chat("A47-chat-reasoning-start", &["A48-chat-reasoning-stream"], Rows("context", "completed", &[("lab-small", 13, 19, 1)])),
    chat("B01-regen-base-start", &["B02-regen-base-stream"], Rows("context", "completed", &[("lab-small", 10, 11, 1)])),
    chat("B05-regenerate-proper-start", &["B06-regenerate-proper-stream"], Rows("context", "completed", &[("lab-small", 24, 11, 1)])),
    // Stopped after 28 words of 200.
    chat("B09-abort-start", &["B12-abort-stream"], Rows("context", "aborted", &[("lab-small", 16, 67, 1)])),
    // Cut after 29 words of 60, and taken up again after 39: all 60.
    chat("B16-disc-start", &["B17-disc-stream", "B18-disc-resume"], Rows("context", "completed", &[("lab-small", 14, 144, 1)])),
    // Silent after the prompt until the client left, and nothing was saved: the prompt, and no word.
    chat("B37-prov-429-start", &["B38-prov-429-stream"], Rows("context", "lost", &[("lab-small", 10, 0, 1)])),
    // The provider died after six words.
    chat("B43-prov-die-start", &["B44-prov-die-stream"], Rows("context", "failed", &[("lab-small", 13, 15, 1)])),
    chat(
        "B59-multi-convo-start",
        &["B60-multi-convo-stream"],
        Rows("context", "completed", &[("lab-large", 11, 9, 1), ("lab-small", 11, 9, 0)]),
    ),
    chat("C01-limit-ok1-start", &["C02-limit-ok1-stream"], Rows("context", "completed", &[("lab-small", 8, 7, 1)])),
    // Nobody opened its stream; LibreChat had saved nine words when it was stopped.
    chat("C03-concurrent-first", &[], Rows("counted", "aborted", &[("lab-small", 9, 21, 1)])),
    chat("C04-concurrent-second-denied", &[], Nothing),
    // Refused on a stream that says `created` first: the message is given back.
    chat("C05-limit-ok3-start", &[], Rows("counted", "failed", &[("lab-small", 0, 0, 0)])),
    chat("C06-message-limit-denied-new", &[], Rows("counted", "failed", &[("lab-small", 0, 0, 0)])),
    chat("C07-message-limit-denied-existing", &[], Rows("counted", "failed", &[("lab-small", 0, 0, 0)])),
    chat("E03-balance-chat1-start", &["E04-balance-chat1-stream"], Rows("frames", "completed", &[("lab-small", 15, 40, 1)])),
    chat("E06-balance-chat2-start", &["E07-balance-chat2-stream"], Rows("frames", "completed", &[("lab-small", 390, 60, 1)])),
    // The balance did not last: an error before anything was spent.
    chat("E09-balance-exceeded-start", &["E10-balance-exceeded-stream"], Rows("counted", "failed", &[("lab-small", 0, 0, 0)])),
    chat(
        "E11-balance-exceeded-existing-start",
        &["E12-balance-exceeded-existing-stream"],
        Rows("counted", "failed", &[("lab-small", 0, 0, 0)]),
    ),
    chat("F07-banned-user", &[], Rows("counted", "failed", &[("lab-small", 0, 0, 0)])),
];

/// LibreChat 0.8.1: the answer of the start is the stream.
const DIRECT: &[Chat] = &[
    chat("H05-chat-new", &[], Rows("counted", "completed", &[("lab-small", 15, 28, 1)])),
    chat("H07-chat-followup", &[], Rows("counted", "completed", &[("lab-small", 57, 15, 1)])),
    chat("H08-chat-openai", &[], Rows("counted", "completed", &[("gpt-4o-mini", 15, 15, 1)])),
    // The client closed after 39 words of 200.
    chat("H09-chat-client-abort", &[], Rows("counted", "aborted", &[("lab-small", 11, 93, 1)])),
    // The provider refused before anything was spent.
    chat("H10-prov-401", &[], Rows("counted", "failed", &[("lab-small", 0, 0, 0)])),
    // An error without `created` is no generation at all.
    chat("H11-bad-model", &[], Nothing),
    chat("H12-slow-first", &[], Rows("counted", "completed", &[("lab-small", 17, 4, 1)])),
];

/// A smaller set, made by hand, that is always there.
const OUR_OWN: &[Chat] = &[
    chat("S01-usage-start", &["S02-usage-stream"], Rows("frames", "completed", &[("gpt-4o-mini", 640, 6, 1)])),
    chat("S03-stopped-start", &["S04-stopped-stream"], Rows("context", "aborted", &[("our-small", 60, 4, 1)])),
    // Only one of the two providers gave usage.
    chat(
        "S05-two-models-start",
        &["S06-two-models-stream"],
        Mixed("completed", &[("gpt-4o-mini", 14, 4, 1, "frames"), ("our-small", 9, 5, 0, "context")]),
    ),
    chat("S07-no-balance-start", &["S08-no-balance-stream"], Rows("counted", "failed", &[("our-small", 0, 0, 0)])),
    chat("S09-concurrent-refused", &[], Nothing),
    // Three tools, one of them failing, between three model calls.
    chat("S10-tools-start", &["S11-tools-stream"], Rows("frames", "completed", &[("gpt-4o-mini", 310, 30, 1)])),
    chat("D01-direct", &[], Rows("counted", "completed", &[("our-small", 23, 5, 1)])),
    chat("D02-direct-closed", &[], Rows("counted", "aborted", &[("our-small", 3, 7, 1)])),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_recordings() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
    assert!(folder.is_dir(), "they belong to the tests");
    replay(&folder, "recorded-by-hand-recorded-by-hand-recorded-by-hand", OUR_OWN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_chats_with_a_stream_of_their_own() {
    const SECRET: &str = "16f8c0ef4a5d391b26034086c628469d3f9f497f08163ab9b40137092f2909ef";
    replay(&shared_folder("librechat-0.8.8-rc1"), SECRET, DETACHED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_chats_whose_start_is_the_stream() {
    const SECRET: &str = "16f8c0ef4a5d391b26034086c628469d3f9f497f08163ab9b40137092f2909ef";
    replay(&shared_folder("librechat-0.8.1"), SECRET, DIRECT).await;
}

/// Plays chats through a gateway in front of what was recorded, each at the time of its recording.
async fn replay(folder: &Path, secret: &str, chats: &[Chat]) {
    let Some(recordings) = load(folder) else {
        eprintln!("skipped: there are no recordings in {}", folder.display());
        return;
    };
    let librechat = Repeater::start(&recordings).await;
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
    let setup = Setup {
        librechat: Options { jwt_secret: secret.to_owned(), ..Options::default() },
        clock: clock.clone(),
        upstream: librechat.url.clone(),
        ..Setup::with(
            "[generations]\nfollow_after_ms = 50\n[[limits]]\napplies_to = \"member\"\ntokens_per_month = 1_000_000\nmessages_per_month = 1_000",
        )
    };
    let gateway = setup.start().await;
    let mut seen = 0;
    let mut used = HashMap::<String, (u64, u64)>::new();
    let mut wrong = Vec::new();
    for chat in chats {
        let start = &recordings[chat.start];
        clock.set(start.at);
        assert_eq!(play(&gateway, start).await, start.text(), "{}: the answer to the start is not what LibreChat said", chat.start);
        for stream in chat.streams {
            let stream = &recordings[*stream];
            assert_eq!(play(&gateway, stream).await, stream.text(), "{}: the stream is not what LibreChat said", stream.name);
        }
        gateway.all_settled().await;
        let rows = gateway.running.app.records.usage_rows(1_000).await.expect("readable rows");
        let new = &rows[..rows.len() - seen];
        seen = rows.len();
        wrong.extend(difference(chat, new));
        let (member, tokens, messages) = on_counters(&gateway, start).await;
        let used = used.entry(member).or_default();
        used.0 += new.iter().map(|row| row.total_tokens).sum::<u64>();
        used.1 += new.iter().map(|row| u64::from(row.messages)).sum::<u64>();
        assert_eq!((tokens, messages), *used, "{}: the counters say something else than the rows", chat.start);
    }
    assert!(wrong.is_empty(), "model, input, output, messages, source and status:\n{}", wrong.join("\n"));
}

/// How the rows differ from what is expected, if they do.
fn difference(chat: &Chat, rows: &[tollgate::records::StoredUsage]) -> Option<String> {
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| (row.model.as_str(), row.input_tokens, row.output_tokens, row.messages, row.usage_source.as_str(), row.status.as_str()))
        .collect();
    found.sort_unstable();
    let expected: Vec<_> = match &chat.charged {
        Nothing => Vec::new(),
        Rows(source, status, rows) => {
            rows.iter().map(|(model, input, output, count)| (*model, *input, *output, *count, *source, *status)).collect()
        }
        Mixed(status, rows) => {
            rows.iter().map(|(model, input, output, count, source)| (*model, *input, *output, *count, *source, *status)).collect()
        }
    };
    (found != expected).then(|| format!("{}: found {found:?}, expected {expected:?}", chat.start))
}

/// Sends a recorded request as it was, and reads as much of its answer as was recorded.
async fn play(gateway: &TestGateway, recording: &Recording) -> String {
    let request = &recording.request;
    let method = request.method.parse().expect("a method");
    let mut call = plain_http().request(method, format!("{}{}", gateway.url(), request.path)).headers(recorded_headers(recording));
    if let Some(body) = &request.body {
        call = call.body(body.clone());
    }
    let mut response = call.send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), recording.response.status, "{}", recording.name);
    let (whole, mut text) = (recording.text(), Vec::new());
    while recording.is_whole() || text.len() < whole.len() {
        let Some(chunk) = response.chunk().await.expect("an answer without a break") else { break };
        text.extend_from_slice(&chunk);
    }
    // Whoever left in the recording leaves here too.
    String::from_utf8(text).expect("text")
}

fn recorded_headers(recording: &Recording) -> HeaderMap {
    const OF_THE_CONNECTION: [&str; 4] = ["host", "connection", "content-length", "accept-encoding"];
    let headers = recording.request.headers.iter().filter(|(name, _)| !OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()));
    let header = |(name, value): (&String, &Value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (HeaderName::try_from(name).expect("a name"), HeaderValue::try_from(value).expect("a value"))
    };
    headers.map(header).collect()
}

/// What the person's counters hold: who they are, tokens and messages. Nothing may be held any more.
async fn on_counters(gateway: &TestGateway, recording: &Recording) -> (String, u64, u64) {
    let call = plain_http().get(format!("{}/_tollgate/me", gateway.url())).headers(recorded_headers(recording));
    let me: Value = call.send().await.expect("an answer").json().await.expect("JSON");
    let level = |resource: &str| {
        let limits = me["limits"].as_array().expect("limits");
        let limit = limits.iter().find(|limit| limit["resource"] == resource).expect("the limit");
        assert_eq!(limit["held"], 0, "{}: something is still held: {me}", recording.name);
        limit["used"].as_u64().expect("a number")
    };
    (me["user"].as_str().expect("a user").to_owned(), level("tokens"), level("messages"))
}
