//! What is reserved before anything is known.

use tollgate::scripted::client::ChatBody;
use tollgate::tokens::Encoding;

use super::{rows_and_counters, setup, started};
use crate::support::gateway::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_message_is_estimated_with_the_context_of_the_last() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let first = client.chat("[[context=5000 instructions=900 in=5950 out=57]]").await.expect("an answer");
    gateway.all_settled().await;
    let text = "And then?";
    let next = ChatBody::new(text).after(&first.conversation_id().expect("a conversation"), &first.answer_id().expect("an answer"));
    client.exchange(&next.with("max_tokens", 300)).await.expect("an answer");
    let rows = rows_and_counters(&gateway, &client).await;
    let visible = gateway.running.app.counter.count(Encoding::O200kBase, text);
    assert_eq!(rows[1].estimate_tokens, visible + 5900 + 57 + 300, "visible text, the last prompt and answer, and the room asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_agent_is_estimated_with_its_last_model() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let body = || {
        let body = ChatBody::new("[[model=gpt-4o-mini usage=on]]").with("endpoint", "agents");
        body.with("model", serde_json::Value::Null).with("agent_id", "agent_x")
    };
    client.exchange(&body()).await.expect("an answer");
    gateway.all_settled().await;
    let recalled = gateway.running.app.generations.recall().model_of("acme", "agent_x").await;
    assert_eq!(recalled.as_deref(), Some("gpt-4o-mini"));
    // Without usage nothing else names the model the second time.
    let silent = body().with("text", "[[model=gpt-4o-mini usage=off]]");
    client.exchange(&silent).await.expect("an answer");
    let rows = rows_and_counters(&gateway, &client).await;
    assert!(rows.iter().all(|row| row.model == "gpt-4o-mini"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_of_the_body_is_nothing_to_a_saved_agent() {
    let mut setup = setup();
    setup.config.push_str("\n[prices]\nunknown_model = \"free\"");
    let gateway = setup.start().await;
    let client = gateway.client("ada@acme.test");
    let body = |text: &str| ChatBody::new(text).model("agents", "nonsense").with("agent_id", "agent_x");
    for text in ["[[model=gpt-4o]]", "[[model=gpt-4o usage=off context=1000]]"] {
        client.exchange(&body(text)).await.expect("an answer");
        gateway.all_settled().await;
        let recalled = gateway.running.app.generations.recall().model_of("acme", "agent_x").await;
        assert_eq!(recalled.as_deref(), Some("gpt-4o"), "{text}");
    }
    // LibreChat asks no saved agent where the endpoint is another: it is the body's model, and teaches nothing of the agent.
    let elsewhere = ChatBody::new("[[in=100 out=57]]").model("openAI", "gpt-4o-mini").with("agent_id", "agent_x");
    client.exchange(&elsewhere).await.expect("an answer");
    let rows = rows_and_counters(&gateway, &client).await;
    let models: Vec<_> = rows.iter().map(|row| (row.model.as_str(), row.agent_id.as_deref(), row.cost_nanousd > 0)).collect();
    assert_eq!(models, [("gpt-4o", Some("agent_x"), true), ("gpt-4o", Some("agent_x"), true), ("gpt-4o-mini", None, true)]);
    let recalled = gateway.running.app.generations.recall().model_of("acme", "agent_x").await;
    assert_eq!(recalled.as_deref(), Some("gpt-4o"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_cannot_do_away_with_the_room_for_an_answer() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let text = "[[in=10 out=1]]";
    let added = serde_json::json!({"endpoint": "LabAI", "model": "lab-large"});
    let bodies = [
        (ChatBody::new(text), 1, 100),
        (ChatBody::new(text).model("agents", "").with("agent_id", "agent_x"), 1, 1000),
        (ChatBody::new(text).with("addedConvo", added), 2, 1000),
    ];
    let visible = gateway.running.app.counter.count(Encoding::O200kBase, text);
    for (body, models, room) in bodies {
        client.exchange(&body.with("max_tokens", 1)).await.expect("an answer");
        let rows = rows_and_counters(&gateway, &client).await;
        assert_eq!(rows.last().expect("a row").estimate_tokens, models * (visible + room), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn near_the_edge_the_room_shrinks_before_anyone_is_refused() {
    let config = "[estimate]\nanswer_tokens = 1000\nleast_answer_tokens = 100\n[[limits]]\napplies_to = \"member\"\ntokens_per_day = 600\nmessages_per_day = 10";
    let gateway = Setup::with(config).start().await;
    let client = gateway.client("ada@acme.test");
    let answer = client.start(&ChatBody::new("Hello [[in=300 out=150]]")).await.expect("an answer");
    let (stream, created_at) = started(&answer);
    client.stream(&stream, created_at).await.expect("a stream");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows[0].estimate_tokens, 600, "the room is what was left");
    let answer = client.start(&ChatBody::new("Hello [[in=100 out=40]]")).await.expect("an answer");
    started(&answer);
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows[1].estimate_tokens, 150);
    let answer = client.start(&ChatBody::new("Hello")).await.expect("an answer");
    assert_eq!(answer.status, 429, "less than the least is left: {}", answer.text);
}
