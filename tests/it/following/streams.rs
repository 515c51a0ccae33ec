//! Streams that are read, cut, taken up again, read twice, or never opened.

use std::time::Duration;

use tollgate::scripted::client::ChatBody;
use tollgate::scripted::{Options, ScriptedLibreChat, Wire};

use super::{level, rows_and_counters, setup, setup_on, start, started, told};
use crate::support::gateway::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_nobody_opens_is_followed_all_the_same() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    start(&client, "[[in=100 out=57 cached=64 delay=20]]").await;
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_over_before_anyone_came_is_read_from_what_was_saved() {
    let librechat = Options { linger: Duration::ZERO, ..Options::default() };
    let gateway = crate::support::gateway::Setup { librechat, ..setup() }.start().await;
    let client = gateway.client("ada@acme.test");
    start(&client, "[[in=100 out=57 cached=64]]").await;
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "message", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_taken_up_again_and_read_in_three_tabs_is_charged_once() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[in=100 out=57 tokens=40 delay=10 tools=1]]").await;
    let mut first = client.listen(&stream, created_at).await.expect("a stream");
    first.until("on_message_delta").await.expect("frames");
    drop(first);
    let second = client.resume(&stream, created_at).await.expect("a stream");
    let third = client.resume(&stream, None).await.expect("a stream");
    let (second, third) = tokio::join!(second.all(), third.all());
    for tab in [second, third] {
        assert!(tab.expect("a whole stream").iter().any(|frame| frame.kind() == "final"), "every tab sees the end");
    }
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(200, 114, 1, "frames", "completed")], "two model calls, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_libre_chat_resets_is_followed_to_its_end() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[in=100 out=57 tokens=40 delay=10 cut=5]]").await;
    assert!(client.stream(&stream, created_at).await.is_err(), "the stream breaks after five frames");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_someone_stops_costs_what_was_measured() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[context=30 instructions=12 tokens=400 delay=10]]").await;
    let mut frames = client.listen(&stream, created_at).await.expect("a stream");
    frames.until("on_message_delta").await.expect("frames");
    client.abort(&stream, created_at).await.expect("an answer");
    let last = frames.all().await.expect("the rest").pop().expect("a last frame");
    assert_eq!(last.data["aborted"], true);
    let rows = rows_and_counters(&gateway, &client).await;
    let (input, output, messages, source, status) = told(&rows[0]);
    assert_eq!((rows.len(), input, messages, source, status), (1, 42, 1, "context", "aborted"));
    let words = last.data["responseMessage"]["content"][0]["text"].as_str().expect("what was said");
    assert_eq!(output, gateway.running.app.counter.count(tollgate::tokens::Encoding::O200kBase, words));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_after_a_call_costs_that_call() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[context=5000 in=100 out=57 tools=1 tokens=30 delay=20]]").await;
    let mut frames = client.listen(&stream, created_at).await.expect("a stream");
    frames.until("on_token_usage").await.expect("frames");
    frames.until("on_message_delta").await.expect("frames");
    client.abort(&stream, created_at).await.expect("an answer");
    let last = frames.all().await.expect("the rest").pop().expect("a last frame");
    let rows = rows_and_counters(&gateway, &client).await;
    // The second call had been sent its prompt, and had begun to answer.
    let words = last.data["responseMessage"]["content"][2]["text"].as_str().expect("what the second call said");
    let said = gateway.running.app.counter.count(tollgate::tokens::Encoding::O200kBase, words);
    assert!(said > 0);
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100 + 5030, 57 + said, 1, "context", "aborted")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_run_that_was_followed_late_costs_the_call_that_was_cut_off() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[context=5000 in=100 out=57 tools=1 tokens=60 delay=20]]").await;
    let second = |runs: &[tollgate::scripted::RunSummary]| runs[0].calls.len() == 1 && runs[0].tokens > 62;
    gateway.librechat.wait_until("the second call", second).await.expect("a second call");
    let mut late = client.resume(&stream, created_at).await.expect("a stream");
    late.until("on_message_delta").await.expect("frames");
    client.abort(&stream, created_at).await.expect("an answer");
    late.all().await.expect("the rest");
    let rows = rows_and_counters(&gateway, &client).await;
    let (input, output, messages, source, status) = told(&rows[0]);
    assert_eq!((rows.len(), input, messages, source, status), (1, 100 + 5060, 1, "context", "aborted"));
    assert!(output > 57, "what the second call said is counted as far as it was seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tab_that_came_late_and_kept_us_away_does_not_make_the_first_call_free() {
    let mut setup = setup();
    setup.config = setup.config.replace("follow_after_ms = 50", "follow_after_ms = 60000");
    let gateway = setup.start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[in=100 out=57 tools=1 tokens=40 delay=20]]").await;
    let mut early = client.listen(&stream, created_at).await.expect("a stream");
    early.until("created").await.expect("frames");
    drop(early);
    gateway.librechat.wait_until("the second call", |runs| runs[0].tokens > 42).await.expect("a second call");
    // It does not ask for what it missed, and our own stream waits as long as someone else's is open.
    client.stream(&stream, created_at).await.expect("a stream");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(
        rows.iter().map(told).map(|(input, output, messages, _, status)| (input, output, messages, status)).collect::<Vec<_>>(),
        [(200, 114, 1, "completed")]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_is_one_streams_alone_does_not_end_the_run() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[in=100 out=57 tokens=40 delay=20 stumble=5]]").await;
    let heard = client.stream(&stream, created_at).await.expect("a stream");
    assert_eq!(heard.last().map(tollgate::scripted::client::Frame::kind), Some("error"));
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_silent_seconds_are_waited_for() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let exchange = client.chat("[[in=100 out=57 tokens=2 silent=40000]]").await.expect("an answer");
    assert!(exchange.last().is_some(), "the stream ends with a final frame");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "completed")]);
    assert!(rows[0].duration_ms >= 40_000, "it took {} ms", rows[0].duration_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_outlives_the_lease_stays_reserved() {
    let mut setup = setup();
    setup.config = setup.config.replace("follow_after_ms = 50", "follow_after_ms = 50\nlease_seconds = 1");
    let gateway = setup.start().await;
    let client = gateway.client("ada@acme.test");
    start(&client, "[[in=100 out=57 tokens=2 silent=2500]]").await;
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        let me = client.get("/_tollgate/me").await.expect("an answer").json();
        assert_eq!(level(&me, "messages"), (0, 1), "after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libre_chat_out_of_reach_for_a_while() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[in=100 out=57 tokens=100 delay=20]]").await;
    let mut frames = client.listen(&stream, created_at).await.expect("a stream");
    frames.until("on_message_delta").await.expect("frames");
    gateway.librechat.set_down(true);
    assert!(frames.all().await.is_err(), "the stream breaks");
    assert_eq!(gateway.running.app.generations.count_open(), 1, "the run is not given up");
    gateway.librechat.set_down(false);
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), [(100, 57, 1, "frames", "completed")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn libre_chat_started_anew_in_the_middle_of_a_run() {
    let setup = setup();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let librechat = ScriptedLibreChat::start(Options::default()).await.expect("a free port");
    let (address, running) = (librechat.addr(), setup.gateway(&librechat, &folder));
    let client = tollgate::scripted::client::ChatClient::new(&format!("http://{}", running.public), &librechat.token("ada@acme.test"));
    let (stream, created_at) = start(&client, "[[context=42 tokens=400 delay=20]]").await;
    let mut frames = client.listen(&stream, created_at).await.expect("a stream");
    frames.until("on_message_delta").await.expect("frames");
    librechat.stop().await;
    assert!(frames.all().await.is_err(), "the stream breaks");
    let _anew = ScriptedLibreChat::start(Options { address, ..Options::default() }).await.expect("the same port");
    wait_for("the end of the run", || async { (running.app.generations.count_open() == 0).then_some(()) }).await;
    running.app.recorder.shipped().await.expect("the database takes rows");
    let rows = running.app.records.usage_rows(10).await.expect("readable rows");
    let (input, output, messages, source, status) = told(&rows[0]);
    assert_eq!((rows.len(), input, messages, source, status), (1, 42, 1, "context", "lost"), "what was seen of it");
    assert!(output >= 1, "the words that were seen are charged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_client_request_id_is_no_second_message_and_no_free_one() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let body = ChatBody::new("[[in=100 out=57 tokens=30 delay=10]]").with("clientRequestId", "the-same");
    let (stream, created_at) = started(&client.start(&body).await.expect("an answer"));
    for _ in 0..3 {
        let again = client.start(&body).await.expect("an answer").json();
        assert_eq!((&again["status"], &again["streamId"]), (&"resumed".into(), &stream.as_str().into()));
    }
    let me = client.get("/_tollgate/me").await.expect("an answer").json();
    assert_eq!(level(&me, "messages").0, 0, "nothing is settled yet");
    client.stream(&stream, created_at).await.expect("a stream");
    gateway.all_settled().await;
    assert_eq!(client.start(&body).await.expect("an answer").json()["status"], "settled");
    let other = body.with("text", "[[in=30 out=7]]").with("clientRequestId", "another");
    started(&client.start(&other).await.expect("an answer"));
    let rows = rows_and_counters(&gateway, &client).await;
    let expected = [(100, 57, 1, "frames", "completed"), (30, 7, 1, "frames", "completed")];
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runs_of_one_conversation_are_two_charges() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let (stream, created_at) = start(&client, "[[context=30 tokens=400 delay=10]]").await;
    let mut frames = client.listen(&stream, created_at).await.expect("a stream");
    frames.until("on_message_delta").await.expect("frames");
    // A second message takes the place of the first.
    let body = ChatBody::new("[[in=60 out=5]]").after(&stream, "a-message");
    let (_, second) = started(&client.start(&body).await.expect("an answer"));
    assert_ne!(created_at, second);
    client.stream(&stream, second).await.expect("a stream");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!((rows.len(), rows[0].input_tokens, rows[0].status.as_str()), (2, 30, "aborted"));
    assert_eq!(told(&rows[1]), (60, 5, 1, "frames", "completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manners_of_0_8_2() {
    let gateway = setup_on(Wire::ResumableEarly).start().await;
    let client = gateway.client("ada@acme.test");
    let exchange = client.chat("Hello [[tokens=12]]").await.expect("an answer");
    let (stream, created_at) = start(&client, "Unheard [[tokens=12]]").await;
    assert_eq!(created_at, None, "this version does not say when a run began");
    let rows = rows_and_counters(&gateway, &client).await;
    let counted = gateway.running.app.counter.count(tollgate::tokens::Encoding::O200kBase, &exchange.text());
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((row.output_tokens, row.messages, row.usage_source.as_str(), row.status.as_str()), (counted, 1, "counted", "completed"));
    }
    assert_eq!(rows[1].conversation_id, Some(stream));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_clients_choose_take_no_charge_away() {
    let librechat = Options { linger: Duration::from_secs(10), ..Options::default() };
    let gateway = crate::support::gateway::Setup { librechat, ..setup() }.start().await;
    let client = gateway.client("ada@acme.test");
    let body = |text: &str| ChatBody::new(text).with("responseMessageId", "same-id");
    client.exchange(&body("[[in=100 out=57]]")).await.expect("an answer");
    // In another conversation, while the first is open and after it, by another person, and once more in the same one.
    let (stream, created_at) = started(&client.start(&body("[[in=200 out=57 tokens=60 delay=10]]")).await.expect("an answer"));
    let other = gateway.client("bob@acme.test");
    other.exchange(&body("[[in=300 out=57]]")).await.expect("an answer");
    client.exchange(&body("[[in=400 out=57]]")).await.expect("an answer");
    client.stream(&stream, created_at).await.expect("a stream");
    client.exchange(&body("[[in=500 out=57]]").after(&stream, "same-id")).await.expect("an answer");
    gateway.all_settled().await;
    let rows = gateway.usage_rows(5).await;
    let mut seen: Vec<_> = rows.iter().map(told).collect();
    seen.sort_unstable();
    let expected: Vec<_> = [100, 200, 300, 400, 500].map(|input| (input, 57, 1, "frames", "completed")).into();
    assert_eq!(seen, expected, "every run is charged with what it showed");
}
