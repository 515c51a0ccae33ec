//! The scripted LibreChat against its own client, and against recordings of a real one.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

mod faults;
mod sides;

use super::client::{ChatBody, ChatClient, Exchange};
use super::*;

async fn start(wire: Wire) -> ScriptedLibreChat {
    ScriptedLibreChat::start(Options { wire, linger: Duration::from_secs(5), ..Options::default() }).await.unwrap()
}

fn client(server: &ScriptedLibreChat, email: &str) -> ChatClient {
    ChatClient::new(&server.url(), &server.token(email))
}

fn kinds(exchange: &Exchange) -> Vec<&str> {
    let mut kinds = exchange.frames.iter().map(client::Frame::kind).collect::<Vec<_>>();
    kinds.dedup();
    kinds
}

#[tokio::test]
async fn a_chat_of_0_8_8_is_a_start_and_a_stream() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "alice@lab.test");
    let chat = alice.chat("hello [[tokens=3 context=120 out=57 in=100 cached=64 reasoning=2]]").await.unwrap();
    let started = chat.start.json();
    assert_eq!((started["status"].as_str(), started["generationProtocolVersion"].as_u64()), (Some("started"), Some(2)));
    assert_eq!(chat.start.headers["x-librechat-generation-protocol"], "2");
    let order = [
        "created",
        "on_context_usage",
        "on_run_step",
        "on_reasoning_delta",
        "title",
        "on_reasoning_delta",
        "on_run_step_closed",
        "on_run_step",
        "on_message_delta",
        "on_token_usage",
        "on_run_step_closed",
        "final",
    ];
    assert_eq!(kinds(&chat), order);
    assert_eq!(chat.text(), "alpha0 bravo1 charlie2");
    let usage = &chat.of_kind("on_token_usage")[0].data["data"];
    assert_eq!((usage["input_tokens"].as_u64(), usage["output_tokens"].as_u64(), usage["seq"].as_u64()), (Some(100), Some(57), Some(1)));
    assert_eq!(chat.of_kind("on_context_usage")[0].data["data"]["prePruneContextTokens"], 120);
    let told = &chat.last().unwrap().data["responseMessage"]["metadata"]["usage"];
    assert_eq!(*told, json!({"input": 36, "output": 57, "cacheWrite": 0, "cacheRead": 64}), "input leaves out what came from the cache");

    let id = chat.conversation_id().unwrap();
    let saved = alice.get(&format!("/api/messages/{id}")).await.unwrap().json();
    assert_eq!(saved[1]["metadata"]["usage"], *told, "the saved answer tells the same");
    assert_eq!(saved[1]["content"][1]["text"], "alpha0 bravo1 charlie2");
    let convos = alice.get("/api/convos?limit=1&sortBy=createdAt&sortDirection=desc").await.unwrap().json();
    assert_eq!(convos["conversations"][0]["conversationId"], Value::from(id.as_str()));
    assert_eq!(alice.get(&format!("/api/agents/chat/stream/{id}")).await.unwrap().status, 404, "a stream that is over is gone");
    assert_eq!(alice.get(&format!("/api/agents/chat/status/{id}")).await.unwrap().json()["active"], false);
    let run = &server.runs()[0];
    assert_eq!((run.state, run.tokens, run.calls[0].output), (RunState::Finished, 5, 57));
}

#[tokio::test]
async fn a_chat_of_0_8_1_is_one_stream_and_ends_with_its_connection() {
    let server = start(Wire::Direct).await;
    let alice = client(&server, "alice@lab.test");
    let chat = alice.chat("hello [[tokens=2]]").await.unwrap();
    assert_eq!(kinds(&chat), ["created", "on_run_step", "on_message_delta", "final"]);
    assert!(!chat.last().unwrap().data["responseMessage"].as_object().unwrap().contains_key("metadata"), "0.8.1 tells no usage");

    let client::Opened::Stream(mut frames) = alice.open(&ChatBody::new("[[tokens=1000 delay=20]]")).await.unwrap() else {
        panic!("the answer of the start is the stream");
    };
    frames.until("on_message_delta").await.unwrap();
    drop(frames);
    let runs = server.wait_for_ended(2).await.unwrap();
    assert_eq!(runs[1].state, RunState::Aborted, "closing the stream stops the run");
    assert!(runs[1].tokens < 1000);
    assert_eq!(ChatClient::new(&server.url(), "").get("/api/user").await.unwrap().text, "Unauthorized");
}

