//! Everything beside a plain chat.

use std::io::Read;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn two_models_answer_one_start() {
    let server = start(Wire::Resumable).await;
    let body = ChatBody::new("[[tokens=4 in=10 out=4]]")
        .with("addedConvo", json!({"endpoint": "LabAI", "endpointType": "custom", "model": "lab-large"}));
    let chat = client(&server, "a@lab.test").exchange(&body).await.unwrap();
    let agents = chat.of_kind("on_context_usage").iter().map(|frame| frame.data["data"]["agentId"].clone()).collect::<Vec<_>>();
    assert_eq!(agents, ["LabAI__lab-large___LabAI____1", "LabAI__lab-small___LabAI"], "as recorded");
    assert_eq!(chat.of_kind("on_run_step")[0].data["data"]["groupId"], 1);
    let content = &chat.last().unwrap().data["responseMessage"]["content"];
    assert_eq!((&content[0]["agentId"], &content[1]["text"]), (&agents[0], &json!("alpha0 bravo1 charlie2 delta3")));
    assert_eq!(chat.last().unwrap().data["responseMessage"]["metadata"]["usage"]["input"], 20, "both calls are counted");
    assert_eq!(server.runs()[0].models, ["lab-large", "lab-small"]);
}

#[tokio::test]
async fn tools_are_called_between_two_model_calls() {
    let server = start(Wire::Resumable).await;
    let chat = client(&server, "a@lab.test").chat("[[tokens=2 tools=1 in=5]]").await.unwrap();
    let seqs = chat.of_kind("on_token_usage").iter().map(|frame| frame.data["data"]["seq"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(chat.of_kind("on_run_step_completed")[0].data["data"]["result"]["tool_call"]["name"], "web_search");
    let content = chat.last().unwrap().data["responseMessage"]["content"].as_array().unwrap();
    assert_eq!(content.iter().map(|part| part["type"].as_str().unwrap()).collect::<Vec<_>>(), ["text", "tool_call", "text"]);
}

#[tokio::test]
async fn a_paused_run_waits_and_goes_on() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let chat = alice.chat("[[tokens=2 calls=2 pause]]").await.unwrap();
    assert_eq!(kinds(&chat).last(), Some(&"on_pending_action"), "the stream ends without a final frame");
    let id = chat.conversation_id().unwrap();
    let status = alice.get(&format!("/api/agents/chat/status/{id}")).await.unwrap().json();
    assert_eq!((status["active"].as_bool(), status["status"].as_str()), (Some(true), Some("requires_action")));
    let rest = alice.resume(&id, None).await.unwrap();
    let steer = alice.post("/api/agents/chat/steer", &json!({"conversationId": id, "text": "be quick"})).await.unwrap();
    assert_eq!(steer.status, 202);
    let resume = json!({"conversationId": id, "answer": "yes"});
    assert_eq!(alice.post("/api/agents/chat/resume", &resume).await.unwrap().json()["status"], "resuming");
    let rest = rest.all().await.unwrap();
    let seen = rest.iter().map(client::Frame::kind).collect::<Vec<_>>();
    assert!(seen.starts_with(&["sync", "on_steer_applied"]) && seen.ends_with(&["final"]), "{seen:?}");
    assert_eq!(alice.post("/api/agents/chat/resume", &resume).await.unwrap().status, 404);
}

#[tokio::test]
async fn the_next_turn_knows_the_first() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let first = alice.chat("first [[tokens=5]]").await.unwrap();
    let id = first.conversation_id().unwrap();
    let second = alice.exchange(&ChatBody::new("second [[tokens=5]]").after(&id, &first.answer_id().unwrap())).await.unwrap();
    let context = |chat: &Exchange| chat.of_kind("on_context_usage")[0].data["data"]["prePruneContextTokens"].as_u64().unwrap();
    assert!(context(&second) > context(&first) + 5, "history is in the prompt");
    assert!(second.of_kind("title").is_empty(), "a title is made once");
    assert_eq!(second.last().unwrap().data["title"], first.of_kind("title")[0].data["data"]["title"]);
    let question = first.last().unwrap().data["requestMessage"]["messageId"].as_str().unwrap().to_owned();
    let again = ChatBody::new("first").after(&id, "x").with("isRegenerate", true).with("overrideParentMessageId", question);
    alice.exchange(&again).await.unwrap();
    let saved = alice.get(&format!("/api/messages/{id}")).await.unwrap().json();
    assert_eq!(saved.as_array().unwrap().len(), 5, "a regeneration adds an answer, not a question");
    assert_eq!(client(&server, "b@lab.test").get(&format!("/api/messages/{id}")).await.unwrap().text, "[]");
}

