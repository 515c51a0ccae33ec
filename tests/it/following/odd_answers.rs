//! A LibreChat that answers oddly, or not at all for a while, though a run is at work.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::records::StoredUsage;
use tollgate::scripted::client::ChatBody;

use super::{setup, told};
use crate::support::gateway::TestGateway;
use crate::support::wire::HandmadeLibreChat;

const USAGE: &str = r#"{"event":"on_token_usage","data":{"input_tokens":90000,"output_tokens":5000,"total_tokens":95000,"model":"lab-small","provider":"openAI","runId":"r1","seq":1}}"#;
const CREATED: &str = r#"{"created":true,"message":{"conversationId":"c1"},"streamId":"c1"}"#;
const FINAL: &str = r#"{"final":true,"conversation":{"conversationId":"c1"},"responseMessage":{"messageId":"r1","text":"hi"}}"#;
const STOPPED: &str = r#"{"final":true,"aborted":true,"conversation":{"conversationId":"c1"},"responseMessage":{"messageId":"r1","unfinished":true,"content":[{"type":"text","text":"hi"}]}}"#;

fn answer(status: u16, media: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} As it is\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn json(body: &dyn std::fmt::Display) -> String {
    answer(200, "application/json", &body.to_string())
}

fn stream(frames: &[&str]) -> String {
    answer(200, "text/event-stream", &frames.iter().map(|frame| format!("event: message\ndata: {frame}\n\n")).collect::<String>())
}

/// A LibreChat that answers each path as it is told; nothing is there otherwise.
async fn answering(answers: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> HandmadeLibreChat {
    let answers = Arc::new(answers);
    HandmadeLibreChat::start(move |request, mut wire| {
        let answers = Arc::clone(&answers);
        async move {
            let found = answers(request.target()).unwrap_or_else(|| answer(404, "application/json", "{}"));
            wire.send(found).await;
            Some(wire)
        }
    })
    .await
}

async fn gateway(librechat: &HandmadeLibreChat) -> TestGateway {
    setup().set("TOLLGATE_LIBRECHAT__UPSTREAMS", &librechat.url()).start().await
}

/// The row of a chat whose stream nobody opens.
async fn charged(gateway: &TestGateway) -> StoredUsage {
    gateway.client("ada@acme.test").start(&ChatBody::new("Hello")).await.expect("an answer");
    gateway.all_settled().await;
    gateway.usage_rows(1).await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_to_tell_is_not_the_end_of_a_run() {
    for refusal in [401, 403, 429, 500, 503] {
        let asked = AtomicUsize::new(0);
        let librechat = answering(move |path| {
            if path.starts_with("/api/agents/chat/LabAI") {
                return Some(json(&json!({"streamId": "c1", "conversationId": "c1", "generationCreatedAt": 1, "status": "started"})));
            }
            if asked.fetch_add(1, Ordering::SeqCst) < 3 {
                return Some(answer(refusal, "application/json", "{}"));
            }
            path.starts_with("/api/agents/chat/stream/").then(|| stream(&[CREATED, USAGE, FINAL]))
        })
        .await;
        let row = charged(&gateway(&librechat).await).await;
        assert_eq!(told(&row), (90_000, 5000, 1, "frames", "completed"), "after {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_start_that_is_not_understood_is_no_refusal() {
    let long = format!(r#"{{"status":"sett{}led"}}"#, " ".repeat(70_000));
    let odd = [r#"{"streamId":"c1","status":"queued"}"#, "{}", "<html>", &long].map(str::to_owned);
    let check = async |start: String| {
        let librechat = answering(move |path| match path {
            path if path.starts_with("/api/agents/chat/LabAI") => Some(json(&start)),
            "/api/agents/chat/active" => Some(json(&json!({"activeJobIds": ["c1"]}))),
            path if path.starts_with("/api/agents/chat/status/") => {
                let now = SystemClock.now().as_millisecond();
                Some(json(&json!({"active": true, "createdAt": now, "resumeState": {"userMessage": {"text": "Hello"}}})))
            }
            path if path.starts_with("/api/agents/chat/stream/") => Some(stream(&[CREATED, USAGE, FINAL])),
            _ => None,
        })
        .await;
        let row = charged(&gateway(&librechat).await).await;
        assert_eq!(told(&row), (90_000, 5000, 1, "frames", "completed"));
    };
    let [a, b, c, d] = odd;
    tokio::join!(check(a), check(b), check(c), check(d));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_is_no_whole_number_starts_all_the_same() {
    let librechat = answering(|path| match path {
        path if path.starts_with("/api/agents/chat/LabAI") => {
            Some(json(&r#"{"streamId":"c1","conversationId":"c1","generationCreatedAt":1795198786673.5,"status":"started"}"#))
        }
        path if path.starts_with("/api/agents/chat/stream/") => Some(stream(&[CREATED, USAGE, FINAL])),
        _ => None,
    })
    .await;
    let row = charged(&gateway(&librechat).await).await;
    assert_eq!(told(&row), (90_000, 5000, 1, "frames", "completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_run_is_charged_with_what_was_saved_of_it() {
    // As 0.8.2 to 0.8.7 do, the start does not say when the run began.
    let librechat = answering(|path| match path {
        path if path.starts_with("/api/agents/chat/LabAI") => Some(json(&r#"{"streamId":"c1","conversationId":"c1","status":"started"}"#)),
        path if path.starts_with("/api/agents/chat/stream/") => Some(stream(&[CREATED, STOPPED])),
        path if path.starts_with("/api/messages/") => {
            let saved = json!({
                "messageId": "r1", "parentMessageId": "u1", "isCreatedByUser": false, "unfinished": true,
                "createdAt": "2020-01-01T00:00:00Z", "updatedAt": SystemClock.now().to_string(),
                "content": [{"type": "text", "text": "hi"}], "metadata": {"usage": {"input": 7000, "output": 70}}
            });
            Some(json(&json!([{"messageId": "u1", "isCreatedByUser": true, "text": "Hello"}, saved])))
        }
        _ => None,
    })
    .await;
    let row = charged(&gateway(&librechat).await).await;
    assert_eq!(told(&row), (7000, 70, 1, "message", "aborted"));
}
