//! Stopping: readiness fails first, new chats are turned away, running streams get their grace, everything is written.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tollgate::scripted::ScriptedLibreChat;
use tollgate::scripted::client::{ChatBody, ChatClient, plain_http};

use crate::support::gateway::{Setup, wait_for};
use crate::support::ports::free_port;

async fn probe(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    match plain_http().get(format!("http://{address}{path}")).send().await {
        Ok(answer) => (answer.status().as_u16(), answer.text().await.unwrap_or_default()),
        Err(_) => (0, String::new()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_gateway_stops_at_once() {
    let gateway = Setup::default().start().await;
    gateway.client("ada@acme.test").get("/api/user").await.expect("an answer");
    let connection = crate::support::wire::Wire::connect(gateway.running.public).await;
    let since = Instant::now();
    let running = gateway.running;
    assert!(running.stop(), "everything was written");
    assert!(since.elapsed() < Duration::from_secs(2), "it took {:?}", since.elapsed());
    drop(connection);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_tells_what_is_wrong() {
    let gateway = Setup::default().start().await;
    let metrics = gateway.running.metrics;
    assert_eq!(probe(metrics, "/livez").await, (200, "alive\n".to_owned()));
    wait_for("readiness", || async { (probe(metrics, "/readyz").await.0 == 200).then_some(()) }).await;
    gateway.librechat.set_down(true);
    let (_, text) =
        wait_for("readiness to fail", || async { Some(probe(metrics, "/readyz").await).filter(|(status, _)| *status == 503) }).await;
    assert!(text.contains("LibreChat does not answer"), "{text}");
    assert_eq!(probe(metrics, "/readyz/self").await.0, 200, "no other replica would reach it either");
    assert_eq!(probe(metrics, "/livez").await.0, 200, "the process lives all the same");
    gateway.librechat.set_down(false);
    wait_for("readiness to come back", || async { (probe(metrics, "/readyz").await.0 == 200).then_some(()) }).await;
    gateway.running.app.draining.set(true);
    let (status, text) = probe(metrics, "/readyz").await;
    assert!(status == 503 && text.contains("stopping"), "{text}");
    assert_eq!(probe(metrics, "/readyz/self").await.0, 503, "others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_fails_only_where_nobody_could_chat_without_the_store() {
    let org = "[[orgs]]\nid = \"globex\"\nname = \"Globex\"\nplan = \"big\"\n";
    let limit = |narrowed: &str| format!("[[limits]]\napplies_to = \"member\"\nmessages_per_day = 5\n{narrowed}\n");
    let (acme, big) = (limit("org = \"acme\""), limit("plan = \"big\""));
    let open = limit("org = \"acme\"\non_failure = \"open\"");
    for (what, limits, ready) in [
        ("no limit", String::new(), 200),
        ("a limit of one org of two", acme.clone(), 200),
        ("limits of all orgs, narrowed apart", format!("{acme}{big}"), 503),
        ("a limit for everyone", limit(""), 503),
        ("one org's own limit stays open", format!("{}{open}", limit("")), 200),
    ] {
        let gateway = Setup { store: "redis://127.0.0.1:1".to_owned(), ..Setup::with(&format!("{org}{limits}")) }.start().await;
        let (_, text) = wait_for("LibreChat and the store to be looked for", || async {
            let answer = probe(gateway.running.metrics, "/readyz").await;
            Some(answer).filter(|(_, text)| text.contains("\"store\"") && !text.contains("\"librechat\""))
        })
        .await;
        assert_eq!(text.contains("limits are closed without it"), ready == 503, "{what}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_streams_get_their_grace_and_new_chats_are_turned_away() {
    let gateway = Setup::default().start().await;
    let (public, metrics) = (gateway.running.public, gateway.running.metrics);
    let client = gateway.client("ada@acme.test");
    let started = client.start(&ChatBody::new("Go on [[tokens=60 delay=25 in=70 out=60]]")).await.expect("an answer").json();
    let id = started["conversationId"].as_str().expect("a conversation").to_owned();
    let mut stream = client.listen(&id, started["generationCreatedAt"].as_i64()).await.expect("a stream");
    stream.until("on_message_delta").await.expect("it speaks");
    let folder = gateway.folder().path().to_owned();
    let records = format!("sqlite:{}", folder.join("tollgate.db").display());
    let TestParts { running, _librechat, _folder } = parts(gateway);
    let stopping = tokio::task::spawn_blocking(move || running.stop());
    wait_for("readiness to fail", || async { (probe(metrics, "/readyz").await.0 == 503).then_some(()) }).await;
    let refused = client.start(&ChatBody::new("One more")).await.expect("the listener is still open");
    assert_eq!((refused.status.as_u16(), refused.json()["code"].as_str()), (503, Some("SERVER_NOT_READY")));
    assert_eq!(refused.headers.get("retry-after").map(http::HeaderValue::as_bytes), Some(&b"1"[..]));
    let page = client.get("/api/user").await.expect("an answer");
    assert_eq!(page.status, 200, "the page goes on meanwhile");
    for answer in [&refused, &page] {
        let connection = answer.headers.get("connection").map(http::HeaderValue::as_bytes);
        assert_eq!(connection, Some(&b"close"[..]), "a balancer may send the next request to another: {:?}", answer.headers);
    }
    let frames = stream.all().await.expect("the rest of the stream");
    assert!(frames.iter().any(|frame| frame.kind() == "final"), "the running answer is heard to its end");
    assert!(stopping.await.expect("a stop"), "everything was written");
    assert!(tokio::net::TcpStream::connect(public).await.is_err(), "nobody listens any more");
    let rows = rows_of(&records).await;
    assert_eq!(rows, vec![(70, 60, "frames".to_owned(), "completed".to_owned())], "the answer was charged before the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_outlasts_its_grace_is_ended_and_charged() {
    let gateway = Setup::with("[shutdown]\ngrace_seconds = 1").start().await;
    let client = gateway.client("ada@acme.test");
    let started = client.start(&ChatBody::new("For ever [[tokens=100000 delay=50]]")).await.expect("an answer").json();
    let id = started["conversationId"].as_str().expect("a conversation").to_owned();
    let mut stream = client.listen(&id, started["generationCreatedAt"].as_i64()).await.expect("a stream");
    stream.until("on_message_delta").await.expect("it speaks");
    let records = format!("sqlite:{}", gateway.folder().path().join("tollgate.db").display());
    let TestParts { running, _librechat, _folder } = parts(gateway);
    let since = Instant::now();
    assert!(tokio::task::spawn_blocking(move || running.stop()).await.expect("a stop"), "everything was written");
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&since.elapsed()), "it took {:?}", since.elapsed());
    let rows = rows_of(&records).await;
    assert_eq!(rows.len(), 1, "what ran is charged: {rows:?}");
    assert!(rows[0].0 > 0, "by what was seen: {rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_stream_that_outlasts_its_grace_is_charged_what_was_heard_of_it() {
    let librechat = tollgate::scripted::Options { wire: tollgate::scripted::Wire::Direct, ..tollgate::scripted::Options::default() };
    let gateway = Setup { librechat, ..Setup::with("[shutdown]\ngrace_seconds = 1") }.start().await;
    let client = gateway.client("ada@acme.test");
    let opened = client.open(&ChatBody::new("For ever [[tokens=100000 delay=10 usage=off]]")).await.expect("an answer");
    let tollgate::scripted::client::Opened::Stream(mut stream) = opened else { panic!("not a stream: {opened:?}") };
    stream.until("on_message_delta").await.expect("it speaks");
    let records = format!("sqlite:{}", gateway.folder().path().join("tollgate.db").display());
    let TestParts { running, _librechat, _folder } = parts(gateway);
    let stopping = tokio::task::spawn_blocking(move || running.stop());
    let mut heard = 1_u64;
    while let Ok(Some(frame)) = stream.next().await {
        heard += u64::from(frame.kind() == "on_message_delta");
    }
    assert!(stopping.await.expect("a stop"), "everything was written");
    let rows = rows_of(&records).await;
    assert_eq!(rows.len(), 1, "what ran is charged: {rows:?}");
    assert!(rows[0].1 >= heard / 2, "{heard} words were heard, and {} tokens charged", rows[0].1);
}

/// A gateway taken apart, so that it can be stopped while its LibreChat and its folder stay.
struct TestParts {
    running: tollgate::serve::Running,
    _librechat: ScriptedLibreChat,
    _folder: tempfile::TempDir,
}

fn parts(gateway: crate::support::gateway::TestGateway) -> TestParts {
    let (running, librechat, folder) = gateway.into_parts();
    TestParts { running, _librechat: librechat, _folder: folder }
}

/// Input, output, source and status of every usage row in a database that nobody has open.
async fn rows_of(records: &str) -> Vec<(u64, u64, String, String)> {
    let database = tollgate::db::Database::open(records).expect("the database");
    let rows = database.records().usage_rows(100).await.expect("rows");
    rows.into_iter().map(|row| (row.input_tokens, row.output_tokens, row.usage_source, row.status)).collect()
}

/// A process that is killed if a test fails before it has ended.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_ends_with_0_on_sigterm_and_loses_nothing() {
    let librechat = ScriptedLibreChat::start(tollgate::scripted::Options::default()).await.expect("a free port");
    let folder = tempfile::tempdir().expect("a folder");
    let (public, metrics) = (free_port(), free_port());
    let config = folder.path().join("tollgate.toml");
    let records = format!("sqlite:{}", folder.path().join("rows.db").display());
    let text = format!(
        "[public]\nlisten = \"127.0.0.1:{public}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n\
         [librechat]\nupstreams = [\"{}\"]\njwt_secret = \"{}\"\ndefault_org = \"acme\"\n[records]\nurl = \"{records}\"\n[[orgs]]\nid = \"acme\"\n",
        librechat.url(),
        librechat.jwt_secret()
    );
    std::fs::write(&config, text).expect("a configuration");
    let command = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut process = Process(command.expect("the program starts"));
    let metrics = std::net::SocketAddr::from(([127, 0, 0, 1], metrics));
    wait_for("the program to be ready", || async { (probe(metrics, "/readyz").await.0 == 200).then_some(()) }).await;

    let client = ChatClient::new(&format!("http://127.0.0.1:{public}"), &librechat.token("ada@acme.test"));
    let started = client.start(&ChatBody::new("Go on [[tokens=40 delay=25 in=70 out=40]]")).await.expect("an answer").json();
    let id = started["conversationId"].as_str().expect("a conversation").to_owned();
    let mut stream = client.listen(&id, started["generationCreatedAt"].as_i64()).await.expect("a stream");
    stream.until("on_message_delta").await.expect("it speaks");
    // The first is what many send for "read it again": it ends nothing.
    for signal in ["-HUP", "-TERM"] {
        assert!(Command::new("kill").args([signal, &process.0.id().to_string()]).status().expect("kill").success());
    }
    let frames = stream.all().await.expect("the rest of the stream");
    assert!(frames.iter().any(|frame| frame.kind() == "final"), "the running answer is heard to its end");
    let over = Instant::now();
    let status = tokio::task::spawn_blocking(move || process.0.wait()).await.expect("a thread").expect("an end");
    assert_eq!(status.code(), Some(0), "it ends with 0");
    assert!(over.elapsed() < Duration::from_secs(3), "after its last stream it took {:?}", over.elapsed());
    assert_eq!(rows_of(&records).await, vec![(70, 40, "frames".to_owned(), "completed".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_grace_and_loses_nothing() {
    let librechat = ScriptedLibreChat::start(tollgate::scripted::Options::default()).await.expect("a free port");
    let config = format!(
        "[public]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n\
         [librechat]\nupstreams = [\"{}\"]\njwt_secret = \"{}\"\ndefault_org = \"acme\"\n[shutdown]\ngrace_seconds = 600\n\
         [[orgs]]\nid = \"acme\"\n",
        librechat.url(),
        librechat.jwt_secret()
    );
    let mut process = crate::support::process::TollgateProcess::start(&config).await;
    let client = ChatClient::new(&process.url(), &librechat.token("ada@acme.test"));
    let started = client.start(&ChatBody::new("For ever [[tokens=100000 delay=50]]")).await.expect("an answer").json();
    let id = started["conversationId"].as_str().expect("a conversation").to_owned();
    let mut stream = client.listen(&id, started["generationCreatedAt"].as_i64()).await.expect("a stream");
    stream.until("on_message_delta").await.expect("it speaks");

    process.signal("TERM");
    let metrics = process.metrics;
    wait_for("the stop to begin", || async { (probe(metrics, "/readyz").await.1.contains("stopping")).then_some(()) }).await;
    let since = Instant::now();
    assert_eq!(process.terminate().await.code(), Some(0), "it ends with 0:\n{}", process.log());
    assert!(since.elapsed() < Duration::from_secs(20), "it took {:?}", since.elapsed());
    let rows = rows_of(&format!("sqlite:{}", process.folder().join("tollgate.db").display())).await;
    assert_eq!(rows.len(), 1, "what ran is charged: {rows:?}");
}
