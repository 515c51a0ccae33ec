//! What goes wrong on demand.

use super::*;

#[tokio::test]
async fn refused_starts_look_as_recorded() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let refused = async |kind: &str| alice.start(&ChatBody::new(&format!("[[refuse={kind}]]"))).await.unwrap();
    let limit = refused("message_limit").await;
    assert_eq!((limit.status.as_u16(), limit.headers.get("content-type")), (200, None), "a refusal may be 200 and of no type");
    assert!(
        limit.text.starts_with("event: message\ndata: {\"message\":{\"sender\":\"User\"")
            && limit.text.contains(r#"{\"type\":\"message_limit\""#)
    );
    let concurrent = refused("concurrent").await;
    assert_eq!((concurrent.status.as_u16(), concurrent.json()["type"].as_str()), (429, Some("concurrent")));
    assert_eq!(refused("ban").await.status, 403);
    let early = refused("not_ready").await;
    assert_eq!((early.status.as_u16(), early.headers["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(server.runs(), [], "nothing was started");

    for kind in ["error=token_balance", "refuse=model"] {
        let chat = alice.chat(&format!("[[{kind}]]")).await.unwrap();
        assert_eq!((chat.start.json()["status"].as_str(), kinds(&chat)), (Some("started"), vec!["created", "error"]), "{kind}");
        let text = chat.frames[1].data["error"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(text).is_ok_and(|error| error["type"].is_string()), "the error is JSON as text");
    }
    assert!(server.runs().iter().all(|run| run.state == RunState::Refused && run.calls.is_empty()));

    let old = start(Wire::Direct).await;
    let chat = client(&old, "a@lab.test").chat("[[refuse=model]]").await.unwrap();
    assert_eq!(kinds(&chat), ["error"], "0.8.1 refuses before it says created");
    assert_eq!(chat.frames[0].data["text"], r#"{ "type": "illegal_model_request", "info": "LabAI|lab-small" }"#);
}

#[tokio::test]
async fn a_provider_that_dies_leaves_a_final_frame_and_no_usage() {
    let server = start(Wire::Resumable).await;
    let chat = client(&server, "a@lab.test").chat("[[tokens=20 die=6]]").await.unwrap();
    let answer = &chat.last().unwrap().data["responseMessage"];
    assert_eq!(answer["content"][1]["type"], "error");
    assert_eq!(answer["content"][0]["text"], "alpha0 bravo1 charlie2 delta3 echo4 foxtrot5");
    assert_eq!(chat.of_kind("on_run_step_closed")[0].data["data"]["status"], "failed");
    assert!(chat.of_kind("on_token_usage").is_empty() && answer["metadata"].is_null());
    assert_eq!((server.runs()[0].state, server.runs()[0].tokens), (RunState::Failed, 6));
}

#[tokio::test]
async fn an_aborted_run_ends_with_what_there_was() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let started = alice.start(&ChatBody::new("[[tokens=500 delay=20]]")).await.unwrap().json();
    let (id, at) = (started["streamId"].as_str().unwrap(), started["generationCreatedAt"].as_i64());
    let mut frames = alice.listen(id, at).await.unwrap();
    frames.until("on_message_delta").await.unwrap();
    assert_eq!(alice.abort(id, Some(7)).await.unwrap().status, 409, "another run's abort is not for this one");
    assert_eq!(client(&server, "b@lab.test").abort(id, at).await.unwrap().status, 404, "nor is another person's");
    assert_eq!(alice.abort(id, at).await.unwrap().text, format!(r#"{{"success":true,"aborted":"{id}","generationProtocolVersion":2}}"#));
    let last = frames.all().await.unwrap().pop().unwrap();
    assert_eq!((last.data["aborted"].as_bool(), last.data["earlyAbort"].as_bool()), (Some(true), Some(false)));
    let saved = alice.get(&format!("/api/messages/{id}")).await.unwrap().json();
    assert_eq!((saved[1]["unfinished"].as_bool(), saved[1]["metadata"].is_null()), (Some(true), true));
    assert_eq!(server.runs()[0].state, RunState::Aborted);
}

#[tokio::test]
async fn a_start_may_break_before_or_after_its_run_began() {
    // No one listens to the run, so that it need not wait for anyone.
    let server = ScriptedLibreChat::start(Options { linger: Duration::ZERO, ..Options::default() }).await.unwrap();
    let alice = client(&server, "a@lab.test");
    assert!(alice.start(&ChatBody::new("[[reset=before_start]]")).await.is_err());
    assert_eq!(server.runs(), []);
    assert!(alice.start(&ChatBody::new("[[reset=before_answer]]")).await.is_err());
    assert_eq!(server.wait_for_ended(1).await.unwrap()[0].state, RunState::Finished, "the run goes on without its start");
}

#[tokio::test]
async fn answers_are_late_or_held_while_the_run_is_at_work() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let body = ChatBody::new("[[answer_delay=60000]]");
    let hung_up = tokio::time::timeout(Duration::from_millis(50), alice.start(&body)).await;
    assert!(hung_up.is_err(), "the answer is late");
    server.hold_answers(true);
    let held = tokio::spawn({
        let alice = alice.clone();
        async move { alice.start(&ChatBody::new("held")).await.unwrap() }
    });
    server.wait_until("the held run", |runs| runs.iter().any(|run| run.text == "held")).await.unwrap();
    assert!(!held.is_finished());
    server.hold_answers(false);
    assert_eq!(held.await.unwrap().json()["status"], "started");
}

#[tokio::test]
async fn a_stream_that_is_cut_can_be_taken_up_again() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let started = alice.start(&ChatBody::new("[[tokens=30 delay=10 cut=5]]")).await.unwrap().json();
    let (id, at) = (started["streamId"].as_str().unwrap(), started["generationCreatedAt"].as_i64());
    let mut frames = alice.listen(id, at).await.unwrap();
    for _ in 0..5 {
        assert!(frames.next().await.unwrap().is_some());
    }
    assert!(frames.next().await.is_err(), "the connection was reset, not closed");
    let rest = alice.resume(id, at).await.unwrap().all().await.unwrap();
    assert_eq!((rest[0].kind(), rest.last().unwrap().kind()), ("sync", "final"));
}

#[tokio::test]
async fn frames_come_in_odd_pieces() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let started = alice.start(&ChatBody::new("[[tokens=3 split=7]]")).await.unwrap().json();
    let path = format!("/api/agents/chat/stream/{}", started["streamId"].as_str().unwrap());
    let mut response = alice.request(Method::GET, &path).send().await.unwrap();
    let mut text = Vec::new();
    let mut pieces = 0;
    while let Some(piece) = response.chunk().await.unwrap() {
        pieces += 1;
        text.extend_from_slice(&piece);
    }
    let text = String::from_utf8(text).unwrap();
    assert!(pieces > 30, "{pieces} pieces for {} bytes", text.len());
    assert!(text.contains("\"final\":true") && text.ends_with("\n\n"));
}

#[tokio::test]
async fn it_can_be_down_for_a_while() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let started = alice.start(&ChatBody::new("[[tokens=1000 delay=20]]")).await.unwrap().json();
    let id = started["streamId"].as_str().unwrap();
    let mut frames = alice.listen(id, None).await.unwrap();
    frames.until("on_message_delta").await.unwrap();
    server.set_down(true);
    assert!(frames.all().await.is_err(), "open streams are reset");
    assert!(alice.get("/health").await.is_err(), "new connections are reset");
    server.set_down(false);
    assert_eq!(alice.get("/health").await.unwrap().text, "OK");
    assert_eq!(server.runs()[0].state, RunState::Running, "runs go on");
}

#[tokio::test]
async fn a_newer_run_takes_the_place_of_the_older() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let started = alice.start(&ChatBody::new("[[tokens=1000 delay=20]]")).await.unwrap().json();
    let id = started["streamId"].as_str().unwrap();
    let first = alice.listen(id, started["generationCreatedAt"].as_i64()).await.unwrap();
    let next = ChatBody::new("[[tokens=1]]").after(id, "11111111-1111-4111-8111-111111111111");
    let chat = alice.exchange(&next).await.unwrap();
    assert!(chat.last().is_some());
    assert_eq!(first.all().await.unwrap().pop().unwrap().data["reconcileReason"], "generation_replaced");
    assert_eq!(server.wait_for_ended(2).await.unwrap()[0].state, RunState::Replaced);
}

