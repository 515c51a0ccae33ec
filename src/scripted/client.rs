//! A small chat client that asks as LibreChat's own does, for the demo and for tests.

use std::fmt;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

pub use super::auth::{Claims, mint};
use super::frames::NO_PARENT;

/// The browser that the client says it is. LibreChat turns other programs away.
pub const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

/// A person at a browser.
#[derive(Debug, Clone)]
pub struct ChatClient {
    http: reqwest::Client,
    base: String,
    token: String,
    headers: HeaderMap,
}

/// A client for plain http: without the certificates that the system trusts, it is made in no time.
pub fn plain_http() -> reqwest::Client {
    reqwest::Client::builder().tls_certs_only([]).build().unwrap_or_default()
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// `message` or `error`.
    pub event: String,
    /// The data: JSON, or the text where it is none.
    pub data: Value,
}

impl Frame {
    /// What kind of frame it is: its `event`, or `created`, `sync`, `final`, `error`.
    pub fn kind(&self) -> &str {
        if self.event == "error" {
            return "error";
        }
        let flag = ["created", "sync", "final"].into_iter().find(|key| self.data[*key] == true);
        flag.or(self.data["event"].as_str()).unwrap_or_default()
    }

    /// The words it adds to the answer.
    pub fn words(&self) -> &str {
        self.data.pointer("/data/delta/content/0/text").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The body of a chat start, as LibreChat's client builds it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatBody(Value);

impl ChatBody {
    /// A first message to `lab-small` of the endpoint `LabAI`.
    pub fn new(text: &str) -> Self {
        Self(json!({
            "text": text, "sender": "User", "isCreatedByUser": true, "parentMessageId": NO_PARENT,
            "messageId": Uuid::now_v7().to_string(), "error": false, "endpoint": "LabAI", "endpointType": "custom", "model": "lab-small",
            "modelDisplayLabel": "LabAI", "isContinued": false, "timezone": "UTC", "clientRequestId": Uuid::now_v7().to_string(),
            "ephemeralAgent": {"execute_code": false, "web_search": false, "file_search": false, "artifacts": false, "mcp": []},
            "generationProtocolVersion": 2
        }))
    }

    /// To another model of another custom endpoint.
    #[must_use]
    pub fn model(self, endpoint: &str, model: &str) -> Self {
        self.with("endpoint", endpoint).with("model", model).with("modelDisplayLabel", endpoint)
    }

    /// As the next message of a conversation.
    #[must_use]
    pub fn after(self, conversation_id: &str, message_id: &str) -> Self {
        self.with("conversationId", conversation_id).with("parentMessageId", message_id)
    }

    /// With any other field; null takes it away.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        if let Value::Object(fields) = &mut self.0 {
            match value.into() {
                Value::Null => fields.remove(key),
                value => fields.insert(key.to_owned(), value),
            };
        }
        self
    }

    /// The JSON.
    pub fn json(&self) -> &Value {
        &self.0
    }

    fn path(&self) -> String {
        let endpoint = self.0["endpoint"].as_str().unwrap_or("agents");
        let mut path = "/api/agents/chat/".to_owned();
        for byte in endpoint.bytes() {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                path.push(char::from(byte));
            } else {
                // Writing into a string cannot fail.
                let _ = fmt::Write::write_fmt(&mut path, format_args!("%{byte:02X}"));
            }
        }
        path
    }
}

/// What a chat start was answered.
#[derive(Debug)]
pub enum Opened {
    /// JSON or anything else, read to its end.
    Answer(Answer),
    /// The stream itself, as before 0.8.2.
    Stream(Frames),
}

/// A whole exchange: the start, and what the stream said.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The answer to the start; on the direct wire its text is empty, the frames were its body.
    pub start: Answer,
    /// The status of the stream.
    pub stream_status: Option<StatusCode>,
    /// Everything the stream said.
    pub frames: Vec<Frame>,
}

impl Exchange {
    /// The conversation, if one was begun.
    pub fn conversation_id(&self) -> Option<String> {
        let said = self.frames.iter().find_map(|frame| frame.data.pointer("/message/conversationId").cloned());
        said.or_else(|| self.start.json().get("conversationId").cloned())?.as_str().map(str::to_owned)
    }

    /// The answer, as the deltas spelled it.
    pub fn text(&self) -> String {
        self.frames.iter().map(Frame::words).collect()
    }

    /// The frames of one kind.
    pub fn of_kind(&self, kind: &str) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.kind() == kind).collect()
    }

    /// The `final` frame, if the stream came to its end.
    pub fn last(&self) -> Option<&Frame> {
        self.frames.iter().find(|frame| frame.kind() == "final")
    }

    /// The id of LibreChat's answer, to which the next message replies.
    pub fn answer_id(&self) -> Option<String> {
        self.last()?.data.pointer("/responseMessage/messageId")?.as_str().map(str::to_owned)
    }
}

impl ChatClient {
    /// Someone with this access token, at the site of this URL.
    pub fn new(base_url: &str, token: &str) -> Self {
        let headers = HeaderMap::from_iter([
            (USER_AGENT, HeaderValue::from_static(BROWSER)),
            (HeaderName::from_static("x-librechat-generation-protocol"), HeaderValue::from_static("2")),
        ]);
        Self { http: plain_http(), base: base_url.trim_end_matches('/').to_owned(), token: token.to_owned(), headers }
    }

