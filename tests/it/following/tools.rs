//! Tools that running answers call are seen on every wire, and counted once.

use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tollgate::generations::reader::StreamReader;
use tollgate::generations::{Observation, Start, ToolRules, tool_calls};
use tollgate::scripted::Wire;
use tollgate::scripted::client::ChatBody;

use super::{setup, setup_on};
use crate::support::gateway::{TestGateway, value_of};
use crate::support::recorded::load;

fn start() -> Start {
    serde_json::from_value(serde_json::json!({
        "id": "019ac000-0000-7000-8000-000000000001", "org": "acme", "member": "m", "member_name": null, "role": "user",
        "admitted_at": "2026-11-01T12:04:00Z", "org_day": "2026-11-01", "org_month": "2026-11", "request_id": "r",
        "address": "", "user_agent": "", "endpoint": "openAI", "model": null, "added_model": null, "agent_id": null,
        "conversation_id": null, "created_at": null, "input_estimate": 0, "room": 0, "models": 1, "buckets": [],
    }))
    .expect("a start")
}

/// Tool, server, milliseconds, outcome and error.
type Shown = (String, Option<String>, Option<u64>, &'static str, Option<String>);

fn shown(seen: &Observation) -> Vec<Shown> {
    let calls = tool_calls(&start(), seen).into_iter();
    calls.map(|call| (call.tool, call.mcp_server, call.duration_ms, call.outcome.as_str(), call.error)).collect()
}

#[test]
fn the_recorded_calls_are_seen_from_wherever_one_begins_to_listen() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recordings");
    let pieces = load(&folder).expect("recordings")["S11-tools-stream"].pieces();
    let rules = Arc::new(ToolRules::new(&["^Nobody knows".to_owned()]).expect("good patterns"));
    let watch = |from: usize| {
        let mut reader = StreamReader::new(rules.clone());
        for (at, piece) in pieces.iter().enumerate().skip(from) {
            reader.push(piece.as_bytes(), Timestamp::UNIX_EPOCH + SignedDuration::from_millis(20 * i64::try_from(at).expect("few pieces")));
        }
        reader.seen().clone()
    };
    let whole = watch(0);
    let search = |duration, outcome, error: Option<&str>| ("web_search".to_owned(), None, duration, outcome, error.map(str::to_owned));
    let error = "Error: 403, password=*** Please fix your mistakes.".to_owned();
    let expected = [
        // Two calls of one step: LibreChat says when the step ended, and frames when each call did.
        search(Some(100), "success", None),
        search(Some(250), "failure", Some("Nobody knows.")),
        ("find_owner".to_owned(), Some("land-registry".to_owned()), Some(40), "failure", Some(error)),
    ];
    assert_eq!(shown(&whole), expected);
    for from in 0..pieces.len() {
        let late = watch(from);
        let names = |seen: &Observation| shown(seen).into_iter().map(|call| (call.0, call.1, call.3)).collect::<Vec<_>>();
        assert_eq!(names(&late), names(&whole), "whoever sees the end knows every call, from piece {from}");
        let (mut one, mut other) = (whole.clone(), late.clone());
        one.merge(&late);
        other.merge(&whole);
        assert_eq!((&shown(&one)[..], one == other), (&expected[..], true), "a late listener adds nothing, from piece {from}");
    }
    let json = serde_json::to_string(&whole.tools).expect("serialisable");
    for secret in ["thyme", "small mountain", "query"] {
        assert!(!json.contains(secret), "{secret} is kept: {json}");
    }
}

async fn counted(gateway: &TestGateway) -> [String; 3] {
    gateway.all_settled().await;
    let metrics = gateway.metrics().await;
    ["success", "failure", "unknown"]
        .map(|outcome| value_of(&metrics, &format!("tollgate_tool_calls_total{{outcome=\"{outcome}\"}}")).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_are_counted_by_how_they_ended() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    for text in ["[[tools=2 tokens=2]]", "[[tools=1 tool=find_mcp_library tool_fails tokens=2]]", "[[tools=1 tool_hangs tokens=2]]"] {
        client.chat(text).await.expect("an answer");
    }
    assert_eq!(counted(&gateway).await, ["2", "1", "1"]);
    let body = ChatBody::new("[[tools=1 tool_fails tokens=2]]").with("assistant_id", "asst_1");
    client.post("/api/assistants/v2/chat", body.json()).await.expect("an answer");
    assert_eq!(counted(&gateway).await, ["2", "2", "1"], "an assistant's tools too");
    let app = &gateway.running.app;
    let rows = app.records.tool_rows(10).await.expect("readable rows");
    let mut outcomes: Vec<_> = rows.iter().map(|row| row.outcome.as_str()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["failure", "failure", "success", "success", "unknown"], "what is counted is written down: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_on_the_direct_wire_are_counted() {
    let gateway = setup_on(Wire::Direct).start().await;
    gateway.client("ada@acme.test").chat("[[tools=2 tool_fails tokens=2]]").await.expect("an answer");
    assert_eq!(counted(&gateway).await, ["0", "2", "0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_an_answer_that_nobody_watched_are_counted_from_what_was_saved() {
    let gateway = setup().start().await;
    gateway.client("ada@acme.test").start(&ChatBody::new("[[tools=1 tool_fails tokens=2]]")).await.expect("an answer");
    assert_eq!(counted(&gateway).await, ["0", "1", "0"]);
}