#[tokio::test]
async fn nothing_listens_after_stop() {
    let server = start(Wire::Resumable).await;
    let (address, alice) = (server.addr(), client(&server, "a@lab.test"));
    alice.start(&ChatBody::new("[[tokens=1000 delay=20]]")).await.unwrap();
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the port is free");
    let again = ScriptedLibreChat::start(Options { address, ..Options::default() }).await.unwrap();
    assert_eq!(again.addr(), address);
}

#[tokio::test]
async fn hostile_requests_are_answered() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"text\"",
        "{\"text\":7,\"model\":[],\"addedConvo\":3,\"conversationId\":{}}",
        "{\"conversationId\":\"../x\"}",
    ] {
        for path in ["chat/LabAI", "chat", "chat/a%2Fb%00", "chat/abort", "chat/resume", "chat/steer"] {
            let answer = alice.request(Method::POST, &format!("/api/agents/{path}")).body(body).send().await.unwrap();
            assert!(answer.status().as_u16() < 500, "{path} {body:?}: {}", answer.status());
        }
        for path in ["/api/auth/login", "/api/auth/register", "/api/auth/refresh", "/api/assistants/v2/chat"] {
            let answer = alice.request(Method::POST, path).body(body).send().await.unwrap();
            assert!(answer.status().as_u16() < 500, "{path} {body:?}: {}", answer.status());
        }
    }
    for path in [
        "/api/convos?limit=x",
        "/api/agents/chat/stream/%FF?resume=%FF",
        "/api/messages/%00",
        "/api/agents/chat/stream/x?resume=true&resume=1",
    ] {
        assert!(alice.get(path).await.unwrap().status.as_u16() < 500, "{path}");
    }
    let large = alice.request(Method::POST, "/api/agents/chat/LabAI").body(vec![b' '; 3 * 1024 * 1024 + 1]).send().await.unwrap();
    assert_eq!((large.status().as_u16(), large.text().await.unwrap().as_str()), (500, "An unknown error occurred."));
}