#[tokio::test]
async fn people_log_in_and_stay_in() {
    let users = vec![User::new("alice@lab.test")];
    let server = ScriptedLibreChat::start(Options { users, strangers: Strangers::Refused, ..Options::default() }).await.unwrap();
    let nobody = ChatClient::new(&server.url(), "");
    let login =
        async |password: &str| nobody.post("/api/auth/login", &json!({"email": "alice@lab.test", "password": password})).await.unwrap();
    let wrong = login("wrong-password").await;
    assert_eq!((wrong.status.as_u16(), wrong.text.as_str()), (404, r#"{"message":"Incorrect password."}"#));
    let answer = login(PASSWORD).await;
    let alice = ChatClient::new(&server.url(), answer.json()["token"].as_str().unwrap());
    assert_eq!(alice.get("/api/user").await.unwrap().json()["email"], "alice@lab.test");
    let cookies = answer.headers.get_all("set-cookie").iter().map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap());
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    let refreshed = nobody.request(Method::POST, "/api/auth/refresh").header("cookie", cookies).send().await.unwrap();
    assert!(refreshed.json::<Value>().await.unwrap()["token"].is_string());
    assert_eq!(nobody.post("/api/auth/refresh", &json!({})).await.unwrap().text, "Refresh token not provided");
    assert_eq!(client(&server, "mallory@lab.test").get("/api/user").await.unwrap().status, 401, "a valid token of nobody");
    let account = json!({"email": "mallory@lab.test", "password": "12345678", "name": "Mallory", "confirm_password": "12345678"});
    assert_eq!(nobody.post("/api/auth/register", &account).await.unwrap().status, 200);
    assert_eq!(client(&server, "mallory@lab.test").get("/api/user").await.unwrap().json()["name"], "Mallory");
}

#[tokio::test]
async fn pages_catalogues_and_their_types() {
    let server = start(Wire::Resumable).await;
    let alice = client(&server, "a@lab.test");
    let of_type = async |path: &str| {
        let answer = alice.get(path).await.unwrap();
        let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap().split(';').next().unwrap().to_owned());
        (answer.status.as_u16(), kind.unwrap_or_default())
    };
    for (path, status, kind) in [
        ("/", 200, "text/html"),
        ("/c/new", 200, "text/html"),
        ("/assets/app.js", 200, "application/javascript"),
        ("/metrics", 200, "text/plain"),
        ("/api/config", 200, "application/json"),
        ("/api/endpoints", 200, "text/html"),
        ("/api/models", 200, "application/json"),
        ("/api/balance", 204, ""),
        ("/api/nope", 404, "application/json"),
    ] {
        assert_eq!(of_type(path).await, (status, kind.to_owned()), "{path}");
    }
    let plain = alice.get("/assets/app.js").await.unwrap();
    let tag = plain.headers["etag"].to_str().unwrap().to_owned();
    let known = alice.request(Method::GET, "/assets/app.js").header("if-none-match", tag).send().await.unwrap();
    assert_eq!((known.status().as_u16(), known.bytes().await.unwrap().len()), (304, 0));
    let small = alice.request(Method::GET, "/assets/app.js").header("accept-encoding", "gzip, br").send().await.unwrap();
    assert_eq!(small.headers()["content-encoding"], "br");
    let mut text = String::new();
    brotli::Decompressor::new(&small.bytes().await.unwrap()[..], 4096).read_to_string(&mut text).unwrap();
    assert_eq!(text, plain.text);
}

#[tokio::test]
async fn uploads_and_requests_are_measured() {
    let server = ScriptedLibreChat::start(Options { keep_body: 10, ..Options::default() }).await.unwrap();
    let body = vec![7_u8; 5 * 1024 * 1024];
    let upload = client(&server, "a@lab.test")
        .header("X-Two", "1")
        .request(Method::POST, "/api/files?x=1&y")
        .body(body.clone())
        .send()
        .await
        .unwrap();
    let told = upload.json::<Value>().await.unwrap();
    let sha256 = ids::hex(&Sha256::digest(&body));
    assert_eq!((told["bytes"].as_u64(), told["sha256"].as_str()), (Some(body.len() as u64), Some(sha256.as_str())));
    let received = server.wait_for_request("POST /api/files").await.unwrap();
    assert_eq!((received.body_len, received.body_sha256.as_str(), received.body.len()), (body.len() as u64, sha256.as_str(), 10));
    assert_eq!((received.query.as_str(), received.header("x-two"), received.body_complete), ("x=1&y", Some("1"), true));
}