#[tokio::test]
async fn early_resumable_streams_say_less() {
    let server = start(Wire::ResumableEarly).await;
    let chat = client(&server, "a@lab.test").chat("[[tokens=2]]").await.unwrap();
    let started = chat.start.json();
    assert_eq!(started.as_object().unwrap().keys().collect::<Vec<_>>(), ["conversationId", "status", "streamId"]);
    assert!(chat.of_kind("on_token_usage").is_empty() && chat.of_kind("on_context_usage").is_empty());
    assert!(chat.last().is_some() && !chat.start.headers.contains_key("x-librechat-generation-protocol"));
}

#[tokio::test]
async fn only_valid_tokens_of_browsers_get_in() {
    let server = start(Wire::Resumable).await;
    let nobody = ChatClient::new(&server.url(), "");
    assert_eq!(nobody.get("/api/user").await.unwrap().text, r#"{"message":"No auth token"}"#);
    let forged = ChatClient::new(&server.url(), "a.b.c").get("/api/user").await.unwrap();
    assert_eq!((forged.status.as_u16(), forged.text.as_str()), (401, r#"{"message":"invalid token"}"#));
    let program = client(&server, "a@lab.test").header("user-agent", "curl/8").get("/api/agents/chat/active").await.unwrap();
    assert_eq!((program.status.as_u16(), program.text.as_str()), (200, "event: error\ndata: {\"message\":\"Illegal request\"}\n\n"));
}

#[tokio::test]
async fn the_same_request_id_starts_one_run() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "alice@lab.test");
    let body = ChatBody::new("[[tokens=50 delay=20]]");
    let (one, two) = (alice.start(&body).await.unwrap().json(), alice.start(&body).await.unwrap().json());
    assert_eq!((one["status"].as_str(), two["status"].as_str()), (Some("started"), Some("resumed")));
    assert_eq!((&one["streamId"], &one["generationCreatedAt"]), (&two["streamId"], &two["generationCreatedAt"]));
    assert_eq!(client(&server, "bob@lab.test").start(&body).await.unwrap().json()["status"], "started", "another person's id is another");
    assert_eq!(server.runs().len(), 2);
    let id = one["streamId"].as_str().unwrap();
    assert_eq!(alice.abort(id, one["generationCreatedAt"].as_i64()).await.unwrap().json()["success"], true);
    assert_eq!(alice.start(&body).await.unwrap().json()["status"], "settled", "a run that is over is not begun again");
}

#[tokio::test]
async fn several_listen_and_late_ones_are_told() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "alice@lab.test");
    let started = alice.start(&ChatBody::new("[[tokens=30 delay=10 calls=2]]")).await.unwrap().json();
    let (id, at) = (started["streamId"].as_str().unwrap(), started["generationCreatedAt"].as_i64());
    let mut first = alice.listen(id, at).await.unwrap();
    let mut heard = first.until("on_token_usage").await.unwrap();
    let mut late = alice.resume(id, at).await.unwrap();
    let sync = late.next().await.unwrap().unwrap();
    assert_eq!(sync.kind(), "sync");
    let state = &sync.data["resumeState"];
    assert_eq!(state["collectedUsage"][0]["seq"], 1, "usage that was shown is told again");
    let told = state["aggregatedContent"].as_array().unwrap().iter().map(|part| part["text"].as_str().unwrap()).collect::<String>();
    assert_eq!(client(&server, "bob@lab.test").get(&format!("/api/agents/chat/stream/{id}")).await.unwrap().status, 403);
    assert_eq!(alice.listen(id, Some(1)).await.unwrap().status, 409, "an older run of the conversation is gone");
    assert_eq!(alice.get("/api/agents/chat/active").await.unwrap().json()["activeJobIds"], json!([id]));
    let status = alice.get(&format!("/api/agents/chat/status/{id}")).await.unwrap().json();
    assert_eq!((status["active"].as_bool(), status["createdAt"].as_i64()), (Some(true), at));
    let (one, two) = tokio::join!(first.all(), late.all());
    heard.extend(one.unwrap());
    let words = |frames: &[client::Frame]| frames.iter().map(client::Frame::words).collect::<String>();
    assert_eq!(words(&heard), format!("{told}{}", words(&two.unwrap())), "what was told and what came after is the whole answer");
    assert_eq!(heard.last().unwrap().kind(), "final");
}

