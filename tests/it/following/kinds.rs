//! Several models, several calls, assistants, and the OpenAI-compatible API.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate::scripted::Wire;
use tollgate::scripted::client::{ChatBody, ChatClient};
use tollgate::tokens::Encoding;

use super::{rows_and_counters, setup, setup_on, told};
use crate::support::gateway::{Setup, TestGateway};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_models_in_one_request_are_two_rows_and_one_message() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let added = json!({"endpoint": "LabAI", "endpointType": "custom", "model": "lab-large"});
    for (text, source) in [("[[in=100 out=57]]", "frames"), ("[[usage=off context=100]]", "context")] {
        client.exchange(&ChatBody::new(text).with("addedConvo", added.clone())).await.expect("an answer");
        let rows = rows_and_counters(&gateway, &client).await;
        let mut last: Vec<_> =
            rows.iter().rev().take(2).map(|row| (row.model.as_str(), row.input_tokens, row.usage_source.as_str())).collect();
        last.sort_unstable();
        assert_eq!(last, [("lab-large", 100, source), ("lab-small", 100, source)]);
    }
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!((rows.len(), rows.iter().map(|row| row.messages).sum::<u32>()), (4, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_run_with_tools_is_charged() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    client.chat("[[tools=3 in=100 out=10]]").await.expect("an answer");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(400, 40, 1, "frames", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_dies_and_refusals_on_the_stream() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    client.chat("[[context=42 die=6 tokens=20]]").await.expect("an answer");
    for refusal in ["error=token_balance", "refuse=message_limit", "refuse=concurrent", "refuse=ban", "refuse=not_ready"] {
        client.chat(&format!("[[{refusal}]]")).await.expect("an answer");
    }
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!((rows[0].input_tokens, rows[0].messages, rows[0].status.as_str()), (42, 1, "failed"), "what was measured");
    assert!(rows[0].output_tokens > 0, "six words were said");
    assert!(rows[1..].iter().all(|row| row.total_tokens == 0 && row.messages == 0), "refusals cost nothing: {rows:?}");
    assert_eq!(rows.len(), 3, "a refusal before `created` is no generation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_direct_wire() {
    let gateway = setup_on(Wire::Direct).start().await;
    let client = gateway.client("ada@acme.test");
    let exchange = client.chat("Hello [[tokens=12]]").await.expect("an answer");
    client.chat("[[error=illegal_model_request]]").await.expect("an answer");
    client.chat("[[refuse=model]]").await.expect("an answer");
    let rows = rows_and_counters(&gateway, &client).await;
    let words = gateway.running.app.counter.count(Encoding::O200kBase, &exchange.text());
    assert_eq!((rows[0].output_tokens, rows[0].messages, rows[0].usage_source.as_str()), (words, 1, "counted"));
    assert_eq!(rows[0].conversation_id, exchange.conversation_id());
    assert!(rows[1..].iter().all(|row| row.total_tokens == 0 && row.messages == 0), "refusals cost nothing: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn assistants_are_counted() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let body = json!({"text": "Hello [[tokens=12]]", "endpoint": "assistants", "assistant_id": "asst_x", "model": "gpt-4o"});
    let answer = client.post("/api/assistants/v2/chat", &body).await.expect("an answer");
    assert!(answer.text.contains("\"final\":true"), "{}", answer.text);
    let mut response = client.request(Method::POST, "/api/assistants/v2/chat").json(&json!({
        "text": "Cut [[tokens=400 delay=10]]", "endpoint": "assistants", "assistant_id": "asst_x", "model": "gpt-4o"
    }));
    response = response.header("Accept", "text/event-stream");
    let mut cut = response.send().await.expect("an answer");
    let mut seen = String::new();
    while !seen.contains("bravo1") {
        seen.push_str(&String::from_utf8_lossy(&cut.chunk().await.expect("a stream").expect("more")));
    }
    drop(cut);
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>(), ["completed", "aborted"]);
    let words: String = "alpha0 bravo1 charlie2 delta3 echo4 foxtrot5 golf6 hotel7 india8 juliet9 alpha10 bravo11".to_owned();
    let counter = &gateway.running.app.counter;
    let visible = counter.count(Encoding::O200kBase, "Hello [[tokens=12]]");
    assert_eq!(told(&rows[0]), (visible, counter.count(Encoding::O200kBase, &words), 1, "counted", "completed"));
    assert_eq!(rows[0].agent_id.as_deref(), Some("asst_x"));
    assert!(rows[1].output_tokens > 0, "what was seen of the answer is charged");
}

async fn agent_api() -> (TestGateway, ChatClient) {
    let gateway = Setup { librechat_keys: "agent_api = \"default_org\"".to_owned(), ..setup() }.start().await;
    let client = ChatClient::new(&gateway.url(), "sk-scripted-key");
    (gateway, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_compatible_api_plain_streamed_and_compressed() {
    let (gateway, client) = agent_api().await;
    let paths = [("/api/agents/v1/chat/completions", "messages"), ("/api/agents/v1/responses", "input")];
    for (path, key) in paths {
        for stream in [false, true] {
            let said = json!([{"role": "user", "content": "Hello [[in=100 out=57 cached=20]]"}]);
            let body = json!({"model": "agent_x", key: said, "stream": stream});
            let request = client.request(Method::POST, path).json(&body).header("Accept-Encoding", "gzip, br");
            let response = request.send().await.expect("an answer");
            assert_eq!(response.status(), 200);
            response.bytes().await.expect("a whole answer");
        }
    }
    let rows = gateway.usage_rows(4).await;
    for row in &rows {
        assert_eq!(told(row), (100, 57, 1, "message", "completed"), "{row:?}");
        assert_eq!((row.cache_read_tokens, row.agent_id.as_deref()), (20, Some("agent_x")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_compatible_api_without_usage_is_counted() {
    let (gateway, client) = agent_api().await;
    let text = "Hello [[usage=off tokens=5]]";
    for stream in [false, true] {
        let body: Value = json!({"model": "agent_x", "messages": [{"role": "user", "content": text}], "stream": stream});
        client.post("/api/agents/v1/chat/completions", &body).await.expect("an answer");
    }
    let rows = gateway.usage_rows(2).await;
    let counter = &gateway.running.app.counter;
    let words = counter.count(Encoding::O200kBase, "alpha0 bravo1 charlie2 delta3 echo4");
    for row in &rows {
        assert!(row.input_tokens >= counter.count(Encoding::O200kBase, text), "{row:?}");
        assert_eq!((row.output_tokens, row.usage_source.as_str(), row.messages), (words, "counted", 1));
    }
    let refused = ChatClient::new(&gateway.url(), "not-a-key");
    let answer = refused.post("/api/agents/v1/chat/completions", &json!({"model": "agent_x", "messages": []})).await.expect("an answer");
    assert_eq!(answer.status, 401, "it is no key");
    gateway.all_settled().await;
    assert_eq!(gateway.usage_rows(2).await.len(), 2, "and a refusal costs nothing");
}
