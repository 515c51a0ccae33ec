//! Runs that wait for a person, and words put in.

use serde_json::json;
use tollgate::scripted::RunState;
use tollgate::tokens::Encoding;

use super::{rows_and_counters, setup, start, told};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_and_what_comes_after_are_two_charges_that_add_up_to_the_run() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[pause calls=2 in=100 out=57 delay=30]]").await;
    let before = client.stream(&stream, created_at).await.expect("a stream");
    assert_eq!(
        before.last().map(tollgate::scripted::client::Frame::kind),
        Some("on_pending_action"),
        "the stream ends without a final frame"
    );
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "paused")]);

    let answer = client.post("/api/agents/chat/resume", &json!({"conversationId": stream, "decision": "yes"})).await.expect("an answer");
    assert_eq!(answer.json()["status"], "resuming", "{}", answer.text);
    let after = client.resume(&stream, created_at).await.expect("a stream").all().await.expect("a whole stream");
    assert!(after.iter().any(|frame| frame.kind() == "final"));
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "paused"), (100, 57, 1, "frames", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pause_divides_the_run_once_more() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[pause=2 calls=3 in=100 out=57 delay=30]]").await;
    client.stream(&stream, created_at).await.expect("a stream");
    for _ in 0..2 {
        gateway.all_settled().await;
        client.post("/api/agents/chat/resume", &json!({"conversationId": stream})).await.expect("an answer");
        client.resume(&stream, created_at).await.expect("a stream").all().await.expect("a whole stream");
    }
    let rows = rows_and_counters(&gateway, &client).await;
    let expected = ["paused", "paused", "completed"].map(|status| (100, 57, 1, "frames", status));
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_nobody_watches() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, _) = start(&client, "[[pause calls=2 in=100 out=57]]").await;
    gateway.librechat.wait_until("the pause", |runs| runs[0].state == RunState::Paused).await.expect("a pause");
    client.post("/api/agents/chat/resume", &json!({"conversationId": stream})).await.expect("an answer");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>(), ["paused", "completed"]);
    let sum: u64 = rows.iter().map(|row| row.total_tokens).sum();
    assert!((314..400).contains(&sum), "two calls of 157 tokens, and no more than a prompt beside: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_put_in_is_a_message_with_its_visible_text() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[in=100 out=57 tokens=40 delay=10]]").await;
    let text = "Rather in Korean, please";
    let answer = client.post("/api/agents/chat/steer", &json!({"conversationId": stream, "text": text})).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text);
    client.stream(&stream, created_at).await.expect("a stream");
    let nothing = client.post("/api/agents/chat/steer", &json!({"conversationId": stream, "text": text})).await.expect("an answer");
    assert_eq!(nothing.status, 404, "there is no run any more");
    let rows = rows_and_counters(&gateway, &client).await;
    let visible = gateway.running.app.counter.count(Encoding::O200kBase, text);
    let mut found: Vec<_> = rows.iter().map(told).collect();
    found.sort_unstable();
    assert!(rows.iter().all(|row| row.model == "lab-small"), "what is said to an answer goes to its model: {rows:?}");
    assert_eq!(found, [(visible, 0, 1, "counted", "completed"), (100, 57, 1, "frames", "completed")]);
}