    /// The same with one more header on every request; one that is no header is left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            self.headers.insert(name, value);
        }
        self
    }

    /// A request with this person's token, to be completed and sent.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).headers(self.headers.clone());
        if self.token.is_empty() { request } else { request.header(AUTHORIZATION, format!("Bearer {}", self.token)) }
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> reqwest::Result<Answer> {
        read(self.request(Method::GET, path).send().await?).await
    }

    /// `POST path` with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> reqwest::Result<Answer> {
        read(self.request(Method::POST, path).json(body).send().await?).await
    }

    /// Starts a chat and reads the answer to its end, whatever it is.
    pub async fn start(&self, body: &ChatBody) -> reqwest::Result<Answer> {
        self.post(&body.path(), body.json()).await
    }

    /// Starts a chat and keeps the stream open if the answer is one.
    pub async fn open(&self, body: &ChatBody) -> reqwest::Result<Opened> {
        let response = self.request(Method::POST, &body.path()).json(body.json()).send().await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            Ok(Opened::Stream(Frames::new(response)))
        } else {
            read(response).await.map(Opened::Answer)
        }
    }

    /// Listens to a run from its beginning.
    pub async fn listen(&self, stream_id: &str, created_at: Option<i64>) -> reqwest::Result<Frames> {
        self.stream_at(stream_id, created_at, "").await
    }

    /// Listens to a run again, with `?resume=true`: the first frame is `sync`.
    pub async fn resume(&self, stream_id: &str, created_at: Option<i64>) -> reqwest::Result<Frames> {
        self.stream_at(stream_id, created_at, "&resume=true").await
    }

    /// Everything a run says.
    pub async fn stream(&self, stream_id: &str, created_at: Option<i64>) -> reqwest::Result<Vec<Frame>> {
        self.listen(stream_id, created_at).await?.all().await
    }

    /// Stops a run.
    pub async fn abort(&self, conversation_id: &str, created_at: Option<i64>) -> reqwest::Result<Answer> {
        let mut body = json!({"conversationId": conversation_id, "generationProtocolVersion": 2});
        if let Some(at) = created_at {
            body["generationCreatedAt"] = Value::from(at);
        }
        self.post("/api/agents/chat/abort", &body).await
    }

    /// Says something and hears the whole answer, on either wire.
    pub async fn chat(&self, text: &str) -> reqwest::Result<Exchange> {
        self.exchange(&ChatBody::new(text)).await
    }

    /// The same with a body of one's own.
    pub async fn exchange(&self, body: &ChatBody) -> reqwest::Result<Exchange> {
        let start = match self.open(body).await? {
            Opened::Stream(frames) => {
                let start = Answer { status: frames.status, headers: frames.headers.clone(), text: String::new() };
                return Ok(Exchange { stream_status: Some(start.status), start, frames: frames.all().await? });
            }
            Opened::Answer(answer) => answer,
        };
        let json = start.json();
        let Some(stream_id) = json["streamId"].as_str() else {
            // A refusal may be a stream without saying so.
            let frames = events(&start.text);
            return Ok(Exchange { start, stream_status: None, frames });
        };
        let frames = self.listen(stream_id, json["generationCreatedAt"].as_i64()).await?;
        Ok(Exchange { stream_status: Some(frames.status), start, frames: frames.all().await? })
    }

    async fn stream_at(&self, stream_id: &str, created_at: Option<i64>, more: &str) -> reqwest::Result<Frames> {
        let created_at = created_at.map(|at| format!("generationCreatedAt={at}&")).unwrap_or_default();
        let path = format!("/api/agents/chat/stream/{stream_id}?{created_at}generationProtocolVersion=2{more}");
        Ok(Frames::new(self.request(Method::GET, &path).send().await?))
    }
}

/// A stream that is read frame by frame.
#[derive(Debug)]
pub struct Frames {
    /// The status of the answer.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    response: Response,
    unread: Vec<u8>,
}

impl Frames {
    fn new(response: Response) -> Self {
        Self { status: response.status(), headers: response.headers().clone(), response, unread: Vec::new() }
    }

    /// The next frame, `None` at the end of the stream.
    pub async fn next(&mut self) -> reqwest::Result<Option<Frame>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let rest = self.unread.split_off(end + 2);
                let frame = std::mem::replace(&mut self.unread, rest);
                if let Some(frame) = events(&String::from_utf8_lossy(&frame)).pop() {
                    return Ok(Some(frame));
                }
                continue;
            }
            match self.response.chunk().await? {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }

    /// Frames up to and with the first of this kind; all of them if there is none.
    pub async fn until(&mut self, kind: &str) -> reqwest::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await? {
            frames.push(frame);
            if frames.last().is_some_and(|frame| frame.kind() == kind) {
                break;
            }
        }
        Ok(frames)
    }

    /// Every frame to the end.
    pub async fn all(mut self) -> reqwest::Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

async fn read(response: Response) -> reqwest::Result<Answer> {
    Ok(Answer { status: response.status(), headers: response.headers().clone(), text: response.text().await? })
}

/// The events of a text.
fn events(text: &str) -> Vec<Frame> {
    let frame = |block: &str| {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
        let data = field("data:")?;
        let data = serde_json::from_str(data).unwrap_or_else(|_| Value::from(data));
        Some(Frame { event: field("event:").unwrap_or("message").to_owned(), data })
    };
    text.split("\n\n").filter_map(frame).collect()
}
