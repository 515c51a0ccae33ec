//! However an answer reaches its person, or does not, it is followed to its end and charged once.

mod estimates;
mod frames;
mod hanging_up;
mod kinds;
mod odd_answers;
mod pauses;
mod streams;
mod tools;

use serde_json::Value;
use tollgate::records::StoredUsage;
use tollgate::scripted::client::{Answer, ChatBody, ChatClient};
use tollgate::scripted::{Options, Wire};

use crate::support::gateway::{Setup, TestGateway};

/// A gateway that does not wait long before it follows an answer itself, with room enough for everyone.
fn setup() -> Setup {
    Setup::with(
        "[generations]\nfollow_after_ms = 50\n[[limits]]\napplies_to = \"member\"\ntokens_per_day = 10_000_000\nmessages_per_day = 10_000",
    )
}

/// The same in front of a LibreChat that speaks another wire.
fn setup_on(wire: Wire) -> Setup {
    Setup { librechat: Options { wire, ..Options::default() }, ..setup() }
}

/// The streams' id and `generationCreatedAt` of a start that was answered.
fn started(answer: &Answer) -> (String, Option<i64>) {
    let json = answer.json();
    assert_eq!(json["status"], "started", "{}", answer.text);
    (json["streamId"].as_str().expect("a stream").to_owned(), json["generationCreatedAt"].as_i64())
}

/// A start that was answered.
async fn start(client: &ChatClient, text: &str) -> (String, Option<i64>) {
    started(&client.start(&ChatBody::new(text)).await.expect("an answer"))
}

/// Input, output, messages, source and state of a row.
fn told(row: &StoredUsage) -> (u64, u64, u32, &str, &str) {
    (row.input_tokens, row.output_tokens, row.messages, &row.usage_source, &row.status)
}

/// The rows once everything is settled, after a look at the counters: they say the same, and nothing is held any more.
async fn rows_and_counters(gateway: &TestGateway, client: &ChatClient) -> Vec<StoredUsage> {
    gateway.all_settled().await;
    let mut rows = gateway.running.app.records.usage_rows(10_000).await.expect("readable rows");
    rows.reverse();
    let me = client.get("/_tollgate/me").await.expect("an answer").json();
    let sum = |of: fn(&StoredUsage) -> u64| rows.iter().map(of).sum::<u64>();
    assert_eq!(level(&me, "tokens"), (sum(|row| row.total_tokens), 0), "used and held tokens");
    assert_eq!(level(&me, "messages"), (sum(|row| row.messages.into()), 0), "used and held messages");
    rows
}

/// Used and held of a resource, as a person is told.
fn level(me: &Value, resource: &str) -> (u64, u64) {
    let limit = me["limits"].as_array().and_then(|limits| limits.iter().find(|limit| limit["resource"] == resource)).expect("the limit");
    (limit["used"].as_u64().expect("a number"), limit["held"].as_u64().expect("a number"))
}
