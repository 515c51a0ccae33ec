//! A person chats through the gateway.

use crate::support::gateway::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_answered_and_charged_what_it_used() {
    let gateway = Setup::default().start().await;
    let client = gateway.client("ada@acme.test");
    let exchange = client.chat("Hello [[tokens=12 in=100 out=57 cached=64]]").await.expect("an answer");
    assert!(exchange.last().is_some(), "the stream ends with a final frame");
    let rows = gateway.usage_rows(1).await;
    assert_eq!(rows.len(), 1, "one row for one generation and model");
    let row = &rows[0];
    assert_eq!((row.input_tokens, row.output_tokens, row.cache_read_tokens, row.total_tokens), (100, 57, 64, 157));
    assert_eq!((row.usage_source.as_str(), row.status.as_str(), row.messages), ("frames", "completed", 1));
    assert_eq!(row.conversation_id, exchange.conversation_id());
}