#[tokio::test]
async fn assistants_stream_from_their_start_in_every_version() {
    let server = start(Wire::Resumable).await;
    let body = json!({"text": "hi [[tokens=3]]", "endpoint": "assistants", "assistant_id": "asst_1", "model": "gpt-4o"});
    let alice = client(&server, "a@lab.test");
    let answer = alice.post("/api/assistants/v2/chat", &body).await.unwrap();
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    assert!(answer.text.starts_with("event: message\ndata: {\"sync\":true"));
    assert!(answer.text.contains(r#""text":{"value":"alpha0 bravo1 charlie2"},"stream":true"#), "each frame holds the text so far");
    assert!(!answer.text.contains("usage") && answer.text.contains("\"final\":true"));
    assert_eq!(server.runs()[0].calls[0].output, 3);
}

#[tokio::test]
async fn programs_with_a_key_speak_openai() {
    let server = start(Wire::Resumable).await;
    let program = ChatClient::new(&server.url(), "sk-key").header("user-agent", "curl/8");
    let ask = json!({"model": "agent_1", "messages": [{"role": "user", "content": "[[tokens=2 in=9 out=3 cached=1]]"}]});
    let whole = program.post("/api/agents/v1/chat/completions", &ask).await.unwrap().json();
    assert_eq!((&whole["choices"][0]["message"]["content"], &whole["usage"]["total_tokens"]), (&json!("alpha0 bravo1"), &json!(12)));
    let refused = client(&server, "a@lab.test").post("/api/agents/v1/chat/completions", &ask).await.unwrap();
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].as_str()), (401, Some("invalid_api_key")));

    let mut ask = ask;
    ask["stream"] = Value::Bool(true);
    let live = program.post("/api/agents/v1/chat/completions", &ask).await.unwrap();
    assert!(live.text.ends_with("data: [DONE]\n\n") && live.text.contains(r#""choices":[],"usage""#));
    let packed =
        program.request(Method::POST, "/api/agents/v1/chat/completions").header("accept-encoding", "gzip").json(&ask).send().await.unwrap();
    assert_eq!(
        (&packed.headers()["content-encoding"], &packed.headers()["content-type"]),
        (&"gzip".parse().unwrap(), &"text/event-stream".parse().unwrap())
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed.bytes().await.unwrap()[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("data: ").count(), live.text.matches("data: ").count());

    let responses = program
        .post("/api/agents/v1/responses", &json!({"model": "agent_1", "input": "[[tokens=2 usage=off]]", "stream": true}))
        .await
        .unwrap();
    assert!(
        responses.text.contains("event: response.completed") && responses.text.contains(r#""input_tokens":0"#),
        "without usage it says zero"
    );
}

#[tokio::test]
async fn an_upgraded_connection_echoes() {
    let server = start(Wire::Resumable).await;
    let mut socket = TcpStream::connect(server.addr()).await.unwrap();
    let head = "GET /ws-echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await.unwrap());
    }
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 101"));
    socket.write_all(b"\x81\x02hi").await.unwrap();
    let mut echo = [0; 4];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"\x81\x02hi");
    assert_eq!(client(&server, "a@lab.test").get("/ws-echo").await.unwrap().status, 426);
}

#[tokio::test]
async fn every_recorded_chat_can_be_served_again() {
    let Some(folder) = fixtures() else { return };
    let mut count = 0;
    for (release, wire) in [("librechat-0.8.8-rc1", Wire::Resumable), ("librechat-0.8.1", Wire::Direct)] {
        let folder = folder.join(release);
        let names =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
        let replays =
            names.filter(|name| name.contains("-start") || wire == Wire::Direct).filter_map(|name| Replay::load(&folder, &name).ok());
        let replays = replays.map(|replay| replay.at_speed(0)).collect::<Vec<_>>();
        count += replays.len();
        let server = ScriptedLibreChat::start(Options { wire, replays: replays.clone(), ..Options::default() }).await.unwrap();
        for replay in replays {
            let chat = client(&server, "a@lab.test").chat("again").await.unwrap();
            let frames = replay.stream().matches("data: ").count();
            assert_eq!(chat.frames.len(), frames, "{}", replay.name);
        }
    }
    assert!(count > 20, "{count} recordings were served");
}
