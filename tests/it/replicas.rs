//! Several gateways on one Redis: whoever sees what, and whoever dies when, a generation is charged exactly once.

mod flushes;
mod outages;
mod processes;
mod replacing;
mod upstreams;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tollgate::db::Database;
use tollgate::records::{RecordStore, StoredUsage};
use tollgate::scripted::client::{Answer, ChatBody, ChatClient};
use tollgate::scripted::{Options, ScriptedLibreChat, Wire};
use tollgate::serve::Running;

use crate::support::gateway::{Setup, metrics_at, value_of, wait_for, wait_or_show};
use crate::support::postgres::Postgres;
use crate::support::redis::RedisServer;

/// Leases are as short as they can be, and unwatched answers are followed at once.
const QUICK: &str = "
    [[limits]]
    applies_to = 'member'
    tokens_per_day = 100_000
    messages_per_day = 100
    [[limits]]
    applies_to = 'everyone'
    usd_per_month = 100.0
    [estimate]
    answer_tokens = 100
    [generations]
    lease_seconds = 1
    follow_after_ms = 100
    [shutdown]
    grace_seconds = 1
";

const ORDINARY: &str = "Hello [[tokens=5 in=100 out=57]]";

/// One LibreChat, one Redis and one database, for any number of gateways.
struct Site {
    librechat: ScriptedLibreChat,
    redis: RedisServer,
    database: String,
    records: Arc<dyn RecordStore>,
    postgres: Arc<Postgres>,
}

impl Site {
    async fn new() -> Self {
        Self::speaking(Wire::default()).await
    }

    async fn speaking(wire: Wire) -> Self {
        let postgres = tokio::task::spawn_blocking(Postgres::shared).await.expect("PostgreSQL");
        let database = postgres.database();
        let opened = Database::open(&database).expect("the address is good");
        opened.migrate().await.expect("an empty database can be migrated");
        let librechat =
            ScriptedLibreChat::start(Options { wire, linger: Duration::from_secs(10), ..Options::default() }).await.expect("a free port");
        Self { librechat, redis: RedisServer::start(), database, records: opened.records(), postgres }
    }

    /// A gateway's settings here. The store's timeout is patient with a busy machine.
    fn setup(&self, config: &str) -> Setup {
        let store_keys = "timeout_ms = 5000".to_owned();
        Setup { store: self.redis.url(), records: self.database.clone(), store_keys, ..Setup::with(config) }
    }

    fn gateways(&self, config: &str) -> ([Running; 2], [TempDir; 2]) {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        (folders.each_ref().map(|folder| self.setup(config).gateway(&self.librechat, folder)), folders)
    }

    fn client(&self, url: &str, email: &str) -> ChatClient {
        ChatClient::new(url, &self.librechat.token(email))
    }

    /// Ann's, through this gateway.
    fn ann(&self, gateway: &Running) -> ChatClient {
        self.client(&format!("http://{}", gateway.public), "ann@acme.test")
    }

    /// The usage rows, oldest first, once there are so many; there must never be more.
    async fn rows(&self, count: usize) -> Vec<StoredUsage> {
        wait_or_show(&format!("{count} usage rows"), || async {
            let mut rows = self.records.usage_rows(10_000).await.expect("readable rows");
            assert!(rows.len() <= count, "only {count} rows should be there: {rows:?}");
            rows.reverse();
            if rows.len() == count { Ok(rows) } else { Err(format!("{} rows", rows.len())) }
        })
        .await
    }

    /// Waits until nothing is held, and everything in the rows is on the counters, once.
    async fn counters_match(&self, client: &ChatClient, rows: &[StoredUsage]) {
        let tokens: u64 = rows.iter().map(|row| row.total_tokens).sum();
        let messages: u64 = rows.iter().map(|row| u64::from(row.messages)).sum();
        let cost: u64 = rows.iter().map(|row| row.cost_nanousd).sum();
        wait_or_show(&format!("{tokens} tokens, {messages} messages, {cost} nano-dollars on the counters"), || async {
            let me = client.get("/_tollgate/me").await.map_err(|error| error.to_string())?.json();
            let is = |resource: &str, used: u64| {
                let mut limits = me["limits"].as_array().into_iter().flatten();
                limits.any(|limit| limit["resource"] == resource && limit["used"] == used && limit["held"] == 0)
            };
            if is("tokens", tokens) && is("messages", messages) && is("cost", cost) { Ok(()) } else { Err(me["limits"].to_string()) }
        })
        .await;
    }
}

/// [`QUICK`], but whoever starts a chat has time to come and listen before it is followed.
fn unhurried() -> String {
    QUICK.replace("follow_after_ms = 100", "follow_after_ms = 2500")
}

/// Starts a chat that must be let through: its conversation, and when it was created.
async fn begin(client: &ChatClient, text: &str) -> (String, Option<i64>) {
    let answer = client.start(&ChatBody::new(text)).await.expect("an answer");
    started(&answer)
}