fn fixtures() -> Option<PathBuf> {
    let folder = std::env::var_os("TOLLGATE_FIXTURES").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"));
    let there = folder.is_dir();
    if !there {
        println!("skipped: there are no recordings in {}", folder.display());
    }
    there.then_some(folder)
}

#[tokio::test]
async fn a_recording_is_served_again() {
    let Some(folder) = fixtures() else { return };
    let replay = Replay::load(folder.join("librechat-0.8.8-rc1"), "A43-chat-openai-start").unwrap().at_speed(0);
    let (stream, start_answer) = (replay.stream(), replay.start.clone().unwrap());
    let server = ScriptedLibreChat::start(Options { replays: vec![replay], ..Options::default() }).await.unwrap();
    let alice = client(&server, "alice@lab.test");
    let answer = alice.start(&ChatBody::new("whatever")).await.unwrap();
    assert_eq!(answer.json(), start_answer);
    let id = start_answer["streamId"].as_str().unwrap();
    let path = format!("/api/agents/chat/stream/{id}");
    let heard = alice.request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    assert_eq!(heard, stream, "byte for byte");
    assert_eq!(alice.get(&path).await.unwrap().status, 404);
    let saved = alice.get(&format!("/api/messages/{id}")).await.unwrap().json();
    assert_eq!(saved[1]["metadata"]["usage"]["input"], 23, "the recorded answer is saved");
}

#[tokio::test]
async fn frames_have_the_keys_of_recorded_ones() {
    let Some(folder) = fixtures() else { return };
    let recorded = Replay::load(folder.join("librechat-0.8.8-rc1"), "A43-chat-openai-start").unwrap().stream();
    let server = start(Wire::Resumable).await;
    let body = ChatBody::new("Hi [[tokens=9 in=23]]")
        .with("endpoint", "openAI")
        .with("model", "gpt-4o-mini")
        .with("modelDisplayLabel", Value::Null);
    let started = client(&server, "a@lab.test").start(&body).await.unwrap().json();
    let id = started["streamId"].as_str().unwrap();
    let path = format!("/api/agents/chat/stream/{id}");
    let scripted = client(&server, "a@lab.test").request(Method::GET, &path).send().await.unwrap().text().await.unwrap();
    let shape = |stream: &str| stream.split("\n\n").map(keys).collect::<Vec<_>>();
    let (recorded, scripted) = (shape(&recorded), shape(&scripted));
    for (recorded, scripted) in recorded.iter().zip(&scripted) {
        let known =
            recorded.iter().filter(|key| !["langfuseSampled", "langfuseDestinationIds", "maxContextTokens"].contains(&key.as_str()));
        let scripted = scripted.iter().filter(|key| *key != "maxContextTokens").collect::<Vec<_>>();
        assert_eq!(scripted, known.collect::<Vec<_>>(), "the keys of a frame, in their order");
    }
    assert_eq!(scripted.len(), recorded.len(), "as many frames as recorded");
}

/// The keys of a frame, in their order.
fn keys(frame: &str) -> Vec<String> {
    let mut keys = Vec::new();
    let mut pieces = frame.split('"');
    pieces.next();
    while let (Some(text), Some(after)) = (pieces.next(), pieces.next()) {
        if after.starts_with(':') {
            keys.push(text.to_owned());
        }
    }
    keys
}
