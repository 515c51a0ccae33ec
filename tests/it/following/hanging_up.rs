//! Clients that hang up before their start is answered, and connections that break.

use std::collections::HashMap;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tollgate::scripted::Wire;
use tollgate::scripted::client::{BROWSER, ChatBody};
use tollgate::tokens::Encoding;

use super::{rows_and_counters, setup, setup_on, told};
use crate::support::gateway::TestGateway;

/// Posts a chat whole, and closes the connection after a while without reading anything.
async fn post_and_hang_up(gateway: &TestGateway, body: &ChatBody, after: Duration) {
    let body = body.json().to_string();
    let token = gateway.token("ada@acme.test");
    let head = format!(
        "POST /api/agents/chat/LabAI HTTP/1.1\r\nHost: tollgate\r\nUser-Agent: {BROWSER}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = tokio::net::TcpStream::connect(gateway.running.public).await.expect("a connection");
    connection.write_all(format!("{head}{body}").as_bytes()).await.expect("a request");
    tokio::time::sleep(after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posting_and_hanging_up_a_hundred_times_is_a_hundred_charges() {
    let gateway = setup().start().await;
    let texts: Vec<String> = (0..100).map(|n| format!("{}[[in={} out={}]]", "word ".repeat(n), 2000 + n, 1000 + n)).collect();
    let posts = texts.iter().enumerate().map(|(n, text)| {
        let (body, after) = (ChatBody::new(text), Duration::from_millis([0, 5, 30][n % 3]));
        let gateway = &gateway;
        async move { post_and_hang_up(gateway, &body, after).await }
    });
    futures_util::future::join_all(posts).await;
    let client = gateway.client("ada@acme.test");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.len(), 100, "one charge for each start");
    assert_eq!(rows.iter().map(|row| row.messages).sum::<u32>(), 100, "none is free");

    // The estimate tells which text a row is about, the conversation which run.
    let counter = &gateway.running.app.counter;
    let text_of: HashMap<u64, usize> =
        texts.iter().enumerate().map(|(n, text)| (counter.count(Encoding::O200kBase, text) + 1000, n)).collect();
    let runs: HashMap<String, u64> =
        gateway.librechat.runs().into_iter().map(|run| (run.conversation_id, run.calls[0].output - 1000)).collect();
    let mut charged = HashMap::new();
    for row in &rows {
        let n = text_of[&row.estimate_tokens] as u64;
        let Some(conversation) = &row.conversation_id else {
            // Its body never reached LibreChat whole: nobody can know that here, so it costs what was reserved.
            assert_eq!((row.status.as_str(), row.total_tokens), ("lost", row.estimate_tokens), "text {n}");
            continue;
        };
        assert_eq!(runs[conversation], n, "the charge of text {n} is that of another run");
        assert_eq!((row.input_tokens, row.output_tokens), (2000 + n, 1000 + n), "text {n}");
        assert!(charged.insert(conversation.clone(), n).is_none(), "two charges for one run");
    }
    assert_eq!(charged.len(), runs.len(), "every run is charged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_answer_is_still_coming_is_not_taken_for_a_lost_one() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let awaited = ChatBody::new("The same [[in=100 out=1 tokens=60 delay=20 answer_delay=1200]]");
    let lost = ChatBody::new("The same [[in=100 out=1 tokens=60 delay=20 answer_delay=1200]]");
    let (answer, ()) = tokio::join!(client.start(&awaited), post_and_hang_up(&gateway, &lost, Duration::from_millis(100)));
    let conversation = super::started(&answer.expect("an answer")).0;
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!((row.input_tokens, row.output_tokens, row.messages, row.status.as_str()), (100, 1, 1, "completed"));
    }
    assert_eq!(rows.iter().filter(|row| row.conversation_id.as_ref() == Some(&conversation)).count(), 1, "each has its own run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_on_a_conversation_that_goes_on() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let first = client.chat("[[in=10 out=3]]").await.expect("an answer");
    let conversation = first.conversation_id().expect("a conversation");
    let body = ChatBody::new("[[in=100 out=57]]").after(&conversation, &first.answer_id().expect("an answer"));
    post_and_hang_up(&gateway, &body, Duration::from_millis(100)).await;
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(rows.len(), 2);
    let (input, output, messages, _, status) = told(&rows[1]);
    assert_eq!((input, output, messages, status), (100, 57, 1, "completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hanging_up_on_an_edited_answer_that_goes_on() {
    for text in ["[[reset=before_answer in=100 out=57]]", "[[reset=before_answer in=100 out=57 tokens=60 delay=20]]"] {
        let gateway = setup().start().await;
        let client = gateway.client("ada@acme.test");
        let first = client.chat("[[in=10 out=3]]").await.expect("an answer");
        let (conversation, answer) = (first.conversation_id().expect("a conversation"), first.answer_id().expect("an answer"));
        gateway.all_settled().await;
        let edited = serde_json::json!({"index": 0, "type": "text", "text": "Rather this"});
        client.start(&ChatBody::new(text).after(&conversation, &answer).with("editedContent", edited)).await.expect("an answer");
        let rows = rows_and_counters(&gateway, &client).await;
        let (input, output, messages, _, status) = told(&rows[1]);
        assert_eq!((rows.len(), input, output, messages, status), (2, 100, 57, 1, "completed"), "LibreChat ran what it had saved");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_breaks_before_the_answer() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    let answer = client.start(&ChatBody::new("[[reset=before_answer in=100 out=57]]")).await.expect("an answer");
    assert!(answer.status.is_server_error(), "{}", answer.status);
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!(gateway.librechat.runs().len(), 1, "a start is never sent twice");
    let (input, output, messages, _, status) = told(&rows[0]);
    assert_eq!((rows.len(), input, output, messages, status), (1, 100, 57, 1, "completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_never_heard_of_costs_its_estimate() {
    let gateway = setup().start().await;
    let client = gateway.client("ada@acme.test");
    client.start(&ChatBody::new("[[reset=before_start]]")).await.expect("an answer");
    let rows = rows_and_counters(&gateway, &client).await;
    assert_eq!((rows.len(), rows[0].status.as_str(), rows[0].messages), (1, "lost", 1));
    assert_eq!(rows[0].total_tokens, rows[0].estimate_tokens);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_stream_is_stopped_by_its_client() {
    let gateway = setup_on(Wire::Direct).start().await;
    let client = gateway.client("ada@acme.test");
    let body = ChatBody::new("[[tokens=400 delay=10]]");
    let tollgate::scripted::client::Opened::Stream(mut frames) = client.open(&body).await.expect("a stream") else {
        panic!("the answer is the stream")
    };
    frames.until("on_message_delta").await.expect("frames");
    drop(frames);
    gateway.librechat.wait_for_ended(1).await.expect("the run stops with its stream");
    let rows = rows_and_counters(&gateway, &client).await;
    let (_, output, messages, source, status) = told(&rows[0]);
    assert_eq!((rows.len(), messages, source, status), (1, 1, "counted", "aborted"));
    assert!((1..400).contains(&output), "{output} tokens of what was seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_start_that_is_hung_up_on_is_charged() {
    let gateway = setup_on(Wire::Direct).start().await;
    for after in [0, 5, 30, 100] {
        post_and_hang_up(&gateway, &ChatBody::new("[[tokens=400 delay=10 answer_delay=60]]"), Duration::from_millis(after)).await;
    }
    let rows = rows_and_counters(&gateway, &gateway.client("ada@acme.test")).await;
    assert_eq!((rows.len(), rows.iter().map(|row| row.messages).sum::<u32>()), (4, 4), "none is free: {rows:?}");
}