fn started(answer: &Answer) -> (String, Option<i64>) {
    assert_eq!(answer.status, 200, "it should be let through: {}", answer.text);
    let json: Value = answer.json();
    assert_eq!(json["status"], "started", "{json}");
    (json["streamId"].as_str().expect("a stream").to_owned(), json["generationCreatedAt"].as_i64())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_over_two_gateways_is_charged_once_with_what_the_stream_showed() {
    let site = Site::new().await;
    // The owner looks only after everything is over: what it knows comes from the other gateway.
    let ([a, b], _folders) = site.gateways(&unhurried());
    let (conversation, created_at) = begin(&site.ann(&a), ORDINARY).await;
    let frames = site.ann(&b).stream(&conversation, created_at).await.expect("a stream");
    assert!(frames.iter().any(|frame| frame.kind() == "final"), "the stream through the other gateway ends");
    let rows = site.rows(1).await;
    assert_eq!((rows[0].usage_source.as_str(), rows[0].status.as_str()), ("frames", "completed"));
    assert_eq!((rows[0].input_tokens, rows[0].output_tokens), (100, 57));
    assert_eq!(rows[0].conversation_id.as_deref(), Some(&*conversation));
    site.counters_match(&site.ann(&b), &rows).await;
    assert_eq!((a.app.generations.count_open(), b.app.generations.count_open()), (0, 0));
    site.rows(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_stopped_through_another_gateway_is_charged_once() {
    let site = Site::new().await;
    let ([a, b], _folders) = site.gateways(QUICK);
    let text = "Hello [[tokens=500 delay=20 in=100 out=57]]";
    let mut sources = Vec::new();
    for (count, (posted, stopped)) in [(&a, &a), (&a, &b)].into_iter().enumerate() {
        let (conversation, created_at) = begin(&site.ann(posted), text).await;
        let mut stream = site.ann(stopped).listen(&conversation, created_at).await.expect("a stream");
        stream.until("on_message_delta").await.expect("its first words");
        let answer = site.ann(stopped).abort(&conversation, created_at).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text);
        stream.all().await.expect("the end of the stream");
        let rows = site.rows(count + 1).await;
        let row = &rows[count];
        assert_eq!((row.status.as_str(), row.messages), ("aborted", 1));
        assert!(row.total_tokens > 0, "what was said is charged: {row:?}");
        sources.push(row.usage_source.clone());
        site.counters_match(&site.ann(&b), &rows).await;
    }
    assert_eq!(sources[0], sources[1], "the source is the same wherever it was stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_goes_on_through_another_gateway_is_charged_once() {
    let site = Site::new().await;
    let ([a, b], _folders) = site.gateways(QUICK);
    let (ann_a, ann_b) = (site.ann(&a), site.ann(&b));
    let (conversation, created_at) = begin(&ann_a, "Hello [[pause=2 calls=3 tokens=5 delay=20 in=100 out=57]]").await;
    ann_a.stream(&conversation, created_at).await.expect("a stream");
    for (count, client) in [(1, &ann_b), (2, &ann_a)] {
        site.rows(count).await;
        client.post("/api/agents/chat/resume", &serde_json::json!({"conversationId": conversation})).await.expect("an answer");
        client.resume(&conversation, created_at).await.expect("a stream").all().await.expect("a whole stream");
    }
    let rows = site.rows(3).await;
    let charged: Vec<_> = rows.iter().map(|row| (row.input_tokens, row.output_tokens, row.status.as_str())).collect();
    assert_eq!(charged, [(100, 57, "paused"), (100, 57, "paused"), (100, 57, "completed")], "each call once");
    site.counters_match(&ann_b, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_through_another_gateway_showed_is_its_own_runs() {
    let site = Site::new().await;
    let ([a, b], _folders) = site.gateways(&unhurried());
    let (ann_a, ann_b) = (site.ann(&a), site.ann(&b));
    for asks_by_time in [true, false] {
        let (conversation, created_at) = begin(&ann_b, "One [[context=4000 tokens=400 delay=10]]").await;
        let stream = ann_a.listen(&conversation, created_at.filter(|_| asks_by_time)).await;
        let mut stream = stream.expect("a stream");
        stream.until("on_message_delta").await.expect("its first words");
        // The second takes the place of the first, whose stream then ends.
        let body = ChatBody::new("Two [[in=60 out=5 tokens=40 delay=10]]").after(&conversation, "a-message");
        let (_, second) = started(&ann_b.start(&body).await.expect("an answer"));
        stream.all().await.expect("the end of the stream");
        tokio::time::sleep(Duration::from_millis(100)).await;
        ann_b.stream(&conversation, second).await.expect("a stream");
    }
    let rows = site.rows(4).await;
    for pair in rows.chunks(2) {
        assert_eq!((pair[0].status.as_str(), pair[0].input_tokens), ("aborted", 4000), "{pair:?}");
        assert_eq!((pair[1].status.as_str(), pair[1].input_tokens, pair[1].output_tokens), ("completed", 60, 5), "{pair:?}");
    }
    site.counters_match(&ann_a, &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_streams_pass_elsewhere_little_is_told() {
    let site = Site::new().await;
    let ([a, b], _folders) = site.gateways(&unhurried());
    let (conversation, created_at) = begin(&site.ann(&a), "Hello [[tokens=30000 in=100 out=57 silent=1500]]").await;
    for n in 0..20 {
        let created_at = created_at.filter(|_| n % 2 == 0);
        let mut stream = site.ann(&b).resume(&conversation, created_at).await.expect("a stream");
        stream.until("sync").await.expect("what was before");
    }
    site.ann(&b).stream(&conversation, created_at).await.expect("a stream");
    let rows = site.rows(1).await;
    assert_eq!((rows[0].input_tokens, rows[0].output_tokens, rows[0].status.as_str()), (100, 57, "completed"));
    let told: Vec<_> = site.redis.keys().into_iter().filter(|key| key.contains(":seen:")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let fields: Vec<String> = site.redis.command(&["HVALS", &told[0]]);
    let bytes: usize = fields.iter().map(String::len).sum();
    assert!(fields.len() <= 2 && bytes < 256 * 1024, "{} notes of {bytes} bytes", fields.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_gateway_learnt_the_other_estimates_with() {
    let site = Site::new().await;
    let ([a, b], _folders) = site.gateways(&unhurried());
    let mut last: Option<(String, String)> = None;
    for (turn, (gateway, context)) in [(&a, 4000), (&b, 9000), (&a, 9500)].into_iter().enumerate() {
        let body = ChatBody::new(&format!("Hello [[tokens=5 context={context} in={context} out=57]]"));
        let body = last.as_ref().map_or(body.clone(), |(conversation, answer)| body.after(conversation, answer));
        let exchange = site.ann(gateway).exchange(&body).await.expect("an answer");
        last = Some((exchange.conversation_id().expect("a conversation"), exchange.answer_id().expect("an answer")));
        let rows = site.rows(turn + 1).await;
        site.counters_match(&site.ann(gateway), &rows).await;
    }
    let estimates: Vec<_> = site.rows(3).await.iter().map(|row| row.estimate_tokens).collect();
    assert!(estimates[0] < 200, "nothing is known of a new conversation: {estimates:?}");
    assert!((4157..4300).contains(&estimates[1]), "4,057 tokens and room for 100: {estimates:?}");
    assert!((9157..9300).contains(&estimates[2]), "the other gateway knew better than this one: {estimates:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_stop_hands_over_and_a_long_answer_keeps_its_owner() {
    let site = Site::new().await;
    let ([a, b], _folders) = site.gateways(QUICK);
    let ann = site.ann(&a);
    begin(&ann, "Hello [[tokens=40 delay=60 in=100 out=57]]").await;
    let rows = site.rows(1).await;
    assert_eq!((rows[0].usage_source.as_str(), rows[0].status.as_str()), ("frames", "completed"));
    let taken_over = || async { value_of(&metrics_at(b.metrics).await, "tollgate_generations_taken_over_total") };
    assert!(taken_over().await < 0.5, "a lease is renewed however long the answer takes");

    begin(&ann, "Hello [[tokens=60 delay=60 in=100 out=57]]").await;
    let stopped = tokio::task::spawn_blocking(move || a.stop()).await.expect("a thread");
    assert!(stopped, "everything was written or handed over");
    let rows = site.rows(2).await;
    assert_eq!((rows[1].usage_source.as_str(), rows[1].status.as_str(), rows[1].total_tokens), ("frames", "completed", 157));
    assert!((taken_over().await - 1.0).abs() < 1e-9, "the other gateway took it over");
    site.counters_match(&site.ann(&b), &rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_with_different_prefixes_share_a_redis_and_nothing_else() {
    let site = Site::new().await;
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let place = |prefix: &str, records: String, folder: &TempDir| {
        let setup = site.setup(QUICK);
        Setup { records, store_keys: format!("{}\nprefix = '{prefix}'", setup.store_keys), ..setup }.gateway(&site.librechat, folder)
    };
    let (one, other) = (place("place.one", site.database.clone(), &folders[0]), place("two:", site.postgres.database(), &folders[1]));
    site.ann(&one).chat(ORDINARY).await.expect("an answer");
    let rows = site.rows(1).await;
    site.counters_match(&site.ann(&one), &rows).await;
    site.counters_match(&site.ann(&other), &[]).await;
    let (mut ones, others): (Vec<_>, Vec<_>) = site.redis.keys().into_iter().partition(|key| key.starts_with("place.one:{"));
    ones.retain(|key| !key.ends_with(":books") && !key.ends_with(":shipped"));
    assert!(!ones.is_empty(), "what one place counts has its prefix");
    let is_empty = |key: &String| key.starts_with("two::{") && (key.ends_with(":books") || key.ends_with(":shipped"));
    assert!(others.iter().all(is_empty), "the other knows only that it has counted nothing: {others:?}");
}
